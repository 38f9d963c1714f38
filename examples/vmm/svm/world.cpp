// SPDX-License-Identifier: BSL-1.0
#include "world.hpp"

#include "../../kernel/interrupts.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/processor.hpp"
#include "../machine/guest_code.hpp"
#include "../machine/guest_registers.hpp"
#include "../machine/host_interrupts.hpp"

#include "pt/svm/event.hpp"
#include "pt/svm/exit.hpp"
#include "pt/svm/io_exit.hpp"
#include "pt/svm/nested_page_fault.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/processor_mode.hpp"

#include <utility>

namespace vmm::svm {
namespace {

using kernel::intercept;
using kernel::vmcb_segment;
using pt::svm::exit_code;
using pt::svm::nmi_masking;
using pt::vcpu::exception_vector;
using pt::vcpu::general_register;

/// A frame for VMSAVE of the host.
pt::hpa host_state{};
/// The world whose extended state is in the processor.
world* inside = nullptr;
std::uint32_t address_spaces = 0;

std::uint64_t address_of(const void* page) { return reinterpret_cast<std::uintptr_t>(page); }

// Of a descriptor, SVM keeps bits 47:40 and 55:52 side by side, and VMX with a gap between.
segment_state from_vmcb(const vmcb_segment& segment) {
    const std::uint32_t low = segment.attributes & 0xFFU;
    const std::uint32_t high = segment.attributes >> 8 & 0xFU;
    return {.selector = segment.selector,
            .rights = segment.attributes == 0 ? segment_state::unusable : high << 12 | low,
            .limit = segment.limit,
            .base = segment.base};
}

vmcb_segment to_vmcb(const segment_state& segment) {
    const bool usable = (segment.rights & segment_state::unusable) == 0;
    const std::uint32_t attributes = (segment.rights >> 12 & 0xF) << 8 | (segment.rights & 0xFF);
    return {.selector = segment.selector,
            .attributes = static_cast<std::uint16_t>(usable ? attributes : 0),
            .limit = segment.limit,
            .base = segment.base};
}

constexpr pt::vcpu::event invalid_opcode = pt::vcpu::exception(exception_vector::invalid_opcode);
constexpr pt::vcpu::event general_protection =
    pt::vcpu::exception(exception_vector::general_protection, 0);

// DR6 and DR7 [amd, Debug Registers].
constexpr std::uint64_t dr6_with_no_cause = 0xFFFF'0FF0;
constexpr std::uint64_t dr6_of_a_guest = 0xE00F;    // B0 to B3, BD, BS, BT
constexpr std::uint64_t register_access = 1U << 13; // BD
constexpr std::uint64_t single_step = 1U << 14;     // BS
constexpr std::uint64_t dr7_always_set = 0x400;
constexpr std::uint64_t dr7_of_a_guest = 0xFFFF'23FF;
constexpr std::uint64_t dr7_general_detect = 1U << 13;
constexpr std::uint64_t cr4_debugging_extensions = 1U << 3;

constexpr std::uint32_t bit_of(exception_vector which) {
    return 1U << static_cast<unsigned>(which);
}
/// A guest can have the first two come up in their own delivery, for ever; and no interrupt of the host's
/// exits between. A machine check is the host's.
constexpr std::uint32_t exceptions_that_exit = bit_of(exception_vector::debug) |
                                               bit_of(exception_vector::alignment_check) |
                                               bit_of(exception_vector::machine_check);
/// While we step, which the guest would find in the flags that a delivery pushes. All but vector 2, which is
/// no exception.
constexpr std::uint32_t exceptions_of_a_step = ~bit_of(exception_vector::nmi_interrupt);

/// Whether DR6 has the cause of a breakpoint that DR7 enables. Causes may be there for others, too.
constexpr bool met_breakpoint(std::uint64_t dr6, std::uint64_t dr7) {
    for (unsigned i = 0; i != 4; ++i) {
        if ((dr6 >> i & 1) != 0 && (dr7 >> 2 * i & 3) != 0) {
            return true;
        }
    }
    return false;
}

/// An interrupt of the host's, with the event that was not delivered for it.
vm_exit exit_of(std::uint8_t vector) {
    if (vector == kernel::timer_vector) {
        kernel::end_interrupt();
        return {.kind = exit_kind::preempted};
    }
    return {.kind = exit_kind::external_interrupt, .vector = vector};
}

} // namespace

// ------------------------------------------------------------------------------- making a world

void world::turn_on() {
    kernel::turn_on_svm(kernel::take_frame());
    host_state = kernel::take_frame();
    extended_state::allow();
}

world::world(const pt::range<pt::io_port>* never_open, std::size_t count)
    : ports_{io_pages_, never_open, count}, msrs_{msr_pages_}, format_{second_level()} {
    using enum intercept;
    // The host's events; what the VMM answers; and what would be the host's: SVM itself, which
    // EFER.SVME gives to every guest, and what CPUID hides.
    for (const intercept each : {intr,     nmi,
                                 shutdown, cpuid,
                                 hlt,      ioio,
                                 msr,      vmmcall,
                                 vmrun,    vmload,
                                 vmsave,   stgi,
                                 clgi,     skinit,
                                 invlpga,  rdtscp,
                                 rdpmc,    invd,
                                 wbinvd,   monitor,
                                 mwait,    mwait_conditional,
                                 xsetbv}) {
        kernel::turn_on(vmcb_, each);
    }
    vmcb_.exception_intercepts = exceptions_that_exit;
    // Writes of DR0 to DR7. VMRUN and #VMEXIT exchange DR7, and with it what is enabled; but on QEMU 7.2 a
    // breakpoint that a guest has set stays, for the VMM and for all guests.
    vmcb_.dr_intercepts = 0xFFU << 16;
    vmcb_.cr_read_intercepts = 1U << 8;
    vmcb_.cr_write_intercepts = 1U << 4 | 1U << 8;
    vmcb_.iopm_base_pa = address_of(io_pages_);
    vmcb_.msrpm_base_pa = address_of(msr_pages_);
    vmcb_.guest_asid = ++address_spaces;
    vmcb_.tlb_control = flush_everything;
    using control = pt::svm::virtual_interrupt_control;
    vmcb_.interrupt_control = control{control::v_intr_masking(true)};
    vmcb_.nested_paging = 1;
    vmcb_.dr6 = dr6_with_no_cause;
    vmcb_.dr7 = dr7_always_set;
    vmcb_.pat = pat_after_reset;
    for (const pt::vcpu::msr_range each : open_msrs) {
        static_cast<void>(msrs_.open(each, pt::vcpu::msr_access::read_write));
    }
    set_state(cpu_state{});
}

world::~world() {
    if (inside == this) {
        inside = nullptr;
    }
}

pt::result<void> world::use_pages(const format& of, pt::hpa root) {
    const auto pointer = of.nested_cr3(root);
    if (!pointer) {
        return pointer.error();
    }
    format_ = of;
    root_ = root;
    vmcb_.nested_cr3 = pointer->raw;
    vmcb_.tlb_control = flush_everything;
    return {};
}

// ------------------------------------------------------------------------------------- its state

cpu_state world::state() const {
    return {.rip = vmcb_.rip,
            .rflags = rflags(),
            .cr0 = vmcb_.cr0,
            .cr2 = vmcb_.cr2,
            .cr3 = vmcb_.cr3,
            .cr4 = vmcb_.cr4,
            .efer = vmcb_.efer & ~kernel::efer_svm_enable,
            .cpl = vmcb_.cpl,
            .segments = {from_vmcb(vmcb_.es), from_vmcb(vmcb_.cs), from_vmcb(vmcb_.ss),
                         from_vmcb(vmcb_.ds), from_vmcb(vmcb_.fs), from_vmcb(vmcb_.gs)},
            .ldtr = from_vmcb(vmcb_.ldtr),
            .tr = from_vmcb(vmcb_.tr),
            .gdtr = {vmcb_.gdtr.base, static_cast<std::uint16_t>(vmcb_.gdtr.limit)},
            .idtr = {vmcb_.idtr.base, static_cast<std::uint16_t>(vmcb_.idtr.limit)}};
}

void world::set_state(const cpu_state& state) {
    using enum pt::vcpu::segment_register;
    vmcb_.rip = state.rip;
    vmcb_.cr0 = state.cr0;
    vmcb_.cr2 = state.cr2;
    vmcb_.cr3 = state.cr3;
    vmcb_.cr4 = state.cr4;
    vmcb_.efer = state.efer | kernel::efer_svm_enable; // VMRUN takes no other [amd]
    vmcb_.cpl = state.cpl;
    vmcb_.es = to_vmcb(state[es]);
    vmcb_.cs = to_vmcb(state[cs]);
    vmcb_.ss = to_vmcb(state[ss]);
    vmcb_.ds = to_vmcb(state[ds]);
    vmcb_.fs = to_vmcb(state[fs]);
    vmcb_.gs = to_vmcb(state[gs]);
    vmcb_.ldtr = to_vmcb(state.ldtr);
    vmcb_.tr = to_vmcb(state.tr);
    vmcb_.gdtr = {0, 0, state.gdtr.limit, state.gdtr.base};
    vmcb_.idtr = {0, 0, state.idtr.limit, state.idtr.base};
    vmcb_.interrupt_state = {};
    nmis_ = nmi_masking::unmasked;
    stop_stepping();
    vmcb_.rflags = state.rflags;
}

std::uint64_t world::rflags() const {
    const bool ours = stepping_ != stepping::no && !trap_flag_;
    return ours ? vmcb_.rflags & ~cpu_state::rflags_trap_flag : vmcb_.rflags;
}

void world::set_rflags(std::uint64_t value) {
    trap_flag_ = (value & cpu_state::rflags_trap_flag) != 0;
    vmcb_.rflags = stepping_ == stepping::no ? value : value | cpu_state::rflags_trap_flag;
}

pt::vcpu::event world::finish_instruction(std::uint8_t length) {
    stop_stepping();
    vmcb_.rip = pt::vcpu::rip_after(vmcb_.rip, length, state().code_size());
    vmcb_.interrupt_state = vmcb_.interrupt_state.after_instruction();
    vmcb_.rflags &= ~cpu_state::rflags_resume_flag;
    if ((rflags() & cpu_state::rflags_trap_flag) == 0) {
        return {};
    }
    return debug_exception(single_step);
}

/// A debug exception that the VMM raises, with what the processor does before it delivers one of its own.
pt::vcpu::event world::debug_exception(std::uint64_t cause) {
    vmcb_.dr6 |= cause;
    vmcb_.dr7 &= ~dr7_general_detect;
    return pt::vcpu::exception(exception_vector::debug);
}

pt::vcpu::instruction_bytes world::code() const {
    return code_of(state(), mapped_ram{format_, root_});
}

bool world::can_take_interrupt() const {
    return pt::svm::can_take_external_interrupt(vmcb_.rflags, vmcb_.interrupt_state,
                                                vmcb_.interrupt_control);
}

bool world::can_take_nmi() const {
    return pt::svm::can_take_nmi(vmcb_.interrupt_state, vmcb_.interrupt_control, nmis_);
}

pt::result<std::uint64_t> world::read_msr(std::uint32_t number) const {
    switch (number) {
    case efer_number: return vmcb_.efer & ~kernel::efer_svm_enable;
    case pat_number: return vmcb_.pat;
    default: return pt::error{pt::errc::absent, number};
    }
}

pt::result<void> world::write_msr(std::uint32_t number, std::uint64_t value) {
    switch (number) {
    case efer_number: {
        const auto efer = efer_after(state(), value);
        if (!efer) {
            return efer.error();
        }
        vmcb_.efer = *efer | kernel::efer_svm_enable;
        vmcb_.tlb_control = flush_everything; // NXE may have changed
        return {};
    }
    case pat_number:
        if (!is_pat(value)) {
            return pt::error{pt::errc::malformed, value};
        }
        vmcb_.pat = value;
        vmcb_.tlb_control = flush_everything;
        return {};
    default: return pt::error{pt::errc::absent, number};
    }
}

void world::end_interrupt() { kernel::end_interrupt(); }

// ----------------------------------------------------------------------------------- entry, exit

vm_exit world::run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds) {
    if (const auto vector = host_interrupts::next()) {
        vm_exit exit = exit_of(*vector);
        exit.interrupted = decision.event;
        return exit;
    }
    if (inside != this) {
        if (inside != nullptr) {
            inside->extended_.save();
        }
        extended_.restore();
        inside = this;
    }
    prepare(decision);
    // An NMI that lets an event go first wants to be asked about soon.
    const bool soon = decision.nmi_window && decision.event.present;
    kernel::start_timer(soon || nanoseconds == 0 ? 1 : nanoseconds);
    vmcb_.rax = general_[general_register::rax];
    vmcb_.rsp = general_[general_register::rsp];
    svm_enter(general_.raw, address_of(&vmcb_), host_state.raw);
    general_[general_register::rax] = vmcb_.rax;
    general_[general_register::rsp] = vmcb_.rsp;
    kernel::start_timer(0);

    const std::uint32_t flush = std::exchange(vmcb_.tlb_control, 0);
    vm_exit exit = explain();
    if (exit.kind == exit_kind::failed) {
        exit.interrupted = decision.event;
        vmcb_.tlb_control = flush;
    }
    return exit;
}

