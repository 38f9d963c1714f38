// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/lapic/interrupt_lines.hpp"
#include "pt/lapic/local_wire.hpp"

#include <bit>
#include <cstdint>
#include <utility>

namespace pt::lapic {

/// The way of level-triggered interrupts (INTx) from lines of the host to one line of a guest.
///
/// The host cannot see when the guest has served the device, only when the guest is done with the
/// interrupt. So, for each line:
///
///     waiting:   unmasked at the host
///                | host_interrupt(): mask; assert the guest's line
///                v
///     asserted:  masked at the host, so that the device which still asserts does not interrupt again
///                | end_of_interrupt(): deassert; unmask
///                v
///     waiting:   the device still asserts, or another one: it interrupts at once, and all begins anew
///
/// That is one interrupt of the host for each end of interrupt of the guest at most, whatever the guest and
/// the device do; a guest that never ends its interrupt has masked its own devices and nothing else.
/// Lines of several devices that share a line of the guest are one route: together they assert it.
///
/// Called by one CPU at a time, or with a Mutex that sees to it; one that unmask() can interrupt on the
/// CPU that holds it must keep interrupts off.
template <host_lines Host, guest_line Guest, mutex Mutex = no_mutex>
class level_route {
public:
    /// Lines that a route can have: 0..63.
    static constexpr std::uint32_t max_lines = 64;

    /// No line is open: the VMM has masked all of them at the host, and the guest's line is deasserted.
    constexpr level_route(Host host, Guest guest, Mutex guard = {})
        : host_{std::move(host)}, guest_{std::move(guest)}, guard_{std::move(guard)} {}

    // What the lines are doing is here once, not in copies.
    level_route(const level_route&) = delete;
    level_route& operator=(const level_route&) = delete;

    /// From now on line n interrupts the guest. Nothing happens if it does already.
    constexpr void open(std::uint32_t n) {
        const scoped_lock hold{guard_};
        const std::uint64_t line = bit(n);
        if ((open_ & line) == 0) {
            open_ |= line;
            host_.unmask(n);
        }
    }

    /// Line n is masked and interrupts nobody any more: its device goes, or the guest disables INTx.
    /// If it asserts the guest's line, it does so no longer. Nothing happens if it is not open.
    constexpr void close(std::uint32_t n) {
        const scoped_lock hold{guard_};
        const std::uint64_t line = bit(n);
        if ((open_ & line) == 0) {
            return;
        }
        open_ &= ~line;
        host_.mask(n);
        if (asserted_ == line) {
            asserted_ = 0;
            guest_.set(wire_level::deasserted);
        } else {
            asserted_ &= ~line;
        }
    }

    /// The host takes an interrupt of line n. Call it before the host's own EOI: at that the line would
    /// interrupt again. One that was on its way while the line was masked or closed changes nothing.
    constexpr void host_interrupt(std::uint32_t n) {
        const scoped_lock hold{guard_};
        const std::uint64_t line = bit(n);
        host_.mask(n);
        if ((open_ & line) == 0) {
            return;
        }
        const bool was_deasserted = asserted_ == 0;
        asserted_ |= line;
        if (was_deasserted) {
            guest_.set(wire_level::asserted);
        }
    }

    /// The guest has ended an interrupt of this line: by the broadcast of an EOI with the vector that the
    /// pin has, by the EOI register of its I/O APIC, or by an EOI of its 8259. An end for which there was no
    /// interrupt changes nothing. With a virtual I/O APIC, call it before the pin's level is looked at anew.
    constexpr void end_of_interrupt() {
        const scoped_lock hold{guard_};
        std::uint64_t ended = std::exchange(asserted_, 0);
        if (ended == 0) {
            return;
        }
        guest_.set(wire_level::deasserted);
        for (; ended != 0; ended &= ended - 1) {
            host_.unmask(static_cast<std::uint32_t>(std::countr_zero(ended)));
        }
    }

    /// Whether the guest's line is asserted.
    [[nodiscard]] constexpr wire_level level() {
        const scoped_lock hold{guard_};
        return asserted_ != 0 ? wire_level::asserted : wire_level::deasserted;
    }

private:
    static constexpr std::uint64_t bit(std::uint32_t n) {
        expects(n < max_lines, "level_route: lines are 0..63");
        return std::uint64_t{1} << n;
    }

    [[no_unique_address]] Host host_;
    [[no_unique_address]] Guest guest_;
    [[no_unique_address]] Mutex guard_;
    std::uint64_t open_ = 0;     // lines that interrupt the guest
    std::uint64_t asserted_ = 0; // of these, the ones that assert its line and are masked
};

} // namespace pt::lapic
