// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace vmm::pc {

/// The unsigned integer that lies at `from`, lowest byte first, wherever that is aligned.
template <std::unsigned_integral Word>
[[nodiscard]] constexpr Word word_at(const std::uint8_t* from) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i != sizeof(Word); ++i) {
        value |= std::uint64_t{from[i]} << (8 * i);
    }
    return static_cast<Word>(value);
}

/// Puts it there.
template <std::unsigned_integral Word>
constexpr void put_word(std::uint8_t* to, Word value) {
    for (std::size_t i = 0; i != sizeof(Word); ++i) {
        to[i] = static_cast<std::uint8_t>(std::uint64_t{value} >> (8 * i));
    }
}

} // namespace vmm::pc
