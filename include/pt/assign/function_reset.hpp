// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/function_address.hpp"

#include <concepts>

namespace pt::assign {

/// Brings a function into the state of power-on, so that nothing of one guest is left in it for the
/// next: reset(function). Before it the function is blocked; after it, its registers in configuration
/// space are as the host had them, and MSI and MSI-X are off.
///
/// errc::not_supported: nobody knows how, and nothing was changed. Any other error: it did not come
/// back, and must not be given to anybody.
///
/// Devices that [pcie] has no reset for have one of their own, as NICs do (e1000e/reset.hpp): a VMM
/// that knows such a device has its own model.
template <class R>
concept function_reset = policy<R> && requires(R& how, pci::function_address function) {
    { how.reset(function) } -> std::same_as<result<void>>;
};

namespace archetype {

/// The least model: nobody knows how.
struct function_reset {
    constexpr result<void> reset(pci::function_address function) {
        return error{errc::not_supported, function.function};
    }
};
static_assert(assign::function_reset<function_reset>);

} // namespace archetype

} // namespace pt::assign
