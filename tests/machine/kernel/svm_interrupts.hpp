// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts by pt: a local APIC and an injector, and the turn of an exit loop that
// docs/injection.md shows.
#pragma once

#include "svm.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
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
class virtual_interrupts {
public:
    using apic_type = pt::lapic::local_apic<no_time>;
    using injector_type = pt::lapic::injector<guest_state, apic_type>;

    /// The single-step trap after one instruction.
    static constexpr auto step = static_cast<pt::svm::exit_code>(
        static_cast<std::uint64_t>(pt::svm::exit_code::exception_0) + 1);

    explicit virtual_interrupts(guest& machine)
        : machine_{machine},
          apic_{page_, inbox_, {}, no_time{}},
          injector_{apic_, guest_state{&machine, &nmis_}} {
        constexpr std::uint32_t svr = 0x0F0;
        static_cast<void>(apic_.write(svr, pt::mmio_width::dword, 0x1FF));
    }
    virtual_interrupts(const virtual_interrupts&) = delete;
    virtual_interrupts& operator=(const virtual_interrupts&) = delete;

    [[nodiscard]] apic_type& apic() { return apic_; }
    [[nodiscard]] injector_type& injector() { return injector_; }
    [[nodiscard]] pt::lapic::inbox& inbox() { return inbox_; }
    [[nodiscard]] bool nmis_are_masked() const { return nmis_ == pt::svm::nmi_masking::masked; }

    void raise(std::uint8_t vector) { apic_.accept(vector, pt::lapic::trigger_mode::edge); }
    void raise_nmi() {
        static_cast<void>(inbox_.post(
            {.delivery = pt::lapic::delivery_mode::nmi, .destination = apic_.apic_id()}));
    }

    /// The decision before the next entry, written into the VMCB.
    const pt::lapic::entry_decision& decide();
    /// The entry after decide(), up to the exit, and what the exit says of the events.
    bool enter();
    /// Both, and again after exits that only serve NMIs. True if the guest exits with that code.
    bool runs_until(pt::svm::exit_code code);
    /// The same, to a handler: what has arrived.
    handled_event runs_to_handler() {
        return runs_until(pt::svm::exit_code::vmmcall) ? machine_.handled() : handled_event{};
    }

    /// What was decided last.
    [[nodiscard]] const pt::lapic::entry_decision& decided() const { return decided_; }

private:
    void set_step(bool on);

    guest& machine_;
    pt::lapic::register_page page_{};
    pt::lapic::inbox inbox_{};
    apic_type apic_;
    pt::svm::nmi_masking nmis_ = pt::svm::nmi_masking::unmasked;
    bool stepping_ = false;
    injector_type injector_;
    pt::lapic::entry_decision decided_{};
};

} // namespace kernel
