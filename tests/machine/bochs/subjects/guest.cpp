// SPDX-License-Identifier: BSL-1.0
#include "../../kernel/guest_tests/first_steps.hpp"
#include "../vmx.hpp"

namespace {

void run() {
    kernel::guest machine;
    for (const kernel::guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        guest_tests::first_steps(machine, mode);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"guest", run};

} // namespace
