// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/lapic/local_wire.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// One 8259A [8259A]. Without special fully nested mode.
class interrupt_controller {
public:
    /// The level of an input, 0..7. A rising edge is a request until it is acknowledged; if the line
    /// falls before that, the request is gone.
    constexpr void set(unsigned input, pt::lapic::wire_level level) {
        const unsigned bit = 1U << (input & 7U);
        if (level == pt::lapic::wire_level::asserted) {
            edges_ = byte(edges_ | (bit & ~lines_));
            lines_ = byte(lines_ | bit);
        } else {
            edges_ = byte(edges_ & ~bit);
            lines_ = byte(lines_ & ~bit);
        }
    }

    /// INT: an unmasked request of higher priority than all that is in service.
    [[nodiscard]] constexpr bool output() const { return winner() != nobody; }

    /// INTA: the input that is served from now on, or 7 when there is no request any more, which
    /// then is not in service.
    constexpr unsigned acknowledge() {
        const unsigned input = winner();
        if (input == nobody) {
            return 7;
        }
        edges_ = byte(edges_ & ~(1U << input));
        if (ends_by_itself_) {
            ended_ = byte(ended_ | 1U << input);
            if (rotates_by_itself_) {
                lowest_ = byte(input);
            }
        } else {
            in_service_ = byte(in_service_ | 1U << input);
        }
        return input;
    }

    [[nodiscard]] constexpr std::uint8_t vector(unsigned input) const {
        return byte(base_ | (input & 7U));
    }

    /// A0 = 0: IRR, or ISR; after the poll command, what it asks for.
    constexpr std::uint8_t read_command() {
        if (std::exchange(is_polled_, false)) {
            return poll();
        }
        return reads_in_service_ ? in_service_ : requests();
    }
    /// A0 = 1: IMR; after the poll command, what it asks for.
    constexpr std::uint8_t read_mask() { return std::exchange(is_polled_, false) ? poll() : mask_; }

    /// A0 = 0: ICW1, OCW2 and OCW3, by bits 4 and 3.
    constexpr void write_command(std::uint8_t value) {
        if ((value & 0x10U) != 0) {
            initialise(value);
        } else if ((value & 0x08U) != 0) {
            is_polled_ = (value & 4U) != 0;
            if ((value & 2U) != 0) {
                reads_in_service_ = (value & 1U) != 0;
            }
            if ((value & 0x40U) != 0) {
                has_special_mask_ = (value & 0x20U) != 0;
            }
        } else {
            end_or_rotate(value);
        }
    }

    /// A0 = 1: the initialisation words that ICW1 has announced, else OCW1, the mask.
    constexpr void write_mask(std::uint8_t value) {
        switch (expected_) {
        case word::icw2:
            base_ = value & 0xF8U;
            expected_ = is_single_ ? word::icw4 : word::icw3;
            break;
        case word::icw3: expected_ = word::icw4; break; // how the pair is wired does not change
        case word::icw4:
            ends_by_itself_ = (value & 2U) != 0;
            expected_ = word::ocw1;
            break;
        case word::ocw1: mask_ = value; break;
        }
        if (expected_ == word::icw4 && !has_icw4_) {
            expected_ = word::ocw1;
        }
    }

    /// Inputs, a bit for each, whose interrupts have ended since this was asked last.
    [[nodiscard]] constexpr std::uint8_t take_ended() { return std::exchange(ended_, byte(0)); }

    /// ELCR: a bit for each input that is level-triggered.
    [[nodiscard]] constexpr std::uint8_t level_triggered() const { return levels_; }
    constexpr void set_level_triggered(std::uint8_t inputs) { levels_ = inputs; }

private:
    enum class word : std::uint8_t { ocw1, icw2, icw3, icw4 };
    static constexpr unsigned nobody = 8;

    static constexpr std::uint8_t byte(unsigned value) { return static_cast<std::uint8_t>(value); }

    constexpr std::uint8_t requests() const {
        const unsigned levels = all_levels_ ? 0xFFU : levels_;
        return byte((lines_ & levels) | (edges_ & ~levels));
    }

    /// The first in the order of priority whose bit is set.
    constexpr unsigned first_of(unsigned inputs) const {
        for (unsigned i = 1; i <= 8; ++i) {
            const unsigned input = (lowest_ + i) & 7U;
            if ((inputs >> input & 1U) != 0) {
                return input;
            }
        }
        return nobody;
    }
    constexpr unsigned rank(unsigned input) const {
        return input == nobody ? 8 : (input - lowest_ - 1U) & 7U;
    }
    constexpr unsigned winner() const {
        const unsigned input = first_of(requests() & ~unsigned{mask_});
        return rank(input) < rank(first_of(in_charge())) ? input : nobody;
    }
    /// What is in service and holds lower priorities back. In special mask mode the mask takes that
    /// from it.
    constexpr unsigned in_charge() const {
        return in_service_ & ~(has_special_mask_ ? unsigned{mask_} : 0U);
    }
    /// An acknowledge by software: bit 7, and which input. 0: there is no request.
    constexpr std::uint8_t poll() {
        return output() ? byte(0x80U | acknowledge()) : std::uint8_t{0};
    }

