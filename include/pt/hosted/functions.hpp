// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !__STDC_HOSTED__
#error "pt/hosted/ needs a hosted standard library; a freestanding VMM has pt/pci/enumerate.hpp"
#endif

#include "pt/core/width.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <range/v3/range/concepts.hpp>
#include <range/v3/utility/semiregular_box.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/transform.hpp>

#include <cstdint>

/// The machine's functions as a view of range-v3, and filters that read as one line:
///
///     for (const auto nic : functions(config) | of_class(base_class::network)
///                                             | having(capability_id::msi_x)) ...
///
/// A filter that asks a register reads it anew for each function that comes by.
namespace pt::hosted {

/// A function that a scan of the tree found, and the way to its configuration space.
template <pci::config_access Config>
struct function : pci::tree_function {
    Config config;

    /// Reads register R with one access.
    template <pci::config_register R>
    [[nodiscard]] R read() const {
        Config asked = config;
        return pci::read<R>(asked, address);
    }
};

/// A config_access that can be assigned, and made out of nothing, as a view's parts must be.
template <pci::config_access Config>
struct assignable_config_access {
    ranges::semiregular_box_t<Config> boxed;

    [[nodiscard]] std::uint32_t read(pci::function_address asked, std::uint16_t offset,
                                     width size) {
        return static_cast<Config&>(boxed).read(asked, offset, size);
    }
    void write(pci::function_address asked, std::uint16_t offset, width size, std::uint32_t value) {
        static_cast<Config&>(boxed).write(asked, offset, size, value);
    }
};

/// A pci::tree_scan as a view.
template <pci::config_access Config>
struct tree_view : pci::tree_scan<assignable_config_access<Config>>, ranges::view_base {
    using pci::tree_scan<assignable_config_access<Config>>::tree_scan;
};

/// The functions of `first_bus` and of the buses behind it, depth first, as pci::scan_tree.
template <pci::config_access Config>
[[nodiscard]] auto functions(Config config, std::uint8_t first_bus = 0, std::uint16_t segment = 0) {
    return tree_view<Config>{{config}, first_bus, segment} |
           ranges::views::transform([config](const pci::tree_function& found) {
               return function<Config>{found, config};
           });
}

/// Those of a base class. A function that is not ready has none: it reads all ones, which is no
/// base_class::other.
[[nodiscard]] inline auto of_class(pci::base_class wanted) {
    return ranges::views::filter([wanted](const auto& found) {
        return !found.id.not_ready() &&
               found.template read<pci::class_code>()[pci::class_code::base_class] == wanted;
    });
}

/// Those of one vendor.
[[nodiscard]] inline auto of_vendor(std::uint16_t vendor) {
    return ranges::views::filter([vendor](const pci::tree_function& found) {
        return found.id[pci::identity::vendor_id] == vendor;
    });
}

/// Those of one vendor and device id: of_id(0x8086, 0x10D3).
[[nodiscard]] inline auto of_id(std::uint16_t vendor, std::uint16_t device) {
    return ranges::views::filter([vendor, device](const pci::tree_function& found) {
        return found.id[pci::identity::vendor_id] == vendor &&
               found.id[pci::identity::device_id] == device;
    });
}

/// Those that have buses behind them: header types 01h and 02h.
inline constexpr auto bridges = ranges::views::filter(
    [](const pci::tree_function& found) { return pci::has_buses_behind(found.layout); });

/// Those of header type 00h. Of a function that is not ready nobody knows.
inline constexpr auto endpoints = ranges::views::filter([](const pci::tree_function& found) {
    return found.layout == pci::header_layout::device && !found.id.not_ready();
});

/// Those that have a capability.
[[nodiscard]] inline auto having(pci::capability_id wanted) {
    return ranges::views::filter([wanted](const auto& found) {
        return pci::capabilities(found.config, found.address).find(wanted).has_value();
    });
}

/// Those that have an extended capability. A function without the PCI Express capability has none,
/// though something may be seen at 0x100.
[[nodiscard]] inline auto having(pci::extended_capability_id wanted) {
    return ranges::views::filter([wanted](const auto& found) {
        return pci::extended_capabilities(found.config, found.address).find(wanted).has_value();
    });
}

/// Those behind a bridge, at whatever depth: on its secondary bus, its subordinate, or in between.
[[nodiscard]] inline auto behind(pci::function_address bridge) {
    return ranges::views::filter([bridge](const auto& found) {
        auto config = found.config;
        const auto layout = pci::read<pci::header_type>(config, bridge)[pci::header_type::layout];
        const auto numbers = pci::read<pci::bus_numbers>(config, bridge);
        return pci::has_buses_behind(layout) && found.address.segment == bridge.segment &&
               found.address.bus > bridge.bus &&
               found.address.bus >= numbers[pci::bus_numbers::secondary] &&
               found.address.bus <= numbers[pci::bus_numbers::subordinate];
    });
}

} // namespace pt::hosted
