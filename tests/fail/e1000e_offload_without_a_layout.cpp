// SPDX-License-Identifier: BSL-1.0
// expect-gcc: could not convert|no matching function|cannot convert
// expect-clang: no matching constructor
// A context is made from a layout of headers and never from numbers.
#include "pt/e1000e/tx_offload.hpp"

#ifdef PT_FAIL
constexpr pt::e1000e::tx_offload wanted{0x0000'3222'0021'180E, 0x2300'0000};
#else
constexpr auto wanted = *pt::e1000e::tx_offload::checksums({.ip = 14, .transport_at = 34});
#endif
static_assert(wanted.context().low == 0x0000'3222'0021'180E);
