// SPDX-License-Identifier: BSL-1.0
// All units of a machine together: what they have in common, on and off, faults, and after sleep.
#include "domain_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <map>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::paging::page_size;
using pt::vtd::fault_record;
using pt::vtd::fault_verdict;

// ---- what the units have in common
// ---------------------------------------------------------------

constexpr std::uint64_t widths(std::uint64_t cap, unsigned sagaw) {
    return (cap & ~std::uint64_t{0x1F00}) | std::uint64_t{sagaw} << 8;
}
constexpr std::uint64_t guest_width(std::uint64_t cap, unsigned bits) { // MGAW is one less
    return (cap & ~(std::uint64_t{0x3F} << 16)) | std::uint64_t{bits - 1} << 16;
}
constexpr std::uint64_t page_sizes(std::uint64_t cap, unsigned sizes) { // 1: 2 MiB, 2: 1 GiB
    return (cap & ~(std::uint64_t{0xF} << 34)) | std::uint64_t{sizes} << 34;
}

TEST_CASE("tables of a domain use what all units have", "[vtd][remapping][rule 17]") {
    const auto limits_with = [](auto&& change, unsigned width, unsigned host_width = 39) {
        const auto m = std::make_unique<rig>(machine_table(host_width));
        change(m->unit);
        m->take();
        const auto found = m->vtd->limits(width);
        CHECK(m->end());
        return found;
    };
    const auto nothing = [](auto&) {};
    auto usual = limits_with(nothing, 30).value();
    CHECK(usual.levels == 3);
    CHECK(usual.input_width == 48); // of the unit; the format cuts it
    CHECK(usual.output_width == 39);
    CHECK(usual.largest_page == page_size::size_1g);
    CHECK_FALSE(usual.snoop_control);
    CHECK_FALSE(usual.stale_when_mapped);
    CHECK_FALSE(usual.accessed_dirty);
    CHECK(limits_with(nothing, 39)->levels == 3);
    CHECK(limits_with(nothing, 40)->levels == 4);
    CHECK(limits_with(nothing, 48)->levels == 4);
    CHECK(limits_with(nothing, 49).error() == error{errc::not_supported, 49});
    CHECK(limits_with(nothing, 64).error() == error{errc::not_supported, 64});

    // Levels are a bitmap, and not a largest number: 3 and 5, 3 and 4, 4 and 5.
    const auto mixed = [](auto& unit) {
        unit[0].cap = widths(unit[0].cap, 0b1010);
        unit[1].cap = widths(unit[1].cap, 0b0110);
    };
    CHECK(limits_with(mixed, 39)->levels == 3);
    CHECK(limits_with(mixed, 40).error() == error{errc::not_supported, 40});
    const auto none = [](auto& unit) {
        unit[0].cap = widths(unit[0].cap, 0b0010);
        unit[2].cap = widths(unit[2].cap, 0b0100);
    };
    CHECK(limits_with(none, 30).error() == error{errc::not_supported, 30});
    const auto five = [](auto& unit) {
        for (auto& one : unit) {
            one.cap = guest_width(widths(one.cap, 0b1100), 57);
        }
    };
    CHECK(limits_with(five, 49)->levels == 5);
    CHECK(limits_with(five, 30)->levels == 4);
    // The width that the levels reach is of no use where one of the units takes less.
    const auto narrow = [](auto& unit) { unit[2].cap = guest_width(unit[2].cap, 42); };
    CHECK(limits_with(narrow, 42)->input_width == 42);
    CHECK(limits_with(narrow, 43).error() == error{errc::not_supported, 43});

    const auto poor = [](auto& unit) {
        unit[0].ecap |= ecap_sc;
        unit[1].ecap |= ecap_sc;
        unit[2].ecap |= ecap_sc;
        unit[1].cap = page_sizes(unit[1].cap, 1);
    };
    CHECK(limits_with(poor, 40)->largest_page == page_size::size_2m);
    CHECK(limits_with(poor, 40)->snoop_control);
    const auto poorer = [&](auto& unit) {
        poor(unit);
        unit[0].cap = page_sizes(unit[0].cap, 0);
        unit[2].ecap &= ~ecap_sc;
        unit[2].cap |= cap_cm;
    };
    CHECK(limits_with(poorer, 40)->largest_page == page_size::size_4k);
    CHECK_FALSE(limits_with(poorer, 40)->snoop_control);
    CHECK(limits_with(poorer, 40)->stale_when_mapped);
    const auto odd = [](auto& unit) { unit[1].cap = page_sizes(unit[1].cap, 2); };
    CHECK(limits_with(odd, 40)->largest_page == page_size::size_4k); // 1 GiB alone cannot be split

    // What firmware says of the host's addresses may be nonsense.
    CHECK(limits_with(nothing, 40, 46)->output_width == 46);
    CHECK(limits_with(nothing, 40, 52)->output_width == 52);
    CHECK(limits_with(nothing, 40, 53).error() == error{errc::out_of_range, 53});
    CHECK(limits_with(nothing, 40, 256).error() == error{errc::out_of_range, 256});
    CHECK(limits_with(nothing, 40, 1).error() == error{errc::out_of_range, 1});
}

