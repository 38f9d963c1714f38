// SPDX-License-Identifier: BSL-1.0
// Rule 31: nothing is lost on save, and bytes from anywhere do not become a state that cannot be.
#include "apic_rig.hpp"
#include "pt/lapic/saved_state.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <random>

namespace {

using lapic_test::application;
using lapic_test::rig;
using pt::lapic::delivery_mode;
using pt::lapic::local_wire;
using pt::lapic::message;
using pt::lapic::saved_state;
using pt::lapic::trigger_mode;
using pt::lapic::wire_level;

/// Something in every part of the state.
constexpr void fill(rig& vm) {
    vm.enable();
    vm.write(0x080, 0x23);
    vm.write(0x0D0, 0x4200'0000);
    vm.write(0x0E0, 0x0FFF'FFFF);
    vm.write(0x310, 0x0700'0000);
    vm.write(0x300, 0x0000'4855);
    vm.write(0x3E0, 0xB);
    vm.write(0x320, 0x2'0031);
    vm.write(0x380, 1000);
    vm.write(0x350, 0x8061);
    vm.apic.set_wire(local_wire::lint0, wire_level::asserted);
    vm.apic.acknowledge(); // 0x61 in service, remote IRR set
    vm.edge(0x80);
    vm.write(0x044, 0);
    vm.read(0x040); // an error that is not latched yet
}
/// In the inbox only.
constexpr void post_all(rig& vm) {
    (void)vm.inbox.post(message{.vector = 0x90});
    (void)vm.inbox.post(message{.vector = 0x91, .trigger = trigger_mode::level});
    (void)vm.inbox.post(message{.delivery = delivery_mode::nmi});
    (void)vm.inbox.post(message{.delivery = delivery_mode::smi});
    (void)vm.inbox.post(message{.delivery = delivery_mode::extint});
}

TEST_CASE("what was saved continues elsewhere, with what was still in the inbox",
          "[lapic][rule 31]") {
    constexpr auto check = [] {
        rig from;
        fill(from);
        post_all(from);
        from.now += 300;
        const saved_state state = from.apic.save();
        rig to;
        to.now = 5'000'000; // another host
        bool good = to.apic.restore(state).has_value() && to.apic.save() == state;
        good = good && to.read(0x390) == 700 && to.read(0x080) == 0x23 && to.read(0x0A0) == 0x60 &&
               to.read(0x350) == 0xC061 && to.read(0x300) == 0x4855 &&
               to.read(0x0D0) == 0x4200'0000;
        good = good && to.apic.nmi_pending() && to.apic.extint_pending() &&
               to.apic.next_signal().kind == pt::lapic::signal_kind::smi;
        good = good && to.inbox.takes_vectors() &&
               to.inbox.matches(
                   message{.mode = pt::lapic::destination_mode::logical, .destination = 0x42});
        good = good && to.errors() == 0x80;
        good = good && to.apic.acknowledge() == 0x91 && to.apic.eoi().broadcast &&
               to.apic.acknowledge() == 0x90 && !to.apic.eoi().broadcast &&
               to.apic.acknowledge() == 0x80 && to.apic.eoi().vector == 0x80;
        good = good && to.apic.eoi().vector == 0x61; // the pin is asserted there too
        good = good && to.apic.pending() == 0x61;
        to.now += 700;
        to.apic.synchronize();
        return good && to.page.irr.contains(0x31);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("in x2APIC mode, with 64 bits of ICR, and an INIT that waits", "[lapic][rule 31]") {
    constexpr auto check = [] {
        rig from{application};
        from.to_x2apic();
        from.wrmsr(0x80F, 0x1FF);
        from.wrmsr(0x830, 0x8765'4321'0000'4855);
        const saved_state running = from.apic.save();
        rig to{application};
        bool good = to.apic.restore(running).has_value() &&
                    to.apic.current_mode() == pt::lapic::apic_mode::x2apic &&
                    to.rdmsr(0x830) == 0x8765'4321'0000'4855 && to.rdmsr(0x80D) == 0x0012'0008 &&
                    to.apic.waiting_for_start_up();
        (void)from.inbox.post(message{.delivery = delivery_mode::init});
        (void)from.inbox.post(message{.delivery = delivery_mode::start_up, .vector = 0x55});
        good = good && to.apic.restore(from.apic.save()).has_value();
        good = good && to.apic.next_signal().kind == pt::lapic::signal_kind::init;
        const auto next = to.apic.next_signal();
        good = good && next.kind == pt::lapic::signal_kind::start_up && next.vector == 0x55;
        return good && to.inbox.matches(message{.format = pt::lapic::destination_format::x2apic,
                                                .destination = 0x123});
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("restore leaves alone what arrives meanwhile", "[lapic][rule 31]") {
    constexpr auto check = [] {
        rig from;
        fill(from);
        const saved_state state = from.apic.save();
        rig to;
        to.enable();
        (void)to.inbox.post(message{.vector = 0xA0});
        const bool good = to.apic.restore(state).has_value();
        to.apic.synchronize();
        return good && to.apic.pending() == 0xA0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a state that could not be is malformed and changes nothing", "[lapic][rule 31]") {
    const auto refused = [](auto change) {
        rig from;
        fill(from);
        saved_state state = from.apic.save();
        change(state);
        rig to;
        const saved_state before = to.apic.save();
        const auto made = to.apic.restore(state);
        return !made.has_value() && made.error().code == pt::errc::malformed &&
               to.apic.save() == before;
    };
    const auto with = [&](std::uint32_t offset, std::uint32_t value) {
        return refused([=](saved_state& state) { state.registers[offset / 16] = value; });
    };
    CHECK(refused(
        [](saved_state& state) { // a start-up for one that does not wait: it would stay for ever
            state.waiting = 0;
            state.latches = pt::lapic::inbox_signals::start_up.mask;
        }));
    CHECK(with(0x020, 0x0600'0000)); // another local APIC
    CHECK(with(0x030, 0x0106'0014)); // another version
    CHECK(with(0x000, 1));           // reserved
    CHECK(with(0x3F0, 1));           // not a register of xAPIC mode
    CHECK(with(0x080, 0x100));       // TPR has 8 bits
    CHECK(with(0x0B0, 1));           // EOI is write-only
    CHECK(with(0x0D0, 0x4200'0001)); // LDR
    CHECK(with(0x0E0, 0x0FFF'FFFE)); // DFR
    CHECK(with(0x0F0, 0x11FF));      // no suppression here
    CHECK(with(0x100, 0x0000'8000)); // vector 15 in ISR
    CHECK(with(0x180, 0x0000'0001)); // and in TMR
    CHECK(with(0x200, 0x0000'0002)); // and in IRR
    CHECK(with(0x280, 0x01));        // a checksum error: there is no APIC bus
    CHECK(with(0x300, 0x1000));      // delivery status
    CHECK(with(0x310, 1));           // xAPIC mode: 8 bits
    CHECK(with(0x320, 0x0000'0031)); // not the timer's mode
    CHECK(with(0x320, 0x0002'1031)); // delivery status
    CHECK(with(0x350, 0x4061));      // remote IRR of an edge
    CHECK(with(0x370, 0x0000'0400)); // the error entry has no delivery mode
    CHECK(with(0x380, 999));         // not the timer's count
    CHECK(with(0x3E0, 0x4));         // reserved
    CHECK(with(0x3E0, 0x3));         // not the timer's divider
    CHECK(with(0x390, 1));           // the timer has the current count
    CHECK(with(0x0F0, 0x0FF));       // software-disabled with an entry that is not masked
    CHECK(refused([](saved_state& state) { state.version = 2; }));
    CHECK(refused([](saved_state& state) { state.errors = 0x100; }));
    CHECK(refused([](saved_state& state) { state.base = 0xFEE0'0800; })); // not the BSP
    CHECK(refused([](saved_state& state) { state.base = 0xFEE0'0500; })); // EXTD without EN
    CHECK(refused([](saved_state& state) { state.base |= 0x200; }));
    CHECK(refused([](saved_state& state) { state.base |= std::uint64_t{1} << 52; }));
    CHECK(refused([](saved_state& state) { state.base |= 0x400; })); // x2APIC: other ids
    CHECK(refused([](saved_state& state) { state.latches = 0x40; }));
    CHECK(refused([](saved_state& state) { state.latches = 0x10000; }));
    CHECK(refused([](saved_state& state) { state.waiting = 2; }));
    CHECK(refused([](saved_state& state) { state.asserted = 4; }));
    CHECK(refused([](saved_state& state) { state.timer.divide_shift = 8; }));
    CHECK(refused([](saved_state& state) { state.timer.ticks_left = 1001; }));
    CHECK_FALSE(refused([](saved_state&) {}));
}

TEST_CASE("random damage: refused, or a state that saves as itself", "[lapic][rule 31]") {
    auto random = [engine = std::mt19937{31}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    rig from;
    fill(from);
    post_all(from);
    const saved_state good = from.apic.save();
    unsigned taken = 0;
    for (int round = 0; round != 20'000; ++round) {
        unsigned char bytes[sizeof good];
        std::memcpy(bytes, &good, sizeof good);
        for (unsigned flips = 1 + random() % 3; flips != 0; --flips) {
            bytes[random() % sizeof good] ^= static_cast<unsigned char>(1U << random() % 8);
        }
        saved_state damaged;
        std::memcpy(&damaged, bytes, sizeof good);
        rig to;
        const saved_state before = to.apic.save();
        if (!to.apic.restore(damaged)) {
            REQUIRE(to.apic.save() == before);
            continue;
        }
        ++taken;
        const saved_state settled = to.apic.save();
        rig again;
        REQUIRE(again.apic.restore(settled).has_value());
        REQUIRE(again.apic.save() == settled);
        REQUIRE((to.page.irr.words[0].bits & 0xFFFF) == 0);
        REQUIRE((to.page.isr.words[0].bits & 0xFFFF) == 0);
    }
    REQUIRE(taken > 100);
}

} // namespace
