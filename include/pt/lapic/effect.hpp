// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/lapic/message.hpp"

#include <cstdint>

namespace pt::lapic {

/// What an EOI ended.
struct [[nodiscard]] end_of_interrupt {
    std::uint8_t vector = 0; ///< the vector that left ISR; 0: none was in service, nothing happened
    bool broadcast = false;  ///< level-triggered: the I/O APICs hear of it (re-sample, unmask)

    friend constexpr bool operator==(const end_of_interrupt&, const end_of_interrupt&) = default;
};

/// What a guest's write asks of the rest of the machine.
enum class effect_kind : std::uint8_t {
    nothing,
    send,             ///< an IPI: `command` is for the bus
    end_of_interrupt, ///< `ended` says what, and whether the I/O APICs are to hear of it
    base_changed,     ///< the register page moved, or the mode is another: base(), current_mode()
};
struct [[nodiscard]] effect {
    effect_kind kind = effect_kind::nothing;
    message command{};
    end_of_interrupt ended{};

    friend constexpr bool operator==(const effect&, const effect&) = default;
};

} // namespace pt::lapic
