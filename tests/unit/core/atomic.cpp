// SPDX-License-Identifier: BSL-1.0
#include "pt/core/atomic.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>

namespace {

/// What each operation returns, and what is in the word then.
template <class W>
constexpr bool does_what_it_says() {
    W word = 0b1100;
    bool right = pt::atomic::load(&word) == 0b1100 && pt::atomic::load_relaxed(&word) == 0b1100;
    right = right && pt::atomic::fetch_or(&word, W{0b0110}) == 0b1100 && word == 0b1110;
    right = right && pt::atomic::fetch_and(&word, W{0b0111}) == 0b1110 && word == 0b0110;
    right = right && pt::atomic::fetch_add(&word, W{3}) == 6 && word == 9;
    right = right && pt::atomic::fetch_add(&word, static_cast<W>(~W{0})) == 9 && word == 8;
    right = right && pt::atomic::exchange(&word, W{5}) == 8 && word == 5;
    W expected = 4;
    right = right && !pt::atomic::compare_exchange(&word, expected, W{7}) && expected == 5;
    right = right && word == 5 && pt::atomic::compare_exchange(&word, expected, W{7});
    right = right && word == 7 && expected == 5;
    pt::atomic::store(&word, static_cast<W>(~W{0}));
    right = right && word == static_cast<W>(~W{0});
    pt::atomic::store_relaxed(&word, W{1});
    return right && word == 1;
}
static_assert(does_what_it_says<std::uint32_t>() && does_what_it_says<std::uint64_t>());

static_assert(pt::atomic::word<std::uint32_t> && pt::atomic::word<std::uint64_t>);
static_assert(!pt::atomic::word<std::int32_t> && !pt::atomic::word<std::uint8_t> &&
              !pt::atomic::word<bool> && !pt::atomic::word<const std::uint32_t>);

TEMPLATE_TEST_CASE("each operation returns what was there and leaves what it should", "[core]",
                   std::uint32_t, std::uint64_t) {
    CHECK(does_what_it_says<TestType>());
}

/// Both at once, as near as threads begin.
template <class First, class Second>
void beside(First first, Second second) {
    std::atomic<int> ready{0};
    const auto start = [&ready] {
        ++ready;
        while (ready != 2) {
            std::this_thread::yield();
        }
    };
    std::thread other{[&] {
        start();
        second();
    }};
    start();
    first();
    other.join();
}

TEST_CASE("two processors that change one word lose no change", "[core][threads]") {
    constexpr std::uint64_t times = 1'000'000;
    std::uint64_t sum = 0;
    std::uint32_t exchanged = 0;
    const auto work = [&sum, &exchanged] {
        for (std::uint64_t i = 0; i < times; ++i) {
            pt::atomic::fetch_add(&sum, i);
        }
        for (std::uint64_t i = 0; i < times; ++i) {
            std::uint32_t seen = pt::atomic::load(&exchanged);
            while (!pt::atomic::compare_exchange(&exchanged, seen, seen + 1)) {}
        }
    };
    constexpr std::uint64_t runs = 8; // not in all of them do two processors really work at once
    for (std::uint64_t run = 0; run < runs; ++run) {
        beside(work, work);
    }
    CHECK(sum == runs * times * (times - 1));
    CHECK(exchanged == runs * 2 * times);
}

TEST_CASE("of bits that one sets and another takes, each is taken once", "[core][threads]") {
    constexpr unsigned times = 300'000;
    std::uint64_t word = 0;
    std::uint64_t set = 0;
    std::uint64_t taken = 0;
    const auto bits = [](std::uint64_t of) { return (of & 1) + ((of >> 1) & 1); };
    beside(
        [&] {
            for (unsigned i = 0; i < times; ++i) {
                const std::uint64_t bit = std::uint64_t{1} << (i % 2);
                set += (pt::atomic::fetch_or(&word, bit) & bit) == 0 ? 1U : 0U;
            }
        },
        [&] {
            for (unsigned i = 0; i < times; ++i) {
                taken += bits(pt::atomic::exchange(&word, std::uint64_t{0}));
                taken += bits(pt::atomic::fetch_and(&word, ~std::uint64_t{2}) & 2);
            }
        });
    CHECK(taken + bits(word) == set);
}

TEST_CASE(
    "what changes a word is a full barrier: of two that store and then look, one sees the other",
    "[core][threads]") {
    constexpr std::uint32_t rounds = 100'000;
    std::uint32_t stored[2]{};
    std::uint32_t saw[2]{};
    std::atomic<std::uint32_t> done{0};
    std::uint32_t neither = 0;
    const auto work = [&](unsigned me) {
        for (std::uint32_t round = 1; round <= rounds; ++round) {
            if (round % 2 != 0) {
                pt::atomic::exchange(&stored[me], round);
            } else {
                pt::atomic::fetch_add(&stored[me], std::uint32_t{1});
            }
            pt::atomic::store_relaxed(&saw[me], pt::atomic::load(&stored[1 - me]));
            // Both have looked before either goes on.
            ++done;
            while (done < 4 * round - 2) {
                std::this_thread::yield();
            }
            if (me == 0) {
                neither += pt::atomic::load(&saw[0]) < round && pt::atomic::load(&saw[1]) < round
                               ? 1U
                               : 0U;
            }
            ++done;
            while (done < 4 * round) {
                std::this_thread::yield();
            }
        }
    };
    beside([&] { work(0); }, [&] { work(1); });
    CHECK(neither == 0);
}

} // namespace
