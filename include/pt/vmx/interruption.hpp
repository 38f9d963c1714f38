// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// The 32-bit words that carry an event out of a guest and into it [sdm]: VM-exit interruption
/// information, IDT-vectoring information, VM-entry interruption information.
namespace pt::vmx {

enum class interruption_type : std::uint8_t {
    external_interrupt = 0,
    reserved = 1,
    nmi = 2,
    hardware_exception = 3,
    software_interrupt = 4,            ///< INT n
    privileged_software_exception = 5, ///< INT1
    software_exception = 6,            ///< INT3, INTO
    other_event = 7,
};

/// Why an exception, an NMI or (with "acknowledge interrupt on exit") an external interrupt exited.
struct exit_interruption_information : reg<exit_interruption_information, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>              valid{};
    /// The exit undid NMI blocking in the middle of an IRET: set blocking by NMI before the guest
    /// resumes. Undefined when the IDT-vectoring information is valid and for double faults.
    static constexpr bits<12, 12, bool, access::read_only>              nmi_unblocking_due_to_iret{};
    static constexpr bits<11, 11, bool, access::read_only>              error_code_valid{};
    static constexpr bits<10,  8, interruption_type, access::read_only> type{};
    static constexpr bits< 7,  0, std::uint8_t, access::read_only>      vector{};
    // clang-format on
    static constexpr field_list fields{valid, nmi_unblocking_due_to_iret, error_code_valid, type,
                                       vector};
};

/// The event that was being delivered to the guest when the exit came, if valid. Bit 12 is undefined.
struct idt_vectoring_information : reg<idt_vectoring_information, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>              valid{};
    static constexpr bits<11, 11, bool, access::read_only>              error_code_valid{};
    static constexpr bits<10,  8, interruption_type, access::read_only> type{};
    static constexpr bits< 7,  0, std::uint8_t, access::read_only>      vector{};
    // clang-format on
    static constexpr field_list fields{valid, error_code_valid, type, vector};
};

/// The event that VM entry delivers through the guest's IDT, if valid. All zero: none. The processor
/// clears `valid` at each exit, so the field is written for each entry that is to deliver something.
struct entry_interruption_information : reg<entry_interruption_information, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 31, bool>                        valid{};
    static constexpr bits<30, 12, std::uint32_t, access::zero> reserved{};
    static constexpr bits<11, 11, bool>                        deliver_error_code{};
    static constexpr bits<10,  8, interruption_type>           type{};
    static constexpr bits< 7,  0, std::uint8_t>                vector{};
    // clang-format on
    static constexpr field_list fields{valid, reserved, deliver_error_code, type, vector};

    /// The VM-entry exception error code must be written too; for a re-injected event it is the
    /// IDT-vectoring error code.
    [[nodiscard]] constexpr bool needs_error_code() const {
        return (*this)[valid] && (*this)[deliver_error_code];
    }

    /// The VM-entry instruction length must be written too, because the return address lies behind the
    /// instruction; for a re-injected event it is the VM-exit instruction length.
    [[nodiscard]] constexpr bool needs_instruction_length() const {
        const interruption_type event = (*this)[type];
        return (*this)[valid] && (event == interruption_type::software_interrupt ||
                                  event == interruption_type::privileged_software_exception ||
                                  event == interruption_type::software_exception);
    }

    /// Blocking by NMI in the guest's interruptibility state must be cleared, or VM entry with virtual
    /// NMIs fails: the interrupted delivery of this NMI has set it already.
    [[nodiscard]] constexpr bool needs_nmi_blocking_cleared() const {
        return (*this)[valid] && (*this)[type] == interruption_type::nmi;
    }
};

/// The entry word that delivers an external interrupt.
[[nodiscard]] constexpr entry_interruption_information external_interrupt(std::uint8_t vector) {
    using entry = entry_interruption_information;
    return entry{entry::valid(true), entry::type(interruption_type::external_interrupt),
                 entry::vector(vector)};
}

/// The entry word that delivers once more what the exit interrupted; all zero if it interrupted
/// nothing. Undefined and reserved bits do not pass. Ask the word's needs_... what else VM entry wants.
///
/// Not for two exits: an event that led to a task-switch exit is part of the switch, which the VMM
/// emulates, and one during which another exception exited becomes a double fault where [sdm] says so.
[[nodiscard]] constexpr entry_interruption_information
reinject(idt_vectoring_information interrupted) {
    using idt = idt_vectoring_information;
    using entry = entry_interruption_information;
    if (!interrupted[idt::valid]) {
        return {};
    }
    return entry{entry::valid(true), entry::deliver_error_code(interrupted[idt::error_code_valid]),
                 entry::type(interrupted[idt::type]), entry::vector(interrupted[idt::vector])};
}

} // namespace pt::vmx
