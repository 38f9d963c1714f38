// SPDX-License-Identifier: BSL-1.0
//
// pt-inspect dmar: the form of its JSON and its messages. That the parser finds what iasl finds is
// shown in tests/unit/vtd/dmar.cpp.
#include "../shared_data.hpp"
#include "tool.hpp"

#include <cstdint>
#include <map>
#include <string>

namespace {

using tool::json;

/// A table with this body, its length and its checksum.
std::string table(const std::string& body) {
    std::string bytes = std::string("DMAR") + std::string(44, '\0') + body;
    bytes[4] = static_cast<char>(bytes.size());
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
    refused(table(unit + bytes({0, 0, 0, 0})), "offset 0x4a: this length is 0");
    refused(table(unit + bytes({0x2A, 0, 5, 0})), "offset 0x4a: this length runs past the end");
    std::string changed = table(unit);
    changed[60] = '\x77';
    refused(changed, "offset 0x9: the checksum is wrong");
    const auto none = tool::inspect({"dmar", (here.path / "none").string()});
    CHECK(none.exit == 1);
    CHECK(none.err.find("No such file") != std::string::npos);
}

TEST_CASE("pt-inspect dmar: every real table has a text and a JSON", "[inspect][dmar][data]") {
    const auto files = shared_data::files("dmar");
    if (files.empty()) {
        SKIP("no DMAR tables; set PT_SHARED_DATA to the directory that has dmar/");
    }
    std::size_t structures = 0;
    for (const auto& file : files) {
        INFO(file.filename().string());
        // How many structures of each type there are, by their lengths alone.
        const std::string raw = tool::contents(file);
        const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(raw.at(at)); };
        std::map<unsigned, std::size_t> expected;
        for (std::size_t at = 48; at < raw.size(); at += byte(at + 2) + 256U * byte(at + 3)) {
            ++expected[byte(at) | static_cast<unsigned>(byte(at + 1)) << 8];
            ++structures;
        }
        const json found = tool::inspect_json({"dmar", file.string()});
        const char* const names[]{"units", "reserved_regions", "atsr", "rhsa", "andd", "satc",
                                  "sidp"};
        for (unsigned type = 0; type < 7; ++type) {
            CAPTURE(type);
            CHECK(found[names[type]].size() == expected[type]);
        }
        CHECK(found["unknown"].empty());
        const auto text = tool::inspect({"dmar", file.string()});
        CHECK(text.exit == 0);
        CHECK(text.out.find("remapping unit") != std::string::npos);
    }
    CHECK(files.size() >= 100);
    CHECK(structures >= 500);
}
