// SPDX-License-Identifier: BSL-1.0
//
// The two NICs of the machine (e1000e, an 82574L), which hear each other over a hub. Their rings are
// pt's, and so is the reset; interrupts are what the tests need and no more [82574].
#pragma once

#include "../../../examples/kernel/interrupts.hpp"
#include "kernel.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_ring.hpp"
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

    /// Its rings: `frame` is a zeroed one that holds the ring, which the device sees at `seen_at`. Of
    /// each direction there is one in use in the machine.
    static constexpr std::uint32_t descriptors = 64;
    using transmit_ring = pt::e1000e::tx_ring<mmio, dma_memory, barrier>;
    transmit_ring transmitter(pt::hpa frame, pt::iova seen_at,
                              pt::e1000e::tx_settings settings = {}) {
        return transmit_ring{registers_,     dma_memory{frame}, barrier{}, seen_at,
                             transmit_slots, descriptors,       settings};
    }
    using receive_ring = pt::e1000e::rx_ring<mmio, dma_memory, barrier>;
    receive_ring receiver(pt::hpa frame, pt::iova seen_at,
                          const pt::e1000e::rx_settings& settings = whatever_destination) {
        return receive_ring{registers_,    dma_memory{frame}, barrier{}, seen_at,
                            receive_slots, descriptors,       settings};
    }
    static constexpr pt::e1000e::rx_settings whatever_destination{.unicast_promiscuous = true,
                                                                  .multicast_promiscuous = true};

    /// Lets these causes request an interrupt, by MSI if that is on.
    void enable_interrupts(pt::e1000e::ims causes) { pt::write(registers_, causes); }
    /// What has happened since it was last asked.
    pt::e1000e::icr take_causes() { return pt::read<pt::e1000e::icr>(registers_); }

private:
    nic(mmio registers, pt::pci::function_address function)
        : registers_{registers}, function_{function} {}

    static pt::e1000e::tx_slot transmit_slots[descriptors];
    static pt::e1000e::rx_slot receive_slots[descriptors];

    mmio registers_;
    pt::pci::function_address function_;
};

} // namespace kernel
