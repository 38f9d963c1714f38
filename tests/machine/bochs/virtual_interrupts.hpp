// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts by pt: a local APIC and an injector, and the turn of an exit loop that
// docs/lapic.md shows.
#pragma once

#include "../kernel/guest_interrupts.hpp"
#include "vmx.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/apic_virtualization.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/nmi_unblocking.hpp"

#include <cstdint>

namespace kernel {

/// timer_clock: the processor's time-stamp counter, which is the guest's as well; the timer counts
/// at a rate that is 2 to the power of `slower_by` lower.
struct time_stamps {
    unsigned slower_by = 0;

    std::uint64_t ticks() { return tsc() >> slower_by; }
    std::uint64_t tsc() { return __builtin_ia32_rdtsc(); }
};

/// vcpu_state: the guest's, as the VMCS has it.
struct guest_state {
    guest* machine;

    bool can_take_interrupt() {
        return pt::vmx::can_take_external_interrupt(machine->rflags(), machine->blocking(),
                                                    machine->activity());
    }
    bool can_take_nmi() { return pt::vmx::can_take_nmi(machine->blocking(), machine->activity()); }
};
static_assert(pt::lapic::timer_clock<time_stamps> && pt::vcpu_state<guest_state>);

/// The local APIC of a guest, software-enabled, with a page that can be its virtual-APIC page.
class virtual_interrupts : public guest_interrupts<guest, guest_state, time_stamps> {
public:
    /// `how`: with virtual-interrupt delivery, use_page() must follow the guest's start.
    explicit virtual_interrupts(
        guest& machine, pt::lapic::fixed_interrupts how = pt::lapic::fixed_interrupts::injected,
        time_stamps clock = {})
        : guest_interrupts{machine, guest_state{&machine}, how, clock}, how_{how} {}

    [[nodiscard]] bool nmis_are_blocked() const {
        return machine().blocking()[pt::vmx::interruptibility_state::blocking_by_nmi];
    }
    /// Whether anything holds an event back.
    [[nodiscard]] bool is_blocked() const { return machine().is_blocked(); }

    /// From now on the processor works with the register page itself, by the TPR shadow and what
    /// the test turns on besides.
    void use_page() {
        vmwrite(vmcs_field::virtual_apic_address, frame().raw);
        machine().turn_on(processor_based::tpr_shadow);
        page_is_used_ = true;
    }

    /// The decision before the next entry, written into the VMCS.
    const pt::lapic::entry_decision& decide() {
        const pt::lapic::entry_decision& decided = decide_anew();
        machine().deliver(decided.event);
        using enum processor_based;
        decided.interrupt_window ? machine().turn_on(interrupt_window_exiting)
                                 : machine().turn_off(interrupt_window_exiting);
        decided.nmi_window ? machine().turn_on(nmi_window_exiting)
                           : machine().turn_off(nmi_window_exiting);
        if (page_is_used_) {
            write_apic_fields();
        }
        return decided;
    }

    /// The entry after decide(), up to the exit, and what the exit says of the events.
    bool enter() {
        // VM entry demands that nothing blocks an NMI [sdm], but Bochs 2.7 does not.
        const bool nmi =
            decided().event.present && decided().event.type == pt::vcpu::event_type::nmi;
        if ((nmi && nmis_are_blocked()) || !machine().enter()) {
            injector().interrupted(decided().event);
            return false;
        }
        const pt::vmx::exit_interruption_information exited{
            static_cast<std::uint32_t>(vmread(vmcs_field::exit_interruption_information))};
        if (pt::vmx::nmi_unblocked_by_iret(machine().reason(), machine().qualification(), exited,
                                           machine().idt_vectoring())) {
            using state = pt::vmx::interruptibility_state;
            machine().set_blocking(machine().blocking().with(state::blocking_by_nmi(true)));
        }
        if (page_is_used_) {
            apic().after_hardware();
        }
        injector().interrupted(machine().interrupted());
        return true;
    }

    /// Both. True if the guest exits for that reason.
    bool runs_until(pt::vmx::exit_reason reason) {
        decide();
        if (!enter() || machine().reason() != reason) {
            machine().say_exit();
            return false;
        }
        return true;
    }

    /// Both, to a handler: what has arrived.
    handled_event runs_to_handler() {
        return runs_until(pt::vmx::exit_reason::vmcall) ? machine().handled() : handled_event{};
    }

private:
    void write_apic_fields() {
        if (how_ == pt::lapic::fixed_interrupts::injected) {
            vmwrite(vmcs_field::tpr_threshold, decided().tpr_threshold);
            return;
        }
        vmwrite(vmcs_field::guest_interrupt_status, decided().status.raw);
        const auto bitmap = apic().eoi_exits();
        for (unsigned i = 0; i < 4; ++i) {
            vmwrite(eoi_exit_bitmap_field(i), bitmap.words[i]);
        }
    }

    pt::lapic::fixed_interrupts how_;
    bool page_is_used_ = false;
};

// -------------------------------------------------------- how the guest reaches its local APIC

/// Its register page, and where the guest's tables show it in 64-bit mode.
inline constexpr pt::gpa apic_page{0xFEE0'0000};
inline constexpr std::uint64_t apic_linear = 0x10000;

/// Makes the guest's tables show the page, which is mapped to nothing.
void show_apic_page(guest& machine);
/// Maps the page to a frame, the APIC-access page: accesses exit as such, or are virtualized.
void use_apic_access_page(guest& machine);

/// Lets every handler go on at `place` behind its VMCALL.
void let_handlers_go_to(guest& machine, pt::gpa place);

} // namespace kernel
