// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/memory/direct_map.hpp"

#include <cstdint>

namespace pt {

template <frame_map Map>
class pool_frames;

/// Hands out the 4-KiB frames of one host-physical range, for a VMM that sets a region aside and has
/// no allocator yet. Frames that come back are chained through their own first word, so the pool
/// needs no memory besides. Tables use it through source(), and it must outlive them.
template <frame_map Map>
class frame_pool {
public:
    /// Frames that lie wholly inside `region` are given out; its ragged ends are not used.
    constexpr frame_pool(range<hpa> region, Map map) : map_{map} {
        if (region.empty()) {
            return;
        }
        const std::uint64_t ragged = (4 * KiB - region.first().offset_in(4 * KiB)) % (4 * KiB);
        if (ragged < region.size()) {
            next_ = region.first() + ragged;
            untouched_ = (region.size() - ragged) / (4 * KiB);
        }
    }
    frame_pool(const frame_pool&) = delete; // tables hold its address
    frame_pool& operator=(const frame_pool&) = delete;

    [[nodiscard]] constexpr pool_frames<Map> source() { return pool_frames<Map>{*this}; }
    [[nodiscard]] constexpr std::uint64_t free_frames() const { return untouched_ + returned_; }

private:
    friend class pool_frames<Map>;

    hpa next_{};                  // the first frame that was never given out
    std::uint64_t untouched_ = 0; // how many of those there are
    hpa head_{};                  // the frame that came back last
    std::uint64_t returned_ = 0;  // how many came back
    [[no_unique_address]] Map map_;
};

/// The frame_source over a pool.
template <frame_map Map>
class pool_frames {
public:
    explicit constexpr pool_frames(frame_pool<Map>& pool) : pool_{&pool} {}

    result<hpa> allocate() {
        if (pool_->returned_ != 0) {
            const hpa frame = pool_->head_;
            pool_->head_ = hpa{*pool_->map_.pointer(frame)};
            --pool_->returned_;
            return frame;
        }
        if (pool_->untouched_ == 0) {
            return error{errc::out_of_frames, 0};
        }
        const hpa frame = pool_->next_;
        --pool_->untouched_;
        pool_->next_ += 4 * KiB;
        return frame;
    }
    void release(hpa frame) {
        *pool_->map_.pointer(frame) = pool_->head_.raw;
        pool_->head_ = frame;
        ++pool_->returned_;
    }

private:
    frame_pool<Map>* pool_;
};

} // namespace pt
