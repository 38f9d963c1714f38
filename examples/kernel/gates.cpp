// SPDX-License-Identifier: BSL-1.0
#include "gates.hpp"

#include <cstddef>

extern "C" const char interrupt_stubs[]; // in boot.S, 16 bytes each

namespace kernel {
namespace {

/// A gate of the interrupt descriptor table in 64-bit mode [sdm].
struct gate {
    std::uint64_t low;
    std::uint64_t high;
};
gate gates[256];

} // namespace

void load_gates() {
    constexpr std::uint64_t code_segment = 0x08;        // as in boot.S
    constexpr std::uint64_t present_interrupt = 0x8E00; // ring 0, interrupts off inside
    for (std::size_t vector = 0; vector < 256; ++vector) {
        const auto handler = reinterpret_cast<std::uintptr_t>(interrupt_stubs + 16 * vector);
        gates[vector] = {(handler & 0xFFFF) | code_segment << 16 | present_interrupt << 32 |
                             (handler & 0xFFFF'0000) << 32,
                         handler >> 32};
    }
    struct [[gnu::packed]] {
        std::uint16_t limit;
        std::uint64_t base;
    } const pointer{sizeof gates - 1, reinterpret_cast<std::uintptr_t>(gates)};
    asm volatile("lidt %0" : : "m"(pointer), "m"(gates));
}

} // namespace kernel
