// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "frames.hpp"

#include <cstddef>
#include <cstdint>

namespace paging_model {

/// What a tree of tables consists of, found by reading all of it.
struct structure {
    std::size_t tables = 0;       ///< the root included
    std::size_t empty_tables = 0; ///< without a present entry; the root does not count
    std::size_t wrong_counts =
        0;                     ///< entries whose bits 62:52 are not one less than the entries below
    std::size_t hidden = 0;    ///< entries that are neither present nor empty
    std::size_t page_bits = 0; ///< leaves of 4 KiB with bit 7 set, left over from a split
    std::uint64_t mapped = 0;  ///< bytes
};

/// `present`: the bits of which one makes an entry present; `empty`: an entry that maps nothing.
/// Bit 7 marks a leaf above level 1. Returns the entries in use.
inline std::size_t explore(const frames& memory, std::uint64_t frame, unsigned level,
                           std::uint64_t present, std::uint64_t empty, structure& found) {
    ++found.tables;
    std::size_t used = 0;
    for (unsigned i = 0; i < 512; ++i) {
        const std::uint64_t entry = *memory.read(frame, i);
        if ((entry & present) == 0) {
            found.hidden += entry != empty ? 1 : 0;
            continue;
        }
        ++used;
        if (level == 1 || (entry & 0x80) != 0) {
            found.mapped += std::uint64_t{1} << (12 + 9 * (level - 1));
            found.page_bits += level == 1 && (entry & 0x80) != 0 ? 1 : 0;
            continue;
        }
        const std::size_t below =
            explore(memory, entry & 0x000F'FFFF'FFFF'F000, level - 1, present, empty, found);
        found.empty_tables += below == 0 ? 1 : 0;
        found.wrong_counts += ((entry >> 52) & 0x7FF) + 1 != below ? 1 : 0;
    }
    return used;
}

template <class Kit>
structure explore(const frames& memory, std::uint64_t root) {
    structure found;
    explore(memory, root, Kit::levels, Kit::present_bits, Kit::nothing, found);
    return found;
}

} // namespace paging_model
