// SPDX-License-Identifier: BSL-1.0
//
// pt-inspect pci --json over dumps of real machines, against what lspci prints of the same files:
// lspci (pciutils) is the decoder that nobody here wrote. Where it says less than the registers:
//
// - It has no option that prints a header type: "behind bridge" lines make a type 1, CardBus windows
//   a type 2.
// - It names capabilities and does not number them; `names` below has the numbers. Two numbers (0002
//   and 0009) are both its "Virtual Channel".
// - Reading from a file, it takes the upper half of a 64-bit BAR, where that is not 0, for one more
//   region, "<unassigned>" because its address has gone to the region before.
// - "[disabled]" windows are those with a base above the limit: closed ones.
// - [virtual] (an address that the kernel knows and the register does not hold) does not occur with
//   a file; the pattern would not match it, and the comparison would fail.
// - Regions that are indented deeper are those of virtual functions (SR-IOV), no BARs.
#include "../shared_data.hpp"
#include "tool.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <regex>
#include <sstream>
#include <utility>
#include <vector>

using tool::json;

namespace {

/// A name as lspci begins it, and the numbers that it stands for.
struct named {
    const char* begin;
    std::vector<unsigned> ids;
};

const std::vector<named> standard_names{
    {"Power Management version", {0x01}},
    {"AGP version", {0x02}},
    {"Vital Product Data", {0x03}},
    {"Slot ID", {0x04}},
    {"MSI-X: ", {0x11}},
    {"MSI: ", {0x05}},
    {"CompactPCI hot-swap", {0x06}},
    {"PCI-X ", {0x07}},
    {"HyperTransport: ", {0x08}},
    {"Vendor Specific Information: ", {0x09}},
    {"Debug port: ", {0x0A}},
    {"Hot-plug capable", {0x0C}},
    {"Subsystem: ", {0x0D}},
    {"Express (v", {0x10}},
    {"SATA HBA ", {0x12}},
    {"PCI Advanced Features", {0x13}},
    {"Enhanced Allocation (EA)", {0x14}},
};

const std::vector<named> extended_names{
    {"Advanced Error Reporting", {0x01}},
    {"Virtual Channel", {0x02, 0x09}},
    {"Device Serial Number", {0x03}},
    {"Power Budgeting", {0x04}},
    {"Root Complex Link", {0x05}},
    {"Root Complex Event Collector Endpoint Association", {0x07}},
    {"Multi-Function Virtual Channel", {0x08}},
    {"Vendor Specific Information: ", {0x0B}},
    {"Access Control Services", {0x0D}},
    {"Alternative Routing-ID Interpretation", {0x0E}},
    {"Address Translation Service", {0x0F}},
    {"Single Root I/O Virtualization", {0x10}},
    {"Multicast", {0x12}},
    {"Page Request Interface", {0x13}},
    {"Physical Resizable BAR", {0x15}},
    {"Transaction Processing Hints", {0x17}},
    {"Latency Tolerance Reporting", {0x18}},
    {"Secondary PCI Express", {0x19}},
    {"Process Address Space ID", {0x1B}},
    {"L1 PM Substates", {0x1E}},
    {"Precision Time Measurement", {0x1F}},
    {"Designated Vendor-Specific: ", {0x23}},
    {"Data Link Feature", {0x25}},
    {"Physical Layer 16.0 GT/s", {0x26}},
    {"Lane Margining at the Receiver", {0x27}},
    {"Data Object Exchange", {0x2E}},
};

struct capability {
    unsigned offset = 0;
    std::vector<unsigned> ids; // one of them
};

struct function {
    std::string vendor;
    std::string device;
    std::string class_code;
    unsigned header_type = 0;
    std::map<unsigned, json> bars; // index, as pt-inspect prints it
    json bridge;
    std::vector<capability> capabilities;
    std::vector<capability> extended_capabilities;
    json msi;
    json msi_x;
};

unsigned number(const std::string& text) {
    return static_cast<unsigned>(std::stoul(text, nullptr, 16));
}

std::string hexadecimal(const std::string& digits) {
    std::ostringstream out;
    out << "0x" << std::hex << std::stoull(digits, nullptr, 16);
    return out.str();
}

std::string two_digits(const std::string& digits) {
    return digits.size() < 2 ? "0" + digits : digits;
}

std::vector<unsigned> ids_of(const std::vector<named>& names, const std::string& text) {
    static const std::regex unnamed{R"(^(?:#|Extended Capability ID 0x)([0-9a-f]+).*)"};
    std::smatch match;
    if (std::regex_match(text, match, unnamed)) {
        return {number(match[1])};
    }
    for (const named& name : names) {
        if (text.rfind(name.begin, 0) == 0) {
            return name.ids;
        }
    }
    FAIL("lspci prints a capability that this test has no number for: " << text);
    return {};
}

/// All functions by their address, from the text of `lspci -D -nvvv`.
std::map<std::string, function> read(const std::string& text) {
    static const std::regex head{
        R"(^(\S+\.[0-7]) ([0-9a-f]{4}): ([0-9a-f]{4}):([0-9a-f]{4})(.*)$)"};
    static const std::regex interface { R"(.*\(prog-if ([0-9a-f]{2}).*)" };
    static const std::regex region{
        R"(^\tRegion ([0-5]): (Memory|I/O ports) at (<unassigned>|[0-9a-f]+)(?: \(([^)]*)\))?(?: \[disabled\])?$)"};
    static const std::regex rom{
        R"(^\tExpansion ROM at (<unassigned>|[0-9a-f]+)(?: \[disabled\])?$)"};
    static const std::regex buses{
        R"(^\tBus: primary=([0-9a-f]+), secondary=([0-9a-f]+), subordinate=([0-9a-f]+),.*)"};
    static const std::regex window{
        R"(^\t(I/O|Memory|Prefetchable memory) behind bridge: ([0-9a-f]+)-([0-9a-f]+)( \[disabled\])?.*)"};
    static const std::regex standard{R"(^\tCapabilities: \[([0-9a-f]+)\] (.*)$)"};
    static const std::regex extended{R"(^\tCapabilities: \[([0-9a-f]+) v\d+\] (.*)$)"};
    static const std::regex msi{R"(^MSI: Enable. Count=\d+/(\d+) Maskable(.) 64bit(.)$)"};
    static const std::regex msi_x{R"(^MSI-X: Enable. Count=(\d+) Masked.$)"};
    static const std::regex structure{R"(^\t\t(Vector table|PBA): BAR=(\d) offset=([0-9a-f]+)$)"};

    std::map<std::string, function> functions;
    function* now = nullptr;
    std::istringstream in{text};
    std::smatch match;
    std::smatch parts;
    for (std::string line; std::getline(in, line);) {
        if (std::regex_match(line, match, head)) {
            now = &functions[match[1]];
            now->vendor = match[3];
            now->device = match[4];
            const std::string rest = match[5];
            now->class_code =
                match[2].str() + (std::regex_match(rest, parts, interface) ? parts[1].str() : "00");
        } else if (now == nullptr) {
            continue;
        } else if (std::regex_match(line, match, region)) {
            const unsigned index = number(match[1]);
            const bool unassigned = match[3] == "<unassigned>";
            const auto before = now->bars.find(index - 1);
            if (unassigned && index > 0 && before != now->bars.end() &&
                before->second["kind"] == "mem64") {
                continue; // the upper half
            }
            const std::string kind = match[4];
            now->bars[index] = {{"index", index},
                                {"kind", match[2] != "Memory"           ? "io"
                                         : kind.rfind("64-bit", 0) == 0 ? "mem64"
                                         : kind.rfind("low-1M", 0) == 0 ? "mem1m"
                                                                        : "mem32"},
                                {"prefetchable", kind.find(", prefetchable") != std::string::npos},
                                {"address", unassigned ? "0x0" : hexadecimal(match[3])}};
        } else if (std::regex_match(line, match, rom)) {
            now->bars[6] = {
                {"index", 6},
                {"kind", "rom"},
                {"prefetchable", false},
                {"address", match[1] == "<unassigned>" ? "0x0" : hexadecimal(match[1])}};
        } else if (std::regex_match(line, match, buses)) {
            now->header_type = 2; // until a window says 1
            now->bridge = {{"primary", number(match[1])},
                           {"secondary", number(match[2])},
                           {"subordinate", number(match[3])},
                           {"io", nullptr},
                           {"memory", nullptr},
                           {"prefetchable", nullptr}};
        } else if (std::regex_match(line, match, window)) {
            now->header_type = 1;
            const char* const kind = match[1] == "I/O"      ? "io"
                                     : match[1] == "Memory" ? "memory"
                                                            : "prefetchable";
            if (!match[4].matched) {
                now->bridge[kind] = {{"base", hexadecimal(match[2])},
                                     {"limit", hexadecimal(match[3])}};
            }
        } else if (std::regex_match(line, match, standard)) {
            const std::string name = match[2];
            now->capabilities.push_back({number(match[1]), ids_of(standard_names, name)});
            if (std::regex_match(name, parts, msi)) {
                now->msi = {{"offset", two_digits(match[1])},
                            {"vectors", std::stoi(parts[1])},
                            {"is_64bit", parts[3] == "+"},
                            {"maskable", parts[2] == "+"}};
            } else if (std::regex_match(name, parts, msi_x)) {
                now->msi_x = {{"offset", two_digits(match[1])}, {"vectors", std::stoi(parts[1])}};
            }
        } else if (std::regex_match(line, match, extended)) {
            now->extended_capabilities.push_back(
                {number(match[1]), ids_of(extended_names, match[2])});
        } else if (std::regex_match(line, match, structure)) {
            const std::string which = match[1] == "PBA" ? "pba" : "table";
            now->msi_x[which + "_bar"] = number(match[2]);
            now->msi_x[which + "_offset"] = hexadecimal(match[3]);
        }
    }
    return functions;
}

std::size_t compare(const json& found, const std::vector<capability>& expected) {
    CHECK(found.size() == expected.size());
    for (std::size_t i = 0; i < found.size() && i < expected.size(); ++i) {
        CAPTURE(found[i].dump());
        CHECK(number(found[i]["offset"]) == expected[i].offset);
        const unsigned id = number(found[i]["id"]);
        CHECK(std::find(expected[i].ids.begin(), expected[i].ids.end(), id) !=
              expected[i].ids.end());
    }
    return expected.size();
}

struct counts {
    std::size_t functions = 0;
    std::size_t bars = 0;
    std::size_t bridges = 0;
    std::size_t windows = 0;
    std::size_t capabilities = 0;
    std::size_t extended_capabilities = 0;
    std::size_t msi = 0;
    std::size_t msi_x = 0;
};

void compare(const json& found, const function& expected, counts& count) {
    CHECK(found["vendor"] == expected.vendor);
    CHECK(found["device"] == expected.device);
    CHECK(found["class"] == expected.class_code);
    CHECK(found["header_type"] == expected.header_type);
    json bars = json::array();
    for (const auto& [index, bar] : expected.bars) {
        bars.push_back(bar);
    }
    CHECK(found["bars"] == bars);
    CHECK(found["bridge"] == expected.bridge);
    CHECK(found["msi"] == expected.msi);
    CHECK(found["msix"] == expected.msi_x);
    ++count.functions;
    count.bars += bars.size();
    if (!expected.bridge.is_null()) {
        ++count.bridges;
        for (const char* const kind : {"io", "memory", "prefetchable"}) {
            count.windows += expected.bridge[kind].is_null() ? 0 : 1;
        }
    }
    count.capabilities += compare(found["capabilities"], expected.capabilities);
    count.extended_capabilities +=
        compare(found["extended_capabilities"], expected.extended_capabilities);
    count.msi += expected.msi.is_null() ? 0 : 1;
    count.msi_x += expected.msi_x.is_null() ? 0 : 1;
}

} // namespace

