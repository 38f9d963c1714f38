// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/finding_run.hpp"
#include "pt/assign/leaf_rights.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/table_reader.hpp"

#include <cstdint>

namespace pt::assign {

/// Finds all that maps a frame of `private_frames`, whatever its rights: table_frame_reachable. Who
/// reaches the tables owns the machine. The set is what audit_pages(), audit_dma() and
/// audit_functions() of all guests left in their `seen`, and what else belongs to the VMM alone:
/// remapping tables, bitmaps, VMCS or VMCB, its own memory. `seen` is another set, empty at first.
/// What is wrong with the tables themselves is told by the others, not here.
///
/// A page costs one word of the set for each 256 KiB that it maps, and one that does lead to such
/// frames 512 questions for each 2 MiB with one in it.
template <paging::entry_format Format, paging::table_reader Reader, paging::frame_set Seen,
          paging::frame_set Private, finding_report Report>
constexpr audit_summary audit_table_frames(const Format& format, Reader reader, hpa root, Seen seen,
                                           Private private_frames, std::uint16_t guest,
                                           Report&& report) {
    counted_report<std::remove_reference_t<Report>> told{report};
    finding_run<decltype(told)> run{told};
    /// The pieces of `page`, which has some of those frames, down to single frames.
    const auto narrow = [&](const paging::mapping<Format>& page, auto& self, std::uint64_t offset,
                            unsigned level) -> void {
        const hpa host = page.to.output + offset;
        if (!private_frames.overlaps({host, paging::level_size(level)})) {
            return;
        }
        if (level == 1) {
            const std::uint64_t first = page.input.first().raw + offset;
            run.add({.kind = finding_kind::table_frame_reachable,
                     .stage = kind_of(format),
                     .guest = guest,
                     .first = first,
                     .last = first + 4 * KiB - 1,
                     .host = host.raw});
            return;
        }
        for (std::uint64_t i = 0; i != entries_per_table; ++i) {
            self(page, self, offset + i * paging::level_size(level - 1), level - 1);
        }
    };
    const paging::audit_summary walked = paging::audit_leaves(
        format, reader, root, seen, [](const paging::finding&) {},
        [&](const paging::mapping<Format>& page) {
            narrow(page, narrow, 0, static_cast<unsigned>(page.to.size));
        });
    run.flush();
    return {.findings = told.count,
            .tables = walked.tables,
            .leaves = walked.pages_4k + walked.pages_2m + walked.pages_1g};
}

} // namespace pt::assign
