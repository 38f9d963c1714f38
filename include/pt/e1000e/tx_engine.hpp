// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_descriptor.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_queue.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace pt::e1000e {

/// The most that one step of a tx_engine does. For each descriptor and each frame, no more bytes of
/// data are read than the engine's buffer is long.
struct tx_budget {
    std::uint32_t descriptors = 64; ///< that become done; 0: the step does nothing
    std::uint32_t frames = 64;      ///< that the sink takes
};

/// Why a step ended.
enum class tx_stop : std::uint8_t {
    idle,         ///< head and tail are equal: nothing is left to do
    budget,       ///< there is more to do
    refused,      ///< the sink had no room; the same frame comes again in the next step
    disabled,     ///< TCTL.EN or TARC.ENABLE is clear
    bad_ring,     ///< TDBA, TDLEN, TDH and TDT do not describe a ring
    memory_fault, ///< a descriptor could not be read or written back; the next step tries again
};

/// What one step did.
struct tx_step {
    tx_stop why = tx_stop::idle;
    std::uint32_t descriptors = 0; ///< done: the head is past them
    std::uint32_t frames = 0;      ///< the sink took
    std::uint32_t dropped = 0;     ///< packets of which nothing, or nothing more, is sent
    std::uint32_t malformed = 0;   ///< segmented packets whose data is not PAYLEN bytes
    icr causes;                    ///< to raise now
    /// A descriptor with IDE was written back: start TIDV anew, and TADV if it does not run. What
    /// they raise is write_back_causes(). TXDW in `causes` stops both.
    bool delayed_write_back = false;
    /// The first thing that went wrong. A descriptor or a buffer that cannot be reached: the
    /// memory's error. A packet too long for the buffer: out_of_range; one that cannot be
    /// segmented, or a buffer that runs past the end of the address space: malformed; where: its
    /// descriptor.
    error fault;
};

/// The device's side of transmission [82574]: takes packets from a guest's ring, does what their
/// descriptors ask for, and gives the frames to a sink, without FCS. Everything that it reads comes
/// from the guest and is checked; whatever it holds, a step does bounded work, reads each
/// descriptor once, and touches nothing beyond what Memory allows and its own buffer.
///
/// A step may stop anywhere, also in the middle of a descriptor that makes a thousand frames, and
/// the next one goes on there: frames, write-backs and causes do not depend on the budgets.
///
/// What the manual leaves open:
/// - The first descriptor of a packet that is neither a context nor reserved says what the packet
///   is: legacy, data, or data to be segmented. Later ones add their bytes, whatever their format.
///   Reserved types are passed over.
/// - There are two contexts, as TSE in a context descriptor says: for segmentation, and for the
///   checksums of all other packets. A packet keeps the one that it began with.
/// - A packet that ends without data is none. Other packets go out however short they are.
/// - Without IFCS the last 4 bytes of a packet are its FCS, which the sink does not get; a packet
///   of 4 bytes or fewer is none then. IFCS is taken for set where the manual requires it: where
///   the NIC is asked for a checksum (IC, IXSM, TXSM), for a tag (VLE with CTRL.VME) or for
///   segments, and where TCTL.PSP pads a packet, shorter than 60 bytes in memory.
/// - A checksum goes into the frame only if its place and its first byte lie inside, as the data
///   comes from memory: without a tag that is inserted and without padding. The IP checksum comes
///   first. A TCP or UDP checksum (TXSM) of 0 is sent as 0xFFFF, which is the same number in ones'
///   complement: in UDP, 0 says that there is none [rfc768]. IC and IXSM put what they find.
/// - Header fields beyond HDRLEN are not updated.
/// - Data beyond PAYLEN is not sent; if EOP comes before PAYLEN, the frame that it ends is the
///   last.
/// - HDRLEN 0, beyond largest_header or beyond the data, MSS 0, and frames that do not fit in the
///   buffer: the packet is dropped, its descriptors are done as usual. Segments sent before stay
///   sent.
/// - DD is written back at once, whatever TXDCTL.WTHRESH says.
/// - A write of TDBAL, TDBAH, TDLEN or TDH takes effect at once, and forgets a packet in the
///   making.
template <bus_memory Memory>
class tx_engine {
public:
    /// Room for an inserted VLAN tag, which the buffer has to have besides the frame.
    static constexpr std::size_t tag_size = 4;
    /// The shortest buffer: a padded frame and a tag.
    static constexpr std::size_t least_capacity = 64;

