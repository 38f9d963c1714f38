// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/pci/interrupt_message.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// By which of its three ways a function requests an interrupt. At most one is in use at a time.
enum class interrupt_kind : std::uint8_t {
    intx,  ///< a wire, INTA#..INTD#, or the messages by which PCI Express stands for it
    msi,   ///< a memory write, described in configuration space
    msi_x, ///< a memory write, described in a table in one of the function's BARs
};

/// One of the interrupts of a function: the wire (vector 0), vector 0..31 of MSI, or vector 0..2047
/// of MSI-X.
struct interrupt_source {
    interrupt_kind kind = interrupt_kind::intx;
    std::uint16_t vector = 0;

    friend constexpr bool operator==(const interrupt_source&, const interrupt_source&) = default;
};

/// Brings the interrupts of an assigned device to its guest; it is told of everything by which the
/// guest changes the way.
///
/// - use(kind, vectors): from now on the guest has that kind of interrupt, and so many vectors of it,
///   whether they are masked or not: what has to be turned on at the device. One wire, or none: 0
///   vectors of intx are no interrupts at all.
/// - open(source, message): from now on, a request of the source is that message to the guest (of a
///   wire, the message means nothing). Said again when the message changes.
/// - close(source): a request is to reach nobody, because the guest masked the source or turned it
///   off.
/// - send(source, message): one request is to reach the guest now; only ever said of a source that is
///   open.
/// - pending(source): whether the device itself holds a request back, for a route that masks the
///   device's own vector while the source is closed. A route that leaves it unmasked answers false,
///   and the view remembers what arrived.
template <class R>
concept interrupt_route = policy<R> &&
    requires(R& route, interrupt_kind kind, std::uint16_t vectors, interrupt_source source,
             interrupt_message message) {
    { route.use(kind, vectors) } -> std::same_as<void>;
    { route.open(source, message) } -> std::same_as<void>;
    { route.close(source) } -> std::same_as<void>;
    { route.send(source, message) } -> std::same_as<void>;
    { route.pending(source) } -> std::same_as<bool>;
};

namespace archetype {

/// The least model: interrupts reach nobody.
struct interrupt_route {
    constexpr void use(interrupt_kind, std::uint16_t) {}
    constexpr void open(interrupt_source, interrupt_message) {}
    constexpr void close(interrupt_source) {}
    constexpr void send(interrupt_source, interrupt_message) {}
    constexpr bool pending(interrupt_source) { return false; }
};
static_assert(pci::interrupt_route<interrupt_route>);

} // namespace archetype

} // namespace pt::pci
