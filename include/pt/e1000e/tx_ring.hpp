// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace pt::e1000e {

/// TDLEN counts in units of 128 bytes, so descriptors come in eights; it has 13 bits of units.
inline constexpr std::uint32_t tx_ring_granularity = 8;
inline constexpr std::uint32_t largest_tx_ring = 0x1FFF * tx_ring_granularity;
static_assert(largest_tx_ring == 65'528);

/// A piece of a packet: `length` bytes at `address`, as the device sees it.
struct fragment {
    iova address;
    std::uint32_t length = 0;
};

/// What the driver remembers of a packet in flight. The caller provides one for each descriptor and
/// leaves them to the ring.
struct tx_slot {
    std::uint64_t cookie = 0;
    std::uint32_t descriptors = 0;
};

/// The driver's side of transmit queue 0, with legacy descriptors.
///
///     tx_ring ring{mmio, memory, barrier, iova{0x10000}, slots, 256};
///     if (auto started = ring.start(); !started) ...
///     ring.send({{header, 54}, {payload, 1446}}, cookie);      // all of the packet, or errc::busy
///     ring.reclaim([](std::uint64_t cookie) { ... });          // each packet's, once, in order
///
/// Head equal to tail means empty, so a ring of n descriptors holds n - 1. Nothing that the device
/// writes is believed but the DD bit of the descriptor with EOP: packets are found by what the driver
/// itself remembers, never by an index from the device (nor is TDH a reliable one [82574]).
///
/// One caller at a time; the VMM's lock is around the ring and not in it.
template <mmio_io Mmio, dma_memory Memory, barrier Barrier>
class tx_ring {
public:
    /// `memory` are the descriptors, 16 * count bytes, which the device reaches at `base`; `slots`
    /// are `count` elements that stay with the ring. No hardware is touched before start().
    constexpr tx_ring(Mmio mmio, Memory memory, Barrier order, iova base, tx_slot* slots,
                      std::uint32_t count)
        : mmio_{mmio}, memory_{memory}, order_{order}, slots_{slots}, base_{base}, count_{count} {
        expects(slots != nullptr || count == 0, "a transmit ring needs a slot for each descriptor");
    }

    tx_ring(const tx_ring&) = delete;
    tx_ring& operator=(const tx_ring&) = delete;

    /// Programs the empty ring and enables the transmitter. Errors, all before a write:
    ///   misaligned (count)      not a multiple of 8 descriptors
    ///   out_of_range (count)    no descriptor, or more than 65,528
    ///   misaligned (base)       not a multiple of 16
    ///   out_of_range (base)     the ring does not fit below the end of the address space
    ///   busy (packets)          packets are in flight: reclaim() or abandon() them first
    ///   busy (TCTL's offset)    the transmitter is enabled; the head must not be written then
    ///   absent (TCTL's offset)  the registers read all ones
    /// and after the last: absent, or hardware_fault (TCTL's offset) if the enable bit did not stay.
    [[nodiscard]] constexpr result<> start() {
        if (in_flight() != 0) {
            return error{errc::busy, in_flight()};
        }
        if (count_ == 0 || count_ > largest_tx_ring) {
            return error{errc::out_of_range, count_};
        }
        if (count_ % tx_ring_granularity != 0) {
            return error{errc::misaligned, count_};
        }
        if (!base_.is_aligned(tx_descriptor_size)) {
            return error{errc::misaligned, base_.raw};
        }
        const std::uint32_t bytes = count_ * tx_descriptor_size;
        if (base_.raw > ~std::uint64_t{0} - (bytes - 1)) {
            return error{errc::out_of_range, base_.raw};
        }
        const tctl control = read<tctl>(mmio_);
        if (control.raw == all_ones) {
            return error{errc::absent, tctl::offset};
        }
        if (control[tctl::en]) {
            return error{errc::busy, tctl::offset};
        }

        write(mmio_, tdbal{static_cast<std::uint32_t>(base_.raw)});
        write(mmio_, tdbah{static_cast<std::uint32_t>(base_.raw >> 32U)});
        write(mmio_, tdlen{bytes});
        write(mmio_, tdh{tdh::head(0)});
        write(mmio_, tdt{tdt::tail(0)});
        // Write-back threshold 0: DD appears as soon as a descriptor is done.
        write(mmio_, read<txdctl>(mmio_).write_back().with(txdctl::pthresh(0), txdctl::hthresh(0),
                                                           txdctl::wthresh(0), txdctl::gran(true)));
        // The values that the datasheet recommends for 802.3, and for full duplex.
        write(mmio_, tipg{tipg::ipgt(8), tipg::ipgr1(8), tipg::ipgr2(6)});
        write(mmio_, control.write_back().with(tctl::en(true), tctl::psp(true), tctl::ct(0x0F),
                                               tctl::cold(0x3F)));

        const tctl enabled = read<tctl>(mmio_);
        if (enabled.raw == all_ones) {
            return error{errc::absent, tctl::offset};
        }
        if (!enabled[tctl::en]) {
            return error{errc::hardware_fault, tctl::offset};
        }
        head_ = tail_ = 0;
        free_ = count_ - 1;
        return {};
    }

    /// Disables the transmitter, once everything was sent and reclaimed: busy (packets) while packets
    /// are in flight, and nothing is changed then. absent (TCTL's offset): there is no device to stop
    /// any more. Either way but busy, the ring takes no packet until start().
    [[nodiscard]] constexpr result<> stop() {
        if (in_flight() != 0) {
            return error{errc::busy, in_flight()};
        }
        return disable();
    }

    /// Disables the transmitter and hands back the cookies of all packets in flight, in order, calling
    /// each(cookie). For a device that hangs, was reset, or is gone. One that is still there may read
    /// their buffers until it is reset (CTRL.RST). Returns the number of packets.
    template <std::invocable<std::uint64_t> F>
    constexpr std::uint32_t abandon(F&& each) {
        static_cast<void>(disable()); // gone is as good as stopped
        const std::uint32_t packets = in_flight();
        announced_ = queued_ = 0;
        for (std::uint32_t left = packets; left != 0; --left) {
            const tx_slot slot = slots_[head_];
            head_ = step(head_, slot.descriptors);
            each(slot.cookie);
        }
        return packets;
    }

    /// Puts a packet of `count` fragments into the ring, all of it or nothing, and tells the device.
    /// The cookie comes back from reclaim(). A ring that is not started takes nothing. Errors:
    ///   out_of_range (count)  no fragment, or more than the ring can ever hold
    ///   out_of_range (index)  fragment `index` has length 0, or goes beyond 16,288 bytes in all
    ///   busy (free)           no room now: only so many descriptors are free
    /// A packet must also be 80 bytes shorter than the transmit FIFO, which PBA sets [82574].
    [[nodiscard]] constexpr result<> send(const fragment* fragments, std::size_t count,
                                          std::uint64_t cookie) {
        const result<> put = enqueue(fragments, count, cookie);
        if (put) {
            advance_tail();
        }
        return put;
    }
    [[nodiscard]] constexpr result<> send(std::initializer_list<fragment> fragments,
                                          std::uint64_t cookie) {
        return send(fragments.begin(), fragments.size(), cookie);
    }

    /// send() in two steps, so that many packets cost one write of the tail: enqueue() each of them,
    /// then advance_tail() once.
    [[nodiscard]] constexpr result<> enqueue(const fragment* fragments, std::size_t count,
                                             std::uint64_t cookie) {
        if (count == 0 || count >= count_) {
            return error{errc::out_of_range, count};
        }
        std::uint32_t room = largest_legacy_length;
        for (std::size_t i = 0; i != count; ++i) {
            if (fragments[i].length == 0 || fragments[i].length > room) {
                return error{errc::out_of_range, i};
            }
            room -= fragments[i].length;
        }
        if (count > free_) {
            return error{errc::busy, free_};
        }

        const auto descriptors = static_cast<std::uint32_t>(count);
        slots_[tail_] = {cookie, descriptors};
        for (std::size_t i = 0; i + 1 != count; ++i) {
            put(fragments[i], legacy_tx_command{});
        }
        using command = legacy_tx_command;
        put(fragments[count - 1],
            command{command::eop(true), command::ifcs(true), command::rs(true)});
        free_ -= descriptors;
        ++queued_;
        return {};
    }
    [[nodiscard]] constexpr result<> enqueue(std::initializer_list<fragment> fragments,
                                             std::uint64_t cookie) {
        return enqueue(fragments.begin(), fragments.size(), cookie);
    }

    /// Tells the device of all packets that were enqueued since it was last told.
    constexpr void advance_tail() {
        if (queued_ == 0) {
            return;
        }
        announced_ += queued_;
        queued_ = 0;
        order_.release(); // the descriptors first, then the tail
        write(mmio_, tdt{tdt::tail(static_cast<std::uint16_t>(tail_))});
    }

    /// Hands back the cookies of the packets that the device is done with, in the order in which they
    /// were sent, calling each(cookie), which may send(). Returns the number of packets.
    template <std::invocable<std::uint64_t> F>
    constexpr std::uint32_t reclaim(F&& each) {
        std::uint32_t packets = 0;
        for (std::uint32_t left = announced_; left != 0; --left) {
            const tx_slot slot = slots_[head_];
            const std::uint32_t last = step(head_, slot.descriptors - 1);
            const legacy_tx_command status{
                memory_.read64(last * tx_descriptor_size + legacy_tx_command::offset)};
            if (!status[legacy_tx_command::dd]) {
                break;
            }
            order_.acquire(); // the buffers are the caller's from here on
            head_ = step(last, 1);
            free_ += slot.descriptors;
            --announced_;
            ++packets;
            each(slot.cookie);
        }
        return packets;
    }

    /// Packets that were sent or enqueued, and not yet handed back.
    [[nodiscard]] constexpr std::uint32_t in_flight() const { return announced_ + queued_; }

    /// Descriptors that send() can use now; 0 while the ring is not started.
    [[nodiscard]] constexpr std::uint32_t free_descriptors() const { return free_; }

    /// TDH, the descriptor that the device says it works on; to look at, and to see whether it moves.
    /// absent (TDH's offset): the registers read all ones. hardware_fault (TDH): not an index of the
    /// ring.
    [[nodiscard]] constexpr result<std::uint32_t> head() {
        const tdh now = read<tdh>(mmio_);
        if (now.raw == all_ones) {
            return error{errc::absent, tdh::offset};
        }
        if (now.raw >= count_) {
            return error{errc::hardware_fault, now.raw};
        }
        return now.raw;
    }

    /// Where the next packet starts; the device knows of it after advance_tail().
    [[nodiscard]] constexpr std::uint32_t tail() const { return tail_; }

private:
    static constexpr std::uint32_t all_ones = ~std::uint32_t{0};

    /// `index` moved on by `by`, at most the ring's size.
    [[nodiscard]] constexpr std::uint32_t step(std::uint32_t index, std::uint32_t by) const {
        const std::uint32_t next = index + by;
        return next >= count_ ? next - count_ : next;
    }

    /// Writes the descriptor at the tail, which the device does not yet look at, and moves on.
    constexpr void put(const fragment& piece, legacy_tx_command command) {
        const std::uint32_t at = tail_ * tx_descriptor_size;
        const auto length = static_cast<std::uint16_t>(piece.length);
        memory_.write64(at + legacy_tx_address::offset, piece.address.raw);
        memory_.write64(at + legacy_tx_command::offset,
                        command.with(legacy_tx_command::length(length)).raw);
        tail_ = step(tail_, 1);
    }

    constexpr result<> disable() {
        free_ = 0;
        const tctl control = read<tctl>(mmio_);
        if (control.raw != all_ones) {
            write(mmio_, control.write_back().with(tctl::en(false)));
            // The read pushes the write out to the device.
            if (read<tctl>(mmio_).raw != all_ones) {
                return {};
            }
        }
        return error{errc::absent, tctl::offset};
    }

    [[no_unique_address]] Mmio mmio_;
    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Barrier order_;
    tx_slot* slots_;
    iova base_;
    std::uint32_t count_;
    std::uint32_t head_ = 0;      ///< first descriptor of the oldest packet in flight
    std::uint32_t tail_ = 0;      ///< first descriptor of the next packet
    std::uint32_t free_ = 0;      ///< 0 unless started
    std::uint32_t announced_ = 0; ///< packets that the device knows of
    std::uint32_t queued_ = 0;    ///< packets that it does not know of yet
};

} // namespace pt::e1000e
