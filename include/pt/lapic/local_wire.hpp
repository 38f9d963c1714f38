// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::lapic {

/// The two interrupt pins.
enum class local_wire : std::uint8_t { lint0, lint1 };
/// A wire has no polarity: asserted is asserted, whatever the guest wrote into the LVT's polarity bit.
enum class wire_level : std::uint8_t { deasserted, asserted };

} // namespace pt::lapic
