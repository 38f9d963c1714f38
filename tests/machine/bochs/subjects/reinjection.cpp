// SPDX-License-Identifier: BSL-1.0
//
// Events whose delivery an exit interrupts: the guest's gates or its stack are not mapped when the
// processor needs them. What pt delivers again is the same event, and the handler runs once.
#include "../virtual_interrupts.hpp"

#include "pt/vcpu/event.hpp"
#include "pt/vmx/interruption.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::virtual_interrupts;
using kernel::vmcs_field;
using kernel::vmread;
using pt::gpa;
using pt::vcpu::event;
using pt::vcpu::event_type;
using pt::vcpu::exception_vector;
using pt::vmx::exit_reason;
using state = pt::vmx::interruptibility_state;

gpa gates_of(guest_mode mode) {
    return mode == guest_mode::real ? guest::gates_real : guest::gates;
}

/// How an event comes about, and what it is.
struct source {
    const char* name;
    void (*cause)(guest&,
                  virtual_interrupts&); ///< the guest's code is placed, and the event raised
    event what;
    std::uint64_t behind = 0; ///< of the return address, behind the guest's first instruction
};

constexpr std::uint8_t nop = 0x90;
constexpr std::uint8_t hlt = 0xF4;
constexpr std::uint8_t vector = 0x61;

void interrupt(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(true);
    interrupts.raise(vector);
}
void nmi(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, nop, hlt});
    interrupts.raise_nmi();
}
void exception_of_vmm(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, nop, hlt});
    const bool real = machine.mode() == guest_mode::real;
    const auto segment = exception_vector::segment_not_present;
    check("the VMM raises an exception",
          interrupts.injector().raise(real ? pt::vcpu::exception(segment)
                                           : pt::vcpu::exception(segment, 0x38)));
}
// The rest is the guest's own doing.
void int_n(guest& machine, virtual_interrupts&) { machine.execute({0xCD, 0x41, hlt}); }
void int_3(guest& machine, virtual_interrupts&) { machine.execute({0xCC, nop, hlt}); }
void int_1(guest& machine, virtual_interrupts&) { machine.execute({0xF1, nop, hlt}); }
void undefined(guest& machine, virtual_interrupts&) { machine.execute({0x0F, 0x0B, hlt}); }
void bad_selector(guest& machine, virtual_interrupts&) {
    machine.general.rax = 0x50;         // beyond the limit
    machine.execute({0x8E, 0xD8, hlt}); // mov %eax, %ds
}

constexpr event software(event_type type, std::uint8_t number, std::uint8_t length) {
    return {.present = true, .type = type, .vector = number, .instruction_length = length};
}

constexpr source everywhere[] = {
    {"an external interrupt", interrupt, pt::vcpu::external_interrupt(vector)},
    {"an NMI", nmi, pt::vcpu::nmi()},
    {"INT n", int_n, software(event_type::software_interrupt, 0x41, 2), 2},
    {"INT3", int_3, software(event_type::software_exception, 3, 1), 1},
    {"INT1", int_1, software(event_type::privileged_software_exception, 1, 1), 1},
    {"#UD of the guest", undefined, pt::vcpu::exception(exception_vector::invalid_opcode)},
};
constexpr source in_real_mode[] = {
    {"an exception of the VMM", exception_of_vmm,
     pt::vcpu::exception(exception_vector::segment_not_present)},
};
constexpr source in_protected_mode[] = {
    {"an exception of the VMM", exception_of_vmm,
     pt::vcpu::exception(exception_vector::segment_not_present, 0x38)},
    {"#GP of the guest", bad_selector,
     pt::vcpu::exception(exception_vector::general_protection, 0x50)},
};

