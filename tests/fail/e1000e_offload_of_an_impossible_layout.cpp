// SPDX-License-Identifier: BSL-1.0
// expect: contract_failed
// A context that is put together by the compiler is legal or none: no IPv4 header has 19 bytes.
#include "pt/e1000e/tx_offload.hpp"

#ifdef PT_FAIL
constexpr pt::e1000e::header_layout headers{.ip = 14, .transport_at = 33};
#else
constexpr pt::e1000e::header_layout headers{.ip = 14, .transport_at = 34};
#endif
constexpr pt::e1000e::tx_offload sums = *pt::e1000e::tx_offload::checksums(headers);
static_assert(sums.needed());
