// SPDX-License-Identifier: BSL-1.0
// expect: nodiscard
// That a batch is full, and the ticket still owed, cannot be overlooked.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <utility>

using ticket = pt::paging::table<pt::ept::format, pt::archetype::table_memory>::ticket;
using batch = pt::paging::flush_batch<pt::ept::format, pt::archetype::table_memory>;

bool collect(batch& all, ticket& more) {
#ifdef PT_FAIL
    all.add(more);
    return true;
#else
    return all.add(more).has_value();
#endif
}