    /// Frames are built in `buffer`, `capacity` bytes, at least least_capacity, which belong to the
    /// engine. Longer packets than capacity - tag_size are dropped; 16,292 are enough for what
    /// legacy descriptors may carry.
    constexpr tx_engine(Memory memory, std::uint8_t* buffer, std::size_t capacity,
                        queue number = queue::first)
        : memory_{std::move(memory)}, registers_{number}, buffer_{buffer}, capacity_{capacity} {
        expects(buffer != nullptr && capacity >= least_capacity,
                "a tx_engine needs a buffer of least_capacity bytes");
    }

    tx_engine(const tx_engine&) = delete;
    tx_engine& operator=(const tx_engine&) = delete;

    /// The registers of the queue, as tx_queue has them.
    [[nodiscard]] constexpr bool owns(std::uint32_t offset) const {
        return registers_.owns(offset);
    }
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const {
        return registers_.read(offset);
    }
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (offset == ctrl::offset && ctrl{value}[ctrl::rst]) {
            return reset();
        }
        if (registers_.places_ring(offset)) {
            forget();
        }
        registers_.write(offset, value);
    }
    [[nodiscard]] constexpr const tx_queue& registers() const { return registers_; }

    /// What a reset of the NIC does: initial registers, no context, nothing in the making.
    constexpr void reset() {
        registers_.reset();
        checksum_context_ = {};
        segmentation_context_ = {};
        forget();
    }

    /// Whether a step would find something to do.
    [[nodiscard]] constexpr bool has_work() const {
        return registers_.enabled() && registers_.valid() &&
               (phase_ != phase::fetch || registers_.head() != registers_.tail());
    }

    /// What to raise when TIDV or TADV has elapsed.
    [[nodiscard]] constexpr icr write_back_causes() const { return registers_.write_back_causes(); }

    /// Works on the ring, at most as much as `budget` says. `sink(frame, length)` takes a frame, or
    /// says false: no room now. The frame is defined during the call only, and the sink does not
    /// call the engine.
    template <class Sink>
        requires std::predicate<Sink&, const std::uint8_t*, std::size_t>
    constexpr tx_step step(tx_budget budget, Sink&& sink) {
        tx_step done;
        done.why = run(budget, sink, done);
        return done;
    }

