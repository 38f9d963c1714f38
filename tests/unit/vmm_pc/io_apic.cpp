// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/io_apic.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::mmio_width;
using pt::lapic::delivery_mode;
using pt::lapic::destination_mode;
using pt::lapic::message;
using pt::lapic::trigger_mode;
using pt::lapic::wire_level;

struct sent {
    message last{};
    unsigned count = 0;
    std::uint32_t reached = 1; ///< what the local APICs will say
};
struct to_bus {
    sent* out;
    constexpr pt::lapic::delivery operator()(const message& what) const {
        out->last = what;
        ++out->count;
        return {.reached = out->reached};
    }
};
using io_apic = vmm::pc::io_apic<to_bus>;

constexpr std::uint32_t read(io_apic& apic, std::uint8_t index) {
    apic.write(0x00, mmio_width::dword, index);
    return static_cast<std::uint32_t>(apic.read(0x10, mmio_width::dword));
}
constexpr void write(io_apic& apic, std::uint8_t index, std::uint32_t value) {
    apic.write(0x00, mmio_width::dword, index);
    apic.write(0x10, mmio_width::dword, value);
}
constexpr void entry(io_apic& apic, unsigned pin, std::uint64_t value) {
    write(apic, static_cast<std::uint8_t>(0x11 + 2 * pin), static_cast<std::uint32_t>(value >> 32));
    write(apic, static_cast<std::uint8_t>(0x10 + 2 * pin), static_cast<std::uint32_t>(value));
}
constexpr std::uint32_t low(io_apic& apic, unsigned pin) {
    return read(apic, static_cast<std::uint8_t>(0x10 + 2 * pin));
}

constexpr std::uint32_t masked = 1U << 16;
constexpr std::uint32_t level = 1U << 15;
constexpr std::uint32_t remote_irr = 1U << 14;
constexpr std::uint32_t send_pending = 1U << 12;

constexpr bool edge_is_sent_as_programmed() {
    sent out{};
    io_apic apic{to_bus{&out}};
    entry(apic, 4, std::uint64_t{0x5A} << 56 | 1U << 11 | 1U << 8 | 0x33);
    apic.set(4, wire_level::asserted);
    apic.set(4, wire_level::asserted); // no edge
    const message expected{.delivery = delivery_mode::lowest_priority,
                           .vector = 0x33,
                           .trigger = trigger_mode::edge,
                           .mode = destination_mode::logical,
                           .destination = 0x5A};
    bool good = out.count == 1 && out.last == expected;
    apic.set(4, wire_level::deasserted);
    apic.set(4, wire_level::asserted);
    return good && out.count == 2 && (low(apic, 4) & remote_irr) == 0;
}

} // namespace

