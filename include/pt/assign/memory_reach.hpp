// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::assign {

/// Who reaches memory of a guest.
enum class memory_reach : std::uint8_t {
    processors_and_devices, ///< the guest's processors, and the functions that it has
    processors_only,        ///< its processors: no device reads or writes it
};

} // namespace pt::assign
