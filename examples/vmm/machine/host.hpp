// SPDX-License-Identifier: BSL-1.0
//
// The machine that a freestanding VMM finds: QEMU's q35, or Bochs' PC.
#pragma once

#include "../../kernel/multiboot.hpp"
#include "../../kernel/pci.hpp"
#include "../../kernel/processor.hpp"
#include "../pc/cpuid.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// Where firmware of these machines puts the registers of PCI functions, and nothing else: below the
/// I/O APIC, above RAM and the window of configuration space; and its ports.
inline constexpr pt::range<pt::hpa> device_memory[] = {{pt::hpa{0xC000'0000}, 0x3EC0'0000}};
inline constexpr pt::range<pt::io_port> device_ports[] = {{pt::io_port{0xC000}, 0x4000}};

/// The host's own ports that no guest may ever reach: interrupt controllers, timers, serial ports, the
/// end of the run, power management, configuration space.
inline constexpr pt::range<pt::io_port> host_ports[] = {
    {pt::io_port{0x020}, 2}, {pt::io_port{0x040}, 4}, {pt::io_port{0x060}, 8},
    {pt::io_port{0x070}, 2}, {pt::io_port{0x0A0}, 2}, {pt::io_port{0x0F4}, 4},
    {pt::io_port{0x2F8}, 8}, {pt::io_port{0x3F8}, 8}, {pt::io_port{0x600}, 0x80},
    {pt::io_port{0xCF8}, 8},
};
inline constexpr std::size_t host_port_count = sizeof host_ports / sizeof host_ports[0];

/// A function that could be given to a guest.
struct host_function {
    pt::pci::function_address at{};
    pt::pci::identity id{};
};

/// The network controllers (class 02h) on all buses: at most `most`, into `found`. How many.
std::size_t find_network_controllers(host_function* found, std::size_t most);

/// RAM that nobody has put anything into: from the end of the VMM and of what the loader has left (its
/// information, modules and words) to the end of the RAM above 1 MiB, on boundaries of 2 MiB.
pt::range<pt::hpa> free_memory(const kernel::multiboot_information& loaded);

/// When the guests' clocks begin, in seconds since 1970: on January 1, 2000. Nobody has set them.
inline constexpr std::uint64_t guest_epoch = 946'684'800;

/// A callable that gives the processor's CPUID.
struct host_cpuid {
    pc::cpuid_registers operator()(std::uint32_t leaf, std::uint32_t subleaf) const {
        const kernel::cpuid_leaf found = kernel::cpuid(leaf, subleaf);
        return {found.a, found.b, found.c, found.d};
    }
};

} // namespace vmm
