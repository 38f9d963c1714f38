// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/finding_run.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/scalable_tables.hpp"
#include "pt/vtd/tables.hpp"
#include "pt/vtd/translation.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// The isolation audit of functions: which tables each is put through.
namespace pt::assign {

/// The root table of one unit, live or from a dump.
struct function_tables {
    vtd::root_table_address address; ///< RTADDR: where it is, and its mode
    std::uint16_t unit = 0;          ///< the unit's number in owned_function and owned_domain
    std::uint16_t segment = 0;       ///< of its functions, for the explanations
};

/// One audit of one unit's tables under way; the function below is the way to it.
template <paging::table_reader Reader, paging::frame_set Seen, class Report>
class function_audit {
public:
    constexpr function_audit(const function_tables& tables, Reader reader, Seen seen,
                             const ownership& owner, Report& report)
        : tables_{tables}, reader_{reader}, seen_{seen}, owner_{owner}, told_{report} {}

    constexpr audit_summary run() {
        for (std::size_t i = 1; i < owner_.functions.size(); ++i) {
            if (owner_.functions[i].place() <= owner_.functions[i - 1].place()) {
                told_({.kind = finding_kind::disordered_list,
                       .what = owned_resource::functions,
                       .guest = owner_.guest,
                       .first = i,
                       .last = i});
                return {.findings = told_.count};
            }
        }
        while (next_ != owner_.functions.size() && owner_.functions[next_].place() < place_of(0)) {
            ++next_;
        }
        using address = vtd::root_table_address;
        const auto mode = tables_.address[address::translation_table_mode];
        const bool scalable = mode == vtd::table_mode::scalable;
        if (mode == vtd::table_mode::abort_dma) {
            // Every request is blocked.
        } else if (!scalable && mode != vtd::table_mode::legacy) {
            unreadable(0, 0xFFFF, tables_.address.raw, paging::finding_kind::refused_entry);
        } else if (const std::uint64_t* const buses =
                       table(tables_.address[address::table], 0, 0xFFFF);
                   buses != nullptr) {
            for (std::uint32_t half = 0; half != 2 * 256; ++half) {
                const vtd::root_entry entry{paging::load_entry(buses + half)};
                const std::uint32_t first = half / 2 << 8 | (scalable ? (half & 1) << 7 : 0);
                if (!entry[vtd::root_entry::present] || (!scalable && (half & 1) != 0)) {
                    continue;
                }
                if (scalable) {
                    scalable_table(entry[vtd::root_entry::context_table], first);
                } else {
                    legacy_table(entry[vtd::root_entry::context_table], first);
                }
            }
        }
        missing_before(0x1'0000);
        run_.flush();
        return {.findings = told_.count, .tables = read_, .leaves = entries_};
    }

private:
    [[nodiscard]] constexpr std::uint64_t place_of(std::uint32_t source_id) const {
        return (std::uint64_t{tables_.unit} << 16) + source_id;
    }
    [[nodiscard]] constexpr finding about(finding_kind kind, std::uint32_t first,
                                          std::uint32_t last) const {
        return {.kind = kind,
                .guest = owner_.guest,
                .first = first,
                .last = last,
                .function = pci::function_address::from_source_id(static_cast<std::uint16_t>(first),
                                                                  tables_.segment),
                .unit = tables_.unit};
    }

    // ---- tables ---------------------------------------------------------------------------------

    /// The entries of a frame that decides about these functions; null when there are none to read,
    /// which is told. Each frame is read once, so that the time has a bound.
    constexpr const std::uint64_t* table(hpa frame, std::uint32_t first, std::uint32_t last) {
        switch (seen_.insert(frame)) {
        case paging::insertion::inserted: break;
        case paging::insertion::present:
            unreadable(first, last, frame.raw, paging::finding_kind::used_twice);
            return nullptr;
        case paging::insertion::outside:
            unreadable(first, last, frame.raw, paging::finding_kind::outside);
            return nullptr;
        }
        const std::uint64_t* const entries = reader_.entries(frame);
        if (entries == nullptr) {
            unreadable(first, last, frame.raw, paging::finding_kind::unreadable);
            return nullptr;
        }
        ++read_;
        return entries;
    }
    /// Nothing else is said of these functions.
    constexpr void unreadable(std::uint32_t first, std::uint32_t last, std::uint64_t frame,
                              paging::finding_kind why) {
        missing_before(first);
        finding tell = about(finding_kind::function_unreadable, first, last);
        tell.host = frame;
        tell.tables = why;
        run_.add(tell);
        while (next_ != owner_.functions.size() &&
               owner_.functions[next_].place() <= place_of(last)) {
            ++next_;
        }
    }

    constexpr void legacy_table(hpa frame, std::uint32_t first) {
        const std::uint64_t* const entries = table(frame, first, first + 0xFF);
        for (std::uint32_t i = 0; entries != nullptr && i != 0x100; ++i) {
            using low = vtd::context_entry_low;
            const vtd::context_entry entry{
                low{paging::load_entry(entries + std::size_t{2} * i)},
                vtd::context_entry_high{paging::load_entry(entries + std::size_t{2} * i + 1)}};
            if (!entry.low[low::present]) {
                continue;
            }
            begin(first + i);
            const bool reserved = static_cast<unsigned>(entry.low[low::translation_type]) > 2;
            judge(vtd::translation::of(entry), reserved, finding::no_pasid);
            end();
        }
    }

    constexpr void scalable_table(hpa frame, std::uint32_t first) {
        const std::uint64_t* const entries = table(frame, first, first + 0x7F);
        for (std::uint32_t i = 0; entries != nullptr && i != 0x80; ++i) {
            const std::uint64_t* const words = entries + std::size_t{4} * i;
            const vtd::scalable_context_entry_low low{paging::load_entry(words)};
            const vtd::scalable_context_entry_high high{paging::load_entry(words + 1)};
            if (low[vtd::scalable_context_entry_low::present]) {
                begin(first + i);
                directory({low, high});
                end();
            }
        }
    }
    /// All PASIDs of the function that begin() was called for.
    constexpr void directory(const vtd::scalable_context_entry& context) {
        using low = vtd::scalable_context_entry_low;
        const std::uint32_t rid_pasid = context.high[vtd::scalable_context_entry_high::rid_pasid];
        const bool with_pasids = context.low[low::pasid_enable];
        if (context.low[low::device_tlb_enable] && owned_ != nullptr && !owned_->device_tlb) {
            tell(about(finding_kind::function_device_tlb, source_id_, source_id_));
        }
        const std::uint32_t count = std::uint32_t{1}
                                    << (context.low[low::pasid_directory_size] + 7);
        bool is_blocked = true; // what comes without a PASID
        for (std::uint32_t i = 0; i < count; i += entries_per_table) {
            const hpa frame = context.low[low::pasid_directory] + std::uint64_t{i} * 8;
            const std::uint64_t* const entries = table(frame, source_id_, source_id_);
            if (entries == nullptr) {
                return;
            }
            for (std::uint32_t k = 0; k != entries_per_table && i + k != count; ++k) {
                using entry_type = vtd::pasid_directory_entry;
                const entry_type entry{paging::load_entry(entries + k)};
                if (!entry[entry_type::present]) {
                    continue;
                }
                const std::uint64_t* const pasids =
                    table(entry[entry_type::pasid_table], source_id_, source_id_);
                if (pasids == nullptr) {
                    return;
                }
                for (std::uint32_t n = 0; n != vtd::entries_per_pasid_table; ++n) {
                    const std::uint32_t pasid = (i + k) * 64 + n;
                    const std::uint64_t* const words = pasids + n * vtd::words_per_pasid_entry;
                    const vtd::pasid_entry of{
                        vtd::pasid_entry_63_0{paging::load_entry(words)},
                        vtd::pasid_entry_127_64{paging::load_entry(words + 1)},
                        vtd::pasid_entry_191_128{paging::load_entry(words + 2)}};
                    const bool without = pasid == rid_pasid;
                    if (!of.bits_63_0[vtd::pasid_entry_63_0::present] ||
                        !(without || with_pasids)) {
                        continue;
                    }
                    is_blocked = is_blocked && !without;
                    const auto type = static_cast<unsigned>(
                        of.bits_63_0[vtd::pasid_entry_63_0::translation_type]);
                    judge(vtd::translation::of(of), type == 0 || type > 4,
                          without ? finding::no_pasid : pasid);
                }
            }
        }
        if (is_blocked && owned_ != nullptr) {
            tell(about(finding_kind::function_missing, source_id_, source_id_));
        }
    }

    // ---- functions ------------------------------------------------------------------------------

    constexpr void missing_before(std::uint32_t source_id) {
        for (; next_ != owner_.functions.size() &&
               owner_.functions[next_].place() < place_of(source_id);
             ++next_) {
            const auto of = static_cast<std::uint16_t>(owner_.functions[next_].place());
            run_.add(about(finding_kind::function_missing, of, of));
        }
    }
    /// A function with an entry that is present.
    constexpr void begin(std::uint32_t source_id) {
        missing_before(source_id);
        const bool owned = next_ != owner_.functions.size() &&
                           owner_.functions[next_].place() == place_of(source_id);
        owned_ = owned ? &owner_.functions[next_] : nullptr;
        next_ += owned ? 1 : 0;
        source_id_ = source_id;
        told_kinds_ = 0;
        ++entries_;
    }
    constexpr void end() { owned_ = nullptr; }

    /// Once for each kind and function, however many PASIDs it has.
    constexpr void tell(const finding& found) {
        const std::uint64_t bit = std::uint64_t{1} << static_cast<unsigned>(found.kind);
        if ((told_kinds_ & bit) == 0) {
            told_kinds_ |= bit;
            run_.add(found);
        }
    }

    /// What some requests of the function are put through.
    constexpr void judge(const vtd::translation& through, bool reserved, std::uint32_t pasid) {
        finding found = about(finding_kind::function_malformed, source_id_, source_id_);
        found.pasid = pasid;
        found.host = through.has_second_stage() ? through.second_stage_root().raw
                                                : through.first_stage_root();
        if (reserved) {
            if (owned_ != nullptr) {
                tell(found);
            } // else it is somebody else's, and blocked
            return;
        }
        if (owned_ == nullptr) {
            judge_stranger(through, found);
            return;
        }
        if (through.device_tlb() && !owned_->device_tlb) {
            found.kind = finding_kind::function_device_tlb;
            tell(found);
        }
        if (through.type() == vtd::pasid_translation_type::pass_through) {
            found.kind = finding_kind::function_pass_through;
            tell(found);
            return;
        }
        const owned_domain* same_tables = nullptr;
        const owned_domain* of_unit = nullptr;
        for (const owned_domain& domain : owner_.domains) {
            if (domain.unit != tables_.unit) {
                continue;
            }
            of_unit = &domain;
            if (walks_tables_of(through, domain.through)) {
                same_tables = &domain;
                if (through.domain_id() == domain.through.domain_id()) {
                    break;
                }
            }
        }
        if (same_tables == nullptr) {
            found.kind = finding_kind::function_elsewhere;
            found.expected = of_unit != nullptr ? root_of(of_unit->through) : 0;
            tell(found);
            return;
        }
        const vtd::translation& right = same_tables->through;
        if (levels_of(through) != levels_of(right)) {
            found.kind = finding_kind::function_wrong_levels;
            found.found = levels_of(through);
            found.expected = levels_of(right);
            tell(found);
        }
        if (through.domain_id() != right.domain_id()) {
            found.kind = finding_kind::function_wrong_domain;
            found.found = through.domain_id();
            found.expected = right.domain_id();
            tell(found);
        }
    }
    constexpr void judge_stranger(const vtd::translation& through, finding& found) {
        for (const owned_domain& domain : owner_.domains) {
            if (domain.unit != tables_.unit) {
                continue;
            }
            if (walks_tables_of(through, domain.through)) {
                found.kind = finding_kind::function_not_owned;
                tell(found);
            } else if (through.domain_id() == domain.through.domain_id()) {
                found.kind = finding_kind::domain_id_shared;
                found.found = through.domain_id();
                tell(found);
            }
        }
    }

    /// Whether both walk the same tables. A first stage of the guest's own above them takes nothing
    /// from them.
    static constexpr bool walks_tables_of(const vtd::translation& a, const vtd::translation& b) {
        if (a.has_second_stage() || b.has_second_stage()) {
            return a.has_second_stage() && b.has_second_stage() &&
                   a.second_stage_root() == b.second_stage_root();
        }
        return a.has_first_stage() && b.has_first_stage() &&
               a.first_stage_root() == b.first_stage_root();
    }
    static constexpr std::uint64_t root_of(const vtd::translation& t) {
        return t.has_second_stage() ? t.second_stage_root().raw : t.first_stage_root();
    }
    static constexpr unsigned levels_of(const vtd::translation& t) {
        return t.has_second_stage() ? t.second_stage_levels() : t.first_stage_levels();
    }

    function_tables tables_;
    Reader reader_;
    Seen seen_;
    const ownership& owner_;
    counted_report<Report> told_;
    finding_run<counted_report<Report>> run_{told_};
    std::size_t next_ = 0; ///< the first owned function that was not met
    std::uint64_t read_ = 0;
    std::uint64_t entries_ = 0;
    const owned_function* owned_ =
        nullptr; ///< the function that is looked at, if it is the guest's
    std::uint32_t source_id_ = 0;
    std::uint64_t told_kinds_ = 0; ///< of this function: a bit of each kind
};

/// Compares what a unit's root table says of each function, in legacy or scalable mode, with
/// `owner.functions` and `owner.domains`: the guest's functions must be put through its tables, as
/// many levels as they have, under its domain id, with every PASID; and no other function through its
/// tables, or through others under its domain id. What the tables allow, audit_dma() says.
///
/// Frames of root, context and PASID tables are put into `seen`, which also says where they may lie.
/// One that is in it before is not read again: two functions with one PASID table are found.
template <paging::table_reader Reader, paging::frame_set Seen, finding_report Report>
constexpr audit_summary audit_functions(const function_tables& tables, Reader reader, Seen seen,
                                        const ownership& owner, Report&& report) {
    return function_audit<Reader, Seen, std::remove_reference_t<Report>>{tables, reader, seen,
                                                                         owner, report}
        .run();
}

} // namespace pt::assign
