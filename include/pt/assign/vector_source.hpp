// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstdint>

namespace pt::assign {

/// `count` vectors of the host's processors in a row, none of them above 255; none at all: 0.
struct host_vector_block {
    std::uint8_t first = 0;
    std::uint16_t count = 0;

    /// Number `i` of them; there must be so many.
    [[nodiscard]] constexpr std::uint8_t operator[](unsigned i) const {
        expects(i < count, "the block has no such vector");
        return static_cast<std::uint8_t>(first + i);
    }
    [[nodiscard]] constexpr bool contains(std::uint8_t vector) const {
        return vector >= first && vector - first < count;
    }

    friend constexpr bool operator==(const host_vector_block&, const host_vector_block&) = default;
};

/// The host's vectors that devices of guests may use, of one processor.
///
/// - allocate(count): `count` vectors in a row that nobody else uses, the first a multiple of the least
///   power of two that is not below count: a device puts the number of its vector into the low bits
///   of an MSI's data [pci]. errc::out_of_range with the count when there are never so many,
///   errc::busy with it when there are not now.
/// - release(block): gives them back. No device sends them any more, but one that was sent before may
///   still wait in the processor's IRR: whoever has the vector next must not mind, or the processor
///   takes what waits before anybody has it.
/// - destination(): the local APIC id of the processor (xAPIC or x2APIC, as the machine is).
template <class S>
concept vector_source = policy<S> &&
    requires(S& source, std::uint16_t count, const host_vector_block& block) {
    { source.allocate(count) } -> std::same_as<result<host_vector_block>>;
    { source.release(block) } -> std::same_as<void>;
    { source.destination() } -> std::same_as<std::uint32_t>;
};

namespace archetype {

/// The least model: there are none.
struct vector_source {
    constexpr result<host_vector_block> allocate(std::uint16_t count) {
        return error{errc::out_of_range, count};
    }
    constexpr void release(const host_vector_block&) {}
    constexpr std::uint32_t destination() { return 0; }
};
static_assert(assign::vector_source<vector_source>);

} // namespace archetype

} // namespace pt::assign
