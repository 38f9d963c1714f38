// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "fake_unit.hpp"

#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/domain_invalidator.hpp"
#include "pt/vtd/unit.hpp"

#include <cstddef>
#include <cstdint>

/// pt's side of a fake unit: its driver, and second-stage tables, over the fake's registers and
/// memory.
namespace vtd_model {

template <class Hardware>
using policies_of = pt::vtd::policies<registers<Hardware>, fake_clock<Hardware>, frames<Hardware>,
                                      publisher<Hardware>, wide_store<Hardware>>;
template <class Hardware>
using unit_of = pt::vtd::unit<policies_of<Hardware>>;
/// Tables of a guest, without a domain around them.
template <class Hardware>
using tables_of =
    pt::paging::table<pt::vtd::second_stage::format, frames<Hardware>, publisher<Hardware>>;

template <class Hardware>
constexpr policies_of<Hardware> policies(Hardware& hardware) {
    return {.clock = {&hardware},
            .memory = {&hardware},
            .publication = {&hardware},
            .wide_store = {&hardware}};
}
/// As firmware describes it, with a window of 4 KiB.
constexpr pt::vtd::drhd described(std::uint64_t window = 4096) {
    pt::vtd::drhd place;
    place.register_base = pt::hpa{0xFED9'0000};
    place.register_set_size = window;
    return place;
}
template <class Hardware>
constexpr pt::result<unit_of<Hardware>> take(Hardware& hardware, pt::vtd::unit_options chosen = {},
                                             std::uint64_t window = 4096) {
    return unit_of<Hardware>::take(policies(hardware), {&hardware}, described(window), chosen);
}
/// The driver of a unit that must be there.
template <class Hardware>
constexpr unit_of<Hardware> driver(Hardware& hardware, pt::vtd::unit_options chosen = {}) {
    return take(hardware, chosen).value();
}
constexpr pt::vtd::unit_options by_registers() {
    return {.invalidation = pt::vtd::invalidation_interface::registers};
}
constexpr pt::vtd::unit_options in_scalable_mode() {
    return {.mode = pt::vtd::table_mode::scalable};
}

template <class Hardware>
constexpr pt::vtd::second_stage::format format_of(Hardware& hardware, unsigned levels = 4) {
    return pt::vtd::second_stage::format{
        pt::vtd::second_stage::limits_of(pt::vtd::capability{hardware.cap},
                                         pt::vtd::extended_capability{hardware.ecap}, levels,
                                         hardware.host_address_width)
            .value()};
}

/// A frame that somebody else has, as hardware sees it: empty.
template <class Hardware>
constexpr std::uint64_t foreign_frame(Hardware& hardware) {
    const std::uint64_t frame =
        frames<Hardware>{&hardware}.allocate(pt::frame_contents::any).value().raw;
    for (std::uint64_t at = frame; at < frame + 4096; at += 8) {
        hardware.write(at, 0);
    }
    return frame;
}

/// Register writes since the journal was forgotten, in order, compared with `expected`.
template <class Hardware, std::size_t N>
constexpr bool wrote(const Hardware& hardware, const event (&expected)[N]) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < hardware.events; ++i) {
        const event& e = hardware.journal[i];
        if (e.what == event::kind::write32 || e.what == event::kind::write64) {
            if (n == N || !(e == expected[n++])) {
                return false;
            }
        }
    }
    return n == N;
}
/// How many there were.
template <class Hardware>
constexpr std::size_t register_writes(const Hardware& hardware) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < hardware.events; ++i) {
        const event::kind what = hardware.journal[i].what;
        n += what == event::kind::write32 || what == event::kind::write64 ? 1 : 0;
    }
    return n;
}

constexpr event order32(std::uint64_t where, std::uint64_t value) {
    return {event::kind::write32, where, value};
}
constexpr event order64(std::uint64_t where, std::uint64_t value) {
    return {event::kind::write64, where, value};
}

} // namespace vtd_model
