// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/interrupt_lines.hpp"
#include "pt/lapic/local_wire.hpp"
#include "pt/lapic/message.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// An entry of the I/O redirection table [82093AA].
struct redirection_entry : pt::reg<redirection_entry, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 56, std::uint8_t>                     destination{};
    static constexpr bits<16, 16, bool>                             masked{};
    static constexpr bits<15, 15, pt::lapic::trigger_mode>          trigger{};
    static constexpr bits<14, 14, bool, pt::access::read_only>      remote_irr{};      ///< level: accepted, and not ended
    static constexpr bits<13, 13, bool>                             active_low{};      ///< of no meaning: a line here is asserted or not
    static constexpr bits<12, 12, bool, pt::access::read_only>      delivery_status{}; ///< send pending
    static constexpr bits<11, 11, pt::lapic::destination_mode>      mode{};
    static constexpr bits<10,  8, pt::lapic::delivery_mode>         delivery{};
    static constexpr bits< 7,  0, std::uint8_t>                     vector{};
    // clang-format on
    static constexpr pt::field_list fields{destination, masked,     trigger,
                                           remote_irr,  active_low, delivery_status,
                                           mode,        delivery,   vector};
};

/// Whoever does not care when the guest has ended an interrupt of a line.
struct no_line_ends {
    constexpr void operator()(unsigned) const {}
};

