// SPDX-License-Identifier: BSL-1.0
// Flush tickets: what they owe, to whom, and when frames come home.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/contract.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "pt/paging/flush_ticket.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace paging_model;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_flag;
using pt::paging::page_size;

constexpr std::uint64_t base = 64 * GiB;

/// Writes down what it is told, and fails on demand.
struct recorder {
    struct told {
        std::uint64_t first;
        std::uint64_t size;
        friend bool operator==(told, told) = default;
    };
    std::vector<told> ranges;
    bool everything = false;
    bool tables_changed = false;
    unsigned calls = 0;
    unsigned failures = 0;

    template <class Address>
    pt::result<void> invalidate(const pt::paging::stale_set<Address>& stale) {
        ++calls;
        if (failures != 0) {
            --failures;
            return pt::error{pt::errc::time_out, calls};
        }
        ranges.clear();
        for (const pt::range<Address>& part : stale) {
            ranges.push_back({part.first().raw, part.size()});
        }
        everything = stale.everything();
        tables_changed = stale.tables_changed();
        return {};
    }
};

template <class Kit>
struct stage {
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, frames_memory>;

    frames memory{1021};
    table tables{frames_memory{&memory}, Kit{}.make()};
    recorder hardware;

    ~stage() {
        auto owed = tables.retire();
        hardware.failures = 0;
        CHECK(owed.redeem(hardware));
        CHECK(memory.in_use() == 0);
    }
    static pt::range<address> at(std::uint64_t offset, std::uint64_t size) {
        return {address{base + offset}, size};
    }
    void given(std::uint64_t offset, std::uint64_t size, std::uint64_t output,
               page_size largest = page_size::size_1g) {
        auto done = tables.map(at(offset, size), hpa{output}, Kit::choices[0], largest);
        REQUIRE(done);
        REQUIRE(done->empty());
    }
    typename table::ticket unmap(std::uint64_t offset, std::uint64_t size) {
        auto done = tables.unmap(at(offset, size));
        REQUIRE(done);
        return *std::move(done);
    }
};

using told = std::vector<recorder::told>;

} // namespace

TEMPLATE_TEST_CASE("retired frames come back with the redemption and not before",
                   "[paging][rule 9]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    stage<TestType> s;
    s.given(0, 4 * KiB, 0x1000);
    const std::size_t before = s.memory.in_use();
    REQUIRE(before == TestType::levels);
    auto owed = s.unmap(0, 4 * KiB);
    CHECK(!owed.empty());
    CHECK(s.memory.in_use() == before);
    REQUIRE(owed.redeem(s.hardware));
    CHECK(owed.empty());
    CHECK(s.memory.in_use() == 1); // the root
    CHECK(s.hardware.ranges == told{{base, 4 * KiB}});
    CHECK(s.hardware.tables_changed);
    // Nothing is owed twice.
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.hardware.calls == 1);
}

TEMPLATE_TEST_CASE("an invalidation that fails keeps everything owed, and can be tried again",
                   "[paging][rule 9]", ept_kit, second_stage_kit<3>) {
    stage<TestType> s;
    s.given(0, 4 * KiB, 0x1000);
    s.given(4 * GiB, 4 * KiB, 0x1000);
    auto owed = s.tables.batch();
    REQUIRE(owed.add(s.unmap(0, 4 * KiB)));
    REQUIRE(owed.add(s.unmap(4 * GiB, 4 * KiB)));
    const std::size_t before = s.memory.in_use();
    s.hardware.failures = 3;
    for (unsigned attempt = 1; attempt <= 3; ++attempt) {
        const pt::result<void> done = owed.redeem(s.hardware);
        REQUIRE(!done);
        CHECK(done.error() == pt::error{pt::errc::time_out, attempt});
        CHECK(!owed.empty());
        CHECK(s.memory.in_use() == before);
    }
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.hardware.ranges == told{{base, 4 * KiB}, {base + 4 * GiB, 4 * KiB}});
    CHECK(s.memory.in_use() == 1);
}

