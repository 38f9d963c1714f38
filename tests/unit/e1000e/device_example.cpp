// SPDX-License-Identifier: BSL-1.0
// The program pieces of docs/e1000e_device.md, compiled and run: a guest finds a NIC that does not
// exist, and sends and receives with it.
#include "emulated_nic.hpp"
#include "example_machine.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/e1000e/shadow_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/virtual_function_view.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

namespace {

namespace e1000e = pt::e1000e;
namespace pci = pt::pci;

using emulated_nic = example::emulated_nic<example::device_memory>;
using example::frame;

// ------------------------------------------------------------------------- of docs/e1000e_device.md

/// Configuration space as it is before a guest has written anything; the view keeps what it writes.
struct nic_config {
    std::uint32_t* dwords; // 64

    std::uint32_t read(pci::function_address, std::uint16_t offset, pt::width size) {
        const std::uint32_t dword = offset < 256 ? dwords[offset / 4] : 0;
        return dword >> 8 * (offset & 3) & pt::all_ones(size);
    }
    void write(pci::function_address, std::uint16_t offset, pt::width, std::uint32_t value) {
        if (offset == 0x10) {
            dwords[offset / 4] = value & 0xFFFE'0000; // BAR 0: 128 KiB of memory
        }
    }
};

/// What is behind BAR 0.
struct nic_registers {
    emulated_nic* nic;

    std::uint64_t read(std::uint8_t, std::uint64_t offset, pt::mmio_width size) {
        return size == pt::mmio_width::dword ? nic->read(static_cast<std::uint32_t>(offset)) : 0;
    }
    void write(std::uint8_t, std::uint64_t offset, pt::mmio_width size, std::uint64_t value) {
        if (size == pt::mmio_width::dword) {
            nic->write(static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(value));
        }
    }
};

// ------------------------------------------------------------------------------------------------

struct vmm {
    std::uint64_t mapped_at = 0;
    std::vector<std::uint32_t> messages;
};
struct events_of {
    vmm* here;
    pci::bar_place bar_changed(const pci::bar_change& change) {
        here->mapped_at = change.to.address();
        return change.to;
    }
    void power_state_changed(pci::power_state, pci::power_state) {}
    void reset() {}
};
struct route_of {
    vmm* here;
    void open(pci::interrupt_source, pci::interrupt_message) {}
    void close(pci::interrupt_source) {}
    void send(pci::interrupt_source, pci::interrupt_message message) {
        here->messages.push_back(message.data);
    }
    void use(pci::interrupt_kind, std::uint16_t) {}
    bool pending(pci::interrupt_source) { return false; }
};

using view_of_nic = pci::virtual_function_view<nic_config, events_of, route_of, nic_registers>;

/// The guest's loads and stores at BAR 0, each of them an exit.
struct guest_window {
    view_of_nic* view;
    std::uint32_t read32(std::uint32_t offset) {
        return static_cast<std::uint32_t>(view->read_memory(0, offset, pt::mmio_width::dword));
    }
    void write32(std::uint32_t offset, std::uint32_t value) {
        view->write_memory(0, offset, pt::mmio_width::dword, value);
    }
    std::uint64_t read64(std::uint32_t) { return ~std::uint64_t{0}; }
    void write64(std::uint32_t, std::uint64_t) {}
};
static_assert(pt::mmio_io<guest_window>);

} // namespace

