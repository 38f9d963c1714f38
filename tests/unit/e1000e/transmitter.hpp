// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

/// The device's side of a transmit queue, written from the datasheet [82574] and from nothing else:
/// offsets and bits are plain numbers here, so that a wrong one in pt's headers does not agree with
/// itself. It is stricter than hardware: what the datasheet forbids is recorded in `fault`.
namespace transmitter {

inline constexpr std::uint32_t CTRL = 0x00000;
inline constexpr std::uint32_t STATUS = 0x00008;
inline constexpr std::uint32_t TCTL = 0x00400;
inline constexpr std::uint32_t TIPG = 0x00410;
inline constexpr std::uint32_t PBA = 0x01000;
inline constexpr std::uint32_t TIDV = 0x03820;
inline constexpr std::uint32_t TADV = 0x0382C;
// Of queue 0; those of queue 1 are 0x100 further.
inline constexpr std::uint32_t TDBAL = 0x03800;
inline constexpr std::uint32_t TDBAH = 0x03804;
inline constexpr std::uint32_t TDLEN = 0x03808;
inline constexpr std::uint32_t TDH = 0x03810;
inline constexpr std::uint32_t TDT = 0x03818;
inline constexpr std::uint32_t TXDCTL = 0x03828;
inline constexpr std::uint32_t TARC = 0x03840;

inline constexpr std::uint32_t EN = 1U << 1;

// Bits of a descriptor's second quadword.
inline constexpr std::uint64_t EOP = 1ULL << 24;
inline constexpr std::uint64_t IFCS = 1ULL << 25;
inline constexpr std::uint64_t TSE = 1ULL << 26;
inline constexpr std::uint64_t RS = 1ULL << 27;
inline constexpr std::uint64_t DEXT = 1ULL << 29;
inline constexpr std::uint64_t VLE = 1ULL << 30;
inline constexpr std::uint64_t IDE = 1ULL << 31;
inline constexpr std::uint64_t DD = 1ULL << 32;

struct piece {
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    friend constexpr bool operator==(const piece&, const piece&) = default;
};

/// What a context descriptor says, both quadwords, without RS.
struct context {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
    friend constexpr bool operator==(const context&, const context&) = default;
};

/// A packet as the NIC got it.
struct packet {
    piece pieces[128] = {};
    std::uint32_t count = 0;
    std::uint32_t length = 0;
    std::uint64_t first = 0; ///< second quadword of its first descriptor
    std::uint64_t last = 0;  ///< the same of its last one
    context used{};          ///< with checksums or segmentation

    [[nodiscard]] constexpr bool is_data() const { return (first & DEXT) != 0; }
    [[nodiscard]] constexpr bool segments() const { return is_data() && (first & TSE) != 0; }
    [[nodiscard]] constexpr unsigned options() const {
        return is_data() ? static_cast<unsigned>((first >> 40) & 0xFF) : 0;
    }
    [[nodiscard]] constexpr bool tagged() const { return (last & VLE) != 0; }
    [[nodiscard]] constexpr unsigned tag() const { return static_cast<unsigned>(last >> 48); }
    [[nodiscard]] constexpr bool delayed() const { return (last & IDE) != 0; }
    [[nodiscard]] constexpr bool reported() const { return (last & RS) != 0; }
};

/// Holds a ring of up to Most descriptors.
template <std::uint32_t Most>
struct nic {
    // What it is
    bool is_8254x = false;
    std::uint32_t queue_at = 0;      ///< 0x100 for queue 1
    std::uint32_t pba = 0x0014'0014; ///< 20 KiB for each direction

    // What the driver sees
    std::uint64_t memory[Most * 2] = {};
    std::uint32_t tctl = 0x3003'F0F8; // MULR, RRTHRESH 1, COLD, CT, PSP
    std::uint32_t txdctl = 1U << 22;
    std::uint32_t tarc = 0x0000'0403;
    std::uint32_t tidv = 0;
    std::uint32_t tadv = 0;
    std::uint32_t tipg = 0;
    std::uint32_t tdbal = 0;
    std::uint32_t tdbah = 0;
    std::uint32_t tdlen = 0;
    std::uint32_t tdh = 0;
    std::uint32_t tdt = 0;

    // How it misbehaves
    bool gone = false; ///< reads all ones
    bool never_enables = false;
    bool bursts = false; ///< writes DD back where nobody asked for it, too

