// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace pt::e1000e {

/// A transmit ring that can be looked at from outside, as tx_ring can: packets in flight, whether
/// some of them wait for reclaim(), where the next one starts, what the NIC says of its head, which
/// NIC it is, and how to reach its registers.
template <class R>
concept watchable_ring = requires(R& ring) {
    { ring.in_flight() } -> std::same_as<std::uint32_t>;
    { ring.has_done() } -> std::same_as<bool>;
    { ring.tail() } -> std::same_as<std::uint32_t>;
    { ring.head() } -> std::same_as<result<std::uint32_t>>;
    { ring.advance_tail() } -> std::same_as<void>;
    { ring.number() } -> std::same_as<queue>;
    { ring.members() } -> std::same_as<family>;
    requires mmio_io<std::remove_reference_t<decltype(ring.registers())>>;
};

/// How long nothing may move before a ring counts as hung, in nanoseconds.
struct tx_watch_limits {
    std::uint64_t still = 1'000'000'000;   ///< while nothing holds the transmitter back
    std::uint64_t paused = 10'000'000'000; ///< while the link partner does (STATUS.TXOFF)
};

/// How a transmit ring is doing.
enum class tx_motion : std::uint8_t {
    idle,    ///< no packet is in flight
    moving,  ///< since the last look packets came back, or the head moved; or reclaim() has some
    waiting, ///< packets are in flight, nothing moved, and the time is not over
    hung,    ///< nothing moved for too long, or the NIC is gone
};

/// What keeps packets from being sent, the most fundamental reason first.
enum class tx_trouble : std::uint8_t {
    none,          ///< nothing that can be seen
    absent,        ///< the registers read all ones
    disabled,      ///< TCTL.EN is clear, e.g. after a reset that somebody else made
    no_bus_master, ///< CTRL.GIO_MASTER_DISABLE took effect: no DMA
    head_outside,  ///< TDH is no index of the ring
    tail_differs,  ///< TDT is not where the next packet starts: the NIC does not know of them all
    link_down,     ///< STATUS.LU is clear
    paused,        ///< STATUS.TXOFF: the link partner's flow control
    not_reported, ///< all was processed (TDH equals TDT), but DD is not written where it was asked for
    head_stuck, ///< there are descriptors to process, and TDH does not move
};

/// What to do about it.
enum class tx_remedy : std::uint8_t {
    wait,       ///< nothing: it goes on by itself, or when somebody plugs the cable in
    write_tail, ///< write_tail_again()
    reset,      ///< recover(): the NIC does not come back by itself
    abandon,    ///< tx_ring::abandon(): there is no NIC any more
};

/// A diagnosis: the reason, what to do, and what was read.
struct tx_diagnosis {
    tx_trouble trouble = tx_trouble::none;
    tx_remedy remedy = tx_remedy::wait;
    status device{};
    tctl control{};
    std::uint32_t head = 0;      ///< TDH as it was read
    std::uint32_t tail = 0;      ///< TDT as it was read
    std::uint32_t next = 0;      ///< where the next packet starts, so what TDT should be
    std::uint32_t in_flight = 0; ///< packets

    friend constexpr bool operator==(const tx_diagnosis&, const tx_diagnosis&) = default;
};

/// Writes the tail again after the NIC lost it (tx_trouble::tail_differs), and tells it of packets
/// that were enqueued without advance_tail(). Without a packet in flight there is nothing to tell, and
/// nothing is written: the ring may not even be the NIC's any more.
template <watchable_ring Ring>
constexpr void write_tail_again(Ring& ring) {
    if (ring.in_flight() == 0) {
        return;
    }
    ring.advance_tail();
    const std::uint32_t next = ring.tail();
    if (read<tdt>(ring.registers(), ring.number()).raw != next) {
        write(ring.registers(), ring.number(), tdt{tdt::tail(static_cast<std::uint16_t>(next))});
    }
}

/// Finds out whether a transmit ring hangs. Who looks has called reclaim() just before:
///
///     tx_watch watch{clock};
///     ...
///     ring.reclaim(...);
///     if (watch.look(ring) == tx_motion::hung) {
///         switch (watch.diagnose(ring).remedy) { ... case tx_remedy::reset: recover(ring, ...); }
///     }
///
/// because unless every packet is reported, it is reclaim() that asks for a report that nobody asked
/// for: without it, packets that were sent long ago look like packets that hang. Those that are known
/// to be done and only wait for reclaim() do not.
///
/// Looking costs one register read while things move. How often does not matter, as long as it is
/// more often than the limits are long: a hang is found at the first look after the limit. After it
/// the limit begins anew, so that a remedy has as much time to work, and a hang that nothing is done
/// about is found once in each limit. The watch is for one ring; one that tx_ring::pause() stopped
/// counts as hung, too, so do not look at it.
template <clock Clock>
class tx_watch {
public:
    constexpr explicit tx_watch(Clock time, tx_watch_limits limits = {})
        : time_{time}, limits_{limits} {}

