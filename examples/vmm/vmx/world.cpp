// SPDX-License-Identifier: BSL-1.0
#include "world.hpp"

#include "../../kernel/clock.hpp"
#include "../../kernel/end.hpp"
#include "../../kernel/interrupts.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/processor.hpp"
#include "../machine/guest_code.hpp"
#include "../machine/guest_registers.hpp"
#include "../machine/host_interrupts.hpp"

#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/msr.hpp"
#include "pt/vcpu/processor_mode.hpp"
#include "pt/vmx/ept_exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_exit.hpp"
#include "pt/vmx/nmi_unblocking.hpp"

namespace vmm::vmx {
namespace {

using kernel::all_of;
using kernel::entry_control;
using kernel::exit_control;
using kernel::pin_based;
using kernel::processor_based;
using kernel::secondary;
using kernel::vmcs_field;
using kernel::vmcs_segment;
using kernel::vmread;
using kernel::vmwrite;
using pt::vcpu::exception_vector;
using pt::vcpu::general_register;
using pt::vcpu::segment_register;
using pt::vmx::exit_interruption_information;
using pt::vmx::exit_reason;
using pt::vmx::idt_vectoring_information;
using pt::vmx::interruptibility_state;

/// The world whose VMCS is current, and whose state is in the processor.
world* inside = nullptr;

std::uint64_t address_of(const void* page) { return reinterpret_cast<std::uintptr_t>(page); }

std::uint32_t vmread32(vmcs_field field) { return static_cast<std::uint32_t>(vmread(field)); }

constexpr pt::vcpu::event invalid_opcode = pt::vcpu::exception(exception_vector::invalid_opcode);
constexpr pt::vcpu::event general_protection =
    pt::vcpu::exception(exception_vector::general_protection, 0);

// CR0 of the guest: VMX wants NE, and caching is off only for the guest's eyes. The rest is the
// guest's own, so that the processor does what a change of mode takes.
constexpr std::uint64_t cr0_numeric_error = 1U << 5;
constexpr std::uint64_t cr0_not_write_through = 1U << 29;
constexpr std::uint64_t cr0_cache_disable = 1U << 30;
constexpr std::uint64_t cr0_of_the_host =
    cr0_numeric_error | cr0_not_write_through | cr0_cache_disable;

// Causes of a debug exception, at the same places in DR6, in its exit qualification, and in the pending debug
// exceptions [sdm].
constexpr std::uint64_t causes_by_address = 0xF;       // B0 to B3
constexpr std::uint64_t enabled_breakpoint = 1U << 12; // one of them at least; not in DR6
constexpr std::uint64_t register_access = 1U << 13;    // BD
constexpr std::uint64_t single_step = 1U << 14;        // BS

constexpr std::uint64_t dr7_general_detect = 1U << 13;

constexpr std::uint64_t cr4_vmx_enable = 1U << 13; // not for the guest's eyes

/// In units of the VMX-preemption timer [sdm, IA32_VMX_MISC].
std::uint32_t preemption_ticks(std::uint64_t nanoseconds) {
    // Bochs 2.7 lets no interrupt exit after an entry with RFLAGS.IF clear until the guest changes
    // it: so a guest does not run for longer without a look at the host's.
    constexpr std::uint64_t longest = 10'000'000;
    const std::uint64_t wanted = nanoseconds < longest ? nanoseconds : longest;
    const std::uint64_t rate = kernel::read_msr(kernel::msr::vmx_misc) & 0x1F;
    const std::uint64_t ticks = wanted * kernel::clock{}.tsc_kilohertz() / 1'000'000 >> rate;
    return ticks == 0 ? 1 : static_cast<std::uint32_t>(ticks);
}

/// An interrupt of the host's, in service.
void tell(vm_exit& exit, std::uint8_t vector) {
    if (vector == kernel::spurious_vector) {
        exit.kind = exit_kind::handled; // it needs no end
    } else if (vector == kernel::timer_vector) {
        kernel::end_interrupt();
        exit.kind = exit_kind::preempted;
    } else {
        exit.kind = exit_kind::external_interrupt;
        exit.vector = vector;
    }
}

constexpr vmcs_segment segments[] = {vmcs_segment::es, vmcs_segment::cs, vmcs_segment::ss,
                                     vmcs_segment::ds, vmcs_segment::fs, vmcs_segment::gs};

segment_state read_segment(vmcs_segment which) {
    return {.selector = static_cast<std::uint16_t>(vmread(vmcs_field::guest_es_selector + which)),
            .rights = vmread32(vmcs_field::guest_es_access_rights + which),
            .limit = vmread32(vmcs_field::guest_es_limit + which),
            .base = vmread(vmcs_field::guest_es_base + which)};
}

void write_segment(vmcs_segment which, const segment_state& segment) {
    vmwrite(vmcs_field::guest_es_selector + which, segment.selector);
    vmwrite(vmcs_field::guest_es_access_rights + which, segment.rights);
    vmwrite(vmcs_field::guest_es_limit + which, segment.limit);
    vmwrite(vmcs_field::guest_es_base + which, segment.base);
}

interruptibility_state blocking() {
    return interruptibility_state{vmread32(vmcs_field::guest_interruptibility)};
}

void set_blocking(interruptibility_state state) {
    vmwrite(vmcs_field::guest_interruptibility, state.raw);
}

void set(processor_based control, bool on) {
    const std::uint64_t bit = all_of(control);
    const std::uint64_t others = vmread(vmcs_field::processor_based_controls) & ~bit;
    vmwrite(vmcs_field::processor_based_controls, on ? others | bit : others);
}

/// What kind of code runs, without all else that there is to know.
pt::vcpu::code_size code_size_now() {
    cpu_state few{.efer = vmread(vmcs_field::guest_efer)};
    few[segment_register::cs].rights =
        vmread32(vmcs_field::guest_es_access_rights + vmcs_segment::cs);
    return few.code_size();
}

std::uint8_t instruction_length() {
    return static_cast<std::uint8_t>(vmread(vmcs_field::exit_instruction_length));
}

} // namespace

// ------------------------------------------------------------------------------- making a world

void world::turn_on() {
    kernel::enter_vmx_operation(kernel::take_frame());
    extended_state::allow();
    static_cast<void>(kernel::clock{}.tsc_kilohertz());
}

world::format world::second_level() {
    return format{kernel::ept_capabilities(), kernel::physical_width()};
}

world::world(const pt::range<pt::io_port>* never_open, std::size_t count)
    : ports_{bitmap_a_, bitmap_b_, never_open, count}, msrs_{msr_page_}, format_{second_level()} {
    for (const pt::vcpu::msr_range each : open_msrs) {
        static_cast<void>(msrs_.open(each, pt::vcpu::msr_access::read_write));
    }
    kernel::prepare_vmcs(pt::hpa{address_of(vmcs_)});
    make_current();
    kernel::write_host_state();
    vmwrite(vmcs_field::host_pat, kernel::read_msr(kernel::msr::pat));
    write_controls();
    vmwrite(vmcs_field::guest_pat, pat_after_reset);
    vmwrite(vmcs_field::guest_dr7, 0x400);
    vmwrite(vmcs_field::guest_debugctl, 0);
    set_state(cpu_state{});
}

world::~world() {
    kernel::clear_vmcs(pt::hpa{address_of(vmcs_)});
    if (inside == this) {
        inside = nullptr;
    }
}

void world::write_controls() {
    using kernel::msr;
    vmwrite(vmcs_field::pin_based_controls,
            with_required(msr::vmx_true_pin_based_controls,
                          all_of(pin_based::external_interrupt_exiting, pin_based::nmi_exiting,
                                 pin_based::virtual_nmis, pin_based::activate_preemption_timer)));
    vmwrite(vmcs_field::processor_based_controls,
            with_required(msr::vmx_true_processor_based_controls,
                          all_of(processor_based::hlt_exiting, processor_based::mwait_exiting,
                                 processor_based::rdpmc_exiting, processor_based::cr8_load_exiting,
                                 processor_based::cr8_store_exiting, processor_based::io_bitmaps,
                                 processor_based::msr_bitmaps, processor_based::monitor_exiting,
                                 processor_based::secondary_controls)));
    vmwrite(vmcs_field::secondary_controls,
            with_required(msr::vmx_secondary_controls,
                          all_of(secondary::ept, secondary::unrestricted_guest)));
    vmwrite(vmcs_field::exit_controls,
            with_required(msr::vmx_true_exit_controls,
                          all_of(exit_control::save_debug_controls, exit_control::to_64_bit_mode,
                                 exit_control::acknowledge_interrupt, exit_control::load_efer,
                                 exit_control::save_efer, exit_control::load_pat,
                                 exit_control::save_pat)));
    vmwrite(vmcs_field::entry_controls,
            with_required(msr::vmx_true_entry_controls,
                          all_of(entry_control::load_debug_controls, entry_control::load_efer,
                                 entry_control::load_pat)));
    // A guest can have the first two come up in their own delivery, for ever; and no interrupt of the
    // host's exits between. A machine check is the host's.
    vmwrite(vmcs_field::exception_bitmap,
            1U << static_cast<unsigned>(exception_vector::debug) |
                1U << static_cast<unsigned>(exception_vector::alignment_check) |
                1U << static_cast<unsigned>(exception_vector::machine_check));
    vmwrite(vmcs_field::cr3_target_count, 0);
    vmwrite(vmcs_field::entry_interruption_information, 0);
    vmwrite(vmcs_field::io_bitmap_a, address_of(bitmap_a_));
    vmwrite(vmcs_field::io_bitmap_b, address_of(bitmap_b_));
    vmwrite(vmcs_field::msr_bitmap, address_of(msr_page_));
    vmwrite(vmcs_field::link_pointer, ~std::uint64_t{0});
    vmwrite(vmcs_field::cr0_mask, cr0_of_the_host);
    vmwrite(vmcs_field::cr4_mask, ~cr4_of_a_guest);
    vmwrite(vmcs_field::cr4_read_shadow, 0);
}

pt::result<void> world::use_pages(const format& of, pt::hpa root) {
    const auto pointer = of.eptp(root);
    if (!pointer) {
        return pointer.error();
    }
    format_ = of;
    root_ = root;
    make_current();
    vmwrite(vmcs_field::ept_pointer, pointer->raw);
    return {};
}

// -------------------------------------------------------------------------- turns of the processor

void world::make_current() {
    if (inside == this) {
        return;
    }
    if (inside != nullptr) {
        inside->save();
    }
    kernel::make_current(pt::hpa{address_of(vmcs_)});
    restore();
    inside = this;
}

void world::save() {
    extended_.save();
    cr2_ = kernel::read_cr2();
    asm volatile("mov %%dr6, %0" : "=r"(dr6_));
    for (std::size_t i = 0; i != left_count; ++i) {
        msrs_left_[i] = kernel::read_msr(kernel::msr{left_in_the_processor[i]});
    }
}

void world::restore() {
    extended_.restore();
    kernel::write_cr2(cr2_);
    asm volatile("mov %0, %%dr6" : : "r"(dr6_));
    for (std::size_t i = 0; i != left_count; ++i) {
        kernel::write_msr(kernel::msr{left_in_the_processor[i]}, msrs_left_[i]);
    }
}

// ------------------------------------------------------------------------------------- its state

cpu_state world::state() {
    make_current();
    const std::uint64_t cr0 = vmread(vmcs_field::guest_cr0) & ~cr0_of_the_host;
    const std::uint64_t shadow = vmread(vmcs_field::cr0_read_shadow) & cr0_of_the_host;
    cpu_state state{.rip = vmread(vmcs_field::guest_rip),
                    .rflags = vmread(vmcs_field::guest_rflags),
                    .cr0 = cr0 | shadow,
                    .cr2 = kernel::read_cr2(),
                    .cr3 = vmread(vmcs_field::guest_cr3),
                    .cr4 = vmread(vmcs_field::guest_cr4) & cr4_of_a_guest,
                    .efer = vmread(vmcs_field::guest_efer),
                    .ldtr = read_segment(vmcs_segment::ldtr),
                    .tr = read_segment(vmcs_segment::tr),
                    .gdtr = {vmread(vmcs_field::guest_gdtr_base),
                             static_cast<std::uint16_t>(vmread(vmcs_field::guest_gdtr_limit))},
                    .idtr = {vmread(vmcs_field::guest_idtr_base),
                             static_cast<std::uint16_t>(vmread(vmcs_field::guest_idtr_limit))}};
    for (unsigned i = 0; i != 6; ++i) {
        state.segments[i] = read_segment(segments[i]);
    }
    // DPL of SS is the privilege level [sdm, Guest Register State].
    state.cpl = static_cast<std::uint8_t>(state[segment_register::ss].rights >> 5 & 3);
    return state;
}

void world::set_state(const cpu_state& state) {
    make_current();
    vmwrite(vmcs_field::guest_rip, state.rip);
    vmwrite(vmcs_field::guest_rflags, state.rflags);
    vmwrite(vmcs_field::guest_cr0, (state.cr0 & ~cr0_of_the_host) | cr0_numeric_error);
    vmwrite(vmcs_field::cr0_read_shadow, state.cr0);
    kernel::write_cr2(state.cr2);
    vmwrite(vmcs_field::guest_cr3, state.cr3);
    vmwrite(vmcs_field::guest_cr4, (state.cr4 & cr4_of_a_guest) | cr4_vmx_enable);
    vmwrite(vmcs_field::guest_efer, state.efer);
    for (unsigned i = 0; i != 6; ++i) {
        write_segment(segments[i], state.segments[i]);
    }
    write_segment(vmcs_segment::ldtr, state.ldtr);
    write_segment(vmcs_segment::tr, state.tr);
    vmwrite(vmcs_field::guest_gdtr_base, state.gdtr.base);
    vmwrite(vmcs_field::guest_gdtr_limit, state.gdtr.limit);
    vmwrite(vmcs_field::guest_idtr_base, state.idtr.base);
    vmwrite(vmcs_field::guest_idtr_limit, state.idtr.limit);
    set_blocking({});
    vmwrite(vmcs_field::guest_activity, std::uint64_t(pt::vmx::activity_state::active));
    vmwrite(vmcs_field::guest_pending_debug_exceptions, 0);
}

std::uint64_t world::rflags() {
    make_current();
    return vmread(vmcs_field::guest_rflags);
}

void world::set_rflags(std::uint64_t value) {
    make_current();
    vmwrite(vmcs_field::guest_rflags, value);
}

void world::set_cr2(std::uint64_t value) {
    make_current();
    kernel::write_cr2(value);
}

pt::vcpu::event world::finish_instruction(std::uint8_t length) {
    make_current();
    const std::uint64_t rip = vmread(vmcs_field::guest_rip);
    const std::uint64_t rflags = vmread(vmcs_field::guest_rflags);
    vmwrite(vmcs_field::guest_rip, pt::vcpu::rip_after(rip, length, code_size_now()));
    vmwrite(vmcs_field::guest_rflags, rflags & ~cpu_state::rflags_resume_flag);
    set_blocking(blocking().after_instruction());
    // Raised and not left pending: a guest that halts is not entered before it has something to take.
    std::uint64_t causes = vmread(vmcs_field::guest_pending_debug_exceptions);
    if ((rflags & cpu_state::rflags_trap_flag) != 0) {
        causes |= single_step;
    }
    const bool due = (causes & (single_step | enabled_breakpoint)) != 0;
    return due ? debug_exception(causes) : pt::vcpu::event{};
}

/// A debug exception that the VMM raises, with what the processor does before it delivers one of its own: at
/// an exit it has done nothing of that [sdm, Architectural State Before a VM Exit]. It ends the shadow of MOV
/// SS, in which entry would want BS among the pending ones.
pt::vcpu::event world::debug_exception(std::uint64_t causes) {
    constexpr std::uint64_t kept = causes_by_address | register_access | single_step;
    std::uint64_t dr6 = 0;
    asm volatile("mov %%dr6, %0" : "=r"(dr6));
    dr6 = (dr6 & ~causes_by_address) | (causes & kept);
    asm volatile("mov %0, %%dr6" : : "r"(dr6));
    vmwrite(vmcs_field::guest_dr7, vmread(vmcs_field::guest_dr7) & ~dr7_general_detect);
    vmwrite(vmcs_field::guest_pending_debug_exceptions, 0);
    set_blocking(blocking().after_instruction());
    return pt::vcpu::exception(exception_vector::debug);
}

pt::vcpu::instruction_bytes world::code() { return code_of(state(), mapped_ram{format_, root_}); }

bool world::can_take_interrupt() {
    make_current();
    return pt::vmx::can_take_external_interrupt(vmread(vmcs_field::guest_rflags), blocking(),
                                                pt::vmx::activity_state::active);
}

bool world::can_take_nmi() {
    make_current();
    return pt::vmx::can_take_nmi(blocking(), pt::vmx::activity_state::active);
}

pt::result<std::uint64_t> world::read_msr(std::uint32_t number) {
    make_current();
    switch (number) {
    case efer_number: return vmread(vmcs_field::guest_efer);
    case pat_number: return vmread(vmcs_field::guest_pat);
    default: return pt::error{pt::errc::absent, number};
    }
}

pt::result<void> world::write_msr(std::uint32_t number, std::uint64_t value) {
    make_current();
    switch (number) {
    case efer_number: {
        const auto efer = efer_after(state(), value);
        if (!efer) {
            return efer.error();
        }
        vmwrite(vmcs_field::guest_efer, *efer);
        return {};
    }
    case pat_number:
        if (!is_pat(value)) {
            return pt::error{pt::errc::malformed, value};
        }
        vmwrite(vmcs_field::guest_pat, value);
        return {};
    default: return pt::error{pt::errc::absent, number};
    }
}

void world::end_interrupt() { kernel::end_interrupt(); }

// ----------------------------------------------------------------------------------- entry, exit

vm_exit world::run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds) {
    if (const auto vector = host_interrupts::next()) {
        vm_exit exit{.interrupted = decision.event};
        tell(exit, *vector);
        return exit;
    }
    make_current();
    prepare(decision, nanoseconds);
    vmwrite(vmcs_field::guest_rsp, general_[general_register::rsp]);
    const kernel::vmx_outcome outcome = vmx_enter(general_.raw, launched_);
    if (outcome != kernel::vmx_outcome::exit) {
        vm_exit exit{.kind = exit_kind::failed,
                     .interrupted = decision.event,
                     .why = "VMLAUNCH or VMRESUME fails"};
        if (outcome == kernel::vmx_outcome::fail_valid) {
            exit.words[0] = vmread(vmcs_field::instruction_error);
        }
        return exit;
    }
    general_[general_register::rsp] = vmread(vmcs_field::guest_rsp);

    vm_exit exit = explain();
    if (exit.kind == exit_kind::failed) {
        exit.interrupted = decision.event;
    }
    return exit;
}

