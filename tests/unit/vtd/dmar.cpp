// SPDX-License-Identifier: BSL-1.0
//
// The DMAR table: hand-made ones, sound and broken, and real ones against what iasl, the ACPI
// project's own decoder, prints of them.
#include "../../shared_data.hpp"

#include "pt/vtd/dmar.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <string>
#include <vector>

#include <unistd.h>

namespace fs = std::filesystem;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::vtd::device_scope_type;
using pt::vtd::dmar;
using pt::vtd::path_hop;
using pt::vtd::remapping_structure_type;

namespace {

/// A table under construction; the offsets are those of the specification, written out.
struct builder {
    std::vector<std::uint8_t> bytes;

    constexpr builder() {
        for (const char c : {'D', 'M', 'A', 'R'}) {
            number(static_cast<std::uint8_t>(c), 1);
        }
        number(0, 4);  // length
        number(1, 1);  // revision
        number(0, 1);  // checksum
        number(0, 26); // who made it
        number(38, 1); // host address width, minus one
        number(5, 1);  // flags
        number(0, 10);
    }
    constexpr builder& number(std::uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            bytes.push_back(i < 8 ? static_cast<std::uint8_t>(value >> 8 * i) : std::uint8_t{0});
        }
        return *this;
    }
    constexpr builder& structure(unsigned type, unsigned length) {
        return number(type, 2).number(length, 2);
    }
    constexpr builder& scope(unsigned type, unsigned id, unsigned bus,
                             std::initializer_list<unsigned> path, unsigned flags = 0) {
        number(type, 1).number(6 + path.size(), 1).number(flags, 2).number(id, 1).number(bus, 1);
        for (const unsigned byte : path) {
            number(byte, 1);
        }
        return *this;
    }
    constexpr builder& drhd(unsigned length, unsigned flags, std::uint64_t base) {
        return structure(0, length).number(flags, 2).number(0, 2).number(base, 8);
    }
    /// With length and checksum in their places.
    constexpr std::vector<std::uint8_t> table() const {
        auto made = bytes;
        for (unsigned i = 0; i < 4; ++i) {
            made[4 + i] = static_cast<std::uint8_t>(made.size() >> 8 * i);
        }
        return summed(made);
    }
    static constexpr std::vector<std::uint8_t> summed(std::vector<std::uint8_t> made) {
        made[9] = 0;
        unsigned sum = 0;
        for (const auto byte : made) {
            sum += byte;
        }
        made[9] = static_cast<std::uint8_t>(0U - sum);
        return made;
    }
};

constexpr pt::result<dmar> read(const std::vector<std::uint8_t>& bytes) {
    return dmar::read(bytes.data(), bytes.size());
}
constexpr error why(const std::vector<std::uint8_t>& bytes) { return read(bytes).error(); }

template <class Range>
constexpr std::size_t count(const Range& range) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto each : range) {
        ++n;
    }
    return n;
}
template <class Range>
constexpr auto first(const Range& range) {
    return *range.begin();
}

