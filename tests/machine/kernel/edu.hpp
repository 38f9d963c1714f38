// SPDX-License-Identifier: BSL-1.0
//
// QEMU's edu: a device that copies memory to and from a buffer of its own, and raises an interrupt
// on demand. Its registers are as QEMU's docs/specs/edu describes them.
#pragma once

#include "../../../examples/kernel/interrupts.hpp"
#include "kernel.hpp"

#include <cstdint>

namespace kernel {

class edu {
public:
    /// Where the runner plugs it in.
    static constexpr pt::pci::function_address place{0, 0, 5, 0};

    static pt::result<edu> open(pt::pci::function_address function = place);

    /// Most bytes of one DMA. The buffer has twice as many, but a DMA that leaves it ends QEMU, and
    /// 7.2 takes one of the whole buffer for such a one.
    static constexpr std::uint64_t largest_dma = 2048;

    /// DMA of `size` bytes, at most largest_dma, between memory as the device sees it and the start
    /// of its buffer. True when the device is done, after 100 ms; it is done as well when its
    /// requests were blocked, and tells nobody.
    bool load(pt::iova from, std::uint64_t size) {
        begin_load(from, size);
        return wait_until([this] { return !is_busy(); });
    }
    bool store(pt::iova to, std::uint64_t size) {
        begin_store(to, size);
        return wait_until([this] { return !is_busy(); });
    }

    /// The same in two steps: until is_busy() says no, the device may reach for that memory at any
    /// time. 7.2 does it all at once, at the end of the 100 ms.
    void begin_load(pt::iova from, std::uint64_t size) { begin(from.raw, buffer, size, start); }
    void begin_store(pt::iova to, std::uint64_t size) {
        begin(buffer, to.raw, size, start | out_of_buffer);
    }
    bool is_busy();

    /// Requests an interrupt, by MSI if that is on.
    void request_interrupt();
    /// Has it forget what it requested: with an interrupt line, the line goes down.
    void acknowledge_interrupts();

private:
    static constexpr std::uint64_t buffer = 0x40000; ///< its place in the device's own addresses

    // The command's bits.
    static constexpr std::uint64_t start = 1U << 0; ///< and busy, when it is read
    static constexpr std::uint64_t out_of_buffer = 1U << 1;

    explicit edu(mmio registers) : registers_{registers} {}
    void begin(std::uint64_t from, std::uint64_t to, std::uint64_t size, std::uint64_t command);

    mmio registers_;
};

} // namespace kernel
