// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstdint>

namespace kernel {

/// clock: the machine's HPET, which counts nanoseconds of the machine's time.
struct clock {
    /// Lets it count. Without that it stands still.
    static void start();

    std::uint64_t now();

    /// The processor's time-stamp counter, and how many thousand times a second it counts: measured
    /// when it is asked for first, which takes a millisecond.
    std::uint64_t tsc();
    std::uint32_t tsc_kilohertz();
};

static_assert(pt::clock<clock>);

} // namespace kernel
