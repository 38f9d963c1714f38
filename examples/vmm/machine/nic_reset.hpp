// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/pci.hpp"
#include "mapped_bars.hpp"

#include "pt/assign/function_reset.hpp"
#include "pt/assign/standard_reset.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x_table.hpp"

#include <cstdint>

namespace vmm {

/// function_reset: the way that every function may have, and where that does not do (QEMU's e1000e says
/// that D3hot resets it, and it does not; QEMU's and Bochs' e1000 have none), CTRL.RST of a NIC of the
/// 8254x and 82574 family, through BAR 0.
class nic_reset {
public:
    explicit nic_reset(mapped_bars bars) : bars_{bars} {}

    pt::result<void> reset(pt::pci::function_address function) {
        const auto standard = standard_.reset(function);
        if (standard || standard.error().code == pt::errc::time_out) {
            return standard;
        }
        kernel::port_config config = kernel::config();
        const auto members = family_of(pt::pci::read<pt::pci::identity>(config, function));
        const auto registers = bars_.registers(0);
        if (!members || !registers) {
            return standard;
        }
        // CTRL.RST leaves configuration space alone, and MSI and MSI-X are as the caller wants them to
        // be afterwards: off.
        static_cast<void>(pt::pci::disable_msi(config, function));
        static_cast<void>(pt::pci::disable_msi_x(config, function));
        const auto command = pt::pci::read<pt::pci::command>(config, function);
        pt::pci::write(config, function, command.with(pt::pci::command::memory_space(true)));
        const auto done = pt::e1000e::reset(*registers, kernel::clock{}, *members);
        pt::pci::write(config, function, command);
        return done ? pt::result<void>{} : done.error();
    }

private:
    /// errc::absent: another vendor's, or a NIC that pt does not know.
    static pt::result<pt::e1000e::family> family_of(pt::pci::identity id) {
        constexpr std::uint16_t intel = 0x8086;
        constexpr std::uint16_t of_82540em = 0x100E;
        constexpr std::uint16_t of_82574l = 0x10D3;
        const std::uint16_t device = id[pt::pci::identity::device_id];
        if (id[pt::pci::identity::vendor_id] == intel && device == of_82574l) {
            return pt::e1000e::family::pci_express;
        }
        if (id[pt::pci::identity::vendor_id] == intel && device == of_82540em) {
            return pt::e1000e::family::pci;
        }
        return pt::error{pt::errc::absent, device};
    }

    mapped_bars bars_;
    pt::assign::standard_reset<kernel::port_config, kernel::clock> standard_{kernel::config(), {}};
};
static_assert(pt::assign::function_reset<nic_reset>);

} // namespace vmm
