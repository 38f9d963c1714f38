// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/dma_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/requester.hpp"

namespace pt::assign {

/// A function whose requests nobody translates.
class unprotected_function {
public:
    explicit constexpr unprotected_function(vtd::requester who) : who_{who} {}
    [[nodiscard]] constexpr const vtd::requester& who() const { return who_; }

private:
    vtd::requester who_;
};

/// DMA on a machine without IOMMU: what a device puts on the bus is host-physical, so that it works
/// for a guest whose memory is at the same numbers in guest and host, and for no other.
///
/// It isolates nothing. A function reaches all of the host's memory for as long as it is a bus
/// master (Command), whatever is said here: only for a guest that is trusted, or a machine that has
/// nothing to lose.
struct unprotected_dma {
    using attachment_type = unprotected_function;

    static constexpr bool isolates = false;

    /// errc::refused with the guest-physical address where it is not that of the host memory: the
    /// device would reach somebody else's.
    constexpr result<void> map(range<gpa> memory, hpa to) {
        return memory.first().raw == to.raw ? result<void>{}
                                            : error{errc::refused, memory.first().raw};
    }
    constexpr result<void> unmap(range<gpa>) { return {}; }
    constexpr result<void> attach(attachment_type&) { return {}; }
    constexpr result<void> block(attachment_type&) { return {}; }
    constexpr result<void> release(attachment_type&) { return {}; }
    constexpr result<void> settle() { return {}; }
};
static_assert(dma_path<unprotected_dma>);

} // namespace pt::assign
