// SPDX-License-Identifier: BSL-1.0
//
// The guest's own memory, and a window to all of the physical address space.
#pragma once

#include "../../kernel/multiboot.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"

#include <cstdint>

namespace guest {

/// Takes what the loader tells of memory, and tells it.
void start_memory(const kernel::multiboot_information& loaded);
/// Where the RAM ends that begins at 1 MiB.
pt::gpa end_of_ram();
/// Whether the loader says that there is RAM.
bool is_ram(pt::gpa place);

/// MAXPHYADDR.
unsigned physical_width();

/// Maps the 2 MiB around a physical address and the 2 MiB behind them, uncacheable; gives a pointer
/// to the address. The last window is gone then.
void* window_to(std::uint64_t physical);

/// The end of a page of the guest's own, mapped once more so that nothing is mapped behind it: the
/// pointer is to the first byte that faults. `page` is aligned to 4 KiB.
std::uint8_t* unmapped_behind(const void* page);

/// A physical address that the guest owns, by a pointer: all of its memory is mapped one to one.
inline std::uint64_t address_of(const volatile void* memory) {
    return reinterpret_cast<std::uintptr_t>(memory);
}

/// Fills an area with a pattern, and sums up the program's code; intact() says whether both are as
/// they were.
void guard_memory();
bool memory_is_intact();

/// 256 KiB, aligned to as much, of that area: what an attack may put a BAR over, or a BAR's size of
/// it.
pt::range<pt::gpa> guarded_area();

} // namespace guest
