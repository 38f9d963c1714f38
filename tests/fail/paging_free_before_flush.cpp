// SPDX-License-Identifier: BSL-1.0
// expect-gcc: is private within this context
// expect-clang: is a private member of
// Retired frames are not to be had without an invalidator.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

using ticket = pt::paging::table<pt::ept::format, pt::archetype::table_memory>::ticket;

struct invept {
    pt::result<void> invalidate(const pt::paging::stale_set<pt::gpa>&) { return {}; }
};

pt::result<void> give_back(ticket& owed, pt::archetype::table_memory memory) {
#ifdef PT_FAIL
    owed.retired_.release(memory);
    return {};
#else
    (void)memory;
    invept hardware;
    return owed.redeem(hardware);
#endif
}
