// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/pci/config_access.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// A register that has a fixed place in configuration space: `Register::offset` in bytes.
template <class R>
concept config_register =
    std::derived_from<R, reg<R, typename R::word>> && sizeof(typename R::word) <= 4 && requires {
    { R::offset } -> std::convertible_to<std::uint16_t>;
    requires is_one_config_access(R::offset, static_cast<width>(sizeof(typename R::word)));
};

/// Reads register R with one access of its own size.
template <config_register R, config_access Config>
[[nodiscard]] constexpr R read(Config& config, function_address function) {
    constexpr auto size = static_cast<width>(sizeof(typename R::word));
    return R{static_cast<typename R::word>(config.read(function, R::offset, size))};
}

/// Writes register R with one access of its own size, and so never its neighbours: writing Command
/// does not clear what Status reports.
template <config_register R, config_access Config>
constexpr void write(Config& config, function_address function, R value) {
    constexpr auto size = static_cast<width>(sizeof(typename R::word));
    config.write(function, R::offset, size, value.raw);
}

} // namespace pt::pci
