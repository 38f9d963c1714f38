# SPDX-License-Identifier: BSL-1.0
# `cmake --install` and, from there, find_package(pt). Nothing here depends on the architecture: it is all headers.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(pt_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/pt)

install(TARGETS pt EXPORT pt-targets
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT pt)
install(EXPORT pt-targets NAMESPACE pt:: DESTINATION ${pt_package_dir} COMPONENT pt)

configure_package_config_file(
    ${CMAKE_CURRENT_LIST_DIR}/pt-config.cmake.in ${PROJECT_BINARY_DIR}/pt-config.cmake
    INSTALL_DESTINATION ${pt_package_dir}
    NO_SET_AND_CHECK_MACRO)
# Before 1.0 a new minor version may break its users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pt-config-version.cmake
    COMPATIBILITY SameMinorVersion
    ARCH_INDEPENDENT)
install(
    FILES ${PROJECT_BINARY_DIR}/pt-config.cmake ${PROJECT_BINARY_DIR}/pt-config-version.cmake
    DESTINATION ${pt_package_dir} COMPONENT pt)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT pt)
