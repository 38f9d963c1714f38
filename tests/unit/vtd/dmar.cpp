// SPDX-License-Identifier: BSL-1.0
//
// The DMAR table: hand-made ones, sound and broken, and real ones against what iasl, the ACPI
// project's own decoder, prints of them.
#include "../../shared_data.hpp"
#include "../../vtd_model/dmar_builder.hpp"

#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/reserved_regions.hpp"
#include "pt/vtd/unit_lookup.hpp"

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
#include <set>
#include <string>
#include <utility>
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

using builder = vtd_model::dmar_builder;

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

TEST_CASE("firmware's bytes: little-endian anywhere, 0 past the end", "[vtd][dmar]") {
    constexpr auto holds = [] {
        const std::uint8_t five[]{1, 2, 3, 4, 5};
        const pt::vtd::firmware_bytes bytes{five, 5};
        return bytes.number<std::uint32_t>(0) == 0x0403'0201 &&
               bytes.number<std::uint32_t>(1) == 0x0504'0302 &&
               bytes.number<std::uint32_t>(2) == 0x0005'0403 &&
               bytes.number<std::uint32_t>(4) == 5 && bytes.number<std::uint32_t>(5) == 0 &&
               bytes.number<std::uint64_t>(0) == 0x05'0403'0201 &&
               bytes.number<std::uint16_t>(3) == 0x0504 && bytes.number<std::uint16_t>(4) == 5 &&
               bytes.number<std::uint8_t>(4) == 5 && bytes.number<std::uint64_t>(~0ULL - 3) == 0 &&
               bytes.part(3, 9).size() == 2 && bytes.part(5, 1).size() == 0 &&
               bytes.from(2).number<std::uint16_t>(0) == 0x0403 && bytes[5] == 0;
    };
    static_assert(holds());
    REQUIRE(holds());
}

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
    CHECK(region(0, 0xFFF).value().size() == 0x1000);
    CHECK(region(0xFFFF'FFFF'FFFF'F000, ~0ULL).value().size() == 0x1000);
    CHECK(region(0x1000, 0xFFF) == error{errc::malformed, 0x1000});
    CHECK(region(0, ~0ULL) == error{errc::malformed, 0});
    CHECK(region(0, 0) == error{errc::misaligned, 0});
    CHECK(region(0x1000, 0x2000) == error{errc::misaligned, 0x1000});
    CHECK(region(0x1800, 0x2FFF) == error{errc::misaligned, 0x1800});
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
    std::map<std::string, std::string> texts;
    std::vector<told> structures;
    bool stopped = false; // at a type that this iasl does not know; it prints nothing after it
};

told_table read_dsl(const fs::path& file) {
    static const std::regex line_form{R"(^\[[0-9A-F]+h \d+ +\d+\] +(.+?) : (.*)$)"};
    static const std::regex hexadecimal{R"(^([0-9A-F]+)(?: \[.*)?$)"};
    static const std::regex bytes{R"(^([0-9A-F]{2})( [0-9A-F]{2})+$)"};
    static const std::regex text{R"-(^"(.*)"(?: +\[.*)?$)-"};
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
        if (std::regex_match(value, parts, text)) {
            if (table.structures.empty()) {
                table.texts[name] = parts[1];
            } else {
                table.structures.back().name = parts[1];
            }
        } else if (std::regex_match(value, bytes)) {
            // Only the table's ten reserved bytes are printed so.
            table.texts[name] = value;
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
                       {"Flags", scope.flags},
                       {"Reserved", 0},
                       {"Enumeration ID", scope.enumeration_id},
                       {"PCI Bus Number", scope.start_bus}};
        for (const auto hop : scope.path) {
            said.path.push_back(std::uint64_t{hop.device} << 8 | hop.function);
        }
    }
}

