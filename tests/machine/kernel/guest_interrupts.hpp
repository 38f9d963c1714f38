// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts by pt: a local APIC and an injector. What the loop around an entry does
// with them differs between VMX and SVM: see virtual_interrupts there.
#pragma once

#include "kernel.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/timer.hpp"

#include <cstdint>
#include <new>

namespace kernel {

/// The local APIC of a guest, software-enabled, with a register page that has a frame of its own.
template <class Guest, pt::vcpu_state State, pt::lapic::timer_clock Clock>
class guest_interrupts {
public:
    using guest_type = Guest;
    using exits = typename Guest::exits;
    using apic_type = pt::lapic::local_apic<Clock>;
    using injector_type = pt::lapic::injector<State, apic_type>;

    guest_interrupts(Guest& machine, State state, pt::lapic::fixed_interrupts how, Clock clock)
        : machine_{machine},
          frame_{take_frame()},
          apic_{*new (pointer_to<void>(frame_)) pt::lapic::register_page{}, inbox_, {}, clock},
          injector_{apic_, state, how} {
        constexpr std::uint32_t svr = 0x0F0;
        static_cast<void>(apic_.write(svr, pt::mmio_width::dword, 0x1FF));
    }
    guest_interrupts(const guest_interrupts&) = delete;
    guest_interrupts& operator=(const guest_interrupts&) = delete;

    [[nodiscard]] Guest& machine() const { return machine_; }
    [[nodiscard]] apic_type& apic() { return apic_; }
    [[nodiscard]] injector_type& injector() { return injector_; }
    [[nodiscard]] pt::lapic::inbox& inbox() { return inbox_; }

    void raise(std::uint8_t vector) { apic_.accept(vector, pt::lapic::trigger_mode::edge); }
    void raise_nmi() {
        static_cast<void>(inbox_.post(
            {.delivery = pt::lapic::delivery_mode::nmi, .destination = apic_.apic_id()}));
    }
    /// The guest's EOI.
    void end() { static_cast<void>(apic_.eoi()); }

    /// What was decided last.
    [[nodiscard]] const pt::lapic::entry_decision& decided() const { return decided_; }

protected:
    [[nodiscard]] pt::hpa frame() const { return frame_; }
    const pt::lapic::entry_decision& decide_anew() { return decided_ = injector_.before_entry(); }

private:
    Guest& machine_;
    pt::hpa frame_;
    pt::lapic::inbox inbox_{};
    apic_type apic_;
    injector_type injector_;
    pt::lapic::entry_decision decided_{};
};

} // namespace kernel
