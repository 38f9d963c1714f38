// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/list_of.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <utility>

/// The isolation audit between guests.
namespace pt::assign {

/// A row of something that one guest owns, as numbers; both ends inclusive.
struct claimed_numbers {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint16_t guest = 0;
};

/// How many claimed_numbers audit_sharing() needs: of the resource of which the guests have most.
[[nodiscard]] constexpr std::size_t room_for_sharing(list_of<ownership> guests) {
    std::size_t pages = 0;
    std::size_t ports = 0;
    std::size_t functions = 0;
    std::size_t domains = 0;
    std::size_t vectors = 0;
    for (const ownership& guest : guests) {
        pages += guest.pages.size();
        ports += guest.ports.size();
        functions += guest.functions.size();
        domains += guest.domains.size();
        vectors += guest.vectors.size();
    }
    std::size_t most = 0;
    for (const std::size_t count : {pages, ports, functions, domains, vectors}) {
        most = count > most ? count : most;
    }
    return most;
}

/// One audit under way; the function below is the way to it.
template <class Report>
class sharing_audit {
public:
    constexpr sharing_audit(list_of<ownership> guests, claimed_numbers* room, Report& report)
        : guests_{guests}, room_{room}, told_{report} {}

    constexpr audit_summary run() {
        compare(owned_resource::pages, &ownership::pages, [](const owned_pages& pages) -> row {
            const bool in_host =
                pages.use != page_use::local_apic && pages.use != page_use::emulated;
            return {pages.host.raw, in_host ? pages.at.size() : 0};
        });
        compare(owned_resource::ports, &ownership::ports, [](const owned_ports& ports) -> row {
            return {ports.host.raw, ports.at.size()};
        });
        compare(owned_resource::functions, &ownership::functions,
                [](const owned_function& function) -> row {
                    return {std::uint64_t{function.address.segment} << 16 |
                            (function.place() & 0xFFFF)};
                });
        compare(owned_resource::domain_ids, &ownership::domains,
                [](const owned_domain& domain) -> row {
                    return {std::uint64_t{domain.unit} << 16 | domain.through.domain_id()};
                });
        compare(owned_resource::table_roots, &ownership::domains,
                [](const owned_domain& domain) -> row {
                    return {domain.through.second_stage_root().raw,
                            domain.through.has_second_stage() ? 1U : 0U};
                });
        compare(owned_resource::interrupt_entry, &ownership::vectors,
                [](const owned_vector& vector) -> row { return {vector.place()}; });
        compare(owned_resource::host_vector, &ownership::vectors,
                [](const owned_vector& vector) -> row {
                    return {std::uint64_t{vector.to.destination_id} << 8 | vector.to.vector,
                            vector.descriptor == hpa{0} ? 1U : 0U};
                });
        compare(owned_resource::descriptors, &ownership::vectors,
                [](const owned_vector& vector) -> row {
                    return {vector.descriptor.raw, vector.descriptor != hpa{0} ? 64U : 0U};
                });
        return {.findings = told_.count, .leaves = claims_};
    }

private:
    /// What an element of a list stands for; of size 0: nothing.
    struct row {
        std::uint64_t first;
        std::uint64_t size = 1;
    };

    /// Tells what two guests have of the same: row_of(element) of that list, guest by guest.
    template <class T, class RowOf>
    constexpr void compare(owned_resource what, list_of<T> ownership::*list, RowOf row_of) {
        for (const ownership& guest : guests_) {
            for (const T& each : guest.*list) {
                if (const row numbers = row_of(each); numbers.size != 0) {
                    room_[used_++] = {numbers.first, numbers.first + (numbers.size - 1),
                                      guest.guest};
                }
            }
        }
        tell_overlaps(what);
    }

    /// Tells what two guests have claimed, and forgets all claims.
    constexpr void tell_overlaps(owned_resource what) {
        sort();
        // Of what was met so far, only the claim that reaches farthest matters: where two guests
        // overlap, it covers the place as well, and is not of both.
        claimed_numbers farthest{};
        for (std::size_t i = 0; i != used_; ++i) {
            const claimed_numbers& next = room_[i];
            if (i != 0 && next.first <= farthest.last && next.guest != farthest.guest) {
                const bool ascending = farthest.guest < next.guest;
                told_({.kind = finding_kind::shared,
                       .what = what,
                       .guest = ascending ? farthest.guest : next.guest,
                       .other = ascending ? next.guest : farthest.guest,
                       .first = next.first,
                       .last = next.last < farthest.last ? next.last : farthest.last});
            }
            if (i == 0 || next.last > farthest.last) {
                farthest = next;
            }
        }
        claims_ += used_;
        used_ = 0;
    }

    /// Ascending by `first`; a heap, since it needs no more room and has no bad case.
    constexpr void sort() {
        for (std::size_t i = used_ / 2; i-- != 0;) {
            sink(i, used_);
        }
        for (std::size_t end = used_; end > 1;) {
            --end;
            std::swap(room_[0], room_[end]);
            sink(0, end);
        }
    }
    constexpr void sink(std::size_t at, std::size_t end) {
        for (std::size_t child = 2 * at + 1; child < end; child = 2 * at + 1) {
            if (child + 1 < end && room_[child].first < room_[child + 1].first) {
                ++child;
            }
            if (room_[child].first <= room_[at].first) {
                return;
            }
            std::swap(room_[at], room_[child]);
            at = child;
        }
    }

    list_of<ownership> guests_;
    claimed_numbers* room_;
    counted_report<Report> told_;
    std::size_t used_ = 0;
    std::uint64_t claims_ = 0;
};

/// Finds what two owners have in common (`guest` of a finding is the lower number): host pages and
/// ports, functions, domain ids and roots of tables, entries of remapping tables, host vectors at one
/// destination, posted-interrupt descriptors. The VMM can be one of the owners. What the lists say is what the tables are audited
/// against; so both together prove that guests share nothing. That they share no frame of their
/// tables, the audits of the tables find when all get the same `seen` (malformed_tables, used_twice).
///
/// n numbers cost n log n, in the `count` elements at `room`. errc::out_of_range with
/// room_for_sharing() when that is more.
template <finding_report Report>
constexpr result<audit_summary> audit_sharing(list_of<ownership> guests, claimed_numbers* room,
                                              std::size_t count, Report&& report) {
    if (const std::size_t needed = room_for_sharing(guests); needed > count) {
        return error{errc::out_of_range, needed};
    }
    return sharing_audit<std::remove_reference_t<Report>>{guests, room, report}.run();
}

} // namespace pt::assign
