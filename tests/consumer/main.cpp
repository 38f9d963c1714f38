// SPDX-License-Identifier: BSL-1.0
// The least program of a user. That CMake and the headers name the same version is what it checks.
#include <pt/pt.hpp>
#include <pt/version.hpp>

static_assert(__cplusplus >= 202002L, "pt::pt asks for C++20");
static_assert(pt::version ==
              PT_EXPECTED_MAJOR * 10000 + PT_EXPECTED_MINOR * 100 + PT_EXPECTED_PATCH);

int main() { return 0; }
