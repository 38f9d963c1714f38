// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// PASID, Process Address Space ID, an extended capability of 8 bytes [pcie]: the function's
/// requests can name one of several address spaces.
namespace pt::pci {

/// PASID Capability Register.
struct pasid_capability : reg<pasid_capability, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    // clang-format off
    static constexpr bits<12, 8, std::uint8_t, access::read_only> max_pasid_width{}; ///< 0..20 bits
    static constexpr bits< 2, 2, bool, access::read_only>         privileged_mode_supported{};
    static constexpr bits< 1, 1, bool, access::read_only>         execute_permission_supported{};
    // clang-format on
    static constexpr field_list fields{max_pasid_width, privileged_mode_supported,
                                       execute_permission_supported};
};

/// PASID Control Register. The permissions change only while enable is 0 [pcie].
struct pasid_control : reg<pasid_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 6;

    // clang-format off
    static constexpr bits<15, 3, std::uint16_t, access::preserve> reserved_15_3{};
    static constexpr bits< 2, 2, bool>                            privileged_mode_enable{};
    static constexpr bits< 1, 1, bool>                            execute_permission_enable{};
    static constexpr bits< 0, 0, bool>                            enable{};
    // clang-format on
    static constexpr field_list fields{reserved_15_3, privileged_mode_enable,
                                       execute_permission_enable, enable};
};

/// A function's PASID capability.
struct pasid {
    static constexpr unsigned size = 8; ///< bytes, header included

    extended_capability at{};
    pasid_capability capability{};
    pasid_control control{}; ///< as it was when read

    friend constexpr bool operator==(const pasid&, const pasid&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// end of the space, or claims more than the 20 bits that a PASID has.
template <config_access Config>
[[nodiscard]] constexpr result<pasid> read_pasid(Config config, function_address function) {
    const auto at =
        extended_capabilities(config, function).find(extended_capability_id::pasid, pasid::size);
    if (!at) {
        return at.error();
    }
    const pasid found{*at, read<pasid_capability>(config, function, *at),
                      read<pasid_control>(config, function, *at)};
    if (found.capability[pasid_capability::max_pasid_width] > 20) {
        return error{errc::malformed, at->offset};
    }
    return found;
}

} // namespace pt::pci
