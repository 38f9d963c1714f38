// SPDX-License-Identifier: BSL-1.0
// A unit is stopped, started again, given back, and brought back after a sleep in which it lost its
// registers and memory kept its tables. And when it does not come back: nothing that it may still
// have in its caches is taken for forgotten, and no frame that it may still walk is given back.
#include "../../vtd_model/rig.hpp"

#include "pt/vtd/remappable_message.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::pci::function_address;
using pt::vtd::interrupt_index;
using pt::vtd::interrupt_message;
using pt::vtd::interrupt_requester;
using pt::vtd::interrupt_target;
using pt::vtd::table_mode;
using pt::vtd::translation;
using pt::vtd::unit_event;
using pt::vtd::unit_options;
using hardware = fake_unit<24>;

constexpr std::uint16_t nic = 0x28;
constexpr function_address nic_function{0, 0, 5, 0};

/// A unit with everything on: a function in domain 7, an interrupt of it, two events.
struct running {
    hardware& machine;
    unit_of<hardware> unit;
    tables_of<hardware> guest;
    pt::vtd::domain_invalidator<unit_of<hardware>> forgets{unit, 7};
    interrupt_index index{};
    bool remaps;

    explicit running(hardware& m, unit_options chosen = {})
        : machine{m},
          unit{driver(m, chosen)},
          guest{{&m}, format_of(m), {&m}},
          remaps{unit.interrupts().size() != 0} {
        auto ticket =
            guest.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
        REQUIRE((ticket && ticket->redeem(forgets)));
        REQUIRE(unit.start());
        REQUIRE(unit.attach(nic_function, way()));
        REQUIRE(unit.send_events(unit_event::fault, interrupt_message::compatibility(0x40, 2)));
        if (remaps) {
            REQUIRE(unit.start_interrupt_remapping());
            index = unit.interrupts().allocate()->first;
            REQUIRE(unit.interrupts().set(index,
                                          interrupt_target{.vector = 0x51, .destination_id = 3},
                                          interrupt_requester::exactly(nic), unit));
            REQUIRE(unit.send_events(unit_event::invalidation_completion,
                                     interrupt_message::compatibility(0x41, 2)));
        }
        check();
    }
    translation way() { return translation::second_stage(guest.root().value(), guest.format(), 7); }

