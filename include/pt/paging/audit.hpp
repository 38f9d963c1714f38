// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/table_reader.hpp"

#include <cstdint>

/// Audits of translation tables that anybody may have written: live ones, or those in a dump.
/// Nothing that the tables hold is trusted. Each frame is read at most once as a table, and each of
/// its entries once, so that the time is bounded by the frames that `seen` can take.
namespace pt::paging {

/// What an audit finds.
enum class finding_kind : std::uint8_t {
    misaligned_root,    ///< the root is no multiple of 4 KiB, e.g. it is an EPTP with flags
    refused_entry,      ///< the hardware would refuse the entry; finding.defect says why
    beyond_input_width, ///< present, but all that it translates is beyond the input width
    outside,            ///< points to a frame that `seen` does not take
    unreadable,         ///< points to a frame that the reader does not have
    loop,               ///< points to a table on the way to itself
    used_twice,         ///< points to a table that was met before, not on the way to itself
    reserved_address,   ///< a leaf to or from where the format allows none (0xFEE00000 in VT-d)
    forbidden,          ///< a leaf that maps a frame of a set that must not be reached
};

/// The name of the kind as it is written in `finding_kind`.
[[nodiscard]] constexpr const char* name(finding_kind kind) {
    switch (kind) {
    case finding_kind::misaligned_root: return "misaligned_root";
    case finding_kind::refused_entry: return "refused_entry";
    case finding_kind::beyond_input_width: return "beyond_input_width";
    case finding_kind::outside: return "outside";
    case finding_kind::unreadable: return "unreadable";
    case finding_kind::loop: return "loop";
    case finding_kind::used_twice: return "used_twice";
    case finding_kind::reserved_address: return "reserved_address";
    case finding_kind::forbidden: return "forbidden";
    }
    return "unknown";
}

/// One thing that is wrong, and the entry that shows it. For the root itself, the root's address
/// stands for the entry, one level above the root's own, in no table.
struct finding {
    finding_kind kind = finding_kind::misaligned_root;
    entry_defect defect = entry_defect::none; ///< only of a refused_entry
    unsigned level = 0;      ///< of the table that holds the entry; levels() + 1 for the root
    unsigned index = 0;      ///< of the entry in its table, 0 to 511
    hpa table{};             ///< the table that holds the entry
    std::uint64_t input = 0; ///< the first address that the entry translates; not sign-extended
    std::uint64_t entry = 0; ///< as it was read

    friend constexpr bool operator==(const finding&, const finding&) = default;
};

/// A function object that is called with each finding.
template <class R>
concept audit_report = requires(R&& report, const finding& found) {
    report(found);
};

/// A function object that is called with each leaf.
template <class V, class Format>
concept leaf_visitor = requires(V&& visit, const mapping<Format>& leaf) {
    visit(leaf);
};

/// What an audit went through.
struct audit_summary {
    std::uint64_t tables = 0; ///< tables that were read, the root included
    std::uint64_t pages_4k = 0;
    std::uint64_t pages_2m = 0;
    std::uint64_t pages_1g = 0;
    std::uint64_t findings = 0;

    [[nodiscard]] constexpr bool clean() const { return findings == 0; }
    /// Bytes of input that leaves map; a table that is used twice counts once.
    [[nodiscard]] constexpr std::uint64_t mapped() const {
        return pages_4k * level_size(1) + pages_2m * level_size(2) + pages_1g * level_size(3);
    }

    friend constexpr bool operator==(const audit_summary&, const audit_summary&) = default;
};

/// One audit under way; the functions below are the way to it.
template <entry_format Format, table_reader Reader, frame_set Seen, class Report, class Visit>
class audit_walk {
public:
    constexpr audit_walk(Format format, Reader reader, Seen seen, Report& report, Visit& visit)
        : format_{format}, reader_{reader}, seen_{seen}, report_{report}, visit_{visit} {
        expects(format.levels() <= most_levels, "a tree has at most 5 levels");
    }

    constexpr audit_summary run(hpa root) {
        const finding at{.level = format_.levels() + 1, .entry = root.raw};
        if (!root.is_aligned(4 * KiB)) {
            tell(at, finding_kind::misaligned_root);
        } else if ((root.raw >> format_.output_width()) != 0) {
            tell(at, finding_kind::refused_entry, entry_defect::address_width);
        } else {
            table(root, at);
        }
        return summary_;
    }

    constexpr void tell(finding at, finding_kind kind, entry_defect defect = entry_defect::none) {
        at.kind = kind;
        at.defect = defect;
        ++summary_.findings;
        report_(at);
    }

private:
    static constexpr unsigned most_levels = 5;

