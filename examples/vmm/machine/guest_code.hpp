// SPDX-License-Identifier: BSL-1.0
//
// The instruction that a guest is at, read through its own page tables and the VMM's. For a
// processor that reports neither lengths nor bytes, and for people. The guest has fetched it
// already or is about to, so no right is checked, and where it cannot be read there are fewer bytes
// or none.
#pragma once

#include "../cpu_state.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/translate.hpp"
#include "pt/vcpu/instruction_bytes.hpp"

#include <cstdint>

namespace vmm {

/// The memory of a guest by the VMM's tables, where the VMM reaches it: one to one, below 2 GiB,
/// since there is RAM and no device.
template <pt::paging::entry_format Format>
class mapped_ram {
public:
    mapped_ram(const Format& format, pt::hpa root) : format_{format}, root_{root} {}

    /// The byte there, and all behind it up to the end of the page. nullptr: there is none.
    [[nodiscard]] const std::uint8_t* bytes(pt::gpa at) const {
        constexpr pt::range<pt::hpa> ram{pt::hpa{0}, 2 * pt::GiB};
        const pt::paging::direct_map_reader<pt::identity_map> tables{ram, {}};
        const auto found = pt::paging::translate(format_, tables, root_, at);
        if (!found || !ram.contains(found->output)) {
            return nullptr;
        }
        // NOLINTNEXTLINE(performance-no-int-to-ptr): memory is mapped one to one
        return reinterpret_cast<const std::uint8_t*>(
            static_cast<std::uintptr_t>(found->output.raw));
    }

    /// A number of `size` bytes, at most 8, that does not lie across pages.
    [[nodiscard]] pt::result<std::uint64_t> number(pt::gpa at, unsigned size) const {
        const std::uint8_t* const from = bytes(at);
        if (from == nullptr) {
            return pt::error{pt::errc::absent, at.raw};
        }
        std::uint64_t value = 0;
        for (unsigned i = size; i-- != 0;) {
            value = value << 8 | from[i];
        }
        return value;
    }

private:
    Format format_;
    pt::hpa root_;
};

/// Where the guest's own tables lead a linear address [sdm, Paging]. errc::not_mapped: nowhere;
/// errc::absent: its tables are not in memory.
template <class Memory>
[[nodiscard]] pt::result<pt::gpa> physical_address(const cpu_state& cpu, const Memory& memory,
                                                   std::uint64_t linear) {
    constexpr std::uint64_t present = 1U << 0;
    constexpr std::uint64_t large = 1U << 7;
    constexpr std::uint64_t address = 0x000F'FFFF'FFFF'F000;
    const bool long_mode = (cpu.efer & cpu_state::efer_long_mode_active) != 0;
    if ((cpu.cr0 & cpu_state::cr0_paging) == 0) {
        return pt::gpa{linear & 0xFFFF'FFFF};
    }
    const bool wide = long_mode || (cpu.cr4 & cpu_state::cr4_physical_address_extension) != 0;
    const unsigned bits = wide ? 9 : 10; // of the address, for each level
    const unsigned size = wide ? 8 : 4;  // of an entry
    unsigned level = 2;
    std::uint64_t table = cpu.cr3 & 0xFFFF'F000;
    if (long_mode) {
        level = (cpu.cr4 & cpu_state::cr4_five_levels) != 0 ? 5 : 4;
        table = cpu.cr3 & address;
    } else if (wide) {
        level = 3; // of four entries
        table = cpu.cr3 & 0xFFFF'FFE0;
        linear &= 0xFFFF'FFFF;
    }
    for (;; --level) {
        const unsigned shift = 12 + bits * (level - 1);
        const std::uint64_t index = linear >> shift & ((std::uint64_t{1} << bits) - 1);
        const auto entry = memory.number(pt::gpa{table + index * size}, size);
        if (!entry) {
            return entry.error();
        }
        if ((*entry & present) == 0) {
            return pt::error{pt::errc::not_mapped, linear};
        }
        const bool may_be_large =
            (wide && level == 3 && long_mode) ||
            (level == 2 && (wide || (cpu.cr4 & cpu_state::cr4_page_size_extensions) != 0));
        table = *entry & address;
        if (level == 1 || (may_be_large && (*entry & large) != 0)) {
            const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
            // Of a 4-MiB page, bits 39:32 of the address are in 20:13.
            const std::uint64_t high = !wide && level == 2 ? (*entry >> 13 & 0xFF) << 32 : 0;
            return pt::gpa{high | (table & ~offset) | (linear & offset)};
        }
    }
}

/// The bytes at RIP.
template <class Memory>
[[nodiscard]] pt::vcpu::instruction_bytes code_of(const cpu_state& cpu, const Memory& memory) {
    pt::vcpu::instruction_bytes code{.rip = cpu.rip, .code = cpu.code_size()};
    const bool bits_64 = code.code == pt::vcpu::code_size::bits_64;
    const std::uint64_t base = bits_64 ? 0 : cpu[pt::vcpu::segment_register::cs].base;
    while (code.count < pt::vcpu::longest_instruction) {
        const std::uint64_t linear = base + cpu.rip + code.count;
        const auto place = physical_address(cpu, memory, bits_64 ? linear : linear & 0xFFFF'FFFF);
        const std::uint8_t* from = place ? memory.bytes(*place) : nullptr;
        if (from == nullptr) {
            break;
        }
        const std::uint64_t left = 4 * pt::KiB - place->offset_in(4 * pt::KiB);
        for (std::uint64_t i = 0; i != left && code.count < pt::vcpu::longest_instruction; ++i) {
            code.bytes[code.count++] = *from++;
        }
    }
    return code;
}

} // namespace vmm
