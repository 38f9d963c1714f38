// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/serial_port.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

struct line {
    char text[64] = {};
    unsigned size = 0;
};
struct to_line {
    line* out;
    constexpr void operator()(std::uint8_t byte) const {
        out->text[out->size++] = static_cast<char>(byte);
    }
};
using port = vmm::pc::serial_port<to_line>;

constexpr std::uint16_t data = 0;
constexpr std::uint16_t enable = 1;
constexpr std::uint16_t identification = 2;
constexpr std::uint16_t fifo_control = 2;
constexpr std::uint16_t line_control = 3;
constexpr std::uint16_t modem_control = 4;
constexpr std::uint16_t line_status = 5;
constexpr std::uint16_t modem_status = 6;

/// What Linux and its likes do to find out what it is.
constexpr bool is_found_as_a_16550a() {
    line out{};
    port uart{to_line{&out}};
    uart.write(enable, 0x00);
    bool good = uart.read(enable) == 0x00;
    uart.write(enable, 0x0F);
    good = good && uart.read(enable) == 0x0F;
    uart.write(modem_control, 0x10 | 0x0A); // loopback with RTS and OUT2: CTS and DCD
    good = good && (uart.read(modem_status) & 0xF0) == 0x90;
    uart.write(modem_control, 0);
    uart.write(fifo_control, 0x01);
    good = good && uart.read(identification) >> 6 == 3;
    uart.write(line_control, 0x80);
    uart.write(data, 0x01);
    uart.write(enable, 0x02);
    good = good && uart.read(data) == 0x01 && uart.read(enable) == 0x02;
    uart.write(line_control, 0x03);
    uart.write(7, 0x5A);
    return good && uart.read(enable) == 0x0F && uart.read(7) == 0x5A && out.size == 0;
}

constexpr bool sends_what_a_polling_driver_sends() {
    line out{};
    port uart{to_line{&out}};
    for (const char letter : {'o', 'k'}) {
        if ((uart.read(line_status) & 0x20) == 0) {
            return false;
        }
        uart.write(data, static_cast<std::uint8_t>(letter));
    }
    return out.size == 2 && out.text[0] == 'o' && out.text[1] == 'k' &&
           (uart.read(line_status) & 0x40) != 0 && !uart.interrupts();
}

} // namespace

TEST_CASE("a serial port is found as a 16550A", "[vmm_pc][serial]") {
    static_assert(is_found_as_a_16550a());
    REQUIRE(is_found_as_a_16550a());
}

TEST_CASE("a serial port that is polled sends at once", "[vmm_pc][serial]") {
    static_assert(sends_what_a_polling_driver_sends());
    REQUIRE(sends_what_a_polling_driver_sends());
}

TEST_CASE("a serial port interrupts by OUT2 only, and says why in the order of priority",
          "[vmm_pc][serial]") {
    line out{};
    port uart{to_line{&out}};
    uart.write(enable, 0x07);
    CHECK_FALSE(uart.interrupts()); // OUT2 is off
    uart.write(modem_control, 0x08);
    REQUIRE(uart.interrupts());
    CHECK(uart.read(identification) == 0x02); // the transmitter is empty
    CHECK_FALSE(uart.interrupts());           // and reading that has ended it
    CHECK(uart.read(identification) == 0x01);

    uart.write(data, 'x');
    CHECK(uart.interrupts()); // empty again
    uart.receive('a');
    CHECK((uart.read(identification) & 0x0F) == 0x04);
    uart.receive('b'); // no FIFO: overrun
    CHECK((uart.read(identification) & 0x0F) == 0x06);
    CHECK((uart.read(line_status) & 0x03) == 0x03);
    CHECK((uart.read(line_status) & 0x03) == 0x01); // the error has been told
    CHECK(uart.read(data) == 'a');
    CHECK((uart.read(line_status) & 0x01) == 0);
    CHECK((uart.read(identification) & 0x0F) == 0x02);
}

TEST_CASE("the receive FIFO holds 16 bytes, in order, and tells of its trigger level",
          "[vmm_pc][serial]") {
    line out{};
    port uart{to_line{&out}};
    uart.write(fifo_control, 0x81); // trigger at 8
    uart.write(enable, 0x01);
    uart.write(modem_control, 0x08);
    for (unsigned i = 0; i != 17; ++i) {
        uart.receive(static_cast<std::uint8_t>(i));
        // Below the level it is the time-out that tells; this line's other end types slowly.
        CHECK(uart.read(identification) == (i + 1 < 8 ? 0xCC : 0xC4));
    }
    CHECK((uart.read(line_status) & 0x02) != 0); // the 17th found no room
    for (unsigned i = 0; i != 16; ++i) {
        CHECK(uart.read(data) == i);
    }
    CHECK_FALSE(uart.interrupts());
    CHECK(uart.read(data) == 0);
    uart.receive(1);
    uart.write(fifo_control, 0x83); // clears it
    CHECK((uart.read(line_status) & 0x01) == 0);
}

TEST_CASE("loopback keeps bytes inside", "[vmm_pc][serial]") {
    line out{};
    port uart{to_line{&out}};
    uart.write(enable, 0x01);
    uart.write(modem_control, 0x18);
    uart.write(data, 0xAE);
    CHECK_FALSE(uart.interrupts()); // OUT2 goes nowhere either
    CHECK(uart.read(identification) == 0x04);
    uart.receive('z'); // the line is cut
    CHECK(out.size == 0);
    CHECK(uart.read(data) == 0xAE);
    CHECK((uart.read(line_status) & 0x01) == 0);
}
