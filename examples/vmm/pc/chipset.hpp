// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/platform.hpp"
#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/interrupt_lines.hpp"
#include "pt/lapic/local_wire.hpp"

#include "exit_port.hpp"
#include "interrupt_controllers.hpp"
#include "interval_timer.hpp"
#include "io_apic.hpp"
#include "power_management.hpp"
#include "real_time_clock.hpp"
#include "reset_ports.hpp"
#include "run_end.hpp"
#include "serial_port.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// Who is told that the guest has ended an interrupt of a line: `tell(whom)`. For lapic::level_route,
/// which deasserts the line then.
struct line_end {
    void (*tell)(void* whom) = nullptr;
    void* whom = nullptr;
};

/// Everything of a PC that is behind ports and registers, wired as a PC is: COM1, interval timer,
/// real-time clock, the pair of 8259s, the I/O APIC, reset and power management. All of it is the
/// VMM's own; no real device is behind it. `Output` takes the bytes of COM1, `Send` the messages of
/// the I/O APIC to the local APICs.
template <pt::clock Clock, class Output, class Send>
class chipset {
public:
    /// `seconds`: since the beginning of 1970, when `clock` shows 0. `memory`: the guest's RAM below
    /// 4 GiB, in bytes.
    constexpr chipset(Clock clock, Output com1, Send send, std::uint64_t seconds,
                      std::uint64_t memory)
        : com1_{std::move(com1)},
          timer_{clock},
          clock_{clock, seconds, memory},
          io_apic_{std::move(send), line_ends{this}},
          power_{clock} {}

    chipset(const chipset&) = delete; // lines and messages come from one
    chipset& operator=(const chipset&) = delete;

    // A model of assign::platform; see platform_of.

    /// errc::absent with the port: none of its bytes is anybody's here. Devices with registers of a
    /// byte see a wider access as several; bytes of it that are nobody's float.
    [[nodiscard]] constexpr pt::result<std::uint32_t> read_port(pt::io_port port, pt::width size) {
        if (!has_port(port, size)) {
            return pt::error{pt::errc::absent, port.raw};
        }
        std::uint32_t value = 0;
        for (unsigned i = 0; i != pt::size_of(size); ++i) {
            value |= std::uint32_t{read_byte(static_cast<std::uint16_t>(port.raw + i))} << 8 * i;
        }
        return value;
    }

    constexpr pt::result<void> write_port(pt::io_port port, pt::width size, std::uint32_t value) {
        if (port.raw == exit_port::port) { // the one that takes a wider value at once
            exit_.write(value);
            return {};
        }
        if (!has_port(port, size)) {
            return pt::error{pt::errc::absent, port.raw};
        }
        for (unsigned i = 0; i != pt::size_of(size); ++i) {
            write_byte(static_cast<std::uint16_t>(port.raw + i),
                       static_cast<std::uint8_t>(value >> 8 * i));
        }
        update_lines();
        return {};
    }

    [[nodiscard]] constexpr pt::result<std::uint64_t> read_memory(pt::gpa at, pt::mmio_width size) {
        if (!io_apic_registers.contains(at)) {
            return pt::error{pt::errc::absent, at.raw};
        }
        return io_apic_.read(static_cast<std::uint32_t>(at - io_apic_registers.first()), size);
    }

    constexpr pt::result<void> write_memory(pt::gpa at, pt::mmio_width size, std::uint64_t value) {
        if (!io_apic_registers.contains(at)) {
            return pt::error{pt::errc::absent, at.raw};
        }
        io_apic_.write(static_cast<std::uint32_t>(at - io_apic_registers.first()), size, value);
        return {};
    }

    constexpr void end_of_interrupt(std::uint8_t vector) { io_apic_.end_of_interrupt(vector); }

