// SPDX-License-Identifier: BSL-1.0
#include "../guest_tests/reinjection.hpp"
#include "../svm_interrupts.hpp"

#include "pt/vcpu/event.hpp"

namespace {

using kernel::check;
using kernel::guest;
using kernel::guest_mode;
using kernel::virtual_interrupts;
using pt::svm::exit_code;
using pt::vcpu::event;
using pt::vcpu::event_type;

/// INT n and INT3 the guest executes again. (QEMU 7.2 says of INT3 that it was INT n; a processor,
/// that it was an exception. pt delivers neither again.)
event unless_software(const event& what) {
    const bool software =
        what.type == event_type::software_interrupt || what.type == event_type::software_exception;
    return software ? event{} : what;
}

void interrupted_deliveries() {
    guest machine;
    guest_tests::interrupted_delivery<virtual_interrupts> tests{machine, unless_software};
    for (const guest_mode mode : kernel::every_mode) {
        tests.check_sources(mode);
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
        const kernel::handled_event found = interrupts.runs_to_handler();
        check("and arrives behind the IRET",
              found.vector == 2 && found.return_address == guest::code.raw);
        machine.end_handler();
        check("it is the last",
              interrupts.runs_until(exit_code::hlt) && !interrupts.nmis_are_blocked());
    }
    kernel::begin_part(nullptr);
}

/// The index of the gate in bits 15:3, and bit 1. For one of an external interrupt the manuals set
/// bit 0, too; QEMU 7.2 does not, and in 64-bit mode its index is twice what it should be.
std::uint32_t code_of_gate(guest_mode mode, std::uint8_t gate) {
    return gate * (mode == guest_mode::long_64 ? 16U : 8U) + 2U;
}

void exceptions_in_delivery() {
    guest machine;
    guest_tests::exception_in_delivery<virtual_interrupts>{machine, code_of_gate}.run();
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_interrupted_delivery",
                                                                         interrupted_deliveries};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_interrupted_iret",
                                                                          interrupted_iret};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{
    "svm_exception_in_delivery", exceptions_in_delivery};

} // namespace
