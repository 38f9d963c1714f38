// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/scope_resolution.hpp"

#include <cstddef>
#include <cstdint>

/// Which of a table's remapping units serves whom.
namespace pt::vtd {

/// A remapping unit of the table.
struct serving_unit {
    std::size_t index = 0; ///< among the DRHDs, in the order of the table, from 0 on
    drhd definition;
};

/// The unit that the requests of a function go through: the first one whose scopes cover it
/// (scope_resolution.hpp); else the one of its segment that includes all [vt-d].
///   errc::absent        source id of requester::named(): no unit serves it
///   errc::out_of_range  \ no unit's scopes cover it, but the DRHD at this offset of the table has
///   errc::malformed     / a scope that cannot be followed, and it might be the one
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<serving_unit> unit_for(const dmar& table, requester who,
                                                      Bridges bridges) {
    result<serving_unit> otherwise = error{errc::absent, who.named().source_id()};
    error doubt{};
    std::size_t index = 0;
    for (const remapping_structure structure : table.structures()) {
        if (structure.type != drhd::type) {
            continue;
        }
        const serving_unit unit{index++, drhd::decode(structure.bytes)};
        if (unit.definition.segment != who.named().segment) {
            continue;
        }
        const auto covered =
            covers(unit.definition.scopes, unit.definition.segment, who, bridges, structure.offset);
        if (!covered) {
            doubt = doubt.code == errc::none ? covered.error() : doubt;
        } else if (*covered) {
            return unit;
        }
        if (unit.definition.include_pci_all && !otherwise) {
            otherwise = unit;
        }
    }
    if (doubt.code != errc::none) {
        return doubt;
    }
    return otherwise;
}

/// A device that scopes name by a number.
struct numbered_device {
    serving_unit unit;
    pci::function_address source; ///< its requests carry source_id() of this
};

/// The unit and the source of the I/O APIC with that id, the HPET with that number or the ACPI
/// name-space device with that number of an ANDD, whose types alone may be given: the first of that
/// type and number in the table. Interrupt remapping lets through what comes from this source.
///   errc::absent        the number: no scope has it; or the table's offset of the DRHD whose scope
///                       has it, when a bridge on the way is absent
///   errc::out_of_range, errc::malformed   the offset of that DRHD: the scope cannot be followed
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<numbered_device> unit_for(const dmar& table, device_scope_type type,
                                                         std::uint8_t number, Bridges bridges) {
    expects(type == device_scope_type::io_apic || type == device_scope_type::msi_capable_hpet ||
                type == device_scope_type::acpi_namespace_device,
            "scopes of PCI functions have no number; look them up by their address");
    std::size_t index = 0;
    for (const remapping_structure structure : table.structures()) {
        if (structure.type != drhd::type) {
            continue;
        }
        const serving_unit unit{index++, drhd::decode(structure.bytes)};
        for (const device_scope scope : unit.definition.scopes) {
            if (scope.type != type || scope.enumeration_id != number) {
                continue;
            }
            const auto source = resolve(scope, unit.definition.segment, bridges);
            if (!source) {
                return error{source.error().code, structure.offset};
            }
            return numbered_device{unit, *source};
        }
    }
    return error{errc::absent, number};
}

} // namespace pt::vtd
