// SPDX-License-Identifier: BSL-1.0
#include "dmar.hpp"

#include "machine.hpp"
#include "names.hpp"

#include "pt/vtd/dmar.hpp"

#include <cstdint>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace inspect {

namespace vtd = pt::vtd;
using json = nlohmann::ordered_json;

namespace {

std::string hexadecimal(std::uint64_t number) { return fmt::format("0x{:x}", number); }

/// The bytes of a file, and the table over them.
struct table_file {
    std::vector<std::uint8_t> bytes;
    vtd::dmar table;

    explicit table_file(const std::string& file) {
        const std::string text = contents_of(file);
        bytes.assign(text.begin(), text.end());
        const auto read = vtd::dmar::read(bytes.data(), bytes.size());
        if (!read) {
            throw failure{
                fmt::format("{}: offset {:#x}: {}", file, read.error().where, why(read.error()))};
        }
        table = *read;
    }

private:
    [[nodiscard]] std::string why(pt::error wrong) const {
        if (wrong.code == pt::errc::not_supported) {
            return "revision 0 is no revision of a DMAR table";
        }
        if (wrong.where == bytes.size()) {
            return fmt::format("the file ends here; the header alone has {} bytes",
                               vtd::dmar::header_size);
        }
        switch (wrong.where) {
        case 0: return "no DMAR table: the signature is another";
        case 4:
            return wrong.code == pt::errc::out_of_range
                       ? fmt::format("the table says it is longer than the file's {} bytes",
                                     bytes.size())
                       : "the table says it is shorter than its header";
        case 9: return "the checksum is wrong";
        default: return why_a_length(wrong);
        }
    }

    /// From the start of a structure to its scopes, for the types that have some.
    static std::size_t scopes_offset(vtd::remapping_structure_type type) {
        switch (type) {
        case vtd::remapping_structure_type::drhd: return vtd::drhd::scopes_offset;
        case vtd::remapping_structure_type::rmrr: return vtd::rmrr::scopes_offset;
        default: return vtd::atsr::scopes_offset;
        }
    }

    /// Whose length it is that is wrong: up to there all of them are sound.
    [[nodiscard]] std::string why_a_length(pt::error wrong) const {
        const pt::vtd::firmware_bytes all{bytes.data(), bytes.size()};
        const std::size_t end = all.number<std::uint32_t>(4);
        std::size_t at = vtd::dmar::header_size;
        const auto length = [&] { return std::size_t{all.number<std::uint16_t>(at + 2)}; };
        while (wrong.where > at + 2 && wrong.where >= at + length()) {
            at += length();
        }
        if (wrong.where == at) {
            return fmt::format("{} bytes are left, too few for a structure", end - at);
        }
        if (wrong.where == at + 2) {
            return fmt::format("a structure of type {} has length {}, {}",
                               all.number<std::uint16_t>(at), length(),
                               wrong.code == pt::errc::out_of_range
                                   ? fmt::format("but {} bytes are left", end - at)
                                   : "too small for its type");
        }
        std::size_t scope =
            at + scopes_offset(vtd::remapping_structure_type{all.number<std::uint16_t>(at)});
        while (scope + 1 < wrong.where) {
            scope += all[scope + 1];
        }
        const std::size_t left = at + length() - scope;
        if (wrong.where == scope) {
            return fmt::format("{} bytes are left in the structure, too few for a scope", left);
        }
        return fmt::format("a scope of type {} has length {}, {}", all[scope], all[scope + 1],
                           wrong.code == pt::errc::out_of_range
                               ? fmt::format("but {} bytes are left in the structure", left)
                               : "too small or odd for its type");
    }
};

std::string hop_text(vtd::path_hop hop) {
    return fmt::format("{:02x}.{:x}", hop.device, hop.function);
}

std::string name_text(const pt::vtd::firmware_bytes& name) {
    std::string text;
    for (std::size_t i = 0; i < name.size(); ++i) {
        text += static_cast<char>(name[i]);
    }
    return printable(text);
}

json to_json(const vtd::device_scope_list& scopes) {
    json out = json::array();
    for (const auto scope : scopes) {
        json path = json::array();
        for (const auto hop : scope.path) {
            path.push_back(hop_text(hop));
        }
        out.push_back({{"type", static_cast<unsigned>(scope.type)},
                       {"enumeration_id", scope.enumeration_id},
                       {"bus", scope.start_bus},
                       {"path", path}});
    }
    return out;
}

bool is_known(vtd::remapping_structure_type type) {
    return static_cast<unsigned>(type) <=
           static_cast<unsigned>(vtd::remapping_structure_type::sidp);
}

std::string extent_text(const vtd::rmrr& region, const painter& paint) {
    const auto memory = region.region();
    if (memory) {
        return size_text(memory->size());
    }
    return paint.bad(memory.error().code == pt::errc::misaligned ? "not whole pages"
                     : region.limit < region.base                ? "ends before it begins"
                                                                 : "everything");
}

void write_scopes(std::string& out, const vtd::device_scope_list& scopes, const painter& paint) {
    for (const auto scope : scopes) {
        std::string path;
        for (const auto hop : scope.path) {
            path += path.empty() ? "" : " > ";
            path += hop_text(hop);
        }
        using type = vtd::device_scope_type;
        const bool numbered =
            scope.type != type::pci_endpoint && scope.type != type::pci_sub_hierarchy;
        out += fmt::format("    {}  bus {:02x}, {}{}\n",
                           paint.faint(fmt::format("{:<17}", name_of(scope.type))), scope.start_bus,
                           path, numbered ? fmt::format("  number {}", scope.enumeration_id) : "");
    }
}

} // namespace

