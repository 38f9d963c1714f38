// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

/// The device's side of transmit queue 0, written from the datasheet [82574] and from nothing else:
/// offsets and bits are plain numbers here, so that a wrong one in pt's headers does not agree with
/// itself. It is stricter than hardware: what the datasheet forbids is recorded in `fault`.
namespace transmitter {

inline constexpr std::uint32_t CTRL = 0x00000;
inline constexpr std::uint32_t STATUS = 0x00008;
inline constexpr std::uint32_t TCTL = 0x00400;
inline constexpr std::uint32_t TIPG = 0x00410;
inline constexpr std::uint32_t TDBAL = 0x03800;
inline constexpr std::uint32_t TDBAH = 0x03804;
inline constexpr std::uint32_t TDLEN = 0x03808;
inline constexpr std::uint32_t TDH = 0x03810;
inline constexpr std::uint32_t TDT = 0x03818;
inline constexpr std::uint32_t TXDCTL = 0x03828;

inline constexpr std::uint32_t EN = 1U << 1;

struct piece {
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    friend constexpr bool operator==(const piece&, const piece&) = default;
};

/// Holds a ring of up to Most descriptors.
template <std::uint32_t Most>
struct nic {
    // What the driver sees
    std::uint64_t memory[Most * 2] = {};
    std::uint32_t tctl = 0x3003'F0F8; // MULR, RRTHRESH 1, COLD, CT, PSP
    std::uint32_t txdctl = 1U << 22;
    std::uint32_t tipg = 0;
    std::uint32_t tdbal = 0;
    std::uint32_t tdbah = 0;
    std::uint32_t tdlen = 0;
    std::uint32_t tdh = 0;
    std::uint32_t tdt = 0;

    // How it misbehaves
    bool gone = false; ///< reads all ones
    bool never_enables = false;

    // What it saw
    const char* fault = nullptr; ///< the first thing that the driver did wrong
    unsigned register_writes = 0;
    unsigned tail_writes = 0;
    bool acquire_is_due = false;

    // How it works
    std::uint32_t written_back = 0;         ///< descriptors before this one have their DD
    std::uint64_t stored_in[Most * 2] = {}; ///< the epoch of the last store of a quadword
    std::uint64_t epoch = 1;                ///< ends with each release
    piece pieces[64] = {};
    std::uint32_t gathered = 0;

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

    constexpr std::uint32_t read32(std::uint32_t offset) {
        if (gone) {
            return 0xFFFF'FFFF;
        }
        switch (offset) {
        case STATUS: return 0x0008'0083; // GIO master enabled, 1000 Mb/s, link up, full duplex
        case TCTL: return tctl;
        case TIPG: return tipg;
        case TDBAL: return tdbal;
        case TDBAH: return tdbah;
        case TDLEN: return tdlen;
        case TDH: return tdh;
        case TDT: return tdt;
        case TXDCTL: return txdctl;
        default: blame("a register that transmission does not need was read"); return 0;
        }
    }

    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        if (gone) {
            return;
        }
        ++register_writes;
        switch (offset) {
        case TCTL:
            if ((value & 0x8000'0005) != 0) {
                blame("a reserved bit of TCTL was set");
            }
            if ((value & EN) != 0 && !enabled()) {
                if (tdlen == 0) {
                    blame("the transmitter was enabled without a ring");
                }
                if (tdh != tdt) {
                    blame("the transmitter was enabled with a ring that is not empty");
                }
                written_back = tdh;
                gathered = 0;
            }
            tctl = never_enables ? value & ~EN : value;
            break;
        case TIPG:
            if ((value >> 30) != 0) {
                blame("a reserved bit of TIPG was set");
            }
            tipg = value;
            break;
        case TXDCTL:
            if (((value ^ txdctl) & 0x00C0'C0C0) != 0) {
                blame("a reserved bit of TXDCTL was changed");
            }
            txdctl = value;
            break;
        case TDBAL:
            if (enabled() || (value & 0xF) != 0) {
                blame("TDBAL: enabled, or not a multiple of 16");
            }
            tdbal = value & ~0xFU;
            break;
        case TDBAH:
            if (enabled()) {
                blame("TDBAH was written while enabled");
            }
            tdbah = value;
            break;
        case TDLEN:
            if (enabled() || value == 0 || value % 128 != 0 || value > 0xF'FF80) {
                blame("TDLEN: enabled, or not a length");
            }
            if (value / 16 > Most) {
                blame("TDLEN is larger than the memory behind it");
            }
            tdlen = value;
            break;
        case TDH:
            if (enabled() || value >= count()) {
                blame("TDH: enabled, or out of range");
            }
            tdh = value;
            break;
        case TDT: write_tail(value); break;
        default: blame("a register that transmission does not need was written"); break;
        }
    }

    constexpr void write_tail(std::uint32_t value) {
        if (value >= count()) {
            return blame("TDT is out of range");
        }
        if (enabled()) {
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
        }
        tdt = value;
    }

    constexpr std::uint64_t load(std::uint32_t offset) {
        if (offset % 8 != 0 || offset >= tdlen) {
            blame("a load beside the ring");
            return 0;
        }
        const std::uint64_t value = memory[offset / 8];
        if (offset % 16 == 8 && ((value >> 32) & 1) != 0) {
            acquire_is_due = true;
        }
        return value;
    }

    constexpr void store(std::uint32_t offset, std::uint64_t value) {
        if (offset % 8 != 0 || offset >= tdlen) {
            return blame("a store beside the ring");
        }
        if (!gone && distance(tdh, offset / 16) < pending()) {
            blame("a descriptor that belongs to the device was written");
        }
        memory[offset / 8] = value;
        stored_in[offset / 8] = epoch;
    }

    /// Works on up to `descriptors` descriptors and calls packet(pieces, count) for each packet.
    template <class F>
    constexpr void transmit(std::uint32_t descriptors, F&& packet) {
        for (; enabled() && descriptors != 0 && tdh != tdt; --descriptors) {
            const std::uint64_t word = memory[2 * tdh + 1];
            const auto length = static_cast<std::uint32_t>(word & 0xFFFF);
            const auto cmd = static_cast<std::uint32_t>((word >> 24) & 0xFF);
            const bool eop = (cmd & 0x01) != 0;
            if (length == 0 || length > 16288) {
                blame("a descriptor has no length, or too large a one");
            }
            if ((word >> 32) != 0 || ((word >> 16) & 0xFF) != 0) {
                blame("a field that nobody asked for is set: STA, CSS, CSO or VLAN");
            }
            if (cmd != (eop ? 0x0B : 0x00)) { // EOP, IFCS, RS
                blame("CMD: the last descriptor has EOP, IFCS and RS, the others have nothing");
            }
            if (gathered == 64) {
                return blame("a packet of more than 64 descriptors");
            }
            pieces[gathered++] = {memory[2 * tdh], length};
            tdh = tdh + 1 == count() ? 0 : tdh + 1;
            if (eop) {
                packet(static_cast<const piece*>(pieces), gathered);
                gathered = 0;
            }
        }
    }

    /// Writes DD back for up to `descriptors` of those that are done, where RS asks for it.
    constexpr void write_back(std::uint32_t descriptors) {
        for (; descriptors != 0 && written_back != tdh; --descriptors) {
            std::uint64_t& word = memory[2 * written_back + 1];
            if ((word & (1ULL << 27)) != 0) {
                word |= 1ULL << 32;
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
