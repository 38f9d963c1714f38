# SPDX-License-Identifier: BSL-1.0
# How a freestanding kernel is built: with each compiler that is here, whatever the rest is built with.

# pt_add_kernels(TARGET SOURCE...) makes kernel.g++.elf and kernel.clang++.elf in the current binary directory, in memory
# as kernel.ld says, and sets PT_KERNEL_FILES and PT_KERNEL_COMPILERS to what there is.
function(pt_add_kernels target)
    set(flags -std=c++20 -O2 -I${PROJECT_SOURCE_DIR}/include
        -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -mno-red-zone -mgeneral-regs-only
        -fno-pie -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables
        -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${CMAKE_COMPILE_WARNING_AS_ERROR}>:-Werror>)
    set(script ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernel.ld)
    set(kernels "")
    set(compilers "")
    foreach(compiler g++ clang++)
        find_program(pt_kernel_${compiler} ${compiler})
        if(NOT pt_kernel_${compiler})
            message(STATUS "No ${compiler} here: the machine tests do without a kernel built with it")
            continue()
        endif()
        set(objects "")
        foreach(source IN LISTS ARGN)
            # Two files in different directories may have the same name.
            cmake_path(RELATIVE_PATH source OUTPUT_VARIABLE name)
            string(REPLACE "../" "" name ${name})
            string(REPLACE "/" "." name ${name})
            set(object ${CMAKE_CURRENT_BINARY_DIR}/${compiler}/${name}.o)
            set(language_flags ${flags})
            if(name MATCHES "[.]S$")
                set(language_flags "")
            endif()
            file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${compiler})
            add_custom_command(OUTPUT ${object}
                COMMAND ${pt_kernel_${compiler}} ${language_flags} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
                DEPENDS ${source} DEPFILE ${object}.d
                COMMENT "${target}, ${compiler}: ${name}"
                VERBATIM COMMAND_EXPAND_LISTS)
            list(APPEND objects ${object})
        endforeach()
        # No library at all: a function that a compiler calls on its own, and that is not in kernel.cpp, is an error here.
        set(kernel ${CMAKE_CURRENT_BINARY_DIR}/kernel.${compiler}.elf)
        add_custom_command(OUTPUT ${kernel}
            COMMAND ${pt_kernel_${compiler}} -nostdlib -static -Wl,--build-id=none -Wl,-z,max-page-size=4096
                -Wl,-T,${script} ${objects} -o ${kernel}
            DEPENDS ${objects} ${script}
            COMMENT "${target}, ${compiler}"
            VERBATIM)
        list(APPEND kernels ${kernel})
        list(APPEND compilers ${compiler})
    endforeach()
    add_custom_target(${target} DEPENDS ${kernels})
    set(PT_KERNEL_FILES ${kernels} PARENT_SCOPE)
    set(PT_KERNEL_COMPILERS ${compilers} PARENT_SCOPE)
endfunction()
