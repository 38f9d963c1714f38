# SPDX-License-Identifier: BSL-1.0
# How a freestanding kernel on this runtime is built: with each compiler that is here, whatever the rest is built with.

set(PT_KERNEL_DIRECTORY ${CMAKE_CURRENT_LIST_DIR})
# What every program has, and what those with a guest have besides.
set(PT_KERNEL_RUNTIME boot.S start.cpp end.cpp output.cpp command_line.cpp memory.cpp memory_functions.cpp clock.cpp
    gates.cpp interrupts.cpp acpi.cpp pci.cpp)
set(PT_KERNEL_SVM svm.cpp svm_entry.S)
set(PT_KERNEL_VMX vmx.cpp vmx_entry.S)
foreach(each RUNTIME SVM VMX)
    list(TRANSFORM PT_KERNEL_${each} PREPEND ${PT_KERNEL_DIRECTORY}/)
endforeach()

# pt_add_kernels(TARGET [NAME name] [BASE address] [LIMIT address] [SCRIPTS script...] SOURCES source...)
# makes name.g++.elf and name.clang++.elf ("kernel" without a name) in the current binary directory, out of the sources
# and PT_KERNEL_RUNTIME: linked at BASE (1 MiB), with nothing behind LIMIT (3 MiB further), as kernel.ld and the further
# scripts say. It sets PT_KERNEL_FILES and PT_KERNEL_COMPILERS to what there is.
function(pt_add_kernels target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "NAME;BASE;LIMIT" "SCRIPTS;SOURCES")
    if(NOT arg_NAME)
        set(arg_NAME kernel)
    endif()
    set(flags -std=c++20 -O2 -I${PROJECT_SOURCE_DIR}/include
        -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -mno-red-zone -mgeneral-regs-only
        -fno-pie -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables
        -Wall -Wextra -Wpedantic -Wconversion -Wshadow $<$<BOOL:${CMAKE_COMPILE_WARNING_AS_ERROR}>:-Werror>)
    # No library at all: a function that a compiler calls on its own, and that is not in memory_functions.cpp, is an error.
    set(link_flags -nostdlib -static -Wl,--build-id=none -Wl,-z,max-page-size=4096)
    # The symbols before the scripts that look at them, and what INSERT means after it.
    if(arg_BASE)
        list(APPEND link_flags -Wl,--defsym=kernel_base=${arg_BASE})
    endif()
    if(arg_LIMIT)
        list(APPEND link_flags -Wl,--defsym=kernel_limit=${arg_LIMIT})
    endif()
    foreach(script ${arg_SCRIPTS} ${PT_KERNEL_DIRECTORY}/kernel.ld)
        list(APPEND scripts ${script})
        list(APPEND link_flags -Wl,-T,${script})
    endforeach()

    set(kernels "")
    set(compilers "")
    foreach(compiler g++ clang++)
        find_program(pt_kernel_${compiler} ${compiler})
        if(NOT pt_kernel_${compiler})
            message(STATUS "No ${compiler} here: no freestanding kernel is built with it")
            continue()
        endif()
        set(directory ${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.${compiler})
        file(MAKE_DIRECTORY ${directory})
        set(objects "")
        foreach(source IN LISTS PT_KERNEL_RUNTIME arg_SOURCES)
            # Two files in different directories may have the same name.
            cmake_path(ABSOLUTE_PATH source)
            cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE name)
            string(REPLACE "/" "." name ${name})
            set(object ${directory}/${name}.o)
            set(language_flags ${flags})
            if(name MATCHES "[.]S$")
                set(language_flags "")
            endif()
            add_custom_command(OUTPUT ${object}
                COMMAND ${pt_kernel_${compiler}} ${language_flags} -MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
                DEPENDS ${source} DEPFILE ${object}.d
                COMMENT "${target}, ${compiler}: ${name}"
                VERBATIM COMMAND_EXPAND_LISTS)
            list(APPEND objects ${object})
        endforeach()
        set(kernel ${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.${compiler}.elf)
        add_custom_command(OUTPUT ${kernel}
            COMMAND ${pt_kernel_${compiler}} ${link_flags} ${objects} -o ${kernel}
            DEPENDS ${objects} ${scripts}
            COMMENT "${target}, ${compiler}"
            VERBATIM)
        list(APPEND kernels ${kernel})
        list(APPEND compilers ${compiler})
    endforeach()
    add_custom_target(${target} DEPENDS ${kernels})
    set(PT_KERNEL_FILES ${kernels} PARENT_SCOPE)
    set(PT_KERNEL_COMPILERS ${compilers} PARENT_SCOPE)
endfunction()

# pt_add_disk_images(TARGET [BASE address] KERNELS elf...)
# makes what the disk of a machine without a multiboot loader (Bochs) holds, in the current binary directory:
# boot_sector.bin, and for each kernel, which was linked at BASE, a .bin with it as it lies in memory. boot_sector.S says
# where on the disk they lie, and what else does.
function(pt_add_disk_images target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "BASE" "KERNELS")
    if(NOT arg_BASE)
        set(arg_BASE 0x100000)
    endif()
    set(source ${PT_KERNEL_DIRECTORY}/boot_sector.S)
    set(boot_sector ${CMAKE_CURRENT_BINARY_DIR}/boot_sector.bin)
    list(GET PT_KERNEL_COMPILERS 0 compiler)
    add_custom_command(OUTPUT ${boot_sector}
        COMMAND ${pt_kernel_${compiler}} -nostdlib -static -DKERNEL_BASE=${arg_BASE} -Wl,--build-id=none
            -Wl,-Ttext=0x7C00 -Wl,--oformat=binary ${source} -o ${boot_sector}
        DEPENDS ${source}
        COMMENT "${target}: boot sector"
        VERBATIM)
    set(images ${boot_sector})
    foreach(kernel IN LISTS arg_KERNELS)
        cmake_path(REPLACE_EXTENSION kernel LAST_ONLY bin OUTPUT_VARIABLE image)
        add_custom_command(OUTPUT ${image}
            COMMAND ${CMAKE_OBJCOPY} -O binary ${kernel} ${image}
            DEPENDS ${kernel}
            VERBATIM)
        list(APPEND images ${image})
    endforeach()
    add_custom_target(${target} DEPENDS ${images})
endfunction()
