// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt {

/// The size of one access to a port or to configuration space; the number is the size in bytes.
enum class width : std::uint8_t { byte = 1, word = 2, dword = 4 };

/// The size in bytes.
[[nodiscard]] constexpr unsigned size_of(width size) { return static_cast<unsigned>(size); }

/// A value of that width with every bit set: what a bus reads where nothing answers.
[[nodiscard]] constexpr std::uint32_t all_ones(width size) {
    return ~std::uint32_t{0} >> (32U - 8U * size_of(size));
}

/// The size of one access to memory that a device answers; the number is the size in bytes.
enum class mmio_width : std::uint8_t { byte = 1, word = 2, dword = 4, qword = 8 };

/// The size in bytes.
[[nodiscard]] constexpr unsigned size_of(mmio_width size) { return static_cast<unsigned>(size); }

/// A value of that width with every bit set: what a bus reads where nothing answers.
[[nodiscard]] constexpr std::uint64_t all_ones(mmio_width size) {
    return ~std::uint64_t{0} >> (64U - 8U * size_of(size));
}

} // namespace pt
