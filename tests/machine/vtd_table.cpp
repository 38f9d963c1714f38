// SPDX-License-Identifier: BSL-1.0
//
// The DMAR table that QEMU makes for firmware: read as iasl reads it, and understood as QEMU's own
// unit behaves. A reserved region, which QEMU's table never has, is added by hand.
#include "vtd_machine.hpp"

#include "pt/vtd/reserved_regions.hpp"
#include "pt/vtd/unit_lookup.hpp"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <catch2/generators/catch_generators.hpp>

using namespace vtd_machine;
using pt::vtd::device_scope_type;
using pt::vtd::unit_for;

namespace {

using rig = driven_machine<>;

constexpr iova small{small_at};

/// The values of iasl's fields of that name, as it prints them, in the order of the table.
std::vector<std::string> said(const std::filesystem::path& dsl, const std::string& field) {
    std::vector<std::string> values;
    std::ifstream in{dsl};
    for (std::string line; std::getline(in, line);) {
        const std::size_t at = line.find(" : ");
        if (!line.starts_with("[") || at == std::string::npos || at < field.size() ||
            line.compare(at - field.size(), field.size(), field) != 0 ||
            line[at - field.size() - 1] != ' ') {
            continue;
        }
        values.push_back(line.substr(at + 3, line.find_first_of(" \r", at + 3) - at - 3));
    }
    return values;
}
std::string digits(const char* form, auto value) {
    char text[20];
    std::snprintf(text, sizeof text, form, value);
    return text;
}

} // namespace

TEST_CASE("QEMU's DMAR table is what iasl says", "[vt-d][dmar][rule 20]") {
    const char* const more = GENERATE("", ",device-iotlb=on"); // the second has an ATSR
    INFO("intel-iommu" << more);
    machine m{{.more = more}};
    const scratch_directory scratch;
    {
        std::ofstream file{scratch.path() / "dmar.dat", std::ios::binary};
        file.write(reinterpret_cast<const char*>(m.dmar_bytes().data()),
                   static_cast<std::streamsize>(m.dmar_bytes().size()));
    }
    const std::string command =
        "cd '" + scratch.path().string() + "' && iasl -d dmar.dat >log 2>&1";
    if (std::system(command.c_str()) != 0) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    const auto dsl = scratch.path() / "dmar.dsl";

    const pt::vtd::dmar table = m.dmar();
    using texts = std::vector<std::string>;
    texts types;
    texts lengths;
    texts segments;
    texts bases;
    texts flags{digits("%02X", unsigned{table.flags().raw})};
    texts scope_types;
    texts numbers;
    texts buses;
    texts hops;
    const auto note = [&](const pt::vtd::device_scope_list& scopes) {
        for (const auto scope : scopes) {
            scope_types.push_back(digits("%02X", static_cast<unsigned>(scope.type)));
            numbers.push_back(digits("%02X", unsigned{scope.enumeration_id}));
            buses.push_back(digits("%02X", unsigned{scope.start_bus}));
            for (const auto hop : scope.path) {
                hops.push_back(digits("%02X", unsigned{hop.device}) +
                               digits(",%02X", unsigned{hop.function}));
            }
        }
    };
    for (const auto structure : table.structures()) {
        types.push_back(digits("%04X", static_cast<unsigned>(structure.type)));
        lengths.push_back(digits("%04X", static_cast<unsigned>(structure.bytes.size())));
        if (structure.type == pt::vtd::drhd::type) {
            const auto unit = pt::vtd::drhd::decode(structure.bytes);
            flags.push_back(unit.include_pci_all ? "01" : "00");
            segments.push_back(digits("%04X", unsigned{unit.segment}));
            bases.push_back(
                digits("%016llX", static_cast<unsigned long long>(unit.register_base.raw)));
            note(unit.scopes);
        } else if (structure.type == pt::vtd::atsr::type) {
            const auto ports = pt::vtd::atsr::decode(structure.bytes);
            flags.push_back(ports.all_ports ? "01" : "00");
            segments.push_back(digits("%04X", unsigned{ports.segment}));
            note(ports.scopes);
        }
    }
    CHECK(types.size() == (*more == '\0' ? 1 : 2));
    CHECK(said(dsl, "Table Length") ==
          texts{digits("%08X", static_cast<unsigned>(m.dmar_bytes().size()))});
    CHECK(said(dsl, "Checksum") == texts{digits("%02X", unsigned{m.dmar_bytes()[9]})});
    CHECK(said(dsl, "Host Address Width") == texts{digits("%02X", table.host_address_width() - 1)});
    CHECK(said(dsl, "Flags") == flags);
    CHECK(said(dsl, "Subtable Type") == types);
    CHECK(said(dsl, "Length").size() ==
          lengths.size() + 1 + scope_types.size()); // "Table", "Entry"
    CHECK(said(dsl, "PCI Segment Number") == segments);
    CHECK(said(dsl, "Register Base Address") == bases);
    CHECK(said(dsl, "Device Scope Type") == scope_types);
    CHECK(said(dsl, "Enumeration ID") == numbers);
    CHECK(said(dsl, "PCI Bus Number") == buses);
    CHECK(said(dsl, "PCI Path") == hops);
    CHECK(scope_types.size() >= 6);
}

