// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace pt::svm {

/// EXITINFO1 of an IOIO exit, 64 bits [amd, I/O Intercept Information].
struct ioio_exit_information : reg<ioio_exit_information, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only>      port_number{};
    /// Of INS and OUTS. Processors without decode assists (CPUID Fn8000_000A) leave it 0.
    static constexpr bits<12, 10, std::uint8_t, access::read_only>       effective_segment{};
    static constexpr bits< 9,  7, std::uint8_t, access::read_only>       address_size{}; ///< A64 A32 A16
    static constexpr bits< 6,  4, std::uint8_t, access::read_only>       operand_size{}; ///< SZ32 .. SZ8
    static constexpr bits< 3,  3, bool, access::read_only>               repeated{};
    static constexpr bits< 2,  2, bool, access::read_only>               string{}; ///< INS or OUTS
    static constexpr bits< 0,  0, vcpu::io_direction, access::read_only> direction{};
    // clang-format on
    static constexpr field_list fields{
        port_number, effective_segment, address_size, operand_size, repeated, string, direction};

    [[nodiscard]] constexpr io_port port() const { return io_port{(*this)[port_number]}; }

    /// How wide the access is. errc::malformed with the three bits unless exactly one is set.
    [[nodiscard]] constexpr result<width> size() const {
        constexpr unsigned used = 1U << 1 | 1U << 2 | 1U << 4; // bytes
        const std::uint8_t encoded = (*this)[operand_size];
        if ((used >> encoded & 1) == 0) {
            return error{errc::malformed, encoded};
        }
        return static_cast<width>(encoded); // no branch: exits of all sizes come in any order
    }

    /// How wide the addresses and the count are. errc::malformed with the three bits unless exactly
    /// one is set.
    [[nodiscard]] constexpr result<vcpu::address_size> addresses() const {
        switch ((*this)[address_size]) {
        case 1: return vcpu::address_size::bits_16;
        case 2: return vcpu::address_size::bits_32;
        case 4: return vcpu::address_size::bits_64;
        default: return error{errc::malformed, (*this)[address_size]};
        }
    }

    /// The segment of the operand in memory, with decode assists. errc::malformed with the encoding
    /// for 6 and 7, which are no segment register.
    [[nodiscard]] constexpr result<vcpu::segment_register> segment() const {
        const std::uint8_t encoded = (*this)[effective_segment];
        if (encoded > static_cast<std::uint8_t>(vcpu::segment_register::gs)) {
            return error{errc::malformed, encoded};
        }
        return vcpu::segment_register{encoded};
    }
};

/// What an IOIO exit does not say on every processor about INS and OUTS, decoded by the VMM from the
/// instruction's bytes.
struct string_operand {
    vcpu::address_size addresses = vcpu::address_size::bits_64;
    vcpu::segment_register segment = vcpu::segment_register::ds; ///< of OUTS

    friend constexpr bool operator==(const string_operand&, const string_operand&) = default;
};

/// The operand of INS or OUTS, from the prefixes of the instruction and the size of its code.
[[nodiscard]] constexpr string_operand string_operand_of(const vcpu::instruction_prefixes& prefixes,
                                                         vcpu::code_size code) {
    return {vcpu::addresses_of(prefixes, code), prefixes.segment};
}

/// The instruction of an IOIO exit, with the operand of INS and OUTS in memory as the VMM has decoded
/// it: for a processor without decode assists, and for QEMU, which reports no address size.
/// `instruction_length`: EXITINFO2 - rIP, in bytes. errc::malformed with the encoding, or with the
/// length, where they are none that [amd] defines.
[[nodiscard]] constexpr result<vcpu::io_instruction>
io_instruction_of(ioio_exit_information information, std::uint64_t instruction_length,
                  string_operand operand) {
    using io = ioio_exit_information;
    constexpr std::uint64_t longest_instruction = 15;
    const result<width> size = information.size();
    if (!size) {
        return size.error();
    }
    if (instruction_length > longest_instruction) {
        return error{errc::malformed, instruction_length};
    }
    vcpu::io_instruction instruction{.port = information.port(),
                                     .size = *size,
                                     .direction = information[io::direction],
                                     .string = information[io::string],
                                     .length = static_cast<std::uint8_t>(instruction_length)};
    if (instruction.string) { // a REP prefix before IN or OUT means nothing
        instruction.rep = information[io::repeated];
        instruction.addresses = operand.addresses;
        instruction.segment = instruction.direction == vcpu::io_direction::out
                                  ? operand.segment
                                  : vcpu::segment_register::es;
    }
    return instruction;
}

/// The instruction of an IOIO exit on a processor with decode assists. The other form is for those
/// without, where every OUTS would seem to read from ES.
[[nodiscard]] constexpr result<vcpu::io_instruction>
io_instruction_of(ioio_exit_information information, std::uint64_t instruction_length) {
    if (!information[ioio_exit_information::string]) {
        return io_instruction_of(information, instruction_length, string_operand{});
    }
    const result<vcpu::address_size> addresses = information.addresses();
    if (!addresses) {
        return addresses.error();
    }
    const result<vcpu::segment_register> segment = information.segment();
    if (!segment) {
        return segment.error();
    }
    return io_instruction_of(information, instruction_length, string_operand{*addresses, *segment});
}

} // namespace pt::svm
