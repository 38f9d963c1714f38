// SPDX-License-Identifier: BSL-1.0
// Mediation from one end to the other, in one process: a guest's driver (tx_ring), the VMM in the
// middle (shadow_ring over an EPT), and a real NIC (tx_engine) behind a real ring (tx_ring). The
// guest's pages lie apart in the host, and move. Everybody works when he likes, stops, gives up,
// and begins anew. Each cookie comes back once, in order and not before its last frame; each frame
// is the one that traffic.hpp wrote out; what cannot be mediated is dropped, and nothing else.
#include "pt/e1000e/shadow_ring.hpp"

#include "bus.hpp"
#include "traffic.hpp"
#include "transmission.hpp"

#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/translated_memory.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/table_translation.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string_view>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr std::string_view no_fault{};

using namespace pt::e1000e;
using pt::errc;
using pt::iova;
using pt::result;
using traffic::random_numbers;
using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

#if defined(__SANITIZE_ADDRESS__)
constexpr u32 scale = 4;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr u32 scale = 4;
#else
constexpr u32 scale = 1;
#endif
#else
constexpr u32 scale = 1;
#endif

constexpr u64 page = 4096;
constexpr u64 guest_base = 0x1'0019'A000; // so that its pages need more than one table
constexpr u64 host_base = 0x12'3400'0000;
constexpr u64 headers_base = 0x15'0000'0F00;
constexpr u64 real_ring_base = 0x16'0000'0FE0;
constexpr u64 real_zeros = 0x17'0000'0FF8; ///< as many as a padding needs
constexpr u32 none = ~0U;
constexpr u32 CTRL = 0x0000, RST = 1U << 26, VME = 1U << 30;

// ---------------------------------------------------------------------------------------- the host

struct alignas(page) host_frame {
    u8 bytes[page];
};

/// No hardware walks the EPT.
struct no_hardware {
    template <class Stale>
    result<void> invalidate(const Stale&) {
        return {};
    }
};

/// The host's memory, and which frame of it each of the guest's pages is: by the EPT, which the VMM
/// uses, and by a plain array, which the guest and the checks do.
class host {
public:
    using ept_tables = decltype(pt::paging::table{
        std::declval<pt::arena<32>&>().memory(),
        pt::ept::format{pt::ept::capabilities{0x0F01'0673'4141}, 46}});

    host(random_numbers& random, u32 pages)
        : frames_(pages + pages / 2 + 8), page_of_(frames_.size(), none), frame_of_(pages) {
        for (host_frame& each : frames_) {
            std::memset(each.bytes, foreign, page);
        }
        const u32 together_once_in = random.between(1, 4);
        u32 last = 0;
        for (u32 i = 0; i < pages; ++i) {
            u32 next = last + 1;
            if (i == 0 || !random.once_in(together_once_in) || next == frames_.size() ||
                page_of_[next] != none) {
                do {
                    next = random.up_to(static_cast<u32>(frames_.size()) - 1);
                } while (page_of_[next] != none);
            }
            give(i, next);
            last = next;
        }
    }
    host(const host&) = delete;
    host& operator=(const host&) = delete;
    ~host() {
        no_hardware nobody;
        (void)tables_.retire().redeem(nobody);
    }

    [[nodiscard]] const ept_tables& ept() const { return tables_; }
    [[nodiscard]] pt::offset_map map() {
        return {reinterpret_cast<std::uintptr_t>(frames_.data()) - host_base};
    }

    /// Where a byte of the guest's lies.
    [[nodiscard]] u64 place(u64 guest) const {
        return frame_of_.at((guest - guest_base) / page) * page + guest % page;
    }
    [[nodiscard]] u8* at(u64 guest) {
        const u64 where = place(guest);
        return frames_[where / page].bytes + where % page;
    }
    void write(u64 guest, const u8* from, std::size_t count) {
        each_page(guest, count, [&](u8* to, std::size_t here) {
            std::memcpy(to, from, here);
            from += here;
        });
    }
    void fill(u64 guest, std::size_t count, u8 value) {
        each_page(guest, count, [&](u8* to, std::size_t here) { std::memset(to, value, here); });
    }

    /// The NIC reads `count` bytes at a host address; whether all of them are the guest's, in its
    /// pages from `first` on.
    bool read(u64 address, u8* to, std::size_t count, u32 first) const {
        const u64 size = frames_.size() * page;
        if (address < host_base || address - host_base > size ||
            count > size - (address - host_base)) {
            return false;
        }
        for (u64 from = address - host_base; count != 0;) {
            const u32 owner = page_of_[from / page];
            if (owner == none || owner < first) {
                return false;
            }
            const std::size_t here = std::min<std::size_t>(count, page - from % page);
            std::memcpy(to, frames_[from / page].bytes + from % page, here);
            to += here;
            from += here;
            count -= here;
        }
        return true;
    }

    /// Gives one of the guest's pages another frame, if that one is free. Whether it was.
    bool move(random_numbers& random) {
        const u32 number = random.up_to(static_cast<u32>(frame_of_.size()) - 1);
        const u32 to = random.up_to(static_cast<u32>(frames_.size()) - 1);
        if (page_of_[to] != none) {
            return false;
        }
        const u32 from = frame_of_[number];
        frames_[to] = frames_[from];
        std::memset(frames_[from].bytes, foreign, page);
        page_of_[from] = none;
        no_hardware nobody;
        auto owed = tables_.unmap({pt::gpa{guest_base + number * page}, page});
        REQUIRE(owed);
        REQUIRE(owed->redeem(nobody));
        give(number, to);
        return true;
    }

private:
    static constexpr u8 foreign = 0xEE;

