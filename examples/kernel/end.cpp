// SPDX-License-Identifier: BSL-1.0
#include "end.hpp"

#include "output.hpp"
#include "ports.hpp"

namespace kernel {
namespace {

constexpr pt::io_port debug_exit{0xF4};
constexpr pt::io_port bochs_shutdown{0x8900};

} // namespace

void end(std::uint32_t code) {
    drain(serial_port::com1);
    drain(serial_port::com2);
    ports io;
    io.out32(debug_exit, code); // QEMU ends here
    for (const char* letter = "Shutdown"; *letter != '\0'; ++letter) {
        io.out8(bochs_shutdown, static_cast<std::uint8_t>(*letter));
    }
    for (;;) {
        asm volatile("cli; hlt");
    }
}

void give_up(const char* why) {
    print_line("gave up: ", why);
    end(run_failed);
}

} // namespace kernel
