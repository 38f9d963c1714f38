// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/svm/exit.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/processor_mode.hpp"

#include <cstdint>

namespace pt::svm {

/// Other values are reserved.
enum class injection_type : std::uint8_t {
    external_interrupt = 0,
    nmi = 2,
    exception = 3,          ///< INT1, INT3 and INTO too
    software_interrupt = 4, ///< INT n
};

/// EXITINTINFO, 64 bits [amd, Intercepts During IDT Interrupt Delivery]: the event that was being
/// delivered to the guest when the exit came, if valid.
struct exit_interrupt_information : reg<exit_interrupt_information, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t, access::read_only>  error_code{};
    static constexpr bits<31, 31, bool, access::read_only>           valid{};
    static constexpr bits<11, 11, bool, access::read_only>           error_code_valid{};
    static constexpr bits<10,  8, injection_type, access::read_only> type{};
    static constexpr bits< 7,  0, std::uint8_t, access::read_only>   vector{};
    // clang-format on
    static constexpr field_list fields{error_code, valid, error_code_valid, type, vector};
};

/// EVENTINJ, 64 bits [amd, Event Injection]: the event that VMRUN delivers through the guest's IDT, if
/// valid, whatever RFLAGS.IF and the interrupt shadow say. All zero: none.
struct event_injection : reg<event_injection, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t>               error_code{};
    static constexpr bits<31, 31, bool>                        valid{};
    static constexpr bits<30, 12, std::uint32_t, access::zero> reserved{};
    static constexpr bits<11, 11, bool>                        error_code_valid{};
    static constexpr bits<10,  8, injection_type>              type{};
    static constexpr bits< 7,  0, std::uint8_t>                vector{}; ///< NMI: ignored
    // clang-format on
    static constexpr field_list fields{error_code, valid, reserved, error_code_valid, type, vector};
};

/// Which address the guest's handler returns to, and what the VMM writes for it.
enum class return_address : std::uint8_t {
    rip,      ///< rIP as it is: nothing to write
    next_rip, ///< write nRIP = rIP + instruction_length; rIP stays
    moved_rip ///< write rIP = rIP + instruction_length
};

/// Everything that the VMM writes before a VMRUN that delivers an event.
struct injection_words {
    event_injection injection{};
    return_address returns_to = return_address::rip;
    std::uint8_t instruction_length = 0; ///< bytes; counts unless returns_to is rip

    friend constexpr bool operator==(const injection_words&, const injection_words&) = default;
};

/// What delivers `event` at the next VMRUN; all zero if it is not present. VMRUN asks nothing: whether
/// the guest can take a new event is for can_take_external_interrupt and can_take_nmi to say.
///
/// INT n, INT3 and INTO want a processor with nRIP (CPUID Fn8000_000A, NRIPS); on an older one the VMM
/// moves rIP for them as well, and must move it back if the delivery exits. INT1 cannot be injected as
/// what it is: it goes as a debug exception with rIP behind it, which checks no DPL either [amd, Event
/// Injection]. CR2 and DR6 are the VMM's to write.
///
/// `mode`: that of the guest which is entered, vcpu::mode_of(guest CR0). In real mode no exception has an
/// error code, and VMRUN would push one: the event's is left out there.
[[nodiscard]] constexpr injection_words injection_of(const vcpu::event& event,
                                                     vcpu::processor_mode mode) {
    using inject = event_injection;
    if (!event.present) {
        return {};
    }
    injection_words words;
    injection_type type = injection_type::exception;
    switch (event.type) {
    case vcpu::event_type::external_interrupt: type = injection_type::external_interrupt; break;
    case vcpu::event_type::nmi: type = injection_type::nmi; break;
    case vcpu::event_type::hardware_exception: break;
    case vcpu::event_type::software_interrupt:
        type = injection_type::software_interrupt;
        words.returns_to = return_address::next_rip;
        break;
    case vcpu::event_type::software_exception: words.returns_to = return_address::next_rip; break;
    case vcpu::event_type::privileged_software_exception:
        words.returns_to = return_address::moved_rip;
        break;
    }
    if (words.returns_to != return_address::rip) {
        words.instruction_length = event.instruction_length;
    }
    words.injection = inject{inject::valid(true), inject::type(type), inject::vector(event.vector)};
    if (event.has_error_code && mode == vcpu::processor_mode::protected_mode) {
        words.injection = words.injection.with(inject::error_code_valid(true),
                                               inject::error_code(event.error_code));
    }
    return words;
}

