// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace pt::vmx {

enum class io_operand : std::uint8_t { dx = 0, immediate = 1 };

/// Exit qualification for I/O instructions, 64 bits [sdm].
struct io_instruction_qualification : reg<io_instruction_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only>      port_number{};
    static constexpr bits< 6,  6, io_operand, access::read_only>         operand{};
    static constexpr bits< 5,  5, bool, access::read_only>               rep_prefixed{};
    static constexpr bits< 4,  4, bool, access::read_only>               string{}; ///< INS or OUTS
    static constexpr bits< 3,  3, vcpu::io_direction, access::read_only> direction{};
    static constexpr bits< 2,  0, std::uint8_t, access::read_only>       size_of_access{};
    // clang-format on
    static constexpr field_list fields{port_number, operand,   rep_prefixed,
                                       string,      direction, size_of_access};

    [[nodiscard]] constexpr io_port port() const { return io_port{(*this)[port_number]}; }

    /// How wide the access is. errc::malformed with the encoding for those that the manual does not
    /// use; a processor does not report them, but a hypervisor below might.
    [[nodiscard]] constexpr result<width> size() const {
        constexpr unsigned used = 1U << 0 | 1U << 1 | 1U << 3; // bytes less one
        const std::uint8_t encoded = (*this)[size_of_access];
        if ((used >> encoded & 1) == 0) {
            return error{errc::malformed, encoded};
        }
        return static_cast<width>(encoded + 1); // no branch: exits of all sizes come in any order
    }
};

/// VM-exit instruction information for INS and OUTS, 32 bits [sdm]; undefined for IN and OUT.
/// Older processors do not write it: see IA32_VMX_BASIC bit 54.
struct io_instruction_information : reg<io_instruction_information, std::uint32_t> {
    using reg::reg;
    // clang-format off
    /// Undefined for INS, which always writes to ES.
    static constexpr bits<17, 15, std::uint8_t, access::read_only> segment_register{};
    static constexpr bits< 9,  7, std::uint8_t, access::read_only> address_size{}; ///< see addresses()
    // clang-format on
    static constexpr field_list fields{segment_register, address_size};

    /// How wide the addresses and the count are. errc::malformed with the encoding for those that the
    /// manual does not use.
    [[nodiscard]] constexpr result<vcpu::address_size> addresses() const {
        switch ((*this)[address_size]) {
        case 0: return vcpu::address_size::bits_16;
        case 1: return vcpu::address_size::bits_32;
        case 2: return vcpu::address_size::bits_64;
        default: return error{errc::malformed, (*this)[address_size]};
        }
    }

    /// The segment that OUTS reads from. errc::malformed with the encoding for those that the manual
    /// does not use.
    [[nodiscard]] constexpr result<vcpu::segment_register> segment() const {
        const std::uint8_t encoded = (*this)[segment_register];
        if (encoded > static_cast<std::uint8_t>(vcpu::segment_register::gs)) {
            return error{errc::malformed, encoded};
        }
        return vcpu::segment_register{encoded};
    }
};

/// The instruction of an I/O-instruction exit. `information`: the VM-exit instruction information,
/// which counts for INS and OUTS only; `instruction_length`: the VM-exit instruction length in bytes.
/// errc::malformed with the encoding, or with the length, where they are none that [sdm] defines.
[[nodiscard]] constexpr result<vcpu::io_instruction>
io_instruction_of(io_instruction_qualification qualification,
                  io_instruction_information information, std::uint32_t instruction_length) {
    using io = io_instruction_qualification;
    constexpr std::uint32_t longest_instruction = 15;
    const result<width> size = qualification.size();
    if (!size) {
        return size.error();
    }
    if (instruction_length > longest_instruction) {
        return error{errc::malformed, instruction_length};
    }
    vcpu::io_instruction instruction{.port = qualification.port(),
                                     .size = *size,
                                     .direction = qualification[io::direction],
                                     .string = qualification[io::string],
                                     .length = static_cast<std::uint8_t>(instruction_length)};
    if (!instruction.string) {
        return instruction; // a REP prefix before IN or OUT means nothing
    }
    const result<vcpu::address_size> addresses = information.addresses();
    if (!addresses) {
        return addresses.error();
    }
    instruction.rep = qualification[io::rep_prefixed];
    instruction.addresses = *addresses;
    instruction.segment = vcpu::segment_register::es;
    if (instruction.direction == vcpu::io_direction::out) {
        const result<vcpu::segment_register> segment = information.segment();
        if (!segment) {
            return segment.error();
        }
        instruction.segment = *segment;
    }
    return instruction;
}

} // namespace pt::vmx
