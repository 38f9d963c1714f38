// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace pt::vcpu {

/// Which way bits of a permission bitmap went that the processor consults at each IN, OUT, RDMSR or
/// WRMSR of the guest. A processor that has not seen an opened bit yet only exits once too often.
/// One that has not seen a closed bit yet still lets its guest through: until it has left the
/// guest, nobody may believe that the guest has lost what was closed.
struct [[nodiscard]] bitmap_change {
    bool opened = false; ///< something does not exit any more
    bool closed = false; ///< something exits from now on

    constexpr bitmap_change& operator|=(bitmap_change other) {
        opened = opened || other.opened;
        closed = closed || other.closed;
        return *this;
    }
    friend constexpr bool operator==(const bitmap_change&, const bitmap_change&) = default;
};

} // namespace pt::vcpu
