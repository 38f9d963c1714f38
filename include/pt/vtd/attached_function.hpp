// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/function_address.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd {

/// A function that is put through a translation, with what an invalidation of its device TLB has to
/// say besides. What is needed only then has defaults that are right for every function but a
/// virtual one: a bare address is enough.
struct attached_function {
    pci::function_address address;
    /// The source id of the physical function, which counts the invalidations for its virtual ones:
    /// the function's own, unless it is virtual.
    std::uint16_t physical_function = 0;
    /// How many invalidations its device TLB takes before it pushes back, 1 to 32: the ATS
    /// capability says it, and 1 is right for all.
    std::uint8_t invalidate_queue_depth = 1;
    /// Whether ATS is on in the function. While it is off the device TLB is empty [pcie], and
    /// nothing would answer an invalidation.
    bool device_tlb_is_on = true;

    // NOLINTNEXTLINE(google-explicit-constructor): for most functions the address is all there is
    constexpr attached_function(pci::function_address function)
        : address{function},
          physical_function{function.valid() ? function.source_id() : std::uint16_t{0}} {}
    constexpr attached_function(pci::function_address function, std::uint16_t physical,
                                std::uint8_t queue_depth)
        : address{function}, physical_function{physical}, invalidate_queue_depth{queue_depth} {}

    /// As invalidations of its device TLB want it. The address must be valid().
    [[nodiscard]] constexpr vtd::device_tlb device_tlb(extended_capability ecap) const {
        const bool counted = ecap[extended_capability::device_tlb_invalidation_throttle];
        return {.source_id = address.source_id(),
                .physical_function_source_id = counted ? physical_function : std::uint16_t{0},
                .invalidate_queue_depth = invalidate_queue_depth};
    }

    friend constexpr bool operator==(const attached_function&, const attached_function&) = default;
};

} // namespace pt::vtd
