// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/requester.hpp"

#include <cstddef>
#include <cstdint>

/// From a device scope to functions. A scope tells a way, and only the bridges on it know its
/// buses. They are asked once for each hop but the last, which a path of 255 bytes bounds, so that
/// no bus numbers, however wrong, make this long or endless.
namespace pt::vtd {

/// The address at the end of the scope's path, in the segment of the structure that it is in: the
/// function, the bridge of a sub-hierarchy, or the source id of an I/O APIC, an HPET or an ACPI
/// device. Whether anything answers there was not asked.
///   errc::out_of_range  index of the hop that no bus can carry, 0 when there is none
///   errc::absent        source id on the way that is no bridge, or that has no buses behind it
///   errc::malformed     source id of a bridge with bus numbers that cannot be (pci::buses_behind)
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<pci::function_address>
resolve(const device_scope& scope, std::uint16_t segment, Bridges bridges) {
    std::uint8_t bus = scope.start_bus;
    for (std::size_t i = 0; i < scope.path.size(); ++i) {
        const path_hop hop = scope.path[i];
        const pci::function_address at{segment, bus, hop.device, hop.function};
        if (!at.valid()) {
            return error{errc::out_of_range, i};
        }
        if (i + 1 == scope.path.size()) {
            return at;
        }
        const auto behind = pci::buses_behind(bridges, at);
        if (!behind) {
            return behind.error();
        }
        bus = behind->first;
    }
    return error{errc::out_of_range, 0};
}

/// Whether the scope, in a structure of that segment, covers a function: it is the endpoint of the
/// scope, the bridge of a sub-hierarchy, or behind that bridge. Scopes of other types cover none,
/// and nothing is behind a bridge that is not there, or that has no buses. Errors are those of
/// resolve() but for errc::absent; the path is followed no further than the answer needs.
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<bool> covers(const device_scope& scope, std::uint16_t segment,
                                            const requester& who, Bridges bridges) {
    const bool endpoint = scope.type == device_scope_type::pci_endpoint;
    const pci::function_address function = who.named();
    if (segment != function.segment ||
        (!endpoint && scope.type != device_scope_type::pci_sub_hierarchy)) {
        return false;
    }
    std::uint8_t bus = scope.start_bus;
    const std::size_t hops = scope.path.size();
    for (std::size_t i = 0; i < hops; ++i) {
        const path_hop hop = scope.path[i];
        const pci::function_address at{segment, bus, hop.device, hop.function};
        if (!at.valid()) {
            return error{errc::out_of_range, i};
        }
        const bool last = i + 1 == hops;
        if (last && at == function) {
            return true;
        }
        if ((last && endpoint) || function.bus <= bus) {
            return false; // buses behind a bridge are above its own
        }
        const auto behind = pci::buses_behind(bridges, at);
        if (!behind && behind.error().code != errc::absent) {
            return behind.error();
        }
        const bool inside = behind && behind->contains(function.bus);
        if (last || !inside) {
            return inside;
        }
        bus = behind->first;
    }
    return error{errc::out_of_range, 0};
}

/// Whether one of the scopes of a structure covers the function. The error of one that cannot be
/// followed counts only if no other does; its `where` is `offset`, the structure's place in the
/// table.
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<bool> covers(const device_scope_list& scopes, std::uint16_t segment,
                                            const requester& who, Bridges bridges,
                                            std::size_t offset) {
    result<bool> covered = false;
    for (const device_scope scope : scopes) {
        const auto one = covers(scope, segment, who, bridges);
        if (!one) {
            covered = error{one.error().code, offset};
        } else if (*one) {
            return true;
        }
    }
    return covered;
}

} // namespace pt::vtd
