// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/config_access.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// The configuration space of one function, whoever plays it: the real one (host_function), what a
/// guest is shown of it (virtual_function_view), or a device that a VMM emulates. Accesses are as
/// with config_access, without the address.
template <class F>
concept function_config = requires(F& function, std::uint16_t offset, width size,
                                   std::uint32_t value) {
    { function.read(offset, size) } -> std::same_as<std::uint32_t>;
    { function.write(offset, size, value) } -> std::same_as<void>;
};

/// One function of a config_access, as it is: whatever a guest does arrives there.
template <config_access Config>
class host_function {
public:
    constexpr host_function(Config config, function_address function)
        : config_{config}, function_{function} {}

    [[nodiscard]] constexpr std::uint32_t read(std::uint16_t offset, width size) {
        return config_.read(function_, offset, size);
    }
    constexpr void write(std::uint16_t offset, width size, std::uint32_t value) {
        config_.write(function_, offset, size, value);
    }

private:
    [[no_unique_address]] Config config_;
    function_address function_;
};

namespace archetype {

/// The least model: a function that is not there.
struct function_config {
    constexpr std::uint32_t read(std::uint16_t, width size) { return all_ones(size); }
    constexpr void write(std::uint16_t, width, std::uint32_t) {}
};
static_assert(pci::function_config<function_config>);

} // namespace archetype

} // namespace pt::pci
