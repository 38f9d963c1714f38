// SPDX-License-Identifier: BSL-1.0
#include "pt/svm/event.hpp"

#include "pt/vcpu/event.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::svm;
using pt::vcpu::event;
using pt::vcpu::event_type;
using pt::vcpu::exception_vector;
using pt::vcpu::processor_mode;

constexpr event interrupted(std::uint64_t raw) {
    return interrupted_event(exit_interrupt_information{raw});
}

/// What VMRUN gets when the exit interrupted that.
constexpr std::uint64_t again(std::uint64_t raw) {
    return injection_of(interrupted(raw), processor_mode::protected_mode).injection.raw;
}

TEST_CASE("interrupts, NMIs and exceptions whose delivery exited go in again as they were",
          "[svm][rule 32]") {
    constexpr auto check = [] {
        bool good = again(0x8000'0031) == 0x8000'0031;                        // INTR 0x31
        good = good && again(0x8000'0202) == 0x8000'0202;                     // NMI
        good = good && again(0x8000'0306) == 0x8000'0306;                     // #UD
        good = good && again(0x0000'0018'8000'0B0D) == 0x0000'0018'8000'0B0D; // #GP(0x18)
        // #PF with all of the error code; without EV the error code is undefined.
        good = good && again(0x8000'0006'8000'0B0E) == 0x8000'0006'8000'0B0E;
        good = good && again(0xDEAD'BEEF'8000'0306) == 0x8000'0306;
        // Reserved bits do not pass: EVENTINJ wants them 0.
        return good && again(0x0000'0000'FFFF'F031) == 0x8000'0031;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("nothing is re-injected when EXITINTINFO is not valid or its type is reserved", "[svm]") {
    constexpr auto check = [] {
        bool good = interrupted(0) == event{} && interrupted(0xFFFF'FFFF'7FFF'FFFF) == event{};
        for (const std::uint64_t type : {1U, 5U, 6U, 7U}) {
            good = good && interrupted(0x8000'0030 | type << 8) == event{};
        }
        return good && injection_of(event{}, processor_mode::protected_mode) == injection_words{};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an INT n, INT3 or INTO whose delivery exited is run again, not injected",
          "[svm][rule 32]") {
    constexpr auto check = [] {
        bool good = interrupted(0x8000'0480) == event{};    // INT 0x80
        good = good && interrupted(0x8000'0303) == event{}; // INT3
        good = good && interrupted(0x8000'0304) == event{}; // INTO
        good = good && interrupted(0x8000'0301) == pt::vcpu::exception(exception_vector::debug);
        return good && interrupted(0x8000'0305) ==
                           pt::vcpu::exception(exception_vector::bound_range_exceeded);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("in real mode no exception has an error code", "[svm]") {
    constexpr auto check = [] {
        const event fault = pt::vcpu::exception(exception_vector::general_protection, 0x18);
        const auto raw = [&](processor_mode mode) {
            return injection_of(fault, mode).injection.raw;
        };
        return raw(processor_mode::protected_mode) == 0x0000'0018'8000'0B0D &&
               raw(processor_mode::real_address_mode) == 0x8000'030D &&
               pt::vcpu::mode_of(0x6000'0010) == processor_mode::real_address_mode &&
               pt::vcpu::mode_of(0x8000'0011) == processor_mode::protected_mode;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("where the guest's handler returns to", "[svm]") {
    constexpr auto check = [] {
        const auto words = [](event_type type, std::uint8_t vector) {
            return injection_of(
                {.present = true, .type = type, .vector = vector, .instruction_length = 2},
                processor_mode::protected_mode);
        };
        const auto is = [](const injection_words& got, std::uint64_t raw, return_address to,
                           unsigned length) {
            return got.injection.raw == raw && got.returns_to == to &&
                   got.instruction_length == length;
        };
        bool good =
            is(words(event_type::external_interrupt, 0x31), 0x8000'0031, return_address::rip, 0);
        good = good && is(words(event_type::nmi, 2), 0x8000'0202, return_address::rip, 0);
        good = good &&
               is(words(event_type::hardware_exception, 1), 0x8000'0301, return_address::rip, 0);
        good = good && is(words(event_type::software_interrupt, 0x80), 0x8000'0480,
                          return_address::next_rip, 2);
        good = good && is(words(event_type::software_exception, 3), 0x8000'0303,
                          return_address::next_rip, 2);
        return good && is(words(event_type::privileged_software_exception, 1), 0x8000'0301,
                          return_address::moved_rip, 2);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("VMRUN takes the types and vectors that are events", "[svm]") {
    constexpr auto check = [] {
        bool good = true;
        for (std::uint64_t type = 0; type != 8; ++type) {
            const bool reserved = type != 0 && type != 2 && type != 3 && type != 4;
            good =
                good && injection_accepted(event_injection{0x8000'0006 | type << 8}) == !reserved;
            good = good && injection_accepted(event_injection{0x0000'0006 | type << 8});
        }
        good = good && !injection_accepted(event_injection{0x8000'0302}); // NMI is no exception
        good = good && injection_accepted(event_injection{0x8000'031E});  // #SX
        good = good && !injection_accepted(event_injection{0x8000'0320});
        return good && injection_accepted(event_injection{0x8000'00FF});
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception that exited is an event that can be given to the guest", "[svm]") {
    constexpr auto check = [] {
        const auto of = [](unsigned vector) {
            return exit_event(exit_code{0x40 + vector}, 0x1'0000'0004, 1);
        };
        bool good = true;
        for (unsigned vector = 0; vector != 32; ++vector) {
            // [amd] Table "Interrupt Vector Source and Cause": #DF 8, #TS 10, #NP 11, #SS 12, #GP 13,
            // #PF 14, #AC 17, #CP 21, #VC 29, #SX 30 push one.
            const bool has_code = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 ||
                                  vector == 21 || vector == 29 || vector == 30;
            const event got = of(vector);
            good = good && got.present == (vector != 2) && got.has_error_code == has_code;
            good = good && (vector == 2 || got.vector == vector);
            good = good && got.error_code == (has_code && vector != 8 ? 4U : 0U);
            const bool software = vector == 3 || vector == 4;
            good = good && (got.type == event_type::software_exception) == software &&
                   got.instruction_length == (software ? 1 : 0);
        }
        good = good && exit_event(exit_code::intr, 0, 0) == event{};
        return good && exit_event(exit_code{0x3F}, 0, 0) == event{};
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
