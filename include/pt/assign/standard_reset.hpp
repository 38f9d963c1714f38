// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/function_reset.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/function_reset.hpp"

namespace pt::assign {

/// The resets that [pcie] and [pci] define for any function: pci::reset_function(). It waits up to
/// some seconds by the clock.
template <pci::config_access Config, clock Clock>
class standard_reset {
public:
    constexpr standard_reset(Config config, Clock time) : config_{config}, clock_{time} {}

    /// Errors as of pci::reset_function().
    constexpr result<void> reset(pci::function_address function) {
        return pci::reset_function(config_, function, clock_);
    }

private:
    [[no_unique_address]] Config config_;
    [[no_unique_address]] Clock clock_;
};

} // namespace pt::assign
