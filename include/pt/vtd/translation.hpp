// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/domain_ids.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/scalable_tables.hpp"
#include "pt/vtd/tables.hpp"

#include <cstdint>

namespace pt::vtd {

/// Whether a root table is one of legacy or of scalable mode.
using table_mode = root_table_address::mode;

/// What the requests of a function, or those with one PASID, are put through. A value that fits
/// both table modes; what a unit can do with it, accepts() says.
class translation {
public:
    /// Tables of that format, whose root is at `root`: second_stage(*tables.root(),
    /// tables.format(), id). The number of levels and whether flags are set are the format's:
    /// walked with another number of levels, a guest's page would be taken for a table.
    static constexpr translation second_stage(hpa root, const vtd::second_stage::format& walked,
                                              std::uint16_t domain_id) {
        translation t{pasid_translation_type::second_stage, domain_id};
        t.set_second_stage(root, walked);
        return t;
    }
    /// None: the function reaches all of host memory.
    static constexpr translation pass_through(std::uint16_t domain_id) {
        return translation{pasid_translation_type::pass_through, domain_id};
    }
    /// First-stage tables, which have the format of x86-64 paging, with 4 or 5 levels.
    static constexpr translation first_stage(hpa root, unsigned levels, std::uint16_t domain_id) {
        translation t{pasid_translation_type::first_stage, domain_id};
        t.set_first_stage(root.raw, levels);
        return t;
    }
    /// First-stage tables of a guest in its own memory, and a second stage under them. The guest
    /// may name any `first_root`.
    static constexpr translation nested(gpa first_root, unsigned first_levels, hpa second_root,
                                        const vtd::second_stage::format& second,
                                        std::uint16_t domain_id) {
        translation t{pasid_translation_type::nested, domain_id};
        t.set_first_stage(first_root.raw, first_levels);
        t.set_second_stage(second_root, second);
        return t;
    }

    /// The same, and the function may translate by itself and keep what it learns (ATS).
    [[nodiscard]] constexpr translation with_device_tlb() const {
        translation t = *this;
        t.device_tlb_ = true;
        return t;
    }
    /// The same, and the function may send requests with a PASID; root_table::attach_pasid() says
    /// where they go, and those with any other PASID are blocked.
    [[nodiscard]] constexpr translation with_pasids() const {
        translation t = *this;
        t.pasids_ = true;
        return t;
    }
    /// The same, and every access snoops the processor's caches whatever the device asks.
    [[nodiscard]] constexpr translation with_page_snoop() const {
        translation t = *this;
        t.page_snoop_ = true;
        return t;
    }
    /// The same, and what is blocked is not recorded: for a function that floods the fault records.
    [[nodiscard]] constexpr translation with_faults_disabled() const {
        translation t = *this;
        t.faults_disabled_ = true;
        return t;
    }

    /// The same, and what is blocked is recorded, as without any of these.
    [[nodiscard]] constexpr translation with_faults_enabled() const {
        translation t = *this;
        t.faults_disabled_ = false;
        return t;
    }

    [[nodiscard]] constexpr pasid_translation_type type() const { return type_; }
    [[nodiscard]] constexpr std::uint16_t domain_id() const { return domain_id_; }
    /// Whether second-stage tables are walked, where they are, and their levels.
    [[nodiscard]] constexpr bool has_second_stage() const {
        return type_ == pasid_translation_type::second_stage ||
               type_ == pasid_translation_type::nested;
    }
    [[nodiscard]] constexpr hpa second_stage_root() const { return second_root_; }
    [[nodiscard]] constexpr unsigned second_stage_levels() const { return second_levels_; }
    /// Whether hardware sets accessed and dirty flags in the second stage.
    [[nodiscard]] constexpr bool accessed_dirty() const { return accessed_dirty_; }
    /// Whether first-stage tables are walked, where they are (for the guest, where nested), and
    /// their levels.
    [[nodiscard]] constexpr bool has_first_stage() const {
        return type_ == pasid_translation_type::first_stage ||
               type_ == pasid_translation_type::nested;
    }
    [[nodiscard]] constexpr std::uint64_t first_stage_root() const { return first_root_; }
    [[nodiscard]] constexpr unsigned first_stage_levels() const { return first_levels_; }

    [[nodiscard]] constexpr bool device_tlb() const { return device_tlb_; }
    [[nodiscard]] constexpr bool pasids() const { return pasids_; }
    [[nodiscard]] constexpr bool page_snoop() const { return page_snoop_; }
    [[nodiscard]] constexpr bool faults_disabled() const { return faults_disabled_; }

