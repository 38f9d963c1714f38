// SPDX-License-Identifier: BSL-1.0
// expect-gcc: no match for 'operator\[\]'
// expect-clang: no viable overloaded operator\[\]
// expect: std::same_as|std::is_same|same_as<
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
constexpr auto value = tail{7}[head::index];
#else
constexpr auto value = tail{7}[tail::index];
#endif
static_assert(value == 7);
