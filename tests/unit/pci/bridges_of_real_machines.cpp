// SPDX-License-Identifier: BSL-1.0
//
// Bridges of real machines: pt reads the hexadecimal dump of each file, and what it must find is what
// lspci, asked about the same file, prints of buses and windows.
#include "../../shared_data.hpp"
#include "dump_config.hpp"

#include "pt/pci/bridge.hpp"
#include "pt/pci/bridge_window.hpp"
#include "pt/pci/enumerate.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string>
#include <vector>

using pt::pci::bridge_window;
using pt::pci::function_address;
using pt::pci::window_kind;

namespace {

using dump = std::map<function_address, std::vector<std::uint8_t>>;

using dump_config = dump_config_of<dump>;

const std::regex head{R"(^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*)"};

function_address address_of(const std::string& text) {
    return function_address::parse(text.data(), text.size()).value();
}

dump read_dump(const std::filesystem::path& file) {
    static const std::regex row{R"(^[0-9a-f]{2,3}:((?: [0-9a-f]{2}){16})\s*$)"};
    dump all;
    std::vector<std::uint8_t>* now = nullptr;
    std::ifstream in{file};
    std::smatch match;
    for (std::string line; std::getline(in, line);) {
        if (std::regex_match(line, match, head)) {
            now = &all[address_of(match[1])];
        } else if (now != nullptr && std::regex_match(line, match, row)) {
            const std::string bytes = match[1];
            for (std::size_t i = 0; i < 16; ++i) {
                const auto byte = std::stoul(bytes.substr(3 * i + 1, 2), nullptr, 16);
                now->push_back(static_cast<std::uint8_t>(byte));
            }
        }
    }
    return all;
}

/// What lspci says of a bridge. A window that it calls disabled is there without a value.
struct said {
    unsigned primary = 0;
    unsigned secondary = 0;
    unsigned subordinate = 0;
    std::map<window_kind, std::optional<bridge_window>> windows;
};
using text = std::map<function_address, std::optional<said>>; // all functions

/// Asks lspci; empty if there is none.
text ask_lspci(const std::filesystem::path& file) {
    static const std::regex bus{R"(^\tBus: primary=(..), secondary=(..), subordinate=(..),.*)"};
    static const std::regex window{
        R"(^\t(I/O|Memory|Prefetchable memory) behind bridge: )"
        R"(([0-9a-f]+)-([0-9a-f]+) \[(disabled|size=[^\]]*)\] \[(16|32|64)-bit\]$)"};

    const std::string command = "LC_ALL=C lspci -n -vvv -F '" + file.string() + "' 2>/dev/null";
    std::FILE* const pipe = popen(command.c_str(), "r"); // NOLINT(cert-env33-c)
    REQUIRE(pipe != nullptr);
    std::string output;
    char some[4096];
    while (std::fgets(some, sizeof some, pipe) != nullptr) {
        output += some;
    }
    pclose(pipe);

    text all;
    std::optional<said>* now = nullptr;
    std::smatch match;
    std::size_t begin = 0;
    while (begin < output.size()) {
        const std::size_t end = output.find('\n', begin);
        const std::string line = output.substr(begin, end - begin);
        begin = end == std::string::npos ? end : end + 1;
        if (std::regex_match(line, match, head)) {
            now = &all[address_of(match[1])];
        } else if (now != nullptr && std::regex_match(line, match, bus)) {
            const auto number = [&](std::size_t i) {
                return static_cast<unsigned>(std::stoul(match[i], nullptr, 16));
            };
            *now = said{number(1), number(2), number(3), {}};
        } else if (now != nullptr && std::regex_match(line, match, window)) {
            const window_kind kind = match[1] == "I/O"      ? window_kind::io
                                     : match[1] == "Memory" ? window_kind::memory
                                                            : window_kind::prefetchable;
            std::optional<bridge_window> open;
            if (match[4] != "disabled") {
                open = bridge_window{kind, std::stoull(match[2], nullptr, 16),
                                     std::stoull(match[3], nullptr, 16),
                                     static_cast<std::uint8_t>(std::stoul(match[5]))};
            }
            (*now)->windows[kind] = open;
        }
    }
    return all;
}

/// The depth-first order, by recursion over what lspci says.
void walk(const text& all, unsigned bus, function_address bridge, unsigned depth,
          std::vector<pt::pci::tree_function>& found) {
    for (const auto& [address, about] : all) {
        if (address.bus != bus) {
            continue;
        }
        found.push_back({address, {}, {}, bridge, static_cast<std::uint8_t>(depth)});
        if (about) {
            walk(all, about->secondary, address, depth + 1, found);
        }
    }
}

} // namespace

