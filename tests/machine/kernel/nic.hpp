// SPDX-License-Identifier: BSL-1.0
//
// The two NICs of the machine (e1000e, an 82574L), which hear each other over a hub. Transmission
// is pt's; reception and the interrupt are what the tests need and no more [82574].
#pragma once

#include "interrupts.hpp"
#include "kernel.hpp"

#include "pt/e1000e/tx_ring.hpp"

#include <cstdint>

namespace kernel {

class nic {
public:
    /// Where the runner plugs them in.
    static constexpr pt::pci::function_address first{0, 0, 3, 0};
    static constexpr pt::pci::function_address second{0, 0, 4, 0};

    /// Resets it, and sets the link up.
    static pt::result<nic> open(pt::pci::function_address function);

    /// Requests an interrupt, by MSI if that is on: lets a cause count, and sets it. For the next
    /// one, acknowledge first.
    void request_interrupt();
    void acknowledge_interrupts();

    /// The same with MSI-X: causes RxQ0 and TxQ0 get these vectors of the table, and both count.
    /// Their messages come before, by set_msi_x_message().
    pt::result<void> enable_msi_x(std::uint8_t reception, std::uint8_t transmission);
    void request_reception_interrupt();
    void request_transmission_interrupt();
    /// Writes a vector's message into the table, unmasked.
    pt::result<void> set_msi_x_message(std::uint8_t vector, pt::pci::msi_message message);
    void disable_msi_x();

    /// The ring for pt: `frame` is a zeroed one that holds it, which the device sees at `seen_at`.
    using ring = pt::e1000e::tx_ring<mmio, dma_memory, barrier>;
    static constexpr std::uint32_t descriptors = 64;
    ring transmitter(pt::hpa frame, pt::iova seen_at) {
        return ring{registers_, dma_memory{frame}, barrier{}, seen_at, slots, descriptors};
    }

    /// Gives it one buffer of 2 KiB for the next frame of whatever destination. `frame` is a zeroed
    /// one for the ring; the device sees both where it is told.
    void receive(pt::hpa frame, pt::iova ring_seen_at, pt::iova buffer_seen_at);
    /// The length of the frame that was received, without its checksum; 0 as long as none was.
    std::uint16_t received();

private:
    nic(mmio registers, pt::pci::function_address function)
        : registers_{registers}, function_{function} {}

    static pt::e1000e::tx_slot slots[descriptors]; ///< of the one ring in use

    mmio registers_;
    pt::pci::function_address function_;
    dma_memory reception_{pt::hpa{}};
};

} // namespace kernel
