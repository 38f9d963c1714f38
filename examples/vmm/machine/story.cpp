// SPDX-License-Identifier: BSL-1.0
#include "story.hpp"

#include "pt/vmx/io_bitmap.hpp"

namespace vmm::story {
namespace {

struct rights_text {
    char letters[4];
};

rights_text text_of(pt::assign::page_rights rights) {
    return {{rights.read ? 'r' : '-', rights.write ? 'w' : '-', rights.execute ? 'x' : '-', '\0'}};
}

} // namespace

void tell_machine(pt::range<pt::hpa> own, pt::range<pt::hpa> free, const host_function* nics,
                  std::size_t nic_count) {
    chapter("The machine");
    narrate("the VMM has the memory ", own, ", guests ", free);
    for (std::size_t i = 0; i != nic_count; ++i) {
        using id = pt::pci::identity;
        narrate(nics[i].at, " is a network controller, vendor ",
                std::uint64_t{nics[i].id[id::vendor_id]}, ", device ",
                std::uint64_t{nics[i].id[id::device_id]});
    }
}

const char* words_for(const pt::assign::owned_pages& pages) {
    switch (pages.use) {
    case pt::assign::page_use::memory:
        return pages.reach == pt::assign::memory_reach::processors_and_devices
                   ? "memory"
                   : "memory that devices do not reach";
    case pt::assign::page_use::registers: return "registers of the NIC";
    case pt::assign::page_use::trapped_registers: return "registers that exit";
    case pt::assign::page_use::local_apic: return "the local APIC";
    case pt::assign::page_use::emulated: return "a device of the VMM's";
    case pt::assign::page_use::reserved_region: return "firmware's";
    }
    return "something";
}

void tell(const translation_line& line) {
    if (line.size == 0) {
        return;
    }
    narrate("  ", line.first, "..", line.first + line.size - 1, " -> ", line.host, "  ",
            static_cast<const char*>(text_of(line.rights).letters), "  ",
            line.behind == nullptr ? "nobody's" : words_for(*line.behind));
}

bar_state state_of(const pt::pci::bar& device, const pt::assign::ownership& owned) {
    bar_state is{};
    if (device.kind == pt::pci::bar_kind::io) {
        for (const pt::assign::owned_ports& each : owned.ports) {
            if (each.host.raw == (device.address & 0xFFFF)) {
                const bool open = each.way == pt::assign::port_way::open;
                is = {.is_there = true,
                      .at = each.at.first().raw,
                      .mapped = open ? device.size : 0,
                      .trapped = open ? 0 : device.size};
            }
        }
        return is;
    }
    const pt::range<pt::hpa> place{pt::hpa{device.address}, device.size};
    for (const pt::assign::owned_pages& each : owned.pages) {
        const bool mapped = each.use == pt::assign::page_use::registers;
        if ((mapped || each.use == pt::assign::page_use::trapped_registers) &&
            place.contains(each.host)) {
            if (!is.is_there) {
                is.at = each.at.first().raw - (each.host - place.first());
                is.is_there = true;
            }
            (mapped ? is.mapped : is.trapped) += each.at.size();
        }
    }
    return is;
}

void tell(pt::pci::function_address function, const pt::pci::bar& device, const bar_state& is) {
    if (device.kind == pt::pci::bar_kind::io) {
        narrate(function, ", BAR ", decimal{device.index}, ": ports ", is.at, " are the host's ",
                device.address,
                is.mapped != 0 ? ", and open" : "; each access exits, and is made there");
    } else if (is.trapped == 0) {
        narrate(function, ", BAR ", decimal{device.index}, ": ", is.at, " is mapped to ",
                device.address, ": ", bytes_of{is.mapped}, " without an exit");
    } else {
        narrate(function, ", BAR ", decimal{device.index}, ": ", is.at, " is mapped to ",
                device.address, ", but for ", bytes_of{is.trapped}, " (MSI-X), which exit");
    }
}

} // namespace vmm::story
