// SPDX-License-Identifier: BSL-1.0
#include "pt/lapic/local_apic.hpp"

#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>

namespace {

using pt::lapic::acceptance;
using pt::lapic::edge_sink;
using pt::lapic::local_apic;
using pt::lapic::register_page;
using pt::lapic::trigger_mode;

constexpr std::uint32_t enabled = 0x1FF;     // SVR: software enable, spurious vector 0xFF
constexpr std::uint32_t disabled = 0x0FF;    // SVR after power-up
constexpr std::uint32_t suppressed = 0x11FF; // SVR: enabled, EOI-broadcast suppression

TEST_CASE("after power-up: nothing pending, software-disabled, the local vector table masked",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        register_page page;
        page.id.raw = 0x0500'0000;
        page.irr.insert(0x40); // what the memory held before
        page.isr.insert(0x50);
        page.tpr.raw = 0xF0;
        page.lvt_timer.raw = 0x31;
        const local_apic apic{page};
        const register_page& now = apic.registers();
        bool good = now.id.raw == 0x0500'0000 && now.svr.raw == 0xFF && now.tpr.raw == 0 &&
                    now.ppr.raw == 0;
        good = good && now.irr.highest() == 0 && now.isr.highest() == 0 &&
               now.destination_format == 0xFFFF'FFFF;
        for (const auto& entry :
             {now.lvt_cmci, now.lvt_timer, now.lvt_thermal_sensor, now.lvt_performance_counters,
              now.lvt_lint0, now.lvt_lint1, now.lvt_error}) {
            good = good && entry.raw == 0x0001'0000;
        }
        return good && !apic.is_software_enabled() && apic.pending() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("software-disabled: nothing new is accepted, what was there is kept and ends",
          "[lapic][rule 27]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        bool good = apic.accept(0x40, trigger_mode::edge) == acceptance::software_disabled &&
                    apic.pending() == 0;
        apic.set_spurious_interrupt_vector(enabled);
        good = good && apic.accept(0x40, trigger_mode::edge) == acceptance::accepted &&
               apic.acknowledge() == 0x40;
        good = good && apic.accept(0x80, trigger_mode::edge) == acceptance::accepted;
        page.lvt_timer.raw = 0x0002'0031; // periodic, not masked, vector 0x31
        apic.set_spurious_interrupt_vector(disabled);
        good = good && page.lvt_timer.raw == 0x0003'0031 && page.lvt_lint0.raw == 0x0001'0000;
        good = good && apic.accept(0x90, trigger_mode::edge) == acceptance::software_disabled;
        good = good && apic.accept(3, trigger_mode::edge) == acceptance::software_disabled;
        good = good && apic.pending() == 0x80 && apic.acknowledge() == 0x80;
        good = good && apic.eoi().vector == 0x80 && apic.eoi().vector == 0x40 &&
               apic.eoi().vector == 0;
        apic.latch_error_status();
        return good && page.esr.raw == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("vectors 0..15 are illegal: dropped, and ESR says so after it is written",
          "[lapic][rule 26]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
        bool good = true;
        for (std::uint8_t vector = 0; vector != 16; ++vector) {
            good = good && apic.accept(vector, trigger_mode::level) == acceptance::illegal_vector;
            good = good && !page.irr.contains(vector) && !page.tmr.contains(vector);
        }
        good = good && apic.pending() == 0 && page.esr.raw == 0; // not written yet
        apic.latch_error_status();
        good = good && page.esr.raw == 0x40; // bit 6: receive illegal vector
        apic.latch_error_status();
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
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
        page.lvt_error.raw = 0x0001'00FE; // masked: nothing but ESR tells
        bool good =
            apic.accept(5, trigger_mode::edge) == acceptance::illegal_vector && apic.pending() == 0;
        apic.latch_error_status();
        page.lvt_error.raw = 0xFE;
        page.tmr.insert(0xFE); // the error interrupt is an edge
        good = good && apic.accept(5, trigger_mode::level) == acceptance::illegal_vector;
        good = good && apic.acknowledge() == 0xFE && !page.tmr.contains(0xFE);
        apic.eoi();
        good = good && apic.accept(6, trigger_mode::edge) == acceptance::illegal_vector &&
               apic.pending() == 0; // the same ESR is still to be read
        apic.latch_error_status();
        good = good && page.esr.raw == 0x40;
        good = good && apic.accept(6, trigger_mode::edge) == acceptance::illegal_vector;
        return good && apic.pending() == 0xFE;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an illegal vector in the error LVT itself does not recurse", "[lapic][rule 26]") {
    constexpr auto check = [] { // CVE-2024-45817; constant evaluation would not end either
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
        bool good = true;
        for (std::uint32_t vector = 0; vector != 16; ++vector) {
            page.lvt_error.raw = vector;
            good = good && apic.accept(3, trigger_mode::edge) == acceptance::illegal_vector;
            good = good && apic.pending() == 0 && page.irr.highest() == 0;
            apic.latch_error_status();
            good = good && page.esr.raw == 0x40;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("PPR is the higher class of TPR and the highest in service", "[lapic][rule 26]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
        apic.set_task_priority(0x35);
        bool good = page.ppr.raw == 0x35; // TPR above: its sub-class shows
        apic.accept(0x3F, trigger_mode::edge);
        good = good && apic.pending() == 0; // class 3 is not above 3
        apic.accept(0x40, trigger_mode::edge);
        good = good && apic.pending() == 0x40 && apic.acknowledge() == 0x40;
        good = good && page.ppr.raw == 0x40; // in service above
        apic.accept(0x4F, trigger_mode::edge);
        good = good && apic.pending() == 0; // same class as the one in service
        apic.set_task_priority(0x62);
        good = good && page.ppr.raw == 0x62;
        good = good && apic.eoi().vector == 0x40 && apic.pending() == 0;
        apic.set_task_priority(0xFFFF'FF00); // only bits 7:0 exist
        good = good && page.tpr.raw == 0 && page.ppr.raw == 0 && apic.acknowledge() == 0x4F;
        good =
            good && page.ppr.raw == 0x40 && apic.eoi().vector == 0x4F && apic.acknowledge() == 0x3F;
        good = good && page.ppr.raw == 0x30;
        // Class 15 inhibits everything.
        apic.set_task_priority(0xF0);
        apic.accept(0xFF, trigger_mode::edge);
        return good && apic.pending() == 0 && apic.acknowledge() == 0 && page.irr.contains(0xFF);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a message that is already pending merges; one in service can be pending again",
          "[lapic]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
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
        register_page page;
        local_apic apic{page};
        const auto broadcast = [&](std::uint8_t vector, trigger_mode mode) {
            apic.accept(vector, mode);
            const bool taken = apic.acknowledge() == vector;
            const auto ended = apic.eoi();
            return taken && ended.vector == vector && ended.broadcast;
        };
        apic.set_spurious_interrupt_vector(enabled);
        bool good = broadcast(0x60, trigger_mode::level) && page.tmr.contains(0x60);
        // TMR follows each acceptance.
        good = good && !broadcast(0x60, trigger_mode::edge) && !page.tmr.contains(0x60);
        apic.set_spurious_interrupt_vector(suppressed);
        good = good && !broadcast(0x60, trigger_mode::level) && page.tmr.contains(0x60);
        apic.set_spurious_interrupt_vector(enabled);
        const auto spurious = apic.eoi();
        return good && spurious.vector == 0 && !spurious.broadcast;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("bits that the guest must not have in SVR do not stick", "[lapic]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(0xFFFF'FFFF);
        bool good = page.svr.raw == 0x13FF; // 12, 9, 8, 7:0
        apic.set_spurious_interrupt_vector(0);
        return good && page.svr.raw == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("as interrupt_sink, each raise is an edge", "[lapic]") {
    constexpr auto check = [] {
        register_page page;
        local_apic apic{page};
        apic.set_spurious_interrupt_vector(enabled);
        apic.accept(0x70, trigger_mode::level);
        edge_sink{&apic}.raise(0x71);
        edge_sink{&apic}.raise(0x70);
        return apic.acknowledge() == 0x71 && !page.tmr.contains(0x71) && !page.tmr.contains(0x70);
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
