// SPDX-License-Identifier: BSL-1.0
// expect-gcc: use of deleted function .*flush_ticket
// expect-clang: overload resolution selected deleted operator '='
// Assigning over a ticket would forget what it owes; a batch adds to what it owes.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <utility>

using ticket = pt::paging::table<pt::ept::format, pt::archetype::table_memory>::ticket;
using batch = pt::paging::flush_batch<pt::ept::format, pt::archetype::table_memory>;

pt::result<void> collect([[maybe_unused]] batch& all, [[maybe_unused]] ticket& owed, ticket& more) {
#ifdef PT_FAIL
    owed = std::move(more);
    return {};
#else
    return all.add(more);
#endif
}
