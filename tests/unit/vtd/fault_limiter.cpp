// SPDX-License-Identifier: BSL-1.0
#include "pt/vtd/fault_limiter.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::pci::function_address;
using pt::vtd::fault_limiter;
using pt::vtd::fault_limits;
using enum pt::vtd::fault_verdict;

struct clock_at {
    const std::uint64_t* time;
    constexpr std::uint64_t now() { return *time; }
};

constexpr function_address nic{0, 0, 5, 0};
constexpr function_address disk{0, 0, 6, 0};
constexpr fault_limits limits{.interval = 1000, .burst = 3, .total = 100};

constexpr bool burst_then_silence() {
    std::uint64_t time = 1'000'000;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    bool right = true;
    for (unsigned i = 0; i < 3; ++i) {
        right = right && limiter.admit(nic) == report;
    }
    right = right && limiter.admit(nic) == silence;
    right = right && limiter.admit(nic) == drop && limiter.admit(nic) == stop; // twice the burst
    for (unsigned i = 0; i < 1000; ++i) {
        right = right && limiter.admit(nic) == drop;
    }
    return right && limiter.admit(disk) == report; // another function is not its fault
}

TEST_CASE(
    "a function has a burst, is silenced once, stopped once, and its other faults are dropped",
    "[vtd][limiter]") {
    static_assert(burst_then_silence());
    CHECK(burst_then_silence());
}

constexpr bool steady_and_slow() {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 200; ++i) {
        if (limiter.admit(nic) != report) {
            return false;
        }
        time += 1000;
    }
    return true;
}

TEST_CASE("one fault in an interval is reported for ever", "[vtd][limiter]") {
    static_assert(steady_and_slow());
    CHECK(steady_and_slow());
}

TEST_CASE("intervals are counted whole, whenever somebody looks", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 200; ++i) { // three faults in three intervals
        CHECK(limiter.admit(nic) == report);
        time += 1500;
        CHECK(limiter.admit(nic) == report);
        CHECK(limiter.admit(nic) == report);
        time += 1500;
    }
}

TEST_CASE("two faults in an interval end in silence", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    unsigned reported = 0;
    unsigned silenced = 0;
    for (unsigned i = 0; i < 1000; ++i) {
        for (unsigned k = 0; k < 2; ++k) {
            const auto verdict = limiter.admit(nic);
            reported += verdict == report;
            silenced += verdict == silence;
        }
        time += 1000;
    }
    // The level rises by one in each interval: 1 2 | 2 3 | 3 and then the fourth.
    CHECK(reported == 5);
    CHECK(silenced == 1);
}

TEST_CASE("a function that became quiet is forgotten, and only then", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 1000; ++i) {
        (void)limiter.admit(nic);
    }
    time = 5999; // the level was 6, twice the burst, fell to 1, and rises to 2
    CHECK(limiter.admit(nic) == drop);
    time = 6999;
    CHECK(limiter.admit(nic) == drop);
    time = 8999;
    CHECK(limiter.admit(nic) == report);
}

TEST_CASE("a function that was reset begins anew", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 10; ++i) {
        (void)limiter.admit(nic);
        (void)limiter.admit(disk);
    }
    limiter.forget(nic);
    CHECK(limiter.admit(nic) == report);
    CHECK(limiter.admit(disk) == drop);
}

TEST_CASE("all functions together do not get more than the total in an interval",
          "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 8> limiter{{&time}, {.interval = 1000, .burst = 3, .total = 10}};
    for (unsigned round = 0; round < 50; ++round) {
        unsigned reported = 0;
        for (unsigned id = 0; id < 65536; id += 7) {
            reported += limiter.admit(function_address::from_source_id(
                            static_cast<std::uint16_t>(id + round))) == report;
        }
        CHECK(reported == 10);
        time += 1000;
    }
}

TEST_CASE("the same number in another segment is another function", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 10; ++i) {
        (void)limiter.admit(nic);
    }
    CHECK(limiter.admit({1, 0, 5, 0}) == report);
}

TEST_CASE("a silenced function that goes on slowly is not stopped", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    for (unsigned i = 0; i < 4; ++i) {
        (void)limiter.admit(nic);
    }
    for (unsigned i = 0; i < 1000; ++i) {
        time += 1000;
        CHECK(limiter.admit(nic) == drop);
    }
}

TEST_CASE("a flood of other source ids does not hide a function that faults too much",
          "[vtd][limiter][hostile]") {
    // One in four faults is the disk's; every other one has a source id that was never seen.
    std::uint64_t time = 0;
    fault_limiter<clock_at, 4> limiter{{&time}, limits};
    unsigned next = 0x1000;
    bool silenced = false;
    for (unsigned i = 0; i < 400 && !silenced; ++i) {
        for (unsigned k = 0; k < 3; ++k) {
            (void)limiter.admit(
                function_address::from_source_id(static_cast<std::uint16_t>(next++)));
        }
        silenced = limiter.admit(disk) == silence;
    }
    CHECK(silenced);
}

TEST_CASE("a table that is full of silenced functions makes room for another", "[vtd][limiter]") {
    std::uint64_t time = 0;
    fault_limiter<clock_at, 2> limiter{{&time}, limits};
    for (unsigned i = 0; i < 100; ++i) {
        (void)limiter.admit({0, 1, 0, 0});
        (void)limiter.admit({0, 2, 0, 0});
    }
    unsigned reported = 0;
    bool silenced = false;
    for (unsigned i = 0; i < 100 && !silenced; ++i) {
        const auto verdict = limiter.admit(disk);
        reported += verdict == report;
        silenced = verdict == silence;
    }
    CHECK(silenced);
    CHECK(reported <= 2 * 3 + 3); // what it paid to get in, and its burst
}

TEST_CASE("a clock that stands still or leaps does no harm", "[vtd][limiter][hostile]") {
    std::uint64_t time = ~std::uint64_t{0} - 500;
    fault_limiter<clock_at, 2> limiter{{&time}, limits};
    for (unsigned i = 0; i < 10; ++i) {
        (void)limiter.admit(nic);
    }
    CHECK(limiter.admit(nic) == drop);
    time += 400;
    CHECK(limiter.admit(nic) == drop);
    time += std::uint64_t{1} << 63; // wraps
    CHECK(limiter.admit(nic) == report);
}

} // namespace
