// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd::second_stage {

/// The fewest levels, 3 to 5, that reach input addresses of `input_width` bits and that all units
/// of a domain walk, whose CAP.SAGAW are given ANDed together. errc::not_supported with the width
/// where there are none.
[[nodiscard]] constexpr result<unsigned> fewest_levels(std::uint8_t supported_address_widths,
                                                       unsigned input_width) {
    for (unsigned levels = 3; levels <= 5; ++levels) {
        if (input_width <= 12 + 9 * levels &&
            (supported_address_widths & (1U << (levels - 2))) != 0) {
            return levels;
        }
    }
    return error{errc::not_supported, input_width};
}

/// What second-stage tables with `levels` levels may use on the unit with these registers, where
/// the host address width is that of the DMAR table. errc::not_supported when the unit does not
/// walk that many levels; errc::out_of_range for a host address width that no table can mean. For
/// several units, see common().
[[nodiscard]] constexpr result<limits> limits_of(capability cap, extended_capability ecap,
                                                 unsigned levels, unsigned host_address_width) {
    if (levels < 3 || levels > 5 ||
        (cap[capability::supported_address_widths] & (1U << (levels - 2))) == 0) {
        return error{errc::not_supported, levels};
    }
    if (host_address_width < 32 || host_address_width > 52) {
        return error{errc::out_of_range, host_address_width};
    }
    using enum paging::page_size;
    const bool large = cap[capability::second_stage_2m];
    const bool huge = large && cap[capability::second_stage_1g]; // a split needs 2 MiB
    // A write buffer may hold new entries back until an invalidation flushes it, so that map() owes
    // one, as with caching mode.
    const bool stale_when_mapped =
        cap[capability::caching_mode] || cap[capability::required_write_buffer_flushing];
    return limits{.levels = levels,
                  .input_width = cap[capability::maximum_guest_address_width] + 1U,
                  .output_width = host_address_width,
                  .largest_page = huge    ? size_1g
                                  : large ? size_2m
                                          : size_4k,
                  .snoop_control = ecap[extended_capability::snoop_control],
                  .stale_when_mapped = stale_when_mapped};
}

} // namespace pt::vtd::second_stage
