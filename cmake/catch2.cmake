# SPDX-License-Identifier: BSL-1.0
# Catch2 version 3: the system's package where there is one, else a pinned release, fetched into the build directory.
find_package(Catch2 3 CONFIG QUIET)
if(NOT Catch2_FOUND)
    message(STATUS "No package of Catch2 version 3 here: fetching release 3.7.1")
    include(FetchContent)
    FetchContent_Declare(Catch2
        GIT_REPOSITORY https://github.com/catchorg/Catch2.git
        GIT_TAG fa43b77429ba76c462b1898d6cd2f2d7a9416b14 # v3.7.1; a tag could be moved, a commit cannot
        SYSTEM)
    set(CMAKE_COMPILE_WARNING_AS_ERROR OFF) # for Catch2 only: restored below
    FetchContent_MakeAvailable(Catch2)
    unset(CMAKE_COMPILE_WARNING_AS_ERROR)
    list(APPEND CMAKE_MODULE_PATH ${catch2_SOURCE_DIR}/extras)
endif()
include(Catch)
