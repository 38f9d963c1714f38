// SPDX-License-Identifier: BSL-1.0
//
// IN, OUT, INS and OUTS in their forms, and what their exits must say.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"
#include "instructions.hpp"

#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace guest_tests {

using pt::io_port;
using pt::width;
using pt::vcpu::io_instruction;
using enum pt::vcpu::address_size;
using enum pt::vcpu::io_direction;
using enum pt::vcpu::segment_register;

/// An instruction with what its exit must say.
struct io_form {
    const char* name;
    std::uint8_t bytes[4]; ///< what is not used is HLT
    std::uint8_t length;
    io_instruction what; ///< but for port, length, and the segment of INS
    bool immediate = false;
};

inline constexpr std::uint16_t port_in_dx = 0x9ABC;
inline constexpr std::uint16_t port_in_instruction = 0x9C; // neither machine has a device there

constexpr io_form complete(io_form made) {
    made.what.port = io_port{made.immediate ? port_in_instruction : port_in_dx};
    made.what.length = made.length;
    if (made.what.string && made.what.direction == in) {
        made.what.segment = es;
    }
    return made;
}

inline constexpr bool immediate = true;

inline constexpr io_form forms_64[] = {
    {"in $0x9c, %al", {0xE4, 0x9C, hlt, hlt}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in $0x9c, %ax",
     {0x66, 0xE5, 0x9C, hlt},
     3,
     {.size = width::word, .direction = in},
     immediate},
    {"in $0x9c, %eax",
     {0xE5, 0x9C, hlt, hlt},
     2,
     {.size = width::dword, .direction = in},
     immediate},
    {"out %al, $0x9c", {0xE6, 0x9C, hlt, hlt}, 2, {.size = width::byte}, immediate},
    {"out %eax, $0x9c", {0xE7, 0x9C, hlt, hlt}, 2, {.size = width::dword}, immediate},
    {"rex.w in %dx, %eax", {0x48, 0xED, hlt, hlt}, 2, {.size = width::dword, .direction = in}},
    {"rep in %dx, %al", {0xF3, 0xEC, hlt, hlt}, 2, {.size = width::byte, .direction = in}},
    {"out %ax, %dx", {0x66, 0xEF, hlt, hlt}, 2, {.size = width::word}},
    {"insb", {0x6C, hlt, hlt, hlt}, 1, {.size = width::byte, .direction = in, .string = true}},
    {"rep insb",
     {0xF3, 0x6C, hlt, hlt},
     2,
     {.size = width::byte, .direction = in, .string = true, .rep = true}},
    {"rep outsl", {0xF3, 0x6F, hlt, hlt}, 2, {.size = width::dword, .string = true, .rep = true}},
    {"addr32 insw",
     {0x67, 0x66, 0x6D, hlt},
     3,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_32}},
    {"addr32 rep insl",
     {0x67, 0xF3, 0x6D, hlt},
     3,
     {.size = width::dword, .direction = in, .string = true, .rep = true, .addresses = bits_32}},
    {"addr32 rep outsb",
     {0x67, 0xF3, 0x6E, hlt},
     3,
     {.size = width::byte, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %fs:", {0x64, 0x6E, hlt, hlt}, 2, {.size = width::byte, .string = true, .segment = fs}},
    {"outsw %gs:",
     {0x65, 0x66, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .segment = gs}},
};

inline constexpr io_form forms_32[] = {
    {"in $0x9c, %ax",
     {0x66, 0xE5, 0x9C, hlt},
     3,
     {.size = width::word, .direction = in},
     immediate},
    {"out %eax, $0x9c", {0xE7, 0x9C, hlt, hlt}, 2, {.size = width::dword}, immediate},
    {"insl",
     {0x6D, hlt, hlt, hlt},
     1,
     {.size = width::dword, .direction = in, .string = true, .addresses = bits_32}},
    {"addr16 insb",
     {0x67, 0x6C, hlt, hlt},
     2,
     {.size = width::byte, .direction = in, .string = true, .addresses = bits_16}},
    {"addr16 rep insw",
     {0x67, 0xF3, 0x66, 0x6D},
     4,
     {.size = width::word, .direction = in, .string = true, .rep = true, .addresses = bits_16}},
    {"rep outsw",
     {0xF3, 0x66, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %es:",
     {0x26, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = es}},
    {"outsb %cs:",
     {0x2E, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = cs}},
    {"addr16 rep outsl %ss:",
     {0x67, 0xF3, 0x36, 0x6F},
     4,
     {.size = width::dword, .string = true, .rep = true, .addresses = bits_16, .segment = ss}},
    {"outsb %gs:",
     {0x65, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = gs}},
};

inline constexpr io_form forms_16[] = {
    {"in $0x9c, %al", {0xE4, 0x9C, hlt, hlt}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in %dx, %ax", {0xED, hlt, hlt, hlt}, 1, {.size = width::word, .direction = in}},
    {"in %dx, %eax", {0x66, 0xED, hlt, hlt}, 2, {.size = width::dword, .direction = in}},
    {"out %eax, %dx", {0x66, 0xEF, hlt, hlt}, 2, {.size = width::dword}},
    {"insw",
     {0x6D, hlt, hlt, hlt},
     1,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_16}},
    {"addr32 rep insl",
     {0x67, 0xF3, 0x66, 0x6D},
     4,
     {.size = width::dword, .direction = in, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb",
     {0x6E, hlt, hlt, hlt},
     1,
     {.size = width::byte, .string = true, .addresses = bits_16}},
    {"rep outsw %es:",
     {0xF3, 0x26, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_16, .segment = es}},
};

/// Calls `each` with each form of each mode, its instruction in place and HLT behind it.
template <class Guest, class Each>
void for_each_form(Guest& machine, Each each) {
    const auto in_mode = [&](kernel::guest_mode mode, const auto& forms) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        for (const io_form& raw : forms) {
            const io_form complete_form = complete(raw);
            const auto& bytes = complete_form.bytes;
            machine.put({bytes[0], bytes[1], bytes[2], bytes[3], hlt}, Guest::code);
            each(complete_form);
        }
    };
    in_mode(kernel::guest_mode::long_64, forms_64);
    in_mode(kernel::guest_mode::protected_32, forms_32);
    in_mode(kernel::guest_mode::real, forms_16);
    kernel::begin_part(nullptr);
}

/// The registers before each of them: with bits set where an instruction leaves bits alone.
template <class Guest>
void set_registers(Guest& machine, const io_form& of) {
    machine.general = {};
    machine.general.rax = 0x1122'3344'5566'7788;
    machine.general.rdx = port_in_dx;
    const std::uint64_t above = of.what.addresses == bits_16 ? 0xABCD'0000 : 0;
    machine.general.rcx = above + 3;
    machine.general.rsi = above + Guest::data.raw + 0x100;
    machine.general.rdi = above + Guest::data.raw + 0x200;
    machine.go_to(Guest::code);
}

/// Executes it, and is true if the guest exits and that says what was executed.
template <class Guest>
bool exit_says(Guest& machine, const io_form& expected) {
    set_registers(machine, expected);
    const bool exits = machine.exits_with(Guest::exits::io_instruction);
    const auto instruction = machine.io_instruction();
    const bool holds = exits && instruction && *instruction == expected.what &&
                       machine.instruction_length() == expected.length;
    if (exits && !holds) {
        machine.say_exit();
    }
    return holds;
}

} // namespace guest_tests
