// SPDX-License-Identifier: BSL-1.0
// The example of docs/pci.md, the host's side, compiled; and a guest behind a filter.
#include "pt/core/archetype.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/port_config_access.hpp"

#include <cstdint>

namespace {

namespace pci = pt::pci;

/// The one function that the guest may see, and nothing else.
template <pci::config_access Config>
struct only {
    Config config;
    pci::function_address allowed;

    constexpr std::uint32_t read(pci::function_address asked, std::uint16_t offset,
                                 pt::width size) {
        return asked == allowed ? config.read(asked, offset, size) : pt::all_ones(size);
    }
    constexpr void write(pci::function_address asked, std::uint16_t offset, pt::width size,
                         std::uint32_t value) {
        if (asked == allowed) {
            config.write(asked, offset, size, value);
        }
    }
};

/// The host's side: finds the NIC, gives its BARs a place, and turns it on.
template <pt::port_io PortIo>
constexpr pt::result<pci::function_address> bring_up(PortIo ports, std::uint64_t free_memory,
                                                     std::uint64_t free_ports) {
    pci::port_config_access config{ports};
    for (const auto [nic, id] : pci::scan_bus(config, 0)) {
        if (id != pci::identity{0x10D3'8086}) {
            continue;
        }
        for (const auto& bar : pci::size_bars(config, nic)) {
            if (!bar) {
                return bar.error();
            }
            std::uint64_t& free = bar->kind == pci::bar_kind::io ? free_ports : free_memory;
            free = (free + bar->size - 1) & ~(bar->size - 1);
            if (const auto placed = pci::write_bar(config, nic, *bar, free); !placed) {
                return placed.error();
            }
            free += bar->size;
        }
        using pci::command;
        pci::write(config, nic,
                   pci::read<command>(config, nic)
                       .with(command::io_space(true), command::memory_space(true),
                             command::bus_master(true)));
        const auto msi_x = pci::capabilities(config, nic).find(pci::capability_id::msi_x);
        return msi_x ? pt::result{nic} : msi_x.error();
    }
    return pt::error{pt::errc::absent, 0x10D3'8086};
}

/// The guest's side: an OUT that left the guest.
template <pci::config_access Config>
constexpr void on_out(pci::config_ports<Config>& guest, pt::io_port port, pt::width size,
                      std::uint32_t value) {
    const pci::port_claim claim = guest.write(port, size, value);
    if (claim == pci::port_claim::part) { // the bus's pieces, byte by byte
        for (unsigned i = 0; i < pt::size_of(size); ++i) {
            on_out(guest, port + i, pt::width::byte, value >> 8 * i & 0xFF);
        }
    }
    // none: another device's; whole: done
}

constexpr bool nobody_at_home = [] {
    const auto nic = bring_up(pt::archetype::port_io{}, 0xC000'0000, 0xC000);
    pci::config_ports guest{only<pci::archetype::config_access>{{}, {0, 0, 5, 0}}};
    on_out(guest, pt::io_port{0xCF8}, pt::width::dword, 0x8000'2800);
    on_out(guest, pt::io_port{0xCFE}, pt::width::dword, 0);
    return !nic && guest.selected().raw == 0x8000'2800;
}();
static_assert(nobody_at_home);

} // namespace
