// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include "guest_ram.hpp"
#include "little_endian.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::pc {

/// The guest's memory as its instructions reach it: through its segments and its page tables [sdm,
/// Protected-Mode Memory Management; Paging] [amd]. A model of vcpu::guest_memory. The state()
/// of a `Processor` has the registers that this depends on: cr0, cr3, cr4, efer, rflags, cpl and
/// segments[] by number, each with base, limit (in bytes) and rights (as the VMCS has them [sdm,
/// Format of Access Rights]).
///
/// It checks what the processor checks: limits, types, canonical addresses; present, write, user and
/// execute-disable bits, write protection, SMEP, SMAP, reserved bits. Protection keys and shadow stacks
/// are hidden from the guest by CPUID.
template <class Processor>
class guest_memory {
public:
    /// `physical_address_width`: MAXPHYADDR of the guest, 32..52.
    constexpr guest_memory(Processor& processor, guest_ram ram, unsigned physical_address_width)
        : processor_{&processor}, ram_{ram}, width_{physical_address_width} {}

    [[nodiscard]] constexpr pt::vcpu::guest_place
    locate(pt::vcpu::logical_address at, std::uint32_t size, pt::vcpu::memory_access access) {
        const auto state = processor_->state();
        const bool is_64 = (state.efer & efer_lma) != 0 &&
                           (state.segments[segment_number(pt::vcpu::segment_register::cs)].rights &
                            right_long) != 0;
        const auto& segment = state.segments[segment_number(at.segment)];
        std::uint64_t linear = 0;
        if (is_64) {
            const bool has_base = at.segment == pt::vcpu::segment_register::fs ||
                                  at.segment == pt::vcpu::segment_register::gs;
            linear = at.offset + (has_base ? segment.base : 0);
            const std::uint64_t last = linear + (size - 1);
            const unsigned bits = (state.cr4 & cr4_la57) != 0 ? 57 : 48;
            if (!is_canonical(linear, bits) || !is_canonical(last, bits)) {
                return segment_fault(at.segment);
            }
        } else {
            const std::uint64_t offset = at.offset & 0xFFFF'FFFF;
            if (!allows(segment.rights, segment.limit, offset, size, access)) {
                return segment_fault(at.segment);
            }
            linear = (offset + segment.base) & 0xFFFF'FFFF;
        }
        const std::uint32_t in_page = page - static_cast<std::uint32_t>(linear % page);
        pt::vcpu::guest_place place = translate(state, linear, access);
        place.size = size < in_page ? size : in_page;
        return place;
    }

    constexpr void read(pt::gpa from, std::uint8_t* to, std::size_t count) {
        ram_.read(from, to, count);
    }
    constexpr void write(pt::gpa to, const std::uint8_t* from, std::size_t count) {
        ram_.write(to, from, count);
    }

private:
    static constexpr std::uint32_t page = 4096;
    static constexpr std::uint64_t cr0_write_protect = 1U << 16;
    static constexpr std::uint64_t cr0_paging = 1U << 31;
    static constexpr std::uint64_t cr4_page_size = 1U << 4;
    static constexpr std::uint64_t cr4_physical_address_extension = 1U << 5;
    static constexpr std::uint64_t cr4_la57 = 1U << 12;
    static constexpr std::uint64_t cr4_smep = 1U << 20;
    static constexpr std::uint64_t cr4_smap = 1U << 21;
    static constexpr std::uint64_t efer_lma = 1U << 10;
    static constexpr std::uint64_t efer_nxe = 1U << 11;
    static constexpr std::uint64_t rflags_alignment_check = 1U << 18;

    // Access rights [sdm].
    static constexpr std::uint32_t right_writable = 1U << 1;    ///< of data; of code: readable
    static constexpr std::uint32_t right_expand_down = 1U << 2; ///< of data; of code: conforming
    static constexpr std::uint32_t right_code = 1U << 3;
    static constexpr std::uint32_t right_present = 1U << 7;
    static constexpr std::uint32_t right_long = 1U << 13;
    static constexpr std::uint32_t right_big = 1U << 14;
    static constexpr std::uint32_t right_unusable = 1U << 16;

    // Entries of all page tables.
    static constexpr std::uint64_t entry_present = 1U << 0;
    static constexpr std::uint64_t entry_writable = 1U << 1;
    static constexpr std::uint64_t entry_user = 1U << 2;
    static constexpr std::uint64_t entry_accessed = 1U << 5;
    static constexpr std::uint64_t entry_dirty = 1U << 6;
    static constexpr std::uint64_t entry_page_size = 1U << 7;
    static constexpr std::uint64_t entry_execute_disable = std::uint64_t{1} << 63;

    // Error code of a page fault.
    static constexpr std::uint32_t fault_present = 1U << 0;
    static constexpr std::uint32_t fault_write = 1U << 1;
    static constexpr std::uint32_t fault_user = 1U << 2;
    static constexpr std::uint32_t fault_reserved = 1U << 3;
    static constexpr std::uint32_t fault_fetch = 1U << 4;

