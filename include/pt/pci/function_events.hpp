// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/power_management.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// Where in the guest's ports or memory a BAR answers: at an address, or nowhere.
class bar_place {
public:
    constexpr bar_place() = default;
    explicit constexpr bar_place(std::uint64_t address) : somewhere_{true}, address_{address} {}

    [[nodiscard]] constexpr explicit operator bool() const { return somewhere_; }
    /// A port or a guest-physical address, by the kind of the BAR; 0 when it is nowhere.
    [[nodiscard]] constexpr std::uint64_t address() const { return address_; }

    friend constexpr bool operator==(const bar_place&, const bar_place&) = default;

private:
    bool somewhere_ = false;
    std::uint64_t address_ = 0;
};

/// A guest has moved a BAR, or turned its decoding on or off: unmap it from, map it to.
struct bar_change {
    bar device;     ///< the device's own BAR: what it is, its size, and its address in the host
    bar_place from; ///< where the guest reached it so far
    bar_place to;   ///< where it shall from now on

    friend constexpr bool operator==(const bar_change&, const bar_change&) = default;
};

/// What a VMM is told when a guest, by its view of a function, changes something that concerns more
/// than the view. Each call comes from inside the guest's access, and must not access the view.
///
/// - bar_changed: one call for one change of one BAR; it says where the BAR is from now on, and the
///   next change begins there. That is `to`, if all went well. It is nowhere where the VMM does not
///   allow the place: as on hardware, where something else answers there. And it is `from` where
///   nothing could be changed now. The same place is not asked for again until the guest wants
///   another one in between, or the VMM lets the view ask (virtual_function_view::retry_bars()).
/// - power_state_changed: the guest put the function into another state. The device itself is not told.
/// - reset: the guest demands a reset (function level, or by leaving D3hot). The view is at its
///   power-on state, in D0, and the VMM resets the device before the guest goes on.
template <class E>
concept function_events = policy<E> &&
    requires(E& events, const bar_change& change, power_state state) {
    { events.bar_changed(change) } -> std::same_as<bar_place>;
    { events.power_state_changed(state, state) } -> std::same_as<void>;
    { events.reset() } -> std::same_as<void>;
};

namespace archetype {

/// The least model: nothing is ever mapped.
struct function_events {
    constexpr bar_place bar_changed(const bar_change&) { return {}; }
    constexpr void power_state_changed(power_state, power_state) {}
    constexpr void reset() {}
};
static_assert(pci::function_events<function_events>);

} // namespace archetype

} // namespace pt::pci
