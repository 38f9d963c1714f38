// SPDX-License-Identifier: BSL-1.0
//
// The processor's local APIC, in whichever mode it is: registers in memory, or MSRs [sdm, Advanced
// Programmable Interrupt Controller].
#pragma once

#include "../../kernel/mmio.hpp"
#include "../../kernel/processor.hpp"

#include "pt/core/reg.hpp"
#include "pt/lapic/registers.hpp"

#include <cstdint>

namespace guest {

inline std::uint64_t read_msr(std::uint32_t number) {
    return kernel::read_msr(static_cast<kernel::msr>(number));
}
inline void write_msr(std::uint32_t number, std::uint64_t value) {
    kernel::write_msr(static_cast<kernel::msr>(number), value);
}
inline constexpr std::uint32_t tsc_deadline_msr = 0x6E0;

// Registers that a driver needs and a virtual local APIC does not: offsets in the page.
inline constexpr std::uint32_t eoi_offset = 0x0B0;
inline constexpr std::uint32_t in_service_offset = 0x100;
inline constexpr std::uint32_t trigger_mode_offset = 0x180;
inline constexpr std::uint32_t interrupt_request_offset = 0x200;
inline constexpr std::uint32_t lvt_timer_offset = 0x320;
inline constexpr std::uint32_t lvt_lint0_offset = 0x350;
inline constexpr std::uint32_t lvt_lint1_offset = 0x360;
inline constexpr std::uint32_t lvt_error_offset = 0x370;
inline constexpr std::uint32_t initial_count_offset = 0x380;
inline constexpr std::uint32_t current_count_offset = 0x390;

class local_apic {
public:
    static pt::lapic::apic_base base() {
        return pt::lapic::apic_base{read_msr(pt::lapic::apic_base::msr)};
    }
    static pt::lapic::apic_mode mode() { return base()[pt::lapic::apic_base::mode]; }
    static bool is_x2apic() { return mode() == pt::lapic::apic_mode::x2apic; }
    /// Its register page, in xAPIC mode.
    static kernel::mmio page() {
        return kernel::mmio{pt::hpa{base()[pt::lapic::apic_base::base].raw}};
    }
    static constexpr std::uint32_t msr_of(std::uint32_t offset) { return 0x800 + offset / 16; }

    static std::uint32_t read(std::uint32_t offset) {
        return is_x2apic() ? static_cast<std::uint32_t>(read_msr(msr_of(offset)))
                           : page().read32(offset);
    }
    static void write(std::uint32_t offset, std::uint32_t value) {
        is_x2apic() ? write_msr(msr_of(offset), value) : page().write32(offset, value);
    }
    template <class Register>
    static Register read() {
        return Register{static_cast<typename Register::word>(read(Register::offset))};
    }
    template <class Register>
    static void write(Register value) {
        write(Register::offset, value.raw);
    }

    static std::uint32_t id();
    /// Sends an interrupt command: in xAPIC mode in halves, of which the lower one sends, and when
    /// the one before is away.
    static void send(pt::lapic::interrupt_command command);
    static void end_of_interrupt() { write(eoi_offset, 0); }

    /// Whether that vector's bit is set in the register of 256 bits that begins at `offset`.
    static bool has_vector(std::uint32_t offset, std::uint8_t vector) {
        return (read(offset + 16U * (vector / 32U)) >> vector % 32 & 1) != 0;
    }
    /// Whether no bit of it is set.
    static bool has_no_vector(std::uint32_t offset);

    /// Software-enabled, nothing from the 8259s, every local source masked.
    static void enable(std::uint8_t spurious_vector);
};

/// Whether CPUID offers them.
bool has_x2apic();
bool has_tsc_deadline();
bool has_hypervisor();

} // namespace guest
