// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_descriptor.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// RDLEN counts in units of 128 bytes, so descriptors come in eights; it has 13 bits of units.
inline constexpr std::uint32_t rx_ring_granularity = 8;
inline constexpr std::uint32_t largest_rx_ring = 0x1FFF * rx_ring_granularity;
static_assert(largest_rx_ring == 65'528);

/// Which format receive descriptors have (RFCTL.EXSTEN). 8254x has legacy ones only.
enum class rx_format : std::uint8_t { legacy, extended };

/// What the upper half of the first quadword of an extended descriptor is (RXCSUM.PCSD).
enum class rx_digest : std::uint8_t {
    packet_checksum, ///< with the IP identification of a fragment
    rss_hash,        ///< RSS itself (MRQC and its tables) is the caller's
};

/// At which part of the ring RXDMT0 says that few buffers are left (RCTL.RDMTS).
enum class rx_threshold : std::uint8_t { half, quarter, eighth };

/// How a rx_ring programs the receiver. All but the number of the queue is shared by the two queues
/// of a device and must be the same for both.
struct rx_settings {
    family members = family::pci_express;
    queue number = queue::first;
    rx_format format = rx_format::legacy;
    rx_digest digest = rx_digest::packet_checksum;
    rx_threshold threshold = rx_threshold::half;

    /// Bytes of each buffer that is posted: 256, 512, 1024, 2048, 4096, 8192 or 16,384. A packet
    /// that is longer takes several.
    std::uint32_t buffer_size = 2048;

    bool unicast_promiscuous = false;   ///< RCTL.UPE: any unicast destination
    bool multicast_promiscuous = false; ///< RCTL.MPE: any multicast destination
    bool broadcast = true;              ///< RCTL.BAM
    bool vlan_filter = false;           ///< RCTL.VFE: only the VLANs in VFTA
    bool long_packets = false;          ///< RCTL.LPE: beyond 1522 bytes, up to 16,384
    bool bad_packets = false;           ///< RCTL.SBP: also those with errors
    bool strip_crc = true;              ///< RCTL.SECRC

    bool check_ip = true;        ///< RXCSUM.IPOFL: IPv4 header checksums
    bool check_transport = true; ///< RXCSUM.TUOFL: TCP and UDP checksums
    /// RXCSUM.PCSS: the byte of a packet at which the packet checksum starts.
    std::uint8_t packet_checksum_start = 0;

    std::uint16_t interrupt_delay = 0; ///< RDTR, 1.024 us: after a packet, begun anew by each
    std::uint16_t absolute_delay = 0;  ///< RADV, 1.024 us: at most, after the first; 0: no limit
};

/// What the driver remembers of a posted buffer. The caller provides one for each descriptor and
/// leaves them to the ring.
struct rx_slot {
    std::uint64_t cookie = 0;
};

/// Which part of a packet a buffer holds.
enum class rx_place : std::uint8_t { only, first, middle, last };

/// What became of a checksum that the NIC may check.
enum class checksum_result : std::uint8_t { not_checked, right, wrong };

/// Why the bytes of a packet may be wrong. All but `length` need RCTL.SBP to be seen.
struct rx_errors {
    bool crc = false;               ///< CE: CRC or alignment
    bool symbol = false;            ///< SE
    bool sequence = false;          ///< SEQ
    bool carrier_extension = false; ///< CXE
    bool data = false;              ///< RXE
    /// The device claims more bytes than the buffer has: it is broken or hostile. Of this buffer.
    bool length = false;

    [[nodiscard]] constexpr bool any() const {
        return crc || symbol || sequence || carrier_extension || data || length;
    }
    friend constexpr bool operator==(const rx_errors&, const rx_errors&) = default;
};

/// One buffer that came back, in either format. What is said of the packet as a whole is in its last
/// buffer, unless it is marked otherwise. 8254x does not say what follows `packet_checksum`.
struct rx_piece {
    std::uint64_t cookie = 0;
    std::uint32_t length = 0; ///< bytes in the buffer, never more than it has
    rx_place place = rx_place::only;
    rx_errors errors;
    checksum_result ip_checksum = checksum_result::not_checked;        ///< of the IPv4 header
    checksum_result transport_checksum = checksum_result::not_checked; ///< of TCP or UDP
    bool passed_inexact_filter = false; ///< PIF: look at the destination yourself
    bool has_vlan = false;              ///< VP: the tag was taken out of the packet
    vlan_tag vlan;                      ///< if it was
    /// Complement of the sum of the bytes from PCSS on. Legacy: in the packet's first buffer.
    std::uint16_t packet_checksum = 0;

    bool is_fragment = false;            ///< IPIDV: of an IPv4 packet; extended format
    std::uint16_t ip_identification = 0; ///< of a fragment
    bool udp_begins = false;             ///< UDPV: fragment with a UDP header; extended format
    bool acknowledges = false;           ///< ACK: a TCP acknowledgement; extended format
    std::uint8_t rss_type = 0;           ///< of the hash; extended format
    std::uint32_t rss_hash = 0;          ///< with rx_digest::rss_hash

    friend constexpr bool operator==(const rx_piece&, const rx_piece&) = default;
};

/// The driver's side of a receive queue.
///
///     rx_ring ring{mmio, memory, barrier, iova{0x20000}, slots, 256};
///     if (auto started = ring.start(); !started) ...
///     while (ring.post(buffer, cookie)) ...        // until errc::busy
///     ring.advance_tail();
///     ring.receive([&](const rx_piece& piece) {    // each buffer's, once, in order
///         ...
///         ring.post(buffer, cookie);
///     });
///     ring.advance_tail();
///
/// Head equal to tail means that no buffer is left, so a ring of n descriptors holds n - 1. The device
/// is not believed: buffers are found by what the driver itself remembers, DD counts in posted
/// descriptors only, and a length is never more than the buffer.
///
/// The address filters (RAL, RAH, MTA, VFTA), CTRL.VME, which takes VLAN tags out of packets, and RSS
/// are the caller's. RCTL, RFCTL, RXCSUM, RDTR and RADV belong to the device and not to a queue: to
/// run both queues, start() the first, pause() it, and start() the second, which enables both.
///
/// One caller at a time; the VMM's lock is around the ring and not in it.
template <mmio_io Mmio, dma_memory Memory, barrier Barrier>
class rx_ring {
public:
    /// `memory` are the descriptors, 16 * count bytes, which the device reaches at `base`; `slots`
    /// are `count` elements that stay with the ring. No hardware is touched before start().
    constexpr rx_ring(Mmio mmio, Memory memory, Barrier order, iova base, rx_slot* slots,
                      std::uint32_t count, const rx_settings& settings = {})
        : mmio_{mmio},
          memory_{memory},
          order_{order},
          slots_{slots},
          base_{base},
          count_{count},
          settings_{settings} {
        expects(slots != nullptr || count == 0, "a receive ring needs a slot for each descriptor");
    }

    rx_ring(const rx_ring&) = delete;
    rx_ring& operator=(const rx_ring&) = delete;

    /// Programs the empty ring and enables the receiver; buffers are posted afterwards. Errors, all
    /// before a write:
    ///   busy (buffers)          buffers are posted: receive() or abandon() them first
    ///   out_of_range (count)    no descriptor, or more than 65,528
    ///   misaligned (count)      not a multiple of 8 descriptors
    ///   misaligned (base)       not a multiple of 16
    ///   out_of_range (base)     the ring does not fit below the end of the address space
    ///   out_of_range (size)     a buffer size that RCTL does not have
    ///   not_supported (RFCTL's offset)   extended format on 8254x, or an RSS hash without it
    ///   not_supported (1)       the second queue on 8254x
    ///   absent (RCTL's offset)  the registers read all ones
    ///   busy (RCTL's offset)    the receiver is enabled; the head must not be written then
    /// and after the last: absent, or hardware_fault (RCTL's offset) if the enable bit did not stay.
    [[nodiscard]] constexpr result<> start() {
        if (const result<> legal = check(); !legal) {
            return legal;
        }
        const rctl control = read<rctl>(mmio_);
        if (control.raw == all_ones) {
            return error{errc::absent, rctl::offset};
        }
        if (control[rctl::en]) {
            return error{errc::busy, rctl::offset};
        }

        const queue number = settings_.number;
        write(mmio_, number, rdbal{static_cast<std::uint32_t>(base_.raw)});
        write(mmio_, number, rdbah{static_cast<std::uint32_t>(base_.raw >> 32U)});
        write(mmio_, number, rdlen{count_ * rx_descriptor_size});
        write(mmio_, number, rdh{rdh::head(0)});
        write(mmio_, number, rdt{rdt::tail(0)});
        // Write-back threshold 1: DD appears as soon as a descriptor is done.
        write(mmio_, number,
              read<rxdctl>(mmio_, number)
                  .write_back()
                  .with(rxdctl::pthresh(0), rxdctl::hthresh(0), rxdctl::wthresh(1),
                        rxdctl::gran(true)));
        write(mmio_, rdtr{rdtr::delay(settings_.interrupt_delay)});
        write(mmio_, radv{radv::delay(settings_.absolute_delay)});
        if (settings_.members == family::pci_express) {
            write(mmio_, read<rfctl>(mmio_).write_back().with(
                             rfctl::exsten(settings_.format == rx_format::extended)));
        }
        write(mmio_,
              read<rxcsum>(mmio_).write_back().with(
                  rxcsum::pcss(settings_.packet_checksum_start), rxcsum::ipofl(settings_.check_ip),
                  rxcsum::tuofl(settings_.check_transport), rxcsum::ippcse(false),
                  rxcsum::pcsd(settings_.digest == rx_digest::rss_hash)));
        head_ = tail_ = 0;
        in_packet_ = false;
        return set_enable(with_settings(control.write_back()));
    }

    /// Disables the receiver, once all buffers came back: busy (buffers) while some are posted, and
    /// nothing is changed then. absent (RCTL's offset): there is no device to stop any more. Either
    /// way but busy, the ring takes no buffer until start(). The usual end of a ring is pause(),
    /// receive() for what has arrived, and abandon().
    [[nodiscard]] constexpr result<> stop() {
        if (in_flight() != 0) {
            return error{errc::busy, in_flight()};
        }
        return disable();
    }

    /// Disables the receiver, of both queues; posted buffers stay, and receive() still gives back
    /// those that were filled. absent (RCTL's offset): the registers read all ones.
    [[nodiscard]] constexpr result<> pause() { return clear_enable(); }

    /// Enables it again. busy (0): the ring was not started. absent, hardware_fault as start().
    [[nodiscard]] constexpr result<> resume() {
        if (!started_) {
            return error{errc::busy, 0};
        }
        const rctl control = read<rctl>(mmio_);
        if (control.raw == all_ones) {
            return error{errc::absent, rctl::offset};
        }
        return set_enable(control.write_back());
    }

    /// Disables the receiver and hands back the cookies of all posted buffers, in order, calling
    /// each(cookie). What is in them is lost. A device that is still there may write to them until it
    /// is reset (CTRL.RST) or has no request left (CTRL.GIO_MASTER_DISABLE). Until the last cookie is
    /// out, the ring takes no buffer and start() says busy. Returns the number of calls.
    template <std::invocable<std::uint64_t> F>
    constexpr std::uint32_t abandon(F&& each) {
        static_cast<void>(disable()); // gone is as good as stopped
        abandoned_ = in_flight();
        announced_ = queued_ = 0;
        std::uint32_t buffers = 0;
        while (abandoned_ != 0) {
            const std::uint64_t cookie = slots_[head_].cookie;
            head_ = next(head_);
            --abandoned_;
            ++buffers;
            each(cookie);
        }
        return buffers;
    }

    /// Puts a buffer of rx_settings::buffer_size bytes into the ring; advance_tail() tells the device.
    /// The cookie comes back from receive(). A ring that is not started takes nothing. Errors:
    ///   reserved_address (0)    the device takes address 0 for no buffer at all [8254x]
    ///   out_of_range (buffer)   it does not fit below the end of the address space
    ///   busy (0)                no room now: no descriptor is free
    [[nodiscard]] constexpr result<> post(iova buffer, std::uint64_t cookie) {
        if (buffer.raw == 0) {
            return error{errc::reserved_address, 0};
        }
        if (buffer.raw > ~std::uint64_t{0} - (settings_.buffer_size - 1)) {
            return error{errc::out_of_range, buffer.raw};
        }
        if (free_descriptors() == 0) {
            return error{errc::busy, 0};
        }
        const std::uint32_t at = tail_ * rx_descriptor_size;
        memory_.write64(at + rx_buffer_address::offset, buffer.raw);
        memory_.write64(at + legacy_rx_status::offset, 0); // no DD, in either format
        slots_[tail_] = {cookie};
        tail_ = next(tail_);
        ++queued_;
        return {};
    }

    /// Tells the device of all buffers that were posted since it was last told.
    constexpr void advance_tail() {
        if (queued_ == 0) {
            return;
        }
        announced_ += queued_;
        queued_ = 0;
        order_.release(); // the descriptors first, then the tail
        write(mmio_, settings_.number, rdt{rdt::tail(static_cast<std::uint16_t>(tail_))});
    }

    /// Hands back the buffers that the device is done with, in the order in which they were posted,
    /// calling each(const rx_piece&), which may post(). Those that the device fills meanwhile wait for
    /// the next call once as many came back as it had at first. Returns their number.
    template <std::invocable<const rx_piece&> F>
    constexpr std::uint32_t receive(F&& each) {
        std::uint32_t buffers = 0;
        for (std::uint32_t left = announced_; left != 0 && announced_ != 0; --left) {
            const std::uint32_t at = head_ * rx_descriptor_size;
            const std::uint64_t high = memory_.read64(at + legacy_rx_status::offset);
            const bool is_done = settings_.format == rx_format::extended
                                     ? extended_rx_status{high}[extended_rx_status::dd]
                                     : legacy_rx_status{high}[legacy_rx_status::dd];
            if (!is_done) {
                break;
            }
            order_.acquire(); // the buffer is the caller's from here on
            rx_piece piece = settings_.format == rx_format::extended
                                 ? extended_piece(at, extended_rx_status{high})
                                 : legacy_piece(legacy_rx_status{high});
            piece.cookie = slots_[head_].cookie;
            head_ = next(head_);
            --announced_;
            ++buffers;
            each(static_cast<const rx_piece&>(piece));
        }
        return buffers;
    }

    /// Buffers that were posted, and not yet handed back.
    [[nodiscard]] constexpr std::uint32_t in_flight() const {
        return announced_ + queued_ + abandoned_;
    }

    /// Descriptors that post() can use now; 0 while the ring is not started.
    [[nodiscard]] constexpr std::uint32_t free_descriptors() const {
        return started_ ? count_ - 1 - in_flight() : 0;
    }

    /// Descriptors of the ring, free or not.
    [[nodiscard]] constexpr std::uint32_t count() const { return count_; }

    /// RDH, the descriptor that the device says it fills next; to look at. absent (RDH's offset):
    /// the registers read all ones. hardware_fault (RDH): not an index of the ring.
    [[nodiscard]] constexpr result<std::uint32_t> head() {
        const rdh now = read<rdh>(mmio_, settings_.number);
        if (now.raw == all_ones) {
            return error{errc::absent, offset_of<rdh>(settings_.number)};
        }
        if (now.raw >= count_) {
            return error{errc::hardware_fault, now.raw};
        }
        return now.raw;
    }

    /// Where the next buffer goes; the device knows of it after advance_tail().
    [[nodiscard]] constexpr std::uint32_t tail() const { return tail_; }

    [[nodiscard]] constexpr Mmio& registers() { return mmio_; }
    [[nodiscard]] constexpr queue number() const { return settings_.number; }
    [[nodiscard]] constexpr family members() const { return settings_.members; }
    [[nodiscard]] constexpr const rx_settings& settings() const { return settings_; }

private:
    static constexpr std::uint32_t all_ones = ~std::uint32_t{0};

    [[nodiscard]] constexpr std::uint32_t next(std::uint32_t index) const {
        return index + 1 == count_ ? 0 : index + 1;
    }

    /// What start() promises to find wrong before it looks at the device.
    [[nodiscard]] constexpr result<> check() const {
        if (in_flight() != 0) {
            return error{errc::busy, in_flight()};
        }
        if (count_ == 0 || count_ > largest_rx_ring) {
            return error{errc::out_of_range, count_};
        }
        if (count_ % rx_ring_granularity != 0) {
            return error{errc::misaligned, count_};
        }
        if (!base_.is_aligned(rx_descriptor_size)) {
            return error{errc::misaligned, base_.raw};
        }
        if (base_.raw > ~std::uint64_t{0} - (count_ * rx_descriptor_size - 1)) {
            return error{errc::out_of_range, base_.raw};
        }
        if (size_code() == no_code) {
            return error{errc::out_of_range, settings_.buffer_size};
        }
        const bool is_legacy = settings_.format == rx_format::legacy;
        const bool is_pci = settings_.members == family::pci;
        if ((is_pci && !is_legacy) || (is_legacy && settings_.digest == rx_digest::rss_hash)) {
            return error{errc::not_supported, rfctl::offset};
        }
        if (is_pci && settings_.number != queue::first) {
            return error{errc::not_supported, 1};
        }
        return {};
    }

    static constexpr std::uint32_t no_code = 8;
    /// BSIZE, plus 4 with BSEX; or no_code.
    [[nodiscard]] constexpr std::uint32_t size_code() const {
        switch (settings_.buffer_size) {
        case 2048: return 0;
        case 1024: return 1;
        case 512: return 2;
        case 256: return 3;
        case 16'384: return 4 + 1;
        case 8192: return 4 + 2;
        case 4096: return 4 + 3;
        default: return no_code;
        }
    }

    [[nodiscard]] constexpr rctl with_settings(rctl control) const {
        const std::uint32_t size = size_code();
        return control.with(
            rctl::sbp(settings_.bad_packets), rctl::upe(settings_.unicast_promiscuous),
            rctl::mpe(settings_.multicast_promiscuous), rctl::lpe(settings_.long_packets),
            rctl::lbm(0), rctl::rdmts(static_cast<std::uint8_t>(settings_.threshold)),
            rctl::dtyp(0), rctl::bam(settings_.broadcast),
            rctl::bsize(static_cast<std::uint8_t>(size & 3U)), rctl::vfe(settings_.vlan_filter),
            rctl::bsex((size & 4U) != 0), rctl::secrc(settings_.strip_crc), rctl::flxbuf(0));
    }

    /// Enables the receiver with these settings, and sees whether it is.
    constexpr result<> set_enable(rctl control) {
        write(mmio_, control.with(rctl::en(true)));
        const rctl enabled = read<rctl>(mmio_);
        if (enabled.raw == all_ones) {
            return error{errc::absent, rctl::offset};
        }
        if (!enabled[rctl::en]) {
            return error{errc::hardware_fault, rctl::offset};
        }
        started_ = true;
        return {};
    }
    constexpr result<> clear_enable() {
        const rctl control = read<rctl>(mmio_);
        if (control.raw != all_ones) {
            write(mmio_, control.write_back().with(rctl::en(false)));
            // The read pushes the write out to the device.
            if (read<rctl>(mmio_).raw != all_ones) {
                return {};
            }
        }
        return error{errc::absent, rctl::offset};
    }
    constexpr result<> disable() {
        started_ = false;
        return clear_enable();
    }

    [[nodiscard]] constexpr rx_piece legacy_piece(legacy_rx_status status) {
        rx_piece piece = piece_of(status);
        if (piece.place == rx_place::only || piece.place == rx_place::first) {
            piece.packet_checksum = status[legacy_rx_status::packet_checksum];
        }
        return piece;
    }

    [[nodiscard]] constexpr rx_piece extended_piece(std::uint32_t at, extended_rx_status status) {
        rx_piece piece = piece_of(status);
        if (!status[extended_rx_status::eop]) {
            return piece;
        }
        const extended_rx_hash hash{memory_.read64(at + extended_rx_hash::offset)};
        piece.udp_begins = status[extended_rx_status::udpv];
        piece.acknowledges = status[extended_rx_status::ack];
        if (settings_.digest == rx_digest::rss_hash) {
            piece.rss_type = hash[extended_rx_hash::rss_type];
            piece.rss_hash = static_cast<std::uint32_t>(hash.raw >> 32U);
        } else {
            piece.packet_checksum = hash[extended_rx_hash::packet_checksum];
            piece.is_fragment = status[extended_rx_status::ipidv];
            piece.ip_identification =
                piece.is_fragment ? hash[extended_rx_hash::ip_identification] : std::uint16_t{0};
        }
        return piece;
    }

    /// What both formats have.
    template <class Status>
    [[nodiscard]] constexpr rx_piece piece_of(Status status) {
        rx_piece piece;
        piece.length = status[Status::length];
        if (piece.length > settings_.buffer_size) {
            piece.length = settings_.buffer_size;
            piece.errors.length = true;
        }
        const bool is_last = status[Status::eop];
        piece.place = in_packet_ ? (is_last ? rx_place::last : rx_place::middle)
                                 : (is_last ? rx_place::only : rx_place::first);
        in_packet_ = !is_last;
        if (!is_last) {
            return piece;
        }
        piece.errors.crc = status[Status::ce];
        piece.errors.symbol = status[Status::se];
        piece.errors.sequence = status[Status::seq];
        piece.errors.carrier_extension = status[Status::cxe];
        piece.errors.data = status[Status::rxe];
        if (!status[Status::ixsm]) {
            if (status[Status::ipcs]) {
                piece.ip_checksum = result_of(status[Status::ipe]);
            }
            if (status[Status::tcpcs] || status[Status::udpcs]) {
                piece.transport_checksum = result_of(status[Status::tcpe]);
            }
        }
        piece.passed_inexact_filter = status[Status::pif];
        piece.has_vlan = status[Status::vp];
        piece.vlan = vlan_tag{piece.has_vlan ? status[Status::vlan] : std::uint16_t{0}};
        return piece;
    }
    [[nodiscard]] static constexpr checksum_result result_of(bool is_wrong) {
        return is_wrong ? checksum_result::wrong : checksum_result::right;
    }

    [[no_unique_address]] Mmio mmio_;
    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Barrier order_;
    rx_slot* slots_;
    iova base_;
    std::uint32_t count_;
    rx_settings settings_;
    std::uint32_t head_ = 0;      ///< the oldest posted buffer
    std::uint32_t tail_ = 0;      ///< where the next one goes
    std::uint32_t announced_ = 0; ///< buffers that the device knows of
    std::uint32_t queued_ = 0;    ///< buffers that it does not know of yet
    std::uint32_t abandoned_ = 0; ///< buffers that abandon() has yet to hand back
    bool started_ = false;
    bool in_packet_ = false; ///< the buffer before had no EOP
};

} // namespace pt::e1000e
