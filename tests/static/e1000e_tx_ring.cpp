// SPDX-License-Identifier: BSL-1.0
// The ring uses nothing of its policies beyond their concepts, and an empty policy costs nothing.
#include "pt/e1000e/tx_ring.hpp"

#include "pt/core/archetype.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/ring_flush.hpp"
#include "pt/e1000e/tx_watch.hpp"

#include <type_traits>

namespace {

using archetypal =
    pt::e1000e::tx_ring<pt::archetype::mmio_io, pt::archetype::dma_memory, pt::archetype::barrier>;
// Three policies that are a pointer each are the whole difference.
struct far_mmio : pt::archetype::mmio_io {
    void* device;
};
struct far_memory : pt::archetype::dma_memory {
    void* ring;
};
struct far_barrier : pt::archetype::barrier {
    void* order;
};
static_assert(sizeof(pt::e1000e::tx_ring<far_mmio, far_memory, far_barrier>) ==
              sizeof(archetypal) + 3 * sizeof(void*));
static_assert(!std::is_copy_constructible_v<archetypal> && !std::is_copy_assignable_v<archetypal>);

// The ring is what the watch and the recovery ask for.
using take = void (*)(std::uint64_t);
static_assert(pt::e1000e::watchable_ring<archetypal>);
static_assert(pt::e1000e::recoverable_ring<archetypal, take>);
static_assert(!pt::e1000e::watchable_ring<take> && !pt::e1000e::recoverable_ring<take, take>);

// The archetype of MMIO reads all ones, as an absent device does.
constexpr bool an_absent_device_is_absent() {
    pt::e1000e::tx_slot slots[8];
    archetypal ring{{}, {}, {}, pt::iova{0}, slots, 8};
    const auto ignore = [](std::uint64_t) {};
    return ring.start() == pt::error{pt::errc::absent, 0x400} &&
           ring.send({{pt::iova{64}, 60}}, 1) == pt::error{pt::errc::busy, 0} &&
           ring.enqueue({{pt::iova{64}, 60}}, 1) == pt::error{pt::errc::busy, 0} &&
           ring.reclaim(ignore) == 0 && ring.abandon(ignore) == 0 && !ring.head() && !ring.stop() &&
           (ring.advance_tail(), ring.tail() == 0);
}
static_assert(an_absent_device_is_absent());

constexpr bool an_absent_device_is_found_out() {
    namespace e1000e = pt::e1000e;
    e1000e::tx_slot slots[8];
    archetypal ring{{}, {}, {}, pt::iova{0}, slots, 8};
    e1000e::tx_watch watch{pt::archetype::clock{}};
    const auto ignore = [](std::uint64_t) {};
    const pt::error gone{pt::errc::absent, 0x8};
    const auto recovered = e1000e::recover(ring, pt::archetype::clock{}, ignore);
    const auto flushed = e1000e::flush_rings(pt::archetype::mmio_io{}, pt::archetype::dma_memory{},
                                             pt::archetype::barrier{}, pt::archetype::clock{}, {},
                                             [] { return std::uint16_t{0}; });
    return watch.look(ring) == e1000e::tx_motion::idle &&
           watch.diagnose(ring).trouble == e1000e::tx_trouble::absent && !recovered &&
           recovered.error() == gone && !flushed && flushed.error() == gone;
}
static_assert(an_absent_device_is_found_out());

} // namespace
