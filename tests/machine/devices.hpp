// SPDX-License-Identifier: BSL-1.0
//
// What programs that drive a QEMU machine over its socket share: time, order, edu's DMA engine, and a
// place for files.
#pragma once

#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"
#include "scratch_directory.hpp"

#include "pt/core/address.hpp"

#include <chrono>
#include <cstdint>
#include <stdexcept>

namespace machine_test {

/// clock: this machine's.
struct steady_clock {
    std::uint64_t now() {
        const auto since = std::chrono::steady_clock::now().time_since_epoch();
        return static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
    }
};

/// Every access is a message that QEMU has carried out before the next one is sent.
struct qemu_order {
    void release() {}
    void acquire() {}
};

/// edu's DMA engine, as QEMU's docs/specs/edu.txt describes it: a buffer of 4 KiB in the device,
/// and copies between that and the bus.
class edu_engine {
public:
    edu_engine(emulator::qemu& machine, pt::hpa registers) : registers_{machine, registers} {}

    void load(pt::iova from, std::uint64_t offset, std::uint64_t count = 8) {
        run(from.raw, buffer + offset, count, 1);
    }
    void store(std::uint64_t offset, pt::iova to, std::uint64_t count = 8) {
        run(buffer + offset, to.raw, count, 3);
    }
    /// The end of the buffer holds the mark, once load_mark() put it there.
    void load_mark(pt::iova from) { load(from, mark_offset); }
    void store_mark(pt::iova to) { store(mark_offset, to); }

private:
    static constexpr std::uint64_t buffer = 0x4'0000;
    static constexpr std::uint64_t mark_offset = 0xFE0;

    void run(std::uint64_t source, std::uint64_t destination, std::uint64_t count,
             std::uint64_t order) {
        registers_.write64(0x80, source);
        registers_.write64(0x88, destination);
        registers_.write64(0x90, count);
        registers_.write64(0x98, order);
        for (unsigned polls = 0; (registers_.read64(0x98) & 1) != 0; ++polls) {
            if (polls == 1'000'000) {
                throw std::runtime_error{"edu's engine does not end"};
            }
        }
    }

    emulator::qemu_mmio registers_;
};

} // namespace machine_test
