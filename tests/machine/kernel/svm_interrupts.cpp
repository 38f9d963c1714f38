// SPDX-License-Identifier: BSL-1.0
#include "svm_interrupts.hpp"

namespace kernel {

namespace {
constexpr std::uint64_t rflags_trap_flag = 1U << 8;
constexpr std::uint32_t debug_exception = 1U << 1;
} // namespace

void virtual_interrupts::set_step(bool on) {
    // The tests' guests do not use the trap flag themselves.
    stepping_ = on;
    machine_.words().rflags &= ~rflags_trap_flag;
    machine_.words().rflags |= on ? rflags_trap_flag : 0;
    machine_.words().exception_intercepts = on ? debug_exception : 0;
}

const pt::lapic::entry_decision& virtual_interrupts::decide() {
    using pt::svm::nmi_masking;
    decided_ = injector_.before_entry();
    machine_.deliver(decided_.event);
    if (decided_.event.present && decided_.event.type == pt::vcpu::event_type::nmi) {
        nmis_ = nmi_masking::masked;
    }

    auto& control = machine_.words().interrupt_control;
    if (decided_.interrupt_window) {
        control = control.with_interrupt_window();
        machine_.turn_on(intercept::vintr);
    } else {
        control = control.without_interrupt_window();
        machine_.turn_off(intercept::vintr);
    }

    // The IRET of the NMI's handler exits before it is executed: one step, and NMIs are unmasked.
    // An interrupt shadow holds an NMI back, too, and ends with one step.
    const bool masked = nmis_ == nmi_masking::masked;
    if (masked && !stepping_) {
        machine_.turn_on(intercept::iret);
    } else {
        machine_.turn_off(intercept::iret);
    }
    if (decided_.nmi_window && !masked && !stepping_) {
        set_step(true);
    }
    return decided_;
}

bool virtual_interrupts::enter() {
    if (!machine_.enter()) {
        injector_.interrupted(decided_.event);
        return false;
    }
    injector_.interrupted(machine_.interrupted());
    if (machine_.reason() == pt::svm::exit_code::iret) {
        set_step(true);
    } else if (machine_.reason() == step && stepping_) {
        set_step(false);
        nmis_ = pt::svm::nmi_masking::unmasked;
    }
    return true;
}

bool virtual_interrupts::runs_until(pt::svm::exit_code code) {
    for (;;) {
        decide();
        const bool entered = enter();
        if (entered && machine_.reason() == code) {
            return true;
        }
        if (!entered ||
            (machine_.reason() != pt::svm::exit_code::iret && machine_.reason() != step)) {
            machine_.say_exit();
            return false;
        }
    }
}

} // namespace kernel
