// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"

#include <cstdint>

namespace pt::vcpu {

/// Bits first..last of an array of qwords, bit n being bit n % 64 of qword n / 64. first <= last.
struct bit_range {
    std::uint32_t first = 0;
    std::uint32_t last = 0;

    [[nodiscard]] constexpr std::uint32_t first_word() const { return first / 64; }
    [[nodiscard]] constexpr std::uint32_t last_word() const { return last / 64; }

    /// Those of the bits that lie in that qword, one of first_word()..last_word().
    [[nodiscard]] constexpr std::uint64_t mask(std::uint32_t word) const {
        const std::uint64_t head = ~std::uint64_t{0} << (word == first_word() ? first % 64 : 0);
        const std::uint64_t tail = ~std::uint64_t{0} >> (word == last_word() ? 63 - last % 64 : 0);
        return head & tail;
    }
};

/// Gives the bits of `mask` the values that they have in `bits`, and says whether that changed any.
/// A qword that is right already is not written to. One processor writes at a time; those that read
/// meanwhile see the old word or the new one.
constexpr bool replace_bits(std::uint64_t* word, std::uint64_t mask, std::uint64_t bits) {
    const std::uint64_t before = atomic::load_relaxed(word);
    const std::uint64_t after = (before & ~mask) | (bits & mask);
    if (after == before) {
        return false;
    }
    atomic::store_relaxed(word, after);
    return true;
}

} // namespace pt::vcpu
