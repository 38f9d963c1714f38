// SPDX-License-Identifier: BSL-1.0
// expect: contract_failed
// A padded frame with a tag does not fit in 63 bytes.
#include "pt/core/archetype.hpp"
#include "pt/e1000e/tx_engine.hpp"

#include <cstddef>
#include <cstdint>

constexpr bool make(std::size_t capacity) {
    std::uint8_t buffer[64] = {};
    const pt::e1000e::tx_engine<pt::archetype::bus_memory> engine{{}, buffer, capacity};
    return !engine.has_work();
}

#ifdef PT_FAIL
static_assert(make(63));
#else
static_assert(make(64));
#endif
