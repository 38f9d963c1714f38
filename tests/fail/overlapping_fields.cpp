// SPDX-License-Identifier: BSL-1.0
// expect: two fields of this register overlap
#include "pt/core/reg.hpp"

#include <cstdint>

struct config_address : pt::reg<config_address, std::uint32_t> {
    using reg::reg;
    static constexpr bits<31, 31, bool> enable{};
    static constexpr bits<23, 16, std::uint8_t> bus{};
#ifdef PT_FAIL
    static constexpr bits<16, 11, std::uint8_t> device{};
#else
    static constexpr bits<15, 11, std::uint8_t> device{};
#endif
    static constexpr pt::field_list fields{enable, bus, device};
};
static_assert(config_address{}[config_address::device] == 0);

// A list that nobody uses is checked all the same.
constexpr auto all = config_address::fields;
