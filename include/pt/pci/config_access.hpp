// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/function_address.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// The size of one function's configuration space in bytes, and of the part that conventional PCI
/// and configuration mechanism #1 reach.
inline constexpr std::uint16_t config_space_size = 4096;
inline constexpr std::uint16_t conventional_config_space_size = 256;

/// Whether the bus can carry it as one access: one to four neighbouring bytes of one dword. A word
/// at an odd offset inside a dword is one; an access that runs into the next dword is not.
[[nodiscard]] constexpr bool is_one_config_access(std::uint16_t offset, width size) {
    return offset < config_space_size && (offset & 3U) + size_of(size) <= 4;
}

/// The configuration space of some functions: the machine's, an emulated one's, or a filter in
/// front of another. Each call is exactly one access of that size, in program order; callers pass
/// only what is_one_config_access() allows, and values that fit the width. A function, or a part of
/// its space, that does not exist reads all ones of the width, and writes to it vanish.
template <class A>
concept config_access = policy<A> &&
    requires(A& config, function_address function, std::uint16_t offset, width size,
             std::uint32_t value) {
    { config.read(function, offset, size) } -> std::same_as<std::uint32_t>;
    { config.write(function, offset, size, value) } -> std::same_as<void>;
};

namespace archetype {

/// The least model: a machine without any function.
struct config_access {
    constexpr std::uint32_t read(function_address, std::uint16_t, width size) {
        return all_ones(size);
    }
    constexpr void write(function_address, std::uint16_t, width, std::uint32_t) {}
};
static_assert(pci::config_access<config_access>);

} // namespace archetype

} // namespace pt::pci
