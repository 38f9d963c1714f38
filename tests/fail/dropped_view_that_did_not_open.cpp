// SPDX-License-Identifier: BSL-1.0
// expect-gcc: ignoring return value of .*virtual_function_view<.*::open.*nodiscard
// expect-clang: ignoring return value of function declared with 'nodiscard'
#include "pt/pci/virtual_function_view.hpp"

namespace pci = pt::pci;

using view =
    pci::virtual_function_view<pci::archetype::config_access, pci::archetype::function_events,
                               pci::archetype::interrupt_route, pci::archetype::bar_memory>;

void show(view& function, const pci::bar_list& sized) {
#ifdef PT_FAIL
    function.open(sized, nullptr, 0);
#else
    if (!function.open(sized, nullptr, 0)) {
        return;
    }
#endif
}
