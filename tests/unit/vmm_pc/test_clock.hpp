// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstdint>

namespace vmm_pc_test {

/// Time that the test turns.
struct test_clock {
    std::uint64_t* time;
    constexpr std::uint64_t now() const { return *time; }
};
static_assert(pt::clock<test_clock>);

} // namespace vmm_pc_test
