// SPDX-License-Identifier: BSL-1.0
// The posted-interrupt descriptor bit by bit, as the processor and VT-d read it, and who is a timer_clock.

#include "pt/core/archetype.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/posted_interrupt_descriptor.hpp"
#include "pt/lapic/timer.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::lapic;
using control = posted_interrupt_control;

// [sdm, Format of Posted-Interrupt Descriptor] [vt-d, Posted Interrupt Descriptor]: 64 bytes; PIR 255:0,
// ON 256, SN 257, NV 279:272, NDST 319:288.
static_assert(sizeof(posted_interrupt_descriptor) == 64);
static_assert(alignof(posted_interrupt_descriptor) == 64);
static_assert(offsetof(posted_interrupt_descriptor, requests) == 0);
static_assert(offsetof(posted_interrupt_descriptor, control_word) * 8 == 256);
static_assert(control::outstanding_notification.mask == std::uint64_t{1} << (256 - 256));
static_assert(control::suppress_notification.mask == std::uint64_t{1} << (257 - 256));
static_assert(control::notification_vector.mask == std::uint64_t{0xFF} << (272 - 256));
static_assert(control::notification_destination.mask == std::uint64_t{0xFFFF'FFFF} << (288 - 256));

// Vector v is bit v of PIR.
constexpr bool posts_bit(std::uint8_t vector) {
    posted_interrupt_descriptor descriptor;
    (void)descriptor.post(vector);
    for (unsigned bit = 0; bit < 256; ++bit) {
        if (((descriptor.requests[bit / 64] >> (bit % 64)) & 1) != (bit == vector ? 1U : 0U)) {
            return false;
        }
    }
    return true;
}
static_assert(posts_bit(0) && posts_bit(31) && posts_bit(32) && posts_bit(63) && posts_bit(64) &&
              posts_bit(0x80) && posts_bit(0xFF));

// NDST: xAPIC ids in bits 15:8 of it, bits 47:40 of the qword; x2APIC ids whole.
constexpr std::uint64_t control_after(notification_target to) {
    posted_interrupt_descriptor descriptor;
    return descriptor.retarget(to) ? 0 : descriptor.control_word;
}
static_assert(control_after(notification_target::xapic(0xAB, 0xF2)) == 0x0000'AB00'00F2'0000);
static_assert(control_after(notification_target::x2apic(0x1234'56AB, 0xF2)) ==
              0x1234'56AB'00F2'0000);

// An inbox can stand where a descriptor's address is asked for, and cache lines of other memory are not
// shared with it.
static_assert(offsetof(inbox, posted) == 0 && alignof(inbox) == 64 && sizeof(inbox) % 64 == 0);
static_assert(std::is_trivially_copyable_v<inbox> && std::is_trivially_copyable_v<timer>);

// Near misses of a timer_clock.
struct both {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct no_tsc {
    std::uint64_t ticks() { return 0; }
};
struct narrow {
    std::uint32_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct pinned : both {
    pinned() = default;
    pinned(const pinned&) = delete;
};
static_assert(timer_clock<both> && !timer_clock<no_tsc> && !timer_clock<narrow>);
static_assert(!timer_clock<pinned> && !timer_clock<int> && !timer_clock<pt::archetype::clock>);

} // namespace
