// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vtd/unit.hpp"

#include <cstdint>

namespace pt::vtd {

/// The invalidator of one domain on one unit, by the unit's IOTLB registers: what redeems the flush
/// tickets of the domain's second-stage tables.
template <class Unit>
class register_invalidator {
public:
    constexpr register_invalidator(Unit& hardware, std::uint16_t domain_id)
        : unit_{&hardware}, domain_id_{domain_id} {}

    constexpr result<void> invalidate(const paging::stale_set<iova>& stale) {
        if (stale.everything()) {
            return unit_->invalidate_iotlb(domain_id_);
        }
        for (const range<iova>& part : stale) {
            const result<void> done =
                unit_->invalidate_iotlb(domain_id_, part, stale.tables_changed());
            if (!done) {
                return done;
            }
        }
        return {};
    }

private:
    Unit* unit_;
    std::uint16_t domain_id_;
};

} // namespace pt::vtd
