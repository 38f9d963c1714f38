// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::vcpu {

/// The width of the addresses that an instruction computes, in bytes; of a string instruction also
/// that of RSI, RDI and the count in RCX.
enum class address_size : std::uint8_t { bits_16 = 2, bits_32 = 4, bits_64 = 8 };

/// The part of a register that an address of this size is made of.
[[nodiscard]] constexpr std::uint64_t address_mask(address_size size) {
    switch (size) {
    case address_size::bits_16: return 0xFFFF;
    case address_size::bits_32: return 0xFFFF'FFFF;
    case address_size::bits_64: break;
    }
    return ~std::uint64_t{0};
}

/// A register after a string instruction has made a new address or count of it, modulo its size: 16
/// bits leave the rest, 32 bits clear bits 63:32 as every 32-bit result does [sdm].
[[nodiscard]] constexpr std::uint64_t register_after(std::uint64_t before, address_size size,
                                                     std::uint64_t value) {
    const std::uint64_t kept = size == address_size::bits_16 ? before & ~address_mask(size) : 0;
    return kept | (value & address_mask(size));
}

} // namespace pt::vcpu
