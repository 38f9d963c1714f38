// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts by pt: a local APIC and an injector, and the turn of an exit loop that
// docs/lapic.md shows.
#pragma once

#include "vmx.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/apic_virtualization.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/nmi_unblocking.hpp"

#include <cstdint>
#include <new>

namespace kernel {

/// timer_clock: no time passes.
struct no_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
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
static_assert(pt::lapic::timer_clock<no_time> && pt::vcpu_state<guest_state>);

/// The local APIC of a guest, software-enabled, with a page that can be its virtual-APIC page.
class virtual_interrupts {
public:
    using apic_type = pt::lapic::local_apic<no_time>;
    using injector_type = pt::lapic::injector<guest_state, apic_type>;

    /// `how`: with virtual-interrupt delivery, use_page() must follow the guest's start.
    explicit virtual_interrupts(
        guest& machine, pt::lapic::fixed_interrupts how = pt::lapic::fixed_interrupts::injected)
        : machine_{machine},
          how_{how},
          frame_{take_frame()},
          apic_{*new (pointer_to<void>(frame_)) pt::lapic::register_page{}, inbox_, {}, no_time{}},
          injector_{apic_, guest_state{&machine}, how} {
        constexpr std::uint32_t svr = 0x0F0;
        static_cast<void>(apic_.write(svr, pt::mmio_width::dword, 0x1FF));
    }
    virtual_interrupts(const virtual_interrupts&) = delete;
    virtual_interrupts& operator=(const virtual_interrupts&) = delete;

    [[nodiscard]] apic_type& apic() { return apic_; }
    [[nodiscard]] injector_type& injector() { return injector_; }
    [[nodiscard]] pt::lapic::inbox& inbox() { return inbox_; }

    /// From now on the processor works with the register page itself, by the TPR shadow and what
    /// the test turns on besides.
    void use_page() {
        vmwrite(vmcs_field::virtual_apic_address, frame_.raw);
        machine_.turn_on(processor_based::tpr_shadow);
        page_is_used_ = true;
    }

    void raise(std::uint8_t vector) { apic_.accept(vector, pt::lapic::trigger_mode::edge); }
    void raise_nmi() {
        static_cast<void>(inbox_.post(
            {.delivery = pt::lapic::delivery_mode::nmi, .destination = apic_.apic_id()}));
    }

    /// The decision before the next entry, written into the VMCS.
    const pt::lapic::entry_decision& decide() {
        decided_ = injector_.before_entry();
        machine_.deliver(decided_.event);
        using enum processor_based;
        decided_.interrupt_window ? machine_.turn_on(interrupt_window_exiting)
                                  : machine_.turn_off(interrupt_window_exiting);
        decided_.nmi_window ? machine_.turn_on(nmi_window_exiting)
                            : machine_.turn_off(nmi_window_exiting);
        if (page_is_used_) {
            write_apic_fields();
        }
        return decided_;
    }

    /// The entry after decide(), up to the exit, and what the exit says of the events.
    bool enter() {
        if (!machine_.enter()) {
            injector_.interrupted(decided_.event);
            return false;
        }
        const pt::vmx::exit_interruption_information exited{
            static_cast<std::uint32_t>(vmread(vmcs_field::exit_interruption_information))};
        if (pt::vmx::nmi_unblocked_by_iret(machine_.reason(), machine_.qualification(), exited,
                                           machine_.idt_vectoring())) {
            using state = pt::vmx::interruptibility_state;
            machine_.set_blocking(machine_.blocking().with(state::blocking_by_nmi(true)));
        }
        if (page_is_used_) {
            apic_.after_hardware();
        }
        injector_.interrupted(machine_.interrupted());
        return true;
    }

    /// Both. True if the guest exits for that reason.
    bool runs_until(pt::vmx::exit_reason reason) {
        decide();
        const bool entered = enter();
        const pt::vmx::exit_reason got = machine_.reason();
        if (!entered || got != reason) {
            say("reason ", std::uint64_t{machine_.reason_word().raw}, ", qualification ",
                machine_.qualification(), ", RIP ", machine_.rip());
            return false;
        }
        return true;
    }

    /// Both, to a handler: what has arrived.
    handled_event runs_to_handler() {
        return runs_until(pt::vmx::exit_reason::vmcall) ? machine_.handled() : handled_event{};
    }

    /// What was decided last.
    [[nodiscard]] const pt::lapic::entry_decision& decided() const { return decided_; }

private:
    void write_apic_fields() {
        if (how_ == pt::lapic::fixed_interrupts::injected) {
            vmwrite(vmcs_field::tpr_threshold, decided_.tpr_threshold);
            return;
        }
        vmwrite(vmcs_field::guest_interrupt_status, decided_.status.raw);
        const auto exits = pt::lapic::eoi_exit_bitmap::of(apic_.registers());
        for (unsigned i = 0; i < 4; ++i) {
            vmwrite(eoi_exit_bitmap_field(i), exits.words[i]);
        }
    }

    guest& machine_;
    pt::lapic::fixed_interrupts how_;
    bool page_is_used_ = false;
    pt::hpa frame_;
    pt::lapic::inbox inbox_{};
    apic_type apic_;
    injector_type injector_;
    pt::lapic::entry_decision decided_{};
};

// ------------------------------------------------------------- how the guest reaches its local
// APIC

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
