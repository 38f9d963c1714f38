// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

/// The device's side of reception, written from the datasheet [82574] and from nothing else: offsets
/// and bits are plain numbers here, so that a wrong one in pt's headers does not agree with itself.
/// It is stricter than hardware: what the datasheet forbids is recorded in `fault`. Buffers are not
/// written; the driver's ring does not look into them.
namespace receiver {

inline constexpr std::uint32_t RCTL = 0x00100;
inline constexpr std::uint32_t RDBAL = 0x02800; // queue 1: 0x100 further
inline constexpr std::uint32_t RDBAH = 0x02804;
inline constexpr std::uint32_t RDLEN = 0x02808;
inline constexpr std::uint32_t RDH = 0x02810;
inline constexpr std::uint32_t RDT = 0x02818;
inline constexpr std::uint32_t RDTR = 0x02820;
inline constexpr std::uint32_t RXDCTL = 0x02828;
inline constexpr std::uint32_t RADV = 0x0282C;
inline constexpr std::uint32_t RXCSUM = 0x05000;
inline constexpr std::uint32_t RFCTL = 0x05008;

inline constexpr std::uint32_t EN = 1U << 1;
inline constexpr std::uint32_t EXSTEN = 1U << 15;

/// Whether a quadword with DD is the first or the second of a descriptor is no question: it is the
/// second, at bit 32 (legacy) or 0 (extended).
struct written {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
};

/// One queue: its registers, and the memory that is its ring.
template <std::uint32_t Most>
struct side {
    std::uint64_t memory[Most * 2] = {};
    std::uint32_t rdbal = 0;
    std::uint32_t rdbah = 0;
    std::uint32_t rdlen = 0;
    std::uint32_t rdh = 0;
    std::uint32_t rdt = 0;
    std::uint32_t rxdctl = 0x0001'0000; // WTHRESH 1

    std::uint32_t written_back = 0; ///< descriptors before this one have their DD
    std::uint32_t driver = 0;       ///< descriptors before this one are the driver's again
    written report[Most] = {};      ///< what is to be written back
    std::uint64_t stored_in[Most * 2] = {};
    unsigned tail_writes = 0;
    bool acquire_is_due = false;

    [[nodiscard]] constexpr std::uint32_t count() const { return rdlen / 16; }
    [[nodiscard]] constexpr std::uint32_t next(std::uint32_t index) const {
        return index + 1 == count() ? 0 : index + 1;
    }
    [[nodiscard]] constexpr std::uint32_t distance(std::uint32_t from, std::uint32_t to) const {
        return to >= from ? to - from : to + count() - from;
    }
    /// Descriptors that the device may fill.
    [[nodiscard]] constexpr std::uint32_t pending() const { return distance(rdh, rdt); }
    /// Descriptors that the driver may neither write nor read beyond.
    [[nodiscard]] constexpr std::uint32_t held() const { return distance(driver, rdt); }
};

/// Holds rings of up to Most descriptors.
template <std::uint32_t Most>
struct nic {
    side<Most> queues[2];
    std::uint32_t rctl = 0x0000'3000;  // MO 3, which the ring must leave alone
    std::uint32_t rfctl = 0x0000'1000; // ACKDIS, likewise
    std::uint32_t rxcsum = 0x0000'0300;
    std::uint32_t rdtr = 0;
    std::uint32_t radv = 0;

    bool is_8254x = false; ///< no RFCTL, no second queue
    bool gone = false;     ///< reads all ones
    bool never_enables = false;

    const char* fault = nullptr; ///< the first thing that the driver did wrong
    unsigned register_writes = 0;
    std::uint64_t epoch = 1; ///< ends with each release

    constexpr void blame(const char* what) {
        if (fault == nullptr) {
            fault = what;
        }
    }
    [[nodiscard]] constexpr bool enabled() const { return (rctl & EN) != 0; }
    [[nodiscard]] constexpr bool extended() const { return (rfctl & EXSTEN) != 0; }

