// SPDX-License-Identifier: BSL-1.0
//
// What a processor has for SVM: the VMCB, and the way into a guest.
#pragma once

#include "mmio.hpp"

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/x86_64.hpp"
#include "pt/svm/event.hpp"
#include "pt/svm/exit.hpp"
#include "pt/svm/interrupt_control.hpp"
#include "pt/vcpu/event.hpp"

#include <cstddef>
#include <cstdint>

namespace kernel {

// ------------------------------------------------------------------------------------ the VMCB

/// [amd, Layout of VMCB]
struct vmcb_segment {
    std::uint16_t selector;
    std::uint16_t attributes; ///< bits 55:52 and 47:40 of a descriptor
    std::uint32_t limit;
    std::uint64_t base;
};

struct vmcb {
    std::uint16_t cr_read_intercepts;
    std::uint16_t cr_write_intercepts;
    std::uint32_t dr_intercepts;
    std::uint32_t exception_intercepts;
    std::uint32_t intercepts[2]; ///< by the numbers of enum intercept
    std::uint8_t not_used_1[0x40 - 0x14];
    std::uint64_t iopm_base_pa;
    std::uint64_t msrpm_base_pa;
    std::uint64_t tsc_offset;
    std::uint32_t guest_asid;
    std::uint32_t tlb_control;
    pt::svm::virtual_interrupt_control interrupt_control;
    pt::svm::guest_interrupt_state interrupt_state;
    pt::svm::exit_code exit_code;
    std::uint64_t exit_info_1;
    std::uint64_t exit_info_2;
    pt::svm::exit_interrupt_information exit_interrupt;
    std::uint64_t nested_paging;
    std::uint8_t not_used_2[0xA8 - 0x98];
    pt::svm::event_injection injection;
    std::uint64_t nested_cr3;
    std::uint64_t lbr_virtualization;
    std::uint64_t clean;
    std::uint64_t next_rip;
    std::uint8_t not_used_3[0x400 - 0xD0];

    vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    std::uint8_t not_used_4[0x4CB - 0x4A0];
    std::uint8_t cpl;
    std::uint32_t not_used_5;
    std::uint64_t efer;
    std::uint8_t not_used_6[0x548 - 0x4D8];
    std::uint64_t cr4, cr3, cr0, dr7, dr6, rflags, rip;
    std::uint8_t not_used_7[0x5D8 - 0x580];
    std::uint64_t rsp;
    std::uint8_t not_used_8[0x5F8 - 0x5E0];
    std::uint64_t rax;
    std::uint8_t not_used_9[0x640 - 0x600];
    std::uint64_t cr2;
    std::uint8_t not_used_10[0x668 - 0x648];
    std::uint64_t pat;
};
static_assert(offsetof(vmcb, iopm_base_pa) == 0x40 && offsetof(vmcb, exit_code) == 0x70);
static_assert(offsetof(vmcb, injection) == 0xA8 && offsetof(vmcb, next_rip) == 0xC8);
static_assert(offsetof(vmcb, tr) == 0x490 && offsetof(vmcb, efer) == 0x4D0);
static_assert(offsetof(vmcb, rip) == 0x578 && offsetof(vmcb, rax) == 0x5F8);
static_assert(offsetof(vmcb, cr2) == 0x640 && offsetof(vmcb, pat) == 0x668);

/// Instructions and events that exit, by their bits from offset 0Ch of the VMCB on.
enum class intercept : std::uint8_t {
    intr = 0,
    nmi = 1,
    smi = 2,
    init = 3,
    vintr = 4,
    rdpmc = 15,
    cpuid = 18,
    iret = 20,
    invd = 22,
    hlt = 24,
    invlpga = 26,
    ioio = 27,
    msr = 28,
    shutdown = 31,
    vmrun = 32, ///< without it VMRUN takes no VMCB
    vmmcall = 33,
    vmload = 34,
    vmsave = 35,
    stgi = 36,
    clgi = 37,
    skinit = 38,
    rdtscp = 39,
    wbinvd = 41,
    monitor = 42,
    mwait = 43,
    mwait_conditional = 44, ///< MWAIT while the monitor is armed
    xsetbv = 45,
};

/// Makes the intercept active, or not.
inline void turn_on(vmcb& words, intercept what) {
    const auto bit = static_cast<unsigned>(what);
    words.intercepts[bit / 32] |= 1U << (bit % 32);
}
inline void turn_off(vmcb& words, intercept what) {
    const auto bit = static_cast<unsigned>(what);
    words.intercepts[bit / 32] &= ~(1U << (bit % 32));
}
inline void turn_on(vmcb& words, pt::vcpu::exception_vector what) {
    words.exception_intercepts |= 1U << static_cast<unsigned>(what);
}
inline void turn_off(vmcb& words, pt::vcpu::exception_vector what) {
    words.exception_intercepts &= ~(1U << static_cast<unsigned>(what));
}

// ------------------------------------------------------------------------------- the processor

/// Turns SVM on, and no-execute with it: the host's is that of nested tables as well. `host_state`:
/// a frame for what VMRUN saves. The run ends on a processor that has no SVM or no nested paging.
void turn_on_svm(pt::hpa host_state);
void turn_off_svm();

/// Nested tables as this processor walks them.
pt::x86_64::nested_paging nested_format();

/// CPUID Fn8000_000A, EDX bit 3: whether there is an nRIP.
bool has_next_rip();

} // namespace kernel

/// Runs the guest of the VMCB until it exits. `general`: its registers by their numbers, of which
/// RAX and RSP are in the VMCB instead; `host`: a frame for VMSAVE. In svm_entry.S.
extern "C" void svm_enter(std::uint64_t* general, std::uint64_t vmcb, std::uint64_t host);
