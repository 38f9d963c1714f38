// SPDX-License-Identifier: BSL-1.0
// expect: invalidation_port
// expect: port\.capabilities\(\)
// A function is not put through anything before the capabilities of the unit that walks it are known.
#include "pt/core/archetype.hpp"
#include "pt/vtd/root_table.hpp"

struct without_a_say {
    pt::result<void> submit(const pt::vtd::invalidation_descriptor& request);
    pt::result<void> complete();
};
struct with_a_say : without_a_say {
    pt::vtd::capability capabilities();
    pt::vtd::extended_capability extended_capabilities();
};

#ifdef PT_FAIL
using hardware = without_a_say;
#else
using hardware = with_a_say;
#endif

using root_table = pt::vtd::root_table<pt::archetype::table_memory, pt::archetype::publication>;

bool give(root_table& root, hardware& unit, const pt::vtd::translation& through) {
    return root.attach(pt::pci::function_address{0, 0, 5, 0}, through, unit).has_value();
}
