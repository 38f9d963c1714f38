// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// The words that VMX writes at a VM exit and reads at a VM entry [sdm]. The exit qualification of
/// each kind of exit is in a header of its own.
namespace pt::vmx {

/// Basic exit reasons [sdm, Appendix "VMX Basic Exit Reasons"]; 35, 38, 42, 71, 82 and 83 are not
/// used. Newer processors may report others.
enum class exit_reason : std::uint16_t {
    exception_or_nmi = 0,
    external_interrupt = 1,
    triple_fault = 2,
    init_signal = 3,
    start_up_ipi = 4,
    io_smi = 5,
    other_smi = 6,
    interrupt_window = 7,
    nmi_window = 8,
    task_switch = 9,
    cpuid = 10,
    getsec = 11,
    hlt = 12,
    invd = 13,
    invlpg = 14,
    rdpmc = 15,
    rdtsc = 16,
    rsm = 17,
    vmcall = 18,
    vmclear = 19,
    vmlaunch = 20,
    vmptrld = 21,
    vmptrst = 22,
    vmread = 23,
    vmresume = 24,
    vmwrite = 25,
    vmxoff = 26,
    vmxon = 27,
    control_register_access = 28,
    mov_dr = 29,
    io_instruction = 30,
    rdmsr = 31,
    wrmsr = 32,
    entry_failure_guest_state = 33,
    entry_failure_msr_loading = 34,
    mwait = 36,
    monitor_trap_flag = 37,
    monitor = 39,
    pause = 40,
    entry_failure_machine_check = 41,
    tpr_below_threshold = 43,
    apic_access = 44,
    virtualized_eoi = 45,
    gdtr_or_idtr_access = 46,
    ldtr_or_tr_access = 47,
    ept_violation = 48,
    ept_misconfiguration = 49,
    invept = 50,
    rdtscp = 51,
    preemption_timer_expired = 52,
    invvpid = 53,
    wbinvd = 54,
    xsetbv = 55,
    apic_write = 56,
    rdrand = 57,
    invpcid = 58,
    vmfunc = 59,
    encls = 60,
    rdseed = 61,
    page_modification_log_full = 62,
    xsaves = 63,
    xrstors = 64,
    pconfig = 65,
    spp_related_event = 66,
    umwait = 67,
    tpause = 68,
    loadiwkey = 69,
    enclv = 70,
    enqcmd_pasid_translation_failure = 72,
    enqcmds_pasid_translation_failure = 73,
    bus_lock = 74,
    instruction_timeout = 75,
    seamcall = 76,
    tdcall = 77,
    rdmsrlist = 78,
    wrmsrlist = 79,
    urdmsr = 80,
    uwrmsr = 81,
    rdmsr_immediate = 84,
    wrmsrns_immediate = 85,
};

/// The VM-exit information field "exit reason", 32 bits.
struct exit_reason_word : reg<exit_reason_word, std::uint32_t> {
    using reg::reg;
    // clang-format off
    /// Not an exit: VM entry failed behind the checks of the control fields. Nothing of the guest ran.
    static constexpr bits<31, 31, bool, access::read_only>        entry_failure{};
    static constexpr bits<29, 29, bool, access::read_only>        from_root_operation{}; ///< SMM
    static constexpr bits<28, 28, bool, access::read_only>        pending_mtf{};         ///< SMM
    static constexpr bits<27, 27, bool, access::read_only>        enclave_mode{};
    /// A bus lock was asserted, with "bus-lock detection"; also on exits for other reasons.
    static constexpr bits<26, 26, bool, access::read_only>        bus_lock{};
    /// The exit left a supervisor shadow stack busy before its time, with the exit control
    /// "prematurely busy shadow stack".
    static constexpr bits<25, 25, bool, access::read_only>        shadow_stack_prematurely_busy{};
    static constexpr bits<15,  0, exit_reason, access::read_only> basic{};
    // clang-format on
    static constexpr field_list fields{
        entry_failure, from_root_operation,           pending_mtf, enclave_mode,
        bus_lock,      shadow_stack_prematurely_busy, basic};
};

} // namespace pt::vmx
