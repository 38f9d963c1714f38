// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// Tells the bus numbers of bridges. read(bridge) gives the register that holds them, as it is, or
/// errc::absent when no bridge, of header type 01h or 02h, is at that address. Callers pass only
/// addresses that are valid().
template <class B>
concept bridge_bus_numbers = policy<B> && requires(B& bridges, function_address bridge) {
    { bridges.read(bridge) } -> std::same_as<result<bus_numbers>>;
};

/// The bus numbers as the bridges of a config_access hold them, read anew each time.
template <config_access Config>
class config_bus_numbers {
public:
    explicit constexpr config_bus_numbers(Config config) : config_{config} {}

    /// errc::absent with the source id.
    [[nodiscard]] constexpr result<bus_numbers> read(function_address bridge) {
        const auto layout = pci::read<header_type>(config_, bridge)[header_type::layout];
        if (layout != header_layout::bridge && layout != header_layout::cardbus_bridge) {
            return error{errc::absent, bridge.source_id()};
        }
        return pci::read<bus_numbers>(config_, bridge);
    }

private:
    [[no_unique_address]] Config config_;
};

/// Buses with neighbouring numbers, both ends included.
struct bus_interval {
    std::uint8_t first = 0; ///< secondary: the bus right behind the bridge
    std::uint8_t last = 0;  ///< subordinate: the highest bus behind it

    [[nodiscard]] constexpr bool contains(std::uint8_t bus) const {
        return first <= bus && bus <= last;
    }
    friend constexpr bool operator==(const bus_interval&, const bus_interval&) = default;
};

/// The buses behind a bridge, whose address must be valid(). errc::absent with its source id: no
/// bridge is there, or none of its buses was given a number (secondary 0). errc::malformed with it:
/// the numbers cannot be, since those behind a bridge are above the bridge's own bus.
template <bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<bus_interval> buses_behind(Bridges bridges,
                                                          function_address bridge) {
    const auto numbers = bridges.read(bridge);
    if (!numbers) {
        return error{errc::absent, bridge.source_id()};
    }
    const bus_interval behind{(*numbers)[bus_numbers::secondary],
                              (*numbers)[bus_numbers::subordinate]};
    if (behind.first == 0) {
        return error{errc::absent, bridge.source_id()};
    }
    if (behind.first <= bridge.bus || behind.last < behind.first) {
        return error{errc::malformed, bridge.source_id()};
    }
    return behind;
}

namespace archetype {

/// The least model: a machine without any bridge.
struct bridge_bus_numbers {
    constexpr result<bus_numbers> read(function_address bridge) {
        return error{errc::absent, bridge.source_id()};
    }
};
static_assert(pci::bridge_bus_numbers<bridge_bus_numbers>);

} // namespace archetype

} // namespace pt::pci