TEST_CASE("real bridges: buses and windows are those that lspci prints", "[pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    if (ask_lspci(files.front()).empty()) {
        SKIP("no lspci");
    }
    unsigned bridges = 0;
    unsigned open = 0;
    unsigned closed = 0;
    for (const auto& file : files) {
        INFO(file.filename().string());
        const dump all = read_dump(file);
        for (const auto& [address, about] : ask_lspci(file)) {
            INFO(address.text().data());
            REQUIRE(all.contains(address));
            dump_config config{&all};
            if (!about) {
                CHECK_FALSE(pt::pci::read_window(config, address, window_kind::memory));
                continue;
            }
            ++bridges;
            using pt::pci::bus_numbers;
            const auto numbers = pt::pci::read<bus_numbers>(config, address);
            CHECK(numbers[bus_numbers::primary] == about->primary);
            CHECK(numbers[bus_numbers::secondary] == about->secondary);
            CHECK(numbers[bus_numbers::subordinate] == about->subordinate);
            for (const auto& [kind, expected] : about->windows) {
                const auto window = pt::pci::read_window(config, address, kind);
                if (expected) {
                    REQUIRE(window);
                    CHECK(*window == *expected);
                    ++open;
                } else {
                    REQUIRE_FALSE(window);
                    CHECK(window.error().code == pt::errc::absent);
                    ++closed;
                }
            }
        }
    }
    CHECK(bridges > 20);
    CHECK(open > 30);
    CHECK(closed > 20);
    WARN(bridges << " bridges, " << open << " open windows, " << closed << " closed ones");
}

TEST_CASE("real trees: a scan finds what lspci lists, behind the bridges that it says",
          "[pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    if (ask_lspci(files.front()).empty()) {
        SKIP("no lspci");
    }
    unsigned trees = 0;
    for (const auto& file : files) {
        if (file.filename().string().rfind("tree-", 0) != 0) {
            continue; // the others are single functions
        }
        INFO(file.filename().string());
        const dump bytes = read_dump(file);
        const text all = ask_lspci(file);
        std::set<unsigned> first_buses;
        for (const auto& [address, about] : all) {
            first_buses.insert(address.bus);
        }
        for (const auto& [address, about] : all) {
            if (about) {
                first_buses.erase(about->secondary);
            }
        }
        std::size_t functions = 0;
        for (const unsigned bus : first_buses) {
            std::vector<pt::pci::tree_function> expected;
            walk(all, bus, {0, 0, 32, 0}, 0, expected);
            std::vector<pt::pci::tree_function> found;
            for (auto each :
                 pt::pci::scan_tree(dump_config{&bytes}, static_cast<std::uint8_t>(bus))) {
                const auto& about = all.at(each.address);
                CHECK(pt::pci::has_buses_behind(each.layout) == about.has_value());
                each.id = {};
                each.layout = {};
                found.push_back(each);
            }
            CHECK(found == expected);
            functions += found.size();
            ++trees;
        }
        CHECK(functions == all.size());
        CHECK(functions == bytes.size());
    }
    CHECK(trees == 3); // two in one of them: its processor has a bus for itself
}
