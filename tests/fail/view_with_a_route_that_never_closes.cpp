// SPDX-License-Identifier: BSL-1.0
// expect-gcc: route\.close\(source\).* is invalid
// expect-clang: 'route\.close\(source\)' would be invalid
#include "pt/pci/virtual_function_view.hpp"

#include <cstdint>

namespace pci = pt::pci;

struct route {
    constexpr void open(pci::interrupt_source, pci::interrupt_message) {}
#ifdef PT_FAIL
    // close is forgotten
#else
    constexpr void close(pci::interrupt_source) {}
#endif
    constexpr void send(pci::interrupt_source, pci::interrupt_message) {}
    constexpr void use(pci::interrupt_kind, std::uint16_t) {}
    constexpr bool pending(pci::interrupt_source) { return false; }
};

using view =
    pci::virtual_function_view<pci::archetype::config_access, pci::archetype::function_events,
                               route, pci::archetype::bar_memory>;
view* shown = nullptr;
