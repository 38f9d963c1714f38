// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/interruption.hpp"

#include "pt/vcpu/event.hpp"
#include "pt/vcpu/processor_mode.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::vmx;
using pt::vcpu::event;
using pt::vcpu::event_type;
using pt::vcpu::exception_vector;

/// In protected mode, if not said otherwise.
constexpr entry_words entry_of(const event& what) {
    return pt::vmx::entry_of(what, pt::vcpu::processor_mode::protected_mode);
}

/// What the VMM writes when the exit interrupted that, with error code 6 and instruction length 2 in
/// the other two fields.
constexpr entry_words again(std::uint32_t idt_vectoring) {
    return entry_of(interrupted_event(idt_vectoring_information{idt_vectoring}, 6, 2));
}

TEST_CASE("the words of external interrupts", "[vmx]") {
    constexpr auto check = [] {
        // Bit 31 valid, type 0, the vector.
        const entry_words low = entry_of(pt::vcpu::external_interrupt(0x31));
        bool good = low.information.raw == 0x8000'0031 && !low.clear_blocking_by_nmi;
        good = good && entry_of(pt::vcpu::external_interrupt(0xFF)).information.raw == 0x8000'00FF;
        // The exit of an external interrupt that was acknowledged on exit, vector 0x41.
        return good && acknowledged_vector(exit_interruption_information{0x8000'0041}) ==
                           std::uint8_t{0x41};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an interrupt that was not acknowledged on exit has no vector", "[vmx]") {
    constexpr auto check = [] {
        const auto vector_of = [](std::uint32_t raw) {
            return acknowledged_vector(exit_interruption_information{raw});
        };
        bool good = vector_of(0x0000'0041) == pt::error{pt::errc::absent, 0x41};
        good = good && vector_of(0) == pt::error{pt::errc::absent, 0};
        // An NMI is not an external interrupt.
        return good && vector_of(0x8000'0202) == pt::error{pt::errc::absent, 0x8000'0202};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("re-injection clears bit 12, which is undefined in the IDT-vectoring information",
          "[vmx][rule 32]") {
    constexpr auto check = [] {
        // A page fault (14, hardware exception, error code) with and without the bit.
        bool good = again(0x8000'0B0E).information.raw == 0x8000'0B0E &&
                    again(0x8000'1B0E).information.raw == 0x8000'0B0E;
        // VM entry checks all of 30:12 to be 0.
        good = good && again(0xFFFF'F030).information.raw == 0x8000'0030;
        // Not valid: whatever else is there, nothing is delivered.
        return good && again(0x0000'0B0E) == entry_words{} && again(0x7FFF'FFFF) == entry_words{} &&
               again(0) == entry_words{};
    };
    static_assert(check());
    REQUIRE(check());
}

struct reinjection {
    std::uint32_t idt_vectoring;
    std::uint32_t error_code;
    std::uint32_t instruction_length;
    bool clear_blocking_by_nmi;
};

constexpr reinjection reinjections[] = {
    {0x8000'0030, 0, 0, false}, // external interrupt 0x30
    {0x8000'0202, 0, 0, true},  // NMI
    {0x8000'0B0D, 6, 0, false}, // #GP
    {0x8000'0306, 0, 0, false}, // #UD
    {0x8000'0480, 0, 2, false}, // INT 0x80
    {0x8000'0501, 0, 2, false}, // INT1
    {0x8000'0603, 0, 2, false}, // INT3
};

constexpr bool agrees(const reinjection& expected) {
    const entry_words words = again(expected.idt_vectoring);
    return words.information.raw == expected.idt_vectoring &&
           words.error_code == expected.error_code &&
           words.instruction_length == expected.instruction_length &&
           words.clear_blocking_by_nmi == expected.clear_blocking_by_nmi;
}

TEST_CASE("a re-injected event takes its error code, instruction length and NMI blocking along",
          "[vmx][rule 32]") {
    static_assert([] {
        bool good = true;
        for (const reinjection& expected : reinjections) {
            good = good && agrees(expected);
        }
        return good;
    }());
    for (const reinjection& expected : reinjections) {
        CAPTURE(expected.idt_vectoring);
        CHECK(agrees(expected));
    }
}

TEST_CASE("types that no guest's IDT delivers are not re-injected", "[vmx]") {
    constexpr auto check = [] {
        return again(0x8000'0130) == entry_words{} && again(0x8000'0700) == entry_words{};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry never gets an error code of more than 16 bits nor a length of more than 15 bytes",
          "[vmx]") {
    constexpr auto check = [] {
        const auto of = [](std::uint32_t raw) {
            return entry_of(
                interrupted_event(idt_vectoring_information{raw}, 0xFFFF'8006, 0x0001'0002));
        };
        return of(0x8000'0B0E).error_code == 0x8006 && of(0x8000'0480).instruction_length == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception of the VMM's own", "[vmx]") {
    constexpr auto check = [] {
        const entry_words gp =
            entry_of(pt::vcpu::exception(exception_vector::general_protection, 0x18));
        bool good = gp.information.raw == 0x8000'0B0D && gp.error_code == 0x18;
        const entry_words ud = entry_of(pt::vcpu::exception(exception_vector::invalid_opcode));
        good = good && ud.information.raw == 0x8000'0306 && ud.error_code == 0;
        return good && entry_of(event{}) == entry_words{};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("in real-address mode entry gets no error code, whatever the event has", "[vmx]") {
    constexpr auto check = [] {
        using pt::vcpu::exception;
        using pt::vcpu::mode_of;
        // [sdm, Checks on VM-Entry Control Fields]: with "unrestricted guest", deliver-error-code
        // (bit 11) must be 0 while CR0.PE is 0 in the guest-state area. 0x10 and 0x11: ET alone, and
        // with PE.
        const event gp = exception(exception_vector::general_protection, 0x18);
        const entry_words real = pt::vmx::entry_of(gp, mode_of(0x10));
        bool good = real.information.raw == 0x8000'030D && real.error_code == 0;
        good = good && pt::vmx::entry_of(gp, mode_of(0x11)).information.raw == 0x8000'0B0D;
        // With PG, CD, NW and all else but PE.
        good =
            good && mode_of(0xFFFF'FFFF'FFFF'FFFE) == pt::vcpu::processor_mode::real_address_mode;
        // What has none anyway is the same in both.
        good =
            good && pt::vmx::entry_of(pt::vcpu::nmi(), mode_of(0x10)) == entry_of(pt::vcpu::nmi());
        return good && pt::vmx::entry_of(exception(exception_vector::debug), mode_of(0x10)) ==
                           entry_of(exception(exception_vector::debug));
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception that exited is an event that can be given to the guest", "[vmx]") {
    constexpr auto check = [] {
        const auto of = [](std::uint32_t raw) {
            return exit_event(exit_interruption_information{raw}, 4, 1);
        };
        // #PF with bit 12, which is NMI unblocking here.
        bool good = of(0x8000'1B0E) == pt::vcpu::exception(exception_vector::page_fault, 4);
        good = good && of(0x8000'0603) == event{.present = true,
                                                .type = event_type::software_exception,
                                                .vector = 3,
                                                .instruction_length = 1};
        good = good && of(0x8000'0202) == pt::vcpu::nmi();
        return good && of(0x0000'0B0E) == event{};
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
