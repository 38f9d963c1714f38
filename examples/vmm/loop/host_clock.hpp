// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/timer.hpp"

#include "../pc/interval_timer.hpp"

#include <concepts>
#include <cstdint>
#include <utility>

namespace vmm {

/// The time of the host. now(): nanoseconds, monotonic. tsc(): the time-stamp counter, which is the
/// guests' too. tsc_kilohertz(): how fast that counts.
template <class C>
concept host_clock = pt::clock<C> && requires(C& time) {
    { time.tsc() } -> std::same_as<std::uint64_t>;
    { time.tsc_kilohertz() } -> std::same_as<std::uint32_t>;
};

/// The host's time as a local APIC has it: its timer's input clock is 1 GHz.
template <host_clock Clock>
struct guest_time {
    static constexpr std::uint32_t kilohertz = 1'000'000;

    [[no_unique_address]] Clock clock;

    constexpr std::uint64_t ticks() { return clock.now(); }
    constexpr std::uint64_t tsc() { return clock.tsc(); }

    /// When a deadline of the local APIC's timer is, in nanoseconds of the clock; or pc::never.
    [[nodiscard]] constexpr std::uint64_t nanoseconds(const pt::lapic::deadline& when) {
        const std::uint64_t now = clock.now();
        if (when.of == pt::lapic::deadline::clock::none) {
            return pc::never;
        }
        if (when.of == pt::lapic::deadline::clock::ticks) {
            const std::uint64_t left = when.at - now;
            return (left >> 63) != 0 ? now : now + left;
        }
        const std::uint64_t count = clock.tsc();
        if (count >= when.at) {
            return now;
        }
        constexpr std::uint64_t nanoseconds_of_millisecond = 1'000'000;
        const std::uint64_t kilohertz_of_tsc = clock.tsc_kilohertz();
        if (kilohertz_of_tsc == 0) {
            return now + nanoseconds_of_millisecond; // look again then
        }
        const std::uint64_t left = when.at - count;
        const std::uint64_t milliseconds = left / kilohertz_of_tsc;
        if (milliseconds > 1'000'000'000) { // not in this life
            return pc::never;
        }
        const std::uint64_t rest = left % kilohertz_of_tsc;
        return now + milliseconds * nanoseconds_of_millisecond +
               (rest * nanoseconds_of_millisecond + kilohertz_of_tsc - 1) / kilohertz_of_tsc;
    }
};

} // namespace vmm
