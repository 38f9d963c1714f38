// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vcpu {

/// The most bytes that an instruction can have, prefixes included; longer ones are a #GP [sdm]
/// [amd].
inline constexpr std::uint8_t longest_instruction = 15;

/// What follows an opcode, in letters after the opcode maps' [sdm, Opcode Map] [amd]:
///   .  nothing                 E  ModR/M, SIB, displacement    R  ModR/M, registers only
///   b  Ib, Jb: 8 bits          B  E and Ib                     T  E, and Ib or Iz if it is TEST
///   z  Iz: 16 or 32 bits       Z  E and Iz                     w  Iw: 16 bits
///   v  Iv: 16, 32 or 64 bits   J  Jz: 16 or 32 bits            e  Iw and Ib, of ENTER
///   O  an offset               P  Ap: a far pointer
///   x  a prefix, an escape to another map, or no instruction
// clang-format off
inline constexpr char one_byte_opcodes[257] =
    // 0 1 2 3 4 5 6 7 8 9 A B C D E F
    "EEEEbz..EEEEbz.x" // 0_
    "EEEEbz..EEEEbz.." // 1_
    "EEEEbzx.EEEEbzx." // 2_
    "EEEEbzx.EEEEbzx." // 3_
    "................" // 4_  INC, DEC; in 64-bit mode the REX prefixes
    "................" // 5_
    "..EExxxxzZbB...." // 6_
    "bbbbbbbbbbbbbbbb" // 7_
    "BZBBEEEEEEEEEEEE" // 8_
    "..........P....." // 9_
    "OOOO....bz......" // A_
    "bbbbbbbbvvvvvvvv" // B_
    "BBw.EEBZe.w..b.." // C_
    "EEEEbbx.EEEEEEEE" // D_
    "bbbbbbbbJJPb...." // E_
    "x.xx..TT......EE";// F_

inline constexpr char two_byte_opcodes[257] = // after 0FH
    // 0 1 2 3 4 5 6 7 8 9 A B C D E F
    "EEEEx.....x.xE.B" // 0_  0F: 3DNow!, whose opcode stands where an immediate would
    "EEEEEEEEEEEEEEEE" // 1_
    "RRRRxxxxEEEEEEEE" // 2_  MOV of control and debug registers
    "......x.xxxxxxxx" // 3_  38, 3A: the three-byte maps
    "EEEEEEEEEEEEEEEE" // 4_
    "EEEEEEEEEEEEEEEE" // 5_
    "EEEEEEEEEEEEEEEE" // 6_
    "BBBBEEE.EExxEEEE" // 7_
    "JJJJJJJJJJJJJJJJ" // 8_
    "EEEEEEEEEEEEEEEE" // 9_
    "...EBExx...EBEEE" // A_
    "EEEEEEEEExBEEEEE" // B_
    "EEBEBBBE........" // C_
    "EEEEEEEEEEEEEEEE" // D_
    "EEEEEEEEEEEEEEEE" // E_
    "EEEEEEEEEEEEEEEx";// F_
// clang-format on

/// Whether an opcode of the one-byte map has no meaning in 64-bit mode, or another one that pt does
/// not know (62H, C4H and C5H begin EVEX and VEX, D5H may be REX2).
[[nodiscard]] constexpr bool is_invalid_in_64_bit_mode(std::uint8_t opcode) {
    switch (opcode) {
    case 0x06: // PUSH and POP of ES, CS, SS, DS
    case 0x07:
    case 0x0E:
    case 0x16:
    case 0x17:
    case 0x1E:
    case 0x1F:
    case 0x27: // DAA, DAS, AAA, AAS
    case 0x2F:
    case 0x37:
    case 0x3F:
    case 0x60: // PUSHA, POPA
    case 0x61:
    case 0x62: // BOUND
    case 0x82: // the same as 80H
    case 0x9A: // CALL far
    case 0xC4: // LES, LDS
    case 0xC5:
    case 0xCE: // INTO
    case 0xD4: // AAM, AAD
    case 0xD5:
    case 0xEA: // JMP far
        return true;
    default: return false;
    }
}

