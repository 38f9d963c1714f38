// SPDX-License-Identifier: BSL-1.0
//
// What a processor has for VMX: the VMCS, and the way into a guest.
#pragma once

#include "processor.hpp"

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/stale_set.hpp"

#include <cstdint>

namespace kernel {

// ------------------------------------------------------------------------------------ the VMCS

/// Fields by their encodings [sdm, Field Encoding in VMCS].
enum class vmcs_field : std::uint32_t {
    guest_es_selector = 0x0800, // cs, ss, ds, fs, gs, ldtr and tr follow, 2 apart
    guest_interrupt_status = 0x0810,
    host_es_selector = 0x0C00, // cs, ss, ds, fs, gs and tr follow
    host_cs_selector = 0x0C02,
    host_ss_selector = 0x0C04,
    host_ds_selector = 0x0C06,
    host_tr_selector = 0x0C0C,
    io_bitmap_a = 0x2000,
    io_bitmap_b = 0x2002,
    msr_bitmap = 0x2004,
    virtual_apic_address = 0x2012,
    apic_access_address = 0x2014,
    ept_pointer = 0x201A,
    eoi_exit_bitmap_0 = 0x201C, // 1, 2 and 3 follow
    guest_physical_address = 0x2400,
    link_pointer = 0x2800,
    guest_debugctl = 0x2802,
    guest_pat = 0x2804,
    guest_efer = 0x2806,
    guest_pdpte_0 = 0x280A, // 1, 2 and 3 follow, 2 apart
    host_pat = 0x2C00,
    host_efer = 0x2C02,
    pin_based_controls = 0x4000,
    processor_based_controls = 0x4002,
    exception_bitmap = 0x4004,
    cr3_target_count = 0x400A,
    exit_controls = 0x400C,
    entry_controls = 0x4012,
    entry_interruption_information = 0x4016,
    entry_error_code = 0x4018,
    entry_instruction_length = 0x401A,
    tpr_threshold = 0x401C,
    secondary_controls = 0x401E,
    instruction_error = 0x4400,
    exit_reason = 0x4402,
    exit_interruption_information = 0x4404,
    exit_error_code = 0x4406,
    idt_vectoring_information = 0x4408,
    idt_vectoring_error_code = 0x440A,
    exit_instruction_length = 0x440C,
    exit_instruction_information = 0x440E,
    guest_es_limit = 0x4800, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_gdtr_limit = 0x4810,
    guest_idtr_limit = 0x4812,
    guest_es_access_rights = 0x4814, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_interruptibility = 0x4824,
    guest_activity = 0x4826,
    preemption_timer = 0x482E,
    guest_sysenter_cs = 0x482A,
    host_sysenter_cs = 0x4C00,
    cr0_mask = 0x6000,
    cr4_mask = 0x6002,
    cr0_read_shadow = 0x6004,
    cr4_read_shadow = 0x6006,
    exit_qualification = 0x6400,
    guest_linear_address = 0x640A,
    guest_cr0 = 0x6800,
    guest_cr3 = 0x6802,
    guest_cr4 = 0x6804,
    guest_es_base = 0x6806, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_gdtr_base = 0x6816,
    guest_idtr_base = 0x6818,
    guest_dr7 = 0x681A,
    guest_rsp = 0x681C,
    guest_rip = 0x681E,
    guest_rflags = 0x6820,
    guest_pending_debug_exceptions = 0x6822,
    guest_sysenter_esp = 0x6824,
    guest_sysenter_eip = 0x6826,
    host_cr0 = 0x6C00,
    host_cr3 = 0x6C02,
    host_cr4 = 0x6C04,
    host_fs_base = 0x6C06,
    host_gs_base = 0x6C08,
    host_tr_base = 0x6C0A,
    host_gdtr_base = 0x6C0C,
    host_idtr_base = 0x6C0E,
    host_sysenter_esp = 0x6C10,
    host_sysenter_eip = 0x6C12,
    host_rip = 0x6C16,
};

/// Of the current VMCS. The run ends where there is no such field.
/// Ends the run, since the program is wrong.
[[noreturn, gnu::cold]] void no_such_field(vmcs_field field);

inline std::uint64_t vmread(vmcs_field field) {
    std::uint64_t value = 0;
    bool failed = false;
    asm volatile("vmread %2, %1; setna %0" : "=q"(failed), "=r"(value) : "r"(std::uint64_t(field)));
    if (failed) {
        no_such_field(field);
    }
    return value;
}
inline void vmwrite(vmcs_field field, std::uint64_t value) {
    bool failed = false;
    asm volatile("vmwrite %1, %2; setna %0"
                 : "=q"(failed)
                 : "r"(value), "r"(std::uint64_t(field))
                 : "memory");
    if (failed) {
        no_such_field(field);
    }
}

/// EOI_EXIT0..3.
constexpr vmcs_field eoi_exit_bitmap_field(unsigned index) {
    return static_cast<vmcs_field>(static_cast<std::uint32_t>(vmcs_field::eoi_exit_bitmap_0) +
                                   2 * index);
}

/// The order of segment registers in the VMCS: the fields of one are that far from those of ES.
enum class vmcs_segment : unsigned {
    es = 0,
    cs = 2,
    ss = 4,
    ds = 6,
    fs = 8,
    gs = 10,
    ldtr = 12,
    tr = 14
};
constexpr vmcs_field operator+(vmcs_field of_es, vmcs_segment which) {
    return static_cast<vmcs_field>(static_cast<std::uint32_t>(of_es) +
                                   static_cast<std::uint32_t>(which));
}

// Controls [sdm, VM-Execution Control Fields; VM-Exit Control Fields; VM-Entry Control Fields].
enum class pin_based : std::uint32_t {
    external_interrupt_exiting = 1U << 0,
    nmi_exiting = 1U << 3,
    virtual_nmis = 1U << 5,
    activate_preemption_timer = 1U << 6,
};
enum class processor_based : std::uint32_t {
    interrupt_window_exiting = 1U << 2,
    hlt_exiting = 1U << 7,
    mwait_exiting = 1U << 10,
    rdpmc_exiting = 1U << 11,
    cr8_load_exiting = 1U << 19,
    cr8_store_exiting = 1U << 20,
    tpr_shadow = 1U << 21,
    nmi_window_exiting = 1U << 22,
    io_bitmaps = 1U << 25,
    msr_bitmaps = 1U << 28,
    monitor_exiting = 1U << 29,
    secondary_controls = 1U << 31,
};
enum class secondary : std::uint32_t {
    virtualize_apic_accesses = 1U << 0,
    ept = 1U << 1,
    virtualize_x2apic_mode = 1U << 4,
    wbinvd_exiting = 1U << 6,
    unrestricted_guest = 1U << 7,
    apic_register_virtualization = 1U << 8,
    virtual_interrupt_delivery = 1U << 9,
};

enum class exit_control : std::uint32_t {
    save_debug_controls = 1U << 2,
    to_64_bit_mode = 1U << 9,
    acknowledge_interrupt = 1U << 15,
    save_pat = 1U << 18,
    load_pat = 1U << 19,
    save_efer = 1U << 20,
    load_efer = 1U << 21,
};
enum class entry_control : std::uint32_t {
    load_debug_controls = 1U << 2,
    ia32e_mode_guest = 1U << 9,
    load_pat = 1U << 14,
    load_efer = 1U << 15,
};

/// Several controls of a field.
template <class... Controls>
constexpr std::uint32_t all_of(Controls... controls) {
    return (0U | ... | static_cast<std::uint32_t>(controls));
}
/// What to write into the field whose capability MSR that is: these controls, and those that the
/// processor demands [sdm, VMX Capability Reporting]. The run ends where it lacks one of them.
std::uint32_t with_required(msr capability, std::uint32_t wanted);
/// Whether the processor has the control.
bool allows(msr capability, std::uint32_t control);

// ------------------------------------------------------------------------------- the processor

/// IA32_VMX_BASIC
struct vmx_basic : pt::reg<vmx_basic, std::uint64_t> {
    using reg::reg;
    static constexpr bits<56, 56, bool> any_error_code{};
    static constexpr bits<55, 55, bool> true_controls{};
    static constexpr bits<54, 54, bool> instruction_information_for_io{};
    static constexpr bits<30, 0, std::uint32_t> revision{};
    static constexpr pt::field_list fields{any_error_code, true_controls,
                                           instruction_information_for_io, revision};
};

/// VMXON, with all that it wants of control registers and of firmware; VMXOFF. The run ends on a
/// processor without VMX. `region`: a frame.
void enter_vmx_operation(pt::hpa region);
void leave_vmx_operation();
/// Prepares a frame to be a VMCS, and VMCLEAR: what the processor holds of it goes to memory.
void prepare_vmcs(pt::hpa region);
void clear_vmcs(pt::hpa region);
/// VMPTRLD: the VMCS that VMREAD, VMWRITE and entries mean from now on.
void make_current(pt::hpa vmcs);

/// Writes the fields of the host's state: all as it is now, but for RSP, which vmx_enter() writes.
void write_host_state();

/// EPT as this processor walks it.
pt::ept::capabilities ept_capabilities();

/// invalidator: INVEPT of all contexts, whatever is stale.
struct invept {
    pt::result<> invalidate(const pt::paging::stale_set<pt::gpa>&);
};

enum class vmx_outcome : std::uint32_t { exit = 0, fail_invalid = 1, fail_valid = 2 };

} // namespace kernel

/// Runs the guest of the current VMCS until it exits. `general`: its registers by their numbers, of
/// which RSP is in the VMCS instead; `launched`: since the VMCS was cleared. In vmx_entry.S.
extern "C" kernel::vmx_outcome vmx_enter(std::uint64_t* general, bool launched);
