// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuzz {

inline void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

/// The fuzzer's bytes, one after the other; then zeros.
struct reader {
    const std::uint8_t* at;
    std::size_t left;

    std::uint8_t byte() {
        if (left == 0) {
            return 0;
        }
        --left;
        return *at++;
    }
    std::uint64_t number(unsigned bytes) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < bytes; ++i) {
            value |= std::uint64_t{byte()} << 8 * i;
        }
        return value;
    }
};

} // namespace fuzz
