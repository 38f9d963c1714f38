// SPDX-License-Identifier: BSL-1.0
// The interrupts that go through a unit, and those that it sends itself: which writes, in which
// order, and what arrives. Offsets, values and reasons are the manual's [vt-d, "Set Interrupt
// Remapping Table Pointer Operation", "Interrupt Remapping Table Address Register", "Interrupt
// Remapping Fault Conditions"].
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
using pt::vtd::apic_mode;
using pt::vtd::interrupt_message;
using pt::vtd::interrupt_requester;
using pt::vtd::interrupt_target;
using pt::vtd::remappable_message;
using pt::vtd::unit_event;
using hardware = fake_unit<12>;

constexpr std::uint16_t nic = 0x28;
constexpr std::uint64_t frame(unsigned n) { return hardware::base + n * 4096; }

template <class Hardware>
constexpr bool leave(Hardware& machine, unit_of<Hardware>& unit) {
    return unit.stop().has_value() && unit.retire().has_value() && machine.violations == 0;
}

TEST_CASE("interrupt remapping: table pointer, entry cache, then on", "[vtd][rule 12][rule 13]") {
    constexpr auto works = [] {
        hardware machine;
        auto unit = driver(machine); // frame 0: interrupts, 1: queue, 2: status, 3: root
        bool ok = unit.start().has_value();
        machine.forget_journal();
        ok = ok && unit.start_interrupt_remapping().has_value();
        const event expected[] = {order64(IRTA, frame(0) | 7), // 2^(7 + 1) entries, xAPIC ids
                                  order32(GCMD, 0x8500'0000), order64(IQT, 0x60),
                                  order32(GCMD, 0x8600'0000)};
        ok = ok && wrote(machine, expected);
        ok = ok && machine.stored_at(frame(1) + 0x40) == 0x4;                  // of all entries
        ok = ok && (machine.stored_at(frame(1) + 0x50) & 0xFFFF'FFFF) == 0x65; // IEC, then a wait
        ok = ok && machine.gsts == (TE | SRTP | QIE | IRE | SIRTP);
        return leave(machine, unit) && ok && machine.gsts == (SRTP | SIRTP);
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("compatibility format is blocked before remapping is on, whatever firmware left",
          "[vtd][rule 12][rule 13][hostile]") {
    for (const bool remapped : {false, true}) {
        for (const bool compatible : {false, true}) {
            for (const bool buffered : {false, true}) {
                const auto machine = std::make_unique<hardware>();
                machine->cap |= buffered ? cap_rwbf : 0;
                const std::uint64_t old = foreign_frame(*machine);
                if (remapped) {
                    machine->firmware_interrupt_remapping(old | 7, compatible);
                } else if (compatible) {
                    machine->gsts |= CFI;
                }
                auto unit = driver(*machine);
                REQUIRE(unit.start());
                const std::uint32_t on = TE | QIE | (remapped ? IRE : 0U);
                const std::uint32_t cfi = compatible ? CFI : 0U;
                CHECK(machine->gsts ==
                      (on | cfi | SRTP | (remapped ? SIRTP : 0U))); // start() left it alone
                machine->forget_journal();
                REQUIRE(unit.start_interrupt_remapping());
                event expected[8];
                std::size_t n = 0;
                const auto flush = [&] {
                    if (buffered) {
                        expected[n++] = order32(GCMD, on | cfi | WBF);
                    }
                };
                flush();
                expected[n++] = order64(IRTA, frame(1) | 7);
                expected[n++] = order32(GCMD, on | cfi | SIRTP);
                flush();
                expected[n++] = order64(IQT, 0x60);
                if (compatible) {
                    expected[n++] = order32(GCMD, on);
                }
                expected[n++] = order32(GCMD, on | IRE);
                std::size_t written = 0;
                for (std::size_t i = 0; i < machine->events; ++i) {
                    const event& e = machine->journal[i];
                    if (e.what == event::kind::write32 || e.what == event::kind::write64) {
                        REQUIRE(written < n);
                        CHECK(e == expected[written++]);
                    }
                }
                CHECK(written == n);
                CHECK(machine->gsts == (TE | SRTP | QIE | IRE | SIRTP));
                // A message in compatibility format: vector 0x51 to APIC 3.
                CHECK(machine->interrupt(nic, 0xFEE0'3000, 0x51).reason == 0x25);
                CHECK(leave(*machine, unit));
            }
        }
    }
}

TEST_CASE("an interrupt arrives with an entry of its own, and not from anybody else", "[vtd]") {
    constexpr auto works = [](bool caching) {
        hardware machine;
        machine.cap |= caching ? cap_cm : 0;
        auto unit = driver(machine);
        bool ok = unit.start().has_value();
        const auto block = unit.interrupts().allocate();
        ok = ok && block.has_value();
        const auto index = block->first;
        const interrupt_message msi = remappable_message(index);
        // Before remapping is on, an entry is nothing that the unit knows.
        ok = ok && unit.start_interrupt_remapping().has_value();
        ok = ok && machine.interrupt(nic, msi.address, msi.data).reason == 0x22;
        ok = ok && unit.interrupts()
                       .set(index, interrupt_target{.vector = 0x51, .destination_id = 3},
                            interrupt_requester::exactly(nic), unit)
                       .has_value();
        const auto arrived = machine.interrupt(nic, msi.address, msi.data);
        ok = ok && arrived.delivered && arrived.remapped && arrived.vector == 0x51 &&
             arrived.destination == 3;
        ok = ok && machine.interrupt(0x30, msi.address, msi.data).reason == 0x26;
        ok = ok && machine.interrupt(nic, msi.address | 1U << 5, 0).reason == 0x22; // the next one
        ok = ok && machine.interrupt(nic, 0xFEE0'3000, 0x51).reason == 0x25;
        ok = ok && unit.interrupts().release(*block, unit).has_value();
        ok = ok && machine.interrupt(nic, msi.address, msi.data).reason == 0x22;
        return leave(machine, unit) && ok && machine.in_use == 0;
    };
    static_assert(works(false) && works(true));
    REQUIRE(works(false));
    REQUIRE(works(true));
}

TEST_CASE("entries that are there before remapping is on are in force at once", "[vtd]") {
    for (const bool before_start : {true, false}) {
        const auto machine = std::make_unique<hardware>();
        machine->cap |= cap_rwbf;
        auto unit = driver(*machine);
        if (!before_start) {
            REQUIRE(unit.start());
        }
        const auto index = unit.interrupts().allocate()->first;
        REQUIRE(unit.interrupts().set(index, interrupt_target{.vector = 0x62, .destination_id = 1},
                                      interrupt_requester::exactly(nic), unit));
        if (before_start) {
            CHECK(register_writes(*machine) == 0);
            REQUIRE(unit.start());
        }
        REQUIRE(unit.start_interrupt_remapping());
        const interrupt_message msi = remappable_message(index);
        CHECK(machine->interrupt(nic, msi.address, msi.data).vector == 0x62);
        CHECK(leave(*machine, unit));
    }
}

TEST_CASE("local APICs with 32-bit ids: EIME, and all of the destination", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    machine->ecap |= ecap_eim;
    auto unit = driver(*machine, {.apics = apic_mode::x2apic});
    REQUIRE(unit.start());
    REQUIRE(unit.start_interrupt_remapping());
    CHECK(machine->irta == (frame(0) | 0x800 | 7));
    const auto index = unit.interrupts().allocate()->first;
    REQUIRE(unit.interrupts().set(index,
                                  interrupt_target{.vector = 0x51, .destination_id = 0x1234'5678},
                                  interrupt_requester::exactly(nic), unit));
    const interrupt_message msi = remappable_message(index);
    CHECK(machine->interrupt(nic, msi.address, msi.data).destination == 0x1234'5678);
    CHECK(leave(*machine, unit));
}

TEST_CASE("remapping that is on for other APIC ids is not changed under way", "[vtd][hostile]") {
    // EIME must not change while IRES is set [vt-d, "Interrupt Remapping Table Address Register"].
    for (const bool firmware_extended : {true, false}) {
        const auto machine = std::make_unique<hardware>();
        machine->ecap |= ecap_eim;
        machine->firmware_interrupt_remapping(foreign_frame(*machine) | 7 |
                                              (firmware_extended ? 0x800 : 0));
        const std::uint64_t before = machine->irta;
        auto unit =
            driver(*machine, {.apics = firmware_extended ? apic_mode::xapic : apic_mode::x2apic});
        REQUIRE(unit.start());
        machine->forget_journal();
        CHECK(unit.start_interrupt_remapping() == error{errc::busy, IRTA});
        CHECK(register_writes(*machine) == 0);
        CHECK(machine->irta == before);
        // Only the VMM can decide to open them for a moment.
        REQUIRE(unit.stop_interrupt_remapping());
        REQUIRE(unit.start_interrupt_remapping());
        CHECK(machine->irta == (frame(1) | 7 | (firmware_extended ? 0 : 0x800)));
        CHECK(leave(*machine, unit));
    }
}

TEST_CASE("without the hardware, the queue or start() no interrupt is remapped", "[vtd]") {
    const error lacks{errc::not_supported, ECAP};
    SECTION("no interrupt remapping") {
        const auto machine = std::make_unique<hardware>();
        machine->ecap &= ~ecap_ir;
        auto unit = driver(*machine);
        REQUIRE(unit.start());
        CHECK(unit.interrupts().size() == 0);
        CHECK(unit.start_interrupt_remapping() == lacks);
        CHECK(leave(*machine, unit));
    }
    SECTION("by registers, which cannot invalidate interrupt entries") {
        const auto machine = std::make_unique<hardware>();
        auto unit = driver(*machine, by_registers());
        REQUIRE(unit.start());
        CHECK(unit.start_interrupt_remapping() == lacks);
        CHECK(leave(*machine, unit));
    }
    SECTION("before start(), and after stop()") {
        const auto machine = std::make_unique<hardware>();
        auto unit = driver(*machine);
        const error refused{errc::refused, GSTS};
        CHECK(unit.start_interrupt_remapping() == refused);
        CHECK(register_writes(*machine) == 0);
        REQUIRE(unit.start());
        REQUIRE(unit.start_interrupt_remapping());
        REQUIRE(unit.stop());
        CHECK(machine->gsts == (SRTP | SIRTP));
        CHECK(unit.start_interrupt_remapping() == refused);
        REQUIRE(unit.start());
        REQUIRE(unit.start_interrupt_remapping());
        CHECK(machine->gsts == (TE | SRTP | QIE | IRE | SIRTP));
        CHECK(leave(*machine, unit));
    }
}

TEST_CASE("remapping that began and failed is switched off by stop()", "[vtd][hostile]") {
    // The order to enable is late: the driver has given up, the unit has not.
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    REQUIRE(unit.start());
    machine->stall_at = machine->orders + 4; // SIRTP, two descriptors, IRE
    CHECK(unit.start_interrupt_remapping() == error{errc::time_out, GSTS});
    machine->recover();
    REQUIRE((machine->gsts & IRE) != 0);
    REQUIRE(unit.stop());
    CHECK(machine->gsts == (SRTP | SIRTP));
    REQUIRE(unit.retire());
    CHECK(machine->in_use == 0);
    CHECK(machine->violation == nullptr);
}

// ---- the unit's own
// --------------------------------------------------------------------------------

TEST_CASE("an event is masked, programmed and unmasked; a fault sends it", "[vtd][rule 16]") {
    constexpr auto works = [] {
        hardware machine;
        auto unit = driver(machine);
        bool ok = unit.start().has_value();
        machine.forget_journal();
        ok = ok && unit.send_events(unit_event::fault, interrupt_message::compatibility(0x40, 2))
                       .has_value();
        const event expected[] = {order32(FECTL, IM | machine.event_reserved),
                                  order32(FEDATA, 0x40), order32(FEADDR, 0xFEE0'2000),
                                  order32(FECTL, machine.event_reserved)};
        ok = ok && wrote(machine, expected) && machine.sent_count == 0;
        ok = ok && machine.dma(nic, 0x5000, true).reason == 0x1;
        ok = ok && machine.sent_count == 1 &&
             machine.sent[0] == message{message::kind::fault, 0xFEE0'2000, 0x40};
        const auto fault = unit.faults().take();
        ok = ok && fault.has_value() && fault->source.source_id() == nic &&
             fault->page == pt::iova{0x5000};
        ok = ok && unit.faults().take() == error{errc::absent, FSTS};
        return leave(machine, unit) && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("an event that cannot be is refused, and not sent after a sleep either", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    CHECK(unit.send_events(unit_event::page_request, interrupt_message::compatibility(0x40, 0)) ==
          error{errc::not_supported, ECAP}); // no PRS
    CHECK(unit.send_events(unit_event::fault, {0x1000, 0x40}) ==
          error{errc::reserved_address, 0x1000});
    CHECK(unit.send_events(unit_event::fault, interrupt_message::extended(0x40, 0x100)) ==
          error{errc::not_supported, ECAP}); // no EIM
    CHECK(register_writes(*machine) == 0);
    machine->power_loss();
    CHECK(unit.resume());
    CHECK(register_writes(*machine) == 0);
    REQUIRE(unit.retire());
    CHECK(machine->violation == nullptr);
}

TEST_CASE("a wait of the queue ends in the completion event", "[vtd][rule 21]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    REQUIRE(unit.send_events(unit_event::invalidation_completion,
                             interrupt_message::compatibility(0x41, 1)));
    REQUIRE(unit.start());
    CHECK(machine->sent_count == 0);
    REQUIRE(unit.submit(pt::vtd::invalidate::context_cache()));
    const auto posted = unit.queue().post_with_interrupt();
    REQUIRE(posted);
    for (unsigned i = 0; i < 10; ++i) {
        machine->look();
    }
    REQUIRE(machine->sent_count == 1);
    CHECK(machine->sent[0] == message{message::kind::invalidation, 0xFEE0'1000, 0x41});
    CHECK(unit.queue().take_completion_event());
    CHECK(unit.queue().done(*posted).value());
    CHECK(leave(*machine, unit));
}

} // namespace
