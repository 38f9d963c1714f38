// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"
#include "pt/core/contract.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/posted_interrupt_descriptor.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include <cstdint>
#include <utility>

namespace pt::lapic {

/// What became of a message.
struct delivery {
    /// How many local APICs took it. 0: nobody has that destination, or those who have it are
    /// software-disabled and it is neither SMI, NMI, INIT nor start-up. An I/O APIC keeps such a request.
    std::uint32_t reached = 0;

    friend constexpr bool operator==(const delivery&, const delivery&) = default;
};

/// What connects the local APICs of one guest with each other and with its devices: finds out whom a
/// message is for [sdm, Determining IPI Destination] and puts it into their inboxes. Whatever its
/// destination is, it reaches virtual processors of the set and nobody else.
///
/// Any CPU may deliver at any time. Nothing waits: a message costs at most one look at each inbox, and
/// one to a physical id that is also the number of the virtual processor costs a look at that one.
/// The local APICs of the set have different ids.
template <vcpu_set Vcpus>
class bus {
public:
    explicit constexpr bus(Vcpus vcpus) : vcpus_{std::move(vcpus)} {}

    // Whose turn it is in the arbitration of lowest priority is here once, not in copies.
    bus(const bus&) = delete;
    bus& operator=(const bus&) = delete;

    /// A message of a device or an I/O APIC. It has no sender: `self` is for nobody.
    constexpr delivery deliver(const message& sent) { return send(no_sender, sent); }

    /// An IPI that virtual processor number `from` sends: effect::command. The CPU that runs it calls,
    /// outside of the guest; so it is not notified of its own message, because it looks into its inbox
    /// before it enters the guest again.
    constexpr delivery deliver(std::uint32_t from, const message& sent) {
        expects(from < vcpus_.count(), "bus::deliver: the sender is not in the set");
        return send(from, sent);
    }

private:
    static constexpr std::uint32_t no_sender = ~std::uint32_t{0};

    constexpr delivery send(std::uint32_t from, const message& sent) {
        if (sent.to == shorthand::none) [[likely]] {
            if (sent.mode == destination_mode::physical && !is_broadcast(sent)) [[likely]] {
                return to_one(from, sent);
            }
            return to_several(from, sent);
        }
        // A shorthand is a broadcast that some are left out of.
        message broadcast = sent;
        broadcast.mode = destination_mode::physical;
        broadcast.format = destination_format::x2apic;
        broadcast.destination = 0xFFFF'FFFF;
        return to_several(from, broadcast);
    }

    constexpr delivery to_several(std::uint32_t from, const message& sent) {
        return sent.delivery == delivery_mode::lowest_priority ? to_lowest(from, sent)
                                                               : to_all(from, sent);
    }

    constexpr delivery to_one(std::uint32_t from, const message& sent) {
        const std::uint32_t count = vcpus_.count();
        const std::uint32_t likely = sent.destination;
        if (likely < count && vcpus_.inbox(likely).matches(sent)) [[likely]] {
            return hand_over(from, likely, sent);
        }
        for (std::uint32_t n = 0; n < count; ++n) {
            if (vcpus_.inbox(n).matches(sent)) {
                return hand_over(from, n, sent);
            }
        }
        return {};
    }

    constexpr delivery to_all(std::uint32_t from, const message& sent) {
        const std::uint32_t count = vcpus_.count();
        delivery done{};
        for (std::uint32_t n = 0; n < count; ++n) {
            if (is_meant(from, n, sent.to) && vcpus_.inbox(n).matches(sent)) {
                done.reached += hand_over(from, n, sent).reached;
            }
        }
        return done;
    }

    /// The lowest PPR wins, and among equals the first behind the one that won last. The priorities change
    /// meanwhile, as they do in hardware; who took an interrupt a moment ago is not known there either.
    constexpr delivery to_lowest(std::uint32_t from, const message& sent) {
        const std::uint32_t count = vcpus_.count();
        const std::uint32_t turn = atomic::load_relaxed(&turn_);
        std::uint32_t n = turn < count ? turn : 0;
        std::uint32_t winner = count;
        std::uint32_t lowest = 0x100; // above every PPR
        for (std::uint32_t seen = 0; seen < count; ++seen) {
            const inbox& candidate = vcpus_.inbox(n);
            if (is_meant(from, n, sent.to) && candidate.matches(sent) &&
                candidate.takes_vectors()) {
                const std::uint32_t priority = candidate.priority();
                if (priority < lowest) {
                    lowest = priority;
                    winner = n;
                }
            }
            n = n + 1 < count ? n + 1 : 0;
        }
        if (winner == count) {
            return {};
        }
        atomic::store_relaxed(&turn_, winner + 1);
        return hand_over(from, winner, sent);
    }

    static constexpr bool is_meant(std::uint32_t from, std::uint32_t n, shorthand to) {
        switch (to) {
        case shorthand::self: return n == from;
        case shorthand::all_excluding_self: return n != from;
        case shorthand::none:
        case shorthand::all_including_self: break;
        }
        return true;
    }

    constexpr delivery hand_over(std::uint32_t from, std::uint32_t n, const message& sent) {
        inbox& to = vcpus_.inbox(n);
        const bool is_maskable = sent.delivery == delivery_mode::fixed ||
                                 sent.delivery == delivery_mode::lowest_priority ||
                                 sent.delivery == delivery_mode::extint;
        if (is_maskable && !to.takes_vectors()) [[unlikely]] {
            return {};
        }
        const notification how = to.post(sent);
        if (how != notification::not_needed && n != from) {
            vcpus_.notify(n, how);
        }
        return {.reached = 1};
    }

    [[no_unique_address]] Vcpus vcpus_;
    std::uint32_t turn_ = 0; // behind the last winner of an arbitration
};

} // namespace pt::lapic
