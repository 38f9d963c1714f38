// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

/// Words that other processors, or hardware, touch at the same time. They are plain words in memory
/// whose layout the hardware gives, so it is the access that is atomic and not the type.
/// (std::atomic_ref is hosted, and does not work at compile time; these do.)
namespace pt::atomic {

template <class W>
concept word = std::same_as<W, std::uint32_t> || std::same_as<W, std::uint64_t>;

/// What is read later is not older than this.
template <word W>
[[nodiscard]] constexpr W load(const W* from) {
    if (std::is_constant_evaluated()) {
        return *from;
    }
    return __atomic_load_n(from, __ATOMIC_ACQUIRE);
}

/// Whoever sees the value sees all that was stored before.
template <word W>
constexpr void store(W* to, W value) {
    if (std::is_constant_evaluated()) {
        *to = value;
    } else {
        __atomic_store_n(to, value, __ATOMIC_RELEASE);
    }
}

/// The word as it is at some moment; says nothing about other words.
template <word W>
[[nodiscard]] constexpr W load_relaxed(const W* from) {
    if (std::is_constant_evaluated()) {
        return *from;
    }
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

template <word W>
constexpr void store_relaxed(W* to, W value) {
    if (std::is_constant_evaluated()) {
        *to = value;
    } else {
        __atomic_store_n(to, value, __ATOMIC_RELAXED);
    }
}

// These read and write in one step, return what the word held before, and are full barriers: what comes
// before them in the program is done before what comes after, loads included.

template <word W>
constexpr W exchange(W* in, W value) {
    if (std::is_constant_evaluated()) {
        const W before = *in;
        *in = value;
        return before;
    }
    return __atomic_exchange_n(in, value, __ATOMIC_SEQ_CST);
}

template <word W>
constexpr W fetch_or(W* in, W bits) {
    if (std::is_constant_evaluated()) {
        const W before = *in;
        *in |= bits;
        return before;
    }
    return __atomic_fetch_or(in, bits, __ATOMIC_SEQ_CST);
}

template <word W>
constexpr W fetch_and(W* in, W bits) {
    if (std::is_constant_evaluated()) {
        const W before = *in;
        *in &= bits;
        return before;
    }
    return __atomic_fetch_and(in, bits, __ATOMIC_SEQ_CST);
}

/// Modulo the width.
template <word W>
constexpr W fetch_add(W* in, W addend) {
    if (std::is_constant_evaluated()) {
        const W before = *in;
        *in += addend;
        return before;
    }
    return __atomic_fetch_add(in, addend, __ATOMIC_SEQ_CST);
}

/// Stores `desired` if the word still holds `expected`; otherwise `expected` becomes what it holds.
template <word W>
[[nodiscard]] constexpr bool compare_exchange(W* in, W& expected, W desired) {
    if (std::is_constant_evaluated()) {
        if (*in != expected) {
            expected = *in;
            return false;
        }
        *in = desired;
        return true;
    }
    return __atomic_compare_exchange_n(in, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

} // namespace pt::atomic
