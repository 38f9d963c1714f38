// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/second_stage_limits.hpp"
#include "pt/vtd/tables.hpp"

#include <cstdint>

namespace pt::vtd {

/// One remapping unit (DRHD), driven through its registers in legacy mode.
///
/// The unit must be used by one processor at a time. Every wait for the hardware has a time limit:
/// errc::time_out with the offset of the register that did not answer. A unit that is gone (all
/// ones) never fakes success.
template <mmio_io Mmio, clock Clock>
class unit {
public:
    /// How long an order to the unit may take, in nanoseconds; generous, since a drain waits for the
    /// devices' own requests.
    static constexpr std::uint64_t patience = 1'000'000'000;

    /// Takes over the unit whose registers `mmio` reaches, `window` bytes of them (4 KiB unless
    /// firmware says more). errc::absent when nothing answers there; errc::malformed when the unit's
    /// capability registers place other registers outside the window, over the fixed ones or over
    /// each other, or name no address width.
    static constexpr result<unit> attach(Mmio mmio, std::uint64_t window, Clock time,
                                         std::uint16_t segment = 0) {
        const version implemented = read<version>(mmio);
        const capability cap{read<capability>(mmio)};
        const extended_capability ecap{read<extended_capability>(mmio)};
        if (implemented.raw == ~std::uint32_t{0} || implemented.raw == 0 ||
            cap.raw == ~std::uint64_t{0} || ecap.raw == ~std::uint64_t{0}) {
            return error{errc::absent, version::offset};
        }
        if ((cap[capability::supported_address_widths] & supported_widths) == 0) {
            return error{errc::malformed, capability::offset};
        }
        // In units of 16 bytes: IVA with the IOTLB register, and the fault recording registers.
        const std::uint64_t iotlb = ecap[extended_capability::iotlb_offset];
        const std::uint64_t records = cap[capability::fault_recording_offset];
        const std::uint64_t end = records + cap[capability::fault_recording_registers] + 1U;
        if (iotlb < end_of_fixed || records < end_of_fixed || (iotlb + 1) * 16 > window ||
            end * 16 > window || (records <= iotlb && iotlb < end)) {
            return error{errc::malformed, capability::offset};
        }
        return unit{mmio, time, segment, cap, ecap};
    }

    constexpr unit(unit&&) noexcept = default; // what it knows of the hardware's state moves along
    unit& operator=(unit&&) = delete;
    constexpr ~unit() = default;

    [[nodiscard]] constexpr capability capabilities() const { return cap_; }
    [[nodiscard]] constexpr extended_capability extended_capabilities() const { return ecap_; }

    /// How many domain ids there are: 0 up to this, exclusive. With caching mode, 0 is reserved.
    [[nodiscard]] constexpr std::uint32_t domain_ids() const {
        const unsigned nd = cap_[capability::number_of_domains];
        return std::uint32_t{1} << (4 + 2 * (nd < 6 ? nd : 6)); // ND 7 is reserved
    }

    /// What second-stage tables with `levels` levels may use on this unit, for a host address width
    /// from the DMAR table; errors as for second_stage::limits_of().
    [[nodiscard]] constexpr result<second_stage::limits> limits(unsigned levels,
                                                                unsigned host_address_width) const {
        return second_stage::limits_of(cap_, ecap_, levels, host_address_width);
    }

    /// Whether this unit can put the function's requests through `entry`: errc::absent with the
    /// segment when the function is in another one; errc::out_of_range with a domain id that the unit
    /// lacks or, with caching mode, reserves; errc::not_supported for a number of levels or a
    /// translation type that it does not have, and for pass-through with less than the largest
    /// number.
    [[nodiscard]] constexpr result<void> accepts(pci::function_address function,
                                                 context_entry entry) const {
        using low = context_entry_low;
        using high = context_entry_high;
        const std::uint16_t id = entry.high[high::domain_id];
        const unsigned width = entry.high[high::address_width];
        const low::type type = entry.low[low::translation_type];
        if (function.segment != segment_) {
            return error{errc::absent, function.segment};
        }
        if (id >= domain_ids() || (id == 0 && cap_[capability::caching_mode])) {
            return error{errc::out_of_range, id};
        }
        const unsigned widths = cap_[capability::supported_address_widths];
        const bool has_type =
            type == low::type::untranslated_only ||
            (type == low::type::with_device_tlb && ecap_[extended_capability::device_tlb]) ||
            (type == low::type::pass_through && ecap_[extended_capability::pass_through] &&
             widths >> (width + 1) == 0);
        if (!has_type || (widths & supported_widths & 1U << width) == 0) {
            return error{errc::not_supported, entry.low.raw};
        }
        return {};
    }

