// SPDX-License-Identifier: BSL-1.0
// Random sequences of operations against an oracle that has no tables.
#include "../../paging_model/session.hpp"

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

class dice {
public:
    explicit dice(std::uint64_t seed) : source_{seed} {}

    /// 0 to bound - 1.
    std::uint64_t below(std::uint64_t bound) { return source_() % bound; }
    std::uint64_t granule() {
        constexpr std::uint64_t choices[] = {4 * KiB, 4 * KiB, 4 * KiB, 2 * MiB, 2 * MiB, 1 * GiB};
        return choices[below(6)];
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

private:
    std::mt19937_64 source_;
};

template <class Kit>
void play(Kit kit, std::uint64_t seed, unsigned steps) {
    dice roll{seed};
    session<Kit> game{kit, 257};
    const std::uint64_t top = std::uint64_t{1} << Kit::input_width;
    // Where the tree has its seams: the bottom with the interrupt range, the 512-GiB seam, the top.
    const std::uint64_t windows[] = {0, 512 * GiB % top - 4 * GiB * (top > 512 * GiB ? 1 : 0),
                                     top - 7 * GiB};
    const auto address = [&] {
        const std::uint64_t granule = roll.granule();
        return windows[roll.below(3)] + roll.below(8 * GiB) / granule * granule;
    };
    for (unsigned step = 0; step < steps; ++step) {
        const std::uint64_t first = address();
        const std::uint64_t size = roll.size();
        const auto largest = static_cast<page_size>(1 + roll.below(3));
        switch (roll.below(8)) {
        case 0:
        case 1:
        case 2:
        case 3: {
            const std::uint64_t same_phase = first % GiB;
            const std::uint64_t output = roll.below(4) == 0 ? roll.below(1 << 20) * 4 * KiB
                                                            : roll.below(60) * GiB + same_phase;
            game.map(first, size, roll.below(64) == 0 ? ~std::uint64_t{0} << 12 : output,
                     roll.below(8), largest);
            break;
        }
        case 4:
        case 5: game.unmap(first, size); break;
        case 6: game.unmap(first / GiB * GiB, (1 + roll.below(4)) * GiB); break;
        default: game.redeem(static_cast<unsigned>(roll.below(3))); break;
        }
        for (const std::uint64_t probe : {first, first - 1, first + size - 1, first + size,
                                          address(), first + roll.below(size + 1)}) {
            game.check_address(probe);
        }
        if (step % 64 == 0) {
            game.audit();
        }
        if (game.complaint != nullptr) {
            INFO("seed " << seed << ", step " << step << ", input " << std::hex << game.where);
            FAIL(game.complaint);
        }
    }
    game.audit();
    // The sequence was worth playing: everything that can happen did.
    CHECK(game.maps > steps / 16);
    CHECK(game.unmaps > steps / 8);
    CHECK(game.refusals > steps / 32);
    CHECK(game.shortages > 0);
    game.finish();
    INFO("seed " << seed << ", input " << std::hex << game.where);
    REQUIRE(game.complaint == nullptr);
}

} // namespace

TEMPLATE_TEST_CASE(
    "random operations agree with an oracle, a walker and a cache that forgets nothing",
    "[paging][rule 8][rule 9]", ept_kit, second_stage_kit<4>, second_stage_kit<3>,
    (second_stage_kit<4, true>)) {
    for (const page_size largest : {page_size::size_4k, page_size::size_2m, page_size::size_1g}) {
        play(TestType{largest}, 20 + static_cast<unsigned>(largest), 20'000);
    }
}
