// SPDX-License-Identifier: BSL-1.0
// What another processor does right in the middle of an operation, at the place where it hurts most: policies call back.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/walker.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace {

using namespace paging_model;
using pt::errc;
using pt::gpa;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::MiB;

/// A unit that does not snoop sees what was published. Before an entry that points to a table goes
/// out, somebody else may do something.
struct written_back {
    explicit written_back(const frames& memory)
        : live{memory}, image(memory.region_bytes() / 8, 0) {}

    const frames& live;
    std::vector<std::uint64_t> image;
    std::function<void()> before_link;
};
struct write_back_publication {
    written_back* to;

    void publish(const std::uint64_t* first, std::size_t count) {
        bool link = false;
        for (std::size_t i = 0; i < count; ++i) {
            link = link || ((first[i] & 3) != 0 && (first[i] >> 52) != 0);
        }
        if (link && to->before_link) {
            const auto other = std::exchange(to->before_link, nullptr);
            other();
        }
        const std::uint64_t* const region = to->live.region();
        const auto begin = static_cast<std::size_t>(first - region) / 8 * 8;
        const auto end = (static_cast<std::size_t>(first - region) + count + 7) / 8 * 8;
        for (std::size_t i = begin; i < end; ++i) {
            to->image[i] = region[i];
        }
    }
    void complete() {}
};

TEST_CASE("a map returns when a walker behind the caches finds its page, whoever made the tables",
          "[paging]") {
    for (const unsigned levels : {3U, 4U, 5U}) {
        frames memory{64};
        written_back seen{memory};
        const pt::vtd::second_stage::format format{
            {.levels = levels, .input_width = 39, .output_width = 46}};
        pt::paging::table tables{frames_memory{&memory}, format, write_back_publication{&seen},
                                 pt::no_shared_mutex{}};
        const std::uint64_t root = tables.root()->raw;
        const second_stage_walker unit{.levels = levels, .host_width = 46};
        const auto finds = [&](std::uint64_t input) {
            const auto read = [&](std::uint64_t frame, unsigned i) -> const std::uint64_t* {
                const std::uint64_t* const entry = memory.read(frame, i);
                return entry == nullptr
                           ? nullptr
                           : &seen.image[static_cast<std::size_t>(entry - memory.region())];
            };
            return unit.walk(read, root, input).what == outcome::kind::translated;
        };
        const auto map = [&](std::uint64_t input) {
            return tables
                .map({iova{input}, 4 * KiB}, hpa{0x4000'0000 + input},
                     pt::vtd::second_stage::read_write)
                .has_value();
        };
        // The first mapper has stored the entry that points to the new table, and is interrupted; the
        // second one finds it.
        for (const std::uint64_t region : {0 * MiB, 8 * MiB, 64 * pt::GiB}) {
            bool mapped = false;
            bool found = false;
            seen.before_link = [&] {
                mapped = map(region + 0x5000);
                found = finds(region + 0x5000);
            };
            CHECK(map(region + 0x1000));
            CHECK(mapped);
            CHECK(found);
            CHECK(finds(region + 0x1000));
        }
        nobody hardware;
        auto owed = tables.retire();
        REQUIRE(owed.redeem(hardware));
        CHECK(memory.in_use() == 0);
    }
}

/// Calls back when an allocation fails, and counts who looks into tables.
struct watched_memory {
    frames* owner;
    const std::function<void()>* out_of_frames;
    unsigned* looks;

    pt::result<hpa> allocate(pt::frame_contents contents) {
        auto made = frames_memory{owner}.allocate(contents);
        if (!made && *out_of_frames) {
            (*out_of_frames)();
        }
        return made;
    }
    void release(hpa frame) { frames_memory{owner}.release(frame); }
    std::uint64_t* entries(hpa frame) {
        ++*looks;
        return frames_memory{owner}.entries(frame);
    }
};

TEST_CASE(
    "a root that goes back at once, because its first map failed, was never shown to a reader",
    "[paging]") {
    frames memory{64};
    unsigned looks = 0;
    std::function<void()> reader;
    pt::paging::table tables{watched_memory{&memory, &reader, &looks}, ept_kit{}.make()};
    bool asked = false;
    reader = [&] {
        asked = true;
        const unsigned before = looks;
        CHECK(tables.translate(gpa{0}).error().code == errc::not_mapped);
        for (const auto& leaf : tables.leaves()) {
            FAIL("a leaf at " << leaf.input.first().raw);
        }
        CHECK(looks == before);
    };
    const auto fails = [&](auto&& operation) {
        asked = false;
        memory.fail_after(1); // the root can be had, and nothing below it
        CHECK(operation().error().code == errc::out_of_frames);
        CHECK(asked);
        CHECK(memory.in_use() == 0);
        memory.never_fail();
    };
    const hpa page[] = {hpa{0x1000}};
    fails([&] { return tables.map({gpa{0}, 4 * KiB}, hpa{0}, pt::ept::ram); });
    fails([&] { return tables.map({gpa{0}, 4 * MiB}, hpa{0x1000}, pt::ept::ram); });
    fails([&] { return tables.map_pages({gpa{0}, 4 * KiB}, page, pt::ept::ram); });
    fails([&] { return tables.remap({gpa{0}, 4 * KiB}, hpa{0}, pt::ept::ram); });
}

/// Pages in memory that somebody else writes: the second time they read otherwise.
struct changing_list {
    unsigned* reads;
    hpa operator[](std::size_t) const { return ++*reads == 1 ? hpa{0x1000} : hpa{~0ULL}; }
};

TEST_CASE("a list of pages that changes while it is read changes no rights", "[paging]") {
    frames memory{64};
    pt::paging::table tables{frames_memory{&memory}, second_stage_kit<4>{}.make(),
                             pt::paging::coherent_publication{}};
    unsigned reads = 0;
    auto mapped = tables.map_pages({iova{0}, 4 * KiB}, changing_list{&reads}, {.read = true});
    REQUIRE(mapped);
    const auto found = tables.translate(iova{0});
    REQUIRE(found);
    CHECK(found->attributes == pt::vtd::second_stage::attributes{.read = true});
    CHECK(found->output.is_aligned(4 * KiB));
    nobody hardware;
    auto owed = tables.retire();
    REQUIRE(owed.redeem(hardware));
}

} // namespace
