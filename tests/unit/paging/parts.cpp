// SPDX-License-Identifier: BSL-1.0
// The small parts of the engine by themselves.
#include "pt/core/archetype.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/changed_lines.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/interrupt_range.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/map_job.hpp"
#include "pt/paging/page_bitmap.hpp"
#include "pt/paging/spare_frames.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <ranges>
#include <utility>
#include <vector>

namespace {

using namespace pt;
using namespace pt::paging;

constexpr bool bitmap_sets_what_it_is_told() {
    for (std::uint64_t first = 0; first < 192; first += 7) {
        for (std::uint64_t count = 0; first + count <= 192; count += 5) {
            std::uint64_t words[3]{};
            page_bitmap pages{words, 192};
            pages.set(first, count);
            for (std::uint64_t i = 0; i < 192; ++i) {
                if (pages.test(i) != (i >= first && i < first + count)) {
                    return false;
                }
            }
        }
    }
    return true;
}
static_assert(bitmap_sets_what_it_is_told());

TEST_CASE("a page bitmap sets the bits of a range, across words, and no others", "[paging]") {
    CHECK(bitmap_sets_what_it_is_told());
}

constexpr bool entries_are_replaced_only_if_as_expected() {
    std::uint64_t entry = 5;
    std::uint64_t expected = 4;
    const bool refused = !replace_entry(&entry, expected, 9) && expected == 5 && entry == 5;
    const bool taken = replace_entry(&entry, expected, 9) && entry == 9;
    const bool added = add_to_entry(&entry, 3) == 12 && entry == 12;
    clear_in_entry(&entry, 4);
    store_entry(&entry, load_entry(&entry) + 1);
    return refused && taken && added && entry == 9;
}
static_assert(entries_are_replaced_only_if_as_expected());

TEST_CASE("access to entries does the same at run time as in a constant expression", "[paging]") {
    CHECK(entries_are_replaced_only_if_as_expected());
}

struct recorder {
    std::vector<std::pair<std::ptrdiff_t, std::size_t>>* runs;
    const std::uint64_t* table;
    void publish(const std::uint64_t* first, std::size_t count) {
        runs->emplace_back(first - table, count);
    }
    void complete() {}
};

TEST_CASE("lines that touch are published together, and none between those that do not",
          "[paging]") {
    alignas(64) const std::uint64_t table[64]{};
    std::vector<std::pair<std::ptrdiff_t, std::size_t>> runs;
    recorder publisher{&runs, table};
    {
        changed_lines changed{publisher, table};
        changed.add(3);     // line 0
        changed.add(6);     // line 0
        changed.add(8, 10); // lines 1 and 2
        changed.add(32);    // line 4: line 3 did not change
        changed.add(63);    // line 7
    }
    CHECK(runs == decltype(runs){{3, 15}, {32, 1}, {63, 1}});
}

constexpr bool spare_frames_are_all_or_none() {
    arena<3> frames;
    auto memory = frames.memory();
    spare_frames spare{memory};
    if (spare.reserve(4) || frames.free_frames() != 3 || !spare.reserve(2) ||
        frames.free_frames() != 1) {
        return false;
    }
    const hpa one = spare.take();
    const hpa other = spare.take();
    memory.release(one);
    memory.release(other);
    return one != other && frames.free_frames() == 3;
}
static_assert(spare_frames_are_all_or_none());

TEST_CASE("frames are reserved all or not at all", "[paging]") {
    CHECK(spare_frames_are_all_or_none());
}

// A job says how many leaves of a level follow.
constexpr map_job<contiguous_pages> two_sizes{{0x20'0000, 2}, {{0, 7, 0x87, 0}}};
static_assert(two_sizes.run(0x20'0000, 0x7F'FFFF, 2) == 3);
static_assert(two_sizes.run(0x20'0000, 0x7F'FFFF, 3) == 0); // larger than allowed
static_assert(two_sizes.run(0x20'1000, 0x7F'FFFF, 2) == 0); // not the start of a page
static_assert(two_sizes.run(0x20'1000, 0x20'3FFF, 1) == 3);
static_assert(two_sizes.entry(0x20'0000, 2) == 0x40'0087 &&
              two_sizes.entry(0x1000, 1) == 0x20'1007);

static_assert(std::ranges::input_range<leaf_range<ept::format, archetype::table_memory>>);

// [vt-d, "Interrupt Address Range"]
static_assert(vtd::interrupt_range.first() == iova{0xFEE0'0000} &&
              vtd::interrupt_range.last() == iova{0xFEEF'FFFF});

} // namespace
