// SPDX-License-Identifier: BSL-1.0
#include "pt/paging/stale_set.hpp"

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cstdint>

namespace {

using pt::iova;
using set = pt::paging::stale_set<iova>;
constexpr std::uint64_t page = 4096;

constexpr std::uint64_t pages_of(const set& stale) {
    std::uint64_t all = 0;
    for (const pt::range<iova>& part : stale) {
        for (std::uint64_t i = 0; i < part.size() / page; ++i) {
            all |= std::uint64_t{1} << (part.first().raw / page + i);
        }
    }
    return all;
}
constexpr std::size_t parts_of(const set& stale) {
    return static_cast<std::size_t>(stale.end() - stale.begin());
}

/// 64 pages as 64 bits: what the set must hold is plain to see.
constexpr bool agrees_with_bits(unsigned rounds, std::uint64_t seed) {
    std::uint64_t random = seed;
    const auto below = [&random](unsigned bound) {
        random = random * 6364136223846793005 + 1442695040888963407;
        return static_cast<unsigned>(random >> 33) % bound;
    };
    for (unsigned round = 0; round < rounds; ++round) {
        set stale;
        set other; // every third range goes here first, and the sets are merged at the end
        std::uint64_t bits = 0;
        bool over = false;
        for (unsigned n = 0; n < 14; ++n) {
            const unsigned first = below(64);
            const unsigned size =
                below(3) == 0 ? below(65 - first) : below(2) + (first < 63 ? 1 : 0);
            const std::uint64_t added = size == 0 ? 0 : (~std::uint64_t{0} >> (64 - size)) << first;
            const pt::range<iova> range{iova{first * page}, size * page};
            if (n % 3 == 2) {
                other.add(range);
            } else {
                stale.add(range);
                bits |= added;
            }
            // Runs of set bits; more than fit must have become everything, and fewer never may.
            const int runs = std::popcount(bits & ~(bits << 1));
            over = over || runs > static_cast<int>(set::capacity);
            if (stale.everything() != over || stale.empty() != (bits == 0) ||
                (!over &&
                 (pages_of(stale) != bits || parts_of(stale) != static_cast<std::size_t>(runs)))) {
                return false;
            }
        }
        const std::uint64_t others = pages_of(other);
        stale.add(other);
        if (!stale.everything() && pages_of(stale) != (bits | others)) {
            return false;
        }
    }
    return true;
}

constexpr bool the_whole_space_is_everything() {
    set stale;
    stale.add({iova{5 * page}, page});
    stale.add({iova{0}, page});
    stale.add({iova{std::uint64_t{1} << 63}, std::uint64_t{1} << 63});
    if (stale.everything()) {
        return false;
    }
    stale.add({iova{0}, std::uint64_t{1} << 63}); // touches: together 2^64 bytes
    return stale.everything() && !stale.empty();
}

constexpr bool ends_of_the_space_do_not_touch() {
    set stale;
    stale.add({iova{~std::uint64_t{0} - page + 1}, page});
    stale.add({iova{0}, page});
    return parts_of(stale) == 2;
}

constexpr bool everything_swallows_and_stays() {
    set all;
    all.add_everything();
    set some;
    some.add({iova{0}, page});
    some.add_tables();
    all.add(some);
    some.add(set{});
    const bool kept = !some.everything() && parts_of(some) == 1;
    some.add(all);
    return all.everything() && all.tables_changed() && parts_of(all) == 0 && kept &&
           some.everything() && parts_of(some) == 0;
}

static_assert(agrees_with_bits(20, 1));
static_assert(the_whole_space_is_everything());
static_assert(ends_of_the_space_do_not_touch());
static_assert(everything_swallows_and_stays());
static_assert(set{}.empty() && !set{}.everything() && !set{}.tables_changed());

} // namespace

TEST_CASE("a stale set holds what was added: no page less, no page more", "[paging]") {
    REQUIRE(agrees_with_bits(20'000, 2));
}

TEST_CASE("a stale set at the ends of the address space", "[paging]") {
    REQUIRE(the_whole_space_is_everything());
    REQUIRE(ends_of_the_space_do_not_touch());
    REQUIRE(everything_swallows_and_stays());
}
