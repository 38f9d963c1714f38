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
static_assert(alignof(pt::arena<1>) == 4096);

} // namespace
