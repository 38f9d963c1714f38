// SPDX-License-Identifier: BSL-1.0
#include "vmx.hpp"

#include "../kernel/processor.hpp"

#include "pt/core/reg.hpp"
#include "pt/vmx/io_exit.hpp"

#include <utility>

namespace kernel {

enum class vmx_outcome : std::uint32_t { exit = 0, fail_invalid = 1, fail_valid = 2 };

} // namespace kernel

extern "C" { // in vmx_entry.S
kernel::vmx_outcome vmx_enter(kernel::registers* general, bool launched);
extern const char vmx_exit[];
}

namespace kernel {
namespace {

// ------------------------------------------------------------------------- the processor itself

struct feature_control : pt::reg<feature_control, std::uint64_t> {
    using reg::reg;
    static constexpr bits<2, 2, bool> vmx_outside_smx{};
    static constexpr bits<0, 0, bool> locked{};
    static constexpr pt::field_list fields{vmx_outside_smx, locked};
};

struct vmx_basic : pt::reg<vmx_basic, std::uint64_t> {
    using reg::reg;
    static constexpr bits<56, 56, bool> any_error_code{};
    static constexpr bits<55, 55, bool> true_controls{};
    static constexpr bits<30, 0, std::uint32_t> revision{};
    static constexpr pt::field_list fields{any_error_code, true_controls, revision};
};

std::uint64_t cr0() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}
std::uint64_t cr3() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}
std::uint64_t cr4() {
    std::uint64_t value = 0;
    asm volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}

/// A register of a descriptor table as SGDT and SIDT store it.
struct [[gnu::packed]] table_register {
    std::uint16_t limit;
    std::uint64_t base;
};

pt::ept::format ept_format(pt::ept::options options) {
    return {guest::capabilities(), physical_width(), options};
}

// ------------------------------------------------------------------------- controls of the VMCS

constexpr std::uint32_t external_interrupt_exiting = 1U << 0;
constexpr std::uint32_t nmi_exiting = 1U << 3;
constexpr std::uint32_t virtual_nmis = 1U << 5;
constexpr std::uint32_t activate_preemption_timer = 1U << 6;
constexpr std::uint32_t exit_to_64_bit_mode = 1U << 9;
constexpr std::uint32_t acknowledge_interrupt_on_exit = 1U << 15;
constexpr std::uint32_t exit_loads_efer = 1U << 21;
constexpr std::uint32_t entry_to_ia32e_mode = 1U << 9;
constexpr std::uint32_t entry_loads_efer = 1U << 15;

/// The bits that this processor wants, and those of ours [sdm, VMX Capability Reporting].
std::uint32_t with_required(msr capability, std::uint32_t wanted) {
    const std::uint64_t reported = read_msr(capability);
    const auto required = static_cast<std::uint32_t>(reported);
    const auto allowed = static_cast<std::uint32_t>(reported >> 32);
    if ((wanted & ~allowed) != 0) {
        give_up("the processor lacks a control that the tests need");
    }
    return wanted | required;
}

constexpr vmcs_field operator+(vmcs_field field, unsigned distance) {
    return static_cast<vmcs_field>(static_cast<std::uint32_t>(field) + distance);
}

/// The order of segment registers in the VMCS; the fields are 2 apart.
enum segment : unsigned { es = 0, cs = 2, ss = 4, ds = 6, fs = 8, gs = 10, ldtr = 12, tr = 14 };

} // namespace

std::uint64_t vmread(vmcs_field field) {
    std::uint64_t value = 0;
    bool failed = false;
    asm volatile("vmread %2, %1; setna %0" : "=q"(failed), "=r"(value) : "r"(std::uint64_t(field)));
    if (failed) {
        say("VMREAD of ", static_cast<std::uint64_t>(field));
        give_up("there is no such field");
    }
    return value;
}

void vmwrite(vmcs_field field, std::uint64_t value) {
    bool failed = false;
    asm volatile("vmwrite %1, %2; setna %0"
                 : "=q"(failed)
                 : "r"(value), "r"(std::uint64_t(field))
                 : "memory");
    if (failed) {
        say("VMWRITE of ", static_cast<std::uint64_t>(field));
        give_up("there is no such field");
    }
}