/// Whether a SIB byte follows a ModR/M byte. `address_bytes` is the address size: 2, 4 or 8.
[[nodiscard]] constexpr bool has_sib(std::uint8_t mod_rm, std::uint8_t address_bytes) {
    return address_bytes != 2 && mod_rm >> 6 != 3 && (mod_rm & 7) == 4;
}

/// Bytes of SIB and displacement that follow a ModR/M byte; `sib` means nothing unless has_sib.
[[nodiscard]] constexpr std::uint8_t addressing_length(std::uint8_t mod_rm, std::uint8_t sib,
                                                       std::uint8_t address_bytes) {
    const unsigned mod = mod_rm >> 6;
    const unsigned rm = mod_rm & 7;
    if (mod == 3) {
        return 0;
    }
    if (address_bytes == 2) {
        return mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
    }
    const unsigned sib_bytes = has_sib(mod_rm, address_bytes) ? 1 : 0;
    const unsigned base = sib_bytes != 0 ? sib & 7U : rm;
    const unsigned displacement = mod == 1 ? 1 : mod == 2 || base == 5 ? 4 : 0;
    return static_cast<std::uint8_t>(sib_bytes + displacement);
}

/// The prefixes before an opcode, in any number and order.
struct instruction_prefixes {
    std::uint8_t count = 0;    ///< bytes, REX included
    bool operand_size = false; ///< 66H
    bool address_size = false; ///< 67H
    bool repne = false;        ///< F2H
    bool rep = false;          ///< F3H
    bool rex_w = false;        ///< REX.W, where it counts: directly before the opcode [sdm]
    /// Where the operand of OUTS lies, and that of other instructions for which it is DS without a
    /// prefix. In 64-bit mode only FS and GS count.
    segment_register segment = segment_register::ds;

    friend constexpr bool operator==(const instruction_prefixes&,
                                     const instruction_prefixes&) = default;
};

/// The prefixes among `count` bytes; all of them are if no opcode follows.
[[nodiscard]] constexpr instruction_prefixes prefixes_of(const std::uint8_t* bytes,
                                                         std::uint8_t count, code_size code) {
    instruction_prefixes found{};
    segment_register segment = found.segment;
    for (; found.count != count; ++found.count) {
        const std::uint8_t byte = bytes[found.count];
        if (code == code_size::bits_64 && (byte & 0xF0) == 0x40) {
            found.rex_w = (byte & 0x08) != 0;
            continue;
        }
        switch (byte) {
        case 0x66: found.operand_size = true; break;
        case 0x67: found.address_size = true; break;
        case 0xF2: found.repne = true; break;
        case 0xF3: found.rep = true; break;
        case 0xF0: break; // LOCK
        case 0x26: segment = segment_register::es; break;
        case 0x2E: segment = segment_register::cs; break;
        case 0x36: segment = segment_register::ss; break;
        case 0x3E: segment = segment_register::ds; break;
        case 0x64: found.segment = segment = segment_register::fs; break;
        case 0x65: found.segment = segment = segment_register::gs; break;
        default: return found;
        }
        if (code != code_size::bits_64) {
            found.segment = segment;
        }
        found.rex_w = false; // a REX before another prefix is ignored
    }
    return found;
}

/// The address size of an instruction with these prefixes [sdm] [amd].
[[nodiscard]] constexpr address_size addresses_of(const instruction_prefixes& prefixes,
                                                  code_size code) {
    switch (code) {
    case code_size::bits_16:
        return prefixes.address_size ? address_size::bits_32 : address_size::bits_16;
    case code_size::bits_32:
        return prefixes.address_size ? address_size::bits_16 : address_size::bits_32;
    case code_size::bits_64: break;
    }
    return prefixes.address_size ? address_size::bits_32 : address_size::bits_64;
}