    constexpr void initialise(std::uint8_t value) {
        has_icw4_ = (value & 1U) != 0;
        is_single_ = (value & 2U) != 0;
        all_levels_ = (value & 8U) != 0;
        edges_ = 0;
        in_service_ = 0;
        mask_ = 0;
        lowest_ = 7;
        reads_in_service_ = false;
        is_polled_ = false;
        has_special_mask_ = false;
        ends_by_itself_ = false;
        rotates_by_itself_ = false;
        expected_ = word::icw2;
    }

    /// OCW2: bit 7 rotates, bit 6 says that bits 2:0 name the input, bit 5 ends an interrupt.
    constexpr void end_or_rotate(std::uint8_t value) {
        const bool rotates = (value & 0x80U) != 0;
        const bool is_specific = (value & 0x40U) != 0;
        if ((value & 0x20U) == 0) {
            if (!is_specific) {
                rotates_by_itself_ = rotates;
            } else if (rotates) {
                lowest_ = value & 7U;
            }
            return;
        }
        const unsigned input = is_specific ? value & 7U : first_of(in_charge());
        if (input == nobody) {
            return;
        }
        in_service_ = byte(in_service_ & ~(1U << input));
        ended_ = byte(ended_ | 1U << input);
        if (rotates) {
            lowest_ = byte(input);
        }
    }

    std::uint8_t lines_ = 0;
    std::uint8_t edges_ = 0; ///< rising edges that have not been acknowledged
    std::uint8_t levels_ = 0;
    std::uint8_t in_service_ = 0;
    std::uint8_t ended_ = 0; ///< and nobody has asked yet
    std::uint8_t mask_ = 0xFF;
    std::uint8_t base_ = 0;
    std::uint8_t lowest_ = 7; ///< the input with the lowest priority
    word expected_ = word::ocw1;
    bool all_levels_ = false;
    bool has_icw4_ = false;
    bool is_single_ = false;
    bool reads_in_service_ = false;
    bool is_polled_ = false; ///< the next read acknowledges
    bool has_special_mask_ = false;
    bool ends_by_itself_ = false;    ///< AEOI
    bool rotates_by_itself_ = false; ///< at AEOI
};

/// The two 8259As of a PC: sixteen inputs, the second one's output being input 2 of the first.
/// After power-up everything is masked, as firmware leaves it.
class interrupt_controllers {
public:
    /// The level of IRQ 0..15. IRQ 2 is the second controller's.
    constexpr void set(unsigned irq, pt::lapic::wire_level level) {
        if (irq == 2) {
            return;
        }
        if (irq < 8) {
            first_.set(irq, level);
        } else {
            second_.set(irq - 8, level);
        }
        cascade();
    }

    /// INTR, the level of LINT0 of the bootstrap processor.
    [[nodiscard]] constexpr bool output() const { return first_.output(); }

    /// The INTA cycle: the vector.
    constexpr std::uint8_t acknowledge() {
        const unsigned input = first_.acknowledge();
        const std::uint8_t vector =
            input == 2 ? second_.vector(second_.acknowledge()) : first_.vector(input);
        cascade();
        return vector;
    }

    /// IRQs, a bit for each, whose interrupts have ended since this was asked last: by an EOI, or by
    /// themselves at their acknowledge.
    [[nodiscard]] constexpr std::uint16_t take_ended() {
        return static_cast<std::uint16_t>(first_.take_ended() | second_.take_ended() << 8);
    }

    /// Whether a port is one of theirs: 0x20, 0x21, 0xA0, 0xA1, and ELCR at 0x4D0 and 0x4D1.
    [[nodiscard]] static constexpr bool has_port(std::uint16_t port) {
        return (port & ~1U) == 0x20 || (port & ~1U) == 0xA0 || (port & ~1U) == 0x4D0;
    }

    constexpr std::uint8_t read(std::uint16_t port) {
        interrupt_controller& which = is_second(port) ? second_ : first_;
        if ((port & ~1U) == 0x4D0) {
            return which.level_triggered();
        }
        const std::uint8_t value = (port & 1U) != 0 ? which.read_mask() : which.read_command();
        cascade();
        return value;
    }

    constexpr void write(std::uint16_t port, std::uint8_t value) {
        interrupt_controller& which = is_second(port) ? second_ : first_;
        if ((port & ~1U) == 0x4D0) { // IRQ 0, 1, 2, 8 and 13 are edges
            which.set_level_triggered(value & (is_second(port) ? 0xDEU : 0xF8U));
        } else if ((port & 1U) != 0) {
            which.write_mask(value);
        } else {
            which.write_command(value);
        }
        cascade();
    }

private:
    static constexpr bool is_second(std::uint16_t port) {
        return (port & ~1U) == 0x4D0 ? (port & 1U) != 0 : (port & 0x80U) != 0;
    }

    /// The second controller's output falls at each acknowledge, and rises again for what waits there.
    constexpr void cascade() {
        first_.set(2, pt::lapic::wire_level::deasserted);
        if (second_.output()) {
            first_.set(2, pt::lapic::wire_level::asserted);
        }
    }

    interrupt_controller first_;
    interrupt_controller second_;
};

} // namespace vmm::pc