pt::result<> invept::invalidate(const pt::paging::stale_set<pt::gpa>&) {
    constexpr std::uint64_t all_contexts = 2;
    const std::uint64_t descriptor[2] = {0, 0};
    bool failed = false;
    asm volatile("invept %1, %2; setna %0"
                 : "=q"(failed)
                 : "m"(descriptor), "r"(all_contexts)
                 : "memory");
    if (failed) {
        return pt::error{pt::errc::hardware_fault, all_contexts};
    }
    return {};
}

// ------------------------------------------------------------------------------- making a guest

guest::guest(pt::ept::options options)
    : mapped_memory{ept_format(options), pt::ept::ram, invept{}},
      vmxon_region_{take_frame()},
      vmcs_region_{take_frame()},
      bitmap_a_{take_frame()},
      bitmap_b_{take_frame()},
      ports_{pointer_to(bitmap_a_), pointer_to(bitmap_b_)} {
    const feature_control firmware{read_msr(msr::feature_control)};
    if (!firmware[feature_control::locked]) {
        write_msr(
            msr::feature_control,
            firmware.with(feature_control::locked(true), feature_control::vmx_outside_smx(true))
                .raw);
    }
    const vmx_basic basic{read_msr(msr::vmx_basic)};
    if (!basic[vmx_basic::true_controls]) {
        give_up("a processor with the first version of VMX");
    }
    asm volatile("mov %0, %%cr0" : : "r"(cr0() | read_msr(msr::vmx_cr0_fixed_0)));
    asm volatile("mov %0, %%cr4" : : "r"(cr4() | read_msr(msr::vmx_cr4_fixed_0)));
    for (const pt::hpa region : {vmxon_region_, vmcs_region_}) {
        *pointer_to<std::uint32_t>(region) = basic[vmx_basic::revision];
    }
    bool failed = false;
    asm volatile("vmxon %1; setna %0" : "=q"(failed) : "m"(vmxon_region_.raw) : "memory");
    if (failed) {
        give_up("VMXON fails");
    }
}

guest::~guest() {
    asm volatile("vmclear %0" : : "m"(vmcs_region_.raw) : "memory");
    retire();
    asm volatile("vmxoff" : : : "memory");
}

void guest::start(guest_mode mode) {
    launched_ = false;
    general = {};
    bool failed = false;
    asm volatile("vmclear %1; setna %0" : "=q"(failed) : "m"(vmcs_region_.raw) : "memory");
    if (!failed) {
        asm volatile("vmptrld %1; setna %0" : "=q"(failed) : "m"(vmcs_region_.raw) : "memory");
    }
    if (failed) {
        give_up("no VMCS becomes current");
    }
    static_cast<void>(ports_.close(pt::vmx::io_bitmap::all_ports));
    build(mode, hypercall);
    map_all();
    write_host_state();
    write_guest_state();
}

