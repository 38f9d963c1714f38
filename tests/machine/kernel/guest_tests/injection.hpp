// SPDX-License-Identifier: BSL-1.0
//
// Events that an entry delivers by pt's words: the guest's own handler runs, with the return
// address, the flags and the error code that it would find without a hypervisor.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"
#include "instructions.hpp"

#include "pt/vcpu/event.hpp"

#include <cstdint>

namespace guest_tests {

constexpr pt::vcpu::event software_event(pt::vcpu::event_type type, std::uint8_t vector,
                                         std::uint8_t length) {
    return {.present = true, .type = type, .vector = vector, .instruction_length = length};
}

template <class Guest>
class injection {
public:
    using event = pt::vcpu::event;
    using handled_event = kernel::handled_event;
    using exits = typename Guest::exits;
    /// What else must be so when the handler of an event begins.
    using also = bool (*)(const Guest&, const event&);

    injection(Guest& machine, also holds) : machine_{machine}, also_{holds} {}

    /// How many instructions are before the guest's HLT, after which there is another.
    static constexpr unsigned nops = 3;
    void prepare() {
        machine_.execute({nop, nop, nop, hlt, hlt});
        machine_.set_interrupt_flag(true);
    }

    void every_kind() {
        using enum pt::vcpu::event_type;
        using enum pt::vcpu::exception_vector;
        using pt::vcpu::exception;
        check_delivery("an external interrupt", pt::vcpu::external_interrupt(0x77));
        check_delivery("an NMI", pt::vcpu::nmi());
        check_delivery("an exception without error code", exception(invalid_opcode));
        check_delivery("INT n", software_event(software_interrupt, 0x41, 2));
        check_delivery("INT n of the vector of an exception with error code",
                       software_event(software_interrupt, 13, 2));
        check_delivery("INT3", software_event(software_exception, 3, 1));
        check_delivery("INTO", software_event(software_exception, 4, 1));
        check_delivery("INT1", software_event(privileged_software_exception, 1, 1));
        if (machine_.mode() == kernel::guest_mode::real) {
            check_delivery("#GP", exception(general_protection));
        } else {
            check_delivery("#GP", exception(general_protection, 0x5672));
            check_delivery("#PF", exception(page_fault, 0x6));
            check_delivery("#DF", exception(double_fault, 0));
        }
    }

    void every_vector() {
        unsigned wrong = 0;
        for (unsigned vector = 32; vector < 256; ++vector) {
            const event interrupt = pt::vcpu::external_interrupt(static_cast<std::uint8_t>(vector));
            prepare();
            machine_.deliver(interrupt);
            if (!is_right(machine_.enter_for_event(), interrupt, 0)) {
                ++wrong;
                break;
            }
            machine_.end_handler();
            if (!machine_.exits_with(exits::hlt) || !has_returned()) {
                ++wrong;
            }
        }
        kernel::check_equal("every vector has its handler", wrong, 0);
    }

    /// Whether the handler of `what` has found what it must. `behind`: how far its return address
    /// lies behind the instruction at which the event came.
    [[nodiscard]] bool is_right(const handled_event& found, const event& what,
                                std::uint64_t behind) const {
        return found.any && found.vector == what.vector &&
               found.return_address == Guest::code.raw + behind &&
               (found.rflags & interrupt_flag) != 0 &&
               found.has_error_code == what.has_error_code && found.error_code == what.error_code &&
               !machine_.interrupt_flag() && also_(machine_, what);
    }

private:
    static constexpr std::uint64_t interrupt_flag = 1U << 9;

    /// Whether the guest has gone on to its HLT as if nothing had been.
    [[nodiscard]] bool has_returned() const {
        return machine_.rip() == Guest::code.raw + nops && machine_.rsp() == Guest::stack.raw &&
               machine_.interrupt_flag() && !machine_.is_blocked();
    }

    void check_delivery(const char* name, const event& what) {
        prepare();
        machine_.deliver(what);
        const handled_event found = machine_.enter_for_event();
        bool holds = is_right(found, what, what.instruction_length);
        if (!holds) {
            kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                        found.return_address, ", flags ", found.rflags, ", error code ",
                        found.error_code);
        }
        // The processor has used the field up: the next entry delivers nothing.
        holds = holds && !machine_.will_deliver() && !machine_.was_interrupted();
        if (found.any) {
            machine_.end_handler();
            holds = machine_.exits_with(exits::hlt) && has_returned() && holds;
        }
        kernel::check(name, holds);
    }

    Guest& machine_;
    also also_;
};

} // namespace guest_tests
