// SPDX-License-Identifier: BSL-1.0
#include "kernel.hpp"

#include "../../../examples/kernel/interrupts.hpp"
#include "../../../examples/kernel/start.hpp"

extern "C" {
extern const kernel::subject subjects_start[]; // in subjects.ld
extern const kernel::subject subjects_end[];
}

namespace kernel {
namespace {

unsigned checks = 0;
unsigned failures = 0;
const char* part[2] = {};

void run_subject() {
    const char* const wanted = told_after("subject=");
    if (wanted == nullptr) {
        give_up("the command line has no subject=NAME");
    }
    for (const subject* each = subjects_start; each != subjects_end; ++each) {
        if (is_word(wanted, each->name)) {
            each->run();
            return;
        }
    }
    give_up("there is no subject of that name");
}

// The machine has 256 MiB. The kernel ends below 4 MiB (kernel.ld); SeaBIOS keeps its tables at the
// end of RAM.
constexpr pt::range<pt::hpa> small_frames{pt::hpa{4 * pt::MiB}, 60 * pt::MiB};
constexpr pt::range<pt::hpa> large_frames{pt::hpa{64 * pt::MiB}, 128 * pt::MiB};

constexpr std::uint8_t pattern(std::uint64_t index, std::uint8_t seed) {
    const auto mixed = static_cast<std::uint8_t>(index * 37 + (index >> 8) * 11 + seed);
    return mixed == 0 ? 0xA5 : mixed;
}

} // namespace

void begin_part(const char* words, const char* more) {
    part[0] = words;
    part[1] = more;
}

bool report(const char* name, bool holds) {
    ++checks;
    if (!holds) {
        ++failures;
    }
    print(holds ? "ok " : "FAILED ");
    for (const char* const words : part) {
        if (words != nullptr) {
            print(words);
            print(", ");
        }
    }
    print(name);
    if (!holds) {
        print(": ");
    }
    return holds;
}

bool check_equal(const char* name, std::uint64_t got, std::uint64_t expected) {
    const bool holds = got == expected;
    if (!report(name, holds)) {
        print(got);
        print(" where ");
        print(expected);
        print(" is expected");
    }
    print("\n");
    return holds;
}

void fill(pt::hpa place, std::uint64_t size, std::uint8_t seed) {
    for (std::uint64_t i = 0; i < size; ++i) {
        *pointer_to<volatile std::uint8_t>(place + i) = pattern(i, seed);
    }
}

bool is_filled(pt::hpa place, std::uint64_t size, std::uint8_t seed) {
    for (std::uint64_t i = 0; i < size; ++i) {
        if (*pointer_to<volatile std::uint8_t>(place + i) != pattern(i, seed)) {
            return false;
        }
    }
    return true;
}

bool is_zero(pt::hpa place, std::uint64_t size) {
    for (std::uint64_t i = 0; i < size; ++i) {
        if (*pointer_to<volatile std::uint8_t>(place + i) != 0) {
            return false;
        }
    }
    return true;
}

void run(const multiboot_information&) {
    clock::start();
    start_memory(small_frames, large_frames);
    start_interrupts();
    run_subject();

    // The runner counts the checks too, so that none is lost on the way.
    print("end of ");
    print_decimal(checks);
    print(" checks\n");
    end(failures == 0 ? run_passed : run_failed);
}

} // namespace kernel
