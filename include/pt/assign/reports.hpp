// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/function_address.hpp"

#include <concepts>
#include <cstdint>

namespace pt::assign {

/// Something that a guest wanted, by way of an assigned function, and did not get.
struct rejection {
    enum class subject : std::uint8_t {
        bar,          ///< a BAR is not where the guest wants it
        message,      ///< an interrupt message of the guest's reaches nobody
        interrupts,   ///< the function could not be given the kind of interrupt that the guest uses
        reset,        ///< a reset failed: the function is blocked, and vanishes
        block,        ///< it could not even be blocked; the guest's settle() tries again
        invalidation, ///< hardware did not forget what it was to; settle() tries again
    };

    pci::function_address function{}; ///< in the host; means nothing for an invalidation
    subject what = subject::bar;
    /// Of a BAR the index of its (first) register, of a message the vector, 0 for others.
    std::uint16_t number = 0;
    /// Of a BAR the place that the guest wants, of a message its address, 0 for others.
    std::uint64_t where = 0;
    error why{};

    friend constexpr bool operator==(const rejection&, const rejection&) = default;
};

/// Hears what goes on with a guest.
///
/// - rejected(what): said once for each thing, however often it is tried again.
/// - changed(): what the guest or its functions can reach is different now. For a VMM that audits
///   after every step: it notes that, and audits when the call into pt has returned.
///
/// Both are called with locks held, not always the same ones: several processors call them at the
/// same time. They do not call back. A guest can want any number of different things, one after the
/// other.
template <class R>
concept reports = policy<R> && requires(R& log, const rejection& what) {
    { log.rejected(what) } -> std::same_as<void>;
    { log.changed() } -> std::same_as<void>;
};

/// For a VMM that does not want to know.
struct no_reports {
    constexpr void rejected(const rejection&) {}
    constexpr void changed() {}
};
static_assert(reports<no_reports>);

} // namespace pt::assign
