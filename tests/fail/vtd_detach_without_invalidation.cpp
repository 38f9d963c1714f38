// SPDX-License-Identifier: BSL-1.0
// expect: invalidation_port
// expect: port\.complete\(\)
// An entry is not taken away by something that asks for invalidations and never says that they are
// done.
#include "pt/core/archetype.hpp"
#include "pt/vtd/root_table.hpp"

struct that_only_asks {
    pt::result<void> submit(const pt::vtd::invalidation_descriptor& request);
    pt::vtd::capability capabilities();
    pt::vtd::extended_capability extended_capabilities();
};
struct that_waits : that_only_asks {
    pt::result<void> complete();
};

#ifdef PT_FAIL
using hardware = that_only_asks;
#else
using hardware = that_waits;
#endif

using root_table = pt::vtd::root_table<pt::archetype::table_memory, pt::archetype::publication>;

bool take_back(root_table& root, hardware& unit) {
    return root.detach(pt::pci::function_address{0, 0, 5, 0}, unit).has_value();
}
