// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// Address Translation Services (ATS), an extended capability of 8 bytes [pcie]: the function keeps
/// translations of the IOMMU by itself.
namespace pt::pci {

/// ATS Capability Register.
struct ats_capability : reg<ats_capability, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    // clang-format off
    static constexpr bits<7, 7, bool, access::read_only>         relaxed_ordering_supported{};
    static constexpr bits<6, 6, bool, access::read_only>         global_invalidate_supported{};
    static constexpr bits<5, 5, bool, access::read_only>         page_aligned_request{};
    static constexpr bits<4, 0, std::uint8_t, access::read_only> invalidate_queue_depth{}; ///< 0: 32
    // clang-format on
    static constexpr field_list fields{relaxed_ordering_supported, global_invalidate_supported,
                                       page_aligned_request, invalidate_queue_depth};
};

/// ATS Control Register.
struct ats_control : reg<ats_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 6;

    // clang-format off
    static constexpr bits<15, 15, bool>                            enable{};
    static constexpr bits<14,  5, std::uint16_t, access::preserve> reserved_14_5{};
    static constexpr bits< 4,  0, std::uint8_t> smallest_translation_unit{}; ///< 4 KiB << n
    // clang-format on
    static constexpr field_list fields{enable, reserved_14_5, smallest_translation_unit};
};

/// A function's Address Translation Services.
struct address_translation_services {
    static constexpr unsigned size = 8; ///< bytes, header included

    extended_capability at{};
    ats_capability capability{};
    ats_control control{}; ///< as it was when read

    /// How many invalidate requests the function takes before it pushes back, 1..32.
    [[nodiscard]] constexpr std::uint8_t invalidate_queue_depth() const {
        const std::uint8_t depth = capability[ats_capability::invalidate_queue_depth];
        return depth == 0 ? 32 : depth;
    }
    /// The smallest translation, in bytes, that the function asks for with the present Control.
    [[nodiscard]] constexpr std::uint64_t smallest_translation() const {
        return 4 * KiB << control[ats_control::smallest_translation_unit];
    }

    friend constexpr bool operator==(const address_translation_services&,
                                     const address_translation_services&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// end of the space.
template <config_access Config>
[[nodiscard]] constexpr result<address_translation_services>
read_address_translation_services(Config config, function_address function) {
    const auto at = extended_capabilities(config, function)
                        .find(extended_capability_id::address_translation_services,
                              address_translation_services::size);
    if (!at) {
        return at.error();
    }
    return address_translation_services{*at, read<ats_capability>(config, function, *at),
                                        read<ats_control>(config, function, *at)};
}

} // namespace pt::pci
