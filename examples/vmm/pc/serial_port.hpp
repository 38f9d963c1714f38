// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm::pc {

/// A 16550A UART [16550] whose line is never busy: what the guest transmits goes to `Output`, a
/// callable that takes one byte, at once. Its eight registers are at base + 0..7; only the low three
/// bits of an offset count. receive() is the other end of the line.
template <class Output>
class serial_port {
public:
    explicit constexpr serial_port(Output output) : output_{std::move(output)} {}

    constexpr std::uint8_t read(std::uint16_t offset) {
        switch (offset & 7U) {
        case 0: return divisor_is_addressed() ? low(divisor_) : received();
        case 1: return divisor_is_addressed() ? high(divisor_) : enabled_;
        case 2: return identification();
        case 3: return line_control_;
        case 4: return modem_control_;
        case 5: return line_status();
        case 6: return modem_status();
        default: return scratch_;
        }
    }

    constexpr void write(std::uint16_t offset, std::uint8_t value) {
        switch (offset & 7U) {
        case 0:
            if (divisor_is_addressed()) {
                divisor_ = static_cast<std::uint16_t>((divisor_ & 0xFF00U) | value);
            } else {
                transmit(value);
            }
            break;
        case 1:
            if (divisor_is_addressed()) {
                divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00FFU) | unsigned{value} << 8U);
            } else {
                // The transmitter is always empty, and says so whenever that is enabled.
                transmitter_empty_ = transmitter_empty_ || (value & ~enabled_ & 2U) != 0;
                enabled_ = value & 0x0F;
            }
            break;
        case 2: control_fifos(value); break;
        case 3: line_control_ = value; break;
        case 4: modem_control_ = value & 0x1F; break;
        case 7: scratch_ = value; break;
        default: break; // line and modem status cannot be written
        }
    }

    /// A byte arrives. When there is no room it is lost, and the line status says so.
    constexpr void receive(std::uint8_t byte) {
        if ((modem_control_ & loop) == 0) {
            take(byte);
        }
    }

    /// The level of its interrupt line. On a PC, OUT2 of the modem control gates it.
    [[nodiscard]] constexpr bool interrupts() const {
        return (modem_control_ & (loop | out2)) == out2 && source() != none;
    }

private:
    static constexpr std::uint8_t loop = 0x10;
    static constexpr std::uint8_t out2 = 0x08;
    static constexpr std::size_t capacity = 16;

    // Interrupt identification, bits 3:0, in the order of priority.
    static constexpr std::uint8_t line_error = 0x6;
    static constexpr std::uint8_t data_available = 0x4;
    static constexpr std::uint8_t data_waits = 0xC; ///< below the trigger level, for some time
    static constexpr std::uint8_t transmitter_empty = 0x2;
    static constexpr std::uint8_t none = 0x1;

    static constexpr std::uint8_t low(std::uint16_t word) {
        return static_cast<std::uint8_t>(word);
    }
    static constexpr std::uint8_t high(std::uint16_t word) {
        return static_cast<std::uint8_t>(word >> 8U);
    }

    constexpr bool divisor_is_addressed() const { return (line_control_ & 0x80U) != 0; }
    constexpr bool has_fifos() const { return (fifo_control_ & 1U) != 0; }

    constexpr std::uint8_t source() const {
        if ((enabled_ & 4U) != 0 && overrun_) {
            return line_error;
        }
        if ((enabled_ & 1U) != 0 && count_ != 0) {
            constexpr std::uint8_t levels[4] = {1, 4, 8, 14};
            const std::size_t level = has_fifos() ? levels[fifo_control_ >> 6U] : 1;
            return count_ >= level ? data_available : data_waits;
        }
        return (enabled_ & 2U) != 0 && transmitter_empty_ ? transmitter_empty : none;
    }

    constexpr std::uint8_t identification() {
        const std::uint8_t why = source();
        if (why == transmitter_empty) {
            transmitter_empty_ = false; // it has been told
        }
        return static_cast<std::uint8_t>(why | (has_fifos() ? 0xC0U : 0U));
    }

    constexpr std::uint8_t line_status() {
        const unsigned status = 0x60U | (count_ != 0 ? 1U : 0U) | (overrun_ ? 2U : 0U);
        overrun_ = false;
        return static_cast<std::uint8_t>(status);
    }

    /// CTS, DSR and DCD as of a line with somebody at its other end; in loopback, RTS, DTR, OUT1
    /// and OUT2 come back as CTS, DSR, RI and DCD.
    constexpr std::uint8_t modem_status() const {
        if ((modem_control_ & loop) == 0) {
            return 0xB0;
        }
        const unsigned lines = modem_control_;
        return static_cast<std::uint8_t>((lines & 2U) << 3U | (lines & 1U) << 5U |
                                         (lines & 4U) << 4U | (lines & 8U) << 4U);
    }

    constexpr void control_fifos(std::uint8_t value) {
        if (((value ^ fifo_control_) & 1U) != 0 || (value & 2U) != 0) {
            count_ = 0;
        }
        fifo_control_ = (value & 1U) != 0 ? static_cast<std::uint8_t>(value & 0xC1U) : 0;
    }

    constexpr void transmit(std::uint8_t byte) {
        if ((modem_control_ & loop) != 0) {
            take(byte);
        } else {
            output_(byte);
        }
        transmitter_empty_ = true; // again
    }

    constexpr void take(std::uint8_t byte) {
        if (count_ == (has_fifos() ? capacity : 1)) {
            overrun_ = true;
            return;
        }
        fifo_[(first_ + count_) % capacity] = byte;
        ++count_;
    }

    constexpr std::uint8_t received() {
        if (count_ == 0) {
            return 0;
        }
        const std::uint8_t byte = fifo_[first_];
        first_ = (first_ + 1) % capacity;
        --count_;
        return byte;
    }

    [[no_unique_address]] Output output_;
    std::uint8_t fifo_[capacity] = {};
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    std::uint16_t divisor_ = 1;
    std::uint8_t enabled_ = 0;
    std::uint8_t fifo_control_ = 0;
    std::uint8_t line_control_ = 0;
    std::uint8_t modem_control_ = 0;
    std::uint8_t scratch_ = 0;
    bool overrun_ = false;
    bool transmitter_empty_ = false; ///< and the guest has not been told
};

} // namespace vmm::pc
