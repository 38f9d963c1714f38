// SPDX-License-Identifier: BSL-1.0
#include "output.hpp"

#include "ports.hpp"

namespace kernel {
namespace {

serial_port printed_to = serial_port::com1;

/// A register of the 16550, by its number.
constexpr pt::io_port at(serial_port port, unsigned number) {
    return pt::io_port{static_cast<std::uint16_t>(static_cast<unsigned>(port) + number)};
}
constexpr unsigned data = 0; ///< and the divisor's low byte
constexpr unsigned divisor_high = 1;
constexpr unsigned line_control = 3;
constexpr unsigned line_status = 5;
constexpr std::uint8_t holding_register_empty = 0x20;
constexpr std::uint8_t transmitter_empty = 0x40;

void wait_for(serial_port port, std::uint8_t status) {
    ports io;
    while ((io.in8(at(port, line_status)) & status) == 0) {}
}

} // namespace

void start(serial_port port) {
    // QEMU does not mind; Bochs would send 5 bits a character.
    ports io;
    constexpr std::uint8_t divisor_access = 0x80;
    constexpr std::uint8_t eight_bits = 0x03;
    io.out8(at(port, line_control), divisor_access);
    io.out8(at(port, data), 1);
    io.out8(at(port, divisor_high), 0);
    io.out8(at(port, line_control), eight_bits);
}

void put(serial_port port, char character) {
    ports io;
    wait_for(port, holding_register_empty);
    io.out8(at(port, data), static_cast<std::uint8_t>(character));
}

void drain(serial_port port) { wait_for(port, transmitter_empty); }

void print_to(serial_port port) { printed_to = port; }

void print(const char* text) {
    for (; *text != '\0'; ++text) {
        put(printed_to, *text);
    }
}

void print(std::uint64_t number) {
    print("0x");
    int shift = 60;
    while (shift > 0 && number >> shift == 0) {
        shift -= 4;
    }
    for (; shift >= 0; shift -= 4) {
        put(printed_to, "0123456789abcdef"[number >> shift & 0xF]);
    }
}

void print_decimal(std::uint64_t number) {
    if (number >= 10) {
        print_decimal(number / 10);
    }
    put(printed_to, static_cast<char>('0' + number % 10));
}

} // namespace kernel
