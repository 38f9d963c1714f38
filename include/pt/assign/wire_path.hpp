// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <concepts>

namespace pt::assign {

/// The wire of one function, INTA#..INTD#, on its way to the guest: the VMM's own lines, with a
/// lapic::level_route between them.
///
/// - open(): from now on the function's line interrupts the guest. Once more is a success. With an
///   error it interrupts nobody.
/// - close(): it does not any more; the host's line is masked as far as this function goes. Nothing
///   to do is a success.
///
/// `exists`: where it is false, the guest is shown a function without interrupt pin.
template <class W>
concept wire_path = policy<W> && requires(W& wire) {
    { W::exists } -> std::same_as<const bool&>;
    { wire.open() } -> std::same_as<result<void>>;
    { wire.close() } -> std::same_as<void>;
};

/// For a VMM that brings no wires to its guests: they use MSI or MSI-X, or poll.
struct no_wire {
    static constexpr bool exists = false;

    /// errc::not_supported.
    constexpr result<void> open() { return error{errc::not_supported}; }
    constexpr void close() {}
};
static_assert(wire_path<no_wire>);

} // namespace pt::assign
