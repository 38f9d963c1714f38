// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/chipset.hpp"

#include "test_clock.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using pt::width;
using pt::lapic::message;
using vmm::pc::run_end;
using vmm_pc_test::test_clock;

struct to_text {
    std::string* text;
    void operator()(std::uint8_t byte) const { *text += static_cast<char>(byte); }
};
struct to_list {
    std::vector<message>* list;
    pt::lapic::delivery operator()(const message& sent) const {
        list->push_back(sent);
        return {.reached = 1};
    }
};
using chipset = vmm::pc::chipset<test_clock, to_text, to_list>;
static_assert(pt::assign::platform<vmm::pc::platform_of<chipset>>);
static_assert(pt::lapic::guest_line<vmm::pc::isa_line<chipset>>);

struct machine {
    std::uint64_t time = 0;
    std::string text;
    std::vector<message> sent;
    chipset pc{test_clock{&time}, to_text{&text}, to_list{&sent}, 0, 1 << 28};

    std::uint32_t in(std::uint16_t port, width size = width::byte) {
        const auto value = pc.read_port(pt::io_port{port}, size);
        return value ? *value : 0xDEAD'BEEF;
    }
    void out(std::uint16_t port, std::uint32_t value, width size = width::byte) {
        REQUIRE(pc.write_port(pt::io_port{port}, size, value));
    }
    void redirect(unsigned pin, std::uint32_t entry) {
        const auto write = [&](std::uint64_t offset, std::uint64_t value) {
            REQUIRE(pc.write_memory(pt::gpa{0xFEC0'0000 + offset}, pt::mmio_width::dword, value));
        };
        write(0x00, 0x10 + 2 * pin);
        write(0x10, entry);
    }
    void unmask_8259(int icw4 = 0x01) {
        for (const auto& [port, value] : {std::pair{0x20, 0x11},
                                          {0xA0, 0x11},
                                          {0x21, 0x20},
                                          {0xA1, 0x28},
                                          {0x21, 0x04},
                                          {0xA1, 0x02},
                                          {0x21, icw4},
                                          {0xA1, icw4},
                                          {0x21, 0x00},
                                          {0xA1, 0x00}}) {
            out(static_cast<std::uint16_t>(port), static_cast<std::uint32_t>(value));
        }
    }
};

} // namespace

TEST_CASE("each line arrives at both controllers, IRQ 0 at pin 2", "[vmm_pc][chipset]") {
    machine m;
    m.unmask_8259();
    for (unsigned pin = 0; pin != 24; ++pin) {
        m.redirect(pin, 0x40 + pin);
    }
    m.redirect(0, 1U << 16); // pin 0 has the 8259s
    for (unsigned irq = 0; irq != 16; ++irq) {
        if (irq == 2) {
            continue;
        }
        m.sent.clear();
        m.pc.set_line(irq, pt::lapic::wire_level::deasserted);
        m.pc.set_line(irq, pt::lapic::wire_level::asserted);
        REQUIRE(m.sent.size() == 1);
        CHECK(m.sent[0].vector == 0x40 + (irq == 0 ? 2 : irq));
        REQUIRE(m.pc.interrupts());
        CHECK(m.pc.acknowledge() == 0x20 + irq);
        m.out(0xA0, 0x20);
        m.out(0x20, 0x20);
        m.pc.set_line(irq, pt::lapic::wire_level::deasserted);
    }
}

TEST_CASE("pin 0 of the I/O APIC has the 8259s, one edge for each interrupt", "[vmm_pc][chipset]") {
    machine m;
    m.unmask_8259();
    m.redirect(0, 0x700); // ExtINT
    m.pc.set_line(1, pt::lapic::wire_level::asserted);
    m.pc.set_line(3, pt::lapic::wire_level::asserted);
    REQUIRE(m.sent.size() == 1);
    CHECK(m.sent[0].delivery == pt::lapic::delivery_mode::extint);
    CHECK(m.pc.acknowledge() == 0x21);
    CHECK(m.sent.size() == 1); // 3 waits for the end of 1
    m.out(0x20, 0x20);
    CHECK(m.sent.size() == 2);
    CHECK(m.pc.acknowledge() == 0x23);

    m.unmask_8259(0x03); // automatic end: the output falls with INTA only
    m.pc.set_line(1, pt::lapic::wire_level::deasserted);
    m.pc.set_line(3, pt::lapic::wire_level::deasserted);
    m.sent.clear();
    m.pc.set_line(1, pt::lapic::wire_level::asserted);
    m.pc.set_line(3, pt::lapic::wire_level::asserted);
    CHECK(m.sent.size() == 1);
    CHECK(m.pc.acknowledge() == 0x21);
    CHECK(m.sent.size() == 2);
    CHECK(m.pc.acknowledge() == 0x23);
    CHECK(m.sent.size() == 2);
}

TEST_CASE("time moves the timer's and the clock's lines", "[vmm_pc][chipset]") {
    machine m;
    m.unmask_8259();
    m.out(0x43, 0x34);
    m.out(0x40, 0xA9);
    m.out(0x40, 0x04); // 1193: 1 kHz
    m.out(0x70, 0x0B);
    m.out(0x71, 0x12); // update-ended
    m.pc.update_lines();
    unsigned ticks = 0;
    unsigned updates = 0;
    while (m.time < 2'500'000'000) {
        const std::uint64_t next = m.pc.next_deadline();
        REQUIRE(next > m.time);
        m.time = next;
        m.pc.update_lines();
        while (m.pc.interrupts()) {
            const std::uint8_t vector = m.pc.acknowledge();
            ticks += vector == 0x20 ? 1 : 0;
            if (vector == 0x28) {
                ++updates;
                m.out(0x70, 0x0C);
                CHECK((m.in(0x71) & 0x90) == 0x90);
                m.out(0xA0, 0x20);
            }
            m.out(0x20, 0x20);
        }
    }
    CHECK(ticks >= 2499);
    CHECK(ticks <= 2501);
    CHECK(updates == 2);
}

TEST_CASE("a driver that sends by interrupt sends everything", "[vmm_pc][chipset]") {
    machine m;
    m.unmask_8259();
    m.out(0x3FC, 0x0B);
    const std::string all = "by interrupt";
    std::size_t next = 0;
    m.out(0x3F9, 0x02); // and from now on nothing but the handler writes
    unsigned interrupts = 0;
    while (m.pc.interrupts()) {
        REQUIRE(m.pc.acknowledge() == 0x24);
        REQUIRE(++interrupts < 100);
        if (next < all.size()) { // without a look at the identification, as some do
            m.out(0x3F8, static_cast<std::uint8_t>(all[next++]));
        } else {
            CHECK((m.in(0x3FA) & 0xF) == 0x2);
        }
        m.out(0x20, 0x20);
    }
    CHECK(m.text == all);
}

TEST_CASE("what is typed arrives at IRQ 4", "[vmm_pc][chipset]") {
    machine m;
    m.unmask_8259();
    m.out(0x3FC, 0x08);
    m.out(0x3F9, 0x01);
    m.pc.receive('x');
    REQUIRE(m.pc.interrupts());
    CHECK(m.pc.acknowledge() == 0x24);
    CHECK(m.in(0x3F8) == 'x');
    m.out(0x20, 0x20);
    CHECK_FALSE(m.pc.interrupts());
}

TEST_CASE("ports that are nobody's are absent, wide accesses are made of bytes",
          "[vmm_pc][chipset]") {
    machine m;
    for (const unsigned number :
         {0x10U, 0x80U, 0x2F8U, 0x378U, 0x3F7U, 0x1F0U, 0x60CU, 0xCF8U, 0xFFFFU}) {
        const auto port = static_cast<std::uint16_t>(number);
        CHECK(m.pc.read_port(pt::io_port{port}, width::byte) == pt::error{pt::errc::absent, port});
        CHECK(m.pc.write_port(pt::io_port{port}, width::byte, 0) ==
              pt::error{pt::errc::absent, port});
    }
    m.out(0x21, 0x5A);
    CHECK(m.in(0x20, width::word) == 0x5A00);
    CHECK(m.in(0x21, width::word) == 0xFF5A);         // nobody is at 0x22
    CHECK(m.in(0x3F7, width::word) == 0x00FF);        // nor at 0x3F7, and nothing was received
    CHECK(m.in(0xFFFE, width::dword) == 0xDEAD'BEEF); // not around the end
    unsigned taken = 0;
    for (unsigned port = 0; port != 0x1'0000; ++port) {
        taken += m.pc.read_port(pt::io_port{static_cast<std::uint16_t>(port)}, width::byte) ? 1 : 0;
    }
    unsigned promised = 0;
    for (const auto& each : chipset::ports) {
        promised += static_cast<unsigned>(each.size());
    }
    CHECK(taken == promised);
    CHECK(m.pc.read_memory(pt::gpa{0xFEBF'FFFF}, pt::mmio_width::byte).error().code ==
          pt::errc::absent);
    CHECK(m.pc.write_memory(pt::gpa{0xFEC0'1000}, pt::mmio_width::byte, 0).error().code ==
          pt::errc::absent);
}

TEST_CASE("the ways to end a run", "[vmm_pc][chipset]") {
    const auto after = [](auto... writes) {
        machine m;
        (m.out(static_cast<std::uint16_t>(writes.first), writes.second), ...);
        return m.pc.ended();
    };
    using access = std::pair<unsigned, std::uint32_t>;
    CHECK(after() == run_end::none);
    CHECK(after(access{0xF4, 0}) == run_end::exit_port);
    CHECK(after(access{0xCF9, 0x02}) == run_end::none);
    CHECK(after(access{0xCF9, 0x02}, access{0xCF9, 0x06}) == run_end::reset);
    CHECK(after(access{0xCF9, 0x0E}) == run_end::reset);
    CHECK(after(access{0x64, 0xFE}) == run_end::reset);
    CHECK(after(access{0x64, 0xF0}) == run_end::reset);
    CHECK(after(access{0x64, 0xFF}) == run_end::none);                     // pulses nothing
    CHECK(after(access{0x64, 0xD1}, access{0x60, 0xDF}) == run_end::none); // A20
    CHECK(after(access{0x92, 0x02}) == run_end::none);
    CHECK(after(access{0x92, 0x03}) == run_end::reset);
    CHECK(after(access{0x604, 0x00}, access{0x605, 0x34}) == run_end::power_off); // SLP_EN, type 5
    CHECK(after(access{0x605, 0x14}) == run_end::none);

    machine m;
    m.out(0xF4, 0x1234'5678, width::dword);
    CHECK(m.pc.exit_code() == 0x1234'5678);
    CHECK(vmm::pc::exit_port{true, 0x31}.status() == 99); // as QEMU's isa-debug-exit
}

TEST_CASE("the power management timer counts at 3.579545 MHz, and its bytes belong together",
          "[vmm_pc][chipset]") {
    machine m;
    m.time = 1'000'000'000;
    CHECK(m.in(0x608, width::dword) == 3'579'545);
    m.time = 4'700'000'000; // 16.8 million: beyond 24 bits
    CHECK(m.in(0x608, width::dword) == 16'823'861 - 0x100'0000);
    CHECK((m.in(0x604, width::word) & 1) == 1); // SCI_EN: ACPI mode
    m.out(0x602, 0x0120, width::word);
    CHECK(m.in(0x602, width::word) == 0x0120);
    CHECK(m.in(0x600, width::word) == 0); // no event
}

TEST_CASE("who asserts a line is told that its interrupt has ended, by either controller",
          "[vmm_pc][chipset]") {
    machine m;
    struct line {
        machine* of;
        unsigned ends = 0;
        static void end(void* whom) {
            auto* const self = static_cast<line*>(whom);
            ++self->ends;
            self->of->pc.set_line(11, pt::lapic::wire_level::deasserted);
        }
    } watched{&m};
    m.pc.tell_end(11, {line::end, &watched});
    m.unmask_8259();
    m.out(0x4D1, 1U << 3); // IRQ 11 is a level
    const auto assert_line = [&] { m.pc.set_line(11, pt::lapic::wire_level::asserted); };

    SECTION("the 8259s") {
        assert_line();
        CHECK(m.pc.interrupts());
        CHECK(m.pc.acknowledge() == 0x2B);
        CHECK(watched.ends == 0);
        m.out(0xA0, 0x20);
        CHECK(watched.ends == 1);
        m.out(0x20, 0x20);
        CHECK(watched.ends == 1);
        CHECK_FALSE(m.pc.interrupts());
        assert_line();
        CHECK(m.pc.acknowledge() == 0x2B);
    }
    SECTION("the 8259s, when interrupts end by themselves") {
        m.unmask_8259(0x03);
        assert_line();
        CHECK(m.pc.acknowledge() == 0x2B);
        CHECK(watched.ends == 1);
        CHECK_FALSE(m.pc.interrupts());
    }
    SECTION("the I/O APIC") {
        m.redirect(11, 1U << 15 | 0x77);
        assert_line();
        const auto sent_before = m.sent.size();
        m.pc.end_of_interrupt(0x78);
        CHECK(watched.ends == 0);
        m.pc.end_of_interrupt(0x77);
        CHECK(watched.ends == 1);
        CHECK(m.sent.size() == sent_before);
        assert_line();
        CHECK(m.sent.size() == sent_before + 1);
    }
}
