// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "fake_unit.hpp"

#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/register_invalidator.hpp"
#include "pt/vtd/root_table.hpp"
#include "pt/vtd/unit.hpp"

#include <cstddef>
#include <cstdint>

/// pt's side of a fake unit: its driver and tables over the fake's registers and memory.
namespace vtd_model {

template <class Hardware>
using unit_of = pt::vtd::unit<registers<Hardware>, fake_clock<Hardware>>;
template <class Hardware>
using root_table_of = pt::vtd::root_table<frames<Hardware>, publisher<Hardware>>;
template <class Hardware>
using domain_of =
    pt::paging::table<pt::vtd::second_stage::format, frames<Hardware>, publisher<Hardware>>;
template <class Hardware>
using invalidator_of = pt::vtd::register_invalidator<unit_of<Hardware>>;

/// The driver of a unit that must be there.
template <class Hardware>
constexpr unit_of<Hardware> driver(Hardware& hardware) {
    return unit_of<Hardware>::attach({&hardware}, 4096, {&hardware}).value();
}
template <class Hardware>
constexpr pt::vtd::second_stage::format format_of(Hardware& hardware, unsigned levels = 4) {
    return pt::vtd::second_stage::format{
        driver(hardware).limits(levels, hardware.host_address_width).value()};
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
/// Everything that happened since the journal was forgotten.
template <class Hardware, std::size_t N>
constexpr bool happened(const Hardware& hardware, const event (&expected)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
        if (i >= hardware.events || !(hardware.journal[i] == expected[i])) {
            return false;
        }
    }
    return hardware.events == N;
}

constexpr event store(std::uint64_t where, std::uint64_t value) {
    return {event::kind::publish, where, value};
}
constexpr event order32(std::uint64_t where, std::uint64_t value) {
    return {event::kind::write32, where, value};
}
constexpr event order64(std::uint64_t where, std::uint64_t value) {
    return {event::kind::write64, where, value};
}

} // namespace vtd_model