    [[nodiscard]] constexpr global_status status() { return read<global_status>(mmio_); }

    /// Gives the unit the root table of legacy mode and empties its caches, in the order the manual
    /// demands: root pointer, context cache, IOTLB. errc::busy while queued invalidation is on,
    /// because the unit then ignores invalidation by register, and while it translates in scalable
    /// mode, because the mode cannot change under way.
    constexpr result<void> set_root_table(hpa table) {
        if (!table.is_aligned(4 * KiB)) {
            return error{errc::misaligned, table.raw};
        }
        if (const result<void> usable = registers_invalidate(); !usable) {
            return usable;
        }
        if (const result<void> flushed = flush_write_buffer(); !flushed) {
            return flushed;
        }
        using mode = root_table_address::mode;
        const mode present =
            read<root_table_address>(mmio_)[root_table_address::translation_table_mode];
        if (status()[global_status::translation_enabled] && present != mode::legacy &&
            present != mode::abort_dma) {
            return error{errc::busy, root_table_address::offset};
        }
        write(mmio_, root_table_address{root_table_address::table(table),
                                        root_table_address::translation_table_mode(mode::legacy)});
        const result<void> set = order(global_command::set_root_table_pointer(true),
                                       global_status::root_table_pointer, true);
        if (!set) {
            return set;
        }
        if (const result<void> done = invalidate_context(); !done) {
            return done;
        }
        return invalidate_iotlb();
    }

    /// Turns translation of DMA on. errc::refused while no root table was set.
    constexpr result<void> enable_translation() {
        const global_status now = status();
        if (now.raw != ~std::uint32_t{0} && !now[global_status::root_table_pointer]) {
            return error{errc::refused, global_status::offset};
        }
        return order(global_command::translation_enable(true), global_status::translation_enabled,
                     true);
    }
    /// Turns it off: from then on every device reaches all of memory.
    constexpr result<void> disable_translation() {
        return order(global_command::translation_enable(false), global_status::translation_enabled,
                     false);
    }

    /// Empties the whole context cache.
    constexpr result<void> invalidate_context() {
        return invalidate_context(
            context_command{context_command::invalidate(true),
                            context_command::requested(context_granularity::global)});
    }
    /// Forgets the context entry of one function, which was in `domain_id`.
    constexpr result<void> invalidate_context(std::uint16_t source_id, std::uint16_t domain_id) {
        return invalidate_context(context_command{
            context_command::invalidate(true),
            context_command::requested(context_granularity::device),
            context_command::source_id(source_id), context_command::domain_id(domain_id)});
    }

    /// Empties the whole IOTLB.
    constexpr result<void> invalidate_iotlb() {
        return invalidate_iotlb(
            iotlb_invalidate{iotlb_invalidate::invalidate(true),
                             iotlb_invalidate::requested(iotlb_granularity::global)});
    }
    /// Forgets all translations of one domain.
    constexpr result<void> invalidate_iotlb(std::uint16_t domain_id) {
        return invalidate_iotlb(
            iotlb_invalidate{iotlb_invalidate::invalidate(true),
                             iotlb_invalidate::requested(iotlb_granularity::domain),
                             iotlb_invalidate::domain_id(domain_id)});
    }
    /// Forgets the translations of `stale` in one domain: by pages if one aligned power of two that
    /// the unit can take covers the range, else the whole domain's.
    constexpr result<void> invalidate_iotlb(std::uint16_t domain_id, range<iova> stale,
                                            bool tables_changed) {
        if (stale.empty()) {
            return {};
        }
        const unsigned mask = covering_mask(stale);
        if (!cap_[capability::page_selective_invalidation] ||
            mask > cap_[capability::maximum_address_mask]) {
            return invalidate_iotlb(domain_id);
        }
        const iova base = stale.first().align_down(paging::level_size(1) << mask);
        if (const result<void> ready = ready_for_iotlb(); !ready) {
            return ready;
        }
        mmio_.write64(
            iva_offset(),
            invalidate_address{invalidate_address::address(base),
                               invalidate_address::invalidation_hint(!tables_changed),
                               invalidate_address::address_mask(static_cast<std::uint8_t>(mask))}
                .raw);
        return submit(iotlb_invalidate{iotlb_invalidate::invalidate(true),
                                       iotlb_invalidate::requested(iotlb_granularity::page),
                                       iotlb_invalidate::domain_id(domain_id)});
    }

