// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"

#include <cstddef>
#include <cstdint>

namespace pt {

/// The frames of an arena as a plain value: what a constant expression that built tables leaves
/// behind. It is whole frames and nothing else, so that a constant of this type in a section of its
/// own is what the hardware walks. Tables hold host-physical addresses: the image has to be loaded
/// where the base of the arena said.
template <std::size_t Frames>
struct table_image {
    static constexpr std::uint64_t size = Frames * 4 * KiB; ///< in bytes

    alignas(4096) std::uint64_t entries[Frames * entries_per_table];
};

} // namespace pt
