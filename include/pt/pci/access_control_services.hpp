// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// Access Control Services (ACS), an extended capability [pcie]: whether a port, or a device of
/// several functions, lets requests from one function reach another without passing the IOMMU.
namespace pt::pci {

/// ACS Capability Register.
struct acs_capability : reg<acs_capability, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    // clang-format off
    static constexpr bits<15, 8, std::uint8_t, access::read_only> egress_control_vector_size{}; ///< bits; 0: 256
    static constexpr bits< 7, 7, bool, access::read_only>         enhanced_capability{};
    static constexpr bits< 6, 6, bool, access::read_only>         direct_translated_p2p{};
    static constexpr bits< 5, 5, bool, access::read_only>         p2p_egress_control{};
    static constexpr bits< 4, 4, bool, access::read_only>         upstream_forwarding{};
    static constexpr bits< 3, 3, bool, access::read_only>         p2p_completion_redirect{};
    static constexpr bits< 2, 2, bool, access::read_only>         p2p_request_redirect{};
    static constexpr bits< 1, 1, bool, access::read_only>         translation_blocking{};
    static constexpr bits< 0, 0, bool, access::read_only>         source_validation{};
    // clang-format on
    static constexpr field_list fields{
        egress_control_vector_size, enhanced_capability,  direct_translated_p2p,
        p2p_egress_control,         upstream_forwarding,  p2p_completion_redirect,
        p2p_request_redirect,       translation_blocking, source_validation};
};

/// ACS Control Register.
struct acs_control : reg<acs_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 6;

    // clang-format off
    static constexpr bits<15, 13, std::uint8_t, access::preserve> reserved_15_13{};
    static constexpr bits<12, 12, bool>         unclaimed_request_redirect_control{};
    static constexpr bits<11, 10, std::uint8_t> usp_memory_target_access_control{};
    static constexpr bits< 9,  8, std::uint8_t> dsp_memory_target_access_control{};
    static constexpr bits< 7,  7, bool>         io_request_blocking_enable{};
    static constexpr bits< 6,  6, bool>         direct_translated_p2p_enable{};
    static constexpr bits< 5,  5, bool>         p2p_egress_control_enable{};
    static constexpr bits< 4,  4, bool>         upstream_forwarding_enable{};
    static constexpr bits< 3,  3, bool>         p2p_completion_redirect_enable{};
    static constexpr bits< 2,  2, bool>         p2p_request_redirect_enable{};
    static constexpr bits< 1,  1, bool>         translation_blocking_enable{};
    static constexpr bits< 0,  0, bool>         source_validation_enable{};
    // clang-format on
    static constexpr field_list fields{reserved_15_13,
                                       unclaimed_request_redirect_control,
                                       usp_memory_target_access_control,
                                       dsp_memory_target_access_control,
                                       io_request_blocking_enable,
                                       direct_translated_p2p_enable,
                                       p2p_egress_control_enable,
                                       upstream_forwarding_enable,
                                       p2p_completion_redirect_enable,
                                       p2p_request_redirect_enable,
                                       translation_blocking_enable,
                                       source_validation_enable};
};

/// A function's Access Control Services.
struct access_control_services {
    extended_capability at{};
    acs_capability capability{};
    acs_control control{};                ///< as it was when read
    std::uint16_t egress_vector_bits = 0; ///< 0 without P2P egress control, else 1..256

    /// Bytes, header included: the Egress Control Vector follows at 8, in whole dwords.
    [[nodiscard]] constexpr unsigned size() const {
        return 8 + (egress_vector_bits + 31U) / 32 * 4;
    }

    friend constexpr bool operator==(const access_control_services&,
                                     const access_control_services&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it, or its Egress
/// Control Vector, runs past the end of the space.
template <config_access Config>
[[nodiscard]] constexpr result<access_control_services>
read_access_control_services(Config config, function_address function) {
    const auto at = extended_capabilities(config, function)
                        .find(extended_capability_id::access_control_services, 8);
    if (!at) {
        return at.error();
    }
    access_control_services found{*at, read<acs_capability>(config, function, *at),
                                  read<acs_control>(config, function, *at)};
    if (found.capability[acs_capability::p2p_egress_control]) {
        const std::uint8_t bits = found.capability[acs_capability::egress_control_vector_size];
        found.egress_vector_bits = bits == 0 ? 256 : bits;
    }
    if (!at->has_room(found.size())) {
        return error{errc::malformed, at->offset};
    }
    return found;
}

} // namespace pt::pci
