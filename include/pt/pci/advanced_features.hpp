// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// The Advanced Features capability, 6 bytes: function level reset for conventional PCI [pci], in an
/// engineering change notice.
namespace pt::pci {

/// AF Length: how many bytes the capability has.
struct advanced_features_length : reg<advanced_features_length, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> bytes{};
    static constexpr field_list fields{bytes};
};

/// AF Capabilities.
struct advanced_features_capabilities : reg<advanced_features_capabilities, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 3;

    // clang-format off
    static constexpr bits<1, 1, bool, access::read_only> function_level_reset{};
    static constexpr bits<0, 0, bool, access::read_only> transactions_pending{}; ///< in Status
    // clang-format on
    static constexpr field_list fields{function_level_reset, transactions_pending};
};

/// AF Control.
struct advanced_features_control : reg<advanced_features_control, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    static constexpr bits<7, 1, std::uint8_t, access::preserve> reserved_7_1{};
    /// Writing 1 resets the function; reads 0.
    static constexpr bits<0, 0, bool> initiate_function_level_reset{};
    static constexpr field_list fields{reserved_7_1, initiate_function_level_reset};
};

/// AF Status.
struct advanced_features_status : reg<advanced_features_status, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 5;

    static constexpr bits<7, 1, std::uint8_t, access::zero> reserved_7_1{};
    static constexpr bits<0, 0, bool, access::read_only> transactions_pending{};
    static constexpr field_list fields{reserved_7_1, transactions_pending};
};

/// A function's Advanced Features.
struct advanced_features {
    static constexpr unsigned size = 6; ///< bytes, header included

    capability at{};
    advanced_features_capabilities capabilities{};

    friend constexpr bool operator==(const advanced_features&, const advanced_features&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// first 256 bytes, or says that it has less than its 6 bytes.
template <config_access Config>
[[nodiscard]] constexpr result<advanced_features>
read_advanced_features(Config config, function_address function) {
    const auto at = capabilities(config, function)
                        .find(capability_id::advanced_features, advanced_features::size);
    if (!at) {
        return at.error();
    }
    using length = advanced_features_length;
    if (read<length>(config, function, *at)[length::bytes] < advanced_features::size) {
        return error{errc::malformed, at->offset};
    }
    return advanced_features{*at, read<advanced_features_capabilities>(config, function, *at)};
}

} // namespace pt::pci