TEST_CASE("docs/e1000e_device.md: a guest finds a NIC that does not exist, sends and receives",
          "[e1000e][example]") {
    const auto memory = std::make_unique<example::ram>();
    vmm here;
    events_of events{&here};
    route_of route{&here};
    const auto made = std::make_unique<emulated_nic>(example::device_memory{memory.get()});
    emulated_nic& nic = *made;

    std::uint32_t dwords[64] = {};
    dwords[0x00 / 4] = 0x10D3'8086; // 82574L
    dwords[0x04 / 4] = 0x0010'0000; // Status: it has capabilities
    dwords[0x08 / 4] = 0x0200'0000; // an Ethernet controller
    dwords[0x34 / 4] = 0x40;
    dwords[0x40 / 4] = 0x0080'0005; // MSI, 64-bit

    const pci::function_address nowhere{};
    view_of_nic view{nic_config{dwords}, nowhere, events, route, nic_registers{&nic}};
    REQUIRE(view.open(pci::size_bars(nic_config{dwords}, nowhere), nullptr, 0));

    example::wire send;
    const auto after_exit = [&] {
        const bool more = nic.work(send);
        if (nic.interrupts().take_message()) {
            static_cast<void>(view.request({pci::interrupt_kind::msi, 0}));
        }
        return more; // the VMM comes again, when it has seen to its other guests
    };

    // The guest's firmware: it sizes BAR 0 and gives it a place, allows memory decoding and DMA.
    view.write(0x10, pt::width::dword, 0xFFFF'FFFF);
    CHECK(view.read(0x10, pt::width::dword) == 0xFFFE'0000);
    view.write(0x10, pt::width::dword, 0xC000'0000);
    view.write(0x04, pt::width::word, 0x0006);
    CHECK(here.mapped_at == 0xC000'0000);
    // Its driver: MSI with vector 0x41, and TXDW enabled.
    view.write(0x44, pt::width::dword, 0xFEE0'0000);
    view.write(0x4C, pt::width::word, 0x41);
    view.write(0x42, pt::width::word, 0x0081);
    guest_window bar{&view};
    bar.write32(e1000e::ims::offset, e1000e::ims{e1000e::ims::txdw(true)}.raw);

    e1000e::tx_slot slots[8];
    e1000e::tx_ring ring{bar,
                         example::ring_memory{memory->bytes + 0x1000},
                         example::same_processor{},
                         pt::iova{0x1000},
                         slots,
                         8};
    REQUIRE(ring.start());
    std::memset(memory->bytes + 0x4000, 0x5A, 100);
    for (std::uint64_t cookie = 0; cookie != 20; ++cookie) {
        REQUIRE(ring.send({{pt::iova{0x4000}, 60}, {pt::iova{0x4000}, 40}}, cookie));
        CHECK_FALSE(after_exit());
        CHECK(here.messages.size() == cookie + 1);
        CHECK(here.messages.back() == 0x41);
        CHECK((bar.read32(e1000e::icr::offset) & 1) == 1);
        CHECK(ring.reclaim([&](std::uint64_t back) { CHECK(back == cookie); }) == 1);
    }
    CHECK(send.frames == std::vector<frame>(20, frame(100, 0x5A)));
}

namespace {

/// A guest of 16 pages, of which page n lies in the host's page 15 - n.
struct backwards {
    pt::result<pt::dma_piece> translate(pt::iova at, std::uint64_t size, pt::dma_access) {
        if (at.raw >= 0x10000) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        const std::uint64_t rest = 0x1000 - at.raw % 0x1000;
        return pt::dma_piece{pt::hpa{at.raw ^ 0xF000}, size < rest ? size : rest};
    }
};
static_assert(pt::dma_translation<backwards>);

/// What a device reaches at the guest's addresses.
struct translated {
    example::ram* host;

    template <class F>
    pt::result<> each(pt::iova at, std::size_t count, F copy) {
        while (count != 0) {
            const auto piece = backwards{}.translate(at, count, pt::dma_access::read);
            if (!piece) {
                return piece.error();
            }
            copy(host->bytes + piece->address.raw, static_cast<std::size_t>(piece->size));
            at += piece->size;
            count -= static_cast<std::size_t>(piece->size);
        }
        return {};
    }
    pt::result<> read(pt::iova at, std::uint8_t* to, std::size_t count) {
        return each(at, count, [&](const std::uint8_t* from, std::size_t size) {
            std::memcpy(to, from, size);
            to += size;
        });
    }
    pt::result<> write(pt::iova at, const std::uint8_t* from, std::size_t count) {
        return each(at, count, [&](std::uint8_t* to, std::size_t size) {
            std::memcpy(to, from, size);
            from += size;
        });
    }
};
static_assert(pt::bus_memory<translated>);

} // namespace

TEST_CASE("docs/e1000e_device.md: mediation, from a guest's ring to a real NIC that is none",
          "[e1000e][example]") {
    const auto host = std::make_unique<example::ram>();
    const auto nic = std::make_unique<emulated_nic>(example::device_memory{host.get()});
    example::register_window<emulated_nic> mmio{nic.get()};

    // The real ring is in the host's page 0, which is the guest's page 15 and not used by it.
    e1000e::tx_slot real_slots[64];
    e1000e::tx_ring real{
        mmio, example::ring_memory{host->bytes}, example::same_processor{}, pt::iova{0}, real_slots,
        64};
    REQUIRE(real.start());

    translated guest_memory{host.get()};
    backwards translation;
    e1000e::interrupt_registers interrupts;
    e1000e::tx_descriptor pieces[64];
    e1000e::shadow_slot shadow_slots[64];
    const e1000e::shadow_storage storage{
        .pieces = pieces, .piece_count = 64, .slots = shadow_slots, .slot_count = 64};
    e1000e::shadow_ring shadow{guest_memory, translation, real, storage};

    // The guest: its ring at 0x1000, that is in the host's page 14, and data that crosses a page.
    e1000e::tx_slot slots[8];
    example::register_window<decltype(shadow)> seen{&shadow};
    e1000e::tx_ring ring{seen,
                         example::ring_memory{host->bytes + 0xE000},
                         example::same_processor{},
                         pt::iova{0x1000},
                         slots,
                         8};
    REQUIRE(ring.start());
    frame whole(256);
    std::iota(whole.begin(), whole.end(), std::uint8_t{0});
    REQUIRE(guest_memory.write(pt::iova{0x4F80}, whole.data(), whole.size()));
    REQUIRE(ring.send({{pt::iova{0x4F80}, 256}}, 1));
    REQUIRE(ring.send({{pt::iova{0xF'4F80}, 256}}, 2)); // not the guest's
    REQUIRE(ring.send({{pt::iova{0x4F80}, 100}}, 3));

    example::wire wire;
    std::vector<std::uint64_t> back;
    for (int i = 0; i != 2; ++i) {
        const e1000e::shadow_step done = shadow.step();
        interrupts.raise(done.causes);
        CHECK(done.dropped == (i == 0 ? 1 : 0));
        while (nic->work(wire)) {}
        ring.reclaim([&](std::uint64_t cookie) { back.push_back(cookie); });
    }
    CHECK(back == std::vector<std::uint64_t>{1, 2, 3});
    CHECK((interrupts.read(e1000e::icr::offset) & 1) == 1);
    CHECK(wire.frames == std::vector<frame>{whole, frame(whole.begin(), whole.begin() + 100)});
}
