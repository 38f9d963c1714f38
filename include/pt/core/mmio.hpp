// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"

#include <concepts>
#include <cstdint>

namespace pt {

/// A register that has a fixed place in a device's register window: `Register::offset` in bytes.
template <class R>
concept mmio_register = std::derived_from<R, reg<R, typename R::word>> &&
                        (sizeof(typename R::word) == 4 || sizeof(typename R::word) == 8) &&
                        requires {
    { R::offset } -> std::convertible_to<std::uint32_t>;
};

/// Reads register R with one access of its own size.
template <mmio_register R, mmio_io Mmio>
[[nodiscard]] constexpr R read(Mmio& mmio) {
    if constexpr (sizeof(typename R::word) == 8) {
        return R{mmio.read64(R::offset)};
    } else {
        return R{mmio.read32(R::offset)};
    }
}

/// Writes register R with one access of its own size.
template <mmio_register R, mmio_io Mmio>
constexpr void write(Mmio& mmio, R value) {
    if constexpr (sizeof(typename R::word) == 8) {
        mmio.write64(R::offset, value.raw);
    } else {
        mmio.write32(R::offset, value.raw);
    }
}

} // namespace pt
