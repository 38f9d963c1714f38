// SPDX-License-Identifier: BSL-1.0
#include "memory.hpp"

#include "end.hpp"

#include <new>

namespace kernel {
namespace {

alignas(frames) std::byte place_of_frames[sizeof(frames)];
frames* all = nullptr;
std::uint64_t frames_at_start = 0;
std::uint64_t frames_for_good = 0;
pt::hpa next_large_frame{};
std::uint64_t large_frames_left = 0;

} // namespace

void start_memory(pt::range<pt::hpa> small, pt::range<pt::hpa> large) {
    all = new (place_of_frames) frames{small, {}};
    frames_at_start = all->free_frames();
    next_large_frame = large.first();
    large_frames_left = large.size() / (2 * pt::MiB);
}

frames& all_frames() {
    if (all == nullptr) {
        give_up("there is no memory before start_memory()");
    }
    return *all;
}

pt::hpa take_frame() {
    const pt::result<pt::hpa> frame = memory().allocate(pt::frame_contents::zeroed);
    if (!frame) {
        give_up("no frame is left");
    }
    ++frames_for_good;
    return *frame;
}

std::uint64_t frames_in_use() {
    return frames_at_start - all_frames().free_frames() - frames_for_good;
}

pt::hpa take_large_frame() {
    if (large_frames_left == 0) {
        give_up("no large frame is left");
    }
    const pt::hpa frame = next_large_frame;
    next_large_frame += 2 * pt::MiB;
    --large_frames_left;
    __builtin_memset(pointer_to<void>(frame), 0, 2 * pt::MiB);
    return frame;
}

} // namespace kernel