    /// The queue of a register, and the register as queue 0 has it.
    constexpr side<Most>& queue_of(std::uint32_t& offset) {
        if (offset >= 0x2900 && offset < 0x2A00) {
            if (is_8254x) {
                blame("8254x has one queue");
            }
            offset -= 0x100;
            return queues[1];
        }
        return queues[0];
    }

    constexpr std::uint32_t read32(std::uint32_t offset) {
        if (gone) {
            return 0xFFFF'FFFF;
        }
        switch (offset) {
        case RCTL: return rctl;
        case RDTR: return rdtr;
        case RADV: return radv;
        case RXCSUM: return rxcsum;
        case RFCTL:
            if (is_8254x) {
                blame("8254x has no RFCTL");
            }
            return rfctl;
        default: break;
        }
        const side<Most>& ring = queue_of(offset);
        switch (offset) {
        case RDBAL: return ring.rdbal;
        case RDBAH: return ring.rdbah;
        case RDLEN: return ring.rdlen;
        case RDH: return ring.rdh;
        case RDT: return ring.rdt;
        case RXDCTL: return ring.rxdctl;
        default: blame("a register that reception does not need was read"); return 0;
        }
    }

    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        if (gone) {
            return;
        }
        ++register_writes;
        switch (offset) {
        case RCTL: write_control(value); return;
        case RDTR:
            if ((value & 0xFFFF'0000) != 0) {
                blame("a reserved bit of RDTR, or FPD, was set");
            }
            rdtr = value;
            return;
        case RADV:
            if ((value & 0xFFFF'0000) != 0) {
                blame("a reserved bit of RADV was set");
            }
            radv = value;
            return;
        case RXCSUM:
            if (enabled() || (value & (is_8254x ? 0xFFFF'F800 : 0xFFFF'CC00)) != 0) {
                blame("RXCSUM: enabled, or a reserved bit was set");
            }
            rxcsum = value;
            return;
        case RFCTL:
            if (enabled() || is_8254x || ((value ^ rfctl) & ~EXSTEN) != 0) {
                blame("RFCTL: enabled, or a bit that is not the ring's was changed");
            }
            rfctl = value;
            return;
        default: break;
        }
        side<Most>& ring = queue_of(offset);
        if (offset != RDT && enabled()) {
            blame("a register of the ring was written while the receiver is enabled");
        }
        switch (offset) {
        case RDBAL:
            if ((value & 0xF) != 0) {
                blame("RDBAL is not a multiple of 16");
            }
            ring.rdbal = value;
            break;
        case RDBAH: ring.rdbah = value; break;
        case RDLEN:
            if (value == 0 || value % 128 != 0 || value > 0xF'FF80 || value / 16 > Most) {
                blame("RDLEN is no length");
            }
            ring.rdlen = value;
            break;
        case RDH:
            if (value >= ring.count()) {
                blame("RDH is out of range");
            }
            ring.rdh = ring.written_back = ring.driver = value;
            break;
        case RDT: write_tail(ring, value); break;
        case RXDCTL:
            if (((value ^ ring.rxdctl) & 0xFEC0'C0C0) != 0) {
                blame("a reserved bit of RXDCTL was changed");
            }
            ring.rxdctl = value;
            break;
        default: blame("a register that reception does not need was written"); break;
        }
    }

    constexpr void write_control(std::uint32_t value) {
        if ((value & (is_8254x ? 0xF920'4C01 : 0x8120'4001)) != 0) {
            blame("a reserved bit of RCTL was set");
        }
        if (((value ^ rctl) & 0x00D8'3000) != 0) {
            blame("a bit of RCTL that is not the ring's was changed: MO, CFIEN, CFI, DPF, PMCF");
        }
        if ((value & EN) != 0 && !enabled() && queues[0].rdlen == 0 && queues[1].rdlen == 0) {
            blame("the receiver was enabled without a ring");
        }
        rctl = never_enables ? value & ~EN : value;
    }

    constexpr void write_tail(side<Most>& ring, std::uint32_t value) {
        if (value >= ring.count()) {
            return blame("RDT is out of range");
        }
        ++ring.tail_writes;
        if (!enabled() && value == ring.rdh) {
            ring.rdt = value; // an empty ring is set up
            return;
        }
        if (value == ring.rdt && enabled()) {
            blame("RDT was written without a new descriptor");
        }
        if (ring.held() + ring.distance(ring.rdt, value) >= ring.count()) {
            blame("RDT went past the oldest descriptor");
        }
        for (std::uint32_t at = ring.rdt; at != value; at = ring.next(at)) {
            if (ring.stored_in[2 * at] == epoch || ring.stored_in[2 * at + 1] == epoch) {
                blame("a descriptor was not released before the tail moved over it");
            }
        }
        ring.rdt = value;
    }

    constexpr std::uint64_t load(side<Most>& ring, std::uint32_t offset) {
        if (offset % 8 != 0 || offset >= ring.rdlen) {
            blame("a load beside the ring");
            return 0;
        }
        const std::uint64_t value = ring.memory[offset / 8];
        const std::uint32_t index = offset / 16;
        if (offset % 16 == 8) {
            if (ring.held() == 0 || index != ring.driver) {
                blame("a descriptor was looked at that is not the oldest of those that are posted");
            } else if (((value >> (extended() ? 0 : 32)) & 1) != 0) {
                ring.driver = ring.next(ring.driver);
                ring.acquire_is_due = true;
            }
        } else if (ring.next(index) != ring.driver || ring.acquire_is_due) {
            blame("a first quadword was read before DD, or before the acquire");
        }
        return value;
    }

    constexpr void store(side<Most>& ring, std::uint32_t offset, std::uint64_t value) {
        if (offset % 8 != 0 || offset >= ring.rdlen) {
            return blame("a store beside the ring");
        }
        if (!gone && ring.distance(ring.driver, offset / 16) < ring.held()) {
            blame("a descriptor that belongs to the device was written");
        }
        ring.memory[offset / 8] = value;
        ring.stored_in[offset / 8] = epoch;
    }

    /// Fills the buffer of the next descriptor; write_back() tells of it. False: disabled or empty.
    /// `what.low` counts in the extended format only.
    constexpr bool fill(written what, unsigned queue = 0) {
        side<Most>& ring = queues[queue];
        if (!enabled() || ring.rdh == ring.rdt) {
            return false;
        }
        if (ring.memory[2 * ring.rdh] == 0 || ring.memory[2 * ring.rdh + 1] != 0) {
            blame("a descriptor without a buffer, or with a status");
        }
        ring.report[ring.rdh] = what;
        ring.rdh = ring.next(ring.rdh);
        return true;
    }

    /// Writes up to `descriptors` of those back that were filled.
    constexpr std::uint32_t write_back(std::uint32_t descriptors, unsigned queue = 0) {
        side<Most>& ring = queues[queue];
        std::uint32_t done = 0;
        for (; done != descriptors && ring.written_back != ring.rdh; ++done) {
            const written& what = ring.report[ring.written_back];
            if (extended()) {
                ring.memory[2 * ring.written_back] = what.low;
            }
            ring.memory[2 * ring.written_back + 1] = what.high;
            ring.written_back = ring.next(ring.written_back);
        }
        return done;
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
    unsigned queue = 0;
    constexpr std::uint64_t read64(std::uint32_t offset) {
        return device->load(device->queues[queue], offset);
    }
    constexpr void write64(std::uint32_t offset, std::uint64_t v) {
        device->store(device->queues[queue], offset, v);
    }
};
template <class Nic>
struct order {
    Nic* device;
    unsigned queue = 0;
    constexpr void release() { ++device->epoch; }
    constexpr void acquire() { device->queues[queue].acquire_is_due = false; }
};

} // namespace receiver
