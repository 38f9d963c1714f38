// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pool.hpp"

#include <cstddef>
#include <cstdint>

/// What the engine is held against: EPT written, walked and read by hand, with everything known when
/// it is compiled and nothing done twice. Where several ways were tried, the comment has their times
/// (Zen 5, g++ 12, nanoseconds an entry, general and native) and the fastest plain one is the floor.
namespace bench::floors {

#ifdef __SSE2__
inline constexpr bool has_vectors = true;
#else
inline constexpr bool has_vectors = false;
#endif

inline constexpr std::size_t entries_per_table = 512;
inline constexpr std::uint64_t frame_mask = 0x000F'FFFF'FFFF'F000;
inline constexpr std::uint64_t rights = 7;
inline constexpr std::uint64_t page_bit = 0x80;
inline constexpr std::uint64_t empty = std::uint64_t{1} << 63; ///< suppress #VE
inline constexpr std::uint64_t ram =
    empty | 1 << 10 | 6 << 3 | rights; ///< a 4-KiB page, write-back
inline constexpr std::uint64_t large_ram = ram | page_bit;

constexpr unsigned shift_of(unsigned level) { return 12 + 9 * (level - 1); }
constexpr std::uint64_t size_of(unsigned level) { return std::uint64_t{1} << shift_of(level); }

inline std::uint64_t* table_of(std::uint64_t entry) { return entries_of(entry & frame_mask); }
inline std::uint64_t to_table(const std::uint64_t* table) {
    return reinterpret_cast<std::uintptr_t>(table) | rights;
}

/// A whole table, in which each entry is `step` more than the one before.
///
/// 2 MiB of tables: 0.133 and 0.072. Not unrolled 0.246 and 0.073; 4 or 8 stores of base + constant
/// by hand 0.149 and 0.072 or 0.079, 16 of them 0.152 and 0.094; 4 or 8 running registers 0.149; two
/// tables at once 0.152; explicit vectors of 16, 32 or 64 bytes 0.072 to 0.074. MOVNTI and vectors
/// stored past the caches, which is no plain store: 0.181.
/// 128 MiB of tables, where the memory is the limit: 0.253 and 0.239, and all others alike; with a
/// prefetch for writing two tables ahead 0.227 and 0.224 (but 0.149 for 2 MiB); MOVNTI 0.182.
template <std::uint64_t step>
inline void fill_table(std::uint64_t* table, std::uint64_t entry) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < entries_per_table; ++i, entry += step) {
        table[i] = entry;
    }
}

template <std::uint64_t step>
inline void fill_part(std::uint64_t* table, std::size_t from, std::size_t to, std::uint64_t entry) {
#pragma GCC unroll 8
    for (std::size_t i = from; i < to; ++i, entry += step) {
        table[i] = entry;
    }
}

/// Builds the tables that map `size` bytes with leaves at `leaf_level`, the first of which is `leaf`:
/// `offset` bytes behind the start of what a table at `level` covers. The tables lie at `next`, the
/// upper one before those under it. What the entry that points to them holds.
template <unsigned level, unsigned leaf_level>
inline std::uint64_t build(std::uint64_t*& next, std::uint64_t offset, std::uint64_t size,
                           std::uint64_t leaf) {
    constexpr std::uint64_t step = size_of(level);
    std::uint64_t* const table = next;
    next += entries_per_table;
    if constexpr (level == leaf_level) {
        if (size == size_of(level + 1)) {
            fill_table<step>(table, leaf);
            return to_table(table);
        }
    }
    const std::size_t from = offset / step;
    const std::size_t to = (offset + size + step - 1) / step;
    fill_part<0>(table, 0, from, empty);
    if constexpr (level == leaf_level) {
        fill_part<step>(table, from, to, leaf);
    } else {
        for (std::size_t i = from; i < to; ++i) {
            const std::uint64_t skipped = offset % step;
            const std::uint64_t part = size < step - skipped ? size : step - skipped;
            table[i] = build<level - 1, leaf_level>(next, skipped, part, leaf);
            offset += part;
            size -= part;
            leaf += part;
        }
    }
    fill_part<0>(table, to, entries_per_table, empty);
    return to_table(table);
}

/// The same from the root on, which exists: for whole entries of it, or a part of one.
template <unsigned leaf_level>
inline void build_below(std::uint64_t* root, std::uint64_t*& next, std::uint64_t input,
                        std::uint64_t size, std::uint64_t leaf) {
    while (size != 0) {
        const std::uint64_t offset = input % size_of(4);
        const std::uint64_t part = size < size_of(4) - offset ? size : size_of(4) - offset;
        root[input >> shift_of(4) & 511] = build<3, leaf_level>(next, offset, part, leaf);
        input += part;
        leaf += part;
        size -= part;
    }
}

/// A walk from the root that checks each entry and makes the tables that are missing; then one leaf
/// is stored where none was.
// NOLINTNEXTLINE(readability-non-const-parameter): the tables are written through it
inline bool walk_and_store(pool& frames, std::uint64_t* table, std::uint64_t input,
                           std::uint64_t leaf) {
#pragma GCC unroll 4
    for (unsigned level = 4; level > 1; --level) {
        std::uint64_t& slot = table[input >> shift_of(level) & 511];
        std::uint64_t entry = slot;
        if ((entry & rights) == 0) [[unlikely]] {
            const pt::result<pt::hpa> frame = frames.allocate();
            if (!frame) {
                return false;
            }
            fill_table<0>(entries_of(frame->raw), empty);
            slot = entry = frame->raw | rights;
        } else if ((entry & page_bit) != 0) [[unlikely]] {
            return false;
        }
        table = table_of(entry);
    }
    std::uint64_t& slot = table[input >> 12 & 511];
    if ((slot & rights) != 0) [[unlikely]] {
        return false;
    }
    slot = leaf;
    return true;
}

/// Where `input` leads: 4 loads.
inline std::uint64_t chase(const std::uint64_t* table, std::uint64_t input) {
    table = table_of(table[input >> 39 & 511]);
    table = table_of(table[input >> 30 & 511]);
    table = table_of(table[input >> 21 & 511]);
    return table[input >> 12 & 511] & frame_mask;
}

/// Whether a table holds what fill_table wrote.
///
/// 2 MiB of tables: 0.131 by comparing and branching, but 0.132 native; 0.074 native by collecting
/// the differences of a whole table, but 0.303 general (unrolled by 4 to 32: 0.204 to 0.158).
template <std::uint64_t step>
inline bool holds(const std::uint64_t* table, std::uint64_t entry) {
    if constexpr (has_vectors) {
        std::uint64_t difference = 0;
        for (std::size_t i = 0; i < entries_per_table; ++i, entry += step) {
            difference |= table[i] ^ entry;
        }
        return difference == 0;
    } else {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < entries_per_table; ++i, entry += step) {
            if (table[i] != entry) {
                return false;
            }
        }
        return true;
    }
}

} // namespace bench::floors
