// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/width.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// The memory behind the BARs of one device, for registers that a guest reaches only through the
/// VMM because they share a page with the MSI-X table. `bar` is the index of the (first) Base
/// Address register, or 6 for the expansion ROM, which is only read; the access lies inside that BAR, and need not be aligned. Each call is exactly
/// one access of that size, in program order; nothing there reads all ones.
template <class M>
concept bar_memory = policy<M> && requires(M& memory, std::uint8_t bar, std::uint64_t offset,
                                           mmio_width size, std::uint64_t value) {
    { memory.read(bar, offset, size) } -> std::same_as<std::uint64_t>;
    { memory.write(bar, offset, size, value) } -> std::same_as<void>;
};

namespace archetype {

/// The least model: nothing is there.
struct bar_memory {
    constexpr std::uint64_t read(std::uint8_t, std::uint64_t, mmio_width size) {
        return all_ones(size);
    }
    constexpr void write(std::uint8_t, std::uint64_t, mmio_width, std::uint64_t) {}
};
static_assert(pci::bar_memory<bar_memory>);

} // namespace archetype

} // namespace pt::pci
