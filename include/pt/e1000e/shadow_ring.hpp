// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_descriptor.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_queue.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// What the shadow remembers of a guest's descriptor until the guest has it back.
struct shadow_slot {
    std::uint8_t status = 0; ///< STA and what shares its byte, as the guest wrote them
    bool reports = false;    ///< RS
    bool delayed = false;    ///< IDE
    bool sent = false;       ///< belongs to a packet that was given to the NIC
};

/// Bytes of payload that lie beside the headers, if there are so many: 82571 to 82573 can hang over
/// a descriptor that holds headers and nothing else, as the public drivers of all members know.
inline constexpr std::uint32_t payload_beside_headers = 4;

/// Memory of the VMM's for the headers of one packet.
struct alignas(256) shadow_header {
    std::uint8_t bytes[256];
};
static_assert(sizeof(shadow_header::bytes) >= largest_header + payload_beside_headers);

/// What the caller lends a shadow ring for as long as it lives.
struct shadow_storage {
    /// The real descriptors of one packet. A packet in more pieces is dropped: with 4-KiB pages
    /// that do not lie together, 64 KiB in 16 descriptors become 33 pieces at the most.
    tx_descriptor* pieces = nullptr;
    std::uint32_t piece_count = 0;
    /// One for each of the guest's descriptors under way; more than any one packet has.
    shadow_slot* slots = nullptr;
    std::uint32_t slot_count = 0;
    /// For packets to be segmented whose headers do not lie together in host memory, because the
    /// NIC takes no header in parts [82574], or without payload_beside_headers: they are copied to
    /// here with it, one for each such packet in flight. Without any, those packets are dropped.
    shadow_header* headers = nullptr;
    std::uint32_t header_count = 0;
    iova headers_at{}; ///< where the NIC reaches `headers`
};

/// Why a step ended.
enum class shadow_stop : std::uint8_t {
    idle,         ///< all that the guest has given is taken
    budget,       ///< there is more to do
    ring_full,    ///< the NIC must be done with something first: its interrupt says when
    disabled,     ///< TCTL.EN or TARC.ENABLE is clear
    bad_ring,     ///< TDBA, TDLEN, TDH and TDT describe no ring
    memory_fault, ///< a descriptor could not be read or written back; the next step tries again
};

/// What a step did.
struct shadow_step {
    shadow_stop why = shadow_stop::idle;
    std::uint32_t taken = 0;   ///< descriptors that were read from the guest's ring
    std::uint32_t sent = 0;    ///< packets that were given to the NIC
    std::uint32_t dropped = 0; ///< packets that never will be
    std::uint32_t done = 0;    ///< descriptors that the guest has back: its head moved past them
    icr causes{};              ///< to be raised now
    /// A descriptor with IDE was written back: write_back_causes() are due when TIDV or TADV
    /// elapses.
    bool delayed_write_back = false;
    /// The first thing that was wrong. What memory or translation said, with its address; else,
    /// with the bus address of the guest's descriptor at which it turned out: malformed of what the
    /// hardware does not define, out_of_range of more than there is room for, or not_supported of
    /// what the real ring cannot send.
    error fault{};
};