    void give(u32 number, u32 frame) {
        frame_of_[number] = frame;
        page_of_[frame] = number;
        REQUIRE(tables_.map({pt::gpa{guest_base + number * page}, page},
                            pt::hpa{host_base + frame * page}, pt::ept::ram));
    }
    template <class F>
    void each_page(u64 guest, std::size_t count, F&& what) {
        while (count != 0) {
            const std::size_t here = std::min<std::size_t>(count, page - guest % page);
            what(at(guest), here);
            guest += here;
            count -= here;
        }
    }

    std::vector<host_frame> frames_;
    std::vector<u32> page_of_;  ///< of the guest, for each frame; or none
    std::vector<u32> frame_of_; ///< for each page of the guest
    std::unique_ptr<pt::arena<32>> arena_ = std::make_unique<pt::arena<32>>();
    ept_tables tables_{arena_->memory(),
                       pt::ept::format{pt::ept::capabilities{0x0F01'0673'4141}, 46}};
};

// -------------------------------------------------------------------------------------- the guest

/// Guest addresses of buffers, which are handed out and come back in order, and then are
/// overwritten.
class guest_buffers {
public:
    static constexpr u8 stale = 0xDB;

    guest_buffers(host& in, u64 base, u64 size) : in_{in}, base_{base}, size_{size} {}

    /// Where the next bytes would lie.
    [[nodiscard]] u64 next() const { return base_ + last_ % size_; }
    /// `count` bytes in one run, `skipped` behind the latest ones; or 0.
    [[nodiscard]] u64 take(u64 skipped, u64 count) {
        const u64 at = (last_ + skipped) % size_;
        skipped += at + count > size_ ? size_ - at : 0;
        if (last_ + skipped + count - first_ > size_) {
            return 0;
        }
        last_ += skipped + count;
        return base_ + (last_ - count) % size_;
    }
    [[nodiscard]] u64 mark() const { return last_; }
    void undo(u64 mark) { last_ = mark; }
    void release(u64 mark) {
        while (first_ < mark) {
            const u64 here = std::min(mark - first_, size_ - first_ % size_);
            in_.fill(base_ + first_ % size_, here, stale);
            first_ += here;
        }
    }

private:
    host& in_;
    u64 base_;
    u64 size_;
    u64 first_ = 0;
    u64 last_ = 0;
};

/// The guest's view of its ring, which may cross pages that lie apart.
struct guest_ring_memory {
    host* in;
    u64 base;
    u64 read64(u32 offset) const {
        u64 value = 0;
        std::memcpy(&value, in->at(base + offset), 8);
        return value;
    }
    void write64(u32 offset, u64 value) const { std::memcpy(in->at(base + offset), &value, 8); }
};

/// Registers: those of the transmitter, and those that a driver needs to be there. What it is to
/// the guest is the VMM's shadow.
template <class Transmitter>
struct nic_registers {
    Transmitter* transmitter;
    u32 fifo; ///< KiB
    const char* fault = nullptr;
};
template <class Transmitter>
struct window {
    nic_registers<Transmitter>* of;
    u32 read32(u32 offset) {
        if (of->transmitter->owns(offset)) {
            return of->transmitter->read(offset);
        }
        if (offset == 0x1000) { // PBA
            return of->fifo << 16 | 20;
        }
        of->fault = "a register is read that transmission does not need";
        return 0;
    }
    u64 read64(u32) { return 0; }
    void write32(u32 offset, u32 value) {
        if (of->transmitter->owns(offset) || offset == CTRL) {
            return of->transmitter->write(offset, value);
        }
        if (offset != 0x410) { // TIPG
            of->fault = "a register is written that transmission does not need";
        }
    }
    void write64(u32, u64) {}
};

// ----------------------------------------------------------------------------------------- the VMM

using ept_translation = decltype(pt::paging::table_translation{std::declval<host&>().ept()});

/// The guest's memory as the VMM reaches it, and whether the VMM keeps to what it was given.
struct guest_memory {
    pt::translated_memory<ept_translation, pt::offset_map> through_ept;
    u64 buffers; ///< where they begin
    const tx_queue* queue = nullptr;
    u64 ring = 0; ///< what the guest has programmed
    u32 count = 0;
    bool enabled = false;

    const char* fault = nullptr;
    bool reported_at_once = false; ///< a DD was written for a descriptor without IDE
    bool reported_later = false;

    void blame(const char* what) { fault = fault == nullptr ? what : fault; }

    [[nodiscard]] bool is_given(u64 at) const {
        const u64 index = (at - ring) / 16;
        const u64 head = queue->head();
        return (index + count - head) % count < (queue->tail() + count - head) % count;
    }
    [[nodiscard]] bool is_descriptor(u64 at) const {
        return at >= ring && at - ring < u64{count} * 16;
    }
    result<> read(iova at, u8* to, std::size_t size) {
        if (at.raw < buffers && (!enabled || !is_descriptor(at.raw) || at.raw % 16 != 0 ||
                                 size != 16 || !is_given(at.raw))) {
            blame("the VMM reads a descriptor that it was not given");
        }
        return through_ept.read(at, to, size);
    }
    result<> write(iova at, const u8* from, std::size_t size) {
        u8 command[16]{};
        if (!enabled || size != 1 || !is_descriptor(at.raw) || at.raw % 16 != 12 ||
            !is_given(at.raw) || !through_ept.read(iova{at.raw - 12}, command, 16)) {
            blame("the VMM writes something else than a status");
        }
        if ((command[11] >> 3 & 1) == 0 || (command[12] & 1) != 0 || (*from & 1) == 0) {
            blame("a status without RS, or twice, or without DD");
        }
        ((command[11] >> 7 & 1) == 0 ? reported_at_once : reported_later) = true;
        return through_ept.write(at, from, size);
    }
};
struct guest_memory_handle {
    guest_memory* of;
    result<> read(iova at, u8* to, std::size_t size) { return of->read(at, to, size); }
    result<> write(iova at, const u8* from, std::size_t size) { return of->write(at, from, size); }
};