TEST_CASE("large pages of a domain are those that each of its functions can use",
          "[vtd][remapping][rule 17]") {
    const auto m = std::make_unique<rig>();
    m->unit[0].cap = page_sizes(m->unit[0].cap, 0);
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment here{card};
    rig::attachment there{nic};
    REQUIRE(guest.map({iova{0x20'0000}, 0x20'0000}, hpa{memory_of(0)}, rw));
    REQUIRE(guest.attach(here));
    REQUIRE(guest.attach(there));
    CHECK(m->dma(0, card, 0x20'1234).to == memory_of(0, 0x1234)); // no fault of a reserved bit
    CHECK(m->dma(1, nic, 0x20'1234).to == memory_of(0, 0x1234));
    REQUIRE(m->vtd->release(here));
    REQUIRE(m->vtd->release(there));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("units are added once, and before anything is built on what they have in common",
          "[vtd][remapping]") {
    const auto m = std::make_unique<rig>();
    m->take({}, 0);
    CHECK(m->vtd->limits(40).error() == error{errc::absent, 40});
    CHECK(m->vtd->start() == error{errc::absent, 0}); // nothing would be blocked
    m->take({}, 2);
    CHECK(m->vtd->add(*m->driver[0]) == error{errc::already_mapped, unit_base[0]});
    const pt::vtd::drhd last = [&] {
        pt::vtd::drhd found;
        for (const pt::vtd::drhd& place : m->vtd->table().each<pt::vtd::drhd>()) {
            found = place;
        }
        return found;
    }();
    m->locks.armed = false;
    auto taken = rig::unit_type::take(m->chosen, {&m->unit[2], &m->locks}, last);
    m->driver[2].emplace(std::move(*taken));
    m->locks.armed = true;
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic};
    rig::attachment other{far};
    CHECK(guest.attach(other) == error{errc::absent, unit_base[2]}); // not yet
    REQUIRE(guest.attach(node));
    // The id that it has now might be one that this unit reserves.
    CHECK(m->vtd->add(*m->driver[2]) == error{errc::busy, unit_base[2]});
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->vtd->add(*m->driver[2]));
    REQUIRE(m->vtd->start());
    CHECK(m->vtd->add(*m->driver[2]) == error{errc::busy, unit_base[2]});
    CHECK(m->end());
}

// ---- on and off
// ------------------------------------------------------------------------------------

TEST_CASE("what cannot be made stops start() before anything was switched", "[vtd][remapping]") {
    {
        const auto m = std::make_unique<rig>();
        m->take();
        m->memory.limit = m->memory.in_use;
        CHECK(m->vtd->start() == error{errc::out_of_frames, 0});
        m->memory.limit = rig::frame_count;
        for (const auto& one : m->unit) {
            CHECK(one.orders == 0);
        }
        REQUIRE(m->vtd->start());
        CHECK(m->end());
    }
    {
        // Units without a width in common, and a host address width that cannot be: no domain can
        // be made, but everything can be blocked.
        const auto m = std::make_unique<rig>(machine_table(60));
        m->unit[0].cap = widths(m->unit[0].cap, 0b0010);
        m->unit[1].cap = widths(m->unit[1].cap, 0b1000);
        m->start();
        CHECK_FALSE(m->vtd->limits(30));
        rig::attachment nodes[] = {rig::attachment{card}, rig::attachment{nic},
                                   rig::attachment{far}};
        for (std::size_t n = 0; n < 3; ++n) {
            REQUIRE(m->vtd->quarantine(nodes[n]));
            CHECK(m->dma(n, nodes[n].who().function(), 0x1000).reason == 5);
            REQUIRE(m->vtd->release(nodes[n]));
        }
        CHECK(m->end());
    }
}

TEST_CASE("units that are on stay on when another fails, and start() goes on from there",
          "[vtd][remapping][errors][rule 12]") {
    for (std::size_t failing = 0; failing < 3; ++failing) {
        for (const bool vanishes : {false, true}) {
            bool failed = true;
            for (unsigned point = 1; failed; ++point) {
                const auto m = std::make_unique<rig>();
                m->take();
                rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
                rig::attachment node{nic};
                REQUIRE(guest.map(pages(0x1000), hpa{memory_of(0)}, rw));
                REQUIRE(guest.attach(node));
                for (auto& one : m->unit) { // once it is closed, no unit opens again
                    one.guard.runs = true;
                    one.guard.address = 0x5000;
                }
                (vanishes ? m->unit[failing].vanish_at : m->unit[failing].stall_at) =
                    (vanishes ? m->unit[failing].accesses : 0) + point;
                CAPTURE(failing, vanishes, point);
                const auto done = m->vtd->start();
                failed = !done;
                if (failed) {
                    CHECK(
                        (done.error().code == errc::time_out || done.error().code == errc::absent));
                    static_cast<void>(m->vtd->start()); // it does not answer yet, or it does
                }
                repair(m->unit[failing]);
                REQUIRE(m->vtd->start());
                CHECK(m->dma(1, nic, 0x1000).to == memory_of(0));
                CHECK_FALSE(m->dma(0, graphics, 0x1000).reached);
                CHECK_FALSE(m->dma(2, far, 0x1000).reached);
                for (const auto& one : m->unit) {
                    CHECK_FALSE(one.guard.opened);
                }
                for (auto& one : m->unit) {
                    one.guard.runs = false;
                }
                REQUIRE(m->vtd->start()); // once more does no harm
                CHECK(m->dma(1, nic, 0x1000).to == memory_of(0));
                REQUIRE(m->vtd->release(node));
                REQUIRE(guest.retire());
                CHECK(m->end());
                REQUIRE(point < 400);
            }
        }
    }
}

TEST_CASE("interrupt remapping is switched on everywhere or nowhere", "[vtd][remapping][rule 13]") {
    const auto m = std::make_unique<rig>();
    m->unit[1].ecap &= ~ecap_ir;
    m->start();
    const unsigned before[] = {m->unit[0].orders, m->unit[1].orders, m->unit[2].orders};
    CHECK(m->vtd->start_interrupt_remapping() == error{errc::not_supported, unit_base[1]});
    for (std::size_t n = 0; n < 3; ++n) {
        CHECK(m->unit[n].orders == before[n]);
        CHECK((m->unit[n].gsts & IRE) == 0);
    }
    CHECK(m->end());

    auto table =
        machine_table(); // firmware says that the machine cannot: bit 0 of the flags, at 37
    table.bytes[37] &= 0xFE;
    const auto cannot = std::make_unique<rig>(table);
    cannot->start();
    CHECK(cannot->vtd->start_interrupt_remapping() == error{errc::not_supported, 37});
    for (const auto& one : cannot->unit) {
        CHECK((one.gsts & IRE) == 0);
    }
    CHECK(cannot->end());

    const auto all = std::make_unique<rig>();
    all->take();
    CHECK_FALSE(all->vtd->start_interrupt_remapping()); // not before start()
    REQUIRE(all->vtd->start());
    REQUIRE(all->vtd->start_interrupt_remapping());
    for (const auto& one : all->unit) {
        CHECK((one.gsts & IRE) != 0);
        CHECK((one.gsts & CFI) == 0);
    }
    CHECK(all->end());
}

TEST_CASE("an I/O APIC is behind the unit whose scopes have its number, not the one for all",
          "[vtd][remapping][rule 20]") {
    dmar_builder table;
    table.bytes[36] = 38;
    table.drhd(0, 0, unit_base[0]).scope(3, 8, 0xF0, {0x1F, 0}).end();
    table.drhd(0, 1, unit_base[1]).end();
    table.drhd(0, 1, unit_base[2], 1).end();
    const auto m = std::make_unique<rig>(table);
    m->take();
    const auto behind = [&](std::uint8_t number) {
        return m->vtd->with_unit_of(
            pt::vtd::device_scope_type::io_apic, number,
            [](rig::unit_type& unit, pt::pci::function_address source) -> pt::result<hpa> {
                CHECK(source == pt::pci::function_address{0, 0xF0, 0x1F, 0});
                return unit.register_base();
            });
    };
    CHECK(behind(8).value() == hpa{unit_base[0]});
    CHECK(behind(9).error() == error{errc::absent, 9});
    CHECK(m->end());
}

TEST_CASE("units with no number of levels in common have a quarantine all the same",
          "[vtd][remapping][rule 17]") {
    const auto m = std::make_unique<rig>();
    m->unit[0].cap = widths(m->unit[0].cap, 0b0010);
    m->unit[1].cap = widths(m->unit[1].cap, 0b0100);
    m->start();
    CHECK(m->vtd->limits(39).error() == error{errc::not_supported, 39});
    rig::attachment one{graphics};
    rig::attachment other{nic};
    REQUIRE(m->vtd->quarantine(one));
    REQUIRE(m->vtd->quarantine(other));
    CHECK(m->dma(0, graphics, 0x1000).reason == 5);
    CHECK(m->dma(1, nic, 0x1000).reason == 5);
    REQUIRE(m->vtd->release(one));
    REQUIRE(m->vtd->release(other));
    CHECK(m->end());
}

TEST_CASE("retire() of the machine waits for the functions in the quarantine", "[vtd][remapping]") {
    const auto m = std::make_unique<rig>();
    m->start();
    rig::attachment node{nic};
    REQUIRE(m->vtd->quarantine(node));
    CHECK(m->vtd->retire() == error{errc::busy, nic.source_id()});
    CHECK(m->dma(1, nic, 0x1000).reason == 5);
    REQUIRE(m->vtd->release(node));
    CHECK(m->end());
    CHECK(m->vtd->retire()); // there is nothing any more
}

// ---- sleep
// -----------------------------------------------------------------------------------------

TEST_CASE("after a sleep every function is where it was", "[vtd][remapping][resume]") {
    for (const bool scalable : {false, true}) {
        const auto m = std::make_unique<rig>();
        for (auto& one : m->unit) {
            one.ecap = scalable ? scalable_ecap : one.ecap;
        }
        m->start({.mode = scalable ? pt::vtd::table_mode::scalable : pt::vtd::table_mode::legacy});
        REQUIRE(m->vtd->start_interrupt_remapping());
        rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment one{nic};
        rig::attachment two{card};
        rig::attachment three{disk};
        REQUIRE(guest.map(pages(0x1000, 4), hpa{memory_of(0)}, rw));
        REQUIRE(guest.attach(one));
        REQUIRE(guest.attach(two));
        REQUIRE(m->vtd->quarantine(three));
        REQUIRE(m->dma(1, nic, 0x2000).reached);
        for (auto& each : m->unit) {
            each.power_loss();
        }
        // What is taken away before the units are back is owed, or nobody can have it.
        const auto early = guest.unmap(pages(0x2000));
        REQUIRE(m->vtd->resume());
        CHECK(m->dma(1, nic, 0x1000).to == memory_of(0));
        CHECK(m->dma(0, card, 0x1000).to == memory_of(0));
        CHECK_FALSE(m->dma(1, disk, 0x1000).reached);
        CHECK_FALSE(m->dma(2, far, 0x1000).reached);
        for (const auto& each : m->unit) {
            CHECK((each.gsts & (TE | IRE | QIE)) == (TE | IRE | QIE));
        }
        REQUIRE((early || guest.flush() || guest.flush()));
        CHECK_FALSE(m->dma(1, nic, 0x2000).reached);
        REQUIRE(guest.unmap(pages(0x1000)));
        CHECK_FALSE(m->dma(1, nic, 0x1000).reached);
        REQUIRE(m->vtd->release(one));
        REQUIRE(m->vtd->release(two));
        REQUIRE(m->vtd->release(three));
        REQUIRE(guest.retire());
        CHECK(m->end());
    }
}

TEST_CASE("a resume that fails takes nothing for forgotten", "[vtd][remapping][resume][errors]") {
    // The units did not sleep, so that what they have cached is still in force.
    for (std::size_t failing = 0; failing < 3; ++failing) {
        bool failed = true;
        for (unsigned point = 1; failed; ++point) {
            const auto m = std::make_unique<rig>();
            m->start();
            rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
            rig::attachment nodes[] = {rig::attachment{card}, rig::attachment{nic},
                                       rig::attachment{far}};
            REQUIRE(guest.map(pages(0x1000, 4), hpa{memory_of(0)}, rw));
            for (std::size_t n = 0; n < 3; ++n) {
                REQUIRE(guest.attach(nodes[n]));
                REQUIRE(m->dma(n, nodes[n].who().function(), 0x1000).reached);
            }
            m->unit[failing].stall_at = m->unit[failing].orders + point;
            CAPTURE(failing, point);
            failed = !m->vtd->resume();
            if (guest.unmap(pages(0x1000))) {
                for (std::size_t n = 0; n < 3; ++n) {
                    CHECK_FALSE(m->dma(n, nodes[n].who().function(), 0x1000).reached);
                }
            }
            for (auto& one : m->unit) {
                repair(one);
            }
            REQUIRE(m->vtd->resume());
            REQUIRE(guest.flush());
            for (std::size_t n = 0; n < 3; ++n) {
                CHECK_FALSE(m->dma(n, nodes[n].who().function(), 0x1000).reached);
                CHECK(m->dma(n, nodes[n].who().function(), 0x2000).to == memory_of(0, 0x1000));
                REQUIRE(m->vtd->release(nodes[n]));
            }
            REQUIRE(guest.retire());
            CHECK(m->end());
            REQUIRE(point < 100);
        }
    }
}

// ---- faults
// ----------------------------------------------------------------------------------------

/// How often each verdict was given about each source id.
struct tally {
    std::map<unsigned, unsigned> reports;
    std::map<unsigned, unsigned> silenced;
    std::map<unsigned, unsigned> stopped;
    unsigned all = 0;

    void operator()(const fault_record& fault, fault_verdict verdict) {
        ++all;
        auto& counted = verdict == fault_verdict::silence ? silenced
                        : verdict == fault_verdict::stop  ? stopped
                                                          : reports;
        ++counted[fault.source.source_id()];
    }
};

std::unique_ptr<rig> with_records(pt::vtd::unit_options with = {}) {
    auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.cap |= std::uint64_t{7} << 40; // 8 records
        if (with.mode == pt::vtd::table_mode::scalable) {
            one.ecap = scalable_ecap;
        }
    }
    m->tick = 1000; // a microsecond, so that the limiter's interval is long
    m->start(with);
    return m;
}

TEST_CASE("a function that floods is told of a few times, and then records nothing any more",
          "[vtd][remapping][faults]") {
    for (const bool scalable : {false, true}) {
        CAPTURE(scalable);
        const auto m = with_records(
            {.mode = scalable ? pt::vtd::table_mode::scalable : pt::vtd::table_mode::legacy});
        rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment node{nic};
        rig::attachment peer{disk};
        REQUIRE(guest.map(pages(0x1000), hpa{memory_of(0)}, rw));
        REQUIRE(guest.attach(node));
        REQUIRE(guest.attach(peer));
        tally seen;
        unsigned taken = 0;
        for (unsigned n = 0; n < 100; ++n) {
            REQUIRE_FALSE(m->dma(1, nic, 0x7000).reached);
            taken += m->vtd->handle_faults(4, std::ref(seen)).faults;
        }
        CHECK(taken == 9);
        CHECK(seen.reports[0x28] == 8);
        CHECK(seen.silenced[0x28] == 1);
        CHECK(seen.all == 9);
        CHECK((m->unit[1].fsts & PFO) == 0);
        // What it may do it still may, and others are still heard.
        CHECK(m->dma(1, nic, 0x1000).to == memory_of(0));
        REQUIRE_FALSE(m->dma(1, disk, 0x7000).reached);
        CHECK(m->vtd->handle_faults(4, std::ref(seen)).faults == 1);
        CHECK(seen.reports[disk.source_id()] == 1);

        // After a reset, say, it is heard again.
        REQUIRE(m->vtd->report_faults_again(node));
        REQUIRE_FALSE(m->dma(1, nic, 0x7000).reached);
        CHECK(m->vtd->handle_faults(4, std::ref(seen)).faults == 1);
        CHECK(seen.reports[0x28] == 9);
        // Who moves begins with a clean entry as well.
        for (unsigned n = 0; n < 20; ++n) {
            static_cast<void>(m->dma(1, nic, 0x7000));
            static_cast<void>(m->vtd->handle_faults(4, std::ref(seen)));
        }
        CHECK(m->vtd->handle_faults(4, std::ref(seen)).faults == 0);
        REQUIRE(m->vtd->quarantine(node));
        REQUIRE_FALSE(m->dma(1, nic, 0x7000).reached);
        CHECK(m->vtd->handle_faults(4, std::ref(seen)).faults == 1);
        REQUIRE(m->vtd->release(node));
        CHECK(m->vtd->report_faults_again(node) == error{errc::not_mapped, 0x28});
        REQUIRE(m->vtd->release(peer));
        REQUIRE(guest.retire());
        CHECK(m->end());
    }
}

TEST_CASE("a fault is reported as it was, from the unit that recorded it",
          "[vtd][remapping][faults]") {
    const auto m = with_records();
    REQUIRE_FALSE(m->dma(2, far, 0x1234'5678).reached);
    REQUIRE_FALSE(m->dma(0, card, 0xABC'D000, false).reached);
    std::vector<fault_record> seen;
    CHECK(m->vtd
              ->handle_faults(8,
                              [&](const fault_record& fault, fault_verdict verdict) {
                                  seen.push_back(fault);
                                  CHECK(verdict == fault_verdict::report);
                              })
              .faults == 2);
    REQUIRE(seen.size() == 2);
    const bool first_is_far = seen[0].source == far;
    const fault_record& of_far = seen[first_is_far ? 0 : 1];
    const fault_record& of_card = seen[first_is_far ? 1 : 0];
    CHECK(of_far.source == far); // with its segment
    CHECK(of_far.page == iova{0x1234'5000});
    CHECK(of_far.type == fault_record::request::write);
    CHECK(static_cast<unsigned>(of_far.reason) == 1);
    CHECK(of_card.source == card);
    CHECK(of_card.page == iova{0xABC'D000});
    CHECK(of_card.type == fault_record::request::read);
    CHECK(m->end());
}

TEST_CASE("faults are taken a bounded number at a time, from each unit",
          "[vtd][remapping][faults]") {
    const auto m = with_records();
    for (unsigned n = 0; n < 6; ++n) {
        for (std::size_t behind = 0; behind < 3; ++behind) {
            static_cast<void>(
                m->unit[behind].dma(static_cast<std::uint16_t>(0x40 + 8 * n), 0x1000 * n, true));
        }
    }
    unsigned reports = 0;
    const auto count = [&](auto&&...) { ++reports; };
    CHECK(m->vtd->handle_faults(0, count).faults == 0);
    const auto first = m->vtd->handle_faults(4, count);
    CHECK(first.faults == 12);
    CHECK(first.more); // and the units send no event for them
    const auto second = m->vtd->handle_faults(4, count);
    CHECK(second.faults == 6);
    CHECK_FALSE(second.more);
    CHECK(m->vtd->handle_faults(4, count).faults == 0);
    CHECK(reports == 18);
    CHECK(m->end());
}

TEST_CASE("floods from functions without an entry, and from invented ones, cost a bounded number",
          "[vtd][remapping][faults]") {
    const auto m = with_records();
    tally seen;
    // One function, which has no entry: pt cannot silence it, and the VMM is told to stop it, once.
    for (unsigned n = 0; n < 200; ++n) {
        static_cast<void>(m->dma(1, nic, 0x7000));
        static_cast<void>(m->vtd->handle_faults(8, std::ref(seen)));
    }
    CHECK(seen.reports[0x28] == 8);
    CHECK(seen.silenced[0x28] == 1);
    CHECK(seen.stopped[0x28] == 1);
    CHECK(seen.all == 10);
    // Hundreds of them, and the records overflow meanwhile.
    unsigned calls = 0;
    for (unsigned n = 0; n < 5000; ++n) {
        static_cast<void>(m->unit[1].dma(static_cast<std::uint16_t>(n * 13), 0x1000, true));
        if (n % 20 == 0) {
            const unsigned taken = m->vtd->handle_faults(8, std::ref(seen)).faults;
            CHECK(taken <= 8);
            ++calls;
        }
    }
    CHECK(calls == 250);
    // 32 of all together in an interval, and a silence and a stop for each of the 16 that are
    // counted.
    CHECK(seen.all <= 32 + 2 * 16 + 2);
    // The unit records again after an overflow, so that what comes later is heard of.
    while (m->vtd->handle_faults(8, std::ref(seen)).faults != 0) {}
    CHECK((m->unit[1].fsts & PFO) == 0);
    m->time += 10'000'000'000;
    const unsigned before = seen.all;
    static_cast<void>(m->dma(1, disk, 0x1000));
    CHECK(m->vtd->handle_faults(8, std::ref(seen)).faults == 1);
    CHECK(seen.all == before + 1);
    CHECK(m->end());
}

TEST_CASE("silencing asks nothing of a device whose ATS is off",
          "[vtd][remapping][faults][device tlb]") {
    const auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.ecap |= ecap_dt;
    }
    m->tick = 1000;
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic, 1};
    REQUIRE(guest.attach(node));
    const std::uint64_t queue = m->unit[1].iqa & ~std::uint64_t{0xFFF};
    const std::uint64_t from = m->unit[1].iqt;
    tally seen;
    for (unsigned n = 0; n < 20; ++n) {
        static_cast<void>(m->dma(1, nic, 0x7000));
        static_cast<void>(m->vtd->handle_faults(4, std::ref(seen)));
    }
    CHECK(seen.silenced[0x28] == 1);
    CHECK((entry_of(*m, 1, nic).low & 2) != 0);
    CHECK(m->unit[1].iqt != from);
    for (std::uint64_t at = from; at != m->unit[1].iqt; at = (at + 16) % 4096) {
        CHECK((m->memory.stored_at(queue + at) & 0xF) != 3); // a device-TLB invalidation
    }
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("units that are gone have no faults", "[vtd][remapping][faults][errors]") {
    const auto m = with_records();
    static_cast<void>(m->dma(1, nic, 0x1000));
    for (auto& one : m->unit) {
        one.gone = true;
    }
    unsigned reports = 0;
    CHECK(m->vtd->handle_faults(100, [&](auto&&...) { ++reports; }).faults == 0);
    CHECK(reports == 0);
    for (auto& one : m->unit) {
        one.gone = false;
    }
    CHECK(m->vtd->handle_faults(100, [&](auto&&...) { ++reports; }).faults == 1);
    CHECK(m->end());
}

} // namespace