/// What arrives at the handler, and that it is all that arrives.
void check_arrival(guest& machine, virtual_interrupts& interrupts, const source& from,
                   const handled_event& found) {
    const event& what = from.what;
    const bool holds = found.any && found.vector == what.vector &&
                       found.return_address == guest::code.raw + from.behind &&
                       found.has_error_code == what.has_error_code &&
                       found.error_code == what.error_code &&
                       machine.blocking()[state::blocking_by_nmi] == (what.type == event_type::nmi);
    if (!check("it arrives", holds)) {
        kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                    found.return_address, ", error code ", found.error_code);
    }
    if (!found.any) {
        return;
    }
    if (what.type == event_type::external_interrupt) {
        static_cast<void>(interrupts.apic().eoi());
    }
    // Instead of an instruction that would fault again. HLT follows each of them.
    machine.at<std::uint8_t>(guest::code)[0] = nop;
    machine.at<std::uint8_t>(guest::code)[1] = nop;
    machine.end_handler();
    check("it arrives once", interrupts.runs_until(exit_reason::hlt) &&
                                 !interrupts.decided().event.present &&
                                 machine.rip() == guest::code.raw + 2 &&
                                 machine.rsp() == guest::stack.raw && machine.blocking().raw == 0);
}

/// One entry whose delivery of the event an EPT violation interrupts, and the page that was
/// missing.
gpa check_interruption(const char* name, guest& machine, virtual_interrupts& interrupts,
                       const event& what) {
    interrupts.decide();
    // VM entry demands it of an NMI [sdm], but not so Bochs 2.7.
    const bool enterable = !interrupts.decided().event.present ||
                           interrupts.decided().event.type != event_type::nmi ||
                           !machine.blocking()[state::blocking_by_nmi];
    const bool exits = interrupts.enter() && machine.reason() == exit_reason::ept_violation;
    if (!check(name, enterable && exits && machine.interrupted() == what)) {
        kernel::say("reason ", std::uint64_t{machine.reason_word().raw},
                    ", IDT-vectoring information ", std::uint64_t{machine.idt_vectoring().raw},
                    ", error code ", vmread(vmcs_field::idt_vectoring_error_code), ", length ",
                    vmread(vmcs_field::exit_instruction_length));
    }
    return gpa{vmread(vmcs_field::guest_physical_address)}.align_down(4 * pt::KiB);
}

void check_source(guest& machine, guest_mode mode, const source& from) {
    kernel::begin_part(name(mode), from.name);
    virtual_interrupts interrupts{machine};
    machine.start(mode);
    from.cause(machine, interrupts);
    const gpa gates = gates_of(mode);
    machine.unmap(gates);
    machine.unmap(guest::stack_page);

    // Which page the processor needs first is its own affair.
    const gpa page = check_interruption("a page is missing", machine, interrupts, from.what);
    const gpa again = check_interruption("it is missing still", machine, interrupts, from.what);
    check("and is the same", page == again && (page == gates || page == guest::stack_page));
    machine.map(page);
    const gpa other =
        check_interruption("then the other one is missing", machine, interrupts, from.what);
    check("the gates' or the stack's", other == (page == gates ? guest::stack_page : gates));
    machine.map(other);
    check_arrival(machine, interrupts, from, interrupts.runs_to_handler());
}

void interrupted_deliveries() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        for (const source& each : everywhere) {
            check_source(machine, mode, each);
        }
        if (mode == guest_mode::real) {
            check_source(machine, mode, in_real_mode[0]);
        } else {
            for (const source& each : in_protected_mode) {
                check_source(machine, mode, each);
            }
        }
    }
    kernel::begin_part(nullptr);
}

// ----------------------------------------------------------------------------------- interrupted
// IRET

/// The IRET of an NMI's handler that exits has ended blocking by NMI already: it must block again
/// while the guest executes it anew.
void interrupted_iret() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        virtual_interrupts interrupts{machine};
        machine.start(mode);
        machine.execute({nop, hlt});
        interrupts.raise_nmi();
        check_equal("an NMI arrives", interrupts.runs_to_handler().vector, 2);
        machine.unmap(guest::stack_page);
        machine.end_handler();
        check("its IRET misses the stack", interrupts.runs_until(exit_reason::ept_violation));
        check("no delivery was interrupted", !machine.interrupted().present);
        check("NMIs are blocked again", machine.blocking()[state::blocking_by_nmi]);

        interrupts.raise_nmi();
        machine.map(guest::stack_page);
        check("the next NMI waits for the window",
              !interrupts.decide().event.present && interrupts.decided().nmi_window);
        check("which opens behind the IRET",
              interrupts.runs_until(exit_reason::nmi_window) && machine.rip() == guest::code.raw);
        check_equal("then it arrives", interrupts.runs_to_handler().vector, 2);
        machine.end_handler();
        check("and it is the last", interrupts.runs_until(exit_reason::hlt));
    }
    kernel::begin_part(nullptr);
}

