// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/finding_run.hpp"
#include "pt/assign/leaf_rights.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/interrupt_range.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/table_reader.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

/// The isolation audit of pages: what the tables of processors and devices let a guest reach,
/// against what it owns.
namespace pt::assign {

/// Who walks the tables.
enum class page_walker : std::uint8_t { processors, devices };

/// One audit under way: leaves and owned pages are both ascending, and are gone through side by
/// side. The functions below are the way to it.
template <page_walker Walker, paging::entry_format Format, paging::table_reader Reader,
          class Report>
class page_audit {
public:
    constexpr page_audit(const Format& format, Reader reader, hpa root, const ownership& owner,
                         Report& report)
        : format_{format}, reader_{reader}, root_{root}, owner_{owner}, told_{report} {}

    template <paging::frame_set Seen>
    constexpr audit_summary run(Seen seen) {
        for (std::size_t i = 0; i < owner_.pages.size(); ++i) {
            const auto at = owner_.pages[i].at;
            if (at.empty() || (i != 0 && at.first() <= owner_.pages[i - 1].at.last())) {
                place_.add({.kind = finding_kind::disordered_list,
                            .what = owned_resource::pages,
                            .guest = owner_.guest,
                            .first = i,
                            .last = i});
                place_.flush();
                return {.findings = told_.count};
            }
        }
        auto told = [this](const paging::finding& found) { defect(found); };
        auto visit = [this](auto&, const paging::finding& at, hpa frame) { leaf(at, frame); };
        const paging::audit_summary walked =
            paging::audit_walk{format_, reader_, seen, told, visit}.run(root_);
        missing_through(~std::uint64_t{0});
        place_.flush();
        excess_.flush();
        lacking_.flush();
        cached_.flush();
        interrupts_.flush();
        return {.findings = told_.count,
                .tables = walked.tables,
                .leaves = walked.pages_4k + walked.pages_2m + walked.pages_1g};
    }

private:
    /// Whether hardware must find something mapped there.
    static constexpr bool must_be_mapped(const owned_pages& pages) {
        return !must_exit(pages.use) &&
               (Walker == page_walker::processors || pages.use == page_use::reserved_region ||
                pages.reach == memory_reach::processors_and_devices);
    }
    static constexpr bool must_exit(page_use use) {
        return is_trapped(use) &&
               !(Walker == page_walker::devices && use == page_use::reserved_region);
    }

    [[nodiscard]] constexpr finding about(finding_kind kind, std::uint64_t first,
                                          std::uint64_t last) const {
        return {.kind = kind,
                .stage = kind_of(format_),
                .guest = owner_.guest,
                .first = first,
                .last = last};
    }

    /// What is wrong with the tables themselves. Nothing is said of the addresses that the entry
    /// translates but that.
    constexpr void defect(const paging::finding& found) {
        if (found.kind == paging::finding_kind::reserved_address) {
            return; // the leaf comes as well
        }
        const bool root = found.level > format_.levels();
        const unsigned shift = root ? format_.input_width() : paging::level_shift(found.level);
        const std::uint64_t last = found.input + ((std::uint64_t{1} << shift) - 1);
        finding tell = about(finding_kind::malformed_tables, found.input, last);
        tell.host = root ? found.entry : found.table.raw;
        tell.tables = found.kind;
        tell.defect = found.defect;
        if (found.input != 0) {
            missing_through(found.input - 1);
        }
        place_.add(tell);
        done_ = last + 1;
        while (next_ < owner_.pages.size() && owner_.pages[next_].at.last().raw <= last) {
            ++next_;
        }
    }

    /// Each leaf that hardware takes, ascending. Nearly all go on where the one before ended.
    constexpr void leaf(const paging::finding& at, hpa frame) {
        const std::uint64_t last = at.input + (paging::level_size(at.level) - 1);
        if (at.input == done_ && at.table == like_.table && at.entry - frame.raw == like_.bits &&
            frame.raw - at.input == like_.distance && last < like_.end) {
            done_ = last + 1;
            return;
        }
        first_of_its_kind(at, frame, last);
    }
    [[gnu::noinline]] constexpr void first_of_its_kind(const paging::finding& at, hpa frame,
                                                       std::uint64_t last) {
        const paging::mapping<Format> page{
            {typename Format::address{at.input}, last - at.input + 1},
            {frame, static_cast<paging::page_size>(at.level),
             format_.attributes_of(at.entry, at.level)}};
        const rights_bounds rights =
            rights_of(format_, page.to.attributes) & above(at.input, at.level);
        if (!any(rights.most)) {
            return; // entries above leave no right: hardware finds nothing mapped
        }
        const bool cached = is_cached(format_, page.to.attributes, owner_.page_attribute_table);
        compare(page, rights, cached);
        like_ = {};
        if (next_ != owner_.pages.size()) {
            remember(at, frame, owner_.pages[next_], rights, cached);
        }
    }
    /// Remembers a leaf that is right, so that its neighbours need fewer questions. `owned` reaches
    /// beyond it.
    constexpr void remember(const paging::finding& at, hpa frame, const owned_pages& owned,
                            const rights_bounds& rights, bool cached) {
        const std::uint64_t begin = owned.at.first().raw;
        if (begin > at.input || !must_be_mapped(owned) ||
            frame.raw - at.input != owned.host.raw - begin ||
            any(difference(rights.most, owned.rights)) ||
            any(difference(owned.rights, rights.least)) ||
            (cached && owned.use == page_use::registers)) {
            return;
        }
        like_ = {at.table, at.entry - frame.raw, frame.raw - at.input, owned.at.last().raw};
        if constexpr (Walker == page_walker::devices) {
            // Up to where the addresses, or those that they lead to, are the interrupt range.
            const std::uint64_t from = vtd::interrupt_range.first().raw;
            for (const std::uint64_t stop : {from, from - like_.distance}) {
                const bool ahead = stop > at.input || vtd::interrupt_range.size() > at.input - stop;
                like_.end = ahead && stop < like_.end ? stop : like_.end;
            }
        }
    }

