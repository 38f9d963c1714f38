// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/function_events.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// The Base Address registers that a guest sees of an assigned function: of the device's kinds and
/// sizes, with every address bit above the size; they hold what the guest writes, and never reach the
/// device. What the guest's writes mean for its address space is reported once, when it takes effect:
///
/// - While Command turns a kind of decoding off, registers change and nothing moves.
/// - A register to which all ones were written is being sized and holds no address: the BAR stays
///   where it is until something else is written, or decoding is turned off. (The low half of a mem64
///   of 4 GiB or more has no address bits, and means nothing.)
/// - A mem64 takes two writes. With decoding on, the first moves nothing; the second does, or
///   whatever the guest does next with the function, or settle().
/// - A move that the VMM does not make is not asked for again until the guest wants another, or the
///   VMM says retry().
/// - A register that holds 0 is not assigned yet, and answers nowhere. So does a register whose end
///   is beyond what its kind can reach: x86 has no port above 0xFFFF.
template <function_events Events>
class virtual_bars {
public:
    /// Registers 0..5 are the Base Address registers, 6 is the expansion ROM's.
    static constexpr unsigned register_count = 7;

    explicit constexpr virtual_bars(Events events) : events_{events} {}

    /// Takes over the BARs of a device, sized; they hold 0 and decoding is off. errc::malformed or
    /// whatever else the list says of a broken one, with the register's offset, and errc::malformed
    /// with it for one that takes registers which are not there; errc::out_of_range with the offset
    /// of one that was not sized.
    [[nodiscard]] constexpr result<void> assign(const bar_list& sized) {
        slot slots[register_count]{};
        for (const result<bar>& entry : sized) {
            if (!entry) {
                return entry.error();
            }
            if (entry->size == 0 || (entry->size & (entry->size - 1)) != 0) {
                return error{errc::out_of_range, entry->offset};
            }
            const bool exists = entry->kind == bar_kind::rom
                                    ? entry->index == expansion_rom_index
                                    : entry->index + entry->registers() <= expansion_rom_index;
            if (!exists) {
                return error{errc::malformed, entry->offset};
            }
            slot& low = slots[entry->index];
            low.is_first = true;
            low.device = *entry;
            const std::uint64_t address_bits =
                ~(entry->size - 1) & ~std::uint64_t{bar_flag_bits(entry->kind)};
            low.writable = static_cast<std::uint32_t>(address_bits);
            switch (entry->kind) {
            case bar_kind::io: low.flags = 1; break;
            case bar_kind::mem32: break;
            case bar_kind::mem1m:
                low.flags = 2;
                low.writable &= static_cast<std::uint32_t>(bar_last_address(bar_kind::mem1m));
                break;
            case bar_kind::mem64: {
                low.flags = 4;
                slot& high = slots[entry->index + 1];
                high.is_high = true;
                high.writable = static_cast<std::uint32_t>(address_bits >> 32);
                break;
            }
            case bar_kind::rom: low.writable |= rom_enable; break;
            }
            low.flags |= entry->prefetchable ? 8U : 0U;
            low.value = low.flags;
        }
        for (unsigned n = 0; n < register_count; ++n) {
            slots_[n] = slots[n];
        }
        io_ = memory_ = false;
        half_ = none;
        return {};
    }

    /// What register `n` holds for the guest.
    [[nodiscard]] constexpr std::uint32_t read(unsigned n) const { return slots_[n].value; }

    /// The bytes or ports of the BAR that begins in register `n`; 0 if none does.
    [[nodiscard]] constexpr std::uint64_t size(unsigned n) const { return slots_[n].device.size; }

    /// Whether a BAR for memory, or the ROM, begins in register `n`.
    [[nodiscard]] constexpr bool is_memory(unsigned n) const {
        return slots_[n].is_first && slots_[n].device.kind != bar_kind::io;
    }

    /// Where the guest has the BAR that begins in register `n`.
    [[nodiscard]] constexpr bar_place place(unsigned n) const { return slots_[n].place; }

    /// Whether `a` and `b` are the same register or the two halves of one mem64.
    [[nodiscard]] constexpr bool same_bar(unsigned a, unsigned b) const {
        return first_of(a) == first_of(b);
    }

    /// The guest writes the bits in `lanes` of register `n`.
    constexpr void write(unsigned n, std::uint32_t written, std::uint32_t lanes) {
        if (half_ != none && !same_bar(half_, n)) {
            settle();
        }
        slot& half = slots_[n];
        const unsigned first = first_of(n);
        slot& low = slots_[first];
        if (!low.is_first) {
            return; // not implemented
        }
        const bool was_probed = probed(first);
        half.written = (half.written & ~lanes) | (written & lanes);
        half.value = (half.written & half.writable) | half.flags;
        if (!decoded(low)) {
            settle(first); // it may be the ROM's enable bit that went
            return;
        }
        if (low.device.kind != bar_kind::mem64) {
            settle(first);
            return;
        }
        halves_ = (half_ == none ? 0U : halves_) | (n == first ? low_half : high_half);
        half_ = n;
        const bool restored = was_probed && wanted(first) == low.place;
        if (!probed(first) && (halves_ == (low_half | high_half) || restored)) {
            settle();
        }
    }

