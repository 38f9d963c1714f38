// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/local_wire.hpp"

#include <concepts>
#include <cstdint>

namespace pt::lapic {

/// The host's level-triggered interrupt lines that stand behind one line of a guest, by number 0..63. The
/// numbers are the VMM's.
///
/// - mask(n): from now on line n does not interrupt, whatever its level is.
/// - unmask(n): from now on it does, and at once if it is asserted.
template <class L>
concept host_lines = policy<L> && requires(L& lines, std::uint32_t n) {
    { lines.mask(n) } -> std::same_as<void>;
    { lines.unmask(n) } -> std::same_as<void>;
};

/// A level-triggered line of the guest: a pin of its virtual I/O APIC, or of its 8259. (Not LINT0 and
/// LINT1 of a virtual local APIC: that is its owner's, and looks at the pin anew before the EOI is told.)
/// set() comes from whatever CPU takes the host's interrupt.
///
/// set(level): the level of the line from now on. Said only when it changes; in the beginning it is
/// deasserted.
template <class L>
concept guest_line = policy<L> && requires(L& line, wire_level level) {
    { line.set(level) } -> std::same_as<void>;
};

namespace archetype {

/// The least model: lines that nothing asserts.
struct host_lines {
    constexpr void mask(std::uint32_t) {}
    constexpr void unmask(std::uint32_t) {}
};
static_assert(lapic::host_lines<host_lines>);

/// The least model: a line that leads nowhere.
struct guest_line {
    constexpr void set(wire_level) {}
};
static_assert(lapic::guest_line<guest_line>);

} // namespace archetype

} // namespace pt::lapic
