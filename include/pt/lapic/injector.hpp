// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/apic_virtualization.hpp"
#include "pt/lapic/external_controller.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/vcpu/double_fault.hpp"
#include "pt/vcpu/event.hpp"

#include <concepts>
#include <cstdint>
#include <utility>

namespace pt::lapic {

/// What the injector needs of a local APIC; local_apic says what each member means.
template <class A>
concept interrupt_controller = requires(A& apic, const A& looked_at) {
    { apic.synchronize() } -> std::same_as<void>;
    { looked_at.pending() } -> std::same_as<std::uint8_t>;
    { apic.acknowledge() } -> std::same_as<std::uint8_t>;
    { looked_at.nmi_pending() } -> std::same_as<bool>;
    { apic.take_nmi() } -> std::same_as<void>;
    { looked_at.extint_pending() } -> std::same_as<bool>;
    { apic.take_extint() } -> std::same_as<void>;
    { looked_at.signal_pending() } -> std::same_as<bool>;
    { looked_at.waiting_for_start_up() } -> std::same_as<bool>;
    { looked_at.has_only_vectors() } -> std::same_as<bool>;
    { looked_at.tpr_threshold() } -> std::same_as<std::uint8_t>;
    { looked_at.registers() } -> std::same_as<const register_page&>;
};

/// Who takes fixed interrupts from IRR to the guest's handler.
enum class fixed_interrupts : std::uint8_t {
    injected,                   ///< the injector, by VM entry
    virtual_interrupt_delivery, ///< the processor, with the control of that name [sdm]
};

/// What the next VM entry does about events.
struct entry_decision {
    /// Do not enter: the virtual processor was sent an INIT, a start-up or an SMI, which next_signal() of
    /// the local APIC gives, or it waits for a start-up and does not run. Then nothing else is decided.
    bool signal = false;
    /// What it delivers: for vmx::entry_of() or svm::injection_of(). Not present: nothing.
    vcpu::event event{};
    /// An interrupt waits until the guest can take it: request an exit for that moment ("interrupt-window
    /// exiting"; V_IRQ and the VINTR intercept under SVM).
    bool interrupt_window = false;
    /// An NMI waits: likewise ("NMI-window exiting"; the IRET intercept, or V_NMI).
    bool nmi_window = false;
    /// For the control "TPR threshold", 0..15: the class of an interrupt that only TPR holds back, so that
    /// a guest that lowers TPR below it exits. 0: there is none. (Where the guest's CR8 is V_TPR [amd]:
    /// intercept its writes while this is not 0.)
    std::uint8_t tpr_threshold = 0;
    /// For the guest-state field, with virtual-interrupt delivery; else 0.
    guest_interrupt_status status{};

    friend constexpr bool operator==(const entry_decision&, const entry_decision&) = default;
};

/// An NMI that was taken from the local APIC and has not arrived.
enum class undelivered_nmi : std::uint8_t {
    none,
    interrupted, ///< its delivery has already blocked NMIs: it goes first
    deferred, ///< an exception went first, whose handler ends the blocking: it waits for its window
};

/// Events that were taken for the guest and have not arrived in it: what must be saved beside the state
/// of the local APIC, or an interrupt is lost.
struct undelivered_events {
    vcpu::event exception{}; ///< or a software interrupt or exception
    vcpu::event external_interrupt{};
    undelivered_nmi nmi = undelivered_nmi::none;

    friend constexpr bool operator==(const undelivered_events&,
                                     const undelivered_events&) = default;
};

/// Decides before each VM entry which event it delivers, and what must be requested for those that wait.
/// One event an entry, in this order [sdm, Priority Among Concurrent Events]: an exception, or what the
/// last exit interrupted; an NMI; ExtINT; the highest pending vector of the local APIC.
///
///     exit -> interrupted(what it interrupted) -> [raise(an exception)] -> before_entry() -> entry
///
/// Nothing is lost: an event that is decided upon counts as arrived unless interrupted() says otherwise.
/// One CPU at a time calls, the owner of the local APIC.
template <vcpu_state Vcpu, interrupt_controller Apic,
          external_controller Pic = no_external_controller>
class injector {
public:
    /// `apic` outlives the injector.
    constexpr injector(Apic& apic, Vcpu vcpu, fixed_interrupts how = fixed_interrupts::injected)
        : injector(apic, std::move(vcpu), Pic{}, how) {}
    constexpr injector(Apic& apic, Vcpu vcpu, Pic controller,
                       fixed_interrupts how = fixed_interrupts::injected)
        : apic_{&apic}, fixed_{how}, vcpu_{std::move(vcpu)}, controller_{std::move(controller)} {}

