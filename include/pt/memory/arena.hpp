// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/memory/table_image.hpp"

#include <cstddef>
#include <cstdint>

namespace pt {

template <std::size_t Frames>
class arena_memory;

/// `Frames` table frames inside one object, for tables of a known greatest size: no allocator, no
/// pointers from outside, and usable at compile time. Frame i has the host-physical address
/// base + i * 4096, so `base` must be where the object really lies if hardware is to walk it.
/// Tables use it through memory(), and it must outlive them.
template <std::size_t Frames>
class arena {
    static_assert(Frames > 0 && Frames < 0xFFFF'FFFF);

public:
    explicit constexpr arena(hpa base = hpa{0}) : base_{base} {
        expects(base.is_aligned(4 * KiB), "the base of an arena is the address of a frame");
    }
    arena(const arena&) = delete; // tables hold its address
    arena& operator=(const arena&) = delete;

    [[nodiscard]] constexpr arena_memory<Frames> memory() { return arena_memory<Frames>{*this}; }
    [[nodiscard]] constexpr std::size_t free_frames() const {
        return Frames - untouched_ + returned_count_;
    }

    /// A copy of all frames, which must be in use: an image has no room to spare. For tables that
    /// table::detach() gave up.
    [[nodiscard]] constexpr table_image<Frames> image() const {
        expects(free_frames() == 0, "the arena has more frames than the tables in its image need");
        table_image<Frames> copy{};
        std::uint64_t* to = copy.entries;
        for (const auto& table : tables_) {
            for (const std::uint64_t entry : table) {
                *to++ = entry;
            }
        }
        return copy;
    }

private:
    friend class arena_memory<Frames>;

    constexpr std::size_t index(hpa frame) const {
        const std::uint64_t offset = frame - base_;
        expects(frame >= base_ && offset % (4 * KiB) == 0 && offset / (4 * KiB) < Frames,
                "this frame is not one of the arena");
        const auto i = static_cast<std::size_t>(offset / (4 * KiB));
        expects(used_[i], "this frame of the arena is not allocated");
        return i;
    }

    alignas(4096) std::uint64_t tables_[Frames][entries_per_table]{};
    // All zero at first, so that an arena at base 0 takes no room in a kernel's image.
    std::uint32_t returned_[Frames]{}; ///< a stack of the frames that came back
    bool used_[Frames]{};
    std::size_t returned_count_ = 0;
    std::size_t untouched_ = 0; ///< the first frame that was never given out
    hpa base_;
};

/// The table_memory over an arena.
template <std::size_t Frames>
class arena_memory {
public:
    explicit constexpr arena_memory(arena<Frames>& owner) : arena_{&owner} {}

    constexpr result<hpa> allocate(frame_contents contents) {
        if (arena_->free_frames() == 0) {
            return error{errc::out_of_frames, Frames};
        }
        const std::size_t i = arena_->returned_count_ != 0
                                  ? arena_->returned_[--arena_->returned_count_]
                                  : arena_->untouched_++;
        arena_->used_[i] = true;
        if (contents == frame_contents::zeroed) {
            for (std::uint64_t& entry : arena_->tables_[i]) {
                entry = 0;
            }
        }
        return arena_->base_ + i * 4 * KiB;
    }
    constexpr void release(hpa frame) {
        const std::size_t i = arena_->index(frame);
        arena_->used_[i] = false;
        arena_->returned_[arena_->returned_count_++] = static_cast<std::uint32_t>(i);
    }
    constexpr std::uint64_t* entries(hpa frame) { return arena_->tables_[arena_->index(frame)]; }

private:
    arena<Frames>* arena_;
};

} // namespace pt
