// SPDX-License-Identifier: BSL-1.0
#include "row.hpp"

namespace bench {

#ifdef __SSE2__
const char* const flavour = "native";
#else
const char* const flavour = "general"; // -mgeneral-regs-only
#endif

} // namespace bench