// ------------------------------------------------------------------- exceptions in the middle of
// it

/// Exceptions that exit, and that the VMM gives to the guest: as the processor combines them, and
/// without losing an interrupt in whose delivery one came up.
void take_present_bit(guest& machine, std::uint8_t gate) {
    const std::size_t size = machine.mode() == guest_mode::long_64 ? 2 : 1;
    machine.at<std::uint64_t>(guest::gates)[size * gate] ^= std::uint64_t{1} << 47;
}

event exception_of_exit() {
    const auto field = [](vmcs_field which) { return static_cast<std::uint32_t>(vmread(which)); };
    return pt::vmx::exit_event(
        pt::vmx::exit_interruption_information{field(vmcs_field::exit_interruption_information)},
        field(vmcs_field::exit_error_code), field(vmcs_field::exit_instruction_length));
}

/// The error code of a fault that a gate of the IDT causes, `external` or not [sdm, Error Code].
constexpr std::uint32_t code_of_gate(std::uint8_t gate, bool external) {
    return gate * 8U + 2U + (external ? 1U : 0U);
}

void exceptions_in_delivery() {
    guest machine;
    constexpr auto not_present = exception_vector::segment_not_present;
    constexpr auto general_protection = exception_vector::general_protection;
    for (const guest_mode mode : {guest_mode::protected_32, guest_mode::long_64}) {
        kernel::begin_part(name(mode), "in the delivery of an interrupt");
        {
            virtual_interrupts interrupts{machine};
            machine.start(mode);
            kernel::vmwrite(vmcs_field::exception_bitmap, 1U << std::uint8_t(not_present));
            interrupt(machine, interrupts);
            take_present_bit(machine, vector);
            check("#NP exits", interrupts.runs_until(exit_reason::exception_or_nmi));
            const event fault = exception_of_exit();
            check("it says which gate",
                  fault == pt::vcpu::exception(not_present, code_of_gate(vector, true)));
            check("the interrupt did not arrive",
                  machine.interrupted() == pt::vcpu::external_interrupt(vector));
            check("the VMM raises #NP", interrupts.injector().raise(fault));
            const handled_event first = interrupts.runs_to_handler();
            check("#NP arrives", first.any && first.vector == fault.vector &&
                                     first.error_code == fault.error_code &&
                                     first.return_address == guest::code.raw);
            take_present_bit(machine, vector); // gives it back
            machine.end_handler();
            check("the interrupt waits for its handler's end",
                  interrupts.runs_until(exit_reason::interrupt_window));
            const handled_event second = interrupts.runs_to_handler();
            check("then it arrives", second.any && second.vector == vector &&
                                         second.return_address == guest::code.raw);
            static_cast<void>(interrupts.apic().eoi());
            machine.end_handler();
            check("once", interrupts.runs_until(exit_reason::hlt));
        }

        kernel::begin_part(name(mode), "in the delivery of an exception");
        {
            virtual_interrupts interrupts{machine};
            machine.start(mode);
            kernel::vmwrite(vmcs_field::exception_bitmap, 1U << std::uint8_t(not_present));
            bad_selector(machine, interrupts);
            take_present_bit(machine, std::uint8_t(general_protection));
            check("#NP exits", interrupts.runs_until(exit_reason::exception_or_nmi));
            check("#GP did not arrive",
                  machine.interrupted() == pt::vcpu::exception(general_protection, 0x50));
            check("the VMM raises #NP", interrupts.injector().raise(exception_of_exit()));
            const handled_event both = interrupts.runs_to_handler();
            check("together they are a double fault",
                  both.any && both.vector == 8 && both.has_error_code && both.error_code == 0);
        }
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"interrupted_delivery",
                                                                         interrupted_deliveries};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"interrupted_iret",
                                                                          interrupted_iret};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"exception_in_delivery",
                                                                         exceptions_in_delivery};

} // namespace
