// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <concepts>
#include <cstdint>

namespace pt::lapic {

/// The interrupt controller behind ExtINT: the pair of 8259s of a PC.
///
/// acknowledge(): the INTA cycle. The controller takes the request with the highest priority into service
/// and says its vector, any of 0..255; if the request is gone meanwhile, it says its spurious vector.
template <class C>
concept external_controller = policy<C> && requires(C& controller) {
    { controller.acknowledge() } -> std::same_as<std::uint8_t>;
};

/// A machine without one. A message with delivery mode ExtINT, which a guest can make its device send, is
/// dropped: nobody would answer the INTA cycle.
struct no_external_controller {
    constexpr std::uint8_t acknowledge() { return 0xFF; } // what a bus reads where nothing answers
};
static_assert(external_controller<no_external_controller>);

namespace archetype {

/// The least model: its only vector is the spurious one.
struct external_controller {
    constexpr std::uint8_t acknowledge() { return 0xFF; }
};
static_assert(lapic::external_controller<external_controller>);

} // namespace archetype

} // namespace pt::lapic
