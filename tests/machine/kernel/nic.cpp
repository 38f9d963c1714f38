// SPDX-License-Identifier: BSL-1.0
#include "nic.hpp"

#include "pt/e1000e/reset.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/msi_x.hpp"

namespace kernel {

constinit pt::e1000e::tx_slot nic::transmit_slots[descriptors]{};
constinit pt::e1000e::rx_slot nic::receive_slots[descriptors]{};

pt::result<nic> nic::open(pt::pci::function_address function) {
    pt::result<mmio> registers = open_function(function);
    if (!registers) {
        return registers.error();
    }
    if (const auto reset = pt::e1000e::reset(*registers, clock{}); !reset) {
        return reset.error();
    }
    if (const auto link = pt::e1000e::set_link_up(*registers); !link) {
        return link.error();
    }
    return nic{*registers, function};
}

void nic::request_interrupt() {
    using namespace pt::e1000e;
    pt::write(registers_, ims{ims::rxdmt0(true)});
    pt::write(registers_, ics{ics::rxdmt0(true)});
}

void nic::acknowledge_interrupts() {
    using namespace pt::e1000e;
    pt::write(registers_, imc{~std::uint32_t{0}});
    pt::write(registers_, icr{~std::uint32_t{0}});
}

pt::result<void> nic::enable_msi_x(std::uint8_t reception, std::uint8_t transmission) {
    namespace pci = pt::pci;
    port_config access = config();
    const auto found = pci::capabilities(access, function_).find(pci::capability_id::msi_x, 12);
    if (!found) {
        return found.error();
    }
    using control = pci::msi_x_message_control;
    pci::write(access, function_, *found,
               pci::read<control>(access, function_, *found)
                   .with(control::enable(true), control::function_mask(false)));
    using namespace pt::e1000e;
    pt::write(registers_, ivar{ivar::txq0_valid(true), ivar::txq0(transmission),
                               ivar::rxq0_valid(true), ivar::rxq0(reception)});
    pt::write(registers_, ims{ims::rxq0(true), ims::txq0(true)});
    return {};
}

void nic::request_reception_interrupt() {
    using pt::e1000e::ics;
    pt::write(registers_, ics{ics::rxq0(true)});
}
void nic::request_transmission_interrupt() {
    using pt::e1000e::ics;
    pt::write(registers_, ics{ics::txq0(true)});
}

pt::result<void> nic::set_msi_x_message(std::uint8_t vector, pt::pci::msi_message message) {
    namespace pci = pt::pci;
    port_config access = config();
    const auto layout = pci::read_msi_x(access, function_);
    if (!layout) {
        return layout.error();
    }
    for (const pt::result<pci::bar>& held : pci::read_bars(access, function_)) {
        if (held && held->index == layout->table.bar && held->kind != pci::bar_kind::io &&
            held->address != 0 && vector < layout->vectors) {
            mmio table{pt::hpa{held->address + layout->table.offset + 16U * vector}};
            table.write32(0, static_cast<std::uint32_t>(message.address));
            table.write32(4, static_cast<std::uint32_t>(message.address >> 32));
            table.write32(8, message.data);
            table.write32(12, 0); // not masked
            return {};
        }
    }
    return pt::error{pt::errc::absent, vector};
}

void nic::disable_msi_x() {
    namespace pci = pt::pci;
    port_config access = config();
    acknowledge_interrupts();
    if (const auto found =
            pci::capabilities(access, function_).find(pci::capability_id::msi_x, 12)) {
        using control = pci::msi_x_message_control;
        pci::write(access, function_, *found,
                   pci::read<control>(access, function_, *found).with(control::enable(false)));
    }
}

} // namespace kernel
