// SPDX-License-Identifier: BSL-1.0
// expect: this field belongs to another register
#include "pt/core/reg.hpp"

#include <cstdint>

struct head : pt::reg<head, std::uint32_t> {
    using reg::reg;
    static constexpr bits<15, 0, std::uint16_t> index{};
    static constexpr pt::field_list fields{index};
};
struct tail : pt::reg<tail, std::uint32_t> {
    using reg::reg;
    static constexpr bits<15, 0, std::uint16_t> index{};
    static constexpr pt::field_list fields{index};
};

#ifdef PT_FAIL
constexpr auto value = tail{}.with(head::index(7));
#else
constexpr auto value = tail{}.with(tail::index(7));
#endif
static_assert(value.raw == 7);
