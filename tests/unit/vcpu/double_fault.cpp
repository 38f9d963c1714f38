// SPDX-License-Identifier: BSL-1.0
#include "pt/vcpu/double_fault.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::vcpu::combined;
using pt::vcpu::event;
using pt::vcpu::event_type;

constexpr event hardware(unsigned vector) {
    return {.present = true,
            .type = event_type::hardware_exception,
            .vector = static_cast<std::uint8_t>(vector)};
}

constexpr event raised_double_fault{.present = true,
                                    .type = event_type::hardware_exception,
                                    .vector = 8,
                                    .has_error_code = true,
                                    .error_code = 0};

// [sdm] Table "Interrupt and Exception Classes" by vector: b benign, c contributory, p page fault, d the
// double fault itself; vectors that are reserved are benign.
//                             0         1         2         3
//                             01234567890123456789012345678901
constexpr char classes[] = "cbbbbbbbdbccccpbbbbbpcbbbbbbbbbb";
static_assert(sizeof classes == 33);

enum class outcome { second, double_fault, triple_fault };

/// [sdm] Table "Conditions for Generating a Double Fault", by lines.
constexpr outcome expected(char first, char second) {
    if (second == 'b') {
        return outcome::second; // the last column of every line: handled serially
    }
    switch (first) {
    case 'c': return second == 'c' ? outcome::double_fault : outcome::second;
    case 'p': return second == 'd' ? outcome::second : outcome::double_fault;
    case 'd': return outcome::triple_fault;
    default: return outcome::second;
    }
}

constexpr bool agrees(unsigned first, unsigned second) {
    const auto both = combined(hardware(first), hardware(second));
    switch (expected(classes[first], classes[second])) {
    case outcome::second: return both.has_value() && *both == hardware(second);
    case outcome::double_fault: return both.has_value() && *both == raised_double_fault;
    case outcome::triple_fault: return both == pt::error{pt::errc::hardware_fault, second};
    }
    return false;
}

TEST_CASE("two exceptions combine as the manual's table says", "[vcpu]") {
    constexpr auto all = [] {
        for (unsigned first = 0; first != 32; ++first) {
            for (unsigned second = 0; second != 32; ++second) {
                if (!agrees(first, second)) {
                    return false;
                }
            }
        }
        return true;
    };
    static_assert(all());
    for (unsigned first = 0; first != 32; ++first) {
        for (unsigned second = 0; second != 32; ++second) {
            CAPTURE(first, second);
            CHECK(agrees(first, second));
        }
    }
}

TEST_CASE("a page fault in the delivery of a page fault is a double fault with error code 0",
          "[vcpu]") {
    constexpr auto check = [] {
        event first = hardware(14);
        first.has_error_code = true;
        first.error_code = 6;
        return combined(first, first) == raised_double_fault;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("only hardware exceptions have a class: INT 14 or interrupt 14 is benign", "[vcpu]") {
    constexpr auto check = [] {
        bool good = true;
        for (const event_type type :
             {event_type::external_interrupt, event_type::nmi, event_type::software_interrupt,
              event_type::privileged_software_exception, event_type::software_exception}) {
            for (const unsigned vector : {8U, 13U, 14U, 20U}) {
                event other = hardware(vector);
                other.type = type;
                good = good && combined(other, hardware(14)) == hardware(14);
                good = good && combined(hardware(14), other) == other;
                good = good && combined(raised_double_fault, other) == other;
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("with one event alone there is nothing to combine", "[vcpu]") {
    constexpr auto check = [] {
        const event none{.type = event_type::hardware_exception, .vector = 14};
        return combined(none, hardware(14)) == hardware(14) &&
               combined(hardware(14), none) == hardware(14) && combined(none, none) == none;
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
