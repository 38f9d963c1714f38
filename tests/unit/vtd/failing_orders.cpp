// SPDX-License-Identifier: BSL-1.0
// A unit's whole life, in which one order after the other stalls, is refused, ends in an error of
// the queue, or finds no unit any more. The step that it hits says so; meanwhile the unit
// translates or blocks; and the same step again, when the unit is well, succeeds with everything in
// its place.
#include "../../vtd_model/rig.hpp"

#include "pt/vtd/remappable_message.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::hpa;
using pt::iova;
using pt::result;
using pt::pci::function_address;
using pt::vtd::interrupt_block;
using pt::vtd::interrupt_message;
using pt::vtd::interrupt_requester;
using pt::vtd::interrupt_target;
using pt::vtd::table_mode;
using pt::vtd::translation;
using pt::vtd::unit_event;
using pt::vtd::unit_options;
using hardware = fake_unit<32>;

constexpr std::uint16_t nic = 0x28;
constexpr function_address nic_function{0, 0, 5, 0};
constexpr std::uint64_t page = 0x1000; ///< of the guest's, at 0x10'0000 and, in another, 0x20'0000

enum class trouble { stalled, refused, bad_descriptor, timed_out, unasked, late, vanished };

struct kind {
    const char* name;
    std::uint64_t cap;
    std::uint64_t ecap;
    unit_options chosen;
    bool firmware; ///< left its own translation, queue and protection on
};

struct life {
    hardware& m;
    unit_of<hardware> unit;
    tables_of<hardware> guest;
    tables_of<hardware> other;
    pt::vtd::domain_invalidator<unit_of<hardware>> forgets{unit, 7};
    pt::vtd::domain_invalidator<unit_of<hardware>> forgets_other{unit, 8};
    unsigned failures = 0;
    bool remaps;

    life(hardware& machine, const kind& k)
        : m{machine},
          unit{driver(machine, k.chosen)},
          guest{{&machine}, format_of(machine), {&machine}},
          other{{&machine}, format_of(machine), {&machine}},
          remaps{unit.interrupts().size() != 0} {}

    translation in_guest() {
        return translation::second_stage(guest.root().value(), guest.format(), 7);
    }
    translation in_other() {
        return translation::second_stage(other.root().value(), other.format(), 8);
    }

    /// The step, and once more when it fails.
    template <class Step, class Again>
    void twice(const char* name, Step step, Again again) {
        INFO(name);
        const result<void> done = step();
        CHECK_FALSE(m.guard.opened);
        if (!done) {
            ++failures;
            const errc why = done.error().code;
            CHECK((why == errc::time_out || why == errc::absent || why == errc::hardware_fault));
            hit_nothing_else();
            recover();
            CHECK_FALSE(m.guard.opened);
            const result<void> second = again();
            CHECK(second);
        }
        CHECK_FALSE(m.guard.opened);
        CHECK(blame() == "nothing");
    }
    template <class Step>
    void twice(const char* name, Step step) {
        twice(name, step, step);
    }
    /// The unit is well again. One that was away has finished meanwhile what it had begun.
    void recover() {
        const bool away = m.gone;
        m.recover();
        m.deliver_late();
        for (unsigned i = 0; away && i < 4; ++i) {
            m.hammer.runs = false;
            static_cast<void>(m.read32(GSTS));
            static_cast<void>(m.read32(PMEN));
            static_cast<void>(m.read64(CCMD));
            static_cast<void>(m.read64(0xF8));
        }
        m.hammer.runs = m.guard.runs;
    }
    /// What the fake blames us for.
    std::string blame() {
        std::string what = m.violation == nullptr ? "nothing" : m.violation;
        m.forgive();
        return what;
    }
    /// What the device that hammers has reached: where its tables say, or, before they were in
    /// force, what was open.
    void hit_nothing_else() {
        bool closed = false;
        for (std::size_t i = 0; i < m.hammer.count; ++i) {
            const outcome& o = m.hammer.seen[i];
            closed = closed || !o.reached || o.translated;
            if (o.reached && o.translated) {
                CHECK((o.to == 0x10'0008 || o.to == 0x20'0008));
            } else if (o.reached) {
                CHECK_FALSE(closed);
            }
        }
        m.hammer.count = 0;
    }

