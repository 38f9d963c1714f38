// SPDX-License-Identifier: BSL-1.0
//
// Events whose delivery an exit interrupts: the guest's gates or its stack are not mapped when the
// processor needs them. What pt delivers again is the same event, and the handler runs once.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"
#include "injection.hpp"
#include "instructions.hpp"

#include "pt/core/address.hpp"
#include "pt/vcpu/event.hpp"

#include <cstdint>

namespace guest_tests {

using pt::vcpu::event;
using pt::vcpu::exception_vector;

/// How an event comes about, and what it is.
template <class Interrupts>
struct event_source {
    const char* name;
    void (*cause)(Interrupts&); ///< the guest's code is placed, and the event raised
    event what;
    std::uint64_t behind = 0; ///< of the return address, behind the guest's first instruction
};

inline constexpr std::uint8_t interrupted_vector = 0x61;
inline constexpr std::uint32_t bad_selector = 0x50; // beyond the limit

template <class Interrupts>
void cause_interrupt(Interrupts& interrupts) {
    interrupts.machine().execute({nop, nop, hlt});
    interrupts.machine().set_interrupt_flag(true);
    interrupts.raise(interrupted_vector);
}
template <class Interrupts>
void cause_nmi(Interrupts& interrupts) {
    interrupts.machine().execute({nop, nop, hlt});
    interrupts.raise_nmi();
}
constexpr event exception_of_vmm(kernel::guest_mode mode) {
    const auto not_present = exception_vector::segment_not_present;
    return mode == kernel::guest_mode::real ? pt::vcpu::exception(not_present)
                                            : pt::vcpu::exception(not_present, 0x38);
}
template <class Interrupts>
void cause_exception_of_vmm(Interrupts& interrupts) {
    interrupts.machine().execute({nop, nop, hlt});
    kernel::check("the VMM raises an exception",
                  interrupts.injector().raise(exception_of_vmm(interrupts.machine().mode())));
}
// The rest is the guest's own doing.
template <class Interrupts>
void cause_int_n(Interrupts& interrupts) {
    interrupts.machine().execute({0xCD, 0x41, hlt});
}
template <class Interrupts>
void cause_int_3(Interrupts& interrupts) {
    interrupts.machine().execute({0xCC, nop, hlt});
}
template <class Interrupts>
void cause_undefined_opcode(Interrupts& interrupts) {
    interrupts.machine().execute({0x0F, 0x0B, hlt});
}
template <class Interrupts>
void cause_general_protection(Interrupts& interrupts) {
    interrupts.machine().general.rax = bad_selector;
    interrupts.machine().execute({0x8E, 0xD8, hlt}); // mov %eax, %ds
}

template <class Interrupts>
class interrupted_delivery {
public:
    using guest = typename Interrupts::guest_type;
    using exits = typename Interrupts::exits;
    using source = event_source<Interrupts>;
    /// What pt delivers again of that event. Not present: the guest executes its instruction again.
    using again = event (*)(const event&);

    interrupted_delivery(guest& machine, again repeated) : machine_{machine}, again_{repeated} {}

    /// The sources that VMX and SVM share.
    void check_sources(kernel::guest_mode mode) {
        using enum pt::vcpu::event_type;
        check_source(mode, {"an external interrupt", cause_interrupt,
                            pt::vcpu::external_interrupt(interrupted_vector)});
        check_source(mode, {"an NMI", cause_nmi, pt::vcpu::nmi()});
        check_source(mode, {"INT n", cause_int_n, software_event(software_interrupt, 0x41, 2), 2});
        check_source(mode, {"INT3", cause_int_3, software_event(software_exception, 3, 1), 1});
        check_source(mode, {"#UD of the guest", cause_undefined_opcode,
                            pt::vcpu::exception(exception_vector::invalid_opcode)});
        check_source(mode,
                     {"an exception of the VMM", cause_exception_of_vmm, exception_of_vmm(mode)});
        if (mode != kernel::guest_mode::real) {
            check_source(mode,
                         {"#GP of the guest", cause_general_protection,
                          pt::vcpu::exception(exception_vector::general_protection, bad_selector)});
        }
    }

    void check_source(kernel::guest_mode mode, const source& from) {
        kernel::begin_part(name(mode), from.name);
        Interrupts interrupts{machine_};
        machine_.start(mode);
        from.cause(interrupts);
        const pt::gpa gates = machine_.gates_of_mode();
        machine_.unmap(gates);
        machine_.unmap(guest::stack_page);

        // Which page the processor needs first is its own affair.
        const pt::gpa page = check_interruption("a page is missing", interrupts, from);
        const pt::gpa same = check_interruption("it is missing still", interrupts, from);
        kernel::check("and is the same",
                      page == same && (page == gates || page == guest::stack_page));
        machine_.map(page);
        const pt::gpa other = check_interruption("then the other one is missing", interrupts, from);
        kernel::check("the gates' or the stack's",
                      other == (page == gates ? guest::stack_page : gates));
        machine_.map(other);
        check_arrival(interrupts, from);
    }

private:
    /// One entry whose delivery of the event is interrupted, and the page that was missing.
    pt::gpa check_interruption(const char* name, Interrupts& interrupts, const source& from) {
        const bool exits_so = interrupts.runs_until(exits::missing_page);
        if (!kernel::check(name, exits_so && machine_.was_interrupted() &&
                                     machine_.interrupted() == again_(from.what))) {
            machine_.say_exit();
        }
        return machine_.missing_address().align_down(4 * pt::KiB);
    }

