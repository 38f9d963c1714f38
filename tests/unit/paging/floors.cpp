// SPDX-License-Identifier: BSL-1.0
// The floors of the benchmarks, against which the engine's speed is held, do the engine's work: the
// same entries in the same frames, but for the counts of entries in use.
#include "../../../bench/paging/floors.hpp"

#include "pt/core/address.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using pt::GiB;
using pt::gpa;
using pt::hpa;
using pt::MiB;
using pt::TiB;
using pt::paging::page_size;
namespace floors = bench::floors;

constexpr pt::ept::format ept{pt::ept::capabilities{0xF01'0673'4141}, 52};

struct no_caches {
    template <class Stale>
    pt::result<void> invalidate(const Stale&) {
        return {};
    }
};

/// Frames with garbage in them, aligned as frames are.
class memory {
public:
    explicit memory(std::size_t frames)
        : words_((frames + 1) * 512, ~std::uint64_t{0}), returned_(frames), frames_{frames} {}
    bench::region region() {
        const auto start = reinterpret_cast<std::uintptr_t>(words_.data());
        return {words_.data() + (0x1000 - start % 0x1000) % 0x1000 / 8, returned_.data(), frames_};
    }
    /// What the frames hold, with their addresses counted from the first one, and counts left out.
    std::vector<std::uint64_t> contents() {
        const bench::region all = region();
        std::vector<std::uint64_t> found(all.entries, all.entries + frames_ * 512);
        const auto base = reinterpret_cast<std::uintptr_t>(all.entries);
        for (std::uint64_t& entry : found) {
            const std::uint64_t frame = entry & floors::frame_mask;
            if (frame >= base && frame - base < frames_ * 0x1000) {
                entry = (entry & ~pt::paging::live_count_mask) - base;
            }
        }
        return found;
    }

private:
    std::vector<std::uint64_t> words_;
    std::vector<std::uint64_t> returned_;
    std::size_t frames_;
};

template <class Work>
std::vector<std::uint64_t> by_engine(std::size_t frames, Work work) {
    memory all{frames};
    bench::pool pool{all.region()};
    pt::paging::table<pt::ept::format, bench::pool_memory> tables{bench::pool_memory{&pool}, ept};
    REQUIRE(tables.root());
    work(tables);
    auto found = all.contents();
    no_caches hardware;
    auto owed = tables.retire();
    REQUIRE(owed.redeem(hardware));
    return found;
}

template <unsigned leaf_level>
std::vector<std::uint64_t> by_floor(std::size_t frames, std::uint64_t input, std::uint64_t size,
                                    std::uint64_t leaf) {
    memory all{frames};
    std::uint64_t* const root = all.region().entries;
    floors::fill_table<0>(root, floors::empty);
    std::uint64_t* next = root + 512;
    floors::build_below<leaf_level>(root, next, input, size, leaf);
    CHECK(next <= root + frames * 512);
    return all.contents();
}

} // namespace

TEST_CASE("the floors of the benchmarks fill the tables that the engine fills", "[paging][bench]") {
    const auto map = [](std::uint64_t input, std::uint64_t size, page_size largest) {
        return [=](auto& tables) {
            REQUIRE(
                tables.map({gpa{input}, size}, hpa{4 * GiB}, pt::ept::ram, largest).has_value());
        };
    };
    const std::uint64_t leaf = 4 * GiB | floors::ram;

    CHECK(by_floor<1>(4, TiB, 1 * MiB, leaf) ==
          by_engine(4, map(TiB, 1 * MiB, page_size::size_4k)));
    CHECK(by_floor<1>(516, 4 * GiB, 1 * GiB, leaf) ==
          by_engine(516, map(4 * GiB, 1 * GiB, page_size::size_4k)));
    CHECK(by_floor<1>(1030, 511 * GiB, 2 * GiB, leaf) ==
          by_engine(1030, map(511 * GiB, 2 * GiB, page_size::size_4k)));
    CHECK(by_floor<2>(66, 64 * GiB, 64 * GiB, 4 * GiB | floors::large_ram) ==
          by_engine(66, map(64 * GiB, 64 * GiB, page_size::size_2m)));
}

TEST_CASE("the floor for single pages stores what the engine stores", "[paging][bench]") {
    const std::uint64_t pages[]{5 * GiB, 4 * GiB, 4 * GiB + 0x1000, 600 * GiB, 5 * GiB + 2 * MiB};
    constexpr std::size_t frames = 12;

    memory all{frames};
    bench::pool pool{all.region()};
    std::uint64_t* const root = bench::entries_of(pool.allocate()->raw);
    floors::fill_table<0>(root, floors::empty);
    for (const std::uint64_t page : pages) {
        CHECK(floors::walk_and_store(pool, root, page, page | floors::ram));
        CHECK_FALSE(floors::walk_and_store(pool, root, page, page | floors::ram));
        CHECK(floors::chase(root, page) == page);
    }

    CHECK(all.contents() == by_engine(frames, [&pages](auto& tables) {
              for (const std::uint64_t page : pages) {
                  REQUIRE(tables.map({gpa{page}, 0x1000}, hpa{page}, pt::ept::ram).has_value());
              }
          }));
}

TEST_CASE("the floor for joins sees each wrong leaf", "[paging][bench]") {
    memory all{1};
    std::uint64_t* const table = all.region().entries;
    floors::fill_table<4096>(table, floors::ram);
    CHECK(floors::holds<4096>(table, floors::ram));
    for (std::size_t i = 0; i < 512; ++i) {
        table[i] ^= 0x40;
        CHECK_FALSE(floors::holds<4096>(table, floors::ram));
        table[i] ^= 0x40;
    }
}
