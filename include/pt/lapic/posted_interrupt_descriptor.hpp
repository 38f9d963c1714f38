// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"
#include "pt/core/reg.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// Posted interrupts: a cache line through which VT-d hardware, other processors and the processor that
/// runs the guest hand over vectors [sdm, Posted-Interrupt Processing] [vt-d, Interrupt Posting].
namespace pt::lapic {

/// Whether the virtual processor must be told: made leave the guest or wake, or be sent the
/// notification vector.
enum class [[nodiscard]] notification : std::uint8_t{
    not_needed, ///< it has been told, and has not looked since
    /// A vector was posted: with "process posted interrupts" the notification vector is enough, which a
    /// processor in the guest takes without an exit. Otherwise as by_exit.
    by_vector,
    /// It must leave the guest, or wake, and look: what came is not in the descriptor.
    by_exit,
};

/// Bits 319:256 of the descriptor. The others must be 0 [vt-d].
struct posted_interrupt_control : reg<posted_interrupt_control, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t> notification_destination{}; ///< NDST
    static constexpr bits<23, 16, std::uint8_t>  notification_vector{};      ///< NV
    static constexpr bits< 1,  1, bool>          suppress_notification{};    ///< SN
    static constexpr bits< 0,  0, bool>          outstanding_notification{}; ///< ON
    // clang-format on
    static constexpr field_list fields{notification_destination, notification_vector,
                                       suppress_notification, outstanding_notification};
};

/// Where notifications go: NV and NDST, physical and to one processor.
struct notification_target {
    std::uint8_t vector = 0;       ///< on the host
    std::uint32_t destination = 0; ///< as NDST has it

    /// The processor with that id, on a host in xAPIC mode: NDST has the id in bits 15:8.
    static constexpr notification_target xapic(std::uint8_t apic_id, std::uint8_t vector) {
        return {vector, std::uint32_t{apic_id} << 8};
    }
    /// The processor with that id, on a host in x2APIC mode.
    static constexpr notification_target x2apic(std::uint32_t apic_id, std::uint8_t vector) {
        return {vector, apic_id};
    }

    friend constexpr bool operator==(const notification_target&,
                                     const notification_target&) = default;
};

/// Vectors that were posted: bit v % 64 of word v / 64. A device may post 0..15, which are no
/// interrupts [sdm]; they are here too, and the local APIC has to report them.
struct posted_vectors {
    std::uint64_t words[4]{};

    [[nodiscard]] constexpr bool contains(std::uint8_t vector) const {
        return ((words[vector / 64] >> (vector % 64)) & 1) != 0;
    }
    [[nodiscard]] constexpr bool empty() const {
        return (words[0] | words[1] | words[2] | words[3]) == 0;
    }

    friend constexpr bool operator==(const posted_vectors&, const posted_vectors&) = default;
};

/// The descriptor of one virtual processor. Anybody may post, at any time; the owner (whoever runs the
/// virtual processor: one CPU at a time) harvests, suppresses and retargets. All steps are atomic
/// operations on one word, none waits for another CPU.
///
/// A poster sets the vector (P1), then looks at ON and SN and, if neither is set, sets ON, in one step
/// (P2), and notifies. The owner clears ON (H1), then takes the vectors (H2). Each step is a full
/// barrier. Why no vector stays behind without somebody being told:
///  - P2 finds ON set: H1 comes later, so H2 comes after P1 and takes the vector; whoever set ON told
///    the owner to harvest.
///  - P2 finds SN set: unsuppress() clears SN later and looks at the vectors after that, so it finds
///    what P1 set.
///  - P2 sets ON: this poster tells the owner. The vector may be gone by then (H2 between P1 and P2):
///    a notification for nothing, which is harmless. ON is set and the next harvest clears it.
/// In the other order, vectors before ON, a vector that is posted between the two steps would wait
/// with ON clear and nobody told (the poster saw ON set). No vector is taken twice: exchange empties
/// the word that it reads.
struct alignas(64) posted_interrupt_descriptor {
    std::uint64_t requests[4]{};  ///< PIR, bits 255:0
    std::uint64_t control_word{}; ///< bits 319:256, a posted_interrupt_control
    std::uint64_t reserved_320[3]{};

    /// Requests a vector as VT-d does for an interrupt that is not urgent. by_vector: it is for the
    /// caller to notify, and for nobody else until the next harvest.
    constexpr notification post(std::uint8_t vector);

    /// The second half of post() alone: after requests were set in some other way.
    constexpr notification notify();

