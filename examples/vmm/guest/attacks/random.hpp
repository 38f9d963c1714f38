// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace guest {

/// Numbers that look random, and are the same in each run: a congruential generator, of which the
/// upper half is the better one.
class random_numbers {
public:
    explicit constexpr random_numbers(std::uint64_t seed) : state_{seed} {}
    constexpr std::uint32_t operator()() {
        state_ = state_ * 6'364'136'223'846'793'005 + 1'442'695'040'888'963'407;
        return static_cast<std::uint32_t>(state_ >> 32);
    }
    constexpr std::uint64_t wide() { return std::uint64_t{(*this)()} << 32 | (*this)(); }
    constexpr std::uint32_t below(std::uint32_t end) { return (*this)() % end; }

private:
    std::uint64_t state_;
};

} // namespace guest
