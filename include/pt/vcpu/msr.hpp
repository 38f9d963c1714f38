// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::vcpu {

/// What is done to a model-specific register: RDMSR reads, WRMSR writes.
enum class msr_access : std::uint8_t { read = 1, write = 2, read_write = 3 };

[[nodiscard]] constexpr bool reads(msr_access access) {
    return (static_cast<unsigned>(access) & 1U) != 0;
}
[[nodiscard]] constexpr bool writes(msr_access access) {
    return (static_cast<unsigned>(access) & 2U) != 0;
}

/// MSRs first..last by number, both inclusive as the manuals print them. first <= last.
struct msr_range {
    std::uint32_t first = 0;
    std::uint32_t last = 0;

    [[nodiscard]] constexpr bool contains(std::uint32_t msr) const {
        return first <= msr && msr <= last;
    }
    friend constexpr bool operator==(const msr_range&, const msr_range&) = default;
};

} // namespace pt::vcpu