    // What has not arrived is here once, not in copies.
    injector(const injector&) = delete;
    injector& operator=(const injector&) = delete;

    /// The event has not arrived: after each exit, what it interrupted (vmx::interrupted_event(),
    /// svm::interrupted_event()), before anything is raised; and the event of a decision whose entry
    /// did not take place or failed. One that is not present changes nothing.
    ///
    /// Not for an exit by a task switch, whose event is part of the switch that the VMM emulates.
    constexpr void interrupted(const vcpu::event& event) {
        if (!event.present) {
            return;
        }
        switch (event.type) {
        case vcpu::event_type::external_interrupt:
            expects(!held_.external_interrupt.present,
                    "injector::interrupted: another interrupt has not arrived yet");
            held_.external_interrupt = event;
            break;
        case vcpu::event_type::nmi: held_.nmi = undelivered_nmi::interrupted; break;
        default:
            expects(!held_.exception.present,
                    "injector::interrupted: say what was interrupted before raising an exception");
            held_.exception = event;
            break;
        }
    }

    /// An exception of the VMM's own for the guest, at the next entry. If the last exit interrupted another
    /// one, or one was raised already, it becomes a double fault where [sdm] says so. An interrupt or an NMI
    /// that was interrupted comes after it.
    ///
    /// errc::hardware_fault: that is a triple fault, nothing has changed; the guest shuts down.
    constexpr result<void> raise(const vcpu::event& exception) {
        expects(exception.type != vcpu::event_type::external_interrupt &&
                    exception.type != vcpu::event_type::nmi,
                "injector::raise: interrupts and NMIs come by the local APIC");
        const result<vcpu::event> both = vcpu::combined(held_.exception, exception);
        if (!both) {
            return both.error();
        }
        held_.exception = *both;
        return {};
    }

    /// Call it for each entry. Its event is as good as delivered: if the entry does not take place, or
    /// fails, give the event to interrupted().
    [[nodiscard]] constexpr entry_decision before_entry() {
        apic_->synchronize();
        if (holds_nothing() && apic_->has_only_vectors() && fixed_ == fixed_interrupts::injected)
            [[likely]] {
            return decide_on_vectors();
        }
        return decide_on_all();
    }

    /// Whether a virtual processor that halts, or waits for a start-up, does not stay so: there is a
    /// signal for it, or something that it can take now.
    [[nodiscard]] constexpr bool wakes() {
        apic_->synchronize();
        if (apic_->signal_pending() || apic_->waiting_for_start_up()) {
            return apic_->signal_pending();
        }
        return held_.exception.present || held_.nmi == undelivered_nmi::interrupted ||
               (nmi_waits() && vcpu_.can_take_nmi()) ||
               ((held_.external_interrupt.present || extint_waits() || apic_->pending() != 0) &&
                vcpu_.can_take_interrupt());
    }

    /// An NMI that waits goes over to a processor that keeps and delivers it by itself (V_NMI [amd]):
    /// instead of asking for its window, the VMM sets that bit while it is 0. False: none waits.
    [[nodiscard]] constexpr bool hand_over_nmi() {
        if (held_.nmi == undelivered_nmi::deferred) {
            held_.nmi = undelivered_nmi::none;
            return true;
        }
        if (!apic_->nmi_pending()) {
            return false;
        }
        apic_->take_nmi();
        return true;
    }

    /// The virtual processor was reset or took INIT: what was on its way is gone.
    constexpr void reset() { held_ = {}; }

    /// What has not arrived, for saving it, after before_entry()'s decision was given back.
    [[nodiscard]] constexpr const undelivered_events& undelivered() const { return held_; }
    /// errc::malformed: an event in the place of another kind, or one that no processor delivers, so that
    /// every entry with it would fail; nothing has changed.
    constexpr result<void> restore(const undelivered_events& saved) {
        if ((saved.exception.present && !can_be(saved.exception)) ||
            (saved.external_interrupt.present &&
             (saved.external_interrupt.type != vcpu::event_type::external_interrupt ||
              saved.external_interrupt.has_error_code)) ||
            saved.nmi > undelivered_nmi::deferred) {
            return error{errc::malformed, 0};
        }
        held_ = saved;
        return {};
    }

private:
    /// Whether it is an exception, or an event of an instruction, as there are.
    static constexpr bool can_be(const vcpu::event& event) {
        // #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, and #VC and #SX of [amd]
        constexpr std::uint32_t with_error_code =
            1U << 8 | 0x1FU << 10 | 1U << 17 | 1U << 21 | 3U << 29;
        constexpr std::uint8_t longest_instruction = 15;
        switch (event.type) {
        case vcpu::event_type::hardware_exception:
            return event.vector < 32 &&
                   event.vector !=
                       static_cast<std::uint8_t>(vcpu::exception_vector::nmi_interrupt) &&
                   (!event.has_error_code || (with_error_code >> event.vector & 1) != 0);
        case vcpu::event_type::software_interrupt:
        case vcpu::event_type::privileged_software_exception:
        case vcpu::event_type::software_exception:
            // Of length 0 too: there are processors that deliver it [sdm, IA32_VMX_MISC].
            return !event.has_error_code && event.instruction_length <= longest_instruction;
        default: return false;
        }
    }

