// SPDX-License-Identifier: BSL-1.0
//
// The machine's I/O APIC, and the interval timer (8254), whose output is its input 2.
#pragma once

#include "mmio.hpp"
#include "ports.hpp"

#include <cstdint>

namespace kernel {

/// Its registers are behind an index and a window.
class io_apic {
public:
    static constexpr pt::hpa place{0xFEC0'0000};
    /// Firmware's MADT routes the timer's line, IRQ 0, here.
    static constexpr unsigned timer_input = 2;
    /// The wires of the functions on bus 0 end at some of these.
    static constexpr unsigned first_pci_input = 16;
    static constexpr unsigned last_pci_input = 23;

    /// Its id, by which the DMAR table names it.
    std::uint8_t id() { return static_cast<std::uint8_t>(read(0) >> 24 & 0xF); }

    std::uint64_t entry(unsigned input) {
        const std::uint64_t upper = read(redirection + 2 * input + 1);
        return upper << 32 | read(redirection + 2 * input);
    }
    /// The lower half, with the mask, comes last when it is unmasked, and first when it is masked.
    void set_entry(unsigned input, std::uint64_t value) {
        write(redirection + 2 * input, masked);
        write(redirection + 2 * input + 1, static_cast<std::uint32_t>(value >> 32));
        write(redirection + 2 * input, static_cast<std::uint32_t>(value));
    }
    void mask(unsigned input) { write(redirection + 2 * input, masked); }

    /// Mask and unmask, and leave the rest as it is: it has to know a level-triggered interrupt by
    /// its vector when the processor ends it.
    void hold(unsigned input) {
        write(redirection + 2 * input, read(redirection + 2 * input) | masked);
    }
    void let_go(unsigned input) {
        write(redirection + 2 * input, read(redirection + 2 * input) & ~masked);
    }
    [[nodiscard]] bool is_masked(unsigned input) {
        return (read(redirection + 2 * input) & masked) != 0;
    }

private:
    static constexpr std::uint32_t index = 0x00;
    static constexpr std::uint32_t window = 0x10;
    static constexpr std::uint32_t redirection = 0x10; ///< the first register of input 0
    static constexpr std::uint32_t masked = 1U << 16;

    std::uint32_t read(std::uint32_t number) {
        registers_.write32(index, number);
        return registers_.read32(window);
    }
    void write(std::uint32_t number, std::uint32_t value) {
        registers_.write32(index, number);
        registers_.write32(window, value);
    }

    mmio registers_{place};
};

/// Makes the timer's line go up once, in a millisecond: counter 0 in mode 0.
inline void start_timer_once() {
    ports io;
    constexpr std::uint16_t ticks = 1193; // of 1.193182 MHz
    io.out8(pt::io_port{0x43}, 0x30);
    io.out8(pt::io_port{0x40}, ticks & 0xFF);
    io.out8(pt::io_port{0x40}, ticks >> 8);
}

} // namespace kernel