/// The EPT, and how often it was asked.
struct counted_translation {
    ept_translation through_ept;
    u64* count;
    result<pt::dma_piece> translate(iova at, u64 size, pt::dma_access how) {
        ++*count;
        return through_ept.translate(at, size, how);
    }
};

// ------------------------------------------------------------------------------------ the real NIC

/// What the real NIC reaches without an IOMMU: everything; and whether it was led astray.
struct physical_memory {
    host* memory;
    shared_bus::ring* ring;
    const std::vector<shadow_header>* headers;
    u32 first_page; ///< of the guest's, that holds data for the wire
    const char* fault = nullptr;
    u64 header_reads = 0;
    u64 padding_reads = 0;
    u32 padding = 0; ///< zero bytes

    void blame(const char* what) { fault = fault == nullptr ? what : fault; }

    result<> read(iova at, u8* to, std::size_t count) {
        const u64 offset = at.raw - headers_base;
        const u64 which = offset / sizeof(shadow_header);
        const u64 in_header = offset % sizeof(shadow_header);
        if (ring->contains(at.raw, count)) {
            ring->read(at.raw, to, count);
        } else if (which < headers->size() && count <= sizeof(shadow_header) - in_header) {
            std::memcpy(to, headers->at(which).bytes + in_header, count);
            ++header_reads;
        } else if (at.raw >= real_zeros && at.raw - real_zeros + count <= padding) {
            std::memset(to, 0, count);
            ++padding_reads;
        } else if (!memory->read(at.raw, to, count, first_page)) {
            blame("the NIC reads memory that is not for it");
            return pt::error{errc::not_mapped, at.raw};
        }
        return {};
    }
    result<> write(iova at, const u8* from, std::size_t count) {
        if (count != 1 || !ring->contains(at.raw, 1)) {
            blame("the NIC writes something else than a status");
            return pt::error{errc::not_mapped, at.raw};
        }
        ring->write(at.raw, from, count);
        return {};
    }
};
struct physical_memory_handle {
    physical_memory* of;
    result<> read(iova at, u8* to, std::size_t count) { return of->read(at, to, count); }
    result<> write(iova at, const u8* from, std::size_t count) {
        return of->write(at, from, count);
    }
};

using real_nic = tx_engine<physical_memory_handle>;
using real_ring = tx_ring<window<real_nic>, shared_bus::ring_memory, shared_bus::order>;
using shadow = shadow_ring<guest_memory_handle, counted_translation, window<real_nic>,
                           shared_bus::ring_memory, shared_bus::order>;
using guest_ring = tx_ring<window<shadow>, guest_ring_memory, shared_bus::order>;

// ------------------------------------------------------------------------------------- all of them

/// What a test chooses.
struct sizes {
    u32 guest; ///< descriptors; a guest that begins anew may take fewer
    u32 real;
    u32 pieces = 64; ///< of shadow_storage
    u32 slots = 64;
    u32 headers = 4;
    traffic::limits traffic{};
    family members = family::pci_express; ///< of the real NIC
};

