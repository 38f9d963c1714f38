// SPDX-License-Identifier: BSL-1.0
//
// The host of a guest: what interrupts it, and who its virtual processors are.
#pragma once

#include "../kernel.hpp"

#include "pt/core/address.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include <cstdint>

namespace guest_tests {

/// The real local APIC, and its registers [sdm, Local APIC Register Address Map].
inline kernel::mmio host_apic() { return kernel::mmio{pt::hpa{0xFEE0'0000}}; }
inline constexpr std::uint32_t end_of_interrupt = 0x0B0;
inline constexpr std::uint32_t interrupt_command = 0x300;
inline constexpr std::uint32_t lvt_timer = 0x320;
inline constexpr std::uint32_t initial_count = 0x380;

/// Stands for a device of the guest: an interrupt of the host's with that vector.
inline void interrupt_host(std::uint8_t vector) {
    constexpr std::uint32_t to_self = 1U << 18; // fixed, edge
    host_apic().write32(interrupt_command, to_self | vector);
}

/// vcpu_set: the one there is. Nobody has to be notified, as all happens on one processor, which has
/// exited.
struct only_vcpu {
    pt::lapic::inbox* its;

    std::uint32_t count() { return 1; }
    pt::lapic::inbox& inbox(std::uint32_t) { return *its; }
    void notify(std::uint32_t, pt::lapic::notification) {}
};
static_assert(pt::lapic::vcpu_set<only_vcpu>);

} // namespace guest_tests
