// SPDX-License-Identifier: BSL-1.0
#include "pt/memory/arena.hpp"

namespace {

using pt::frame_contents;
using pt::hpa;

constexpr bool frames_are_given_once_and_again() {
    pt::arena<3> arena{hpa{0x10'0000}};
    auto memory = arena.memory();
    const hpa a = *memory.allocate(frame_contents::any);
    const hpa b = *memory.allocate(frame_contents::zeroed);
    const hpa c = *memory.allocate(frame_contents::any);
    bool good = a == hpa{0x10'0000} && b == hpa{0x10'1000} && c == hpa{0x10'2000};
    good = good && arena.free_frames() == 0;
    good = good && memory.allocate(frame_contents::any).error().code == pt::errc::out_of_frames;
    memory.entries(b)[511] = 7;
    memory.release(b);
    good = good && arena.free_frames() == 1;
    good = good && memory.allocate(frame_contents::any) == b && memory.entries(b)[511] == 7;
    memory.release(b);
    good = good && memory.allocate(frame_contents::zeroed) == b && memory.entries(b)[511] == 0;
    // Distinct frames are distinct memory, and a copy of the policy speaks of the same frames.
    memory.entries(a)[0] = 1;
    memory.entries(c)[0] = 2;
    auto copy = memory;
    good = good && copy.entries(a)[0] == 1 && copy.entries(c)[0] == 2;
    copy.release(a);
    return good && arena.free_frames() == 1;
}
static_assert(frames_are_given_once_and_again());

constexpr bool the_lowest_come_first_and_the_last_returned_again_first() {
    pt::arena<5> arena;
    auto memory = arena.memory();
    const auto next = [&memory] { return memory.allocate(frame_contents::any)->raw / 0x1000; };
    bool good = next() == 0 && next() == 1 && next() == 2 && arena.free_frames() == 2;
    memory.release(hpa{0x2000});
    memory.release(hpa{0x0000});
    good = good && arena.free_frames() == 4;
    // Frames that were in use before those that never were, as they lie in the caches.
    good = good && next() == 0 && next() == 2 && next() == 3 && next() == 4;
    good = good && arena.free_frames() == 0 && !memory.allocate(frame_contents::any);
    for (const std::uint64_t i : {3U, 1U, 4U, 0U, 2U}) {
        memory.release(hpa{i * 0x1000});
    }
    good = good && arena.free_frames() == 5;
    good = good && next() == 2 && next() == 0 && next() == 4 && next() == 1 && next() == 3;
    return good && !memory.allocate(frame_contents::any);
}
static_assert(the_lowest_come_first_and_the_last_returned_again_first());
static_assert(alignof(pt::arena<1>) == 4096);

} // namespace
