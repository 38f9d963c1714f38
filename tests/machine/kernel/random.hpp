// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace kernel {

/// Numbers of 16 bits that look random, and are the same in each run.
class random_numbers {
public:
    explicit constexpr random_numbers(std::uint32_t seed) : state_{seed} {}
    constexpr std::uint32_t operator()() {
        state_ = state_ * 1'664'525 + 1'013'904'223;
        return state_ >> 16;
    }

private:
    std::uint32_t state_;
};

} // namespace kernel
