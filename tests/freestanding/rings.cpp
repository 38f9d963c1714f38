// SPDX-License-Identifier: BSL-1.0
//
// The driver's rings with all of their members, as a kernel's compiler makes them; see passthrough.cpp.

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <cstdint>

namespace kernel {

struct mapped_registers {
    volatile std::uint32_t* base;

    std::uint32_t read32(std::uint32_t at) { return base[at / 4]; }
    std::uint64_t read64(std::uint32_t at) {
        return *reinterpret_cast<volatile std::uint64_t*>(base + at / 4);
    }
    void write32(std::uint32_t at, std::uint32_t v) { base[at / 4] = v; }
    void write64(std::uint32_t at, std::uint64_t v) {
        *reinterpret_cast<volatile std::uint64_t*>(base + at / 4) = v;
    }
};

struct ring_memory {
    volatile std::uint64_t* base;

    std::uint64_t read64(std::uint32_t at) { return base[at / 8]; }
    void write64(std::uint32_t at, std::uint64_t v) { base[at / 8] = v; }
};

struct strongly_ordered {
    void release() { asm volatile("" ::: "memory"); }
    void acquire() { asm volatile("" ::: "memory"); }
};

using transmit = pt::e1000e::tx_ring<mapped_registers, ring_memory, strongly_ordered>;

pt::result<void> send(transmit& ring, pt::gpa at, std::uint32_t length) {
    ring.reclaim([](std::uint64_t) {});
    return ring.send({{pt::iova{at.raw}, length}}, at.raw);
}

} // namespace kernel

template class pt::e1000e::tx_ring<kernel::mapped_registers, kernel::ring_memory,
                                   kernel::strongly_ordered>;
template class pt::e1000e::rx_ring<kernel::mapped_registers, kernel::ring_memory,
                                   kernel::strongly_ordered>;
