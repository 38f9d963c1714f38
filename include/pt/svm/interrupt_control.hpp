// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// Whether a guest can take an interrupt or an NMI, and how to wait until it can: fields of the VMCB's
/// control area [amd, Interrupt and Local APIC Support].
namespace pt::svm {

/// The VMCB's field of virtual interrupt control, 64 bits at offset 060h.
struct virtual_interrupt_control : reg<virtual_interrupt_control, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<39, 32, std::uint8_t> v_intr_vector{};
    static constexpr bits<31, 31, bool>         avic_enable{};
    static constexpr bits<30, 30, bool>         x2avic_enable{};
    /// Wants the NMI intercept; without it VMRUN exits with "invalid".
    static constexpr bits<26, 26, bool>         v_nmi_enable{};
    static constexpr bits<25, 25, bool>         v_gif_enable{};
    /// RFLAGS.IF and CR8 of the guest are for virtual interrupts only; physical ones obey the host's.
    /// A VMM that is to keep its machine sets it.
    static constexpr bits<24, 24, bool>         v_intr_masking{};
    static constexpr bits<20, 20, bool>         v_ign_tpr{};
    static constexpr bits<19, 16, std::uint8_t> v_intr_prio{};
    static constexpr bits<12, 12, bool>         v_nmi_mask{};   ///< the guest is in its NMI handler
    static constexpr bits<11, 11, bool>         v_nmi{};        ///< a virtual NMI is pending
    static constexpr bits< 9,  9, bool>         v_gif{};        ///< counts with v_gif_enable
    static constexpr bits< 8,  8, bool>         v_irq{};        ///< a virtual interrupt is pending
    static constexpr bits< 3,  0, std::uint8_t> v_tpr{};        ///< the guest's CR8
    // clang-format on
    static constexpr field_list fields{v_intr_vector, avic_enable,    x2avic_enable, v_nmi_enable,
                                       v_gif_enable,  v_intr_masking, v_ign_tpr,     v_intr_prio,
                                       v_nmi_mask,    v_nmi,          v_gif,         v_irq,
                                       v_tpr};

    /// Asks for the interrupt window: a virtual interrupt that no priority holds back. With the VINTR
    /// intercept set, which goes with it, the guest exits with exit_code::vintr as soon as it could
    /// take an interrupt, and takes none.
    [[nodiscard]] constexpr virtual_interrupt_control with_interrupt_window() const {
        return with(v_irq(true), v_intr_prio(15), v_ign_tpr(true), v_intr_vector(0));
    }

    /// Takes the request back; without it the guest would take an interrupt of vector 0 as soon as the
    /// VINTR intercept is cleared.
    [[nodiscard]] constexpr virtual_interrupt_control without_interrupt_window() const {
        return with(v_irq(false), v_intr_prio(0), v_ign_tpr(false), v_intr_vector(0));
    }
};

/// The VMCB's 64 bits at offset 068h.
struct guest_interrupt_state : reg<guest_interrupt_state, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// RFLAGS.IF of an SEV-ES guest.
    static constexpr bits<1, 1, bool, access::read_only> guest_interrupt_mask{};
    /// The guest is behind an STI, MOV SS or POP SS.
    static constexpr bits<0, 0, bool>                    interrupt_shadow{};
    // clang-format on
    static constexpr field_list fields{guest_interrupt_mask, interrupt_shadow};

    /// The state behind an instruction that the VMM has completed for the guest: an interrupt shadow
    /// lasts for one instruction.
    [[nodiscard]] constexpr guest_interrupt_state after_instruction() const {
        return with(interrupt_shadow(false));
    }
};

/// What a VMM without NMI virtualization must remember, because an injected NMI blocks no other: the
/// guest is in its NMI handler from the injection until the IRET that the IRET intercept shows.
///
/// That intercept comes before the IRET. To open the NMI window behind it and not before, clear the
/// intercept, let the guest do one instruction with RFLAGS.TF and the #DB intercept, and call it
/// unmasked then. Not needed with v_nmi_enable: the processor keeps v_nmi_mask, clears it at the
/// IRET and when the delivery exits, and takes a pending v_nmi by itself.
enum class nmi_masking : std::uint8_t { unmasked, masked };

/// Whether the global interrupt flag of the guest, if it has one of its own, lets events in.
[[nodiscard]] constexpr bool global_interrupts_enabled(virtual_interrupt_control control) {
    return !control[virtual_interrupt_control::v_gif_enable] ||
           control[virtual_interrupt_control::v_gif];
}

/// Whether an external interrupt may be injected by EVENTINJ: RFLAGS.IF is 1, there is no interrupt
/// shadow, and the guest's own GIF is 1. VMRUN would inject it all the same. A guest that halts is the
/// VMM's: it exits at HLT and does not come back.
[[nodiscard]] constexpr bool can_take_external_interrupt(std::uint64_t rflags,
                                                         guest_interrupt_state state,
                                                         virtual_interrupt_control control) {
    constexpr std::uint64_t interrupt_flag = 1U << 9;
    return (rflags & interrupt_flag) != 0 && !state[guest_interrupt_state::interrupt_shadow] &&
           global_interrupts_enabled(control);
}

/// Whether a new NMI may be injected by EVENTINJ; RFLAGS.IF does not matter. `own`: what the VMM
/// remembers; with v_nmi_enable the processor's v_nmi_mask counts instead. An NMI whose delivery was
/// interrupted goes in again without asking.
[[nodiscard]] constexpr bool can_take_nmi(guest_interrupt_state state,
                                          virtual_interrupt_control control, nmi_masking own) {
    using vic = virtual_interrupt_control;
    const bool masked =
        control[vic::v_nmi_enable] ? control[vic::v_nmi_mask] : own == nmi_masking::masked;
    return !masked && !state[guest_interrupt_state::interrupt_shadow] &&
           global_interrupts_enabled(control);
}

} // namespace pt::svm
