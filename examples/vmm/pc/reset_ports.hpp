// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace vmm::pc {

/// The ways by which a PC's software resets it: the reset control register at 0xCF9, the pulse of a
/// keyboard controller (without a keyboard) at 0x64, and system control port A at 0x92. Only bytes
/// are theirs: a dword at 0xCF8 is CONFIG_ADDRESS.
class reset_ports {
public:
    [[nodiscard]] static constexpr bool has_port(std::uint16_t port) {
        return port == 0xCF9 || port == 0x60 || port == 0x64 || port == 0x92;
    }

    [[nodiscard]] constexpr std::uint8_t read(std::uint16_t port) const {
        switch (port) {
        case 0xCF9: return reset_control_;
        case 0x92: return control_a_;
        case 0x64: return 0x14; // not inhibited, passed its self-test, nothing in its buffers
        default: return 0;
        }
    }

    constexpr void write(std::uint16_t port, std::uint8_t value) {
        switch (port) {
        case 0xCF9: // bit 2 resets when it becomes 1; bits 1 and 3 say how much
            requested_ = requested_ || (value & ~reset_control_ & 4U) != 0;
            reset_control_ = value & 0x0EU;
            break;
        case 0x92: // bit 0 resets when it becomes 1; bit 1 is A20, which is always open here
            requested_ = requested_ || (value & ~control_a_ & 1U) != 0;
            control_a_ = static_cast<std::uint8_t>((value & 1U) | 2U);
            break;
        case 0x64: // pulse output port: the low bits that are 0, of which bit 0 is the reset line
            requested_ = requested_ || (value & 0xF1U) == 0xF0;
            break;
        default: break;
        }
    }

    /// The guest has reset its machine.
    [[nodiscard]] constexpr bool requested() const { return requested_; }

private:
    std::uint8_t reset_control_ = 0;
    std::uint8_t control_a_ = 2;
    bool requested_ = false;
};

} // namespace vmm::pc