void guest::write_host_state() {
    vmwrite(vmcs_field::host_cr0, cr0());
    vmwrite(vmcs_field::host_cr3, cr3());
    vmwrite(vmcs_field::host_cr4, cr4());
    for (unsigned i = 0; i < 6; ++i) {
        vmwrite(vmcs_field::host_es_selector + 2 * i, 0);
    }
    vmwrite(vmcs_field::host_cs_selector, code_selector);
    vmwrite(vmcs_field::host_ss_selector, data_selector);
    vmwrite(vmcs_field::host_ds_selector, data_selector);
    vmwrite(vmcs_field::host_es_selector, data_selector);
    // The kernel has no task-state segment, but the field must not be 0, and nobody looks behind it
    // as long as no stack is switched.
    vmwrite(vmcs_field::host_tr_selector, task_selector);
    table_register gdtr{};
    table_register idtr{};
    asm volatile("sgdt %0" : "=m"(gdtr));
    asm volatile("sidt %0" : "=m"(idtr));
    vmwrite(vmcs_field::host_gdtr_base, gdtr.base);
    vmwrite(vmcs_field::host_idtr_base, idtr.base);
    vmwrite(vmcs_field::host_efer, read_msr(msr::efer));
    vmwrite(vmcs_field::host_rip, reinterpret_cast<std::uintptr_t>(vmx_exit));

    const bool ia32e = mode() == guest_mode::long_64;
    vmwrite(vmcs_field::pin_based_controls,
            with_required(msr::vmx_true_pin_based_controls, external_interrupt_exiting |
                                                                nmi_exiting | virtual_nmis |
                                                                activate_preemption_timer));
    vmwrite(vmcs_field::processor_based_controls,
            with_required(msr::vmx_true_processor_based_controls,
                          std::uint32_t(processor_based::hlt_exiting) |
                              std::uint32_t(processor_based::io_bitmaps) |
                              std::uint32_t(processor_based::secondary_controls)));
    vmwrite(vmcs_field::secondary_controls,
            with_required(msr::vmx_secondary_controls,
                          std::uint32_t(secondary::ept) |
                              std::uint32_t(secondary::unrestricted_guest)));
    vmwrite(vmcs_field::exit_controls,
            with_required(msr::vmx_true_exit_controls,
                          exit_to_64_bit_mode | exit_loads_efer | acknowledge_interrupt_on_exit));
    vmwrite(vmcs_field::entry_controls,
            with_required(msr::vmx_true_entry_controls,
                          entry_loads_efer | (ia32e ? entry_to_ia32e_mode : 0)));
    vmwrite(vmcs_field::exception_bitmap, 0);
    vmwrite(vmcs_field::cr3_target_count, 0);
    vmwrite(vmcs_field::entry_interruption_information, 0);
    vmwrite(vmcs_field::io_bitmap_a, bitmap_a_.raw);
    vmwrite(vmcs_field::io_bitmap_b, bitmap_b_.raw);
    vmwrite(vmcs_field::link_pointer, ~std::uint64_t{0});

    const auto root = tables().root();
    const auto pointer = root ? format().eptp(*root) : pt::result<pt::ept::pointer>{root.error()};
    if (!pointer) {
        give_up("pt's EPT is not for this processor");
    }
    vmwrite(vmcs_field::ept_pointer, pointer->raw);
}