vm_exit world::halt(std::uint64_t nanoseconds) {
    vm_exit exit{.kind = exit_kind::preempted};
    auto vector = host_interrupts::next();
    if (!vector) {
        host_interrupts::wait(nanoseconds == 0 ? 1 : nanoseconds);
        vector = host_interrupts::next();
    }
    if (vector) {
        tell(exit, *vector);
    }
    return exit;
}

/// What the decision says, in the VMCS.
void world::prepare(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds) {
    const pt::vmx::entry_words words =
        pt::vmx::entry_of(decision.event, pt::vcpu::mode_of(vmread(vmcs_field::guest_cr0)));
    vmwrite(vmcs_field::entry_interruption_information, words.information.raw);
    vmwrite(vmcs_field::entry_error_code, words.error_code);
    vmwrite(vmcs_field::entry_instruction_length, words.instruction_length);
    if (words.clear_blocking_by_nmi) {
        set_blocking(blocking().with(interruptibility_state::blocking_by_nmi(false)));
    }
    const bool behind_sti = decision.nmi_window && !decision.event.present &&
                            pt::vmx::nmi_waits_for_interrupt_window(blocking());
    set(processor_based::interrupt_window_exiting, decision.interrupt_window || behind_sti);
    set(processor_based::nmi_window_exiting, decision.nmi_window && !behind_sti);
    vmwrite(vmcs_field::preemption_timer, preemption_ticks(nanoseconds));

    // A processor that says so in IA32_VMX_MISC keeps this control by itself.
    const bool long_mode = (vmread(vmcs_field::guest_efer) & cpu_state::efer_long_mode_active) != 0;
    const std::uint64_t bit = all_of(entry_control::ia32e_mode_guest);
    const std::uint64_t controls = vmread(vmcs_field::entry_controls);
    if (((controls & bit) != 0) != long_mode) {
        vmwrite(vmcs_field::entry_controls, controls ^ bit);
    }
}

