// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/reg.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_access.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// A register that has a fixed place in a capability: `Register::offset_in_capability` in bytes from
/// the capability's header.
template <class R>
concept capability_register =
    std::derived_from<R, reg<R, typename R::word>> && sizeof(typename R::word) <= 4 && requires {
    { R::offset_in_capability } -> std::convertible_to<std::uint16_t>;
    // Capabilities start at a multiple of 4, so this is one access wherever they lie.
    requires is_one_config_access(R::offset_in_capability,
                                  static_cast<width>(sizeof(typename R::word)));
};

/// A capability of either list.
template <class C>
concept any_capability = std::same_as<C, capability> || std::same_as<C, extended_capability>;

/// Reads register R of the capability `in`, as its list gave it, with one access of R's own size.
/// A register that would lie beyond the end of the space is not there and, as everything that is
/// not there, reads all ones.
template <capability_register R, config_access Config, any_capability Capability>
[[nodiscard]] constexpr R read(Config& config, function_address function, const Capability& in) {
    expects(in.offset % 4 == 0, "a capability starts at a multiple of 4");
    using word = typename R::word;
    if (!in.has_room(R::offset_in_capability + sizeof(word))) {
        return R{static_cast<word>(~word{0})};
    }
    const auto at = static_cast<std::uint16_t>(in.offset + R::offset_in_capability);
    return R{static_cast<word>(config.read(function, at, static_cast<width>(sizeof(word))))};
}

/// Writes register R of the capability `in` with one access of R's own size. A write to a register
/// that would lie beyond the end of the space vanishes.
template <capability_register R, config_access Config, any_capability Capability>
constexpr void write(Config& config, function_address function, const Capability& in, R value) {
    expects(in.offset % 4 == 0, "a capability starts at a multiple of 4");
    using word = typename R::word;
    if (in.has_room(R::offset_in_capability + sizeof(word))) {
        const auto at = static_cast<std::uint16_t>(in.offset + R::offset_in_capability);
        config.write(function, at, static_cast<width>(sizeof(word)), value.raw);
    }
}

} // namespace pt::pci
