// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace paging_model {

/// What a tree of tables consists of, found by reading all of it.
struct structure {
    std::size_t tables = 0;       ///< the root included
    std::size_t empty_tables = 0; ///< without a present entry; the root does not count
    std::size_t wrong_counts = 0; ///< entries whose bits 61:52 are not the number of entries below
    std::size_t hidden = 0;       ///< entries that are neither present nor empty
    std::size_t page_bits = 0;    ///< leaves of 4 KiB with bit 7 set, where that means nothing
    std::uint64_t mapped = 0;     ///< bytes
};

/// Bit 7 marks a leaf above level 1. `memory.read(frame, index)` finds an entry. Returns how many
/// entries are in use.
template <class Kit, class Memory>
std::size_t explore(const Memory& memory, std::uint64_t frame, unsigned level, structure& found) {
    ++found.tables;
    std::size_t used = 0;
    for (unsigned i = 0; i < 512; ++i) {
        const std::uint64_t entry = *memory.read(frame, i);
        if ((entry & Kit::present_bits) == 0) {
            found.hidden += entry != Kit::nothing ? 1 : 0;
            continue;
        }
        ++used;
        if (level == 1 || (entry & 0x80) != 0) {
            found.mapped += std::uint64_t{1} << (12 + 9 * (level - 1));
            found.page_bits += level == 1 && (entry & 0x80) != 0 && !Kit::bit_7_in_4k ? 1 : 0;
            continue;
        }
        const std::size_t below =
            explore<Kit>(memory, entry & 0x000F'FFFF'FFFF'F000, level - 1, found);
        found.empty_tables += below == 0 ? 1 : 0;
        found.wrong_counts += ((entry >> 52) & 0x3FF) != below ? 1 : 0;
    }
    return used;
}

template <class Kit, class Memory>
structure explore(const Memory& memory, std::uint64_t root) {
    structure found;
    explore<Kit>(memory, root, Kit::levels, found);
    return found;
}

} // namespace paging_model