vm_exit world::explain() {
    const pt::vmx::exit_reason_word word{vmread32(vmcs_field::exit_reason)};
    const exit_reason reason = word[pt::vmx::exit_reason_word::basic];
    vm_exit exit{.kind = exit_kind::handled,
                 .words = {word.raw, vmread(vmcs_field::exit_qualification),
                           vmread(vmcs_field::guest_physical_address),
                           vmread(vmcs_field::exit_interruption_information)}};
    if (word[pt::vmx::exit_reason_word::entry_failure]) {
        exit.kind = exit_kind::failed;
        exit.why = "VM entry fails for the guest's state";
        return exit;
    }
    launched_ = true;
    const idt_vectoring_information vectoring{vmread32(vmcs_field::idt_vectoring_information)};
    exit.interrupted =
        pt::vmx::interrupted_event(vectoring, vmread32(vmcs_field::idt_vectoring_error_code),
                                   vmread32(vmcs_field::exit_instruction_length));
    exit.code.rip = vmread(vmcs_field::guest_rip);
    exit.code.code = code_size_now();

    const exit_interruption_information exited{vmread32(vmcs_field::exit_interruption_information)};
    // An exception that exits goes to the guest: its IRET has ended the blocking on a real machine, too.
    if (reason != exit_reason::exception_or_nmi &&
        pt::vmx::nmi_unblocked_by_iret(reason, exit.words[1], exited, vectoring)) {
        set_blocking(blocking().with(interruptibility_state::blocking_by_nmi(true)));
    }
    explain_reason(exit, reason);
    return exit;
}

