// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstdint>
#include <type_traits>

namespace pt {

/// The wide store of whoever has no instruction for it: upper half first, since hardware takes an
/// entry for present by its lower one. Not atomic, so that an entry in use is never changed by it.
struct no_wide_store {
    static constexpr bool atomic = false;

    constexpr void store(std::uint64_t* slot, std::uint64_t low, std::uint64_t high) {
        if (std::is_constant_evaluated()) {
            slot[1] = high;
            slot[0] = low;
        } else {
            __atomic_store_n(&slot[1], high, __ATOMIC_RELEASE);
            __atomic_store_n(&slot[0], low, __ATOMIC_RELEASE);
        }
    }
};

/// 128 bits at once by LOCK CMPXCHG16B, which processors with CPUID.01H:ECX[13] have; it needs no
/// vector register. [vt-d] demands such a store for entries that are in use.
struct cmpxchg16b_store {
    static constexpr bool atomic = true;

    constexpr void store(std::uint64_t* slot, std::uint64_t low, std::uint64_t high) {
        if (std::is_constant_evaluated()) {
            slot[0] = low;
            slot[1] = high;
            return;
        }
        // Only a guess of what is there, and it may be torn: the instruction brings the real
        // halves.
        std::uint64_t seen_low = __atomic_load_n(&slot[0], __ATOMIC_RELAXED);
        std::uint64_t seen_high = __atomic_load_n(&slot[1], __ATOMIC_RELAXED);
        for (bool stored = false;;) {
            asm volatile("lock cmpxchg16b (%[slot])"
                         : "=@ccz"(stored), "+a"(seen_low), "+d"(seen_high)
                         : [slot] "r"(slot), "b"(low), "c"(high)
                         : "memory");
            if (stored) {
                return;
            }
        }
    }
};

static_assert(wide_store<no_wide_store> && wide_store<cmpxchg16b_store>);

} // namespace pt
