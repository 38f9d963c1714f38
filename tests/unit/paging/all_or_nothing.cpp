// SPDX-License-Identifier: BSL-1.0
// An operation that cannot have all the frames it needs leaves everything as it was.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/structure.hpp"
#include "../../paging_model/walker.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cstdint>
#include <vector>

namespace {

using namespace paging_model;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

constexpr std::uint64_t base = 64 * GiB;

/// Every entry of every frame in use.
std::vector<std::uint64_t> image(const frames& memory) {
    std::vector<std::uint64_t> all;
    for (std::size_t i = 0; i < memory.region_bytes() / 4096; ++i) {
        if (memory.is_used(memory.frame_at(i))) {
            const std::uint64_t* const table = memory.region() + i * 512;
            all.push_back(memory.frame_at(i));
            all.insert(all.end(), table, table + 512);
        }
    }
    return all;
}

template <class Kit>
struct stage {
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, frames_memory>;

    frames memory{61};
    table tables{frames_memory{&memory}, Kit{}.make()};
    nobody hardware;

    ~stage() {
        memory.never_fail();
        auto owed = tables.retire();
        (void)owed.redeem(hardware);
        CHECK(memory.in_use() == 0);
    }
    static pt::range<address> at(std::uint64_t offset, std::uint64_t size) {
        return {address{base + offset}, size};
    }
    void given(std::uint64_t offset, std::uint64_t size, std::uint64_t output) {
        auto done = tables.map(at(offset, size), hpa{output}, Kit::choices[0]);
        REQUIRE(done);
        REQUIRE(done->redeem(hardware));
    }
    /// Tries with 0, 1, 2, ... frames to be had, until it works; returns how many it took.
    template <class Operation>
    std::size_t frames_needed(Operation&& operation) {
        const std::vector<std::uint64_t> before = image(memory);
        const std::size_t free = memory.free_frames();
        for (std::size_t allowed = 0;; ++allowed) {
            memory.fail_after(allowed);
            auto done = operation();
            memory.never_fail();
            if (done) {
                if constexpr (requires { done->redeem(hardware); }) {
                    REQUIRE(done->redeem(hardware));
                }
                return allowed;
            }
            INFO("failing allocation " << allowed);
            REQUIRE(done.error().code == pt::errc::out_of_frames);
            REQUIRE(memory.free_frames() == free);
            REQUIRE(image(memory) == before); // the flags in it too
        }
    }
    std::size_t map_needs(std::uint64_t offset, std::uint64_t size, std::uint64_t output,
                          page_size largest = page_size::size_1g) {
        return frames_needed(
            [&] { return tables.map(at(offset, size), hpa{output}, Kit::choices[1], largest); });
    }
    std::size_t remap_needs(std::uint64_t offset, std::uint64_t size, std::uint64_t output,
                            page_size largest = page_size::size_1g) {
        return frames_needed(
            [&] { return tables.remap(at(offset, size), hpa{output}, Kit::choices[1], largest); });
    }
    std::size_t protect_needs(std::uint64_t offset, std::uint64_t size) {
        return frames_needed([&] { return tables.protect(at(offset, size), Kit::choices[1]); });
    }
    std::size_t split_needs(std::uint64_t offset, std::uint64_t size,
                            page_size to = page_size::size_4k) {
        return frames_needed([&] { return tables.split(at(offset, size), to); });
    }
    std::size_t unmap_needs(std::uint64_t offset, std::uint64_t size) {
        return frames_needed([&] { return tables.unmap(at(offset, size)); });
    }
};

} // namespace

