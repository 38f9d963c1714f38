// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace guest_tests {

/// Instructions of one byte, in every mode.
inline constexpr std::uint8_t nop = 0x90;
inline constexpr std::uint8_t hlt = 0xF4;
inline constexpr std::uint8_t sti = 0xFB;

} // namespace guest_tests
