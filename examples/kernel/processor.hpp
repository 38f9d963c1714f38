// SPDX-License-Identifier: BSL-1.0
//
// What VMX and SVM want of the processor: its MSRs, CPUID, and bits of its control registers.
#pragma once

#include <cstdint>

namespace kernel {

enum class msr : std::uint32_t {
    feature_control = 0x3A,
    sysenter_cs = 0x174,
    sysenter_esp = 0x175,
    sysenter_eip = 0x176,
    pat = 0x277,
    vmx_basic = 0x480,
    vmx_misc = 0x485,
    vmx_cr0_fixed_0 = 0x486,
    vmx_cr4_fixed_0 = 0x488,
    vmx_cr4_fixed_1 = 0x489,
    vmx_secondary_controls = 0x48B,
    vmx_ept_vpid = 0x48C,
    vmx_true_pin_based_controls = 0x48D,
    vmx_true_processor_based_controls = 0x48E,
    vmx_true_exit_controls = 0x48F,
    vmx_true_entry_controls = 0x490,
    efer = 0xC000'0080,
    star = 0xC000'0081,
    lstar = 0xC000'0082,
    cstar = 0xC000'0083,
    fmask = 0xC000'0084,
    fs_base = 0xC000'0100,
    gs_base = 0xC000'0101,
    kernel_gs_base = 0xC000'0102,
    vm_cr = 0xC001'0114,
    vm_hsave_pa = 0xC001'0117,
};

inline std::uint64_t read_msr(msr which) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(which));
    return std::uint64_t{high} << 32 | low;
}

inline void write_msr(msr which, std::uint64_t value) {
    asm volatile("wrmsr" : : "c"(which), "a"(value), "d"(value >> 32) : "memory");
}

inline std::uint64_t read_cr0() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}
inline std::uint64_t read_cr2() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}
inline std::uint64_t read_cr3() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}
inline std::uint64_t read_cr4() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}
inline void write_cr0(std::uint64_t value) { asm volatile("mov %0, %%cr0" : : "r"(value)); }
inline void write_cr2(std::uint64_t value) { asm volatile("mov %0, %%cr2" : : "r"(value)); }
inline void write_cr4(std::uint64_t value) { asm volatile("mov %0, %%cr4" : : "r"(value)); }

struct cpuid_leaf {
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    std::uint32_t c = 0;
    std::uint32_t d = 0;
};

inline cpuid_leaf cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
    cpuid_leaf found{.a = leaf, .c = subleaf};
    asm volatile("cpuid" : "+a"(found.a), "=b"(found.b), "+c"(found.c), "=d"(found.d));
    return found;
}

/// MAXPHYADDR.
inline unsigned physical_width() { return cpuid(0x8000'0008).a & 0xFF; }

inline constexpr std::uint64_t cr0_protection_enable = 1U << 0;
inline constexpr std::uint64_t cr0_extension_type = 1U << 4;
inline constexpr std::uint64_t cr0_numeric_error = 1U << 5;
inline constexpr std::uint64_t cr0_paging = 1U << 31;
inline constexpr std::uint64_t cr4_physical_address_extension = 1U << 5;
inline constexpr std::uint64_t cr4_vmx_enable = 1U << 13;
inline constexpr std::uint64_t efer_long_mode_enable = 1U << 8;
inline constexpr std::uint64_t efer_long_mode_active = 1U << 10;
inline constexpr std::uint64_t efer_no_execute_enable = 1U << 11;
inline constexpr std::uint64_t efer_svm_enable = 1U << 12;
inline constexpr std::uint64_t rflags_reserved_1 = 1U << 1;
inline constexpr std::uint64_t rflags_trap_flag = 1U << 8;
inline constexpr std::uint64_t rflags_interrupt_flag = 1U << 9;

} // namespace kernel
