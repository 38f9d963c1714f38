// SPDX-License-Identifier: BSL-1.0
//
// What the guest tells: steps, what it saw, and checks, one line each.
#pragma once

#include "../../kernel/output.hpp"

#include "pt/core/result.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace guest {

/// A number in decimal, and one in hexadecimal with so many digits and no 0x.
struct decimal {
    std::uint64_t value = 0;
};
struct digits {
    std::uint64_t value = 0;
    unsigned count = 8;
};
/// A span of time, shown in microseconds.
struct microseconds_of {
    std::uint64_t nanoseconds = 0;
};

inline void show(const char* text) { kernel::print(text); }
inline void show(std::uint64_t number) { kernel::print(number); }
inline void show(decimal number) { kernel::print_decimal(number.value); }
void show(digits number);
void show(microseconds_of time);
/// "00:03.0"
void show(pt::pci::function_address function);
/// "time_out at 0x8"
void show(pt::error error);

/// Begins another part of the run.
void step(const char* title);

/// A line of what was seen.
template <class... Parts>
void tell(const Parts&... parts) {
    show("   ");
    (show(parts), ...);
    show("\n");
}

/// Counts a check and begins its line: "ok " or "FAILED ".
bool begin_check(bool holds);

/// "ok CLAIM" or "FAILED CLAIM". Gives back whether it holds.
template <class... Parts>
bool check(bool holds, const Parts&... claim) {
    begin_check(holds);
    (show(claim), ...);
    show("\n");
    return holds;
}
/// The same of an outcome; where it failed, its error follows.
template <class T, class... Parts>
bool check(const pt::result<T>& outcome, const Parts&... claim) {
    begin_check(outcome.has_value());
    (show(claim), ...);
    if (!outcome) {
        show(": ");
        show(outcome.error());
    }
    show("\n");
    return outcome.has_value();
}
/// The same of a number; where it is another one, both follow.
template <class... Parts>
bool check_equal(std::uint64_t got, std::uint64_t expected, const Parts&... claim) {
    begin_check(got == expected);
    (show(claim), ...);
    if (got != expected) {
        show(": ");
        show(got);
        show(" where ");
        show(expected);
        show(" is expected");
    }
    show("\n");
    return got == expected;
}

unsigned checks_made();
unsigned checks_failed();

} // namespace guest