    // What it saw
    const char* fault = nullptr; ///< the first thing that the driver did wrong
    unsigned register_writes = 0;
    unsigned tail_writes = 0;
    unsigned contexts = 0; ///< context descriptors
    unsigned reports = 0;  ///< descriptors with RS
    bool acquire_is_due = false;

    // How it works
    bool begins = false;                    ///< TDH was written, and TDT is about to be
    std::uint32_t written_back = 0;         ///< descriptors before this one have their DD
    std::uint64_t stored_in[Most * 2] = {}; ///< the epoch of the last store of a quadword
    std::uint64_t epoch = 1;                ///< ends with each release
    packet gathered{};
    bool knows = false; ///< a context
    context known{};

    constexpr void blame(const char* what) {
        if (fault == nullptr) {
            fault = what;
        }
    }
    [[nodiscard]] constexpr std::uint32_t count() const { return tdlen / 16; }
    [[nodiscard]] constexpr bool enabled() const { return (tctl & EN) != 0; }
    [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from, std::uint32_t to) const {
        return to >= from ? to - from : to + count() - from;
    }
    /// Descriptors from the head up to the tail.
    [[nodiscard]] constexpr std::uint32_t pending() const { return distance(tdh, tdt); }
    /// The longest frame: what the transmit FIFO takes less 80, and what a packet may have.
    [[nodiscard]] constexpr std::uint32_t longest() const {
        const std::uint32_t fifo = (pba >> 16) * 1024;
        return fifo >= 1024 && fifo < 16'288 + 80 ? fifo - 80 : 16'288;
    }

    /// The other queue was used meanwhile: the one context that the NIC has is another one.
    constexpr void other_queue_sends() { known = {~0ULL, ~0ULL}; }

    constexpr std::uint32_t read32(std::uint32_t offset) {
        if (gone) {
            return 0xFFFF'FFFF;
        }
        if (offset - queue_at == TARC && is_8254x) {
            blame("TARC of an 8254x was read");
        }
        switch (offset) {
        case STATUS: return 0x0008'0083; // GIO master enabled, 1000 Mb/s, link up, full duplex
        case TCTL: return tctl;
        case TIPG: return tipg;
        case PBA: return pba;
        case TIDV: return tidv;
        case TADV: return tadv;
        default: break;
        }
        switch (offset - queue_at) {
        case TDBAL: return tdbal;
        case TDBAH: return tdbah;
        case TDLEN: return tdlen;
        case TDH: return tdh;
        case TDT: return tdt;
        case TXDCTL: return txdctl;
        case TARC: return tarc;
        default: blame("a register that this queue does not need was read"); return 0;
        }
    }

    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        if (gone) {
            return;
        }
        ++register_writes;
        switch (offset) {
        case TCTL: return write_control(value);
        case TIPG:
            if ((value >> 30) != 0) {
                blame("a reserved bit of TIPG was set");
            }
            tipg = value;
            return;
        case TIDV:
            if ((value & 0xFFFF) == 0 || (value >> 16) != 0) {
                blame("TIDV: 0, or a reserved bit");
            }
            tidv = value;
            return;
        case TADV:
            if ((value >> 16) != 0) {
                blame("a reserved bit of TADV was set");
            }
            tadv = value;
            return;
        default: break;
        }
        if (offset - queue_at != TDT && offset - queue_at != TXDCTL && offset - queue_at != TARC &&
            enabled()) {
            blame("TDBAL, TDBAH, TDLEN or TDH was written while enabled");
        }
        switch (offset - queue_at) {
        case TXDCTL:
            if (((value ^ txdctl) & (is_8254x ? 0x00C0'C0C0U : 0x0080'C0C0U)) != 0) {
                blame("a reserved bit of TXDCTL was changed");
            }
            txdctl = value;
            break;
        case TARC:
            if (is_8254x || ((value ^ tarc) & ~0x7FFU) != 0) {
                blame("TARC: a reserved bit was changed, or 8254x, which has none");
            }
            tarc = value;
            break;
        case TDBAL:
            if ((value & 0xF) != 0) {
                blame("TDBAL is not a multiple of 16");
            }
            tdbal = value & ~0xFU;
            break;
        case TDBAH: tdbah = value; break;
        case TDLEN:
            if (value == 0 || value % 128 != 0 || value > 0xF'FF80) {
                blame("TDLEN is not a length");
            }
            if (value / 16 > Most) {
                blame("TDLEN is larger than the memory behind it");
            }
            tdlen = value;
            break;
        case TDH:
            if (value >= count()) {
                blame("TDH is out of range");
            }
            tdh = value;
            begins = true;
            break;
        case TDT: write_tail(value); break;
        default: blame("a register that this queue does not need was written"); break;
        }
    }