vm_exit world::halt(std::uint64_t nanoseconds) {
    if (const auto vector = host_interrupts::next()) {
        return exit_of(*vector);
    }
    host_interrupts::wait(nanoseconds == 0 ? 1 : nanoseconds);
    const auto vector = host_interrupts::next();
    return vector ? exit_of(*vector) : vm_exit{.kind = exit_kind::preempted};
}

/// What the decision says, in the VMCB.
void world::prepare(const pt::lapic::entry_decision& decision) {
    deliver(decision.event);

    auto& control = vmcb_.interrupt_control;
    if (decision.interrupt_window) {
        control = control.with_interrupt_window();
        kernel::turn_on(vmcb_, intercept::vintr);
    } else {
        control = control.without_interrupt_window();
        kernel::turn_off(vmcb_, intercept::vintr);
    }

    // The IRET of the NMI's handler exits before it is executed: one step, and NMIs are unmasked.
    // An interrupt shadow holds an NMI back, too, and ends with one step.
    const bool masked = nmis_ == nmi_masking::masked;
    if (masked && stepping_ == stepping::no) {
        kernel::turn_on(vmcb_, intercept::iret);
    } else {
        kernel::turn_off(vmcb_, intercept::iret);
    }
    if (decision.nmi_window && !masked && !decision.event.present && stepping_ == stepping::no) {
        step(stepping::out_of_shadow);
    }
}

