// SPDX-License-Identifier: BSL-1.0
// Functions come to domains, move between them, and go: at every store and at every register write
// a device is asked where it gets.
#include "domain_rig.hpp"

#include "../../paging_model/contract.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using stretches = std::vector<std::uint64_t>;

/// Two guests with memory of their own at the same addresses, and one that has nothing.
template <class Rig>
struct guests {
    typename Rig::domain a;
    typename Rig::domain b;
    typename Rig::domain empty;

    explicit guests(Rig& m)
        : a{*m.vtd, m.vtd->limits(40).value()},
          b{*m.vtd, m.vtd->limits(40).value()},
          empty{*m.vtd, m.vtd->limits(40).value()} {
        a.map(pages(0x1000, 4), hpa{memory_of(0, 0x1000)}, rw).value();
        b.map(pages(0x1000, 4), hpa{memory_of(1, 0x1000)}, rw).value();
    }
    [[nodiscard]] bool retire() {
        return a.retire().has_value() && b.retire().has_value() && empty.retire().has_value();
    }
};

TEST_CASE("a function reaches its domain's memory and nothing else, at every moment of its life",
          "[vtd][domain][rule 14]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment node{nic};
    hammering device{m->unit[1], nic, 0x2345};
    const std::uint64_t in_a = memory_of(0, 0x2345);
    const std::uint64_t in_b = memory_of(1, 0x2345);

    CHECK(m->dma(1, nic, 0x2345).reason == 1); // not even a context table
    REQUIRE(g.a.attach(node));
    CHECK(device.stretches() == stretches{0, in_a});
    CHECK(node.attached());
    CHECK(node.hardware() == &*m->driver[1]);
    CHECK(m->dma(1, nic, 0x2345).to == in_a);
    CHECK(m->dma(1, nic, 0x5000).reason == 5);
    CHECK(m->dma(1, nic, 0x5000, false).reason == 6);

    // Without a wide store it is blocked on the way, and never anywhere else.
    REQUIRE(g.b.attach(node));
    CHECK(device.stretches() == stretches{in_a, 0, in_b});
    CHECK(m->dma(1, nic, 0x2345).to == in_b);

    REQUIRE(m->vtd->quarantine(node));
    CHECK(device.stretches() == stretches{in_b, 0});
    CHECK(node.attached());
    CHECK(m->dma(1, nic, 0x2345).reason == 5); // the quarantine's tables, not an absent entry
    CHECK(m->dma(1, nic, 0x2345, false).reason == 6);

    REQUIRE(g.a.attach(node));
    CHECK(device.stretches() == stretches{0, in_a});
    REQUIRE(m->vtd->release(node));
    CHECK(device.stretches() == stretches{in_a, 0});
    CHECK_FALSE(node.attached());
    CHECK(node.hardware() == nullptr);
    CHECK(m->dma(1, nic, 0x2345).reason == 2);
    CHECK(m->vtd->release(node)); // there is nothing to do

    REQUIRE(m->vtd->quarantine(node));
    REQUIRE(m->vtd->release(node));
    CHECK(device.stretches() == stretches{0});
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("a domain knows what its functions' entries say before there is one", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment node{nic};
    const auto through = g.a.through();
    REQUIRE(through);
    CHECK(g.empty.through().value() != *through);
    REQUIRE(g.a.attach(node));
    const auto entry = m->vtd->with_unit_of(
        nic, [](auto& serving) { return serving.functions().translation_of(nic); });
    CHECK(entry == *through);
    CHECK(g.a.through() == *through);

    // And says so when it cannot have a root; `none` has no memory yet.
    rig::domain none{*m->vtd, m->vtd->limits(40).value()};
    const std::size_t limit = m->memory.limit;
    m->memory.limit = 0;
    CHECK(none.through().error().code == errc::out_of_frames);
    m->memory.limit = limit;
    CHECK(none.retire());
    REQUIRE(m->vtd->release(node));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("with a wide store a function moves with no moment in which it is blocked",
          "[vtd][domain][rule 14]") {
    const auto m = std::make_unique<wide_rig>();
    m->start();
    guests<rig_of<wide_store<hardware_side::memory_type>>> g{*m};
    rig_of<wide_store<hardware_side::memory_type>>::attachment node{nic};
    REQUIRE(g.a.attach(node));
    hammering device{m->unit[1], nic, 0x2345};
    REQUIRE(g.b.attach(node));
    CHECK(device.stretches() == stretches{memory_of(0, 0x2345), memory_of(1, 0x2345)});
    REQUIRE(m->vtd->quarantine(node));
    CHECK(device.stretches() == stretches{memory_of(1, 0x2345), 0});
    REQUIRE(g.a.attach(node));
    CHECK(device.stretches() == stretches{0, memory_of(0, 0x2345)});
    REQUIRE(m->vtd->release(node));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("functions of one domain behind several units, and of several domains behind one unit",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment nodes[] = {rig::attachment{graphics},    rig::attachment{card},
                               rig::attachment{second_card}, rig::attachment{nic},
                               rig::attachment{disk},        rig::attachment{far}};
    const std::size_t behind[] = {0, 0, 0, 1, 1, 2};
    for (std::size_t n = 0; n < 6; ++n) {
        REQUIRE((n % 2 == 0 ? g.a : g.b).attach(nodes[n]));
        CHECK(nodes[n].hardware() == &*m->driver[behind[n]]);
    }
    const auto leads_to = [&](std::size_t n, std::uint64_t address) {
        return m->dma(behind[n], nodes[n].who().function(), address).to;
    };
    for (std::size_t n = 0; n < 6; ++n) {
        CHECK(leads_to(n, 0x1000) == memory_of(n % 2, 0x1000));
    }
    // What a unit that has none of the functions is asked is nobody's business: unit 2 has b's one.
    REQUIRE(g.a.unmap(pages(0x1000)));
    REQUIRE(g.b.unmap(pages(0x2000)));
    for (std::size_t n = 0; n < 6; ++n) {
        CHECK(leads_to(n, 0x1000) == (n % 2 == 0 ? 0 : memory_of(1, 0x1000)));
        CHECK(leads_to(n, 0x2000) == (n % 2 == 0 ? memory_of(0, 0x2000) : 0));
    }
    // The same source id in another segment is another function.
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(1, 0x1000));
    REQUIRE(m->vtd->release(nodes[3]));
    CHECK(leads_to(3, 0x1000) == 0);
    CHECK(leads_to(5, 0x1000) == memory_of(1, 0x1000));
    for (rig::attachment& node : nodes) {
        REQUIRE(m->vtd->release(node));
    }
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("a unit that has no function of the domain any more is not asked", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment here{nic};
    rig::attachment there{card};
    REQUIRE(g.a.attach(here));
    REQUIRE(g.a.attach(there));
    REQUIRE(g.b.attach(there));
    const std::uint64_t other = m->unit[0].descriptors;
    const std::uint64_t own = m->unit[1].descriptors;
    REQUIRE(g.a.unmap(pages(0x1000)));
    CHECK(m->unit[0].descriptors == other);
    CHECK(m->unit[1].descriptors == own + 2); // the pages, and a wait
    REQUIRE(m->vtd->release(here));
    REQUIRE(m->vtd->release(there));
    const std::uint64_t idle = m->unit[1].descriptors;
    REQUIRE(g.a.unmap(pages(0x2000))); // nobody can have anything of it
    CHECK(m->unit[1].descriptors == idle);
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("a function is in one domain at a time, whoever keeps its attachment", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment node{nic};
    REQUIRE(g.a.attach(node));
    CHECK(g.a.attach(node) == error{errc::already_mapped, nic.source_id()});
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0, 0x1000));
    {
        rig::attachment again{nic}; // somebody else thinks that it is his
        CHECK(g.b.attach(again) == error{errc::already_mapped, nic.source_id()});
        CHECK_FALSE(again.attached());
        CHECK(m->vtd->quarantine(again) == error{errc::already_mapped, nic.source_id()});
        CHECK(m->vtd->release(again));
    }
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0, 0x1000));
    CHECK(m->vtd->quarantine(node));
    CHECK(m->vtd->quarantine(node) == error{errc::already_mapped, nic.source_id()});
    CHECK(m->vtd->release(node));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("what attach() refuses changes nothing", "[vtd][domain]") {
    auto table = machine_table();
    // One base in two segments: the unit is the first's, so the second has none.
    table.drhd(0, 1, unit_base[2], 4).end();
    const auto m = std::make_unique<rig>(table);
    m->start();
    guests g{*m};
    const auto refused = [&](pt::vtd::requester who, error why) {
        rig::attachment node{who};
        const std::size_t frames = m->memory.in_use;
        const bool as_said = g.a.attach(node) == why && m->vtd->quarantine(node) == why;
        return as_said && !node.attached() && m->memory.in_use == frames &&
               m->vtd->release(node).has_value();
    };
    using pt::pci::function_address;
    rig::attachment one{nic};
    REQUIRE(g.a.attach(one)); // so that nothing is allocated by what is refused
    CHECK(refused(function_address{2, 0, 5, 0}, {errc::absent, 0x28}));
    CHECK(refused(function_address{3, 0, 4, 0}, {errc::absent, 0x20}));
    CHECK(refused(function_address{4, 0, 4, 0}, {errc::absent, unit_base[2]}));
    // Named by a function of another segment: the unit has no tables for segment 0.
    CHECK(refused(pt::vtd::requester::virtual_function({0, 0, 6, 0}, far), {errc::absent, 0}));
    REQUIRE(m->vtd->release(one));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("a virtual function goes through the unit of its physical one, by an entry of its own",
          "[vtd][domain][rule 20]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    constexpr pt::pci::function_address virtual_one{0, 0, 2, 1};
    rig::attachment node{pt::vtd::requester::virtual_function(virtual_one, graphics)};
    REQUIRE(g.a.attach(node));
    CHECK(node.hardware() == &*m->driver[0]); // by itself it would be the other unit's
    CHECK(m->dma(0, virtual_one, 0x1000).to == memory_of(0, 0x1000));
    CHECK(m->dma(0, graphics, 0x1000).reason == 2);
    REQUIRE(m->vtd->quarantine(node));
    CHECK_FALSE(m->dma(0, virtual_one, 0x1000).reached);
    REQUIRE(m->vtd->release(node));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("with a unit of the table that nobody added, nothing is started",
          "[vtd][remapping][domain]") {
    auto table = machine_table();
    table.drhd(0, 0, 0xFED9'5000, 3).scope(1, 0, 0, {3, 0}).end();
    const auto m = std::make_unique<rig>(table);
    m->take();
    CHECK(m->vtd->start() == error{errc::absent, 0xFED9'5000});
    guests g{*m};
    rig::attachment behind{pt::pci::function_address{3, 0, 3, 0}};
    CHECK(g.a.attach(behind) == error{errc::absent, 0xFED9'5000});
    CHECK_FALSE(behind.attached());
    CHECK((m->unit[0].gsts & TE) == 0);
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("tables that a unit cannot walk are not given to its functions",
          "[vtd][domain][rule 17]") {
    const auto m = std::make_unique<rig>();
    m->unit[1].cap = (m->unit[1].cap & ~std::uint64_t{0x1F00}) | 0x200; // 3 levels only
    m->start();
    auto four = m->vtd->limits(39).value();
    REQUIRE(four.levels == 3);
    four.levels = 4;
    rig::domain deep{*m->vtd, four};
    rig::domain other{*m->vtd, m->vtd->limits(39).value()};
    REQUIRE(other.map(pages(0x1000), hpa{memory_of(0, 0x1000)}, rw));
    rig::attachment node{nic};
    CHECK(deep.attach(node) == error{errc::not_supported, 4});
    CHECK_FALSE(node.attached());
    CHECK(m->dma(1, nic, 0x1000).reason == 1);
    // Nor does it leave where it is.
    REQUIRE(other.attach(node));
    CHECK(deep.attach(node) == error{errc::not_supported, 4});
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0, 0x1000));
    CHECK(deep.retire()); // nothing holds it
    REQUIRE(m->vtd->release(node));
    CHECK(other.retire());
    CHECK(m->end());
}

TEST_CASE("a domain with functions is not retired, and an attachment holds its domain",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guests g{*m};
    rig::attachment one{nic};
    rig::attachment two{far};
    REQUIRE(g.a.attach(one));
    REQUIRE(g.a.attach(two));
    const auto busy = g.a.retire();
    CHECK(busy.error().code == errc::busy);
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0, 0x1000));
    REQUIRE(m->vtd->release(two));
    CHECK(g.a.retire() == error{errc::busy, nic.source_id()});
    REQUIRE(g.b.attach(one)); // gone from a
    REQUIRE(g.a.retire());
    CHECK(g.a.retire()); // nothing is left to give back
    // An empty domain may be used again.
    REQUIRE(g.a.map(pages(0x7000), hpa{memory_of(2, 0x7000)}, rw));
    REQUIRE(g.a.attach(two));
    CHECK(m->dma(2, far, 0x7000).to == memory_of(2, 0x7000));
    CHECK(m->dma(2, far, 0x1000).reason == 5);
    REQUIRE(m->vtd->release(one));
    REQUIRE(m->vtd->release(two));
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("what still holds something does not go away", "[vtd][domain]") {
    using paging_model::breaks_contract;
    const auto with = [](auto&& code) {
        return breaks_contract([&] {
            const auto m = std::make_unique<rig>();
            m->start();
            code(*m);
            static_cast<void>(m->end());
            m->vtd.reset();
        });
    };
    CHECK_FALSE(with([](rig& m) {
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        rig::attachment node{nic};
        guest.attach(node).value();
        m.vtd->release(node).value();
        guest.retire().value();
    }));
    CHECK(with([](rig& m) { // a function that is attached
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        {
            rig::attachment node{nic};
            guest.attach(node).value();
        }
        guest.leak();
    }));
    CHECK(with([](rig& m) { // a domain that has an id
        rig::attachment node{nic};
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        guest.attach(node).value();
        m.vtd->release(node).value();
    }));
    CHECK(with([](rig& m) { // a domain that has tables
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        guest.map(pages(0), hpa{0}, rw).value();
    }));
    CHECK(with([](rig& m) { // pass-through, whose id is all it has
        rig::attachment node{nic};
        pt::vtd::pass_through_domain host{*m.vtd};
        host.attach(node).value();
        m.vtd->release(node).value();
    }));
    CHECK(with([](rig& m) { // a batch that was not flushed
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        {
            rig::domain::batch changes{guest};
            changes.map(pages(0), hpa{0}, rw).value();
        }
        guest.leak();
    }));
    CHECK(with([](rig& m) { // nor one whose flush failed
        rig::domain guest{*m.vtd, m.vtd->limits(40).value()};
        rig::attachment node{nic};
        guest.map(pages(0), hpa{0}, rw).value();
        guest.attach(node).value();
        m.unit[1].gone = true;
        {
            rig::domain::batch changes{guest};
            changes.unmap(pages(0)).value();
            static_cast<void>(changes.flush());
        }
        m.unit[1].gone = false;
        m.vtd->release(node).value();
        guest.flush().value();
        guest.retire().value();
    }));
    CHECK(breaks_contract([] { // the quarantine
        const auto m = std::make_unique<rig>();
        m->start();
        m->vtd.reset();
    }));
}

TEST_CASE("a domain attached before start() is there when translation comes on", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->take();
    guests g{*m};
    rig::attachment node{nic};
    rig::attachment through{disk};
    pt::vtd::pass_through_domain host{*m->vtd};
    CHECK(m->vtd->quarantine(node) == error{errc::refused, nic.source_id()});
    REQUIRE(g.a.attach(node));
    REQUIRE(host.attach(through));
    REQUIRE(g.a.unmap(pages(0x4000))); // nothing is asked of units that are off
    CHECK(m->unit[1].orders == 0);
    {
        hammering device{m->unit[1], nic, 0x2345};
        REQUIRE(m->vtd->start());
        // Everything is open before, and then it is where it belongs, at once.
        CHECK(device.stretches() == stretches{0x2345, memory_of(0, 0x2345)});
    }
    CHECK(m->dma(1, nic, 0x4000).reason == 5);
    CHECK(m->dma(1, disk, 0x1234'5000).to == 0x1234'5000);
    CHECK(m->dma(1, {0, 0, 7, 0}, 0x1000).reason == 2);
    REQUIRE(m->vtd->release(node));
    REQUIRE(m->vtd->release(through));
    REQUIRE(host.retire());
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("pass-through: all memory, with the largest width, and only where the unit has it",
          "[vtd][domain][rule 17]") {
    const auto m = std::make_unique<rig>();
    m->unit[0].cap = (m->unit[0].cap & ~std::uint64_t{0x1F00}) | 0xE00; // 3, 4 and 5 levels
    m->unit[2].ecap &= ~ecap_pt;
    m->start();
    guests g{*m};
    pt::vtd::pass_through_domain host{*m->vtd};
    rig::attachment screen{graphics};
    rig::attachment drive{disk};
    rig::attachment other{far};
    REQUIRE(host.attach(screen));
    REQUIRE(host.attach(drive));
    // The fake blames a width that is not the largest. AW 3 and AW 2:
    CHECK(entry_of(*m, 0, graphics).high ==
          (std::uint64_t{entry_of(*m, 0, graphics).domain_id()} << 8 | 3));
    CHECK((entry_of(*m, 1, disk).high & 7) == 2);
    CHECK((entry_of(*m, 1, disk).low & 0xF) == 9); // present, translation type 10
    CHECK(m->dma(0, graphics, 0x7F'FFFF'F000).to == 0x7F'FFFF'F000);
    CHECK(m->dma(1, disk, 0x1000).to == 0x1000);
    CHECK(host.attach(other) == error{errc::not_supported, ECAP});
    CHECK_FALSE(other.attached());
    CHECK(m->dma(2, far, 0x1000).reason == 1);

    // A function moves between pass-through and a guest, and is never both.
    hammering device{m->unit[1], disk, 0x2345};
    REQUIRE(g.b.attach(drive));
    CHECK(device.stretches() == stretches{0x2345, 0, memory_of(1, 0x2345)});
    REQUIRE(host.attach(drive));
    CHECK(device.stretches() == stretches{memory_of(1, 0x2345), 0, 0x2345});
    CHECK(host.attach(drive) == error{errc::already_mapped, disk.source_id()});
    CHECK(host.retire().error().code == errc::busy);
    REQUIRE(m->vtd->quarantine(drive));
    REQUIRE(m->vtd->release(drive));
    REQUIRE(m->vtd->release(screen));
    REQUIRE(host.retire());
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("the locks: the domain's, then the remapping's, which covers every register",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    bool held[2]{};
    rig::locked_domain a{*m->vtd, m->vtd->limits(40).value(), {&m->locks, &held[0]}};
    rig::locked_domain b{*m->vtd, m->vtd->limits(40).value(), {&m->locks, &held[1]}};
    rig::attachment node{nic};
    REQUIRE(a.map(pages(0x1000, 8), hpa{memory_of(0)}, rw));
    REQUIRE(a.attach(node));
    REQUIRE(b.attach(node));
    REQUIRE(a.attach(node));
    REQUIRE(a.unmap(pages(0x1000)));
    {
        rig::locked_domain::batch changes{a};
        REQUIRE(changes.unmap(pages(0x2000)));
        REQUIRE(changes.flush());
    }
    REQUIRE(a.flush());
    REQUIRE(a.map_reserved_regions(nic));
    CHECK(a.retire().error().code == errc::busy);
    REQUIRE(m->vtd->quarantine(node));
    static_cast<void>(m->vtd->handle_faults(3, [](auto&&...) {}));
    REQUIRE(m->vtd->release(node));
    REQUIRE(a.retire());
    REQUIRE(b.retire());
    CHECK(m->locks.wrong == nullptr);
    CHECK(m->vtd
              ->with_unit_of(nic,
                             [&](rig::unit_type& u) -> pt::result<bool> {
                                 return &u == &*m->driver[1] && m->locks.hardware;
                             })
              .value());
    unsigned units = 0;
    CHECK(m->vtd->with_each_unit([&](rig::unit_type&) -> pt::result<void> {
        ++units;
        return m->locks.hardware ? pt::result<void>{} : error{errc::refused};
    }));
    CHECK(units == 3);
    CHECK(m->vtd->with_unit_of(pt::pci::function_address{9, 0, 0, 0},
                               [](rig::unit_type&) -> pt::result<void> { return {}; }) ==
          error{errc::absent, 0});
    CHECK(m->end());
}

TEST_CASE("in scalable mode the same domains do the same", "[vtd][domain][scalable]") {
    const auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.ecap = scalable_ecap;
    }
    m->start({.mode = pt::vtd::table_mode::scalable});
    guests g{*m};
    pt::vtd::pass_through_domain host{*m->vtd};
    rig::attachment node{nic};
    rig::attachment peer{card};
    REQUIRE(g.a.attach(peer));
    {
        hammering device{m->unit[1], nic, 0x2345};
        REQUIRE(g.a.attach(node));
        CHECK(device.stretches() == stretches{0, memory_of(0, 0x2345)});
        REQUIRE(g.b.attach(node));
        CHECK(device.stretches() == stretches{memory_of(0, 0x2345), 0, memory_of(1, 0x2345)});
        REQUIRE(host.attach(node));
        CHECK(device.stretches() == stretches{memory_of(1, 0x2345), 0, 0x2345});
        REQUIRE(m->vtd->quarantine(node));
        CHECK(device.stretches() == stretches{0x2345, 0});
        CHECK(m->dma(1, nic, 0x2345).reason == 0x79); // nothing is mapped
        REQUIRE(g.a.attach(node));
        CHECK(device.stretches() == stretches{0, memory_of(0, 0x2345)});
    }
    REQUIRE(g.a.unmap(pages(0x2000)));
    CHECK(m->dma(1, nic, 0x2345).reason == 0x79);
    CHECK(m->dma(0, card, 0x2345).reason == 0x79);
    CHECK(m->dma(0, card, 0x3345).to == memory_of(0, 0x3345));
    REQUIRE(m->vtd->release(node));
    CHECK_FALSE(m->dma(1, nic, 0x3345).reached);
    REQUIRE(m->vtd->release(peer));
    REQUIRE(host.retire());
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("a unit without a queue is invalidated by its registers, beside one with a queue",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->unit[1].ecap &= ~(ecap_qi | ecap_ir);
    m->start();
    guests g{*m};
    rig::attachment node{nic};
    rig::attachment peer{card};
    REQUIRE(g.a.attach(node));
    REQUIRE(g.a.attach(peer));
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0, 0x1000));
    CHECK(m->dma(0, card, 0x1000).to == memory_of(0, 0x1000));
    REQUIRE(g.a.unmap(pages(0x1000)));
    CHECK(m->dma(1, nic, 0x1000).reason == 5);
    CHECK(m->dma(0, card, 0x1000).reason == 5);
    REQUIRE(g.b.attach(node));
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(1, 0x1000));
    REQUIRE(m->vtd->release(node));
    REQUIRE(m->vtd->release(peer));
    CHECK(m->unit[1].descriptors == 0);
    CHECK(g.retire());
    CHECK(m->end());
}

TEST_CASE("with caching mode or a write buffer on one unit, what is mapped is in force at once",
          "[vtd][domain][rule 15]") {
    for (const std::uint64_t trait : {cap_cm, cap_rwbf, cap_cm | cap_rwbf}) {
        for (const bool queue : {true, false}) {
            const auto m = std::make_unique<rig>();
            m->unit[0].cap |= trait;
            if (!queue) {
                m->unit[0].ecap &= ~(ecap_qi | ecap_ir);
            }
            m->start();
            guests g{*m};
            rig::attachment node{card};
            rig::attachment peer{nic};
            REQUIRE(g.a.attach(node));
            REQUIRE(g.a.attach(peer));
            CHECK(m->dma(0, card, 0x9000).reason == 5); // and that is cached, with caching mode
            REQUIRE(g.a.map(pages(0x9000), hpa{memory_of(0, 0x9000)}, rw));
            CHECK(m->dma(0, card, 0x9000).to == memory_of(0, 0x9000));
            CHECK(m->dma(1, nic, 0x9000).to == memory_of(0, 0x9000));
            REQUIRE(g.b.attach(node));
            CHECK(m->dma(0, card, 0x9000).reason == 5);
            REQUIRE(m->vtd->release(node));
            CHECK_FALSE(m->dma(0, card, 0x1000).reached);
            REQUIRE(g.b.attach(node));
            CHECK(m->dma(0, card, 0x1000).to == memory_of(1, 0x1000));
            REQUIRE(m->vtd->release(node));
            REQUIRE(m->vtd->release(peer));
            CHECK(g.retire());
            CHECK(m->end());
        }
    }
}

} // namespace
