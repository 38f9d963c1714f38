// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/paging/publication.hpp"
#include "pt/vtd/entry_store.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_index.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/registers.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// The interrupt remapping table of a unit: who may raise which interrupt, and where it goes. A
/// request that names an entry without content is blocked.
///
/// Each entry has two halves and hardware may look between any two stores: the half with the
/// present bit is written last when an entry appears and first when it goes, and a live entry
/// changes in one step or not at all. What the unit has cached is forgotten through an
/// invalidation_port, which must be a queue: registers cannot invalidate interrupt entries.
///
/// Which entries are allocated stands in the table itself, in a bit that the unit leaves to
/// software. One processor at a time.
template <publication Publication = paging::clflush_publication,
          wide_store WideStore = no_wide_store>
class interrupt_remapping_table {
public:
    /// Entries in one frame.
    static constexpr std::uint32_t entries_per_frame = 4 * KiB / 16;
    /// The most that a unit takes: a block of 1 MiB.
    static constexpr std::uint32_t most_entries = 65536;

    /// A table of 256 entries, all free, in one frame of `memory`. errc::out_of_frames.
    template <table_memory Memory>
    static constexpr result<interrupt_remapping_table>
    create(Memory& memory, apic_mode mode, Publication publisher = {}, WideStore wide = {}) {
        const result<hpa> frame = memory.allocate(frame_contents::any);
        if (!frame) {
            return frame.error();
        }
        return interrupt_remapping_table{
            *frame, memory.entries(*frame), entries_per_frame, mode, publisher, wide};
    }

    /// A table of `count` entries, all free, in memory that is contiguous for host and hardware:
    /// 16 bytes each, from `base` on, which `entries` reaches, aligned as much; whatever they hold.
    /// errc::misaligned when `base` is no multiple of 4 KiB, errc::out_of_range with a count that
    /// is no power of two from 2 to 65536.
    // NOLINTNEXTLINE(readability-non-const-parameter): the table is made there
    static constexpr result<interrupt_remapping_table> over(hpa base, std::uint64_t* entries,
                                                            std::uint32_t count, apic_mode mode,
                                                            Publication publisher = {},
                                                            WideStore wide = {}) {
        if (!base.is_aligned(4 * KiB)) {
            return error{errc::misaligned, base.raw};
        }
        if (count < 2 || count > most_entries || (count & (count - 1)) != 0) {
            return error{errc::out_of_range, count};
        }
        return interrupt_remapping_table{base, entries, count, mode, publisher, wide};
    }

    /// A table without entries, for a unit that does not remap interrupts: whatever is asked of it
    /// has an error, and there is nothing to retire.
    static constexpr interrupt_remapping_table none(apic_mode mode, Publication publisher = {},
                                                    WideStore wide = {}) {
        return interrupt_remapping_table{hpa{0}, nullptr, 0, mode, publisher, wide};
    }

    constexpr interrupt_remapping_table(interrupt_remapping_table&& other) noexcept
        : store_{other.store_},
          entries_{other.entries_},
          base_{other.base_},
          count_{other.count_},
          first_candidate_{other.first_candidate_},
          mode_{other.mode_} {
        other.entries_ = nullptr;
    }
    interrupt_remapping_table& operator=(interrupt_remapping_table&&) = delete;
    constexpr ~interrupt_remapping_table() {
        expects(entries_ == nullptr, "an interrupt remapping table went away before retire()");
    }

    /// Where the table is.
    [[nodiscard]] constexpr hpa base() const { return base_; }
    /// What the unit is told of it: IRTA.
    [[nodiscard]] constexpr interrupt_remapping_table_address address() const {
        using irta = interrupt_remapping_table_address;
        expects_usable();
        return irta{irta::table(base_),
                    irta::extended_interrupt_mode_enable(mode_ == apic_mode::x2apic),
                    irta::size(static_cast<std::uint8_t>(std::countr_zero(count_) - 1))};
    }
    [[nodiscard]] constexpr apic_mode mode() const { return mode_; }
    /// How many entries there are.
    [[nodiscard]] constexpr std::uint32_t size() const { return count_; }

    /// Takes `count` free entries, a power of two, in a row that begins with a multiple of it: MSI
    /// with several vectors needs them so, and one invalidation reaches all of them. They block
    /// everything until set(), and are taken until release(). errc::out_of_range with a count that
    /// is no power of two or is larger than the table; errc::busy when there is no such row.
    constexpr result<interrupt_block> allocate(std::uint32_t count = 1) {
        expects_usable();
        if (count == 0 || count > count_ || (count & (count - 1)) != 0) {
            return error{errc::out_of_range, count};
        }
        // Below first_candidate_ nothing is free.
        for (std::uint32_t first = (first_candidate_ + count - 1) & ~(count - 1); first < count_;
             first += count) {
            std::uint32_t i = 0;
            while (i < count && *half(first + i) == 0) {
                ++i;
            }
            if (i < count) {
                continue;
            }
            for (i = 0; i < count; ++i) {
                *half(first + i) = allocated; // not present, and of no interest to the unit
            }
            if (first == first_candidate_) {
                first_candidate_ = first + count;
            }
            return interrupt_block{{static_cast<std::uint16_t>(first)},
                                   static_cast<std::uint8_t>(std::countr_zero(count))};
        }
        return error{errc::busy, count};
    }