void world::deliver(const pt::vcpu::event& event) {
    using pt::svm::return_address;
    if (event.present) {
        stop_stepping(); // or the handler finds our trap flag
    }
    const pt::svm::injection_words what =
        pt::svm::injection_of(event, pt::vcpu::mode_of(vmcb_.cr0));
    vmcb_.injection = what.injection;
    if (what.returns_to == return_address::next_rip && kernel::has_next_rip()) {
        vmcb_.next_rip = vmcb_.rip + what.instruction_length;
    } else if (what.returns_to != return_address::rip) {
        vmcb_.rip += what.instruction_length;
    }
    if (event.present && event.type == pt::vcpu::event_type::nmi) {
        nmis_ = nmi_masking::masked;
    }
}

/// The guest executes the next instruction, and no more. DR6 says nothing then but what it has caused.
void world::step(stepping over) {
    if (stepping_ == stepping::no) {
        trap_flag_ = (vmcb_.rflags & cpu_state::rflags_trap_flag) != 0;
        dr6_ = std::exchange(vmcb_.dr6, dr6_with_no_cause);
    }
    stepping_ = over;
    vmcb_.rflags |= cpu_state::rflags_trap_flag;
    vmcb_.exception_intercepts = exceptions_of_a_step;
}

/// Flags and DR6 are the guest's own again, whether the instruction has been executed or not.
void world::stop_stepping() {
    if (stepping_ == stepping::no) {
        return;
    }
    stepping_ = stepping::no;
    if (!trap_flag_) {
        vmcb_.rflags &= ~cpu_state::rflags_trap_flag;
    }
    vmcb_.dr6 |= dr6_;
    vmcb_.exception_intercepts = exceptions_that_exit;
}