    static constexpr unsigned segment_number(pt::vcpu::segment_register segment) {
        return static_cast<unsigned>(segment);
    }
    static constexpr bool is_canonical(std::uint64_t linear, unsigned bits) {
        const std::uint64_t high = linear >> (bits - 1);
        return high == 0 || high == ~std::uint64_t{0} >> (bits - 1);
    }
    static constexpr pt::vcpu::guest_place segment_fault(pt::vcpu::segment_register segment) {
        const auto vector = segment == pt::vcpu::segment_register::ss
                                ? pt::vcpu::exception_vector::stack_segment_fault
                                : pt::vcpu::exception_vector::general_protection;
        return {.fault = pt::vcpu::exception(vector, 0)};
    }

    static constexpr bool allows(std::uint32_t rights, std::uint32_t limit, std::uint64_t offset,
                                 std::uint32_t size, pt::vcpu::memory_access access) {
        if ((rights & right_unusable) != 0 || (rights & right_present) == 0) {
            return false;
        }
        const bool is_code = (rights & right_code) != 0;
        const bool has_right = (rights & right_writable) != 0;
        switch (access) {
        case pt::vcpu::memory_access::read:
            if (is_code && !has_right) {
                return false;
            }
            break;
        case pt::vcpu::memory_access::write:
            if (is_code || !has_right) {
                return false;
            }
            break;
        case pt::vcpu::memory_access::execute: break; // what is in CS can be executed
        }
        const std::uint64_t last = offset + (size - 1);
        if (!is_code && (rights & right_expand_down) != 0) {
            const std::uint64_t top = (rights & right_big) != 0 ? 0xFFFF'FFFF : 0xFFFF;
            return offset > limit && last <= top;
        }
        return last <= limit;
    }

    /// How the tables of a paging mode look.
    struct paging_mode {
        unsigned levels = 0;
        unsigned entry_size = 8;
        unsigned index_bits = 9;
        std::uint64_t reserved = 0; ///< in every present entry
    };

    template <class State>
    constexpr paging_mode mode_of(const State& state) const {
        const std::uint64_t above_width = ~((std::uint64_t{1} << width_) - 1);
        if ((state.cr4 & cr4_physical_address_extension) == 0) {
            return {.levels = 2, .entry_size = 4, .index_bits = 10};
        }
        const bool no_execute = (state.efer & efer_nxe) != 0;
        if ((state.efer & efer_lma) == 0) { // bits 62:52 are reserved too
            return {.levels = 3,
                    .reserved =
                        above_width & (no_execute ? ~entry_execute_disable : ~std::uint64_t{0})};
        }
        constexpr std::uint64_t ignored = std::uint64_t{0x7FF} << 52;
        const std::uint64_t high = no_execute ? ignored | entry_execute_disable : ignored;
        return {.levels = (state.cr4 & cr4_la57) != 0 ? 5U : 4U, .reserved = above_width & ~high};
    }

    constexpr std::uint64_t read_entry(std::uint64_t at, unsigned size) const {
        std::uint8_t bytes[8]{};
        ram_.read(pt::gpa{at}, bytes, size);
        return size == 4 ? word_at<std::uint32_t>(bytes) : word_at<std::uint64_t>(bytes);
    }
    constexpr void set_in_entry(std::uint64_t at, std::uint64_t entry, std::uint64_t bits) const {
        if ((entry & bits) != bits) { // accessed and dirty are in the first byte
            const auto byte = static_cast<std::uint8_t>(entry | bits);
            ram_.write(pt::gpa{at}, &byte, 1);
        }
    }

    template <class State>
    constexpr pt::vcpu::guest_place translate(const State& state, std::uint64_t linear,
                                              pt::vcpu::memory_access access) {
        if ((state.cr0 & cr0_paging) == 0) {
            return {.address = pt::gpa{linear}};
        }
        const paging_mode mode = mode_of(state);
        const bool is_write = access == pt::vcpu::memory_access::write;
        const bool is_fetch = access == pt::vcpu::memory_access::execute;
        const std::uint32_t error = (is_write ? fault_write : 0U) |
                                    (state.cpl == 3 ? fault_user : 0U) |
                                    (is_fetch && tells_of_fetches(state) ? fault_fetch : 0U);
        const auto fault = [&](std::uint32_t more) {
            return pt::vcpu::guest_place{
                .fault = pt::vcpu::exception(pt::vcpu::exception_vector::page_fault, error | more),
                .cr2 = linear};
        };

        std::uint64_t table = table_of(state, mode);
        std::uint64_t places[5]{};
        std::uint64_t entries[5]{};
        std::uint64_t rights = entry_writable | entry_user;
        std::uint64_t execute_disable = 0;
        unsigned level = mode.levels;
        unsigned shift = 0;
        for (;; --level) {
            shift = 12 + mode.index_bits * (level - 1);
            const std::uint64_t index =
                linear >> shift & ((std::uint64_t{1} << mode.index_bits) - 1);
            const std::uint64_t place = table + index * mode.entry_size;
            const std::uint64_t entry = read_entry(place, mode.entry_size);
            places[level - 1] = place;
            entries[level - 1] = entry;
            if ((entry & entry_present) == 0) {
                return fault(0);
            }
            const bool is_page = level == 1 || is_large(state, mode, entry, level);
            if ((entry & reserved_of(mode, entry, level, is_page)) != 0) {
                return fault(fault_present | fault_reserved);
            }
            if (mode.levels != 3 || level != 3) { // PDPTEs of PAE paging have no rights
                rights &= entry;
                execute_disable |= entry & entry_execute_disable;
            }
            if (is_page) {
                break;
            }
            table = entry & address_mask;
        }

        if (!is_allowed(state, rights | execute_disable, access)) {
            return fault(fault_present);
        }
        for (unsigned i = mode.levels; i >= level; --i) {
            if (mode.levels == 3 && i == 3) {
                continue; // nor have they an accessed flag
            }
            const std::uint64_t dirty = i == level && is_write ? entry_dirty : 0;
            set_in_entry(places[i - 1], entries[i - 1], entry_accessed | dirty);
        }
        const std::uint64_t in_page = (std::uint64_t{1} << shift) - 1;
        return {.address = pt::gpa{(frame_of(mode, entries[level - 1], level) & ~in_page) |
                                   (linear & in_page)}};
    }

