// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::lapic {

/// What the local APIC's timer counts, bits 18:17 of its LVT entry [sdm, APIC Timer]. 3 is reserved, and
/// a guest can write it: such a timer does nothing.
enum class timer_mode : std::uint8_t { one_shot = 0, periodic = 1, tsc_deadline = 2 };

} // namespace pt::lapic