std::string dmar_json(const std::string& file) {
    const table_file read{file};
    const vtd::dmar& table = read.table;
    json out;
    out["host_address_width"] = table.host_address_width();
    out["flags"] = table.flags().raw;
    out["units"] = json::array();
    for (const auto unit : table.each<vtd::drhd>()) {
        out["units"].push_back({{"segment", unit.segment},
                                {"base", hexadecimal(unit.register_base.raw)},
                                {"include_all", unit.include_pci_all},
                                {"scopes", to_json(unit.scopes)}});
    }
    out["reserved_regions"] = json::array();
    for (const auto region : table.each<vtd::rmrr>()) {
        out["reserved_regions"].push_back({{"segment", region.segment},
                                           {"base", hexadecimal(region.base.raw)},
                                           {"limit", hexadecimal(region.limit.raw)},
                                           {"scopes", to_json(region.scopes)}});
    }
    out["atsr"] = json::array();
    for (const auto ports : table.each<vtd::atsr>()) {
        out["atsr"].push_back({{"segment", ports.segment},
                               {"all_ports", ports.all_ports},
                               {"scopes", to_json(ports.scopes)}});
    }
    out["rhsa"] = json::array();
    for (const auto affinity : table.each<vtd::rhsa>()) {
        out["rhsa"].push_back({{"base", hexadecimal(affinity.register_base.raw)},
                               {"proximity", affinity.proximity_domain}});
    }
    out["andd"] = json::array();
    for (const auto device : table.each<vtd::andd>()) {
        out["andd"].push_back({{"device", device.device_number}, {"name", name_text(device.name)}});
    }
    out["satc"] = json::array();
    for (const auto cache : table.each<vtd::satc>()) {
        out["satc"].push_back({{"segment", cache.segment},
                               {"flags", cache.flags.raw},
                               {"scopes", to_json(cache.scopes)}});
    }
    out["sidp"] = json::array();
    for (const auto property : table.each<vtd::sidp>()) {
        out["sidp"].push_back(
            {{"segment", property.segment}, {"scopes", to_json(property.scopes)}});
    }
    out["unknown"] = json::array();
    for (const auto structure : table.structures()) {
        if (!is_known(structure.type)) {
            out["unknown"].push_back({{"type", static_cast<unsigned>(structure.type)},
                                      {"offset", hexadecimal(structure.offset)},
                                      {"length", structure.bytes.size()}});
        }
    }
    return out.dump(2) + "\n";
}

