// SPDX-License-Identifier: BSL-1.0
//
// The ports and the memory of a QEMU machine as pt's policies.
#pragma once

#include "qemu.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"

#include <cstdint>

namespace emulator {

/// port_io: the machine's I/O ports.
class qemu_ports {
public:
    explicit qemu_ports(qemu& machine) : machine_{&machine} {}

    std::uint8_t in8(pt::io_port port) { return machine_->in8(port.raw); }
    std::uint16_t in16(pt::io_port port) { return machine_->in16(port.raw); }
    std::uint32_t in32(pt::io_port port) { return machine_->in32(port.raw); }
    void out8(pt::io_port port, std::uint8_t value) { machine_->out8(port.raw, value); }
    void out16(pt::io_port port, std::uint16_t value) { machine_->out16(port.raw, value); }
    void out32(pt::io_port port, std::uint32_t value) { machine_->out32(port.raw, value); }

private:
    qemu* machine_;
};
static_assert(pt::port_io<qemu_ports>);

/// narrow_mmio_io: a device's registers, or any other window of the machine's memory.
class qemu_mmio {
public:
    qemu_mmio(qemu& machine, pt::hpa base) : machine_{&machine}, base_{base} {}

    std::uint8_t read8(std::uint32_t offset) { return machine_->read8((base_ + offset).raw); }
    std::uint16_t read16(std::uint32_t offset) { return machine_->read16((base_ + offset).raw); }
    std::uint32_t read32(std::uint32_t offset) { return machine_->read32((base_ + offset).raw); }
    std::uint64_t read64(std::uint32_t offset) { return machine_->read64((base_ + offset).raw); }
    void write8(std::uint32_t offset, std::uint8_t value) {
        machine_->write8((base_ + offset).raw, value);
    }
    void write16(std::uint32_t offset, std::uint16_t value) {
        machine_->write16((base_ + offset).raw, value);
    }
    void write32(std::uint32_t offset, std::uint32_t value) {
        machine_->write32((base_ + offset).raw, value);
    }
    void write64(std::uint32_t offset, std::uint64_t value) {
        machine_->write64((base_ + offset).raw, value);
    }

private:
    qemu* machine_;
    pt::hpa base_;
};
static_assert(pt::narrow_mmio_io<qemu_mmio>);

} // namespace emulator
