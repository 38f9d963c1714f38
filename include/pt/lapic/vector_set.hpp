// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pt::lapic {

/// A set of the 256 vectors as IRR, ISR and TMR lie in the register page [sdm]: eight registers of 32
/// bits, 16 bytes apart.
struct vector_set {
    struct alignas(16) word {
        std::uint32_t bits{};
        friend constexpr bool operator==(const word&, const word&) = default;
    };
    word words[8]{};

    [[nodiscard]] constexpr bool contains(std::uint8_t vector) const {
        return ((words[vector / 32].bits >> (vector % 32)) & 1) != 0;
    }
    constexpr void insert(std::uint8_t vector) { words[vector / 32].bits |= bit(vector); }
    constexpr void erase(std::uint8_t vector) { words[vector / 32].bits &= ~bit(vector); }

    /// The highest vector inside, the one with the highest priority; 0 when there is none, as the
    /// manual has it for ISRV, RVI and SVI: vector 0 is never in use.
    [[nodiscard]] constexpr std::uint8_t highest() const {
        // Without a branch: a guest's vectors are anywhere, and one misprediction costs more than the
        // eight loads. `| 1` lets an empty set, and nothing else, come out as vector 0.
        std::uint32_t occupied = 0; // bit i: word i is not empty
#pragma GCC unroll 8
        for (std::size_t i = 8; i-- != 0;) {
            occupied = occupied * 2 + (words[i].bits != 0 ? 1U : 0U);
        }
        const auto top = static_cast<std::uint32_t>(31 - std::countl_zero(occupied | 1));
        const auto in_word = static_cast<std::uint32_t>(31 - std::countl_zero(words[top].bits | 1));
        return static_cast<std::uint8_t>(top * 32 + in_word);
    }

    friend constexpr bool operator==(const vector_set&, const vector_set&) = default;

private:
    static constexpr std::uint32_t bit(std::uint8_t vector) {
        return std::uint32_t{1} << (vector % 32);
    }
};

static_assert(sizeof(vector_set) == 0x80);

} // namespace pt::lapic
