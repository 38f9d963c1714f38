// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/finding.hpp"

#include <cstdint>

namespace pt::assign {

/// Hands findings on to the caller's report, and counts them.
template <finding_report Report>
struct counted_report {
    Report& report;
    std::uint64_t count = 0;

    constexpr void operator()(const finding& found) {
        ++count;
        report(found);
    }
};

} // namespace pt::assign