    /// Lets requests of `from` for an allocated entry through, to an interrupt_target or a
    /// posted_target. errc::absent when the entry is not allocated; errc::already_mapped when it is
    /// present; what interrupt_entry refuses; errc::not_supported for a posted interrupt without
    /// CAP.PI, and in x2APIC mode without ECAP.EIM. On an error of `port` the entry is not present,
    /// but may have been cached meanwhile: set or clear it again.
    template <class Target, invalidation_port Port>
    constexpr result<void> set(interrupt_index index, const Target& to, interrupt_requester from,
                               Port& port) {
        const result<interrupt_entry> entry = encode(to, from, port);
        if (!entry) {
            return entry.error();
        }
        if (const result<void> taken = check_allocated(index); !taken) {
            return taken;
        }
        if (this->entry(index).present()) {
            return error{errc::already_mapped, index.raw};
        }
        // What a call that failed has left may be cached, and goes first. Nothing to do is free.
        if (const result<void> clean = clear(index, port); !clean) {
            return clean;
        }
        std::uint64_t* const slot = half(index.raw);
        store_.appear(slot, {entry->low, entry->high});
        // A unit with caching mode may have cached that nothing was there; and one with a write
        // buffer has to let the entry through.
        if (const result<void> done = forget({index, 0}, port); !done) {
            store_.block(slot);
            return done;
        }
        return {};
    }

    /// Replaces a present entry in one step: each request goes by the old entry or by the new one,
    /// and none is lost. That takes an atomic wide store, unless only one half changes, as it does
    /// with another vector or processor for the same source. errc::not_supported where it cannot
    /// be, with nothing changed: mask the source, then clear() and set(). errc::not_mapped when the
    /// entry is not present; else as for set(). On an error of `port` the entry has changed, but
    /// the old one may be in use still: change or clear it again, and keep the old descriptor until
    /// then.
    template <class Target, invalidation_port Port>
    constexpr result<void> change(interrupt_index index, const Target& to, interrupt_requester from,
                                  Port& port) {
        const result<interrupt_entry> next = encode(to, from, port);
        if (!next) {
            return next.error();
        }
        if (const result<void> taken = check_allocated(index); !taken) {
            return taken;
        }
        if (!entry(index).present()) {
            return error{errc::not_mapped, index.raw};
        }
        std::uint64_t* const slot = half(index.raw);
        const std::uint64_t words[] = {next->low, next->high};
        if (!store_.in_one_step(slot, words)) {
            return error{errc::not_supported, index.raw};
        }
        store_.change(slot, words);
        return forget({index, 0}, port);
    }

    /// Blocks an entry, which stays allocated: it stops being present, `port` forgets it, then the
    /// rest is cleared. Nothing to do is a success. errc::absent when it is not allocated. On an
    /// error of `port` it is not present, but may be in use still: clear it again, and keep its
    /// descriptor.
    template <invalidation_port Port>
    constexpr result<void> clear(interrupt_index index, Port& port) {
        const result<void> taken = check_allocated(index);
        return taken ? clear_each({index, 0}, allocated, port) : taken;
    }

    /// Clears all entries of a block, and gives them back. errc::misaligned when the first is no
    /// multiple of the size; errc::out_of_range when it lies beyond the table; errc::absent with an
    /// entry that is not allocated. On an error of `port` all of them stay allocated, as after
    /// clear: release them again.
    template <invalidation_port Port>
    constexpr result<void> release(interrupt_block block, Port& port) {
        const result<void> done = clear_each(block, 0, port);
        if (done && block.first.raw < first_candidate_) {
            first_candidate_ = block.first.raw;
        }
        return done;
    }

    /// What the table holds there; beyond its end, an entry that is not present.
    [[nodiscard]] constexpr interrupt_entry entry(interrupt_index index) const {
        expects_usable();
        if (index.raw >= count_) {
            return {};
        }
        return {*half(index.raw), *(half(index.raw) + 1)};
    }