/// An 82093AA with 24 pins [82093AA]: registers at two places of one page, an index at 0x00 and a
/// window at 0x10. `Send` is a callable that takes a lapic::message to the guest's local APICs and
/// says, as lapic::bus does, how many took it. `Ends` is one that is told a pin whose level-triggered
/// interrupt the guest has ended, before the level is looked at anew; it may call set().
template <class Send, class Ends = no_line_ends>
class io_apic {
public:
    static constexpr unsigned pins = 24;
    static constexpr pt::gpa default_base{0xFEC0'0000};

    /// Every entry is masked.
    explicit constexpr io_apic(Send send, Ends ends = {})
        : send_{std::move(send)}, ends_{std::move(ends)} {
        for (redirection_entry& entry : entries_) {
            entry = redirection_entry{redirection_entry::masked(true)};
        }
    }

    /// The guest reads its page at `offset`. What is no register reads 0.
    [[nodiscard]] constexpr std::uint64_t read(std::uint32_t offset, pt::mmio_width size) const {
        std::uint32_t value = 0;
        if (offset == index_offset) {
            value = index_;
        } else if (offset == window_offset) {
            value = selected();
        }
        return value & pt::all_ones(size);
    }

    /// The guest writes its page. The window takes dwords; the index has 8 bits.
    constexpr void write(std::uint32_t offset, pt::mmio_width size, std::uint64_t value) {
        if (offset == index_offset) {
            index_ = static_cast<std::uint8_t>(value);
        } else if (offset == window_offset && size == pt::mmio_width::dword) {
            write_selected(static_cast<std::uint32_t>(value));
        }
    }

    /// The level of a pin, 0..23. An edge while the entry is masked is nobody's [82093AA].
    constexpr void set(unsigned pin, pt::lapic::wire_level level) {
        if (pin >= pins) {
            return;
        }
        const std::uint32_t bit = 1U << pin;
        const bool rises = level == pt::lapic::wire_level::asserted && (lines_ & bit) == 0;
        lines_ = level == pt::lapic::wire_level::asserted ? lines_ | bit : lines_ & ~bit;
        const redirection_entry& entry = entries_[pin];
        if (rises && !is_level(entry) && !entry[redirection_entry::masked]) {
            waiting_ |= bit;
        }
        service(pin);
    }

    /// A local APIC tells that a level-triggered interrupt has ended: entries with that vector are
    /// free for the next one, and a line that is still asserted sends at once.
    constexpr void end_of_interrupt(std::uint8_t vector) {
        for (unsigned pin = 0; pin != pins; ++pin) {
            if (entries_[pin][redirection_entry::vector] == vector &&
                entries_[pin][redirection_entry::remote_irr]) {
                end(pin);
                service(pin);
            }
        }
    }

    /// Whether an input is an NMI.
    [[nodiscard]] constexpr bool can_send_nmi() const {
        for (const redirection_entry& entry : entries_) {
            if (!entry[redirection_entry::masked] &&
                entry[redirection_entry::delivery] == pt::lapic::delivery_mode::nmi) {
                return true;
            }
        }
        return false;
    }

    /// Tries again what no local APIC has taken, because none was enabled. Costs one load else.
    constexpr void resend() {
        for (unsigned pin = 0; waiting_ != 0 && pin != pins; ++pin) {
            service(pin);
        }
    }

private:
    static constexpr std::uint32_t index_offset = 0x00;
    static constexpr std::uint32_t window_offset = 0x10;
    static constexpr std::uint8_t first_entry = 0x10;

    constexpr void end(unsigned pin) {
        entries_[pin].raw &= ~std::uint64_t{redirection_entry::remote_irr.mask};
        ends_(pin);
    }

    constexpr std::uint32_t selected() const {
        switch (index_) {
        case 0x00:
        case 0x02: return id_ << 24U; // the arbitration id is loaded with the id
        case 0x01: return (pins - 1) << 16U | 0x11U;
        default: break;
        }
        const unsigned word = index_ - unsigned{first_entry};
        if (index_ < first_entry || word >= 2 * pins) {
            return 0;
        }
        return static_cast<std::uint32_t>(shown(word / 2) >> (32 * (word % 2)));
    }
    constexpr std::uint64_t shown(unsigned pin) const {
        const std::uint64_t pending = waiting_ >> pin & 1U;
        return entries_[pin].raw | pending << redirection_entry::delivery_status.low;
    }

    constexpr void write_selected(std::uint32_t value) {
        if (index_ == 0x00) {
            id_ = value >> 24U & 0xFU;
            return;
        }
        const unsigned word = index_ - unsigned{first_entry};
        if (index_ < first_entry || word >= 2 * pins) {
            return;
        }
        const unsigned pin = word / 2;
        const unsigned shift = 32 * (word % 2);
        redirection_entry& entry = entries_[pin];
        entry =
            entry.after_write(std::uint64_t{value} << shift, std::uint64_t{0xFFFF'FFFF} << shift);
        if (!is_level(entry) && entry[redirection_entry::remote_irr]) {
            end(pin); // so kernels end an interrupt of a controller without an EOI register
        }
        service(pin);
    }

    static constexpr bool is_vector(redirection_entry entry) {
        const pt::lapic::delivery_mode how = entry[redirection_entry::delivery];
        return how == pt::lapic::delivery_mode::fixed ||
               how == pt::lapic::delivery_mode::lowest_priority;
    }
    /// Only what has a vector is ever ended; all else is an edge, whatever the entry says.
    static constexpr bool is_level(redirection_entry entry) {
        return is_vector(entry) &&
               entry[redirection_entry::trigger] == pt::lapic::trigger_mode::level;
    }

    /// Sends if there is something to send.
    constexpr void service(unsigned pin) {
        redirection_entry& entry = entries_[pin];
        const std::uint32_t bit = 1U << pin;
        if (is_level(entry)) {
            const bool requests = (lines_ & bit) != 0 && !entry[redirection_entry::remote_irr];
            waiting_ = requests ? waiting_ | bit : waiting_ & ~bit;
        }
        if (entry[redirection_entry::masked]) {
            waiting_ &= ~bit; // an edge is lost; a level is looked at again
        }
        if ((waiting_ & bit) == 0) {
            return;
        }
        const pt::lapic::delivery sent = send_(pt::lapic::message{
            .delivery = entry[redirection_entry::delivery],
            .vector = entry[redirection_entry::vector],
            .trigger =
                is_level(entry) ? pt::lapic::trigger_mode::level : pt::lapic::trigger_mode::edge,
            .mode = entry[redirection_entry::mode],
            // All eight bits also in physical mode, as in every chipset since; [82093AA] has four.
            .destination = entry[redirection_entry::destination],
        });
        if (sent.reached == 0 && is_vector(entry)) {
            return; // and waits
        }
        waiting_ &= ~bit;
        if (is_level(entry)) {
            entry.raw |= redirection_entry::remote_irr.mask;
        }
    }

    [[no_unique_address]] Send send_;
    [[no_unique_address]] Ends ends_;
    redirection_entry entries_[pins]{};
    std::uint32_t lines_ = 0;
    std::uint32_t waiting_ = 0; ///< pins with a message that has not been taken
    std::uint32_t id_ = 0;
    std::uint8_t index_ = 0;
};

} // namespace vmm::pc