TEMPLATE_TEST_CASE("the invalidator is told the exact ranges", "[paging][rule 18]", ept_kit,
                   second_stage_kit<4>, second_stage_kit<5>, nested_kit) {
    stage<TestType> s;
    s.given(0, 8 * MiB, 0, page_size::size_4k);
    /// Redeems, and compares what the hardware is told.
    const auto owes = [&s](auto&& done, std::uint64_t offset, std::uint64_t size, bool tables) {
        REQUIRE(done);
        CHECK(done->stale() == s.at(offset, size));
        REQUIRE(done->redeem(s.hardware));
        CHECK(s.hardware.ranges == told{{base + offset, size}});
        CHECK(!s.hardware.everything);
        CHECK(s.hardware.tables_changed == tables);
    };
    SECTION("unmap: some pages; no table changes") {
        owes(s.tables.unmap(s.at(12 * KiB, 20 * KiB)), 12 * KiB, 20 * KiB, false);
        owes(s.tables.unmap(s.at(40 * KiB, 4 * KiB)), 40 * KiB, 4 * KiB, false);
    }
    SECTION("unmap: from the first page that there was to the last") {
        owes(s.tables.unmap(s.at(100 * KiB, 8 * KiB)), 100 * KiB, 8 * KiB, false);
        owes(s.tables.unmap(s.at(100 * KiB, 20 * KiB)), 108 * KiB, 12 * KiB, false);
        owes(s.tables.unmap(s.at(80 * KiB, 24 * KiB)), 80 * KiB, 20 * KiB, false);
        owes(s.tables.unmap(s.at(8 * MiB - 8 * KiB, 1 * MiB)), 8 * MiB - 8 * KiB, 8 * KiB, false);
    }
    SECTION("unmap: where nothing was mapped nothing is stale") {
        auto done = s.tables.unmap(s.at(16 * MiB, 64 * MiB));
        REQUIRE(done);
        CHECK(done->empty());
    }
    SECTION("unmap: of a page that is split, all of it: it may be cached as one") {
        s.given(1 * GiB, 1 * GiB, 1 * GiB);
        s.given(2 * GiB + 4 * MiB, 2 * MiB, 0);
        owes(s.tables.unmap(s.at(1 * GiB + 40 * MiB, 4 * KiB)), 1 * GiB, 1 * GiB, true);
        owes(s.tables.unmap(s.at(2 * GiB + 5 * MiB, 4 * KiB)), 2 * GiB + 4 * MiB, 2 * MiB, true);
        // From the middle of a page into the next one.
        s.given(3 * GiB, 6 * MiB, 0);
        owes(s.tables.unmap(s.at(3 * GiB + 1 * MiB, 2 * MiB)), 3 * GiB, 4 * MiB, true);
    }
    SECTION("unmap: a table that goes") {
        owes(s.tables.unmap(s.at(2 * MiB, 2 * MiB)), 2 * MiB, 2 * MiB, true);
        owes(s.tables.unmap(s.at(4 * MiB, 2 * MiB - 4 * KiB)), 4 * MiB, 2 * MiB - 4 * KiB, false);
        owes(s.tables.unmap(s.at(6 * MiB - 4 * KiB, 4 * KiB)), 6 * MiB - 4 * KiB, 4 * KiB, true);
    }
    SECTION("remap: what was mapped before, and no more") {
        const auto remap = [&s](std::uint64_t offset, std::uint64_t size, std::uint64_t output) {
            return s.tables.remap(s.at(offset, size), hpa{output}, TestType::choices[0]);
        };
        owes(remap(8 * KiB, 8 * KiB, 0x5000), 8 * KiB, 8 * KiB, false);
        owes(remap(8 * MiB - 4 * KiB, 8 * KiB, 0x5000), 8 * MiB - 4 * KiB, 4 * KiB, false);
        owes(remap(4 * MiB, 2 * MiB, 2 * MiB), 4 * MiB, 2 * MiB, true); // a table goes
        owes(remap(5 * MiB, 4 * KiB, 0x5000), 4 * MiB, 2 * MiB, true);  // a page is split
        auto done = remap(1 * GiB, 8 * KiB, 0x5000);                    // nothing was there
        REQUIRE(done);
        CHECK(done->empty());
    }
    SECTION("protect: what has other attributes now") {
        const auto protect = [&s](std::uint64_t offset, std::uint64_t size, unsigned choice) {
            return s.tables.protect(s.at(offset, size), TestType::choices[choice]);
        };
        owes(protect(8 * KiB, 8 * KiB, 1), 8 * KiB, 8 * KiB, false);
        owes(protect(0, 12 * KiB, 1), 0, 8 * KiB, false); // the third page has them already
        owes(protect(8 * MiB - 4 * KiB, 1 * MiB, 1), 8 * MiB - 4 * KiB, 4 * KiB, false);
        auto done = protect(0, 12 * KiB, 1);
        REQUIRE(done);
        CHECK(done->empty());
        s.given(1 * GiB, 2 * MiB, 0);
        owes(protect(1 * GiB + 1 * MiB, 4 * KiB, 1), 1 * GiB, 2 * MiB, true);
    }
    SECTION("write_protect: what could be written") {
        if constexpr (TestType::format::write_needs_read) {
            owes(s.tables.write_protect(s.at(8 * KiB, 8 * KiB)), 8 * KiB, 8 * KiB, false);
            owes(s.tables.write_protect(s.at(0, 20 * KiB)), 0, 20 * KiB, false);
            auto done = s.tables.write_protect(s.at(4 * KiB, 16 * KiB));
            REQUIRE(done);
            CHECK(done->empty());
        }
    }
    SECTION("split and join: the pages that change their size") {
        s.given(1 * GiB, 2 * GiB, 1 * GiB);
        owes(s.tables.split(s.at(1 * GiB + 4 * MiB, 4 * KiB), page_size::size_2m), 1 * GiB, 1 * GiB,
             true);
        owes(s.tables.split(s.at(1 * GiB + 6 * MiB, 4 * MiB)), 1 * GiB + 6 * MiB, 4 * MiB, true);
        auto nothing = s.tables.split(s.at(1 * GiB + 6 * MiB, 4 * MiB));
        REQUIRE(nothing);
        CHECK(nothing->empty());
        owes(s.tables.join(s.at(1 * GiB, 8 * MiB)), 1 * GiB + 6 * MiB, 2 * MiB, true);
        owes(s.tables.join(s.at(1 * GiB, 2 * GiB)), 1 * GiB, 1 * GiB, true);
        auto joined = s.tables.join(s.at(1 * GiB, 2 * GiB));
        REQUIRE(joined);
        CHECK(joined->empty());
    }
    SECTION("retire: everything") {
        auto owed = s.tables.retire();
        CHECK(owed.everything());
        CHECK(owed.stale().empty());
        REQUIRE(owed.redeem(s.hardware));
        CHECK((s.hardware.everything && s.hardware.tables_changed && s.hardware.ranges.empty()));
    }
}

