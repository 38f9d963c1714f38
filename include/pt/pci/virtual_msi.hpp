// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/pci/interrupt_route.hpp"

#include <cstdint>

namespace pt::pci {

/// What the registers of an MSI capability say [pci].
struct msi_state {
    bool enabled = false;
    std::uint8_t vectors_log2 = 0; ///< of the vectors in use: 0..5, and what is reserved is 5
    std::uint64_t address = 0;
    std::uint16_t data = 0;
    std::uint32_t mask = 0; ///< bit i: vector i is masked

    friend constexpr bool operator==(const msi_state&, const msi_state&) = default;
};

/// MSI as a guest programs it: which vectors are open, with which messages, and what is pending.
template <interrupt_route Route>
class virtual_msi {
public:
    explicit constexpr virtual_msi(Route route) : route_{route} {}

    /// The guest has changed the registers. The route hears of each vector for which something is
    /// different now; what was pending and is no longer masked is sent.
    constexpr void program(const msi_state& state) {
        const std::uint32_t before = open_;
        const msi_state old = state_;
        state_ = state;
        state_.vectors_log2 = state.vectors_log2 < 5 ? state.vectors_log2 : std::uint8_t{5};
        open_ = state.enabled ? in_use() & ~state.mask : 0;
        for (std::uint16_t vector = 0; vector < 32; ++vector) {
            const std::uint32_t bit = std::uint32_t{1} << vector;
            const interrupt_source source{interrupt_kind::msi, vector};
            if ((open_ & bit) == 0) {
                if ((before & bit) != 0) {
                    route_.close(source);
                }
                continue;
            }
            if ((before & bit) == 0 || message(old, vector) != message(state_, vector)) {
                route_.open(source, message(state_, vector));
            }
            if ((pending_ & bit) != 0) {
                pending_ &= ~bit;
                route_.send(source, message(state_, vector));
            }
        }
    }

    /// Power-on state.
    constexpr void reset() {
        program({});
        pending_ = 0;
    }

    /// The device requests an interrupt: it is sent, or pending while it is masked. A vector that is
    /// not in use is errc::out_of_range with its number; of a capability that is off,
    /// errc::refused.
    constexpr result<void> request(std::uint16_t vector) {
        if (!state_.enabled) {
            return error{errc::refused, vector};
        }
        if (vector >= 32 || (in_use() >> vector & 1) == 0) {
            return error{errc::out_of_range, vector};
        }
        if ((open_ >> vector & 1) != 0) {
            route_.send({interrupt_kind::msi, vector}, message(state_, vector));
        } else {
            pending_ |= std::uint32_t{1} << vector;
        }
        return {};
    }

    /// The Pending Bits register.
    [[nodiscard]] constexpr std::uint32_t pending() {
        std::uint32_t bits = pending_ & in_use();
        for (std::uint16_t vector = 0; state_.enabled && vector < 32; ++vector) {
            const std::uint32_t bit = std::uint32_t{1} << vector;
            if ((in_use() & ~open_ & bit) != 0 && route_.pending({interrupt_kind::msi, vector})) {
                bits |= bit;
            }
        }
        return bits;
    }

private:
    [[nodiscard]] constexpr std::uint32_t in_use() const {
        return ~std::uint32_t{0} >> (32U - (1U << state_.vectors_log2));
    }
    /// The function replaces the low bits of the data by the vector's number [pci].
    static constexpr interrupt_message message(const msi_state& state, std::uint16_t vector) {
        const std::uint32_t numbered = (std::uint32_t{1} << state.vectors_log2) - 1;
        return {state.address, (state.data & ~numbered) | vector};
    }

    [[no_unique_address]] Route route_;
    msi_state state_{};
    std::uint32_t open_ = 0;
    std::uint32_t pending_ = 0;
};

} // namespace pt::pci
