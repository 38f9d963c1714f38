// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/shadow_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <cstddef>
#include <cstdint>

/// A host with a guest whose pages lie anywhere, and a NIC without an IOMMU that reads what it is
/// told to, and tells on whoever told it wrong. Written from the datasheet [82574] in plain
/// numbers.
namespace mediation {

using u8 = std::uint8_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline constexpr u32 TCTL = 0x0400, PBA = 0x1000;
inline constexpr u32 TDBAL = 0x3800, TDBAH = 0x3804, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818;
inline constexpr u32 EN = 1U << 1;

// Bits of a descriptor's second quadword
inline constexpr u64 EOP = 1U << 24, IFCS = 1U << 25, IC = 1U << 26, TSE = 1U << 26, RS = 1U << 27;
inline constexpr u64 DEXT = 1U << 29, VLE = 1U << 30, IDE = 1U << 31, DATA = DEXT | 1U << 20;
inline constexpr u64 DD = u64{1} << 32, IXSM = u64{1} << 40, TXSM = u64{1} << 41;
inline constexpr u64 TCP = 1U << 24, IPV4 = 1U << 25; // of a context
constexpr u64 css(u64 at) { return at << 40; }
constexpr u64 cso(u64 at) { return at << 16; }
constexpr u64 tag(u64 value) { return value << 48; }

/// Pages are small, so that buffers cross many of them.
inline constexpr u64 page = 64;
inline constexpr u64 host_base = 0x12'3400'0000;
inline constexpr u64 headers_base = 0x55'0000'0000;
inline constexpr u64 zeros_base = 0x66'0000'0FF0; ///< 59 of them, the VMM's
inline constexpr u32 nowhere = ~0U;

/// The host's frames, and which guest page is which of them.
template <u32 Frames, u32 Pages>
struct host {
    u8 bytes[Frames * page] = {};
    u32 frame_of[Pages] = {};   ///< or nowhere
    bool read_only[Pages] = {}; ///< to devices
    u64 reads = 0;              ///< of the guest's memory, by the VMM
    u64 longest_piece = ~u64{0};

    constexpr bool belongs_to_guest(u64 frame) const {
        for (const u32 own : frame_of) {
            if (own == frame) {
                return true;
            }
        }
        return false;
    }
    /// The byte at a guest address; null where nothing is.
    constexpr u8* at(u64 guest) {
        const u64 number = guest / page;
        if (number >= Pages || frame_of[number] == nowhere) {
            return nullptr;
        }
        return &bytes[frame_of[number] * page + guest % page];
    }
    constexpr void put(u64 guest, u64 quadword) {
        for (u32 i = 0; i < 8; ++i) {
            *at(guest + i) = static_cast<u8>(quadword >> 8 * i);
        }
    }
    constexpr u64 get(u64 guest) {
        u64 value = 0;
        for (u32 i = 0; i < 8; ++i) {
            value |= u64{*at(guest + i)} << 8 * i;
        }
        return value;
    }
};

template <class Host>
struct translation {
    Host* in;
    constexpr pt::result<pt::dma_piece> translate(pt::iova at, u64 size, pt::dma_access how) {
        const u8* const byte = in->at(at.raw);
        if (byte == nullptr) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        if (how == pt::dma_access::write && in->read_only[at.raw / page]) {
            return pt::error{pt::errc::refused, at.raw};
        }
        u64 rest = page - at.raw % page;
        rest = rest < size ? rest : size;
        rest = rest < in->longest_piece ? rest : in->longest_piece;
        return pt::dma_piece{pt::hpa{host_base + static_cast<u64>(byte - in->bytes)}, rest};
    }
};

template <class Host>
struct guest_memory {
    Host* in;
    constexpr pt::result<> read(pt::iova at, u8* to, std::size_t count) {
        ++in->reads;
        for (std::size_t i = 0; i < count; ++i) {
            const u8* const byte = in->at(at.raw + i);
            if (byte == nullptr) {
                return pt::error{pt::errc::not_mapped, at.raw + i};
            }
            to[i] = *byte;
        }
        return {};
    }
    constexpr pt::result<> write(pt::iova at, const u8* from, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            u8* const byte = in->at(at.raw + i);
            if (byte == nullptr || in->read_only[(at.raw + i) / page]) {
                return pt::error{pt::errc::refused, at.raw + i};
            }
            *byte = from[i];
        }
        return {};
    }
};

