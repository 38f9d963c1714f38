// SPDX-License-Identifier: BSL-1.0
// The local vector table: events inside the processor, the two pins, and the timer in the local APIC
// [sdm, Handling Local Interrupts].
#include "apic_rig.hpp"

#include "pt/lapic/local_wire.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::rig;
using pt::lapic::deadline;
using pt::lapic::local_source;
using pt::lapic::local_wire;
using pt::lapic::signal_kind;
using pt::lapic::wire_level;

constexpr std::uint32_t masked = 0x1'0000;
constexpr std::uint32_t level = 0x8000;
constexpr std::uint32_t remote_irr = 0x4000;

constexpr void assert_wire(rig& vm, local_wire wire) {
    vm.apic.set_wire(wire, wire_level::asserted);
}
constexpr void deassert_wire(rig& vm, local_wire wire) {
    vm.apic.set_wire(wire, wire_level::deasserted);
}

struct source_entry {
    local_source source;
    std::uint32_t offset;
};
constexpr source_entry sources[] = {{local_source::cmci, 0x2F0},
                                    {local_source::thermal_sensor, 0x330},
                                    {local_source::performance_counters, 0x340}};

TEST_CASE("an event does what its entry says: fixed, SMI or NMI; nothing while masked", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto& [source, offset] : sources) {
            for (std::uint32_t mode = 0; mode != 8; ++mode) {
                rig vm;
                vm.enable();
                vm.write(offset, masked | mode << 8 | 0x52);
                vm.apic.raise(source);
                good = good && !vm.apic.has_work();
                vm.write(offset, mode << 8 | 0x52);
                vm.apic.raise(source);
                good = good && vm.apic.pending() == (mode == 0 ? 0x52 : 0);
                good = good && vm.apic.nmi_pending() == (mode == 4);
                // INIT and ExtINT are not for these entries; 1, 3 and 6 are reserved.
                good = good && vm.apic.next_signal().kind ==
                                   (mode == 2 ? signal_kind::smi : signal_kind::none);
                good = good && !vm.apic.extint_pending();
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("performance counters mask their entry when they fire, and only they", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto& [source, offset] : sources) {
            rig vm;
            vm.enable();
            vm.write(offset, 0x400); // NMI
            vm.apic.raise(source);
            good =
                good && vm.read(offset) ==
                            (source == local_source::performance_counters ? masked | 0x400 : 0x400);
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an illegal vector in an entry is noted when it fires, not when it is written",
          "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x330, 0x0F);
        bool good = vm.read(0x330) == 0x0F && vm.errors() == 0;
        vm.apic.raise(local_source::thermal_sensor);
        return good && vm.errors() == 0x40 && vm.apic.pending() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("while software-disabled an entry stays masked, whatever is written",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        bool good = true;
        for (const std::uint32_t offset :
             {0x2F0U, 0x320U, 0x330U, 0x340U, 0x350U, 0x360U, 0x370U}) {
            rig vm;
            vm.write(offset, 0x41);
            good = good && vm.read(offset) == (masked | 0x41);
            vm.enable();
            good = good && vm.read(offset) == (masked | 0x41); // enabling unmasks nothing
            vm.write(offset, 0x41);
            good = good && vm.read(offset) == 0x41;
            vm.write(0x0F0, 0x0FF);
            good = good && vm.read(offset) == (masked | 0x41);
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an edge on a pin is an interrupt if it is not masked at that moment", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto wire : {local_wire::lint0, local_wire::lint1}) {
            const std::uint32_t offset = wire == local_wire::lint0 ? 0x350 : 0x360;
            rig vm;
            vm.enable();
            vm.write(offset, masked | 0x61);
            assert_wire(vm, wire);
            vm.write(offset, 0x61);
            good = good && vm.apic.pending() == 0; // the edge is gone
            assert_wire(vm, wire);
            good = good && vm.apic.pending() == 0; // no edge
            deassert_wire(vm, wire);
            good = good && vm.apic.pending() == 0; // not this edge
            assert_wire(vm, wire);
            good = good && vm.apic.acknowledge() == 0x61 && vm.read(offset) == 0x61;
            const auto ended = vm.apic.eoi();
            good = good && !ended.broadcast && vm.apic.pending() == 0;
            // A wire has no polarity.
            vm.write(offset, 0x2062);
            deassert_wire(vm, wire);
            good = good && vm.apic.pending() == 0;
            assert_wire(vm, wire);
            good = good && vm.apic.pending() == 0x62;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a level on a pin is accepted once until EOI, and again while it is asserted",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto wire : {local_wire::lint0, local_wire::lint1}) {
            const std::uint32_t offset = wire == local_wire::lint0 ? 0x350 : 0x360;
            rig vm;
            vm.enable();
            vm.write(offset, masked | level | 0x61);
            assert_wire(vm, wire);
            good = good && vm.apic.pending() == 0 && vm.read(offset) == (masked | level | 0x61);
            vm.write(offset, level | 0x61); // unmasked while asserted
            good =
                good && vm.apic.pending() == 0x61 && vm.read(offset) == (level | remote_irr | 0x61);
            good = good && vm.page.tmr.contains(0x61) && vm.apic.acknowledge() == 0x61;
            assert_wire(vm, wire);
            good = good && !vm.page.irr.contains(0x61); // remote IRR holds it back
            // The guest cannot write remote IRR.
            vm.write(offset, level | 0x61);
            good = good && vm.read(offset) == (level | remote_irr | 0x61) &&
                   !vm.page.irr.contains(0x61);
            vm.edge(0x91);
            vm.apic.acknowledge();
            good = good && vm.apic.eoi().vector == 0x91 && // another vector's EOI
                   vm.read(offset) == (level | remote_irr | 0x61);
            (void)vm.apic.eoi();
            good = good && vm.apic.acknowledge() == 0x61; // still asserted
            deassert_wire(vm, wire);
            const auto ended = vm.apic.eoi();
            good = good && ended.vector == 0x61 && ended.broadcast;
            good = good && vm.apic.pending() == 0 && vm.read(offset) == (level | 0x61);
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("suppression of the broadcast does not hold back a pin", "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm{lapic_test::suppressing};
        vm.write(0x0F0, 0x11FF);
        vm.write(0x350, level | 0x61);
        assert_wire(vm, local_wire::lint0);
        vm.apic.acknowledge();
        const auto ended = vm.apic.eoi();
        return ended.vector == 0x61 && !ended.broadcast && vm.apic.pending() == 0x61;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a pin that becomes edge-triggered loses remote IRR", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x350, level | 0x61);
        assert_wire(vm, local_wire::lint0);
        vm.write(0x350, 0x61);
        bool good = vm.read(0x350) == 0x61;
        vm.write(0x350, level | 0x62);
        return good && vm.read(0x350) == (level | remote_irr | 0x62) && vm.apic.pending() == 0x62;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an illegal vector on a level pin is an error and does not spin", "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x370, 0x03); // the error entry is illegal as well
        vm.write(0x350, level | 0x03);
        assert_wire(vm, local_wire::lint0);
        return vm.read(0x350) == (level | 0x03) && vm.apic.pending() == 0 && vm.errors() == 0x40;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("pins as SMI, NMI, INIT and ExtINT", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto wire : {local_wire::lint0, local_wire::lint1}) {
            const std::uint32_t offset = wire == local_wire::lint0 ? 0x350 : 0x360;
            rig vm;
            vm.enable();
            const auto pulse = [&](std::uint32_t entry) {
                vm.write(offset, entry);
                assert_wire(vm, wire);
                deassert_wire(vm, wire);
            };
            pulse(0x200);
            good = good && vm.apic.next_signal().kind == signal_kind::smi;
            pulse(0x400);
            good = good && vm.apic.nmi_pending();
            vm.apic.take_nmi();
            pulse(masked | 0x400);
            good = good && !vm.apic.nmi_pending();
            pulse(0x700);
            good = good && !vm.apic.extint_pending() && !vm.apic.has_work(); // a level, gone again
            assert_wire(vm, wire);
            good = good && vm.apic.extint_pending() && vm.apic.has_work();
            vm.write(offset, masked | 0x700);
            good = good && !vm.apic.extint_pending();
            vm.write(offset, 0x700);
            vm.apic.take_extint();
            good = good && vm.apic.extint_pending(); // the 8259 keeps asking
            deassert_wire(vm, wire);
            good = good && !vm.apic.extint_pending();
            pulse(0x500);
            good =
                good && vm.apic.next_signal().kind == signal_kind::init && vm.read(0x0F0) == 0xFF;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

// The timer, as far as it is the local APIC's business: timer.cpp has the rest.

TEST_CASE("the timer fires by its entry, and the VMM learns when", "[lapic][rule 29]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x3E0, 0xB); // divide by 1
        vm.write(0x320, 0x31);
        vm.write(0x380, 100);
        bool good = vm.apic.next_deadline() == deadline{deadline::clock::ticks, 1100};
        vm.now += 40;
        good = good && vm.read(0x390) == 60 && vm.read(0x380) == 100 && vm.apic.pending() == 0;
        vm.now += 59;
        vm.apic.synchronize();
        good = good && vm.apic.pending() == 0;
        vm.now += 1;
        vm.apic.synchronize();
        good = good && vm.apic.acknowledge() == 0x31 && vm.read(0x390) == 0 &&
               vm.apic.next_deadline() == deadline{};
        return good && !vm.page.tmr.contains(0x31);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a periodic timer's ticks come one after another, as each is taken", "[lapic][rule 29]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x3E0, 0xB);
        vm.write(0x320, 0x2'0031);
        vm.write(0x380, 10);
        vm.now += 35; // three ticks
        bool good = true;
        for (int tick = 0; tick != 3; ++tick) {
            vm.apic.synchronize();
            good = good && vm.apic.acknowledge() == 0x31;
            good = good && vm.apic.eoi_exits().contains(0x31) == (tick < 2);
            vm.apic.synchronize();
            good = good && vm.page.irr.contains(0x31) == (tick < 2); // while the last is in service
            (void)vm.apic.eoi();
        }
        vm.apic.synchronize();
        return good && vm.apic.pending() == 0 &&
               vm.apic.next_deadline() == deadline{deadline::clock::ticks, 1040};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a masked timer runs and tells nobody", "[lapic][rule 29]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x3E0, 0xB);
        vm.write(0x320, masked | 0x2'0031);
        vm.write(0x380, 10);
        bool good = vm.apic.next_deadline() == deadline{};
        vm.now += 25;
        good = good && vm.read(0x390) == 5;
        vm.write(0x320, 0x2'0031);
        vm.apic.synchronize();
        good = good && vm.apic.pending() == 0;
        vm.now += 5;
        vm.apic.synchronize();
        return good && vm.apic.pending() == 0x31;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("TSC-deadline: the MSR arms it, in that mode only", "[lapic][rule 29]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.wrmsr(0x6E0, 2000);
        bool good = vm.rdmsr(0x6E0) == 0;
        vm.write(0x320, 0x4'0031);
        vm.write(0x380, 50); // ignored
        good = good && vm.read(0x380) == 0 && vm.read(0x390) == 0;
        vm.wrmsr(0x6E0, 2000);
        good = good && vm.rdmsr(0x6E0) == 2000 &&
               vm.apic.next_deadline() == deadline{deadline::clock::tsc, 2000};
        vm.now = 2000;
        vm.apic.synchronize();
        good = good && vm.apic.pending() == 0x31 && vm.rdmsr(0x6E0) == 0;
        vm.apic.acknowledge();
        vm.wrmsr(0x6E0, 2010);
        vm.now = 2010;
        vm.apic.synchronize(); // no access of the guest in between
        good = good && vm.page.irr.contains(0x31);
        vm.wrmsr(0x6E0, ~std::uint64_t{0}); // never
        good = good && vm.rdmsr(0x6E0) == ~std::uint64_t{0};
        vm.write(0x320, 0x31); // to another mode: disarmed
        return good && vm.rdmsr(0x6E0) == 0 && vm.apic.next_deadline() == deadline{};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a timer with an illegal vector is an error for each tick, and ends",
          "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x3E0, 0xB);
        vm.write(0x320, 0x2'0000);
        vm.write(0x380, 1);
        vm.now += 1'000'000'000;
        vm.apic.synchronize();
        return vm.apic.pending() == 0 && vm.errors() == 0x40;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a timer whose clock passes 2^64 meanwhile comes when it is due", "[lapic][rule 29]") {
    rig vm;
    vm.enable();
    vm.write(0x3E0, 0xB);
    vm.write(0x320, 0x31);
    vm.now = ~std::uint64_t{0} - 99;
    vm.write(0x380, 2000);
    const pt::lapic::deadline next = vm.apic.next_deadline();
    CHECK(next.of == pt::lapic::deadline::clock::ticks);
    vm.now += 1999; // around the end
    vm.apic.synchronize();
    CHECK(vm.apic.pending() == 0);
    CHECK(next.at - vm.now == 1);
    vm.now += 1;
    vm.apic.synchronize();
    CHECK(vm.apic.pending() == 0x31);

    rig late; // nobody looked between the moment and the end of the clock
    late.enable();
    late.write(0x3E0, 0xB);
    late.write(0x320, 0x31);
    late.now = ~std::uint64_t{0} - 99;
    late.write(0x380, 50);
    late.now += 120;
    late.apic.synchronize();
    CHECK(late.apic.pending() == 0x31);
}

} // namespace
