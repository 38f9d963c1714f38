// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/vcpu/event.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"

#include <cstdint>

namespace pt::vmx {

/// What the checks of event injection look at besides the words of the entry.
struct injection_context {
    std::uint64_t cr0 = 0x1;    ///< guest CR0
    std::uint64_t rflags = 0x2; ///< guest RFLAGS
    interruptibility_state blocking{};
    activity_state activity = activity_state::active;
    std::uint8_t ss_privilege_level = 0;      ///< DPL in the access rights of the guest's SS
    bool virtual_nmis = false;                ///< the pin-based control
    bool monitor_trap_flag_supported = false; ///< type 7 is not reserved
    bool any_error_code = false;              ///< IA32_VMX_BASIC bit 56: see below
    bool zero_instruction_length = false;     ///< IA32_VMX_MISC bit 30: see below
    bool enclaves_supported = false;          ///< the processor has SGX
    /// [sdm] leaves it to the processor whether an NMI goes in while STI blocks.
    bool nmi_while_sti_blocks = false;
};

/// What VM entry says to the event that it is to deliver.
enum class entry_check : std::uint8_t {
    accepted,
    invalid_control_field, ///< VMLAUNCH or VMRESUME fails with VM-instruction error 7
    invalid_guest_state,   ///< exit reason 33 with bit 31
};

/// Whether exception `vector` pushes an error code, as all processors agree: #CP (21) came later, and
/// where it exists IA32_VMX_BASIC bit 56 is 1 and entry checks nothing.
[[nodiscard]] constexpr bool pushes_error_code(std::uint8_t vector) {
    constexpr std::uint32_t vectors = 1U << 8 | 0x1FU << 10 | 1U << 17;
    return vector < 32 && (vectors >> vector & 1) != 0;
}

/// The checks of the three VM-entry fields alone [sdm, Checks on VM-Entry Control Fields]: whether the
/// word is one that entry takes. An invalid word (bit 31 is 0) is always taken.
[[nodiscard]] constexpr bool control_fields_accepted(const entry_words& words,
                                                     const injection_context& guest) {
    using entry = entry_interruption_information;
    const entry word = words.information;
    const std::uint8_t vector = word[entry::vector];
    const interruption_type type = word[entry::type];
    if (!word[entry::valid]) {
        return true;
    }
    if (word[entry::reserved] != 0) {
        return false;
    }
    switch (type) {
    case interruption_type::reserved: return false;
    case interruption_type::nmi:
        if (vector != static_cast<std::uint8_t>(vcpu::exception_vector::nmi_interrupt)) {
            return false;
        }
        break;
    case interruption_type::hardware_exception:
        if (vector > 31) {
            return false;
        }
        break;
    case interruption_type::other_event:
        if (vector != 0 || !guest.monitor_trap_flag_supported) {
            return false;
        }
        break;
    case interruption_type::software_interrupt:
    case interruption_type::privileged_software_exception:
    case interruption_type::software_exception:
        if (words.instruction_length > 15 ||
            (words.instruction_length == 0 && !guest.zero_instruction_length)) {
            return false;
        }
        break;
    case interruption_type::external_interrupt: break;
    }
    constexpr std::uint64_t protection_enable = 1;
    const bool code = word[entry::deliver_error_code];
    if (type != interruption_type::hardware_exception || (guest.cr0 & protection_enable) == 0) {
        return !code;
    }
    if (!guest.any_error_code && code != pushes_error_code(vector)) {
        return false;
    }
    return !code || words.error_code >> 16 == 0;
}

/// The checks of interruptibility state, activity state and RFLAGS, as far as they concern the event
/// [sdm, Checks on Guest Non-Register State; Checks on Guest RIP, RFLAGS, and SSP]. For a processor
/// outside of SMM.
[[nodiscard]] constexpr bool guest_state_accepted(const entry_words& words,
                                                  const injection_context& guest) {
    using entry = entry_interruption_information;
    using state = interruptibility_state;
    constexpr std::uint64_t interrupt_flag = 1U << 9;
    const interruptibility_state blocking = guest.blocking;
    const bool interrupts_enabled = (guest.rflags & interrupt_flag) != 0;
    const bool sti = blocking[state::blocking_by_sti];
    const bool mov_ss = blocking[state::blocking_by_mov_ss];

    if (blocking[state::reserved] != 0 || blocking[state::blocking_by_smi] || (sti && mov_ss) ||
        (sti && !interrupts_enabled) ||
        (blocking[state::enclave_interruption] && (mov_ss || !guest.enclaves_supported)) ||
        guest.activity > activity_state::wait_for_sipi ||
        ((sti || mov_ss) && guest.activity != activity_state::active) ||
        (guest.activity == activity_state::hlt && guest.ss_privilege_level != 0)) {
        return false;
    }
    if (!words.information[entry::valid]) {
        return true;
    }

    const interruption_type type = words.information[entry::type];
    const bool external = type == interruption_type::external_interrupt;
    const bool nmi = type == interruption_type::nmi;
    if (external && (!interrupts_enabled || sti || mov_ss)) {
        return false;
    }
    if (nmi && (mov_ss || (sti && !guest.nmi_while_sti_blocks) ||
                (guest.virtual_nmis && blocking[state::blocking_by_nmi]))) {
        return false;
    }

    const vcpu::exception_vector vector{words.information[entry::vector]};
    const bool hardware = type == interruption_type::hardware_exception;
    const bool machine_check = hardware && vector == vcpu::exception_vector::machine_check;
    switch (guest.activity) {
    case activity_state::active: return true;
    case activity_state::hlt:
        return external || nmi || machine_check || type == interruption_type::other_event ||
               (hardware && vector == vcpu::exception_vector::debug);
    case activity_state::shutdown: return nmi || machine_check;
    case activity_state::wait_for_sipi: break;
    }
    return false;
}

/// Whether VM entry delivers the event of these words to a guest in this state, or how it fails. All
/// checks that concern event injection; the many others about the guest's state are not made here.
[[nodiscard]] constexpr entry_check check_entry(const entry_words& words,
                                                const injection_context& guest) {
    if (!control_fields_accepted(words, guest)) {
        return entry_check::invalid_control_field;
    }
    return guest_state_accepted(words, guest) ? entry_check::accepted
                                              : entry_check::invalid_guest_state;
}

} // namespace pt::vmx