/// A packet as the NIC was asked to send it.
template <u32 Longest>
struct packet {
    u8 bytes[Longest] = {};
    u32 length = 0;
    u64 first = 0;   ///< second quadword of the first descriptor, without lengths, EOP and RS
    u64 last = 0;    ///< and of the last one
    u32 pieces = 0;  ///< descriptors
    u64 offsets = 0; ///< the context that the NIC has, if the packet needs one
    u64 command = 0;
};

/// The real NIC: ring, registers, and what it sent.
template <class Host, u32 Ring, u32 Longest, u32 Kept>
struct nic {
    Host* in = nullptr;
    const pt::e1000e::shadow_header* headers = nullptr;
    u32 header_count = 0;
    u32 least = 17; ///< bytes of a packet
    bool segments = true;

    u64 ring[Ring * 2] = {};
    u32 registers[0x1000] = {};
    const char* fault = nullptr; ///< the first thing that must not be
    packet<Longest> sent[Kept] = {};
    u32 sent_count = 0; ///< ever; the last ones are kept
    u32 reports = 0;    ///< status write-backs, each of which is an interrupt
    packet<Longest> now{};
    bool open = false;
    u64 context_low = 0;
    u64 context_high = 0;
    bool has_context = false;

    constexpr explicit nic(Host& host, u32 fifo_kib = 20) : in{&host} {
        registers[PBA / 4] = fifo_kib << 16;
    }
    constexpr u32& reg(u32 offset) { return registers[offset / 4]; }
    constexpr void blame(const char* what) {
        if (fault == nullptr) {
            fault = what;
        }
    }
    constexpr const packet<Longest>& last_sent() const { return sent[(sent_count - 1) % Kept]; }

    constexpr u8 dma(u64 address) {
        if (headers != nullptr && address >= headers_base &&
            address < headers_base + u64{256} * header_count) {
            const u64 at = address - headers_base;
            return headers[at / 256].bytes[at % 256];
        }
        if (address >= zeros_base && address < zeros_base + 59) {
            return 0;
        }
        if (address < host_base || address - host_base >= sizeof in->bytes) {
            blame("no memory of this host");
            return 0;
        }
        const u64 at = address - host_base;
        if (!in->belongs_to_guest(at / page)) {
            blame("memory of somebody else");
        }
        return in->bytes[at];
    }

