// SPDX-License-Identifier: BSL-1.0
//
// Events that VM entry delivers by pt's words: the guest's own handler runs, with the return
// address, the flags and the error code that it would find without a hypervisor.
#include "../vmx.hpp"

#include "pt/vcpu/event.hpp"
#include "pt/vmx/interruptibility.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::vmcs_field;
using pt::vcpu::event;
using pt::vcpu::event_type;
using pt::vcpu::exception_vector;
using pt::vmx::exit_reason;
using blocking_state = pt::vmx::interruptibility_state;

constexpr std::uint64_t interrupt_flag = 1U << 9;
constexpr unsigned nops = 3;

void prepare(guest& machine) {
    machine.execute({0x90, 0x90, 0x90, 0xF4, 0xF4}); // nop; nop; nop; hlt; hlt
    machine.set_interrupt_flag(true);
}

/// Whether the handler of `what` has found what it must. `behind`: how far its return address lies
/// behind the instruction at which the event came.
bool is_right(const guest& machine, const handled_event& found, const event& what,
              std::uint64_t behind) {
    const bool nmi = what.type == event_type::nmi;
    return found.any && found.vector == what.vector &&
           found.return_address == guest::code.raw + behind &&
           (found.rflags & interrupt_flag) != 0 && found.has_error_code == what.has_error_code &&
           found.error_code == what.error_code && (machine.rflags() & interrupt_flag) == 0 &&
           machine.blocking()[blocking_state::blocking_by_nmi] == nmi;
}

/// Whether the guest has gone on to its HLT as if nothing had been.
bool has_returned(const guest& machine) {
    return machine.rip() == guest::code.raw + nops && machine.rsp() == guest::stack.raw &&
           (machine.rflags() & interrupt_flag) != 0 && machine.blocking().raw == 0;
}

void check_delivery(const char* name, guest& machine, const event& what) {
    prepare(machine);
    machine.deliver(what);
    const handled_event found = machine.enter_for_event();
    bool holds = is_right(machine, found, what, what.instruction_length);
    if (!holds) {
        kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                    found.return_address, ", flags ", found.rflags, ", error code ",
                    found.error_code, ", blocking ", std::uint64_t{machine.blocking().raw});
    }
    // The processor has used the field up: the next entry delivers nothing.
    holds = holds && (vmread(vmcs_field::entry_interruption_information) >> 31) == 0;
    if (found.any) {
        machine.end_handler();
        holds = machine.exits_with(exit_reason::hlt) && has_returned(machine) && holds;
    }
    check(name, holds);
}

event software(event_type type, std::uint8_t vector, std::uint8_t length) {
    return {.present = true, .type = type, .vector = vector, .instruction_length = length};
}

void every_kind(guest& machine, guest_mode mode) {
    using enum event_type;
    check_delivery("an external interrupt", machine, pt::vcpu::external_interrupt(0x77));
    check_delivery("an NMI", machine, pt::vcpu::nmi());
    check_delivery("an exception without error code", machine,
                   pt::vcpu::exception(exception_vector::invalid_opcode));
    check_delivery("INT n", machine, software(software_interrupt, 0x41, 2));
    check_delivery("INT n of the vector of an exception with error code", machine,
                   software(software_interrupt, 13, 2));
    check_delivery("INT3", machine, software(software_exception, 3, 1));
    check_delivery("INTO", machine, software(software_exception, 4, 1));
    check_delivery("INT1", machine, software(privileged_software_exception, 1, 1));
    const auto general_protection = exception_vector::general_protection;
    if (mode == guest_mode::real) {
        check_delivery("#GP", machine, pt::vcpu::exception(general_protection));
    } else {
        check_delivery("#GP", machine, pt::vcpu::exception(general_protection, 0x5672));
        check_delivery("#PF", machine, pt::vcpu::exception(exception_vector::page_fault, 0x6));
        check_delivery("#DF", machine, pt::vcpu::exception(exception_vector::double_fault, 0));
    }
}

void every_vector(guest& machine) {
    unsigned wrong = 0;
    for (unsigned vector = 32; vector < 256; ++vector) {
        const event interrupt = pt::vcpu::external_interrupt(static_cast<std::uint8_t>(vector));
        prepare(machine);
        machine.deliver(interrupt);
        if (!is_right(machine, machine.enter_for_event(), interrupt, 0)) {
            ++wrong;
            break;
        }
        machine.end_handler();
        if (!machine.exits_with(exit_reason::hlt) || !has_returned(machine)) {
            ++wrong;
        }
    }
    check_equal("every vector has its handler", wrong, 0);
}

void wakes(guest& machine, const char* name, const event& what) {
    prepare(machine);
    machine.go_to(guest::code + nops + 1); // behind HLT
    vmwrite(vmcs_field::guest_activity, static_cast<std::uint64_t>(pt::vmx::activity_state::hlt));
    machine.deliver(what);
    const handled_event found = machine.enter_for_event();
    const bool holds = is_right(machine, found, what, nops + 1) &&
                       vmread(vmcs_field::guest_activity) ==
                           static_cast<std::uint64_t>(pt::vmx::activity_state::active);
    if (!found.any) {
        check(name, false);
    } else {
        // To its IRET, too: where a VM entry must end blocking by NMI, Bochs 2.7 keeps it.
        machine.end_handler();
        check(name, machine.exits_with(exit_reason::hlt) && holds);
    }
}

void run() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        every_kind(machine, mode);
        every_vector(machine);
        wakes(machine, "an interrupt ends HLT", pt::vcpu::external_interrupt(0x31));
        wakes(machine, "so does an NMI", pt::vcpu::nmi());
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"injection", run};

} // namespace
