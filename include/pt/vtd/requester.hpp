// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/pci/function_address.hpp"

namespace pt::vtd {

/// A function that sends requests, and the one by which the scopes of a DMAR table know it: itself,
/// but for functions that no scope names and that are under the scope of another one [vt-d].
/// Context entries are for `function`, lookups in the table are by `named`.
class requester {
public:
    /// A function that is named itself. The address must be valid().
    // NOLINTNEXTLINE(google-explicit-constructor): nearly every function is one
    constexpr requester(pci::function_address function) : requester{function, function, function} {}

    /// A virtual function (SR-IOV): as its physical function, even when it is on another bus.
    [[nodiscard]] static constexpr requester virtual_function(pci::function_address function,
                                                              requester physical_function) {
        return {function, physical_function.named(), physical_function.function()};
    }
    /// A function with a number above 7 of a device with Alternative Routing-ID Interpretation,
    /// whose device number is bits 7:3 of that number: as function 0 of the device.
    [[nodiscard]] static constexpr requester extended_function(pci::function_address function) {
        return {function, {function.segment, function.bus, 0, 0}, function};
    }

    [[nodiscard]] constexpr pci::function_address function() const { return function_; }
    [[nodiscard]] constexpr pci::function_address named() const { return named_; }
    /// The physical function of a virtual one; any other function itself.
    [[nodiscard]] constexpr pci::function_address physical_function() const { return physical_; }

    friend constexpr bool operator==(const requester&, const requester&) = default;

private:
    constexpr requester(pci::function_address function, pci::function_address named,
                        pci::function_address physical)
        : function_{function}, named_{named}, physical_{physical} {
        expects(function.valid() && named.valid(), "a requester has an address that a bus carries");
    }

    pci::function_address function_;
    pci::function_address named_;
    pci::function_address physical_;
};

} // namespace pt::vtd
