// SPDX-License-Identifier: BSL-1.0
// expect: context_invalidator
// expect-gcc: invalidate_iotlb\(domain_id\)
// expect-clang: invalidate_iotlb\(domain_id\)
// A context entry is not taken away by something that leaves the domain's translations cached.
#include "pt/core/archetype.hpp"
#include "pt/vtd/root_table.hpp"

#include <cstdint>

struct contexts_only {
    pt::result<void> accepts(pt::pci::function_address function, pt::vtd::context_entry entry);
    pt::result<void> invalidate_context();
    pt::result<void> invalidate_context(std::uint16_t source_id, std::uint16_t domain_id);
    pt::result<void> invalidate_iotlb();
};
struct contexts_and_translations : contexts_only {
    using contexts_only::invalidate_context;
    pt::result<void> invalidate_iotlb();
    pt::result<void> invalidate_iotlb(std::uint16_t domain_id);
};

#ifdef PT_FAIL
using hardware = contexts_only;
#else
using hardware = contexts_and_translations;
#endif

using root_table = pt::vtd::root_table<pt::archetype::table_memory, pt::archetype::publication>;

bool take_back(root_table& root, hardware& unit) {
    return root.detach({0, 0, 5, 0}, unit).has_value();
}
