// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"

#include <cstdint>

namespace kernel {

/// port_io
struct ports {
    std::uint8_t in8(pt::io_port port) {
        std::uint8_t value = 0;
        asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    std::uint16_t in16(pt::io_port port) {
        std::uint16_t value = 0;
        asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    std::uint32_t in32(pt::io_port port) {
        std::uint32_t value = 0;
        asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    void out8(pt::io_port port, std::uint8_t value) {
        asm volatile("outb %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
    void out16(pt::io_port port, std::uint16_t value) {
        asm volatile("outw %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
    void out32(pt::io_port port, std::uint32_t value) {
        asm volatile("outl %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
};

static_assert(pt::port_io<ports>);

} // namespace kernel