    /// The ports that are taken, in ascending order, for guest::reserve_ports().
    static constexpr pt::range<pt::io_port> ports[] = {
        {pt::io_port{0x020}, 2}, {pt::io_port{0x040}, 4},  {pt::io_port{0x060}, 2},
        {pt::io_port{0x064}, 1}, {pt::io_port{0x070}, 2},  {pt::io_port{0x092}, 1},
        {pt::io_port{0x0A0}, 2}, {pt::io_port{0x0F4}, 4},  {pt::io_port{0x3F8}, 8},
        {pt::io_port{0x4D0}, 2}, {pt::io_port{0x600}, 12}, {pt::io_port{0xCF9}, 1},
    };
    /// And the page of the I/O APIC.
    static constexpr pt::range<pt::gpa> io_apic_registers{io_apic<Send>::default_base, 4096};

    // For the loop.

    /// Lets the lines follow the time. To be called before the guest goes on.
    constexpr void update_lines() {
        if (timer_.take_tick()) { // its output is high until shortly before the next one
            set_line(0, pt::lapic::wire_level::deasserted);
            set_line(0, pt::lapic::wire_level::asserted);
        }
        set_line(4, level_of(com1_.interrupts()));
        set_line(8, level_of(clock_.interrupts()));
        io_apic_.set(0, level_of(pair_.output()));
        io_apic_.resend();
    }

    /// When update_lines() has something to do, in nanoseconds of the clock; or `never`.
    [[nodiscard]] constexpr std::uint64_t next_deadline() {
        const std::uint64_t tick = timer_.next_tick();
        const std::uint64_t alarm = clock_.next_interrupt();
        return tick < alarm ? tick : alarm;
    }

    /// A line of the ISA bus, 0..15, which is input of an 8259 and pin of the I/O APIC.
    constexpr void set_line(unsigned irq, pt::lapic::wire_level level) {
        const unsigned bit = 1U << irq;
        const bool asserted = level == pt::lapic::wire_level::asserted;
        if (((lines_ & bit) != 0) == asserted) {
            return;
        }
        lines_ = asserted ? lines_ | bit : lines_ & ~bit;
        pair_.set(irq, level);
        if (irq != 2) {
            io_apic_.set(irq == 0 ? 2 : irq, level); // as the MADT says
        }
        io_apic_.set(0, level_of(pair_.output()));
    }

    /// From now on `end` is told when the guest has ended an interrupt of that line, by either
    /// controller, before its level is looked at anew. One for each line.
    constexpr void tell_end(unsigned irq, line_end end) { ends_[irq & 15U] = end; }

    /// INTR of the 8259s: LINT0 of the local APIC.
    [[nodiscard]] constexpr bool interrupts() const { return pair_.output(); }
    /// Whether the I/O APIC makes an NMI of any line.
    [[nodiscard]] constexpr bool can_send_nmi() const { return io_apic_.can_send_nmi(); }
    /// INTA.
    constexpr std::uint8_t acknowledge() {
        const std::uint8_t vector = pair_.acknowledge();
        tell_ended();
        io_apic_.set(0, pt::lapic::wire_level::deasserted); // the output falls, and may rise again
        io_apic_.set(0, level_of(pair_.output()));
        return vector;
    }

    /// Somebody types at COM1.
    constexpr void receive(std::uint8_t byte) {
        com1_.receive(byte);
        update_lines();
    }

    /// How the guest has ended its run by itself, or `none`.
    [[nodiscard]] constexpr run_end ended() const {
        if (exit_.written) {
            return run_end::exit_port;
        }
        if (reset_.requested()) {
            return run_end::reset;
        }
        return power_.is_off() ? run_end::power_off : run_end::none;
    }
    [[nodiscard]] constexpr std::uint32_t exit_code() const { return exit_.code; }

private:
    static constexpr std::uint16_t com1_ports = 0x3F8;

    /// The I/O APIC's pins from 16 on, and 0 and 2, are no line's own.
    struct line_ends {
        chipset* of;
        constexpr void operator()(unsigned pin) const {
            if (pin < 16) {
                of->tell(pin);
            }
        }
    };
    constexpr void tell(unsigned irq) {
        if (ends_[irq].tell != nullptr) {
            ends_[irq].tell(ends_[irq].whom);
        }
    }
    /// What the 8259s have ended.
    constexpr void tell_ended() {
        for (unsigned ended = pair_.take_ended(), irq = 0; ended != 0; ended >>= 1, ++irq) {
            if ((ended & 1U) != 0) {
                tell(irq);
            }
        }
    }

