// SPDX-License-Identifier: BSL-1.0
// expect-gcc: use of deleted function .*flush_ticket
// expect-clang: call to implicitly-deleted copy constructor of .*(ticket|flush_ticket)
// A copy of a ticket would give the same frames back twice.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <utility>

using ticket = pt::paging::table<pt::ept::format, pt::archetype::table_memory>::ticket;

ticket hand_on(ticket& owed) {
#ifdef PT_FAIL
    ticket mine = owed;
#else
    ticket mine = std::move(owed);
#endif
    return mine;
}
