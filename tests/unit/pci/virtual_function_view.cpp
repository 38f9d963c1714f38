// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/virtual_function_view.hpp"

#include "pt/pci/bit_permissions.hpp"
#include "pt/pci/shown_capabilities.hpp"
#include "pt/pci/sr_iov.hpp"

#include "view_fixture.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

using namespace view_fixture;
using pt::pci::capability_id;
using pt::pci::extended_capability_id;
using pt::pci::shown_capabilities;
using pt::pci::view_options;

namespace {

constexpr auto intx = interrupt_kind::intx;
constexpr auto msi = interrupt_kind::msi;
constexpr auto msi_x = interrupt_kind::msi_x;

constexpr happening wire_opens = opens(intx, 0, 0, 0);
constexpr happening wire_closes = closes(intx, 0);

/// The standard list as a guest walks it, by the rules of [pci] and by nothing of pt: (id, offset).
std::vector<std::pair<unsigned, unsigned>> walk(world& w) {
    std::vector<std::pair<unsigned, unsigned>> found;
    if ((w.r16(0x06) & 0x10) == 0) {
        return found;
    }
    for (unsigned at = w.r8(0x34); at != 0 && found.size() < 64; at = w.r8(at + 1)) {
        found.emplace_back(w.r8(at), at);
    }
    return found;
}

/// The extended list, likewise [pcie]. A first entry of the null capability is none.
std::vector<std::pair<unsigned, unsigned>> walk_extended(world& w) {
    std::vector<std::pair<unsigned, unsigned>> found;
    std::uint32_t header = w.r32(0x100);
    for (unsigned at = 0x100; header != 0 && header != 0xFFFF'FFFF && found.size() < 1024;) {
        if ((header & 0xFFFF) != 0) {
            found.emplace_back(header & 0xFFFF, at);
        }
        at = header >> 20;
        header = at < 0x100 ? 0 : w.r32(at);
    }
    return found;
}

/// Whether the device saw only writes to Command, in which the host's decoding stayed on.
bool only_bus_mastering(world& w) {
    bool good = !w.machine.out_of_bounds && w.machine.event_count <= 256;
    for (std::size_t n = 0; n < w.machine.writes(); ++n) {
        const pci_fake::event each = w.machine.write(n);
        good = good && each.offset == 4 && (each.value & 0xFFFB) == 0x0003;
    }
    w.machine.event_count = 0;
    return good;
}

/// A device with extended capabilities: error reporting, serial number, SR-IOV, vendor-specific.
void extend(world& w) {
    w.device.put(0x100, 4, 0x1402'0001);
    w.device.put(0x104, 4, 0xAAAA'AAAA);
    w.device.put(0x140, 4, 0x1501'0003);
    w.device.put(0x144, 8, 0x0011'2233'4455'6677);
    w.device.put(0x150, 4, 0x1A01'0010);
    w.device.put(0x154, 4, 0xBBBB'BBBB);
    w.device.put(0x1A0, 4, 0x0001'000B);
    w.device.put(0x1A4, 4, 0x0102'0304);
    w.device.put(0x1F0, 4, 0xCCCC'CCCC);
    for (unsigned at = 0x100; at < 0x1000; at += 4) {
        w.device.allow(at, 4, 0xFFFF'FFFF);
    }
}

} // namespace

// ------------------------------------------------------------------------------ open and close

TEST_CASE("until it is open, and after it is closed, the function is absent", "[pci][rule 3]") {
    world w;
    const auto absent = [&] {
        w.w32(0x10, 0);
        w.w16(0x04, 7);
        w.view.write_memory(3, 0, mmio_width::dword, 1);
        w.view.settle();
        w.view.reset();
        return w.r32(0) == 0xFFFF'FFFF && w.r16(4) == 0xFFFF && w.r8(0xFFF) == 0xFF &&
               w.view.read_memory(3, 0, mmio_width::qword) == ~std::uint64_t{0} &&
               !w.view.place(0) && !w.view.permit(0x90, {}) && w.device_saw_nothing() &&
               w.host.told.was({});
    };
    REQUIRE(absent());
    REQUIRE(w.view.request({intx, 0}).error() == error{errc::refused, 0});
    w.view.close(); // of nothing
    REQUIRE(absent());
    REQUIRE(w.opened());
    REQUIRE(w.r32(0) == 0x10D3'8086);
    w.view.close();
    REQUIRE(w.host.told.was({wire_closes}));
    REQUIRE(absent());
    REQUIRE(w.view.request({msi_x, 0}).error() == error{errc::refused, 0});
}

TEST_CASE("opening turns off bus mastering, and nothing else of the device", "[pci]") {
    world w;
    w.device.put(0x06, 2, 0xF910); // errors that somebody else is to see
    REQUIRE(w.open());
    REQUIRE(w.device.get(4, 4) == 0xF910'0003);
    REQUIRE(w.host.told.was({wire_opens}));
    w.machine.event_count = 0;
    w.view.close();
    REQUIRE(w.device_saw_nothing()); // it is off already
}

TEST_CASE("a guest finds the power-on state, whatever the host has set", "[pci]") {
    world w;
    w.device.put(power_at + 4, 2, 0x0103);
    w.device.put(msi_at + 2, 2, 0x01A5);
    w.device.put(msi_at + 4, 4, 0xFEE0'0000);
    w.device.put(msi_at + 16, 4, 0xFFFF'FFFF);
    w.device.put(msi_x_at + 2, 2, 0x8004);
    REQUIRE(w.opened());
    REQUIRE(w.r16(0x04) == 0);
    REQUIRE(w.r32(0x10) == 0x0000'000C);
    REQUIRE(w.r32(0x14) == 0);
    REQUIRE(w.r32(0x18) == 1);
    REQUIRE(w.r32(0x1C) == 0);
    REQUIRE(w.r32(0x20) == 2);
    REQUIRE(w.r32(0x24) == 0);
    REQUIRE(w.r32(0x30) == 0);
    REQUIRE(w.r8(0x3C) == 0);
    REQUIRE(w.r16(power_at + 4) == 0);
    REQUIRE(w.r16(msi_at + 2) == 0x0184);
    for (unsigned at = 4; at < 24; at += 4) {
        REQUIRE(w.r32(msi_at + at) == 0);
    }
    REQUIRE(w.r16(msi_x_at + 2) == 0x0004);
}

TEST_CASE("what open refuses: nobody there, no endpoint, broken BARs", "[pci][rule 6]") {
    const auto refused = [](auto&& spoil, error why, const pt::pci::bar_list& sized) {
        world w;
        spoil(w);
        const auto opened = w.open({}, sized);
        return !opened && opened.error() == why && w.r32(0) == 0xFFFF'FFFF &&
               w.device_saw_nothing() && w.host.told.was({});
    };
    const auto as_it_is = [](world&) {};
    const auto usual = world::usual_bars();
    REQUIRE(refused([](world& w) { w.machine.function_count = 0; }, {errc::absent, 0}, usual));
    REQUIRE(refused([](world& w) { w.device.put(0, 4, 0x10D3'FFFF); }, {errc::absent, 0}, usual));
    REQUIRE(
        refused([](world& w) { w.device.put(0x0E, 1, 0x81); }, {errc::not_supported, 1}, usual));
    REQUIRE(
        refused([](world& w) { w.device.put(0x0E, 1, 0x7F); }, {errc::not_supported, 0x7F}, usual));
    REQUIRE(refused(as_it_is, {errc::malformed, 0x10},
                    bars({pt::result<bar>{error{errc::malformed, 0x10}},
                          bar_of_kind(3, bar_kind::mem32, 0x4000)})));
    REQUIRE(refused(
        as_it_is, {errc::out_of_range, 0x10},
        bars({bar_of_kind(0, bar_kind::mem32, 0), bar_of_kind(3, bar_kind::mem32, 0x4000)})));
}

TEST_CASE("an MSI-X that does not lie inside a memory BAR is refused", "[pci][rule 7]") {
    const auto opens_with = [](unsigned size, std::uint32_t table, std::uint32_t pending) {
        world w;
        w.msi_x(size, table, pending);
        const auto opened = w.open();
        const bool clean =
            opened || (w.r32(0) == 0xFFFF'FFFF && w.device_saw_nothing() && w.host.told.was({}));
        REQUIRE(clean);
        return opened.has_value();
    };
    REQUIRE(opens_with(4, 0x0000'0003, 0x0000'2003));
    REQUIRE(opens_with(4, 0x0000'3FB3, 0x0000'3FA3));       // the last 80 bytes
    REQUIRE(opens_with(0, 0x0000'0FF4, 0x0000'3FFB));       // the last of another one
    REQUIRE_FALSE(opens_with(4, 0x0000'3FBB, 0x0000'2003)); // one qword too far
    REQUIRE_FALSE(opens_with(4, 0x0000'0003, 0x0000'4003));
    REQUIRE_FALSE(opens_with(4, 0xFFFF'FFFB, 0x0000'2003));
    REQUIRE_FALSE(opens_with(0x7FF, 0x0000'0003, 0x0000'2003)); // 32 KiB of table
    REQUIRE_FALSE(opens_with(4, 0x0000'0002, 0x0000'2003));     // ports
    REQUIRE_FALSE(opens_with(4, 0x0000'0001, 0x0000'2003));     // an upper half
    REQUIRE_FALSE(opens_with(4, 0x0000'0003, 0x0000'2005));     // absent
    REQUIRE_FALSE(opens_with(4, 0x0000'0006, 0x0000'2003));     // reserved
    REQUIRE_FALSE(opens_with(4, 0x0000'0003, 0x0000'2007));
}

TEST_CASE("closed and opened again, a view starts over", "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x1C, 0xC000'0000);
    w.w16(0x04, 0x0407);
    w.w32(0x2C, 0);
    w.host.told.count = 0;
    w.view.close();
    REQUIRE(w.host.told.was({bar_moves(3, 0xC000'0000, nowhere)}));
    REQUIRE(w.device.get(4, 2) == 0x0003);
    w.device.put(0x2C, 4, 0x5555'8086);
    // With other BARs this time, and fewer vectors.
    w.msi_x(4, 0x0000'0000, 0x0000'2000);
    REQUIRE(w.open({}, bars({bar_of_kind(0, bar_kind::mem32, 0x4000)}), 2));
    REQUIRE(w.host.told.was({wire_opens}));
    REQUIRE(w.r32(0x2C) == 0x5555'8086);
    REQUIRE(w.r16(0x04) == 0);
    REQUIRE(w.r32(0x10) == 0);
    w.w32(0x1C, 0xFFFF'FFFF);
    REQUIRE(w.r32(0x1C) == 0);
    REQUIRE(w.r16(msi_x_at + 2) == 1);
}

// ----------------------------------------------------------------------------------- the header

TEST_CASE("what is no single configuration access, or beyond the space, reads all ones",
          "[pci][rule 2]") {
    world w;
    REQUIRE(w.opened());
    REQUIRE(w.r16(3) == 0xFFFF);
    REQUIRE(w.r32(2) == 0xFFFF'FFFF);
    REQUIRE(w.r32(0xFFF) == 0xFFFF'FFFF);
    REQUIRE(w.r8(0x1000) == 0xFF);
    REQUIRE(w.r32(0xFFFC) == 0xFFFF'FFFF);
    w.w32(0x3A, 0xFFFF'FFFF);
    w.w32(0x3E, 0xFFFF'FFFF);
    REQUIRE(w.r8(0x3C) == 0);
    REQUIRE(w.r16(0x2D) == 0x1F80); // one access, in the middle of a dword
    REQUIRE(w.r32(0xFFC) == 0);     // PCI Express: 4096 bytes
    REQUIRE(w.device_saw_nothing());

    world conventional;
    conventional.capability(vendor_at, 0x09, 0);
    REQUIRE(conventional.opened());
    REQUIRE(conventional.r32(0xFC) == 0);
    REQUIRE(conventional.r8(0x100) == 0xFF);
    conventional.w32(0x100, 0);
    REQUIRE(conventional.device_saw_nothing());
}

TEST_CASE("the header's constants are the device's, and nobody writes them", "[pci]") {
    world w;
    w.device.put(0x0E, 2, 0xC080); // multi-function in the host; capable of self test
    w.device.allow(0x0F, 1, 0x40);
    w.device.put(0x28, 4, 0x1234'5678);
    w.device.put(0x34, 4, 0x9988'7700U | power_at);
    w.device.put(0x38, 4, 0xFFFF'FFFF);
    w.device.put(0x3E, 2, 0x0804);
    REQUIRE(w.opened());
    for (int time = 0; time < 2; ++time) {
        REQUIRE(w.r32(0x00) == 0x10D3'8086);
        REQUIRE(w.r32(0x08) == 0x0200'0001);
        REQUIRE(w.r16(0x0E) == 0); // neither of the two
        REQUIRE(w.r32(0x28) == 0x1234'5678);
        REQUIRE(w.r32(0x2C) == 0xA01F'8086);
        REQUIRE(w.r32(0x34) == power_at);
        REQUIRE(w.r32(0x38) == 0);
        REQUIRE(w.r8(0x3D) == 1);
        REQUIRE(w.r16(0x3E) == 0x0804);
        for (const unsigned at : {0x00U, 0x08U, 0x28U, 0x2CU, 0x34U, 0x38U}) {
            w.w32(at, 0xFFFF'FFFF);
            w.w32(at, 0);
        }
        w.w8(0x0F, 0x40);
        w.w8(0x0E, 0xFF);
        w.w8(0x3D, 0xFF);
        w.w16(0x3E, 0xFFFF);
        REQUIRE(w.device_saw_nothing());
    }
}

TEST_CASE("a view says who it is and whether there are others, as the VMM wants it", "[pci]") {
    world w;
    w.device.put(0, 4, 0xFFFF'FFFF); // as a virtual function of SR-IOV has it
    REQUIRE(w.open().error() == error{errc::absent, 0});
    view_options options;
    options.shown_as = pt::pci::identity{0x10ED'8086};
    options.multi_function = true;
    REQUIRE(w.opened(options));
    REQUIRE(w.r32(0) == 0x10ED'8086);
    REQUIRE(w.r8(0x0E) == 0x80);
    REQUIRE(w.r32(0x0C) == 0x0080'0000);
}

TEST_CASE("a virtual function of SR-IOV has its BARs from its physical function", "[pci]") {
    world w;
    w.device.put(0, 4, 0xFFFF'FFFF); // as [pcie] wants it of a VF: no ids, no BARs, no wire, and
    w.device.put(4, 2, 0x0000);      // of Command only bus mastering
    w.device.allow(4, 2, 0x0004);
    w.device.put(0x3D, 1, 0);
    for (unsigned at = 0x10; at < 0x34; at += 4) {
        w.device.bar(at, 0, 0);
    }
    // What the physical function's capability, at 0x160, says of all of them: here is number 5.
    bar first = bar_of_kind(0, bar_kind::mem64, 0x4000, true);
    first.offset = 0x184;
    first.address = 0x8'0000'0000;
    bar second = bar_of_kind(3, bar_kind::mem64, 0x4000, true);
    second.offset = 0x190;
    second.address = 0x8'1000'0000;
    const auto of_all = bars({first, second});
    const auto own = [&](std::uint8_t index) {
        const auto found = of_all.find(index);
        return found ? pt::pci::bar_of_vf(*found, 5) : found;
    };
    view_options options;
    options.shown_as = pt::pci::identity{0x10CA'8086};
    REQUIRE(
        w.opened(options, pt::pci::bar_list::collect(pt::pci::header_layout::device, own, own)));
    w.w32(0x10, 0xFFFF'FFFF);
    w.w32(0x14, 0xFFFF'FFFF);
    REQUIRE(w.r32(0x10) == 0xFFFF'C00C);
    REQUIRE(w.r32(0x14) == 0xFFFF'FFFF);
    w.w32(0x10, 0xC000'0000);
    w.w32(0x14, 0);
    w.w32(0x1C, 0xC100'0000);
    w.w32(0x20, 0);
    w.w16(0x04, 0x0006);
    REQUIRE(w.r16(0x04) == 0x0006); // a VF's own register has no Memory Space
    REQUIRE(
        w.host.told.was({bar_moves(0, nowhere, 0xC000'0000), bar_moves(3, nowhere, 0xC100'0000)}));
    REQUIRE(w.host.last_bar.address == 0x8'1001'4000);
    REQUIRE(w.device.get(0x04, 2) == 0x0004);
    // Its MSI-X lies in BAR 3, as its own capability says.
    w.view.write_memory(3, 0, mmio_width::dword, 0xFEE0'0000);
    REQUIRE(w.view.read_memory(3, 0, mmio_width::dword) == 0xFEE0'0000);
    REQUIRE(w.host.told.was({}));
}

TEST_CASE("Command: decoding is the view's, bus mastering the device's", "[pci][rule 5]") {
    world w;
    REQUIRE(w.opened());
    w.w16(0x04, 0xFFFF);
    REQUIRE(w.device_saw({device_write(0x04, 2, 0x0003 | 0x0014)}));
    // Not special cycles, palette snoop, fast back-to-back, nor what is reserved. And no Memory
    // Write and Invalidate: what this device does not take, the guest does not read.
    REQUIRE(w.r16(0x04) == 0x0547);
    w.machine.event_count = 0;
    w.w8(0x04, 0x00);
    REQUIRE(w.device_saw({device_write(0x04, 1, 0x03)}));
    w.w8(0x05, 0x00); // SERR# and interrupts are not the device's
    w.w16(0x05, 0x0000);
    REQUIRE(w.device_saw_nothing());
    REQUIRE(w.r16(0x04) == 0);
    REQUIRE(w.device.get(4, 2) == 0x0003);
}

TEST_CASE("a write to Command clears no error, one to Status only those whose 1 was written",
          "[pci][rule 5]") {
    world w;
    w.device.put(0x06, 2, 0xF938);
    REQUIRE(w.opened());
    REQUIRE(w.r16(0x06) == 0xF938);
    w.w32(0x04, 0x0000'0004); // a dword that spans both
    REQUIRE(w.device_saw({device_write(0x04, 4, 0x0038'0007)}));
    REQUIRE(w.device.get(0x06, 2) == 0xF938);
    w.w8(0x07, 0x20);
    REQUIRE(w.device_saw({device_write(0x07, 1, 0x20)}));
    REQUIRE(w.r16(0x06) == 0xD938);
    w.w8(0x06, 0xFF); // nothing there can be written
    REQUIRE(w.device_saw_nothing());
    w.w32(0x04, 0x8100'0004);
    REQUIRE(w.device.get(0x06, 2) == 0x5838);
    w.machine.event_count = 0;
    w.w16(0x06, 0xFFFF);
    REQUIRE(w.device_saw({device_write(0x06, 2, 0xF938)}));
    REQUIRE(w.r16(0x06) == 0x0038);
    // It is the device that knows whether it requests an interrupt.
    w.device.put(0x06, 2, 0x0010);
    REQUIRE(w.r16(0x06) == 0x0030); // what it is capable of is constant
}

TEST_CASE("the line register is the view's, cache line and latency the device's", "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x3C, 0xFFFF'FF0A);
    REQUIRE(w.r32(0x3C) == 0x0000'010A);
    REQUIRE(w.device_saw_nothing());
    w.w8(0x0C, 0x10);
    w.w8(0x0D, 0x40);
    REQUIRE(w.device_saw({device_write(0x0C, 1, 0x10), device_write(0x0D, 1, 0x40)}));
    REQUIRE(w.r32(0x0C) == 0x0000'4010);
}

// ------------------------------------------------------------------------------------- the BARs

TEST_CASE("Linux sizes with decoding off, restores, and turns it on", "[pci][rule 6]") {
    world w;
    REQUIRE(w.opened());
    const auto size = [&](unsigned at, std::uint32_t ones) {
        const std::uint32_t before = w.r32(at);
        w.w32(at, ones);
        const std::uint32_t read = w.r32(at);
        w.w32(at, before);
        return read;
    };
    for (int time = 0; time < 2; ++time) { // at boot, and again when the BARs are placed
        const std::uint32_t command = w.r16(0x04);
        w.w16(0x04, command & ~3U);
        if (time == 1) {
            REQUIRE(w.host.told.was({bar_moves(0, 0x10'E000'0000, nowhere),
                                     bar_moves(2, 0xC000, nowhere),
                                     bar_moves(3, 0xC000'0000, nowhere)}));
        }
        REQUIRE(size(0x10, 0xFFFF'FFFF) == 0xFFFF'C00C);
        REQUIRE(size(0x14, 0xFFFF'FFFF) == 0xFFFF'FFFF);
        REQUIRE(size(0x18, 0xFFFF'FFFF) == 0xFFFF'FFE1);
        REQUIRE(size(0x1C, 0xFFFF'FFFF) == 0xFFFF'C000);
        REQUIRE(size(0x20, 0xFFFF'FFFF) == 0x000F'F002);
        REQUIRE(size(0x24, 0xFFFF'FFFF) == 0);
        REQUIRE(size(0x30, 0xFFFF'F800) == 0xFFFF'0000);
        REQUIRE(w.host.told.was({}));
        w.w16(0x04, command);
        if (time == 0) {
            REQUIRE(w.host.told.was({}));
            w.w32(0x10, 0xE000'0000);
            w.w32(0x14, 0x0000'0010);
            w.w32(0x18, 0x0000'C000);
            w.w32(0x1C, 0xC000'0000);
            w.w16(0x04, 0x0007);
        }
        REQUIRE(
            w.host.told.was({bar_moves(0, nowhere, 0x10'E000'0000), bar_moves(2, nowhere, 0xC000),
                             bar_moves(3, nowhere, 0xC000'0000)}));
    }
    REQUIRE(w.view.place(0).address() == 0x10'E000'0000);
    REQUIRE_FALSE(w.view.place(1));
    REQUIRE_FALSE(w.view.place(4));
    REQUIRE_FALSE(w.view.place(7));
    REQUIRE_FALSE(w.view.place(255));
    REQUIRE(only_bus_mastering(w));
}

TEST_CASE("old firmware sizes with decoding on, and nothing moves", "[pci][rule 6]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x10, 0xE000'0000);
    w.w32(0x18, 0x0000'C000);
    w.w32(0x1C, 0xC000'0000);
    w.w32(0x20, 0x000D'0000);
    w.w16(0x04, 0x0003);
    w.host.told.count = 0;
    for (const unsigned at : {0x10U, 0x14U, 0x18U, 0x1CU, 0x20U, 0x24U}) {
        const std::uint32_t before = w.r32(at);
        w.w32(at, 0xFFFF'FFFF);
        REQUIRE(w.r32(at) != before + (at == 0x24 ? 1 : 0));
        w.w32(at, before);
        REQUIRE(w.r32(at) == before);
    }
    w.w32(0x10, 0xFFFF'FFFF); // both halves, then both back
    w.w32(0x14, 0xFFFF'FFFF);
    REQUIRE(w.r32(0x10) == 0xFFFF'C00C);
    REQUIRE(w.r32(0x14) == 0xFFFF'FFFF);
    REQUIRE(w.r16(0x04) == 0x0003); // a read of something else meanwhile
    w.w32(0x10, 0xE000'0000);
    w.w32(0x14, 0x0000'0000);
    REQUIRE(w.r16(0x04) == 0x0003);
    REQUIRE(w.host.told.was({}));
    REQUIRE(only_bus_mastering(w));
}

TEST_CASE("a half-written mem64 waits for its other half, for another access, or for settle",
          "[pci][rule 6]") {
    world w;
    REQUIRE(w.opened());
    w.w16(0x04, 0x0002);
    w.w32(0x10, 0xE000'0000);
    REQUIRE(w.r32(0x10) == 0xE000'000C); // to look at what was written is no other access
    REQUIRE(w.r32(0x14) == 0);
    REQUIRE(w.host.told.was({}));
    w.w32(0x14, 0x10);
    REQUIRE(w.host.told.was({bar_moves(0, nowhere, 0x10'E000'0000)}));
    w.w32(0x10, 0xD000'0000);
    REQUIRE(w.r32(0x00) == 0x10D3'8086); // the guest is somewhere else
    REQUIRE(w.host.told.was({bar_moves(0, 0x10'E000'0000, 0x10'D000'0000)}));
    w.w32(0x14, 0x11);
    w.w32(0x1C, 0xC000'0000);
    REQUIRE(w.host.told.was(
        {bar_moves(0, 0x10'D000'0000, 0x11'D000'0000), bar_moves(3, nowhere, 0xC000'0000)}));
    w.w32(0x14, 0x12);
    REQUIRE(w.host.told.was({}));
    w.view.settle();
    REQUIRE(w.host.told.was({bar_moves(0, 0x11'D000'0000, 0x12'D000'0000)}));
    w.w32(0x10, 0xE000'0000);
    w.w16(0x04, 0x0000);
    w.w32(0x14, 0x20);
    w.w16(0x04, 0x0002);
    // The half is settled before decoding goes, and that is the last of it.
    REQUIRE(w.host.told.was(
        {bar_moves(0, 0x12'D000'0000, 0x12'E000'0000), bar_moves(0, 0x12'E000'0000, nowhere),
         bar_moves(3, 0xC000'0000, nowhere), bar_moves(0, nowhere, 0x20'E000'0000),
         bar_moves(3, nowhere, 0xC000'0000)}));
    REQUIRE(only_bus_mastering(w));
}

TEST_CASE("bytes and words move a BAR as they arrive", "[pci][rule 5]") {
    world w;
    REQUIRE(w.opened());
    w.w16(0x1C, 0x1234);
    w.w16(0x1E, 0xC000);
    REQUIRE(w.r32(0x1C) == 0xC000'0000);
    w.w8(0x1F, 0xD0);
    w.w8(0x19, 0xC0);
    REQUIRE(w.r16(0x1E) == 0xD000);
    w.w8(0x04, 0x03);
    REQUIRE(w.host.told.was({bar_moves(2, nowhere, 0xC000), bar_moves(3, nowhere, 0xD000'0000)}));
    w.w16(0x1E, 0xE000);
    REQUIRE(w.host.told.was({bar_moves(3, 0xD000'0000, 0xE000'0000)}));
    w.w8(0x05, 0x04); // not the byte with the decode bits
    REQUIRE(w.host.told.was({wire_closes}));
}

TEST_CASE("what the VMM refuses to map is nowhere, and the next change says so", "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x1C, 0xFEE0'0000); // on the local APIC
    w.host.refuses = true;
    w.w16(0x04, 0x0002);
    REQUIRE(w.host.told.was({bar_moves(3, nowhere, 0xFEE0'0000)}));
    REQUIRE_FALSE(w.view.place(3));
    REQUIRE(w.r32(0x1C) == 0xFEE0'0000);
    w.host.refuses = false;
    w.w32(0x1C, 0xC000'0000);
    REQUIRE(w.host.told.was({bar_moves(3, nowhere, 0xC000'0000)}));
    REQUIRE(w.view.place(3).address() == 0xC000'0000);
}

TEST_CASE("retry_bars asks for what the VMM could not do before, also of a view that was closed",
          "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x1C, 0xC000'0000);
    w.host.refuses = true;
    w.w16(0x04, 0x0402);
    w.host.refuses = false;
    w.host.told.count = 0;
    w.view.retry_bars();
    REQUIRE(w.host.told.was({bar_moves(3, nowhere, 0xC000'0000)}));
    REQUIRE(w.view.place(3).address() == 0xC000'0000);
    w.host.is_stuck = true; // the VMM cannot take it away
    w.view.close();
    REQUIRE(w.host.told.was({bar_moves(3, 0xC000'0000, nowhere)}));
    w.host.is_stuck = false;
    w.view.retry_bars();
    REQUIRE(w.host.told.was({bar_moves(3, 0xC000'0000, nowhere)}));
}

TEST_CASE("a script of sizing and moving holds at compile time too", "[pci][rule 6]") {
    constexpr auto holds = [] {
        world w;
        bool good = w.opened();
        w.w32(0x10, 0xFFFF'FFFF);
        w.w32(0x14, 0xFFFF'FFFF);
        good &= w.r32(0x10) == 0xFFFF'C00C && w.r32(0x14) == 0xFFFF'FFFF;
        w.w32(0x14, 0x1);
        w.w32(0x10, 0x8000'0000);
        good &= w.host.told.was({});
        w.w16(0x04, 0x0402);
        good &= w.host.told.was({bar_moves(0, nowhere, 0x1'8000'0000), wire_closes});
        good &= w.r8(0x34) == power_at && w.r16(msi_at) == (msi_x_at << 8 | 0x05);
        return good && w.device_saw({device_write(0x04, 2, 0x0003)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

// ---------------------------------------------------------------------------------- capabilities

TEST_CASE("hidden capabilities are in no list, read 0, and take no write", "[pci][rule 4]") {
    world w;
    w.device.put(vpd_at + 4, 4, 0x4444'4444);
    REQUIRE(w.opened());
    using list = std::vector<std::pair<unsigned, unsigned>>;
    REQUIRE(walk(w) == list{{0x01, power_at},
                            {0x05, msi_at},
                            {0x11, msi_x_at},
                            {0x09, vendor_at},
                            {0x10, express_at}});
    REQUIRE(w.r32(vpd_at) == 0);
    REQUIRE(w.r32(vpd_at + 4) == 0);
    w.w32(vpd_at, 0x8000'0000);
    w.w16(vpd_at + 2, 0x8000);
    w.w32(vpd_at + 4, 0x1234'5678);
    REQUIRE(w.device_saw_nothing());

    view_options options;
    options.shown = shown_capabilities{}
                        .without(capability_id::power_management)
                        .without(capability_id::pci_express)
                        .without(capability_id::msi)
                        .with(capability_id::vital_product_data);
    w.view.close();
    REQUIRE(w.opened(options));
    REQUIRE(walk(w) == list{{0x03, vpd_at}, {0x11, msi_x_at}, {0x09, vendor_at}});
    REQUIRE(w.r32(power_at) == 0);
    REQUIRE(w.r32(msi_at) == 0);
    REQUIRE(w.r32(express_at + 4) == 0);
    REQUIRE(w.r32(vpd_at + 4) == 0x4444'4444); // readable
    w.w32(vpd_at, 0x8000'0000);                // and no more than that
    w.w16(msi_at + 2, 1);
    w.w16(power_at + 4, 3);
    w.w16(express_at + 8, 0xFFFF);
    REQUIRE(w.device_saw_nothing());
    REQUIRE(w.host.told.was({}));

    options.shown = shown_capabilities{}
                        .without(capability_id::power_management)
                        .without(capability_id::pci_express)
                        .without(capability_id::msi)
                        .without(capability_id::msi_x)
                        .without(capability_id::vendor_specific);
    w.view.close();
    REQUIRE(w.opened(options));
    REQUIRE(walk(w).empty());
    REQUIRE(w.r8(0x34) == 0);
    REQUIRE((w.r16(0x06) & 0x10) == 0);
}

TEST_CASE("vendor-specific registers are read, and written by nobody", "[pci]") {
    world w;
    REQUIRE(w.opened());
    REQUIRE(w.r32(vendor_at) == (0x0008'0009 | express_at << 8));
    REQUIRE(w.r32(vendor_at + 4) == 0x1122'3344);
    w.device.put(vendor_at + 4, 4, 0x99); // alive
    REQUIRE(w.r16(vendor_at + 4) == 0x99);
    w.machine.event_count = 0;
    w.w32(vendor_at + 4, 0xFFFF'FFFF);
    w.w32(0xFC, 0xFFFF'FFFF); // a gap
    REQUIRE(w.device_saw_nothing());
}

TEST_CASE("registers before the first capability are read, and written by nobody", "[pci]") {
    world w;
    w.device.put(0x34, 1, msi_at);
    w.device.put(0x48, 4, 0x8765'4321);
    w.device.allow(0x48, 4, 0xFFFF'FFFF);
    REQUIRE(w.opened());
    REQUIRE(w.r32(0x48) == 0x8765'4321);
    w.w32(0x48, 0);
    REQUIRE(w.device_saw_nothing());
    // What was power management is in no list, and is plain registers now.
    w.w16(power_at + 4, 3);
    REQUIRE(w.host.told.was({}));
}

TEST_CASE("the extended list keeps its order, and starts at 0x100 whatever is hidden",
          "[pci][rule 4]") {
    using list = std::vector<std::pair<unsigned, unsigned>>;
    world w;
    extend(w);
    REQUIRE(w.opened());
    REQUIRE(walk_extended(w) == list{{0x03, 0x140}, {0x0B, 0x1A0}});
    REQUIRE(w.r32(0x100) == 0x1400'0000);
    REQUIRE(w.r32(0x104) == 0);
    REQUIRE(w.r32(0x140) == 0x1A01'0003);
    REQUIRE(w.r32(0x144) == 0x4455'6677);
    REQUIRE(w.r32(0x150) == 0);
    REQUIRE(w.r32(0x154) == 0);
    REQUIRE(w.r32(0x1A0) == 0x0001'000B);
    REQUIRE(w.r32(0x1F0) == 0xCCCC'CCCC); // up to where the next one would begin
    for (unsigned at = 0x100; at < 0x200; at += 4) {
        w.w32(at, 0xFFFF'FFFF);
        w.w8(at + 3, 0);
    }
    w.machine.event_count = std::min<std::size_t>(w.machine.event_count, 256);
    REQUIRE(w.device_saw_nothing());

    view_options options;
    options.shown = shown_capabilities{}
                        .with(extended_capability_id::advanced_error_reporting)
                        .without(extended_capability_id::device_serial_number);
    w.view.close();
    REQUIRE(w.opened(options));
    REQUIRE(walk_extended(w) == list{{0x01, 0x100}, {0x0B, 0x1A0}});
    REQUIRE(w.r32(0x100) == 0x1A02'0001);

    options.shown = shown_capabilities{}
                        .without(extended_capability_id::vendor_specific)
                        .without(extended_capability_id::device_serial_number);
    w.view.close();
    REQUIRE(w.opened(options));
    REQUIRE(walk_extended(w).empty());
    REQUIRE(w.r32(0x100) == 0);
}

TEST_CASE("lists that loop, cross or end in the middle of a capability show what is sound",
          "[pci][rule 4]") {
    using list = std::vector<std::pair<unsigned, unsigned>>;
    SECTION("a loop of the standard list") {
        world w;
        w.capability(express_at, 0x10, power_at);
        REQUIRE(w.opened());
        REQUIRE(walk(w).size() == 5);
        REQUIRE(w.r8(express_at + 1) == 0);
    }
    SECTION("a loop of the extended list, and one entry that points to itself") {
        world w;
        extend(w);
        w.device.put(0x1A0, 4, 0x1001'000B);
        REQUIRE(w.opened());
        REQUIRE(walk_extended(w) == list{{0x03, 0x140}, {0x0B, 0x1A0}});
        w.view.close();
        w.device.put(0x100, 4, 0x1001'0003);
        REQUIRE(w.opened());
        REQUIRE(walk_extended(w) == list{{0x03, 0x100}});
    }
    SECTION("MSI in whose registers another one begins") {
        world w;
        w.capability(msi_at, 0x05, msi_at + 8);
        w.capability(msi_at + 8, 0x09, msi_x_at);
        REQUIRE(w.opened());
        REQUIRE(walk(w) == list{{0x01, power_at},
                                {0x09, msi_at + 8},
                                {0x11, msi_x_at},
                                {0x09, vendor_at},
                                {0x10, express_at}});
        w.w16(msi_at + 2, 1);
        REQUIRE(w.host.told.was({}));
    }
    SECTION("MSI-X in whose registers another one begins: hidden, but its table is kept from the "
            "guest") {
        // The dword that says where the pending bits are is the header of the next one, of an
        // unknown kind: BAR 3, 0x9008.
        world w;
        w.capability(msi_x_at, 0x11, msi_x_at + 8);
        w.capability(msi_x_at + 8, 0x0B, vendor_at);
        REQUIRE(w.opened({}, bars({bar_of_kind(3, bar_kind::mem32, 0x1'0000)})));
        REQUIRE(walk(w) ==
                list{{0x01, power_at}, {0x05, msi_at}, {0x09, vendor_at}, {0x10, express_at}});
        w.view.write_memory(3, 0, mmio_width::dword, 0xFEE0'0000);
        (void)w.view.read_memory(3, 0x9008, mmio_width::qword);
        REQUIRE(w.host.told.was({}));
    }
    SECTION("capabilities in the last dword") {
        for (const unsigned id : {0x01U, 0x05U, 0x10U, 0x13U}) {
            CAPTURE(id);
            world w;
            w.device.put(0x34, 1, 0xFC);
            w.capability(0xFC, id, 0);
            w.device.put(0xFE, 2, 0x0080);
            REQUIRE(w.opened());
            REQUIRE(walk(w).empty());
            REQUIRE(w.r32(0xFC) == 0);
            w.w32(0xFC, 0xFFFF'FFFF);
            REQUIRE(w.device_saw_nothing());
        }
        world w;
        w.device.put(0x34, 1, 0xFC);
        w.capability(0xFC, 0x11, 0);
        REQUIRE(w.open().error() == error{errc::malformed, 0xFC});
    }
    SECTION("two of each kind: the first counts") {
        world w;
        w.capability(express_at, 0x10, 0xDC);
        w.capability(0xDC, 0x01, 0xE4);
        w.device.put(0xDE, 2, 0x0003);
        w.capability(0xE4, 0x11, 0);
        w.device.put(0xE6, 2, 0x0007);
        w.device.put(0xE8, 4, 0x0000'1003);
        REQUIRE(w.opened());
        REQUIRE(walk(w).size() == 5);
        REQUIRE(w.r32(0xDC) == 0);
        REQUIRE(w.r32(0xE4) == 0);
        REQUIRE(w.view.msi_x().vectors == 5);
    }
    SECTION("a first MSI-X that cannot be shown hides the second: there is one table") {
        world w;
        w.capability(msi_x_at, 0x11, msi_x_at + 8);
        w.capability(msi_x_at + 8, 0x0B, vendor_at);
        w.capability(express_at, 0x10, 0xE4);
        w.capability(0xE4, 0x11, 0);
        w.device.put(0xE6, 2, 0x0007);
        w.device.put(0xE8, 4, 0x0000'1003);
        REQUIRE(w.opened({}, bars({bar_of_kind(3, bar_kind::mem32, 0x1'0000)})));
        REQUIRE(walk(w).back() == std::pair{0x10U, express_at});
        REQUIRE(w.r32(0xE8) == 0);
    }
}

TEST_CASE("a device that is pulled out while it is opened harms nobody", "[pci]") {
    for (std::size_t after = 1; after < 900; ++after) {
        const auto w = std::make_unique<world>();
        extend(*w);
        // Counted from here on; the fake's ring of events is not looked at.
        w->machine.removed_after = after;
        if (!w->open()) {
            continue;
        }
        for (unsigned at = 0; at < 0x100; at += 4) {
            w->w32(at, 0xFFFF'FFFF);
            (void)w->r32(at);
        }
        // Never more vectors than MSI can have, though all ones would say 128.
        REQUIRE((w->r8(msi_at) != 0x05 || (w->r16(msi_at + 2) >> 1 & 7) <= 5));
        for (std::uint16_t vector = 0; vector < 64; ++vector) {
            (void)w->view.request({msi, vector});
            (void)w->view.request({msi_x, vector});
        }
        w->view.close();
    }
    SUCCEED();
}

TEST_CASE("nothing is written where a device was pulled out", "[pci]") {
    for (const bool closes_view : {true, false}) {
        world w;
        REQUIRE(w.opened());
        w.w16(0x04, 0x0004);
        w.machine.event_count = 0;
        w.machine.function_count = 0;
        if (closes_view) {
            w.view.close();
        } else {
            w.view.reset();
        }
        REQUIRE(w.device_saw_nothing()); // 0xFFFF without bus mastering is nobody's Command
    }
}

TEST_CASE("PCI Express: the guest chooses orders and read sizes, the fabric stays the host's",
          "[pci]") {
    world w;
    REQUIRE(w.opened());
    const unsigned control = express_at + 8;
    REQUIRE(w.r32(express_at) == 0x0002'0010);
    REQUIRE(w.r32(express_at + 4) == (0x1000'8FC1 & ~0x18U));
    REQUIRE(w.r16(control) == 0x2810); // what the device has: ordering, no snoop, read size
    w.w16(control, 0x7FFF);
    // Payload size, error reports and extended tags are only believed; phantom functions and aux
    // power are not to be had.
    REQUIRE(w.device_saw({device_write(control, 2, 0x7810)}));
    REQUIRE(w.r16(control) == 0x79FF);
    w.w16(control, 0x0000);
    REQUIRE(w.device_saw({device_write(control, 2, 0x0000)}));
    w.w8(control, 0x20); // the byte holds Relaxed Ordering, which is the device's
    REQUIRE(w.device_saw({device_write(control, 1, 0x00)}));
    REQUIRE(w.r16(control) == 0x0020);

    w.device.put(control + 2, 2, 0x006F);
    REQUIRE(w.r16(control + 2) == 0x006F); // auxiliary power, bit 4, is the device's too
    w.w32(control, 0x0009'0000);
    REQUIRE((w.device.get(control + 2, 2) & 0x4F) == 0x46);

    // Link Control never reaches the device; Link Status is the device's.
    w.machine.event_count = 0;
    w.w16(express_at + 0x10, 0xFFFF);
    REQUIRE(w.device_saw_nothing());
    REQUIRE((w.r16(express_at + 0x10) & 0x01CB) == 0x01CB);
    REQUIRE(w.r16(express_at + 0x12) == 0x1011);
    w.device.put(express_at + 0x12, 2, 0x1082);
    REQUIRE(w.r16(express_at + 0x12) == 0x1082);
    w.machine.event_count = 0;
    w.w32(express_at + 0x10, 0xFFFF'FFFF);
    w.w16(express_at + 0x28, 0xFFFF); // Device Control 2
    w.w16(express_at + 0x30, 0xFFFF); // Link Control 2
    REQUIRE(w.device_saw_nothing());
}

TEST_CASE("an endpoint on a guest's root bus may be shown inside the root complex, without a link",
          "[pci]") {
    world w;
    w.device.put(express_at + 0x30, 4, 0x0001'0003);
    view_options options;
    options.root_complex_integrated = true;
    REQUIRE(w.opened(options));
    REQUIRE(w.r32(express_at) == 0x0092'0010); // type 9 in bits 23:20
    REQUIRE(w.r32(express_at + 4) == (0x1000'8FC1 & ~0x18U));
    REQUIRE(w.r16(express_at + 8) == 0x2810);
    for (const unsigned link : {0x0CU, 0x10U, 0x2CU, 0x30U}) {
        CAPTURE(link);
        w.w32(express_at + link, 0xFFFF'FFFF);
        REQUIRE(w.r32(express_at + link) == 0);
    }
}

// --------------------------------------------------------------------------------- power, resets

TEST_CASE("in D3hot nothing answers and nothing interrupts; back in D0 it is a reset, or not",
          "[pci]") {
    for (const bool soft_reset : {true, false}) {
        world w;
        w.power(0xC823, soft_reset ? 0x0000 : 0x0008);
        REQUIRE(w.opened());
        REQUIRE(w.r16(power_at + 2) == 0x0023); // no events of power management, no auxiliary power
        REQUIRE(w.r16(power_at + 4) == (soft_reset ? 0U : 8U));
        w.w32(0x1C, 0xC000'0000);
        w.w16(0x04, 0x0006);
        w.host.told.count = 0;
        w.machine.event_count = 0;
        w.w16(power_at + 4, 0xFFFF);
        REQUIRE(
            w.host.told.was({bar_moves(3, 0xC000'0000, nowhere), wire_closes, power_goes(0, 3)}));
        REQUIRE(w.r16(power_at + 4) == (soft_reset ? 3U : 0xBU));
        REQUIRE(w.view.request({intx, 0}).error() == error{errc::refused, 0});
        w.w32(0x1C, 0xD000'0000); // registers change
        w.w16(0x04, 0x0002);
        w.w16(power_at + 4, 0x0001); // D1 and D2 are not there
        w.w16(power_at + 4, 0x0002);
        REQUIRE(w.r16(power_at + 4) == (soft_reset ? 3U : 0xBU));
        REQUIRE(w.host.told.was({}));
        REQUIRE(only_bus_mastering(w));
        w.w8(power_at + 4, 0x00);
        if (soft_reset) {
            REQUIRE(w.host.told.was({power_goes(3, 0), wire_opens, resets()}));
            REQUIRE(w.r16(0x04) == 0);
            REQUIRE(w.r32(0x1C) == 0);
        } else {
            REQUIRE(w.host.told.was(
                {bar_moves(3, nowhere, 0xD000'0000), wire_opens, power_goes(3, 0)}));
            REQUIRE(w.r16(0x04) == 0x0002);
        }
        REQUIRE((w.r16(power_at + 4) & 3) == 0);
        REQUIRE(only_bus_mastering(w));
    }
}

TEST_CASE("D1 and D2 are for functions that have them", "[pci]") {
    for (unsigned has = 0; has < 4; ++has) {
        world w;
        w.power(0x0003 | has << 9, 0);
        REQUIRE(w.opened());
        REQUIRE(w.r16(power_at + 2) == (0x0003 | has << 9));
        w.w16(power_at + 4, 1);
        if ((has & 1) != 0) {
            REQUIRE(w.host.told.was({wire_closes, power_goes(0, 1)}));
            REQUIRE(w.r16(power_at + 4) == 1);
            w.w16(power_at + 4, 0);
            REQUIRE(w.host.told.was({wire_opens, power_goes(1, 0)}));
        }
        w.w16(power_at + 4, 2);
        if ((has & 2) != 0) {
            REQUIRE(w.host.told.was({wire_closes, power_goes(0, 2)}));
            REQUIRE(w.r16(power_at + 4) == 2);
        } else {
            REQUIRE(w.r16(power_at + 4) == 0);
        }
        if (has == 0) {
            REQUIRE(w.host.told.was({}));
        }
    }
}

TEST_CASE("a function-level reset by PCI Express brings the power-on state", "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x1C, 0xC000'0000);
    w.w8(0x3C, 0x0B);
    w.w16(0x04, 0x0406);
    w.w32(msi_at + 4, 0xFEE0'0000);
    w.w16(msi_at + 2, 0x0001);
    w.host.told.count = 0;
    w.w16(express_at + 8, 0x7FFF); // all but the bit
    REQUIRE(w.host.told.was({}));
    w.w8(express_at + 9, 0x80);
    REQUIRE(w.host.told.was(
        {bar_moves(3, 0xC000'0000, nowhere), closes(msi, 0), wire_opens, resets()}));
    REQUIRE(w.r16(0x04) == 0);
    REQUIRE(w.device.get(0x04, 2) == 0x0003);
    REQUIRE(w.r32(0x1C) == 0);
    REQUIRE(w.r8(0x3C) == 0);
    REQUIRE(w.r32(msi_at + 4) == 0);
    REQUIRE(w.r16(msi_at + 2) == 0x0184);
    REQUIRE((w.r16(express_at + 8) & 0x81EF) == 0); // the bit itself reads 0
    REQUIRE((w.device.get(express_at + 8, 2) & 0x8000) == 0);

    world without;
    without.device.put(express_at + 4, 4, 0x0000'8FC1);
    REQUIRE(without.opened());
    without.w16(0x04, 0x0400);
    without.w16(express_at + 8, 0x8000);
    REQUIRE(without.host.told.was({wire_closes}));
    REQUIRE(without.r16(0x04) == 0x0400);
}

TEST_CASE("a function-level reset by Advanced Features, if it has one", "[pci]") {
    for (const unsigned has : {0x03U, 0x01U}) {
        world w;
        w.capability(vpd_at, 0x13, msi_x_at);
        w.device.put(vpd_at + 2, 4, 0x0100'0006 | has << 8); // Transactions Pending
        w.device.allow(vpd_at + 4, 1, 0x01);
        REQUIRE(w.opened());
        REQUIRE(w.r32(vpd_at) == (0x0006'0013 | msi_x_at << 8 | has << 24));
        REQUIRE(w.r16(vpd_at + 4) == 0x0100);
        w.w16(0x04, 0x0400);
        w.host.told.count = 0;
        w.w8(vpd_at + 4, 0xFE);
        w.w8(vpd_at + 5, 0x01);
        REQUIRE(w.host.told.was({}));
        w.machine.event_count = 0;
        w.w8(vpd_at + 4, 0x01);
        REQUIRE(w.device_saw_nothing());
        if (has == 3) {
            REQUIRE(w.host.told.was({wire_opens, resets()}));
        }
        REQUIRE(w.host.told.was({}));
        REQUIRE(w.r16(0x04) == (has == 3 ? 0U : 0x0400U));
    }
}

TEST_CASE("the VMM's own reset is the guest's, but for the demand", "[pci]") {
    world w;
    REQUIRE(w.opened());
    w.w32(0x18, 0xC000);
    w.w16(0x04, 0x0405);
    REQUIRE(w.device.get(4, 2) == 0x0007);
    w.w16(power_at + 4, 3);
    w.host.told.count = 0;
    w.view.reset();
    REQUIRE(w.host.told.was({wire_opens}));
    REQUIRE(w.device.get(4, 2) == 0x0003);
    REQUIRE(w.r16(0x04) == 0);
    REQUIRE(w.r16(power_at + 4) == 0);
    REQUIRE(w.r32(0x18) == 1);
}

// ------------------------------------------------------------------------------------ interrupts

TEST_CASE("the four layouts of MSI hold their registers where [pci] has them", "[pci][rule 7]") {
    for (unsigned layout = 0; layout < 4; ++layout) {
        const bool wide = (layout & 1) != 0;
        const bool masks = (layout & 2) != 0;
        const unsigned features = (wide ? 0x80U : 0) | (masks ? 0x100U : 0);
        for (unsigned log2 = 0; log2 <= 5; ++log2) {
            CAPTURE(wide, masks, log2);
            world w;
            w.msi(features | log2 << 1 | 0x0600); // and extended data, which is not offered
            REQUIRE(w.opened());
            REQUIRE(w.r32(msi_at) == ((features | log2 << 1) << 16 | msi_x_at << 8 | 0x05));
            for (unsigned at = 4; at < 32; at += 4) {
                w.w32(msi_at + at, 0xFFFF'FFFF);
            }
            const unsigned data = wide ? 12 : 8;
            REQUIRE(w.r32(msi_at + 4) == 0xFFFF'FFFC);
            REQUIRE(w.r32(msi_at + 8) == (wide ? 0xFFFF'FFFF : 0x0000'FFFF));
            REQUIRE(w.r32(msi_at + data) == 0x0000'FFFF);
            const std::uint32_t vectors =
                log2 == 5 ? 0xFFFF'FFFF : (std::uint32_t{1} << (1U << log2)) - 1;
            REQUIRE(w.r32(msi_at + data + 4) == (masks ? vectors : 0));
            REQUIRE(w.r32(msi_at + data + 8) == 0);
            REQUIRE(w.host.told.was({}));
            w.w32(msi_at + 4, 0xFEE0'1000);
            w.w32(msi_at + 8, wide ? 1 : 0x4000);
            w.w16(msi_at + data, 0x4000);
            w.w32(msi_at + data + 4, 0);
            w.w16(msi_at + 2, 0xFFFF); // 128 vectors: as many as there are
            REQUIRE(w.r16(msi_at + 2) == (features | log2 << 1 | log2 << 4 | 1));
            REQUIRE(w.host.told.count == 1 + (1U << log2));
            REQUIRE(w.host.told.entries[0] == wire_closes);
            for (unsigned n = 0; n < 1U << log2; ++n) {
                REQUIRE(w.host.told.entries[1 + n] ==
                        opens(msi, n, wide ? 0x1'FEE0'1000 : 0xFEE0'1000, 0x4000 + n));
            }
            REQUIRE(w.device_saw_nothing());
        }
    }
}

TEST_CASE("a reserved number of MSI vectors hides the capability", "[pci][rule 7]") {
    for (const unsigned log2 : {6U, 7U}) {
        world w;
        w.msi(0x0180 | log2 << 1);
        REQUIRE(w.opened());
        REQUIRE(walk(w).size() == 4);
        w.w16(msi_at + 2, 1);
        REQUIRE(w.host.told.was({}));
    }
}

TEST_CASE("MSI masks, pending bits, and messages that change while they are on", "[pci][rule 7]") {
    world w;
    REQUIRE(w.opened());
    w.w32(msi_at + 4, 0xFEE0'0000);
    w.w16(msi_at + 12, 0x0040);
    w.w32(msi_at + 16, 0x2);
    w.w16(msi_at + 2, 0x0011); // two vectors
    REQUIRE(w.host.told.was({wire_closes, opens(msi, 0, 0xFEE0'0000, 0x40)}));
    REQUIRE(w.view.request({msi, 0}));
    REQUIRE(w.view.request({msi, 1}));
    REQUIRE(w.view.request({msi, 2}).error() == error{errc::out_of_range, 2});
    REQUIRE(w.host.told.was({sends(msi, 0, 0xFEE0'0000, 0x40)}));
    REQUIRE(w.r32(msi_at + 20) == 2);
    REQUIRE(w.r8(msi_at + 20) == 2);
    REQUIRE(w.r16(msi_at + 22) == 0);
    w.w32(msi_at + 20, 0); // pending bits are not to be written
    REQUIRE(w.r32(msi_at + 20) == 2);
    w.w8(msi_at + 12, 0x60);
    REQUIRE(w.host.told.was({opens(msi, 0, 0xFEE0'0000, 0x60)}));
    w.w8(msi_at + 16, 0);
    REQUIRE(w.host.told.was({opens(msi, 1, 0xFEE0'0000, 0x61), sends(msi, 1, 0xFEE0'0000, 0x61)}));
    REQUIRE(w.r32(msi_at + 20) == 0);
    w.w8(msi_at + 16, 0);
    w.w16(msi_at + 2, 0x0011);
    w.w16(0x04, 0x0400);
    w.w16(0x04, 0x0000);
    REQUIRE(w.host.told.was({}));
    w.w32(msi_at + 16, 0x1);
    REQUIRE(w.host.told.was({closes(msi, 0)}));
    w.host.held_back = 1;
    REQUIRE(w.r32(msi_at + 20) == 1);
    REQUIRE(only_bus_mastering(w));
}

TEST_CASE("one kind of interrupt at a time, the old one closed before the new one opens",
          "[pci][rule 7]") {
    world w;
    REQUIRE(w.opened());
    REQUIRE(w.view.request({intx, 0}));
    REQUIRE(w.view.request({intx, 1}).error() == error{errc::out_of_range, 1});
    REQUIRE(w.view.request({msi, 0}).error() == error{errc::refused, 0});
    REQUIRE(w.view.request({msi_x, 0}).error() == error{errc::refused, 0});
    REQUIRE(w.host.told.was({sends(intx, 0, 0, 0)}));
    w.view.write_memory(3, 0, mmio_width::dword, 0xFEE0'1000);
    w.view.write_memory(3, 8, mmio_width::dword, 0x50);
    w.view.write_memory(3, 12, mmio_width::dword, 0);
    w.w32(msi_at + 4, 0xFEE0'0000);
    w.w16(msi_at + 12, 0x40);
    REQUIRE(w.host.told.was({}));
    w.w16(msi_at + 2, 1);
    REQUIRE(w.host.told.was({wire_closes, opens(msi, 0, 0xFEE0'0000, 0x40)}));
    REQUIRE(w.view.request({intx, 0}).error() == error{errc::refused, 0});
    w.w16(msi_x_at + 2, 0x8000); // [pci] forbids it; MSI-X wins
    REQUIRE(w.host.told.was({closes(msi, 0), opens(msi_x, 0, 0xFEE0'1000, 0x50)}));
    REQUIRE(w.view.request({msi, 0}).error() == error{errc::refused, 0});
    REQUIRE(w.view.request({msi_x, 0}));
    REQUIRE(w.host.told.was({sends(msi_x, 0, 0xFEE0'1000, 0x50)}));
    w.w16(msi_x_at + 2, 0x0000);
    REQUIRE(w.host.told.was({closes(msi_x, 0), opens(msi, 0, 0xFEE0'0000, 0x40)}));
    w.w16(msi_at + 2, 0);
    REQUIRE(w.host.told.was({closes(msi, 0), wire_opens}));
    w.w8(0x05, 0x04);
    REQUIRE(w.host.told.was({wire_closes}));
    w.w16(msi_x_at + 2, 0xC000); // masked as a whole
    REQUIRE(w.host.told.was({}));
    w.w16(msi_x_at + 2, 0x8000);
    REQUIRE(w.host.told.was({opens(msi_x, 0, 0xFEE0'1000, 0x50)}));
    w.w8(0x05, 0x00); // the wire is not used with MSI-X on
    w.w16(power_at + 4, 3);
    REQUIRE(w.host.told.was({closes(msi_x, 0), power_goes(0, 3)}));
    REQUIRE(w.view.request({msi_x, 0}).error() == error{errc::refused, 0});
    REQUIRE(only_bus_mastering(w));
}

TEST_CASE("the route hears which kind is in use, and of how many vectors, masked or not", "[pci]") {
    world w;
    w.device.put(msi_at + 2, 2, 0x0184); // 4 vectors, 64-bit, masks
    const auto in_use = [&](interrupt_kind kind, unsigned vectors, unsigned times) {
        const bool same =
            w.host.used == kind && w.host.used_vectors == vectors && w.host.uses == times;
        w.host.uses = 0;
        return same;
    };
    REQUIRE(w.opened());
    REQUIRE(in_use(intx, 1, 1));
    w.w16(0x04, 0x0402); // INTx disabled: nothing at all
    REQUIRE(in_use(intx, 0, 1));
    w.w32(msi_at + 16, 0x0000'000F); // all masked
    w.w16(msi_at + 2, 0x0021);
    REQUIRE(in_use(msi, 4, 1));
    w.w16(msi_at + 2, 0x0011);
    REQUIRE(in_use(msi, 2, 1));
    w.w16(msi_at + 12, 0x40); // a message says nothing of that
    REQUIRE(in_use(msi, 2, 0));
    w.w16(msi_x_at + 2, 0xC000); // as Linux begins: on, and masked as a whole
    REQUIRE(in_use(msi_x, 5, 1));
    w.w16(msi_x_at + 2, 0x8000);
    REQUIRE(in_use(msi_x, 5, 0));
    w.w16(power_at + 4, 3);
    REQUIRE(in_use(intx, 0, 1));
    w.w16(power_at + 4, 0);
    w.host.uses = 0;
    w.view.close();
    REQUIRE(w.host.used_vectors == 0);
}

TEST_CASE("a function without an interrupt pin has no wire", "[pci]") {
    world w;
    w.device.put(0x3D, 1, 0);
    REQUIRE(w.open());
    REQUIRE(w.host.told.was({}));
    REQUIRE(w.view.request({intx, 0}).error() == error{errc::refused, 0});
}

TEST_CASE("a VMM that has no wire to give shows no pin", "[pci]") {
    world w;
    view_options options;
    options.has_wire = false;
    REQUIRE(w.opened(options));
    REQUIRE(w.host.used_vectors == 0);
    REQUIRE(w.r8(0x3D) == 0);
    REQUIRE(w.view.request({intx, 0}).error() == error{errc::refused, 0});
}

TEST_CASE("MSI-X is emulated, and what shares its pages is forwarded as it is", "[pci][rule 7]") {
    world w;
    w.msi_x(4, 0x0000'0103, 0x0000'0203); // both in the first page: 0x100..0x14F, 0x200..0x207
    REQUIRE(w.opened());
    w.host.answer = 0x8877'6655'4433'2211;
    using size = mmio_width;
    const auto get = [&](std::uint8_t bar, std::uint64_t offset, size bytes) {
        return w.view.read_memory(bar, offset, bytes);
    };
    REQUIRE(get(3, 0x0FF, size::byte) == 0x11);
    REQUIRE(get(3, 0x0FE, size::word) == 0x2211);
    REQUIRE(get(3, 0x150, size::dword) == 0x4433'2211);
    REQUIRE(get(3, 0x0F8, size::qword) == 0x8877'6655'4433'2211);
    REQUIRE(get(3, 0x151, size::dword) == 0x4433'2211);
    REQUIRE(get(0, 0x3FF8, size::qword) == 0x8877'6655'4433'2211);
    w.view.write_memory(3, 0x208, size::word, 0xFFFF'FFFF'FFFF'1234);
    w.view.write_memory(3, 0x3FFF, size::byte, 0x1FF);
    REQUIRE(w.host.told.was({reads(3, 0x0FF, 1), reads(3, 0x0FE, 2), reads(3, 0x150, 4),
                             reads(3, 0x0F8, 8), reads(3, 0x151, 4), reads(0, 0x3FF8, 8),
                             writes(3, 0x208, 2, 0x1234), writes(3, 0x3FFF, 1, 0xFF)}));

    // Across an edge of the table or of the pending bits: nobody answers, nobody hears.
    for (const auto& [offset, bytes] : {std::pair{0x0FFU, size::word},
                                        {0x0FEU, size::dword},
                                        {0x0FCU, size::qword},
                                        {0x0F9U, size::qword},
                                        {0x14FU, size::word},
                                        {0x14CU, size::qword},
                                        {0x1FCU, size::qword},
                                        {0x1FFU, size::word},
                                        {0x207U, size::word},
                                        {0x204U, size::qword}}) {
        CAPTURE(offset);
        REQUIRE(get(3, offset, bytes) == all_ones(bytes));
        w.view.write_memory(3, offset, bytes, 0);
    }
    // Illegal sizes inside.
    for (unsigned offset = 0x100; offset < 0x150; ++offset) {
        REQUIRE(get(3, offset, size::byte) == 0xFF);
        w.view.write_memory(3, offset, size::byte, 0);
    }
    REQUIRE(get(3, 0x200, size::word) == 0xFFFF);
    // Out of the BAR, in none, in ports, in an upper half.
    for (const std::uint64_t offset : {std::uint64_t{0x4000}, std::uint64_t{0x3FFD},
                                       std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
        REQUIRE(get(3, offset, size::dword) == 0xFFFF'FFFF);
        w.view.write_memory(3, offset, size::dword, 0);
    }
    for (const unsigned bar : {1U, 2U, 5U, 7U, 255U}) {
        REQUIRE(get(static_cast<std::uint8_t>(bar), 0, size::dword) == 0xFFFF'FFFF);
        w.view.write_memory(static_cast<std::uint8_t>(bar), 0, size::dword, 0);
    }
    REQUIRE(w.host.told.was({}));
    w.view.write_memory(6, 0, size::dword, 0); // the expansion ROM is only read
    REQUIRE(w.host.told.was({}));
    (void)get(6, 4, size::dword);
    REQUIRE(w.host.told.was({reads(6, 4, 4)}));

    // The table itself.
    w.view.write_memory(3, 0x140, size::qword, 0xFEE0'0000);
    w.view.write_memory(3, 0x148, size::qword, 0x0000'0000'0000'0044);
    REQUIRE(get(3, 0x148, size::qword) == 0x44);
    w.w16(msi_x_at + 2, 0x8000);
    REQUIRE(w.host.told.was({wire_closes, opens(msi_x, 4, 0xFEE0'0000, 0x44)}));
    REQUIRE(w.view.request({msi_x, 1}));
    REQUIRE(get(3, 0x200, size::qword) == 2);
    w.view.write_memory(3, 0x200, size::qword, 0); // vanishes
    REQUIRE(get(3, 0x200, size::dword) == 2);
    REQUIRE(get(3, 0x204, size::dword) == 0);
    REQUIRE(w.view.request({msi_x, 5}).error() == error{errc::out_of_range, 5});
    w.view.write_memory(3, 0x11C, size::dword, 0);
    REQUIRE(w.host.told.was({opens(msi_x, 1, 0, 0), sends(msi_x, 1, 0, 0)}));
    REQUIRE(get(3, 0x200, size::qword) == 0);
    REQUIRE(w.device_saw_nothing());
}

TEST_CASE("table and pending bits in different BARs, and in a BAR's last bytes", "[pci][rule 7]") {
    world w;
    w.msi_x(4, 0x0000'3FB3, 0x0000'0FF4);
    REQUIRE(w.opened());
    REQUIRE(w.view.msi_x() == pt::pci::msi_x_layout{5, {3, 0x3FB0, 80}, {4, 0x0FF8 - 8, 8}});
    REQUIRE(w.view.read_memory(3, 0x3FFC, mmio_width::dword) == 1);
    REQUIRE(w.view.read_memory(4, 0x0FF0, mmio_width::qword) == 0);
    REQUIRE(w.host.told.was({}));
    (void)w.view.read_memory(4, 0x3FB0 & 0xFFF, mmio_width::dword);
    (void)w.view.read_memory(3, 0x0FF0, mmio_width::dword);
    (void)w.view.read_memory(4, 0x0FF8, mmio_width::qword);
    REQUIRE(w.host.told.was({reads(4, 0xFB0, 4), reads(3, 0xFF0, 4), reads(4, 0xFF8, 8)}));
}

TEST_CASE("fewer vectors than the device has, or none: the device's table is kept all the same",
          "[pci][rule 7]") {
    world w;
    REQUIRE(w.opened({}, world::usual_bars(), 3));
    REQUIRE(w.r16(msi_x_at + 2) == 2);
    w.view.write_memory(3, 0x30, mmio_width::dword, 0xFEE0'0000);
    REQUIRE(w.view.read_memory(3, 0x30, mmio_width::dword) == 0xFFFF'FFFF);
    w.w16(msi_x_at + 2, 0x8000);
    REQUIRE(w.view.request({msi_x, 3}).error() == error{errc::out_of_range, 3});
    REQUIRE(w.host.told.was({wire_closes}));
    w.view.close();

    REQUIRE(w.opened({}, world::usual_bars(), 0));
    REQUIRE(walk(w).size() == 4);
    REQUIRE(w.r32(msi_x_at) == 0);
    w.w16(msi_x_at + 2, 0x8000);
    w.view.write_memory(3, 0x00, mmio_width::dword, 0xFEE0'0000);
    REQUIRE(w.view.read_memory(3, 0x00, mmio_width::dword) == 0xFFFF'FFFF);
    REQUIRE(w.view.read_memory(3, 0x2000, mmio_width::qword) == ~std::uint64_t{0});
    REQUIRE(w.host.told.was({}));
    REQUIRE(w.device_saw_nothing());
}

TEST_CASE("a device without MSI-X keeps nothing from its memory", "[pci]") {
    world w;
    w.capability(msi_x_at, 0x09, vendor_at);
    REQUIRE(w.opened());
    REQUIRE(w.view.msi_x() == pt::pci::msi_x_layout{});
    (void)w.view.read_memory(0, 0, mmio_width::byte);
    w.view.write_memory(4, 0xFFF, mmio_width::byte, 1);
    REQUIRE(w.host.told.was({reads(0, 0, 1), writes(4, 0xFFF, 1, 1)}));
}

// ------------------------------------------------------------------------------------ permissions

TEST_CASE("permit opens registers that pt does not know, and none of those it answers for",
          "[pci][rule 5]") {
    world w;
    w.device.put(vendor_at + 4, 4, 0xA5A5'A5A5);
    w.device.allow(vendor_at + 4, 4, 0x00FF'00FF);
    w.device.write_1_to_clear[vendor_at + 7] = 0x0F;
    REQUIRE(w.opened());
    REQUIRE(w.view.permit(vendor_at + 6, // any byte of it
                          {.own = 0x0000'F000,
                           .device = 0x0000'000F,
                           .device_clear = 0x0F00'0000,
                           .device_read = 0x0000'00F0}));
    // Constant: as it is now, and own bits start at 0.
    w.device.put(vendor_at + 4, 4, 0x5A5A'5A5A);
    REQUIRE(w.r32(vendor_at + 4) == 0xAAA5'055A);
    w.machine.event_count = 0;
    w.w32(vendor_at + 4, 0xF2FF'FFF1);
    // Kept as read, 1 where the guest clears, never 1 where it did not.
    REQUIRE(w.device_saw({device_write(vendor_at + 4, 4, 0x525A'5A51)}));
    REQUIRE(w.r32(vendor_at + 4) == 0xA8A5'F551);
    w.machine.event_count = 0;
    w.w16(vendor_at + 5, 0xFFFF);
    REQUIRE(w.device_saw_nothing());

    for (const unsigned at :
         {0x00U, 0x10U, 0x3CU, power_at + 4, msi_at, msi_at + 20, msi_x_at + 2, 0x1000U, 0xFFFFU}) {
        CAPTURE(at);
        const auto offset = static_cast<std::uint16_t>(at);
        REQUIRE(w.view.permit(offset, {.device = ~0U}).error() == error{errc::refused, offset});
    }
    world conventional;
    conventional.capability(vendor_at, 0x09, 0);
    REQUIRE(conventional.opened());
    REQUIRE(conventional.view.permit(0x100, {}).error() == error{errc::refused, 0x100});
}

TEST_CASE("permit may forbid what Device Control lets through, and a reset is the view's still",
          "[pci]") {
    world w;
    REQUIRE(w.opened());
    const std::uint16_t control = express_at + 8;
    REQUIRE(w.view.permit(control, {.own = 0x80FF, .device = 0xFFFF'8010})); // no No Snoop
    w.machine.event_count = 0;
    w.w16(control, 0x7810);
    REQUIRE(w.device_saw({device_write(control, 2, 0x2810)})); // as it was, but for the ordering
    w.host.told.count = 0;
    w.w16(control, 0x8000);
    REQUIRE(w.host.told.entries[w.host.told.count - 1] == resets());
    REQUIRE((w.device.get(control, 2) & 0x8000) == 0);
}

TEST_CASE("permit takes what the device says now for constant, not what it said before", "[pci]") {
    world w;
    REQUIRE(w.opened());
    REQUIRE(w.r16(express_at + 0x12) == 0x1011);
    w.device.put(express_at + 0x12, 2, 0x1082);
    REQUIRE(w.view.permit(express_at + 0x10, {.own = 0x0003}));
    REQUIRE(w.r16(express_at + 0x12) == 0x1082);
}

TEST_CASE("a function that is routed to is a function_config", "[pci]") {
    STATIC_REQUIRE(pt::pci::function_config<view_type>);
    STATIC_REQUIRE(!std::is_copy_constructible_v<view_type>);
}
