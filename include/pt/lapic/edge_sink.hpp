// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/timer.hpp"

#include <cstdint>

namespace pt::lapic {

/// A local APIC as interrupt_sink of its owner: each raise is an edge.
template <timer_clock Clock>
struct edge_sink {
    local_apic<Clock>* apic;
    constexpr void raise(std::uint8_t vector) const { apic->accept(vector, trigger_mode::edge); }
};
template <timer_clock Clock>
edge_sink(local_apic<Clock>*) -> edge_sink<Clock>;

} // namespace pt::lapic
