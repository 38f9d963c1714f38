// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts by pt: a local APIC and an injector, and the turn of an exit loop that
// docs/injection.md shows.
#pragma once

#include "guest_interrupts.hpp"
#include "svm.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/svm/interrupt_control.hpp"

#include <cstdint>

namespace kernel {

/// timer_clock: no time passes.
struct no_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};

/// vcpu_state: the guest's, as the VMCB has it, and what a VMM without V_NMI remembers.
struct guest_state {
    const guest* machine;
    const pt::svm::nmi_masking* nmis;

    bool can_take_interrupt() {
        return pt::svm::can_take_external_interrupt(machine->words().rflags,
                                                    machine->words().interrupt_state,
                                                    machine->words().interrupt_control);
    }
    bool can_take_nmi() {
        return pt::svm::can_take_nmi(machine->words().interrupt_state,
                                     machine->words().interrupt_control, *nmis);
    }
};
static_assert(pt::lapic::timer_clock<no_time> && pt::vcpu_state<guest_state>);

/// The local APIC of a guest, software-enabled, and the loop around VMRUN.
class virtual_interrupts : public guest_interrupts<guest, guest_state, no_time> {
public:
    /// The single-step trap after one instruction.
    static constexpr auto step = guest::exits::exception(pt::vcpu::exception_vector::debug);

    explicit virtual_interrupts(guest& machine)
        : guest_interrupts{machine, guest_state{&machine, &nmis_},
                           pt::lapic::fixed_interrupts::injected, no_time{}} {}

    [[nodiscard]] bool nmis_are_blocked() const { return nmis_ == pt::svm::nmi_masking::masked; }
    /// Whether anything holds an event back.
    [[nodiscard]] bool is_blocked() const { return nmis_are_blocked() || machine().is_blocked(); }

    /// The decision before the next entry, written into the VMCB.
    const pt::lapic::entry_decision& decide();
    /// The entry after decide(), up to the exit, and what the exit says of the events.
    bool enter();
    /// Both, and again after exits that only serve NMIs. True if the guest exits with that code.
    bool runs_until(pt::svm::exit_code code);
    /// The same, to a handler: what has arrived.
    handled_event runs_to_handler() {
        return runs_until(pt::svm::exit_code::vmmcall) ? machine().handled() : handled_event{};
    }

private:
    void set_step(bool on);

    pt::svm::nmi_masking nmis_ = pt::svm::nmi_masking::unmasked;
    bool stepping_ = false;
};

} // namespace kernel
