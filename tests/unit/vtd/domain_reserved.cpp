// SPDX-License-Identifier: BSL-1.0
// Memory that firmware reserved for functions (RMRR): it is mapped one to one and told of, or the
// function stays outside; whatever the table says, nothing breaks, and nothing is left half done.
#include "domain_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::range;
using pt::vtd::reserved_region;

/// An RMRR of one function on bus 0, or more.
void reserve(dmar_builder& table, std::uint64_t base, std::uint64_t limit,
             std::initializer_list<pt::pci::function_address> functions) {
    table.rmrr(0, base, limit);
    for (const auto& one : functions) {
        table.scope(1, 0, one.bus, {one.device, one.function});
    }
    table.end();
}

/// What is mapped in a domain, page by page, as its unit would see it.
template <class Domain>
std::vector<std::pair<std::uint64_t, std::uint64_t>> mapped(const Domain& of) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> all;
    for (const auto& leaf : of.tables().leaves()) {
        for (std::uint64_t at = 0; at < leaf.input.size(); at += 4096) {
            all.emplace_back(leaf.input.first().raw + at, leaf.to.output.raw + at);
        }
    }
    return all;
}

TEST_CASE("a function with reserved memory is attached only when that is mapped one to one",
          "[vtd][domain][rmrr][rule 20]") {
    auto table = machine_table();
    reserve(table, 0x7B80'0000, 0x7B80'3FFF, {nic});
    reserve(table, 0x7C00'0000, 0x7C00'0FFF, {disk}); // somebody else's
    reserve(table, 0x7D00'1000, 0x7D00'1FFF, {disk, nic});
    const auto m = std::make_unique<rig>(table);
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    rig::attachment node{nic};
    REQUIRE(guest.map(pages(0x1000), hpa{memory_of(0)}, rw));
    CHECK(guest.attach(node) == error{errc::refused, 0x7B80'0000});
    CHECK_FALSE(node.attached());
    CHECK(m->dma(1, nic, 0x1000).reason == 1);

    // All but one page of it is not enough, nor the right page to the wrong place or read-only.
    REQUIRE(guest.map(pages(0x7D00'1000), hpa{0x7D00'1000}, rw));
    REQUIRE(guest.map(pages(0x7B80'0000, 3), hpa{0x7B80'0000}, rw));
    CHECK(guest.attach(node) == error{errc::refused, 0x7B80'0000});
    REQUIRE(guest.map(pages(0x7B80'3000), hpa{0x7B80'4000}, rw));
    CHECK(guest.attach(node) == error{errc::refused, 0x7B80'0000});
    REQUIRE(guest.unmap(pages(0x7B80'3000)));
    REQUIRE(guest.map(pages(0x7B80'3000), hpa{0x7B80'3000}, {.read = true}));
    CHECK(guest.attach(node) == error{errc::refused, 0x7B80'0000});
    REQUIRE(guest.unmap(pages(0x7B80'0000, 4)));
    REQUIRE(guest.unmap(pages(0x7D00'1000)));

    std::vector<reserved_region> told;
    const std::size_t frames = m->memory.in_use;
    REQUIRE(guest.map_reserved_regions(nic, [&](const reserved_region& r) { told.push_back(r); }));
    REQUIRE(told.size() == 2);
    CHECK(told[0].memory == range<hpa>{hpa{0x7B80'0000}, 0x4000});
    CHECK(told[1].memory == range<hpa>{hpa{0x7D00'1000}, 0x1000});
    REQUIRE(guest.attach(node));
    for (const std::uint64_t at : {0x7B80'0000U, 0x7B80'3FF8U, 0x7D00'1ABCU}) {
        CHECK(m->dma(1, nic, at).to == at);
        CHECK(m->dma(1, nic, at, false).to == at);
    }
    CHECK_FALSE(m->dma(1, nic, 0x7C00'0000).reached);
    CHECK_FALSE(m->dma(1, nic, 0x7B80'4000).reached);
    CHECK_FALSE(m->dma(1, nic, 0x7D00'0000).reached);
    // Once more changes nothing.
    const std::size_t now = m->memory.in_use;
    REQUIRE(guest.map_reserved_regions(nic));
    CHECK(m->memory.in_use == now);
    CHECK(now > frames);
    // The quarantine does not ask: it is there to block.
    REQUIRE(m->vtd->quarantine(node));
    CHECK_FALSE(m->dma(1, nic, 0x7B80'0000).reached);
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("the VMM may say that firmware is done with a function", "[vtd][domain][rmrr]") {
    auto table = machine_table();
    reserve(table, 0x7B80'0000, 0x7B80'3FFF, {graphics});
    const auto m = std::make_unique<rig>(table);
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    rig::attachment node{graphics};
    REQUIRE(guest.map(pages(0x1000), hpa{memory_of(0)}, rw));
    CHECK(guest.attach(node).error().code == errc::refused);
    REQUIRE(guest.attach(node, pt::vtd::reserved_memory::ignored));
    CHECK(m->dma(0, graphics, 0x1000).to == memory_of(0));
    CHECK_FALSE(m->dma(0, graphics, 0x7B80'0000).reached);
    REQUIRE(m->vtd->release(node));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("pass-through reaches reserved memory, and asks for nothing", "[vtd][domain][rmrr]") {
    auto table = machine_table();
    reserve(table, 0x7B80'0000, 0x7B80'3FFF, {nic});
    const auto m = std::make_unique<rig>(table);
    m->start();
    pt::vtd::pass_through_domain host{*m->vtd};
    rig::attachment node{nic};
    REQUIRE(host.attach(node));
    CHECK(m->dma(1, nic, 0x7B80'0000).to == 0x7B80'0000);
    REQUIRE(m->vtd->release(node));
    REQUIRE(host.retire());
    CHECK(m->end());
}

TEST_CASE("functions of one guest share a region, and the undoing of one leaves the other's",
          "[vtd][domain][rmrr]") {
    auto table = machine_table();
    reserve(table, 0x7B80'0000, 0x7B80'3FFF, {nic, disk});
    reserve(table, 0x7D00'0000, 0x7D00'0FFF, {disk});
    const auto m = std::make_unique<rig>(table);
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    rig::attachment one{nic};
    rig::attachment two{disk};
    REQUIRE(guest.map_reserved_regions(nic));
    REQUIRE(guest.attach(one));
    // The guest's own memory lies where the disk's second region is.
    REQUIRE(guest.map(pages(0x7D00'0000), hpa{memory_of(0)}, rw));
    unsigned told = 0;
    CHECK(guest.map_reserved_regions(disk, [&](const reserved_region&) { ++told; }) ==
          error{errc::already_mapped, 0x7D00'0000});
    CHECK(told == 0);
    CHECK(guest.attach(two) == error{errc::refused, 0x7D00'0000});
    CHECK(m->dma(1, nic, 0x7B80'0000).to == 0x7B80'0000); // as before
    REQUIRE(guest.unmap(pages(0x7D00'0000)));
    REQUIRE(guest.map_reserved_regions(disk, [&](const reserved_region&) { ++told; }));
    CHECK(told == 2);
    REQUIRE(guest.attach(two));
    CHECK(m->dma(1, disk, 0x7B80'0000).to == 0x7B80'0000);
    // And where a region is, no guest memory gets.
    CHECK(guest.map(pages(0x7B80'1000, 1), hpa{memory_of(0)}, rw).error().code ==
          errc::already_mapped);
    REQUIRE(m->vtd->release(one));
    REQUIRE(m->vtd->release(two));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("all regions of a function or none", "[vtd][domain][rmrr]") {
    // The last of each is the wrong one, so that something has to be undone.
    const auto fails = [](auto&& add, error why) {
        auto table = machine_table();
        reserve(table, 0x1000'0000, 0x1000'0FFF, {nic});
        reserve(table, 0x2000'0000, 0x2001'FFFF, {nic});
        reserve(table, 0x2002'0000, 0x2002'0FFF, {nic}); // next to it
        add(table);
        const auto m = std::make_unique<rig>(table);
        m->start();
        rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
        rig::attachment peer{disk};
        rig::attachment node{nic};
        REQUIRE(guest.map(pages(0x1000, 3), hpa{memory_of(0)}, rw));
        REQUIRE(guest.map(pages(0x2002'0000), hpa{0x2002'0000}, rw)); // one is there already
        // A scope that cannot be followed might be anyone's.
        REQUIRE(guest.attach(peer, pt::vtd::reserved_memory::ignored));
        const auto before = mapped(guest);
        const std::size_t frames = m->memory.in_use;
        unsigned told = 0;
        const auto done = guest.map_reserved_regions(nic, [&](const reserved_region&) { ++told; });
        CHECK(done == why);
        CHECK(told == 0);
        CHECK(mapped(guest) == before);
        CHECK(m->memory.in_use == frames);
        CHECK_FALSE(m->dma(1, disk, 0x2000'0000).reached);
        CHECK(m->dma(1, disk, 0x2002'0000).to == 0x2002'0000);
        CHECK(guest.attach(node) == error{errc::refused, 0x1000'0000});
        REQUIRE(guest.flush()); // nothing
        REQUIRE(m->vtd->release(peer));
        REQUIRE(guest.retire());
        CHECK(m->end());
    };
    const std::size_t wrong = machine_table().bytes.size() + 3 * 32; // where the fourth RMRR is
    fails([](auto& t) { reserve(t, 0x5000'0000, 0x4FFF'FFFF, {nic}); }, {errc::malformed, wrong});
    fails([](auto& t) { reserve(t, 0x5000'0800, 0x5000'17FF, {nic}); }, {errc::misaligned, wrong});
    fails([](auto& t) { reserve(t, 0, ~std::uint64_t{0}, {nic}); }, {errc::malformed, wrong});
    fails(
        [](auto& t) {
            t.rmrr(0, 0x5000'0000, 0x5000'0FFF).scope(1, 0, 0, {32, 0}).end();
        },
        {errc::out_of_range, wrong});
    // Over another one, and over the guest's memory.
    fails([](auto& t) { reserve(t, 0x2001'F000, 0x2002'FFFF, {nic}); },
          {errc::already_mapped, 0x2001'F000});
    fails([](auto& t) { reserve(t, 0x3000, 0x4FFF, {nic}); }, {errc::already_mapped, 0x3000});
    // The interrupt range, which no mapping may touch (rule 19).
    fails([](auto& t) { reserve(t, 0xFEE0'0000, 0xFEE0'0FFF, {nic}); },
          {errc::reserved_address, 0xFEE0'0000});
    // Beyond the domain, beyond the host's memory, and so large that its end is somewhere else.
    fails([](auto& t) { reserve(t, 0x80'0000'0000, 0x80'0000'0FFF, {nic}); },
          {errc::out_of_range, 0x80'0000'0000});
    fails([](auto& t) { reserve(t, 0x5000'0000, (std::uint64_t{1} << 52) - 1, {nic}); },
          {errc::out_of_range, 0x5000'0000});
}

TEST_CASE("a region of all memory or beyond ends at once", "[vtd][domain][rmrr]") {
    for (const std::uint64_t base : {std::uint64_t{0}, std::uint64_t{0x8000'0000'0000'0000},
                                     std::uint64_t{0x000F'0000'0000'0000}}) {
        for (const std::uint64_t limit :
             {std::uint64_t{0x000F'FFFF'FFFF'FFFF}, ~std::uint64_t{0}, ~std::uint64_t{0} - 0x1000,
              (std::uint64_t{1} << 48) - 1}) {
            auto table = machine_table();
            reserve(table, base, limit, {nic});
            const auto m = std::make_unique<rig>(table);
            m->start();
            rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
            rig::attachment node{nic};
            CAPTURE(base, limit);
            const std::size_t frames = m->memory.in_use;
            CHECK_FALSE(guest.map_reserved_regions(nic));
            CHECK(m->memory.in_use == frames);
            CHECK(guest.attach(node).error().code == errc::refused);
            REQUIRE(guest.retire());
            CHECK(m->end());
        }
    }
}

TEST_CASE("64 regions are mapped, 65 are not", "[vtd][domain][rmrr]") {
    for (const unsigned count : {64U, 65U, 200U}) {
        auto table = machine_table();
        for (std::uint64_t n = 0; n < count; ++n) {
            reserve(table, 0x1000'0000 + n * 0x2000, 0x1000'0FFF + n * 0x2000, {nic});
        }
        const auto m = std::make_unique<rig>(table);
        m->start();
        rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
        rig::attachment node{nic};
        unsigned told = 0;
        const auto done = guest.map_reserved_regions(nic, [&](const reserved_region&) { ++told; });
        if (count == 64) {
            REQUIRE(done);
            CHECK(told == 64);
            REQUIRE(guest.attach(node));
            CHECK(m->dma(1, nic, 0x1000'0000 + 63 * 0x2000).reached);
            REQUIRE(m->vtd->release(node));
        } else {
            CHECK(done == error{errc::out_of_range, 65});
            CHECK(told == 0);
            CHECK(mapped(guest).empty());
            CHECK(guest.attach(node) == error{errc::refused, 0x1000'0000});
        }
        REQUIRE(guest.retire());
        CHECK(m->end());
    }
}

TEST_CASE("frames run out in the middle of reserved regions", "[vtd][domain][rmrr]") {
    auto table = machine_table();
    for (std::uint64_t n = 1; n < 6; ++n) { // each in a table of its own
        reserve(table, n << 30, (n << 30) + 0xFFF, {nic});
    }
    const auto m = std::make_unique<rig>(table);
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    REQUIRE(guest.map(pages(0x1000), hpa{memory_of(0)}, rw));
    rig::attachment peer{disk};
    REQUIRE(guest.attach(peer));
    const auto before = mapped(guest);
    const std::size_t frames = m->memory.in_use;
    unsigned more = 0;
    for (;; ++more) {
        m->memory.limit = frames + more;
        const auto done = guest.map_reserved_regions(nic);
        if (done) {
            break;
        }
        CHECK(done.error().code == errc::out_of_frames);
        CHECK(m->memory.in_use == frames);
        CHECK(mapped(guest) == before);
    }
    CHECK(more == 10); // two tables each
    m->memory.limit = rig::frame_count;
    REQUIRE(m->vtd->release(peer));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("a unit that fails under reserved regions leaves them mapped, and owed",
          "[vtd][domain][rmrr][errors]") {
    auto table = machine_table();
    reserve(table, 0x7B80'0000, 0x7B80'3FFF, {nic});
    const auto m = std::make_unique<rig>(table);
    m->unit[1].cap |= cap_cm;
    m->start();
    rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
    rig::attachment peer{disk};
    rig::attachment node{nic};
    REQUIRE(guest.attach(peer));
    REQUIRE_FALSE(m->dma(1, disk, 0x7B80'0000).reached); // which is cached
    m->unit[1].stall_at = m->unit[1].orders + 1;
    CHECK(guest.map_reserved_regions(nic).error().code == errc::time_out);
    m->unit[1].recover();
    REQUIRE(guest.map_reserved_regions(nic)); // by which the rest is done
    CHECK(m->dma(1, disk, 0x7B80'0000).to == 0x7B80'0000);
    REQUIRE(guest.attach(node));
    REQUIRE(m->vtd->release(node));
    REQUIRE(m->vtd->release(peer));
    REQUIRE(guest.retire());
    CHECK(m->end());
}

TEST_CASE("regions behind a bridge, and a bridge whose numbers change under way",
          "[vtd][domain][rmrr][rule 20]") {
    auto table = machine_table();
    table.rmrr(0, 0x6000'0000, 0x6000'0FFF).scope(2, 0, 0, {0x1C, 0}).end(); // all behind it
    table.rmrr(0, 0x6100'0000, 0x6100'0FFF)
        .scope(1, 0, 0, {0x1C, 0, 0, 0})
        .end();                                                              // card, by a path
    table.rmrr(0, 0x6100'0800, 0x6100'1FFF).scope(2, 0, 0, {0x1C, 0}).end(); // misaligned
    {
        const auto m = std::make_unique<rig>(table);
        m->start();
        rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
        CHECK(guest.map_reserved_regions(card).error().code == errc::misaligned);
        CHECK(m->bridge_reads > 0);
        CHECK(mapped(guest).empty());
        REQUIRE(guest.retire());
        CHECK(m->end());
    }
    // Whatever the bridge says at any read, it ends with an error and nothing is left, or goes
    // well.
    for (const bool sound : {true, false}) {
        auto one = machine_table();
        one.rmrr(0, 0x6000'0000, 0x6000'0FFF).scope(2, 0, 0, {0x1C, 0}).end();
        one.rmrr(0, 0x6100'0000, 0x6100'0FFF).scope(1, 0, 0, {0x1C, 0, 0, 0}).end();
        if (!sound) {
            one.rmrr(0, 0x6200'0800, 0x6200'17FF).scope(2, 0, 0, {0x1C, 0}).end();
        }
        for (unsigned at = 1; at < 12; ++at) {
            const auto m = std::make_unique<rig>(one);
            m->start();
            rig::domain guest{*m->vtd, m->vtd->limits(39).value()};
            m->bridge_reads = 0;
            m->bridge_broken_at = at;
            CAPTURE(sound, at);
            const auto done = guest.map_reserved_regions(card);
            CHECK((done || mapped(guest).size() <= 2));
            CHECK_FALSE((done && !sound));
            rig::attachment node{card};
            if (guest.attach(node)) {
                REQUIRE(m->vtd->release(node));
            }
            REQUIRE(guest.retire());
            CHECK(m->end());
        }
    }
}

} // namespace
