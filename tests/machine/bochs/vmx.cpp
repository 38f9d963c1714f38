// SPDX-License-Identifier: BSL-1.0
#include "vmx.hpp"

#include "pt/vmx/io_exit.hpp"

#include <utility>

namespace kernel {
namespace {

pt::ept::format ept_format(pt::ept::options options) {
    return {guest::capabilities(), physical_width(), options};
}

} // namespace

// ------------------------------------------------------------------------------- making a guest

guest::guest(pt::ept::options options)
    : mapped_memory{ept_format(options), pt::ept::ram, invept{}},
      vmxon_region_{take_frame()},
      vmcs_region_{take_frame()},
      bitmap_a_{take_frame()},
      bitmap_b_{take_frame()},
      ports_{pointer_to(bitmap_a_), pointer_to(bitmap_b_)} {
    enter_vmx_operation(vmxon_region_);
    prepare_vmcs(vmcs_region_);
}

guest::~guest() {
    clear_vmcs(vmcs_region_);
    retire();
    leave_vmx_operation();
}

void guest::start(guest_mode mode) {
    launched_ = false;
    general = {};
    clear_vmcs(vmcs_region_);
    make_current(vmcs_region_);
    static_cast<void>(ports_.close(pt::vmx::io_bitmap::all_ports));
    build(mode, hypercall);
    map_all();
    write_host_state();
    write_controls();
    write_guest_state();
}

void guest::write_controls() {
    const bool ia32e = mode() == guest_mode::long_64;
    vmwrite(vmcs_field::pin_based_controls,
            with_required(msr::vmx_true_pin_based_controls,
                          all_of(pin_based::external_interrupt_exiting, pin_based::nmi_exiting,
                                 pin_based::virtual_nmis, pin_based::activate_preemption_timer)));
    vmwrite(vmcs_field::processor_based_controls,
            with_required(msr::vmx_true_processor_based_controls,
                          all_of(processor_based::hlt_exiting, processor_based::io_bitmaps,
                                 processor_based::secondary_controls)));
    vmwrite(vmcs_field::secondary_controls,
            with_required(msr::vmx_secondary_controls,
                          all_of(secondary::ept, secondary::unrestricted_guest)));
    vmwrite(vmcs_field::exit_controls,
            with_required(msr::vmx_true_exit_controls,
                          all_of(exit_control::to_64_bit_mode, exit_control::load_efer,
                                 exit_control::acknowledge_interrupt)));
    const std::uint32_t mode_control = ia32e ? all_of(entry_control::ia32e_mode_guest) : 0;
    vmwrite(vmcs_field::entry_controls,
            with_required(msr::vmx_true_entry_controls,
                          all_of(entry_control::load_efer) | mode_control));
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
    using enum vmcs_segment;
    for (const vmcs_segment each : {es, cs, ss, ds, fs, gs, ldtr, tr}) {
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

bool guest::has(secondary control) { return allows(msr::vmx_secondary_controls, all_of(control)); }

bool guest::has_monitor_trap_flag() {
    constexpr std::uint32_t monitor_trap_flag = 1U << 27;
    return allows(msr::vmx_true_processor_based_controls, monitor_trap_flag);
}

bool guest::takes_any_error_code() {
    return vmx_basic{read_msr(msr::vmx_basic)}[vmx_basic::any_error_code];
}

unsigned guest::preemption_timer_bit() {
    return static_cast<unsigned>(read_msr(msr::vmx_misc) & 0x1F);
}

bool guest::takes_zero_instruction_length() { return (read_msr(msr::vmx_misc) >> 30 & 1) != 0; }

pt::ept::capabilities guest::capabilities() { return ept_capabilities(); }

bool guest::enter() {
    const std::uint64_t limit = std::exchange(preemption_ticks_, long_enough);
    vmwrite(vmcs_field::preemption_timer, limit < long_enough ? limit : long_enough);
    const vmx_outcome outcome = vmx_enter(general.by_number(), launched_);
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
