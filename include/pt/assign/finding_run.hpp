// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/finding.hpp"

#include <cstdint>

namespace pt::assign {

/// Whether findings of that kind tell in `host` where each of their addresses leads.
[[nodiscard]] constexpr bool leads_somewhere(finding_kind kind) {
    using enum finding_kind;
    return kind == page_not_owned || kind == page_elsewhere || kind == page_trapped ||
           kind == page_excess_rights || kind == page_lacking_rights ||
           kind == page_processors_only || kind == registers_cached ||
           kind == interrupt_range_mapped || kind == table_frame_reachable;
}

/// Whether findings of that kind tell in `expected` where each of their addresses should lead.
[[nodiscard]] constexpr bool should_lead_elsewhere(finding_kind kind) {
    using enum finding_kind;
    return kind == page_elsewhere || kind == page_missing || kind == port_not_forwarded;
}

/// Whether `first` and `last` are source ids, and `function` the first of them.
[[nodiscard]] constexpr bool is_about_functions(finding_kind kind) {
    return kind >= finding_kind::function_unreadable && kind <= finding_kind::domain_id_shared;
}

/// Joins neighbours of which the same is wrong, so that a million wrong pages are one finding. What
/// comes must be ascending; the last one is told by flush(). Report is any callable.
template <class Report>
class finding_run {
public:
    explicit constexpr finding_run(Report& report) : report_{report} {}

    constexpr void add(const finding& next) {
        if (open_ && continues(next)) {
            const std::uint64_t distance = next.first - run_.first;
            run_.scattered =
                run_.scattered || next.scattered ||
                (leads_somewhere(next.kind) && next.host != run_.host + distance) ||
                (should_lead_elsewhere(next.kind) && next.expected != run_.expected + distance);
            run_.last = next.last;
            return;
        }
        flush();
        run_ = next;
        open_ = true;
    }

    constexpr void flush() {
        if (open_) {
            open_ = false;
            report_(static_cast<const finding&>(run_));
        }
    }

private:
    /// Whether `next` says of the addresses behind the run what is said of those in it.
    [[nodiscard]] constexpr bool continues(const finding& next) const {
        if (next.first - 1 != run_.last || next.first == 0) {
            return false;
        }
        finding same = next;
        same.first = run_.first;
        same.last = run_.last;
        same.scattered = run_.scattered;
        if (is_about_functions(next.kind)) {
            same.function = run_.function;
        }
        if (leads_somewhere(next.kind)) {
            same.host = run_.host;
        }
        if (should_lead_elsewhere(next.kind)) {
            same.expected = run_.expected;
        }
        return same == run_;
    }

    Report& report_;
    finding run_{};
    bool open_ = false;
};

} // namespace pt::assign
