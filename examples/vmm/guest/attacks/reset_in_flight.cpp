// SPDX-License-Identifier: BSL-1.0
#include "raw_rings.hpp"
#include "saved_header.hpp"

#include "../interrupts.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;
using pt::e1000e::tx_descriptor;

constexpr std::uint32_t count = 64;
alignas(4096) tx_descriptor transmit_ring[count];
alignas(4096) tx_descriptor receive_ring[count];
alignas(4096) std::uint8_t from[16384];
alignas(4096) std::uint8_t to[count][2048];

/// Much to do in both directions: full rings, and what is sent comes back.
bool begin(nic& device) {
    if (!device.bring_up() || !device.loop_back()) {
        return false;
    }
    for (std::uint32_t i = 0; i != count; ++i) {
        transmit_ring[i] = whole_frame_at(address_of(from), 1514);
        receive_ring[i] = {address_of(to[i]), 0};
    }
    kernel::mmio registers = device.registers();
    start_raw_receiver(registers,
                       {.base = address_of(receive_ring), .length = 1024, .tail = count - 1});
    start_raw_transmitter(registers,
                          {.base = address_of(transmit_ring), .length = 1024, .tail = count - 1});
    return true;
}

template <class Reset>
void try_reset(nic& device, const char* what, std::uint64_t wait, Reset reset) {
    const saved_header saved{device.function()};
    bool good = true;
    for (unsigned round = 0; round != 5 && good; ++round) {
        good = begin(device);
        reset();
        if (round % 2 == 0) { // whoever does not wait, too
            kernel::mmio registers = device.registers();
            registers.write32(pt::e1000e::tdt::offset, 7);
        }
        pause_for(wait);
        saved.restore();
        pause_for(millisecond);
    }
    kernel::mmio registers = device.registers();
    good = good && pt::read<pt::e1000e::status>(registers).raw != 0xFFFF'FFFF;
    check(good, what, ", five times: the NIC is there");
    check(memory_is_intact(), "and memory is as it was");
}

} // namespace

void attack_reset_in_flight(nic& device) {
    kernel::port_config config = kernel::config();
    const pci::function_address function = device.function();
    device.turn_on();
    kernel::mmio registers = device.registers();
    try_reset(device, "CTRL.RST", millisecond, [&] {
        using pt::e1000e::ctrl;
        pt::write(registers, pt::read<ctrl>(registers).with(ctrl::rst(true)));
    });
    try_reset(device, "transmitter and receiver off, and new rings at once", millisecond, [&] {
        pt::write(registers, pt::e1000e::tctl{});
        pt::write(registers, pt::e1000e::rctl{});
        registers.write32(pt::e1000e::tdlen::offset, 0);
        registers.write32(pt::e1000e::rdbah::offset, 0x7FFF);
    });
    using pci::command;
    try_reset(device, "bus mastering off", millisecond, [&] {
        pci::write(config, function,
                   pci::read<command>(config, function).with(command::bus_master(false)));
    });
    try_reset(device, "decoding off", millisecond, [&] {
        pci::write(config, function,
                   pci::read<command>(config, function).with(command::memory_space(false)));
    });
    try_reset(device, "its registers elsewhere", millisecond,
              [&] { config.write(function, 0x10, pt::width::dword, 0xD800'0000); });
    const auto capabilities = pci::capabilities(config, function);
    if (const auto power = capabilities.find(pci::capability_id::power_management, 8)) {
        using pmcsr = pci::power_management_control_status;
        try_reset(device, "D3hot", 20 * millisecond, [&] {
            pci::write(config, function, *power,
                       pmcsr{pmcsr::power_state(static_cast<pci::power_state>(3))});
        });
    } else {
        tell("it has no power management");
    }
    using pci::device_capabilities;
    const auto express = capabilities.find(pci::capability_id::pci_express);
    if (express &&
        pci::read<device_capabilities>(
            config, function, *express)[device_capabilities::function_level_reset_capability]) {
        using pci::device_control;
        try_reset(device, "function-level reset", 110 * millisecond, [&] {
            pci::write(config, function, *express,
                       pci::read<device_control>(config, function, *express)
                           .with(device_control::initiate_function_level_reset(true)));
        });
    } else {
        tell("it has no function-level reset");
    }
    check(device.bring_up(), "it is reset");
}

} // namespace guest
