// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "protected_memory.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// How an interrupt request ended.
struct interrupt_outcome {
    bool delivered = false;
    bool remapped = false; ///< through the table, and not as the device wrote it
    bool posted = false;   ///< into the descriptor at `descriptor`, and not delivered
    unsigned vector = 0;
    std::uint32_t destination = 0;
    unsigned delivery_mode = 0; ///< 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT
    bool logical = false;
    bool redirection_hint = false;
    bool level = false;
    std::uint64_t descriptor = 0;
    bool urgent = false;
    unsigned reason = 0; ///< why it was blocked
    unsigned index = 0;  ///< the entry, where one was meant
};

/// Interrupt remapping [vt-d, "Interrupt Remapping"].
struct unit_interrupts : unit_protected_memory {
    using unit_protected_memory::unit_protected_memory;

    std::uint64_t irta = 0;
    std::uint64_t interrupt_table =
        0; ///< as it was when SIRTP was carried out, as are the next two
    std::uint64_t interrupt_entries = 0;
    bool extended_interrupts = false; ///< EIME: x2APIC destinations
    bool has_interrupt_table = false;

    /// A write of `data` to `address` (0xFEEx'xxxx) by `source_id`.
    constexpr interrupt_outcome interrupt(std::uint16_t source_id, std::uint64_t address,
                                          std::uint32_t data) {
        if ((gsts & IRE) == 0) {
            return as_written(address, data);
        }
        if (owes_interrupts) {
            memory->blame("interrupts remapped before the entry cache was emptied after SIRTP");
        }
        if ((address >> 4 & 1) == 0) {
            if (extended_interrupts || (gsts & CFI) == 0) {
                return block_interrupt(source_id, 0, 0x25, false);
            }
            return as_written(address, data);
        }
        const bool has_subhandle = (address >> 3 & 1) != 0;
        const auto handle =
            static_cast<unsigned>((address >> 5 & 0x7FFF) | (address >> 2 & 1) << 15);
        const unsigned index = handle + (has_subhandle ? data & 0xFFFF : 0);
        if (has_subhandle && data >> 16 != 0) {
            return block_interrupt(source_id, index, 0x20, false);
        }
        if (index >= interrupt_entries) {
            return block_interrupt(source_id, index, 0x21, false);
        }
        cached_interrupt entry;
        if (!look_up_interrupt(index, entry)) {
            return block_interrupt(source_id, index, 0x23, false);
        }
        const bool silent = (entry.low & 2) != 0;
        if (!entry.present) {
            return block_interrupt(source_id, index, 0x22, silent);
        }
        if (is_malformed(entry)) {
            return block_interrupt(source_id, index, 0x24, silent);
        }
        if (!is_from(entry.high, source_id)) {
            return block_interrupt(source_id, index, 0x26, silent);
        }
        interrupt_outcome o;
        o.remapped = true;
        o.index = index;
        o.vector = static_cast<unsigned>(entry.low >> 16 & 0xFF);
        if ((entry.low >> 15 & 1) != 0) {
            o.posted = true;
            o.urgent = (entry.low >> 14 & 1) != 0;
            o.descriptor = (entry.high & 0xFFFF'FFFF'0000'0000) | (entry.low >> 32 & 0xFFFF'FFC0);
            return o;
        }
        o.delivered = true;
        o.logical = (entry.low >> 2 & 1) != 0;
        o.redirection_hint = (entry.low >> 3 & 1) != 0;
        o.level = (entry.low >> 4 & 1) != 0;
        o.delivery_mode = static_cast<unsigned>(entry.low >> 5 & 7);
        const auto destination = static_cast<std::uint32_t>(entry.low >> 32);
        o.destination = extended_interrupts ? destination : destination >> 8;
        return o;
    }

protected:
    constexpr void write_interrupt_table_address(std::uint64_t value) {
        if ((value & 0x7F0) != 0 || value >> host_address_width != 0) {
            memory->blame("reserved bits of IRTA");
        }
        if ((value >> 11 & 1) != 0 && (ecap & ecap_eim) == 0) {
            memory->blame("extended interrupt mode on a unit without it");
        }
        if ((gsts & IRE) != 0 && ((value ^ irta) >> 11 & 1) != 0) {
            memory->blame("another interrupt mode while interrupts are remapped");
        }
        irta = value;
    }
    constexpr void take_interrupt_table() {
        if ((ecap & ecap_ir) == 0) {
            memory->blame("an interrupt remapping table for a unit without interrupt remapping");
        }
        interrupt_table = irta & ~std::uint64_t{0xFFF};
        interrupt_entries = std::uint64_t{2} << (irta & 0xF);
        extended_interrupts = (irta >> 11 & 1) != 0;
        has_interrupt_table = true;
        owes_interrupts = true;
        if ((cap & cap_esirtps) != 0) {
            forget_interrupts(true, 0, 0);
        }
        if (!memory->has(interrupt_table) ||
            !memory->has(interrupt_table + interrupt_entries * 16 - 1)) {
            memory->blame("an interrupt remapping table where the machine has no memory for it");
        }
        learn_interrupts(interrupt_table, interrupt_entries);
    }
    constexpr void reset_interrupts() {
        irta = interrupt_table = interrupt_entries = 0;
        extended_interrupts = has_interrupt_table = false;
    }
    /// What the walker sees at `address`; false where there is no table.
    constexpr bool walk(std::uint64_t address, std::uint64_t& entry) {
        if (!memory->has(address)) {
            return false;
        }
        if (!memory->taken(address)) {
            memory->blame("hardware walked a frame that was given back");
            return false;
        }
        entry = (cap & cap_rwbf) != 0 ? memory->visible_at(address) : memory->published_at(address);
        return true;
    }

private:
    static constexpr interrupt_outcome as_written(std::uint64_t address, std::uint32_t data) {
        interrupt_outcome o;
        o.delivered = true;
        o.vector = data & 0xFF;
        o.delivery_mode = data >> 8 & 7;
        o.level = (data >> 15 & 1) != 0;
        o.destination = static_cast<std::uint32_t>(address >> 12 & 0xFF);
        o.redirection_hint = (address >> 3 & 1) != 0;
        o.logical = (address >> 2 & 1) != 0;
        return o;
    }
    constexpr bool look_up_interrupt(unsigned index, cached_interrupt& found) {
        for (const cached_interrupt& entry : interrupts) {
            if (entry.valid && entry.index == index) {
                found = entry;
                return true;
            }
        }
        const std::uint64_t at = interrupt_table + std::uint64_t{index} * 16;
        found = {.index = index};
        if (!walk(at, found.low) || !walk(at + 8, found.high)) {
            return false;
        }
        found.present = (found.low & 1) != 0;
        if (found.present || caching_mode()) {
            found.valid = true;
            interrupts[place(next_interrupt, 32)] = found;
        }
        return true;
    }
    constexpr bool is_malformed(const cached_interrupt& entry) const {
        if ((entry.high >> 18 & 3) == 3) {
            return true;
        }
        if ((entry.low >> 15 & 1) != 0) {
            return (cap & cap_pi) == 0 || (entry.low & 0x0000'003F'FF00'30FC) != 0 ||
                   (entry.high & 0xFFF0'0000) != 0;
        }
        const std::uint64_t of_destination =
            extended_interrupts ? 0 : 0xFFFF'00FF'0000'0000; // only bits 15:8 of it
        const auto mode = static_cast<unsigned>(entry.low >> 5 & 7);
        return (entry.low & (0xFF00'7000 | of_destination)) != 0 || mode == 3 || mode == 6 ||
               entry.high >> 20 != 0;
    }
    static constexpr bool is_from(std::uint64_t high, std::uint16_t source_id) {
        const auto type = static_cast<unsigned>(high >> 18 & 3);
        const auto qualifier = static_cast<unsigned>(high >> 16 & 3);
        if (type == 0) {
            return true;
        }
        if (type == 1) {
            return ((source_id ^ high) & 0xFFFF & ~masked_functions(qualifier)) == 0;
        }
        const unsigned bus = source_id >> 8;
        return bus >= (high >> 8 & 0xFF) && bus <= (high & 0xFF);
    }
    constexpr interrupt_outcome block_interrupt(std::uint16_t source_id, unsigned index,
                                                unsigned reason, bool silent) {
        if (!silent) {
            record(std::uint64_t{index & 0xFFFF} << 48,
                   std::uint64_t{source_id} | std::uint64_t{reason} << 32);
        }
        interrupt_outcome o;
        o.reason = reason;
        o.index = index;
        return o;
    }
};

} // namespace vtd_model