    /// The oldest fault that the unit recorded, removed from its record; errc::absent when there is
    /// none. A device can cause faults without end: take a bounded number at a time.
    constexpr result<fault_record> take_fault() {
        const fault_status status = read<fault_status>(mmio_);
        if (!status[fault_status::primary_pending_fault] || status.raw == ~std::uint32_t{0}) {
            next_record_ = unknown_record;
            return error{errc::absent, fault_status::offset};
        }
        const unsigned records = cap_[capability::fault_recording_registers] + 1U;
        // The index in FSTS stays where the first fault was recorded until none is pending.
        const unsigned oldest = next_record_ != unknown_record
                                    ? next_record_
                                    : unsigned{status[fault_status::fault_record_index]};
        for (unsigned i = 0; i < records; ++i) {
            const unsigned index = (oldest + i) % records;
            const std::uint32_t at = record_offset(index);
            const fault_record_high high{mmio_.read64(at + 8)};
            if (high[fault_record_high::fault] && high.raw != ~std::uint64_t{0}) {
                const fault_record_low low{mmio_.read64(at)};
                // F is the top bit of the record's last dword, the only one that software writes.
                mmio_.write32(at + 12,
                              static_cast<std::uint32_t>(fault_record_high::fault.mask >> 32));
                next_record_ = (index + 1) % records;
                return fault_record::decode(low, high, segment_);
            }
        }
        return error{errc::absent, fault_status::offset};
    }
    /// Whether faults were lost because all records were in use; asking makes room for the next.
    constexpr bool take_fault_overflow() {
        const fault_status status = read<fault_status>(mmio_);
        if (!status[fault_status::primary_fault_overflow] || status.raw == ~std::uint32_t{0}) {
            return false;
        }
        write(mmio_, fault_status{fault_status::primary_fault_overflow(true)});
        return true;
    }

private:
    static constexpr unsigned supported_widths = 0b1110; // 3, 4 and 5 levels
    /// In units of 16 bytes, after the last register with a fixed place that is used here.
    static constexpr std::uint32_t end_of_fixed = (fault_status::offset + 4 + 15) / 16;
    static constexpr unsigned unknown_record = ~0U;

    constexpr unit(Mmio mmio, Clock time, std::uint16_t segment, capability cap,
                   extended_capability ecap)
        : mmio_{mmio}, clock_{time}, cap_{cap}, ecap_{ecap}, segment_{segment} {}

    constexpr std::uint32_t iva_offset() const {
        return std::uint32_t{ecap_[extended_capability::iotlb_offset]} * 16;
    }
    constexpr std::uint32_t iotlb_offset() const { return iva_offset() + 8; }
    constexpr std::uint32_t record_offset(unsigned index) const {
        return (std::uint32_t{cap_[capability::fault_recording_offset]} + index) * 16;
    }

    /// The AM of the smallest aligned block of 2^AM pages that holds the range.
    static constexpr unsigned covering_mask(range<iova> stale) {
        const std::uint64_t differing = (stale.first().raw ^ stale.last().raw) >> 12;
        unsigned mask = 0;
        while (mask < 52 && (differing >> mask) != 0) {
            ++mask;
        }
        return mask;
    }

    constexpr result<void> registers_invalidate() {
        const global_status now = status();
        if (now.raw == ~std::uint32_t{0}) {
            return error{errc::absent, global_status::offset};
        }
        if (now[global_status::queued_invalidation_enabled]) {
            return error{errc::busy, global_status::offset};
        }
        return {};
    }

