// SPDX-License-Identifier: BSL-1.0
//
// The network controller, as a driver finds it: a member of the 8254x or 82574 families, wherever
// it is on the bus, with whatever kinds of interrupts it has [82574].
#pragma once

#include "clock.hpp"

#include "../../kernel/mmio.hpp"
#include "../../kernel/pci.hpp"

#include "pt/core/mmio.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/msi_x.hpp"

#include <cstdint>

namespace guest {

enum class interrupt_kind : std::uint8_t { msi_x, msi, wire };
const char* name(interrupt_kind kind);

/// Six bytes, the first one first.
struct mac_address {
    std::uint8_t bytes[6]{};
};
void show(const mac_address& address);
inline constexpr mac_address everybody{{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}};

class nic {
public:
    /// The one that the command line names (nic=00:04.0), or else the first. errc::absent: there is
    /// none; or the errors of sizing its registers.
    static pt::result<nic> find();

    [[nodiscard]] pt::pci::function_address function() const { return function_; }
    [[nodiscard]] pt::e1000e::family members() const { return members_; }
    [[nodiscard]] const pt::pci::bar_list& bars() const { return bars_; }
    /// Its registers: BAR 0, where it is now.
    [[nodiscard]] const pt::pci::bar& memory() const { return memory_; }
    [[nodiscard]] kernel::mmio registers() const { return kernel::mmio{pt::hpa{memory_.address}}; }
    /// The BAR by which the same registers are reached through ports; errc::absent.
    [[nodiscard]] pt::result<pt::pci::bar> ports() const;

    /// Reads the BARs' addresses anew: after somebody else has moved one.
    void look_again();
    /// Puts BAR 0 somewhere else, decoding off meanwhile.
    pt::result<void> move_memory(std::uint64_t address);

    /// Command: decoding and bus mastering on, or all off.
    void turn_on() const;
    void turn_off() const;

    /// On, reset, link up, all of its interrupts off.
    [[nodiscard]] pt::result<void> bring_up();
    /// Nothing decoded, no DMA, no interrupt; reset before.
    [[nodiscard]] pt::result<void> shut_down();

    /// What it sends comes back to it, from its PHY, until bring_up(). errc::time_out: its PHY does
    /// not answer.
    [[nodiscard]] pt::result<void> loop_back();
    [[nodiscard]] mac_address address() const;

    // Interrupts.
    [[nodiscard]] bool has(interrupt_kind kind) const;
    /// The first kind that it has, or the one of the command line (interrupts=msi).
    [[nodiscard]] interrupt_kind best_kind() const;
    /// Has it request its interrupts in that way, all with that vector here, and lets those of
    /// packets and of request_interrupt() through. A wire is looked for at the inputs of the I/O
    /// APIC; then the vector is that of the input. Gives the vector. errc::absent: it does not
    /// arrive at any input.
    [[nodiscard]] pt::result<std::uint8_t> use(interrupt_kind kind, std::uint8_t vector);
    /// No interrupt any more, of any kind.
    void use_none();
    /// Has it request one.
    void request_interrupt();
    /// At the device: which causes count at all.
    void mask();
    void unmask();
    /// MSI-X: vector 0 in its table, or in the capability all of them.
    void mask_message(bool masked);
    [[nodiscard]] bool is_message_pending() const;
    /// The table of MSI-X, and how many vectors it has.
    [[nodiscard]] pt::result<pt::pci::msi_x_layout> msi_x() const;
    [[nodiscard]] pt::result<kernel::mmio> msi_x_table() const;
    [[nodiscard]] pt::result<kernel::mmio> msi_x_pending_bits() const;
    /// The input of the I/O APIC that was found.
    [[nodiscard]] unsigned input() const { return input_; }

private:
    nic(pt::pci::function_address function, pt::e1000e::family members)
        : function_{function}, members_{members} {}

    [[nodiscard]] std::uint32_t enabled_causes() const;
    [[nodiscard]] pt::result<void> write_phy_control(std::uint16_t value);
    [[nodiscard]] pt::result<std::uint8_t> find_input();
    [[nodiscard]] bool arrives_at(unsigned input);
    [[nodiscard]] pt::result<kernel::mmio> part(const pt::pci::bar_part& where) const;

    pt::pci::function_address function_;
    pt::e1000e::family members_;
    pt::pci::bar_list bars_{};
    pt::pci::bar memory_{};
    bool loops_back_ = false;
    interrupt_kind kind_ = interrupt_kind::wire;
    unsigned input_ = 0; ///< 0: not known yet
};

/// The interrupt causes that the NIC's handler has seen since it was last asked.
std::uint32_t take_causes();

} // namespace guest
