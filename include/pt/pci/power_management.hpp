// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// The power management capability, 8 bytes [pcie], [pci] Power Management Interface.
namespace pt::pci {

/// How much of the function is awake.
enum class power_state : std::uint8_t {
    d0 = 0, ///< all of it
    d1 = 1,
    d2 = 2,
    d3_hot = 3, ///< configuration space alone; without No_Soft_Reset the way back to D0 is a reset
};

/// Power Management Capabilities (PMC).
struct power_management_capabilities : reg<power_management_capabilities, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    // clang-format off
    /// Bit n: PME can be sent from Dn; bit 3 is D3hot, bit 4 D3cold.
    static constexpr bits<15, 11, std::uint8_t, access::read_only> pme_support{};
    static constexpr bits<10, 10, bool, access::read_only>         d2_support{};
    static constexpr bits< 9,  9, bool, access::read_only>         d1_support{};
    static constexpr bits< 8,  6, std::uint8_t, access::read_only> aux_current{};
    static constexpr bits< 5,  5, bool, access::read_only>         device_specific_initialization{};
    static constexpr bits< 4,  4, bool, access::read_only>         immediate_readiness_on_return_to_d0{};
    static constexpr bits< 3,  3, bool, access::read_only>         pme_clock{};
    static constexpr bits< 2,  0, std::uint8_t, access::read_only> version{}; ///< 1..3
    // clang-format on
    static constexpr field_list fields{pme_support,
                                       d2_support,
                                       d1_support,
                                       aux_current,
                                       device_specific_initialization,
                                       immediate_readiness_on_return_to_d0,
                                       pme_clock,
                                       version};
};

/// Power Management Control/Status (PMCSR).
struct power_management_control_status : reg<power_management_control_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    // clang-format off
    static constexpr bits<15, 15, bool, access::write_1_to_clear>  pme_status{};
    static constexpr bits<14, 13, std::uint8_t, access::read_only> data_scale{};
    static constexpr bits<12,  9, std::uint8_t>                    data_select{};
    static constexpr bits< 8,  8, bool>                            pme_enable{};
    static constexpr bits< 7,  4, std::uint8_t, access::preserve>  reserved_7_4{};
    /// Coming back from D3hot keeps the function's state.
    static constexpr bits< 3,  3, bool, access::read_only>         no_soft_reset{};
    static constexpr bits< 2,  2, bool, access::preserve>          reserved_2{};
    static constexpr bits< 1,  0, pci::power_state>                power_state{};
    // clang-format on
    static constexpr field_list fields{pme_status,   data_scale,    data_select, pme_enable,
                                       reserved_7_4, no_soft_reset, reserved_2,  power_state};
};

/// PMCSR_BSE, for bridges to conventional PCI; undefined elsewhere.
struct power_management_bridge_support : reg<power_management_bridge_support, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 6;

    // clang-format off
    static constexpr bits<7, 7, bool, access::read_only> bus_power_clock_control_enable{};
    static constexpr bits<6, 6, bool, access::read_only> b2_b3{};
    // clang-format on
    static constexpr field_list fields{bus_power_clock_control_enable, b2_b3};
};

/// Data: what Data_Select asks for, in units of Data_Scale.
struct power_management_data : reg<power_management_data, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 7;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> value{};
    static constexpr field_list fields{value};
};

/// A function's power management.
struct power_management {
    static constexpr unsigned size = 8; ///< bytes, header included

    capability at{};
    power_management_capabilities capabilities{};
    power_management_control_status control_status{}; ///< as it was when read

    friend constexpr bool operator==(const power_management&, const power_management&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// first 256 bytes, or its version is none (0 or above 3).
template <config_access Config>
[[nodiscard]] constexpr result<power_management> read_power_management(Config config,
                                                                       function_address function) {
    const auto at = capabilities(config, function)
                        .find(capability_id::power_management, power_management::size);
    if (!at) {
        return at.error();
    }
    using pmc = power_management_capabilities;
    const power_management found{*at, read<pmc>(config, function, *at),
                                 read<power_management_control_status>(config, function, *at)};
    const std::uint8_t version = found.capabilities[pmc::version];
    if (version == 0 || version > 3) {
        return error{errc::malformed, at->offset};
    }
    return found;
}

} // namespace pt::pci
