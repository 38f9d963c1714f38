// SPDX-License-Identifier: BSL-1.0
//
// A small kernel in which pt runs as it does in a hypervisor: freestanding, without a library, on a
// processor that takes the devices' interrupts. QEMU boots it; each boot runs one subject. (Bochs
// boots it, too, with the subjects of ../bochs.) What any such kernel needs is in examples/kernel.
//
// To add tests: put a file into subjects/, in the form of
//
//     #include "../kernel.hpp"
//     namespace {
//     void run() {
//         auto unit = ...;
//         if (!kernel::check("the unit answers", unit)) return; // a result: prints the error
//         kernel::check_equal("GSTS says so", unit->status().raw, 0x8000'0000);
//     }
//     [[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"my_subject", run};
//     } // namespace
//
// and a TEST_CASE to runner/kernel.cpp that says on which machines it runs:
//
//     TEST_CASE("what it proves", "[kernel]") { run_in_kernel("my_subject", every_unit); }
//
// The names of the checks of one subject are all different. A check that must hold before the next
// makes sense is asked in an `if`. What comes on the command line after the subject (the words of a
// run) is asked by told("word"). No test can hang: the runner has a time limit for a boot.
//
// There is one processor and one stack. Interrupts are off, except in pause_for and wait_until: so
// a test sees none of them in between, and what an interrupt counts needs no lock.
#pragma once

#include "../../../examples/kernel/acpi.hpp"
#include "../../../examples/kernel/clock.hpp"
#include "../../../examples/kernel/command_line.hpp"
#include "../../../examples/kernel/end.hpp"
#include "../../../examples/kernel/memory.hpp"
#include "../../../examples/kernel/mmio.hpp"
#include "../../../examples/kernel/output.hpp"
#include "../../../examples/kernel/pci.hpp"
#include "../../../examples/kernel/ports.hpp"

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace kernel {

// ------------------------------------------------------------------------- tests and output

/// Checks that belong together and share a boot.
struct alignas(16) subject {
    const char* name;
    void (*run)();
};
static_assert(sizeof(subject) == 16, "the linker lays them out as an array");

/// A line of text and numbers, for whoever reads the log of a failure.
template <class... Parts>
void say(Parts... parts) {
    print("  ");
    (print(parts), ...);
    print("\n");
}

/// Begins the report of a check, and gives back whether it holds; where not, a reason follows.
bool report(const char* name, bool holds);

/// Begins another part of a subject: these words come before the names of its checks, so that the
/// same checks can be made in each, and `more` after them. nullptr: none any more.
void begin_part(const char* words, const char* more = nullptr);

/// Reports a named check: "ok NAME" or "FAILED NAME: why" to the runner. Gives back whether it
/// holds.
inline bool check(const char* name, bool holds) {
    report(name, holds);
    print("\n");
    return holds;
}

/// Success, or an error whose code and place are shown.
template <class T>
bool check(const char* name, const pt::result<T>& outcome) {
    if (!report(name, outcome.has_value())) {
        print(pt::name(outcome.error().code));
        print(" at ");
        print(outcome.error().where);
    }
    print("\n");
    return outcome.has_value();
}

/// The error that is expected, and no other.
template <class T>
bool check_error(const char* name, const pt::result<T>& outcome, pt::errc expected) {
    const bool holds = !outcome && outcome.error().code == expected;
    if (!report(name, holds)) {
        print(outcome ? "success" : pt::name(outcome.error().code));
        print(" where ");
        print(pt::name(expected));
        print(" is expected");
    }
    print("\n");
    return holds;
}

bool check_equal(const char* name, std::uint64_t got, std::uint64_t expected);

// ----------------------------------------------------------------------------------- memory

/// Fills memory with bytes that depend on the seed and on the place, none of them 0.
void fill(pt::hpa place, std::uint64_t size, std::uint8_t seed);
/// Whether it holds what fill() wrote.
bool is_filled(pt::hpa place, std::uint64_t size, std::uint8_t seed);
/// Whether it holds zeros.
bool is_zero(pt::hpa place, std::uint64_t size);

} // namespace kernel