/// The guest's, which gets it; or the trap behind the instruction that we step over.
void world::explain_exception(vm_exit& exit, exception_vector which) {
    if (which == exception_vector::machine_check) {
        asm volatile("int $18");
        return;
    }
    const bool trap = stepping_ != stepping::no && which == exception_vector::debug &&
                      (vmcb_.dr6 & single_step) != 0;
    const bool ours = trap && !trap_flag_;
    const bool theirs_too = met_breakpoint(vmcb_.dr6, vmcb_.dr7);
    if (ours) {
        vmcb_.dr6 = theirs_too ? vmcb_.dr6 & ~single_step : dr6_with_no_cause;
    }
    if (trap && stepping_ == stepping::over_iret) {
        nmis_ = nmi_masking::unmasked;
        trap_flag_ = (vmcb_.rflags & cpu_state::rflags_trap_flag) != 0; // IRET has loaded it
    }
    stop_stepping();
    if (ours && !theirs_too) {
        return;
    }
    const bool by_instruction =
        which == exception_vector::breakpoint || which == exception_vector::overflow;
    const std::uint8_t length =
        by_instruction ? instruction(exit, exit_kind::handled).length : std::uint8_t{0};
    const pt::vcpu::event found = pt::svm::exit_event(vmcb_.exit_code, vmcb_.exit_info_1, length);
    if (which == exception_vector::page_fault) {
        vmcb_.cr2 = vmcb_.exit_info_2;
        exit.interrupted = found; // as if on its way: who raises one chooses another CR2
    } else {
        exit.raise = found;
    }
}

