// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

namespace paging_model {

/// What an unused frame is full of: present in every format, and misconfigured in every format. An
/// entry that the engine forgot to write, or a walk into a freed table, cannot go unnoticed.
inline constexpr std::uint64_t poison = ~std::uint64_t{0};

/// Table frames in pages of their own, with what a test wants to know and to spoil: how many are in
/// use, whether each is released once, and an allocation that fails on demand.
class frames {
public:
    explicit frames(std::size_t count, std::uint64_t base = 0x7'4000'0000)
        : base_{base}, count_{count}, used_(count, false) {
        void* const region =
            mmap(nullptr, count * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (region == MAP_FAILED) {
            std::abort();
        }
        region_ = static_cast<std::uint64_t*>(region);
        for (std::size_t i = 0; i < count * 512; ++i) {
            region_[i] = poison;
        }
        for (std::size_t i = count; i != 0; --i) {
            free_.push_back((i - 1) * stride % count); // neighbours in time are none in memory
        }
    }
    frames(const frames&) = delete;
    frames& operator=(const frames&) = delete;
    ~frames() { munmap(region_, count_ * 4096); }

    [[nodiscard]] std::size_t in_use() const { return count_ - free_.size(); }
    [[nodiscard]] std::size_t free_frames() const { return free_.size(); }
    [[nodiscard]] std::uint64_t* region() const { return region_; }
    [[nodiscard]] std::size_t region_bytes() const { return count_ * 4096; }
    [[nodiscard]] bool is_used(std::uint64_t frame) const { return used_[index(frame)]; }
    [[nodiscard]] std::uint64_t frame_at(std::size_t i) const { return base_ + i * 4096; }

    /// The entry as hardware reads it: any frame of the region, used or not; null outside.
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        if (frame < base_ || frame - base_ >= count_ * 4096 || frame % 4096 != 0) {
            return nullptr;
        }
        return region_ + (frame - base_) / 8 + i;
    }

    /// The allocation after `successes` more ones fails, and so do all that follow.
    void fail_after(std::size_t successes) { left_ = successes; }
    void never_fail() { left_ = ~std::size_t{0}; }
    [[nodiscard]] std::size_t allocations() const { return allocations_; }

private:
    friend struct frames_memory;
    static constexpr std::size_t stride = 7919; // prime, and no divisor of the counts used here

    [[nodiscard]] std::size_t index(std::uint64_t frame) const {
        if (read(frame, 0) == nullptr) {
            std::abort(); // a frame that was never given out
        }
        return static_cast<std::size_t>((frame - base_) / 4096);
    }

    std::uint64_t base_;
    std::size_t count_;
    std::uint64_t* region_ = nullptr;
    std::vector<bool> used_;
    std::vector<std::size_t> free_;
    std::size_t left_ = ~std::size_t{0};
    std::size_t allocations_ = 0;
};

/// The table_memory over `frames`.
struct frames_memory {
    frames* owner;

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        if (owner->left_ == 0 || owner->free_.empty()) {
            return pt::error{pt::errc::out_of_frames};
        }
        owner->left_ -= owner->left_ != ~std::size_t{0} ? 1 : 0;
        ++owner->allocations_;
        const std::size_t i = owner->free_.back();
        owner->free_.pop_back();
        owner->used_[i] = true;
        if (contents == pt::frame_contents::zeroed) {
            for (std::size_t entry = 0; entry < 512; ++entry) {
                owner->region_[i * 512 + entry] = 0;
            }
        }
        return pt::hpa{owner->frame_at(i)};
    }
    void release(pt::hpa frame) {
        const std::size_t i = owner->index(frame.raw);
        if (!owner->used_[i]) {
            std::abort(); // released twice
        }
        owner->used_[i] = false;
        owner->free_.push_back(i);
        for (std::size_t entry = 0; entry < 512; ++entry) {
            owner->region_[i * 512 + entry] = poison;
        }
    }
    std::uint64_t* entries(pt::hpa frame) {
        const std::size_t i = owner->index(frame.raw);
        if (!owner->used_[i]) {
            std::abort(); // the engine looks into a frame that it gave back
        }
        return owner->region_ + i * 512;
    }
};
static_assert(pt::table_memory<frames_memory>);

} // namespace paging_model