/// The length in bytes of the instruction that begins at bytes[0], for exits that do not give it.
/// `available` is how many bytes may be looked at; more than 15 never are.
///
/// All one-byte, 0FH, 0F38H and 0F3AH opcodes are known, which is every instruction that a
/// processor can be told to intercept and all ordinary accesses to memory. It is for instructions
/// that a processor has decoded already: whether the operands of one are valid is not asked, and an
/// undefined opcode of the three-byte maps has a length too.
///
/// errc::out_of_range with `available`: the instruction is longer than that; fetch more.
/// errc::malformed with 15: it is longer than an instruction can be, and no processor completed it.
/// errc::not_supported with the index of the opcode: no instruction, or one with a VEX, EVEX, XOP
/// or REX2 prefix, or one whose length differs between processors (a near branch with an
/// operand-size prefix in 64-bit mode, UD0, UD1).
[[nodiscard]] constexpr result<std::uint8_t>
instruction_length(const std::uint8_t* bytes, std::size_t available, code_size code) {
    const std::uint8_t visible = available < longest_instruction
                                     ? static_cast<std::uint8_t>(available)
                                     : longest_instruction;
    const error beyond{available < longest_instruction ? errc::out_of_range : errc::malformed,
                       visible};
    const bool mode_64 = code == code_size::bits_64;

    const instruction_prefixes prefixes = prefixes_of(bytes, visible, code);
    const error unknown{errc::not_supported, prefixes.count};
    const auto address_bytes = static_cast<std::uint8_t>(addresses_of(prefixes, code));
    const bool operands_of_16_bits =
        !prefixes.rex_w && (code == code_size::bits_16) != prefixes.operand_size;
    const unsigned z = operands_of_16_bits ? 2 : 4; // Iz, Jz

    unsigned at = prefixes.count;
    if (at == visible) {
        return beyond;
    }
    std::uint8_t opcode = bytes[at++];
    const bool one_byte = opcode != 0x0F;
    char operands = one_byte_opcodes[opcode];
    if (!one_byte) {
        if (at == visible) {
            return beyond;
        }
        opcode = bytes[at++];
        operands = two_byte_opcodes[opcode];
        if (opcode == 0x38 || opcode == 0x3A) {
            if (at == visible) {
                return beyond;
            }
            ++at;
            operands = opcode == 0x38 ? 'E' : 'B';
        }
        // POPCNT needs its prefix. VMREAD has none: EXTRQ and INSERTQ have two immediates.
        if ((opcode == 0xB8 && !prefixes.rep) ||
            (opcode == 0x78 && (prefixes.operand_size || prefixes.repne))) {
            return unknown;
        }
    } else if (mode_64 && is_invalid_in_64_bit_mode(opcode)) {
        return unknown;
    }

    std::uint8_t mod_rm = 0;
    if (operands == 'E' || operands == 'R' || operands == 'B' || operands == 'Z' ||
        operands == 'T') {
        if (at == visible) {
            return beyond;
        }
        mod_rm = bytes[at++];
        // BOUND, LES and LDS have an operand in memory: with a register they are EVEX and VEX. POP
        // with another reg field is XOP.
        if (one_byte &&
            ((mod_rm >> 6 == 3 && (opcode == 0x62 || opcode == 0xC4 || opcode == 0xC5)) ||
             ((mod_rm & 0x38) != 0 && opcode == 0x8F))) {
            return unknown;
        }
        if (operands != 'R') {
            if (has_sib(mod_rm, address_bytes) && at == visible) {
                return beyond;
            }
            const std::uint8_t sib = has_sib(mod_rm, address_bytes) ? bytes[at] : std::uint8_t{0};
            at += addressing_length(mod_rm, sib, address_bytes);
        }
    }

    switch (operands) {
    case '.':
    case 'E':
    case 'R': break;
    case 'b':
    case 'B': at += 1; break;
    case 'w': at += 2; break;
    case 'e': at += 3; break;
    case 'z':
    case 'Z': at += z; break;
    case 'v': at += prefixes.rex_w ? 8 : z; break;
    case 'O': at += address_bytes; break;
    case 'P': at += z + 2; break;
    case 'J':
        if (mode_64 && prefixes.operand_size) {
            return unknown; // Intel ignores the prefix, AMD does not
        }
        at += z;
        break;
    case 'T':
        if ((mod_rm & 0x30) == 0) { // TEST is /0 and /1
            at += opcode == 0xF6 ? 1 : z;
        }
        break;
    default: return unknown;
    }
    if (at > visible) {
        return beyond;
    }
    return static_cast<std::uint8_t>(at);
}

} // namespace pt::vcpu
