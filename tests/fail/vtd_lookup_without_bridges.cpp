// SPDX-License-Identifier: BSL-1.0
// expect: bridge_bus_numbers
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/unit_lookup.hpp"

int main() {
    pt::vtd::dmar table;
    const pt::pci::function_address nic{0, 3, 0, 0};
#ifdef PT_FAIL
    // The configuration space itself does not tell which functions are bridges.
    auto unit = pt::vtd::unit_for(table, nic, pt::pci::archetype::config_access{});
#else
    auto unit = pt::vtd::unit_for(table, nic,
                                  pt::pci::config_bus_numbers{pt::pci::archetype::config_access{}});
#endif
    return unit ? 1 : 0;
}
