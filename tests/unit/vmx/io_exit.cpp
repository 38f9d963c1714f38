// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/io_exit.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::width;
using pt::vcpu::address_size;
using pt::vcpu::io_direction;
using pt::vcpu::io_instruction;
using pt::vcpu::segment_register;

constexpr auto decoded(std::uint64_t qualification, std::uint32_t information,
                       std::uint32_t length) {
    return pt::vmx::io_instruction_of(pt::vmx::io_instruction_qualification{qualification},
                                      pt::vmx::io_instruction_information{information}, length);
}

TEST_CASE("IN and OUT, whatever the instruction information holds", "[vmx]") {
    constexpr auto check = [] {
        // IN EAX, DX; OUT 0x80, AL; REP IN AL, DX: the prefix means nothing.
        bool good =
            decoded(0x0CFC'000B, 0xFFFF'FFFF, 1) == io_instruction{.port = io_port{0xCFC},
                                                                   .size = width::dword,
                                                                   .direction = io_direction::in,
                                                                   .length = 1};
        good = good && decoded(0x0080'0040, 0, 2) == io_instruction{.port = io_port{0x80},
                                                                    .size = width::byte,
                                                                    .direction = io_direction::out,
                                                                    .length = 2};
        return good && decoded(0xFFFF'0029, 0, 2) == io_instruction{.port = io_port{0xFFFF},
                                                                    .size = width::word,
                                                                    .direction = io_direction::in,
                                                                    .length = 2};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("OUTS reads from the segment of the instruction information, INS writes to ES", "[vmx]") {
    constexpr auto check = [] {
        // REP OUTSB from FS, 16-bit addresses: bits 17:15 are 4, 9:7 are 0. Undefined bits are ones.
        bool good = decoded(0x03F8'0030, 0x0002'0000 | 0xFFFC'7C7F, 3) ==
                    io_instruction{.port = io_port{0x3F8},
                                   .size = width::byte,
                                   .direction = io_direction::out,
                                   .string = true,
                                   .rep = true,
                                   .addresses = address_size::bits_16,
                                   .segment = segment_register::fs,
                                   .length = 3};
        // INSW, 32-bit addresses (1): the segment is undefined, here the unused 7.
        good = good && decoded(0x01F0'0019, 0x0003'8080, 2) ==
                           io_instruction{.port = io_port{0x1F0},
                                          .size = width::word,
                                          .direction = io_direction::in,
                                          .string = true,
                                          .addresses = address_size::bits_32,
                                          .segment = segment_register::es,
                                          .length = 2};
        // OUTSD from DS, 64-bit addresses (2).
        return good && decoded(0x01F0'0013, 0x0001'8100, 1) ==
                           io_instruction{.port = io_port{0x1F0},
                                          .size = width::dword,
                                          .direction = io_direction::out,
                                          .string = true,
                                          .addresses = address_size::bits_64,
                                          .segment = segment_register::ds,
                                          .length = 1};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("encodings that the manual does not use are errors", "[vmx]") {
    constexpr auto check = [] {
        bool good = true;
        for (const unsigned size : {2U, 4U, 5U, 6U, 7U}) {
            good = good && decoded(0x0080'0000 | size, 0, 1) == error{errc::malformed, size};
        }
        for (std::uint32_t addresses = 3; addresses != 8; ++addresses) {
            good = good &&
                   decoded(0x0080'0010, addresses << 7, 1) == error{errc::malformed, addresses};
            good = good && decoded(0x0080'0000, addresses << 7, 1).has_value();
        }
        for (const std::uint32_t segment : {6U, 7U}) {
            good =
                good && decoded(0x0080'0010, segment << 15, 1) == error{errc::malformed, segment};
        }
        good = good && decoded(0x0080'0000, 0, 15).has_value();
        good = good && decoded(0x0080'0000, 0, 16) == error{errc::malformed, 16};
        return good && decoded(0x0080'0000, 0, 0x101) == error{errc::malformed, 0x101};
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