/// Characters up to the first null, as iasl prints them.
std::string text_of(const pt::vtd::firmware_bytes& characters) {
    std::string text;
    for (std::size_t i = 0; i < characters.size() && characters[i] != 0; ++i) {
        const bool printable = characters[i] >= ' ' && characters[i] <= '~';
        text += printable ? static_cast<char>(characters[i]) : ' ';
    }
    return text;
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
        // The byte of the size, which is newer than this iasl; 2^N pages [vt-d].
        out.fields["Reserved"] = 0;
        for (auto size = unit.register_set_size; size > 0x1000; size /= 2) {
            ++out.fields["Reserved"];
        }
        out.fields["PCI Segment Number"] = unit.segment;
        out.fields["Register Base Address"] = unit.register_base.raw;
        tell(out, unit.scopes);
        break;
    }
    case remapping_structure_type::rmrr: {
        const auto region = pt::vtd::rmrr::decode(structure.bytes);
        out.fields["Reserved"] = 0;
        out.fields["PCI Segment Number"] = region.segment;
        out.fields["Base Address"] = region.base.raw;
        out.fields["End Address (limit)"] = region.limit.raw;
        tell(out, region.scopes);
        break;
    }
    case remapping_structure_type::atsr: {
        const auto ports = pt::vtd::atsr::decode(structure.bytes);
        out.fields["Flags"] = ports.all_ports ? 1 : 0;
        out.fields["Reserved"] = 0;
        out.fields["PCI Segment Number"] = ports.segment;
        tell(out, ports.scopes);
        break;
    }
    case remapping_structure_type::rhsa: {
        const auto affinity = pt::vtd::rhsa::decode(structure.bytes);
        out.fields["Reserved"] = 0;
        out.fields["Base Address"] = affinity.register_base.raw;
        out.fields["Proximity Domain"] = affinity.proximity_domain;
        break;
    }
    case remapping_structure_type::andd: {
        const auto device = pt::vtd::andd::decode(structure.bytes);
        out.fields["Reserved"] = 0;
        out.fields["Device Number"] = device.device_number;
        out.name = text_of(device.name);
        break;
    }
    case remapping_structure_type::satc: {
        const auto cache = pt::vtd::satc::decode(structure.bytes);
        out.fields["Flags"] = cache.flags.raw;
        out.fields["Reserved"] = 0;
        out.fields["PCI Segment Number"] = cache.segment;
        tell(out, cache.scopes);
        break;
    }
    case remapping_structure_type::sidp: {
        const auto property = pt::vtd::sidp::decode(structure.bytes);
        out.fields["Flags"] = 0; // reserved in a SIDP
        out.fields["Reserved"] = 0;
        out.fields["PCI Segment Number"] = property.segment;
        tell(out, property.scopes);
        break;
    }
    }
    return out;
}

/// Old iasl prints the scope's flags as the low byte of two reserved ones, new iasl prints each
/// backslash of a name as two.
void as_one_edition(told& said) {
    for (std::size_t at = 0; (at = said.name.find("\\\\", at)) != std::string::npos; ++at) {
        said.name.erase(at, 1);
    }
    for (auto& scope : said.scopes) {
        if (scope.fields.count("Flags") == 0) {
            scope.fields["Flags"] = scope.fields["Reserved"] & 0xFF;
            scope.fields["Reserved"] >>= 8;
        }
    }
}

std::vector<std::uint8_t> bytes_of(const fs::path& file) {
    std::ifstream in{file, std::ios::binary};
    return {std::istreambuf_iterator<char>{in}, {}};
}

void write(const fs::path& file, const std::vector<std::uint8_t>& bytes) {
    std::ofstream{file, std::ios::binary}.write(reinterpret_cast<const char*>(bytes.data()),
                                                static_cast<std::streamsize>(bytes.size()));
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

/// iasl of 2020 knows no SATC and no SIDP, and stops there. Both have the layout of an ATSR, so it
/// gets them under that name; `bytes` are a whole table.
std::vector<std::uint8_t> known_to_iasl(std::vector<std::uint8_t> bytes) {
    for (std::size_t at = 48; at + 4 <= bytes.size();) {
        const std::size_t length = bytes[at + 2] | static_cast<std::size_t>(bytes[at + 3]) << 8;
        if (bytes[at] == 5 || bytes[at] == 6) {
            bytes[at] = 2;
        }
        at += length < 4 ? 4 : length;
    }
    return builder::summed(bytes);
}

struct compared {
    std::size_t structures = 0;
    std::size_t scopes = 0;
    std::size_t fields = 0;
};

/// Every field that iasl prints of the table that was made from `bytes`.
void compare(const std::vector<std::uint8_t>& bytes, const fs::path& dsl, compared& counts) {
    INFO(dsl.filename().string());
    const auto table = read(bytes).value();
    told_table said = read_dsl(dsl);
    CHECK_FALSE(said.stopped);
    // What the other types' names change in the sum.
    CHECK(said.fields["Checksum"] == known_to_iasl(bytes)[9]);
    said.fields.erase("Checksum");
    CHECK(said.fields == std::map<std::string, std::uint64_t>{
                             {"Revision", table.revision()},
                             {"Table Length", bytes.size()},
                             {"Oem Revision", table.oem_revision()},
                             {"Asl Compiler Revision", table.creator_revision()},
                             {"Host Address Width", table.host_address_width() - 1},
                             {"Flags", table.flags().raw}});
    CHECK(said.texts ==
          std::map<std::string, std::string>{{"Signature", "DMAR"},
                                             {"Oem ID", text_of(table.oem_id())},
                                             {"Oem Table ID", text_of(table.oem_table_id())},
                                             {"Asl Compiler ID", text_of(table.creator_id())},
                                             {"Reserved", "00 00 00 00 00 00 00 00 00 00"}});

    std::size_t n = 0;
    for (const auto structure : table.structures()) {
        REQUIRE(n < said.structures.size());
        told expected = said.structures[n++];
        as_one_edition(expected);
        const told found = tell(structure);
        CAPTURE(structure.offset, found.type);
        CHECK((found.type == 5 || found.type == 6 ? 2 : found.type) == expected.type);
        CHECK(found.fields == expected.fields);
        CHECK(found.name == expected.name);
        CHECK((found.scopes == expected.scopes));
        ++counts.structures;
        counts.scopes += found.scopes.size();
        counts.fields += found.fields.size();
    }
    CHECK(n == said.structures.size());
}

} // namespace