TEST_CASE("QEMU's unit serves every function that QEMU has, and no other",
          "[vt-d][dmar][rule 20]") {
    machine m{{}};
    const pt::vtd::dmar table = m.dmar();
    const rig::bridges bridges{m.config()};
    unsigned functions = 0;
    for (const emulator::pci_report& each : m.emulator.query_pci()) {
        const function_address function{0, static_cast<std::uint8_t>(each.bus),
                                        static_cast<std::uint8_t>(each.slot),
                                        static_cast<std::uint8_t>(each.function)};
        INFO(function.text().data());
        const auto serving = unit_for(table, function, bridges);
        REQUIRE(serving);
        CHECK(serving->index == 0);
        CHECK(serving->definition.register_base == unit_registers);
        ++functions;
    }
    CHECK(functions >= 6);
    const auto io_apic = unit_for(table, device_scope_type::io_apic, 0, bridges);
    REQUIRE(io_apic);
    CHECK(io_apic->source == function_address{0, 0xFF, 0, 0});

    // The table names functions one by one, and what is behind the bridge by the bridge.
    for (const function_address other :
         {function_address{0, 0, 7, 0}, function_address{0, 0, 6, 1}, function_address{0, 2, 0, 0},
          function_address{1, 0, 6, 0}}) {
        INFO(other.text().data());
        CHECK(unit_for(table, other, bridges).error() ==
              pt::error{errc::absent, other.source_id()});
    }
    CHECK(unit_for(table, nic_function, bridges));
    auto config = m.config();
    pt::pci::write(config, bridge_function, pt::pci::bus_numbers{}); // its bus has no number now
    CHECK(unit_for(table, nic_function, bridges).error().code == errc::absent);
}

TEST_CASE("memory that firmware reserved for a function stays mapped, whoever has it", "[vt-d]") {
    const table_mode mode = GENERATE(table_mode::legacy, table_mode::scalable);
    bytes with_region = machine{{.mode = mode}}.dmar_bytes();
    constexpr hpa region{0x0B00'0000};
    const auto append = [&](std::uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            with_region.push_back(static_cast<std::uint8_t>(value >> 8 * i));
        }
    };
    append(1, 2);      // RMRR
    append(24 + 8, 2); // its length
    append(0, 4);      // reserved, segment 0
    append(region.raw, 8);
    append(region.raw + 2 * page - 1, 8);
    append(1, 1); // for a PCI endpoint
    append(8, 1);
    append(0, 3);
    append(edu_a_function.bus, 1);
    append(edu_a_function.device, 1);
    append(edu_a_function.function, 1);
    with_region[4] = static_cast<std::uint8_t>(with_region.size());
    with_region[9] = 0;
    std::uint8_t sum = 0;
    for (const std::uint8_t byte : with_region) {
        sum = static_cast<std::uint8_t>(sum + byte);
    }
    with_region[9] = static_cast<std::uint8_t>(0 - sum);

    rig m{{.mode = mode}, {}, with_region};
    m.stamp(region, 2 * page);
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    CHECK(a.dma.attach(m.edu_a_attachment).error() == pt::error{errc::refused, region.raw});
    CHECK(m.writes(m.edu_a, iova{region.raw}) == "nothing");
    got(a.dma.attach(m.edu_b_attachment)); // it is not this one's

    std::vector<hpa> reported;
    got(a.dma.map_reserved_regions(edu_a_function, [&](const pt::vtd::reserved_region& each) {
        reported.push_back(each.memory.first());
    }));
    CHECK(reported == std::vector{region});
    got(a.dma.attach(m.edu_a_attachment));
    for (const std::uint64_t offset : {std::uint64_t{0}, 2 * page - 8}) {
        CHECK(m.writes(m.edu_a, iova{region.raw + offset}) == place(region + offset));
        CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    }
    m.faults();
    CHECK(m.writes(m.edu_a, iova{region.raw + 2 * page}) == "nothing");
    CHECK(m.writes(m.edu_a, iova{region.raw - 8}) == "nothing");

    // In a guest that was told that firmware is done with it, it reaches none of it.
    guest<rig> b{m, guest_b};
    b.map_memory();
    got(b.dma.attach(m.edu_a_attachment, pt::vtd::reserved_memory::ignored));
    CHECK(m.writes(m.edu_a, iova{region.raw}) == "nothing");
    CHECK(m.writes(m.edu_a, small) == place(b.host_of(small)));
    CHECK(m.untouched());
}