/// Whether VMRUN takes the field. #VMEXIT(INVALID) otherwise: for reserved types, and for exceptions
/// that are none: vector 2, and 32 and above. It may also refuse vectors that [amd] reserves, and an
/// exception that cannot come up in the guest's mode.
[[nodiscard]] constexpr bool injection_accepted(event_injection field) {
    using inject = event_injection;
    if (!field[inject::valid]) {
        return true;
    }
    constexpr auto nmi = static_cast<std::uint8_t>(vcpu::exception_vector::nmi_interrupt);
    const std::uint8_t vector = field[inject::vector];
    switch (field[inject::type]) {
    case injection_type::external_interrupt:
    case injection_type::nmi:
    case injection_type::software_interrupt: return true;
    case injection_type::exception: return vector != nmi && vector < 32;
    }
    return false;
}

/// The event whose delivery the exit interrupted and which is to be delivered again; not present if
/// there is none.
///
/// INT n, INT3 and INTO are left out: the guest's rIP is still at the instruction, which the guest
/// runs again, and its length is not known (nRIP is 0) [amd, State Saved on Exit; Exception
/// Intercepts]. One that the VMM injected where the guest has no such instruction is the VMM's to
/// keep. INT1 looks like a debug exception, and is delivered as one.
///
/// After a task-switch exit the event is part of the switch that the VMM emulates. If an exception
/// exited that the VMM gives to the guest, the two are to be combined (vcpu/double_fault.hpp).
[[nodiscard]] constexpr vcpu::event interrupted_event(exit_interrupt_information interrupted) {
    using exit = exit_interrupt_information;
    const std::uint8_t vector = interrupted[exit::vector];
    if (!interrupted[exit::valid]) {
        return {};
    }
    switch (interrupted[exit::type]) {
    case injection_type::external_interrupt: return vcpu::external_interrupt(vector);
    case injection_type::nmi: return vcpu::nmi();
    case injection_type::exception: {
        const vcpu::exception_vector which{vector};
        if (which == vcpu::exception_vector::breakpoint ||
            which == vcpu::exception_vector::overflow) {
            return {};
        }
        return interrupted[exit::error_code_valid]
                   ? vcpu::exception(which, interrupted[exit::error_code])
                   : vcpu::exception(which);
    }
    case injection_type::software_interrupt: break;
    }
    return {};
}

/// The exception that exited (exit codes 0x40 to 0x5F), as an event that the VMM could give to the
/// guest; not present for other exits. `information`: EXITINFO1; `instruction_length`: nRIP - rIP of
/// INT3 and INTO, which exit with rIP at the instruction.
[[nodiscard]] constexpr vcpu::event exit_event(exit_code code, std::uint64_t information,
                                               std::uint8_t instruction_length) {
    const result<std::uint8_t> vector = number_of(code, exit_code::exception_0);
    if (!vector) {
        return {};
    }
    const vcpu::exception_vector which{*vector};
    switch (which) {
    case vcpu::exception_vector::nmi_interrupt: return {};
    case vcpu::exception_vector::breakpoint:
    case vcpu::exception_vector::overflow:
        return {.present = true,
                .type = vcpu::event_type::software_exception,
                .vector = *vector,
                .instruction_length = instruction_length};
    case vcpu::exception_vector::double_fault: return vcpu::exception(which, 0);
    case vcpu::exception_vector::invalid_tss:
    case vcpu::exception_vector::segment_not_present:
    case vcpu::exception_vector::stack_segment_fault:
    case vcpu::exception_vector::general_protection:
    case vcpu::exception_vector::page_fault:
    case vcpu::exception_vector::alignment_check:
    case vcpu::exception_vector::control_protection:
    case vcpu::exception_vector::vmm_communication:
    case vcpu::exception_vector::security:
        return vcpu::exception(which, static_cast<std::uint32_t>(information));
    default: return vcpu::exception(which);
    }
}

} // namespace pt::svm