    [[gnu::noinline]] constexpr void compare(const paging::mapping<Format>& page,
                                             const rights_bounds& rights, bool cached) {
        std::uint64_t at = page.input.first().raw;
        const std::uint64_t last = page.input.last().raw;
        const auto host_of = [&page](std::uint64_t input) {
            return page.to.output.raw + (input - page.input.first().raw);
        };
        if (at != 0) {
            missing_through(at - 1);
        }
        if (touches_interrupts(page)) {
            tell_interrupts(page);
        }
        done_ = last + 1;
        while (at <= last) {
            if (next_ == owner_.pages.size() || owner_.pages[next_].at.first().raw > last) {
                finding stray = about(finding_kind::page_not_owned, at, last);
                stray.host = host_of(at);
                place_.add(stray);
                return;
            }
            const owned_pages& owned = owner_.pages[next_];
            const std::uint64_t begin = owned.at.first().raw;
            if (begin > at) {
                finding stray = about(finding_kind::page_not_owned, at, begin - 1);
                stray.host = host_of(at);
                place_.add(stray);
                at = begin;
            }
            const std::uint64_t end = owned.at.last().raw < last ? owned.at.last().raw : last;
            compare_owned(owned, at, end, host_of(at), rights, cached);
            next_ += owned.at.last().raw <= last ? 1 : 0;
            at = end + 1;
        }
    }

    /// The part `first` to `last` of what is owned, which leads to `host`.
    constexpr void compare_owned(const owned_pages& owned, std::uint64_t first, std::uint64_t last,
                                 std::uint64_t host, const rights_bounds& rights, bool cached) {
        const std::uint64_t expected = owned.host.raw + (first - owned.at.first().raw);
        finding tell = about(finding_kind::page_trapped, first, last);
        tell.host = host;
        if (must_exit(owned.use)) {
            tell.use = owned.use;
            place_.add(tell);
            return;
        }
        if (!must_be_mapped(owned)) {
            tell.kind = finding_kind::page_processors_only;
            place_.add(tell);
            return;
        }
        if (host != expected) {
            tell.kind = finding_kind::page_elsewhere;
            tell.expected = expected;
            place_.add(tell);
            return;
        }
        if (const page_rights excess = difference(rights.most, owned.rights); any(excess)) {
            tell.kind = finding_kind::page_excess_rights;
            tell.rights = excess;
            excess_.add(tell);
        }
        if (const page_rights lacking = difference(owned.rights, rights.least); any(lacking)) {
            tell.kind = finding_kind::page_lacking_rights;
            tell.rights = lacking;
            lacking_.add(tell);
        }
        if (cached && owned.use == page_use::registers) {
            tell.kind = finding_kind::registers_cached;
            tell.rights = {};
            cached_.add(tell);
        }
    }

    /// What `a` has and `b` lacks; devices fetch no instructions.
    static constexpr page_rights difference(page_rights a, page_rights b) {
        return {a.read && !b.read, a.write && !b.write,
                Walker == page_walker::processors && a.execute && !b.execute};
    }

    /// What is owned up to that address, inclusive, and was not mapped.
    constexpr void missing_through(std::uint64_t through) {
        for (; next_ < owner_.pages.size(); ++next_) {
            const owned_pages& owned = owner_.pages[next_];
            const std::uint64_t begin = owned.at.first().raw;
            if (begin > through) {
                return;
            }
            const std::uint64_t end = owned.at.last().raw;
            const std::uint64_t first = begin > done_ ? begin : done_;
            const std::uint64_t last = end < through ? end : through;
            if (first <= last && must_be_mapped(owned)) {
                finding tell = about(finding_kind::page_missing, first, last);
                tell.expected = owned.host.raw + (first - begin);
                place_.add(tell);
            }
            if (end > through) {
                return; // the rest comes later
            }
        }
    }

