// SPDX-License-Identifier: BSL-1.0
// expect: nodiscard
// The ticket of an operation cannot be overlooked: it holds what must be flushed.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

using tables = pt::paging::table<pt::ept::format, pt::archetype::table_memory>;

void shut_down(tables& guest) {
#ifdef PT_FAIL
    guest.retire();
#else
    auto owed = guest.retire();
    (void)owed;
#endif
}
