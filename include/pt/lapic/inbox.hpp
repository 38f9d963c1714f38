// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"
#include "pt/core/reg.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/posted_interrupt_descriptor.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::lapic {

/// What has arrived beside edge-triggered vectors: one latch each, as in the hardware.
struct inbox_signals : reg<inbox_signals, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<15,  8, std::uint8_t> start_up_vector{};        ///< of the first start-up
    static constexpr bits< 6,  6, bool>         level_requests{};         ///< inbox::level holds vectors
    static constexpr bits< 5,  5, bool>         receive_illegal_vector{}; ///< for ESR
    static constexpr bits< 4,  4, bool>         extint{};
    static constexpr bits< 3,  3, bool>         start_up{}; ///< beside `init`: it came after the INIT
    static constexpr bits< 2,  2, bool>         init{};
    static constexpr bits< 1,  1, bool>         smi{};
    static constexpr bits< 0,  0, bool>         nmi{};
    // clang-format on
    static constexpr field_list fields{
        start_up_vector, level_requests, receive_illegal_vector, extint, start_up, init, smi, nmi};
};

/// By what a local APIC knows messages for it: one word, so that a sender sees all of it change or
/// nothing. The owner publishes it anew when one of these registers changes. 0 is a local APIC that is
/// hardware-disabled.
struct inbox_addressing : reg<inbox_addressing, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t> apic_id{};           ///< in xAPIC mode 8 bits
    static constexpr bits<23, 16, std::uint8_t>  logical_apic_id{};   ///< LDR 31:24 of xAPIC mode
    static constexpr bits< 7,  4, std::uint8_t>  destination_model{}; ///< DFR 31:28
    static constexpr bits< 2,  2, bool>          software_enabled{};  ///< SVR 8
    static constexpr bits< 1,  0, apic_mode>     mode{};
    // clang-format on
    static constexpr field_list fields{apic_id, logical_apic_id, destination_model,
                                       software_enabled, mode};

    /// Whether the destination of `sent`, not its shorthand, names this local APIC [sdm, Determining IPI
    /// Destination]. A destination of 8 bits names the first members of cluster 0 where this one is in
    /// x2APIC mode; one of 32 bits that does not fit 8 names nobody in xAPIC mode.
    [[nodiscard]] constexpr bool matches(const message& sent) const;

    /// Whether fixed and lowest-priority messages are accepted.
    [[nodiscard]] constexpr bool takes_vectors() const {
        return (*this)[mode] != apic_mode::disabled && (*this)[software_enabled];
    }
};

/// What harvest() found. Vectors 0..15 are no interrupts and not here; signals say that one came.
struct arrivals {
    posted_vectors edge{};
    posted_vectors level{};
    inbox_signals signals{};

    friend constexpr bool operator==(const arrivals&, const arrivals&) = default;
};

/// What others may touch of a virtual local APIC: any CPU posts messages, at any time and without a
/// lock; its owner, one CPU at a time, harvests. VT-d and the processor post to `posted` themselves.
///
/// Level-triggered vectors and signals have an outstanding notification of their own: `signals` is not
/// 0 (ON belongs to the descriptor, and the processor that takes a notification vector in the guest
/// clears it without looking here). A vector goes to `level` before its bit goes to `signals`, and the
/// owner takes `signals` before `level`: so each message is found by the harvest that its own
/// notification, or one before, has asked for; see posted_interrupt_descriptor.
struct alignas(64) inbox {
    posted_interrupt_descriptor posted{}; ///< edge-triggered vectors, at the inbox's own address
    std::uint64_t level[4]{};
    std::uint64_t signals{};             ///< an inbox_signals
    std::uint64_t addressing{};          ///< an inbox_addressing
    const register_page* page = nullptr; ///< its PPR is read by others

    /// Takes a message that is for this local APIC, by destination or shorthand, and says whether the
    /// caller has to make the virtual processor harvest, and how. Nobody else is told until the next
    /// harvest (once for edge-triggered vectors, once for all the others).
    ///
    /// Dropped: everything while hardware-disabled; fixed, lowest-priority and ExtINT messages while
    /// software-disabled [sdm, Local APIC State After It Has Been Software Disabled]; delivery modes
    /// that do not exist. SN does not hold back the notification of what is not edge-triggered.
    constexpr notification post(const message& sent);

    /// Whether the destination of `sent`, not its shorthand, names this local APIC. One load.
    [[nodiscard]] constexpr bool matches(const message& sent) const {
        return address().matches(sent);
    }

    /// Whether fixed and lowest-priority messages are accepted. One load.
    [[nodiscard]] constexpr bool takes_vectors() const { return address().takes_vectors(); }

    /// By what it is found now.
    [[nodiscard]] constexpr inbox_addressing address() const {
        return inbox_addressing{atomic::load(&addressing)};
    }

    /// PPR at some moment, for the arbitration of lowest priority; 0 without a page. The owner stores
    /// PPR by atomic::store_relaxed, or the processor does.
    [[nodiscard]] constexpr std::uint8_t priority() const {
        return page == nullptr ? std::uint8_t{0}
                               : static_cast<std::uint8_t>(atomic::load_relaxed(&page->ppr.raw));
    }

    /// Owner: whether there may be something to harvest: a load of each of the two cache lines. No:
    /// what is here belongs to a post() that has not returned yet.
    [[nodiscard]] constexpr bool may_hold_arrivals() const {
        return posted.may_hold_vectors() || atomic::load(&signals) != 0;
    }

