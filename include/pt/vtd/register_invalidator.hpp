// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vtd/unit.hpp"

#include <cstdint>

namespace pt::vtd {

/// The invalidator of one domain on one unit, by the unit's IOTLB registers: what redeems the flush
/// tickets of the domain's second-stage tables.
///
/// An invalidation is several register writes that belong together. Where domains are redeemed on
/// several processors, the mutex must be one for the unit.
template <class Unit, mutex Mutex = no_mutex>
class register_invalidator {
public:
    constexpr register_invalidator(Unit& hardware, std::uint16_t domain_id, Mutex guard = {})
        : unit_{&hardware}, domain_id_{domain_id}, mutex_{guard} {}

    constexpr result<void> invalidate(const paging::stale_set<iova>& stale) {
        const scoped_lock held{mutex_};
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
    [[no_unique_address]] Mutex mutex_;
};

} // namespace pt::vtd
