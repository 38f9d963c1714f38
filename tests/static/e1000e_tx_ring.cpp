// SPDX-License-Identifier: BSL-1.0
// The ring uses nothing of its policies beyond their concepts, and an empty policy costs nothing.
#include "pt/e1000e/tx_ring.hpp"

#include "pt/core/archetype.hpp"

#include <type_traits>

namespace {

using archetypal =
    pt::e1000e::tx_ring<pt::archetype::mmio_io, pt::archetype::dma_memory, pt::archetype::barrier>;
static_assert(sizeof(archetypal) == sizeof(void*) + sizeof(pt::iova) + 6 * sizeof(std::uint32_t));
static_assert(!std::is_copy_constructible_v<archetypal> && !std::is_copy_assignable_v<archetypal>);

// The archetype of MMIO reads all ones, as an absent device does.
constexpr bool an_absent_device_is_absent() {
    pt::e1000e::tx_slot slots[8];
    archetypal ring{{}, {}, {}, pt::iova{0}, slots, 8};
    const auto ignore = [](std::uint64_t) {};
    return ring.start() == pt::error{pt::errc::absent, 0x400} &&
           ring.send({{pt::iova{0}, 60}}, 1) == pt::error{pt::errc::busy, 0} &&
           ring.enqueue({{pt::iova{0}, 60}}, 1) == pt::error{pt::errc::busy, 0} &&
           ring.reclaim(ignore) == 0 && ring.abandon(ignore) == 0 && !ring.head() && !ring.stop() &&
           (ring.advance_tail(), ring.tail() == 0);
}
static_assert(an_absent_device_is_absent());

} // namespace
