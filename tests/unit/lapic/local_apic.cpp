// SPDX-License-Identifier: BSL-1.0
// Acceptance, priority and end of fixed interrupts.
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/edge_sink.hpp"

#include "apic_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::rig;
using pt::lapic::acceptance;
using pt::lapic::edge_sink;
using pt::lapic::effect_kind;
using pt::lapic::message;
using pt::lapic::trigger_mode;

constexpr std::uint32_t enabled = 0x1FF;     // SVR: software enable, spurious vector 0xFF
constexpr std::uint32_t disabled = 0x0FF;    // SVR after power-up
constexpr std::uint32_t suppressed = 0x11FF; // SVR: enabled, EOI-broadcast suppression

TEST_CASE("after power-up: nothing pending, software-disabled, the local vector table masked",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        pt::lapic::register_page page;
        pt::lapic::inbox inbox;
        std::uint64_t now = 0;
        page.irr.insert(0x40); // what the memory held before
        page.isr.insert(0x50);
        page.tpr.raw = 0xF0;
        page.lvt_timer.raw = 0x31;
        (void)inbox.posted.post(0x60);
        inbox.signals = pt::lapic::inbox_signals::nmi.mask;
        lapic_test::local_apic apic{page, inbox, {.apic_id = 5}, {&now}};
        apic.synchronize();
        const pt::lapic::register_page& after = apic.registers();
        bool good = after.id.raw == 0x0500'0000 && after.svr.raw == 0xFF && after.tpr.raw == 0 &&
                    after.ppr.raw == 0 && after.version.raw == 0x0006'0014;
        good = good && after.irr.highest() == 0 && after.isr.highest() == 0 &&
               after.logical_destination == 0 && after.destination_format == 0xFFFF'FFFF;
        for (const auto& entry :
             {after.lvt_cmci, after.lvt_timer, after.lvt_thermal_sensor,
              after.lvt_performance_counters, after.lvt_lint0, after.lvt_lint1, after.lvt_error}) {
            good = good && entry.raw == 0x0001'0000;
        }
        return good && !apic.is_software_enabled() && apic.pending() == 0 && !apic.has_work() &&
               !apic.nmi_pending() && apic.base().raw == 0xFEE0'0000 &&
               apic.current_mode() == pt::lapic::apic_mode::xapic;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("software-disabled: nothing new is accepted, what was there is kept and ends",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        bool good = apic.accept(0x40, trigger_mode::edge) == acceptance::software_disabled &&
                    apic.pending() == 0;
        vm.write(0x0F0, enabled);
        good = good && apic.accept(0x40, trigger_mode::edge) == acceptance::accepted &&
               apic.acknowledge() == 0x40;
        good = good && apic.accept(0x80, trigger_mode::edge) == acceptance::accepted;
        page.lvt_timer.raw = 0x0002'0031; // periodic, not masked, vector 0x31
        vm.write(0x0F0, disabled);
        good = good && page.lvt_timer.raw == 0x0003'0031 && page.lvt_lint0.raw == 0x0001'0000;
        good = good && apic.accept(0x90, trigger_mode::edge) == acceptance::software_disabled;
        good = good && apic.accept(3, trigger_mode::edge) == acceptance::software_disabled;
        good = good && apic.pending() == 0x80 && apic.acknowledge() == 0x80;
        good = good && apic.eoi().vector == 0x80 && apic.eoi().vector == 0x40 &&
               apic.eoi().vector == 0;
        vm.write(0x280, 0);
        return good && page.esr.raw == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("vectors 0..15 are illegal: dropped, and ESR says so after it is written",
          "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        bool good = true;
        for (std::uint8_t vector = 0; vector != 16; ++vector) {
            good = good && apic.accept(vector, trigger_mode::level) == acceptance::illegal_vector;
            good = good && !page.irr.contains(vector) && !page.tmr.contains(vector);
        }
        good = good && apic.pending() == 0 && page.esr.raw == 0; // not written yet
        vm.write(0x280, 0);
        good = good && page.esr.raw == 0x40; // bit 6: receive illegal vector
        vm.write(0x280, 0);
        good = good && page.esr.raw == 0; // nothing new since
        // 16..31 are reserved for exceptions, but the local APIC takes them.
        return good && apic.accept(16, trigger_mode::edge) == acceptance::accepted &&
               apic.pending() == 16;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an error raises the error interrupt once for each write of ESR", "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        page.lvt_error.raw = 0x0001'00FE; // masked: nothing but ESR tells
        bool good =
            apic.accept(5, trigger_mode::edge) == acceptance::illegal_vector && apic.pending() == 0;
        vm.write(0x280, 0);
        page.lvt_error.raw = 0xFE;
        page.tmr.insert(0xFE); // the error interrupt is an edge
        good = good && apic.accept(5, trigger_mode::level) == acceptance::illegal_vector;
        good = good && apic.acknowledge() == 0xFE && !page.tmr.contains(0xFE);
        (void)apic.eoi();
        good = good && apic.accept(6, trigger_mode::edge) == acceptance::illegal_vector &&
               apic.pending() == 0; // the same ESR is still to be read
        vm.write(0x280, 0);
        good = good && page.esr.raw == 0x40;
        good = good && apic.accept(6, trigger_mode::edge) == acceptance::illegal_vector;
        return good && apic.pending() == 0xFE;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an illegal vector in the error LVT itself does not recurse", "[lapic][rule 26]") {
    constexpr auto check = [] { // CVE-2024-45817; constant evaluation would not end either
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        bool good = true;
        for (std::uint32_t vector = 0; vector != 16; ++vector) {
            page.lvt_error.raw = vector;
            good = good && apic.accept(3, trigger_mode::edge) == acceptance::illegal_vector;
            good = good && apic.pending() == 0 && page.irr.highest() == 0;
            vm.write(0x280, 0);
            good = good && page.esr.raw == 0x40;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("PPR is the higher class of TPR and the highest in service", "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        vm.write(0x080, 0x35);
        bool good = page.ppr.raw == 0x35; // TPR above: its sub-class shows
        apic.accept(0x3F, trigger_mode::edge);
        good = good && apic.pending() == 0; // class 3 is not above 3
        apic.accept(0x40, trigger_mode::edge);
        good = good && apic.pending() == 0x40 && apic.acknowledge() == 0x40;
        good = good && page.ppr.raw == 0x40; // in service above
        apic.accept(0x4F, trigger_mode::edge);
        good = good && apic.pending() == 0; // same class as the one in service
        vm.write(0x080, 0x62);
        good = good && page.ppr.raw == 0x62;
        good = good && apic.eoi().vector == 0x40 && apic.pending() == 0;
        vm.write(0x080, 0xFFFF'FF00); // only bits 7:0 exist
        good = good && page.tpr.raw == 0 && page.ppr.raw == 0 && apic.acknowledge() == 0x4F;
        good =
            good && page.ppr.raw == 0x40 && apic.eoi().vector == 0x4F && apic.acknowledge() == 0x3F;
        good = good && page.ppr.raw == 0x30;
        // Equal classes: TPR, as the processor's own virtualization has it.
        vm.write(0x080, 0x35);
        good = good && page.ppr.raw == 0x35;
        // Class 15 inhibits everything.
        vm.write(0x080, 0xF0);
        apic.accept(0xFF, trigger_mode::edge);
        return good && apic.pending() == 0 && apic.acknowledge() == 0 && page.irr.contains(0xFF);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a message that is already pending merges; one in service can be pending again",
          "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        bool good = apic.accept(0x51, trigger_mode::edge) == acceptance::accepted;
        good = good && apic.accept(0x51, trigger_mode::edge) == acceptance::already_pending;
        good = good && apic.acknowledge() == 0x51;
        good = good && apic.accept(0x51, trigger_mode::edge) == acceptance::accepted &&
               apic.pending() == 0;
        good = good && apic.eoi().vector == 0x51 && apic.acknowledge() == 0x51;
        return good && apic.eoi().vector == 0x51 && apic.acknowledge() == 0 &&
               apic.eoi().vector == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("EOI is broadcast only for level-triggered vectors and unless suppressed",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm{lapic_test::suppressing};
        auto& page = vm.page;
        auto& apic = vm.apic;
        const auto broadcast = [&](std::uint8_t vector, trigger_mode mode) {
            apic.accept(vector, mode);
            const bool taken = apic.acknowledge() == vector;
            const auto ended = apic.eoi();
            return taken && ended.vector == vector && ended.broadcast;
        };
        vm.write(0x0F0, enabled);
        bool good = broadcast(0x60, trigger_mode::level) && page.tmr.contains(0x60);
        // TMR follows each acceptance.
        good = good && !broadcast(0x60, trigger_mode::edge) && !page.tmr.contains(0x60);
        vm.write(0x0F0, suppressed);
        good = good && !broadcast(0x60, trigger_mode::level) && page.tmr.contains(0x60);
        vm.write(0x0F0, enabled);
        const auto spurious = apic.eoi();
        return good && spurious.vector == 0 && !spurious.broadcast;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("as interrupt_sink, each raise is an edge", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        auto& page = vm.page;
        auto& apic = vm.apic;
        vm.write(0x0F0, enabled);
        apic.accept(0x70, trigger_mode::level);
        edge_sink{&apic}.raise(0x71);
        edge_sink{&apic}.raise(0x70);
        return apic.acknowledge() == 0x71 && !page.tmr.contains(0x71) && !page.tmr.contains(0x70);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a posted message arrives as one that is accepted; a later level one says so in TMR",
          "[lapic][rule 31]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        for (const int vector : {0x21, 0x40, 0x5F, 0x80, 0xFF}) {
            (void)vm.inbox.post(message{.vector = static_cast<std::uint8_t>(vector)});
            (void)vm.inbox.post(message{.vector = static_cast<std::uint8_t>(vector - 1),
                                        .trigger = trigger_mode::level});
        }
        (void)vm.inbox.post(message{.vector = 0x80, .trigger = trigger_mode::level});
        bool good = vm.apic.pending() == 0; // the owner has not looked
        vm.apic.synchronize();
        for (const int vector : {0xFF, 0xFE, 0x80, 0x7F, 0x5F, 0x5E, 0x40, 0x3F, 0x21, 0x20}) {
            const bool is_level = vector == 0x80 || vector == 0xFE || vector == 0x7F ||
                                  vector == 0x5E || vector == 0x3F || vector == 0x20;
            good = good && vm.apic.acknowledge() == vector;
            const auto ended = vm.apic.eoi();
            good = good && ended.vector == vector && ended.broadcast == is_level;
        }
        return good && vm.apic.acknowledge() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a posted illegal vector, by a message or by a device, is noted for ESR",
          "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        (void)vm.inbox.post(message{.vector = 15});
        bool good = vm.errors() == 0x40 && vm.errors() == 0;
        (void)vm.inbox.posted.post(3); // VT-d posts what it is told to
        good = good && vm.errors() == 0x40;
        return good && vm.page.irr.highest() == 0 && vm.apic.pending() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what was on its way when the guest software-disabled is dropped", "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        (void)vm.inbox.post(message{.vector = 0x41}); // before: accepted
        vm.write(0x0F0, 0xFF);
        bool good = vm.page.irr.contains(0x41);
        (void)vm.inbox.post(message{.vector = 0x42});
        (void)vm.inbox.posted.post(0x43); // by VT-d, which does not know
        vm.apic.synchronize();
        good = good && vm.page.irr.highest() == 0x41;
        vm.enable();
        vm.apic.synchronize();
        return good && vm.apic.acknowledge() == 0x41 && vm.apic.acknowledge() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the guest's EOI says what ended", "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        bool good = vm.effect_of(0x0B0, 0).kind == effect_kind::nothing; // none in service
        vm.level(0x51);
        vm.edge(0x62);
        vm.apic.acknowledge();
        (void)vm.apic.eoi();
        vm.edge(0x62);
        vm.apic.acknowledge(); // in service, with 0x51 pending
        const auto first = vm.effect_of(0x0B0, 0xFFFF'FFFF);
        good = good && first.kind == effect_kind::end_of_interrupt && first.ended.vector == 0x62 &&
               !first.ended.broadcast;
        vm.apic.acknowledge();
        const auto second = vm.effect_of(0x0B0, 0);
        return good && second.ended.vector == 0x51 && second.ended.broadcast && vm.read(0x0B0) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("CR8 is the class of TPR; above 15 it faults", "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x080, 0x5A);
        bool good = vm.apic.cr8() == 5;
        good = good && vm.apic.set_cr8(0xC) && vm.read(0x080) == 0xC0 && vm.read(0x0A0) == 0xC0;
        good = good && !vm.apic.set_cr8(16) && !vm.apic.set_cr8(~std::uint64_t{0}) &&
               vm.read(0x080) == 0xC0;
        vm.edge(0xC5);
        good = good && vm.apic.pending() == 0 && !vm.apic.has_work();
        return good && vm.apic.set_cr8(0xB) && vm.apic.pending() == 0xC5 && vm.apic.has_work();
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
