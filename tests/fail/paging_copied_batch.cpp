// SPDX-License-Identifier: BSL-1.0
// expect-gcc: use of deleted function .*flush_batch
// expect-clang: call to deleted constructor of .*flush_batch
// A copy of a batch would give the same frames back twice.
#include "pt/core/archetype.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

using batch = pt::paging::flush_batch<pt::ept::format, pt::archetype::table_memory>;

bool settled(batch& owed) {
#ifdef PT_FAIL
    const batch all = owed;
#else
    const batch& all = owed;
#endif
    return all.empty();
}
