// SPDX-License-Identifier: BSL-1.0
//
// A tree of PCI functions that nobody here wrote: QEMU's q35 with bridges of five makes, up to
// three deep. pt numbers its buses, finds its functions, sizes and places their BARs, and opens the
// bridges' windows; QEMU's own account of the machine (query-pci) and the devices themselves judge.
//
// Where QEMU 7.2 is not the hardware: an access that nothing answers reads zeros in memory, where
// a PC reads ones; virtual functions decode by their own Command, not by VF MSE; and a slot tells
// that something is in it only when ACPI does not do the hot-plugging, so that this is turned off.

#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"

#include "pt/pci/address_translation_services.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/bridge_window.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/sr_iov.hpp"

#include <cstdint>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <range/v3/algorithm/find.hpp>
#include <range/v3/algorithm/find_if.hpp>

namespace pci = pt::pci;
using emulator::pci_bridge_window;
using emulator::pci_report;
using emulator::qemu;
using emulator::qemu_mmio;
using emulator::qemu_ports;
using pci::function_address;
using pt::errc;
using pt::width;

namespace {

using port_config = pci::port_config_access<qemu_ports>;
using ecam_config = pci::ecam_config_access<qemu_mmio>;

// ------------------------------------------------------------------------------- the machine

/// A device of the command line: what QEMU calls it, and the bridge that it is plugged into.
struct plugged {
    const char* id;
    const char* bridge; ///< nullptr: on the first bus
    std::vector<const char*> options;
};

constexpr const char* nic0_mac = "52:54:00:12:34:01";
constexpr const char* nic1_mac = "52:54:00:12:34:02";
constexpr const char* nic2_mac = "52:54:00:12:34:03";
constexpr const char* vnet_mac = "52:54:00:12:34:04";

constexpr unsigned total_vfs = 4;
constexpr std::uint64_t vnet_rom_size = 512 * pt::KiB;

// clang-format off
/// A device of three functions with gaps between them, and root ports that are functions of one
/// device too. Behind rp1 a switch with an NVMe controller and a NIC, behind rp2 two bridges to
/// conventional PCI, one behind the other, behind rp3 a virtio NIC, behind rp4 nothing.
const std::vector<plugged> devices{
    {"edu0",  nullptr, {"edu,addr=3"}},
    {"nic0",  nullptr, {"e1000e,addr=4.0,multifunction=on,netdev=n0,mac=", nic0_mac}},
    {"edu1",  nullptr, {"edu,addr=4.3"}},
    {"rng",   nullptr, {"virtio-rng-pci,addr=4.7"}},
    {"rp1",   nullptr, {"pcie-root-port,addr=5.0,multifunction=on,chassis=1,port=1"}},
    {"rp2",   nullptr, {"pcie-root-port,addr=5.1,chassis=2,port=2"}},
    {"rp3",   nullptr, {"pcie-root-port,addr=5.2,chassis=3,port=9,slot=77,x-speed=8,x-width=4"}},
    {"rp4",   nullptr, {"pcie-root-port,addr=6,chassis=4,port=4"}},
    {"up",    "rp1",   {"x3130-upstream"}},
    {"down0", "up",    {"xio3130-downstream,addr=0,chassis=5,port=0"}},
    {"down1", "up",    {"xio3130-downstream,addr=3,chassis=6,port=1"}},
    {"nvme0", "down0", {"nvme,serial=pt,subsys=subsystem,max_ioqpairs=12,msix_qsize=13,"
                        "sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=8"}},
    {"nic1",  "down1", {"e1000e,netdev=n1,mac=", nic1_mac}},
    {"conv",  "rp2",   {"pcie-pci-bridge"}},
    {"inner", "conv",  {"pci-bridge,addr=2,chassis_nr=7"}},
    {"edu2",  "inner", {"edu,addr=1"}},
    {"nic2",  "inner", {"e1000,addr=7,netdev=n2,mac=", nic2_mac}},
    {"edu3",  "conv",  {"edu,addr=9"}},
    {"vnet",  "rp3",   {"virtio-net-pci,disable-legacy=on,iommu_platform=on,ats=on,vectors=6,"
                        "romsize=524288,netdev=n3,mac=", vnet_mac}},
};
// clang-format on

qemu::options options() {
    std::vector<std::string> arguments{
        "-machine",    "q35",
        "-accel",      "tcg",
        "-nodefaults", "-no-user-config",
        "-display",    "none",
        "-m",          "64",
        "-drive",      "driver=null-co,read-zeroes=on,if=none,id=d0",
        "-global",     "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        "-device",     "nvme-subsys,id=subsystem"};
    for (const char* const net : {"n0", "n1", "n2", "n3"}) {
        arguments.insert(arguments.end(), {"-netdev", std::string{"hubport,hubid=0,id="} + net});
    }
    for (const plugged& each : devices) {
        std::string option;
        for (const char* const part : each.options) {
            option += part;
        }
        option += std::string{",id="} + each.id;
        if (each.bridge != nullptr) {
            option += std::string{",bus="} + each.bridge;
        }
        arguments.insert(arguments.end(), {"-device", option});
    }
    arguments.insert(arguments.end(), {"-device", "nvme-ns,drive=d0,bus=nvme0"});
    return {.arguments = arguments, .name = "pci-tree"};
}

/// Nobody else uses the ports of this machine.
port_config ports_of(qemu& machine) {
    return port_config{qemu_ports{machine}, pci::config_latch::ours};
}

constexpr pt::hpa ecam_base{0xB000'0000};

/// Turns q35's window for configuration space on: PCIEXBAR of the host bridge, 256 buses.
ecam_config ecam_of(qemu& machine) {
    constexpr function_address host_bridge{};
    port_config config = ports_of(machine);
    config.write(host_bridge, 0x64, width::dword, 0);
    config.write(host_bridge, 0x60, width::dword, static_cast<std::uint32_t>(ecam_base.raw) | 1);
    return ecam_config{qemu_mmio{machine, ecam_base}};
}

// -------------------------------------------------------------------------- the second opinion

std::string text(function_address function) { return function.text().data(); }

std::string text(const char* form, auto... values) {
    char line[160];
    std::snprintf(line, sizeof line, form, values...);
    return line;
}

function_address address_of(const pci_report& report) {
    return {0, static_cast<std::uint8_t>(report.bus), static_cast<std::uint8_t>(report.slot),
            static_cast<std::uint8_t>(report.function)};
}

const pci_report& find(const std::vector<pci_report>& reports, const std::string& id) {
    const auto found = ranges::find(reports, id, &pci_report::id);
    REQUIRE(found != reports.end());
    return *found;
}

/// Configuration space with nothing of pt in between.
std::uint32_t raw_read(qemu& machine, function_address at, unsigned offset) {
    machine.out32(0xCF8, 0x8000'0000U | unsigned{at.bus} << 16 | unsigned{at.device} << 11 |
                             unsigned{at.function} << 8 | (offset & 0xFC));
    return machine.in32(0xCFC) >> 8 * (offset & 3);
}

using id_and_offset = std::pair<unsigned, unsigned>;

std::vector<id_and_offset> raw_capabilities(qemu& machine, function_address at) {
    std::vector<id_and_offset> list;
    if ((raw_read(machine, at, 0x06) & 0x10) != 0) {
        for (unsigned next = raw_read(machine, at, 0x34) & 0xFC; next != 0 && list.size() < 48;) {
            const std::uint32_t header = raw_read(machine, at, next);
            list.emplace_back(header & 0xFF, next);
            next = header >> 8 & 0xFC;
        }
    }
    return list;
}

std::vector<id_and_offset> raw_extended_capabilities(qemu& machine, function_address at) {
    std::vector<id_and_offset> list;
    const std::uint64_t space = ecam_base.raw + (std::uint64_t{at.source_id()} << 12);
    for (unsigned next = 0x100; next != 0 && list.size() < 960;) {
        const std::uint32_t header = machine.read32(space + next);
        if (header == 0 || header == 0xFFFF'FFFF) {
            break;
        }
        list.emplace_back(header & 0xFFFF, next);
        next = header >> 20;
    }
    return list;
}

// ------------------------------------------------------------------------------ the firmware

/// Numbers all buses depth first, while a scan goes over them: a bridge takes the next number for
/// the bus behind it, and is open upwards until everything behind it is known.
template <pci::config_access Config>
void number_buses(Config config) {
    struct open_bridge {
        function_address address;
        std::uint8_t secondary;
    };
    std::vector<open_bridge> open;
    std::uint8_t last = 0;
    const auto close_down_to = [&](std::size_t depth) {
        for (; open.size() > depth; open.pop_back()) {
            const auto [bridge, secondary] = open.back();
            REQUIRE(pci::write_bus_numbers(config, bridge, bridge.bus, secondary, last));
        }
    };
    const auto tree = pci::scan_tree(config);
    for (const pci::tree_function found : tree) {
        close_down_to(found.depth);
        if (found.layout == pci::header_layout::bridge) {
            ++last;
            REQUIRE(pci::write_bus_numbers(config, found.address, found.address.bus, last, 0xFF));
            open.push_back({found.address, last});
        }
    }
    close_down_to(0);
}

template <pci::config_access Config>
std::vector<pci::tree_function> found_in(Config config) {
    std::vector<pci::tree_function> all;
    const auto tree = pci::scan_tree(config);
    for (const pci::tree_function found : tree) {
        all.push_back(found);
    }
    return all;
}

/// A window as firmware chose it; empty ones are closed.
struct placed_window {
    pci::window_kind kind;
    std::uint64_t base;
    std::uint64_t size;
};

/// Where everything is after place_all.
struct placement {
    std::map<function_address, std::vector<pci::bar>> bars;
    std::map<function_address, std::vector<pci::bar>> vf_bars;
    std::map<function_address, std::vector<placed_window>> windows;

    [[nodiscard]] std::uint64_t bar(function_address function, unsigned index) const {
        for (const pci::bar& each : bars.at(function)) {
            if (each.index == index) {
                return each.address;
            }
        }
        throw std::runtime_error{"no such BAR was placed"};
    }
};

constexpr pci::window_kind window_kinds[]{pci::window_kind::io, pci::window_kind::memory,
                                          pci::window_kind::prefetchable};

constexpr std::uint64_t aligned_up(std::uint64_t value, std::uint64_t size) {
    return (value + size - 1) / size * size;
}

/// Gives every BAR of a tree with numbered buses an address, bus by bus, so that what is behind a
/// bridge lies in its windows, and turns decoding on. Prefetchable memory goes above 4 GiB.
template <pci::config_access Config>
class placing {
public:
    explicit placing(Config config) : config_{config}, tree_{found_in(config)} {}

    placement all() {
        bus(0);
        for (const pci::tree_function& found : tree_) {
            using pci::command;
            pci::write(config_, found.address,
                       pci::read<command>(config_, found.address)
                           .with(command::io_space(true), command::memory_space(true),
                                 command::bus_master(true)));
        }
        return result_;
    }

private:
    std::uint64_t take(const pci::bar& sized, std::uint64_t size) {
        const auto kind = sized.kind == pci::bar_kind::io ? pci::window_kind::io
                          : sized.prefetchable            ? pci::window_kind::prefetchable
                                                          : pci::window_kind::memory;
        std::uint64_t& next = next_[static_cast<unsigned>(kind)];
        const std::uint64_t at = aligned_up(next, sized.size);
        next = at + size;
        return at;
    }

    void bus(std::uint8_t number) {
        for (const pci::tree_function& found : tree_) {
            if (found.address.bus != number) {
                continue;
            }
            INFO(text(found.address));
            for (const pt::result<pci::bar>& sized : pci::size_bars(config_, found.address)) {
                REQUIRE(sized);
                const auto placed =
                    pci::write_bar(config_, found.address, *sized, take(*sized, sized->size));
                REQUIRE(placed);
                result_.bars[found.address].push_back(*placed);
            }
            if (const auto sr_iov = pci::read_sr_iov(config_, found.address)) {
                virtual_functions(found.address, *sr_iov);
            }
            if (found.layout == pci::header_layout::bridge) {
                behind(found.address);
            }
        }
    }

    void virtual_functions(function_address physical, const pci::sr_iov& of) {
        const auto sized = pci::size_vf_bars(config_, physical, of);
        REQUIRE(sized);
        for (const pt::result<pci::bar>& each : *sized) {
            REQUIRE(each);
            const std::uint64_t at = take(*each, *pci::vf_bar_span(*each, of.total_vfs));
            const auto placed = pci::write_vf_bar(config_, physical, of, *each, at);
            REQUIRE(placed);
            result_.vf_bars[physical].push_back(*placed);
        }
    }

    void behind(function_address bridge) {
        std::uint64_t base[3]{};
        for (const pci::window_kind kind : window_kinds) {
            std::uint64_t& next = next_[static_cast<unsigned>(kind)];
            base[static_cast<unsigned>(kind)] = next =
                aligned_up(next, pci::window_granularity(kind));
        }
        bus(pci::read<pci::bus_numbers>(config_, bridge)[pci::bus_numbers::secondary]);
        for (const pci::window_kind kind : window_kinds) {
            std::uint64_t& next = next_[static_cast<unsigned>(kind)];
            next = aligned_up(next, pci::window_granularity(kind));
            const std::uint64_t at = base[static_cast<unsigned>(kind)];
            if (next == at) {
                REQUIRE(pci::close_window(config_, bridge, kind));
            } else {
                REQUIRE(pci::write_window(config_, bridge, kind, at, next - at));
            }
            result_.windows[bridge].push_back({kind, at, next - at});
        }
    }

    Config config_;
    std::vector<pci::tree_function> tree_;
    std::uint64_t next_[3]{0x2000, 0xC000'0000, 0x8'0000'0000};
    placement result_;
};

template <pci::config_access Config>
placement place_all(Config config) {
    return placing<Config>{config}.all();
}

/// The receive address that an Intel NIC has taken from its EEPROM: RAL0 and RAH0 [82574].
std::string mac_at(qemu& machine, std::uint64_t registers) {
    const std::uint64_t address = machine.read32(registers + 0x5400) |
                                  std::uint64_t{machine.read32(registers + 0x5404)} << 32;
    std::string written;
    for (unsigned i = 0; i < 6; ++i) {
        written += text(i == 0 ? "%02x" : ":%02x", static_cast<unsigned>(address >> 8 * i & 0xFF));
    }
    return written;
}

constexpr std::uint32_t edu_identification = 0x0100'00ED; // version 1.0 and the device's mark

} // namespace

TEST_CASE("before its bridges have bus numbers, a machine has one bus", "[machine][pci]") {
    qemu machine{options()};
    const auto config = ports_of(machine);
    std::size_t on_first_bus = 3 + 1; // q35's own at 00:1f, and its host bridge
    for (const plugged& each : devices) {
        on_first_bus += each.bridge == nullptr ? 1 : 0;
    }
    const auto tree = found_in(config);
    CHECK(tree.size() == on_first_bus);
    for (const pci::tree_function& found : tree) {
        CHECK(found.address.bus == 0);
    }
}

TEST_CASE("numbered depth first, the tree is the one that QEMU has", "[machine][pci]") {
    qemu machine{options()};
    auto config = ports_of(machine);
    number_buses(config);
    const auto tree = found_in(config);
    const auto reports = machine.query_pci();

    std::vector<std::string> found;
    for (const pci::tree_function& each : tree) {
        const auto kind = pci::read<pci::class_code>(config, each.address);
        const auto pin = pci::read<pci::interrupt_pin>(config, each.address);
        std::string line =
            text(each.address) +
            text(" %04x:%04x class %02x%02x pin %u", each.id[pci::identity::vendor_id],
                 each.id[pci::identity::device_id],
                 static_cast<unsigned>(kind[pci::class_code::base_class]),
                 kind[pci::class_code::sub_class], pin[pci::interrupt_pin::pin]);
        if (each.layout == pci::header_layout::bridge) {
            const auto numbers = pci::read<pci::bus_numbers>(config, each.address);
            line +=
                text(" buses %u %u %u", numbers[pci::bus_numbers::primary],
                     numbers[pci::bus_numbers::secondary], numbers[pci::bus_numbers::subordinate]);
        }
        found.push_back(line);
    }
    std::vector<std::string> expected;
    for (const pci_report& each : reports) {
        std::string line =
            text(address_of(each)) + text(" %04x:%04x class %04x pin %u", each.vendor, each.device,
                                          each.class_code, each.interrupt_pin);
        if (each.bridge) {
            line += text(" buses %u %u %u", each.bridge->primary, each.bridge->secondary,
                         each.bridge->subordinate);
        }
        expected.push_back(line);
    }
    CHECK(found == expected);
    CHECK(found.size() == devices.size() + 4);

    // And where each is plugged in, which the command line alone decides.
    for (const plugged& each : devices) {
        INFO(each.id);
        const function_address at = address_of(find(reports, each.id));
        const auto entry = ranges::find(tree, at, &pci::tree_function::address);
        REQUIRE(entry != tree.end());
        unsigned depth = 0;
        for (const char* above = each.bridge; above != nullptr; ++depth) {
            above = ranges::find(devices, std::string{above}, &plugged::id)->bridge;
        }
        CHECK(unsigned{entry->depth} == depth);
        CHECK(entry->bridge.valid() == (each.bridge != nullptr));
        if (each.bridge != nullptr) {
            CHECK(entry->bridge == address_of(find(reports, each.bridge)));
        }
    }
}

TEST_CASE("BARs are of the kinds and sizes that QEMU says, and sizing leaves no trace",
          "[machine][pci][rule 6]") {
    qemu machine{options()};
    auto config = ports_of(machine);
    number_buses(config);

    std::vector<std::string> expected;
    std::vector<std::string> found;
    for (const pci_report& each : machine.query_pci()) {
        const function_address at = address_of(each);
        for (const emulator::pci_region& region : each.regions) {
            expected.push_back(text(at) + text(" %d %s%s%s %llu", region.bar, region.type.c_str(),
                                               region.prefetch ? " prefetchable" : "",
                                               region.mem_type_64 ? " 64-bit" : "",
                                               static_cast<unsigned long long>(region.size)));
        }
        std::vector<std::uint32_t> before;
        for (unsigned offset = 0; offset < 0x40; offset += 4) {
            before.push_back(raw_read(machine, at, offset));
        }
        for (const pt::result<pci::bar>& sized : pci::size_bars(config, at)) {
            REQUIRE(sized);
            const bool io = sized->kind == pci::bar_kind::io;
            found.push_back(text(at) + text(" %d %s%s%s %llu", sized->index, io ? "io" : "memory",
                                            sized->prefetchable ? " prefetchable" : "",
                                            sized->kind == pci::bar_kind::mem64 ? " 64-bit" : "",
                                            static_cast<unsigned long long>(sized->size)));
            CHECK((sized->kind == pci::bar_kind::rom) == (sized->index == 6));
        }
        for (unsigned offset = 0; offset < 0x40; offset += 4) {
            INFO(text(at) << " " << offset);
            CHECK(raw_read(machine, at, offset) == before[offset / 4]);
        }
    }
    CHECK(found == expected);

    // What the command line asked for.
    const auto vnet = address_of(find(machine.query_pci(), "vnet"));
    const auto rom = pci::size_bar(config, vnet, pci::expansion_rom_index);
    REQUIRE(rom);
    CHECK(rom->size == vnet_rom_size);
}

TEST_CASE("programmed windows and BARs are where QEMU says, and the devices answer there",
          "[machine][pci]") {
    qemu machine{options()};
    auto config = ports_of(machine);
    number_buses(config);
    const placement placed = place_all(config);
    const auto reports = machine.query_pci();

    for (const pci_report& each : reports) {
        const function_address at = address_of(each);
        INFO(text(at) << " " << each.id);
        for (const emulator::pci_region& region : each.regions) {
            INFO("BAR " << region.bar);
            // The ROM has an enable bit of its own, which is still 0.
            const bool decoded = region.bar != 6;
            CHECK(region.address == (decoded ? static_cast<std::int64_t>(placed.bar(
                                                   at, static_cast<unsigned>(region.bar)))
                                             : -1));
        }
        if (!each.bridge) {
            continue;
        }
        const pci_bridge_window* const says[]{&each.bridge->io, &each.bridge->memory,
                                              &each.bridge->prefetchable};
        for (const placed_window& window : placed.windows.at(at)) {
            const pci_bridge_window& told = *says[static_cast<unsigned>(window.kind)];
            INFO("window " << static_cast<unsigned>(window.kind));
            const auto read = pci::read_window(config, at, window.kind);
            if (window.size == 0) {
                CHECK(told.base > told.limit);
                CHECK(!read);
            } else {
                CHECK(told.base == window.base);
                CHECK(told.limit == window.base + window.size - 1);
                REQUIRE(read);
                CHECK(read->base == told.base);
                CHECK(read->limit == told.limit);
            }
        }
    }

    const auto where = [&](const char* id) { return address_of(find(reports, id)); };
    const auto bar = [&](const char* id, unsigned index) { return placed.bar(where(id), index); };

    for (const char* const id : {"edu0", "edu1", "edu2", "edu3"}) {
        INFO(id);
        CHECK(machine.read32(bar(id, 0)) == edu_identification);
        machine.write32(bar(id, 0) + 4, 0x0123'4567); // a register that gives back the complement
        CHECK(machine.read32(bar(id, 0) + 4) == 0xFEDC'BA98);
    }
    CHECK(mac_at(machine, bar("nic0", 0)) == nic0_mac);
    CHECK(mac_at(machine, bar("nic1", 0)) == nic1_mac);
    CHECK(mac_at(machine, bar("nic2", 0)) == nic2_mac);
    CHECK((machine.read32(bar("nic1", 0) + 8) & 0x3) == 0x3); // STATUS: full duplex, link up

    // The NICs' registers through their ports: IOADDR, then IODATA. nic2 is behind three bridges.
    const std::pair<const char*, unsigned> by_ports[]{{"nic0", 2}, {"nic1", 2}};
    for (const auto& [id, index] : by_ports) {
        INFO(id);
        const auto port = static_cast<std::uint16_t>(bar(id, index));
        machine.out32(port, 0x5400);
        CHECK(machine.in32(static_cast<std::uint16_t>(port + 4)) ==
              machine.read32(bar(id, 0) + 0x5400));
    }

    // NVMe [nvme]: CAP says that the NVM command set and at least two entries a queue are there, VS
    // says version 1.something.
    const std::uint64_t nvme = bar("nvme0", 0);
    const std::uint64_t cap = machine.read64(nvme);
    CHECK((cap & 0xFFFF) >= 1);
    CHECK((cap >> 37 & 1) == 1);
    CHECK(machine.read32(nvme + 8) >> 16 == 1);

    // virtio: its structures are where its vendor-specific capabilities say, in the prefetchable
    // BAR above 4 GiB. The high feature bits begin with VERSION_1, and the device's own
    // configuration with the address.
    const function_address vnet = where("vnet");
    const auto structure = [&](unsigned type) {
        const auto list = pci::capabilities(config, vnet);
        for (const pci::capability each : list) {
            const auto at = [&](unsigned bytes) {
                return static_cast<std::uint16_t>(each.offset + bytes);
            };
            if (each.id == pci::capability_id::vendor_specific &&
                config.read(vnet, at(3), width::byte) == type) {
                return bar("vnet", config.read(vnet, at(4), width::byte)) +
                       config.read(vnet, at(8), width::dword);
            }
        }
        return std::uint64_t{0};
    };
    const std::uint64_t common = structure(1);
    const std::uint64_t own = structure(4);
    CHECK(common >= 4 * pt::GiB);
    machine.write32(common, 1);
    CHECK((machine.read32(common + 4) & 1) == 1);
    std::string mac;
    for (unsigned i = 0; i < 6; ++i) {
        mac += text(i == 0 ? "%02x" : ":%02x", machine.read8(own + i));
    }
    CHECK(mac == vnet_mac);

    // Expansion ROMs begin with 55 AA once their enable bit is set, also behind bridges.
    for (const char* const id : {"nic0", "nic1", "nic2", "vnet"}) {
        INFO(id);
        const std::uint64_t rom = bar(id, pci::expansion_rom_index);
        CHECK(machine.read16(rom) != 0xAA55);
        config.write(where(id), 0x30, width::dword, static_cast<std::uint32_t>(rom) | 1);
        CHECK(machine.read16(rom) == 0xAA55);
        const auto sized = pci::size_bar(config, where(id), pci::expansion_rom_index);
        REQUIRE(sized);
        CHECK(sized->address == rom);
        CHECK(machine.read16(rom) == 0xAA55); // sizing has turned it on again
    }
    for (const pci_report& each : machine.query_pci()) {
        for (const emulator::pci_region& region : each.regions) {
            if (region.bar == 6) {
                CHECK(region.address == static_cast<std::int64_t>(placed.bar(address_of(each), 6)));
            }
        }
    }
}

TEST_CASE("a device answers only while every window on the way is open", "[machine][pci]") {
    qemu machine{options()};
    auto config = ports_of(machine);
    number_buses(config);
    const placement placed = place_all(config);
    const auto reports = machine.query_pci();
    const auto where = [&](const char* id) { return address_of(find(reports, id)); };

    const auto window_of = [&](function_address bridge, pci::window_kind kind) {
        return placed.windows.at(bridge).at(static_cast<unsigned>(kind));
    };
    /// Shuts the window of each bridge in turn, and asks whether `answers` knows.
    const auto through = [&](const std::vector<const char*>& bridges, pci::window_kind kind,
                             auto answers) {
        CHECK(answers());
        for (const char* const id : bridges) {
            INFO(id);
            const function_address bridge = where(id);
            const placed_window window = window_of(bridge, kind);
            REQUIRE(pci::close_window(config, bridge, kind));
            CHECK_FALSE(answers());
            // One that lies right below or above does not help either.
            const std::uint64_t step = pci::window_granularity(kind);
            REQUIRE(pci::write_window(config, bridge, kind, window.base - step, step));
            CHECK_FALSE(answers());
            REQUIRE(pci::write_window(config, bridge, kind, window.base + window.size, step));
            CHECK_FALSE(answers());
            REQUIRE(pci::write_window(config, bridge, kind, window.base, window.size));
            CHECK(answers());
        }
    };

    const std::uint64_t nvme = placed.bar(where("nvme0"), 0);
    through({"rp1", "up", "down0"}, pci::window_kind::memory,
            [&] { return machine.read32(nvme + 8) >> 16 == 1; });

    const std::uint64_t edu2 = placed.bar(where("edu2"), 0);
    through({"rp2", "conv", "inner"}, pci::window_kind::memory,
            [&] { return machine.read32(edu2) == edu_identification; });

    const std::uint64_t virtio = placed.bar(where("vnet"), 4);
    machine.write32(virtio, 1); // device_feature_select
    through({"rp3"}, pci::window_kind::prefetchable,
            [&] { return (machine.read32(virtio + 4) & 1) == 1; });

    const auto port = static_cast<std::uint16_t>(placed.bar(where("nic1"), 2));
    machine.out32(port, 0x5400);
    through({"rp1", "up", "down1"}, pci::window_kind::io,
            [&] { return machine.in32(static_cast<std::uint16_t>(port + 4)) == 0x1200'5452; });

    // The bridge's Command closes them all.
    const function_address rp1 = where("rp1");
    using pci::command;
    const auto on = pci::read<command>(config, rp1);
    pci::write(config, rp1, on.with(command::memory_space(false)));
    CHECK(machine.read32(nvme + 8) == 0);
    pci::write(config, rp1, on);
    CHECK(machine.read32(nvme + 8) >> 16 == 1);
}

TEST_CASE("a BAR moves inside its bridge's window, and nothing stays behind", "[machine][pci]") {
    qemu machine{options()};
    auto config = ports_of(machine);
    number_buses(config);
    const placement placed = place_all(config);
    const function_address edu3 = address_of(find(machine.query_pci(), "edu3"));
    const auto sized = pci::size_bar(config, edu3, 0);
    REQUIRE(sized);
    const std::uint64_t before = placed.bar(edu3, 0);
    CHECK(sized->address == before);
    CHECK(machine.read32(before) == edu_identification);

    // Beside it, where nothing is yet: the windows on the way grow by as much.
    const std::uint64_t after = 0xD000'0000;
    for (const char* const id : {"rp2", "conv"}) {
        const function_address bridge = address_of(find(machine.query_pci(), id));
        const auto window = pci::read_window(config, bridge, pci::window_kind::memory);
        REQUIRE(window);
        REQUIRE(pci::write_window(config, bridge, pci::window_kind::memory, window->base,
                                  after + sized->size - window->base));
    }
    REQUIRE(pci::write_bar(config, edu3, *sized, after));
    CHECK(machine.read32(after) == edu_identification);
    CHECK(machine.read32(before) == 0);
    CHECK(pci::write_bar(config, edu3, *sized, after + 4096).error() ==
          pt::error{errc::misaligned, after + 4096});
    CHECK(machine.read32(after) == edu_identification);
}

TEST_CASE("ECAM shows what the ports show, and what they do not reach", "[machine][pci]") {
    qemu machine{options()};
    auto ports = ports_of(machine);
    auto ecam = ecam_of(machine);
    number_buses(ports);
    place_all(ports);
    const auto tree = found_in(ports);
    CHECK(found_in(ecam) == tree);

    for (const pci::tree_function& found : tree) {
        INFO(text(found.address));
        unsigned differences = 0;
        for (std::uint16_t offset = 0; offset < 0x100; offset = offset + 4) {
            differences += ecam.read(found.address, offset, width::dword) !=
                           ports.read(found.address, offset, width::dword);
        }
        CHECK(differences == 0);
        for (std::uint16_t offset = 0; offset < 0x40; ++offset) {
            differences += ecam.read(found.address, offset, width::byte) !=
                           ports.read(found.address, offset, width::byte);
            if (offset % 4 != 3) {
                differences += ecam.read(found.address, offset, width::word) !=
                               ports.read(found.address, offset, width::word);
            }
        }
        CHECK(differences == 0);
    }

    // The ports keep what others have selected, if they are asked to.
    machine.out32(0xCF8, 0x8000'1234);
    port_config sharing{qemu_ports{machine}, pci::config_latch::kept};
    CHECK(sharing.read({}, 2, width::word) == 0x29C0); // q35's host bridge
    CHECK(machine.in32(0xCF8) == 0x8000'1234);

    // Nobody home, by both ways.
    const function_address absent[]{{0, 0, 30, 0}, {0, 0, 4, 1}, {0, 200, 0, 0}};
    for (const function_address each : absent) {
        for (const width size : {width::byte, width::word, width::dword}) {
            CHECK(ecam.read(each, 0, size) == pt::all_ones(size));
            CHECK(ports.read(each, 0, size) == pt::all_ones(size));
        }
    }

    // Writes of each size arrive, and nowhere else.
    const function_address nic = address_of(find(machine.query_pci(), "nic1"));
    const std::uint32_t line = ports.read(nic, 0x3C, width::dword);
    ecam.write(nic, 0x3C, width::byte, 0x5A);
    CHECK(ports.read(nic, 0x3C, width::dword) == ((line & ~0xFFU) | 0x5A));
    ecam.write(nic, 0x3C, width::word, 0xFFA5); // the pin is read-only
    CHECK(ports.read(nic, 0x3C, width::dword) == ((line & ~0xFFU) | 0xA5));
    ecam.write(nic, 0x3C, width::dword, line);
    CHECK(ports.read(nic, 0x3C, width::dword) == line);

    // Beyond 0x100: the ports have nothing, ECAM the extended list.
    CHECK(ports.read(nic, 0x100, width::dword) == 0xFFFF'FFFF);
    const auto no_list = pci::extended_capabilities(ports, nic);
    CHECK(no_list.begin() == no_list.end());
    CHECK(pci::extended_capability_header{
              ecam.read(nic, 0x100, width::dword)}[pci::extended_capability_header::id] ==
          pci::extended_capability_id::advanced_error_reporting);
    // AER's Uncorrectable Error Severity, 12 bytes in, can be written: a completion time-out is one.
    const std::uint32_t severity = ecam.read(nic, 0x10C, width::dword);
    ecam.write(nic, 0x10C, width::dword, severity ^ 0x4000);
    CHECK(machine.read32(ecam_base.raw + (std::uint64_t{nic.source_id()} << 12) + 0x10C) ==
          (severity ^ 0x4000));
}

TEST_CASE("capability lists are those that a plain walk finds", "[machine][pci][rule 4]") {
    qemu machine{options()};
    auto ports = ports_of(machine);
    auto ecam = ecam_of(machine);
    number_buses(ports);
    const auto reports = machine.query_pci();
    std::size_t standard = 0;
    std::size_t extended = 0;
    const auto found_by = [](const auto& list) {
        std::vector<id_and_offset> found;
        for (const auto each : list) {
            found.emplace_back(static_cast<unsigned>(each.id), each.offset);
        }
        return found;
    };
    for (const pci_report& report : reports) {
        const function_address at = address_of(report);
        INFO(text(at) << " " << report.id);
        const auto list = raw_capabilities(machine, at);
        CHECK(found_by(pci::capabilities(ports, at)) == list);
        CHECK(found_by(pci::capabilities(ecam, at)) == list);
        standard += list.size();
        const auto more = raw_extended_capabilities(machine, at);
        CHECK(found_by(pci::extended_capabilities(ecam, at)) == more);
        extended += more.size();
    }
    CHECK(standard > 2 * devices.size());
    CHECK(extended >= devices.size());

    // The 82574L's are known [82574].
    const function_address nic = address_of(find(reports, "nic1"));
    CHECK(found_by(pci::capabilities(ports, nic)) ==
          std::vector<id_and_offset>{{0x01, 0xC8}, {0x05, 0xD0}, {0x10, 0xE0}, {0x11, 0xA0}});
    CHECK(found_by(pci::extended_capabilities(ecam, nic)) ==
          std::vector<id_and_offset>{{0x0001, 0x100}, {0x0003, 0x140}});
}

TEST_CASE("typed capabilities say what the command line has asked for", "[machine][pci]") {
    qemu machine{options()};
    auto ports = ports_of(machine);
    auto ecam = ecam_of(machine);
    number_buses(ports);
    const auto reports = machine.query_pci();
    const auto where = [&](const char* id) { return address_of(find(reports, id)); };

    using type = pci::device_port_type;
    const std::pair<const char*, type> types[]{
        {"nic0", type::root_complex_integrated_endpoint},
        {"nic1", type::endpoint},
        {"nvme0", type::endpoint},
        {"vnet", type::endpoint},
        {"rp1", type::root_port},
        {"rp4", type::root_port},
        {"up", type::upstream_port},
        {"down0", type::downstream_port},
        {"down1", type::downstream_port},
        {"conv", type::pci_express_to_pci_bridge},
    };
    for (const auto& [id, expected] : types) {
        INFO(id);
        const auto express = pci::read_pci_express(ports, where(id));
        REQUIRE(express);
        CHECK(express->type() == expected);
    }
    CHECK(pci::read_pci_express(ports, where("inner")).error().code == errc::absent);
    CHECK(pci::read_pci_express(ports, where("nic2")).error().code == errc::absent);

    // rp3: port=9, slot=77, x-speed=8 (GT/s), x-width=4.
    const auto rp3 = pci::read_pci_express(ports, where("rp3"));
    REQUIRE(rp3);
    CHECK(rp3->has_slot());
    const auto link = pci::read<pci::link_capabilities>(ports, where("rp3"), rp3->at);
    CHECK(link[pci::link_capabilities::port_number] == 9);
    CHECK(link[pci::link_capabilities::max_link_speed] == 3);
    CHECK(link[pci::link_capabilities::maximum_link_width] == 4);
    const auto slot = pci::read<pci::slot_capabilities>(ports, where("rp3"), rp3->at);
    CHECK(slot[pci::slot_capabilities::physical_slot_number] == 77);
    const auto presence = [&](const char* id) {
        const auto port = pci::read_pci_express(ports, where(id));
        return pci::read<pci::slot_status>(ports, where(id),
                                           port->at)[pci::slot_status::presence_detect_state];
    };
    CHECK(presence("rp3"));
    CHECK_FALSE(presence("rp4")); // nothing is plugged in

    // NVMe: msix_qsize, less what sriov_vi_flexible keeps for the virtual functions.
    const std::pair<const char*, unsigned> vectors[]{{"nic0", 5}, {"nvme0", 13 - 8}, {"vnet", 6}};
    for (const auto& [id, count] : vectors) {
        INFO(id);
        const auto msi_x = pci::read_msi_x(ports, where(id));
        REQUIRE(msi_x);
        CHECK(unsigned{msi_x->vectors} == count);
        CHECK(pci::bar_of(msi_x->table, pci::size_bars(ports, where(id))));
        CHECK(pci::bar_of(msi_x->pending_bits, pci::size_bars(ports, where(id))));
    }
    const auto nic_msi = pci::read_msi(ports, where("nic0"));
    REQUIRE(nic_msi);
    CHECK(nic_msi->offset == 0xD0);
    CHECK(nic_msi->is_64bit);
    CHECK(nic_msi->vectors == 1);
    CHECK(pci::read_msi(ports, where("vnet")).error().code == errc::absent);

    // The serial number is the MAC address with FF FE in the middle [pcie], EUI-64.
    const function_address nic = where("nic1");
    const auto serial = pci::extended_capabilities(ecam, nic).find(
        pci::extended_capability_id::device_serial_number, 12);
    REQUIRE(serial);
    CHECK(ecam.read(nic, static_cast<std::uint16_t>(serial->offset + 4), width::dword) ==
          0xFF12'3402);
    CHECK(ecam.read(nic, static_cast<std::uint16_t>(serial->offset + 8), width::dword) ==
          0x5254'00FF);

    CHECK(pci::read_address_translation_services(ecam, where("vnet"))); // ats=on
    CHECK(pci::read_address_translation_services(ecam, nic).error().code == errc::absent);
}

TEST_CASE("the virtual functions of SR-IOV appear where pt says, and their BARs answer",
          "[machine][pci][rule 7]") {
    qemu machine{options()};
    auto ports = ports_of(machine);
    auto ecam = ecam_of(machine);
    number_buses(ecam);
    const placement placed = place_all(ecam);
    const auto before = found_in(ecam);
    const function_address nvme = address_of(find(machine.query_pci(), "nvme0"));

    auto sr_iov = pci::read_sr_iov(ecam, nvme);
    REQUIRE(sr_iov);
    CHECK(sr_iov->total_vfs == total_vfs); // sriov_max_vfs
    CHECK(sr_iov->num_vfs == 0);
    CHECK(pci::read_sr_iov(ports, nvme).error().code == errc::absent);
    CHECK(pci::read_sr_iov(ecam, address_of(find(machine.query_pci(), "nic1"))).error().code ==
          errc::absent);

    using control = pci::sr_iov_control;
    using num_vfs = pci::sr_iov_num_vfs;
    pci::write(ecam, nvme, sr_iov->at, num_vfs{num_vfs::count(total_vfs)});
    pci::write(
        ecam, nvme, sr_iov->at,
        sr_iov->control.with(control::vf_enable(true), control::vf_memory_space_enable(true)));
    sr_iov = pci::read_sr_iov(ecam, nvme);
    REQUIRE(sr_iov);
    CHECK(sr_iov->num_vfs == total_vfs);

    // QEMU 7.2 asks the VFs' own Command, where VF MSE decides and this bit is always 0 [pcie].
    for (const function_address each : pci::virtual_functions(nvme, *sr_iov)) {
        pci::write(ecam, each, pci::command{pci::command::memory_space(true)});
    }

    // QEMU's list has grown by the VFs, at the addresses that pt computes.
    std::vector<std::string> expected;
    const auto reports = machine.query_pci();
    for (const pci_report& each : reports) {
        const auto known = ranges::find(before, address_of(each), &pci::tree_function::address);
        if (known == before.end()) {
            expected.push_back(text(address_of(each)));
        }
    }
    std::vector<std::string> computed;
    for (const function_address each : pci::virtual_functions(nvme, *sr_iov)) {
        computed.push_back(text(each));
    }
    CHECK(computed == expected);
    CHECK(computed.size() == total_vfs);
    CHECK(found_in(ecam) == before); // a scan does not see them

    // Each has a BAR 0 of its own, a size after the one before, and a controller in it [nvme].
    REQUIRE(placed.vf_bars.at(nvme).size() == 1);
    const pci::bar first = placed.vf_bars.at(nvme)[0];
    const auto virtual_function = [&](std::uint16_t n) {
        auto at = pci::virtual_functions(nvme, *sr_iov).begin();
        for (; n > 0; --n) {
            ++at;
        }
        return *at;
    };
    std::vector<std::uint64_t> vector_0;
    for (std::uint16_t n = 0; n < total_vfs; ++n) {
        INFO("VF " << n);
        const auto bar = pci::bar_of_vf(first, n);
        REQUIRE(bar);
        const auto report = ranges::find_if(
            reports, [&](const pci_report& r) { return text(address_of(r)) == expected[n]; });
        REQUIRE(report != reports.end());
        REQUIRE(report->regions.size() == 1);
        CHECK(report->regions[0].address == static_cast<std::int64_t>(bar->address));
        CHECK(report->regions[0].size == bar->size);
        // A controller that is not online shows nothing but CSTS, with its bit CFS.
        CHECK(machine.read32(bar->address + 0x1C) == 2);

        // Its MSI-X lies in that BAR too. Vector 0 takes data that only this VF has.
        const auto msi_x = pci::read_msi_x(ecam, virtual_function(n));
        REQUIRE(msi_x);
        REQUIRE(msi_x->table.bar == 0);
        REQUIRE(msi_x->table.offset + msi_x->table.size <= bar->size);
        vector_0.push_back(bar->address + msi_x->table.offset);
        machine.write32(vector_0.back() + 8, 0xA0U + n);
    }
    for (unsigned n = 0; n < total_vfs; ++n) {
        CHECK(machine.read32(vector_0[n] + 8) == 0xA0 + n);
    }
    CHECK(machine.read32(first.address + *pci::vf_bar_span(first, total_vfs) + 0x1C) == 0);

    // VF BARs stay put while VFs are there.
    CHECK(pci::write_vf_bar(ecam, nvme, *sr_iov, first, first.address).error().code == errc::busy);
    pci::write(ecam, nvme, sr_iov->at, sr_iov->control.with(control::vf_enable(false)));
    CHECK(machine.read32(first.address + 0x1C) == 0);
}
