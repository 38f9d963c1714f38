// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::lapic {

/// Something for the virtual processor itself that is no interrupt.
enum class signal_kind : std::uint8_t {
    none,
    smi,
    init, ///< INIT: the VMM puts the virtual processor in its state; the registers here are in theirs
    start_up, ///< SIPI: execution begins at the page with the number `vector`
};
struct [[nodiscard]] processor_signal {
    signal_kind kind = signal_kind::none;
    std::uint8_t vector = 0; ///< start_up: execution begins at CS base vector * 4 KiB, IP 0

    friend constexpr bool operator==(const processor_signal&, const processor_signal&) = default;
};

} // namespace pt::lapic
