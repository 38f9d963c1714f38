// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"

#include <cstdint>

/// What the processor says about a VM exit: the exit reason and the exit qualifications [sdm].
namespace pt::vmx {

/// Basic exit reasons [sdm, VMX Basic Exit Reasons]. Newer processors may report others.
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
};

/// The VM-exit information field "exit reason", 32 bits [sdm].
struct exit_reason_word : reg<exit_reason_word, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>        entry_failure{}; ///< not an exit: VM entry failed
    static constexpr bits<29, 29, bool, access::read_only>        from_root_operation{};
    static constexpr bits<28, 28, bool, access::read_only>        pending_mtf{};
    static constexpr bits<27, 27, bool, access::read_only>        enclave_mode{};
    static constexpr bits<26, 26, bool, access::read_only>        bus_lock{};
    static constexpr bits<15,  0, exit_reason, access::read_only> basic{};
    // clang-format on
    static constexpr field_list fields{
        entry_failure, from_root_operation, pending_mtf, enclave_mode, bus_lock, basic};
};

enum class io_direction : std::uint8_t { out = 0, in = 1 };
enum class io_operand : std::uint8_t { dx = 0, immediate = 1 };

/// Exit qualification for I/O instructions, 64 bits [sdm].
struct io_instruction_qualification : reg<io_instruction_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only> port_number{};
    static constexpr bits< 6,  6, io_operand, access::read_only>    operand{};
    static constexpr bits< 5,  5, bool, access::read_only>          rep_prefixed{};
    static constexpr bits< 4,  4, bool, access::read_only>          string{};      ///< INS or OUTS
    static constexpr bits< 3,  3, io_direction, access::read_only>  direction{};
    static constexpr bits< 2,  0, std::uint8_t, access::read_only>  size_of_access{}; ///< encoded; see size()
    // clang-format on
    static constexpr field_list fields{port_number, operand,   rep_prefixed,
                                       string,      direction, size_of_access};

    [[nodiscard]] constexpr io_port port() const { return io_port{(*this)[port_number]}; }

    /// How wide the access is. errc::malformed with the encoding for those that the manual does not
    /// use; a processor does not report them, but a hypervisor below might.
    [[nodiscard]] constexpr result<width> size() const {
        switch ((*this)[size_of_access]) {
        case 0: return width::byte;
        case 1: return width::word;
        case 3: return width::dword;
        default: return error{errc::malformed, (*this)[size_of_access]};
        }
    }
};

/// Exit qualification for EPT violations, 64 bits [sdm].
struct ept_violation_qualification : reg<ept_violation_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// Not of the instruction itself: trace or sampling output.
    static constexpr bits<16, 16, bool, access::read_only> asynchronous{};
    static constexpr bits<15, 15, bool, access::read_only> guest_paging_verification{};
    static constexpr bits<14, 14, bool, access::read_only> supervisor_shadow_stack{};
    static constexpr bits<13, 13, bool, access::read_only> shadow_stack_access{};
    /// The exit undid NMI blocking in the middle of an IRET: set blocking by NMI before the guest
    /// resumes. Undefined when the IDT-vectoring information is valid.
    static constexpr bits<12, 12, bool, access::read_only> nmi_unblocking_due_to_iret{};

    // 11..9 say something about the guest's own paging only with the capability "advanced VM-exit
    // information for EPT violations", and when bits 7 and 8 are both 1: see has_advanced_information.
    static constexpr bits<11, 11, bool, access::read_only> linear_execute_disable{};
    static constexpr bits<10, 10, bool, access::read_only> linear_writable{};
    static constexpr bits< 9,  9, bool, access::read_only> linear_user_mode{};

    /// 1: the access to the translation of a linear address; 0: to a guest paging-structure entry
    /// during the walk. Defined when guest_linear_address_valid.
    static constexpr bits< 8,  8, bool, access::read_only> access_to_translation{};
    static constexpr bits< 7,  7, bool, access::read_only> guest_linear_address_valid{};

    // 6..3: what the EPT allows there, the logical AND over all levels; all 0 when not present.
    static constexpr bits< 6,  6, bool, access::read_only> user_executable{}; ///< with mode-based execute control
    static constexpr bits< 5,  5, bool, access::read_only> executable{};
    static constexpr bits< 4,  4, bool, access::read_only> writable{};
    static constexpr bits< 3,  3, bool, access::read_only> readable{};

    // 2..0: what the guest did. A read-modify-write sets data_write, and data_read or not; with the
    // EPT's accessed and dirty flags enabled, a walk of the guest's tables sets both.
    static constexpr bits< 2,  2, bool, access::read_only> instruction_fetch{};
    static constexpr bits< 1,  1, bool, access::read_only> data_write{};
    static constexpr bits< 0,  0, bool, access::read_only> data_read{};
    // clang-format on
    static constexpr field_list fields{asynchronous,
                                       guest_paging_verification,
                                       supervisor_shadow_stack,
                                       shadow_stack_access,
                                       nmi_unblocking_due_to_iret,
                                       linear_execute_disable,
                                       linear_writable,
                                       linear_user_mode,
                                       access_to_translation,
                                       guest_linear_address_valid,
                                       user_executable,
                                       executable,
                                       writable,
                                       readable,
                                       instruction_fetch,
                                       data_write,
                                       data_read};

    /// Whether bits 11..9 are defined, on a processor that has the capability.
    [[nodiscard]] constexpr bool has_advanced_information() const {
        return (*this)[guest_linear_address_valid] && (*this)[access_to_translation];
    }
};

} // namespace pt::vmx
