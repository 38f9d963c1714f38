// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::lapic {

/// The bootstrap processor runs after power-up and after INIT; the others wait for a SIPI [sdm, MP
/// Initialization Protocol].
enum class processor_role : std::uint8_t { bootstrap, application };

/// Whether the guest is offered to suppress the broadcast of EOI (version register bit 24). Offer
/// it only together with an I/O APIC that has the EOI register which the guest uses then.
enum class eoi_broadcast_suppression : std::uint8_t { absent, offered };

/// Which local APIC of the guest it is; the same as its CPUID says.
struct identity {
    std::uint32_t apic_id = 0; ///< not 0xFFFF'FFFF; xAPIC mode shows the low 8 bits of it
    processor_role role = processor_role::bootstrap;
    eoi_broadcast_suppression suppression = eoi_broadcast_suppression::absent;
    std::uint8_t physical_address_width = 52; ///< MAXPHYADDR of the guest, 32..52
};

} // namespace pt::lapic
