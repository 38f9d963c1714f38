// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::vcpu {

/// What CR0.PE says [sdm] [amd]. An exception has an error code only in protected mode.
enum class processor_mode : std::uint8_t {
    real_address_mode,
    protected_mode, ///< virtual-8086, compatibility and 64-bit mode too
};

/// The mode of a processor whose CR0 is that.
[[nodiscard]] constexpr processor_mode mode_of(std::uint64_t cr0) {
    constexpr std::uint64_t protection_enable = 1;
    return (cr0 & protection_enable) != 0 ? processor_mode::protected_mode
                                          : processor_mode::real_address_mode;
}

} // namespace pt::vcpu
