// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/memory/direct_map.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// Reads memory that holds translation tables of unknown origin. entries(frame) gives the 512
/// entries of a frame, or null where there is no such memory; it is asked for any number that is a
/// multiple of 4 KiB, because the numbers come out of the tables.
template <class R>
concept table_reader = policy<R> && requires(R& reader, hpa frame) {
    { reader.entries(frame) } -> std::same_as<const std::uint64_t*>;
};

/// Reads an image of the memory `frames`, e.g. one segment of a dump. Frames that are not wholly in
/// it, or do not lie at a multiple of 8 bytes in it, cannot be read.
class image_reader {
public:
    /// `image` is where the first byte of `frames` is found.
    constexpr image_reader(range<hpa> frames, const std::uint64_t* image)
        : frames_{frames}, image_{image} {}

    [[nodiscard]] constexpr const std::uint64_t* entries(hpa frame) const {
        const std::uint64_t offset = frame - frames_.first();
        if (!frame.is_aligned(4 * KiB) || !frames_.contains(range{frame, 4 * KiB}) ||
            offset % sizeof(std::uint64_t) != 0) {
            return nullptr;
        }
        return image_ + static_cast<std::size_t>(offset / sizeof(std::uint64_t));
    }

private:
    range<hpa> frames_;
    const std::uint64_t* image_;
};
static_assert(table_reader<image_reader>);

/// Reads live memory through the VMM's direct map, and only in `memory`: a kernel names memory
/// here, never registers of a device.
template <frame_map Map>
class direct_map_reader {
public:
    constexpr direct_map_reader(range<hpa> memory, Map map) : memory_{memory}, map_{map} {}

    [[nodiscard]] const std::uint64_t* entries(hpa frame) const {
        const bool inside = frame.is_aligned(4 * KiB) && memory_.contains(range{frame, 4 * KiB});
        return inside ? map_.pointer(frame) : nullptr;
    }

private:
    range<hpa> memory_;
    [[no_unique_address]] Map map_;
};
static_assert(table_reader<direct_map_reader<identity_map>>);

} // namespace pt::paging
