// SPDX-License-Identifier: BSL-1.0
#include "output.hpp"

namespace guest {
namespace {

unsigned made = 0;
unsigned failed = 0;
unsigned steps = 0;

} // namespace

void show(digits number) {
    for (unsigned left = number.count; left-- > 0;) {
        kernel::put(kernel::serial_port::com1, "0123456789abcdef"[number.value >> 4 * left & 0xF]);
    }
}

void show(microseconds_of time) {
    kernel::print_decimal(time.nanoseconds / 1000);
    kernel::print(" us");
}

void show(pt::pci::function_address function) {
    kernel::print(function.text().data() + 5); // without the segment
}

void show(pt::error error) {
    kernel::print(pt::name(error.code));
    kernel::print(" at ");
    kernel::print(error.where);
}

void step(const char* title) {
    kernel::print("\n");
    kernel::print_decimal(++steps);
    kernel::print(". ");
    kernel::print(title);
    kernel::print("\n");
}

bool begin_check(bool holds) {
    ++made;
    failed += holds ? 0 : 1;
    kernel::print(holds ? "ok " : "FAILED ");
    return holds;
}

unsigned checks_made() { return made; }
unsigned checks_failed() { return failed; }

} // namespace guest
