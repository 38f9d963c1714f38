// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

/// The interrupts of the unit itself [vt-d, "Remapping Hardware Event Interrupt Programming"]. They
/// are never remapped: the message is what a local APIC takes.
namespace pt::vtd {

/// What a unit interrupts for. The number is the offset of the event's control register; its data,
/// address and upper address registers follow.
enum class unit_event : std::uint8_t {
    fault = 0x38, ///< a fault was recorded, or the invalidation queue had an error
    invalidation_completion = 0xA0, ///< a wait descriptor that asked for it is done
    page_request = 0xE0,            ///< a device asks for a page, or the queue of requests is full
};

/// FECTL, IECTL, PECTL. The event is masked after a reset.
struct event_control : reg<event_control, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset_in_event = 0x0;
    /// IM: no message is sent; one that is due is kept pending.
    static constexpr bits<31, 31, bool> interrupt_mask{};
    /// IP: a message waits to be sent.
    static constexpr bits<30, 30, bool, access::read_only> interrupt_pending{};
    static constexpr field_list fields{interrupt_mask, interrupt_pending};
};

/// FEDATA, IEDATA, PEDATA. In older units the upper half is there as well.
struct event_data : reg<event_data, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset_in_event = 0x4;
    static constexpr bits<15, 0, std::uint16_t> message_data{}; // IMD
    static constexpr field_list fields{message_data};
};

/// FEADDR, IEADDR, PEADDR
struct event_address : reg<event_address, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset_in_event = 0x8;
    static constexpr bits<31, 2, hpa> message_address{}; // MA
    static constexpr field_list fields{message_address};
};

/// FEUADDR, IEUADDR, PEUADDR. Reserved in a unit without ECAP.EIM.
struct event_upper_address : reg<event_upper_address, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset_in_event = 0xC;
    static constexpr bits<31, 0, std::uint32_t> message_upper_address{}; // MUA
    static constexpr field_list fields{message_upper_address};
};

/// The place of one of an event's registers.
template <class R>
[[nodiscard]] constexpr std::uint32_t offset_of(unit_event event) {
    return static_cast<std::uint32_t>(event) + R::offset_in_event;
}

/// The event's control register. errc::not_supported with the offset of ECAP when the unit does not
/// have the event; errc::absent when there is no unit.
template <mmio_io Mmio, clock Clock>
constexpr result<event_control> control_of(register_window<Mmio, Clock> window, unit_event event) {
    const extended_capability ecap = window.extended_capabilities();
    if ((event == unit_event::invalidation_completion &&
         !ecap[extended_capability::queued_invalidation]) ||
        (event == unit_event::page_request && !ecap[extended_capability::page_request])) {
        return error{errc::not_supported, extended_capability::offset};
    }
    const std::uint32_t at = offset_of<event_control>(event);
    const auto control = window.template read_at<event_control>(at);
    if (control.raw == window.gone) {
        return error{errc::absent, at};
    }
    return control;
}

/// Whether a message of the event waits, because the event is masked or for a moment only. Errors
/// are those of control_of.
template <mmio_io Mmio, clock Clock>
constexpr result<bool> is_event_pending(register_window<Mmio, Clock> window, unit_event event) {
    return control_of(window, event).transform([](event_control control) {
        return control[event_control::interrupt_pending];
    });
}

/// Holds the messages of the event back. When this is over, none is under way any more. Errors are
/// those of control_of.
template <mmio_io Mmio, clock Clock>
constexpr result<void> mask_event(register_window<Mmio, Clock> window, unit_event event) {
    const result<event_control> control = control_of(window, event);
    if (!control) {
        return control.error();
    }
    window.write_at(offset_of<event_control>(event),
                    control->write_back().with(event_control::interrupt_mask(true)));
    // Reading the register pushes a message that was sent before.
    return control_of(window, event).transform([](event_control) {});
}

/// Lets the messages of the event out; one that waits comes at once. Errors are those of
/// control_of.
template <mmio_io Mmio, clock Clock>
constexpr result<void> unmask_event(register_window<Mmio, Clock> window, unit_event event) {
    const result<event_control> control = control_of(window, event);
    if (!control) {
        return control.error();
    }
    window.write_at(offset_of<event_control>(event),
                    control->write_back().with(event_control::interrupt_mask(false)));
    return control_of(window, event).transform([](event_control) {});
}

/// Lets the event interrupt with `message`, whatever it was set to before. A message with an x2APIC
/// id above 255 counts only while extended interrupt mode is on, and a unit that demands this mode
/// (ECAP.EIMER) sends none in any other.
///
/// Nothing is changed on errc::reserved_address with the address where that is no interrupt's (the
/// unit would write to memory), errc::out_of_range with data of more than 16 bits,
/// errc::not_supported with the offset of ECAP when the unit has no upper address register but the
/// message needs it; and on the errors of control_of.
template <mmio_io Mmio, clock Clock>
constexpr result<void> program_event(register_window<Mmio, Clock> window, unit_event event,
                                     interrupt_message message) {
    const auto upper = static_cast<std::uint32_t>(message.address >> 32);
    const hpa lower{message.address & 0xFFFF'FFFF};
    const bool has_upper =
        window.extended_capabilities()[extended_capability::extended_interrupt_mode];
    if (lower.align_down(interrupt_message::window_size).raw != interrupt_message::window ||
        !lower.is_aligned(4) || (upper & 0xFF) != 0) {
        return error{errc::reserved_address, message.address};
    }
    if (message.data > 0xFFFF) {
        return error{errc::out_of_range, message.data};
    }
    if (upper != 0 && !has_upper) {
        return error{errc::not_supported, extended_capability::offset};
    }
    // A message made of the old and of the new registers must not go out.
    if (const result<void> masked = mask_event(window, event); !masked) {
        return masked;
    }
    window.write_at(offset_of<event_data>(event),
                    event_data{event_data::message_data(static_cast<std::uint16_t>(message.data))});
    window.write_at(offset_of<event_address>(event),
                    event_address{event_address::message_address(lower)});
    if (has_upper) {
        window.write_at(offset_of<event_upper_address>(event),
                        event_upper_address{event_upper_address::message_upper_address(upper)});
    }
    return unmask_event(window, event);
}

} // namespace pt::vtd
