// SPDX-License-Identifier: BSL-1.0
// A unit that does not answer, refuses, or goes away at any point of any change of a function's
// domain: the function is never open, everything stays owed, and it can be done again.
#include "domain_rig.hpp"

#include "../../paging_model/contract.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::hpa;

enum class failure : std::uint8_t { stall, refusal, device_time_out, vanishing };
enum class change : std::uint8_t { attach, move, to_quarantine, from_quarantine, release, unmap };
enum class kind_of_unit : std::uint8_t { queue, caching, registers, scalable };

/// The unit fails at its `point`th order, descriptor or register access from now on.
void break_at(remapping_unit& unit, failure what, unsigned point) {
    switch (what) {
    case failure::stall: unit.stall_at = unit.orders + point; break;
    case failure::refusal: unit.refuse_at = unit.orders + point; break;
    case failure::device_time_out:
        unit.time_out_at = unit.orders + point;
        unit.guilty = nic.source_id();
        break;
    case failure::vanishing: unit.vanish_at = unit.accesses + point; break;
    }
}

template <class Rig>
struct trial {
    std::unique_ptr<Rig> m;
    using base = rig_of<decltype(Rig::chosen.wide_store)>;

    explicit trial(kind_of_unit kind) : m{std::make_unique<Rig>()} {
        pt::vtd::unit_options with;
        for (auto& one : m->unit) {
            if (kind == kind_of_unit::caching) {
                one.cap |= cap_cm;
            } else if (kind == kind_of_unit::registers) {
                one.ecap &= ~(ecap_qi | ecap_ir);
            } else if (kind == kind_of_unit::scalable) {
                one.ecap = scalable_ecap;
                with.mode = pt::vtd::table_mode::scalable;
            }
        }
        m->start(with);
    }

    /// One change that fails at one point; whether anything failed at all. Everything that the
    /// device could see was right, and everything could be repaired and given back.
    bool run(change what, failure how, unsigned point) {
        typename base::domain a{*m->vtd, m->vtd->limits(40).value()};
        typename base::domain b{*m->vtd, m->vtd->limits(40).value()};
        typename base::domain c{*m->vtd, m->vtd->limits(40).value()};
        typename base::attachment node{nic};
        // One that stays in a, behind the same unit or behind another one.
        const pt::pci::function_address stays = point % 2 == 0 ? disk : card;
        const std::size_t where = point % 2 == 0 ? 1 : 0;
        typename base::attachment peer{stays};
        remapping_unit& unit = m->unit[1];
        a.map(pages(0x1000, 4), hpa{memory_of(0, 0x1000)}, rw).value();
        b.map(pages(0x1000, 4), hpa{memory_of(1, 0x1000)}, rw).value();
        c.map(pages(0x1000, 4), hpa{memory_of(2, 0x1000)}, rw).value();
        a.attach(peer).value();
        const std::uint64_t in_a = memory_of(0, 0x1234);
        const std::uint64_t in_b = memory_of(1, 0x1234);
        if (what == change::from_quarantine) {
            m->vtd->quarantine(node).value();
        } else if (what != change::attach) {
            a.attach(node).value();
        }
        static_cast<void>(m->dma(where, stays, 0x1234));

        pt::result<void> done{};
        {
            hammering device{unit, nic, 0x1234};
            break_at(unit, how, point);
            const bool goes_to_b =
                what == change::attach || what == change::move || what == change::from_quarantine;
            switch (what) {
            case change::attach:
            case change::move:
            case change::from_quarantine: done = b.attach(node); break;
            case change::to_quarantine: done = m->vtd->quarantine(node); break;
            case change::release: done = m->vtd->release(node); break;
            case change::unmap: done = a.unmap(pages(0x1000)); break;
            }
            // Old, blocked, new, in this order.
            const bool was_in_a = what != change::attach && what != change::from_quarantine;
            std::vector<std::uint64_t> seen = device.stretches();
            if (was_in_a && !seen.empty() && seen.front() == in_a) {
                seen.erase(seen.begin());
            }
            if (!seen.empty() && seen.front() == 0) {
                seen.erase(seen.begin());
            }
            if (goes_to_b && !seen.empty() && seen.front() == in_b) {
                seen.erase(seen.begin());
            }
            // What failed when it had appeared is blocked again, though it may still be cached.
            if (!done && !seen.empty() && seen.front() == 0) {
                seen.erase(seen.begin());
            }
            CHECK(seen.empty());
        }
        if (!done) {
            CHECK((done.error().code == errc::time_out || done.error().code == errc::absent ||
                   done.error().code == errc::hardware_fault));
            // Nothing is given back that the unit may use.
            CHECK(a.retire().error().code == errc::busy);
            const bool holds_a = what == change::move || what == change::to_quarantine;
            if (holds_a) {
                CHECK(node.attached());
            }
        }
        unit.recover();

        // Pages go away while nobody knows where the function is: after a success it is in neither.
        if (a.flush() && a.unmap(pages(0x1000)) && b.flush() && b.unmap(pages(0x1000))) {
            CHECK_FALSE(m->dma(1, nic, 0x1234).reached);
            CHECK_FALSE(m->dma(where, stays, 0x1234).reached);
        } else {
            // One error may be told late, of what was under way when the unit failed; not two.
            CHECK(a.flush());
            CHECK(b.flush());
        }
        CHECK(m->dma(where, stays, 0x3000).to == memory_of(0, 0x3000));

        // It can be put anywhere now, and reaches that and nothing else.
        const bool moved = c.attach(node) || c.attach(node);
        CHECK(moved);
        CHECK(m->dma(1, nic, 0x1234).to == memory_of(2, 0x1234));
        CHECK(m->dma(1, nic, 0x3000).to == memory_of(2, 0x3000));
        CHECK(b.retire()); // it is nowhere else
        CHECK(m->vtd->release(node));
        CHECK_FALSE(m->dma(1, nic, 0x3000).reached);
        CHECK(m->vtd->release(peer));
        CHECK(a.retire());
        CHECK(c.retire());
        CHECK(m->end());
        INFO((m->memory.violation != nullptr ? m->memory.violation : "no violation"));
        CHECK(m->right());
        return !done;
    }
};

