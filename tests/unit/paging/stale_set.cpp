// SPDX-License-Identifier: BSL-1.0
// What tickets owe together in a batch: no page less, no page more, and never more than it has room for.
#include "pt/paging/stale_set.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace {

using pt::errc;
using pt::gpa;
using pt::hpa;
using set = pt::paging::stale_set<gpa>;
constexpr std::uint64_t page = 4096;

constexpr std::uint64_t pages_of(const set& stale) {
    std::uint64_t all = 0;
    for (const pt::range<gpa>& part : stale) {
        for (std::uint64_t i = 0; i < part.size() / page; ++i) {
            all |= std::uint64_t{1} << (part.first().raw / page + i);
        }
    }
    return all;
}
constexpr std::size_t parts_of(const set& stale) {
    return static_cast<std::size_t>(stale.end() - stale.begin());
}

struct remembers {
    std::uint64_t pages = 0;
    bool everything = false;
    bool tables_changed = false;
    unsigned calls = 0;

    constexpr pt::result<void> invalidate(const set& stale) {
        pages = pages_of(stale);
        everything = stale.everything();
        tables_changed = stale.tables_changed();
        ++calls;
        return {};
    }
};

/// 64 pages that are mapped, in one table. A remap to where they are makes a ticket for any of them.
struct sixty_four_pages {
    pt::arena<16> frames{};
    pt::paging::table<pt::ept::format, pt::arena_memory<16>> tables{
        frames.memory(), pt::ept::format{pt::ept::capabilities{0x4040}, 40}};
    remembers hardware{};

    constexpr sixty_four_pages() {
        (void)tables.map({gpa{0}, 64 * page}, hpa{0}, pt::ept::ram)->empty();
    }
    constexpr ~sixty_four_pages() {
        auto owed = tables.retire();
        (void)owed.redeem(hardware);
    }
    constexpr auto touch(std::uint64_t first, std::uint64_t count) {
        return tables.remap({gpa{first * page}, count * page}, hpa{first * page}, pt::ept::ram);
    }
};

/// 64 pages as 64 bits: what the batch must hold is plain to see.
template <std::size_t Capacity>
constexpr bool agrees_with_bits(unsigned rounds, std::uint64_t seed) {
    sixty_four_pages pages;
    auto owed = pages.tables.batch<Capacity>();
    std::uint64_t random = seed;
    const auto below = [&random](unsigned bound) {
        random = random * 6364136223846793005 + 1442695040888963407;
        return static_cast<unsigned>(random >> 33) % bound;
    };
    for (unsigned round = 0; round < rounds; ++round) {
        std::uint64_t bits = 0;
        for (unsigned n = 0; n < 2 * Capacity + 4; ++n) {
            const unsigned first = below(64);
            const unsigned count =
                below(8) == 0 ? 1 + below(64 - first) : 1 + below(first < 63 ? 2 : 1);
            const std::uint64_t added = (~std::uint64_t{0} >> (64 - count)) << first;
            auto ticket = pages.touch(first, count);
            if (!ticket || ticket->empty() || ticket->tables_changed() ||
                ticket->stale() != pt::range{gpa{first * page}, count * page}) {
                return false;
            }
            // Runs of set bits: one more than there is room for is refused, and nothing else is.
            const std::uint64_t both = bits | added;
            const bool fits = std::popcount(both & ~(both << 1)) <= static_cast<int>(Capacity);
            const pt::result<void> done = owed.add(*ticket);
            if (done.has_value() != fits || ticket->empty() != fits) {
                return false;
            }
            if (fits) {
                bits = both;
            } else {
                if (done.error() != pt::error{errc::busy, first * page} ||
                    ticket->stale() != pt::range{gpa{first * page}, count * page}) {
                    return false;
                }
                ticket->leak();
            }
            const int runs = std::popcount(bits & ~(bits << 1));
            if (owed.empty() || owed.stale().everything() || owed.stale().tables_changed() ||
                pages_of(owed.stale()) != bits ||
                parts_of(owed.stale()) != static_cast<std::size_t>(runs)) {
                return false;
            }
        }
        if (!owed.redeem(pages.hardware) || pages.hardware.pages != bits || !owed.empty() ||
            pages.hardware.everything || parts_of(owed.stale()) != 0) {
            return false;
        }
    }
    return pages.hardware.calls == rounds;
}

constexpr bool everything_swallows_and_stays() {
    sixty_four_pages pages;
    auto owed = pages.tables.batch<1>();
    bool good = owed.add(*pages.touch(1, 1)).has_value();
    good = good && owed.add(pages.tables.retire()) && owed.stale().everything();
    good = good && owed.stale().tables_changed() && parts_of(owed.stale()) == 0 && !owed.empty();
    // And there is room for whatever comes now.
    good = good && pages.tables.map({gpa{0}, 64 * page}, hpa{0}, pt::ept::ram)->empty();
    good = good && owed.add(*pages.touch(5, 1)) && owed.add(*pages.touch(9, 1));
    good = good && owed.stale().everything() && parts_of(owed.stale()) == 0;
    good = good && owed.redeem(pages.hardware) && pages.hardware.everything && owed.empty();
    return good && !owed.stale().everything() && !owed.stale().tables_changed();
}

constexpr bool tables_that_changed_are_not_forgotten() {
    sixty_four_pages pages;
    auto owed = pages.tables.batch();
    bool good = owed.add(*pages.touch(40, 1)) && !owed.stale().tables_changed();
    // The table goes with its last page.
    good = good && owed.add(*pages.tables.unmap({gpa{0}, 64 * page}));
    good = good && owed.stale().tables_changed() && parts_of(owed.stale()) == 1;
    good = good && owed.redeem(pages.hardware) && pages.hardware.tables_changed;
    return good && pages.hardware.pages == ~std::uint64_t{0} && !owed.stale().tables_changed();
}

constexpr bool views() {
    const pt::range<gpa> two[] = {{gpa{page}, page}, {gpa{4 * page}, 2 * page}};
    const set some{two, 2, true};
    return set{}.empty() && !set{}.everything() && !set{}.tables_changed() &&
           set{}.begin() == set{}.end() && !set::all().empty() && set::all().everything() &&
           set::all().tables_changed() && parts_of(set::all()) == 0 && !some.empty() &&
           !some.everything() && some.tables_changed() && pages_of(some) == 0b110010 &&
           !set{two, 1, false}.tables_changed();
}

static_assert(agrees_with_bits<1>(2, 1));
static_assert(agrees_with_bits<8>(1, 1));
static_assert(everything_swallows_and_stays());
static_assert(tables_that_changed_are_not_forgotten());
static_assert(views());

} // namespace

TEST_CASE("a batch holds what its tickets owe: no page less, no page more", "[paging]") {
    REQUIRE(agrees_with_bits<1>(3'000, 2));
    REQUIRE(agrees_with_bits<2>(3'000, 3));
    REQUIRE(agrees_with_bits<8>(3'000, 4));
    REQUIRE(agrees_with_bits<32>(500, 5));
}

TEST_CASE("everything, and tables that changed, in a batch", "[paging]") {
    REQUIRE(everything_swallows_and_stays());
    REQUIRE(tables_that_changed_are_not_forgotten());
    REQUIRE(views());
}
