// SPDX-License-Identifier: BSL-1.0
// The register page as a guest sees it by memory: which registers are there, which of their bits, and
// what accesses of other sizes do. Expected values are [sdm, Local APIC Register Address Map] and the
// figures of the registers.
#include "apic_rig.hpp"

#include "pt/lapic/effect.hpp"
#include "pt/lapic/processor_signal.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::rig;
using pt::mmio_width;
using pt::lapic::delivery_mode;
using pt::lapic::destination_format;
using pt::lapic::destination_mode;
using pt::lapic::effect;
using pt::lapic::effect_kind;
using pt::lapic::message;
using pt::lapic::shorthand;

/// One line for each register: what it reads after all ones were written, while software-enabled.
struct expectation {
    std::uint32_t offset;
    std::uint32_t after_ones;
    std::uint32_t after_zeros;
};
constexpr expectation expected[] = {
    {0x020, 0x0500'0000, 0x0500'0000}, // id: read-only here
    {0x030, 0x0006'0014, 0x0006'0014}, // version: xAPIC, seven LVT entries
    {0x080, 0x0000'00FF, 0},           // TPR
    {0x090, 0, 0},                     // APR: not on xAPIC processors, and no error
    {0x0B0, 0, 0},                     // EOI: write-only
    {0x0C0, 0, 0},                     // remote read: likewise
    {0x0D0, 0xFF00'0000, 0},           // LDR
    {0x0E0, 0xFFFF'FFFF, 0x0FFF'FFFF}, // DFR
    {0x2F0, 0x0001'07FF, 0},           // CMCI
    {0x310, 0xFF00'0000, 0},           // ICR, upper half
    {0x320, 0x0007'00FF, 0},           // timer
    {0x330, 0x0001'07FF, 0},           // thermal sensor
    {0x340, 0x0001'07FF, 0},           // performance counters
    {0x350, 0x0001'A7FF, 0},           // LINT0: not delivery status, not remote IRR
    {0x360, 0x0001'A7FF, 0},           // LINT1
    {0x370, 0x0001'00FF, 0},           // error: no delivery mode
    {0x3E0, 0x0000'000B, 0},           // divide configuration
};

TEST_CASE("each register takes the bits that it has", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto& [offset, after_ones, after_zeros] : expected) {
            rig vm;
            vm.enable();
            vm.write(offset, 0xFFFF'FFFF);
            good = good && vm.read(offset) == after_ones;
            vm.write(offset, 0);
            good = good && vm.read(offset) == after_zeros && vm.errors() == 0;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
    for (const auto& [offset, after_ones, after_zeros] : expected) {
        rig vm;
        vm.enable();
        vm.write(offset, 0xFFFF'FFFF);
        CAPTURE(offset);
        REQUIRE(vm.read(offset) == after_ones);
        vm.write(offset, 0);
        REQUIRE(vm.read(offset) == after_zeros);
    }
}

TEST_CASE("ISR, TMR, IRR and PPR are read-only", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.level(0x45);
        vm.apic.acknowledge();
        vm.edge(0xE1);
        bool good = true;
        for (const std::uint32_t offset : {0x120U, 0x1A0U, 0x270U, 0x0A0U, 0x170U}) {
            const std::uint64_t before = vm.read(offset);
            vm.write(offset, 0xFFFF'FFFF);
            vm.write(offset, 0);
            good = good && vm.read(offset) == before;
        }
        return good && vm.read(0x120) == 0x20 && vm.read(0x1A0) == 0x20 && vm.read(0x270) == 2 &&
               vm.read(0x0A0) == 0x40 && vm.errors() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("SVR: the suppression bit is there only where it is offered", "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig plain;
        plain.write(0x0F0, 0xFFFF'FFFF);
        bool good = plain.read(0x0F0) == 0x3FF;
        rig suppressing{lapic_test::suppressing};
        suppressing.write(0x0F0, 0xFFFF'FFFF);
        good = good && suppressing.read(0x0F0) == 0x13FF && suppressing.read(0x030) == 0x0106'0014;
        suppressing.write(0x0F0, 0);
        return good && suppressing.read(0x0F0) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

/// [sdm]: these, of all multiples of 16 in the page, are reserved in xAPIC mode.
constexpr bool is_reserved(std::uint32_t offset) {
    return offset < 0x020 || (offset >= 0x040 && offset < 0x080) ||
           (offset >= 0x290 && offset < 0x2F0) || (offset >= 0x3A0 && offset < 0x3E0) ||
           offset >= 0x3F0;
}

TEST_CASE("a reserved register reads 0, ignores writes, and is an error in ESR", "[lapic]") {
    const auto check = [] {
        bool good = true;
        for (std::uint32_t offset = 0; offset < 0x1000; offset += 16) {
            rig vm;
            vm.enable();
            good = good && (!is_reserved(offset) || vm.read(offset) == 0);
            const std::uint64_t expects = is_reserved(offset) ? 0x80 : 0;
            good = good && vm.errors() == (offset == 0x280 ? 0 : expects);
            if (is_reserved(offset)) {
                vm.write(offset, 0xFFFF'FFFF);
                good = good && vm.errors() == 0x80 && vm.read(offset) == 0;
            }
        }
        return good;
    };
    REQUIRE(check());
}

TEST_CASE("bytes and words inside a register read their part, and write nothing", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x350, 0x0001'A712);
        bool good = vm.apic.read(0x350, mmio_width::byte) == 0x12 &&
                    vm.apic.read(0x351, mmio_width::byte) == 0xA7 &&
                    vm.apic.read(0x352, mmio_width::byte) == 0x01 &&
                    vm.apic.read(0x353, mmio_width::byte) == 0x00 &&
                    vm.apic.read(0x350, mmio_width::word) == 0xA712 &&
                    vm.apic.read(0x351, mmio_width::word) == 0x01A7 &&
                    vm.apic.read(0x352, mmio_width::word) == 0x0001;
        for (const std::uint32_t offset : {0x350U, 0x351U, 0x352U, 0x353U}) {
            (void)vm.apic.write(offset, mmio_width::byte, 0);
            (void)vm.apic.write(offset, mmio_width::word, 0);
        }
        (void)vm.apic.write(0x350, mmio_width::qword, 0);
        return good && vm.read(0x350) == 0x0001'A712 && vm.errors() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what touches bytes 4..15, runs past the page or is 8 bytes reads 0 and writes nothing",
          "[lapic][rule 28]") {
    const auto check = [] {
        rig vm;
        vm.enable();
        const auto before = vm.apic.save();
        bool good = true;
        for (std::uint32_t offset = 0; offset != 0x1010; ++offset) {
            for (const auto size :
                 {mmio_width::byte, mmio_width::word, mmio_width::dword, mmio_width::qword}) {
                if (offset < 0x1000 && offset % 16 + size_of(size) <= 4) {
                    continue;
                }
                good = good && vm.apic.read(offset, size) == 0;
                good = good && vm.apic.write(offset, size, ~std::uint64_t{0}) == effect{};
            }
        }
        for (const std::uint32_t offset : {0x8000'0080U, 0xFFFF'FFFFU, 0xFFFF'FFF0U, 0x1080U}) {
            good = good && vm.apic.read(offset, mmio_width::dword) == 0;
            good = good && vm.apic.write(offset, mmio_width::dword, 0xFF) == effect{};
        }
        return good && vm.apic.save() == before;
    };
    REQUIRE(check());
}

TEST_CASE("bits above 31 of the value do not matter to a dword", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.write(0x080, 0xFFFF'FFFF'0000'0030);
        return vm.read(0x080) == 0x30;
    };
    static_assert(check());
    REQUIRE(check());
}

// The interrupt command register [sdm, Valid Combinations for the Pentium 4 and Intel Xeon Processors'
// Local xAPIC Interrupt Command Register].

TEST_CASE("the lower half of ICR sends to the destination in the upper one", "[lapic]") {
    constexpr auto check = [] {
        rig vm; // software-disabled: it can send all the same
        bool good = vm.effect_of(0x310, 0x2A00'0000) == effect{};
        const effect sent = vm.effect_of(0x300, 0x0000'4851); // fixed, logical, assert
        good = good && sent.kind == effect_kind::send;
        good = good && sent.command == message{.delivery = delivery_mode::fixed,
                                               .vector = 0x51,
                                               .mode = destination_mode::logical,
                                               .format = destination_format::xapic,
                                               .destination = 0x2A};
        // Delivery status is never pending; reserved bits are not kept.
        good = good && vm.read(0x300) == 0x4851;
        vm.write(0x300, 0xFFFF'FFFF);
        return good && vm.read(0x300) == 0x000C'CFFF && vm.read(0x310) == 0x2A00'0000;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what may be sent with which shorthand", "[lapic][rule 30]") {
    constexpr auto check = [] {
        // Delivery modes 0..7 as bits: fixed 0, lowest priority 1, SMI 2, NMI 4, INIT 5, start-up 6.
        // 3 is reserved and ExtINT, 7, is no IPI.
        constexpr std::uint32_t sends[4] = {0b0111'0111, 0b0000'0001, 0b0000'0001, 0b0111'0111};
        bool good = true;
        for (std::uint32_t to = 0; to != 4; ++to) {
            for (std::uint32_t mode = 0; mode != 8; ++mode) {
                for (const std::uint32_t edge_or_level : {0x4000U, 0xC000U}) {
                    rig vm;
                    const effect made =
                        vm.effect_of(0x300, to << 18 | mode << 8 | edge_or_level | 0x61);
                    const bool is_sent = made.kind == effect_kind::send;
                    good = good && is_sent == ((sends[to] >> mode & 1) != 0);
                    if (is_sent) { // an edge, whatever the trigger bit says
                        good = good && made.command.to == static_cast<shorthand>(to) &&
                               made.command.delivery == static_cast<delivery_mode>(mode) &&
                               made.command.trigger == pt::lapic::trigger_mode::edge;
                    }
                    good = good && vm.errors() == 0;
                }
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("INIT level de-assert is nothing", "[lapic][rule 30]") {
    constexpr auto check = [] {
        rig vm;
        return vm.effect_of(0x300, 0x000C'8500) == effect{} && vm.read(0x300) == 0x000C'8500 &&
               vm.effect_of(0x300, 0x000C'4500).kind == effect_kind::send;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an illegal vector is not sent: ESR, send illegal vector", "[lapic][rule 26]") {
    constexpr auto check = [] {
        bool good = true;
        for (std::uint32_t vector = 0; vector != 17; ++vector) {
            for (std::uint32_t mode = 0; mode != 7; ++mode) {
                rig vm;
                const bool is_sent =
                    vm.effect_of(0x300, mode << 8 | 0x4000 | vector).kind == effect_kind::send;
                const bool is_illegal = mode < 2 && vector < 16;
                good = good && is_sent == (!is_illegal && mode != 3);
                good = good && vm.errors() == (is_illegal ? 0x20 : 0);
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

// INIT [sdm, Local APIC State After It Receives an INIT-Deassert Message].

TEST_CASE("INIT puts the registers into their state and keeps id and mode", "[lapic][rule 30]") {
    constexpr auto check = [] {
        rig vm{lapic_test::application};
        vm.enable();
        vm.write(0x080, 0x20);
        vm.write(0x0D0, 0x4200'0000);
        vm.write(0x0E0, 0x0FFF'FFFF);
        vm.write(0x320, 0x0002'0031);
        vm.write(0x380, 10);
        vm.edge(0x80);
        vm.edge(0x81);
        vm.apic.acknowledge();
        (void)vm.inbox.post(message{.delivery = delivery_mode::init});
        vm.apic.synchronize();
        vm.now += 100;
        bool good = vm.read(0x020) == 0x2300'0000 && vm.read(0x080) == 0 && vm.read(0x0D0) == 0 &&
                    vm.read(0x0E0) == 0xFFFF'FFFF && vm.read(0x0F0) == 0xFF &&
                    vm.read(0x320) == 0x0001'0000 && vm.read(0x380) == 0 && vm.read(0x0A0) == 0 &&
                    vm.page.irr.highest() == 0 && vm.page.isr.highest() == 0;
        good = good && vm.apic.next_deadline() == pt::lapic::deadline{};
        return good && vm.apic.pending() == 0 &&
               vm.apic.next_signal().kind == pt::lapic::signal_kind::init;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a write that comes after an INIT belongs to a program that is no more", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        (void)vm.inbox.post(message{.delivery = delivery_mode::init});
        vm.enable();
        bool good = vm.read(0x0F0) == 0xFF && vm.apic.set_cr8(7) && vm.apic.cr8() == 0 &&
                    vm.wrmsr(0x1B, 0) && vm.rdmsr(0x1B) == 0xFEE0'0900;
        good = good && vm.apic.next_signal().kind == pt::lapic::signal_kind::init;
        vm.enable();
        return good && vm.read(0x0F0) == 0x1FF;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a start-up counts only while waiting, and the first one", "[lapic][rule 30]") {
    constexpr auto check = [] {
        using pt::lapic::processor_signal;
        using pt::lapic::signal_kind;
        const auto post = [](rig& vm, delivery_mode mode, std::uint8_t vector) {
            (void)vm.inbox.post(message{.delivery = mode, .vector = vector});
            vm.apic.synchronize();
        };
        rig vm{lapic_test::application};
        bool good = vm.apic.waiting_for_start_up() && !vm.apic.has_work(); // from power-up on
        post(vm, delivery_mode::smi, 0);
        good = good && vm.apic.next_signal() == processor_signal{} && !vm.apic.has_work();
        post(vm, delivery_mode::start_up, 0x9A);
        post(vm, delivery_mode::start_up, 0x9B);
        good = good && vm.apic.has_work() && vm.apic.waiting_for_start_up();
        good = good && vm.apic.next_signal() == processor_signal{signal_kind::start_up, 0x9A};
        good = good && !vm.apic.waiting_for_start_up();
        good = good && vm.apic.next_signal() == processor_signal{signal_kind::smi, 0};
        post(vm, delivery_mode::start_up, 0x9C); // it runs
        good = good && vm.apic.next_signal() == processor_signal{};
        post(vm, delivery_mode::start_up, 0x9D);
        post(vm, delivery_mode::init, 0);
        good = good && vm.apic.next_signal() == processor_signal{signal_kind::init, 0};
        good =
            good && vm.apic.next_signal() == processor_signal{} && vm.apic.waiting_for_start_up();
        // INIT and start-up arrive together.
        (void)vm.inbox.post(message{.delivery = delivery_mode::init});
        (void)vm.inbox.post(message{.delivery = delivery_mode::start_up, .vector = 0x11});
        vm.apic.synchronize();
        good = good && vm.apic.next_signal().kind == signal_kind::init &&
               vm.apic.next_signal() == processor_signal{signal_kind::start_up, 0x11};
        // The bootstrap processor never waits.
        rig boot;
        post(boot, delivery_mode::init, 0);
        post(boot, delivery_mode::start_up, 0x22);
        return good && boot.apic.next_signal().kind == signal_kind::init &&
               boot.apic.next_signal() == processor_signal{} && !boot.apic.waiting_for_start_up();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("NMI and ExtINT messages are one latch each", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        for (int twice = 0; twice != 2; ++twice) {
            (void)vm.inbox.post(message{.delivery = delivery_mode::nmi});
            (void)vm.inbox.post(message{.delivery = delivery_mode::extint});
            vm.apic.synchronize();
        }
        bool good = vm.apic.nmi_pending() && vm.apic.extint_pending() && vm.apic.has_work();
        vm.apic.take_nmi();
        good = good && !vm.apic.nmi_pending() && vm.apic.has_work();
        vm.apic.take_extint();
        return good && !vm.apic.extint_pending() && !vm.apic.has_work();
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
