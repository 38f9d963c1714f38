// SPDX-License-Identifier: BSL-1.0
//
// Interrupts of the host that arrive while a guest is on its processor: what both freestanding
// worlds tell their loop, one by one.
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>

namespace vmm::host_interrupts {

/// Takes those that wait in the local APIC. They are in service from then on.
void collect();
/// The same, and waits until there is one or about so many nanoseconds have passed.
void wait(std::uint64_t nanoseconds);
/// Forgets the one with the highest priority of those collected, and gives its vector.
/// errc::absent: there is none.
pt::result<std::uint8_t> next();

} // namespace vmm::host_interrupts