    /// What an entry of legacy mode says.
    static constexpr translation of(context_entry entry) {
        using low = context_entry_low;
        using high = context_entry_high;
        const auto type = entry.low[low::translation_type];
        const bool through = type == low::type::pass_through;
        translation t{through ? pasid_translation_type::pass_through
                              : pasid_translation_type::second_stage,
                      entry.high[high::domain_id]};
        if (!through) {
            t.second_root_ = entry.low[low::second_stage_table];
            t.second_levels_ = static_cast<std::uint8_t>(entry.high[high::address_width] + 2U);
        }
        t.device_tlb_ = type == low::type::with_device_tlb;
        t.faults_disabled_ = entry.low[low::fault_processing_disable];
        return t;
    }
    /// What an entry of a PASID table says.
    static constexpr translation of(const pasid_entry& entry) {
        using low = pasid_entry_63_0;
        using middle = pasid_entry_127_64;
        using first = pasid_entry_191_128;
        translation t{entry.bits_63_0[low::translation_type], entry.bits_127_64[middle::domain_id]};
        if (t.has_second_stage()) {
            t.second_root_ = entry.bits_63_0[low::second_stage_table];
            t.second_levels_ = static_cast<std::uint8_t>(entry.bits_63_0[low::address_width] + 2U);
            t.accessed_dirty_ = entry.bits_63_0[low::second_stage_access_dirty_enable];
        }
        if (t.has_first_stage()) {
            t.first_root_ = entry.bits_191_128[first::first_stage_table_frame] << 12;
            t.first_levels_ = static_cast<std::uint8_t>(
                4U + static_cast<unsigned>(entry.bits_191_128[first::first_stage_paging_mode]));
        }
        t.page_snoop_ = entry.bits_127_64[middle::page_snoop];
        t.faults_disabled_ = entry.bits_63_0[low::fault_processing_disable];
        return t;
    }
    /// What is said of a function in scalable mode, whose requests without PASID go through
    /// `entry`.
    static constexpr translation of(scalable_context_entry function, const pasid_entry& entry) {
        using low = scalable_context_entry_low;
        translation t = of(entry);
        t.device_tlb_ = function.low[low::device_tlb_enable];
        t.pasids_ = function.low[low::pasid_enable];
        t.faults_disabled_ = t.faults_disabled_ || function.low[low::fault_processing_disable];
        return t;
    }

    friend constexpr bool operator==(const translation&, const translation&) = default;

private:
    constexpr translation(pasid_translation_type type, std::uint16_t domain_id)
        : domain_id_{domain_id}, type_{type} {}

    constexpr void set_second_stage(hpa root, const vtd::second_stage::format& walked) {
        second_root_ = root;
        second_levels_ = static_cast<std::uint8_t>(walked.levels());
        accessed_dirty_ = walked.sets_flags();
    }
    constexpr void set_first_stage(std::uint64_t root, unsigned levels) {
        first_root_ = root;
        first_levels_ = static_cast<std::uint8_t>(levels < 255 ? levels : 255);
    }