    /// Ends the use of the memory: after a success the frame, or the block, at base() is the
    /// caller's again. The hardware must not use this table any more: interrupt remapping is off,
    /// or another table is set. On an error of `port` it may be cached still; retire again.
    template <invalidation_port Port>
    constexpr result<void> retire(Port& port) {
        if (entries_ == nullptr) {
            return {};
        }
        const result<void> done = forget({{0}, whole}, port);
        if (done) {
            entries_ = nullptr;
        }
        return done;
    }

    /// Gives the memory up for good, for hardware that will never answer retire(): it must not be
    /// used for anything else, since hardware may still read it.
    constexpr void leak() { entries_ = nullptr; }

private:
    /// Bits 63:0 of an entry that is allocated and has no content: a mark in AVAIL. Of one that is
    /// free they are 0, and of one with content, present or blocked, neither.
    static constexpr std::uint64_t allocated =
        remapped_interrupt_low{remapped_interrupt_low::available(1)}.raw;
    static_assert(posted_interrupt_low{posted_interrupt_low::available(1)}.raw == allocated);
    /// Of a block that is larger than any mask of an invalidation: everything.
    static constexpr std::uint8_t whole = 0xFF;

    constexpr interrupt_remapping_table(hpa base, std::uint64_t* entries, std::uint32_t count,
                                        apic_mode mode, Publication publisher, WideStore wide)
        : store_{publisher, wide}, entries_{entries}, base_{base}, count_{count}, mode_{mode} {
        for (std::size_t i = 0; i < std::size_t{2} * count; ++i) {
            entries_[i] = 0;
        }
        if (count != 0) {
            publisher.publish(entries_, std::size_t{2} * count);
            publisher.complete();
        }
    }

    constexpr void expects_usable() const {
        expects(entries_ != nullptr || count_ == 0,
                "an interrupt remapping table is used after retire()");
    }
    /// Bits 63:0 of an entry; 127:64 follow.
    [[nodiscard]] constexpr std::uint64_t* half(std::uint32_t index) const {
        return entries_ + std::size_t{2} * index;
    }

    [[nodiscard]] constexpr result<void> check_allocated(interrupt_index index) const {
        expects_usable();
        if (index.raw >= count_ || *half(index.raw) == 0) {
            return error{errc::absent, index.raw};
        }
        return {};
    }

    /// The entry as it stands in this table, if the unit can take it.
    template <invalidation_port Port>
    constexpr result<interrupt_entry> encode(const interrupt_target& to, interrupt_requester from,
                                             Port& port) const {
        if (mode_ == apic_mode::x2apic &&
            !port.extended_capabilities()[extended_capability::extended_interrupt_mode]) {
            return error{errc::not_supported, extended_capability::offset};
        }
        return interrupt_entry::remapped(to, from, mode_);
    }
    template <invalidation_port Port>
    constexpr result<interrupt_entry> encode(const posted_target& to, interrupt_requester from,
                                             Port& port) const {
        if (!port.capabilities()[capability::posted_interrupts]) {
            return error{errc::not_supported, capability::offset};
        }
        return interrupt_entry::posted(to, from);
    }

    /// Clears the entries of the block and leaves `rest` in bits 63:0.
    template <invalidation_port Port>
    constexpr result<void> clear_each(interrupt_block block, std::uint64_t rest, Port& port) {
        expects_usable();
        const std::uint32_t first = block.first.raw;
        if (block.size_log2 > 16 || block.size() > count_ || first > count_ - block.size()) {
            return error{errc::out_of_range, first};
        }
        if ((first & (block.size() - 1)) != 0) {
            return error{errc::misaligned, first};
        }
        bool used = false;
        for (std::uint32_t i = first; i < first + block.size(); ++i) {
            if (*half(i) == 0) {
                return error{errc::absent, i};
            }
            used = used || *half(i) != allocated || *(half(i) + 1) != 0;
        }
        if (used) {
            for (std::uint32_t i = first; i < first + block.size(); ++i) {
                store_.block(half(i));
            }
            if (const result<void> done = forget(block, port); !done) {
                return done;
            }
        }
        for (std::uint32_t i = first; i < first + block.size(); ++i) {
            store_.template clear<2>(half(i));
            *half(i) = rest;
        }
        return {};
    }

    template <invalidation_port Port>
    static constexpr result<void> forget(interrupt_block block, Port& port) {
        const unsigned most =
            port.extended_capabilities()[extended_capability::maximum_handle_mask];
        const result<void> asked =
            port.submit(block.size_log2 <= most
                            ? invalidate::interrupt_entries(block.first.raw, block.size_log2)
                            : invalidate::interrupt_entries());
        return asked ? port.complete() : asked;
    }

    [[no_unique_address]] entry_store<Publication, WideStore> store_;
    std::uint64_t* entries_; ///< null: retired
    hpa base_;
    std::uint32_t count_;
    std::uint32_t first_candidate_ = 0;
    apic_mode mode_;
};

} // namespace pt::vtd