    void live() {
        m.hammer.source_id = nic;
        m.hammer.address = m.guard.address = page + 8;
        m.hammer.write = true;
        m.hammer.runs = m.guard.runs = true;

        twice("start", [&] { return unit.start(); });
        if (remaps) {
            twice("start_interrupt_remapping", [&] { return unit.start_interrupt_remapping(); });
        }
        CHECK((m.gsts & TE) != 0);
        CHECK((m.gsts & (IRE | CFI)) == (remaps ? IRE : 0));

        const auto attach = [&] { return unit.attach(nic_function, in_guest()); };
        twice("attach", attach, [&] {
            const result<void> finished = unit.detach(nic_function); // as attach() demands
            return finished || finished.error().code == errc::not_mapped ? attach() : finished;
        });
        {
            auto ticket =
                guest.map({iova{page}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
            REQUIRE(ticket);
            twice("map", [&] { return ticket->redeem(forgets); });
        }
        {
            auto ticket =
                other.map({iova{page}, 0x1000}, hpa{0x20'0000}, pt::vtd::second_stage::read_write);
            REQUIRE(ticket);
            twice("map", [&] { return ticket->redeem(forgets_other); });
        }
        CHECK(m.dma(nic, page + 8, true).to == 0x10'0008);

        interrupt_block block{};
        interrupt_message msi{};
        if (remaps) {
            block = unit.interrupts().allocate().value();
            msi = pt::vtd::remappable_message(block.first);
            twice(
                "set",
                [&] {
                    return unit.interrupts().set(
                        block.first, interrupt_target{.vector = 0x51, .destination_id = 3},
                        interrupt_requester::exactly(nic), unit);
                },
                [&] { // set() itself has what failed forgotten before its place is used again
                    return unit.interrupts().set(
                        block.first, interrupt_target{.vector = 0x51, .destination_id = 3},
                        interrupt_requester::exactly(nic), unit);
                });
            CHECK(m.interrupt(nic, msi.address, msi.data).vector == 0x51);
            CHECK(m.interrupt(0x30, msi.address, msi.data).reason == 0x26);
        }
        twice("send_events", [&] {
            return unit.send_events(unit_event::fault, interrupt_message::compatibility(0x40, 2));
        });

        const auto replace = [&] { return unit.replace(nic_function, in_other()); };
        twice("replace", replace, [&] {
            const result<void> replaced = replace();
            if (replaced || replaced.error().code != errc::not_mapped) {
                return replaced;
            }
            const result<void> finished = unit.detach(nic_function);
            return finished ? unit.attach(nic_function, in_other()) : finished;
        });
        CHECK(m.dma(nic, page + 8, true).to == 0x20'0008);

        twice("resume", [&] { return unit.resume(); });
        CHECK(m.dma(nic, page + 8, true).to == 0x20'0008);
        hit_nothing_else();

        m.guard.runs = m.hammer.runs = false;
        m.power_loss();
        m.guard.runs = m.hammer.runs = true;
        twice("resume after a sleep", [&] { return unit.resume(); });
        CHECK(m.dma(nic, page + 8, true).to == 0x20'0008);
        CHECK(m.fault_event.data == 0x40);
        CHECK((m.fault_event.control & IM) == 0);
        if (remaps) {
            CHECK(m.interrupt(nic, msi.address, msi.data).vector == 0x51);
            CHECK(m.interrupt(nic, 0xFEE0'3000, 0x51).reason == 0x25);
            twice("release", [&] { return unit.interrupts().release(block, unit); });
            CHECK(m.interrupt(nic, msi.address, msi.data).reason == 0x22);
        }
        {
            auto ticket = other.unmap({iova{page}, 0x1000});
            REQUIRE(ticket);
            twice("unmap", [&] { return ticket->redeem(forgets_other); });
            CHECK(m.dma(nic, page + 8, true).reason != 0);
        }
        twice("detach", [&] { return unit.detach(nic_function); });
        CHECK(m.dma(nic, page + 8, true).reason == (unit.mode() == table_mode::legacy ? 2 : 0x41));
        hit_nothing_else();
        m.guard.runs = m.hammer.runs = false;
        {
            auto owed = guest.retire();
            twice("the guest's tables", [&] { return owed.redeem(forgets); });
        }
        {
            auto owed = other.retire();
            twice("the other's tables", [&] { return owed.redeem(forgets_other); });
        }
        twice("stop", [&] { return unit.stop(); });
        CHECK((m.gsts & (TE | QIE | IRE)) == 0);
    }
};

/// How often something failed; `reached`: whether there were so many orders at all.
unsigned live_with(const kind& k, trouble what, unsigned n, bool& reached) {
    const auto machine = std::make_unique<hardware>();
    hardware& m = *machine;
    m.cap |= k.cap;
    m.ecap = k.ecap;
    if (k.firmware) {
        m.firmware_translation(foreign_frame(m), k.ecap == scalable_ecap ? 1 : 0);
        if ((k.ecap & ecap_qi) != 0) {
            m.firmware_queue(foreign_frame(m) | (k.ecap == scalable_ecap ? 0x800 : 0));
        }
        m.firmware_protection(0x1000'0000, 0x1FFF'FFFF, 0x1'0000'0000, 0x1'FFFF'FFFF);
    }
    const std::size_t before = m.in_use;
    switch (what) {
    case trouble::stalled: m.stall_at = n; break;
    case trouble::refused: m.refuse_at = n; break;
    case trouble::bad_descriptor: m.error_at = n; break;
    case trouble::timed_out: m.time_out_at = n; break;
    case trouble::unasked: m.completion_error_at = n; break;
    case trouble::late: m.late_at = n; break;
    case trouble::vanished: break;
    }
    life l{m, k};
    if (what == trouble::vanished) {
        m.vanish_at = m.accesses + n;
    }
    l.live();
    reached = what == trouble::vanished ? m.vanish_at == 0 : m.orders >= n;
    if (what == trouble::vanished) {
        m.recover();
    }
    CHECK(l.unit.retire());
    CHECK(m.in_use == before);
    CHECK(l.blame() == "nothing");
    return l.failures;
}

const kind kinds[] = {
    {"by queue", 0, qemu_ecap, {}, false},
    {"by queue, after firmware", 0, qemu_ecap, {}, true},
    {"by registers", 0, qemu_ecap & ~(ecap_qi | ecap_ir), by_registers(), false},
    {"by registers, after firmware", 0, qemu_ecap, by_registers(), true},
    {"caching mode", cap_cm, qemu_ecap, {}, false},
    {"write buffer", cap_rwbf, qemu_ecap, {}, false},
    {"by registers, caching mode, write buffer", cap_cm | cap_rwbf, qemu_ecap, by_registers(),
     false},
    {"scalable", 0, scalable_ecap, in_scalable_mode(), false},
    {"scalable, after firmware", 0, scalable_ecap, in_scalable_mode(), true},
    {"legacy, after firmware in scalable mode", 0, scalable_ecap, {}, true},
};

/// Whether each of them is felt, some are, or none is.
enum class felt { always, sometimes, never };

void each_order(trouble what, felt by_us) {
    for (const kind& k : kinds) {
        if (what != trouble::stalled && what != trouble::refused && what != trouble::vanished &&
            k.chosen.invalidation == pt::vtd::invalidation_interface::registers) {
            continue; // an affair of the queue
        }
        unsigned hits = 0;
        for (unsigned n = 1;; ++n) {
            INFO(k.name << ", " << n);
            REQUIRE(n < 2000);
            bool reached = false;
            const unsigned failures = live_with(k, what, n, reached);
            CHECK(failures <= 1);
            hits += failures;
            if (!reached) {
                CHECK(failures == 0);
                CHECK(n > 20);
                CHECK((hits > 5) == (by_us != felt::never));
                break;
            }
            if (by_us == felt::always) {
                CHECK(failures == 1);
            }
        }
    }
}

TEST_CASE("every order stalls once", "[vtd][hostile][rule 12]") {
    each_order(trouble::stalled, felt::always);
}
TEST_CASE("every order is refused once", "[vtd][hostile]") {
    each_order(trouble::refused, felt::sometimes);
}
TEST_CASE("every descriptor is invalid once", "[vtd][hostile][rule 21]") {
    each_order(trouble::bad_descriptor, felt::sometimes);
}
TEST_CASE("every descriptor times out once", "[vtd][hostile][rule 21]") {
    each_order(trouble::timed_out, felt::sometimes);
}
TEST_CASE("every status is written late once", "[vtd][hostile][rule 21]") {
    each_order(trouble::late, felt::sometimes);
}
TEST_CASE("every descriptor finds an answer that nobody asked for", "[vtd][hostile][rule 21]") {
    each_order(trouble::unasked, felt::never);
}
TEST_CASE("the unit vanishes at every access once", "[vtd][hostile]") {
    each_order(trouble::vanished, felt::sometimes);
}

} // namespace
