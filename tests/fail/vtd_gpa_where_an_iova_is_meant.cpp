// SPDX-License-Identifier: BSL-1.0
// expect-gcc: could not convert|no matching function|cannot convert
// expect-clang: no viable conversion|no matching (member )?function
// That a device uses guest-physical addresses is a decision, and it is written down where it is made.
#include "pt/core/archetype.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

using namespace pt;

using domain = paging::table<vtd::second_stage::format, archetype::table_memory>;

bool give(domain& guest, gpa where) {
#ifdef PT_FAIL
    const range<gpa> pages{where, 0x1000};
#else
    const range<iova> pages{iova{where.raw}, 0x1000};
#endif
    return guest.map(pages, hpa{0x5000}, vtd::second_stage::read_write).has_value();
}
