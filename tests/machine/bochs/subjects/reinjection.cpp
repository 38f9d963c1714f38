// SPDX-License-Identifier: BSL-1.0
#include "../../kernel/guest_tests/reinjection.hpp"
#include "../virtual_interrupts.hpp"

#include "pt/vcpu/event.hpp"

namespace {

using kernel::check;
using kernel::guest;
using kernel::guest_mode;
using kernel::virtual_interrupts;
using pt::vcpu::event;
using pt::vmx::exit_reason;

event itself(const event& what) { return what; }

void interrupted_deliveries() {
    guest machine;
    guest_tests::interrupted_delivery<virtual_interrupts> tests{machine, itself};
    for (const guest_mode mode : kernel::every_mode) {
        tests.check_sources(mode);
        const auto int_1 = [](virtual_interrupts& interrupts) {
            interrupts.machine().execute({0xF1, guest_tests::nop, guest_tests::hlt});
        };
        const auto type = pt::vcpu::event_type::privileged_software_exception;
        tests.check_source(mode, {"INT1", int_1, guest_tests::software_event(type, 1, 1), 1});
    }
    kernel::begin_part(nullptr);
}

void interrupted_iret() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        virtual_interrupts interrupts{machine};
        machine.start(mode);
        guest_tests::interrupt_iret(interrupts);
        check("which opens behind the IRET",
              interrupts.runs_until(exit_reason::nmi_window) && machine.rip() == guest::code.raw);
        kernel::check_equal("then it arrives", interrupts.runs_to_handler().vector, 2);
        machine.end_handler();
        check("and it is the last", interrupts.runs_until(exit_reason::hlt));
    }
    kernel::begin_part(nullptr);
}

/// The index of the gate in bits 15:3, bit 1, and bit 0 [sdm, Error Code].
std::uint32_t code_of_gate(guest_mode, std::uint8_t gate) { return gate * 8U + 2U + 1U; }

void exceptions_in_delivery() {
    guest machine;
    guest_tests::exception_in_delivery<virtual_interrupts>{machine, code_of_gate}.run();
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"interrupted_delivery",
                                                                         interrupted_deliveries};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"interrupted_iret",
                                                                          interrupted_iret};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"exception_in_delivery",
                                                                         exceptions_in_delivery};

} // namespace