    [[nodiscard]] static constexpr bool touches_interrupts(const paging::mapping<Format>& page) {
        return Walker == page_walker::devices &&
               !vtd::check_interrupt_range(range{iova{page.input.first().raw}, page.input.size()},
                                           page.to.output);
    }
    /// The parts of a page that lie in the interrupt range, or lead there.
    constexpr void tell_interrupts(const paging::mapping<Format>& page) {
        using address = typename Format::address;
        const range<address> inputs = page.input;
        const range<address> from{address{vtd::interrupt_range.first().raw},
                                  vtd::interrupt_range.size()};
        const range<hpa> to{hpa{vtd::interrupt_range.first().raw}, vtd::interrupt_range.size()};
        const range<hpa> outputs{page.to.output, inputs.size()};
        const auto tell = [&](std::uint64_t offset, std::uint64_t size) {
            const std::uint64_t first = inputs.first().raw + offset;
            finding found = about(finding_kind::interrupt_range_mapped, first, first + size - 1);
            found.host = outputs.first().raw + offset;
            interrupts_.add(found);
        };
        if (const range<address> part = inputs.intersection(from); !part.empty()) {
            tell(part.first() - inputs.first(), part.size());
        } else {
            const range<hpa> led = outputs.intersection(to);
            tell(led.first() - outputs.first(), led.size());
        }
    }

    /// What the entries above the leaf of that level leave of its rights. They are looked up once
    /// for each table of leaves.
    constexpr rights_bounds above(std::uint64_t input, unsigned level) {
        const std::uint64_t table = input >> paging::level_shift(level) >> 9;
        if (level == above_level_ && table == above_table_) {
            return above_;
        }
        above_level_ = level;
        above_table_ = table;
        above_ = look_up(input, level);
        return above_;
    }
    [[gnu::noinline]] constexpr rights_bounds look_up(std::uint64_t input, unsigned leaf_level) {
        rights_bounds rights = every_right;
        hpa table = root_;
        for (unsigned level = format_.levels(); level > leaf_level; --level) {
            const std::uint64_t* const entries = reader_.entries(table);
            if (entries == nullptr) {
                return {}; // it was there a moment ago
            }
            const std::uint64_t entry =
                paging::load_entry(entries + paging::level_index(input, level));
            // What counts entries there means something else in a leaf.
            const std::uint64_t bits = entry & ~paging::live_count_mask;
            rights = rights & rights_of(format_, format_.attributes_of(bits, level));
            table = paging::frame_of<Format>(entry, level);
        }
        return rights;
    }

    Format format_;
    Reader reader_;
    hpa root_;
    const ownership& owner_;
    counted_report<Report> told_;
    finding_run<counted_report<Report>> place_{told_}; ///< at most one for each address
    finding_run<counted_report<Report>> excess_{told_};
    finding_run<counted_report<Report>> lacking_{told_};
    finding_run<counted_report<Report>> cached_{told_};
    finding_run<counted_report<Report>> interrupts_{told_};
    std::size_t next_ = 0;   ///< the first owned pages that reach beyond what was compared
    std::uint64_t done_ = 0; ///< addresses below were compared
    /// A leaf that was right, and so are all in the same table with the same bits that lead as far
    /// away and end before `end`.
    struct {
        hpa table{};
        std::uint64_t bits = 0;
        std::uint64_t distance = 0;
        std::uint64_t end = 0;
    } like_{};
    rights_bounds above_{};
    std::uint64_t above_table_ = 0;
    unsigned above_level_ = 0;
};

/// Compares what the tables of the guest's processors (EPT, nested paging) let it reach with
/// `owner.pages`: every page that is mapped and should not be, the other way round, or otherwise;
/// see finding_kind. Tables, `seen` and reader are those of paging::audit(), whose findings come as
/// malformed_tables: what lies below such an entry is not looked at, and nothing else is said of the
/// addresses that it translates. So the guest reaches what it owns and nothing else if nothing is
/// found, provided that the processor is what `format` says.
///
/// Findings of one kind are ascending. Linear: each entry is loaded once, and once more for each
/// table below it; an owned range or a large page is compared as a whole.
template <paging::entry_format Format, paging::table_reader Reader, paging::frame_set Seen,
          finding_report Report>
    requires std::same_as<typename Format::address, gpa>
constexpr audit_summary audit_pages(const Format& format, Reader reader, hpa root, Seen seen,
                                    const ownership& owner, Report&& report) {
    page_audit<page_walker::processors, Format, Reader, std::remove_reference_t<Report>> audit{
        format, reader, root, owner, report};
    return audit.run(seen);
}

/// The same for the tables that the guest's functions are put through: they must reach, at the same
/// number, all pages whose `reach` is processors_and_devices, and nothing else.
template <paging::entry_format Format, paging::table_reader Reader, paging::frame_set Seen,
          finding_report Report>
    requires std::same_as<typename Format::address, iova>
constexpr audit_summary audit_dma(const Format& format, Reader reader, hpa root, Seen seen,
                                  const ownership& owner, Report&& report) {
    page_audit<page_walker::devices, Format, Reader, std::remove_reference_t<Report>> audit{
        format, reader, root, owner, report};
    return audit.run(seen);
}

} // namespace pt::assign