/// One structure of each type, an unknown one, and a path of three hops.
constexpr builder everything() {
    builder made;
    made.drhd(16 + 10 + 12, 0, 0xFED9'0000)
        .scope(1, 0, 0, {2, 0, 1, 7})
        .scope(2, 0, 3, {1, 0, 2, 1, 3, 2});
    made.structure(1, 24 + 8)
        .number(0, 2)
        .number(1, 2)
        .number(0x7B80'0000, 8)
        .number(0x7FFF'FFFF, 8);
    made.scope(1, 0, 0, {2, 0});
    made.structure(2, 8 + 8).number(0, 2).number(2, 2).scope(2, 0, 0, {0x1C, 4});
    made.structure(3, 20).number(0, 4).number(0xFED9'1000, 8).number(7, 4);
    made.structure(4, 8 + 6).number(0, 3).number(9, 1);
    for (const char c : {'\\', '_', 'S', 'B', '\0', 'x'}) {
        made.number(static_cast<std::uint8_t>(c), 1);
    }
    made.structure(0x99, 7).number(0xABCDEF, 3);
    made.structure(5, 8 + 8).number(1, 2).number(3, 2).scope(1, 0, 0, {2, 0});
    made.structure(6, 8 + 8).number(0, 2).number(4, 2).scope(1, 0, 0, {2, 0}, 0x1F);
    // [vt-d] the size of the register set: 2^N pages
    made.structure(0, 16 + 8)
        .number(0x0201, 2)
        .number(5, 2)
        .number(0xFED9'1000, 8)
        .scope(3, 2, 0xF0, {0x1F, 0});
    return made;
}

} // namespace

TEST_CASE("DMAR: the header", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const auto bytes = everything().table();
        const auto table = read(bytes);
        using pt::vtd::dmar_flags;
        return table.has_value() && table->revision() == 1 && table->host_address_width() == 39 &&
               table->flags()[dmar_flags::interrupt_remapping] &&
               !table->flags()[dmar_flags::x2apic_opt_out] &&
               table->flags()[dmar_flags::dma_ctrl_platform_opt_in];
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("DMAR: each structure, in the table's order", "[vtd][dmar][rule 20]") {
    const auto bytes = everything().table();
    const auto table = read(bytes).value();

    std::vector<unsigned> types;
    std::size_t next = 48;
    for (const auto structure : table.structures()) {
        types.push_back(static_cast<unsigned>(structure.type));
        CHECK(structure.offset == next);
        next += structure.bytes.size();
    }
    CHECK(next == bytes.size());
    CHECK(types == std::vector<unsigned>{0, 1, 2, 3, 4, 0x99, 5, 6, 0});

    REQUIRE(count(table.each<pt::vtd::drhd>()) == 2);
    auto unit = table.each<pt::vtd::drhd>().begin();
    CHECK_FALSE((*unit).include_pci_all);
    CHECK((*unit).segment == 0);
    CHECK((*unit).register_base == hpa{0xFED9'0000});
    CHECK((*unit).register_set_size == 0x1000);
    CHECK(count((*unit).scopes) == 2);
    ++unit;
    CHECK((*unit).include_pci_all);
    CHECK((*unit).segment == 5);
    CHECK((*unit).register_set_size == 0x4000);
    const auto io_apic = first((*unit).scopes);
    CHECK(io_apic.type == device_scope_type::io_apic);
    CHECK(io_apic.enumeration_id == 2);
    CHECK(io_apic.start_bus == 0xF0);

    REQUIRE(count(table.each<pt::vtd::rmrr>()) == 1);
    const auto region = first(table.each<pt::vtd::rmrr>());
    CHECK(region.segment == 1);
    CHECK(region.region().value() == pt::range<hpa>{hpa{0x7B80'0000}, 0x480'0000});
    CHECK(count(region.scopes) == 1);

    const auto ports = first(table.each<pt::vtd::atsr>());
    CHECK_FALSE(ports.all_ports);
    CHECK(ports.segment == 2);
    CHECK(first(ports.scopes).type == device_scope_type::pci_sub_hierarchy);
    const auto affinity = first(table.each<pt::vtd::rhsa>());
    CHECK(affinity.register_base == hpa{0xFED9'1000});
    CHECK(affinity.proximity_domain == 7);
    const auto device = first(table.each<pt::vtd::andd>());
    CHECK(device.device_number == 9);
    REQUIRE(device.name.size() == 4);
    CHECK(device.name[0] == '\\');
    CHECK(device.name[3] == 'B');
    const auto cache = first(table.each<pt::vtd::satc>());
    CHECK(cache.flags[pt::vtd::satc_flags::atc_required]);
    CHECK(cache.segment == 3);
    CHECK(count(cache.scopes) == 1);
    const auto property = first(table.each<pt::vtd::sidp>());
    CHECK(property.segment == 4);
    CHECK(first(property.scopes).flags == 0x1F);
}

TEST_CASE("DMAR: a path has several hops", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const auto bytes = everything().table();
        const auto unit = first(read(bytes).value().each<pt::vtd::drhd>());
        auto scope = unit.scopes.begin();
        const auto two = *scope;
        ++scope;
        const auto three = *scope;
        ++scope;
        std::size_t hops = 0;
        for ([[maybe_unused]] const path_hop hop : three.path) {
            ++hops;
        }
        return two.path.size() == 2 && two.path[0] == path_hop{2, 0} &&
               two.path[1] == path_hop{1, 7} && hops == 3 && three.start_bus == 3 &&
               three.path[2] == path_hop{3, 2} && scope == unit.scopes.end();
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("DMAR: the end of a reserved region is inclusive", "[vtd][dmar][rule 20]") {
    const auto region = [](std::uint64_t base, std::uint64_t limit) {
        return pt::vtd::rmrr{0, hpa{base}, hpa{limit}, {}}.region();
    };
    CHECK(region(0x1000, 0x1FFF).value() == pt::range<hpa>{hpa{0x1000}, 0x1000});
    CHECK(region(0, 0).value().size() == 1);
    CHECK(region(0xFFFF'FFFF'FFFF'F000, ~0ULL).value().size() == 0x1000);
    CHECK(region(0x1000, 0xFFF) == error{errc::malformed, 0x1000});
    CHECK(region(0, ~0ULL) == error{errc::malformed, 0});
}

TEST_CASE("DMAR: signature, length, revision and checksum are checked", "[vtd][dmar][rule 20]") {
    const auto sound = everything().table();
    CHECK(read(sound).has_value());
    const auto with = [&](std::size_t offset, unsigned value) {
        auto bytes = sound;
        bytes[offset] = static_cast<std::uint8_t>(value);
        return bytes;
    };
    CHECK(why(builder::summed(with(0, 'X'))) == error{errc::malformed, 0});
    CHECK(why(builder::summed(with(8, 0))) == error{errc::not_supported, 8});
    CHECK(read(builder::summed(with(8, 2))).has_value());
    CHECK(why(with(9, sound[9] + 1U)) == error{errc::malformed, 9});
    CHECK(why(with(20, sound[20] + 1U)) == error{errc::malformed, 9});
    CHECK(why(builder::summed(with(5, 0x80))) == error{errc::out_of_range, 4});
    auto shorter = builder{}.table();
    CHECK(read(shorter).has_value());
    CHECK(count(read(shorter)->structures()) == 0);
    shorter[4] = 47;
    CHECK(why(builder::summed(shorter)) == error{errc::malformed, 4});
    CHECK(why({}) == error{errc::out_of_range, 0});
    CHECK(dmar::read(nullptr, 0).error() == error{errc::out_of_range, 0});
    for (std::size_t size = 0; size < sound.size(); ++size) {
        const error found = dmar::read(sound.data(), size).error();
        CHECK(found == error{errc::out_of_range, size < 48 ? size : 4});
    }
    // What lies after the table's own length is somebody else's.
    auto longer = sound;
    longer.push_back(0xFF);
    CHECK(read(longer).has_value());
}

TEST_CASE("DMAR: a structure of length 0, or past the end, is an error", "[vtd][dmar][rule 20]") {
    CHECK(why(builder{}.structure(0, 0).number(0, 12).table()) == error{errc::malformed, 50});
    CHECK(why(builder{}.structure(0x99, 0).table()) == error{errc::malformed, 50});
    CHECK(why(builder{}.structure(0x99, 3).table()) == error{errc::malformed, 50});
    CHECK(read(builder{}.structure(0x99, 4).table()).has_value());
    CHECK(why(builder{}.structure(0x99, 5).table()) == error{errc::out_of_range, 50});
    CHECK(why(builder{}.structure(0x99, 0xFFFF).table()) == error{errc::out_of_range, 50});
    CHECK(why(builder{}.number(0, 3).table()) == error{errc::malformed, 48});
    // The second one is as bad as the first, and its offset is its own.
    CHECK(why(builder{}.structure(0x99, 6).number(0, 2).structure(0, 0).table()) ==
          error{errc::malformed, 56});
}

TEST_CASE("DMAR: a structure too short for its type is an error", "[vtd][dmar]") {
    const unsigned least[]{16, 24, 8, 20, 8, 8, 8}; // DRHD, RMRR, ATSR, RHSA, ANDD, SATC, SIDP
    for (unsigned type = 0; type < 7; ++type) {
        CAPTURE(type);
        CHECK(why(builder{}.structure(type, least[type] - 1).number(0, least[type] - 5).table()) ==
              error{errc::malformed, 50});
        CHECK(read(builder{}.structure(type, least[type]).number(0, least[type] - 4).table())
                  .has_value());
    }
}

TEST_CASE("DMAR: a scope of length 0, or past its structure, is an error", "[vtd][dmar][rule 20]") {
    const auto with = [](unsigned type, unsigned length, unsigned bytes) {
        return builder{}
            .drhd(16 + bytes, 0, 0)
            .number(type | length << 8, 2)
            .number(0, bytes - 2)
            .table();
    };
    constexpr std::size_t length_offset = 48 + 16 + 1;
    CHECK(read(with(1, 8, 8)).has_value());
    CHECK(why(with(1, 0, 8)) == error{errc::malformed, length_offset});
    CHECK(why(with(1, 6, 8)) == error{errc::malformed, length_offset}); // no hop
    CHECK(why(with(1, 9, 9)) == error{errc::malformed, length_offset}); // half a hop
    CHECK(why(with(1, 10, 8)) == error{errc::out_of_range, length_offset});
    CHECK(why(with(1, 8, 11)) == error{errc::malformed, 48 + 16 + 8}); // three bytes are left
    // Unknown ones are skipped, if only their length is sound.
    CHECK(read(with(9, 7, 7)).has_value());
    CHECK(why(with(9, 5, 7)) == error{errc::malformed, length_offset});
    // Another structure follows: a scope never reaches into it.
    CHECK(why(builder{}.drhd(24, 0, 0).number(0x0A01, 2).number(0, 6).drhd(16, 1, 0).table()) ==
          error{errc::out_of_range, length_offset});
}

TEST_CASE("DMAR: a walk stays inside when the bytes change under it", "[vtd][dmar]") {
    const auto sound = everything().table();
    for (std::size_t at = 48; at < sound.size(); ++at) {
        for (const unsigned value : {0U, 1U, 0x7FU, 0xFFU}) {
            auto bytes = sound;
            const auto table = read(bytes).value();
            bytes[at] = static_cast<std::uint8_t>(value);
            for (const auto structure : table.structures()) {
                CHECK(structure.offset + structure.bytes.size() <= bytes.size());
            }
            CHECK(count(table.structures()) <= bytes.size() / 4);
            for (const auto unit : table.each<pt::vtd::drhd>()) {
                CHECK(count(unit.scopes) <= bytes.size() / 6);
            }
        }
    }
}

// ---------------------------------------------------------------------------- against iasl

namespace {

/// A structure as a decoder tells of it: numbers by iasl's names of the fields.
struct told {
    unsigned type = 0;
    std::map<std::string, std::uint64_t> fields;
    std::string name; // of an ANDD
    struct scope {
        std::map<std::string, std::uint64_t> fields;
        std::vector<std::uint64_t> path; // device << 8 | function
        friend bool operator==(const scope&, const scope&) = default;
    };
    std::vector<scope> scopes;
};

struct told_table {
    std::map<std::string, std::uint64_t> fields;
    std::vector<told> structures;
    bool stopped = false; // at a type that this iasl does not know; it prints nothing after it
};

told_table read_dsl(const fs::path& file) {
    static const std::regex line_form{R"(^\[[0-9A-F]+h \d+ +\d+\] +(.+?) : (.*)$)"};
    static const std::regex hexadecimal{R"(^([0-9A-F]+)(?: \[.*)?$)"};
    static const std::regex hop_form{R"(^([0-9A-F]{2}),([0-9A-F]{2})$)"};
    told_table table;
    std::ifstream in{file};
    std::smatch match;
    for (std::string line; std::getline(in, line);) {
        table.stopped = table.stopped || line.find("**** Unknown DMAR") != std::string::npos;
        if (!std::regex_match(line, match, line_form)) {
            continue;
        }
        const std::string name = match[1];
        const std::string value = match[2];
        std::smatch parts;
        if (name == "Device Name") {
            table.structures.back().name = value.substr(1, value.size() - 2);
        } else if (std::regex_match(value, parts, hop_form) && name == "PCI Path") {
            table.structures.back().scopes.back().path.push_back(
                std::stoull(parts[1], nullptr, 16) << 8 | std::stoull(parts[2], nullptr, 16));
        } else if (std::regex_match(value, parts, hexadecimal)) {
            const std::uint64_t number = std::stoull(parts[1], nullptr, 16);
            if (name == "Subtable Type") {
                table.structures.emplace_back().type = static_cast<unsigned>(number);
            } else if (name == "Device Scope Type") {
                table.structures.back().scopes.emplace_back().fields[name] = number;
            } else if (table.structures.empty()) {
                table.fields[name] = number;
            } else if (table.structures.back().scopes.empty()) {
                table.structures.back().fields[name] = number;
            } else {
                table.structures.back().scopes.back().fields[name] = number;
            }
        }
    }
    return table;
}

void tell(told& out, const pt::vtd::device_scope_list& scopes) {
    for (const auto scope : scopes) {
        told::scope& said = out.scopes.emplace_back();
        said.fields = {{"Device Scope Type", static_cast<std::uint64_t>(scope.type)},
                       {"Entry Length", 6 + 2 * scope.path.size()},
                       {"Enumeration ID", scope.enumeration_id},
                       {"PCI Bus Number", scope.start_bus}};
        for (const auto hop : scope.path) {
            said.path.push_back(std::uint64_t{hop.device} << 8 | hop.function);
        }
    }
}

/// What pt found, in iasl's words.
told tell(const pt::vtd::remapping_structure& structure) {
    told out;
    out.type = static_cast<unsigned>(structure.type);
    out.fields["Length"] = structure.bytes.size();
    switch (structure.type) {
    case remapping_structure_type::drhd: {
        const auto unit = pt::vtd::drhd::decode(structure.bytes);
        out.fields["Flags"] = unit.include_pci_all ? 1 : 0;
        out.fields["PCI Segment Number"] = unit.segment;
        out.fields["Register Base Address"] = unit.register_base.raw;
        tell(out, unit.scopes);
        break;
    }
    case remapping_structure_type::rmrr: {
        const auto region = pt::vtd::rmrr::decode(structure.bytes);
        out.fields["PCI Segment Number"] = region.segment;
        out.fields["Base Address"] = region.base.raw;
        out.fields["End Address (limit)"] = region.limit.raw;
        tell(out, region.scopes);
        break;
    }
    case remapping_structure_type::atsr: {
        const auto ports = pt::vtd::atsr::decode(structure.bytes);
        out.fields["Flags"] = ports.all_ports ? 1 : 0;
        out.fields["PCI Segment Number"] = ports.segment;
        tell(out, ports.scopes);
        break;
    }
    case remapping_structure_type::rhsa: {
        const auto affinity = pt::vtd::rhsa::decode(structure.bytes);
        out.fields["Base Address"] = affinity.register_base.raw;
        out.fields["Proximity Domain"] = affinity.proximity_domain;
        break;
    }
    case remapping_structure_type::andd: {
        const auto device = pt::vtd::andd::decode(structure.bytes);
        out.fields["Device Number"] = device.device_number;
        for (std::size_t i = 0; i < device.name.size(); ++i) {
            out.name += static_cast<char>(device.name[i]);
        }
        break;
    }
    case remapping_structure_type::satc: {
        const auto cache = pt::vtd::satc::decode(structure.bytes);
        out.fields["Flags"] = cache.flags.raw;
        out.fields["PCI Segment Number"] = cache.segment;
        tell(out, cache.scopes);
        break;
    }
    case remapping_structure_type::sidp: {
        const auto property = pt::vtd::sidp::decode(structure.bytes);
        out.fields["PCI Segment Number"] = property.segment;
        tell(out, property.scopes);
        break;
    }
    }
    return out;
}

/// iasl's reserved fields are none of pt's; backslashes in names are escaped there.
void drop_reserved(told& said) {
    said.fields.erase("Reserved");
    for (auto& scope : said.scopes) {
        scope.fields.erase("Reserved");
        scope.fields.erase("Flags");
    }
    std::string name;
    for (std::size_t i = 0; i < said.name.size(); ++i) {
        if (said.name[i] == '\\' && i + 1 < said.name.size() && said.name[i + 1] == '\\') {
            ++i;
        }
        name += said.name[i];
    }
    said.name = name;
}

std::vector<std::uint8_t> bytes_of(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

/// A directory for iasl to write to, gone at the end.
struct scratch {
    fs::path path;

    scratch() {
        std::string name = (fs::temp_directory_path() / "pt-dmar-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        path = name;
    }
    scratch(const scratch&) = delete;
    scratch& operator=(const scratch&) = delete;
    ~scratch() {
        std::error_code none;
        fs::remove_all(path, none);
    }
    /// Runs iasl on all *.dmar in it; false if it could not be run.
    [[nodiscard]] bool disassemble() const {
        const std::string command = "cd '" + path.string() + "' && iasl -d *.dmar >log 2>&1";
        return std::system(command.c_str()) == 0;
    }
};

bool iasl_is_here() { return std::system("iasl -v >/dev/null 2>&1") == 0; }

struct compared {
    std::size_t structures = 0;
    std::size_t scopes = 0;
    std::size_t unseen = 0; // iasl had stopped before them
};

void compare(const fs::path& file, compared& counts) {
    INFO(file.filename().string());
    const auto bytes = bytes_of(file);
    const auto table = read(bytes).value();
    const told_table said = read_dsl(fs::path{file}.replace_extension(".dsl"));
    CHECK(said.fields.at("Revision") == table.revision());
    CHECK(said.fields.at("Table Length") == bytes.size());
    CHECK(said.fields.at("Host Address Width") + 1 == table.host_address_width());
    CHECK(said.fields.at("Flags") == table.flags().raw);

    std::size_t n = 0;
    for (const auto structure : table.structures()) {
        if (n == said.structures.size()) {
            CHECK(said.stopped);
            ++counts.unseen;
            continue;
        }
        told expected = said.structures[n++];
        drop_reserved(expected);
        told found = tell(structure);
        if (said.stopped && n == said.structures.size()) {
            // Of the unknown one it prints the type and the length.
            found = {found.type, {{"Length", found.fields["Length"]}}, {}, {}};
        }
        CAPTURE(structure.offset, found.type);
        CHECK(found.type == expected.type);
        CHECK(found.fields == expected.fields);
        CHECK(found.name == expected.name);
        CHECK((found.scopes == expected.scopes));
        ++counts.structures;
        counts.scopes += found.scopes.size();
    }
    CHECK(n == said.structures.size());
}

} // namespace

TEST_CASE("DMAR: every real table is what iasl says", "[vtd][dmar][data][rule 20]") {
    const scratch here;
    std::size_t files = 0;
    for (const auto& path : shared_data::files("dmar")) {
        fs::copy_file(path, here.path / path.filename());
        ++files;
    }
    if (files == 0) {
        SKIP("no DMAR tables; set PT_SHARED_DATA to the directory that has dmar/");
    }
    if (!iasl_is_here()) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    REQUIRE(here.disassemble());
    compared counts;
    for (const auto& entry : fs::directory_iterator{here.path}) {
        if (entry.path().extension() == ".dmar") {
            compare(entry.path(), counts);
        }
    }
    CHECK(files >= 100);
    CHECK(counts.structures >= 500);
    CHECK(counts.scopes >= 800);
    CHECK(counts.unseen <= 4); // after a SATC, which iasl of 2020 does not know
    WARN(files << " tables, " << counts.structures << " structures, " << counts.scopes
               << " scopes equal; iasl had stopped before " << counts.unseen);
}

TEST_CASE("DMAR: segments and long paths are what iasl says", "[vtd][dmar][rule 20]") {
    if (!iasl_is_here()) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    const scratch here;
    // Real tables have one hop each and only segment 0.
    builder made;
    made.structure(0, 16 + 10)
        .number(0, 2)
        .number(0x1234, 2)
        .number(0x1'0000'0000, 8)
        .scope(1, 1, 2, {3, 4, 5, 6});
    made.structure(1, 24 + 16)
        .number(0, 2)
        .number(3, 2)
        .number(0x1000, 8)
        .number(0x2FFF, 8)
        .scope(2, 9, 8, {1, 0, 2, 0, 3, 0, 4, 0, 5, 7});
    made.structure(2, 8).number(1, 2).number(0xFFFF, 2);
    made.structure(3, 20).number(0, 4).number(0xFEDC'BA98'7654'3000, 8).number(0xFFFF'FFFF, 4);
    made.structure(0, 16).number(1, 2).number(0xFFFF, 2).number(0xFED9'0000, 8);
    const auto bytes = made.table();
    std::ofstream{here.path / "own.dmar", std::ios::binary}.write(
        reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    REQUIRE(here.disassemble());
    compared counts;
    compare(here.path / "own.dmar", counts);
    CHECK(counts.structures == 5);
    CHECK(counts.scopes == 2);
    CHECK(counts.unseen == 0);
}
