// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// Whether a guest can take an interrupt or an NMI: two fields of the guest-state area [sdm].
namespace pt::vmx {

/// Interruptibility state, 32 bits.
struct interruptibility_state : reg<interruptibility_state, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 5, std::uint32_t, access::zero> reserved{};
    static constexpr bits< 4, 4, bool> enclave_interruption{};
    static constexpr bits< 3, 3, bool> blocking_by_nmi{}; ///< virtual-NMI blocking with "virtual NMIs"
    static constexpr bits< 2, 2, bool> blocking_by_smi{};
    static constexpr bits< 1, 1, bool> blocking_by_mov_ss{};
    static constexpr bits< 0, 0, bool> blocking_by_sti{};
    // clang-format on
    static constexpr field_list fields{reserved,        enclave_interruption, blocking_by_nmi,
                                       blocking_by_smi, blocking_by_mov_ss,   blocking_by_sti};

    /// The state behind an instruction that the VMM has completed for the guest: blocking by STI and
    /// by MOV SS lasts for one instruction.
    [[nodiscard]] constexpr interruptibility_state after_instruction() const {
        return with(blocking_by_mov_ss(false), blocking_by_sti(false));
    }
};

/// Activity state, 32 bits.
enum class activity_state : std::uint32_t { active = 0, hlt = 1, shutdown = 2, wait_for_sipi = 3 };

/// Whether VM entry may deliver an external interrupt: RFLAGS.IF is 1, nothing blocks, and the
/// activity state is one in which interrupts arrive. VM entry fails if it is asked to otherwise.
[[nodiscard]] constexpr bool can_take_external_interrupt(std::uint64_t rflags,
                                                         interruptibility_state blocking,
                                                         activity_state activity) {
    constexpr std::uint64_t interrupt_flag = 1U << 9;
    return (rflags & interrupt_flag) != 0 && !blocking[interruptibility_state::blocking_by_sti] &&
           !blocking[interruptibility_state::blocking_by_mov_ss] &&
           (activity == activity_state::active || activity == activity_state::hlt);
}

/// Whether VM entry may deliver a new NMI; if not, the NMI window is what to wait for. RFLAGS.IF does
/// not matter. Blocking by STI stops it too: [sdm] lets a processor fail the entry otherwise. A
/// re-injected NMI has set blocking by NMI itself, and is not asked about.
[[nodiscard]] constexpr bool can_take_nmi(interruptibility_state blocking,
                                          activity_state activity) {
    return !blocking[interruptibility_state::blocking_by_nmi] &&
           !blocking[interruptibility_state::blocking_by_sti] &&
           !blocking[interruptibility_state::blocking_by_mov_ss] &&
           activity != activity_state::wait_for_sipi;
}

/// Which window an NMI that cannot be taken waits for: false for the NMI window, true for the interrupt
/// window. A processor may take the exit of the NMI window while STI still blocks [sdm, Other Causes of
/// VM Exits]: a VMM that would wait for the end of that blocking by it would exit for ever.
[[nodiscard]] constexpr bool nmi_waits_for_interrupt_window(interruptibility_state blocking) {
    return blocking[interruptibility_state::blocking_by_sti];
}

} // namespace pt::vmx
