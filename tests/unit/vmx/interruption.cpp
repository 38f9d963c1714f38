// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/interruption.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::vmx::entry_interruption_information;
using pt::vmx::exit_interruption_information;
using pt::vmx::external_interrupt;
using pt::vmx::idt_vectoring_information;
using pt::vmx::interruption_type;
using pt::vmx::reinject;

constexpr entry_interruption_information again(std::uint32_t idt_vectoring) {
    return reinject(idt_vectoring_information{idt_vectoring});
}

TEST_CASE("the words of external interrupts", "[vmx]") {
    constexpr auto check = [] {
        // Bit 31 valid, type 0, the vector.
        bool good = external_interrupt(0x31).raw == 0x8000'0031 &&
                    external_interrupt(0xFF).raw == 0x8000'00FF;
        // The exit of an external interrupt that was acknowledged on exit, vector 0x41.
        const exit_interruption_information exit{0x8000'0041};
        good = good && exit[exit_interruption_information::valid];
        good = good &&
               exit[exit_interruption_information::type] == interruption_type::external_interrupt;
        return good && exit[exit_interruption_information::vector] == 0x41;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("re-injection clears bit 12, which is undefined in the IDT-vectoring information",
          "[vmx][rule 32]") {
    constexpr auto check = [] {
        // A page fault (14, hardware exception, error code) with and without the bit.
        bool good = again(0x8000'0B0E).raw == 0x8000'0B0E && again(0x8000'1B0E).raw == 0x8000'0B0E;
        // VM entry checks all of 30:12 to be 0.
        good = good && again(0xFFFF'F030).raw == 0x8000'0030;
        // Not valid: whatever else is there, nothing is delivered.
        return good && again(0x0000'0B0E).raw == 0 && again(0x7FFF'FFFF).raw == 0 &&
               again(0).raw == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a re-injected event takes its error code, instruction length and NMI blocking along",
          "[vmx][rule 32]") {
    struct row {
        std::uint32_t idt_vectoring;
        bool error_code;
        bool instruction_length;
        bool nmi_blocking_cleared;
    };
    constexpr row rows[] = {
        {0x8000'0030, false, false, false}, // external interrupt 0x30
        {0x8000'0202, false, false, true},  // NMI
        {0x8000'0B0D, true, false, false},  // #GP
        {0x8000'0306, false, false, false}, // #UD
        {0x8000'0480, false, true, false},  // INT 0x80
        {0x8000'0501, false, true, false},  // INT1
        {0x8000'0603, false, true, false},  // INT3
        {0x0000'0B0D, false, false, false}, // not valid, nothing is needed
        {0x0000'0480, false, false, false}, {0x0000'0202, false, false, false},
    };
    constexpr auto agrees = [](const row& expected) {
        const entry_interruption_information event = again(expected.idt_vectoring);
        return event.needs_error_code() == expected.error_code &&
               event.needs_instruction_length() == expected.instruction_length &&
               event.needs_nmi_blocking_cleared() == expected.nmi_blocking_cleared;
    };
    static_assert([=] {
        bool good = true;
        for (const row& expected : rows) {
            good = good && agrees(expected);
        }
        return good;
    }());
    for (const row& expected : rows) {
        CAPTURE(expected.idt_vectoring);
        CHECK(agrees(expected));
    }
}

} // namespace
