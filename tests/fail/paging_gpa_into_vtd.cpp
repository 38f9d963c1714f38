// SPDX-License-Identifier: BSL-1.0
// expect-gcc: cannot convert .*(guest_physical_space|gpa).* to .*(io_virtual_space|iova|address)
// expect-clang: no known conversion from .*(guest_physical_space|gpa)
// A device's tables take iova: for an assigned device it is the number of a gpa, and one says so.
#include "pt/core/archetype.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

using tables = pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory>;

bool give(tables& domain, pt::gpa guest, pt::hpa host) {
#ifdef PT_FAIL
    const pt::range input{guest, pt::GiB};
#else
    const pt::range input{pt::iova{guest.raw}, pt::GiB};
#endif
    return domain.map(input, host, pt::vtd::second_stage::read_write).has_value();
}
