// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/vcpu/msr.hpp"

#include <cstdint>

namespace pt::vcpu {

/// MSRs that no guest may reach in this way.
struct protected_msrs {
    msr_range msrs;
    msr_access access = msr_access::read_write;
};

/// What would give a guest the host: they move or command the host's interrupt controller, hold
/// physical addresses that the processor uses without EPT or nested paging, decide what host memory
/// is and how it is cached, load microcode, turn the host's clock, or hold the host's own state
/// while the guest runs.
///
/// Not here is what an entry and an exit can exchange, because opening it is right as soon as they
/// do, and only the VMM knows. SYSENTER_CS/ESP/EIP, FS and GS base: VMX loads the host's at every
/// exit. EFER, PAT, PERF_GLOBAL_CTRL, BNDCFGS: with the "load" and "save" controls of their names
/// [sdm, VM-Exit Control Fields]; without "load IA32_EFER" on exit a guest that may write EFER
/// takes NXE from the host. STAR, LSTAR, FMASK, KERNEL_GS_BASE, XSS: with the MSR-load areas, or
/// VMSAVE and VMLOAD [amd]. So it is with TSC_AUX, the shadow-stack MSRs, PKRS, SPEC_CTRL, DEBUGCTL and
/// DS_AREA, which a VMM that opens them exchanges by itself or by their controls.
// clang-format off
inline constexpr protected_msrs never_open[] = {
    // [sdm] Architectural MSRs
    {{0x10, 0x10},     msr_access::write},      // TIME_STAMP_COUNTER: no offset
    {{0x1B, 0x1B},     msr_access::read_write}, // APIC_BASE: moves or disables the real local APIC
    {{0x3A, 0x3B},     msr_access::write},      // FEATURE_CONTROL, TSC_ADJUST
    {{0x79, 0x79},     msr_access::write},      // BIOS_UPDT_TRIG: loads microcode
    {{0x9B, 0x9B},     msr_access::write},      // SMM_MONITOR_CTL
    {{0x17A, 0x17B},   msr_access::write},      // MCG_STATUS, MCG_CTL: the host's machine checks
    {{0x1A0, 0x1A0},   msr_access::write},      // MISC_ENABLE: features of the whole processor
    {{0x1F2, 0x1F3},   msr_access::write},      // SMRR_PHYSBASE, _PHYSMASK
    {{0x200, 0x26F},   msr_access::write},      // MTRR_PHYSBASE0 on .. MTRR_FIX4K_F8000
    {{0x280, 0x29F},   msr_access::write},      // MC0_CTL2 on: corrected machine checks
    {{0x2FF, 0x2FF},   msr_access::write},      // MTRR_DEF_TYPE
    {{0x400, 0x47F},   msr_access::write},      // MC0_CTL on: a guest that clears them hides errors
    {{0x4D0, 0x4D0},   msr_access::write},      // MCG_EXT_CTL
    {{0x560, 0x561},   msr_access::write},      // RTIT_OUTPUT_BASE, _MASK_PTRS
    {{0x570, 0x570},   msr_access::write},      // RTIT_CTL: a trace of packets to memory
    {{0x6E0, 0x6E0},   msr_access::read_write}, // TSC_DEADLINE: the real APIC timer
    {{0x800, 0x8FF},   msr_access::read_write}, // the real x2APIC: IPIs to any processor
    {{0x982, 0x982},   msr_access::write},      // TME_ACTIVATE: the key of the memory
    {{0x17D0, 0x17D1}, msr_access::write},      // HW_FEEDBACK_PTR, _CONFIG: a table in memory
    // [amd] MSRs of Memory Configuration, SMM and SVM
    {{0xC001'0010, 0xC001'0010}, msr_access::write},      // SYSCFG
    {{0xC001'0015, 0xC001'001A}, msr_access::write},      // HWCR, IORRs, TOP_MEM
    {{0xC001'001D, 0xC001'001D}, msr_access::write},      // TOP_MEM2
    {{0xC001'0020, 0xC001'0020}, msr_access::write},      // PATCH_LOADER: loads microcode
    {{0xC001'0044, 0xC001'004F}, msr_access::write},      // MC0_CTL_MASK on: machine checks not seen
    {{0xC001'0050, 0xC001'0058}, msr_access::write},      // SMI on I/O, MMIO configuration base
    {{0xC001'0111, 0xC001'011B}, msr_access::read_write}, // SMM, VM_CR, VM_HSAVE_PA, doorbell
    {{0xC001'0132, 0xC001'0136}, msr_access::write},      // RMP: who owns which page
    {{0xC001'0400, 0xC001'04FF}, msr_access::write},      // MCA_CTL_MASK of scalable machine checks
};
// clang-format on

/// errc::refused with the first MSR of `msrs` that may not be opened for that access.
[[nodiscard]] constexpr result<> check_unprotected(msr_range msrs, msr_access access) {
    for (const protected_msrs& never : never_open) { // in ascending order
        const unsigned both = static_cast<unsigned>(never.access) & static_cast<unsigned>(access);
        if (both != 0 && never.msrs.first <= msrs.last && msrs.first <= never.msrs.last) {
            return error{errc::refused,
                         msrs.first > never.msrs.first ? msrs.first : never.msrs.first};
        }
    }
    return {};
}

} // namespace pt::vcpu
