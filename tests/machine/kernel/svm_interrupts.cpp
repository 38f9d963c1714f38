// SPDX-License-Identifier: BSL-1.0
#include "svm_interrupts.hpp"

#include "../../../examples/kernel/processor.hpp"

namespace kernel {

void virtual_interrupts::set_step(bool on) {
    // The tests' guests do not use the trap flag themselves.
    stepping_ = on;
    machine().words().rflags &= ~rflags_trap_flag;
    machine().words().rflags |= on ? rflags_trap_flag : 0;
    on ? machine().turn_on(pt::vcpu::exception_vector::debug)
       : machine().turn_off(pt::vcpu::exception_vector::debug);
}

const pt::lapic::entry_decision& virtual_interrupts::decide() {
    using pt::svm::nmi_masking;
    const pt::lapic::entry_decision& decided = decide_anew();
    machine().deliver(decided.event);
    if (decided.event.present && decided.event.type == pt::vcpu::event_type::nmi) {
        nmis_ = nmi_masking::masked;
    }

    auto& control = machine().words().interrupt_control;
    if (decided.interrupt_window) {
        control = control.with_interrupt_window();
        machine().turn_on(intercept::vintr);
    } else {
        control = control.without_interrupt_window();
        machine().turn_off(intercept::vintr);
    }

    // The IRET of the NMI's handler exits before it is executed: one step, and NMIs are unmasked.
    // An interrupt shadow holds an NMI back, too, and ends with one step.
    const bool masked = nmis_ == nmi_masking::masked;
    if (masked && !stepping_) {
        machine().turn_on(intercept::iret);
    } else {
        machine().turn_off(intercept::iret);
    }
    if (decided.nmi_window && !masked && !stepping_) {
        set_step(true);
    }
    return decided;
}

bool virtual_interrupts::enter() {
    if (!machine().enter()) {
        injector().interrupted(decided().event);
        return false;
    }
    injector().interrupted(machine().interrupted());
    if (machine().reason() == pt::svm::exit_code::iret) {
        set_step(true);
    } else if (machine().reason() == step && stepping_) {
        set_step(false);
        nmis_ = pt::svm::nmi_masking::unmasked;
    }
    return true;
}

bool virtual_interrupts::runs_until(pt::svm::exit_code code) {
    for (;;) {
        decide();
        const bool entered = enter();
        if (entered && machine().reason() == code) {
            return true;
        }
        if (!entered ||
            (machine().reason() != pt::svm::exit_code::iret && machine().reason() != step)) {
            machine().say_exit();
            return false;
        }
    }
}

} // namespace kernel
