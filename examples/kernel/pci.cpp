// SPDX-License-Identifier: BSL-1.0
#include "pci.hpp"

#include "end.hpp"

#include "pt/pci/bar.hpp"
#include "pt/pci/header.hpp"

namespace kernel {

ecam_config ecam() {
    // PCIEXBAR of q35's host bridge: the window has 256 buses, and bit 0 turns it on.
    port_config ports = config();
    const std::uint32_t base = ports.read({}, 0x60, pt::width::dword);
    if ((base & 1) == 0) {
        give_up("firmware has not turned the window of configuration space on");
    }
    return ecam_config{mmio{pt::hpa{base & 0xF000'0000U}}};
}

pt::result<mmio> open_function(pt::pci::function_address function) {
    namespace pci = pt::pci;
    using pci::command;
    port_config access = config();
    for (const pt::result<pci::bar>& held : pci::read_bars(access, function)) {
        if (held && held->index == 0 && held->kind != pci::bar_kind::io && held->address != 0) {
            pci::write(access, function,
                       pci::read<command>(access, function)
                           .with(command::memory_space(true), command::bus_master(true)));
            return mmio{pt::hpa{held->address}};
        }
    }
    return pt::error{pt::errc::absent, function.source_id()};
}

} // namespace kernel
