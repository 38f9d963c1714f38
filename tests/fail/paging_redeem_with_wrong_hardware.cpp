// SPDX-License-Identifier: BSL-1.0
// expect: invalidator
// A domain's ticket is not redeemed by flushing EPT.
#include "pt/core/archetype.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

using ticket =
    pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory>::ticket;

template <class Address>
struct flush {
    pt::result<void> invalidate(const pt::paging::stale_set<Address>&) { return {}; }
};

pt::result<void> redeem(ticket& owed) {
#ifdef PT_FAIL
    flush<pt::gpa> hardware;
#else
    flush<pt::iova> hardware;
#endif
    return owed.redeem(hardware);
}
