// SPDX-License-Identifier: BSL-1.0
// Random sequences of operations against an oracle that has no tables.
#include "../../paging_model/script.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>

namespace {

using namespace paging_model;
using pt::GiB;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

// Where each access costs much, fewer steps have to do.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr unsigned scale = 8;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr unsigned scale = 8;
#else
constexpr unsigned scale = 1;
#endif
#else
constexpr unsigned scale = 1;
#endif

template <class Kit>
class dice {
public:
    explicit dice(std::uint64_t seed) : source_{seed} {}

    /// 0 to bound - 1.
    std::uint64_t below(std::uint64_t bound) { return source_() % bound; }
    /// Near the bottom with the interrupt range, the 512-GiB seam, or the top.
    std::uint64_t address() {
        constexpr std::uint64_t top = std::uint64_t{1} << Kit::input_width;
        constexpr std::uint64_t windows[] = {
            0, 512 * GiB % top - 4 * GiB * (top > 512 * GiB ? 1 : 0), top - 7 * GiB};
        constexpr std::uint64_t granules[] = {4 * KiB, 4 * KiB, 4 * KiB, 2 * MiB, 2 * MiB, 1 * GiB};
        const std::uint64_t granule = granules[below(6)];
        // Mostly in few places, so that operations meet.
        const std::uint64_t reach = below(2) == 0 ? 8 * GiB : 64 * MiB;
        return windows[below(3)] + below(reach) / granule * granule;
    }
    std::uint64_t size() {
        switch (below(16)) {
        case 0: return 0;
        case 1: return (1 + below(3)) * GiB;
        case 2: return (1 + below(2)) * GiB + 4 * KiB;
        case 3: return 1 * GiB - (1 + below(3)) * 4 * KiB;
        case 4:
        case 5:
        case 6: return (1 + below(20)) * 2 * MiB;
        case 7: return below(64 * KiB); // seldom a multiple of a page
        default: return (1 + below(600)) * 4 * KiB;
        }
    }
    std::uint64_t output(std::uint64_t first) {
        switch (below(64)) {
        case 0: return ~std::uint64_t{0} << 12;
        case 1: return below(1 << 20);
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
        case 9: return below(1 << 20) * 4 * KiB;
        case 10:
        case 11:
        case 12:
        case 13: return below(60) * GiB + first % (2 * MiB);
        default: return (below(4) == 0 ? below(60) : 8 + first / GiB % 8) * GiB + first % GiB;
        }
    }

private:
    std::mt19937_64 source_;
};

template <class Kit, class Stand>
void play(Kit kit, std::uint64_t seed, unsigned steps) {
    dice<Kit> roll{seed};
    session<Kit, Stand> game{kit, 257};
    for (unsigned step = 0; step < steps; ++step) {
        play_step(game, roll);
        if (step % 128 == 0) {
            game.audit();
        }
        if (game.complaint != nullptr) {
            INFO("seed " << seed << ", step " << step << ", input " << std::hex << game.where
                         << "; last error: " << name(game.got.code));
            FAIL(game.complaint);
        }
    }
    game.audit();
    // The sequence was worth playing: everything that can happen did. (What is rare, in a long one.)
    CHECK(game.count.map > steps / 20);
    CHECK(game.count.map_pages > steps / 200);
    CHECK(game.count.cursor > steps / 20);
    CHECK(game.count.remap > steps / 40);
    CHECK(game.count.unmap > steps / 20);
    CHECK(game.count.protect > steps / 100);
    CHECK((game.count.write_protect > steps / 400 || !Kit::format::write_needs_read));
    CHECK((game.count.split > 0 || scale > 1 || kit.largest == page_size::size_4k));
    CHECK((game.count.join > 0 || scale > 1 || kit.largest == page_size::size_4k));
    CHECK(game.count.refused > steps / 32);
    CHECK((game.count.shortage > 0 || scale > 1));
    CHECK((game.count.full > 0 || scale > 1));
    CHECK((game.count.remembered > 0 && (game.count.harvested > 0 || !Kit::sets_flags)));
    game.finish();
    INFO("seed " << seed << ", input " << std::hex << game.where);
    REQUIRE(game.complaint == nullptr);
}

} // namespace

TEMPLATE_TEST_CASE(
    "random operations agree with an oracle, a walker and a cache that forgets nothing",
    "[paging][rule 8][rule 9]", ept_kit, ept_flags_kit, ept5_kit, ept5_flags_kit,
    second_stage_kit<3>, second_stage_kit<4>, second_stage_kit<5>, (second_stage_kit<4, true>),
    (second_stage_kit<4, false, true>), nested_kit, first_stage_kit) {
    for (const page_size largest : {page_size::size_4k, page_size::size_2m, page_size::size_1g}) {
        play<TestType, poisoned_stand>(TestType{largest}, 20 + static_cast<unsigned>(largest),
                                       20'000 / scale);
    }
}

TEMPLATE_TEST_CASE("so they do in each of the memories that come with the library", "[paging]",
                   arena_stand<257>, identity_stand, offset_stand) {
    play<ept_kit, TestType>(ept_kit{}, 31, 20'000 / scale);
    play<ept5_flags_kit, TestType>(ept5_flags_kit{}, 32, 20'000 / scale);
    play<second_stage_kit<4, true>, TestType>(second_stage_kit<4, true>{}, 33, 20'000 / scale);
    play<nested_kit, TestType>(nested_kit{}, 34, 20'000 / scale);
}
