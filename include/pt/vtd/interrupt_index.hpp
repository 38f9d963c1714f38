// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"

#include <compare>
#include <cstdint>

namespace pt::vtd {

/// The number of an entry in its table.
struct interrupt_index {
    std::uint16_t raw = 0;

    friend constexpr bool operator==(interrupt_index, interrupt_index) = default;
    friend constexpr auto operator<=>(interrupt_index, interrupt_index) = default;
};

/// 2^size_log2 entries one after the other, the first a multiple of their number.
struct interrupt_block {
    interrupt_index first;
    std::uint8_t size_log2 = 0;

    friend constexpr bool operator==(const interrupt_block&, const interrupt_block&) = default;

    [[nodiscard]] constexpr std::uint32_t size() const { return std::uint32_t{1} << size_log2; }
    /// Number `i` of the block; it must have so many.
    [[nodiscard]] constexpr interrupt_index operator[](std::uint32_t i) const {
        expects(i < size() && i <= 0xFFFFU - first.raw, "the block has no such entry");
        return {static_cast<std::uint16_t>(first.raw + i)};
    }
};

} // namespace pt::vtd
