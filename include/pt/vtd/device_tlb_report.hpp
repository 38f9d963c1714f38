// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/scope_resolution.hpp"

#include <cstdint>

namespace pt::vtd {

/// What the table says of a function's device TLB, the cache of translations that the function
/// fills by Address Translation Services (ATS).
enum class device_tlb_report : std::uint8_t {
    /// Nothing. ATS must stay off behind a root port [vt-d]. For an endpoint that is integrated in
    /// the root complex, and so behind none, older tables had no way to say anything.
    none,
    allowed,  ///< it is behind a root port of an ATSR, or its segment has ALL_PORTS, or in a SATC
    required, ///< it is in a SATC that says ATC_REQUIRED: it does not work without
};

/// The report for a function: the strongest of those that cover it.
///   errc::out_of_range  \ none covers it, but the structure at this offset of the table has a
///   errc::malformed     / scope that cannot be followed (scope_resolution.hpp)
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr result<device_tlb_report>
device_tlb_report_of(const dmar& table, requester who, Bridges bridges) {
    auto report = device_tlb_report::none;
    error doubt{};
    const auto note = [&](const result<bool>& covered, device_tlb_report what) {
        if (!covered) {
            doubt = doubt.code == errc::none ? covered.error() : doubt;
        } else if (*covered && report < what) {
            report = what;
        }
    };
    for (const remapping_structure structure : table.structures()) {
        if (structure.type == atsr::type) {
            const atsr ports = atsr::decode(structure.bytes);
            if (ports.all_ports) {
                note(ports.segment == who.named().segment, device_tlb_report::allowed);
            } else {
                note(covers(ports.scopes, ports.segment, who, bridges, structure.offset),
                     device_tlb_report::allowed);
            }
        } else if (structure.type == satc::type) {
            const satc caches = satc::decode(structure.bytes);
            note(covers(caches.scopes, caches.segment, who, bridges, structure.offset),
                 caches.flags[satc_flags::atc_required] ? device_tlb_report::required
                                                        : device_tlb_report::allowed);
        }
    }
    if (report == device_tlb_report::none && doubt.code != errc::none) {
        return doubt;
    }
    return report;
}

} // namespace pt::vtd