tx_report random_report(random_numbers& random) {
    switch (random.up_to(3)) {
    case 0: return tx_report::each_packet();
    case 1: return tx_report::every(random.between(1, 40));
    case 2: return tx_report::every(random.between(1, 100'000));
    default: return tx_report::while_idle();
    }
}
pt::e1000e::queue random_queue(random_numbers& random) {
    return random.once_in(2) ? pt::e1000e::queue::first : pt::e1000e::queue::second;
}

class mediated {
public:
    mediated(u64 seed, const sizes& of)
        : random_{seed},
          of_{of},
          guest_settings_{.number = random_queue(random_),
                          .report = random_report(random_),
                          .contexts =
                              random_.once_in(2) ? context_use::reused : context_use::repeated,
                          .padding = random_.once_in(4) ? iova{} : iova{zeros()},
                          .interrupt_delay = static_cast<std::uint16_t>(random_.up_to(1) * 8)},
          real_settings_{.members = of.members,
                         .number = of.members == family::pci ? pt::e1000e::queue::first
                                                             : random_queue(random_),
                         .report = random_report(random_),
                         // So that nothing depends on what the NIC knows where room is scarce.
                         .contexts = of.real < largest_need || random_.once_in(2)
                                         ? context_use::repeated
                                         : context_use::reused,
                         .padding = random_.once_in(4) ? iova{} : iova{real_zeros}},
          pieces_(of.pieces),
          shadow_slots_(of.slots),
          headers_(of.headers),
          real_slots_(of.real),
          guest_slots_(of.guest),
          sent_(of.guest + of.real) {
        for (u64 at = zeros(); at != zeros() + 16; ++at) {
            *host_.at(at) = 0;
        }
        packet_.payload.reserve(of.traffic.largest_payload);
        guest_memory_.queue = &shadow_.registers();
        physical_.padding = least_real() - 1;
        nic_.write(CTRL, VME);
    }

    /// Sends `packets` packets, and whatever may happen meanwhile happens. What went wrong, if
    /// anything.
    std::string run(u32 packets) {
        if (!real_.start()) {
            return "the real ring does not start";
        }
        begin();
        end_ = next_ + packets;
        u64 idle = 0;
        while (next_ < end_ || guest_->in_flight() != 0 || shadow_.in_flight() != 0) {
            const u64 before = next_ + reclaimed_ + frames;
            switch (random_.up_to(9)) {
            case 0:
            case 1:
            case 2: send_some(); break;
            case 3:
            case 4:
                if (vmm_sleeps_ != 0) {
                    --vmm_sleeps_;
                } else {
                    mediate();
                }
                break;
            case 5:
            case 6:
            case 7:
                if (nic_sleeps_ != 0) {
                    --nic_sleeps_;
                } else {
                    transmit();
                }
                break;
            case 8: reclaim(); break;
            default: happen(); break;
            }
            for (const char* const fault :
                 {guest_memory_.fault, physical_.fault, guest_nic_.fault, real_nic_.fault}) {
                if (fault != nullptr) {
                    blame(fault);
                }
            }
            if (fault_ != nullptr) {
                return fault_ + (" at packet " + std::to_string(reclaimed_));
            }
            idle = next_ + reclaimed_ + frames != before ? 0 : idle + 1;
            if (idle == 100'000) {
                return "stuck with " + std::to_string(guest_->in_flight()) + " in flight";
            }
        }
        return finish();
    }

    u64 frames = 0;
    u64 dropped = 0;        ///< packets that could not be mediated
    u64 guest_full = 0;     ///< how often the guest found its ring full
    u64 real_full = 0;      ///< and the VMM the real one
    u64 guest_restarts = 0; ///< with packets in flight
    u64 nic_resets = 0;
    u64 moves = 0; ///< of pages
    [[nodiscard]] u64 header_reads() const { return physical_.header_reads; }
    [[nodiscard]] u64 padding_reads() const { return physical_.padding_reads; }

private:
    struct sent {
        traffic::frames wanted; ///< none: it is dropped, or was given up
        std::vector<fragment> fragments;
        u32 header = 0; ///< bytes, where it is segmented
        u32 segment = 0;
        bool needs_context = false;
        u64 buffers_end = 0;
    };
    /// More real descriptors than any packet takes here.
    static constexpr u32 largest_need = 48;
    static constexpr std::size_t frame_size = 16'400;

    // The guest's pages: two places for its ring, two pages for zeros across their border, buffers.
    [[nodiscard]] u32 ring_pages() const { return of_.guest / 256 + 2; }
    [[nodiscard]] u32 buffer_pages() const { return 64 + std::min(of_.guest, 8'192U) / 24; }
    [[nodiscard]] u32 zero_page() const { return 2 * ring_pages(); }
    [[nodiscard]] u64 zeros() const { return guest_base + (zero_page() + 1) * page - 8; }
    [[nodiscard]] u64 buffers() const { return guest_base + (zero_page() + 2) * page; }

    static u64 cookie_of(u64 number) { return number * 0x9E37'79B9'7F4A'7C15; }
    sent& slot_of(u64 number) { return sent_[number % sent_.size()]; }
    void blame(const char* what) { fault_ = fault_ == nullptr ? what : fault_; }

    // ----------------------------------------------------------------------------------- the guest

    /// Programs a new ring, somewhere else.
    void begin() {
        place_ = 1 - place_;
        const u32 most = of_.guest / 8;
        const u32 count = random_.once_in(2) ? of_.guest : 8 * random_.between(1, most);
        guest_memory_.ring =
            guest_base + place_ * ring_pages() * page + 16 * random_.up_to(page / 16 - 1);
        guest_memory_.count = count;
        guest_.emplace(window<shadow>{&guest_nic_}, guest_ring_memory{&host_, guest_memory_.ring},
                       shared_bus::order{}, iova{guest_memory_.ring}, guest_slots_.data(), count,
                       guest_settings_);
        vlan_mode_ = !random_.once_in(4);
        window<shadow>{&guest_nic_}.write32(CTRL, vlan_mode_ ? VME : 0);
        start();
    }
    void start() {
        if (!guest_->start()) {
            blame("the guest's ring does not start");
        }
        guest_memory_.enabled = true;
    }

    /// The packet's bytes into buffers, in pieces with gaps between them, of which the first has at
    /// least `headers` bytes; false: no room.
    bool lay_out(u32 pieces, u32 headers) {
        const std::size_t size = bytes_.size();
        pieces = std::min(pieces, static_cast<u32>(size) - headers + 1);
        const u64 mark = data_.mark();
        fragments_.clear();
        std::size_t from = 0;
        for (u32 left = pieces; left != 0; --left) {
            const std::size_t rest = size - from;
            const std::size_t here =
                left == 1
                    ? rest
                    : random_.between(from == 0 ? headers : 1, static_cast<u32>(rest - (left - 1)));
            u64 gap = random_.up_to(3);
            if (random_.once_in(headers > 1 && from == 0 ? 2 : 8)) { // across the end of a page
                const auto part = static_cast<u32>(std::min<std::size_t>(here, 64));
                gap = (2 * page - data_.next() % page - random_.up_to(part)) % page;
            }
            const u64 place = data_.take(gap, here);
            if (place == 0) {
                data_.undo(mark);
                return false;
            }
            host_.write(place, bytes_.data() + from, here);
            fragments_.push_back({iova{place}, static_cast<u32>(here)});
            from += here;
        }
        return true;
    }

    /// Whether the guest's own ring can take the packet at all.
    [[nodiscard]] bool can_ever_be_sent(const tx_request& request) const {
        u32 needed = request.offload.needed() ? 1 : 0;
        for (const fragment& piece : fragments_) {
            needed += (piece.length + 16'287) / 16'288;
        }
        const bool padded = bytes_.size() < 17;
        needed += padded ? 1 : 0;
        const u32 kept = guest_settings_.report == tx_report::each_packet() ? 1 : 2;
        return needed + kept <= guest_->count() && (!padded || guest_settings_.padding != iova{});
    }

    void send_some() {
        for (u32 left = random_.up_to(40); left != 0 && next_ < end_; --left) {
            if (next_ - released_ == sent_.size()) {
                break; // the test has no slot
            }
            traffic::generate(random_, of_.traffic, packet_);
            traffic::as_in_memory(packet_, bytes_);
            const auto size = static_cast<u32>(bytes_.size());
            const u32 pieces = random_.once_in(4) ? random_.between(1, 16) : 1;
            const u64 mark = data_.mark();
            tx_request request = both_sides::request_of(packet_);
            const u32 headers = request.offload.segments() ? packet_.payload_at() : 1;
            if (!lay_out(pieces, headers)) {
                break;
            }
            if (random_.once_in(4)) {
                request.interrupt = tx_interrupt::delayed;
            }
            const bool was_empty = guest_->in_flight() == 0;
            const result<> done =
                guest_->enqueue(fragments_.data(), fragments_.size(), cookie_of(next_), request);
            if (!done) {
                data_.undo(mark);
                const bool can = can_ever_be_sent(request);
                if (done.error().code == errc::busy ? was_empty && can : can) {
                    blame("a packet that can be sent is refused");
                }
                if (done.error().code == errc::busy) {
                    ++guest_full;
                    break;
                }
                continue;
            }
            if (size < 17) {
                fragments_.push_back({iova{zeros()}, 17 - size});
            }
            sent& slot = slot_of(next_);
            packet_.inserts_tag = packet_.inserts_tag && vlan_mode_;
            traffic::on_the_wire(packet_, slot.wanted);
            if (packet_.inserts_tag && slot.wanted.bytes.size() < least_real() + 4) {
                slot.wanted.bytes.resize(least_real() + 4); // the VMM's zeros come before the tag
                slot.wanted.ends.back() = least_real() + 4;
            }
            slot.fragments = fragments_;
            slot.header = request.offload.segments() ? packet_.payload_at() : 0;
            slot.segment = request.offload.segments() ? packet_.segment_size : 0;
            slot.needs_context = request.offload.needed();
            slot.buffers_end = data_.mark();
            ++next_;
        }
        if (random_.once_in(2)) {
            guest_->advance_tail();
            announced_ = next_;
        }
    }

    void take_back(u64 cookie) {
        if (cookie != cookie_of(reclaimed_)) {
            blame("a cookie is out of order, or comes twice");
        }
        ++reclaimed_;
    }
    void reclaim() {
        const u64 before = reclaimed_;
        const u32 packets = guest_->reclaim([&](u64 cookie) {
            // One that was dropped need not wait for packets of a ring that was given up.
            const bool was_dropped =
                reclaimed_ < decided_ && slot_of(reclaimed_).wanted.count() == 0;
            if (reclaimed_ >= seen_ && !was_dropped) {
                blame("a cookie comes back before its last frame");
            }
            take_back(cookie);
        });
        if (reclaimed_ - before != packets || guest_->in_flight() != next_ - reclaimed_) {
            blame("the packets are miscounted");
        }
        release();
    }
    /// Buffers that neither the guest nor the NIC uses any more. The guest has to leave those alone
    /// that it gave up while the NIC was at them.
    void release() {
        while (seen_ < decided_ && slot_of(seen_).wanted.count() == 0) {
            ++seen_;
        }
        for (const u64 end = std::min(reclaimed_, seen_); released_ < end; ++released_) {
            data_.release(slot_of(released_).buffers_end);
        }
    }

    /// The guest's driver gives up and begins anew, perhaps by way of a reset. What the VMM did not
    /// take by now never appears.
    void give_up() {
        const u64 before = next_ - reclaimed_;
        guest_restarts += before != 0 ? 1 : 0;
        if (random_.once_in(3)) { // in mid-flow, while the transmitter is enabled
            window<shadow>{&guest_nic_}.write32(CTRL, RST);
        }
        if (guest_->abandon([&](u64 cookie) { take_back(cookie); }) != before) {
            blame("abandon miscounts");
        }
        guest_memory_.enabled = false;
        for (; decided_ != next_; ++decided_) {
            slot_of(decided_).wanted.clear();
        }
        announced_ = next_;
        release();
        if (random_.once_in(2)) {
            mediate();
        }
        if (random_.once_in(2)) {
            window<shadow>{&guest_nic_}.write32(CTRL, RST);
            if (random_.once_in(2)) {
                mediate();
            }
        }
        begin();
    }

    // ------------------------------------------------------------------------------------- the VMM

    /// Whether the packet can be given to the real NIC, as the guest's pages lie now.
    [[nodiscard]] bool can_be_mediated(const sent& packet) {
        u32 length = 0;
        u64 end = 0;
        runs_.clear();
        for (const fragment& piece : packet.fragments) {
            length += piece.length;
            u64 at = piece.address.raw;
            for (u32 left = piece.length; left != 0;) {
                const u32 here = std::min(left, static_cast<u32>(page - at % page));
                const u64 place = host_.place(at);
                if (runs_.empty() || place != end) {
                    runs_.push_back(0);
                }
                runs_.back() += here;
                if (runs_.back() > 16'288) { // what a descriptor takes
                    runs_.push_back(runs_.back() - 16'288);
                    runs_[runs_.size() - 2] = 16'288;
                }
                end = place + here;
                at += here;
                left -= here;
            }
        }
        const u32 frame = packet.segment != 0 ? packet.header + packet.segment + 4 : length;
        if (length < least_real()) { // zeros are sent behind it
            if (real_settings_.padding == iova{}) {
                return false;
            }
            runs_.push_back(least_real() - length);
        }
        if (frame > std::min(16'288U, real_nic_.fifo * 1024 - 80) || runs_.size() > of_.pieces ||
            (packet.segment != 0 && of_.members == family::pci)) {
            return false;
        }
        std::size_t needed = runs_.size();
        // What must lie together: the headers, and a few bytes behind them.
        const u32 first = packet.segment == 0 ? 0 : std::min(packet.header + 4, length);
        if (runs_[0] < first) { // a copy is sent instead
            if (of_.headers == 0) {
                return false;
            }
            u32 left = first;
            for (std::size_t i = 0; i != runs_.size() && left >= runs_[i]; ++i) {
                left -= runs_[i];
                --needed;
            }
            ++needed;
        }
        needed += packet.needs_context ? 1 : 0;
        return needed <= of_.real - 1 - kept_in_real();
    }
    [[nodiscard]] u32 least_real() const { return of_.members == family::pci ? 60 : 17; }
    [[nodiscard]] u32 kept_in_real() const {
        return real_settings_.report == tx_report::each_packet() ? 0 : 1;
    }

    void mediate() {
        guest_memory_.reported_at_once = guest_memory_.reported_later = false;
        translations_ = 0;
        const u32 head = shadow_.registers().head();
        const u32 budget = random_.once_in(4) ? random_.up_to(8) : random_.up_to(300);
        const shadow_step done = shadow_.step(budget);

        u32 unfit = 0;
        for (u32 i = 0; i < done.sent + done.dropped; ++i, ++decided_) {
            if (decided_ == announced_) {
                return blame("the VMM has more packets than it was given");
            }
            if (!can_be_mediated(slot_of(decided_))) {
                slot_of(decided_).wanted.clear();
                ++unfit;
            }
        }
        dropped += unfit;
        release();
        if (done.dropped != unfit || (done.fault.code != errc::none) != (unfit != 0)) {
            blame("a packet is dropped that need not be, or another one is not");
        }
        if (u64{done.taken} + translations_ + done.sent + done.done > budget ||
            (budget != 0 && done.why == shadow_stop::budget && done.taken == 0 &&
             translations_ == 0 && done.sent + done.done + done.dropped == 0)) {
            blame("a step does more than its budget, or nothing");
        }
        const u32 count = guest_memory_.count;
        if (guest_memory_.enabled && (head + done.done) % count != shadow_.registers().head()) {
            blame("the guest's head is not behind what is done");
        }
        if ((done.why == shadow_stop::disabled) == guest_memory_.enabled ||
            done.why == shadow_stop::bad_ring || done.why == shadow_stop::memory_fault ||
            (done.why == shadow_stop::idle && decided_ != announced_) ||
            (done.why == shadow_stop::ring_full && shadow_.in_flight() == 0)) {
            blame("the VMM's step ends for no reason");
        }
        real_full += done.why == shadow_stop::ring_full ? 1 : 0;
        check_causes(done.causes, done.delayed_write_back);
    }
    void check_causes(icr causes, bool delayed_write_back) {
        constexpr u32 txdw = 1U << 0;
        const bool first = guest_settings_.number == pt::e1000e::queue::first;
        const u32 own = first ? 1U << 22 : 1U << 23;
        const u32 all = causes.raw & (txdw | 3U << 22);
        if (all != (guest_memory_.reported_at_once ? txdw | own : 0) ||
            delayed_write_back != guest_memory_.reported_later) {
            blame("TXDW without a write-back, or none with one");
        }
    }

    /// The VMM moves pages of the guest's, when the NIC has none of them.
    void move_pages() {
        for (u32 patience = random_.up_to(60); shadow_.revoke() != 0; --patience) {
            if (patience == 0) {
                return;
            }
            transmit();
        }
        if (seen_ != decided_) {
            return blame("the NIC is done with packets that it did not send");
        }
        for (u32 left = random_.up_to(20); left != 0; --left) {
            moves += host_.move(random_) ? 1 : 0;
        }
    }

    // ------------------------------------------------------------------------------------- the NIC

    void transmit() {
        const tx_budget budget{.descriptors = random_.up_to(80), .frames = random_.up_to(80)};
        const u32 refused_once_in = random_.once_in(4) ? random_.between(1, 8) : 0;
        u32 taken = 0;
        const tx_step done = nic_.step(budget, [&](const u8* frame, std::size_t length) {
            if (seen_ >= decided_ || !slot_of(seen_).wanted.is(part_, frame, length)) {
                blame("a frame that was not meant");
                return true;
            }
            if (refused_once_in != 0 && random_.once_in(refused_once_in)) {
                return false;
            }
            ++taken;
            ++frames;
            if (++part_ == slot_of(seen_).wanted.count()) {
                part_ = 0;
                ++seen_;
                release();
            }
            return true;
        });
        if (done.frames != taken || done.dropped != 0 || done.malformed != 0 ||
            done.fault.code != errc::none || done.delayed_write_back) {
            blame("the NIC was given something that it does not like");
        }
        if ((done.why == tx_stop::disabled) != nic_pauses_ || done.why == tx_stop::bad_ring ||
            done.why == tx_stop::memory_fault) {
            blame("the NIC stops for no reason");
        }
    }

    /// The NIC hangs. The VMM resets it and goes on with what it did not give to it; perhaps the
    /// NIC has another transmit FIFO then.
    void reset_nic() {
        ++nic_resets;
        nic_.reset();
        nic_.write(CTRL, VME);
        constexpr u32 fifos[]{20, 20, 20, 4, 9, 15};
        real_nic_.fifo = fifos[random_.up_to(5)];
        shadow_.abandon();
        for (u64 i = seen_; i != decided_; ++i) {
            slot_of(i).wanted.clear();
        }
        part_ = 0;
        release();
        if (shadow_.in_flight() != 0 || !real_.start()) {
            blame("the real ring does not start again");
        }
        nic_pauses_ = false;
    }

    // -------------------------------------------------------------------------------- what happens

    void happen() {
        const bool large = std::max(of_.guest, of_.real) >= 1'024;
        const u32 sleep = large ? 1'000 : 64;
        switch (random_.up_to(large ? 1'023 : 63)) {
        case 0:
        case 1:
        case 2:
        case 3:
            if (!(guest_memory_.enabled ? guest_->pause() : guest_->resume())) {
                blame("the guest's pause or resume");
            }
            guest_memory_.enabled = !guest_memory_.enabled;
            break;
        case 4:
        case 5:
            if (!(nic_pauses_ ? real_.resume() : real_.pause())) {
                blame("the VMM's pause or resume");
            }
            nic_pauses_ = !nic_pauses_;
            break;
        case 6: nic_sleeps_ = random_.up_to(sleep); break;
        case 7: vmm_sleeps_ = random_.up_to(sleep); break;
        case 8:
            if (next_ != end_) { // the last ones have to come back by themselves
                give_up();
            }
            break;
        case 9:
            if (next_ != end_) {
                reset_nic();
            }
            break;
        case 10:
        case 11: move_pages(); break;
        case 12: {
            const result<> done = guest_->stop();
            if (done.has_value() != (next_ == reclaimed_)) {
                blame("the guest's stop");
            }
            if (done) {
                guest_memory_.enabled = false;
                start();
            }
            break;
        }
        default: break;
        }
    }

    /// All has come back: nobody has anything left to do.
    std::string finish() {
        if (!guest_memory_.enabled && !guest_->resume()) {
            return "the guest's resume";
        }
        guest_memory_.enabled = true;
        while (shadow_.step().why == shadow_stop::budget) {}
        if (seen_ != next_ || reclaimed_ != next_ || released_ != next_ || decided_ != next_) {
            return "not all of it";
        }
        if (shadow_.registers().head() != guest_->tail() ||
            real_.free_descriptors() != of_.real - 1 - kept_in_real()) {
            return "descriptors are left in a ring";
        }
        const bool stops = guest_->stop().has_value() && real_.stop().has_value();
        guest_memory_.enabled = false;
        if (!stops || shadow_.step().why != shadow_stop::disabled ||
            nic_.step({}, [](const u8*, std::size_t) { return true; }).why != tx_stop::disabled) {
            return "stop";
        }
        return fault_ == nullptr ? "" : fault_;
    }

    random_numbers random_;
    sizes of_;
    tx_settings guest_settings_;
    tx_settings real_settings_;

    host host_{random_, zero_page() + 2 + buffer_pages()};
    guest_buffers data_{host_, buffers(), buffer_pages() * page};

    shared_bus::ring real_descriptors_{of_.real, real_ring_base};
    std::vector<tx_descriptor> pieces_;
    std::vector<shadow_slot> shadow_slots_;
    std::vector<shadow_header> headers_;
    physical_memory physical_{&host_, &real_descriptors_, &headers_, zero_page()};
    std::unique_ptr<u8[]> frame_ = std::make_unique<u8[]>(frame_size);
    real_nic nic_{{&physical_}, frame_.get(), frame_size, real_settings_.number};
    nic_registers<real_nic> real_nic_{&nic_, 20};
    std::vector<tx_slot> real_slots_;
    real_ring real_{
        {&real_nic_}, {&real_descriptors_}, {}, real_descriptors_.base(), real_slots_.data(),
        of_.real,     real_settings_};

    guest_memory guest_memory_{{ept_translation{host_.ept()}, host_.map()}, zeros()};
    u64 translations_ = 0; ///< in this step
    shadow shadow_{{&guest_memory_},
                   {ept_translation{host_.ept()}, &translations_},
                   real_,
                   {.pieces = pieces_.data(),
                    .piece_count = of_.pieces,
                    .slots = shadow_slots_.data(),
                    .slot_count = of_.slots,
                    .headers = of_.headers == 0 ? nullptr : headers_.data(),
                    .header_count = of_.headers,
                    .headers_at = iova{headers_base}},
                   guest_settings_.number};
    nic_registers<shadow> guest_nic_{&shadow_, 20};
    std::vector<tx_slot> guest_slots_;
    std::optional<guest_ring> guest_;

    traffic::packet packet_;
    std::vector<u8> bytes_;
    std::vector<fragment> fragments_;
    std::vector<u32> runs_;  ///< bytes that lie together in the host
    std::vector<sent> sent_; ///< packet n in element n modulo their number
    u32 place_ = 0;          ///< of the guest's ring, of two
    bool vlan_mode_ = false; ///< the guest's CTRL.VME
    bool nic_pauses_ = false;
    u32 nic_sleeps_ = 0; ///< turns that the NIC leaves out
    u32 vmm_sleeps_ = 0;
    u64 end_ = 0;       ///< packets that are to be sent
    u64 next_ = 0;      ///< number of the guest's next packet
    u64 announced_ = 0; ///< packets up to the guest's tail
    u64 decided_ = 0;   ///< of those, the VMM has given them to the NIC, or dropped them
    u64 seen_ = 0;      ///< and of those all frames were seen that there will be
    std::size_t part_ = 0;
    u64 reclaimed_ = 0;
    u64 released_ = 0; ///< packets whose buffers are free again
    const char* fault_ = nullptr;
};

/// What all episodes saw.
struct totals {
    u64 frames = 0, dropped = 0, guest_full = 0, real_full = 0, guest_restarts = 0;
    u64 nic_resets = 0, moves = 0, header_reads = 0, padding_reads = 0;
    void add(const mediated& one) {
        frames += one.frames;
        dropped += one.dropped;
        guest_full += one.guest_full;
        real_full += one.real_full;
        guest_restarts += one.guest_restarts;
        nic_resets += one.nic_resets;
        moves += one.moves;
        header_reads += one.header_reads();
        padding_reads += one.padding_reads();
    }
};

u32 random_size(random_numbers& random) {
    return 8 * random.between(1, random.once_in(3) ? 2 : 64);
}

TEST_CASE("mediated, small rings: each packet goes out once and whole, or is dropped alone",
          "[e1000e][random][rule 23][rule 24][rule 25]") {
    random_numbers random{12};
    totals all;
    for (u32 episode = 0; episode < 300 / scale; ++episode) {
        const sizes of{.guest = random_size(random),
                       .real = random_size(random),
                       .pieces = random.once_in(4) ? random.between(1, 12) : 64,
                       .slots = random.between(32, 200),
                       .headers = random.up_to(4)};
        mediated one{random.next(), of};
        INFO("episode " << episode << ": guest " << of.guest << ", real " << of.real << ", pieces "
                        << of.pieces << ", slots " << of.slots << ", headers " << of.headers);
        REQUIRE(one.run(2'000) == no_fault);
        all.add(one);
    }
    CHECK(all.frames > 200'000 / scale);
    CHECK(all.dropped > 1'000 / scale);
    CHECK(all.guest_full > 1'000 / scale);
    CHECK(all.real_full > 1'000 / scale);
    CHECK(all.guest_restarts > 200 / scale);
    CHECK(all.nic_resets > 200 / scale);
    CHECK(all.moves > 1'000 / scale);
    CHECK(all.header_reads > 1'000 / scale);
}

TEST_CASE("mediated by 8254x: all but segments, and zeros behind what is short",
          "[e1000e][random][rule 24]") {
    random_numbers random{15};
    totals all;
    for (u32 episode = 0; episode < 40 / scale; ++episode) {
        mediated one{random.next(),
                     {.guest = random_size(random),
                      .real = random_size(random),
                      .pieces = random.once_in(4) ? random.between(1, 12) : 64,
                      .members = family::pci}};
        INFO("episode " << episode);
        REQUIRE(one.run(2'000) == no_fault);
        all.add(one);
    }
    CHECK(all.frames > 10'000 / scale);
    CHECK(all.dropped > 1'000 / scale);
    CHECK(all.padding_reads > 1'000 / scale);
    CHECK(all.header_reads == 0);
}

TEST_CASE("mediated, large packets, many segments", "[e1000e][random][rule 25]") {
    random_numbers random{13};
    totals all;
    for (u32 episode = 0; episode < 40 / scale; ++episode) {
        mediated one{random.next(),
                     {.guest = 8 * random.between(4, 40),
                      .real = 8 * random.between(6, 40),
                      .headers = random.up_to(4),
                      .traffic = {.largest_frame = 16'288,
                                  .largest_payload = 60'000,
                                  .complex_once_in = 1}}};
        INFO("episode " << episode);
        REQUIRE(one.run(500) == no_fault);
        all.add(one);
    }
    CHECK(all.frames > 10'000 / scale);
    CHECK(all.header_reads > 30 / scale);
}

TEST_CASE("mediated, rings of any size up to the largest", "[e1000e][random][rule 23]") {
    random_numbers random{14};
    constexpr struct {
        u32 guest, real;
    } rings[]{{4'096, 64}, {64, 32'768}, {1'024, 1'024}, {65'528, 256}, {256, 65'528}};
    totals all;
    for (const auto& [guest, real] : rings) {
        mediated one{random.next(),
                     {.guest = guest,
                      .real = real,
                      .slots = random.once_in(2) ? 128 : guest,
                      .traffic = {.complex_once_in = 64}}};
        INFO("guest " << guest << ", real " << real);
        REQUIRE(one.run(60'000 / scale) == no_fault);
        all.add(one);
    }
    CHECK(all.guest_full != 0);
    CHECK(all.real_full != 0);
}

} // namespace
