// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// Where the registers of power_management are.
struct power_management_ports {
    static constexpr std::uint16_t event_block = 0x600; ///< PM1a status and enable, two bytes each
    static constexpr std::uint16_t control_block = 0x604; ///< PM1a control, two bytes
    static constexpr std::uint16_t timer_block = 0x608;   ///< 24 bits in four bytes
    static constexpr std::uint8_t sleep_type = 5;         ///< SLP_TYP of soft-off, as the DSDT says
};

/// What a FADT demands of the hardware [acpi, Fixed Hardware Registers]: PM1 event and control
/// registers without a single event, so that there is no SCI, and the power management timer. The
/// machine is in ACPI mode from the beginning. The guest turns itself off by SLP_EN.
template <pt::clock Clock>
class power_management : public power_management_ports {
public:
    static constexpr std::uint64_t frequency = 3'579'545; ///< of the timer, in Hz

    explicit constexpr power_management(Clock clock) : clock_{std::move(clock)} {}

    [[nodiscard]] static constexpr bool has_port(std::uint16_t port) {
        return port >= event_block && port < timer_block + 4;
    }

    /// One byte of the registers; wider accesses are several of these.
    [[nodiscard]] constexpr std::uint8_t read(std::uint16_t port) {
        const unsigned at = port - unsigned{event_block};
        switch (at) {
        case 2:
        case 3: return byte(enabled_, at - 2);
        case 4:
        case 5: return byte(control_ | sci_enabled, at - 4);
        case 8:
        case 9:
        case 10: return byte(at == 8 ? latch() : latched_, at - 8);
        default: return 0;
        }
    }

    constexpr void write(std::uint16_t port, std::uint8_t value) {
        const unsigned at = port - unsigned{event_block};
        switch (at) {
        case 2:
        case 3: enabled_ = replaced(enabled_, at - 2, value); break;
        case 4:
        case 5: {
            const std::uint32_t written = replaced(control_, at - 4, value);
            off_ = off_ || (written & sleep_enable) != 0;
            control_ = written & ~sleep_enable;
            break;
        }
        default: break;
        }
    }

    /// The guest has turned itself off.
    [[nodiscard]] constexpr bool is_off() const { return off_; }

private:
    static constexpr std::uint32_t sci_enabled = 1;
    static constexpr std::uint32_t sleep_enable = 1U << 13U;

    static constexpr std::uint8_t byte(std::uint32_t word, unsigned number) {
        return static_cast<std::uint8_t>(word >> 8 * number);
    }
    static constexpr std::uint32_t replaced(std::uint32_t word, unsigned number,
                                            std::uint8_t value) {
        return (word & ~(0xFFU << 8 * number)) | std::uint32_t{value} << 8 * number;
    }
    /// The bytes of one dword access are of one moment: it begins with the lowest.
    constexpr std::uint32_t latch() {
        constexpr std::uint64_t second = 1'000'000'000;
        const std::uint64_t now = clock_.now();
        const std::uint64_t ticks = now / second * frequency + now % second * frequency / second;
        latched_ = static_cast<std::uint32_t>(ticks & 0xFF'FFFF);
        return latched_;
    }

    [[no_unique_address]] Clock clock_;
    std::uint32_t enabled_ = 0;
    std::uint32_t control_ = 0;
    std::uint32_t latched_ = 0;
    bool off_ = false;
};

} // namespace vmm::pc
