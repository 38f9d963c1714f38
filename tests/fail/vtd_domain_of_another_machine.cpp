// SPDX-License-Identifier: BSL-1.0
// expect-gcc: cannot convert|no matching function|invalid initialization
// expect-clang: no matching member function|cannot bind|no viable conversion
// A function belongs to the machine whose units serve it, and not to a domain of other units.
#include "pt/core/archetype.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

using policies = pt::vtd::policies<pt::archetype::mmio_io, pt::archetype::clock,
                                   pt::archetype::table_memory, pt::archetype::publication>;
using machine = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers>;

struct other_clock : pt::archetype::clock {};
using other =
    pt::vtd::remapping<pt::vtd::policies<pt::archetype::mmio_io, other_clock,
                                         pt::archetype::table_memory, pt::archetype::publication>,
                       pt::pci::archetype::bridge_bus_numbers>;

#ifdef PT_FAIL
using function = pt::vtd::attachment<other>;
#else
using function = pt::vtd::attachment<machine>;
#endif

bool give(pt::vtd::domain<machine>& guest, function& node) {
    return guest.attach(node).has_value();
}
