// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/interrupt_controllers.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::lapic::wire_level;
using pair = vmm::pc::interrupt_controllers;

constexpr std::uint8_t icw4 = 0x01;
constexpr std::uint8_t automatic_end = 0x03;

/// As every PC kernel does it: vectors 0x20 and 0x28.
constexpr void initialise(pair& pic, std::uint8_t how = icw4) {
    pic.write(0x20, 0x11);
    pic.write(0xA0, 0x11);
    pic.write(0x21, 0x20);
    pic.write(0xA1, 0x28);
    pic.write(0x21, 0x04);
    pic.write(0xA1, 0x02);
    pic.write(0x21, how);
    pic.write(0xA1, how);
    pic.write(0x21, 0x00);
    pic.write(0xA1, 0x00);
}

constexpr void raise(pair& pic, unsigned irq) { pic.set(irq, wire_level::asserted); }
constexpr void lower(pair& pic, unsigned irq) { pic.set(irq, wire_level::deasserted); }

constexpr std::uint8_t in_service(pair& pic, std::uint16_t port) {
    pic.write(port, 0x0B);
    return pic.read(port);
}
constexpr std::uint8_t requests(pair& pic, std::uint16_t port) {
    pic.write(port, 0x0A);
    return pic.read(port);
}

constexpr bool one_interrupt_from_each() {
    pair pic{};
    raise(pic, 0);
    bool good = !pic.output(); // masked after power-up
    initialise(pic);
    lower(pic, 0);
    for (unsigned irq = 0; irq != 16; ++irq) {
        if (irq == 2) {
            continue;
        }
        raise(pic, irq);
        good = good && pic.output() && pic.acknowledge() == 0x20 + irq && !pic.output();
        lower(pic, irq);
        good = good && in_service(pic, 0x20) == (irq < 8 ? 1U << irq : 4U) &&
               in_service(pic, 0xA0) == (irq < 8 ? 0U : 1U << (irq - 8));
        if (irq >= 8) {
            pic.write(0xA0, 0x20);
        }
        pic.write(0x20, 0x20);
        good = good && in_service(pic, 0x20) == 0 && in_service(pic, 0xA0) == 0;
    }
    return good;
}

} // namespace

TEST_CASE("each of the fifteen lines interrupts with its vector", "[vmm_pc][8259]") {
    static_assert(one_interrupt_from_each());
    REQUIRE(one_interrupt_from_each());
}

TEST_CASE("a higher priority interrupts a lower one, and not the other way round",
          "[vmm_pc][8259]") {
    pair pic;
    initialise(pic);
    raise(pic, 3);
    CHECK(pic.acknowledge() == 0x23);
    raise(pic, 5);
    CHECK_FALSE(pic.output());
    raise(pic, 9); // behind input 2
    CHECK(pic.output());
    CHECK(pic.acknowledge() == 0x29);
    raise(pic, 8); // above 9, but input 2 of the first is in service
    CHECK_FALSE(pic.output());
    raise(pic, 1);
    CHECK(pic.acknowledge() == 0x21);
    pic.write(0x20, 0x20); // 1
    pic.write(0xA0, 0x20);
    pic.write(0x20, 0x20); // 9
    CHECK(pic.acknowledge() == 0x28);
    pic.write(0xA0, 0x20);
    pic.write(0x20, 0x20);
    CHECK_FALSE(pic.output()); // 3 is still in service
    pic.write(0x20, 0x63);     // specific end of 3
    CHECK(pic.acknowledge() == 0x25);
}

TEST_CASE("an edge interrupts once, a level until the device is served", "[vmm_pc][8259]") {
    pair pic;
    initialise(pic);
    raise(pic, 4);
    CHECK(pic.acknowledge() == 0x24);
    pic.write(0x20, 0x20);
    CHECK_FALSE(pic.output()); // the line is still up
    lower(pic, 4);
    raise(pic, 4);
    CHECK(pic.output());

    pic.write(0x4D0, 0xFF);
    CHECK(pic.read(0x4D0) == 0xF8); // IRQ 0 to 2 cannot be levels
    pic.write(0x4D1, 0xFF);
    CHECK(pic.read(0x4D1) == 0xDE); // nor 8 and 13
    CHECK(pic.acknowledge() == 0x24);
    pic.write(0x20, 0x20);
    CHECK(pic.acknowledge() == 0x24); // again
    raise(pic, 11);
    lower(pic, 4);
    pic.write(0x20, 0x20);
    CHECK(pic.acknowledge() == 0x2B);
    pic.write(0xA0, 0x20);
    pic.write(0x20, 0x20);
    CHECK(pic.acknowledge() == 0x2B);
    lower(pic, 11);
    pic.write(0xA0, 0x20);
    pic.write(0x20, 0x20);
    CHECK_FALSE(pic.output());
}

TEST_CASE("a request that has gone before INTA is spurious: input 7, and not in service",
          "[vmm_pc][8259]") {
    pair pic;
    initialise(pic);
    raise(pic, 6);
    REQUIRE(pic.output());
    lower(pic, 6);
    CHECK(pic.acknowledge() == 0x27);
    CHECK(in_service(pic, 0x20) == 0);
    raise(pic, 12);
    pic.write(0xA1, 0xFF);
    CHECK(pic.acknowledge() == 0x27);
    pic.write(0xA1, 0x00);
    CHECK(pic.acknowledge() == 0x2C);
}

