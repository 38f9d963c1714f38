// SPDX-License-Identifier: BSL-1.0
#include "names.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include <fmt/format.h>

namespace inspect {

namespace {

template <class Number>
struct entry {
    Number number;
    const char* name;
};

/// Base class and sub-class. A sub-class of 0x80 is "other" everywhere.
constexpr entry<std::uint16_t> classes[]{
    {0x0000, "device without a class"},
    {0x0001, "VGA-compatible device without a class"},
    {0x0100, "SCSI controller"},
    {0x0101, "IDE controller"},
    {0x0102, "floppy controller"},
    {0x0103, "IPI bus controller"},
    {0x0104, "RAID controller"},
    {0x0105, "ATA controller"},
    {0x0106, "SATA controller"},
    {0x0107, "SAS controller"},
    {0x0108, "NVM controller"},
    {0x0109, "UFS controller"},
    {0x0200, "Ethernet controller"},
    {0x0201, "token ring controller"},
    {0x0202, "FDDI controller"},
    {0x0203, "ATM controller"},
    {0x0204, "ISDN controller"},
    {0x0205, "WorldFip controller"},
    {0x0206, "PICMG 2.14 controller"},
    {0x0207, "InfiniBand controller"},
    {0x0208, "fabric controller"},
    {0x0300, "VGA controller"},
    {0x0301, "XGA controller"},
    {0x0302, "3D controller"},
    {0x0400, "video device"},
    {0x0401, "audio device"},
    {0x0402, "telephony device"},
    {0x0403, "HD audio device"},
    {0x0500, "RAM controller"},
    {0x0501, "flash memory controller"},
    {0x0502, "CXL memory device"},
    {0x0600, "host bridge"},
    {0x0601, "ISA bridge"},
    {0x0602, "EISA bridge"},
    {0x0603, "MCA bridge"},
    {0x0604, "PCI bridge"},
    {0x0605, "PCMCIA bridge"},
    {0x0606, "NuBus bridge"},
    {0x0607, "CardBus bridge"},
    {0x0608, "RACEway bridge"},
    {0x0609, "semi-transparent PCI bridge"},
    {0x060A, "InfiniBand to PCI bridge"},
    {0x060B, "Advanced Switching bridge"},
    {0x0700, "serial port"},
    {0x0701, "parallel port"},
    {0x0702, "multiport serial controller"},
    {0x0703, "modem"},
    {0x0704, "GPIB controller"},
    {0x0705, "smart card controller"},
    {0x0800, "interrupt controller"},
    {0x0801, "DMA controller"},
    {0x0802, "timer"},
    {0x0803, "real-time clock"},
    {0x0804, "PCI hot-plug controller"},
    {0x0805, "SD host controller"},
    {0x0806, "IOMMU"},
    {0x0807, "root complex event collector"},
    {0x0900, "keyboard controller"},
    {0x0901, "digitizer pen"},
    {0x0902, "mouse controller"},
    {0x0903, "scanner"},
    {0x0904, "gameport"},
    {0x0A00, "docking station"},
    {0x0B00, "386 processor"},
    {0x0B01, "486 processor"},
    {0x0B02, "Pentium processor"},
    {0x0B10, "Alpha processor"},
    {0x0B20, "PowerPC processor"},
    {0x0B30, "MIPS processor"},
    {0x0B40, "co-processor"},
    {0x0C00, "FireWire controller"},
    {0x0C01, "ACCESS bus controller"},
    {0x0C02, "SSA controller"},
    {0x0C03, "USB controller"},
    {0x0C04, "Fibre Channel controller"},
    {0x0C05, "SMBus controller"},
    {0x0C06, "InfiniBand controller"},
    {0x0C07, "IPMI interface"},
    {0x0C08, "SERCOS interface"},
    {0x0C09, "CAN bus controller"},
    {0x0C0A, "I3C host controller"},
    {0x0D00, "IrDA controller"},
    {0x0D01, "infrared controller"},
    {0x0D10, "RF controller"},
    {0x0D11, "Bluetooth controller"},
    {0x0D12, "broadband controller"},
    {0x0D20, "802.11a controller"},
    {0x0D21, "802.11b controller"},
    {0x0D40, "cellular modem"},
    {0x0E00, "I2O controller"},
    {0x0F01, "satellite TV controller"},
    {0x0F02, "satellite audio controller"},
    {0x0F03, "satellite voice controller"},
    {0x0F04, "satellite data controller"},
    {0x1000, "network and computing crypto controller"},
    {0x1010, "entertainment crypto controller"},
    {0x1100, "DPIO module"},
    {0x1101, "performance counters"},
    {0x1110, "communication synchronizer"},
    {0x1120, "management card"},
    {0x1200, "processing accelerator"},
    {0x1300, "non-essential instrumentation"},
};

constexpr entry<std::uint8_t> base_classes[]{
    {0x00, "device without a class"},
    {0x01, "storage controller"},
    {0x02, "network controller"},
    {0x03, "display controller"},
    {0x04, "multimedia device"},
    {0x05, "memory controller"},
    {0x06, "bridge"},
    {0x07, "communication controller"},
    {0x08, "system peripheral"},
    {0x09, "input device"},
    {0x0A, "docking station"},
    {0x0B, "processor"},
    {0x0C, "serial bus controller"},
    {0x0D, "wireless controller"},
    {0x0E, "intelligent controller"},
    {0x0F, "satellite communication controller"},
    {0x10, "crypto controller"},
    {0x11, "signal processing controller"},
    {0x12, "processing accelerator"},
    {0x13, "non-essential instrumentation"},
    {0xFF, "device of no defined class"},
};

constexpr entry<std::uint8_t> capability_names[]{
    {0x00, "null"},
    {0x01, "power management"},
    {0x02, "AGP"},
    {0x03, "vital product data"},
    {0x04, "slot identification"},
    {0x05, "MSI"},
    {0x06, "CompactPCI hot swap"},
    {0x07, "PCI-X"},
    {0x08, "HyperTransport"},
    {0x09, "vendor specific"},
    {0x0A, "debug port"},
    {0x0B, "CompactPCI resource control"},
    {0x0C, "hot plug"},
    {0x0D, "bridge subsystem vendor id"},
    {0x0E, "AGP 8x"},
    {0x0F, "secure device"},
    {0x10, "PCI Express"},
    {0x11, "MSI-X"},
    {0x12, "SATA"},
    {0x13, "advanced features"},
    {0x14, "enhanced allocation"},
    {0x15, "flattening portal bridge"},
};

constexpr entry<std::uint16_t> extended_capability_names[]{
    {0x0000, "null"},
    {0x0001, "advanced error reporting"},
    {0x0002, "virtual channel"},
    {0x0003, "device serial number"},
    {0x0004, "power budgeting"},
    {0x0005, "root complex link declaration"},
    {0x0006, "root complex internal link control"},
    {0x0007, "root complex event collector association"},
    {0x0008, "multi-function virtual channel"},
    {0x0009, "virtual channel"},
    {0x000A, "root complex register block header"},
    {0x000B, "vendor specific"},
    {0x000C, "configuration access correlation"},
    {0x000D, "access control services"},
    {0x000E, "alternative routing id"},
    {0x000F, "address translation services"},
    {0x0010, "single root I/O virtualization"},
    {0x0011, "multi-root I/O virtualization"},
    {0x0012, "multicast"},
    {0x0013, "page request interface"},
    {0x0015, "resizable BAR"},
    {0x0016, "dynamic power allocation"},
    {0x0017, "TPH requester"},
    {0x0018, "latency tolerance reporting"},
    {0x0019, "secondary PCI Express"},
    {0x001A, "protocol multiplexing"},
    {0x001B, "process address space id"},
    {0x001C, "LN requester"},
    {0x001D, "downstream port containment"},
    {0x001E, "L1 PM substates"},
    {0x001F, "precision time measurement"},
    {0x0020, "M-PCIe"},
    {0x0021, "FRS queueing"},
    {0x0022, "readiness time reporting"},
    {0x0023, "designated vendor specific"},
    {0x0024, "VF resizable BAR"},
    {0x0025, "data link feature"},
    {0x0026, "physical layer 16.0 GT/s"},
    {0x0027, "lane margining at the receiver"},
    {0x0028, "hierarchy id"},
    {0x0029, "native PCIe enclosure management"},
    {0x002A, "physical layer 32.0 GT/s"},
    {0x002B, "alternate protocol"},
    {0x002C, "system firmware intermediary"},
    {0x002D, "shadow functions"},
    {0x002E, "data object exchange"},
    {0x002F, "device 3"},
    {0x0030, "integrity and data encryption"},
    {0x0031, "physical layer 64.0 GT/s"},
    {0x0032, "flit logging"},
    {0x0033, "flit performance measurement"},
    {0x0034, "flit error injection"},
};

template <class Number, std::size_t Size>
const char* find(const entry<Number> (&table)[Size], Number number) {
    const auto* const found = std::find_if(std::begin(table), std::end(table),
                                           [&](const auto& e) { return e.number == number; });
    return found == std::end(table) ? nullptr : found->name;
}

} // namespace

std::string class_name(pt::pci::class_code code) {
    using cc = pt::pci::class_code;
    const auto base = static_cast<std::uint8_t>(code[cc::base_class]);
    const auto both = static_cast<std::uint16_t>(base << 8 | code[cc::sub_class]);
    if (const char* const name = find(classes, both)) {
        return name;
    }
    if (const char* const name = find(base_classes, base)) {
        return name;
    }
    return fmt::format("device of class {:02x}", base);
}

std::string name_of(pt::pci::capability_id id) {
    const char* const name = find(capability_names, static_cast<std::uint8_t>(id));
    return name != nullptr ? name : "unknown";
}

std::string name_of(pt::pci::extended_capability_id id) {
    const char* const name = find(extended_capability_names, static_cast<std::uint16_t>(id));
    return name != nullptr ? name : "unknown";
}

const char* name_of(pt::pci::bar_kind kind) {
    switch (kind) {
    case pt::pci::bar_kind::io: return "io";
    case pt::pci::bar_kind::mem32: return "mem32";
    case pt::pci::bar_kind::mem1m: return "mem1m";
    case pt::pci::bar_kind::mem64: return "mem64";
    case pt::pci::bar_kind::rom: return "rom";
    }
    return "unknown";
}

std::string name_of(pt::pci::header_layout layout) {
    switch (layout) {
    case pt::pci::header_layout::device: return "device";
    case pt::pci::header_layout::bridge: return "PCI bridge";
    case pt::pci::header_layout::cardbus_bridge: return "CardBus bridge";
    }
    return "unknown";
}

std::string name_of(pt::vtd::device_scope_type type) {
    switch (type) {
    case pt::vtd::device_scope_type::pci_endpoint: return "PCI endpoint";
    case pt::vtd::device_scope_type::pci_sub_hierarchy: return "PCI sub-hierarchy";
    case pt::vtd::device_scope_type::io_apic: return "I/O APIC";
    case pt::vtd::device_scope_type::msi_capable_hpet: return "HPET";
    case pt::vtd::device_scope_type::acpi_namespace_device: return "ACPI device";
    }
    return fmt::format("unknown type {}", static_cast<unsigned>(type));
}

} // namespace inspect