    /// Owner: takes all vectors that were posted. Those whose post() began later stay for the next time.
    [[nodiscard]] constexpr posted_vectors harvest();

    /// Owner: whether harvest() has to look: ON is set, or SN is, under which ON says nothing. One load.
    /// No: a vector that is here belongs to a post() that has not returned yet.
    [[nodiscard]] constexpr bool may_hold_vectors() const;

    /// Owner: no notifications from now on (SN), e.g. because the virtual processor waits for a CPU.
    /// One may still be on its way. An urgent interrupt [vt-d] notifies all the same.
    constexpr void suppress();

    /// Owner: notifications again. True: something was posted meanwhile without one; it must be
    /// harvested before the virtual processor enters the guest or sleeps. ON is set then.
    [[nodiscard]] constexpr bool unsuppress();

    /// Owner: notifications go there from now on; vectors, ON and SN stay. True: ON is set, so one may
    /// have gone to the old place, and no other will be sent to the new one: harvest before the
    /// virtual processor enters the guest or sleeps.
    [[nodiscard]] constexpr bool retarget(notification_target to);

    /// NV and NDST as they are now.
    [[nodiscard]] constexpr notification_target target() const;

    /// The control word as it is now.
    [[nodiscard]] constexpr posted_interrupt_control control() const {
        return posted_interrupt_control{atomic::load(&control_word)};
    }
};

static_assert(sizeof(posted_interrupt_descriptor) == 64);
static_assert(std::is_standard_layout_v<posted_interrupt_descriptor> &&
              std::is_trivially_copyable_v<posted_interrupt_descriptor>);
static_assert(offsetof(posted_interrupt_descriptor, control_word) == 256 / 8);

constexpr notification posted_interrupt_descriptor::post(std::uint8_t vector) {
    atomic::fetch_or(&requests[vector / 64], std::uint64_t{1} << (vector % 64));
    return notify();
}

constexpr notification posted_interrupt_descriptor::notify() {
    using control = posted_interrupt_control;
    constexpr std::uint64_t told =
        control::outstanding_notification.mask | control::suppress_notification.mask;
    // Each turn of the loop means that another CPU got something done, and most end it.
    std::uint64_t now = atomic::load(&control_word);
    while ((now & told) == 0) {
        if (atomic::compare_exchange(&control_word, now,
                                     now | control::outstanding_notification.mask)) {
            return notification::by_vector;
        }
    }
    return notification::not_needed;
}

constexpr posted_vectors posted_interrupt_descriptor::harvest() {
    atomic::fetch_and(&control_word, ~posted_interrupt_control::outstanding_notification.mask);
    posted_vectors taken;
    for (std::size_t i = 0; i < 4; ++i) {
        // Most words are empty, and to look is cheaper than to exchange.
        if (atomic::load(&requests[i]) != 0) {
            taken.words[i] = atomic::exchange(&requests[i], std::uint64_t{0});
        }
    }
    return taken;
}

constexpr bool posted_interrupt_descriptor::may_hold_vectors() const {
    using control = posted_interrupt_control;
    return (atomic::load(&control_word) &
            (control::outstanding_notification.mask | control::suppress_notification.mask)) != 0;
}

constexpr void posted_interrupt_descriptor::suppress() {
    atomic::fetch_or(&control_word, posted_interrupt_control::suppress_notification.mask);
}

constexpr bool posted_interrupt_descriptor::unsuppress() {
    using control = posted_interrupt_control;
    const std::uint64_t before =
        atomic::fetch_and(&control_word, ~control::suppress_notification.mask);
    std::uint64_t waiting = 0;
    for (const std::uint64_t& word : requests) {
        waiting |= atomic::load(&word);
    }
    if (waiting != 0) {
        atomic::fetch_or(&control_word, control::outstanding_notification.mask);
        return true;
    }
    return (before & control::outstanding_notification.mask) != 0;
}

constexpr bool posted_interrupt_descriptor::retarget(notification_target to) {
    using control = posted_interrupt_control;
    std::uint64_t now = atomic::load(&control_word);
    while (!atomic::compare_exchange(&control_word, now,
                                     control{now}
                                         .with(control::notification_vector(to.vector),
                                               control::notification_destination(to.destination))
                                         .raw)) {}
    return control{now}[control::outstanding_notification];
}

constexpr notification_target posted_interrupt_descriptor::target() const {
    const posted_interrupt_control now = control();
    return {now[posted_interrupt_control::notification_vector],
            now[posted_interrupt_control::notification_destination]};
}

} // namespace pt::lapic