    static constexpr std::uint64_t address_mask = 0x000F'FFFF'FFFF'F000;

    template <class State>
    static constexpr std::uint64_t table_of(const State& state, paging_mode mode) {
        switch (mode.levels) {
        case 2: return state.cr3 & 0xFFFF'F000;
        case 3: return state.cr3 & 0xFFFF'FFE0;
        default: return state.cr3 & address_mask;
        }
    }

    template <class State>
    static constexpr bool is_large(const State& state, paging_mode mode, std::uint64_t entry,
                                   unsigned level) {
        if ((entry & entry_page_size) == 0) {
            return false;
        }
        switch (mode.levels) {
        case 2: return (state.cr4 & cr4_page_size) != 0;
        case 3: return level == 2;
        default: return level == 2 || level == 3;
        }
    }

    /// A 4-MiB page of 32-bit paging holds bits 39:32 of its frame in bits 20:13 (PSE-36).
    static constexpr std::uint64_t frame_of(paging_mode mode, std::uint64_t entry, unsigned level) {
        if (mode.levels == 2 && level == 2) {
            return (entry & 0xFFC0'0000) | (entry >> 13 & 0xFF) << 32;
        }
        return entry & address_mask;
    }

    constexpr std::uint64_t reserved_of(paging_mode mode, std::uint64_t entry, unsigned level,
                                        bool is_page) const {
        if (mode.levels == 2) {
            if (level == 1 || !is_page) {
                return 0;
            }
            const unsigned width = width_ < 40 ? width_ : 40;
            return std::uint64_t{1} << 21 | ((0xFFU << (width - 32)) & 0xFFU) << 13;
        }
        if (mode.levels == 3 && level == 3) { // a PDPTE: loaded with CR3, and refused there
            return mode.reserved | entry_execute_disable | 0x1E6;
        }
        std::uint64_t reserved = mode.reserved;
        if (level > 3 && (entry & entry_page_size) != 0) {
            reserved |= entry_page_size;
        }
        if (is_page && level > 1) { // bit 12 is PAT
            const std::uint64_t in_page = (std::uint64_t{1} << (12 + 9 * (level - 1))) - 1;
            reserved |= in_page & ~std::uint64_t{0x1FFF};
        }
        return reserved;
    }

    /// Whether a page fault says that it was a fetch: only where one may fail as such [sdm].
    template <class State>
    static constexpr bool tells_of_fetches(const State& state) {
        return (state.cr4 & cr4_smep) != 0 ||
               ((state.cr4 & cr4_physical_address_extension) != 0 && (state.efer & efer_nxe) != 0);
    }

    /// `rights`: writable and user where all entries are, execute-disable where one is.
    template <class State>
    static constexpr bool is_allowed(const State& state, std::uint64_t rights,
                                     pt::vcpu::memory_access access) {
        const bool user_page = (rights & entry_user) != 0;
        const bool is_user = state.cpl == 3;
        if (is_user && !user_page) {
            return false;
        }
        const bool supervisor_at_user_page = !is_user && user_page;
        if (access == pt::vcpu::memory_access::execute) {
            return (rights & entry_execute_disable) == 0 &&
                   !(supervisor_at_user_page && (state.cr4 & cr4_smep) != 0);
        }
        if (supervisor_at_user_page && (state.cr4 & cr4_smap) != 0 &&
            (state.rflags & rflags_alignment_check) == 0) {
            return false;
        }
        return access == pt::vcpu::memory_access::read || (rights & entry_writable) != 0 ||
               (!is_user && (state.cr0 & cr0_write_protect) == 0);
    }

    Processor* processor_;
    guest_ram ram_;
    unsigned width_;
};

} // namespace vmm::pc