TEST_CASE("a masked request waits, and IRR shows it", "[vmm_pc][8259]") {
    pair pic;
    initialise(pic);
    pic.write(0x21, 0x08);
    CHECK(pic.read(0x21) == 0x08);
    raise(pic, 3);
    CHECK_FALSE(pic.output());
    CHECK(requests(pic, 0x20) == 0x08);
    pic.write(0x21, 0x00);
    CHECK(pic.acknowledge() == 0x23);
    CHECK(requests(pic, 0x20) == 0);
}

TEST_CASE("with automatic end nothing stays in service", "[vmm_pc][8259]") {
    pair pic;
    initialise(pic, automatic_end);
    raise(pic, 0);
    raise(pic, 15);
    CHECK(pic.acknowledge() == 0x20);
    CHECK(pic.acknowledge() == 0x2F);
    CHECK(in_service(pic, 0x20) == 0);
    CHECK(in_service(pic, 0xA0) == 0);
    CHECK_FALSE(pic.output());
}

TEST_CASE("priorities rotate when the end says so", "[vmm_pc][8259]") {
    pair pic;
    initialise(pic);
    raise(pic, 3);
    CHECK(pic.acknowledge() == 0x23);
    pic.write(0x20, 0xA0); // rotate on non-specific end: 3 is the lowest now
    lower(pic, 3);
    raise(pic, 3);
    raise(pic, 6);
    CHECK(pic.acknowledge() == 0x26);
    pic.write(0x20, 0x20);
    CHECK(pic.acknowledge() == 0x23);
    pic.write(0x20, 0x20);
    pic.write(0x20, 0xC5); // set priority: 5 is the lowest, 6 the highest
    lower(pic, 6);
    raise(pic, 6);
    raise(pic, 0);
    CHECK(pic.acknowledge() == 0x26);
}

namespace {

/// A bit for each IRQ that has ended: by the EOI of either kind, at the controller that has the input, or at
/// its acknowledge.
constexpr bool ends_are_told_once() {
    pair pic{};
    initialise(pic);
    raise(pic, 11);
    bool good = pic.acknowledge() == 0x2B && pic.take_ended() == 0;
    pic.write(0x20, 0x20); // of the first controller it is input 2 that ends
    good = good && pic.take_ended() == 1U << 2;
    pic.write(0xA0, 0x20);
    good = good && pic.take_ended() == 1U << 11 && pic.take_ended() == 0;
    pic.write(0xA0, 0x20); // nothing is in service
    good = good && pic.take_ended() == 0;

    raise(pic, 5);
    good = good && pic.acknowledge() == 0x25;
    pic.write(0x20, 0x65); // specific
    good = good && pic.take_ended() == 1U << 5;

    initialise(pic, automatic_end);
    lower(pic, 5);
    raise(pic, 5);
    good = good && pic.acknowledge() == 0x25 && pic.take_ended() == 1U << 5;
    lower(pic, 5);
    return good && pic.acknowledge() == 0x27 && pic.take_ended() == 0; // spurious
}

} // namespace

TEST_CASE("in special mask mode what is masked holds nothing back", "[vmm_pc][8259]") {
    pair pic{};
    initialise(pic);
    raise(pic, 3);
    REQUIRE(pic.acknowledge() == 0x23);
    raise(pic, 6);
    pic.write(0x21, 0x08); // IRQ 3
    CHECK_FALSE(pic.output());
    pic.write(0x20, 0x68); // OCW3: set special mask
    CHECK(pic.output());
    CHECK(pic.acknowledge() == 0x26);
    pic.write(0x20, 0x20); // ends the one that is not masked
    CHECK(in_service(pic, 0x20) == 0x08);
    pic.write(0x20, 0x48); // and reset
    raise(pic, 7);
    CHECK_FALSE(pic.output());
    pic.write(0x20, 0x63);
    CHECK(in_service(pic, 0x20) == 0);
    CHECK(pic.output());
}

TEST_CASE("the poll command acknowledges by a read", "[vmm_pc][8259]") {
    pair pic{};
    initialise(pic);
    pic.write(0x20, 0x0C);
    CHECK((pic.read(0x20) & 0x80) == 0); // there is nothing
    CHECK(pic.read(0x20) == 0);          // and that read was IRR again
    raise(pic, 1);
    pic.write(0x20, 0x0C);
    CHECK((pic.read(0x20) & 0x87) == 0x81);
    CHECK_FALSE(pic.output());
    CHECK(in_service(pic, 0x20) == 0x02);
    pic.write(0x20, 0x20);
    raise(pic, 12);
    pic.write(0x20, 0x0C);
    CHECK((pic.read(0x21) & 0x87) == 0x82); // either port; the second one is polled by itself
    pic.write(0xA0, 0x0C);
    CHECK((pic.read(0xA1) & 0x87) == 0x84);
    CHECK(in_service(pic, 0xA0) == 0x10);
    CHECK(pic.read(0x21) == 0x00); // the mask again
}

TEST_CASE("the end of an interrupt is told, once", "[vmm_pc][8259]") {
    STATIC_REQUIRE(ends_are_told_once());
    REQUIRE(ends_are_told_once());
}