/// Mediation: a guest's transmit ring, copied to the ring of a real NIC with every address checked
/// and translated. For machines without an IOMMU, where the address on the bus is the host-physical
/// one.
///
///     shadow_ring shadow{guest_memory, translation, ring, storage};   // ring: a tx_ring, started
///     ... the guest's register accesses: shadow.write(offset, value), shadow.read(offset)
///     ... after a write of TDT, and on the NIC's TXDW: raise(shadow.step().causes)
///
/// The NIC sees nothing of the guest's ring. A descriptor is read once; when the last one of a
/// packet has come, the packet is made anew from it: the bytes that the guest named, wherever they
/// lie (its pages need not lie together, so pieces may be more than the guest's), with the fields
/// that a legal packet may have, and with nothing else. What the datasheet does not define is
/// dropped, as a cable would, and its descriptors are done: packets beyond what the NIC holds,
/// legacy and data descriptors mixed, reserved types, a context in the middle, TSE on some
/// descriptors only or without a context for it, HDRLEN and PAYLEN that are not the data's length,
/// headers outside HDRLEN, MSS of 16 or less; and buffers that are not the guest's to read. An
/// endless packet is dropped where the storage ends. A checksum that lies outside its packet is not
/// inserted. What was checked is what goes out: a packet that waits for room in the ring waits in
/// the storage.
///
/// Packets below the real ring's least_packet() get zeros from its padding(), and are dropped where
/// it has none: on 8254x that is every ARP. Packets to be segmented are dropped where the real ring
/// has no segmentation, as on 8254x; tx_ring says why.
///
/// IFCS, VLE, VLAN, IC, CSO, CSS and POPTS keep their meaning; FCS is inserted too where the NIC
/// changes or pads the packet. RS is the ring's; a guest's IDE delays what it is told, not the NIC.
/// VLE counts with the guest's CTRL.VME, and then needs CTRL.VME and VET of the NIC to be the same;
/// packets below 60 bytes are padded by the NIC.
///
/// The guest has two contexts, as with tx_engine: for segmentation, and for all other packets.
///
/// The guest's head moves, and DD is written where RS was, when the NIC is done with a packet, in
/// order. Nothing of that happens while the guest has its transmitter disabled. When it gives its
/// ring another place meanwhile (TDBA, TDLEN, TDH), or resets, the old one is forgotten: the NIC
/// may still send what it has, but nothing is written to a ring that is no longer there.
///
/// The real ring is the shadow's alone. Two queues of one NIC share its memory of contexts: with a
/// shadow on each, both real rings need context_use::repeated. One caller at a time.
template <bus_memory Guest, dma_translation Translation, mmio_io Mmio, dma_memory Memory,
          barrier Barrier>
class shadow_ring {
public:
    using ring = tx_ring<Mmio, Memory, Barrier>;

    /// `guest` is the guest's memory, where its descriptors are; `translation` says for its buffers
    /// which addresses the NIC must put on the bus. `number` is the guest's queue.
    constexpr shadow_ring(Guest guest, Translation translation, ring& real, shadow_storage storage,
                          queue number = queue::first)
        : guest_{guest},
          translation_{translation},
          real_{&real},
          storage_{storage},
          queue_{number} {
        expects(storage.pieces != nullptr && storage.piece_count != 0 && storage.slots != nullptr &&
                    storage.slot_count != 0 &&
                    (storage.headers != nullptr || storage.header_count == 0),
                "a shadow ring needs room for pieces and slots");
    }

    shadow_ring(const shadow_ring&) = delete;
    shadow_ring& operator=(const shadow_ring&) = delete;

    /// The guest's registers, as tx_queue has them.
    [[nodiscard]] constexpr bool owns(std::uint32_t offset) const { return queue_.owns(offset); }
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const {
        return queue_.read(offset);
    }
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        const tx_queue before = queue_;
        queue_.write(offset, value);
        if (offset == ctrl::offset && ctrl{value}[ctrl::rst]) {
            checksum_context_ = segmentation_context_ = {};
            forget();
        } else if (queue_.places_ring(offset)) {
            // A driver that begins anew may write the values that are there already. While it
            // transmits, those are no change, and TDH is not written.
            const bool enabled = tctl{queue_.read(tctl::offset)}[tctl::en];
            if (!enabled || queue_.base() != before.base() || queue_.count() != before.count()) {
                forget();
            }
        }
    }
    /// A reset of the guest's NIC.
    constexpr void reset() { write(ctrl::offset, ctrl{ctrl::rst(true)}.raw); }

    /// What to raise when TIDV or TADV has elapsed.
    [[nodiscard]] constexpr icr write_back_causes() const { return queue_.write_back_causes(); }
    /// The registers, to look at.
    [[nodiscard]] constexpr const tx_queue& registers() const { return queue_; }

    /// Gives the guest back what the NIC is done with, and the NIC what the guest has given. The
    /// budget is how many descriptors are read, pieces of memory translated, packets sent, and
    /// descriptors given back, all in all. What the NIC is done with meanwhile is given back by the
    /// step that its interrupt asks for.
    constexpr shadow_step step(std::uint32_t budget = 256) {
        shadow_step now;
        reclaim();
        if (!queue_.enabled()) {
            now.why = shadow_stop::disabled;
            return now;
        }
        if (!queue_.valid()) {
            now.why = shadow_stop::bad_ring;
            return now;
        }
        do {
            if (budget == 0) {
                now.why = shadow_stop::budget;
                break;
            }
            --budget;
        } while (advance(now));
        real_->advance_tail();
        reclaim(); // asks for a report where nobody did: else no interrupt would ever come
        return now;
    }

    /// Packets that the NIC has not given back: their memory is still read.
    [[nodiscard]] constexpr std::uint32_t in_flight() const { return real_->in_flight(); }

    /// Before memory is taken away from the guest: what was translated and is not with the NIC yet
    /// will be read and translated anew. Returns in_flight(): the memory is free when that is 0,
    /// which reclaim() finds out.
    [[nodiscard]] constexpr std::uint32_t revoke() {
        begin_again();
        reclaim();
        return in_flight();
    }

    /// Takes back what the NIC is done with; step() does so too. Touches none of the guest's
    /// memory.
    constexpr void reclaim() {
        real_->reclaim([this](std::uint64_t cookie) { finish(cookie); });
    }

    /// Gives up what the NIC has, after it hung, or was reset: to the guest those packets are done,
    /// and lost on the wire. The real ring takes packets again after its start().
    constexpr void abandon() {
        real_->abandon([this](std::uint64_t cookie) { finish(cookie); });
        begin_again();
    }

