// SPDX-License-Identifier: BSL-1.0
#include "host.hpp"

#include "pt/pci/config_register.hpp"
#include "pt/pci/enumerate.hpp"

extern "C" {
extern const char bss_end[]; // kernel.ld
}

namespace vmm {
namespace {

constexpr std::uint64_t large_page = 2 * pt::MiB;

/// The end of a text, behind its zero.
std::uint64_t end_of(std::uint32_t text) {
    std::uint64_t at = text;
    while (*kernel::pointer_to<const char>(pt::hpa{at}) != '\0') {
        ++at;
    }
    return at + 1;
}

} // namespace

std::size_t find_network_controllers(host_function* found, std::size_t most) {
    std::size_t count = 0;
    kernel::port_config config = kernel::config();
    const auto tree = pt::pci::scan_tree(config);
    for (const pt::pci::tree_function& each : tree) {
        const auto is = pt::pci::read<pt::pci::class_code>(config, each.address);
        if (count != most && is[pt::pci::class_code::base_class] == pt::pci::base_class::network) {
            found[count++] = {each.address, each.id};
        }
    }
    return count;
}

pt::range<pt::hpa> free_memory(const kernel::multiboot_information& loaded) {
    using information = kernel::multiboot_information;
    std::uint64_t used = reinterpret_cast<std::uintptr_t>(bss_end);
    const auto uses = [&](std::uint64_t end) { used = end > used ? end : used; };
    uses(reinterpret_cast<std::uintptr_t>(&loaded) + sizeof loaded);
    if (loaded.has(information::has_command_line)) {
        uses(end_of(loaded.command_line));
    }
    if (loaded.has(information::has_modules)) {
        uses(loaded.modules +
             std::uint64_t{loaded.module_count} * sizeof(kernel::multiboot_module));
        for (std::uint32_t i = 0; i != loaded.module_count; ++i) {
            uses(loaded.module(i)->end);
            uses(end_of(loaded.module(i)->words));
        }
    }
    if (loaded.has(information::has_memory_map)) {
        uses(std::uint64_t{loaded.memory_map} + loaded.memory_map_length);
    }
    const std::uint64_t first = (used + large_page - 1) & ~(large_page - 1);
    const std::uint64_t upper =
        loaded.has(information::has_memory_sizes) ? loaded.upper_memory * std::uint64_t{1024} : 0;
    const std::uint64_t end = (pt::MiB + upper) & ~(large_page - 1);
    return end > first ? pt::range<pt::hpa>{pt::hpa{first}, end - first} : pt::range<pt::hpa>{};
}

} // namespace vmm
