// SPDX-License-Identifier: BSL-1.0
// expect-gcc: use of deleted function .*flush_ticket
// expect-clang: overload resolution selected deleted operator '='
// Assigning over a ticket would forget what it owes; merge() adds to it.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <utility>

using ticket = pt::paging::table<pt::ept::format, pt::archetype::table_memory>::ticket;

void collect(ticket& owed, ticket& more) {
#ifdef PT_FAIL
    owed = std::move(more);
#else
    owed.merge(std::move(more));
#endif
}
