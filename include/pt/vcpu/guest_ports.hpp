// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"

#include <concepts>
#include <cstdint>

namespace pt::vcpu {

/// What answers at the guest's I/O ports: a device model, or the real device. Each call is exactly
/// one access of that size; a value that is written fits it, of one that is read no other bits
/// count. An error means that nothing was done, and reaches whoever runs the instruction.
template <class P>
concept guest_ports = policy<P> &&
    requires(P& ports, io_port port, width size, std::uint32_t value) {
    { ports.read(port, size) } -> std::same_as<result<std::uint32_t>>;
    { ports.write(port, size, value) } -> std::same_as<result<void>>;
};

/// The guest's port is the host's port of the same number. Which ports the guest may reach so is
/// for the VMM to decide before.
template <port_io Host>
class forwarded_ports {
public:
    explicit constexpr forwarded_ports(Host host) : host_{host} {}

    [[nodiscard]] constexpr result<std::uint32_t> read(io_port port, width size) {
        switch (size) {
        case width::byte: return std::uint32_t{host_.in8(port)};
        case width::word: return std::uint32_t{host_.in16(port)};
        case width::dword: break;
        }
        return host_.in32(port);
    }

    constexpr result<void> write(io_port port, width size, std::uint32_t value) {
        switch (size) {
        case width::byte: host_.out8(port, static_cast<std::uint8_t>(value)); break;
        case width::word: host_.out16(port, static_cast<std::uint16_t>(value)); break;
        case width::dword: host_.out32(port, value); break;
        }
        return {};
    }

private:
    [[no_unique_address]] Host host_;
};

namespace archetype {

/// The least model: nobody answers for any port.
struct guest_ports {
    constexpr result<std::uint32_t> read(io_port port, width) {
        return error{errc::absent, port.raw};
    }
    constexpr result<void> write(io_port port, width, std::uint32_t) {
        return error{errc::absent, port.raw};
    }
};
static_assert(vcpu::guest_ports<guest_ports>);

} // namespace archetype

} // namespace pt::vcpu