    /// Everything is as it is to be.
    void check() {
        CHECK(machine.dma(nic, 0x1008, true).to == 0x10'0008);
        const std::size_t sent = machine.sent_count;
        CHECK(machine.dma(nic, 0x9000, true).reason != 0);
        REQUIRE(machine.sent_count == sent + 1);
        CHECK(machine.sent[sent] == message{message::kind::fault, 0xFEE0'2000, 0x40});
        CHECK(unit.faults().take()->page == iova{0x9000});
        CHECK(machine.dma(0x30, 0x1008, true).reason != 0);
        CHECK(unit.faults().take()->source.source_id() == 0x30);
        if (remaps) {
            const interrupt_message msi = pt::vtd::remappable_message(index);
            const auto arrived = machine.interrupt(nic, msi.address, msi.data);
            CHECK((arrived.remapped && arrived.vector == 0x51 && arrived.destination == 3));
            CHECK(machine.interrupt(nic, 0xFEE0'3000, 0x51).reason == 0x25);
            CHECK((machine.invalidation_event.control & IM) == 0);
            CHECK(machine.invalidation_event.data == 0x41);
            CHECK(unit.faults().take());
        }
        CHECK(machine.violation == nullptr);
    }
    /// Guests' tables and the unit go; the port must work, or have nothing to forget.
    void leave() {
        CHECK(unit.detach(nic_function));
        if ((machine.gsts & TE) != 0) {
            CHECK(machine.dma(nic, 0x1008, true).reason != 0);
        }
        auto owed = guest.retire();
        CHECK(owed.redeem(forgets));
        CHECK(unit.stop());
        CHECK(unit.retire());
        CHECK(machine.in_use == 0);
        CHECK(machine.violation == nullptr);
    }
};

template <class Test>
void in_each_kind(Test test) {
    struct kind {
        const char* name;
        std::uint64_t cap;
        std::uint64_t ecap;
        unit_options chosen;
    };
    const kind kinds[] = {
        {"by queue", 0, qemu_ecap, {}},
        {"by queue, coherent", 0, qemu_ecap | ecap_c, {}},
        {"by registers", 0, qemu_ecap, by_registers()},
        {"caching mode, write buffer", cap_cm | cap_rwbf, qemu_ecap, {}},
        {"by registers, caching mode, write buffer", cap_cm | cap_rwbf, qemu_ecap, by_registers()},
        {"scalable", 0, scalable_ecap, in_scalable_mode()},
        {"scalable, caching mode", cap_cm, scalable_ecap, in_scalable_mode()},
        {"invalidates by itself", cap_esrtps | cap_esirtps, qemu_ecap, {}},
        {"legacy on a unit with both", 0, scalable_ecap, {}},
    };
    for (const kind& k : kinds) {
        INFO(k.name);
        const auto machine = std::make_unique<hardware>();
        machine->cap |= k.cap;
        machine->ecap = k.ecap;
        running r{*machine, k.chosen};
        test(r);
    }
}

TEST_CASE("stop, and start again: the same tables are in force", "[vtd]") {
    in_each_kind([](running& r) {
        CHECK(r.unit.retire() == error{errc::busy, GSTS});
        REQUIRE(r.unit.stop());
        CHECK((r.machine.gsts & (TE | QIE | IRE)) == 0);
        CHECK(r.machine.dma(nic, 0x1008, true).to == 0x1008); // nothing in between
        REQUIRE(r.unit.stop());                               // nothing to do
        REQUIRE(r.unit.start());
        if (r.remaps) {
            REQUIRE(r.unit.start_interrupt_remapping());
        }
        r.check();
        r.leave();
    });
}

TEST_CASE("what changes while the unit is stopped is in force when it is started", "[vtd]") {
    in_each_kind([](running& r) {
        REQUIRE(r.unit.stop());
        r.machine.forget_journal();
        REQUIRE(r.unit.detach(nic_function)); // the caches of a unit that is off are nobody's
        CHECK(register_writes(r.machine) == 0);
        REQUIRE(r.unit.start());
        CHECK(r.machine.dma(nic, 0x1008, true).reason != 0);
        REQUIRE(r.unit.attach(nic_function, r.way()));
        CHECK(r.machine.dma(nic, 0x1008, true).to == 0x10'0008);
        r.leave();
    });
}

TEST_CASE("a unit that is stopped with functions attached gives all frames back", "[vtd]") {
    in_each_kind([](running& r) {
        REQUIRE(r.unit.stop());
        auto owed = r.guest.retire();
        REQUIRE(owed.redeem(r.forgets));
        REQUIRE(r.unit.retire());
        CHECK(r.machine.in_use == 0);
        CHECK(r.machine.violation == nullptr);
    });
}

TEST_CASE("after a sleep everything is on again: translation, interrupts, events", "[vtd]") {
    in_each_kind([](running& r) {
        for (unsigned night = 0; night < 3; ++night) {
            r.machine.power_loss();
            CHECK(r.machine.gsts == 0);
            REQUIRE(r.unit.resume());
            r.check();
        }
        r.leave();
    });
}

TEST_CASE("resume is the order of start, then interrupts, then events", "[vtd][rule 12][rule 13]") {
    const auto machine = std::make_unique<hardware>();
    running r{*machine};
    const auto frame = [](unsigned n) { return hardware::base + n * 4096; };
    machine->power_loss();
    machine->forget_journal();
    REQUIRE(r.unit.resume());
    const event expected[] = {
        order64(IQT, 0),
        order64(IQA, frame(1)),
        order32(GCMD, QIE),
        order64(RTADDR, frame(3)),
        order32(GCMD, QIE | SRTP),
        order64(IQT, 0x40),
        order32(GCMD, QIE | TE),
        order64(IRTA, frame(0) | 7),
        order32(GCMD, QIE | TE | SIRTP),
        order64(IQT, 0x60),
        order32(GCMD, QIE | TE | IRE),
        order32(FECTL, IM | machine->event_reserved),
        order32(FEDATA, 0x40),
        order32(FEADDR, 0xFEE0'2000),
        order32(FECTL, machine->event_reserved),
        order32(IECTL, IM | machine->event_reserved),
        order32(IEDATA, 0x41),
        order32(IEADDR, 0xFEE0'2000),
        order32(IECTL, machine->event_reserved),
    };
    CHECK(wrote(*machine, expected));
    r.check();
    r.leave();
}

TEST_CASE("a unit that did not sleep is resumed all the same, and never open", "[vtd]") {
    in_each_kind([](running& r) {
        r.machine.hammer.source_id = nic;
        r.machine.hammer.address = 0x1008;
        r.machine.hammer.write = true;
        r.machine.guard.address = 0x1008;
        r.machine.hammer.runs = r.machine.guard.runs = true;
        REQUIRE(r.unit.resume());
        r.machine.hammer.runs = r.machine.guard.runs = false;
        CHECK(r.machine.hammer.count > 4);
        for (std::size_t i = 0; i < r.machine.hammer.count; ++i) { // the tables are the same
            CHECK(
                (r.machine.hammer.seen[i].translated && r.machine.hammer.seen[i].to == 0x10'0008));
        }
        CHECK_FALSE(r.machine.guard.opened);
        r.check();
        r.leave();
    });
}

TEST_CASE("what was off stays off after a sleep", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    REQUIRE(unit.resume());
    CHECK(register_writes(*machine) == 0);
    REQUIRE(unit.start());
    REQUIRE(unit.start_interrupt_remapping());
    REQUIRE(unit.stop_interrupt_remapping());
    machine->power_loss();
    REQUIRE(unit.resume());
    CHECK(machine->gsts == (TE | SRTP | QIE));
    REQUIRE(unit.stop());
    machine->power_loss();
    machine->forget_journal();
    REQUIRE(unit.resume());
    CHECK(register_writes(*machine) == 0);
    REQUIRE(unit.retire());
    CHECK(machine->violation == nullptr);
}

TEST_CASE("a resume that fails: nothing is taken for forgotten, and no frame is given back",
          "[vtd][hostile]") {
    in_each_kind([](running& r) {
        hardware& m = r.machine;
        const error refused{errc::refused, GSTS};
        // It did not sleep, and its first order hangs: it still translates, with what it has
        // cached.
        REQUIRE(m.dma(nic, 0x1008, true).to == 0x10'0008);
        m.stall_at = m.orders + 1;
        REQUIRE_FALSE(r.unit.resume());
        if (!r.remaps) { // SRTP was the first order: there is a way to invalidate still
            m.recover();
            REQUIRE(r.unit.resume());
            r.check();
            r.leave();
            return;
        }
        REQUIRE(m.dma(nic, 0x1008, true).to == 0x10'0008);
        CHECK(r.unit.submit(pt::vtd::invalidate::context_cache()) == refused);
        CHECK(r.unit.complete() == refused);
        {
            auto ticket = r.guest.unmap({iova{0x1000}, 0x1000});
            REQUIRE(ticket);
            const std::size_t held = m.in_use;
            CHECK(ticket->redeem(r.forgets) == refused);
            CHECK(m.in_use == held);
            CHECK(r.unit.detach(nic_function) == refused);
            CHECK(r.unit.retire() == error{errc::busy, GSTS});
            CHECK(m.in_use == held);
            m.recover();
            REQUIRE(r.unit.resume());
            REQUIRE(ticket->redeem(r.forgets));
            CHECK(m.in_use < held);
        }
        CHECK(m.dma(nic, 0x1008, true).reason != 0);
        r.leave();
    });
}

TEST_CASE("a unit that never comes back is leaked, and its frames with it", "[vtd][hostile]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    REQUIRE(unit.start());
    REQUIRE(unit.start_interrupt_remapping());
    const std::size_t held = machine->in_use;
    machine->gone = true;
    CHECK(unit.resume() == error{errc::absent, GSTS});
    CHECK(unit.stop() == error{errc::absent, GSTS});
    CHECK(unit.start() == error{errc::absent, GSTS});
    CHECK(unit.retire() == error{errc::busy, GSTS});
    unit.leak();
    CHECK(machine->in_use == held);
}

TEST_CASE("after a start that failed stop() ends what it began", "[vtd][hostile]") {
    // One order after the other is late: the driver gives up, the unit does not.
    for (const bool queued : {true, false}) {
        for (unsigned n = 1;; ++n) {
            const auto machine = std::make_unique<hardware>();
            auto unit = driver(*machine, queued ? unit_options{} : by_registers());
            machine->stall_at = n;
            const bool started = unit.start().has_value();
            machine->recover();
            REQUIRE(unit.stop());
            CHECK((machine->gsts & persistent) == 0);
            REQUIRE(unit.retire());
            CHECK(machine->in_use == 0);
            CHECK(machine->violation == nullptr);
            if (started) {
                CHECK(n > 4);
                break;
            }
        }
    }
}

} // namespace
