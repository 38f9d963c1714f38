// SPDX-License-Identifier: BSL-1.0
// expect: software cannot write this field
// The length of a received packet is the hardware's to say.
#include "pt/e1000e/rx_descriptor.hpp"

using status = pt::e1000e::legacy_rx_status;
#ifdef PT_FAIL
constexpr status made{status::length(60)};
#else
constexpr status made = status::reported(status::length(60));
#endif
static_assert(made[status::length] == 60);
