// SPDX-License-Identifier: BSL-1.0
#include "pt/vcpu/io_completion.hpp"

#include "pt/core/width.hpp"
#include "pt/vcpu/code_size.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::width;
using pt::vcpu::accumulator_after_in;
using pt::vcpu::code_size;
using pt::vcpu::out_value;
using pt::vcpu::rip_after;

constexpr std::uint64_t rax = 0x1122'3344'5566'7788;

constexpr bool in_writes_its_width() {
    return accumulator_after_in(rax, width::byte, 0xAB) == 0x1122'3344'5566'77AB &&
           accumulator_after_in(rax, width::word, 0xABCD) == 0x1122'3344'5566'ABCD &&
           accumulator_after_in(rax, width::dword, 0x8BCD'EF01) == 0x0000'0000'8BCD'EF01;
}

constexpr bool rip_moves_and_wraps() {
    return rip_after(0x7FFE'0000'1000, 2, code_size::bits_64) == 0x7FFE'0000'1002 &&
           rip_after(0xFFFF'FFFF, 1, code_size::bits_64) == 0x1'0000'0000 &&
           rip_after(0xFFFF'FFFF'FFFF'FFFF, 2, code_size::bits_64) == 1 &&
           rip_after(0xFFFF'FFFE, 3, code_size::bits_32) == 1 &&
           rip_after(0xFFFF'FFFE, 3, code_size::bits_16) == 1;
}

TEST_CASE("IN to AL or AX leaves the bits above, IN to EAX clears bits 63:32", "[vcpu][io]") {
    static_assert(in_writes_its_width());
    REQUIRE(in_writes_its_width());
}

TEST_CASE("what a device answers beyond the width reaches no register", "[vcpu][io]") {
    REQUIRE(accumulator_after_in(rax, width::byte, 0xFFFF'FFAB) == 0x1122'3344'5566'77AB);
    REQUIRE(accumulator_after_in(rax, width::word, 0xFFFF'ABCD) == 0x1122'3344'5566'ABCD);
}

#if defined(__x86_64__)
TEST_CASE("an accumulator after IN is what this processor makes of a move to AL, AX and EAX",
          "[vcpu][io]") {
    for (const std::uint32_t value : {0U, 1U, 0x80U, 0x8000U, 0x8000'0000U, 0xFFFF'FFFFU}) {
        std::uint64_t byte = rax;
        std::uint64_t word = rax;
        std::uint64_t dword = rax;
        asm("movb %b1, %b0" : "+q"(byte) : "q"(value));
        asm("movw %w1, %w0" : "+r"(word) : "r"(value));
        asm("movl %1, %k0" : "+r"(dword) : "r"(value));
        REQUIRE(accumulator_after_in(rax, width::byte, value) == byte);
        REQUIRE(accumulator_after_in(rax, width::word, value) == word);
        REQUIRE(accumulator_after_in(rax, width::dword, value) == dword);
    }
}
#endif

TEST_CASE("OUT sends AL, AX or EAX", "[vcpu][io]") {
    REQUIRE(out_value(rax, width::byte) == 0x88);
    REQUIRE(out_value(rax, width::word) == 0x7788);
    REQUIRE(out_value(rax, width::dword) == 0x5566'7788);
}

TEST_CASE("RIP has 64 bits in 64-bit mode and 32 otherwise", "[vcpu][io]") {
    static_assert(rip_moves_and_wraps());
    REQUIRE(rip_moves_and_wraps());
}

TEST_CASE("IP does not wrap at 64 KiB: behind the segment's end the guest faults by itself",
          "[vcpu][io]") {
    REQUIRE(rip_after(0xFFFE, 2, code_size::bits_16) == 0x1'0000);
}

} // namespace
