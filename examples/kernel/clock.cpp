// SPDX-License-Identifier: BSL-1.0
#include "clock.hpp"

#include "mmio.hpp"

namespace kernel {
namespace {

// Registers of the HPET [IA-PC HPET Specification].
constexpr pt::hpa hpet_base{0xFED0'0000};
constexpr std::uint32_t hpet_period = 0x04; ///< femtoseconds
constexpr std::uint32_t hpet_configuration = 0x10;
constexpr std::uint32_t hpet_counter = 0xF0;

} // namespace

void clock::start() { mmio{hpet_base}.write32(hpet_configuration, 1); }

std::uint64_t clock::now() {
    mmio hpet{hpet_base};
    static const std::uint64_t period = hpet.read32(hpet_period);
    for (;;) {
        // The counter has 64 bits, and QEMU takes dwords only.
        const std::uint64_t high = hpet.read32(hpet_counter + 4);
        const std::uint64_t low = hpet.read32(hpet_counter);
        if (hpet.read32(hpet_counter + 4) == high) {
            return (high << 32 | low) * period / 1'000'000;
        }
    }
}

std::uint64_t clock::tsc() { return __builtin_ia32_rdtsc(); }

std::uint32_t clock::tsc_kilohertz() {
    static std::uint32_t measured = 0;
    if (measured == 0) {
        constexpr std::uint64_t millisecond = 1'000'000;
        const std::uint64_t start = now();
        const std::uint64_t from = tsc();
        std::uint64_t passed = 0;
        while (passed < millisecond) {
            passed = now() - start;
        }
        measured = static_cast<std::uint32_t>((tsc() - from) * millisecond / passed);
    }
    return measured;
}

} // namespace kernel
