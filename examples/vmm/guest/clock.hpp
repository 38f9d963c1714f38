// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstdint>

namespace guest {

inline std::uint64_t time_stamp() {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return std::uint64_t{high} << 32 | low;
}

/// clock: the time-stamp counter, of which every machine has one, measured against the interval
/// timer, of which every PC has one.
struct clock {
    /// Measures it. False: the interval timer does not count.
    static bool start();
    /// Ticks of the time-stamp counter in a millisecond.
    static std::uint64_t ticks_per_millisecond();
    static std::uint64_t ticks_of(std::uint64_t nanoseconds);

    std::uint64_t now();
};

static_assert(pt::clock<clock>);

inline constexpr std::uint64_t microsecond = 1'000;
inline constexpr std::uint64_t millisecond = 1'000'000;
inline constexpr std::uint64_t second = 1'000'000'000;

} // namespace guest
