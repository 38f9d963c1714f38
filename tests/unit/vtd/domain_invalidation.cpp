// SPDX-License-Identifier: BSL-1.0
// What a domain makes stale: in one invalidation or many, by whomever, through units that fail, and
// down to the devices' own TLBs.
#include "domain_rig.hpp"

#include "pt/paging/flush_ticket.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;

/// The descriptors that a unit takes from its queue, by their type and what they name; waits left
/// out. They are read from memory as the tail is written, independently of pt.
std::vector<std::string> descriptors_of(rig& m, std::size_t behind, auto&& code) {
    const remapping_unit& unit = m.unit[behind];
    const std::uint64_t base = unit.iqa & ~std::uint64_t{0xFFF};
    const std::uint64_t width = (unit.iqa & 0x800) != 0 ? 32 : 16;
    const std::uint64_t before = unit.iqt;
    code();
    std::vector<std::string> seen;
    const auto hex = [](std::uint64_t n) {
        std::string digits;
        do {
            digits.insert(digits.begin(), "0123456789abcdef"[n % 16]);
        } while ((n /= 16) != 0);
        return digits;
    };
    for (std::uint64_t at = before; at != unit.iqt; at = (at + width) % 4096) {
        const std::uint64_t low = m.memory.stored_at(base + at);
        const std::uint64_t high = m.memory.stored_at(base + at + 8);
        switch (low & 0xF) {
        case 1: seen.push_back("context"); break;
        case 2:
            seen.push_back((low >> 4 & 3) == 3 ? "pages " + hex(high)
                                               : "iotlb " + hex(low >> 4 & 3));
            break;
        case 3: seen.push_back("device " + hex(low >> 32 & 0xFFFF) + " " + hex(high)); break;
        case 5: break;
        default: seen.push_back("other"); break;
        }
    }
    return seen;
}
using names = std::vector<std::string>;

