// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/width.hpp"

#include <cstdint>

namespace pt::vcpu {

/// The general-purpose registers by the numbers that instructions have for them [sdm] [amd].
enum class general_register : std::uint8_t {
    rax = 0,
    rcx = 1,
    rdx = 2,
    rbx = 3,
    rsp = 4,
    rbp = 5,
    rsi = 6,
    rdi = 7,
    r8 = 8,
    r9 = 9,
    r10 = 10,
    r11 = 11,
    r12 = 12,
    r13 = 13,
    r14 = 14,
    r15 = 15,
};

/// A register as an operand: its low bits, as many as the operand has, or AH, CH, DH or BH.
struct register_operand {
    general_register name = general_register::rax;
    bool high_byte = false; ///< bits 15:8; only of an operand of one byte

    friend constexpr bool operator==(const register_operand&, const register_operand&) = default;
};

/// What the general-purpose registers of a virtual processor hold, in the order of their numbers. The
/// VMM loads and stores them around its VM entry.
struct general_registers {
    std::uint64_t raw[16]{};

    [[nodiscard]] constexpr std::uint64_t& operator[](general_register name) {
        return raw[static_cast<unsigned>(name) & 15];
    }
    [[nodiscard]] constexpr std::uint64_t operator[](general_register name) const {
        return raw[static_cast<unsigned>(name) & 15];
    }

    /// The operand's value; bits above `size` are 0.
    [[nodiscard]] constexpr std::uint64_t value(register_operand from, mmio_width size) const {
        return (*this)[from.name] >> (from.high_byte ? 8 : 0) & all_ones(size);
    }

    /// The operand gets the low bits of `value`. 8 and 16 bits leave the rest of the register, 32 bits
    /// clear bits 63:32 [sdm, General-Purpose Registers in 64-Bit Mode].
    constexpr void assign(register_operand to, mmio_width size, std::uint64_t value) {
        std::uint64_t& whole = (*this)[to.name];
        const unsigned shift = to.high_byte ? 8 : 0;
        const std::uint64_t replaced = all_ones(size) << shift;
        const std::uint64_t kept = size == mmio_width::dword ? 0 : whole & ~replaced;
        whole = kept | (value << shift & replaced);
    }

    friend constexpr bool operator==(const general_registers&, const general_registers&) = default;
};

} // namespace pt::vcpu
