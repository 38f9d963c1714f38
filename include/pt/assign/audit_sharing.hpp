// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
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
        for (const ownership& guest : guests_) {
            for (const owned_pages& pages : guest.pages) {
                const bool in_host =
                    pages.use != page_use::local_apic && pages.use != page_use::emulated;
                claim(in_host, pages.host.raw, pages.at.size(), guest);
            }
        }
        compare(owned_resource::pages);
        for (const ownership& guest : guests_) {
            for (const owned_ports& ports : guest.ports) {
                claim(true, ports.host.raw, ports.at.size(), guest);
            }
        }
        compare(owned_resource::ports);
        for (const ownership& guest : guests_) {
            for (const owned_function& function : guest.functions) {
                claim(true,
                      std::uint64_t{function.address.segment} << 16 | (function.place() & 0xFFFF),
                      1, guest);
            }
        }
        compare(owned_resource::functions);
        for (const ownership& guest : guests_) {
            for (const owned_domain& domain : guest.domains) {
                claim(true, std::uint64_t{domain.unit} << 16 | domain.through.domain_id(), 1,
                      guest);
            }
        }
        compare(owned_resource::domain_ids);
        for (const ownership& guest : guests_) {
            for (const owned_domain& domain : guest.domains) {
                claim(domain.through.has_second_stage(), domain.through.second_stage_root().raw, 1,
                      guest);
            }
        }
        compare(owned_resource::table_roots);
        for (const ownership& guest : guests_) {
            for (const owned_vector& vector : guest.vectors) {
                claim(true, vector.place(), 1, guest);
            }
        }
        compare(owned_resource::interrupt_entry);
        for (const ownership& guest : guests_) {
            for (const owned_vector& vector : guest.vectors) {
                claim(vector.descriptor == hpa{0},
                      std::uint64_t{vector.to.destination_id} << 8 | vector.to.vector, 1, guest);
            }
        }
        compare(owned_resource::host_vector);
        for (const ownership& guest : guests_) {
            for (const owned_vector& vector : guest.vectors) {
                claim(vector.descriptor != hpa{0}, vector.descriptor.raw, 64, guest);
            }
        }
        compare(owned_resource::descriptors);
        return {.findings = told_.count, .leaves = claims_};
    }

private:
    constexpr void claim(bool exists, std::uint64_t first, std::uint64_t size,
                         const ownership& guest) {
        if (exists && size != 0) {
            room_[used_++] = {first, first + (size - 1), guest.guest};
        }
    }

    /// Tells what two guests have claimed, and forgets all claims.
    constexpr void compare(owned_resource what) {
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

/// Finds what two owners have in common (`guest` of a finding is the lower number): host pages and ports, functions, domain ids and roots of
/// tables, entries of remapping tables, host vectors at one destination, posted-interrupt
/// descriptors. The VMM can be one of the owners. What the lists say is what the tables are audited
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
