// SPDX-License-Identifier: BSL-1.0
//
// Configuration spaces of real machines, as `lspci -vvxxx` wrote them: the hexadecimal dump is what
// pt reads, and lspci's own text above it says what must be found.
#include "../../shared_data.hpp"
#include "dump_config.hpp"

#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <string>
#include <vector>

using pt::pci::function_address;

namespace {

struct region {
    bool is_io = false;
    bool is_64bit = false;
    bool prefetchable = false;
    std::uint64_t address = 0;
    friend bool operator==(const region&, const region&) = default;
};

struct dumped {
    std::vector<std::uint8_t> bytes;
    // What lspci's text says. Of regions the first: those of virtual functions come later.
    std::vector<unsigned> capabilities; // both lists, in order
    std::map<unsigned, region> regions;
};

using machine = std::map<function_address, dumped>;

using dump_config = dump_config_of<machine>;

machine parse(const std::filesystem::path& file) {
    static const std::regex head{R"(^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*)"};
    static const std::regex row{R"(^([0-9a-f]{2,3}):((?: [0-9a-f]{2}){16})\s*$)"};
    static const std::regex capability{R"(^\s+Capabilities: \[([0-9a-f]+)[^\]]*\].*)"};
    static const std::regex memory{
        R"(^\s+Region ([0-5]): Memory at ([0-9a-f]+) \((32|64)-bit, (non-)?prefetchable\).*)"};
    static const std::regex ports{R"(^\s+Region ([0-5]): I/O ports at ([0-9a-f]+).*)"};

    machine functions;
    dumped* now = nullptr;
    std::ifstream in{file};
    std::smatch match;
    for (std::string line; std::getline(in, line);) {
        if (std::regex_match(line, match, head)) {
            const std::string text = match[1];
            now = &functions[pt::pci::function_address::parse(text.data(), text.size()).value()];
        } else if (now == nullptr) {
            continue;
        } else if (std::regex_match(line, match, row)) {
            REQUIRE(std::stoul(match[1], nullptr, 16) == now->bytes.size());
            const std::string bytes = match[2];
            for (std::size_t i = 0; i < 16; ++i) {
                const auto byte = std::stoul(bytes.substr(3 * i + 1, 2), nullptr, 16);
                now->bytes.push_back(static_cast<std::uint8_t>(byte));
            }
        } else if (std::regex_match(line, match, capability)) {
            now->capabilities.push_back(static_cast<unsigned>(std::stoul(match[1], nullptr, 16)));
        } else if (std::regex_match(line, match, memory)) {
            now->regions.try_emplace(static_cast<unsigned>(std::stoul(match[1])),
                                     region{false, match[3] == "64", !match[4].matched,
                                            std::stoull(match[2], nullptr, 16)});
        } else if (std::regex_match(line, match, ports)) {
            now->regions.try_emplace(
                static_cast<unsigned>(std::stoul(match[1])),
                region{true, false, false, std::stoull(match[2], nullptr, 16)});
        }
    }
    return functions;
}

} // namespace

TEST_CASE("real functions: capabilities and BARs are where lspci found them", "[pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    unsigned functions = 0;
    unsigned with_text = 0;
    unsigned regions = 0;
    for (const auto& file : files) {
        const machine all = parse(file);
        INFO(file.filename().string());
        REQUIRE_FALSE(all.empty());
        for (const auto& [address, function] : all) {
            INFO(address.text().data());
            const dump_config config{&all};
            ++functions;

            std::vector<unsigned> found;
            for (const auto capability : pt::pci::capabilities(config, address)) {
                found.push_back(capability.offset);
            }
            for (const auto capability : pt::pci::extended_capabilities(config, address)) {
                found.push_back(capability.offset);
            }
            std::vector<unsigned> expected;
            for (const unsigned offset : function.capabilities) {
                if (offset < function.bytes.size()) { // some dumps are shorter than their text
                    expected.push_back(offset);
                }
            }
            if (file.filename() == "cap-flitmode") {
                expected.push_back(0x300); // the header at 0x180 leads there; the text stops before
            }
            if (!function.capabilities.empty()) {
                CHECK(found == expected);
                ++with_text;
            }

            const auto bars = pt::pci::read_bars(config, address);
            for (const auto& [index, said] : function.regions) {
                CAPTURE(index);
                const auto bar = bars.find(static_cast<std::uint8_t>(index));
                if (said.address == 0 || !bar) {
                    CHECK(said.address == 0); // "[virtual]": not in the register
                    continue;
                }
                const region read{bar->kind == pt::pci::bar_kind::io,
                                  bar->kind == pt::pci::bar_kind::mem64, bar->prefetchable,
                                  bar->address};
                CHECK(read == said);
                ++regions;
            }
        }
    }
    CHECK(functions > 90);
    CHECK(with_text > 15);
    CHECK(regions > 15);
    WARN(functions << " functions, " << with_text << " with a text, " << regions << " BARs");
}

TEST_CASE("real buses: a scan finds the functions that lspci listed", "[pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    for (const auto& file : files) {
        if (file.filename().string().rfind("tree-", 0) != 0) {
            continue; // the others are single functions
        }
        INFO(file.filename().string());
        const machine all = parse(file);
        std::vector<function_address> expected;
        std::vector<function_address> found;
        for (const auto& [address, function] : all) {
            expected.push_back(address);
        }
        for (unsigned bus = 0; bus < 256; ++bus) {
            for (const auto function :
                 pt::pci::scan_bus(dump_config{&all}, static_cast<std::uint8_t>(bus))) {
                found.push_back(function.address);
            }
        }
        CHECK(found == expected);
    }
}