TEMPLATE_TEST_CASE("a harvest owes the pages whose flags it cleared", "[paging][rule 11]",
                   ept_flags_kit, (second_stage_kit<4, false, true>), nested_kit) {
    stage<TestType> s;
    s.given(0, 1 * MiB, 0x10'0000);
    s.given(2 * MiB, 4 * MiB, 0);
    const auto touch = [&s](std::uint64_t offset, access_kind kind) {
        const auto read = [&s](std::uint64_t frame, unsigned i) { return s.memory.read(frame, i); };
        REQUIRE(permits(use(TestType{}.hardware(), read, s.tables.root()->raw, base + offset, kind),
                        kind));
    };
    std::uint64_t words[2048 / 64] = {};
    const auto harvest = [&](std::uint64_t offset, std::uint64_t size, page_flag flag) {
        for (std::uint64_t& word : words) {
            word = 0;
        }
        auto done = s.tables.harvest(s.at(offset, size), flag, {words, 2048});
        REQUIRE(done);
        const pt::range<typename TestType::address> stale = done->stale();
        CHECK(!done->tables_changed());
        REQUIRE(done->redeem(s.hardware));
        return stale;
    };
    const auto pages = [&words] {
        std::size_t sum = 0;
        for (const std::uint64_t word : words) {
            sum += static_cast<std::size_t>(std::popcount(word));
        }
        return sum;
    };
    const pt::paging::page_bitmap found{words, 2048};
    CHECK(harvest(0, 8 * MiB, page_flag::dirty).empty());
    touch(40 * KiB, access_kind::read);
    touch(80 * KiB, access_kind::write);
    touch(120 * KiB, access_kind::write);
    CHECK(harvest(0, 8 * MiB, page_flag::dirty) == s.at(80 * KiB, 44 * KiB));
    CHECK((pages() == 2 && found.test(20) && found.test(30)));
    CHECK(harvest(0, 8 * MiB, page_flag::dirty).empty()); // once is enough
    CHECK(pages() == 0);
    CHECK(harvest(0, 8 * MiB, page_flag::accessed) == s.at(40 * KiB, 84 * KiB));
    CHECK((pages() == 3 && found.test(10) && found.test(20) && found.test(30)));
    // A large page has one flag for all of it. Where the range ends inside, it keeps it.
    touch(3 * MiB, access_kind::write);
    CHECK(harvest(0, 3 * MiB, page_flag::dirty).empty());
    CHECK((pages() == 256 && found.test(512) && !found.test(511) && !found.test(768)));
    CHECK(harvest(3 * MiB, 4 * MiB, page_flag::dirty).empty());
    CHECK((pages() == 256 && found.test(0) && !found.test(256)));
    CHECK(harvest(2 * MiB, 2 * MiB, page_flag::dirty) == s.at(2 * MiB, 2 * MiB));
    CHECK(pages() == 512);
    CHECK(harvest(0, 8 * MiB, page_flag::dirty).empty());
    // Bit 0 is the first page of the range, wherever it begins.
    touch(92 * KiB, access_kind::write);
    CHECK(harvest(88 * KiB, 8 * KiB, page_flag::dirty) == s.at(92 * KiB, 4 * KiB));
    CHECK((pages() == 1 && found.test(1)));
}

TEMPLATE_TEST_CASE("a batch that is full says so, and neither it nor the ticket changes",
                   "[paging]", ept_kit, second_stage_kit<4>) {
    stage<TestType> s;
    s.given(0, 8 * MiB, 0, page_size::size_4k);
    auto owed = s.tables.template batch<2>();
    REQUIRE(owed.add(s.unmap(16 * KiB, 4 * KiB)));
    REQUIRE(owed.add(s.unmap(2 * MiB, 2 * MiB))); // and a table
    const std::size_t in_use = s.memory.in_use();
    auto third = s.unmap(4 * MiB, 2 * MiB); // touches the second one
    auto fourth = s.unmap(7 * MiB, 4 * KiB);
    CHECK(owed.add(fourth).error() == pt::error{pt::errc::busy, base + 7 * MiB});
    CHECK(!fourth.empty());
    CHECK(fourth.stale() == s.at(7 * MiB, 4 * KiB));
    REQUIRE(owed.add(third));
    CHECK(owed.add(fourth).error().code == pt::errc::busy);
    CHECK(s.memory.in_use() == in_use);
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.hardware.ranges == told{{base + 16 * KiB, 4 * KiB}, {base + 2 * MiB, 4 * MiB}});
    CHECK(s.memory.in_use() == in_use - 2);
    REQUIRE(owed.add(fourth)); // now there is room
    CHECK(fourth.empty());
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.hardware.ranges == told{{base + 7 * MiB, 4 * KiB}});
    CHECK(!s.hardware.tables_changed);
    // What owes nothing always fits; and everything, which swallows the rest.
    REQUIRE(owed.add(s.unmap(0, 4 * KiB)));
    REQUIRE(owed.add(s.unmap(8 * KiB, 4 * KiB)));
    REQUIRE(owed.add(s.unmap(16 * MiB, 4 * KiB)));
    REQUIRE(owed.add(s.tables.retire()));
    CHECK(owed.stale().everything());
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.memory.in_use() == 0);
}

