// SPDX-License-Identifier: BSL-1.0
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/command_line.hpp"
#include "../../../kernel/pci.hpp"

#include "pt/pci/capability.hpp"
#include "pt/pci/config_address.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;
using pci::config_address;

constexpr pt::io_port address_port{0xCF8};
constexpr pt::io_port data_port{0xCFC};
/// Bits of CONFIG_ADDRESS that hold something [pci].
constexpr std::uint32_t kept = 0x80FF'FFFC;

/// A function that is there on every machine: the first one that answers.
pci::function_address first_function() {
    kernel::port_config config = kernel::config();
    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        return each.address;
    }
    return {};
}

} // namespace

void check_configuration_mechanism() {
    step("The configuration mechanism: ports CF8 and CFC");
    kernel::ports io;
    const pci::function_address function = first_function();
    const config_address selected = config_address::select(function, 0);

    io.out32(address_port, selected.raw);
    check_equal(io.in32(address_port) & kept, selected.raw,
                "a dword written to CF8 is CONFIG_ADDRESS");
    io.out32(address_port, 0xFFFF'FFFF);
    const std::uint32_t ones = io.in32(address_port);
    check_equal(ones & kept, kept, "of all ones it keeps those bits that mean something");
    tell("and of the reserved ones ", ones & ~kept);
    if (kernel::told("strict")) {
        check_equal(ones & ~kept, 0, "reserved bits of CONFIG_ADDRESS read 0");
    }

    io.out32(address_port, selected.raw);
    io.out8(address_port, 0x12);
    io.out8(address_port + 1, 0); // on PCs the reset register: 0 resets nothing
    io.out8(address_port + 2, 0x34);
    io.out8(address_port + 3, 0x56);
    check_equal(io.in32(address_port) & kept, selected.raw,
                "bytes written to CF8 to CFB are not it");
    io.out16(address_port, 0x0078);
    io.out16(address_port + 2, 0x7654);
    check_equal(io.in32(address_port) & kept, selected.raw, "nor are words");

    const std::uint32_t id = io.in32(data_port);
    tell("register 0 of ", function, " is ", digits{id, 8});
    check((id & 0xFFFF) != 0xFFFF, "it is somebody's");
    for (unsigned i = 0; i != 4; ++i) {
        check_equal(io.in8(data_port + i), id >> 8 * i & 0xFF, "byte ", decimal{i}, " of it");
    }
    check_equal(io.in16(data_port), id & 0xFFFF, "its lower word");
    const std::uint32_t middle = io.in16(data_port + 1);
    tell("a word at CFD reads ", digits{middle, 4});
    if (kernel::told("strict")) { // QEMU 7.2 reads 0
        check_equal(middle, id >> 8 & 0xFFFF, "its middle word");
    }
    check_equal(io.in16(data_port + 2), id >> 16, "its upper word");
    check_equal(io.in32(address_port) & kept, selected.raw, "CONFIG_ADDRESS outlives all of them");

    io.out32(address_port, selected.with(config_address::enable(false)).raw);
    check_equal(io.in32(data_port), 0xFFFF'FFFF, "disabled, the data port floats");
    check_equal(io.in8(data_port + 3), 0xFF, "in bytes, too");
    io.out32(data_port, 0); // vanishes

    kernel::port_config config = kernel::config();
    pci::function_address nobody{0, 0, 31, 7};
    while (nobody.device != 0 && pci::read<pci::identity>(config, nobody).present()) {
        --nobody.device;
    }
    check_equal(config.read(nobody, 0, pt::width::dword), 0xFFFF'FFFF, "absent ", nobody,
                " reads all ones");
    check_equal(config.read(nobody, 6, pt::width::word), 0xFFFF, "as words, too");
    config.write(nobody, 4, pt::width::dword, 0xFFFF'FFFF);
    check_equal(config.read(function, 0, pt::width::dword), id, "and a write to it reaches nobody");
}

namespace {

const char* name(pci::base_class what) {
    switch (what) {
    case pci::base_class::mass_storage: return "mass storage";
    case pci::base_class::network: return "a network controller";
    case pci::base_class::display: return "a display controller";
    case pci::base_class::multimedia: return "a multimedia device";
    case pci::base_class::bridge: return "a bridge";
    case pci::base_class::serial_bus: return "a serial bus controller";
    default: return "something else";
    }
}

const char* name(pci::capability_id id) {
    switch (id) {
    case pci::capability_id::power_management: return "power management";
    case pci::capability_id::vital_product_data: return "vital product data";
    case pci::capability_id::msi: return "MSI";
    case pci::capability_id::pci_x: return "PCI-X";
    case pci::capability_id::vendor_specific: return "vendor specific";
    case pci::capability_id::pci_express: return "PCI Express";
    case pci::capability_id::msi_x: return "MSI-X";
    case pci::capability_id::advanced_features: return "advanced features";
    default: return "another capability";
    }
}

/// The list once more, by hand: where it leads, and in how many steps.
unsigned capabilities_by_hand(pci::function_address function) {
    kernel::port_config config = kernel::config();
    if ((config.read(function, 0x06, pt::width::word) & 0x10) == 0) {
        return 0;
    }
    unsigned count = 0;
    std::uint32_t at = config.read(function, 0x34, pt::width::byte) & 0xFC;
    while (at >= 0x40 && count != 48) {
        ++count;
        at = config.read(function, static_cast<std::uint16_t>(at + 1), pt::width::byte) & 0xFC;
    }
    return count;
}

} // namespace

void check_functions() {
    step("The functions on the bus");
    kernel::port_config config = kernel::config();
    unsigned found = 0;
    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        ++found;
        const auto kind = pci::read<pci::class_code>(config, each.address);
        tell(each.address, " is ", digits{each.id[pci::identity::vendor_id], 4}, ":",
             digits{each.id[pci::identity::device_id], 4}, ", ",
             name(kind[pci::class_code::base_class]));
        unsigned listed = 0;
        for (const pci::capability capability : pci::capabilities(config, each.address)) {
            ++listed;
            tell("  at ", digits{capability.offset, 2}, ": ", name(capability.id));
        }
        if (each.layout == pci::header_layout::device && listed != 0) {
            check_equal(listed, capabilities_by_hand(each.address), each.address,
                        ": its list of capabilities, followed by hand, is as long");
        }
    }
    check(found != 0, "there are functions");
}

} // namespace guest
