// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>

/// The words that SVM writes at a #VMEXIT and reads at a VMRUN: fields of the VMCB's control area
/// [amd, AMD64 Architecture Programmer's Manual, Volume 2].
namespace pt::svm {

/// EXITCODE, 64 bits [amd, Appendix "SVM Intercept Exit Codes"]. Reads and writes of control
/// registers, of debug registers and exceptions come in rows of 16 and 32: the first of a row stands
/// for all, see number_of.
enum class exit_code : std::uint64_t {
    cr0_read = 0x00,    ///< row of 16: CR0..CR15
    cr0_write = 0x10,   ///< row of 16
    dr0_read = 0x20,    ///< row of 16: DR0..DR15
    dr0_write = 0x30,   ///< row of 16
    exception_0 = 0x40, ///< row of 32: by vector
    intr = 0x60,        ///< the interrupt is still pending: there is no acknowledge on exit
    nmi = 0x61,         ///< still pending
    smi = 0x62,
    init = 0x63,
    vintr = 0x64, ///< the guest is about to take a virtual interrupt: the interrupt window
    cr0_selective_write = 0x65,
    idtr_read = 0x66,
    gdtr_read = 0x67,
    ldtr_read = 0x68,
    tr_read = 0x69,
    idtr_write = 0x6A,
    gdtr_write = 0x6B,
    ldtr_write = 0x6C,
    tr_write = 0x6D,
    rdtsc = 0x6E,
    rdpmc = 0x6F,
    pushf = 0x70,
    popf = 0x71,
    cpuid = 0x72,
    rsm = 0x73,
    iret = 0x74,
    software_interrupt = 0x75, ///< INT n
    invd = 0x76,
    pause = 0x77,
    hlt = 0x78,
    invlpg = 0x79,
    invlpga = 0x7A,
    ioio = 0x7B,
    msr = 0x7C, ///< EXITINFO1: 0 is RDMSR, 1 is WRMSR
    task_switch = 0x7D,
    ferr_freeze = 0x7E,
    shutdown = 0x7F,
    vmrun = 0x80,
    vmmcall = 0x81,
    vmload = 0x82,
    vmsave = 0x83,
    stgi = 0x84,
    clgi = 0x85,
    skinit = 0x86,
    rdtscp = 0x87,
    icebp = 0x88, ///< INT1
    wbinvd = 0x89,
    monitor = 0x8A,
    mwait = 0x8B,
    mwait_conditional = 0x8C,
    xsetbv = 0x8D,
    rdpru = 0x8E,
    efer_write_trap = 0x8F,
    cr0_write_trap = 0x90, ///< row of 16
    invlpgb = 0xA0,
    invlpgb_illegal = 0xA1,
    invpcid = 0xA2,
    mcommit = 0xA3,
    tlbsync = 0xA4,
    bus_lock = 0xA5,
    idle_hlt = 0xA6,
    nested_page_fault = 0x400,
    avic_incomplete_ipi = 0x401,
    avic_no_acceleration = 0x402,
    vmgexit = 0x403,
    invalid = 0xFFFF'FFFF'FFFF'FFFF, ///< VMRUN did not take the VMCB; nothing of the guest ran
    busy = 0xFFFF'FFFF'FFFF'FFFE,    ///< the VMSA is in use
    idle_required = 0xFFFF'FFFF'FFFF'FFFD,
    invalid_pmc = 0xFFFF'FFFF'FFFF'FFFC,
};

/// Which one of a row an exit code is: the register, or the vector, e.g. 8 for
/// number_of(exit_code{0x18}, exit_code::cr0_write). errc::absent with the code when it is not of the
/// row that begins with `first`, or `first` begins none.
[[nodiscard]] constexpr result<std::uint8_t> number_of(exit_code code, exit_code first) {
    const auto raw = static_cast<std::uint64_t>(code);
    std::uint64_t length = 0;
    switch (first) {
    case exit_code::cr0_read:
    case exit_code::cr0_write:
    case exit_code::dr0_read:
    case exit_code::dr0_write:
    case exit_code::cr0_write_trap: length = 16; break;
    case exit_code::exception_0: length = 32; break;
    default: break;
    }
    const std::uint64_t number = raw - static_cast<std::uint64_t>(first);
    if (number >= length) {
        return error{errc::absent, raw};
    }
    return static_cast<std::uint8_t>(number);
}

} // namespace pt::svm