    constexpr void write_control(std::uint32_t value) {
        if ((value & 0x8000'0005) != 0) {
            blame("a reserved bit of TCTL was set");
        }
        if ((value & EN) != 0 && !enabled()) {
            if (tdlen == 0) {
                blame("the transmitter was enabled without a ring");
            }
            if (begins) {
                blame("the transmitter was enabled before TDT was written");
            }
            if (!is_8254x && ((tarc & (1U << 10)) == 0 || (txdctl & (1U << 22)) == 0)) {
                blame("TARC.ENABLE or TXDCTL bit 22 is clear");
            }
        }
        tctl = never_enables ? value & ~EN : value;
    }

    constexpr void write_tail(std::uint32_t value) {
        if (value >= count()) {
            return blame("TDT is out of range");
        }
        if (begins) {
            if (value != tdh) {
                blame("a ring begins with descriptors that nobody wrote");
            }
            begins = false;
            tdt = written_back = tdh;
            gathered = {};
            knows = false;
            return;
        }
        ++tail_writes;
        if (value == tdt) {
            blame("TDT was written without a new descriptor");
        }
        if (pending() + distance(tdt, value) >= count()) {
            return blame("TDT went past the head");
        }
        for (std::uint32_t at = tdt; at != value; at = at + 1 == count() ? 0 : at + 1) {
            if (stored_in[2 * at] == epoch || stored_in[2 * at + 1] == epoch) {
                blame("a descriptor was not released before the tail moved over it");
            }
        }
        tdt = value;
    }

    constexpr std::uint64_t load(std::uint32_t offset) {
        if (offset % 8 != 0 || offset >= tdlen) {
            blame("a load beside the ring");
            return 0;
        }
        const std::uint64_t value = memory[offset / 8];
        if (offset % 16 == 8 && (value & DD) != 0) {
            acquire_is_due = true;
        }
        return value;
    }

    constexpr void store(std::uint32_t offset, std::uint64_t value) {
        if (offset % 8 != 0 || offset >= tdlen) {
            return blame("a store beside the ring");
        }
        // From the first that the NIC did not write back yet, up to the tail.
        if (!gone && distance(written_back, offset / 16) < distance(written_back, tdt)) {
            blame("a descriptor that belongs to the device was written");
        }
        memory[offset / 8] = value;
        stored_in[offset / 8] = epoch;
    }

    /// Works on up to `descriptors` descriptors and calls sink(packet) for each packet.
    template <class F>
    constexpr void transmit(std::uint32_t descriptors, F&& sink) {
        for (; enabled() && descriptors != 0 && tdh != tdt; --descriptors) {
            const std::uint64_t low = memory[2 * tdh];
            const std::uint64_t high = memory[2 * tdh + 1];
            tdh = tdh + 1 == count() ? 0 : tdh + 1;
            reports += (high & RS) != 0 ? 1 : 0;
            if (((high >> 32) & 0xFF) != 0 || (high & (1ULL << 28)) != 0) {
                blame("STA, ExtCMD or RPS is set");
            }
            if ((high & DEXT) != 0 && ((high >> 20) & 0xF) == 0) {
                take_context(low, high);
                continue;
            }
            if (gathered.count == 128) {
                return blame("a packet of more than 128 descriptors");
            }
            take(low, high);
            if ((high & EOP) != 0) {
                judge();
                sink(static_cast<const packet&>(gathered));
                gathered = {};
            }
        }
    }

    constexpr void take_context(std::uint64_t low, std::uint64_t high) {
        ++contexts;
        if (gathered.count != 0) {
            blame("a context in the middle of a packet");
        }
        if ((high & (VLE | IDE)) != 0) { // bit 30 is SNAP here
            blame("SNAP or IDE of a context is set");
        }
        knows = true;
        known = {low, high & ~RS};
    }

    constexpr void take(std::uint64_t low, std::uint64_t high) {
        const bool data = (high & DEXT) != 0;
        const bool last = (high & EOP) != 0;
        if (data && ((high >> 20) & 0xF) != 1) {
            blame("a reserved descriptor type");
        }
        const auto length = static_cast<std::uint32_t>(high & (data ? 0xF'FFFF : 0xFFFF));
        if (length == 0 || length > 16'288) {
            blame("a descriptor has no length, or too large a one");
        }
        if (gathered.count == 0) {
            gathered.first = high;
        } else if (((gathered.first ^ high) & DEXT) != 0) {
            blame("legacy and data descriptors in one packet");
        }
        // What a data descriptor has besides its length, EOP, RS and IDE is the same in all.
        if (data && ((gathered.first ^ high) & ~(0xF'FFFFULL | EOP | RS | IDE)) != 0) {
            blame("data descriptors of one packet that differ");
        }
        if (!data && (high & 0x0000'FF00'04FF'0000) != 0) {
            blame("CSO, CSS or IC is set, which nobody asked for");
        }
        if (!last && (high & (data ? RS | IDE : 0xFFFF'0000'FF00'0000)) != 0) {
            blame("CMD or the tag of a descriptor in the middle of a packet");
        }
        if (last && (high & IFCS) == 0) {
            blame("IFCS is clear in the last descriptor");
        }
        if ((high & VLE) == 0 && (high >> 48) != 0) {
            blame("a tag without VLE");
        }
        gathered.pieces[gathered.count++] = {low, length};
        gathered.length += length;
        gathered.last = high;
    }

    /// A whole packet.
    constexpr void judge() {
        if (gathered.length < (is_8254x ? 48U : 17U)) {
            blame("a packet that is too short to be padded");
        }
        if (!gathered.is_data()) {
            if (gathered.length > longest()) {
                blame("a packet that is longer than the FIFO takes");
            }
            return;
        }
        const unsigned options = gathered.options();
        if (options == 0 || (options & 0xFC) != 0) {
            blame("POPTS: nothing, or a reserved bit");
        }
        if (!knows) {
            blame("a packet without a context");
        }
        gathered.used = known;
        const bool segments = gathered.segments();
        if (segments != ((known.high & TSE) != 0)) {
            blame("TSE of the packet and of its context differ");
        }
        const auto payload = static_cast<std::uint32_t>(known.high & 0xF'FFFF);
        const auto header = static_cast<std::uint32_t>((known.high >> 40) & 0xFF);
        const auto size = static_cast<std::uint32_t>(known.high >> 48);
        if (!segments) {
            if (gathered.length > longest()) {
                blame("a packet that is longer than the FIFO takes");
            }
            return;
        }
        if (gathered.length != header + payload) {
            blame("HDRLEN + PAYLEN is not the length of the data");
        }
        if (header == 0 || header > 240 || size <= 16 || header + size > longest()) {
            blame("HDRLEN or MSS is beyond what the NIC can do");
        }
    }

    /// Writes DD back for up to `descriptors` of those that are done, where RS asks for it.
    constexpr void write_back(std::uint32_t descriptors) {
        for (; descriptors != 0 && written_back != tdh; --descriptors) {
            std::uint64_t& word = memory[2 * written_back + 1];
            if ((word & RS) != 0 || bursts) {
                word |= DD;
            }
            written_back = written_back + 1 == count() ? 0 : written_back + 1;
        }
    }
};

// The policies by which a driver reaches it.
template <class Nic>
struct registers {
    Nic* device;
    constexpr std::uint32_t read32(std::uint32_t offset) { return device->read32(offset); }
    constexpr void write32(std::uint32_t offset, std::uint32_t v) { device->write32(offset, v); }
    constexpr std::uint64_t read64(std::uint32_t) {
        device->blame("a 64-bit register access");
        return 0;
    }
    constexpr void write64(std::uint32_t, std::uint64_t) {
        device->blame("a 64-bit register access");
    }
};
template <class Nic>
struct ring_memory {
    Nic* device;
    constexpr std::uint64_t read64(std::uint32_t offset) { return device->load(offset); }
    constexpr void write64(std::uint32_t offset, std::uint64_t v) { device->store(offset, v); }
};
template <class Nic>
struct order {
    Nic* device;
    constexpr void release() { ++device->epoch; }
    constexpr void acquire() { device->acquire_is_due = false; }
};

} // namespace transmitter
