// SPDX-License-Identifier: BSL-1.0
// expect-gcc: no match for 'operator\+'
// expect-clang: invalid operands to binary expression
// expect: address<.*guest_physical_space
// Point plus size is a point; point plus point is nothing.
#include "pt/core/address.hpp"

constexpr pt::gpa base{0x1000};
#ifdef PT_FAIL
constexpr auto sum = base + pt::gpa{0x234};
#else
constexpr auto sum = base + 0x234;
#endif
static_assert(sum == pt::gpa{0x1234});
