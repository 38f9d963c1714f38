// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include "../flavours/row.hpp"

#include <cstdint>

namespace bench {

/// Gives out the frames of a region: one that came back, or the next one that was never given out. It
/// is as cheap as an allocator can be, for the engine and for the floors alike. Two of them share
/// no cache line.
class alignas(128) pool {
public:
    explicit pool(const region& all) : pool{all, 0, all.frames} {}
    /// A part of the region.
    pool(const region& all, std::size_t first, std::size_t frames)
        : next_{reinterpret_cast<std::uintptr_t>(all.entries + first * pt::entries_per_table)},
          end_{next_ + frames * 4 * pt::KiB},
          bottom_{all.returned + first},
          top_{bottom_} {}
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;

    pt::result<pt::hpa> allocate() {
        if (top_ != bottom_) {
            return pt::hpa{*--top_};
        }
        if (next_ == end_) {
            return pt::error{pt::errc::out_of_frames};
        }
        const pt::hpa frame{next_};
        next_ += 4 * pt::KiB;
        return frame;
    }
    void release(pt::hpa frame) { *top_++ = frame.raw; }

    /// Where the next frame comes from; all that were given out by then stay out.
    [[nodiscard]] std::uint64_t mark() const { return next_; }
    /// Gives out the same frames in the same order as after mark(), as a floor does, which has no
    /// allocator. False unless all of them came back.
    bool rewind(std::uint64_t mark) {
        const bool all =
            static_cast<std::uint64_t>(top_ - bottom_) == (next_ - mark) / (4 * pt::KiB);
        next_ = mark;
        top_ = bottom_;
        return all;
    }
    /// Whether a frame of the region is in this part of it or in one before.
    [[nodiscard]] bool is_before_end(pt::hpa frame) const { return frame.raw < end_; }

private:
    std::uint64_t next_;
    std::uint64_t end_;
    std::uint64_t* bottom_; ///< the frames that came back: a stack
    std::uint64_t* top_;
};

/// A host that reaches each frame at its own address.
inline std::uint64_t* entries_of(std::uint64_t frame) {
    return reinterpret_cast<std::uint64_t*>(static_cast<std::uintptr_t>(frame));
}

/// The engine's table_memory over a pool.
struct pool_memory {
    pool* owner;

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        const pt::result<pt::hpa> frame = owner->allocate();
        if (frame && contents == pt::frame_contents::zeroed) {
            std::uint64_t* const entries = entries_of(frame->raw);
            for (std::size_t i = 0; i < pt::entries_per_table; ++i) {
                entries[i] = 0;
            }
        }
        return frame;
    }
    void release(pt::hpa frame) { owner->release(frame); }
    std::uint64_t* entries(pt::hpa frame) { return entries_of(frame.raw); }
};
static_assert(pt::table_memory<pool_memory>);

} // namespace bench