vm_exit world::explain() {
    vm_exit exit{.kind = exit_kind::handled,
                 .interrupted = pt::svm::interrupted_event(vmcb_.exit_interrupt),
                 .words = {static_cast<std::uint64_t>(vmcb_.exit_code), vmcb_.exit_info_1,
                           vmcb_.exit_info_2, vmcb_.exit_interrupt.raw}};
    exit.code.rip = vmcb_.rip;
    exit.code.code = state().code_size();

    switch (vmcb_.exit_code) {
    case exit_code::intr: {
        host_interrupts::collect();
        const auto vector = host_interrupts::next();
        if (vector) { // or it was a spurious one
            const vm_exit found = exit_of(*vector);
            exit.kind = found.kind;
            exit.vector = found.vector;
        }
        return exit;
    }
    case exit_code::nmi: return exit; // the host has taken it as soon as it could
    case exit_code::vintr: exit.kind = exit_kind::interrupt_window; return exit;
    case exit_code::iret: step(stepping::over_iret); return exit;
    case exit_code::shutdown: exit.kind = exit_kind::shutdown; return exit;
    case exit_code::nested_page_fault:
        exit.kind = exit_kind::memory;
        exit.memory = pt::svm::violation_of(
            pt::svm::nested_page_fault_information{vmcb_.exit_info_1}, pt::gpa{vmcb_.exit_info_2});
        if (!exit.memory.final_translation) {
            // SVM does not say for which address the guest's tables were walked. Where they have gone as a
            // whole, which shuts the guest down, it is the next instruction's.
            exit.memory.has_linear_address = true;
            exit.memory.linear_address = vmcb_.rip;
        }
        return exit;
    case exit_code::ioio: explain_io(exit); return exit;
    case exit_code::cpuid: return instruction(exit, exit_kind::cpuid);
    case exit_code::hlt: return instruction(exit, exit_kind::hlt);
    case exit_code::vmmcall: return instruction(exit, exit_kind::hypercall);
    case exit_code::msr: explain_msr(exit); return exit;
    case exit_code::invd:
    case exit_code::wbinvd: // whatever is cached may stay so
        exit.raise = finish_instruction(instruction(exit, exit_kind::handled).length);
        return exit;
    case exit_code::rdpmc: exit.raise = general_protection; return exit;
    case exit_code::vmrun:
    case exit_code::vmload:
    case exit_code::vmsave:
    case exit_code::stgi:
    case exit_code::clgi:
    case exit_code::skinit:
    case exit_code::invlpga:
    case exit_code::rdtscp:
    case exit_code::monitor:
    case exit_code::mwait:
    case exit_code::mwait_conditional:
    case exit_code::xsetbv: exit.raise = invalid_opcode; return exit;
    default: break;
    }

    const auto raw = static_cast<std::uint64_t>(vmcb_.exit_code);
    const auto exception = pt::svm::number_of(vmcb_.exit_code, exit_code::exception_0);
    if (exception) {
        explain_exception(exit, exception_vector{*exception});
    } else if (const auto written = pt::svm::number_of(vmcb_.exit_code, exit_code::dr0_write)) {
        explain_debug_register(exit, *written);
    } else if (pt::svm::number_of(vmcb_.exit_code, exit_code::cr0_read) ||
               pt::svm::number_of(vmcb_.exit_code, exit_code::cr0_write)) {
        explain_control_register(exit);
    } else if (static_cast<std::uint32_t>(raw) ==
               static_cast<std::uint32_t>(exit_code::invalid)) { // QEMU 7.2 stores 32 bits of it
        exit.kind = exit_kind::failed;
        exit.why = "VMRUN does not take the VMCB";
    } else {
        exit.kind = exit_kind::other;
        exit.why = "an exit that nobody asked for";
    }
    return exit;
}