TEST_CASE("pt-inspect pci: every real dump is what lspci says", "[inspect][pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    if (!tool::is_here("lspci")) {
        SKIP("no lspci (Debian package pciutils)");
    }
    counts count;
    for (const auto& file : files) {
        INFO(file.filename().string());
        const auto said = tool::run({"lspci", "-D", "-F", file.string(), "-nvvv"});
        REQUIRE(said.exit == 0);
        const auto expected = read(said.out);
        const json found = tool::inspect_json({"pci", "--dump", file.string()});
        CHECK(found.size() == expected.size());
        for (const json& each : found) {
            INFO(each["address"].get<std::string>());
            const auto at = expected.find(each["address"]);
            REQUIRE(at != expected.end());
            compare(each, at->second, count);
        }
    }
    CHECK(files.size() >= 20);
    CHECK(count.functions >= 90);
    CHECK(count.bars >= 60);
    CHECK(count.bridges >= 18);
    CHECK(count.windows >= 30);
    CHECK(count.capabilities >= 150);
    CHECK(count.extended_capabilities >= 80);
    CHECK(count.msi >= 30);
    CHECK(count.msi_x >= 6);
    WARN(files.size() << " files, " << count.functions << " functions, " << count.bars << " BARs, "
                      << count.bridges << " bridges with " << count.windows << " open windows, "
                      << count.capabilities << " + " << count.extended_capabilities
                      << " capabilities, " << count.msi << " MSI, " << count.msi_x << " MSI-X");
}