    /// The table that the entry of `at` points to. It calls itself, by way of entry(), no deeper
    /// than there are levels.
    constexpr void table(hpa frame, const finding& at) {
        for (unsigned level = at.level; level <= format_.levels(); ++level) {
            if (path_[level - 1] == frame) {
                return tell(at, finding_kind::loop);
            }
        }
        switch (seen_.insert(frame)) {
        case insertion::inserted: break;
        case insertion::present: return tell(at, finding_kind::used_twice);
        case insertion::outside: return tell(at, finding_kind::outside);
        }
        const std::uint64_t* const entries = reader_.entries(frame);
        if (entries == nullptr) {
            return tell(at, finding_kind::unreadable);
        }
        ++summary_.tables;
        finding below{.level = at.level - 1, .table = frame, .input = at.input};
        path_[below.level - 1] = frame;
        for (below.index = 0; below.index < entries_per_table; ++below.index) {
            below.entry = load_entry(entries + below.index);
            if (format_.is_present(below.entry)) {
                entry(below);
            }
            below.input += level_size(below.level);
        }
    }

    constexpr void entry(const finding& at) {
        if ((at.input >> format_.input_width()) != 0) {
            return tell(at, finding_kind::beyond_input_width);
        }
        const entry_defect defect = format_.defect(at.entry, at.level);
        if (defect != entry_defect::none) {
            return tell(at, finding_kind::refused_entry, defect);
        }
        const hpa frame = frame_of<Format>(at.entry, at.level);
        if (!is_leaf<Format>(at.entry, at.level)) {
            return table(frame, at);
        }
        summary_.pages_4k += at.level == 1 ? 1 : 0;
        summary_.pages_2m += at.level == 2 ? 1 : 0;
        summary_.pages_1g += at.level == 3 ? 1 : 0;
        using address = typename Format::address;
        if (!format_.check(range{address{at.input}, level_size(at.level)}, frame)) {
            tell(at, finding_kind::reserved_address);
        }
        visit_(*this, at, frame);
    }

    Format format_;
    Reader reader_;
    Seen seen_;
    Report& report_;
    Visit& visit_;
    hpa path_[most_levels]{}; ///< the tables from the root down to where the walk is, by level
    audit_summary summary_;
};

/// Goes through the tables under `root` as the hardware that `format` describes could, and reports
/// all that is wrong with them; see finding_kind. It goes no further below an entry that it
/// reports.
///
/// Table frames are put into `seen`. A frame that is in it before counts as used twice: an audit
/// of several trees with one set finds frames that two of them share. A set over the memory in
/// which tables may lie finds tables that lie elsewhere.
///
/// In a tree without findings each table is used once, and no access faults for the form of an
/// entry. The walk goes no deeper than there are levels, whatever the tables hold. Tables that
/// somebody changes meanwhile can show what was never there at one moment, and nothing worse.
template <entry_format Format, table_reader Reader, frame_set Seen, audit_report Report>
constexpr audit_summary audit(Format format, Reader reader, hpa root, Seen seen, Report&& report) {
    auto ignore = [](auto&, const finding&, hpa) {};
    return audit_walk{format, reader, seen, report, ignore}.run(root);
}

/// As audit(); and every leaf that the hardware takes is given to `visit`, ascending by input,
/// with the attributes of the leaf alone: entries above it can only take rights away. The leaves
/// of a table that is used twice are visited where it is met first; in a tree without findings
/// these are all leaves there are.
template <entry_format Format, table_reader Reader, frame_set Seen, audit_report Report,
          leaf_visitor<Format> Visit>
constexpr audit_summary audit_leaves(Format format, Reader reader, hpa root, Seen seen,
                                     Report&& report, Visit&& visit) {
    auto leaf = [&format, &visit](auto&, const finding& at, hpa frame) {
        using address = typename Format::address;
        visit(mapping<Format>{
            {address{at.input}, level_size(at.level)},
            {frame, static_cast<page_size>(at.level), format.attributes_of(at.entry, at.level)}});
    };
    return audit_walk{format, reader, seen, report, leaf}.run(root);
}

/// As audit(); and every leaf that maps any part of a frame in `forbidden` is found, whatever its
/// rights. Who can write to his own tables owns the machine: the set of table frames that an
/// audit() filled is to be forbidden in a second pass, with another set for `seen`.
template <entry_format Format, table_reader Reader, frame_set Seen, frame_set Forbidden,
          audit_report Report>
constexpr audit_summary audit_reach(Format format, Reader reader, hpa root, Seen seen,
                                    Forbidden forbidden, Report&& report) {
    auto leaf = [&forbidden](auto& walk, const finding& at, hpa frame) {
        if (forbidden.overlaps(range{frame, level_size(at.level)})) {
            walk.tell(at, finding_kind::forbidden);
        }
    };
    return audit_walk{format, reader, seen, report, leaf}.run(root);
}

} // namespace pt::paging