TEMPLATE_TEST_CASE("hundreds of retired trees, collected in any order, are each given back once",
                   "[paging][rule 9]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    std::mt19937_64 random{7};
    stage<TestType> s;
    using ticket = typename stage<TestType>::table::ticket;
    std::vector<ticket> owed;
    owed.reserve(300);
    for (std::uint64_t i = 0; i < 300; ++i) {
        // One table of 4-KiB pages each; every third one full.
        s.given(i * 2 * MiB, i % 3 == 0 ? 2 * MiB : 4 * KiB, i * 64 * MiB, page_size::size_4k);
    }
    const std::size_t in_use = s.memory.in_use();
    for (std::uint64_t i = 0; i < 300; ++i) {
        owed.push_back(s.unmap((i * 89 % 300) * 2 * MiB, 2 * MiB));
    }
    CHECK(s.memory.in_use() == in_use);
    // In any order; they touch each other sooner or later, and at last they are one range.
    auto all = s.tables.template batch<300>();
    for (std::size_t left = owed.size(); left != 0; --left) {
        std::size_t i = random() % owed.size();
        while (owed[i].empty()) {
            i = (i + 1) % owed.size();
        }
        REQUIRE(all.add(owed[i]));
        CHECK(owed[i].empty());
    }
    CHECK(all.stale().end() - all.stale().begin() == 1);
    CHECK(s.memory.in_use() == in_use);
    REQUIRE(all.redeem(s.hardware)); // a frame that is released twice aborts
    CHECK(s.memory.in_use() == 1);
    CHECK(s.hardware.calls == 1);
}

