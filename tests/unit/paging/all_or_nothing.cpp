// SPDX-License-Identifier: BSL-1.0
// An operation that cannot have all the frames it needs leaves everything as it was.
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/structure.hpp"

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

struct nobody {
    template <class Stale>
    pt::result<void> invalidate(const Stale&) {
        return {};
    }
};

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
    typename table::ticket owed = tables.empty_ticket();

    ~stage() {
        memory.never_fail();
        owed.merge(tables.retire());
        nobody hardware;
        (void)owed.redeem(hardware);
    }
    static pt::range<address> at(std::uint64_t offset, std::uint64_t size) {
        return {address{base + offset}, size};
    }
    void given(std::uint64_t offset, std::uint64_t size, std::uint64_t output) {
        auto done = tables.map(at(offset, size), hpa{output}, Kit::choices[0]);
        REQUIRE(done);
        owed.merge(*std::move(done));
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
                owed.merge(*std::move(done));
                return allowed;
            }
            INFO("failing allocation " << allowed);
            REQUIRE(done.error().code == pt::errc::out_of_frames);
            REQUIRE(memory.free_frames() == free);
            REQUIRE(image(memory) == before);
        }
    }
    std::size_t map_needs(std::uint64_t offset, std::uint64_t size, std::uint64_t output,
                          page_size largest = page_size::size_1g) {
        return frames_needed(
            [&] { return tables.map(at(offset, size), hpa{output}, Kit::choices[1], largest); });
    }
    std::size_t unmap_needs(std::uint64_t offset, std::uint64_t size) {
        return frames_needed([&] { return tables.unmap(at(offset, size)); });
    }
};

} // namespace

TEMPLATE_TEST_CASE("a map that fails at any of its allocations leaves every entry as it was",
                   "[paging]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
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
                   "[paging][rule 9]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
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
