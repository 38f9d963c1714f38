// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/finding_run.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/range.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// The isolation audit of ports.
namespace pt::assign {

/// Compares the I/O bitmaps `a` and `b` of VMX, 512 qwords each, with `owner.ports`. All of the
/// guest's processors must be given the same bitmaps, or each pair be audited; "unconditional I/O
/// exiting" and the absence of bitmaps are the VMM's own affair. An access that runs past port
/// 0xFFFF exits by itself there.
template <finding_report Report>
constexpr audit_summary audit_ports(const std::uint64_t* a, const std::uint64_t* b,
                                    const ownership& owner, Report&& report) {
    using told_type = counted_report<std::remove_reference_t<Report>>;
    told_type told{report};
    for (std::size_t i = 0; i < owner.ports.size(); ++i) {
        const auto at = owner.ports[i].at;
        if (at.empty() || (i != 0 && at.first() <= owner.ports[i - 1].at.last())) {
            told({.kind = finding_kind::disordered_list,
                  .what = owned_resource::ports,
                  .guest = owner.guest,
                  .first = i,
                  .last = i});
            return {.findings = told.count};
        }
    }
    finding_run<told_type> run{told};
    const owned_ports* next = owner.ports.begin();
    for (std::uint32_t port = 0; port < 0x1'0000; ++port) {
        const std::uint64_t* const page = port < 0x8000 ? a : b;
        const std::uint64_t word = atomic::load_relaxed(page + port % 0x8000 / 64);
        const bool is_open = (word >> port % 64 & 1) == 0;
        while (next != owner.ports.end() && next->at.last().raw < port) {
            ++next;
        }
        const bool owned = next != owner.ports.end() && next->at.first().raw <= port;
        if (!is_open && !(owned && next->way == port_way::open)) {
            if (port % 64 == 0 && word == ~std::uint64_t{0} &&
                (next == owner.ports.end() || next->at.first().raw >= port + 64)) {
                port += 63; // all closed, and nobody's
            }
            continue;
        }
        finding tell{.kind = finding_kind::port_not_owned,
                     .guest = owner.guest,
                     .first = port,
                     .last = port};
        const bool of_configuration =
            vmx::io_bitmap::protected_ports.contains(io_port{static_cast<std::uint16_t>(port)});
        if (!is_open) {
            tell.kind = finding_kind::port_closed;
        } else if (of_configuration) {
            tell.kind = finding_kind::config_port_open;
        } else if (owned && next->way == port_way::open) {
            if (next->host == next->at.first()) {
                continue; // as it should be
            }
            tell.kind = finding_kind::port_not_forwarded; // cannot be open: the numbers differ
        } else if (owned) {
            tell.kind = finding_kind::port_not_forwarded;
        }
        if (tell.kind == finding_kind::port_not_forwarded) {
            tell.expected = next->host.raw + (port - next->at.first().raw);
        }
        run.add(tell);
    }
    run.flush();
    return {.findings = told.count, .tables = 2, .leaves = 0x1'0000};
}

/// The same for SVM's I/O permissions map, three pages that lie together. The bits behind that of
/// port 0xFFFF decide about accesses that run past it: port_wrap_open [amd].
template <finding_report Report>
constexpr audit_summary audit_ports(const std::uint64_t* permissions, const ownership& owner,
                                    Report&& report) {
    constexpr std::size_t page = vmx::io_bitmap::words_per_page;
    audit_summary all = audit_ports(permissions, permissions + page, owner, report);
    if ((~atomic::load_relaxed(permissions + 2 * page) & 0b111) != 0) {
        ++all.findings;
        report(finding{.kind = finding_kind::port_wrap_open,
                       .guest = owner.guest,
                       .first = 0xFFFF,
                       .last = 0xFFFF});
    }
    ++all.tables;
    return all;
}

} // namespace pt::assign