    /// Works on up to `count` descriptors.
    constexpr void run(u32 count = ~0U) {
        const u32 size = reg(TDLEN) / 16;
        if ((reg(TCTL) & EN) == 0 || size == 0) {
            return;
        }
        for (; count != 0 && reg(TDH) != reg(TDT); --count) {
            const u32 at = reg(TDH);
            const u64 low = ring[2 * at];
            const u64 high = ring[2 * at + 1];
            take(low, high);
            if ((high & RS) != 0) {
                ring[2 * at + 1] |= DD;
                ++reports;
            }
            reg(TDH) = at + 1 == size ? 0 : at + 1;
        }
    }
    constexpr void take(u64 low, u64 high) {
        if ((high & (u64{0xFF} << 32 | u64{1} << 28 | IDE)) != 0) {
            blame("a reserved bit, status or IDE is set");
        }
        if ((high & DEXT) != 0 && (high >> 20 & 0xF) == 0) { // context
            if (open) {
                blame("a context inside a packet");
            }
            context_low = low;
            context_high = high & ~RS;
            has_context = true;
            return;
        }
        const bool extended = (high & DEXT) != 0;
        if (extended && (high >> 20 & 0xF) != 1) {
            blame("a reserved type");
        }
        const u32 length = static_cast<u32>(high & (extended ? 0xF'FFFF : 0xFFFF));
        const bool ends = (high & EOP) != 0;
        if (low == 0 || length == 0 || length > 16288) {
            blame("a descriptor without data, or with too much of it");
        }
        const u64 fields = high & ~(EOP | RS | (extended ? u64{0xF'FFFF} : u64{0xFFFF}));
        if (!open) {
            now = {};
            now.first = fields;
        } else if (((now.first ^ high) & DEXT) != 0 || (extended && now.first != fields)) {
            blame("descriptors of one packet differ");
        }
        if (!extended && !ends && (fields & ~(open ? u64{0} : css(0xFF))) != 0) {
            blame("fields that count in the last descriptor only");
        }
        open = !ends;
        ++now.pieces;
        if (length > Longest - now.length) {
            blame("longer than this test's packets");
            return;
        }
        for (u32 i = 0; i < length; ++i) {
            now.bytes[now.length + i] = dma(low + i);
        }
        if (now.length == 0) {
            first_piece_ = length;
        }
        now.length += length;
        if (ends) {
            now.last = fields;
            finish(extended);
        }
    }
    constexpr void finish(bool extended) {
        const u64 room = (registers[PBA / 4] >> 16) * u64{1024} - 80;
        const u64 most = room < 16288 ? room : 16288;
        const auto in_range = [this](u64 start, u64 at) {
            return start < now.length && at + 2 <= now.length;
        };
        if (extended && (now.first & TSE) != 0) {
            const u64 header = context_high >> 40 & 0xFF;
            const u64 mss = context_high >> 48;
            if (!has_context || (context_high & TSE) == 0 || header > 240 || mss <= 16 ||
                header + mss > most || header + (context_high & 0xF'FFFF) != now.length) {
                blame("segmentation that the datasheet does not define");
            }
            if (!segments) {
                blame("a NIC that does not segment");
            }
            const u64 beside = now.length - header < 4 ? now.length - header : 4;
            if (first_piece_ < header + beside) {
                blame("a header in parts, or without payload beside it");
            }
        } else if (now.length < least || now.length > most) {
            blame("a packet that is too short or too long");
        }
        const bool computes = extended && (now.first & (TSE | IXSM | TXSM)) != 0;
        if (extended && (now.first & IXSM) != 0 &&
            !in_range(context_low & 0xFF, context_low >> 8 & 0xFF)) {
            blame("an IP checksum outside of its packet");
        }
        if (extended && (now.first & TXSM) != 0 &&
            !in_range(context_low >> 32 & 0xFF, context_low >> 40 & 0xFF)) {
            blame("a checksum outside of its packet");
        }
        if (!extended && (now.last & IC) != 0 &&
            !in_range(now.first >> 40 & 0xFF, now.last >> 16 & 0xFF)) {
            blame("a legacy checksum outside of its packet");
        }
        if ((now.last & IFCS) == 0 && (computes || (now.last & VLE) != 0 || now.length < 60 ||
                                       (!extended && (now.last & IC) != 0))) {
            blame("a packet that is changed needs IFCS");
        }
        if (computes) {
            now.offsets = context_low;
            now.command = context_high;
        }
        sent[sent_count % Kept] = now;
        ++sent_count;
    }

private:
    u32 first_piece_ = 0;
};

template <class Nic>
struct mmio {
    Nic* of;
    constexpr u32 read32(u32 offset) { return of->reg(offset); }
    constexpr u64 read64(u32 offset) { return of->reg(offset); }
    constexpr void write32(u32 offset, u32 value) { of->reg(offset) = value; }
    constexpr void write64(u32 offset, u64 value) { of->reg(offset) = static_cast<u32>(value); }
};
template <class Nic>
struct ring_memory {
    Nic* of;
    constexpr u64 read64(u32 offset) { return of->ring[offset / 8]; }
    constexpr void write64(u32 offset, u64 value) { of->ring[offset / 8] = value; }
};
struct order {
    constexpr void release() {}
    constexpr void acquire() {}
};

/// All of it, with a shadow ring in the middle. The guest's pages lie where `place` puts them.
template <u32 Frames, u32 Pages, u32 Ring, u32 Longest = 1024, u32 Kept = 4, u32 Pieces = 64,
          u32 Slots = 64, u32 Headers = 4>
struct machine {
    using host_type = host<Frames, Pages>;
    using nic_type = nic<host_type, Ring, Longest, Kept>;
    using ring_type = pt::e1000e::tx_ring<mmio<nic_type>, ring_memory<nic_type>, order>;

    host_type memory{};
    nic_type device;
    pt::e1000e::tx_slot ring_slots[Ring] = {};
    ring_type ring;
    pt::e1000e::tx_descriptor pieces[Pieces] = {};
    pt::e1000e::shadow_slot slots[Slots] = {};
    pt::e1000e::shadow_header headers[Headers] = {};
    pt::e1000e::shadow_ring<guest_memory<host_type>, translation<host_type>, mmio<nic_type>,
                            ring_memory<nic_type>, order>
        shadow;
    u32 guest_ring = 0; ///< where the guest's ring is

    /// Guest page i is frame (i * step + 1) % Frames.
    constexpr explicit machine(u32 step = 1, u32 header_count = Headers, u32 fifo_kib = 20,
                               pt::e1000e::tx_settings settings = {})
        : device{memory, fifo_kib},
          ring{{&device}, {&device}, order{}, pt::iova{0x1000}, ring_slots, Ring, settings},
          shadow{guest_memory<host_type>{&memory},
                 translation<host_type>{&memory},
                 ring,
                 {.pieces = pieces,
                  .piece_count = Pieces,
                  .slots = slots,
                  .slot_count = Slots,
                  .headers = header_count == 0 ? nullptr : headers,
                  .header_count = header_count,
                  .headers_at = pt::iova{headers_base}}} {
        device.headers = headers;
        device.header_count = header_count;
        if (settings.members == pt::e1000e::family::pci) {
            device.least = 60;
            device.segments = false;
        }
        for (u32 i = 0; i < Pages; ++i) {
            memory.frame_of[i] = (i * step + 1) % Frames;
        }
        if (!ring.start()) {
            device.blame("the real ring did not start");
        }
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    /// The guest programs a ring of `count` descriptors at `base`, and enables its transmitter.
    constexpr void program(u32 base, u32 count, u32 head = 0) {
        guest_ring = base;
        shadow.write(TDBAL, base);
        shadow.write(TDBAH, 0);
        shadow.write(TDLEN, count * 16);
        shadow.write(TDH, head);
        shadow.write(TDT, head);
        shadow.write(TCTL, EN);
    }
    constexpr void put(u32 index, u64 low, u64 high) {
        memory.put(guest_ring + index * 16, low);
        memory.put(guest_ring + index * 16 + 8, high);
    }
    constexpr u64 command_at(u32 index) { return memory.get(guest_ring + index * 16 + 8); }
    constexpr bool is_done(u32 index) { return (command_at(index) & DD) != 0; }
    /// Fills guest memory with bytes that tell where they are.
    constexpr void fill(u32 at, u32 count, u32 seed) {
        for (u32 i = 0; i < count; ++i) {
            *memory.at(at + i) = static_cast<u8>((at + i) * 7 + (at + i) / 256 + seed);
        }
    }
    /// Whether the last packet that was sent begins at `from` with what guest memory holds at `at`.
    constexpr bool sent_has(u32 from, u32 at, u32 count) {
        if (device.sent_count == 0 || device.last_sent().length < from + count) {
            return false;
        }
        for (u32 i = 0; i < count; ++i) {
            if (device.last_sent().bytes[from + i] != *memory.at(at + i)) {
                return false;
            }
        }
        return true;
    }
};

} // namespace mediation
