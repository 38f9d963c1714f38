// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/pci.hpp"
#include "guest_pc.hpp"
#include "host.hpp"
#include "log.hpp"
#include "mapped_bars.hpp"
#include "nic_reset.hpp"

#include "pt/assign/assigned_device.hpp"
#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/msi_x_table.hpp"

#include <cstdint>

namespace vmm {

/// Where the guest finds its NIC.
inline constexpr pt::pci::function_address nic_in_guest{0, 0, 3, 0};

/// A NIC of the host, for one guest.
template <class V>
class guest_nic {
public:
    /// `interrupts` and `wire`: how its interrupts reach the host, and the guest.
    guest_nic(guest_pc<V>& to, const host_function& nic, typename V::interrupts interrupts,
              typename V::wire wire)
        : nic_{nic},
          bars_{nic.at},
          device_{to.guest(),
                  nic.at,
                  {.config = kernel::config(),
                   .registers = bars_,
                   .interrupts = interrupts,
                   .wire = wire,
                   .reset = nic_reset{bars_},
                   .vectors = vectors_,
                   .vector_count = sizeof vectors_ / sizeof vectors_[0]}} {}
    guest_nic(const guest_nic&) = delete;
    guest_nic& operator=(const guest_nic&) = delete;

    /// From now on it is the guest's, as after power-on and as firmware leaves it: with its BARs at
    /// places that are free. `line`: what its Interrupt Line says; 0xFF: nothing.
    pt::result<void> assign(std::uint8_t line = 0xFF) {
        const auto done = device_.assign({.at = nic_in_guest});
        if (done) {
            place_bars();
            constexpr std::uint16_t interrupt_line = 0x3C;
            device_.view().write(interrupt_line, pt::width::byte, line);
        }
        return done;
    }
    /// It is nobody's, and reset.
    pt::result<void> remove() { return device_.remove(); }

    [[nodiscard]] const host_function& host() const { return nic_; }
    [[nodiscard]] pt::assign::assigned_device<V>& device() { return device_; }

private:
    /// From the I/O APIC down; ports at their own numbers, so that they need no translation. Nothing is
    /// decoded there before the guest says so.
    void place_bars() {
        std::uint64_t next = 0xFEC0'0000;
        for (const pt::result<pt::pci::bar>& each : device_.bars()) {
            if (!each || each->kind == pt::pci::bar_kind::rom) {
                continue;
            }
            std::uint64_t place = each->address;
            if (each->kind != pt::pci::bar_kind::io) {
                next = (next - each->size) & ~(each->size - 1);
                place = next;
            }
            device_.view().write(each->offset, pt::width::dword, static_cast<std::uint32_t>(place));
        }
    }

    host_function nic_;
    mapped_bars bars_;
    pt::pci::msi_x_vector vectors_[8]{};
    pt::assign::assigned_device<V> device_;
};

} // namespace vmm