/// The same with the length, by nRIP where the processor has it.
vm_exit& world::instruction(vm_exit& exit, exit_kind kind) const {
    exit.kind = kind;
    const std::uint64_t reported = vmcb_.next_rip - vmcb_.rip;
    if (kernel::has_next_rip() && reported != 0 && reported <= pt::vcpu::longest_instruction) {
        exit.length = static_cast<std::uint8_t>(reported);
        return exit;
    }
    const pt::vcpu::instruction_bytes bytes = code();
    const auto length = pt::vcpu::instruction_length(bytes.bytes, bytes.count, bytes.code);
    if (length) {
        exit.length = *length;
    } else {
        exit.kind = exit_kind::other;
        exit.why = "an instruction without a length";
    }
    return exit;
}

void world::explain_io(vm_exit& exit) const {
    const pt::svm::ioio_exit_information information{vmcb_.exit_info_1};
    pt::svm::string_operand operand{};
    if (information[pt::svm::ioio_exit_information::string]) {
        // Not every processor says where it lies.
        const pt::vcpu::instruction_bytes bytes = code();
        const auto prefixes = pt::vcpu::prefixes_of(bytes.bytes, bytes.count, bytes.code);
        operand = pt::svm::string_operand_of(prefixes, bytes.code);
    }
    const auto found =
        pt::svm::io_instruction_of(information, vmcb_.exit_info_2 - vmcb_.rip, operand);
    if (!found) {
        exit.kind = exit_kind::other;
        exit.why = "an I/O exit as there is none";
        return;
    }
    exit.kind = exit_kind::io;
    exit.io = *found;
    exit.length = found->length;
}

