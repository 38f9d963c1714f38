// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_descriptor.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace pt::e1000e {

/// TDLEN counts in units of 128 bytes, so descriptors come in eights; it has 13 bits of units.
inline constexpr std::uint32_t tx_ring_granularity = 8;
inline constexpr std::uint32_t largest_tx_ring = 0x1FFF * tx_ring_granularity;
static_assert(largest_tx_ring == 65'528);

/// Least bytes of a packet: what the NIC pads to 64 bytes by itself (TCTL.PSP) [82574]. 8254x is given
/// nothing to pad: its manual demands 48 bytes, and public drivers tell of packets that it damages.
[[nodiscard]] constexpr std::uint32_t least_packet(family members) {
    return members == family::pci ? 60 : 17;
}

/// A piece of a packet: `length` bytes at `address`, as the device sees it.
struct fragment {
    iova address;
    std::uint32_t length = 0;
};

/// A packet of one piece, for send_all().
struct tx_packet {
    iova address;
    std::uint32_t length = 0;
    std::uint64_t cookie = 0;
};

/// What became of send_all(): the first `sent` packets were sent, and `stopped` is why the next one
/// was not (errc::none: there is no next one).
struct tx_batch {
    std::uint32_t sent = 0;
    error stopped{};

    friend constexpr bool operator==(const tx_batch&, const tx_batch&) = default;
};

/// What the driver remembers of a packet in flight, beside its first descriptor. The caller provides one
/// for each descriptor and leaves them to the ring.
struct tx_slot {
    std::uint64_t cookie = 0;
    std::uint64_t extent = 0; ///< where the packet ends, and the report that it waits for
};

/// Which packets ask for a status write-back (RS). The others are handed back together with the next
/// one that does.
class tx_report {
public:
    /// Each one: handed back soonest, at the price of a write-back for each.
    static constexpr tx_report each_packet() { return tx_report{1}; }
    /// Each n-th one, n at least 1.
    static constexpr tx_report every(std::uint32_t packets) {
        expects(packets != 0, "a report is for one packet at the least");
        return tx_report{packets};
    }
    /// One at a time: none as long as one is awaited, so that a busy ring causes few write-backs.
    static constexpr tx_report while_idle() { return tx_report{0}; }

    /// n of every(n), 1 for each_packet(), 0 for while_idle().
    [[nodiscard]] constexpr std::uint32_t interval() const { return interval_; }
    friend constexpr bool operator==(const tx_report&, const tx_report&) = default;

private:
    explicit constexpr tx_report(std::uint32_t interval) : interval_{interval} {}
    std::uint32_t interval_;
};

/// Whether the NIC still knows the context that the ring gave it last. The 82574 has one for both of
/// its queues, so two rings that are in use together must repeat it for each packet [82574].
enum class context_use : std::uint8_t { reused, repeated };

/// How a transmit ring is set up.
struct tx_settings {
    family members = family::pci_express;
    queue number = queue::first; ///< the second one only on pci_express
    tx_report report = tx_report::each_packet();
    context_use contexts = context_use::reused;
    /// Zero bytes that the device can read, for packets below least_packet(): one less than that. 0:
    /// none, and such packets are refused.
    iova padding{};
    /// TIDV, units of 1.024 us, for tx_interrupt::delayed; 0: none, so that all are at once.
    std::uint16_t interrupt_delay = 0;
    std::uint16_t absolute_delay = 0; ///< TADV, units of 1.024 us; 0: no limit
};

/// Whether the NIC puts a VLAN tag into the packet; for that CTRL.VME must be set.
enum class vlan_insertion : std::uint8_t { none, insert };
/// Whether the write-back of a packet causes its interrupt after TIDV (IDE) or at once.
enum class tx_interrupt : std::uint8_t { at_once, delayed };

/// What is asked for one packet; nothing, unless told otherwise.
struct tx_request {
    tx_offload offload{};
    vlan_insertion tagging = vlan_insertion::none;
    vlan_tag tag{};
    tx_interrupt interrupt = tx_interrupt::at_once;
};

/// The driver's side of a transmit queue.
///
///     tx_ring ring{mmio, memory, barrier, iova{0x10000}, slots, 256};
///     if (auto started = ring.start(); !started) ...
///     ring.send({{header, 54}, {payload, 1446}}, cookie);      // all of the packet, or errc::busy
///     ring.reclaim([](std::uint64_t cookie) { ... });          // each packet's, once, in order
///
/// Packets without offload are sent by legacy descriptors, all others by data descriptors behind a
/// context descriptor, which is left out while the NIC still has the same one.
///
/// Head equal to tail means empty, so a ring of n descriptors holds n - 1. Nothing that the device
/// writes is believed but the DD bit of a descriptor with RS: packets are found by what the driver
/// itself remembers, never by an index from the device (nor is TDH a reliable one [82574]). Unless
/// every packet is reported, one more descriptor is kept free, by which reclaim() asks for a report
/// when packets are left that nobody asked one for.
///
/// TCTL belongs to both queues: what enables or disables one ring does so to the other.
///
/// One caller at a time; the VMM's lock is around the ring and not in it.
template <mmio_io Mmio, dma_memory Memory, barrier Barrier>
class tx_ring {
public:
    /// `memory` are the descriptors, 16 * count bytes, which the device reaches at `base`; `slots`
    /// are `count` elements that stay with the ring. No hardware is touched before start().
    constexpr tx_ring(Mmio mmio, Memory memory, Barrier order, iova base, tx_slot* slots,
                      std::uint32_t count, tx_settings settings = {})
        : mmio_{mmio},
          memory_{memory},
          order_{order},
          slots_{slots},
          end_{count * tx_descriptor_size},
          count_{count},
          interval_{settings.report.interval()},
          reserve_{settings.report == tx_report::each_packet() ? 0U : 1U},
          least_packet_{e1000e::least_packet(settings.members)},
          base_{base},
          settings_{settings} {
        expects(slots != nullptr || count == 0, "a transmit ring needs a slot for each descriptor");
        expects(settings.members == family::pci_express || settings.number == queue::first,
                "8254x has one transmit queue");
        close();
    }

    tx_ring(const tx_ring&) = delete;
    tx_ring& operator=(const tx_ring&) = delete;

    /// Programs the empty ring and enables the transmitter: prepare(), then resume(), with their
    /// errors.
    [[nodiscard]] constexpr result<> start() {
        if (const result<> prepared = prepare(); !prepared) {
            return prepared;
        }
        const result<> enabled = resume();
        if (!enabled) {
            close();
        }
        return enabled;
    }

    /// Programs the empty ring and leaves the transmitter as it is, disabled, so that the other queue's
    /// ring can be prepared as well. Errors, all before a write:
    ///   misaligned (count)      not a multiple of 8 descriptors
    ///   out_of_range (count)    no descriptor, or more than 65,528
    ///   misaligned (base)       not a multiple of 16
    ///   out_of_range (base)     the ring does not fit below the end of the address space
    ///   busy (packets)          packets are in flight: reclaim() or abandon() them first
    ///   busy (TCTL's offset)    the transmitter is enabled; the head must not be written then
    ///   absent (TCTL's offset)  the registers read all ones
    [[nodiscard]] constexpr result<> prepare() {
        if (in_flight() != 0 || handing_back_) {
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

        const queue own = settings_.number;
        write(mmio_, own, tdbal{static_cast<std::uint32_t>(base_.raw)});
        write(mmio_, own, tdbah{static_cast<std::uint32_t>(base_.raw >> 32U)});
        write(mmio_, own, tdlen{bytes});
        write(mmio_, own, tdh{tdh::head(0)});
        write(mmio_, own, tdt{tdt::tail(0)});
        // Write-back threshold 0: DD appears as soon as a descriptor is done.
        txdctl fetching = read<txdctl>(mmio_, own)
                              .write_back()
                              .with(txdctl::pthresh(0), txdctl::hthresh(0), txdctl::wthresh(0),
                                    txdctl::gran(true));
        if (settings_.members == family::pci_express) {
            fetching = fetching.with(txdctl::count_desc(true));
            write(mmio_, own, read<tarc>(mmio_, own).write_back().with(tarc::enable(true)));
        }
        write(mmio_, own, fetching);
        if (settings_.interrupt_delay != 0) { // TIDV must not be 0
            write(mmio_, tidv{tidv::idv(settings_.interrupt_delay)});
            write(mmio_, tadv{tadv::idv(settings_.absolute_delay)});
        }
        // The values that the datasheet recommends for 802.3, and for full duplex.
        write(mmio_, tipg{tipg::ipgt(8), tipg::ipgr1(8), tipg::ipgr2(6)});
        write(mmio_, control.write_back().with(tctl::psp(true), tctl::ct(0x0F), tctl::cold(0x3F)));

        // A packet must be 80 bytes shorter than the transmit FIFO [82574].
        const std::uint32_t fifo = read<pba>(mmio_)[pba::txa] * 1024U;
        const bool small = fifo >= 1024 && fifo - 80 < largest_legacy_length;
        largest_packet_ = small ? fifo - 80 : largest_legacy_length;
        head_ = tail_ = announced_ = open_ = open_packets_ = 0;
        context_ = {};
        started_ = true;
        return {};
    }

    /// Disables the transmitter, once everything was sent and reclaimed: busy (packets) while packets
    /// are in flight, and nothing is changed then. absent (TCTL's offset): there is no device to stop
    /// any more. Either way but busy, the ring takes no packet until start().
    [[nodiscard]] constexpr result<> stop() {
        if (in_flight() != 0 || handing_back_) {
            return error{errc::busy, in_flight()};
        }
        close();
        return pause();
    }

    /// Disables the transmitter after the packet that is on its way; the others stay in the ring, which
    /// takes more of them meanwhile. absent (TCTL's offset): the registers read all ones.
    [[nodiscard]] constexpr result<> pause() {
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

    /// Enables the transmitter, which goes on where it was. absent (TCTL's offset): the registers read
    /// all ones. hardware_fault (TCTL's offset): the enable bit did not stay. busy (0): the ring is not
    /// prepared; after abandon() the NIC would send what was handed back.
    [[nodiscard]] constexpr result<> resume() {
        if (!started_) {
            return error{errc::busy, 0};
        }
        const tctl control = read<tctl>(mmio_);
        if (control.raw == all_ones) {
            return error{errc::absent, tctl::offset};
        }
        write(mmio_, control.write_back().with(tctl::en(true)));
        const tctl enabled = read<tctl>(mmio_);
        if (enabled.raw == all_ones) {
            return error{errc::absent, tctl::offset};
        }
        if (!enabled[tctl::en]) {
            return error{errc::hardware_fault, tctl::offset};
        }
        return {};
    }

    /// Disables the transmitter and hands back the cookies of all packets in flight, in order, calling
    /// each(cookie). For a device that hangs, was reset, or is gone. One that is still there may read
    /// their buffers until it is reset (CTRL.RST). The ring takes no packet until start(). Returns the
    /// number of packets.
    template <std::invocable<std::uint64_t> F>
    constexpr std::uint32_t abandon(F&& each) {
        expects(!handing_back_, "the callback of a transmit ring may send, and nothing else");
        static_cast<void>(pause()); // gone is as good as stopped
        const std::uint32_t packets = in_flight();
        std::uint32_t at = head_;
        close(); // each() cannot send
        handing_back_ = true;
        while (in_flight() != 0) {
            at = hand_back(at, each);
        }
        handing_back_ = false;
        return packets;
    }

    /// Puts a packet of `count` fragments into the ring, all of it or nothing, and tells the device.
    /// (Nothing: behind the tail, where the device does not look, a packet that could not be sent may
    /// leave bytes.) The cookie comes back from reclaim(). A ring that is not started takes nothing.
    /// Errors:
    ///   out_of_range (count)    no fragment, or more than the ring can ever hold
    ///   out_of_range (index)    fragment `index` has length 0, goes past the end of the address space,
    ///                           or makes the packet too long
    ///   reserved_address (index)  fragment `index` is at address 0, which the hardware takes for no data
    ///   out_of_range (0)        segmentation, and fragment 0 does not hold all headers
    ///   out_of_range (length)   all of it is too short: for its offload, or below least_packet()
    ///                           without settings.padding
    ///   not_supported (0)       segmentation on 8254x: see has_segmentation()
    ///   busy (free)             no room now: only so many descriptors are free
    /// The longest packet has 16,288 bytes, or what the transmit FIFO (PBA) holds less 80; with
    /// segmentation 2^20 - 1 bytes behind the headers, while headers and segment size together obey
    /// the first limit (else out_of_range (their sum)).
    [[nodiscard]] constexpr result<> send(const fragment* fragments, std::size_t count,
                                          std::uint64_t cookie) {
        if (count == 1 && enqueue_one(fragments[0], cookie)) [[likely]] {
            show_tail();
            return {};
        }
        const result<> put = enqueue_pieces(fragments, count, cookie, tx_request{});
        if (put) {
            show_tail();
        }
        return put;
    }
    [[nodiscard]] constexpr result<> send(std::initializer_list<fragment> fragments,
                                          std::uint64_t cookie) {
        return send(fragments.begin(), fragments.size(), cookie);
    }
    [[nodiscard]] constexpr result<> send(const fragment* fragments, std::size_t count,
                                          std::uint64_t cookie, const tx_request& request) {
        const result<> put = enqueue(fragments, count, cookie, request);
        if (put) {
            advance_tail();
        }
        return put;
    }
    [[nodiscard]] constexpr result<> send(std::initializer_list<fragment> fragments,
                                          std::uint64_t cookie, const tx_request& request) {
        return send(fragments.begin(), fragments.size(), cookie, request);
    }

    /// send() in two steps, so that many packets cost one write of the tail: enqueue() each of them,
    /// then advance_tail() once.
    [[nodiscard]] constexpr result<> enqueue(const fragment* fragments, std::size_t count,
                                             std::uint64_t cookie) {
        if (count == 1 && enqueue_one(fragments[0], cookie)) [[likely]] {
            return {};
        }
        return enqueue_pieces(fragments, count, cookie, tx_request{});
    }
    [[nodiscard]] constexpr result<> enqueue(std::initializer_list<fragment> fragments,
                                             std::uint64_t cookie) {
        return enqueue(fragments.begin(), fragments.size(), cookie);
    }
    [[nodiscard]] constexpr result<> enqueue(const fragment* fragments, std::size_t count,
                                             std::uint64_t cookie, const tx_request& request) {
        return enqueue_pieces(fragments, count, cookie, request);
    }
    [[nodiscard]] constexpr result<> enqueue(std::initializer_list<fragment> fragments,
                                             std::uint64_t cookie, const tx_request& request) {
        return enqueue_pieces(fragments.begin(), fragments.size(), cookie, request);
    }

    /// send() of many packets of one piece, with one write of the tail. Stops at the first that cannot
    /// be sent, with the error of send().
    [[nodiscard]] constexpr tx_batch send_all(const tx_packet* packets, std::uint32_t count) {
        tx_batch batch{};
        while (batch.sent != count) {
            batch.sent += enqueue_regular(packets + batch.sent, count - batch.sent);
            if (batch.sent == count) {
                break;
            }
            // One that is irregular, or a full ring.
            const tx_packet& packet = packets[batch.sent];
            const fragment whole{packet.address, packet.length};
            if (const result<> put = enqueue(&whole, 1, packet.cookie); !put) {
                batch.stopped = put.error();
                break;
            }
            ++batch.sent;
        }
        advance_tail();
        return batch;
    }

    /// enqueue() of a packet that is already in the form of descriptors, for whoever mediates: `count`
    /// legacy or data descriptors, whose content the caller has validated, and the context that they
    /// need, or null. RS, EOP and STA are the ring's, and so is whether the context goes out again.
    /// Errors as for enqueue(): out_of_range (count), busy (free).
    [[nodiscard]] constexpr result<> enqueue_raw(const tx_descriptor* data, std::uint32_t count,
                                                 const tx_descriptor* context,
                                                 std::uint64_t cookie) {
        // RS, EOP and STA are where a legacy descriptor has them as well.
        using command = data_tx_command;
        constexpr std::uint64_t ours = command::eop.mask | command::rs.mask | command::dd.mask |
                                       command::ec.mask | command::lc.mask | command::tu.mask;
        constexpr std::uint64_t not_of_context =
            (ours & ~command::eop.mask) | context_tx_command::ide.mask;
        if (count == 0) {
            return error{errc::out_of_range, count};
        }
        const bool segments =
            command{data[0].high}[command::tse] && kind_of(data[0]) == tx_descriptor_kind::data;
        tx_descriptor wanted{};
        if (context != nullptr) {
            wanted = {context->low, context->high & ~not_of_context};
        }
        const bool tells = context != nullptr && !is_known(wanted, segments);
        const std::uint64_t needed = std::uint64_t{count} + (tells ? 1U : 0U);
        if (needed > capacity()) {
            return error{errc::out_of_range, count};
        }
        if (needed > free_descriptors()) {
            return error{errc::busy, free_descriptors()};
        }
        const std::uint32_t first = tail_;
        std::uint32_t at = first;
        if (tells) {
            at = tell(at, wanted);
        }
        for (std::uint32_t i = 0; i + 1 != count; ++i) {
            put(at, data[i].low, data[i].high & ~ours);
            at = step(at);
        }
        const bool reports = report_is_due();
        put(at, data[count - 1].low,
            (data[count - 1].high & ~ours) | command::eop.mask |
                (reports ? std::uint64_t{command::rs.mask} : 0));
        remember(cookie, first, at, reports);
        return {};
    }

    /// Tells the device of all packets that were enqueued since it was last told.
    constexpr void advance_tail() {
        if (announced_ != tail_ && started_) {
            show_tail();
        }
    }

    /// Hands back the cookies of the packets that the device is done with, in the order in which they
    /// were sent, calling each(cookie), which may send() and nothing else; descriptors of packets that
    /// are reported together are free when all of them are handed back. Returns the number of packets.
    template <std::invocable<std::uint64_t> F>
    constexpr std::uint32_t reclaim(F&& each) {
        expects(!handing_back_, "the callback of a transmit ring may send, and nothing else");
        const std::uint32_t before = returned_;
        const std::uint32_t end = announced_;
        handing_back_ = true;
        if (interval_ == 1) { // each packet says for itself
            while (head_ != end) {
                const tx_slot& slot = slot_of(head_);
                const auto last = static_cast<std::uint32_t>(slot.extent);
                if (!is_done(last)) {
                    break;
                }
                order_.acquire(); // the buffers are the caller's from here on
                const std::uint64_t cookie = slot.cookie;
                head_ = after(head_, last);
                ++returned_;
                each(cookie);
            }
            handing_back_ = false;
            return returned_ - before;
        }
        while (head_ != end && are_done(slot_of(head_).extent, end)) {
            order_.acquire();
            head_ = hand_back(head_, each);
        }
        handing_back_ = false;
        // Packets are left, all of them known to the device, and no report is on its way.
        if (head_ == open_ && head_ != tail_ && announced_ == tail_) [[unlikely]] {
            ask_for_report();
        }
        return returned_ - before;
    }

    /// Whether reclaim() would hand a packet back.
    [[nodiscard]] constexpr bool has_done() {
        if (head_ == announced_) {
            return false;
        }
        const std::uint64_t extent = slot_of(head_).extent;
        return interval_ == 1 ? is_done(last_of(extent)) : are_done(extent, announced_);
    }

    /// Packets that were sent or enqueued, and not yet handed back.
    [[nodiscard]] constexpr std::uint32_t in_flight() const { return sent_ - returned_; }

    /// Descriptors that send() can use now; 0 while the ring is not started.
    [[nodiscard]] constexpr std::uint32_t free_descriptors() const {
        std::uint32_t space = head_ - tail_ - tx_descriptor_size;
        if (space >= end_) { // below 0
            space += end_;
        }
        space /= tx_descriptor_size;
        return space > reserve_ ? space - reserve_ : 0;
    }

    /// Descriptors of the ring.
    [[nodiscard]] constexpr std::uint32_t count() const { return count_; }

    /// Whether packets can be segmented: not on 8254x, some of which report segmented packets as done
    /// before they have read them, or hang over long descriptors [82546 specification update], and all
    /// of which count the IPv6 header as payload [8254x].
    [[nodiscard]] constexpr bool has_segmentation() const {
        return settings_.members == family::pci_express;
    }
    /// settings.padding.
    [[nodiscard]] constexpr iova padding() const { return settings_.padding; }
    /// Least bytes of a packet, padding included.
    [[nodiscard]] constexpr std::uint32_t least_packet() const { return least_packet_; }
    /// Most bytes of a packet that is one frame, and of headers and payload of a segment: as prepare()
    /// found them, 80 less than the transmit FIFO, or 16,288.
    [[nodiscard]] constexpr std::uint32_t largest_packet() const { return largest_packet_; }

    /// TDH, the descriptor that the device says it works on; to look at, and to see whether it moves.
    /// absent (TDH's offset): the registers read all ones. hardware_fault (TDH): not an index of the
    /// ring.
    [[nodiscard]] constexpr result<std::uint32_t> head() {
        const tdh now = read<tdh>(mmio_, settings_.number);
        if (now.raw == all_ones) {
            return error{errc::absent, offset_of<tdh>(settings_.number)};
        }
        if (now.raw >= count_) {
            return error{errc::hardware_fault, now.raw};
        }
        return now.raw;
    }

    /// Where the next packet starts; the device knows of it after advance_tail().
    [[nodiscard]] constexpr std::uint32_t tail() const { return tail_ / tx_descriptor_size; }

    /// The registers, for whoever watches or resets the device.
    [[nodiscard]] constexpr Mmio& registers() { return mmio_; }
    [[nodiscard]] constexpr queue number() const { return settings_.number; }
    [[nodiscard]] constexpr family members() const { return settings_.members; }

private:
    static constexpr std::uint32_t all_ones = ~std::uint32_t{0};
    static constexpr std::uint32_t largest_payload = context_tx_command::paylen.value_mask;

    static constexpr std::uint64_t last_of_legacy =
        legacy_tx_command{legacy_tx_command::eop(true), legacy_tx_command::ifcs(true)}.raw;
    static constexpr std::uint64_t last_of_legacy_reported =
        legacy_tx_command{last_of_legacy}.with(legacy_tx_command::rs(true)).raw;

    // ------------------------------------------------------------------------------ descriptors
    // They are known by their offset in the ring, in bytes.

    [[nodiscard]] constexpr std::uint32_t step(std::uint32_t at) const {
        const std::uint32_t next = at + tx_descriptor_size;
        return next == end_ ? 0 : next;
    }
    /// What follows a packet. Mostly it has one descriptor; then the next one need not wait for a load.
    [[nodiscard]] constexpr std::uint32_t after(std::uint32_t first, std::uint32_t last) const {
        if (first == last) [[likely]] {
            return step(first);
        }
        return step(last);
    }
    /// Descriptors that an empty ring has for packets.
    [[nodiscard]] constexpr std::uint32_t capacity() const {
        return count_ > reserve_ + 1 ? count_ - 1 - reserve_ : 0;
    }
    /// Nothing is in use and nothing is free, until prepare().
    constexpr void close() {
        started_ = false;
        head_ = announced_ = open_ = step(tail_);
        open_packets_ = 0;
    }

    /// Writes a descriptor that the device does not yet look at.
    constexpr void put(std::uint32_t at, std::uint64_t low, std::uint64_t high) {
        memory_.write64(at, low);
        memory_.write64(at + 8, high);
    }
    [[nodiscard]] constexpr tx_slot& slot_of(std::uint32_t at) const {
        if (at % tx_descriptor_size != 0) {
            __builtin_unreachable(); // so that nobody divides
        }
        return slots_[at / tx_descriptor_size];
    }
    [[nodiscard]] constexpr bool is_done(std::uint32_t at) {
        return legacy_tx_command{memory_.read64(at + 8)}[legacy_tx_command::dd];
    }

    constexpr void show_tail() {
        announced_ = tail_;
        order_.release(); // the descriptors first, then the tail
        write(mmio_, settings_.number, tdt{tail_ / tx_descriptor_size});
    }

    // ---------------------------------------------------------------------------------- packets
    //
    // tx_slot::extent is the offset of the packet's last descriptor. Unless each packet reports, the low
    // bits, which are free, are flags, and the upper half has the offset of the descriptor with RS, if
    // it is not the packet's own: in the slot of the first packet that it reports.

    static constexpr std::uint64_t is_reported = 1;    ///< somebody asked for a report
    static constexpr std::uint64_t is_with_others = 2; ///< by a later descriptor
    static constexpr std::uint64_t is_apart = 4;       ///< which is not a packet's
    static constexpr std::uint64_t is_uniform = 8;     ///< all of them have one descriptor
    static constexpr unsigned report_shift = 32;

    [[nodiscard]] static constexpr std::uint32_t last_of(std::uint64_t extent) {
        return static_cast<std::uint32_t>(extent) & ~std::uint32_t{tx_descriptor_size - 1};
    }
    [[nodiscard]] static constexpr std::uint32_t reported_by(std::uint64_t extent) {
        return (extent & is_with_others) != 0 ? static_cast<std::uint32_t>(extent >> report_shift)
                                              : last_of(extent);
    }
    /// Whether a packet of one piece needs nothing but a descriptor.
    [[nodiscard]] constexpr bool is_regular(std::uint32_t length) const {
        return length - least_packet_ <= largest_packet_ - least_packet_;
    }
    /// Whether a piece of any length may be there: not at 0, and far from the end of the address space.
    /// enqueue_unusual() looks closer.
    [[nodiscard]] static constexpr bool is_regular(iova address) {
        return (address.raw - 1) >> 63U == 0;
    }

    /// Whether the next packet asks for a report.
    [[nodiscard]] constexpr bool report_is_due() const {
        return interval_ == 0 ? open_ == head_ : open_packets_ + 1 >= interval_;
    }

    /// A packet that was written from `first` to `last`, and whether it has RS.
    constexpr void remember(std::uint64_t cookie, std::uint32_t first, std::uint32_t last,
                            bool reports) {
        slot_of(first) = {cookie, last};
        tail_ = step(last);
        ++sent_;
        if (interval_ != 1) {
            ++open_packets_;
            if (reports) {
                report(last);
            }
        }
    }
    /// The descriptor at `by`, the last before the tail, reports all packets that nobody asked a
    /// report for. `flags`: is_apart, or nothing.
    constexpr void report(std::uint32_t by, std::uint64_t flags = 0) {
        std::uint64_t& extent = slot_of(open_).extent;
        if (flags == 0 && last_of(extent) == by) {
            extent |= is_reported;
        } else {
            const std::uint32_t descriptors =
                distance(open_, flags == 0 ? tail_ : by) / tx_descriptor_size;
            if (descriptors == open_packets_) {
                flags |= is_uniform;
            }
            extent |= is_reported | is_with_others | flags | std::uint64_t{by} << report_shift;
        }
        open_ = tail_;
        open_packets_ = 0;
    }
    /// From one descriptor on to another; the whole ring if they are the same.
    [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from, std::uint32_t to) const {
        return to > from ? to - from : to + end_ - from;
    }

    /// Whether the device is done with the packets from the head on to the descriptor that reports them.
    constexpr bool are_done(std::uint64_t extent, std::uint32_t end) {
        const std::uint32_t by = reported_by(extent);
        // A packet that the device does not know of yet cannot report.
        return (extent & is_reported) != 0 && distance(head_, step(by)) <= distance(head_, end) &&
               is_done(by);
    }

    /// Calls each(cookie) for the packet at `at` and those that are reported with it. What follows them.
    template <class F>
    constexpr std::uint32_t hand_back(std::uint32_t at, F&& each) {
        const std::uint64_t extent = slot_of(at).extent;
        const std::uint32_t by = reported_by(extent);
        const std::uint32_t end = (extent & is_apart) != 0 ? by : step(by);
        if ((extent & is_uniform) != 0) {
            while (at != end) {
                const std::uint32_t together = (end > at ? end : end_) - at;
                const tx_slot* slot = &slot_of(at);
#pragma GCC unroll 4
                for (const tx_slot* const stop = slot + together / tx_descriptor_size; slot != stop;
                     ++slot) {
                    ++returned_;
                    each(slot->cookie);
                }
                at = at + together == end_ ? 0 : at + together;
            }
            return step(by);
        }
        do {
            const tx_slot& slot = slot_of(at);
            const std::uint64_t cookie = slot.cookie;
            at = step(last_of(slot.extent));
            ++returned_;
            each(cookie);
        } while (at != end);
        return step(by);
    }

    /// A context descriptor is the one descriptor that sends nothing and still reports. The context is
    /// the one that the device has anyway, unless that announces data to segment.
    constexpr void ask_for_report() {
        using command = context_tx_command;
        constexpr command any{command::dtyp(tx_descriptor_type::context), command::dext(true)};
        if (context_ == tx_descriptor{} || command{context_.high}[command::tse]) {
            context_ = {0, any.raw};
        }
        const std::uint32_t at = tail_;
        put(at, context_.low, command{context_.high}.with(command::rs(true)).raw);
        tail_ = step(at);
        report(at, is_apart);
        show_tail();
    }

    // --------------------------------------------------------------------------------- contexts

    /// Whether the device still has this context. That of a segmentation is never taken for known:
    /// nothing says that it survives its packet.
    [[nodiscard]] constexpr bool is_known(const tx_descriptor& context, bool segments) const {
        return settings_.contexts == context_use::reused && !segments && context == context_;
    }
    /// Puts it at `at` and returns what follows.
    constexpr std::uint32_t tell(std::uint32_t at, const tx_descriptor& context) {
        put(at, context.low, context.high);
        context_ = context;
        return step(at);
    }

    // ------------------------------------------------------------------------------------ paths

    /// A packet of one regular piece, if there is room and each packet reports. Whether it was one.
    [[gnu::always_inline]] constexpr bool enqueue_one(const fragment& whole, std::uint64_t cookie) {
        const std::uint32_t at = tail_;
        const std::uint32_t next = step(at);
        if (!is_regular(whole.length) || !is_regular(whole.address) || interval_ != 1 ||
            next == head_) [[unlikely]] {
            return false;
        }
        put(at, whole.address.raw, whole.length | last_of_legacy_reported);
        slot_of(at) = {cookie, at};
        tail_ = next;
        ++sent_;
        return true;
    }

    /// Packets from the first on that are regular and for which there is room.
    constexpr std::uint32_t enqueue_regular(const tx_packet* packets, std::uint32_t count) {
        const std::uint32_t room = free_descriptors();
        const std::uint32_t most = count < room ? count : room;
        std::uint32_t sent = 0;
        while (sent != most) {
            // As many as lie together in the ring, and end with a report.
            std::uint32_t run = shorter(most - sent, (end_ - tail_) / tx_descriptor_size);
            if (interval_ > 1) {
                run = shorter(run, interval_ - open_packets_);
            } else if (interval_ == 0 && open_ == head_) {
                run = 1;
            }
            const std::uint32_t done = enqueue_run(packets + sent, run);
            sent += done;
            if (done != run) {
                break;
            }
        }
        return sent;
    }
    /// Of `run` packets, of which all are reported or at most the last one, and whose descriptors lie
    /// together. What is written meanwhile is nobody's yet.
    constexpr std::uint32_t enqueue_run(const tx_packet* packets, std::uint32_t run) {
        const bool all = interval_ == 1;
        const std::uint64_t command = all ? last_of_legacy_reported : last_of_legacy;
        const std::uint32_t most = largest_packet_ - least_packet_;
        Memory memory = memory_;
        tx_slot* slot = &slot_of(tail_);
        std::uint32_t at = tail_;
        const tx_packet* packet = packets;
#pragma GCC unroll 8
        for (const tx_packet* const end = packets + run; packet != end; ++packet) {
            if (packet->length - least_packet_ > most || !is_regular(packet->address))
                [[unlikely]] {
                break;
            }
            memory.write64(at, packet->address.raw);
            memory.write64(at + 8, packet->length | command);
            *slot = {packet->cookie, at};
            ++slot;
            at += tx_descriptor_size;
        }
        const auto done = static_cast<std::uint32_t>(packet - packets);
        if (done == 0) {
            return 0;
        }
        sent_ += done;
        const std::uint32_t last = at - tx_descriptor_size;
        tail_ = step(last);
        if (all) {
            return done;
        }
        open_packets_ += done - 1;
        const bool reports = report_is_due();
        ++open_packets_;
        if (reports) {
            memory.write64(last + 8, packets[done - 1].length | last_of_legacy_reported);
            report(last);
        }
        return done;
    }
    static constexpr std::uint32_t shorter(std::uint32_t a, std::uint32_t b) {
        return a < b ? a : b;
    }

    /// What the last descriptor of a packet says, and each one before it.
    struct commands {
        std::uint64_t last;
        std::uint64_t others;
    };
    constexpr commands commands_of(const tx_request& request, bool reports) const {
        // VLE, IFCS and the tag count in the last descriptor, or with TSE in the first; POPTS in the
        // first [82574]. Data descriptors have them all in each, legacy ones have no more than they
        // need.
        using command = data_tx_command;
        const bool extended = request.offload.needed();
        std::uint64_t all = command::ifcs.mask | (extended ? request.offload.data().raw : 0);
        if (request.tagging == vlan_insertion::insert) {
            all |= command::vle.mask | std::uint64_t{request.tag.raw} << command::vlan.low;
        }
        std::uint64_t last = all | command::eop.mask;
        last |= reports ? std::uint64_t{command::rs.mask} : 0;
        if (request.interrupt == tx_interrupt::delayed && settings_.interrupt_delay != 0) {
            last |= command::ide.mask;
        }
        return {last, extended ? all : 0};
    }
    /// The longest packet of such a request.
    [[nodiscard]] constexpr std::uint32_t longest_of(const tx_offload& offload) const {
        return offload.segments() ? offload.header_length() + largest_payload : largest_packet_;
    }

    /// Any packet. The usual ones, whose pieces have a descriptor each and lie together in the ring,
    /// are written while they are checked: nobody looks behind the tail.
    constexpr result<> enqueue_pieces(const fragment* fragments, std::size_t count,
                                      std::uint64_t cookie, const tx_request& request) {
        const tx_offload& offload = request.offload;
        const std::uint32_t first = tail_;
        if (count - 1 >= free_descriptors() ||
            count >= (end_ - first) / tx_descriptor_size || // one is for the context
            (offload.segments() && !has_segmentation()) ||
            fragments[0].length < offload.header_length()) [[unlikely]] {
            return enqueue_unusual(fragments, count, cookie, request);
        }
        const bool reports = report_is_due();
        const commands say = commands_of(request, reports);
        const bool tells = offload.needed() && !is_known(offload.context(), offload.segments());
        Memory memory = memory_;
        std::uint32_t at = first + (tells ? tx_descriptor_size : 0);
        std::uint32_t length = 0;
        const fragment* piece = fragments;
#pragma GCC unroll 4
        for (const fragment* const end = fragments + count; piece != end; ++piece) {
            if (piece->length - 1 >= largest_legacy_length || !is_regular(piece->address))
                [[unlikely]] {
                return enqueue_unusual(fragments, count, cookie, request);
            }
            memory.write64(at, piece->address.raw);
            memory.write64(at + 8, piece->length | say.others);
            length += piece->length; // fits: 65,528 times 16,288
            at += tx_descriptor_size;
        }
        const std::uint32_t least =
            offload.least_length() > least_packet_ ? offload.least_length() : least_packet_;
        const std::uint32_t frame = std::uint32_t{offload.header_length()} + offload.segment_size();
        if (length < least || length > longest_of(offload) || frame > largest_packet_ ||
            (tells && count >= free_descriptors())) [[unlikely]] {
            return enqueue_unusual(fragments, count, cookie, request);
        }
        if (tells) {
            tell(first, offload.context(length - offload.header_length()));
        }
        const std::uint32_t last = at - tx_descriptor_size;
        memory.write64(last + 8, fragments[count - 1].length | say.last);
        remember(cookie, first, last, reports);
        return {};
    }

    /// Any packet, first checked and then written.
    constexpr result<> enqueue_unusual(const fragment* fragments, std::size_t count,
                                       std::uint64_t cookie, const tx_request& request) {
        const tx_offload& offload = request.offload;
        if (count == 0 || count > capacity()) {
            return error{errc::out_of_range, count};
        }
        const std::uint32_t frame = std::uint32_t{offload.header_length()} + offload.segment_size();
        if (offload.segments() && !has_segmentation()) {
            return error{errc::not_supported, 0};
        }
        if (frame > largest_packet_) {
            return error{errc::out_of_range, frame};
        }
        const std::uint32_t longest = longest_of(offload);
        std::uint32_t length = 0;
        std::uint64_t needed = count;
        for (std::size_t i = 0; i != count; ++i) {
            const std::uint32_t piece = fragments[i].length;
            if (piece - 1 >= longest - length) { // none at all, too
                return error{errc::out_of_range, i};
            }
            if (fragments[i].address == iova{}) {
                return error{errc::reserved_address, i};
            }
            if (fragments[i].address.raw > ~std::uint64_t{0} - (piece - 1)) {
                return error{errc::out_of_range, i};
            }
            length += piece;
            needed += (piece - 1) / largest_legacy_length;
        }
        // Headers that a descriptor has in part are not supported [82574].
        if (fragments[0].length < offload.header_length()) {
            return error{errc::out_of_range, 0};
        }
        const bool padded = length < least_packet_;
        if (length < offload.least_length() || (padded && settings_.padding == iova{})) {
            return error{errc::out_of_range, length};
        }
        const tx_descriptor context = offload.context(length - offload.header_length());
        const bool tells = offload.needed() && !is_known(context, offload.segments());
        needed += (padded ? 1U : 0U) + (tells ? 1U : 0U);
        if (needed > capacity()) {
            return error{errc::out_of_range, count};
        }
        if (needed > free_descriptors()) {
            return error{errc::busy, free_descriptors()};
        }

        const bool reports = report_is_due();
        const commands say = commands_of(request, reports);
        const std::uint32_t first = tail_;
        std::uint32_t at = tells ? tell(first, context) : first;
        fragment piece = fragments[0];
        for (std::size_t i = 0;;) {
            while (piece.length > largest_legacy_length) {
                put(at, piece.address.raw, largest_legacy_length | say.others);
                at = step(at);
                piece = {piece.address + largest_legacy_length,
                         piece.length - largest_legacy_length};
            }
            if (++i == count) {
                break;
            }
            put(at, piece.address.raw, piece.length | say.others);
            at = step(at);
            piece = fragments[i];
        }
        if (padded) {
            put(at, piece.address.raw, piece.length | say.others);
            at = step(at);
            piece = {settings_.padding, least_packet_ - length};
        }
        put(at, piece.address.raw, piece.length | say.last);
        remember(cookie, first, at, reports);
        return {};
    }

    [[no_unique_address]] Mmio mmio_;
    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Barrier order_;
    tx_slot* slots_;
    std::uint32_t end_;      ///< of the ring, bytes
    std::uint32_t count_;    ///< of descriptors
    std::uint32_t interval_; ///< of reports
    std::uint32_t reserve_;  ///< descriptors kept for ask_for_report()
    std::uint32_t least_packet_;
    std::uint32_t largest_packet_ = largest_legacy_length;
    std::uint32_t head_ = 0;         ///< first descriptor that is in use
    std::uint32_t tail_ = 0;         ///< first descriptor of the next packet
    std::uint32_t announced_ = 0;    ///< the tail that the device knows
    std::uint32_t open_ = 0;         ///< first packet that nobody asked a report for
    std::uint32_t open_packets_ = 0; ///< from there to the tail; 0 if each packet reports
    std::uint32_t sent_ = 0;         ///< packets, of all time
    std::uint32_t returned_ = 0;     ///< packets, of all time
    bool started_ = false;
    bool handing_back_ = false; ///< each() is being called
    tx_descriptor context_{};   ///< the last one that the device was given
    iova base_;
    tx_settings settings_;
};

} // namespace pt::e1000e
