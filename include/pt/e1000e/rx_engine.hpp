// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/frame_check_sequence.hpp"
#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/receive_checksum.hpp"
#include "pt/e1000e/receive_filter.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_descriptor.hpp"
#include "pt/e1000e/rx_queue.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::e1000e {

/// What became of a frame.
enum class rx_outcome : std::uint8_t {
    taken,          ///< it is in the guest's buffers
    disabled,       ///< RCTL.EN is clear
    filtered,       ///< the guest does not want it: addresses or VLAN
    too_short,      ///< shorter than an Ethernet header of 14 bytes
    too_long,       ///< longer than RCTL.LPE allows
    no_descriptors, ///< the guest has not enough buffers now; RXO
    bad_ring,       ///< RDBA, RDLEN, RDH and RDT do not describe a ring
    not_supported,  ///< RCTL.DTYP asks for packet split, or is reserved
    memory_fault,   ///< a descriptor or a buffer cannot be reached
};
inline constexpr std::size_t rx_outcomes = 9;

/// What a frame led to.
struct rx_delivery {
    rx_outcome outcome = rx_outcome::disabled;
    std::uint32_t descriptors = 0; ///< how far the head moved
    icr causes{};                  ///< to be raised now
    icr delayed{};                 ///< to be raised when the delay of RDTR or RADV ends
    error fault{};                 ///< of a memory_fault: what the bus_memory said
};

/// The device's side of reception: puts frames into the buffers that a guest posted in its ring, as
/// the hardware does [82574].
///
///     rx_engine engine{memory};                               // bus_memory: the guest's, translated
///     engine.write(offset, value);                            // the guest's register writes
///     const rx_delivery done = engine.deliver(frame, length); // from the VMM's backend
///     interrupts.raise(done.causes);
///
/// Frames come without a CRC, from the destination address on. Those shorter than 60 bytes are filled
/// up with zeros, as they would have been on a wire. A frame is taken as a whole or not at all: before
/// anything is written, all its descriptors were found and read, once each. The guest sees DD when
/// all its bytes are in place, and sees it in the first descriptor last. After a fault the head is
/// where it was, and the same frame may be delivered again; only an extended descriptor that becomes
/// unreachable while it is written back has lost its address.
///
/// The work for one frame is bounded: at most 96 descriptors are looked at, and the bytes of the
/// frame are written once. A descriptor with address 0 takes no data and is done at once [8254x].
///
/// Not done: packet split; RSS (the hash is 0; which queue a frame belongs to the VMM decides, which
/// has an engine for each); reception of bad packets (RCTL.SBP: frames here have no errors); flow
/// control (PAUSE frames are frames like others, as without CTRL.RFCE); loopback.
///
/// One caller at a time; the VMM's lock is around the engine and not in it.
template <bus_memory Memory>
class rx_engine {
public:
    constexpr explicit rx_engine(Memory memory, queue number = queue::first)
        : memory_{memory}, queue_{number} {}

    rx_engine(const rx_engine&) = delete;
    rx_engine& operator=(const rx_engine&) = delete;

    /// What a reset of the NIC does. The VMM writes the station's address to RAL and RAH of entry 0
    /// afterwards, as the hardware loads it from its EEPROM.
    constexpr void reset() {
        queue_.reset();
        filter_.reset();
    }

    /// Whether the register at `offset`, in bytes, has its value here: those of rx_queue and
    /// receive_filter.
    [[nodiscard]] constexpr bool owns(std::uint32_t offset) const {
        return queue_.owns(offset) || filter_.owns(offset);
    }

    /// What the guest reads at `offset`; 0 where owns() is false.
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const {
        return filter_.owns(offset) ? filter_.read(offset) : queue_.read(offset);
    }

    /// What the guest writes; ignored where owns() is false, apart from CTRL: VME is kept, RST is a
    /// reset().
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (filter_.owns(offset)) {
            filter_.write(offset, value);
        } else if (offset == ctrl::offset && ctrl{value}[ctrl::rst]) {
            reset();
        } else {
            queue_.write(offset, value);
        }
    }

    [[nodiscard]] constexpr const rx_queue& registers() const { return queue_; }
    [[nodiscard]] constexpr const receive_filter& filter() const { return filter_; }

    /// Frames that had that outcome since the engine was made; a reset does not touch it.
    [[nodiscard]] constexpr std::uint64_t count(rx_outcome outcome) const {
        return counts_[static_cast<std::size_t>(outcome)];
    }

    /// Receives one frame of `length` bytes.
    ///
    /// Causes of a frame that was taken: RXT0 and that of the queue, delayed if RDTR says so; RXDMT0
    /// when few descriptors are left; SRPD for a small one; ACK. RXDMT0 and SRPD end the delay: what
    /// is delayed is raised with them, and the VMM stops its timers. RXO when descriptors were
    /// missing. The causes of the queues do not exist on 8254x.
    constexpr rx_delivery deliver(const std::uint8_t* frame, std::size_t length) {
        const rx_delivery done = receive(frame, length);
        ++counts_[static_cast<std::size_t>(done.outcome)];
        return done;
    }

