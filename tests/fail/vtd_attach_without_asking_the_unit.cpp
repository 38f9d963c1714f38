// SPDX-License-Identifier: BSL-1.0
// expect: context_invalidator
// expect: accepts\(function, entry\)
// A function is not put through an entry without the word of the unit that would walk it.
#include "pt/core/archetype.hpp"
#include "pt/vtd/root_table.hpp"

#include <cstdint>

struct without_a_say {
    pt::result<void> invalidate_context();
    pt::result<void> invalidate_context(std::uint16_t source_id, std::uint16_t domain_id);
    pt::result<void> invalidate_iotlb();
    pt::result<void> invalidate_iotlb(std::uint16_t domain_id);
};
struct with_a_say : without_a_say {
    pt::result<void> accepts(pt::pci::function_address function, pt::vtd::context_entry entry);
};

#ifdef PT_FAIL
using hardware = without_a_say;
#else
using hardware = with_a_say;
#endif

using root_table = pt::vtd::root_table<pt::archetype::table_memory, pt::archetype::publication>;

bool give(root_table& root, hardware& unit, pt::vtd::context_entry entry) {
    return root.attach({0, 0, 5, 0}, entry, unit).has_value();
}