    /// What arrives at the handler, and that it is all that arrives.
    void check_arrival(Interrupts& interrupts, const source& from) {
        const kernel::handled_event found = interrupts.runs_to_handler();
        const event& what = from.what;
        const bool holds =
            found.any && found.vector == what.vector &&
            found.return_address == guest::code.raw + from.behind &&
            found.has_error_code == what.has_error_code && found.error_code == what.error_code &&
            interrupts.nmis_are_blocked() == (what.type == pt::vcpu::event_type::nmi);
        if (!kernel::check("it arrives", holds)) {
            kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                        found.return_address, ", error code ", found.error_code);
        }
        if (!found.any) {
            return;
        }
        if (what.type == pt::vcpu::event_type::external_interrupt) {
            interrupts.end();
        }
        // Instead of an instruction that would fault again. HLT follows each of them.
        machine_.put({nop, nop}, guest::code);
        machine_.end_handler();
        kernel::check("it arrives once",
                      interrupts.runs_until(exits::hlt) && !interrupts.decided().event.present &&
                          machine_.rip() == guest::code.raw + 2 &&
                          machine_.rsp() == guest::stack.raw && !interrupts.is_blocked() &&
                          interrupts.apic().registers().isr.highest() == 0);
    }

    guest& machine_;
    again again_;
};

// ------------------------------------------------------------------------------- interrupted IRET

/// The IRET of an NMI's handler that does not come through: NMIs stay blocked. Up to the entry that
/// executes it anew, with another NMI that waits.
template <class Interrupts>
void interrupt_iret(Interrupts& interrupts) {
    using kernel::check;
    auto& machine = interrupts.machine();
    machine.execute({nop, hlt});
    interrupts.raise_nmi();
    kernel::check_equal("an NMI arrives", interrupts.runs_to_handler().vector, 2);
    machine.unmap(machine.stack_page);
    machine.end_handler();
    check("its IRET misses the stack", interrupts.runs_until(Interrupts::exits::missing_page));
    check("no delivery was interrupted",
          !machine.was_interrupted() && !machine.interrupted().present);
    check("NMIs are blocked again", interrupts.nmis_are_blocked());

    interrupts.raise_nmi();
    machine.map(machine.stack_page);
    check("the next NMI waits for the window",
          !interrupts.decide().event.present && interrupts.decided().nmi_window);
}

// ---------------------------------------------------------------- exceptions in the middle of it

/// Exceptions that exit, and that the VMM gives to the guest: as the processor combines them, and
/// without losing an interrupt in whose delivery one came up.
template <class Interrupts>
class exception_in_delivery {
public:
    using guest = typename Interrupts::guest_type;
    using exits = typename Interrupts::exits;
    /// The error code of a fault that a gate of an external interrupt causes.
    using code_of_gate = std::uint32_t (*)(kernel::guest_mode, std::uint8_t gate);

    exception_in_delivery(guest& machine, code_of_gate code) : machine_{machine}, code_{code} {}

    void run() {
        for (const kernel::guest_mode mode :
             {kernel::guest_mode::protected_32, kernel::guest_mode::long_64}) {
            kernel::begin_part(name(mode), "in the delivery of an interrupt");
            of_interrupt(mode);
            kernel::begin_part(name(mode), "in the delivery of an exception");
            of_exception(mode);
        }
        kernel::begin_part(nullptr);
    }

private:
    static constexpr auto not_present = exception_vector::segment_not_present;
    static constexpr auto general_protection = exception_vector::general_protection;

    void toggle_present_bit(std::uint8_t gate) {
        const std::size_t size = machine_.mode() == kernel::guest_mode::long_64 ? 2 : 1;
        machine_.at(guest::gates)[size * gate] ^= std::uint64_t{1} << 47;
    }

    void of_interrupt(kernel::guest_mode mode) {
        using kernel::check;
        Interrupts interrupts{machine_};
        machine_.start(mode);
        machine_.turn_on(not_present);
        cause_interrupt(interrupts);
        toggle_present_bit(interrupted_vector);
        check("#NP exits", interrupts.runs_until(exits::exception(not_present)));
        const event fault = machine_.exception();
        check("it says which gate",
              fault == pt::vcpu::exception(not_present, code_(mode, interrupted_vector)));
        check("the interrupt did not arrive",
              machine_.interrupted() == pt::vcpu::external_interrupt(interrupted_vector));
        check("the VMM raises #NP", interrupts.injector().raise(fault));
        const kernel::handled_event first = interrupts.runs_to_handler();
        check("#NP arrives", first.any && first.vector == fault.vector &&
                                 first.error_code == fault.error_code &&
                                 first.return_address == guest::code.raw);
        toggle_present_bit(interrupted_vector);
        machine_.end_handler();
        check("the interrupt waits for its handler's end",
              interrupts.runs_until(exits::interrupt_window));
        const kernel::handled_event second = interrupts.runs_to_handler();
        check("then it arrives", second.any && second.vector == interrupted_vector &&
                                     second.return_address == guest::code.raw);
        interrupts.end();
        machine_.end_handler();
        check("once", interrupts.runs_until(exits::hlt));
    }

    void of_exception(kernel::guest_mode mode) {
        using kernel::check;
        Interrupts interrupts{machine_};
        machine_.start(mode);
        machine_.turn_on(not_present);
        cause_general_protection(interrupts);
        toggle_present_bit(static_cast<std::uint8_t>(general_protection));
        check("#NP exits", interrupts.runs_until(exits::exception(not_present)));
        check("#GP did not arrive",
              machine_.interrupted() == pt::vcpu::exception(general_protection, bad_selector));
        check("the VMM raises #NP", interrupts.injector().raise(machine_.exception()));
        const kernel::handled_event both = interrupts.runs_to_handler();
        check("together they are a double fault",
              both.any && both.vector == 8 && both.has_error_code && both.error_code == 0);
    }

    guest& machine_;
    code_of_gate code_;
};

} // namespace guest_tests
