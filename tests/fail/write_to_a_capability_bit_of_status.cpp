// SPDX-License-Identifier: BSL-1.0
// expect: software cannot write this field
#include "pt/pci/header.hpp"

using pt::pci::status;

#ifdef PT_FAIL
constexpr status changed{status::capabilities_list(true)};
#else
constexpr status changed{status::detected_parity_error(true)};
#endif
