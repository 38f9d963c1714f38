// SPDX-License-Identifier: BSL-1.0
// expect: guest_physical_space.*host_physical_space
// A table entry takes a host-physical address; what the guest calls physical is not one.
#include "pt/core/address.hpp"

constexpr pt::hpa table_entry(pt::hpa frame) { return frame; }

#ifdef PT_FAIL
constexpr pt::hpa entry = table_entry(pt::gpa{0x1000});
#else
constexpr pt::hpa entry = table_entry(pt::hpa{0x1000});
#endif
static_assert(entry == pt::hpa{0x1000});
