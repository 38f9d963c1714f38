# SPDX-License-Identifier: BSL-1.0
# One object per header outside hosted/, compiled the way a kernel or hypervisor compiles it. Each source includes its
# header twice, which also proves that the header needs no other one before it. tests/check/headers.py goes further
# (both compilers, two optimisation levels, the objects' symbols).
set(pt_freestanding_flags
    -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -mno-red-zone -mgeneral-regs-only)

set(sources "")
foreach(header IN LISTS pt_headers)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/include ${header})
    if(name MATCHES "^pt/hosted/")
        continue()
    endif()
    string(REPLACE "/" "." stem ${name})
    set(source ${PROJECT_BINARY_DIR}/freestanding/${stem}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include <${name}>\n#include <${name}>\n")
    list(APPEND sources ${source})
endforeach()

add_library(pt_freestanding OBJECT ${sources})
target_link_libraries(pt_freestanding PRIVATE pt::pt)
target_compile_options(pt_freestanding PRIVATE
    ${pt_freestanding_flags} -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
