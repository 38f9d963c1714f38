// SPDX-License-Identifier: BSL-1.0
// expect: write_needs_read
// A device's page that may only be written would be gone without the right to write: protect() says
// what is meant.
#include "pt/core/archetype.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

using tables = pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory>;

bool log_writes(tables& domain, pt::range<pt::iova> input) {
#ifdef PT_FAIL
    return domain.write_protect(input).has_value();
#else
    return domain.protect(input, {.read = true}).has_value();
#endif
}