TEST_CASE("DMAR: every real table is what iasl says", "[vtd][dmar][data][rule 20]") {
    const auto paths = shared_data::files("dmar");
    if (paths.empty()) {
        SKIP("no DMAR tables; set PT_SHARED_DATA to the directory that has dmar/");
    }
    if (!iasl_is_here()) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    const scratch here;
    for (const auto& path : paths) {
        write(here.path / path.filename(), known_to_iasl(bytes_of(path)));
    }
    REQUIRE(here.disassemble());
    compared counts;
    for (const auto& path : paths) {
        compare(bytes_of(path), (here.path / path.filename()).replace_extension(".dsl"), counts);
    }
    CHECK(paths.size() >= 100);
    CHECK(counts.structures >= 500);
    CHECK(counts.scopes >= 800);
    CHECK(counts.fields >= 2000);
}

namespace {

/// A machine in which every function of bus 0 up to 00:1f.6 is a bridge to a bus of its own.
struct bridge_for_each {
    pt::result<pt::pci::bus_numbers> read(pt::pci::function_address bridge) {
        const auto behind = static_cast<std::uint32_t>(8 * bridge.device + bridge.function + 1);
        if (bridge.bus != 0 || behind > 0xFF) {
            return error{errc::absent, bridge.source_id()};
        }
        return pt::pci::bus_numbers{behind << 16 | behind << 8};
    }
};

/// Whether one of the scopes names the function in that machine, by iasl's words alone.
bool names(const told& structure, pt::pci::function_address function) {
    const std::uint64_t own = std::uint64_t{function.device} << 8 | function.function;
    for (const auto& scope : structure.scopes) {
        const std::uint64_t type = scope.fields.at("Device Scope Type");
        if (type != 1 && type != 2) {
            continue;
        }
        std::uint64_t bus = scope.fields.at("PCI Bus Number");
        for (std::size_t i = 0; i + 1 < scope.path.size(); ++i) {
            bus = 8 * (scope.path[i] >> 8) + (scope.path[i] & 0xFF) + 1;
        }
        const std::uint64_t last = scope.path.back();
        if (bus == function.bus && last == own) {
            return true;
        }
        if (type == 2 && bus == 0 && 8 * (last >> 8) + (last & 0xFF) + 1 == function.bus) {
            return true;
        }
    }
    return false;
}

} // namespace