TEMPLATE_TEST_CASE("a map that fails at any of its allocations leaves every entry as it was",
                   "[paging]", ept_kit, ept5_kit, second_stage_kit<5>, second_stage_kit<3>,
                   nested_kit) {
    stage<TestType> s;
    constexpr unsigned down = TestType::levels - 1; // tables on the way to a leaf, without the root
    SECTION("the first page of all: the root too") {
        CHECK(s.map_needs(0, 4 * KiB, 0x1000) == 1 + down);
    }
    SECTION("ten tables of 4-KiB pages into an empty tree") {
        CHECK(s.map_needs(2 * MiB - 4 * KiB, 16 * MiB + 8 * KiB, 0x1000) == down + 1 + 9);
    }
    SECTION("across the seam of two level-2 tables") {
        CHECK(s.map_needs(1 * GiB - 8 * KiB, 16 * KiB, 0x1000) == down + 3);
    }
    SECTION("around what exists") {
        s.given(4 * MiB, 4 * KiB, 0x1000);
        s.given(1 * GiB + 4 * MiB, 2 * MiB, 0x20'0000);
        // Small pages in the table that is there, large ones, and a new table before the end.
        CHECK(s.map_needs(4 * MiB + 4 * KiB, 1 * GiB - 8 * KiB, 4 * MiB + 4 * KiB) == 1);
    }
    SECTION("pages of 1 GiB need one table at most") {
        CHECK(s.map_needs(0, 3 * GiB, 0) == 1 + down - 2);
    }
    SECTION("a different phase costs a table each 2 MiB") {
        s.given(1 * GiB, 4 * KiB, 0x1000);
        CHECK(s.map_needs(1 * GiB + 2 * MiB, 20 * MiB, 0x1000) == 10);
    }
    SECTION("refused for a page at the end, with and without frames") {
        s.given(20 * MiB, 4 * KiB, 0x1000);
        const auto before = image(s.memory);
        const std::size_t free = s.memory.free_frames();
        for (std::size_t allowed = 0; allowed < 12; ++allowed) {
            s.memory.fail_after(allowed);
            const auto done = s.tables.map(s.at(4 * KiB, 20 * MiB), hpa{0x1000},
                                           TestType::choices[0], page_size::size_4k);
            REQUIRE(!done);
            REQUIRE(s.memory.free_frames() == free);
            REQUIRE(image(s.memory) == before);
        }
    }
}

TEMPLATE_TEST_CASE("an unmap that fails at any of its allocations leaves every entry as it was",
                   "[paging][rule 9]", ept_flags_kit, second_stage_kit<5>, second_stage_kit<3>,
                   nested_kit) {
    stage<TestType> s;
    SECTION("one page of a page of 1 GiB splits twice") {
        s.given(0, 1 * GiB, 0);
        CHECK(s.unmap_needs(300 * MiB + 4 * KiB, 4 * KiB) == 2);
    }
    SECTION("2 MiB of a page of 1 GiB split once") {
        s.given(0, 1 * GiB, 0);
        CHECK(s.unmap_needs(300 * MiB, 2 * MiB) == 1);
    }
    SECTION("from one page of 1 GiB into the next: two splits at each end") {
        s.given(0, 2 * GiB, 0);
        CHECK(s.unmap_needs(4 * KiB, 2 * GiB - 8 * KiB) == 4);
    }
    SECTION("the head of a page of 1 GiB") {
        s.given(0, 2 * GiB, 0);
        CHECK(s.unmap_needs(0, 4 * KiB) == 2);
    }
    SECTION("both ends in the same page of 2 MiB") {
        s.given(0, 2 * MiB, 0);
        CHECK(s.unmap_needs(4 * KiB, 4 * KiB) == 1);
    }
    SECTION("both ends in different pages of 2 MiB") {
        s.given(0, 6 * MiB, 0);
        CHECK(s.unmap_needs(4 * KiB, 6 * MiB - 8 * KiB) == 2);
    }
    SECTION("nothing is split where pages end") {
        s.given(4 * KiB, 6 * MiB, 4 * KiB);
        CHECK(s.unmap_needs(8 * KiB, 4 * MiB - 8 * KiB) == 0);
        CHECK(s.unmap_needs(0, 8 * MiB) == 0);
    }
}

TEMPLATE_TEST_CASE("the root alone, or nothing", "[paging]", ept_kit, second_stage_kit<3>) {
    stage<TestType> s;
    CHECK(s.frames_needed([&] { return s.tables.root(); }) == 1);
    CHECK(s.frames_needed([&] { return s.tables.root(); }) == 0);
}

TEMPLATE_TEST_CASE("a map_pages that fails at any of its allocations leaves every entry as it was",
                   "[paging]", ept_kit, ept5_kit, second_stage_kit<4>, nested_kit) {
    stage<TestType> s;
    constexpr unsigned down = TestType::levels - 1;
    std::vector<hpa> pages;
    for (std::uint64_t i = 0; i < 1030; ++i) {
        pages.push_back(hpa{(i * 7 % 1030) * 4 * KiB});
    }
    const auto needs = [&](std::uint64_t offset, std::uint64_t count) {
        return s.frames_needed([&] {
            return s.tables.map_pages(s.at(offset, count * 4 * KiB), pages, TestType::choices[1]);
        });
    };
    SECTION("from nothing: the root too") { CHECK(needs(2 * MiB - 8 * KiB, 516) == 1 + down + 2); }
    SECTION("between tables that exist") {
        s.given(0, 4 * KiB, 0x1000);
        s.given(6 * MiB, 4 * KiB, 0x1000);
        CHECK(needs(4 * KiB, 1030) == 2);
    }
    SECTION("refused for the last page, with and without frames") {
        s.given(4 * MiB, 4 * KiB, 0x1000);
        const auto before = image(s.memory);
        for (std::size_t allowed = 0; allowed < 5; ++allowed) {
            s.memory.fail_after(allowed);
            REQUIRE(!s.tables.map_pages(s.at(0, 4 * MiB + 4 * KiB), pages, TestType::choices[0]));
            REQUIRE(image(s.memory) == before);
        }
    }
    SECTION("an address that cannot be, far into the list") {
        const std::uint64_t bad = std::uint64_t{1} << TestType::output_width;
        pages[1000] = hpa{bad};
        const auto before = image(s.memory);
        const auto done = s.tables.map_pages(s.at(0, 1030 * 4 * KiB), pages, TestType::choices[0]);
        REQUIRE(done.error() == pt::error{pt::errc::out_of_range, bad});
        REQUIRE(image(s.memory) == before);
    }
}

TEMPLATE_TEST_CASE("a remap that fails at any of its allocations leaves every entry as it was",
                   "[paging][rule 9]", ept_kit, ept_flags_kit, second_stage_kit<4>, nested_kit) {
    stage<TestType> s;
    constexpr unsigned down = TestType::levels - 1;
    SECTION("of nothing, it is a map: the root too") {
        CHECK(s.remap_needs(2 * MiB - 4 * KiB, 8 * KiB, 0x1000) == 1 + down + 1);
    }
    SECTION("small pages in a page of 1 GiB: two tables that say the rest") {
        s.given(0, 1 * GiB, 0);
        CHECK(s.remap_needs(300 * MiB + 4 * KiB, 4 * KiB, 0x1000) == 2);
    }
    SECTION("small pages all over a page of 1 GiB, from the middle of one table to another") {
        s.given(0, 1 * GiB, 0);
        CHECK(s.remap_needs(3 * MiB, 6 * MiB, 0x1000) == 1 + 4);
    }
    SECTION("page by page where tables are, it needs none") {
        s.given(4 * KiB, 4 * MiB, 0x1000'0000);
        CHECK(s.remap_needs(8 * KiB, 3 * MiB, 0x5000) == 0);
    }
    SECTION("nor does a large page in the place of a table; and that one comes back") {
        s.given(4 * KiB, 4 * MiB, 0x1000'0000);
        const std::size_t in_use = s.memory.in_use();
        CHECK(s.remap_needs(2 * MiB, 2 * MiB, 0) == 0);
        CHECK(s.memory.in_use() == in_use - 1);
    }
    SECTION("a mixture of what exists, what is cut, and what is new") {
        s.given(0, 4 * MiB, 2 * GiB);                // two large pages
        s.given(4 * MiB + 4 * KiB, 4 * KiB, 0x1000); // a table; 6 MiB on nothing
        CHECK(s.remap_needs(3 * MiB, 4 * MiB, 0x5000) == 1 + 0 + 1);
    }
}

TEMPLATE_TEST_CASE("a protect or a split that fails at any of its allocations leaves all as it was",
                   "[paging][rule 9]", ept_kit, ept_flags_kit, second_stage_kit<4>, nested_kit) {
    stage<TestType> s;
    s.given(0, 2 * GiB, 0);
    SECTION("protect: two cuts at each end") {
        CHECK(s.protect_needs(4 * KiB, 2 * GiB - 8 * KiB) == 4);
    }
    SECTION("protect: both ends in one page") { CHECK(s.protect_needs(4 * KiB, 4 * KiB) == 2); }
    SECTION("protect: pages end where the range does") {
        CHECK(s.protect_needs(1 * GiB, 1 * GiB) == 0);
    }
    SECTION("write_protect") {
        if constexpr (TestType::format::write_needs_read) {
            CHECK(s.frames_needed([&] {
                return s.tables.write_protect(s.at(1 * GiB - 4 * KiB, 8 * KiB));
            }) == 4);
        }
    }
    SECTION("split: a table for the page, and one for each piece in the range") {
        CHECK(s.split_needs(1 * GiB - 4 * MiB, 10 * MiB) == 1 + 2 + 1 + 3);
    }
    SECTION("split: to 2 MiB, one for each page") {
        CHECK(s.split_needs(1 * GiB - 4 * MiB, 10 * MiB, page_size::size_2m) == 2);
        CHECK(s.split_needs(0, 2 * GiB, page_size::size_2m) == 0);
        CHECK(s.split_needs(3 * MiB, 2 * MiB) == 2);
    }
    SECTION("join needs none") {
        CHECK(s.split_needs(4 * KiB, 4 * KiB) == 2);
        const std::size_t in_use = s.memory.in_use();
        CHECK(s.frames_needed([&] { return s.tables.join(s.at(0, 2 * GiB)); }) == 0);
        CHECK(s.memory.in_use() == in_use - 2);
    }
}

TEMPLATE_TEST_CASE("a page that a cursor has no frame for is not mapped, and the next one may be",
                   "[paging]", ept_kit, ept5_kit, second_stage_kit<3>) {
    using address = typename TestType::address;
    stage<TestType> s;
    const std::vector<std::uint64_t> before = image(s.memory);
    std::size_t failures = 0;
    {
        auto at = s.tables.cursor();
        for (const std::uint64_t offset : {2 * MiB - 4 * KiB, 2 * MiB, 1 * GiB}) {
            for (std::size_t allowed = 0;; ++allowed) {
                const std::vector<std::uint64_t> now = image(s.memory);
                s.memory.fail_after(allowed);
                const auto done = at.map(address{base + offset}, hpa{0x1000}, TestType::choices[0]);
                s.memory.never_fail();
                if (done) {
                    break;
                }
                ++failures;
                REQUIRE(done.error().code == pt::errc::out_of_frames);
                REQUIRE(image(s.memory) == now);
            }
        }
    }
    CHECK(failures == TestType::levels + 1 + 2);
    CHECK(before.empty());
    CHECK(s.memory.in_use() == TestType::levels + 1 + 2);
}

// A hidden entry for a table in frame 0 with one page: of all entries the one with the fewest bits.
TEMPLATE_TEST_CASE("a table in frame 0 is a table like any other, also while it is hidden",
                   "[paging]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    using address = typename TestType::address;
    frames memory{29, 0};
    frames_memory handle{&memory};
    const hpa zero = *handle.allocate(pt::frame_contents::any);
    REQUIRE(zero == hpa{0});
    pt::paging::table<typename TestType::format, frames_memory> tables{handle, TestType{}.make()};
    nobody hardware;
    // A level-2 table with one entry in use, far from the seam of its entries 1 and 2.
    REQUIRE(tables.map({address{base + 64 * MiB}, 2 * MiB}, hpa{0}, TestType::choices[0]));
    const std::uint64_t root = tables.root()->raw;
    const pt::range<address> page{address{base + 4 * MiB - 4 * KiB}, 4 * KiB};
    const pt::range<address> across{page.first(), 8 * KiB};
    const auto walk = [&](std::uint64_t input) {
        return TestType{}.hardware().walk(
            [&](std::uint64_t frame, unsigned i) { return memory.read(frame, i); }, root, input);
    };
    handle.release(zero); // the next table that is allocated
    SECTION("shown") {
        REQUIRE(tables.map(page, hpa{0x5000}, TestType::choices[1]));
        CHECK(memory.is_used(0));
        CHECK(walk(page.first().raw + 8) == TestType::expected(TestType::choices[1], 0x5008));
        CHECK(walk(page.first().raw - 8) == outcome{});
    }
    SECTION("abandoned: the map needs two tables and gets one") {
        const std::size_t in_use = memory.in_use();
        const std::vector<std::uint64_t> before = image(memory);
        memory.fail_after(1);
        REQUIRE(tables.map(across, hpa{0x5000}, TestType::choices[1]).error().code ==
                pt::errc::out_of_frames);
        CHECK(memory.in_use() == in_use);
        CHECK(image(memory) == before);
        memory.never_fail();
    }
    SECTION("shown beside another") {
        REQUIRE(tables.map(across, hpa{0x5000}, TestType::choices[1]));
        CHECK(memory.is_used(0));
        CHECK(walk(page.first().raw) == TestType::expected(TestType::choices[1], 0x5000));
        CHECK(walk(page.last().raw + 1) == TestType::expected(TestType::choices[1], 0x6000));
        auto owed = tables.unmap(across);
        REQUIRE(owed);
        REQUIRE(owed->redeem(hardware));
        CHECK(!memory.is_used(0));
    }
    const structure found = explore<TestType>(memory, root);
    CHECK(found.wrong_counts == 0);
    CHECK(found.hidden == 0);
    CHECK(found.tables == memory.in_use());
    auto owed = tables.retire();
    REQUIRE(owed.redeem(hardware));
    CHECK(memory.in_use() == 0);
}

TEMPLATE_TEST_CASE("a table with all 512 entries in use is counted right, on the way up and down",
                   "[paging]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    stage<TestType> s;
    s.given(0, 2 * MiB, 0x4000'1000);            // 512 pages of a new table at once
    s.given(4 * MiB, 2 * MiB - 4 * KiB, 0x1000); // 511, and then the last
    s.given(6 * MiB - 4 * KiB, 4 * KiB, 0x1000);
    s.given(8 * MiB, 2 * MiB, 8 * MiB); // and 512 by a split, less one
    CHECK(s.unmap_needs(9 * MiB, 4 * KiB) == 1);
    const auto wrong = [&] {
        return explore<TestType>(s.memory, s.tables.root()->raw).wrong_counts;
    };
    CHECK(wrong() == 0);
    for (const std::uint64_t at : {std::uint64_t{0}, 4 * MiB}) {
        CHECK(s.unmap_needs(at + 1 * MiB, 4 * KiB) == 0); // 511
        CHECK(wrong() == 0);
        CHECK(s.unmap_needs(at, 1 * MiB) == 0);
        CHECK(s.unmap_needs(at + 1 * MiB + 4 * KiB, 1 * MiB - 8 * KiB) == 0); // 1
        CHECK(wrong() == 0);
        CHECK(s.unmap_needs(at + 2 * MiB - 4 * KiB, 4 * KiB) == 0);
        CHECK(wrong() == 0);
    }
    CHECK(explore<TestType>(s.memory, s.tables.root()->raw).empty_tables == 0);
}