void guest::write_guest_state() {
    const bool real = mode() == guest_mode::real;
    const bool ia32e = mode() == guest_mode::long_64;

    // Access rights as in a descriptor, bits 55:40; bit 16: unusable [sdm, Guest Register State].
    const std::uint32_t limit = real ? 0xFFFF : 0xFFFF'FFFF;
    const std::uint32_t data_rights = real ? 0x0093 : 0xC093;
    const std::uint32_t code_rights = real ? 0x009B : ia32e ? 0xA09B : 0xC09B;
    for (const segment each : {es, cs, ss, ds, fs, gs, ldtr, tr}) {
        vmwrite(vmcs_field::guest_es_selector + each, real ? 0 : data_selector);
        vmwrite(vmcs_field::guest_es_base + each, 0);
        vmwrite(vmcs_field::guest_es_limit + each, limit);
        vmwrite(vmcs_field::guest_es_access_rights + each, data_rights);
    }
    vmwrite(vmcs_field::guest_es_selector + cs, real ? 0 : code_selector);
    vmwrite(vmcs_field::guest_es_access_rights + cs, code_rights);
    vmwrite(vmcs_field::guest_es_selector + ldtr, 0);
    vmwrite(vmcs_field::guest_es_access_rights + ldtr, 0x1'0000);
    vmwrite(vmcs_field::guest_es_selector + tr, task_selector);
    vmwrite(vmcs_field::guest_es_limit + tr, 0x67);
    vmwrite(vmcs_field::guest_es_access_rights + tr, 0x008B);
    vmwrite(vmcs_field::guest_gdtr_base, descriptors.raw);
    vmwrite(vmcs_field::guest_gdtr_limit, descriptors_limit);
    vmwrite(vmcs_field::guest_idtr_base, gates_of_mode().raw);
    vmwrite(vmcs_field::guest_idtr_limit, gates_size() - 1);

    vmwrite(vmcs_field::guest_cr0,
            cr0_numeric_error | (real ? 0 : cr0_protection_enable) | (ia32e ? cr0_paging : 0));
    vmwrite(vmcs_field::guest_cr3, page_tables.raw);
    vmwrite(vmcs_field::guest_cr4, cr4_vmx_enable | (ia32e ? cr4_physical_address_extension : 0));
    vmwrite(vmcs_field::guest_efer, ia32e ? efer_long_mode_enable | efer_long_mode_active : 0);
    vmwrite(vmcs_field::guest_dr7, 0x400);
    vmwrite(vmcs_field::guest_rflags, rflags_reserved_1);
    vmwrite(vmcs_field::guest_rsp, stack.raw);
    vmwrite(vmcs_field::guest_rip, code.raw);
    vmwrite(vmcs_field::guest_interruptibility, 0);
    vmwrite(vmcs_field::guest_activity, std::uint64_t(pt::vmx::activity_state::active));
    vmwrite(vmcs_field::guest_pending_debug_exceptions, 0);
}

// ------------------------------------------------------------------------------ driving a guest

void guest::execute(std::initializer_list<std::uint8_t> instructions, pt::gpa place) {
    put(instructions, place);
    go_to(place);
}

bool guest::interrupt_flag() const { return (rflags() & rflags_interrupt_flag) != 0; }

void guest::set_interrupt_flag(bool on) {
    const std::uint64_t others = rflags() & ~rflags_interrupt_flag;
    vmwrite(vmcs_field::guest_rflags, on ? others | rflags_interrupt_flag : others);
}

pt::vmx::interruptibility_state guest::blocking() const {
    return pt::vmx::interruptibility_state{
        static_cast<std::uint32_t>(vmread(vmcs_field::guest_interruptibility))};
}

void guest::set_blocking(pt::vmx::interruptibility_state blocking) {
    vmwrite(vmcs_field::guest_interruptibility, blocking.raw);
}

pt::vmx::activity_state guest::activity() const {
    return static_cast<pt::vmx::activity_state>(vmread(vmcs_field::guest_activity));
}

void guest::skip_instruction() { vmwrite(vmcs_field::guest_rip, rip() + instruction_length()); }

void guest::set(processor_based control, bool on) {
    const auto bit = static_cast<std::uint32_t>(control);
    const std::uint64_t others = vmread(vmcs_field::processor_based_controls) & ~std::uint64_t{bit};
    vmwrite(vmcs_field::processor_based_controls, on ? others | bit : others);
}

void guest::set(secondary control, bool on) {
    const auto bit = static_cast<std::uint32_t>(control);
    const std::uint64_t others = vmread(vmcs_field::secondary_controls) & ~std::uint64_t{bit};
    vmwrite(vmcs_field::secondary_controls, on ? others | bit : others);
}

bool guest::has(secondary control) {
    return (read_msr(msr::vmx_secondary_controls) >> 32 & static_cast<std::uint32_t>(control)) != 0;
}

bool guest::has_monitor_trap_flag() {
    constexpr std::uint64_t monitor_trap_flag = 1U << 27;
    return (read_msr(msr::vmx_true_processor_based_controls) >> 32 & monitor_trap_flag) != 0;
}

bool guest::takes_any_error_code() {
    return vmx_basic{read_msr(msr::vmx_basic)}[vmx_basic::any_error_code];
}

unsigned guest::preemption_timer_bit() {
    return static_cast<unsigned>(read_msr(msr::vmx_misc) & 0x1F);
}

bool guest::takes_zero_instruction_length() { return (read_msr(msr::vmx_misc) >> 30 & 1) != 0; }

pt::ept::capabilities guest::capabilities() {
    return pt::ept::capabilities{read_msr(msr::vmx_ept_vpid)};
}

bool guest::enter() {
    const std::uint64_t limit = std::exchange(preemption_ticks_, long_enough);
    vmwrite(vmcs_field::preemption_timer, limit < long_enough ? limit : long_enough);
    const vmx_outcome outcome = vmx_enter(&general, launched_);
    instruction_error_ =
        outcome == vmx_outcome::fail_valid ? vmread(vmcs_field::instruction_error) : 0;
    if (outcome != vmx_outcome::exit) {
        return false;
    }
    if (reason_word()[pt::vmx::exit_reason_word::entry_failure]) {
        return false;
    }
    launched_ = true;
    if (reason() == pt::vmx::exit_reason::preemption_timer_expired && limit >= long_enough) {
        say("RIP ", rip());
        give_up("the guest does not exit");
    }
    return true;
}

void guest::say_exit() const {
    say("reason ", std::uint64_t{reason_word().raw}, ", instruction error ", instruction_error_,
        ", qualification ", qualification(), ", RIP ", rip());
    say("address ", missing_address().raw, ", linear ", vmread(vmcs_field::guest_linear_address),
        ", interrupted ", std::uint64_t{idt_vectoring().raw}, ", error code ",
        vmread(vmcs_field::idt_vectoring_error_code), ", instruction ",
        vmread(vmcs_field::exit_instruction_information), ", of bytes ",
        vmread(vmcs_field::exit_instruction_length));
}

bool guest::exits_with(pt::vmx::exit_reason expected) {
    if (!enter() || reason() != expected) {
        say_exit();
        return false;
    }
    return true;
}

pt::vmx::exit_reason_word guest::reason_word() const {
    return pt::vmx::exit_reason_word{static_cast<std::uint32_t>(vmread(vmcs_field::exit_reason))};
}

std::uint64_t guest::qualification() const { return vmread(vmcs_field::exit_qualification); }

pt::vmx::idt_vectoring_information guest::idt_vectoring() const {
    return pt::vmx::idt_vectoring_information{
        static_cast<std::uint32_t>(vmread(vmcs_field::idt_vectoring_information))};
}

pt::vcpu::event guest::interrupted() const {
    return pt::vmx::interrupted_event(
        idt_vectoring(), static_cast<std::uint32_t>(vmread(vmcs_field::idt_vectoring_error_code)),
        static_cast<std::uint32_t>(vmread(vmcs_field::exit_instruction_length)));
}

pt::vcpu::event guest::exception() const {
    return pt::vmx::exit_event(
        pt::vmx::exit_interruption_information{
            static_cast<std::uint32_t>(vmread(vmcs_field::exit_interruption_information))},
        static_cast<std::uint32_t>(vmread(vmcs_field::exit_error_code)),
        static_cast<std::uint32_t>(vmread(vmcs_field::exit_instruction_length)));
}

pt::result<pt::vcpu::io_instruction> guest::io_instruction() const {
    return pt::vmx::io_instruction_of(
        pt::vmx::io_instruction_qualification{qualification()},
        pt::vmx::io_instruction_information{
            static_cast<std::uint32_t>(vmread(vmcs_field::exit_instruction_information))},
        instruction_length());
}

void guest::write(const pt::vmx::entry_words& words) {
    vmwrite(vmcs_field::entry_interruption_information, words.information.raw);
    vmwrite(vmcs_field::entry_error_code, words.error_code);
    vmwrite(vmcs_field::entry_instruction_length, words.instruction_length);
    if (words.clear_blocking_by_nmi) {
        set_blocking(blocking().with(pt::vmx::interruptibility_state::blocking_by_nmi(false)));
    }
}

handled_event guest::handled() const {
    return reason() == pt::vmx::exit_reason::vmcall ? handled_at(rip(), rsp()) : handled_event{};
}

handled_event guest::enter_for_event() {
    return exits_with(pt::vmx::exit_reason::vmcall) ? handled() : handled_event{};
}

void guest::end_handler() {
    const handled_event ending = handled();
    if (!ending.any) {
        give_up("no handler runs that could end");
    }
    if (ending.has_error_code) {
        vmwrite(vmcs_field::guest_rsp, rsp() + slot_size());
    }
    skip_instruction();
}

} // namespace kernel
