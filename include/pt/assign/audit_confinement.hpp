// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"

namespace pt::assign {

/// Says what no table can show: that a guest with functions is not isolated at all, because no unit
/// stands between them and the host. The flags of the ownership say whether one does.
template <finding_report Report>
constexpr audit_summary audit_confinement(const ownership& owner, Report&& report) {
    audit_summary found{};
    if (owner.functions.size() == 0) {
        return found;
    }
    const auto tell = [&](finding_kind kind) {
        ++found.findings;
        report(finding{.kind = kind, .guest = owner.guest, .function = owner.functions[0].address});
    };
    if (!owner.dma_isolated) {
        tell(finding_kind::dma_not_isolated);
    }
    if (!owner.interrupts_isolated) {
        tell(finding_kind::interrupts_not_isolated);
    }
    return found;
}

} // namespace pt::assign
