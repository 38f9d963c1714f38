// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

/// What a map writes, and where its pages lie; how the engine's operations see it.
namespace pt::paging {

/// What map_pages() takes: pages[i] is where the i-th page lies. A pointer or an array will do.
template <class P>
concept page_list = requires(const P& pages, std::size_t i) {
    { pages[i] } -> std::convertible_to<hpa>;
};

/// entry, entry + step, entry + 2 step ... in a table that nobody else sees: plain stores, which
/// the compiler may join. Unrolled, or gcc makes it one entry a cycle.
[[gnu::always_inline]] constexpr void fill_entries(std::uint64_t* slot, std::size_t count,
                                                   std::uint64_t entry, std::uint64_t step) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < count; ++i, entry += step) {
        slot[i] = entry;
    }
}

/// Pages that lie one after the other.
struct contiguous_pages {
    std::uint64_t distance; ///< output - input, modulo 2^64
    unsigned largest;

    [[nodiscard]] constexpr std::uint64_t output(std::uint64_t input) const {
        return input + distance;
    }
    [[nodiscard]] constexpr bool fits(std::uint64_t input, unsigned level) const {
        return level <= largest && (output(input) & (level_size(level) - 1)) == 0;
    }
};
/// Pages of one size that lie anywhere. What is read of them is checked first, and read again when it
/// is written: should it have changed meanwhile, it is still no more than the address of such a page.
template <class Pages>
struct scattered_pages {
    const Pages* pages;
    std::uint64_t first; ///< the input address of page 0
    unsigned level;

    /// As the list has it.
    [[nodiscard]] constexpr hpa page(std::uint64_t input) const {
        return (*pages)[static_cast<std::size_t>((input - first) >> level_shift(level))];
    }
    [[nodiscard]] constexpr std::uint64_t output(std::uint64_t input) const {
        return page(input).raw & frame_mask & ~(level_size(level) - 1);
    }
    [[nodiscard]] constexpr bool fits(std::uint64_t, unsigned at) const { return at == level; }
};

/// A leaf without its frame, by level.
struct leaf_bits {
    std::uint64_t at[4];
};
/// What a map writes.
template <class Placement>
struct map_job {
    Placement where;
    leaf_bits leaf;

    /// The leaf at `level` that maps `input`.
    [[nodiscard]] constexpr std::uint64_t entry(std::uint64_t input, unsigned level) const {
        return leaf.at[level] + where.output(input);
    }
    /// How many leaves at `level` map what begins with `first` and ends in the same table.
    [[nodiscard]] constexpr unsigned run(std::uint64_t first, std::uint64_t last,
                                         unsigned level) const {
        const std::uint64_t inside = level_size(level) - 1;
        if (level > 3 || (first & inside) != 0 || last - first < inside ||
            !where.fits(first, level)) {
            return 0;
        }
        return static_cast<unsigned>((last - first + 1) >> level_shift(level));
    }
    /// Writes leaves into a table that nobody else sees.
    [[gnu::always_inline]] constexpr void write(std::uint64_t* slot, std::size_t count,
                                                std::uint64_t first, unsigned level) const {
        if constexpr (std::is_same_v<Placement, contiguous_pages>) {
            fill_entries(slot, count, entry(first, level), level_size(level));
        } else {
            for (std::size_t i = 0; i < count; ++i) {
                slot[i] = entry(first + i * level_size(level), level);
            }
        }
    }
    /// Writes them into a table that hardware sees: one store each.
    constexpr void show(std::uint64_t* slot, std::size_t count, std::uint64_t first,
                        unsigned level) const {
        if constexpr (std::is_same_v<Placement, contiguous_pages>) {
            std::uint64_t next = entry(first, level);
            const std::uint64_t step = level_size(level);
#pragma GCC unroll 4
            for (std::size_t i = 0; i < count; ++i, next += step) {
                store_entry(&slot[i], next);
            }
        } else {
            for (std::size_t i = 0; i < count; ++i) {
                store_entry(&slot[i], entry(first + i * level_size(level), level));
            }
        }
    }
};
} // namespace pt::paging