    static constexpr pt::lapic::wire_level level_of(bool asserted) {
        return asserted ? pt::lapic::wire_level::asserted : pt::lapic::wire_level::deasserted;
    }

    static constexpr bool is_com1(std::uint16_t port) { return (port & ~7U) == com1_ports; }
    static constexpr bool is_timer(std::uint16_t port) { return (port & ~3U) == 0x40; }

    static constexpr bool has_port(pt::io_port first, pt::width size) {
        for (const pt::range<pt::io_port>& each : ports) {
            for (unsigned i = 0; i != pt::size_of(size); ++i) {
                if (each.contains(first + i)) {
                    return true;
                }
            }
        }
        return false;
    }

    constexpr std::uint8_t read_byte(std::uint16_t port) {
        if (is_com1(port)) {
            const std::uint8_t value = com1_.read(port);
            update_lines(); // reading serves it
            return value;
        }
        if (is_timer(port)) {
            return timer_.read(port);
        }
        if (port == 0x61) {
            return timer_.read_control();
        }
        if (port == 0x71) {
            const std::uint8_t value = clock_.read();
            update_lines();
            return value;
        }
        if (interrupt_controllers::has_port(port)) {
            const std::uint8_t value = pair_.read(port);
            tell_ended(); // a poll may have been one
            return value;
        }
        if (reset_ports::has_port(port)) {
            return reset_.read(port);
        }
        return power_management<Clock>::has_port(port) ? power_.read(port) : std::uint8_t{0xFF};
    }

    constexpr void write_byte(std::uint16_t port, std::uint8_t value) {
        if (is_com1(port)) {
            com1_.write(port, value);
            if (port == com1_ports) { // a byte to send: its interrupt ends, and comes anew
                set_line(4, pt::lapic::wire_level::deasserted);
            }
        } else if (is_timer(port)) {
            timer_.write(port, value);
        } else if (port == 0x61) {
            timer_.write_control(value);
        } else if (port == 0x70) {
            clock_.select(value);
        } else if (port == 0x71) {
            clock_.write(value);
        } else if (interrupt_controllers::has_port(port)) {
            pair_.write(port, value);
            tell_ended();
        } else if (reset_ports::has_port(port)) {
            reset_.write(port, value);
        } else if (power_management<Clock>::has_port(port)) {
            power_.write(port, value);
        }
    }

    serial_port<Output> com1_;
    interval_timer<Clock> timer_;
    real_time_clock<Clock> clock_;
    interrupt_controllers pair_;
    io_apic<Send, line_ends> io_apic_;
    reset_ports reset_;
    exit_port exit_;
    power_management<Clock> power_;
    unsigned lines_ = 0; ///< those that are asserted
    line_end ends_[16]{};
};

/// A chipset as assign::platform: a handle.
template <class Chipset>
struct platform_of {
    Chipset* chipset;

    [[nodiscard]] constexpr pt::result<std::uint32_t> read_port(pt::io_port port, pt::width size) {
        return chipset->read_port(port, size);
    }
    constexpr pt::result<void> write_port(pt::io_port port, pt::width size, std::uint32_t value) {
        return chipset->write_port(port, size, value);
    }
    [[nodiscard]] constexpr pt::result<std::uint64_t> read_memory(pt::gpa at, pt::mmio_width size) {
        return chipset->read_memory(at, size);
    }
    constexpr pt::result<void> write_memory(pt::gpa at, pt::mmio_width size, std::uint64_t value) {
        return chipset->write_memory(at, size, value);
    }
    constexpr void end_of_interrupt(std::uint8_t vector) { chipset->end_of_interrupt(vector); }
};

/// One of its ISA lines as lapic::guest_line, for the INTx of an assigned device: a handle.
template <class Chipset>
struct isa_line {
    Chipset* chipset;
    unsigned irq;

    constexpr void set(pt::lapic::wire_level level) { chipset->set_line(irq, level); }
};

} // namespace vmm::pc
