// SPDX-License-Identifier: BSL-1.0
//
// pt's DMA remapping with this kernel's policies, and what the subjects about it have in common.
#pragma once

#include "../../../examples/kernel/interrupts.hpp"
#include "kernel.hpp"

#include "pt/core/wide_store.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_limiter.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <concepts>
#include <cstdint>

namespace kernel {

using vtd_policies = pt::vtd::policies<mmio, clock, memory_policy, pt::paging::clflush_publication,
                                       pt::cmpxchg16b_store>;
using bridges = pt::pci::config_bus_numbers<port_config>;
using remapping = pt::vtd::remapping<vtd_policies, bridges>;
using remapping_unit = remapping::unit_type;
using attachment = remapping::attachment_type;
using domain = pt::vtd::domain<remapping>;
using pass_through_domain = pt::vtd::pass_through_domain<remapping>;

inline vtd_policies policies() { return {clock{}, memory()}; }

/// What the runner tells: scalable mode on the machines that have it, unless the words say
/// "legacy-tables"; "registers" instead of the queue.
pt::vtd::unit_options options_told();

/// Firmware's table, checked by pt.
pt::result<pt::vtd::dmar> dmar_table();
/// Its first DRHD. There must be one.
pt::vtd::drhd first_unit(const pt::vtd::dmar& table);

/// An interrupt of the unit itself with that vector here.
pt::vtd::interrupt_message event_message(std::uint8_t vector);

/// Pages for reading and writing.
inline constexpr pt::vtd::second_stage::attributes read_write = pt::vtd::second_stage::read_write;

/// Takes all faults away, and checks that there was at least one, and none but of requests like
/// this, blocked for missing rights or for want of a mapping.
bool check_blocked(const char* name, remapping& vtd, pt::pci::function_address source,
                   pt::vtd::fault_record::request type, pt::iova page);
/// The same for a function without an entry.
bool check_without_entry(const char* name, remapping& vtd, pt::pci::function_address source,
                         pt::vtd::fault_record::request type, pt::iova page);
/// Checks that nothing was blocked since the last look.
bool check_no_fault(const char* name, remapping& vtd);

/// Gives `body(vtd, unit)` the remapping of this machine as the words tell, taken and not started,
/// and takes it down again. All frames must be back then.
template <std::invocable<remapping&, remapping_unit&> Body>
void with_remapping(Body body, pt::vtd::fault_limits limits = {}) {
    const auto table = dmar_table();
    if (!check("pt reads firmware's DMAR table", table)) {
        return;
    }
    const std::uint64_t before = frames_in_use();
    const pt::vtd::drhd place = first_unit(*table);
    remapping vtd{policies(), *table, bridges{config()}, limits};
    auto unit = remapping_unit::take(policies(), mmio{place.register_base}, place, options_told());
    if (!check("pt takes the unit", unit) || !check("and knows it", vtd.add(*unit))) {
        return;
    }
    body(vtd, *unit);
    check("the units stop", vtd.stop());
    check("the quarantine goes", vtd.retire());
    check("the unit gives its tables back", unit->retire());
    check_equal("every frame is back", frames_in_use(), before);
}

} // namespace kernel
