// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/address_size.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vcpu {

/// What an instruction does with its operand in memory. The eight from `add` on are in the order of
/// their numbers in opcodes.
enum class memory_operation : std::uint8_t {
    add,                     ///< ADD
    inclusive_or,            ///< OR
    add_with_carry,          ///< ADC
    subtract_with_borrow,    ///< SBB
    logical_and,             ///< AND
    subtract,                ///< SUB
    exclusive_or,            ///< XOR
    compare,                 ///< CMP
    test,                    ///< TEST
    move,                    ///< MOV
    move_zero_extended,      ///< MOVZX
    move_sign_extended,      ///< MOVSX, MOVSXD
    exchange,                ///< XCHG
    increment,               ///< INC
    decrement,               ///< DEC
    complement,              ///< NOT
    negate,                  ///< NEG
    bit_test,                ///< BT, the bit's number an immediate; so with the next three
    bit_test_and_set,        ///< BTS
    bit_test_and_reset,      ///< BTR
    bit_test_and_complement, ///< BTC
    move_string,             ///< MOVS
    store_string,            ///< STOS
    load_string,             ///< LODS
};

/// How an instruction names an operand in memory [sdm, Specifying an Offset].
struct memory_operand {
    segment_register segment = segment_register::ds;
    address_size addresses = address_size::bits_64;
    bool has_base = false;
    bool has_index = false;
    bool relative_to_rip = false; ///< to that of the next instruction
    general_register base = general_register::rax;
    general_register index = general_register::rax;
    std::uint8_t scale = 1; ///< of the index: 1, 2, 4 or 8
    std::uint64_t displacement = 0;

    /// The address of its first byte; `next_rip` is the address of the next instruction.
    [[nodiscard]] constexpr logical_address address(const general_registers& registers,
                                                    std::uint64_t next_rip) const {
        std::uint64_t offset = displacement;
        offset += has_base ? registers[base] : 0;
        offset += has_index ? registers[index] * scale : 0;
        offset += relative_to_rip ? next_rip : 0;
        return {segment, offset & address_mask(addresses)};
    }

    friend constexpr bool operator==(const memory_operand&, const memory_operand&) = default;
};

/// An instruction with an operand in memory.
struct memory_instruction {
    memory_operation operation = memory_operation::move;
    mmio_width size = mmio_width::byte; ///< of the operand in memory, and of the other one...
    mmio_width register_size = mmio_width::byte; ///< ...but for that of MOVZX, MOVSX and MOVSXD
    bool to_register = false;                    ///< the register is the destination
    bool has_immediate = false;                  ///< the other operand is `immediate`
    bool rep = false;            ///< a string instruction with REP: as often as rCX says
    register_operand other{};    ///< the other operand; of a string instruction the accumulator
    std::uint64_t immediate = 0; ///< with its sign extended
    memory_operand memory{};     ///< of MOVS the source
    std::uint8_t length = 0;     ///< in bytes

    [[nodiscard]] constexpr bool is_string() const {
        return operation == memory_operation::move_string ||
               operation == memory_operation::store_string ||
               operation == memory_operation::load_string;
    }
    /// Whether it reads `memory`.
    [[nodiscard]] constexpr bool reads() const {
        return operation != memory_operation::store_string &&
               (operation != memory_operation::move || to_register);
    }
    /// Whether it writes destination().
    [[nodiscard]] constexpr bool writes() const {
        return !to_register && operation != memory_operation::compare &&
               operation != memory_operation::test && operation != memory_operation::bit_test;
    }
    /// Whether it is a REP whose count is 0: it does nothing any more.
    [[nodiscard]] constexpr bool is_over(const general_registers& registers) const {
        return rep && (registers[general_register::rcx] & address_mask(memory.addresses)) == 0;
    }
    /// The operand in memory that it writes, if it writes one.
    [[nodiscard]] constexpr memory_operand destination() const {
        if (operation == memory_operation::move_string) {
            return {.segment = segment_register::es,
                    .addresses = memory.addresses,
                    .has_base = true,
                    .base = general_register::rdi};
        }
        return memory;
    }

