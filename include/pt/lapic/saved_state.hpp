// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/lapic/timer.hpp"

#include <cstdint>
#include <type_traits>

namespace pt::lapic {

/// Everything that a local APIC holds, as plain values: to be written to a file, or sent to another
/// host. No address of the VMM is in it. Times are relative: see timer_state.
struct saved_state {
    static constexpr std::uint32_t current_version = 1;

    std::uint32_t version = current_version;
    std::uint32_t errors = 0; ///< ESR bits that the guest has not latched yet
    std::uint64_t base = 0;   ///< IA32_APIC_BASE
    /// The register at each multiple of 16 bytes from 0 to 0x3F0. At 0x310: ICR 63:32 in both
    /// modes; at 0x390, the current count: 0, the timer has it.
    std::uint32_t registers[64] = {};
    timer_state timer{};
    std::uint64_t latches = 0;  ///< inbox_signals that the virtual processor has yet to take
    std::uint32_t waiting = 0;  ///< 1: for a SIPI
    std::uint32_t asserted = 0; ///< bit 0: LINT0, bit 1: LINT1

    friend constexpr bool operator==(const saved_state&, const saved_state&) = default;
};
static_assert(std::is_trivially_copyable_v<saved_state>);

} // namespace pt::lapic
