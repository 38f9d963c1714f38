// SPDX-License-Identifier: BSL-1.0
#include "pt/svm/io_exit.hpp"

#include "pt/vmx/io_exit.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::width;
using pt::svm::io_instruction_of;
using pt::svm::ioio_exit_information;
using pt::vcpu::address_size;
using pt::vcpu::io_direction;
using pt::vcpu::io_instruction;
using pt::vcpu::segment_register;

constexpr auto decoded(std::uint64_t information, std::uint64_t length) {
    return io_instruction_of(ioio_exit_information{information}, length);
}

TEST_CASE("IN and OUT under SVM", "[svm]") {
    constexpr auto check = [] {
        // IN EAX, DX with 64-bit addresses: TYPE, SZ32, A64.
        bool good = decoded(0x0CFC'0241, 1) == io_instruction{.port = io_port{0xCFC},
                                                              .size = width::dword,
                                                              .direction = io_direction::in,
                                                              .length = 1};
        // OUT 0x80, AL; a processor below may say nothing about addresses.
        good = good && decoded(0x0080'0010, 2) == io_instruction{.port = io_port{0x80},
                                                                 .size = width::byte,
                                                                 .direction = io_direction::out,
                                                                 .length = 2};
        // REP IN AX, DX: the prefix means nothing.
        return good && decoded(0xFFFF'00A9, 2) == io_instruction{.port = io_port{0xFFFF},
                                                                 .size = width::word,
                                                                 .direction = io_direction::in,
                                                                 .length = 2};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("INS and OUTS under SVM with decode assists", "[svm]") {
    constexpr auto check = [] {
        // REP OUTSB from FS (4), 16-bit addresses: SEG 4, A16, SZ8, REP, STR.
        bool good = decoded(0x03F8'109C, 3) == io_instruction{.port = io_port{0x3F8},
                                                              .size = width::byte,
                                                              .direction = io_direction::out,
                                                              .string = true,
                                                              .rep = true,
                                                              .addresses = address_size::bits_16,
                                                              .segment = segment_register::fs,
                                                              .length = 3};
        // INSW to ES (0), 32-bit addresses.
        return good && decoded(0x01F0'0125, 2) == io_instruction{.port = io_port{0x1F0},
                                                                 .size = width::word,
                                                                 .direction = io_direction::in,
                                                                 .string = true,
                                                                 .addresses = address_size::bits_32,
                                                                 .segment = segment_register::es,
                                                                 .length = 2};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("without decode assists the VMM says where INS and OUTS read and write", "[svm]") {
    constexpr auto check = [] {
        const pt::svm::string_operand operand{address_size::bits_32, segment_register::gs};
        // REP OUTSD as QEMU reports it: no segment, no address size.
        bool good = io_instruction_of(ioio_exit_information{0x01F0'004C}, 3, operand) ==
                    io_instruction{.port = io_port{0x1F0},
                                   .size = width::dword,
                                   .direction = io_direction::out,
                                   .string = true,
                                   .rep = true,
                                   .addresses = address_size::bits_32,
                                   .segment = segment_register::gs,
                                   .length = 3};
        // INS goes to ES whatever prefix there is.
        const auto ins = io_instruction_of(ioio_exit_information{0x01F0'0045}, 2, operand);
        good = good && ins.has_value() && ins->segment == segment_register::es;
        // OUT has no operand in memory.
        return good && io_instruction_of(ioio_exit_information{0x0080'0010}, 2, operand) ==
                           decoded(0x0080'0010, 2);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the prefixes of INS and OUTS say where they read and write", "[svm]") {
    constexpr auto check = [] {
        using pt::svm::string_operand;
        using pt::vcpu::code_size;
        const auto operand = [](std::initializer_list<std::uint8_t> bytes, code_size code) {
            return pt::svm::string_operand_of(
                pt::vcpu::prefixes_of(bytes.begin(), static_cast<std::uint8_t>(bytes.size()), code),
                code);
        };
        using enum segment_register;
        // OUTSB
        bool good =
            operand({0x6E}, code_size::bits_16) == string_operand{address_size::bits_16, ds};
        good = good &&
               operand({0x6E}, code_size::bits_32) == string_operand{address_size::bits_32, ds};
        good = good &&
               operand({0x6E}, code_size::bits_64) == string_operand{address_size::bits_64, ds};
        // addr32 rep outsb %fs:, and its other address sizes
        good = good && operand({0x67, 0xF3, 0x64, 0x6E}, code_size::bits_16) ==
                           string_operand{address_size::bits_32, fs};
        good = good && operand({0x67, 0xF3, 0x64, 0x6E}, code_size::bits_32) ==
                           string_operand{address_size::bits_16, fs};
        good = good && operand({0x67, 0xF3, 0x64, 0x6E}, code_size::bits_64) ==
                           string_operand{address_size::bits_32, fs};
        // outsw %cs:, whose segment counts outside of 64-bit mode only
        good = good && operand({0x2E, 0x66, 0x6F}, code_size::bits_32) ==
                           string_operand{address_size::bits_32, cs};
        return good && operand({0x2E, 0x66, 0x6F}, code_size::bits_64) ==
                           string_operand{address_size::bits_64, ds};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("encodings that SVM does not use are errors", "[svm]") {
    constexpr auto check = [] {
        bool good = true;
        for (const std::uint64_t bits : {0U, 3U, 5U, 6U, 7U}) {
            good = good && decoded(0x0080'0080 | bits << 4, 1) == error{errc::malformed, bits};
            good = good && decoded(0x0080'0014 | bits << 7, 1) == error{errc::malformed, bits};
        }
        good = good && decoded(0x0080'1894, 1) == error{errc::malformed, 6};
        good = good && decoded(0x0080'1C94, 1) == error{errc::malformed, 7};
        good = good && decoded(0x0080'0010, 15).has_value();
        good = good && decoded(0x0080'0010, 16) == error{errc::malformed, 16};
        // nRIP that does not come behind rIP.
        return good &&
               decoded(0x0080'0010, ~std::uint64_t{0}) == error{errc::malformed, ~std::uint64_t{0}};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("both processors' words of one instruction give the same", "[svm][vmx]") {
    const auto disagreements = [] {
        unsigned count = 0;
        for (unsigned size = 0; size != 3; ++size) {                    // 1, 2, 4 bytes
            for (unsigned addresses = 0; addresses != 3; ++addresses) { // 16, 32, 64 bits
                for (unsigned segment = 0; segment != 6; ++segment) {
                    for (unsigned flags = 0; flags != 8; ++flags) { // in, string, rep
                        const std::uint64_t in = flags & 1;
                        const std::uint64_t string = flags >> 1 & 1;
                        const std::uint64_t rep = flags >> 2;
                        const std::uint64_t intel =
                            0x01F0'0000 | ((1U << size) - 1) | in << 3 | string << 4 | rep << 5;
                        const std::uint32_t information = addresses << 7 | segment << 15;
                        const std::uint64_t amd = 0x01F0'0000 | in | string << 2 | rep << 3 |
                                                  16U << size | 128U << addresses | segment << 10;
                        count += pt::vmx::io_instruction_of(
                                     pt::vmx::io_instruction_qualification{intel},
                                     pt::vmx::io_instruction_information{information},
                                     2) != io_instruction_of(ioio_exit_information{amd}, 2);
                    }
                }
            }
        }
        return count;
    };
    static_assert(disagreements() == 0);
    REQUIRE(disagreements() == 0);
}

} // namespace
