// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::pci {

/// What a guest may do with each bit of a register of an assigned function. A bit is in at most one
/// of these; one that is in none is constant: it reads what the view found when it was opened, and
/// writes to it vanish.
///
/// A write to a device's bit writes the rest of the access back as it reads, so that every bit of
/// that register which a 1 clears belongs into device_clear.
struct bit_permissions {
    std::uint32_t own = 0;    ///< the view's: the guest reads and writes it, the device never
    std::uint32_t device = 0; ///< the device's: the guest reads and writes it there
    std::uint32_t device_clear =
        0;                         ///< the device's: the guest reads it, and clears it by writing 1
    std::uint32_t device_read = 0; ///< the device's: the guest reads it, and writes vanish

    friend constexpr bool operator==(const bit_permissions&, const bit_permissions&) = default;
};

/// The permissions of one register, by its offset in configuration space, or in its capability.
struct register_permissions {
    std::uint16_t offset = 0;
    bit_permissions bits{};

    friend constexpr bool operator==(const register_permissions&,
                                     const register_permissions&) = default;
};

/// The bits of some fields of one register: mask_of(command::io_space, command::memory_space).
template <class... Fields>
[[nodiscard]] constexpr std::uint32_t mask_of(Fields...) {
    return (std::uint32_t{0} | ... | std::uint32_t{Fields::mask});
}

} // namespace pt::pci