    hpa second_root_{};
    std::uint64_t first_root_ = 0;
    std::uint16_t domain_id_;
    pasid_translation_type type_;
    std::uint8_t second_levels_ = 0;
    std::uint8_t first_levels_ = 0;
    bool accessed_dirty_ = false;
    bool device_tlb_ = false;
    bool pasids_ = false;
    bool page_snoop_ = false;
    bool faults_disabled_ = false;
};

/// The field of an entry that means so many second-stage levels: AW.
[[nodiscard]] constexpr std::uint8_t address_width_of(unsigned levels) {
    return static_cast<std::uint8_t>((levels - 2U) & 7U);
}
/// AW of the largest width that the unit supports, which pass-through entries must have.
[[nodiscard]] constexpr std::uint8_t largest_address_width(capability cap) {
    std::uint8_t largest = address_width_of(3);
    for (unsigned levels = 3; levels <= 5; ++levels) {
        if ((cap[capability::supported_address_widths] >> (levels - 2) & 1U) != 0) {
            largest = address_width_of(levels);
        }
    }
    return largest;
}

/// Whether a unit with these capabilities can put requests through `t` in that table mode.
///   errc::out_of_range   a domain id that it lacks or, with caching mode, reserves
///                        a guest's first-stage root beyond what the second stage can take
///   errc::misaligned     a root that is not the address of a frame
///   errc::not_supported  with the number of levels that it does not walk, or with the offset of
///                        the register, CAP or ECAP, that says what it cannot do
[[nodiscard]] constexpr result<void> accepts(capability cap, extended_capability ecap,
                                             table_mode mode, const translation& t) {
    using more = extended_capability;
    const error lacks{errc::not_supported, more::offset};
    const bool scalable = mode == table_mode::scalable;
    if (mode != table_mode::legacy && !(scalable && ecap[more::scalable_mode])) {
        return lacks;
    }
    if (t.domain_id() >= domain_id_count(cap) ||
        (t.domain_id() == 0 && cap[capability::caching_mode])) {
        return error{errc::out_of_range, t.domain_id()};
    }
    if (t.has_first_stage()) {
        if (!scalable || !ecap[more::first_stage_translation] ||
            (t.has_second_stage() && !ecap[more::nested_translation])) {
            return lacks;
        }
        const unsigned levels = t.first_stage_levels();
        if (levels != 4 && !(levels == 5 && cap[capability::first_stage_5_level_paging])) {
            return error{errc::not_supported, levels};
        }
        if (!hpa{t.first_stage_root()}.is_aligned(4 * KiB)) {
            return error{errc::misaligned, t.first_stage_root()};
        }
        // A guest's own root has to be an address that the second stage can take.
        const unsigned levels_below = t.second_stage_levels() < 5 ? t.second_stage_levels() : 5;
        const unsigned reach = 12 + 9 * levels_below;
        const unsigned width = cap[capability::maximum_guest_address_width] + 1U;
        if (t.has_second_stage() && t.first_stage_root() >> (reach < width ? reach : width) != 0) {
            return error{errc::out_of_range, t.first_stage_root()};
        }
    }
    if (t.has_second_stage()) {
        if ((scalable && !ecap[more::second_stage_translation]) ||
            (t.accessed_dirty() && !(scalable && ecap[more::second_stage_accessed_dirty]))) {
            return lacks;
        }
        const unsigned levels = t.second_stage_levels();
        if (levels < 3 || levels > 5 ||
            (cap[capability::supported_address_widths] >> (levels - 2) & 1U) == 0) {
            return error{errc::not_supported, levels};
        }
        if (!t.second_stage_root().is_aligned(4 * KiB)) {
            return error{errc::misaligned, t.second_stage_root().raw};
        }
    }
    const bool through = t.type() == pasid_translation_type::pass_through;
    if ((through && !ecap[more::pass_through]) ||
        // Legacy pass-through is a translation type of its own, without a device TLB.
        (t.device_tlb() && (!ecap[more::device_tlb] || (through && !scalable))) ||
        (t.pasids() && !(scalable && ecap[more::pasid])) ||
        (t.page_snoop() && !(scalable && ecap[more::snoop_control]))) {
        return lacks;
    }
    return {};
}

/// The context entry of legacy mode that says `t` to that unit; errors as of accepts().
[[nodiscard]] constexpr result<context_entry>
context_entry_for(capability cap, extended_capability ecap, const translation& t) {
    using low = context_entry_low;
    using high = context_entry_high;
    if (const result<void> fits = accepts(cap, ecap, table_mode::legacy, t); !fits) {
        return fits.error();
    }
    const bool through = t.type() == pasid_translation_type::pass_through;
    return context_entry{
        low{low::second_stage_table(t.second_stage_root()),
            low::translation_type(through          ? low::type::pass_through
                                  : t.device_tlb() ? low::type::with_device_tlb
                                                   : low::type::untranslated_only),
            low::fault_processing_disable(t.faults_disabled()), low::present(true)},
        high{high::domain_id(t.domain_id()),
             high::address_width(through ? largest_address_width(cap)
                                         : address_width_of(t.second_stage_levels()))}};
}

/// The entry of a PASID table that says `t` to that unit; errors as of accepts(). What concerns the
/// function as a whole, its device TLB and whether it has PASIDs, is in its context entry.
[[nodiscard]] constexpr result<pasid_entry>
pasid_entry_for(capability cap, extended_capability ecap, const translation& t) {
    using low = pasid_entry_63_0;
    using middle = pasid_entry_127_64;
    using first = pasid_entry_191_128;
    if (const result<void> fits = accepts(cap, ecap, table_mode::scalable, t); !fits) {
        return fits.error();
    }
    pasid_entry entry{
        low{low::translation_type(t.type()), low::address_width(largest_address_width(cap)),
            low::fault_processing_disable(t.faults_disabled()), low::present(true)},
        middle{
            middle::page_snoop(t.page_snoop()),
            middle::page_walk_snoop(ecap[extended_capability::scalable_mode_page_walk_coherency]),
            middle::domain_id(t.domain_id())},
        first{}};
    if (t.has_second_stage()) {
        entry.bits_63_0 =
            entry.bits_63_0.with(low::second_stage_table(t.second_stage_root()),
                                 low::second_stage_access_dirty_enable(t.accessed_dirty()),
                                 low::address_width(address_width_of(t.second_stage_levels())));
    }
    if (t.has_first_stage()) {
        entry.bits_191_128 = entry.bits_191_128.with(
            first::first_stage_table_frame(t.first_stage_root() >> 12),
            first::first_stage_paging_mode(t.first_stage_levels() == 5
                                               ? first::paging_mode::levels_5
                                               : first::paging_mode::levels_4));
    }
    return entry;
}

} // namespace pt::vtd