    /// How it is doing, compared with the last look.
    template <watchable_ring Ring>
    constexpr tx_motion look(Ring& ring) {
        const std::uint64_t now = time_.now();
        const std::uint32_t packets = ring.in_flight();
        if (packets == 0) {
            return motion_ = tx_motion::idle;
        }
        const seen current{read<tdh>(ring.registers(), ring.number()).raw, ring.tail(), packets};
        const seen before = seen_;
        const bool first = motion_ == tx_motion::idle;
        seen_ = current;
        const bool has_moved = (!first && moved(before, current)) || ring.has_done();
        if (first || has_moved) {
            moved_at_ = held_at_ = now;
            // All ones may be no head at all, and the first look has nothing to compare with.
            if (current.head != all_ones) {
                return motion_ = has_moved ? tx_motion::moving : tx_motion::waiting;
            }
        }
        const status device = read<status>(ring.registers());
        if (device.raw == all_ones) {
            return motion_ = tx_motion::hung;
        }
        if (device[status::txoff]) {
            held_at_ = now; // the time of a transmitter that nothing holds back begins after it
        }
        const bool over = device[status::txoff] ? now - moved_at_ >= limits_.paused
                                                : now - held_at_ >= limits_.still;
        if (!over) {
            return motion_ = tx_motion::waiting;
        }
        moved_at_ = held_at_ = now;
        return motion_ = tx_motion::hung;
    }

    /// Why, and what to do. Reads registers and changes nothing. Reasons that only time can tell
    /// (not_reported, head_stuck) are given when the last look() said that the ring hangs and
    /// reclaim() has nothing to hand back, and so is the advice to end a pause by a reset.
    template <watchable_ring Ring>
    [[nodiscard]] constexpr tx_diagnosis diagnose(Ring& ring) const {
        auto& mmio = ring.registers();
        tx_diagnosis found;
        found.device = read<status>(mmio);
        found.control = read<tctl>(mmio);
        found.head = read<tdh>(mmio, ring.number()).raw;
        found.tail = read<tdt>(mmio, ring.number()).raw;
        found.next = ring.tail();
        found.in_flight = ring.in_flight();
        const result<std::uint32_t> head = ring.head();

        if (found.device.raw == all_ones || found.control.raw == all_ones) {
            return because(found, tx_trouble::absent, tx_remedy::abandon);
        }
        if (found.in_flight == 0) {
            return found;
        }
        const bool hung = motion_ == tx_motion::hung && !ring.has_done();
        if (!found.control[tctl::en]) {
            return because(found, tx_trouble::disabled, tx_remedy::reset);
        }
        if (ring.members() == family::pci_express && !found.device[status::gio_master_enable]) {
            return because(found, tx_trouble::no_bus_master, tx_remedy::reset);
        }
        if (!head) {
            return because(found, tx_trouble::head_outside, tx_remedy::reset);
        }
        if (found.tail != found.next) {
            return because(found, tx_trouble::tail_differs, tx_remedy::write_tail);
        }
        if (!found.device[status::lu]) {
            return because(found, tx_trouble::link_down, tx_remedy::wait);
        }
        if (found.device[status::txoff]) {
            return because(found, tx_trouble::paused, hung ? tx_remedy::reset : tx_remedy::wait);
        }
        if (!hung) {
            return found;
        }
        return because(found,
                       found.head == found.tail ? tx_trouble::not_reported : tx_trouble::head_stuck,
                       tx_remedy::reset);
    }

private:
    static constexpr std::uint32_t all_ones = ~std::uint32_t{0};

    struct seen {
        std::uint32_t head = 0;
        std::uint32_t tail = 0;
        std::uint32_t packets = 0;
    };

    /// Whether the NIC or reclaim() did something in between. As many packets as before behind another
    /// tail means that some came back and others were sent.
    static constexpr bool moved(const seen& before, const seen& now) {
        return now.head != before.head || now.packets < before.packets ||
               (now.packets == before.packets && now.tail != before.tail);
    }

    static constexpr tx_diagnosis because(tx_diagnosis found, tx_trouble why, tx_remedy what) {
        found.trouble = why;
        found.remedy = what;
        return found;
    }

    [[no_unique_address]] Clock time_;
    tx_watch_limits limits_;
    tx_motion motion_ = tx_motion::idle;
    seen seen_{};
    std::uint64_t moved_at_ = 0; ///< when something moved last, or a hang was found
    std::uint64_t held_at_ = 0;  ///< the same, or when a pause was seen last
};

} // namespace pt::e1000e
