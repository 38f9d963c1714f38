// SPDX-License-Identifier: BSL-1.0
//
// Text on the serial ports.
#pragma once

#include <cstdint>

namespace kernel {

/// The 16550s of a PC, by their first port.
enum class serial_port : std::uint16_t { com1 = 0x3F8, com2 = 0x2F8 };

/// 115200 bits a second, 8 of them a character, no parity, one stop bit, polled.
void start(serial_port port);
/// Sends a character, and waits until the port takes it.
void put(serial_port port, char character);
/// Waits until all is sent.
void drain(serial_port port);

/// Where print() and say() go. COM1, as long as nobody says another.
void print_to(serial_port port);

/// Text, and numbers in hexadecimal.
void print(const char* text);
void print(std::uint64_t number);
/// A number in decimal.
void print_decimal(std::uint64_t number);

/// A line of text and numbers.
template <class... Parts>
void print_line(Parts... parts) {
    (print(parts), ...);
    print("\n");
}

} // namespace kernel
