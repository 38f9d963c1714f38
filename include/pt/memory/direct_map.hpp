// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt {

/// A kernel that runs with physical memory mapped one to one.
struct identity_map {
    [[nodiscard]] std::uint64_t* pointer(hpa frame) const {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): that is what a direct map is
        return reinterpret_cast<std::uint64_t*>(static_cast<std::uintptr_t>(frame.raw));
    }
};

/// A kernel that maps physical memory at a constant distance: virtual = hpa + offset.
struct offset_map {
    std::uint64_t offset;

    [[nodiscard]] std::uint64_t* pointer(hpa frame) const {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): that is what a direct map is
        return reinterpret_cast<std::uint64_t*>(static_cast<std::uintptr_t>(frame.raw + offset));
    }
};

/// How the VMM turns the address of a frame into a pointer.
template <class M>
concept frame_map = policy<M> && requires(const M& map, hpa frame) {
    { map.pointer(frame) } -> std::same_as<std::uint64_t*>;
};

/// A table_memory whose frames come from the VMM's frame_source and are reached by a direct map.
template <frame_source Source, frame_map Map>
class direct_map_memory {
public:
    constexpr direct_map_memory(Source source, Map map) : source_{source}, map_{map} {}

    result<hpa> allocate(frame_contents contents) {
        result<hpa> frame = source_.allocate();
        if (frame && contents == frame_contents::zeroed) {
            std::uint64_t* const table = map_.pointer(*frame);
            for (std::size_t i = 0; i < entries_per_table; ++i) {
                table[i] = 0;
            }
        }
        return frame;
    }
    void release(hpa frame) { source_.release(frame); }
    std::uint64_t* entries(hpa frame) { return map_.pointer(frame); }

private:
    [[no_unique_address]] Source source_;
    [[no_unique_address]] Map map_;
};

/// Table memory where a pointer is the hpa itself.
template <frame_source Source>
class identity_memory : public direct_map_memory<Source, identity_map> {
public:
    explicit constexpr identity_memory(Source source)
        : direct_map_memory<Source, identity_map>{source, identity_map{}} {}
};

/// Table memory where a pointer is the hpa plus `offset`.
template <frame_source Source>
class offset_memory : public direct_map_memory<Source, offset_map> {
public:
    constexpr offset_memory(Source source, std::uint64_t offset)
        : direct_map_memory<Source, offset_map>{source, offset_map{offset}} {}
};

} // namespace pt
