// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <concepts>
#include <cstdint>

namespace pt::e1000e {

/// Lets at least `nanoseconds` pass, in which the NIC is not accessed.
template <clock Clock>
constexpr void let_pass(Clock& time, std::uint64_t nanoseconds) {
    const std::uint64_t start = time.now();
    while (time.now() - start < nanoseconds) {}
}

/// Waits until `done()`, for at most `nanoseconds`; whether it became true in time. It is asked once
/// more after that, since perhaps it was this processor that slept and not the NIC.
template <clock Clock, std::predicate Done>
[[nodiscard]] constexpr bool becomes_true(Clock& time, std::uint64_t nanoseconds, Done done) {
    const std::uint64_t start = time.now();
    while (!done()) {
        if (time.now() - start >= nanoseconds) {
            return done();
        }
    }
    return true;
}

} // namespace pt::e1000e