private:
    using legacy = legacy_tx_command;
    using data = data_tx_command;
    using offsets = context_tx_offsets;
    using context = context_tx_command;

    /// The packet that is being put together, and its pieces in the storage.
    struct packet {
        std::uint64_t first = 0;  ///< second quadword of its first descriptor
        std::uint64_t latest = 0; ///< and of its latest one
        iova buffer{};            ///< of that descriptor
        std::uint32_t size = 0;
        std::uint32_t translated = 0; ///< bytes of the buffer
        std::uint32_t length = 0;     ///< bytes of the packet up to the end of the buffer
        std::uint32_t pieces = 0;
        std::uint32_t first_piece = 0; ///< of those that are sent
        std::uint32_t header = 0;      ///< bytes in header_
        bool copied = false;           ///< whether those are sent, from a shadow_header
        bool checked = false;          ///< it is complete and legal
        bool has_context = false;
        tx_descriptor context{}; ///< as the NIC gets it
    };

    // The guest's descriptors are counted from the first one on, without end: `retired_` of them
    // the guest has back, those before `decided_` belong to packets that are sent or dropped, and
    // `taken_` were read. Those from retired_ to taken_ have slots. A cookie is the count at the
    // end of its packet: one from before forget() is not above retired_, and so means nothing any
    // more.

    static constexpr unsigned cookie_count = 1; ///< lowest bit of the count; bit 0: headers copied

    [[nodiscard]] constexpr shadow_slot& slot(std::uint64_t descriptor) {
        return storage_.slots[static_cast<std::size_t>(descriptor % storage_.slot_count)];
    }

    /// The NIC is done with a packet.
    constexpr void finish(std::uint64_t cookie) {
        finished_ = cookie >> cookie_count;
        headers_done_ += cookie & 1;
    }

    /// The ring that the descriptors are from is no longer there.
    constexpr void forget() {
        retired_ = taken_;
        next_ = queue_.head();
        skips_ = false;
        decide();
    }
    /// All that was taken is sent or dropped.
    constexpr void decide() {
        decided_ = taken_;
        decided_at_ = next_;
        packet_ = {};
    }
    /// What was taken and is not decided is taken anew.
    constexpr void begin_again() {
        taken_ = decided_;
        next_ = decided_at_;
        packet_ = {};
    }

    static constexpr void blame(shadow_step& now, error what) {
        if (now.fault.code == errc::none) {
            now.fault = what;
        }
    }
    static constexpr bool stop(shadow_step& now, shadow_stop why) {
        now.why = why;
        return false;
    }
    /// Something in memory cannot be reached.
    static constexpr bool stop(shadow_step& now, error what) {
        blame(now, what);
        return stop(now, shadow_stop::memory_fault);
    }
    /// The guest's descriptor that was taken last.
    [[nodiscard]] constexpr iova latest_at() const {
        return queue_.address_of((next_ == 0 ? queue_.count() : next_) - 1);
    }
    /// The packet goes no further, nor does what follows up to its end.
    constexpr bool drop(shadow_step& now, errc why, bool ends) {
        return drop(now, error{why, latest_at().raw}, ends);
    }
    constexpr bool drop(shadow_step& now, error what, bool ends) {
        blame(now, what);
        ++now.dropped;
        skips_ = !ends;
        decide();
        return true;
    }

    /// Does the next thing; false where there is none.
    constexpr bool advance(shadow_step& now) {
        if (retired_ != decided_ && (!slot(retired_).sent || retired_ < finished_)) {
            return retire(now);
        }
        if (packet_.checked) {
            return send(now);
        }
        if (packet_.translated != packet_.size) {
            return translate(now);
        }
        if (next_ == queue_.tail()) {
            return stop(now, shadow_stop::idle);
        }
        if (taken_ - retired_ == storage_.slot_count) {
            return retired_ != decided_ ? stop(now, shadow_stop::ring_full)
                                        : drop(now, errc::out_of_range, false);
        }
        return take(now);
    }

    // --------------------------------------------------------------------------- back to the guest

    /// The descriptor at the guest's head is done.
    constexpr bool retire(shadow_step& now) {
        const shadow_slot of = slot(retired_);
        if (of.reports) {
            constexpr std::uint32_t status_at = legacy::offset + legacy::dd.low / 8;
            constexpr std::uint8_t sta = 0x0F;
            const auto status = static_cast<std::uint8_t>((of.status & ~sta) | 1);
            const iova at = queue_.address_of(queue_.head()) + status_at;
            if (const result<> written = guest_.write(at, &status, 1); !written) {
                return stop(now, written.error());
            }
            if (of.delayed) {
                now.delayed_write_back = true;
            } else {
                now.causes.raw |= queue_.write_back_causes().raw;
            }
        }
        now.causes.raw |= queue_.advance_head().raw;
        ++retired_;
        ++now.done;
        return true;
    }

    // ----------------------------------------------------------------------------- from the guest

    /// Reads the guest's next descriptor.
    constexpr bool take(shadow_step& now) {
        std::uint8_t bytes[tx_descriptor_size] = {};
        if (const result<> read = guest_.read(queue_.address_of(next_), bytes, sizeof bytes);
            !read) {
            return stop(now, read.error());
        }
        const tx_descriptor seen = tx_descriptor_of(bytes);
        // RS, IDE, EOP and STA are where a legacy descriptor has them, in all formats.
        slot(taken_) = {.status = static_cast<std::uint8_t>(seen.high >> legacy::dd.low),
                        .reports = legacy{seen.high}[legacy::rs],
                        .delayed = legacy{seen.high}[legacy::ide]};
        const bool begins = taken_ == decided_;
        ++taken_;
        ++now.taken;
        next_ = next_ + 1 == queue_.count() ? 0 : next_ + 1;

        const tx_descriptor_kind kind = kind_of(seen);
        if (kind == tx_descriptor_kind::context || kind == tx_descriptor_kind::reserved) {
            if (kind == tx_descriptor_kind::context) {
                const bool segments = context{seen.high}[context::tse];
                (segments ? segmentation_context_ : checksum_context_) = seen;
            }
            if (!begins) {
                return drop(now, errc::malformed, false);
            }
            decide();
            return true;
        }
        const bool ends = legacy{seen.high}[legacy::eop];
        if (skips_) {
            skips_ = !ends;
            decide();
            return true;
        }

        if (begins) {
            packet_.first = seen.high;
        }
        packet_.latest = seen.high;
        constexpr std::uint64_t alike = data::dext.mask | data::tse.mask;
        const bool extended = kind == tx_descriptor_kind::data;
        const std::uint64_t differing = (seen.high ^ packet_.first) & alike;
        if (begins && segments() && !real_->has_segmentation()) {
            return drop(now, errc::not_supported, ends);
        }
        if ((extended ? differing : differing & data::dext.mask) != 0 ||
            (begins && segments() && !can_segment())) {
            return drop(now, errc::malformed, ends);
        }
        const std::uint32_t size =
            extended ? data{seen.high}[data::dtalen] : legacy{seen.high}[legacy::length];
        if (seen.low == 0 || size == 0) { // it transfers no data [82574]
            packet_.size = packet_.translated = 0;
            return !ends || complete(now);
        }
        if (size > longest() - packet_.length || seen.low > ~std::uint64_t{0} - (size - 1)) {
            return drop(now, errc::malformed, ends);
        }
        packet_.buffer = iova{seen.low};
        packet_.size = size;
        packet_.translated = 0;
        packet_.length += size;
        return true;
    }

    [[nodiscard]] constexpr bool ends() const { return legacy{packet_.latest}[legacy::eop]; }

    /// Finds out where the next bytes of the buffer lie.
    constexpr bool translate(shadow_step& now) {
        const std::uint32_t left = packet_.size - packet_.translated;
        const iova at = packet_.buffer + packet_.translated;
        const result<dma_piece> found = translation_.translate(at, left, dma_access::read);
        if (!found) {
            return drop(now, found.error(), ends());
        }
        expects(found->size != 0 && found->size <= left,
                "a translation gives at least one byte, and no more than were asked for");
        const auto size = static_cast<std::uint32_t>(found->size);
        if (!append(iova{found->address.raw}, size)) {
            return drop(now, errc::out_of_range, ends());
        }
        packet_.translated += size;
        if (packet_.translated != packet_.size) {
            return true;
        }
        if (segments()) {
            if (const result<> read = read_header(); !read) {
                return drop(now, read.error(), ends());
            }
        }
        return !ends() || complete(now);
    }

    /// Adds bytes that lie together in host memory. False where the storage ends; and for address
    /// 0, by which the NIC would understand that there is no data.
    constexpr bool append(iova at, std::uint32_t size) {
        if (packet_.pieces != 0) { // the last piece may go on
            tx_descriptor& last = storage_.pieces[packet_.pieces - 1];
            if (last.low + last.high == at.raw) {
                const auto room = static_cast<std::uint32_t>(largest_legacy_length - last.high);
                const std::uint32_t part = size < room ? size : room;
                last.high += part;
                at += part;
                size -= part;
            }
        }
        while (size != 0) {
            if (packet_.pieces == storage_.piece_count || at.raw == 0) {
                return false;
            }
            const std::uint32_t part = size < largest_legacy_length ? size : largest_legacy_length;
            storage_.pieces[packet_.pieces] = {at.raw, part}; // the command comes at the end
            ++packet_.pieces;
            at += part;
            size -= part;
        }
        return true;
    }

    // -------------------------------------------------------------------------------- segmentation

    [[nodiscard]] constexpr bool segments() const {
        return data{packet_.first}[data::dext] && data{packet_.first}[data::tse];
    }
    [[nodiscard]] constexpr std::uint32_t header_length() const {
        return context{segmentation_context_.high}[context::hdrlen];
    }

    /// Bytes that the first descriptor of the NIC must hold, if it is to segment.
    [[nodiscard]] constexpr std::uint32_t together() const {
        const std::uint32_t payload = context{segmentation_context_.high}[context::paylen];
        return header_length() +
               (payload < payload_beside_headers ? payload : payload_beside_headers);
    }

    /// Most bytes that the packet may have. With TSE, it must have so many.
    [[nodiscard]] constexpr std::uint32_t longest() {
        return segments() ? header_length() + context{segmentation_context_.high}[context::paylen]
                          : real_->largest_packet();
    }
    /// Whether the guest's context is one to segment by: the headers lie in HDRLEN, and the NIC can
    /// hold a segment.
    [[nodiscard]] constexpr bool can_segment() {
        constexpr std::uint32_t ethernet_header = 14;
        constexpr std::uint32_t tag = 4;
        const offsets where{segmentation_context_.low};
        const context how{segmentation_context_.high};
        if (kind_of(segmentation_context_) != tx_descriptor_kind::context) {
            return false;
        }
        const data first{packet_.first};
        const std::uint32_t header = how[context::hdrlen];
        const std::uint32_t segment = how[context::mss];
        const std::uint32_t ip = where[offsets::ipcss];
        const std::uint32_t ip_end = where[offsets::ipcse];
        const std::uint32_t own = where[offsets::tucss];
        const std::uint32_t own_end = where[offsets::tucse];
        return header <= largest_header && segment > too_small_segment &&
               header + segment + tag <= real_->largest_packet() && how[context::paylen] != 0 &&
               ip >= ethernet_header && own >= ip + (how[context::ip] ? 20U : 40U) &&
               header >= own + (how[context::tcp] ? 20U : 8U) &&
               (!first[data::ixsm] ||
                (where[offsets::ipcso] + 2U <= header && ip_end >= ip && ip_end < header)) &&
               (!first[data::txsm] ||
                (where[offsets::tucso] + 2U <= header && (own_end == 0 || own_end >= own)));
    }

    /// Reads what the latest buffer has of the headers and of what belongs beside them, unless all
    /// that lies together in the first piece.
    constexpr result<> read_header() {
        const std::uint32_t left = together() - packet_.header;
        if (left == 0 || storage_.pieces[0].high >= together()) {
            return {};
        }
        const std::uint32_t part = packet_.size < left ? packet_.size : left;
        packet_.header += part;
        return guest_.read(packet_.buffer, header_ + (packet_.header - part), std::size_t{part});
    }

    /// Takes what was read out of the pieces, and puts a piece for a copy of it in front.
    constexpr void replace_header() {
        std::uint32_t left = packet_.header;
        std::uint32_t at = 0;
        for (; at != packet_.pieces && left >= storage_.pieces[at].high; ++at) {
            left -= static_cast<std::uint32_t>(storage_.pieces[at].high);
        }
        // The first piece did not hold all of it, so that its place is free now.
        if (at != packet_.pieces) {
            storage_.pieces[at].low += left;
            storage_.pieces[at].high -= left;
        }
        packet_.first_piece = at - 1;
        storage_.pieces[at - 1].high = packet_.header;
        packet_.copied = true;
    }

    // ---------------------------------------------------------------------------------- to the NIC

    /// The packet has its last descriptor: whether it is legal, and what the NIC gets.
    constexpr bool complete(shadow_step& now) {
        if (packet_.length == 0) {
            decide();
            return true;
        }
        const bool extended = data{packet_.first}[data::dext];
        const bool sums =
            extended && (data{packet_.first}[data::ixsm] || data{packet_.first}[data::txsm]);
        if ((segments() && packet_.length != longest()) ||
            (sums && kind_of(own_context()) != tx_descriptor_kind::context)) {
            return drop(now, errc::malformed, true);
        }
        if (segments()) {
            if (storage_.pieces[0].high < together()) {
                if (storage_.header_count == 0) {
                    return drop(now, errc::not_supported, true);
                }
                replace_header();
            }
        } else if (packet_.length < real_->least_packet()) {
            if (real_->padding() == iova{}) {
                return drop(now, errc::not_supported, true);
            }
            // Zeros change no checksum, and packet_.length stays the guest's.
            if (!append(real_->padding(), real_->least_packet() - packet_.length)) {
                return drop(now, errc::out_of_range, true);
            }
        }
        if (extended) {
            command_data();
        } else {
            command_legacy();
        }
        packet_.checked = true;
        return true;
    }

    /// The guest's context for the packet.
    [[nodiscard]] constexpr const tx_descriptor& own_context() const {
        return segments() ? segmentation_context_ : checksum_context_;
    }
    /// Whether a checksum from byte `start` to byte `end` (0: the last one) can be put at byte
    /// `at`.
    [[nodiscard]] constexpr bool can_insert(std::uint32_t start, std::uint32_t at,
                                            std::uint32_t end = 0) const {
        return start < packet_.length && at + 2 <= packet_.length && (end == 0 || end >= start);
    }
    /// The NIC pads and changes no packet but one whose FCS it inserts.
    [[nodiscard]] constexpr bool is_padded() const {
        constexpr std::uint32_t least_frame = 60;
        return packet_.length < least_frame;
    }

    /// Gives the pieces their commands. Legacy descriptors: CSS counts in the first, all else in
    /// the last. EOP and RS are tx_ring's.
    constexpr void command_legacy() {
        const legacy first{packet_.first};
        const legacy last{packet_.latest};
        const bool inserts = last[legacy::ic] && can_insert(first[legacy::css], last[legacy::cso]);
        const bool tags = last[legacy::vle] && queue_.vlan_mode();
        std::uint64_t kept = tags ? tag_mask : 0;
        if (inserts) {
            storage_.pieces[0].high |= packet_.first & legacy::css.mask;
            kept |= legacy::ic.mask | legacy::cso.mask;
        }
        const bool fcs = last[legacy::ifcs] || inserts || tags || is_padded();
        storage_.pieces[packet_.pieces - 1].high |=
            (packet_.latest & kept) | (fcs ? legacy::ifcs.mask : 0);
    }
    /// VLE and the tag, which are at the same place in legacy and data descriptors.
    static constexpr std::uint64_t tag_mask =
        data::vle.mask | data::vlan.mask | data::cfi.mask | data::pri.mask;

    /// Data descriptors: POPTS counts in the first; IFCS, VLE and the tag in the last, or with TSE
    /// in the first. Here all have all.
    constexpr void command_data() {
        const data first{packet_.first};
        const std::uint64_t deciding = segments() ? packet_.first : packet_.latest;
        const tx_descriptor guests = own_context();
        const offsets where{guests.low};
        const context how{guests.high};
        const bool ip =
            first[data::ixsm] &&
            can_insert(where[offsets::ipcss], where[offsets::ipcso], where[offsets::ipcse]);
        const bool own =
            first[data::txsm] &&
            can_insert(where[offsets::tucss], where[offsets::tucso], where[offsets::tucse]);
        const bool tags = data{deciding}[data::vle] && queue_.vlan_mode();
        const bool fcs =
            data{deciding}[data::ifcs] || segments() || ip || own || tags || is_padded();
        const std::uint64_t each =
            (tags ? deciding & tag_mask : 0) | data{data::dtyp(tx_descriptor_type::data),
                                                    data::dext(true),
                                                    data::tse(segments()),
                                                    data::ifcs(fcs),
                                                    data::ixsm(ip),
                                                    data::txsm(own)}
                                                   .raw;
        for (std::uint32_t i = packet_.first_piece; i != packet_.pieces; ++i) {
            storage_.pieces[i].high |= each;
        }

        packet_.has_context = ip || own || segments();
        constexpr std::uint64_t ip_fields =
            offsets::ipcss.mask | offsets::ipcso.mask | offsets::ipcse.mask;
        constexpr std::uint64_t own_fields =
            offsets::tucss.mask | offsets::tucso.mask | offsets::tucse.mask;
        packet_.context.low = guests.low & ((ip ? ip_fields : 0) | (own ? own_fields : 0));
        context made{context::dtyp(tx_descriptor_type::context), context::dext(true),
                     context::tcp(how[context::tcp]), context::ip(how[context::ip])};
        if (segments()) { // the headers are found by both starts
            packet_.context.low |= guests.low & (offsets::ipcss.mask | offsets::tucss.mask);
            made = made.with(context::tse(true), context::snap(how[context::snap]),
                             context::hdrlen(how[context::hdrlen]), context::mss(how[context::mss]),
                             context::paylen(how[context::paylen]));
        }
        packet_.context.high = made.raw;
    }

    /// Gives the packet to the real ring.
    constexpr bool send(shadow_step& now) {
        if (packet_.copied) {
            if (headers_used_ - headers_done_ == storage_.header_count) {
                return stop(now, shadow_stop::ring_full);
            }
            const auto which = static_cast<std::size_t>(headers_used_ % storage_.header_count);
            for (std::uint32_t i = 0; i != packet_.header; ++i) {
                storage_.headers[which].bytes[i] = header_[i];
            }
            storage_.pieces[packet_.first_piece].low =
                (storage_.headers_at + which * sizeof(shadow_header)).raw;
        }
        const std::uint64_t header = packet_.copied ? 1 : 0;
        const result<> put = real_->enqueue_raw(
            storage_.pieces + packet_.first_piece, packet_.pieces - packet_.first_piece,
            packet_.has_context ? &packet_.context : nullptr, taken_ << cookie_count | header);
        if (!put && put.error().code == errc::busy) {
            return stop(now, shadow_stop::ring_full);
        }
        if (!put) { // more pieces than the real ring can ever hold
            return drop(now, put.error().code, true);
        }
        for (std::uint64_t i = decided_; i != taken_; ++i) {
            slot(i).sent = true;
        }
        headers_used_ += header;
        ++now.sent;
        decide();
        return true;
    }

    [[no_unique_address]] Guest guest_;
    [[no_unique_address]] Translation translation_;
    ring* real_;
    shadow_storage storage_;
    tx_queue queue_;
    tx_descriptor checksum_context_{};     ///< the guest's latest; not a context at first
    tx_descriptor segmentation_context_{}; ///< and so here
    packet packet_{};
    std::uint64_t taken_ = 0;
    std::uint64_t decided_ = 0;
    std::uint64_t retired_ = 0;
    std::uint64_t finished_ = 0;     ///< the NIC is done with what is before
    std::uint64_t headers_used_ = 0; ///< and of them done:
    std::uint64_t headers_done_ = 0;
    std::uint32_t next_ = 0;       ///< index of the descriptor that is taken next
    std::uint32_t decided_at_ = 0; ///< index of the first one that is not decided
    bool skips_ = false;           ///< what comes belongs to a packet that was dropped
    std::uint8_t header_[largest_header + payload_beside_headers] = {};
};

} // namespace pt::e1000e
