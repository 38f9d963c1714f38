// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <cstdint>

namespace pt::paging {

/// Frames that an operation allocates before it changes anything, so that it cannot fail half way.
/// They are chained through their own first words.
template <table_memory Memory>
class spare_frames {
public:
    explicit constexpr spare_frames(Memory& memory) : memory_{memory} {}
    spare_frames(const spare_frames&) = delete;
    spare_frames& operator=(const spare_frames&) = delete;
    constexpr ~spare_frames() {
        expects(count_ == 0, "an operation took fewer tables than it needs");
    }

    /// Takes `count` more. errc::out_of_frames, and none at all is kept.
    constexpr result<void> reserve(std::uint64_t count) {
        for (; count != 0; --count) {
            const result<hpa> frame = memory_.allocate(frame_contents::any);
            if (!frame) {
                while (count_ != 0) {
                    memory_.release(take());
                }
                return frame.error();
            }
            put(*frame);
        }
        return {};
    }
    constexpr void put(hpa frame) {
        *memory_.entries(frame) = first_.raw;
        first_ = frame;
        ++count_;
    }
    constexpr hpa take() {
        expects(count_ != 0, "an operation needs more tables than it reserved");
        const hpa frame = first_;
        first_ = hpa{*memory_.entries(frame)};
        --count_;
        return frame;
    }

private:
    Memory& memory_;
    hpa first_{};
    std::uint64_t count_ = 0;
};

} // namespace pt::paging
