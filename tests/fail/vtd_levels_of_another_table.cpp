// SPDX-License-Identifier: BSL-1.0
// expect-gcc: invalid initialization of reference.*second_stage::format|no matching function|cannot convert
// expect-clang: format.* could not bind to an rvalue|no matching function|no viable conversion
// The unit must walk as many levels as the tables have; any other number gives a guest the host.
#include "pt/core/archetype.hpp"
#include "pt/paging/table.hpp"
#include "pt/vtd/translation.hpp"

using namespace pt;

using domain = paging::table<vtd::second_stage::format, archetype::table_memory>;

vtd::translation way_of(domain& guest, hpa root) {
#ifdef PT_FAIL
    return vtd::translation::second_stage(root, 4, 7);
#else
    return vtd::translation::second_stage(root, guest.format(), 7);
#endif
}
