// SPDX-License-Identifier: BSL-1.0
//
// QEMU's processor model has no VMX, so the program reads the VMM's structures as a processor with
// VMX would: from the raw pages, as [sdm] says, and with nothing of pt that it is to judge.
#pragma once

#include "../qemu/qemu.hpp"

#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace demo {

using emulator::qemu;

using bitmap_page = std::array<std::uint64_t, 512>;

/// Whether an access of `size` bytes at `port` exits [sdm, I/O-Bitmap Addresses]: bit p of A for port
/// p, of B for port 0x8000 + p; 1 exits, and so does an access that runs past 0xFFFF.
inline bool processor_exits(const bitmap_page& a, const bitmap_page& b, unsigned port,
                            unsigned size) {
    for (unsigned p = port; p < port + size; ++p) {
        const bitmap_page& page = p < 0x8000 ? a : b;
        if (p > 0xFFFF || (page[p % 0x8000 / 64] >> (p % 64) & 1) != 0) {
            return true;
        }
    }
    return false;
}

/// Guest-physical addresses that translate, and how.
struct ept_leaf {
    std::uint64_t input = 0;
    std::uint64_t size = 0;
    std::uint64_t output = 0;
    unsigned rights = 0; ///< bit 0 read, 1 write, 2 execute: what every entry on the way allows
    unsigned type = 0;   ///< memory type
};

/// Every leaf that a processor finds from the table at `table` on [sdm, EPT Translation Mechanism],
/// in the machine's memory: what was not published is not there.
inline void walk_ept(qemu& machine, std::uint64_t table, unsigned level, std::uint64_t base,
                     unsigned allowed, std::vector<ept_leaf>& leaves) {
    constexpr std::uint64_t address_bits = 0xF'FFFF'FFFF'F000;
    std::array<std::uint64_t, 512> entries{};
    machine.read(table, std::as_writable_bytes(std::span{entries}));
    const unsigned shift = 12 + 9 * (level - 1);
    for (std::uint64_t i = 0; i < entries.size(); ++i) {
        const std::uint64_t entry = entries[i];
        const std::uint64_t input = base + (i << shift);
        const unsigned rights = allowed & static_cast<unsigned>(entry & 7);
        if ((entry & 7) == 0) {
            continue;
        }
        if (level == 1 || (entry & 0x80) != 0) {
            leaves.push_back({input, std::uint64_t{1} << shift, entry & address_bits, rights,
                              static_cast<unsigned>(entry >> 3 & 7)});
        } else {
            walk_ept(machine, entry & address_bits, level - 1, input, rights, leaves);
        }
    }
}

/// The same from an EPTP for 4 levels.
inline std::vector<ept_leaf> walk_ept(qemu& machine, std::uint64_t eptp) {
    std::vector<ept_leaf> leaves;
    walk_ept(machine, eptp & 0xF'FFFF'FFFF'F000, 4, 0, 7, leaves);
    return leaves;
}

/// EPT translations are cached by processors, and this machine runs none.
struct no_processor {
    pt::result<void> invalidate(const pt::paging::stale_set<pt::gpa>&) { return {}; }
};

} // namespace demo
