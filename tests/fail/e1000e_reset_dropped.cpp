// SPDX-License-Identifier: BSL-1.0
// expect-gcc: ignoring return(ed)? value.*(nodiscard)?
// expect-clang: ignoring return value of function declared with 'nodiscard'
// Whether a NIC was reset, and whether its DMA had ended before, is not to be passed over.
#include "pt/core/archetype.hpp"
#include "pt/e1000e/reset.hpp"

void restart() {
#ifdef PT_FAIL
    pt::e1000e::reset(pt::archetype::mmio_io{}, pt::archetype::clock{});
#else
    static_cast<void>(pt::e1000e::reset(pt::archetype::mmio_io{}, pt::archetype::clock{}));
#endif
}
