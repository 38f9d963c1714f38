// SPDX-License-Identifier: BSL-1.0
// The example of docs/view.md, compiled and run.
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/virtual_function_view.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

namespace pci = pt::pci;

constexpr pci::function_address nic{0, 5, 0, 0};

/// A device by hand: ids, one memory BAR of 64 KiB at 0xFEB0'0000, MSI-X with one vector in it.
struct hardware {
    std::uint32_t bar = 0xFEB0'0000;
    std::uint32_t command = 0x0002;

    constexpr std::uint32_t dword(std::uint16_t offset) const {
        switch (offset) {
        case 0x00: return 0x10D3'8086;
        case 0x04: return 0x0010'0000 | command;
        case 0x10: return bar;
        case 0x34: return 0x40;
        case 0x40: return 0x0000'0011; // MSI-X, table of 1
        case 0x44: return 0x0000'1000; // in BAR 0 at 0x1000
        case 0x48: return 0x0000'1800; // and the pending bits at 0x1800
        default: return 0;
        }
    }
};

struct config_of {
    hardware* device;

    constexpr std::uint32_t read(pci::function_address function, std::uint16_t offset,
                                 pt::width size) {
        if (function != nic) {
            return pt::all_ones(size);
        }
        const auto dword = static_cast<std::uint16_t>(offset & 0xFFC);
        return device->dword(dword) >> 8 * (offset & 3) & pt::all_ones(size);
    }
    constexpr void write(pci::function_address function, std::uint16_t offset, pt::width,
                         std::uint32_t value) {
        if (function == nic && offset == 0x10) {
            device->bar = value & 0xFFFF'0000;
        } else if (function == nic && offset == 0x04) {
            device->command = value & 0x0007;
        }
    }
};
static_assert(pci::config_access<config_of>);

/// What a VMM keeps: where the BAR is mapped, and what came last to the guest.
struct vmm {
    std::uint64_t mapped_at = 0;
    int moves = 0;
    std::uint32_t last_message = 0;
};

struct events_of {
    vmm* here;
    constexpr pci::bar_place bar_changed(const pci::bar_change& change) {
        here->mapped_at = change.to.address();
        ++here->moves;
        return change.to;
    }
    constexpr void power_state_changed(pci::power_state, pci::power_state) {}
    constexpr void reset() {}
};
struct route_of {
    vmm* here;
    constexpr void open(pci::interrupt_source, pci::interrupt_message) {}
    constexpr void close(pci::interrupt_source) {}
    constexpr void send(pci::interrupt_source, pci::interrupt_message message) {
        here->last_message = message.data;
    }
    constexpr void use(pci::interrupt_kind, std::uint16_t) {}
    constexpr bool pending(pci::interrupt_source) { return false; }
};

pt::result<std::uint32_t> give_to_guest() {
    hardware device;
    vmm here;
    config_of config{&device};
    events_of events{&here};
    route_of route{&here};
    pci::archetype::bar_memory memory;

    pci::virtual_function_view view{config, nic, events, route, memory};
    pci::msi_x_vector vectors[5];
    if (auto shown = view.open(pci::size_bars(config, nic), vectors, 5); !shown) {
        return shown.error();
    }
    pci::config_routes<8> routes;
    if (auto added = routes.add({0, 0, 3, 0}, view); !added) {
        return added.error();
    }
    pci::config_ports guest{pci::config_router{routes}};

    // The guest: sizes BAR 0, gives it a place, turns MSI-X on and writes its one vector.
    const auto select = [&](std::uint32_t offset) {
        guest.write(pt::io_port{0xCF8}, pt::width::dword, 0x8000'1800 | offset);
    };
    const auto out = [&](std::uint32_t offset, std::uint32_t value) {
        select(offset);
        guest.write(pt::io_port{0xCFC}, pt::width::dword, value);
    };
    const auto in = [&](std::uint32_t offset) {
        select(offset);
        return guest.read(pt::io_port{0xCFC}, pt::width::dword).value;
    };
    out(0x10, 0xFFFF'FFFF);
    const bool sized = in(0x10) == 0xFFFF'0000;
    out(0x10, 0xC000'0000);
    out(0x04, 0x0006);
    out(0x40, 0x8000'0011);
    const std::uint64_t table = view.place(0).address() + 0x1000;
    const auto store = [&](std::uint64_t address, std::uint32_t value) {
        view.write_memory(0, address - view.place(0).address(), pt::mmio_width::dword, value);
    };
    store(table, 0xFEE0'0000);
    store(table + 8, 0x41);
    store(table + 12, 0);

    // The device: its vector 0.
    const bool requested = view.request({pci::interrupt_kind::msi_x, 0}).has_value();
    const bool untouched = device.bar == 0xFEB0'0000;
    const bool mapped = here.mapped_at == 0xC000'0000 && here.moves == 1;
    return sized && requested && untouched && mapped ? here.last_message : 0;
}

} // namespace

TEST_CASE("docs/view.md: a NIC for a guest, from the first access to its interrupt",
          "[pci][view]") {
    CHECK(give_to_guest() == pt::result<std::uint32_t>{0x41U});
}
