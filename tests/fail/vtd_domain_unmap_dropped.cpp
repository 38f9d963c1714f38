// SPDX-License-Identifier: BSL-1.0
// expect: nodiscard
// That a page may still be reached, because a unit did not answer, cannot be overlooked.
#include "pt/core/archetype.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

using policies = pt::vtd::policies<pt::archetype::mmio_io, pt::archetype::clock,
                                   pt::archetype::table_memory, pt::archetype::publication>;
using machine = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers>;

bool take_back(pt::vtd::domain<machine>& guest, pt::range<pt::iova> page) {
#ifdef PT_FAIL
    guest.unmap(page);
    return true;
#else
    return guest.unmap(page).has_value();
#endif
}