void world::explain_reason(vm_exit& exit, exit_reason reason) {
    const auto instruction = [&exit](exit_kind kind) {
        exit.kind = kind;
        exit.length = instruction_length();
    };
    switch (reason) {
    case exit_reason::external_interrupt: {
        const auto vector = pt::vmx::acknowledged_vector(
            exit_interruption_information{static_cast<std::uint32_t>(exit.words[3])});
        if (vector) {
            tell(exit, *vector);
        }
        return;
    }
    case exit_reason::preemption_timer_expired: explain_interrupt(exit); return;
    case exit_reason::exception_or_nmi: explain_exception(exit); return;
    case exit_reason::interrupt_window: exit.kind = exit_kind::interrupt_window; return;
    case exit_reason::nmi_window: exit.kind = exit_kind::nmi_window; return;
    case exit_reason::triple_fault: exit.kind = exit_kind::shutdown; return;
    case exit_reason::cpuid: instruction(exit_kind::cpuid); return;
    case exit_reason::hlt: instruction(exit_kind::hlt); return;
    case exit_reason::vmcall: instruction(exit_kind::hypercall); return;
    case exit_reason::io_instruction: explain_io(exit); return;
    case exit_reason::control_register_access: explain_control_register(exit); return;
    case exit_reason::rdmsr:
        instruction(exit_kind::read_msr);
        handle_own_msr(*this, exit);
        return;
    case exit_reason::wrmsr:
        instruction(exit_kind::write_msr);
        handle_own_msr(*this, exit);
        return;
    case exit_reason::ept_violation:
        exit.kind = exit_kind::memory;
        exit.memory =
            pt::vmx::violation_of(pt::vmx::ept_violation_qualification{exit.words[1]},
                                  pt::gpa{exit.words[2]}, vmread(vmcs_field::guest_linear_address));
        return;
    case exit_reason::invd:
    case exit_reason::wbinvd: // whatever is cached may stay so
        exit.raise = finish_instruction(instruction_length());
        return;
    case exit_reason::rdpmc: exit.raise = general_protection; return;
    case exit_reason::getsec:
    case exit_reason::rsm:
    case exit_reason::vmclear:
    case exit_reason::vmlaunch:
    case exit_reason::vmptrld:
    case exit_reason::vmptrst:
    case exit_reason::vmread:
    case exit_reason::vmresume:
    case exit_reason::vmwrite:
    case exit_reason::vmxoff:
    case exit_reason::vmxon:
    case exit_reason::invept:
    case exit_reason::invvpid:
    case exit_reason::monitor:
    case exit_reason::mwait:
    case exit_reason::xsetbv: exit.raise = invalid_opcode; return;
    case exit_reason::task_switch:
        exit.kind = exit_kind::other;
        exit.why = "a task switch by hardware, which nobody here does for the guest";
        return;
    case exit_reason::ept_misconfiguration:
        exit.kind = exit_kind::other;
        exit.why = "an EPT misconfiguration: an error of whoever wrote the tables";
        return;
    default:
        exit.kind = exit_kind::other;
        exit.why = "an exit that nobody asked for";
        return;
    }
}

