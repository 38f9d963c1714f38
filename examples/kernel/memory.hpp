// SPDX-License-Identifier: BSL-1.0
//
// Frames of physical memory.
#pragma once

#include "mmio.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"

#include <cstdint>

namespace kernel {

using frames = pt::frame_pool<pt::identity_map>;
/// table_memory, by value.
using memory_policy = pt::identity_memory<pt::pool_frames<pt::identity_map>>;

/// Which RAM is to be handed out: in frames of 4 KiB, and in large ones of 2 MiB. The program knows
/// where it lies itself, and what firmware and the loader have put where. Once, before all else
/// here.
void start_memory(pt::range<pt::hpa> small, pt::range<pt::hpa> large);

/// Where frames come from: to count those that are free.
frames& all_frames();
inline memory_policy memory() { return memory_policy{all_frames().source()}; }

/// A zeroed frame of 4 KiB, which nobody gives back.
pt::hpa take_frame();
/// How many frames those who may give them back have: all that are gone, but for take_frame()'s.
std::uint64_t frames_in_use();
/// 2 MiB of zeros, aligned to as much, which nobody gives back.
pt::hpa take_large_frame();

} // namespace kernel
