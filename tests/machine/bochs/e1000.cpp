// SPDX-License-Identifier: BSL-1.0
#include "e1000.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"

namespace kernel {

pt::result<mmio> bring_up_e1000() {
    namespace pci = pt::pci;
    using pci::command;
    constexpr std::uint32_t identity_of_82540em = 0x100E'8086;
    port_config access = config();
    pci::function_address function{0, 0, 0, 0};
    unsigned found = 0;
    for (const pci::found_function& each : pci::scan_bus(access, 0)) {
        if (each.id.raw == identity_of_82540em) {
            function = each.address;
            ++found;
        }
    }
    if (!check_equal("the network controller is found, once", found, 1)) {
        return pt::error{pt::errc::absent};
    }

    const auto sized = pci::size_bar(access, function, 0);
    if (!check("its first BAR is sized", sized)) {
        return sized.error();
    }
    check_equal("it has 128 KiB of registers", sized->size, 128 * pt::KiB);
    check("which firmware has put elsewhere", sized->address != e1000_place.raw);
    const auto placed = pci::write_bar(access, function, *sized, e1000_place.raw);
    if (!check("they move", placed)) {
        return placed.error();
    }
    pci::write(access, function,
               pci::read<command>(access, function)
                   .with(command::memory_space(true), command::bus_master(true)));

    mmio registers{e1000_place};
    constexpr auto pci_member = pt::e1000e::family::pci;
    const auto reset = pt::e1000e::reset(registers, clock{}, pci_member);
    if (!check("it is reset", reset)) {
        return reset.error();
    }
    check("its link is set up", pt::e1000e::set_link_up(registers));
    using pt::e1000e::pba;
    const pba memory = pt::read<pba>(registers);
    check("of its own memory the transmitter has 16 KiB, the receiver 48",
          memory[pba::txa] == 16 && memory[pba::rxa] == 48);
    return registers;
}

} // namespace kernel