/// The time is over; and an interrupt of the host's may wait that Bochs 2.7 let no exit happen for.
void world::explain_interrupt(vm_exit& exit) {
    exit.kind = exit_kind::preempted;
    host_interrupts::collect();
    if (const auto vector = host_interrupts::next()) {
        tell(exit, *vector);
    }
}

/// An NMI of the host's. Or one of the exceptions that exit, which the guest gets.
void world::explain_exception(vm_exit& exit) {
    const pt::vcpu::event found = pt::vmx::exit_event(
        exit_interruption_information{static_cast<std::uint32_t>(exit.words[3])},
        vmread32(vmcs_field::exit_error_code), instruction_length());
    if (found.type == pt::vcpu::event_type::nmi) {
        asm volatile("int $2");
        return;
    }
    if (exception_vector{found.vector} == exception_vector::machine_check) {
        asm volatile("int $18");
        return;
    }
    exit.raise = found;
    if (exception_vector{found.vector} == exception_vector::debug) {
        // INT1 has no cause in DR6, and a length.
        const bool by_instruction = pt::vcpu::is_software(found.type);
        const pt::vcpu::event raised = debug_exception(by_instruction ? 0 : exit.words[1]);
        exit.raise = by_instruction ? found : raised;
    }
}

void world::explain_io(vm_exit& exit) {
    const auto found = pt::vmx::io_instruction_of(
        pt::vmx::io_instruction_qualification{exit.words[1]},
        pt::vmx::io_instruction_information{vmread32(vmcs_field::exit_instruction_information)},
        instruction_length());
    if (!found) {
        exit.kind = exit_kind::other;
        exit.why = "an I/O exit as there is none";
        return;
    }
    exit.kind = exit_kind::io;
    exit.io = *found;
    exit.length = found->length;
}

