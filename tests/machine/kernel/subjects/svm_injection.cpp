// SPDX-License-Identifier: BSL-1.0
//
// Events that VMRUN delivers by pt's words: the guest's own handler runs, with the return address,
// the flags and the error code that it would find without a hypervisor.
#include "../svm.hpp"

#include "pt/svm/event.hpp"
#include "pt/vcpu/event.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using pt::svm::event_injection;
using pt::svm::exit_code;
using pt::vcpu::event;
using pt::vcpu::event_type;
using pt::vcpu::exception_vector;

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
    return found.any && found.vector == what.vector &&
           found.return_address == guest::code.raw + behind &&
           (found.rflags & interrupt_flag) != 0 && found.has_error_code == what.has_error_code &&
           found.error_code == what.error_code && !machine.interrupt_flag();
}

/// Whether the guest has gone on to its HLT as if nothing had been.
bool has_returned(const guest& machine) {
    return machine.rip() == guest::code.raw + nops && machine.rsp() == guest::stack.raw &&
           machine.interrupt_flag() && !machine.in_interrupt_shadow();
}

void check_delivery(const char* name, guest& machine, const event& what) {
    prepare(machine);
    machine.deliver(what);
    const bool accepted = pt::svm::injection_accepted(machine.words().injection);
    const handled_event found = machine.enter_for_event();
    bool holds = accepted && is_right(machine, found, what, what.instruction_length);
    if (!holds) {
        kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                    found.return_address, ", flags ", found.rflags, ", error code ",
                    found.error_code);
    }
    // The processor has used the field up: the next entry delivers nothing.
    holds = holds && !machine.words().injection[event_injection::valid] &&
            !machine.interrupted().present;
    if (found.any) {
        machine.end_handler();
        holds = machine.exits_with(exit_code::hlt) && has_returned(machine) && holds;
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
        if (!machine.exits_with(exit_code::hlt) || !has_returned(machine)) {
            ++wrong;
        }
    }
    check_equal("every vector has its handler", wrong, 0);
}

/// VMRUN asks nothing: this is why pt asks.
void nothing_is_asked(guest& machine) {
    prepare(machine);
    machine.set_interrupt_flag(false);
    check("pt would not inject while RFLAGS.IF is 0",
          !pt::svm::can_take_external_interrupt(machine.words().rflags,
                                                machine.words().interrupt_state,
                                                machine.words().interrupt_control));
    machine.deliver(pt::vcpu::external_interrupt(0x77));
    check_equal("the processor would", machine.enter_for_event().vector, 0x77);
}

/// Which words VMRUN refuses. Of the exceptions, 31 is left out: it is one of those that [amd]
/// reserves, and a processor may refuse them. QEMU 7.2 does so with 31 and with no other.
void refused(guest& machine) {
    unsigned wrong = 0;
    unsigned refusals = 0;
    for (unsigned type = 0; type < 8; ++type) {
        for (unsigned vector = 0; vector < 256; ++vector) {
            using pt::svm::injection_type;
            const injection_type kind{static_cast<std::uint8_t>(type)};
            if (kind == injection_type::exception && vector == 31) {
                continue;
            }
            const event_injection words{event_injection::valid(true), event_injection::type(kind),
                                        event_injection::vector(static_cast<std::uint8_t>(vector))};
            // Each time anew: QEMU 7.2 leaves the host's state in a VMCB that it refuses.
            machine.start(guest_mode::protected_32);
            prepare(machine);
            machine.words().injection = words;
            const bool entered = machine.enter();
            refusals += entered ? 0 : 1;
            if (entered != pt::svm::injection_accepted(words)) {
                ++wrong;
                kernel::say("EVENTINJ ", words.raw);
            }
        }
    }
    check_equal("pt knows what VMRUN refuses", wrong, 0);
    // Four reserved types, and no exception has the vector 2 or one from 32 on.
    check_equal("and it does refuse", refusals, 4 * 256 + 1 + 224);
}

void run() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        every_kind(machine, mode);
        every_vector(machine);
        nothing_is_asked(machine);
    }
    kernel::begin_part(nullptr);
    refused(machine);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"svm_injection", run};

} // namespace