TEST_CASE("a batch costs one wait, and nothing is reached after its flush", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic};
    REQUIRE(guest.map(pages(0, 1024), hpa{memory_of(0)}, rw));
    REQUIRE(guest.change(
        [](auto& t) { return t.split(pages(0, 1024), pt::paging::page_size::size_4k); }));
    REQUIRE(guest.attach(node));
    for (std::uint64_t page = 0; page < 24; page += 2) {
        REQUIRE(m->dma(1, nic, page * 4096).reached);
    }
    const std::uint64_t orders = m->unit[1].descriptors;
    {
        rig::domain::batch changes{guest};
        for (std::uint64_t page = 0; page < 16; page += 2) {
            REQUIRE(changes.unmap(pages(page * 4096)));
        }
        CHECK(m->unit[1].descriptors == orders);
        CHECK(m->dma(1, nic, 0x2000).reached); // until the flush
        const auto asked = descriptors_of(*m, 1, [&] { REQUIRE(changes.flush()); });
        // Eight pages that do not touch, leaves only.
        CHECK(asked == names{"pages 40", "pages 2040", "pages 4040", "pages 6040", "pages 8040",
                             "pages a040", "pages c040", "pages e040"});
        CHECK(m->unit[1].descriptors == orders + 9);
    }
    for (std::uint64_t page = 0; page < 16; ++page) {
        CHECK(m->dma(1, nic, page * 4096).reached == (page % 2 == 1));
    }
    // A ninth range does not fit: the domain as a whole, which is right as well.
    {
        rig::domain::batch changes{guest};
        for (std::uint64_t page = 100; page < 118; page += 2) {
            REQUIRE(changes.unmap(pages(page * 4096)));
        }
        CHECK(descriptors_of(*m, 1, [&] { REQUIRE(changes.flush()); }) == names{"iotlb 2"});
    }
    for (std::uint64_t page = 100; page < 120; ++page) {
        CHECK(m->dma(1, nic, page * 4096).reached == (page % 2 == 1 || page == 118));
    }
    // After that it counts ranges again.
    CHECK(descriptors_of(*m, 1, [&] { REQUIRE(guest.unmap(pages(0x3F'0000, 16))); }) ==
          names{"pages 3f0044"});
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("an absorbed ticket is owed whole: ranges, tables and frames", "[vtd][domain]") {
    // Many operations, of which some take tables out, in one batch of two ranges.
    const auto m = std::make_unique<rig>();
    m->start();
    using table = rig::domain::table_type;
    using batch =
        pt::paging::flush_batch<pt::vtd::second_stage::format, rig::policies::memory_type, 2>;
    const pt::vtd::second_stage::format format{m->vtd->limits(40).value()};
    table tables{{&m->memory}, format, {&m->memory}};
    for (std::uint64_t n = 0; n < 5; ++n) { // a table each
        REQUIRE(tables.map(pages(n << 21), hpa{memory_of(0, n << 21)}, rw)->empty());
    }
    const std::size_t before = m->memory.in_use;
    batch owed{{&m->memory}};
    struct listener {
        unsigned calls = 0;
        std::size_t ranges = 0;
        bool everything = false;
        bool tables_changed = false;
        bool fails = false;

        pt::result<void> invalidate(const pt::paging::stale_set<iova>& stale) {
            ++calls;
            ranges = 0;
            for (const pt::range<iova>& part : stale) {
                ranges += part.empty() ? 0 : 1;
            }
            everything = stale.everything();
            tables_changed = stale.tables_changed();
            return fails ? pt::result<void>{error{errc::time_out, 0}} : pt::result<void>{};
        }
    } hardware;
    for (std::uint64_t n = 0; n < 4; ++n) {
        auto ticket = tables.unmap(pages(n << 21));
        REQUIRE(ticket);
        REQUIRE_FALSE(ticket->empty());
        owed.absorb(*ticket);
        CHECK(ticket->empty()); // it may go away
        CHECK_FALSE(owed.empty());
        CHECK(owed.stale().everything() == (n >= 2));
        CHECK(m->memory.in_use == before); // no frame before the flush
    }
    auto nothing = tables.unmap(pages(0x4000'0000));
    REQUIRE(nothing);
    owed.absorb(*nothing);
    hardware.fails = true;
    CHECK(owed.redeem(hardware).error().code == errc::time_out);
    CHECK(m->memory.in_use == before);
    CHECK_FALSE(owed.empty());
    hardware.fails = false;
    CHECK(owed.redeem(hardware));
    CHECK(hardware.everything);
    CHECK(hardware.tables_changed);
    CHECK(m->memory.in_use == before - 4);
    CHECK(owed.empty());
    // Empty again in every respect.
    auto protect = tables.protect(pages(4U << 21), {.read = true});
    REQUIRE(protect);
    owed.absorb(*protect);
    CHECK(owed.redeem(hardware));
    CHECK(hardware.calls == 3);
    CHECK_FALSE(hardware.everything);
    CHECK_FALSE(hardware.tables_changed);
    CHECK(hardware.ranges == 1);
    auto all = tables.retire();
    owed.absorb(all);
    CHECK(owed.redeem(hardware));
    CHECK(m->end());
}

TEST_CASE("what a unit did not forget stays owed until a flush succeeds, whoever asks for it",
          "[vtd][domain][errors]") {
    for (const std::size_t broken : {0U, 1U}) {
        CAPTURE(broken);
        const auto m = std::make_unique<rig>();
        m->start();
        const pt::pci::function_address by_unit[] = {card, nic};
        const auto by_broken = [&](std::uint64_t address) {
            return m->dma(broken, by_unit[broken], address);
        };
        const auto by_other = [&](std::uint64_t address) {
            return m->dma(1 - broken, by_unit[1 - broken], address);
        };
        rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment here{nic};
        rig::attachment there{card};
        REQUIRE(guest.map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
        REQUIRE(guest.map(pages(0x4000'0000), hpa{memory_of(0, 0x4000'0000)}, rw));
        REQUIRE(guest.attach(here));
        REQUIRE(guest.attach(there));
        const auto both_reach = [&](std::uint64_t address) {
            return m->dma(1, nic, address).reached && m->dma(0, card, address).reached;
        };
        REQUIRE(both_reach(0x1000));
        REQUIRE(both_reach(0x2000));
        REQUIRE(both_reach(0x4000'0000));

        m->unit[broken].gone = true;
        const std::size_t frames = m->memory.in_use;
        CHECK(guest.unmap(pages(0x4000'0000)).error().code == errc::absent);
        CHECK(guest.tables().translate(iova{0x4000'0000}).error().code == errc::not_mapped);
        CHECK(m->memory.in_use == frames); // two tables went, and may still be walked
        // The other unit was told nevertheless.
        CHECK_FALSE(by_other(0x4000'0000).reached);
        CHECK(guest.unmap(pages(0x1000)).error().code == errc::absent);
        // A map owes nothing here, but what is owed is tried again, and its failure is not hidden.
        CHECK(guest.map(pages(0x10'0000), hpa{memory_of(0, 0x10'0000)}, rw).error().code ==
              errc::absent);
        CHECK(guest.tables().translate(iova{0x10'0000}));
        CHECK(guest.flush().error().code == errc::absent);
        CHECK(m->memory.in_use == frames + 0);

        m->unit[broken].gone = false;
        CHECK(by_broken(0x1000).reached); // its caches know nothing yet
        CHECK(by_broken(0x4000'0000).reached);
        rig::domain::batch changes{guest};
        REQUIRE(changes.unmap(pages(0x2000))); // somebody else's change pays for all
        REQUIRE(changes.flush());
        CHECK_FALSE(by_broken(0x1000).reached);
        CHECK_FALSE(by_broken(0x2000).reached);
        CHECK_FALSE(by_broken(0x4000'0000).reached);
        CHECK(by_broken(0x3000).to == memory_of(0, 0x3000));
        CHECK(m->memory.in_use == frames - 2);
        const std::uint64_t done = m->unit[broken].descriptors;
        CHECK(guest.flush()); // nothing is owed
        CHECK(m->unit[broken].descriptors == done);
        REQUIRE(m->vtd->release(here));
        REQUIRE(m->vtd->release(there));
        REQUIRE(guest.retire());
        CHECK(m->end());
    }
}

TEST_CASE("two users of a domain redeem in order, whoever flushes first", "[vtd][domain]") {
    // The first one takes a table out; the second maps at its place, and has a page cached from it.
    const auto m = std::make_unique<rig>();
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic};
    REQUIRE(guest.map(pages(0, 513), hpa{memory_of(0)}, {.read = true}));
    REQUIRE(guest.change(
        [](auto& t) { return t.split(pages(0, 512), pt::paging::page_size::size_4k); }));
    REQUIRE(guest.attach(node));
    REQUIRE(m->dma(1, nic, 0x5000, false).reached);
    rig::domain::batch first{guest};
    rig::domain::batch second{guest};
    REQUIRE(first.unmap(pages(0, 512)));
    REQUIRE(second.map(pages(0x5000), hpa{memory_of(1, 0x5000)}, rw));
    const std::size_t frames = m->memory.in_use;
    REQUIRE(second.flush());
    CHECK(m->dma(1, nic, 0x5000).to == memory_of(1, 0x5000));
    CHECK_FALSE(m->dma(1, nic, 0x6000, false).reached);
    CHECK(m->memory.in_use == frames - 1); // the first one's table, which the flush paid for
    REQUIRE(first.flush());
    CHECK(m->memory.in_use == frames - 1);
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("a batch may leave what it owes to the domain", "[vtd][domain][errors]") {
    const auto m = std::make_unique<rig>();
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic};
    REQUIRE(guest.map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
    REQUIRE(guest.attach(node));
    REQUIRE(m->dma(1, nic, 0x1000).reached);
    {
        rig::domain::batch changes{guest};
        REQUIRE(changes.unmap(pages(0x1000)));
        CHECK(changes.map(pages(0x2000), hpa{0}, rw).error().code == errc::already_mapped);
        m->unit[1].stall_at = m->unit[1].orders + 1;
        CHECK(changes.flush().error().code == errc::time_out);
        changes.leave();
    }
    m->unit[1].recover();
    REQUIRE(guest.flush());
    CHECK_FALSE(m->dma(1, nic, 0x1000).reached);
    {
        rig::domain::batch nothing{guest}; // needs no flush
    }
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("units without page-selective invalidation, or with a small mask, forget more",
          "[vtd][domain][rule 18]") {
    const auto m = std::make_unique<rig>();
    m->unit[0].cap &= ~(std::uint64_t{1} << 39);
    m->unit[1].cap = (m->unit[1].cap & ~(std::uint64_t{0x3F} << 48)) | std::uint64_t{1} << 48;
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment nodes[] = {rig::attachment{card}, rig::attachment{nic}, rig::attachment{far}};
    REQUIRE(guest.map(pages(0, 64), hpa{memory_of(0)}, rw));
    for (std::size_t n = 0; n < 3; ++n) {
        REQUIRE(guest.attach(nodes[n]));
        REQUIRE(m->dma(n, nodes[n].who().function(), 0x5000).reached);
    }
    names asked[3];
    asked[0] = descriptors_of(*m, 0, [&] {
        asked[1] = descriptors_of(*m, 1, [&] {
            asked[2] = descriptors_of(*m, 2, [&] { REQUIRE(guest.unmap(pages(0x4000, 4))); });
        });
    });
    CHECK(asked[0] == names{"iotlb 2"});
    CHECK(asked[1] == names{"iotlb 2"}); // four pages are more than 2^1
    CHECK(asked[2] == names{"pages 4042"});
    for (std::size_t n = 0; n < 3; ++n) {
        CHECK_FALSE(m->dma(n, nodes[n].who().function(), 0x5000).reached);
        REQUIRE(m->vtd->release(nodes[n]));
    }
    REQUIRE(guest.retire());
    CHECK(m->end());
}

// ---- device TLBs -------------------------------------------------------------------------------

constexpr std::uint8_t queue_depth = 8;

std::unique_ptr<rig> with_device_tlbs() {
    auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.ecap |= ecap_dt;
    }
    m->start();
    return m;
}

TEST_CASE("what a device keeps itself is invalidated after the IOTLB, once ATS is on",
          "[vtd][domain][device tlb]") {
    const auto m = with_device_tlbs();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::domain other{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic, queue_depth};
    rig::attachment plain{disk};
    REQUIRE(guest.map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
    REQUIRE(other.map(pages(0x1000, 8), hpa{memory_of(1, 0x1000)}, rw));
    unsigned on = 0;
    CHECK(m->vtd->turn_device_tlb_on(node, [&] { ++on; }) ==
          error{errc::refused, nic.source_id()}); // not attached
    REQUIRE(guest.attach(node));
    REQUIRE(guest.attach(plain));
    CHECK(m->vtd->turn_device_tlb_on(plain, [&] { ++on; }) ==
          error{errc::refused, disk.source_id()});
    CHECK(on == 0);
    CHECK((entry_of(*m, 1, nic).low & 0xC) == 4); // translation type 01
    CHECK((entry_of(*m, 1, disk).low & 0xC) == 0);
    // Off: nothing would answer.
    CHECK(descriptors_of(*m, 1, [&] { REQUIRE(guest.unmap(pages(0x8000))); }) ==
          names{"pages 8040"});
    REQUIRE(m->vtd->turn_device_tlb_on(node, [&] { ++on; }));
    CHECK(on == 1);
    const auto through_tlb = [&](std::uint64_t address) {
        return m->unit[1].device_tlb_dma(nic.source_id(), address, {.write = true});
    };
    CHECK(through_tlb(0x1234).to == memory_of(0, 0x1234));
    CHECK(m->unit[1].device_translations() == 1);
    CHECK(descriptors_of(*m, 1, [&] { REQUIRE(guest.unmap(pages(0x1000))); }) ==
          names{"pages 1040", "device 28 1000"});
    CHECK_FALSE(through_tlb(0x1234).reached);
    // 4 pages from 0x4000 on: as ATS says it, the lowest clear bit above S tells the size.
    CHECK(through_tlb(0x5000).to == memory_of(0, 0x5000));
    CHECK(descriptors_of(*m, 1, [&] { REQUIRE(guest.unmap(pages(0x4000, 4))); }) ==
          names{"pages 4042", "device 28 5001"});
    CHECK_FALSE(through_tlb(0x5000).reached);

    // It goes along to another domain, and forgets the old one.
    CHECK(through_tlb(0x2000).to == memory_of(0, 0x2000));
    REQUIRE(other.attach(node));
    CHECK(through_tlb(0x2000).to == memory_of(1, 0x2000));
    // In the quarantine it has no right to one.
    REQUIRE(m->vtd->quarantine(node));
    CHECK((entry_of(*m, 1, nic).low & 0xC) == 0);
    CHECK(m->unit[1].device_translations() == 0);
    CHECK_FALSE(through_tlb(0x2000).reached);
    REQUIRE(guest.attach(node));
    CHECK(through_tlb(0x2000).to == memory_of(0, 0x2000));
    unsigned off = 0;
    REQUIRE(m->vtd->release(node));
    CHECK_FALSE(through_tlb(0x2000).reached);
    m->vtd->turn_device_tlb_off(node, [&] { ++off; });
    CHECK(off == 1);
    REQUIRE(m->vtd->release(plain));
    REQUIRE(guest.retire());
    REQUIRE(other.retire());
    CHECK(m->end());
}

TEST_CASE("by registers no device TLB is allowed, since none could be told to forget",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.ecap |= ecap_dt;
    }
    m->start({.invalidation = pt::vtd::invalidation_interface::registers});
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    rig::attachment keeps{nic, queue_depth};
    CHECK(guest.attach(keeps) == error{errc::not_supported, 0x10});
    CHECK_FALSE(keeps.attached());
    rig::attachment keeps_nothing{nic};
    REQUIRE(guest.attach(keeps_nothing));
    REQUIRE(m->vtd->release(keeps_nothing));
    CHECK(guest.retire());
    CHECK(m->end());
}

TEST_CASE("a device that does not answer keeps nothing that is given back",
          "[vtd][domain][device tlb][errors]") {
    const auto m = with_device_tlbs();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic, queue_depth};
    rig::attachment peer{disk};
    REQUIRE(guest.map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
    REQUIRE(guest.attach(node));
    REQUIRE(guest.attach(peer));
    REQUIRE(m->vtd->turn_device_tlb_on(node, [] {}));
    const auto through_tlb = [&](std::uint64_t address) {
        return m->unit[1].device_tlb_dma(nic.source_id(), address, {.write = true});
    };
    REQUIRE(through_tlb(0x1000).reached);
    REQUIRE(m->dma(1, disk, 0x1000).reached);
    // The second descriptor is the device's.
    m->unit[1].time_out_at = m->unit[1].orders + 2;
    const auto failed = guest.unmap(pages(0x1000));
    CHECK(pt::vtd::device_in_time_out(failed.error()).value() == nic.source_id());
    CHECK(through_tlb(0x1000).reached); // the page must not be given away
    CHECK_FALSE(m->dma(1, disk, 0x1000).reached);
    // It answers again: the same call.
    REQUIRE(guest.flush());
    CHECK_FALSE(through_tlb(0x1000).reached);

    // It never answers again: a reset turns its TLB off, and everything else goes on.
    REQUIRE(through_tlb(0x2000).reached);
    m->unit[1].time_out_at = m->unit[1].orders + 2;
    CHECK(pt::vtd::device_in_time_out(guest.unmap(pages(0x2000)).error()));
    m->unit[1].time_out_at = m->unit[1].orders + 2;
    CHECK(pt::vtd::device_in_time_out(guest.flush().error()));
    m->vtd->turn_device_tlb_off(node, [] {});
    CHECK(descriptors_of(*m, 1, [&] { REQUIRE(guest.flush()); }) == names{"pages 2040"});
    CHECK_FALSE(m->dma(1, disk, 0x2000).reached);
    REQUIRE(m->vtd->quarantine(node));
    REQUIRE(m->vtd->release(node));
    REQUIRE(m->vtd->release(peer));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("a device that does not answer while it moves is in doubt, and loses no one else's right",
          "[vtd][domain][device tlb][errors]") {
    for (unsigned point = 1; point < 12; ++point) {
        const auto m = with_device_tlbs();
        rig::domain a{*m->vtd, m->vtd->limits(40).value()};
        rig::domain b{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment node{nic, queue_depth};
        REQUIRE(a.map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
        REQUIRE(b.map(pages(0x1000, 8), hpa{memory_of(1, 0x1000)}, rw));
        REQUIRE(a.attach(node));
        REQUIRE(m->vtd->turn_device_tlb_on(node, [] {}));
        const auto through_tlb = [&](std::uint64_t address) {
            return m->unit[1].device_tlb_dma(nic.source_id(), address, {.write = true});
        };
        REQUIRE(through_tlb(0x1000).reached);
        m->unit[1].time_out_at = m->unit[1].orders + point;
        m->unit[1].guilty = nic.source_id();
        CAPTURE(point);
        const auto done = b.attach(node);
        if (!done) {
            CHECK(a.retire().error().code == errc::busy); // its device TLB may know it still
            CHECK_FALSE(through_tlb(0x2000).reached);     // its entry is not present
            m->unit[1].recover();
            REQUIRE(a.unmap(pages(0x1000)));
            CHECK_FALSE(through_tlb(0x1000).reached);
            REQUIRE(b.attach(node));
        }
        m->unit[1].recover();
        CHECK(through_tlb(0x1000).to == memory_of(1, 0x1000));
        REQUIRE(a.retire());
        CHECK(through_tlb(0x2000).to == memory_of(1, 0x2000));
        // The fake may give up after the last wait: that is told to whoever comes next.
        REQUIRE((m->vtd->release(node) || m->vtd->release(node)));
        CHECK(m->unit[1].device_translations() == 0);
        REQUIRE(b.retire());
        CHECK(m->end());
    }
}

TEST_CASE(
    "a device TLB where the unit takes none is refused, and pass-through has none in legacy mode",
    "[vtd][domain][device tlb]") {
    const auto m = std::make_unique<rig>();
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment node{nic, queue_depth};
    CHECK(guest.attach(node) == error{errc::not_supported, ECAP});
    CHECK_FALSE(node.attached());
    CHECK(m->vtd->quarantine(node)); // where it does not need one
    CHECK(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

// ---- units that never answer again -------------------------------------------------------------

TEST_CASE("what is leaked is given to nobody else", "[vtd][domain][errors]") {
    const auto m = std::make_unique<rig>();
    m->start();
    auto a = std::make_unique<rig::domain>(*m->vtd, m->vtd->limits(40).value());
    rig::domain b{*m->vtd, m->vtd->limits(40).value()};
    auto moving = std::make_unique<rig::attachment>(nic);
    rig::attachment other{card};
    REQUIRE(a->map(pages(0x1000, 8), hpa{memory_of(0, 0x1000)}, rw));
    REQUIRE(b.map(pages(0x1000, 8), hpa{memory_of(1, 0x1000)}, rw));
    REQUIRE(b.attach(other));
    REQUIRE(a->attach(*moving));
    REQUIRE(m->dma(1, nic, 0x1000).reached);
    const unsigned id_a = entry_of(*m, 1, nic).domain_id();
    m->unit[1].stall_at = m->unit[1].orders + 1;
    CHECK(b.attach(*moving).error().code == errc::time_out);
    const std::size_t frames = m->memory.in_use;

    // The function is in doubt between both. Giving one of them up frees nothing of the other.
    a->leak();
    CHECK(m->memory.in_use == frames);
    CHECK(moving->attached());
    a.reset(); // it owes nothing any more
    CHECK(b.retire().error().code == errc::busy);
    REQUIRE(m->dma(0, card, 0x1000).reached);
    m->unit[1].gone = true;
    b.leak();
    CHECK_FALSE(moving->attached());
    // The unit that does answer lets nothing through to what was given up.
    CHECK_FALSE(other.attached());
    CHECK_FALSE(m->dma(0, card, 0x1000).reached);
    moving.reset();
    CHECK(m->memory.in_use == frames);
    // The ids are not used again.
    rig::domain c{*m->vtd, m->vtd->limits(40).value()};
    rig::attachment third{second_card};
    REQUIRE(c.attach(third));
    CHECK(entry_of(*m, 0, second_card).domain_id() != id_a);
    REQUIRE(m->vtd->release(third));
    REQUIRE(c.retire());

    m->vtd->leak();
    m->locks.armed = false;
    for (auto& one : m->driver) {
        one->leak();
    }
    CHECK(m->right());
}

TEST_CASE("a function in doubt comes back from the domain that was not leaked",
          "[vtd][domain][errors]") {
    for (const bool leak_former : {true, false}) {
        const auto m = std::make_unique<rig>();
        m->start();
        rig::domain a{*m->vtd, m->vtd->limits(40).value()};
        rig::domain b{*m->vtd, m->vtd->limits(40).value()};
        rig::domain c{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment node{nic};
        REQUIRE(c.map(pages(0x1000, 8), hpa{memory_of(2, 0x1000)}, rw));
        REQUIRE(a.attach(node));
        m->unit[1].stall_at = m->unit[1].orders + 1;
        REQUIRE_FALSE(b.attach(node));
        (leak_former ? a : b).leak();
        m->unit[1].recover();
        REQUIRE(c.attach(node));
        CHECK(m->dma(1, nic, 0x1000).to == memory_of(2, 0x1000));
        CHECK((leak_former ? b : a).retire());
        REQUIRE(m->vtd->release(node));
        REQUIRE(c.retire());
        REQUIRE(m->vtd->stop());
        REQUIRE(m->vtd->retire());
        m->locks.armed = false;
        for (auto& one : m->driver) {
            REQUIRE(one->retire());
        }
        CHECK(m->memory.in_use == 1); // the root that was leaked
        CHECK(m->right());
    }
}

} // namespace