    friend constexpr bool operator==(const memory_instruction&,
                                     const memory_instruction&) = default;
};

/// What stands behind an opcode that pt executes.
enum class operand_form : std::uint8_t {
    none,                 ///< not an instruction that pt executes
    memory_and_register,  ///< the operand in memory is the destination
    register_and_memory,  ///< the register is the destination
    memory_and_immediate, ///< the immediate as wide as the operand, 32 bits at most
    memory_and_byte,      ///< the immediate has 8 bits
    memory_alone,
    accumulator_and_offset, ///< MOV with an address instead of a ModR/M byte
    offset_and_accumulator,
    string,
};

struct opcode_meaning {
    memory_operation operation = memory_operation::move;
    operand_form form = operand_form::none;
};

/// Of a one-byte opcode whose bit 0 tells bytes from words, dwords and qwords. `number` is what a
/// ModR/M byte has in bits 5:3, which belongs to some opcodes [sdm, Opcode Map].
[[nodiscard]] constexpr opcode_meaning meaning_of(std::uint8_t opcode, std::uint8_t number) {
    using enum memory_operation;
    using enum operand_form;
    if (opcode < 0x40) {
        const auto operation = static_cast<memory_operation>(opcode >> 3);
        switch (opcode & 6) {
        case 0: return {operation, memory_and_register};
        case 2: return {operation, register_and_memory};
        default: return {};
        }
    }
    switch (opcode & 0xFE) {
    case 0x80: return {static_cast<memory_operation>(number), memory_and_immediate};
    case 0x82: return {static_cast<memory_operation>(number), memory_and_byte};
    case 0x84: return {test, memory_and_register};
    case 0x86: return {exchange, memory_and_register};
    case 0x88: return {move, memory_and_register};
    case 0x8A: return {move, register_and_memory};
    case 0xA0: return {move, accumulator_and_offset};
    case 0xA2: return {move, offset_and_accumulator};
    case 0xA4: return {move_string, string};
    case 0xAA: return {store_string, string};
    case 0xAC: return {load_string, string};
    case 0xC6: return number == 0 ? opcode_meaning{move, memory_and_immediate} : opcode_meaning{};
    case 0xF6:
        switch (number) {
        case 0:
        case 1: return {test, memory_and_immediate};
        case 2: return {complement, memory_alone};
        case 3: return {negate, memory_alone};
        default: return {}; // MUL, IMUL, DIV, IDIV
        }
    case 0xFE:
        switch (number) {
        case 0: return {increment, memory_alone};
        case 1: return {decrement, memory_alone};
        default: return {}; // CALL, JMP, PUSH
        }
    default: return {};
    }
}

/// Of an opcode after 0FH.
[[nodiscard]] constexpr opcode_meaning meaning_after_0f(std::uint8_t opcode, std::uint8_t number) {
    using enum memory_operation;
    using enum operand_form;
    switch (opcode) {
    case 0xB6:
    case 0xB7: return {move_zero_extended, register_and_memory};
    case 0xBE:
    case 0xBF: return {move_sign_extended, register_and_memory};
    case 0xBA:
        switch (number) {
        case 4: return {bit_test, memory_and_byte};
        case 5: return {bit_test_and_set, memory_and_byte};
        case 6: return {bit_test_and_reset, memory_and_byte};
        case 7: return {bit_test_and_complement, memory_and_byte};
        default: return {};
        }
    default: return {};
    }
}

/// Whether a LOCK prefix is allowed; on others it is a #UD [sdm, LOCK].
[[nodiscard]] constexpr bool can_be_locked(const memory_instruction& instruction) {
    switch (instruction.operation) {
    case memory_operation::move:
    case memory_operation::move_string:
    case memory_operation::store_string:
    case memory_operation::load_string: return false;
    default: return instruction.writes();
    }
}

/// The little-endian number in so many bytes, up to 8, with its sign extended; 0 of none.
[[nodiscard]] constexpr std::uint64_t signed_number(const std::uint8_t* bytes, unsigned count) {
    if (count == 0) {
        return 0;
    }
    std::uint64_t value = 0;
    for (unsigned i = 0; i != count; ++i) {
        value |= std::uint64_t{bytes[i]} << 8 * i;
    }
    const unsigned unused = 64 - 8 * count;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(value << unused) >> unused);
}

