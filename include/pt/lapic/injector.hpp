// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/vmx/interruption.hpp"

#include <cstdint>

namespace pt::lapic {

/// What the next VM entry does about events.
struct entry_decision {
    /// For the VM-entry interruption-information field as it is; all zero: nothing is delivered. Its
    /// needs_... say what else must be written with it.
    vmx::entry_interruption_information event{};
    /// For the control "interrupt-window exiting": an interrupt waits until the guest can take it.
    bool interrupt_window = false;

    friend constexpr bool operator==(const entry_decision&, const entry_decision&) = default;
};

/// Decides before each VM entry what it delivers, and moves what it delivers from IRR to ISR.
template <vcpu_state Vcpu>
class injector {
public:
    constexpr injector(local_apic& apic, Vcpu vcpu) : apic_{&apic}, vcpu_{vcpu} {}

    /// Call it once for an entry that will take place: what it returns counts as delivered, and the VMM
    /// that turns back keeps the decision for its next entry.
    ///
    /// `first`: the event that has this entry for itself: vmx::reinject(...) of what the last exit
    /// interrupted, or an exception of the VMM's own. Then no interrupt is taken, because an entry
    /// delivers only one event; if one is pending, the window is requested.
    [[nodiscard]] constexpr entry_decision
    before_entry(vmx::entry_interruption_information first = {}) {
        if (first[vmx::entry_interruption_information::valid]) {
            return {first, apic_->pending() != 0};
        }
        if (apic_->pending() == 0) {
            return {};
        }
        if (!vcpu_.can_take_interrupt()) {
            return {{}, true};
        }
        return {vmx::external_interrupt(apic_->acknowledge()), false};
    }

private:
    local_apic* apic_;
    [[no_unique_address]] Vcpu vcpu_;
};

} // namespace pt::lapic
