// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"

#include <cstdint>

/// How software touches entries that hardware, or another processor, may look at meanwhile: 64 bits at
/// once, and in order.
namespace pt::paging {

/// Whether the compiler may use vector registers, which most kernels forbid.
#if defined(__SSE2__)
inline constexpr bool has_vector_registers = true;
#else
inline constexpr bool has_vector_registers = false;
#endif

[[nodiscard]] constexpr std::uint64_t load_entry(const std::uint64_t* slot) {
    return atomic::load(slot);
}

/// Whoever sees the entry sees all that was stored before.
constexpr void store_entry(std::uint64_t* slot, std::uint64_t entry) { atomic::store(slot, entry); }

/// Stores `entry` if the slot still holds `expected`; otherwise `expected` becomes what it holds.
[[nodiscard]] constexpr bool replace_entry(std::uint64_t* slot, std::uint64_t& expected,
                                           std::uint64_t entry) {
    return atomic::compare_exchange(slot, expected, entry);
}

/// Adds to the slot (and subtracts, modulo 2^64); the sum.
constexpr std::uint64_t add_to_entry(std::uint64_t* slot, std::uint64_t addend) {
    return atomic::fetch_add(slot, addend) + addend;
}

constexpr void clear_in_entry(std::uint64_t* slot, std::uint64_t bits) {
    atomic::fetch_and(slot, ~bits);
}

} // namespace pt::paging
