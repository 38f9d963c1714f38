// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace bench {

/// Numbers that no branch predictor learns; cheap, since they are made while the clock runs.
struct random_numbers {
    std::uint64_t state = 26;

    /// `disturb`: makes the number depend on an earlier answer, so that nothing can be done ahead of it.
    std::uint64_t next(std::uint64_t disturb = 0) {
        state = state * 6364136223846793005U + 1442695040888963407U + disturb;
        return state >> 32;
    }
};

} // namespace bench