private:
    // Where the work on the descriptor at the head stands.
    enum class phase : std::uint8_t {
        fetch,      // it has not been read
        gather,     // its data is being read
        deliver,    // a frame is ready
        write_back, // it is done, but the guest does not know
    };
    enum class packet : std::uint8_t { none, legacy, data, segmented, dropped };

    struct context {
        context_tx_offsets offsets;
        context_tx_command command;
    };

    static constexpr std::size_t addresses_size = 12; // destination and source
    static constexpr std::size_t least_frame = 60;    // 64 with FCS
    static constexpr std::size_t fcs_size = 4;

    template <class Sink>
    constexpr tx_stop run(const tx_budget& budget, Sink& sink, tx_step& done) {
        if (!registers_.enabled()) {
            return tx_stop::disabled;
        }
        if (!registers_.valid()) {
            return tx_stop::bad_ring;
        }
        const std::uint32_t tail = registers_.tail();
        while (true) {
            if (phase_ == phase::fetch && registers_.head() == tail) {
                return tx_stop::idle;
            }
            if (done.descriptors >= budget.descriptors) {
                return tx_stop::budget;
            }
            if (phase_ == phase::fetch && !fetch(done)) {
                return tx_stop::memory_fault;
            }
            if (phase_ == phase::gather) {
                gather(done);
            }
            if (phase_ == phase::deliver) {
                if (done.frames >= budget.frames) {
                    return tx_stop::budget;
                }
                if (!sink(static_cast<const std::uint8_t*>(buffer_ + frame_at_), frame_length_)) {
                    return tx_stop::refused;
                }
                ++done.frames;
                delivered();
            }
            if (phase_ == phase::write_back && !write_back(done)) {
                return tx_stop::memory_fault;
            }
        }
    }

    // Reads the descriptor at the head, and obeys it where it has no data.
    constexpr bool fetch(tx_step& done) {
        std::uint8_t bytes[tx_descriptor_size];
        const auto read =
            memory_.read(registers_.address_of(registers_.head()), bytes, tx_descriptor_size);
        if (!read) {
            note(done, read.error());
            return false;
        }
        descriptor_ = tx_descriptor_of(bytes);
        consumed_ = 0;
        const tx_descriptor_kind kind = kind_of(descriptor_);
        phase_ = phase::gather;
        if (kind == tx_descriptor_kind::context) {
            const context_tx_command command{descriptor_.high};
            (command[context_tx_command::tse] ? segmentation_context_ : checksum_context_) =
                context{context_tx_offsets{descriptor_.low}, command};
            phase_ = phase::write_back;
        } else if (kind == tx_descriptor_kind::reserved) {
            phase_ = phase::write_back;
        } else if (packet_ == packet::none) {
            begin(done);
        }
        return true;
    }

    // The first descriptor of a packet.
    constexpr void begin(tx_step& done) {
        first_ = data_tx_command{descriptor_.high};
        gathered_ = 0;
        if (!first_[data_tx_command::dext]) {
            packet_ = packet::legacy;
        } else if (!first_[data_tx_command::tse]) {
            packet_ = packet::data;
            context_ = checksum_context_;
        } else {
            begin_segments(done);
        }
    }

    // How many bytes the descriptor transfers: none with a null address [82574].
    [[nodiscard]] constexpr std::uint32_t data_length() const {
        const data_tx_command command{descriptor_.high};
        if (descriptor_.low == 0) {
            return 0;
        }
        return command[data_tx_command::dext]
                   ? command[data_tx_command::dtalen]
                   : legacy_tx_command{command.raw}[legacy_tx_command::length];
    }
    [[nodiscard]] constexpr bool wraps(std::uint32_t length) const {
        return length != 0 && descriptor_.low + (length - 1) < descriptor_.low;
    }
    // EOP, RS, VLE, IDE and the VLAN tag are at the same bits in legacy and data descriptors.
    [[nodiscard]] constexpr bool ends_packet() const {
        return data_tx_command{descriptor_.high}[data_tx_command::eop];
    }

    constexpr void gather(tx_step& done) {
        if (packet_ == packet::segmented) {
            return gather_segment(done);
        }
        if (packet_ != packet::dropped) {
            if (const std::uint32_t length = data_length(); length != 0) {
                if (wraps(length)) {
                    drop(done, errc::malformed);
                } else if (length > capacity_ - tag_size - gathered_) {
                    drop(done, errc::out_of_range);
                } else if (const auto read = memory_.read(iova{descriptor_.low},
                                                          buffer_ + tag_size + gathered_, length);
                           !read) {
                    drop(done, read.error());
                } else {
                    gathered_ += length;
                }
            }
        }
        phase_ = phase::write_back;
        if (ends_packet()) {
            if (packet_ != packet::dropped && gathered_ != 0 && finish_packet()) {
                return;
            }
            packet_ = packet::none;
        }
    }

    // A packet that is one frame is complete. Says whether there is a frame.
    constexpr bool finish_packet() {
        const data_tx_command last{descriptor_.high};
        const bool sums = packet_ == packet::legacy
                              ? inserts_checksum(last)
                              : first_[data_tx_command::ixsm] || first_[data_tx_command::txsm];
        const bool pads = gathered_ < least_frame && registers_.pads_short_packets();
        if (!last[data_tx_command::ifcs] && !sums && !pads && !inserts_tag(last)) {
            if (gathered_ <= fcs_size) {
                return false;
            }
            gathered_ -= fcs_size;
        }
        if (sums && packet_ == packet::legacy) {
            const std::uint8_t start = legacy_tx_command{first_.raw}[legacy_tx_command::css];
            insert_checksum(start, legacy_tx_command{last.raw}[legacy_tx_command::cso], 0, {},
                            gathered_);
        } else if (sums) {
            insert_checksums(gathered_, 0);
        }
        finish_frame(gathered_, last);
        return true;
    }
    // IC is where TSE is in a data descriptor, which says nothing at the end of a legacy packet.
    [[nodiscard]] static constexpr bool inserts_checksum(data_tx_command last) {
        const legacy_tx_command command{last.raw};
        return command[legacy_tx_command::ic] && !command[legacy_tx_command::dext];
    }
    [[nodiscard]] constexpr bool inserts_tag(data_tx_command command) const {
        return command[data_tx_command::vle] && registers_.vlan_mode();
    }

    [[gnu::noinline]] constexpr void begin_segments(tx_step& done) {
        context_ = segmentation_context_;
        packet_ = packet::segmented;
        header_gathered_ = 0;
        sent_ = 0;
        segments_ = 0;
        surplus_ = false;
        payload_done_ = false;
        const std::size_t header = header_length();
        const std::size_t most = segment_size();
        if (header == 0 || header > largest_header || most == 0) {
            drop(done, errc::malformed);
        } else if (header + most > capacity_ - tag_size) {
            drop(done, errc::out_of_range);
        }
    }
    [[nodiscard]] constexpr std::uint32_t header_length() const {
        return context_.command[context_tx_command::hdrlen];
    }
    [[nodiscard]] constexpr std::uint32_t segment_size() const {
        return context_.command[context_tx_command::mss];
    }

    // Goes on with the descriptor up to the end of a frame, or to its own end.
    [[gnu::noinline]] constexpr void gather_segment(tx_step& done) {
        const std::uint32_t length = data_length();
        if (wraps(length)) {
            drop(done, errc::malformed);
            return end_of_segments(done);
        }
        const std::uint32_t header = header_length();
        const std::uint32_t payload = context_.command[context_tx_command::paylen];
        if (header_gathered_ < header) {
            const std::uint32_t count = least(length - consumed_, header - header_gathered_);
            if (!take(done, header_ + header_gathered_, count)) {
                return end_of_segments(done);
            }
            header_gathered_ += count;
        }
        if (header_gathered_ == header && !payload_done_) {
            const auto frame = static_cast<std::uint32_t>(gathered_);
            const std::uint32_t wanted = least(segment_size() - frame, payload - sent_ - frame);
            const std::uint32_t count = least(length - consumed_, wanted);
            if (!take(done, buffer_ + tag_size + header + frame, count)) {
                return end_of_segments(done);
            }
            gathered_ += count;
            const bool whole = count == wanted; // the frame is full, or the payload complete
            const bool ends = ends_packet() && consumed_ == length;
            if (whole || (ends && gathered_ != 0)) {
                return finish_segment(ends || sent_ + gathered_ == payload);
            }
        }
        surplus_ = surplus_ || consumed_ != length;
        end_of_segments(done);
    }

    // Reads the next bytes of the descriptor.
    constexpr bool take(tx_step& done, std::uint8_t* to, std::uint32_t count) {
        if (count == 0) {
            return true;
        }
        if (const auto read = memory_.read(iova{descriptor_.low} + consumed_, to, count); !read) {
            drop(done, read.error());
            return false;
        }
        consumed_ += count;
        return true;
    }

    // The descriptor has no more data for the packet.
    constexpr void end_of_segments(tx_step& done) {
        phase_ = phase::write_back;
        if (!ends_packet()) {
            return;
        }
        if (packet_ != packet::dropped) {
            if (header_gathered_ < header_length()) {
                if (header_gathered_ != 0) {
                    drop(done, errc::malformed);
                }
            } else if (!payload_done_ || surplus_) {
                ++done.malformed;
            }
        }
        packet_ = packet::none;
    }

    // A segment is complete: the header as the manual updates it for this frame, and the checksums.
    [[gnu::noinline]] constexpr void finish_segment(bool last) {
        const std::size_t header = header_length();
        const std::size_t length = header + gathered_;
        std::uint8_t* const frame = buffer_ + tag_size;
        for (std::size_t at = 0; at != header; ++at) {
            frame[at] = header_[at];
        }
        const std::size_t ip = context_.offsets[context_tx_offsets::ipcss];
        const std::size_t transport = context_.offsets[context_tx_offsets::tucss];
        if (context_.command[context_tx_command::snap]) {
            put16(addresses_size, length - addresses_size - 2);
        }
        if (context_.command[context_tx_command::ip]) {
            put16(ip + 2, length - ip); // total length
            if (ip + 6 <= header) {     // identification
                put16(ip + 4, word(header_ + ip + 4) + segments_);
            }
        } else {
            put16(ip + 4, length - ip - 40); // payload length
        }
        if (context_.command[context_tx_command::tcp]) {
            if (transport + 8 <= header) { // sequence number
                const std::uint32_t sequence =
                    (static_cast<std::uint32_t>(word(header_ + transport + 4)) << 16 |
                     word(header_ + transport + 6)) +
                    sent_;
                put16(transport + 4, sequence >> 16);
                put16(transport + 6, sequence);
            }
            if (!last && transport + 14 <= header) {
                frame[transport + 13] &= 0xF6; // neither FIN nor PSH
            }
        } else {
            put16(transport + 4, length - transport); // length
        }
        insert_checksums(length, static_cast<std::uint16_t>(length - transport));
        finish_frame(length, first_);
    }

    // A field of the header of the segment, if it lies in it.
    constexpr void put16(std::size_t at, std::size_t value) {
        if (at + 2 <= header_length()) {
            store(buffer_ + tag_size + at, static_cast<std::uint16_t>(value & 0xFFFF));
        }
    }

    // The checksums of a data descriptor, in the frame of `length` bytes that lies behind the room
    // for the tag. `transport_length` is what the sum in the TCP or UDP checksum field lacks.
    [[gnu::noinline]] constexpr void insert_checksums(std::size_t length,
                                                      std::uint16_t transport_length) {
        const context_tx_offsets at = context_.offsets;
        if (first_[data_tx_command::ixsm]) {
            insert_checksum(at[context_tx_offsets::ipcss], at[context_tx_offsets::ipcso],
                            at[context_tx_offsets::ipcse], {}, length);
        }
        if (first_[data_tx_command::txsm]) {
            const std::size_t field = at[context_tx_offsets::tucso];
            if (insert_checksum(at[context_tx_offsets::tucss], field, at[context_tx_offsets::tucse],
                                internet_checksum{}.add(transport_length), length) &&
                word(buffer_ + tag_size + field) == 0) {
                store(buffer_ + tag_size + field, 0xFFFF);
            }
        }
    }

    // Puts the checksum of the bytes from `start` to `end` (inclusive; 0 and beyond the frame: to
    // its end), with what `sum` holds already, at `field`. Says whether it did.
    [[gnu::noinline]] constexpr bool insert_checksum(std::size_t start, std::size_t field,
                                                     std::size_t end, internet_checksum sum,
                                                     std::size_t length) {
        std::uint8_t* const frame = buffer_ + tag_size;
        const std::size_t stop = end == 0 || end >= length ? length : end + 1;
        if (start >= stop || field + 2 > length) {
            return false;
        }
        store(frame + field, sum.add(frame + start, stop - start).checksum());
        return true;
    }

    // What the MAC adds to a frame of `length` bytes: the tag that `command` asks for, and padding.
    constexpr void finish_frame(std::size_t length, data_tx_command command) {
        frame_at_ = tag_size;
        frame_length_ = length;
        if (inserts_tag(command) && length >= addresses_size) {
            insert_tag(static_cast<std::uint16_t>(command.raw >> 48));
        }
        if (frame_length_ < least_frame && registers_.pads_short_packets()) {
            pad();
        }
        phase_ = phase::deliver;
    }
    [[gnu::noinline]] constexpr void insert_tag(std::uint16_t tag) {
        for (std::size_t at = 0; at != addresses_size; ++at) {
            buffer_[at] = buffer_[at + tag_size];
        }
        store(buffer_ + addresses_size, registers_.vlan_ether_type());
        store(buffer_ + addresses_size + 2, tag);
        frame_at_ = 0;
        frame_length_ += tag_size;
    }
    [[gnu::noinline]] constexpr void pad() {
        for (; frame_length_ < least_frame; ++frame_length_) {
            buffer_[frame_at_ + frame_length_] = 0;
        }
    }

    // The sink took the frame.
    constexpr void delivered() {
        if (packet_ == packet::segmented) {
            sent_ += static_cast<std::uint32_t>(gathered_);
            payload_done_ = sent_ == context_.command[context_tx_command::paylen];
            ++segments_;
            gathered_ = 0;
            phase_ = phase::gather;
        } else {
            packet_ = packet::none;
            phase_ = phase::write_back;
        }
    }

    // The descriptor is done: DD where RS asks for it, and the head moves on.
    constexpr bool write_back(tx_step& done) {
        const data_tx_command command{descriptor_.high};
        if (command[data_tx_command::rs]) {
            // STA alone is written; the upper half of its byte is not status.
            const auto status = static_cast<std::uint8_t>((command.raw >> 32 & 0xF0) | 1U);
            const iova at = registers_.address_of(registers_.head()) + 12;
            if (const auto written = memory_.write(at, &status, 1); !written) {
                note(done, written.error());
                return false;
            }
            if (command[data_tx_command::ide]) {
                done.delayed_write_back = true;
            } else {
                done.causes.raw |= registers_.write_back_causes().raw;
            }
        }
        done.causes.raw |= registers_.advance_head().raw;
        ++done.descriptors;
        phase_ = phase::fetch;
        return true;
    }

    constexpr void forget() {
        phase_ = phase::fetch;
        packet_ = packet::none;
    }

    // Nothing more of this packet is sent.
    constexpr void drop(tx_step& done, errc why) {
        drop(done, error{why, registers_.address_of(registers_.head()).raw});
    }
    [[gnu::cold, gnu::noinline]] constexpr void drop(tx_step& done, error why) {
        packet_ = packet::dropped;
        ++done.dropped;
        note(done, why);
    }
    static constexpr void note(tx_step& done, error why) {
        if (done.fault.code == errc::none) {
            done.fault = why;
        }
    }

    static constexpr std::uint32_t least(std::uint32_t a, std::uint32_t b) { return a < b ? a : b; }

    // Packets are big-endian.
    static constexpr std::uint16_t word(const std::uint8_t* at) {
        return static_cast<std::uint16_t>(at[0] << 8 | at[1]);
    }
    static constexpr void store(std::uint8_t* at, std::uint16_t value) {
        at[0] = static_cast<std::uint8_t>(value >> 8);
        at[1] = static_cast<std::uint8_t>(value & 0xFF);
    }

    [[no_unique_address]] Memory memory_;
    tx_queue registers_;
    std::uint8_t* buffer_;
    std::size_t capacity_;

    phase phase_ = phase::fetch;
    packet packet_ = packet::none;
    tx_descriptor descriptor_; // the one at the head, unless phase_ is fetch
    data_tx_command first_;    // of the packet
    std::size_t gathered_ = 0; // bytes of the frame, without a header to be repeated
    std::size_t frame_at_ = 0; // the frame that is ready, in the buffer
    std::size_t frame_length_ = 0;

    context checksum_context_;
    context segmentation_context_;
    context context_; // of the packet

    // Of a packet that is segmented
    std::uint32_t consumed_ = 0; // bytes of the descriptor
    std::uint32_t header_gathered_ = 0;
    std::uint32_t sent_ = 0; // bytes of payload
    std::uint32_t segments_ = 0;
    bool payload_done_ = false; // all of PAYLEN was sent
    bool surplus_ = false;      // and there was more
    std::uint8_t header_[largest_header] = {};
};

} // namespace pt::e1000e
