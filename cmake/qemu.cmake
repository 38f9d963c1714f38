# SPDX-License-Identifier: BSL-1.0
# pt_qemu: a QEMU machine as pt's policies, for the example and for the tests against hardware models.
find_package(nlohmann_json CONFIG REQUIRED) # in each directory that links pt_qemu: its target is of the directory
if(NOT TARGET pt_qemu)
    add_library(pt_qemu STATIC ${PROJECT_SOURCE_DIR}/examples/qemu/qemu.cpp)
    target_link_libraries(pt_qemu PUBLIC pt::pt nlohmann_json::nlohmann_json PRIVATE pt_warnings)
endif()
