// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/address_size.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/memory_instruction.hpp"
#include "pt/vcpu/rflags_register.hpp"

#include <concepts>
#include <cstdint>

namespace pt::vcpu {

/// What answers at an instruction's operands in memory: read() at the one that it reads, write() at
/// the one that it writes. Each call is one access of that size; a value that is written fits it, of
/// one that is read no other bits count. An error means that nothing was done.
template <class D>
concept operand_device = requires(D& device, mmio_width size, std::uint64_t value) {
    { device.read(size) } -> std::same_as<result<std::uint64_t>>;
    { device.write(size, value) } -> std::same_as<result<void>>;
};

/// What an arithmetic instruction computes: its result, of which only the operand's bits count, and
/// RFLAGS thereafter.
struct computed {
    std::uint64_t value = 0;
    rflags_register flags{};

    friend constexpr bool operator==(const computed&, const computed&) = default;
};

/// ADD .. BTC of operands of that size, `first` being the destination's value; one that has a single
/// operand ignores `second`. Only the status flags change. Those that [sdm] leaves undefined: AF of
/// AND, OR, XOR and TEST becomes 0, those of BT and its kind stay.
[[nodiscard]] constexpr computed compute(memory_operation operation, std::uint64_t first,
                                         std::uint64_t second, mmio_width size,
                                         rflags_register before) {
    using flag = rflags_register;
    using enum memory_operation;
    const std::uint64_t ones = all_ones(size);
    const std::uint64_t top = ones ^ ones >> 1;
    const std::uint64_t a = first & ones;
    std::uint64_t b = second & ones;
    if (operation == increment || operation == decrement) {
        b = 1;
    }
    const std::uint64_t carry_in =
        (operation == add_with_carry || operation == subtract_with_borrow) && before[flag::carry]
            ? 1
            : 0;

    std::uint64_t value = 0;
    std::uint64_t carries = 0; // bit n: out of bit n, or borrowed by it
    std::uint64_t overflows = 0;
    switch (operation) {
    case add:
    case add_with_carry:
    case increment:
        value = a + b + carry_in;
        carries = (a & b) | ((a | b) & ~value);
        overflows = (a ^ value) & (b ^ value);
        break;
    case subtract:
    case subtract_with_borrow:
    case compare:
    case decrement:
        value = a - b - carry_in;
        carries = (~a & b) | (~(a ^ b) & value);
        overflows = (a ^ b) & (a ^ value);
        break;
    case negate:
        value = 0 - a;
        carries = a | value;
        overflows = a & value;
        break;
    case logical_and:
    case test: value = a & b; break;
    case inclusive_or: value = a | b; break;
    case exclusive_or: value = a ^ b; break;
    case complement: return {~a & ones, before};
    case bit_test:
    case bit_test_and_set:
    case bit_test_and_reset:
    case bit_test_and_complement: {
        const std::uint64_t bit = std::uint64_t{1} << (b & (8 * size_of(size) - 1));
        value = operation == bit_test_and_set          ? a | bit
                : operation == bit_test_and_reset      ? a & ~bit
                : operation == bit_test_and_complement ? a ^ bit
                                                       : a;
        return {value, before.with(flag::carry((a & bit) != 0))};
    }
    default: return {b, before}; // no arithmetic: MOV, XCHG
    }
    value &= ones;

    const bool keeps_carry = operation == increment || operation == decrement;
    const std::uint64_t low_bits = (value ^ value >> 4) & 0xF;
    constexpr std::uint64_t odd_numbers = 0x6996; // bit n: n has an odd number of bits
    return {value,
            before.with(flag::overflow((overflows & top) != 0), flag::sign((value & top) != 0),
                        flag::zero(value == 0), flag::auxiliary_carry((carries & 8) != 0),
                        flag::parity((odd_numbers >> low_bits & 1) == 0),
                        flag::carry(keeps_carry ? before[flag::carry] : (carries & top) != 0))};
}

enum class instruction_state : std::uint8_t {
    finished,   ///< RIP moves behind it
    unfinished, ///< elements of a REP remain: execute again, or resume the guest with RIP where it is
};

/// Executes the instruction in the guest's place; of one with REP a single element, if its count is
/// not 0. A read-modify-write reads the device and then writes it; XCHG and what has a LOCK prefix
/// are not indivisible as seen by others.
///
/// An error is the device's: registers and flags are as before. (If its write() failed, it has been
/// read.)
template <operand_device Device>
[[nodiscard]] constexpr result<instruction_state> execute(const memory_instruction& instruction,
                                                          general_registers& registers,
                                                          std::uint64_t& rflags, Device& device) {
    using enum memory_operation;
    const mmio_width size = instruction.size;
    const address_size addresses = instruction.memory.addresses;
    if (instruction.is_over(registers)) {
        return instruction_state::finished;
    }

    std::uint64_t in_memory = 0;
    if (instruction.reads()) {
        const result<std::uint64_t> read = device.read(size);
        if (!read) {
            return read.error();
        }
        in_memory = *read & all_ones(size);
    }
    const std::uint64_t other = instruction.has_immediate
                                    ? instruction.immediate
                                    : registers.value(instruction.other, size);
    const std::uint64_t to = instruction.to_register ? other : in_memory;
    const std::uint64_t from = instruction.to_register ? in_memory : other;
    computed done = compute(instruction.operation, to, from, size, rflags_register{rflags});
    if (instruction.operation == move_sign_extended) {
        const unsigned unused = 64 - 8 * size_of(size);
        done.value =
            static_cast<std::uint64_t>(static_cast<std::int64_t>(from << unused) >> unused);
    } else if (instruction.operation == move_string) {
        done.value = in_memory;
    }

    if (instruction.writes()) {
        if (const result<void> written = device.write(size, done.value & all_ones(size));
            !written) {
            return written.error();
        }
    }
    rflags = done.flags.raw;
    if (instruction.to_register && instruction.operation != compare) {
        registers.assign(instruction.other, instruction.register_size, done.value);
    } else if (instruction.operation == exchange) {
        registers.assign(instruction.other, size, in_memory);
    }
    if (!instruction.is_string()) {
        return instruction_state::finished;
    }

    const bool backwards = done.flags[rflags_register::direction];
    const std::uint64_t step = backwards ? std::uint64_t{0} - size_of(size) : size_of(size);
    const auto move_on = [&](general_register index, std::uint64_t by) {
        registers[index] = register_after(registers[index], addresses, registers[index] + by);
    };
    if (instruction.reads()) {
        move_on(general_register::rsi, step);
    }
    if (instruction.writes()) {
        move_on(general_register::rdi, step);
    }
    if (instruction.rep) {
        move_on(general_register::rcx, ~std::uint64_t{0});
        if (!instruction.is_over(registers)) {
            return instruction_state::unfinished;
        }
    }
    return instruction_state::finished;
}

} // namespace pt::vcpu
