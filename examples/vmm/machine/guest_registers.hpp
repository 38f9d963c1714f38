// SPDX-License-Identifier: BSL-1.0
//
// Registers of a guest that the worlds keep themselves, or leave to the processor.
#pragma once

#include "../world.hpp"

#include "pt/core/result.hpp"
#include "pt/vcpu/msr.hpp"

#include <cstdint>

namespace vmm {

inline constexpr std::uint32_t efer_number = 0xC000'0080;
inline constexpr std::uint32_t pat_number = 0x277;

/// IA32_PAT as a reset leaves it.
inline constexpr std::uint64_t pat_after_reset = 0x0007'0406'0007'0406;

/// Bits of CR4 that a guest may set, since CPUID shows it what they turn on.
inline constexpr std::uint64_t cr4_of_a_guest = 0x7FF       // VME to OSXMMEXCPT
                                                | 1U << 16  // FSGSBASE
                                                | 1U << 20  // SMEP
                                                | 1U << 21; // SMAP

/// MSRs that a guest reads and writes without an exit: a guest's own are in the processor while it
/// is in its turn, and the VMM uses none of them.
inline constexpr pt::vcpu::msr_range open_msrs[] = {
    {0x174, 0x176},             // SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP
    {0xC000'0081, 0xC000'0084}, // STAR, LSTAR, CSTAR, FMASK
    {0xC000'0100, 0xC000'0102}, // FS_BASE, GS_BASE, KERNEL_GS_BASE
};

/// What EFER holds after a guest's WRMSR. LMA is not software's. errc::malformed with the value:
/// #GP, as for reserved bits and for LME while paging is on [sdm, IA32_EFER] [amd].
[[nodiscard]] constexpr pt::result<std::uint64_t> efer_after(const cpu_state& cpu,
                                                             std::uint64_t written) {
    constexpr std::uint64_t system_call = 1U << 0;
    constexpr std::uint64_t long_mode_enable = 1U << 8;
    constexpr std::uint64_t long_mode_active = cpu_state::efer_long_mode_active;
    constexpr std::uint64_t no_execute = 1U << 11;
    constexpr std::uint64_t software = system_call | long_mode_enable | no_execute;
    const bool paging = (cpu.cr0 & cpu_state::cr0_paging) != 0;
    if ((written & ~(software | long_mode_active)) != 0 ||
        (paging && ((written ^ cpu.efer) & long_mode_enable) != 0)) {
        return pt::error{pt::errc::malformed, written};
    }
    return (written & software) | (cpu.efer & long_mode_active);
}

/// Whether PAT takes that value: eight memory types that there are [sdm, IA32_PAT MSR].
[[nodiscard]] constexpr bool is_pat(std::uint64_t value) {
    constexpr unsigned types = 1U << 0 | 1U << 1 | 1U << 4 | 1U << 5 | 1U << 6 | 1U << 7;
    for (unsigned entry = 0; entry != 8; ++entry) {
        const auto type = static_cast<unsigned>(value >> 8 * entry & 0xFF);
        if (type > 7 || (types >> type & 1) == 0) {
            return false;
        }
    }
    return true;
}

/// After an exit by RDMSR or WRMSR: does it if the MSR is one that the world keeps, and then the
/// exit is handled.
template <class World>
void handle_own_msr(World& world, vm_exit& exit) {
    using enum pt::vcpu::general_register;
    pt::vcpu::general_registers& general = world.general();
    const auto number = static_cast<std::uint32_t>(general[rcx]);
    pt::result<void> done{};
    if (exit.kind == exit_kind::write_msr) {
        done = world.write_msr(number, general[rdx] << 32 | (general[rax] & 0xFFFF'FFFF));
    } else if (const auto value = world.read_msr(number)) {
        general[rax] = *value & 0xFFFF'FFFF;
        general[rdx] = *value >> 32;
    } else {
        done = value.error();
    }
    if (!done && done.error().code == pt::errc::absent) {
        return;
    }
    exit.kind = exit_kind::handled;
    exit.raise = done ? world.finish_instruction(exit.length)
                      : pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0);
}

} // namespace vmm
