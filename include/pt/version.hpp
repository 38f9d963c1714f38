// SPDX-License-Identifier: BSL-1.0
#pragma once

// The only place that states the version; CMake reads these three lines.
#define PT_VERSION_MAJOR 0
#define PT_VERSION_MINOR 1
#define PT_VERSION_PATCH 0

namespace pt {

/// The version as one ordered number: major * 10000 + minor * 100 + patch.
inline constexpr int version = PT_VERSION_MAJOR * 10000 + PT_VERSION_MINOR * 100 + PT_VERSION_PATCH;

} // namespace pt