std::string dmar_text(const std::string& file, const painter& paint) {
    const table_file read{file};
    const vtd::dmar& table = read.table;
    using flags = vtd::dmar_flags;
    const auto yes = [](bool is) { return is ? "yes" : "no"; };
    std::string out = fmt::format(
        "{}  revision {}, {} bits of host address\n"
        "    {} {}\n    {} {}\n    {} {}\n",
        paint.strong("DMAR"), table.revision(), table.host_address_width(),
        paint.faint("interrupt remapping    "), yes(table.flags()[flags::interrupt_remapping]),
        paint.faint("x2APIC opt out         "), yes(table.flags()[flags::x2apic_opt_out]),
        paint.faint("DMA protection opt in  "),
        yes(table.flags()[flags::dma_ctrl_platform_opt_in]));
    for (const auto structure : table.structures()) {
        using type = vtd::remapping_structure_type;
        out += '\n';
        const auto title = [&](const char* name, const std::string& text) {
            out += fmt::format("{}  {}  {}\n", paint.strong(name), text,
                               paint.faint(fmt::format("(offset {:#x})", structure.offset)));
        };
        switch (structure.type) {
        case type::drhd: {
            const auto unit = vtd::drhd::decode(structure.bytes);
            title("remapping unit",
                  fmt::format("registers {:#x}, {}; segment {:04x}{}", unit.register_base.raw,
                              size_text(unit.register_set_size), unit.segment,
                              unit.include_pci_all ? "; all functions that no other unit names"
                                                   : ""));
            write_scopes(out, unit.scopes, paint);
            break;
        }
        case type::rmrr: {
            const auto region = vtd::rmrr::decode(structure.bytes);
            title("reserved memory",
                  fmt::format("{:#x}-{:#x}, {}; segment {:04x}", region.base.raw, region.limit.raw,
                              extent_text(region, paint), region.segment));
            write_scopes(out, region.scopes, paint);
            break;
        }
        case type::atsr: {
            const auto ports = vtd::atsr::decode(structure.bytes);
            title("root ports with ATS", fmt::format("segment {:04x}{}", ports.segment,
                                                     ports.all_ports ? "; all ports" : ""));
            write_scopes(out, ports.scopes, paint);
            break;
        }
        case type::rhsa: {
            const auto affinity = vtd::rhsa::decode(structure.bytes);
            title("unit affinity",
                  fmt::format("registers {:#x}; proximity domain {}", affinity.register_base.raw,
                              affinity.proximity_domain));
            break;
        }
        case type::andd: {
            const auto device = vtd::andd::decode(structure.bytes);
            title("ACPI device",
                  fmt::format("number {}; {}", device.device_number, name_text(device.name)));
            break;
        }
        case type::satc: {
            const auto cache = vtd::satc::decode(structure.bytes);
            title("integrated devices with ATS",
                  fmt::format("segment {:04x}{}", cache.segment,
                              cache.flags[vtd::satc_flags::atc_required] ? "; they need it" : ""));
            write_scopes(out, cache.scopes, paint);
            break;
        }
        case type::sidp: {
            const auto property = vtd::sidp::decode(structure.bytes);
            title("integrated devices' properties",
                  fmt::format("segment {:04x}", property.segment));
            write_scopes(out, property.scopes, paint);
            break;
        }
        default:
            title("unknown structure",
                  fmt::format("type {}, {} bytes", static_cast<unsigned>(structure.type),
                              structure.bytes.size()));
        }
    }
    return out;
}

} // namespace inspect
