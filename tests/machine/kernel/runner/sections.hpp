// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "report.hpp"

#include <catch2/catch_test_macros.hpp>

namespace runner {

/// Makes sections of a test case of what the kernel has reported: one for each of its checks, and
/// one for how the run ended.
inline void sections_of(const run& done) {
    INFO("emulator: " << done.said << "\nkernel:\n" << done.log);
    DYNAMIC_SECTION("the run ends in order") {
        INFO(done.defect.value_or(""));
        CHECK_FALSE(done.defect);
    }
    for (const check& each : done.checks) {
        DYNAMIC_SECTION(each.name) {
            INFO(each.why);
            CHECK(each.holds);
        }
    }
}

} // namespace runner
