// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/processor_mode.hpp"

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
    other_event = 7,                   ///< at entry: a pending MTF exit
};

/// Why an exception, an NMI or (with "acknowledge interrupt on exit") an external interrupt exited.
struct exit_interruption_information : reg<exit_interruption_information, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>              valid{};
    /// See nmi_unblocking.hpp for when it is defined and what to do.
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
};

/// Everything that the VMM writes before an entry that delivers an event.
struct entry_words {
    /// VM-entry interruption information.
    entry_interruption_information information{};
    /// VM-entry exception error code; counts if information says deliver_error_code.
    std::uint32_t error_code = 0;
    /// VM-entry instruction length in bytes; counts for software events: the return address that the
    /// guest's handler gets lies that far behind RIP. Other events ignore it.
    std::uint32_t instruction_length = 0;
    /// Clear blocking by NMI in the guest's interruptibility state. The interrupted delivery of this
    /// NMI has set it already, and with "virtual NMIs" entry would fail. A new NMI is injected only
    /// while the bit is 0 (can_take_nmi), so that clearing it changes nothing.
    bool clear_blocking_by_nmi = false;

    friend constexpr bool operator==(const entry_words&, const entry_words&) = default;
};

/// What delivers `event` at the next VM entry; all zero if it is not present. A new event is one that
/// the guest can take (interruptibility.hpp); one whose delivery was interrupted always goes in again.
///
/// `mode`: that of the guest which is entered, vcpu::mode_of(guest CR0). In real-address mode no
/// exception has an error code, and entry fails with one [sdm, Checks on VM-Entry Control Fields]: the
/// event's is left out there. CR2, DR6 and the like are the VMM's to write.
[[nodiscard]] constexpr entry_words entry_of(const vcpu::event& event, vcpu::processor_mode mode) {
    using entry = entry_interruption_information;
    if (!event.present) {
        return {};
    }
    const bool with_code = event.has_error_code && mode == vcpu::processor_mode::protected_mode;
    entry_words words{.information = entry{entry::valid(true), entry::deliver_error_code(with_code),
                                           entry::type(static_cast<interruption_type>(event.type)),
                                           entry::vector(event.vector)},
                      .clear_blocking_by_nmi = event.type == vcpu::event_type::nmi};
    if (with_code) {
        words.error_code = event.error_code & 0xFFFF; // bits 31:16 must be 0
    }
    if (vcpu::is_software(event.type)) {
        words.instruction_length = event.instruction_length;
    }
    return words;
}

/// An event out of one of the two exit words. Types 1 and 7 do not come out of a guest's IDT, and
/// give none.
template <class Information>
[[nodiscard]] constexpr vcpu::event event_in(Information information, std::uint32_t error_code,
                                             std::uint32_t instruction_length) {
    const interruption_type type = information[Information::type];
    if (!information[Information::valid] || type == interruption_type::reserved ||
        type == interruption_type::other_event) {
        return {};
    }
    constexpr std::uint32_t longest_instruction = 15;
    const bool with_code = information[Information::error_code_valid];
    const auto event_type = static_cast<vcpu::event_type>(type);
    const bool with_length =
        vcpu::is_software(event_type) && instruction_length <= longest_instruction;
    return {.present = true,
            .type = event_type,
            .vector = information[Information::vector],
            .has_error_code = with_code,
            .instruction_length = static_cast<std::uint8_t>(with_length ? instruction_length : 0),
            .error_code = with_code ? error_code : 0};
}

/// The event whose delivery the exit interrupted, to be delivered again by entry_of; not present if
/// the exit interrupted none. `error_code`: IDT-vectoring error code; `instruction_length`: VM-exit
/// instruction length. Both count only where the event has them. Undefined bits do not pass.
///
/// Two exits want something else: after a task-switch exit the event is part of the switch that the
/// VMM emulates; and if an exception exited that the VMM gives to the guest, the two are to be
/// combined (vcpu/double_fault.hpp).
[[nodiscard]] constexpr vcpu::event interrupted_event(idt_vectoring_information interrupted,
                                                      std::uint32_t error_code,
                                                      std::uint32_t instruction_length) {
    return event_in(interrupted, error_code, instruction_length);
}

/// The exception, NMI or interrupt that exited, as an event that the VMM could give to the guest.
/// `error_code`: VM-exit interruption error code; `instruction_length`: VM-exit instruction length.
[[nodiscard]] constexpr vcpu::event exit_event(exit_interruption_information exited,
                                               std::uint32_t error_code,
                                               std::uint32_t instruction_length) {
    return event_in(exited, error_code, instruction_length);
}

/// The host's vector of an external-interrupt exit. errc::absent when the interrupt was not
/// acknowledged (without the exit control "acknowledge interrupt on exit"): it is still pending, and
/// the host takes it as soon as its interrupts are enabled.
[[nodiscard]] constexpr result<std::uint8_t>
acknowledged_vector(exit_interruption_information exited) {
    using exit = exit_interruption_information;
    if (!exited[exit::valid] || exited[exit::type] != interruption_type::external_interrupt) {
        return error{errc::absent, exited.raw};
    }
    return exited[exit::vector];
}

} // namespace pt::vmx