/// The general register of a MOV to or from a control or debug register. Outside of 64-bit code it has 32
/// bits; those above are undefined there [amd], and 0 from now on. errc::absent: the instruction cannot be
/// read.
pt::result<general_register> world::register_operand() {
    // Prefixes, 0FH, 20H to 23H, and ModR/M with the register in bits 2:0 [amd, MOV CRn, MOV DRn].
    const pt::vcpu::instruction_bytes bytes = code();
    const auto prefixes = pt::vcpu::prefixes_of(bytes.bytes, bytes.count, bytes.code);
    if (prefixes.count + 2 >= bytes.count) {
        return pt::error{pt::errc::absent, vmcb_.rip};
    }
    unsigned number = bytes.bytes[prefixes.count + 2] & 7U;
    if (bytes.code == pt::vcpu::code_size::bits_64 && prefixes.count != 0) {
        const std::uint8_t rex = bytes.bytes[prefixes.count - 1];
        number |= (rex & 0xF1U) == 0x41 ? 8U : 0U;
    }
    const auto with = static_cast<general_register>(number);
    if (bytes.code != pt::vcpu::code_size::bits_64) {
        general_[with] &= 0xFFFF'FFFF;
    }
    return with;
}

/// MOV to CR4, and to and from CR8.
void world::explain_control_register(vm_exit& exit) {
    const auto with = register_operand();
    if (!with) {
        exit.kind = exit_kind::other;
        exit.why = "an instruction that cannot be read";
        return;
    }
    const auto written = pt::svm::number_of(vmcb_.exit_code, exit_code::cr0_write);
    if (!written || *written == 8) {
        exit = instruction(exit, exit_kind::cr8);
        exit.cr8 = {written ? cr8_access::direction::to_cr8 : cr8_access::direction::from_cr8,
                    *with};
        return;
    }
    const std::uint64_t value = general_[*with];
    const bool long_mode = (vmcb_.efer & cpu_state::efer_long_mode_active) != 0;
    if ((value & ~cr4_of_a_guest) != 0 ||
        (long_mode && (value & cpu_state::cr4_physical_address_extension) == 0)) {
        exit.raise = general_protection;
        return;
    }
    if (instruction(exit, exit_kind::handled).kind == exit_kind::handled) {
        vmcb_.cr4 = value;
        vmcb_.tlb_control = flush_everything;
        exit.raise = finish_instruction(exit.length);
    }
}

/// MOV to DR0 to DR7. DR0 to DR3 are in the processor, and mean nothing there: DR7 is the host's now.
void world::explain_debug_register(vm_exit& exit, std::uint8_t number) {
    const auto with = register_operand();
    if (!with || instruction(exit, exit_kind::handled).kind != exit_kind::handled) {
        exit.kind = exit_kind::other;
        exit.why = "an instruction that cannot be read";
        return;
    }
    const bool by_its_old_name = number == 4 || number == 5;
    if (by_its_old_name && (vmcb_.cr4 & cr4_debugging_extensions) != 0) {
        exit.raise = invalid_opcode;
        return;
    }
    if ((vmcb_.dr7 & dr7_general_detect) != 0) {
        exit.raise = debug_exception(register_access);
        return;
    }
    const std::uint64_t value = general_[*with];
    if (number >= 4 && value >> 32 != 0) {
        exit.raise = general_protection;
        return;
    }
    switch (number) {
    case 0: asm volatile("mov %0, %%dr0" : : "r"(value)); break;
    case 1: asm volatile("mov %0, %%dr1" : : "r"(value)); break;
    case 2: asm volatile("mov %0, %%dr2" : : "r"(value)); break;
    case 3: asm volatile("mov %0, %%dr3" : : "r"(value)); break;
    case 4:
    case 6:
        stop_stepping(); // which brings the old causes back
        vmcb_.dr6 = (value & dr6_of_a_guest) | dr6_with_no_cause;
        break;
    default: vmcb_.dr7 = (value & dr7_of_a_guest) | dr7_always_set; break;
    }
    exit.raise = finish_instruction(exit.length);
}

void world::explain_msr(vm_exit& exit) {
    const bool write = vmcb_.exit_info_1 != 0;
    if (instruction(exit, write ? exit_kind::write_msr : exit_kind::read_msr).kind ==
        exit_kind::other) {
        return;
    }
    handle_own_msr(*this, exit);
}

} // namespace vmm::svm
