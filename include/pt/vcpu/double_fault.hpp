// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/vcpu/event.hpp"

#include <cstdint>

namespace pt::vcpu {

/// What an event counts as when another one comes up during its delivery [sdm, Interrupt 8, Double
/// Fault Exception (#DF)].
enum class event_class : std::uint8_t { benign, contributory, page_fault, double_fault };

/// The class of an event. Only hardware exceptions can be other than benign: INT 14 is not a page
/// fault.
[[nodiscard]] constexpr event_class class_of(const event& of) {
    if (of.type != event_type::hardware_exception) {
        return event_class::benign;
    }
    switch (exception_vector{of.vector}) {
    case exception_vector::divide_error:
    case exception_vector::invalid_tss:
    case exception_vector::segment_not_present:
    case exception_vector::stack_segment_fault:
    case exception_vector::general_protection:
    case exception_vector::control_protection: return event_class::contributory;
    case exception_vector::page_fault:
    case exception_vector::virtualization: return event_class::page_fault;
    case exception_vector::double_fault: return event_class::double_fault;
    default: return event_class::benign;
    }
}

/// What the guest must get when `second` comes up during the delivery of `first` [sdm, Conditions for
/// Generating a Double Fault] [amd]: a double fault with error code 0, or else `second`, whose
/// handler runs before that of `first`. If one of them is not present, it is the other.
///
/// errc::hardware_fault with the vector of `second`: a triple fault. The guest shuts down.
///
/// Where `second` goes alone, a `first` that is an exception comes up again by itself when its
/// instruction is run again. An external interrupt or an NMI does not: the VMM keeps it for a later
/// entry.
[[nodiscard]] constexpr result<event> combined(const event& first, const event& second) {
    if (!first.present || !second.present) {
        return first.present ? first : second;
    }
    const event_class before = class_of(first);
    const event_class after = class_of(second);
    if (after == event_class::benign || before == event_class::benign) {
        return second;
    }
    if (before == event_class::double_fault) {
        return error{errc::hardware_fault, second.vector};
    }
    if (after == event_class::double_fault) {
        return second;
    }
    if (before == event_class::contributory && after == event_class::page_fault) {
        return second;
    }
    return exception(exception_vector::double_fault, 0);
}

} // namespace pt::vcpu
