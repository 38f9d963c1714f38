// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

/// What VMX and SVM have in common: the events, instructions and accesses of a virtual processor in
/// words that are neither's, so that one handler serves both loops.
namespace pt::vcpu {

/// What kind of event the processor delivers through the guest's interrupt-descriptor table; the
/// numbers are those of the VM-entry interruption-information field [sdm].
enum class event_type : std::uint8_t {
    external_interrupt = 0,
    nmi = 2,
    hardware_exception = 3,
    software_interrupt = 4,            ///< INT n
    privileged_software_exception = 5, ///< INT1
    software_exception = 6,            ///< INT3, INTO
};

/// Whether an instruction of the guest asked for the event, so that the return address lies behind
/// that instruction.
[[nodiscard]] constexpr bool is_software(event_type type) {
    return type == event_type::software_interrupt ||
           type == event_type::privileged_software_exception ||
           type == event_type::software_exception;
}

/// Exceptions by vector [sdm, Exceptions and Interrupts].
enum class exception_vector : std::uint8_t {
    divide_error = 0,
    debug = 1,
    nmi_interrupt = 2, ///< not an exception: the vector that NMIs have
    breakpoint = 3,
    overflow = 4,
    bound_range_exceeded = 5,
    invalid_opcode = 6,
    device_not_available = 7,
    double_fault = 8,
    coprocessor_segment_overrun = 9,
    invalid_tss = 10,
    segment_not_present = 11,
    stack_segment_fault = 12,
    general_protection = 13,
    page_fault = 14,
    floating_point_error = 16,
    alignment_check = 17,
    machine_check = 18,
    simd_floating_point = 19,
    virtualization = 20,
    control_protection = 21,
    hypervisor_injection = 28, ///< [amd]
    vmm_communication = 29,    ///< [amd]
    security = 30,             ///< [amd]
};

/// An event on its way into a guest, or one whose delivery an exit interrupted.
struct event {
    bool present = false; ///< false: no event, and nothing else here means anything
    event_type type = event_type::external_interrupt;
    std::uint8_t vector = 0;
    bool has_error_code = false;
    /// Bytes of the instruction, for a software event: the return address is behind it.
    std::uint8_t instruction_length = 0;
    std::uint32_t error_code = 0; ///< pushed on the handler's stack if has_error_code

    friend constexpr bool operator==(const event&, const event&) = default;
};

[[nodiscard]] constexpr event external_interrupt(std::uint8_t vector) {
    return {.present = true, .type = event_type::external_interrupt, .vector = vector};
}

[[nodiscard]] constexpr event nmi() {
    return {.present = true,
            .type = event_type::nmi,
            .vector = static_cast<std::uint8_t>(exception_vector::nmi_interrupt)};
}

/// A fault or trap that the processor would have raised by itself.
[[nodiscard]] constexpr event exception(exception_vector which) {
    return {.present = true,
            .type = event_type::hardware_exception,
            .vector = static_cast<std::uint8_t>(which)};
}
[[nodiscard]] constexpr event exception(exception_vector which, std::uint32_t error_code) {
    event with_code = exception(which);
    with_code.has_error_code = true;
    with_code.error_code = error_code;
    return with_code;
}

} // namespace pt::vcpu
