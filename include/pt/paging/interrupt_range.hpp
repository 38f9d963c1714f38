// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

namespace pt::vtd {

/// Writes to this range are interrupt requests and are never translated; nothing is mapped there
/// [vt-d, "Interrupt Address Range"].
inline constexpr range<iova> interrupt_range{iova{0xFEE0'0000}, 0x10'0000};

/// errc::reserved_address with the first bad address where input or output touches the interrupt
/// range: the unit blocks what would leave it there.
[[nodiscard]] constexpr result<void> check_interrupt_range(range<iova> input, hpa output) {
    if (input.overlaps(interrupt_range)) {
        return error{errc::reserved_address, input.intersection(interrupt_range).first().raw};
    }
    const range<hpa> interrupts{hpa{interrupt_range.first().raw}, interrupt_range.size()};
    const range<hpa> reached{output, input.size()};
    if (reached.overlaps(interrupts)) {
        return error{errc::reserved_address, reached.intersection(interrupts).first().raw};
    }
    return {};
}

} // namespace pt::vtd