template <class Rig>
void everywhere(kind_of_unit kind) {
    for (const change what : {change::attach, change::move, change::to_quarantine,
                              change::from_quarantine, change::release, change::unmap}) {
        for (const failure how :
             {failure::stall, failure::refusal, failure::device_time_out, failure::vanishing}) {
            if (kind == kind_of_unit::registers && how == failure::device_time_out) {
                continue; // there is no queue to tell
            }
            unsigned failures = 0;
            unsigned successes = 0;
            for (unsigned point = 1; point < 300 && successes < 3; ++point) {
                CAPTURE(static_cast<unsigned>(kind), static_cast<unsigned>(what),
                        static_cast<unsigned>(how), point);
                if (trial<Rig>{kind}.run(what, how, point)) {
                    ++failures;
                } else {
                    ++successes; // behind the end
                }
            }
            CAPTURE(static_cast<unsigned>(kind), static_cast<unsigned>(what),
                    static_cast<unsigned>(how));
            CHECK(failures > 0);
            CHECK(successes == 3);
        }
    }
}

TEST_CASE("a unit with a queue fails at any point of any change",
          "[vtd][domain][errors][rule 21]") {
    everywhere<rig>(kind_of_unit::queue);
}
TEST_CASE("a unit fails at any point while entries change at once", "[vtd][domain][errors]") {
    everywhere<wide_rig>(kind_of_unit::queue);
}
TEST_CASE("a unit with caching mode fails at any point", "[vtd][domain][errors][rule 15]") {
    everywhere<rig>(kind_of_unit::caching);
}
TEST_CASE("a unit without a queue fails at any point", "[vtd][domain][errors]") {
    everywhere<rig>(kind_of_unit::registers);
}
TEST_CASE("a unit in scalable mode fails at any point", "[vtd][domain][errors][scalable]") {
    everywhere<rig>(kind_of_unit::scalable);
}

} // namespace
