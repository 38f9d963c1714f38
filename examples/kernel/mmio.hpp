// SPDX-License-Identifier: BSL-1.0
//
// Physical memory, which boot.S maps one to one.
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"

#include <cstdint>

namespace kernel {

/// narrow_mmio_io: memory at its physical address, below 4 GiB.
class mmio {
public:
    explicit constexpr mmio(pt::hpa base) : base_{base} {}

    std::uint8_t read8(std::uint32_t offset) { return at<std::uint8_t>(offset); }
    std::uint16_t read16(std::uint32_t offset) { return at<std::uint16_t>(offset); }
    std::uint32_t read32(std::uint32_t offset) { return at<std::uint32_t>(offset); }
    std::uint64_t read64(std::uint32_t offset) { return at<std::uint64_t>(offset); }
    void write8(std::uint32_t offset, std::uint8_t value) { at<std::uint8_t>(offset) = value; }
    void write16(std::uint32_t offset, std::uint16_t value) { at<std::uint16_t>(offset) = value; }
    void write32(std::uint32_t offset, std::uint32_t value) { at<std::uint32_t>(offset) = value; }
    void write64(std::uint32_t offset, std::uint64_t value) { at<std::uint64_t>(offset) = value; }

private:
    template <class Word>
    volatile Word& at(std::uint32_t offset) {
        return *reinterpret_cast<volatile Word*>(static_cast<std::uintptr_t>(base_.raw + offset));
    }

    pt::hpa base_;
};

/// dma_memory: the memory of a frame or more from a physical address on. mmio's accesses are whole,
/// and the compiler neither leaves them out nor moves them.
using dma_memory = mmio;

/// barrier: x86 keeps the order of stores and of loads to write-back memory, so it is the compiler
/// that must not change it.
struct barrier {
    void release() { asm volatile("" : : : "memory"); }
    void acquire() { asm volatile("" : : : "memory"); }
};

/// The memory at a physical address, for the processor.
template <class T = std::uint64_t>
T* pointer_to(pt::hpa place) {
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(place.raw));
}

static_assert(pt::narrow_mmio_io<mmio> && pt::dma_memory<dma_memory> && pt::barrier<barrier>);

} // namespace kernel
