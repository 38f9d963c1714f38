// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"

#include <concepts>
#include <cstdint>

namespace pt::assign {

/// What the VMM itself plays for a guest: its serial port, its timers, its interrupt controllers.
///
/// - read_port, write_port: exactly one access of that size. errc::absent with the port: nobody
///   answers there. Values fit the width when they are written; of one that is read no other bits
///   count.
/// - read_memory, write_memory: likewise at a guest-physical address; errc::absent with it.
/// - end_of_interrupt(vector): a local APIC has ended a level-triggered interrupt with that vector
///   and broadcasts it to the I/O APICs [sdm].
///
/// Any processor of the guest calls these, at any time; what shares state locks it.
template <class P>
concept platform = policy<P> &&
    requires(P& devices, io_port port, width size, std::uint32_t value, gpa at, mmio_width wide,
             std::uint64_t wide_value, std::uint8_t vector) {
    { devices.read_port(port, size) } -> std::same_as<result<std::uint32_t>>;
    { devices.write_port(port, size, value) } -> std::same_as<result<void>>;
    { devices.read_memory(at, wide) } -> std::same_as<result<std::uint64_t>>;
    { devices.write_memory(at, wide, wide_value) } -> std::same_as<result<void>>;
    { devices.end_of_interrupt(vector) } -> std::same_as<void>;
};

/// A guest for which nobody plays anything.
struct no_platform {
    constexpr result<std::uint32_t> read_port(io_port port, width) {
        return error{errc::absent, port.raw};
    }
    constexpr result<void> write_port(io_port port, width, std::uint32_t) {
        return error{errc::absent, port.raw};
    }
    constexpr result<std::uint64_t> read_memory(gpa at, mmio_width) {
        return error{errc::absent, at.raw};
    }
    constexpr result<void> write_memory(gpa at, mmio_width, std::uint64_t) {
        return error{errc::absent, at.raw};
    }
    constexpr void end_of_interrupt(std::uint8_t) {}
};
static_assert(platform<no_platform>);

} // namespace pt::assign
