// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/vector_set.hpp"

#include <cstdint>

/// What a VMM writes into the VMCS so that the processor takes over parts of the local APIC, whose
/// register page is the virtual-APIC page then [sdm, APIC Virtualization and Virtual Interrupts].
/// After each exit local_apic::after_hardware() looks at what the processor has done.
namespace pt::lapic {

/// Guest interrupt status: what virtual-interrupt delivery starts from.
struct guest_interrupt_status : reg<guest_interrupt_status, std::uint16_t> {
    using reg::reg;
    static constexpr bits<15, 8, std::uint8_t> servicing_virtual_interrupt{}; ///< SVI
    static constexpr bits<7, 0, std::uint8_t> requesting_virtual_interrupt{}; ///< RVI
    static constexpr field_list fields{servicing_virtual_interrupt, requesting_virtual_interrupt};

    /// RVI is the highest vector in IRR, SVI the highest in ISR; 0: none.
    [[nodiscard]] static constexpr guest_interrupt_status of(const register_page& page) {
        return guest_interrupt_status{servicing_virtual_interrupt(page.isr.highest()),
                                      requesting_virtual_interrupt(page.irr.highest())};
    }
};

/// EOI_EXIT0..3: vector v is bit v % 64 of word v / 64. The EOI of a vector inside exits.
struct eoi_exit_bitmap {
    std::uint64_t words[4]{};

    /// Those that are level-triggered, for which the I/O APICs wait.
    [[nodiscard]] static constexpr eoi_exit_bitmap of(const register_page& page) {
        eoi_exit_bitmap exits;
        for (std::uint32_t i = 0; i != 8; ++i) {
            exits.words[i / 2] |= std::uint64_t{page.tmr.words[i].bits} << (i % 2 * 32);
        }
        return exits;
    }

    /// One more, e.g. the vector of a pin that a guest has programmed as edge-triggered though its line is
    /// level-triggered: its EOI is what level_route waits for.
    constexpr void insert(std::uint8_t vector) {
        words[vector / 64] |= std::uint64_t{1} << (vector % 64);
    }
    [[nodiscard]] constexpr bool contains(std::uint8_t vector) const {
        return ((words[vector / 64] >> (vector % 64)) & 1) != 0;
    }

    friend constexpr bool operator==(const eoi_exit_bitmap&, const eoi_exit_bitmap&) = default;
};

} // namespace pt::lapic
