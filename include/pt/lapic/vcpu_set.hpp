// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/inbox.hpp"

#include <concepts>
#include <cstdint>

namespace pt::lapic {

/// The virtual processors of one guest, by number: 0..count()-1. Any CPU calls these, any number of them
/// at the same time.
///
/// - count(): how many there are.
/// - inbox(n): what others may touch of the local APIC of virtual processor n.
/// - notify(n, how): virtual processor n looks into its inbox soon: it leaves the guest if it runs, and
///   wakes if it halts or waits. by_vector, and it runs: the notification vector will do, where the
///   processor processes posted interrupts. Called for the first message after it has looked, not for
///   each of them; never with not_needed.
template <class S>
concept vcpu_set = policy<S> && requires(S& vcpus, std::uint32_t n, notification how) {
    { vcpus.count() } -> std::same_as<std::uint32_t>;
    { vcpus.inbox(n) } -> std::same_as<inbox&>;
    { vcpus.notify(n, how) } -> std::same_as<void>;
};

namespace archetype {

/// The least model: a guest without virtual processors. Nobody asks for an inbox of it.
struct vcpu_set {
    static inline constinit lapic::inbox nobody{};

    constexpr std::uint32_t count() { return 0; }
    constexpr lapic::inbox& inbox(std::uint32_t) { return nobody; }
    constexpr void notify(std::uint32_t, notification) {}
};
static_assert(lapic::vcpu_set<vcpu_set>);

} // namespace archetype

} // namespace pt::lapic