/// The operand in memory of a ModR/M byte, SIB byte and displacement that begin at bytes[0] and are
/// there; ModR/M 7:6 is not 3. Its segment is the one without a prefix. `rex` is the REX prefix or 0.
[[nodiscard]] constexpr memory_operand memory_operand_of(const std::uint8_t* bytes,
                                                         address_size addresses, code_size code,
                                                         std::uint8_t rex) {
    using enum general_register;
    memory_operand found{.addresses = addresses};
    const unsigned mod = bytes[0] >> 6;
    const unsigned rm = bytes[0] & 7;

    if (addresses == address_size::bits_16) {
        constexpr general_register bases[] = {rbx, rbx, rbp, rbp, rsi, rdi, rbp, rbx};
        found.base = bases[rm];
        found.has_base = mod != 0 || rm != 6;
        found.has_index = rm < 4;
        found.index = found.has_index ? ((rm & 1) != 0 ? rdi : rsi) : rax;
        const unsigned bytes_of_displacement = mod == 1 ? 1 : mod == 2 || !found.has_base ? 2 : 0;
        found.displacement = signed_number(bytes + 1, bytes_of_displacement);
    } else {
        const bool sib = has_sib(bytes[0], static_cast<std::uint8_t>(addresses));
        const unsigned base = sib ? bytes[1] & 7U : rm;
        found.base = static_cast<general_register>(base | (rex & 1U) << 3);
        found.has_base = mod != 0 || base != 5;
        if (sib) {
            found.index = static_cast<general_register>((bytes[1] >> 3 & 7U) | (rex & 2U) << 2);
            found.has_index = found.index != rsp; // R12 is one
            found.scale = static_cast<std::uint8_t>(1U << (bytes[1] >> 6));
        }
        found.relative_to_rip = !found.has_base && !sib && code == code_size::bits_64;
        const unsigned bytes_of_displacement = mod == 1 ? 1 : mod == 2 || !found.has_base ? 4 : 0;
        found.displacement = signed_number(bytes + (sib ? 2 : 1), bytes_of_displacement);
    }
    if (found.has_base && (found.base == rsp || found.base == rbp)) {
        found.segment = segment_register::ss;
    }
    return found;
}

