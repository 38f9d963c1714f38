// SPDX-License-Identifier: BSL-1.0
// expect: nodiscard
// Neither the ticket nor the error of an unmap can be overlooked.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

using tables = pt::paging::table<pt::ept::format, pt::archetype::table_memory>;

void take_away(tables& guest) {
#ifdef PT_FAIL
    guest.unmap({pt::gpa{0x1000}, 0x1000});
#else
    const auto done = guest.unmap({pt::gpa{0x1000}, 0x1000});
    (void)done;
#endif
}