private:
    /// Most descriptors that are looked at for a frame: 64 buffers of 256 bytes hold the longest one;
    /// the others may have address 0.
    static constexpr std::uint32_t most_descriptors = 96;
    static constexpr std::size_t ethernet_header = 14;
    static constexpr std::size_t shortest_frame = 60;

    struct piece {
        const std::uint8_t* bytes = nullptr;
        std::size_t size = 0;
    };
    /// A frame as it goes into memory: without its tag perhaps, with a CRC perhaps.
    struct stored_frame {
        piece pieces[3];
        std::uint32_t size = 0;

        constexpr void put(std::size_t at, const std::uint8_t* bytes, std::size_t count) {
            pieces[at] = {bytes, count};
            size += static_cast<std::uint32_t>(count);
        }
    };
    /// What the descriptors say of a packet.
    struct packet_report {
        receive_checksum found;
        std::uint16_t checksum = 0; ///< packet checksum
        bool is_inexact = false;
        bool is_stripped = false;
        vlan_tag tag; ///< if stripped
    };
    /// The descriptors that a frame takes. Address 0: no buffer.
    struct descriptors {
        iova address[most_descriptors];
        std::uint8_t status[most_descriptors] = {}; ///< the byte that has DD
        std::uint32_t count = 0;
    };
    /// What is written back, in either format, apart from lengths and DD.
    struct write_back {
        std::uint64_t low = 0;    ///< the first quadword of all descriptors; extended ones only
        std::uint64_t first = 0;  ///< the second quadword of the packet's first descriptor
        std::uint64_t last = 0;   ///< and of its last
        unsigned length_bit = 0;  ///< where the length begins in it
        unsigned status_byte = 0; ///< where the byte with DD is in the descriptor
    };
    static constexpr std::uint8_t descriptor_done = 1;

    constexpr rx_delivery receive(const std::uint8_t* frame, std::size_t length) {
        if (!queue_.enabled()) {
            return {rx_outcome::disabled};
        }
        const rctl control = queue_.control();
        if (control[rctl::dtyp] != 0) {
            return {rx_outcome::not_supported};
        }
        if (length < ethernet_header) {
            return {rx_outcome::too_short};
        }
        std::uint8_t padded[shortest_frame] = {};
        if (length < shortest_frame) {
            for (std::size_t i = 0; i != length; ++i) {
                padded[i] = frame[i];
            }
            frame = padded;
            length = shortest_frame;
        }

        const address_match match = filter_.accepts(frame, control);
        const bool is_tagged = big_endian(frame + 12) == queue_.vlan_ether_type();
        const vlan_tag tag{is_tagged ? big_endian(frame + 14) : std::uint16_t{0}};
        if (match == address_match::none || (is_tagged && !filter_.accepts(tag, control))) {
            return {rx_outcome::filtered};
        }
        if (length > queue_.longest_packet() - frame_check_sequence_size) {
            return {rx_outcome::too_long};
        }
        if (!queue_.valid()) {
            return {rx_outcome::bad_ring};
        }

        packet_report report;
        report.is_inexact = match == address_match::inexact;
        report.is_stripped = is_tagged && queue_.vlan_mode();
        std::uint8_t crc[frame_check_sequence_size] = {};
        stored_frame stored;
        if (report.is_stripped) {
            report.tag = tag;
            stored.put(0, frame, 12);
            stored.put(1, frame + 16, length - 16);
        } else {
            stored.put(0, frame, length);
        }
        if (!control[rctl::secrc]) {
            // As it came on the wire, with the tag.
            to_little_endian(crc, frame_check_sequence{}.add(frame, length).value(), sizeof crc);
            stored.put(2, crc, sizeof crc);
        }
        descriptors taken;
        rx_delivery done;
        if (!find(taken, stored.size, done) || !fill(taken, stored, done)) {
            return done;
        }
        const rxcsum checks = queue_.checksum_control();
        report.found = receive_checksum::of(frame, length, checks, queue_.filter_control(),
                                            queue_.vlan_ether_type());
        report.checksum = report.found.payload_summed ? report.found.payload_checksum
                                                      : packet_checksum(stored, checks);
        if (!finish(taken, stored.size, report, done)) {
            return done;
        }
        tell(taken.count, stored.size, report, done);
        return done;
    }

    /// Finds and reads the descriptors that hold `size` bytes, from the head on. Where there are too
    /// few, or too many without a buffer, those without one at the head are done with all the same,
    /// so that the ring goes on.
    constexpr bool find(descriptors& taken, std::uint32_t size, rx_delivery& done) {
        const std::uint32_t available = queue_.available();
        const std::uint32_t most = available < most_descriptors ? available : most_descriptors;
        std::uint32_t room = 0;
        while (room < size) {
            if (taken.count == most) {
                std::uint32_t empty = 0;
                while (empty != taken.count && taken.address[empty].raw == 0) {
                    ++empty;
                }
                taken.count = empty;
                if (!mark_done(taken, done)) {
                    return false;
                }
                const bool is_low = queue_.advance_head(empty);
                done = {rx_outcome::no_descriptors, empty, icr{icr::rxo(true)}};
                done.causes.raw |= is_low ? icr::rxdmt0.mask : 0;
                return false;
            }
            std::uint8_t raw[rx_descriptor_size] = {};
            const result<> read =
                memory_.read(queue_.address_after_head(taken.count), raw, rx_descriptor_size);
            if (!read) {
                return stop(read.error(), done);
            }
            const iova address{rx_descriptor_of(raw).low};
            taken.address[taken.count] = address;
            if (address.raw == 0) {
                taken.status[taken.count] = raw[status_byte()];
            } else {
                room += queue_.buffer_size();
            }
            ++taken.count;
        }
        return true;
    }

    /// Writes the bytes of the frame into its buffers.
    constexpr bool fill(const descriptors& taken, const stored_frame& stored, rx_delivery& done) {
        const piece* from = stored.pieces;
        std::size_t begun = 0; // of *from
        std::uint32_t left = stored.size;
        for (std::uint32_t i = 0; i != taken.count; ++i) {
            iova to = taken.address[i];
            std::uint32_t room = to.raw == 0 ? 0 : smaller(queue_.buffer_size(), left);
            left -= room;
            while (room != 0) {
                if (begun == from->size) {
                    ++from;
                    begun = 0;
                    continue;
                }
                const std::size_t count = smaller(room, from->size - begun);
                const result<> wrote = memory_.write(to, from->bytes + begun, count);
                if (!wrote) {
                    return stop(wrote.error(), done);
                }
                to += count;
                begun += count;
                room -= static_cast<std::uint32_t>(count);
            }
        }
        return true;
    }

    /// Writes the descriptors back. First all that the device may write without being done, which
    /// shows that they can be written; then DD, in the first descriptor last.
    constexpr bool finish(descriptors& taken, std::uint32_t size, const packet_report& report,
                          rx_delivery& done) {
        const write_back words = write_back_of(report);
        std::uint32_t left = size;
        for (std::uint32_t i = 0; i != taken.count; ++i) {
            if (taken.address[i].raw == 0) {
                continue;
            }
            const std::uint32_t length = smaller(queue_.buffer_size(), left);
            std::uint64_t high = static_cast<std::uint64_t>(length) << words.length_bit;
            high |= left == size ? words.first : 0;
            left -= length;
            high |= left == 0 ? words.last : 0;
            std::uint8_t raw[8] = {};
            to_little_endian(raw, high, sizeof raw);
            taken.status[i] = raw[words.status_byte - 8];
            const result<> wrote = memory_.write(queue_.address_after_head(i) + 8, raw, sizeof raw);
            if (!wrote) {
                return stop(wrote.error(), done);
            }
        }
        if (is_extended()) {
            std::uint8_t raw[8] = {};
            to_little_endian(raw, words.low, sizeof raw);
            for (std::uint32_t i = taken.count; i != 0; --i) {
                if (taken.address[i - 1].raw != 0) {
                    const result<> wrote =
                        memory_.write(queue_.address_after_head(i - 1), raw, sizeof raw);
                    if (!wrote) {
                        return stop(wrote.error(), done);
                    }
                }
            }
        }
        return mark_done(taken, done);
    }

    /// Gives the descriptors to the guest, the first one last.
    constexpr bool mark_done(const descriptors& taken, rx_delivery& done) {
        for (std::uint32_t i = taken.count; i != 0; --i) {
            before_the_guest_sees();
            const auto status = static_cast<std::uint8_t>(taken.status[i - 1] | descriptor_done);
            const result<> wrote =
                memory_.write(queue_.address_after_head(i - 1) + status_byte(), &status, 1);
            if (!wrote) {
                return stop(wrote.error(), done);
            }
        }
        return true;
    }

    /// Moves the head, and says what that raises.
    constexpr void tell(std::uint32_t count, std::uint32_t size, const packet_report& report,
                        rx_delivery& done) {
        done.outcome = rx_outcome::taken;
        done.descriptors = count;
        if (queue_.advance_head(count)) {
            done.causes.raw |= icr::rxdmt0.mask;
        }
        if (queue_.is_small(size)) {
            done.causes.raw |= icr::srpd.mask;
        }
        const bool at_once = !queue_.delays_interrupt() || done.causes.raw != 0;
        (at_once ? done.causes : done.delayed).raw |= queue_.packet_causes().raw;
        if (report.found.acknowledges && !queue_.filter_control()[rfctl::ackdis]) {
            done.causes.raw |= icr::ack.mask;
        }
    }

    [[nodiscard]] constexpr write_back write_back_of(const packet_report& report) const {
        const receive_checksum& found = report.found;
        if (!is_extended()) {
            const auto first =
                legacy_rx_status::reported(legacy_rx_status::packet_checksum(report.checksum));
            return {0, first.raw, status_of<legacy_rx_status>(report).raw,
                    legacy_rx_status::length.low, status_byte()};
        }
        using hash = extended_rx_hash;
        using extended = extended_rx_status;
        // With PCSD these bits are the RSS hash, and there is none.
        const bool has_hash = queue_.checksum_control()[rxcsum::pcsd];
        const auto low = hash::reported(
            hash::queue(queue_.number() == queue::second ? std::uint8_t{1} : std::uint8_t{0}),
            hash::ip_identification(has_hash ? std::uint16_t{0} : found.identification),
            hash::packet_checksum(has_hash ? std::uint16_t{0} : report.checksum));
        const auto more =
            extended::reported(extended::ipidv(!has_hash && found.is_fragment),
                               extended::udpv(found.udp_begins), extended::ack(found.acknowledges));
        return {low.raw, 0, status_of<extended>(report).raw | more.raw, extended::length.low,
                status_byte()};
    }

    /// What both formats say of a packet in its last descriptor.
    template <class Status>
    [[nodiscard]] static constexpr Status status_of(const packet_report& report) {
        const receive_checksum& found = report.found;
        const bool is_unchecked = !found.ip_checked && !found.transport_checked;
        return Status::reported(Status::eop(true), Status::ixsm(is_unchecked),
                                Status::vp(report.is_stripped), Status::udpcs(found.is_udp),
                                Status::tcpcs(found.transport_checked),
                                Status::ipcs(found.ip_checked), Status::pif(report.is_inexact),
                                Status::tcpe(found.transport_wrong), Status::ipe(found.ip_wrong),
                                Status::vlan(report.tag.raw));
    }

    /// The complement of the sum of the bytes in memory from RXCSUM.PCSS on.
    [[nodiscard]] static constexpr std::uint16_t packet_checksum(const stored_frame& stored,
                                                                 rxcsum control) {
        internet_checksum sum;
        std::size_t skip = control[rxcsum::pcss];
        for (const piece& part : stored.pieces) {
            const std::size_t skipped = smaller(skip, part.size);
            skip -= skipped;
            if (skipped != part.size) {
                sum.add(part.bytes + skipped, part.size - skipped);
            }
        }
        return sum.checksum();
    }

    constexpr bool stop(error why, rx_delivery& done) {
        done.outcome = rx_outcome::memory_fault;
        done.fault = why;
        return false;
    }

    /// What was written before is in memory before what is written after: the guest's processors
    /// look at DD while this one writes.
    static constexpr void before_the_guest_sees() {
        if (!std::is_constant_evaluated()) {
            __atomic_thread_fence(__ATOMIC_RELEASE);
        }
    }

    [[nodiscard]] constexpr bool is_extended() const {
        return queue_.filter_control()[rfctl::exsten];
    }
    /// Where in a descriptor the byte with DD is.
    [[nodiscard]] constexpr unsigned status_byte() const {
        return is_extended() ? extended_rx_status::offset + extended_rx_status::dd.low / 8
                             : legacy_rx_status::offset + legacy_rx_status::dd.low / 8;
    }

    [[nodiscard]] static constexpr std::uint16_t big_endian(const std::uint8_t* bytes) {
        return static_cast<std::uint16_t>(bytes[0] << 8U | bytes[1]);
    }
    static constexpr void to_little_endian(std::uint8_t* to, std::uint64_t value,
                                           std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = static_cast<std::uint8_t>(value >> (8 * i));
        }
    }
    template <class A, class B>
    [[nodiscard]] static constexpr A smaller(A a, B b) {
        return a < b ? a : static_cast<A>(b);
    }

    [[no_unique_address]] Memory memory_;
    rx_queue queue_;
    receive_filter filter_;
    std::uint64_t counts_[rx_outcomes] = {};
};

} // namespace pt::e1000e