TEMPLATE_TEST_CASE("a whole subtree is retired with all tables below it", "[paging][rule 9]",
                   ept_kit, second_stage_kit<4>) {
    stage<TestType> s;
    s.given(512 * GiB - base, 1 * GiB, 0, page_size::size_4k); // 1 + 1 + 512 tables of its own
    REQUIRE(s.memory.in_use() == 515);
    auto owed = s.unmap(512 * GiB - base, 512 * GiB);
    CHECK(s.memory.in_use() == 515);
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.memory.in_use() == 1);
}

TEMPLATE_TEST_CASE("until redemption a cached pointer to a retired table leads to the old page",
                   "[paging][rule 9]", ept_kit, second_stage_kit<4>) {
    stage<TestType> s;
    s.given(0, 4 * MiB, 0x4000'1000); // a phase that makes it two tables of 4-KiB pages
    s.given(8 * MiB, 4 * KiB, 0x1000);
    // What a paging-structure cache holds: the entry that points to the second table.
    const auto read = [&s](std::uint64_t frame, unsigned i) { return s.memory.read(frame, i); };
    std::uint64_t table = s.tables.root()->raw;
    for (unsigned level = TestType::levels; level > 1; --level) {
        const std::uint64_t input = base + 2 * MiB;
        table = *read(table, static_cast<unsigned>(input >> (12 + 9 * (level - 1)) & 511)) &
                0x000F'FFFF'FFFF'F000;
    }
    std::vector<std::uint64_t> old(read(table, 0), read(table, 0) + 512);

    auto owed = s.tables.batch();
    REQUIRE(owed.add(s.unmap(0, 4 * MiB)));
    REQUIRE(owed.add(s.unmap(8 * MiB, 4 * KiB)));
    constexpr std::uint64_t ignored = std::uint64_t{0x1F} << 52; // bits 56:52, in all formats
    unsigned unlike = 0;
    for (unsigned i = 0; i < 512; ++i) {
        unlike += (*read(table, i) & ~ignored) != (old[i] & ~ignored) ? 1 : 0;
        unlike += (*read(table, i) & 0x000F'FFFF'FFFF'F000) != 0x4020'1000 + i * 4 * KiB ? 1 : 0;
    }
    CHECK(unlike == 0);
    REQUIRE(owed.redeem(s.hardware));
    CHECK(*read(table, 0) == poison); // and now it is gone
}

TEST_CASE("where absence is cached a map owes the invalidation of its range, tables included",
          "[paging][rule 15]") {
    using kit = second_stage_kit<4, true>;
    frames memory{13};
    pt::paging::table<kit::format, frames_memory> tables{frames_memory{&memory}, kit{}.make()};
    recorder hardware;
    {
        auto done = tables.map({pt::iova{0x20'0000}, 0x3000}, hpa{0x1000}, kit::choices[0]);
        REQUIRE(done);
        REQUIRE(!done->empty());
        REQUIRE(done->redeem(hardware));
        CHECK(hardware.ranges == told{{0x20'0000, 0x3000}});
        CHECK(hardware.tables_changed);
    }
    {
        auto nothing = tables.map({pt::iova{0x20'0000}, 0}, hpa{0x1000}, kit::choices[0]);
        REQUIRE(nothing);
        CHECK(nothing->empty());
    }
    auto owed = tables.retire();
    REQUIRE(owed.redeem(hardware));
    CHECK(hardware.everything);
    CHECK(memory.in_use() == 0);
}

TEST_CASE("one batch of a domain collects what its operations owe, maps too, until it is redeemed",
          "[paging][rule 15]") {
    using kit = second_stage_kit<4, true>;
    frames memory{29};
    pt::paging::table<kit::format, frames_memory> tables{frames_memory{&memory}, kit{}.make()};
    recorder hardware;
    auto owed = tables.batch();
    const auto map = [&](std::uint64_t first, std::uint64_t size) {
        auto done = tables.map({pt::iova{first}, size}, hpa{0x1000}, kit::choices[0]);
        REQUIRE(done);
        REQUIRE(owed.add(*done));
    };
    map(1 * GiB, 8 * KiB);
    REQUIRE(owed.redeem(hardware));
    CHECK(hardware.ranges == told{{1 * GiB, 8 * KiB}});
    auto done = tables.unmap({pt::iova{1 * GiB}, 8 * KiB});
    REQUIRE(done);
    REQUIRE(owed.add(*done));
    const std::size_t in_use = memory.in_use();
    hardware.failures = 1;
    CHECK(!owed.redeem(hardware)); // it stays owed, and more comes to it
    map(2 * GiB, 4 * KiB);
    CHECK(memory.in_use() == in_use + 3); // three new tables, beside the retired ones
    REQUIRE(owed.redeem(hardware));
    CHECK(hardware.ranges == told{{1 * GiB, 8 * KiB}, {2 * GiB, 4 * KiB}});
    CHECK(memory.in_use() == in_use);
    REQUIRE(owed.add(tables.retire()));
    REQUIRE(owed.redeem(hardware));
    CHECK(memory.in_use() == 0);
}

TEMPLATE_TEST_CASE("a leaked ticket owes nothing, and its frames never come back", "[paging]",
                   ept_kit, second_stage_kit<4>, (second_stage_kit<3, true>)) {
    using address = typename TestType::address;
    frames memory{61};
    pt::paging::table<typename TestType::format, frames_memory> tables{frames_memory{&memory},
                                                                       TestType{}.make()};
    recorder hardware;
    const auto map = [&](std::uint64_t first) {
        auto done = tables.map({address{first}, 4 * KiB}, hpa{0x1000}, TestType::choices[0]);
        REQUIRE(done);
        return *std::move(done);
    };
    const auto unmap = [&](std::uint64_t first) {
        auto done = tables.unmap({address{first}, 4 * KiB});
        REQUIRE(done);
        return *std::move(done);
    };
    constexpr std::size_t below_root = TestType::levels - 1;
    auto owed = tables.batch();
    owed.leak(); // of nothing, nothing
    CHECK(owed.empty());
    for (const std::uint64_t first : {base, base + 1 * GiB}) { // retired trees, chained
        REQUIRE(owed.add(map(first)));
        REQUIRE(owed.add(unmap(first)));
    }
    const std::size_t lost = memory.in_use() - 1; // all but the root
    REQUIRE(lost == 2 * below_root);
    hardware.failures = 1;
    REQUIRE(!owed.redeem(hardware)); // the hardware is dead
    CHECK(!owed.empty());
    owed.leak();
    CHECK(owed.empty());
    CHECK(!owed.stale().tables_changed());
    REQUIRE(owed.redeem(hardware)); // nothing is owed: nobody is asked
    CHECK(hardware.calls == 1);
    CHECK(memory.in_use() == 1 + lost);

    // The batch goes on from nothing: what was leaked is in no later redemption.
    REQUIRE(owed.add(map(base + 2 * GiB)));
    REQUIRE(owed.add(unmap(base + 2 * GiB)));
    REQUIRE(owed.redeem(hardware));
    CHECK(hardware.ranges == told{{base + 2 * GiB, 4 * KiB}});
    CHECK(memory.in_use() == 1 + lost);
    REQUIRE(owed.add(tables.retire()));
    REQUIRE(owed.redeem(hardware));
    CHECK(memory.in_use() == lost);
    // A leaked ticket may go away.
    (void)tables.root();
    auto last = tables.retire();
    last.leak();
    CHECK(memory.in_use() == lost + 1);
}

TEST_CASE("retire leaves tables that can be used again", "[paging]") {
    stage<ept_kit> s;
    s.given(0, 64 * MiB, 0x1000);
    auto owed = s.tables.retire();
    CHECK(owed.everything());
    CHECK(!s.tables.translate(pt::gpa{base}));
    s.given(0, 4 * KiB, 0x5000); // into a new tree, while the old one is still owed
    REQUIRE(owed.redeem(s.hardware));
    CHECK(s.tables.translate(pt::gpa{base})->output == hpa{0x5000});
    CHECK(s.memory.in_use() == 4);
}

TEST_CASE("what is owed cannot be forgotten: the contract hook is called", "[paging][contract]") {
    const auto with_table = [](auto misuse) {
        frames memory{13};
        pt::paging::table<ept_kit::format, frames_memory> tables{frames_memory{&memory},
                                                                 ept_kit{}.make()};
        (void)*tables.map({pt::gpa{0}, 4 * KiB}, hpa{0}, pt::ept::ram);
        misuse(tables);
        recorder hardware;
        auto owed = tables.retire();
        (void)owed.redeem(hardware);
    };
    CHECK(!breaks_contract([&] { with_table([](auto&) {}); }));
    CHECK(breaks_contract([&] {
        with_table([](auto& tables) { (void)tables.unmap({pt::gpa{0}, 4 * KiB}); });
    }));
    CHECK(!breaks_contract([&] {
        with_table([](auto& tables) { tables.unmap({pt::gpa{0}, 4 * KiB})->leak(); });
    }));
    CHECK(breaks_contract([] { // where a map owes something, it owes it like the others
        using kit = second_stage_kit<4, true>;
        frames memory{13};
        pt::paging::table<kit::format, frames_memory> tables{frames_memory{&memory}, kit{}.make()};
        (void)tables.map({pt::iova{0}, 4 * KiB}, hpa{0}, kit::choices[0]);
        recorder hardware;
        auto owed = tables.retire();
        (void)owed.redeem(hardware);
    }));
    CHECK(breaks_contract([&] { // a batch that took it over owes it
        with_table([](auto& tables) {
            auto owed = tables.batch();
            (void)owed.add(*tables.unmap({pt::gpa{0}, 4 * KiB}));
        });
    }));
    CHECK(breaks_contract([] {
        frames memory{13};
        pt::paging::table<ept_kit::format, frames_memory> tables{frames_memory{&memory},
                                                                 ept_kit{}.make()};
        (void)tables.root(); // and no retire()
    }));
}
