// SPDX-License-Identifier: BSL-1.0
// expect: (cannot convert|no known conversion|could not convert)
// Guest to host, never the other way round.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

using tables = pt::paging::table<pt::ept::format, pt::archetype::table_memory>;

bool give(tables& guest, pt::gpa input, pt::hpa output) {
#ifdef PT_FAIL
    return guest.map({output, pt::MiB}, input, pt::ept::ram).has_value();
#else
    return guest.map({input, pt::MiB}, output, pt::ept::ram).has_value();
#endif
}