    /// What decide_on_all() says too where there is nothing but fixed vectors, which is nearly always.
    constexpr entry_decision decide_on_vectors() {
        if (apic_->pending() == 0) {
            return {.tpr_threshold = apic_->tpr_threshold()};
        }
        if (!vcpu_.can_take_interrupt()) {
            return {.interrupt_window = true};
        }
        // Those that wait are in its class or below: it holds them back, and not TPR.
        return {.event = vcpu::external_interrupt(apic_->acknowledge())};
    }

    [[gnu::cold]] constexpr entry_decision decide_on_all() {
        if (apic_->signal_pending() || apic_->waiting_for_start_up()) {
            return {.signal = true};
        }
        entry_decision decision{.event = next_event()};
        decision.interrupt_window =
            held_.external_interrupt.present || extint_waits() || fixed_waits();
        decision.nmi_window = nmi_waits();
        if (fixed_ == fixed_interrupts::virtual_interrupt_delivery) {
            decision.status = guest_interrupt_status::of(apic_->registers());
        } else {
            decision.tpr_threshold = apic_->tpr_threshold();
        }
        return decision;
    }

    [[nodiscard]] constexpr bool holds_nothing() const {
        return !held_.exception.present && !held_.external_interrupt.present &&
               held_.nmi == undelivered_nmi::none;
    }

    constexpr vcpu::event next_event() {
        if (held_.exception.present) {
            if (held_.nmi == undelivered_nmi::interrupted) {
                held_.nmi = undelivered_nmi::deferred;
            }
            return std::exchange(held_.exception, {});
        }
        // Asking whether NMIs are blocked would be wrong here: this one has blocked them itself.
        if (held_.nmi == undelivered_nmi::interrupted) {
            held_.nmi = undelivered_nmi::none;
            return vcpu::nmi();
        }
        // If an exception went before it, its handler may have cleared IF, so it is asked.
        if (held_.external_interrupt.present && vcpu_.can_take_interrupt()) {
            return std::exchange(held_.external_interrupt, {});
        }
        if (nmi_waits() && vcpu_.can_take_nmi()) {
            if (held_.nmi == undelivered_nmi::deferred) {
                held_.nmi = undelivered_nmi::none;
            } else {
                apic_->take_nmi();
            }
            return vcpu::nmi();
        }
        return next_interrupt();
    }

    constexpr vcpu::event next_interrupt() {
        // With nobody to answer, the request must not stay: it would wake the virtual processor for ever.
        if (!has_external_controller && apic_->extint_pending()) {
            apic_->take_extint();
        }
        // One that was interrupted, and cannot be taken yet, lets no other pass.
        const bool extint = extint_waits();
        if (held_.external_interrupt.present || (!extint && !fixed_waits()) ||
            !vcpu_.can_take_interrupt()) {
            return {};
        }
        if (extint) {
            apic_->take_extint();
            return vcpu::external_interrupt(controller_.acknowledge());
        }
        return vcpu::external_interrupt(apic_->acknowledge());
    }

    constexpr bool nmi_waits() const {
        return held_.nmi != undelivered_nmi::none || apic_->nmi_pending();
    }
    constexpr bool extint_waits() const {
        return has_external_controller && apic_->extint_pending();
    }
    constexpr bool fixed_waits() const {
        return fixed_ == fixed_interrupts::injected && apic_->pending() != 0;
    }

    static constexpr bool has_external_controller = !std::same_as<Pic, no_external_controller>;

    Apic* apic_;
    undelivered_events held_{};
    fixed_interrupts fixed_;
    [[no_unique_address]] Vcpu vcpu_;
    [[no_unique_address]] Pic controller_;
};

} // namespace pt::lapic