    /// Whether a mem64 has been written by half. Whoever finds it so, and knows that what comes next
    /// is not the other half, settles it.
    [[nodiscard]] constexpr bool half_written() const { return half_ != none; }

    /// The register that was written last of a mem64 that was written by half.
    [[nodiscard]] constexpr unsigned written_half() const { return half_; }

    /// Takes what was written by half for the whole.
    constexpr void settle() {
        if (half_ != none) {
            const unsigned first = first_of(half_);
            half_ = none;
            settle(first);
        }
    }

    /// Asks again for every place that the VMM has not given so far and that the guest still wants.
    constexpr void retry() {
        for (unsigned n = 0; n < register_count; ++n) {
            if (slots_[n].denied && wanted(n) == slots_[n].asked) {
                change(n, slots_[n].asked);
            }
        }
    }

    /// Decoding as the Command register and the power state allow it from now on. What disappears
    /// is reported before what appears.
    constexpr void decode(bool io, bool memory) {
        io_ = io;
        memory_ = memory;
        half_ = none;
        for (unsigned n = 0; n < register_count; ++n) {
            if (slots_[n].is_first && !wanted(n)) {
                settle(n);
            }
        }
        for (unsigned n = 0; n < register_count; ++n) {
            if (slots_[n].is_first) {
                settle(n);
            }
        }
    }

    /// Power-on state: nothing is decoded, and all registers hold 0.
    constexpr void reset() {
        decode(false, false);
        for (slot& each : slots_) {
            each.value = each.flags;
            each.written = 0;
        }
    }

private:
    static constexpr unsigned none = register_count;
    static constexpr std::uint32_t rom_enable = 1;
    static constexpr unsigned low_half = 1;
    static constexpr unsigned high_half = 2;

    /// One register.
    struct slot {
        std::uint32_t value = 0;
        std::uint32_t written = 0; ///< what the guest wrote, read-only bits too
        std::uint32_t writable = 0;
        std::uint32_t flags = 0; ///< what the device is, in the low bits; read-only
        bool is_first = false;   ///< a BAR begins here
        bool is_high = false;    ///< the upper half of the BAR before
        bar device{};
        bar_place place{};
        bar_place asked{};   ///< what the VMM was asked for last,
        bool denied = false; ///< and whether the BAR is not there
    };

    [[nodiscard]] constexpr unsigned first_of(unsigned n) const {
        return slots_[n].is_high ? n - 1 : n;
    }
    /// All ones, but for flags, are no address: at the top of 4 GiB, and of 64 bits, there is none
    /// to be had.
    [[nodiscard]] constexpr bool probed(unsigned first) const {
        const slot& low = slots_[first];
        return (low.writable != 0 &&
                (low.written | bar_flag_bits(low.device.kind)) == 0xFFFF'FFFF) ||
               (low.device.kind == bar_kind::mem64 && slots_[first + 1].written == 0xFFFF'FFFF);
    }
    [[nodiscard]] constexpr std::uint64_t address(unsigned first) const {
        const slot& low = slots_[first];
        const std::uint64_t high =
            low.device.kind == bar_kind::mem64 ? std::uint64_t{slots_[first + 1].value} << 32 : 0;
        return high | (low.value & ~bar_flag_bits(low.device.kind));
    }
    [[nodiscard]] constexpr bool decoded(const slot& low) const {
        switch (low.device.kind) {
        case bar_kind::io: return io_;
        case bar_kind::rom: return memory_ && (low.value & rom_enable) != 0;
        default: return memory_;
        }
    }
    /// Where the registers say that the BAR is.
    [[nodiscard]] constexpr bar_place wanted(unsigned first) const {
        const slot& low = slots_[first];
        if (!decoded(low)) {
            return {};
        }
        if (probed(first)) {
            return low.place;
        }
        const std::uint64_t at = address(first);
        // A multiple of the size cannot wrap; it may begin beyond the end.
        return at == 0 || at > bar_last_address(low.device.kind) ? bar_place{} : bar_place{at};
    }
    constexpr void settle(unsigned first) {
        const bar_place to = wanted(first);
        if (slots_[first].denied && slots_[first].asked == to) {
            return; // the VMM has said no, and the guest has changed nothing since
        }
        change(first, to);
    }

    constexpr void change(unsigned first, bar_place to) {
        slot& low = slots_[first];
        if (low.place != to) {
            low.place = events_.bar_changed({low.device, low.place, to});
        }
        low.asked = to;
        low.denied = low.place != to;
    }

    [[no_unique_address]] Events events_;
    slot slots_[register_count]{};
    bool io_ = false;
    bool memory_ = false;
    unsigned half_ = none; ///< which register of a mem64 was written last
    unsigned halves_ = 0;  ///< and which have been since the BAR was settled
};

} // namespace pt::pci
