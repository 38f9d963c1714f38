// SPDX-License-Identifier: BSL-1.0
#include "../guest_tests/first_steps.hpp"
#include "../svm.hpp"

namespace {

void run() {
    kernel::guest machine;
    for (const kernel::guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        guest_tests::first_steps(machine, mode);
        machine.turn_off(kernel::intercept::vmrun);
        kernel::check("what VMRUN does not take is told", !machine.enter());
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"svm_guest", run};

} // namespace
