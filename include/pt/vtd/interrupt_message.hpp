// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/interrupt_message.hpp"

#include <cstdint>

namespace pt::vtd {

/// A message that raises an interrupt of this machine [sdm, "Message Signalled Interrupts"]: what a
/// function, or a unit for its own events, is given to write.
struct interrupt_message : pci::interrupt_message {
    friend constexpr bool operator==(const interrupt_message&, const interrupt_message&) = default;

    /// In compatibility format: vector `vector` (16 to 255), edge-triggered, delivery mode fixed,
    /// to the one processor whose xAPIC id is `apic_id` (physical destination).
    [[nodiscard]] static constexpr interrupt_message compatibility(std::uint8_t vector,
                                                                   std::uint8_t apic_id) {
        return {window | std::uint64_t{apic_id} << destination_shift, vector};
    }

    /// The same to a processor with an x2APIC id, of which bits 31:8 go where a device could not
    /// put them, into bits 63:40 of the address. Only a remapping unit's own events may look so
    /// [vt-d, "Fault Event Upper Address Register"], and only where ECAP.EIM is set and the unit is
    /// in extended interrupt mode. Below 256 it is the compatibility format.
    [[nodiscard]] static constexpr interrupt_message extended(std::uint8_t vector,
                                                              std::uint32_t x2apic_id) {
        return {window | std::uint64_t{x2apic_id & 0xFF} << destination_shift |
                    std::uint64_t{x2apic_id & ~std::uint32_t{0xFF}} << 32,
                vector};
    }

    /// Where writes are interrupt requests.
    static constexpr std::uint64_t window = 0xFEE0'0000;
    static constexpr std::uint64_t window_size = 0x10'0000;

private:
    static constexpr unsigned destination_shift = 12;
};

} // namespace pt::vtd