TEST_CASE("DMAR: units and regions of real tables' functions are what iasl's scopes say",
          "[vtd][dmar][data][rule 20]") {
    const auto paths = shared_data::files("dmar");
    if (paths.empty()) {
        SKIP("no DMAR tables; set PT_SHARED_DATA to the directory that has dmar/");
    }
    if (!iasl_is_here()) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    const scratch here;
    for (const auto& path : paths) {
        write(here.path / path.filename(), known_to_iasl(bytes_of(path)));
    }
    REQUIRE(here.disassemble());
    std::size_t named = 0;
    std::size_t regions = 0;
    std::size_t behind = 0;
    std::size_t numbered = 0;
    for (const auto& path : paths) {
        const auto bytes = bytes_of(path);
        const auto table = read(bytes).value();
        const told_table said = read_dsl((here.path / path.filename()).replace_extension(".dsl"));
        INFO(path.filename().string());
        std::set<unsigned> buses{0, 0xF0};
        for (const auto& structure : said.structures) {
            for (const auto& scope : structure.scopes) {
                buses.insert(static_cast<unsigned>(
                    (8 * (scope.path[0] >> 8) + (scope.path[0] & 0xFF) + 1) & 0xFF));
            }
        }
        for (const unsigned bus : buses) {
            for (unsigned place = 0; place < 256; ++place) {
                const auto function = pt::pci::function_address::from_source_id(
                    static_cast<std::uint16_t>(bus << 8 | place));
                std::size_t expected = 99;
                std::size_t all = 99;
                std::size_t index = 0;
                std::vector<std::uint64_t> memory;
                for (const told& structure : said.structures) {
                    if (structure.type == 0) {
                        if (expected == 99 && names(structure, function)) {
                            expected = index;
                        }
                        if (structure.fields.at("Flags") == 1) {
                            all = index;
                        }
                        ++index;
                    } else if (structure.type == 1 && names(structure, function)) {
                        memory.push_back(structure.fields.at("Base Address"));
                        memory.push_back(structure.fields.at("End Address (limit)"));
                    }
                }
                named += expected != 99 ? 1U : 0U;
                behind += expected != 99 && bus != 0 ? 1U : 0U;
                expected = expected == 99 ? all : expected;
                const auto unit = pt::vtd::unit_for(table, function, bridge_for_each{});
                std::vector<std::uint64_t> found;
                for (const auto region :
                     pt::vtd::reserved_regions(table, function, bridge_for_each{})) {
                    found.push_back(region.value().memory.first().raw);
                    found.push_back(region.value().memory.last().raw);
                }
                regions += found.size() / 2;
                if ((unit ? unit->index : 99) != expected || found != memory) {
                    CAPTURE(function.source_id());
                    CHECK((unit ? unit->index : 99) == expected);
                    CHECK(found == memory);
                }
            }
        }
        std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
        std::size_t index = 0;
        for (const told& structure : said.structures) {
            for (const auto& scope : structure.scopes) {
                const auto type = scope.fields.at("Device Scope Type");
                const auto number = scope.fields.at("Enumeration ID");
                if (structure.type != 0 || type < 3 || !seen.insert({type, number}).second) {
                    continue;
                }
                const auto device =
                    pt::vtd::unit_for(table, static_cast<device_scope_type>(type),
                                      static_cast<std::uint8_t>(number), bridge_for_each{});
                REQUIRE(device.has_value());
                CHECK(device->unit.index == index);
                CHECK(device->source.source_id() ==
                      (scope.fields.at("PCI Bus Number") << 8 | (scope.path[0] >> 8) << 3 |
                       (scope.path[0] & 0xFF)));
                ++numbered;
            }
            index += structure.type == 0 ? 1 : 0;
        }
    }
    CHECK(named >= 150);
    CHECK(behind >= 20);
    CHECK(regions >= 250);
    CHECK(numbered >= 300);
}

TEST_CASE("DMAR: segments and long paths are what iasl says", "[vtd][dmar][rule 20]") {
    if (!iasl_is_here()) {
        SKIP("no iasl (Debian package acpica-tools)");
    }
    const scratch here;
    // Real tables have a hop or two and only segment 0.
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
    made.satc(0, 1, 0xABCD).scope(1, 0, 0xFE, {31, 7}).end();
    made.structure(6, 0).number(0, 2).number(9, 2).scope(1, 2, 3, {4, 5}, 0xA5).end();
    made.structure(4, 0).number(0, 3).number(0xFF, 1);
    for (const char c : {'\\', '_', 'S', 'B', '.', 'X', '\0'}) {
        made.number(static_cast<std::uint8_t>(c), 1);
    }
    made.end();
    auto bytes = made.table();
    for (std::size_t i = 0; i < 26; ++i) {
        bytes[10 + i] = static_cast<std::uint8_t>('A' + i); // who made it
    }
    bytes = builder::summed(bytes);
    write(here.path / "own.dmar", known_to_iasl(bytes));
    REQUIRE(here.disassemble());
    compared counts;
    compare(bytes, here.path / "own.dsl", counts);
    CHECK(counts.structures == 8);
    CHECK(counts.scopes == 4);
}