/// The instruction that begins at bytes[0], of which `available` bytes may be looked at, if it is one
/// that pt executes in the guest's place: MOV, MOVZX, MOVSX and MOVSXD, ADD, OR, ADC, SBB, AND, SUB,
/// XOR, CMP, TEST, XCHG, INC, DEC, NOT, NEG; BT, BTS, BTR and BTC with an immediate; MOVS, STOS and
/// LODS, with and without REP: what drivers touch the registers of devices with. All of them with an
/// operand in memory, of general-purpose registers only. The bytes are the guest's, and are anything.
///
/// errc::out_of_range with `available`: the instruction is longer than that; fetch more.
/// errc::malformed: no processor executes it: with 15, it is longer than an instruction can be; with
/// the index of the opcode, it has a LOCK prefix that it cannot have.
/// errc::not_supported with the index of the opcode: another instruction, or none in memory.
[[nodiscard]] constexpr result<memory_instruction>
memory_instruction_of(const std::uint8_t* bytes, std::size_t available, code_size code) {
    const result<std::uint8_t> length = instruction_length(bytes, available, code);
    if (!length) {
        return length.error();
    }
    // All of the instruction is there: what follows looks at no byte behind its end.
    const instruction_prefixes prefixes = prefixes_of(bytes, *length, code);
    const error unknown{errc::not_supported, prefixes.count};
    const bool mode_64 = code == code_size::bits_64;
    bool lock = false;
    bool segment_prefix = mode_64 && prefixes.segment != segment_register::ds;
    for (unsigned i = 0; i != prefixes.count; ++i) {
        const std::uint8_t prefix = bytes[i];
        lock = lock || prefix == 0xF0;
        segment_prefix =
            segment_prefix ||
            (!mode_64 && ((prefix & 0xE7) == 0x26 || prefix == 0x64 || prefix == 0x65));
    }
    const std::uint8_t last_prefix = prefixes.count != 0 ? bytes[prefixes.count - 1] : 0;
    const std::uint8_t rex = mode_64 && (last_prefix & 0xF0) == 0x40 ? last_prefix : 0;
    const address_size addresses = addresses_of(prefixes, code);
    const bool operands_of_16_bits = (code == code_size::bits_16) != prefixes.operand_size;
    const mmio_width wide = prefixes.rex_w        ? mmio_width::qword
                            : operands_of_16_bits ? mmio_width::word
                                                  : mmio_width::dword;

    const std::uint8_t* at = bytes + prefixes.count;
    const bool is_after_0f = *at == 0x0F;
    at += is_after_0f ? 1 : 0;
    const std::uint8_t opcode = *at++;
    const bool is_at_end = at == bytes + *length;
    const std::uint8_t mod_rm = is_at_end ? std::uint8_t{0} : *at;
    const std::uint8_t number = mod_rm >> 3 & 7;

    opcode_meaning meaning =
        is_after_0f ? meaning_after_0f(opcode, number) : meaning_of(opcode, number);
    memory_instruction found{.length = *length};
    found.size = (opcode & 1) != 0 ? wide : mmio_width::byte;
    found.register_size = found.size;
    if (is_after_0f) {
        // MOVZX and MOVSX take a byte or a word. BT is of words and more alone.
        const mmio_width narrow = (opcode & 1) != 0 ? mmio_width::word : mmio_width::byte;
        found.size = opcode == 0xBA ? wide : narrow;
        found.register_size = wide;
    } else if (opcode == 0x63 && mode_64 && wide != mmio_width::word) {
        // MOVSXD. With 16 bits the processors differ in what they read.
        meaning = {memory_operation::move_sign_extended, operand_form::register_and_memory};
        found.size = mmio_width::dword;
    }
    found.operation = meaning.operation;

    switch (meaning.form) {
    case operand_form::none: return unknown;
    case operand_form::accumulator_and_offset:
    case operand_form::offset_and_accumulator:
        found.to_register = meaning.form == operand_form::accumulator_and_offset;
        found.memory = {.addresses = addresses,
                        .displacement = signed_number(at, static_cast<unsigned>(addresses))};
        break;
    case operand_form::string:
        found.rep = prefixes.rep || prefixes.repne; // either repeats
        found.to_register = meaning.operation == memory_operation::load_string;
        found.memory = {.addresses = addresses,
                        .has_base = true,
                        .base = meaning.operation == memory_operation::store_string
                                    ? general_register::rdi
                                    : general_register::rsi};
        break;
    default:
        if (mod_rm >> 6 == 3) {
            return unknown;
        }
        found.memory = memory_operand_of(at, addresses, code, rex);
        found.to_register = meaning.form == operand_form::register_and_memory;
        found.has_immediate = meaning.form == operand_form::memory_and_immediate ||
                              meaning.form == operand_form::memory_and_byte;
        if (found.has_immediate) {
            const unsigned most = meaning.form == operand_form::memory_and_byte ? 1 : 4;
            const unsigned count = size_of(found.size) < most ? size_of(found.size) : most;
            found.immediate = signed_number(bytes + *length - count, count);
        } else if (meaning.form != operand_form::memory_alone) {
            const bool is_byte = found.register_size == mmio_width::byte;
            found.other =
                is_byte && rex == 0 && number >= 4
                    ? register_operand{static_cast<general_register>(number - 4), true}
                    : register_operand{static_cast<general_register>(number | (rex & 4U) << 1)};
        }
    }

    if (meaning.operation == memory_operation::store_string) {
        found.memory.segment = segment_register::es; // whatever the prefix says
    } else if (segment_prefix) {
        found.memory.segment = prefixes.segment;
    }
    if (lock && !can_be_locked(found)) {
        return error{errc::malformed, prefixes.count};
    }
    return found;
}

} // namespace pt::vcpu
