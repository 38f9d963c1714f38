// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <type_traits>

/// How software touches entries that hardware, or another processor, may look at meanwhile: 64 bits at
/// once, and in order. (std::atomic_ref is hosted, and does not work at compile time.)
namespace pt::paging {

/// Whether the compiler may use vector registers, which most kernels forbid.
#if defined(__SSE2__)
inline constexpr bool has_vector_registers = true;
#else
inline constexpr bool has_vector_registers = false;
#endif

[[nodiscard]] constexpr std::uint64_t load_entry(const std::uint64_t* slot) {
    if (std::is_constant_evaluated()) {
        return *slot;
    }
    return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
}

/// Whoever sees the entry sees all that was stored before.
constexpr void store_entry(std::uint64_t* slot, std::uint64_t entry) {
    if (std::is_constant_evaluated()) {
        *slot = entry;
    } else {
        __atomic_store_n(slot, entry, __ATOMIC_RELEASE);
    }
}

/// Stores `entry` if the slot still holds `expected`; otherwise `expected` becomes what it holds.
[[nodiscard]] constexpr bool replace_entry(std::uint64_t* slot, std::uint64_t& expected,
                                           std::uint64_t entry) {
    if (std::is_constant_evaluated()) {
        if (*slot != expected) {
            expected = *slot;
            return false;
        }
        *slot = entry;
        return true;
    }
    return __atomic_compare_exchange_n(slot, &expected, entry, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/// Adds to the slot (and subtracts, modulo 2^64); the sum.
constexpr std::uint64_t add_to_entry(std::uint64_t* slot, std::uint64_t addend) {
    if (std::is_constant_evaluated()) {
        return *slot += addend;
    }
    return __atomic_add_fetch(slot, addend, __ATOMIC_ACQ_REL);
}

constexpr void clear_in_entry(std::uint64_t* slot, std::uint64_t bits) {
    if (std::is_constant_evaluated()) {
        *slot &= ~bits;
    } else {
        __atomic_fetch_and(slot, ~bits, __ATOMIC_ACQ_REL);
    }
}

} // namespace pt::paging
