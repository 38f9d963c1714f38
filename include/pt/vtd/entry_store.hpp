// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::vtd {

/// Stores entries of several 64-bit words, of which word 0 has the present bit, bit 0, so that
/// hardware that looks between any two stores sees the old entry, the new one, or one that is not
/// present. Every store is published before the next.
template <publication Publication, wide_store WideStore>
class entry_store {
public:
    constexpr entry_store(Publication publisher, WideStore wide)
        : publisher_{publisher}, wide_{wide} {}

    /// A table that nothing points to yet.
    constexpr void publish_table(const std::uint64_t* entries) {
        publisher_.publish(entries, entries_per_table);
        publisher_.complete();
    }
    /// One word.
    constexpr void word(std::uint64_t* slot, std::uint64_t value) {
        store(slot, value);
        publish(slot, 1);
    }
    /// An entry where none is present: word 0 last.
    template <std::size_t Words>
    constexpr void appear(std::uint64_t* slot, const std::uint64_t (&entry)[Words]) {
        for (std::size_t i = Words; i-- > 1;) {
            store(slot + i, entry[i]);
        }
        publish(slot + 1, Words - 1);
        word(slot, entry[0]);
    }
    /// Clears the present bit and nothing else: what has to be forgotten is still known.
    constexpr void block(std::uint64_t* slot) {
        if ((*slot & present) != 0) {
            word(slot, *slot & ~present);
        }
    }
    /// Clears an entry that is not present.
    template <std::size_t Words>
    constexpr void clear(std::uint64_t* slot) {
        word(slot, 0);
        for (std::size_t i = 1; i < Words; ++i) {
            store(slot + i, 0);
        }
        publish(slot + 1, Words - 1);
    }

    /// Whether a present entry can become `entry` in one store: no more than one word differs, or
    /// the lower 128 bits where the wide store is atomic.
    template <std::size_t Words>
    [[nodiscard]] constexpr bool in_one_step(const std::uint64_t* slot,
                                             const std::uint64_t (&entry)[Words]) const {
        std::size_t differ = 0;
        bool above = false;
        for (std::size_t i = 0; i < Words; ++i) {
            if (slot[i] != entry[i]) {
                ++differ;
                above = above || i > 1;
            }
        }
        return differ <= 1 || (WideStore::atomic && !above);
    }
    /// Makes it become that. Only where in_one_step() says so.
    template <std::size_t Words>
    constexpr void change(std::uint64_t* slot, const std::uint64_t (&entry)[Words]) {
        if (WideStore::atomic && slot[0] != entry[0] && slot[1] != entry[1]) {
            wide_.store(slot, entry[0], entry[1]);
            publish(slot, 2);
            return;
        }
        for (std::size_t i = 0; i < Words; ++i) {
            if (slot[i] != entry[i]) {
                word(slot + i, entry[i]);
            }
        }
    }

private:
    static constexpr std::uint64_t present = 1;

    static constexpr void store(std::uint64_t* slot, std::uint64_t value) {
        if (std::is_constant_evaluated()) {
            *slot = value;
        } else {
            __atomic_store_n(slot, value, __ATOMIC_RELEASE);
        }
    }
    constexpr void publish(const std::uint64_t* first, std::size_t count) {
        publisher_.publish(first, count);
        publisher_.complete();
    }

    [[no_unique_address]] Publication publisher_;
    [[no_unique_address]] WideStore wide_;
};

} // namespace pt::vtd
