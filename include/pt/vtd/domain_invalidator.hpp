// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vtd/invalidation.hpp"

#include <cstdint>

namespace pt::vtd {

/// Redeems flush tickets of second-stage tables that only functions behind one unit go through, and
/// none of them with a device TLB. `domain` does it for all the others.
template <invalidation_port Port>
class domain_invalidator {
public:
    /// Of the domain with that id on the unit behind `hardware`, which outlives this.
    constexpr domain_invalidator(Port& hardware, std::uint16_t domain_id)
        : hardware_{&hardware}, domain_id_{domain_id} {}

    /// Makes the unit forget what is stale, and waits. Errors are the port's.
    constexpr result<void> invalidate(const paging::stale_set<iova>& stale) {
        const result<void> asked = submit_stale(*hardware_, domain_id_, stale);
        return asked ? hardware_->complete() : asked;
    }

private:
    Port* hardware_;
    std::uint16_t domain_id_;
};

} // namespace pt::vtd
