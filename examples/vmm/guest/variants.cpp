// SPDX-License-Identifier: BSL-1.0
#include "variants.hpp"

#include "../../kernel/command_line.hpp"

namespace guest {
namespace {

constexpr variant all[] = {
    {"dma-outside", "has the NIC read and write memory that is not the guest's",
     attack_dma_outside},
    {"bar-over-ram", "puts the NIC's registers over RAM", attack_bar_over_ram},
    {"bar-over-apic", "puts them over the interrupt controllers, and its ports over the platform's",
     attack_bar_over_apic},
    {"bar-over-bar", "puts two BARs at the same place", attack_bar_over_bar},
    {"bar-half-written", "writes BARs byte by byte, and goes away in the middle",
     attack_bar_half_written},
    {"msi-x-writes", "writes the MSI-X table in odd ways, and odd messages into it",
     attack_msi_x_writes},
    {"port-probe", "reads and writes all ports", attack_port_probe},
    {"config-odd", "reads and writes configuration space in all ways", attack_config_odd},
    {"interrupt-flood", "raises interrupts as fast as it can", attack_interrupt_flood},
    {"ring-poison", "gives the NIC impossible rings and descriptors", attack_ring_poison},
    {"apic-garbage", "reads and writes the local APIC in all ways", attack_apic_garbage},
    {"instructions", "uses each form of memory operand on device registers", attack_instructions},
    {"memory-map", "reads and writes all over the address space", attack_memory_map},
    {"reset-in-flight", "resets the NIC while its DMA is under way", attack_reset_in_flight},
};

} // namespace

variant_list variants() { return {all, sizeof all / sizeof all[0]}; }

bool is_bare() { return kernel::told("bare"); }

} // namespace guest
