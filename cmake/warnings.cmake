# SPDX-License-Identifier: BSL-1.0
# Warnings for pt's own tests, examples and benchmarks. They are no part of pt::pt: a user chooses his own.
# CMAKE_COMPILE_WARNING_AS_ERROR (on in the developer presets) makes them errors.
add_library(pt_warnings INTERFACE)
target_compile_options(pt_warnings INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
