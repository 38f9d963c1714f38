// SPDX-License-Identifier: BSL-1.0
//
// pt-inspect dmar: its JSON, against bytes taken apart here, and its messages. That the parser
// finds what iasl finds is shown in tests/unit/vtd/dmar.cpp.
#include "../shared_data.hpp"
#include "tool.hpp"

#include <cstdint>
#include <cstdio>
#include <string>

namespace {

using tool::json;

/// A table with this body, its length and its checksum.
std::string table(const std::string& body) {
    std::string bytes = std::string("DMAR") + std::string(44, '\0') + body;
    bytes[4] = static_cast<char>(bytes.size());
    bytes[5] = static_cast<char>(bytes.size() >> 8);
    bytes[8] = 1;
    bytes[36] = 38;
    bytes[37] = 1;
    unsigned sum = 0;
    for (const char c : bytes) {
        sum += static_cast<unsigned char>(c);
    }
    bytes[9] = static_cast<char>(0U - sum);
    return bytes;
}

std::string bytes(std::initializer_list<unsigned> list) {
    std::string out;
    for (const unsigned byte : list) {
        out += static_cast<char>(byte);
    }
    return out;
}

const std::string unit = bytes({0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0xD9, 0xFE, 0, 0, 0, 0}) +
                         bytes({1, 8, 0, 0, 0, 0, 2, 0});
const std::string device = bytes({4, 0, 14, 0, 0, 0, 0, 1}) + "\\_SB." + bytes({0});
const std::string unknown = bytes({0x2A, 0, 6, 0, 1, 2});

/// The JSON of a sound table, read off the bytes by the offsets of the specification. Counts the
/// structures.
json decoded(const std::string& raw, std::size_t& structures) {
    const auto number = [&](std::size_t at, unsigned size) {
        std::uint64_t value = 0;
        while (size-- > 0) {
            value = value << 8 | static_cast<std::uint8_t>(raw.at(at + size));
        }
        return value;
    };
    const auto hexadecimal = [](std::uint64_t value) {
        char text[19];
        std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
        return std::string{text};
    };
    json out{{"host_address_width", number(36, 1) + 1}, {"flags", number(37, 1)}};
    for (const char* const kind :
         {"units", "reserved_regions", "atsr", "rhsa", "andd", "satc", "sidp", "unknown"}) {
        out[kind] = json::array();
    }
    for (std::size_t at = 48; at < raw.size(); at += number(at + 2, 2)) {
        ++structures;
        const std::size_t end = at + number(at + 2, 2);
        const auto scopes = [&](std::size_t scope) {
            json list = json::array();
            for (; scope < end; scope += number(scope + 1, 1)) {
                json path = json::array();
                for (std::size_t hop = scope + 6; hop < scope + number(scope + 1, 1); hop += 2) {
                    char text[8];
                    std::snprintf(text, sizeof text, "%02x.%x",
                                  static_cast<unsigned>(number(hop, 1)),
                                  static_cast<unsigned>(number(hop + 1, 1)));
                    path.push_back(text);
                }
                list.push_back({{"type", number(scope, 1)},
                                {"enumeration_id", number(scope + 4, 1)},
                                {"bus", number(scope + 5, 1)},
                                {"path", path}});
            }
            return list;
        };
        const auto segment = number(at + 6, 2);
        switch (number(at, 2)) {
        case 0:
            out["units"].push_back({{"segment", segment},
                                    {"base", hexadecimal(number(at + 8, 8))},
                                    {"include_all", number(at + 4, 1) == 1},
                                    {"scopes", scopes(at + 16)}});
            break;
        case 1:
            out["reserved_regions"].push_back({{"segment", segment},
                                               {"base", hexadecimal(number(at + 8, 8))},
                                               {"limit", hexadecimal(number(at + 16, 8))},
                                               {"scopes", scopes(at + 24)}});
            break;
        case 2:
            out["atsr"].push_back({{"segment", segment},
                                   {"all_ports", number(at + 4, 1) == 1},
                                   {"scopes", scopes(at + 8)}});
            break;
        case 3:
            out["rhsa"].push_back(
                {{"base", hexadecimal(number(at + 8, 8))}, {"proximity", number(at + 16, 4)}});
            break;
        case 4:
            out["andd"].push_back(
                {{"device", number(at + 7, 1)}, {"name", std::string{raw.c_str() + at + 8}}});
            break;
        case 5:
            out["satc"].push_back(
                {{"segment", segment}, {"flags", number(at + 4, 1)}, {"scopes", scopes(at + 8)}});
            break;
        case 6: out["sidp"].push_back({{"segment", segment}, {"scopes", scopes(at + 8)}}); break;
        default: FAIL("a type that no real table had");
        }
    }
    return out;
}

} // namespace