    /// Owner: takes everything. What is posted meanwhile is in this harvest or in the next.
    [[nodiscard]] constexpr arrivals harvest();

    /// Owner: how senders find this local APIC from now on. What was posted before stays.
    constexpr void publish(inbox_addressing as) { atomic::store(&addressing, as.raw); }

private:
    constexpr notification signal(std::uint64_t arrived) {
        return atomic::fetch_or(&signals, arrived) == 0 ? notification::by_exit
                                                        : notification::not_needed;
    }
    constexpr notification post_vector(std::uint8_t vector, trigger_mode trigger);
    constexpr notification signal_init();
    constexpr notification signal_start_up(std::uint8_t vector);
};

static_assert(sizeof(inbox) == 128 && std::is_trivially_copyable_v<inbox>);
// The posted-interrupt descriptor address in a VMCS or an interrupt remapping entry is the inbox's.
static_assert(std::is_standard_layout_v<inbox> && offsetof(inbox, posted) == 0);

constexpr bool inbox_addressing::matches(const message& sent) const {
    const std::uint32_t to = sent.destination;
    const std::uint32_t id = (*this)[apic_id];
    const apic_mode here = (*this)[mode];
    const std::uint8_t model = (*this)[destination_model];

    // A logical destination is a cluster and, below, a bit for each of its members. Flat: one cluster.
    const bool is_flat = model == destination_format_register::flat;
    const bool is_known = is_flat || model == destination_format_register::cluster;
    std::uint32_t logical_id = is_known ? (*this)[logical_apic_id] : 0U;
    unsigned members = is_flat ? 8 : 4;
    if (here == apic_mode::x2apic) {
        logical_id = x2apic_logical_destination::of(id).raw;
        members = 16;
    }
    const bool in_cluster = ((logical_id ^ to) >> members) == 0;
    const bool is_member = (logical_id & to & ((1U << members) - 1)) != 0;

    const std::uint32_t everybody = sent.format == destination_format::xapic ? 0xFF : 0xFFFF'FFFF;
    const bool is_named =
        sent.mode == destination_mode::physical ? to == id : (in_cluster && is_member);
    return here != apic_mode::disabled && (to == everybody || is_named);
}

constexpr notification inbox::post(const message& sent) {
    const inbox_addressing now = address();
    if (now[inbox_addressing::mode] == apic_mode::disabled) {
        return notification::not_needed;
    }
    const bool takes_vectors = now[inbox_addressing::software_enabled];
    if (sent.delivery == delivery_mode::fixed || sent.delivery == delivery_mode::lowest_priority)
        [[likely]] {
        return takes_vectors ? post_vector(sent.vector, sent.trigger) : notification::not_needed;
    }
    switch (sent.delivery) {
    case delivery_mode::smi: return signal(inbox_signals::smi.mask);
    case delivery_mode::nmi: return signal(inbox_signals::nmi.mask);
    case delivery_mode::init: return signal_init();
    case delivery_mode::start_up: return signal_start_up(sent.vector);
    case delivery_mode::extint:
        return takes_vectors ? signal(inbox_signals::extint.mask) : notification::not_needed;
    default: return notification::not_needed; // 3: reserved
    }
}

constexpr notification inbox::post_vector(std::uint8_t vector, trigger_mode trigger) {
    if (vector < first_legal_vector) {
        return signal(inbox_signals::receive_illegal_vector.mask);
    }
    if (trigger == trigger_mode::edge) {
        return posted.post(vector);
    }
    atomic::fetch_or(&level[vector / 64], std::uint64_t{1} << (vector % 64));
    return signal(inbox_signals::level_requests.mask);
}

/// A start-up that is still here came before this INIT, and its processor does not wait for one then or
/// is put back to waiting: it has no effect any more.
constexpr notification inbox::signal_init() {
    using bits = inbox_signals;
    std::uint64_t before = atomic::load(&signals);
    while (!atomic::compare_exchange(
        &signals, before,
        (before & ~(bits::start_up.mask | bits::start_up_vector.mask)) | bits::init.mask)) {}
    return before == 0 ? notification::by_exit : notification::not_needed;
}

/// The first one starts the processor, those after it find it running.
constexpr notification inbox::signal_start_up(std::uint8_t vector) {
    using bits = inbox_signals;
    const std::uint64_t arrived = bits{bits::start_up(true), bits::start_up_vector(vector)}.raw;
    std::uint64_t before = atomic::load(&signals);
    while ((before & bits::start_up.mask) == 0) {
        if (atomic::compare_exchange(&signals, before, before | arrived)) {
            return before == 0 ? notification::by_exit : notification::not_needed;
        }
    }
    return notification::not_needed;
}

constexpr arrivals inbox::harvest() {
    arrivals found;
    found.signals = inbox_signals{atomic::exchange(&signals, std::uint64_t{0})};
    if (found.signals[inbox_signals::level_requests]) {
        for (std::size_t i = 0; i < 4; ++i) {
            if (atomic::load(&level[i]) != 0) {
                found.level.words[i] = atomic::exchange(&level[i], std::uint64_t{0});
            }
        }
    }
    found.edge = posted.harvest();
    // Devices post what they like through VT-d.
    constexpr std::uint64_t illegal = (std::uint64_t{1} << first_legal_vector) - 1;
    if (((found.edge.words[0] | found.level.words[0]) & illegal) != 0) {
        found.edge.words[0] &= ~illegal;
        found.level.words[0] &= ~illegal;
        found.signals = found.signals.with(inbox_signals::receive_illegal_vector(true));
    }
    return found;
}

} // namespace pt::lapic