TEST_CASE("the I/O APIC's registers are those of an 82093AA", "[vmm_pc][ioapic]") {
    sent out;
    io_apic apic{to_bus{&out}};
    CHECK(read(apic, 1) == 0x0017'0011); // 24 entries, version 11H
    write(apic, 0, 0xFFFF'FFFF);
    CHECK(read(apic, 0) == 0x0F00'0000);
    CHECK(read(apic, 2) == 0x0F00'0000);
    write(apic, 1, 0);
    CHECK(read(apic, 1) == 0x0017'0011);
    for (unsigned pin = 0; pin != 24; ++pin) {
        CHECK(low(apic, pin) == masked);
    }
    entry(apic, 3, ~std::uint64_t{0});
    CHECK(low(apic, 3) == (0x1'FFFFU & ~remote_irr & ~send_pending)); // those two are read-only
    CHECK(read(apic, 0x17) == 0xFF00'0000);
    CHECK(read(apic, 0x40) == 0); // beyond the last entry
    write(apic, 0x40, 0xFFFF'FFFF);
    CHECK(read(apic, 0xFF) == 0);
    CHECK(apic.read(0x20, mmio_width::dword) == 0);
    CHECK(apic.read(0x00, mmio_width::byte) == 0xFF); // the index
    apic.write(0x00, mmio_width::byte, 1);
    CHECK(apic.read(0x10, mmio_width::qword) == 0x0017'0011);
    CHECK(out.count == 0);
}

TEST_CASE("an edge is sent once, as its entry says", "[vmm_pc][ioapic]") {
    static_assert(edge_is_sent_as_programmed());
    REQUIRE(edge_is_sent_as_programmed());
}

TEST_CASE("an edge at a masked pin is nobody's, a level waits", "[vmm_pc][ioapic]") {
    sent out;
    io_apic apic{to_bus{&out}};
    entry(apic, 7, masked | 0x40);
    apic.set(7, wire_level::asserted);
    entry(apic, 7, 0x40);
    CHECK(out.count == 0);
    entry(apic, 8, masked | level | 0x41);
    apic.set(8, wire_level::asserted);
    CHECK(out.count == 0);
    entry(apic, 8, level | 0x41);
    CHECK(out.count == 1);
}

TEST_CASE("a level is sent again at its end, as long as the line is asserted", "[vmm_pc][ioapic]") {
    sent out;
    io_apic apic{to_bus{&out}};
    entry(apic, 11, level | 0x61);
    entry(apic, 12, level | 0x62);
    apic.set(11, wire_level::asserted);
    CHECK(out.count == 1);
    CHECK(out.last.trigger == trigger_mode::level);
    CHECK(low(apic, 11) == (level | remote_irr | 0x61));
    apic.set(11, wire_level::deasserted); // a glitch is not another one
    apic.set(11, wire_level::asserted);
    CHECK(out.count == 1);
    apic.end_of_interrupt(0x62); // somebody else's
    CHECK(out.count == 1);
    apic.end_of_interrupt(0x61);
    CHECK(out.count == 2);
    apic.set(11, wire_level::deasserted);
    CHECK((low(apic, 11) & remote_irr) != 0);
    apic.end_of_interrupt(0x61);
    CHECK(out.count == 2);
    CHECK(low(apic, 11) == (level | 0x61));
}

TEST_CASE("a kernel without EOI register ends a level by edge and back", "[vmm_pc][ioapic]") {
    sent out;
    io_apic apic{to_bus{&out}};
    entry(apic, 9, level | 0x61);
    apic.set(9, wire_level::asserted);
    REQUIRE((low(apic, 9) & remote_irr) != 0);
    write(apic, 0x10 + 18, masked | 0x61); // edge
    CHECK((low(apic, 9) & remote_irr) == 0);
    write(apic, 0x10 + 18, level | 0x61);
    CHECK(out.count == 2);
}

TEST_CASE("what no local APIC takes stays pending, and is sent later", "[vmm_pc][ioapic]") {
    for (const std::uint32_t trigger : {0U, level}) {
        sent out{.reached = 0};
        io_apic apic{to_bus{&out}};
        entry(apic, 5, trigger | 0x55);
        apic.set(5, wire_level::asserted);
        CHECK(low(apic, 5) == (trigger | send_pending | 0x55));
        const unsigned tried = out.count;
        apic.resend();
        CHECK(out.count > tried);
        out.reached = 1;
        apic.resend();
        CHECK(low(apic, 5) == (trigger | (trigger != 0 ? remote_irr : 0) | 0x55));
        const unsigned done = out.count;
        apic.resend();
        CHECK(out.count == done);
    }
}

TEST_CASE("NMI and ExtINT are edges whatever the entry says", "[vmm_pc][ioapic]") {
    for (const unsigned delivery : {2U, 4U, 5U, 7U}) {
        sent out;
        io_apic apic{to_bus{&out}};
        entry(apic, 0, level | delivery << 8);
        apic.set(0, wire_level::asserted);
        CHECK(out.count == 1);
        CHECK(out.last.delivery == static_cast<delivery_mode>(delivery));
        CHECK(out.last.trigger == trigger_mode::edge);
        CHECK((low(apic, 0) & remote_irr) == 0);
        apic.set(0, wire_level::deasserted);
        apic.set(0, wire_level::asserted);
        CHECK(out.count == 2);
    }
}

TEST_CASE("pins that are not there do nothing", "[vmm_pc][ioapic]") {
    sent out;
    io_apic apic{to_bus{&out}};
    apic.set(24, wire_level::asserted);
    apic.set(63, wire_level::asserted);
    CHECK(out.count == 0);
}

namespace {

/// A line whose device goes on asserting it until the guest has ended its interrupt: lapic::level_route.
struct watched;
struct to_watched {
    watched* by;
    constexpr void operator()(unsigned pin) const;
};
struct watched {
    sent out{};
    unsigned ended[24]{};
    vmm::pc::io_apic<to_bus, to_watched> apic{to_bus{&out}, to_watched{this}};

    constexpr void entry(unsigned pin, std::uint32_t value) {
        apic.write(0x00, mmio_width::dword, 0x10 + 2 * pin);
        apic.write(0x10, mmio_width::dword, value);
    }
};
constexpr void to_watched::operator()(unsigned pin) const {
    ++by->ended[pin];
    by->apic.set(pin, wire_level::deasserted);
}

constexpr bool an_end_is_told_before_the_level_is_looked_at() {
    watched w;
    w.entry(11, level | 0x44);
    w.entry(5, level | 0x44); // shares the vector, and is not asserted
    w.apic.set(11, wire_level::asserted);
    w.apic.end_of_interrupt(0x45); // somebody else's
    bool good = w.out.count == 1 && w.ended[11] == 0;
    w.apic.end_of_interrupt(0x44);
    good = good && w.out.count == 1 && w.ended[11] == 1 && w.ended[5] == 0;
    w.apic.end_of_interrupt(0x44); // nothing was in service any more
    good = good && w.ended[11] == 1;

    // A kernel that ends it by making an edge of it.
    w.apic.set(11, wire_level::asserted);
    w.entry(11, masked | 0x44);
    good = good && w.ended[11] == 2;
    w.entry(11, level | 0x44);
    return good && w.out.count == 2 && w.ended[11] == 2;
}

} // namespace

TEST_CASE("the end of a level-triggered interrupt is told before the level is looked at anew",
          "[vmm_pc][ioapic]") {
    STATIC_REQUIRE(an_end_is_told_before_the_level_is_looked_at());
    REQUIRE(an_end_is_told_before_the_level_is_looked_at());
}