TEST_CASE("pt-inspect dmar --json: the form", "[inspect][dmar]") {
    const tool::scratch here;
    const auto file = here.file("DMAR", table(unit + device + unknown));
    CHECK(tool::inspect_json({"dmar", file}) == json::parse(R"(
        {"host_address_width":39,"flags":1,
         "units":[{"segment":0,"base":"0xfed90000","include_all":false,
                   "scopes":[{"type":1,"enumeration_id":0,"bus":0,"path":["02.0"]}]}],
         "reserved_regions":[],"atsr":[],"rhsa":[],
         "andd":[{"device":1,"name":"\\_SB."}],"satc":[],"sidp":[],
         "unknown":[{"type":42,"offset":"0x56","length":6}]})"));
}

TEST_CASE("pt-inspect dmar: a broken table is refused with the offset", "[inspect][dmar]") {
    const tool::scratch here;
    const auto refused = [&](const std::string& content, const std::string& message) {
        const auto done = tool::inspect({"dmar", here.file("DMAR", content), "--json"});
        CAPTURE(done.err);
        CHECK(done.exit == 1);
        CHECK(done.out.empty());
        CHECK(done.err.find(message) != std::string::npos);
    };
    refused("", "offset 0x0: the file ends");
    refused(std::string(64, 'x'), "offset 0x0: no DMAR table");
    refused(table(unit).substr(0, 60), "offset 0x4: the table says it is longer");
    refused(table(unit + bytes({0, 0, 0, 0})), "offset 0x4a: a structure of type 0 has length 0");
    refused(table(unit + bytes({0x2A, 0, 5, 0})),
            "offset 0x4a: a structure of type 42 has length 5, but 4");
    std::string changed = table(unit);
    changed[60] = '\x77';
    refused(changed, "offset 0x9: the checksum is wrong");
    const auto none = tool::inspect({"dmar", (here.path / "none").string()});
    CHECK(none.exit == 1);
    CHECK(none.err.find("No such file") != std::string::npos);
}

TEST_CASE("pt-inspect dmar --json: every kind of structure", "[inspect][dmar][rule 20]") {
    const auto scope = [](unsigned type, unsigned id, unsigned bus,
                          std::initializer_list<unsigned> path) {
        return bytes({type, static_cast<unsigned>(6 + path.size()), 0, 0, id, bus}) + bytes(path);
    };
    const std::string body =
        bytes({0, 0, 34, 0, 1, 0, 2, 1, 0, 0x10, 0xD9, 0xFE, 1, 0, 0, 0}) +
        scope(3, 8, 0xF0, {0x1F, 7}) + scope(2, 0, 0, {0x1C, 0, 0, 1}) +
        bytes({1, 0, 32, 0, 0, 0, 3, 0, 0, 0, 0x80, 0x7B, 0, 0, 0, 0}) +
        bytes({0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0}) + scope(1, 0, 0, {2, 0}) +
        bytes({2, 0, 8, 0, 1, 0, 4, 0}) + bytes({2, 0, 16, 0, 0, 0, 0, 0}) +
        scope(2, 0, 0, {1, 0}) +
        bytes({3, 0, 20, 0, 0, 0, 0, 0, 0, 0x10, 0xD9, 0xFE, 0, 0, 0, 0, 7, 0, 0, 1}) +
        bytes({5, 0, 16, 0, 1, 0, 5, 0}) + scope(1, 0, 0, {3, 0}) +
        bytes({6, 0, 16, 0, 0, 0, 6, 0}) + scope(1, 0, 0xFF, {0x1E, 6}) + bytes({0xFF, 0xFF, 4, 0});
    const tool::scratch here;
    CHECK(tool::inspect_json({"dmar", here.file("DMAR", table(body))}) == json::parse(R"(
        {"host_address_width":39,"flags":1,
         "units":[{"segment":258,"base":"0x1fed91000","include_all":true,
                   "scopes":[{"type":3,"enumeration_id":8,"bus":240,"path":["1f.7"]},
                             {"type":2,"enumeration_id":0,"bus":0,"path":["1c.0","00.1"]}]}],
         "reserved_regions":[{"segment":3,"base":"0x7b800000","limit":"0x7fffffff",
                   "scopes":[{"type":1,"enumeration_id":0,"bus":0,"path":["02.0"]}]}],
         "atsr":[{"segment":4,"all_ports":true,"scopes":[]},
                 {"segment":0,"all_ports":false,
                   "scopes":[{"type":2,"enumeration_id":0,"bus":0,"path":["01.0"]}]}],
         "rhsa":[{"base":"0xfed91000","proximity":16777223}],
         "andd":[],
         "satc":[{"segment":5,"flags":1,
                   "scopes":[{"type":1,"enumeration_id":0,"bus":0,"path":["03.0"]}]}],
         "sidp":[{"segment":6,
                   "scopes":[{"type":1,"enumeration_id":0,"bus":255,"path":["1e.6"]}]}],
         "unknown":[{"type":65535,"offset":"0xbe","length":4}]})"));
}

TEST_CASE("pt-inspect dmar: a message says whose length is wrong", "[inspect][dmar][rule 20]") {
    const tool::scratch here;
    const auto message = [&](const std::string& body) {
        return tool::inspect({"dmar", here.file("DMAR", table(body))}).err;
    };
    const auto with_scope = [](std::initializer_list<unsigned> scope) {
        return bytes({0, 0, static_cast<unsigned>(16 + scope.size()), 0, 0, 0, 0, 0}) +
               std::string(8, '\0') + bytes(scope);
    };
    const auto contains = [](const std::string& text, const std::string& part) {
        CAPTURE(text);
        CHECK(text.find(part) != std::string::npos);
    };
    contains(message(unit + bytes({1})), "offset 0x48: 1 bytes are left, too few for a structure");
    contains(message(bytes({1, 0, 8, 0, 0, 0, 0, 0})),
             "offset 0x32: a structure of type 1 has length 8, too small for its type");
    contains(message(bytes({9, 0, 8, 0, 0, 0})),
             "offset 0x32: a structure of type 9 has length 8, but 6 bytes are left");
    contains(message(with_scope({1, 0, 0, 0, 0, 0})),
             "offset 0x41: a scope of type 1 has length 0, too small or odd for its type");
    contains(message(with_scope({1, 8, 0, 0, 0, 0, 2, 0, 2, 10, 0, 0, 0, 0, 2, 0})),
             "offset 0x49: a scope of type 2 has length 10, but 8 bytes are left in the structure");
    contains(message(with_scope({1, 8, 0, 0, 0, 0, 2, 0, 2, 8, 0, 0, 0})),
             "offset 0x48: 5 bytes are left in the structure, too few for a scope");
    // The second of two structures, and a region that is no region.
    contains(message(unit + with_scope({3, 7, 0, 0, 0, 0, 2})),
             "offset 0x59: a scope of type 3 has length 7, too small or odd for its type");
    const auto region = bytes({1, 0, 24, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0});
    const auto text = [&](std::initializer_list<unsigned> limit) {
        return tool::inspect({"dmar", here.file("DMAR", table(region + bytes(limit)))}).out;
    };
    contains(text({0xFF, 0x1F, 0, 0, 0, 0, 0, 0}), "0x2000-0x1fff, ends before it begins");
    contains(text({0x00, 0x30, 0, 0, 0, 0, 0, 0}), "0x2000-0x3000, not whole pages");
    contains(text({0xFF, 0x3F, 0, 0, 0, 0, 0, 0}), "0x2000-0x3fff, 8 KiB");
}

TEST_CASE("pt-inspect dmar: every real table has a text and a JSON", "[inspect][dmar][data]") {
    const auto files = shared_data::files("dmar");
    if (files.empty()) {
        SKIP("no DMAR tables; set PT_SHARED_DATA to the directory that has dmar/");
    }
    std::size_t structures = 0;
    for (const auto& file : files) {
        INFO(file.filename().string());
        const json expected = decoded(tool::contents(file), structures);
        CHECK(tool::inspect_json({"dmar", file.string()}) == expected);
        const auto text = tool::inspect({"dmar", file.string()});
        CHECK(text.exit == 0);
        CHECK(text.out.find("remapping unit") != std::string::npos);
    }
    CHECK(files.size() >= 100);
    CHECK(structures >= 500);
}
