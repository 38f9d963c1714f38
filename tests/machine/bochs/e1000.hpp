// SPDX-License-Identifier: BSL-1.0
//
// Bochs' network controller, an 82540EM (8254x family, no MSI, nothing of PCI Express), brought up by pt
// alone. Which of Bochs' network modules it is connected to is the runner's choice.
#pragma once

#include "../kernel/kernel.hpp"

#include "pt/core/result.hpp"

#include <cstdint>

namespace kernel {

/// Where its registers are put. Firmware has put them elsewhere.
inline constexpr pt::hpa e1000_place{0xD000'0000};

/// Finds it, sizes and places its BAR, turns memory decoding and bus mastering on, and resets it. Each
/// step is a check. Gives its registers.
pt::result<mmio> bring_up_e1000();

/// Writes a packet, byte by byte; numbers with their high byte first.
class packet_writer {
public:
    explicit packet_writer(pt::hpa place) : start_{pointer_to<std::uint8_t>(place)} {}

    void byte(std::uint32_t value) { start_[size_++] = static_cast<std::uint8_t>(value); }
    void word(std::uint32_t value) {
        byte(value >> 8);
        byte(value);
    }
    void dword(std::uint32_t value) {
        word(value >> 16);
        word(value);
    }
    /// Over what is there already.
    void word_at(std::uint32_t place, std::uint16_t value) {
        start_[place] = static_cast<std::uint8_t>(value >> 8);
        start_[place + 1] = static_cast<std::uint8_t>(value);
    }
    [[nodiscard]] std::uint32_t size() const { return size_; }
    [[nodiscard]] const std::uint8_t* start() const { return start_; }

private:
    std::uint8_t* start_;
    std::uint32_t size_ = 0;
};

} // namespace kernel