/// MOV to CR0, to CR4, and to and from CR8.
void world::explain_control_register(vm_exit& exit) {
    // The exit qualification for control-register accesses [sdm].
    const std::uint64_t number = exit.words[1] & 0xF;
    const std::uint64_t type = exit.words[1] >> 4 & 3;
    const auto with = static_cast<general_register>(exit.words[1] >> 8 & 0xF);
    constexpr std::uint64_t move_to = 0;
    if (number == 8) {
        exit.kind = exit_kind::cr8;
        exit.length = instruction_length();
        exit.cr8 = {type == move_to ? cr8_access::direction::to_cr8
                                    : cr8_access::direction::from_cr8,
                    with};
        return;
    }
    const std::uint64_t all =
        exit.code.code == pt::vcpu::code_size::bits_64 ? ~std::uint64_t{0} : 0xFFFF'FFFF;
    const std::uint64_t value = general_[with] & all;
    if (number == 4 && type == move_to) {
        exit.raise = general_protection; // a bit that the guest does not have
        return;
    }
    if (number != 0 || type != move_to) {
        exit.kind = exit_kind::other;
        exit.why = "an access to a control register that nobody asked for";
        return;
    }
    const bool paging_without_protection =
        (value & cpu_state::cr0_paging) != 0 && (value & cpu_state::cr0_protection_enable) == 0;
    const bool write_through_without_cache =
        (value & cr0_not_write_through) != 0 && (value & cr0_cache_disable) == 0;
    const bool long_mode_without_pae =
        (value & ~vmread(vmcs_field::guest_cr0) & cpu_state::cr0_paging) != 0 &&
        (vmread(vmcs_field::guest_efer) & cpu_state::efer_long_mode_enable) != 0 &&
        (vmread(vmcs_field::guest_cr4) & cpu_state::cr4_physical_address_extension) == 0;
    if (paging_without_protection || write_through_without_cache || long_mode_without_pae ||
        value >> 32 != 0) {
        exit.raise = general_protection;
        return;
    }
    // The bits that are not the guest's get what it writes, for its eyes. It executes the
    // instruction again, which changes none of them then and so does not exit; the processor does
    // the rest.
    vmwrite(vmcs_field::cr0_read_shadow, value);
}

} // namespace vmm::vmx
