// SPDX-License-Identifier: BSL-1.0
// String I/O, instruction lengths and their policies at compile time: what they compute, whom the
// concepts take and whom they do not.

#include "pt/core/address.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/guest_ports.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/string_io.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::vcpu;

// --- The concepts: near misses ------------------------------------------------------------------

struct memory_that_tells_no_fault {
    pt::gpa locate(logical_address, std::uint32_t, memory_access);
    void read(pt::gpa, std::uint8_t*, std::size_t);
    void write(pt::gpa, const std::uint8_t*, std::size_t);
};
static_assert(!guest_memory<memory_that_tells_no_fault>);

struct memory_whose_write_may_fail : archetype::guest_memory {
    pt::result<void> write(pt::gpa, const std::uint8_t*, std::size_t);
};
static_assert(!guest_memory<memory_whose_write_may_fail>);

struct memory_by_linear_address : archetype::guest_memory {
    guest_place locate(std::uint64_t, std::uint32_t, memory_access);
};
static_assert(!guest_memory<memory_by_linear_address>);

struct memory_that_cannot_be_copied : archetype::guest_memory {
    memory_that_cannot_be_copied(const memory_that_cannot_be_copied&) = delete;
};
static_assert(!guest_memory<memory_that_cannot_be_copied>);

struct ports_that_cannot_refuse {
    std::uint32_t read(pt::io_port, pt::width);
    void write(pt::io_port, pt::width, std::uint32_t);
};
static_assert(!guest_ports<ports_that_cannot_refuse>);
static_assert(!guest_ports<pt::archetype::port_io>);
static_assert(guest_ports<forwarded_ports<pt::archetype::port_io>>);
static_assert(std::is_empty_v<forwarded_ports<pt::archetype::port_io>>);

// --- The least models do ------------------------------------------------------------------------

constexpr bool the_least_models_do() {
    archetype::guest_memory memory;
    archetype::guest_ports ports;
    string_registers registers{.rcx = 3, .rsi = 5};
    const auto progress = string_io({.string = true, .rep = true}, registers, memory, ports, 10);
    return progress.state == string_io_state::faulted &&
           progress.fault == exception(exception_vector::general_protection, 0) &&
           registers == string_registers{.rcx = 3, .rsi = 5};
}
static_assert(the_least_models_do());

// --- INS and OUTS over a flat memory of 16 bytes that is cut in the middle ----------------------

struct flat_memory {
    std::uint8_t* bytes;

    constexpr guest_place locate(logical_address at, std::uint32_t, memory_access) {
        if (at.offset >= 16) {
            return {.fault = exception(exception_vector::page_fault, 2), .cr2 = at.offset};
        }
        return {.address = pt::gpa{at.offset ^ 8}, // the two halves are swapped in physical memory
                .size = static_cast<std::uint32_t>(8 - at.offset % 8)};
    }
    constexpr void read(pt::gpa place, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = bytes[place.raw + i];
        }
    }
    constexpr void write(pt::gpa place, const std::uint8_t* from, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            bytes[place.raw + i] = from[i];
        }
    }
};

struct counting_ports {
    std::uint32_t* sum;

    constexpr pt::result<std::uint32_t> read(pt::io_port, pt::width size) {
        return (0x0403'0201U + (*sum)++) & all_ones(size);
    }
    constexpr pt::result<void> write(pt::io_port, pt::width, std::uint32_t value) {
        *sum += value;
        return {};
    }
};

constexpr bool an_element_lies_on_both_sides_of_a_page_end() {
    std::uint8_t bytes[16]{};
    std::uint32_t sum = 0;
    flat_memory memory{bytes};
    counting_ports ports{&sum};
    string_registers registers{.rcx = 4, .rdi = 6};
    io_instruction instruction{.size = pt::width::dword,
                               .direction = io_direction::in,
                               .string = true,
                               .rep = true,
                               .addresses = address_size::bits_32};
    const auto progress = string_io(instruction, registers, memory, ports, 100);
    // 6..9 and 10..13 took a dword each; of 14..17 the second half faults, and was not fetched.
    return progress.state == string_io_state::faulted && progress.cr2 == 16 && sum == 2 &&
           registers == string_registers{.rcx = 2, .rdi = 14} && bytes[14] == 1 && bytes[15] == 2 &&
           bytes[0] == 3 && bytes[1] == 4 && bytes[2] == 2 && bytes[5] == 4 && bytes[6] == 0 &&
           bytes[7] == 0 && bytes[13] == 0;
}
static_assert(an_element_lies_on_both_sides_of_a_page_end());

constexpr bool the_accumulator_goes_out_and_in() {
    return out_value(0x1234'5678'9ABC'DEF0, pt::width::word) == 0xDEF0 &&
           accumulator_after_in(~std::uint64_t{0}, pt::width::dword, 0) == 0 &&
           accumulator_after_in(0, pt::width::byte, 0x1FF) == 0xFF &&
           rip_after(0xFFFF'FFFF, 1, code_size::bits_32) == 0;
}
static_assert(the_accumulator_goes_out_and_in());

// --- Lengths: each from the manual's encoding of the instruction --------------------------------

template <std::size_t Count>
constexpr pt::result<std::uint8_t> length(code_size code, const std::uint8_t (&bytes)[Count]) {
    return instruction_length(bytes, Count, code);
}

static_assert(length(code_size::bits_64, {0xEC}) == std::uint8_t{1});             // IN AL, DX
static_assert(length(code_size::bits_64, {0xE4, 0x60}) == std::uint8_t{2});       // IN AL, 60H
static_assert(length(code_size::bits_64, {0xF3, 0x67, 0x6E}) == std::uint8_t{3}); // REP OUTSB
static_assert(length(code_size::bits_64, {0x0F, 0xA2}) == std::uint8_t{2});       // CPUID
static_assert(length(code_size::bits_64, {0x0F, 0x01, 0xC1}) == std::uint8_t{3}); // VMCALL
static_assert(length(code_size::bits_64, {0x0F, 0x22, 0xC0}) == std::uint8_t{3}); // MOV CR0, RAX
static_assert(length(code_size::bits_64, {0xF3, 0x90}) == std::uint8_t{2});       // PAUSE
static_assert(length(code_size::bits_64, {0x66, 0x0F, 0x38, 0x82, 0x00}) ==
              std::uint8_t{5}); // INVPCID RAX, [RAX]
static_assert(length(code_size::bits_32, {0xA1, 0, 0, 0xE0, 0xFE}) ==
              std::uint8_t{5});                                             // MOV EAX, [FEE00000H]
static_assert(length(code_size::bits_16, {0xA1, 0, 0}) == std::uint8_t{3}); // MOV AX, [0]
static_assert(length(code_size::bits_64, {0x0F}) == pt::error{pt::errc::out_of_range, 1});
static_assert(length(code_size::bits_64, {0x66, 0x0E}) == pt::error{pt::errc::not_supported, 1});
static_assert(instruction_length(nullptr, 0, code_size::bits_16) ==
              pt::error{pt::errc::out_of_range, 0});

} // namespace