    /// Waits until `done()` says so.
    template <class Done>
    constexpr result<void> wait(std::uint32_t offset, Done done) {
        const std::uint64_t start = clock_.now();
        while (!done()) {
            if (clock_.now() - start > patience) {
                // Perhaps it was this processor that slept, and not the unit.
                return done() ? result<void>{} : error{errc::time_out, offset};
            }
        }
        return {};
    }

    /// Writes one change to GCMD on top of what is on already, and waits for GSTS to agree.
    template <class Command, class Status>
    constexpr result<void> order(field_value<Command> change, Status, bool expected) {
        const global_status now = status();
        if (now.raw == ~std::uint32_t{0}) {
            return error{errc::absent, global_status::offset};
        }
        const global_command kept{now.raw & global_status::carried_over};
        write(mmio_, kept.with(change));
        return wait(global_status::offset, [&] {
            const global_status s = status();
            return s.raw != ~std::uint32_t{0} && s[Status{}] == expected;
        });
    }

    /// Older units buffer writes to the tables and must be told to let them through.
    constexpr result<void> flush_write_buffer() {
        if (!cap_[capability::required_write_buffer_flushing]) {
            return {};
        }
        return order(global_command::write_buffer_flush(true), global_status::write_buffer_flush,
                     false);
    }

    constexpr result<void> invalidate_context(context_command request) {
        if (const result<void> usable = registers_invalidate(); !usable) {
            return usable;
        }
        if (const result<void> flushed = flush_write_buffer(); !flushed) {
            return flushed;
        }
        context_command answer;
        const auto idle = [&] {
            answer = read<context_command>(mmio_);
            return !answer[context_command::invalidate];
        };
        // A request that timed out may be under way still. The register must not change before it
        // is over, and its end must not be taken for the end of this one.
        if (const result<void> earlier = wait(context_command::offset, idle); !earlier) {
            return earlier;
        }
        write(mmio_, request);
        const result<void> finished = wait(context_command::offset, idle);
        if (finished &&
            !reaches(answer[context_command::done], request[context_command::requested])) {
            return error{errc::hardware_fault, context_command::offset};
        }
        return finished;
    }

    /// Whether the unit did as much as it was asked for; it may do more. None: it refused.
    template <class Granularity>
    static constexpr bool reaches(Granularity done, Granularity requested) {
        return done != Granularity::none && done <= requested;
    }

    constexpr result<void> invalidate_iotlb(iotlb_invalidate request) {
        if (const result<void> ready = ready_for_iotlb(); !ready) {
            return ready;
        }
        return submit(request);
    }

    /// Neither IVA nor the IOTLB register may change while a request is under way.
    constexpr result<void> ready_for_iotlb() {
        if (const result<void> usable = registers_invalidate(); !usable) {
            return usable;
        }
        if (const result<void> flushed = flush_write_buffer(); !flushed) {
            return flushed;
        }
        iotlb_invalidate earlier;
        return finish(earlier);
    }

    constexpr result<void> finish(iotlb_invalidate& answer) {
        return wait(iotlb_offset(), [&] {
            answer = iotlb_invalidate{mmio_.read64(iotlb_offset())};
            return !answer[iotlb_invalidate::invalidate];
        });
    }

    constexpr result<void> submit(iotlb_invalidate request) {
        // Requests that were translated before must have reached memory when this is over, so that
        // a frame can be given to somebody else.
        mmio_.write64(iotlb_offset(),
                      request
                          .with(iotlb_invalidate::drain_reads(cap_[capability::drain_reads]),
                                iotlb_invalidate::drain_writes(cap_[capability::drain_writes]))
                          .raw);
        iotlb_invalidate answer;
        const result<void> finished = finish(answer);
        if (finished &&
            !reaches(answer[iotlb_invalidate::done], request[iotlb_invalidate::requested])) {
            return error{errc::hardware_fault, iotlb_offset()};
        }
        return finished;
    }

    [[no_unique_address]] Mmio mmio_;
    [[no_unique_address]] Clock clock_;
    capability cap_;
    extended_capability ecap_;
    std::uint16_t segment_;
    unsigned next_record_ = unknown_record; ///< where the oldest pending fault is
};

} // namespace pt::vtd
