// SPDX-License-Identifier: BSL-1.0
#include "../../shared_data.hpp"

#include "pt/hosted/lspci_dump.hpp"

#include "pt/core/width.hpp"
#include "pt/pci/function_address.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

using pt::width;
using pt::hosted::config_snapshot;
using pt::hosted::dump_error;
using pt::hosted::lspci_dump;
using pt::pci::function_address;

namespace {

config_snapshot good(std::string_view text) {
    auto read = lspci_dump::read(text);
    if (const auto* wrong = std::get_if<dump_error>(&read)) {
        FAIL("line " << wrong->line << ": " << wrong->what);
    }
    return std::get<config_snapshot>(std::move(read));
}

/// The line that is complained about; the message must hold `what`.
std::size_t bad_line(std::string_view text, std::string_view what) {
    const auto read = lspci_dump::read(text);
    const auto* const wrong = std::get_if<dump_error>(&read);
    REQUIRE(wrong != nullptr);
    CAPTURE(wrong->what);
    CHECK(wrong->what.find(what) != std::string::npos);
    return wrong->line;
}

constexpr function_address nic{0, 2, 0, 0};
constexpr function_address far_nic{0x12, 0x80, 0x1f, 7};

const std::string row_00 = "00: 86 80 d3 10 07 04 10 00 00 00 00 02 10 00 00 00\n";
const std::string row_10 = "10: 00 00 1c f7 00 00 00 00 01 e0 00 00 00 00 20 f7\n";
const std::string nic_line = "02:00.0 Ethernet controller: Intel Corporation 82574L\n";

} // namespace

TEST_CASE("lspci dump: functions in the file's order, with and without a segment",
          "[hosted][lspci]") {
    const auto read = good("0012:80:1f.7 Ethernet controller: somebody\n" + row_00 + "\n" +
                           nic_line + row_00 + row_10);
    REQUIRE(read.functions().size() == 2);
    CHECK(read.functions()[0].address == far_nic);
    CHECK(read.functions()[0].bytes.size() == 16);
    CHECK(read.functions()[1].address == nic);
    CHECK(read.functions()[1].bytes.size() == 32);
    CHECK(read.find(function_address{0, 0, 0, 0}) == nullptr);
}

TEST_CASE("lspci dump: the bytes read little-endian, and nobody home reads all ones",
          "[hosted][lspci]") {
    const auto read = good(nic_line + row_00 + row_10);
    auto config = read.access();
    CHECK(config.read(nic, 0x00, width::dword) == 0x10D3'8086);
    CHECK(config.read(nic, 0x12, width::word) == 0xF71C);
    CHECK(config.read(nic, 0x1F, width::byte) == 0xF7);
    CHECK(config.read(nic, 0x20, width::dword) == 0xFFFF'FFFF);
    CHECK(config.read(nic, 0xFFC, width::byte) == 0xFF);
    CHECK(config.read(far_nic, 0, width::word) == 0xFFFF);
    config.write(nic, 0, width::dword, 0);
    CHECK(config.read(nic, 0, width::dword) == 0x10D3'8086);
}

TEST_CASE("lspci dump: the text of -v, CR LF, blanks and upper case are no trouble",
          "[hosted][lspci]") {
    const auto read = good("lspci: Unable to load libkmod resources: error -2\r\n"
                           "02:00.0 Ethernet controller: Intel Corporation 82574L\r\n"
                           "\tCapabilities: [c8] Power Management version 2\r\n"
                           "\tFlags: bus master, 00: 11 22\r\n"
                           "00: 86 80 D3 10 07 04 10 00 00 00 00 02 10 00 00 00   \r\n"
                           "\r\n");
    CHECK(read.access().read(nic, 0, width::dword) == 0x10D3'8086);
    CHECK(read.functions()[0].bytes.size() == 16);
}

TEST_CASE("lspci dump: extended configuration space has offsets of three digits",
          "[hosted][lspci]") {
    std::string text = nic_line;
    for (unsigned offset = 0; offset < 4096; offset += 16) {
        char head[8];
        std::snprintf(head, sizeof head, "%02x:", offset);
        text += head;
        for (unsigned i = 0; i < 16; ++i) {
            text += offset == 0x100 && i == 0 ? " 01" : " 00";
        }
        text += "\n";
    }
    const auto read = good(text);
    CHECK(read.functions()[0].bytes.size() == 4096);
    CHECK(read.access().read(nic, 0x100, width::dword) == 1);
    CHECK(bad_line(text + "1000: 00\n", "beyond configuration space") == 258);
}

TEST_CASE("lspci dump: blanks at the end cost no more than other lines", "[hosted][lspci]") {
    // Looking ahead from each of them took minutes.
    const auto read = good(nic_line + "00: 86 80\n" + std::string(2'000'000, '\n'));
    CHECK(read.functions().at(0).bytes.size() == 2);
}

TEST_CASE("lspci dump: a file that was cut short holds what came before", "[hosted][lspci]") {
    const std::string whole = nic_line + row_00 + "03:00.0 x\n" + row_00;
    const std::size_t second = (nic_line + row_00 + "03:00.0 x\n").size();
    // The one cut that leaves a function without a byte leaves it out.
    CHECK(good(whole.substr(0, second)).functions().size() == 1);
    CHECK(good(whole.substr(0, second + 4)).functions().size() == 1);
    for (std::size_t bytes = 1; bytes <= 16; ++bytes) {
        // "00:" and three characters a byte; half a byte is none.
        const std::size_t end = second + 3 + 3 * bytes;
        CAPTURE(bytes);
        CHECK(good(whole.substr(0, end)).functions().at(1).bytes.size() == bytes);
        if (bytes < 16) {
            CHECK(good(whole.substr(0, end + 1)).functions().at(1).bytes.size() == bytes);
            CHECK(good(whole.substr(0, end + 2)).functions().at(1).bytes.size() == bytes);
        }
        CHECK(good(whole.substr(0, end) + "\n\n").functions().at(1).bytes.size() == bytes);
    }
    // Half a dword is there, the other half is not.
    CHECK(good(nic_line + "00: 86 80").access().read(nic, 0, width::dword) == 0xFFFF'8086);
}

TEST_CASE("lspci dump: what is no dump is named with its line", "[hosted][lspci]") {
    CHECK(bad_line("", "no function") == 0);
    CHECK(bad_line("hello\n", "no function") == 0);
    CHECK(bad_line(row_00, "before any function") == 1);
    CHECK(bad_line(nic_line, "no bytes") == 1);
    CHECK(bad_line("\n" + nic_line + "03:00.0 x\n" + row_00, "no bytes") == 2);
    CHECK(bad_line(nic_line + row_00 + nic_line + row_00, "a second time") == 3);
    CHECK(bad_line(nic_line + row_00 + "0000:" + nic_line + row_00, "a second time") == 3);
    CHECK(bad_line("02:20.0 x\n" + row_00, "no address") == 1);
    CHECK(bad_line("02:00.8 x\n" + row_00, "no address") == 1);
    CHECK(bad_line("10000:e1:00.0 x\n" + row_00, "above FFFF") == 0);
    CHECK(bad_line("1g000:e1:00.0 x\n" + row_00, "no address") == 1);
    CHECK(bad_line("0g:00.0 x\n" + row_00, "no address") == 1);
}

TEST_CASE("lspci dump: what Linux numbers behind a VMD is left out", "[hosted][lspci]") {
    const std::string beyond = "10000:e1:00.0 x\n" + row_00;
    const std::string known = nic_line + row_00;
    const std::string before = beyond + known;
    const std::string after = known + beyond;
    const std::string around = before + beyond;
    for (const std::string& text : {before, after, around}) {
        const auto read = pt::hosted::lspci_dump::read(text);
        REQUIRE(std::holds_alternative<pt::hosted::config_snapshot>(read));
        const auto& functions = std::get<pt::hosted::config_snapshot>(read).functions();
        REQUIRE(functions.size() == 1);
        CHECK(functions[0].address.segment == 0);
        CHECK(functions[0].bytes.size() == 16);
    }
}

TEST_CASE("lspci dump: a bad row is named with its line", "[hosted][lspci]") {
    const auto with = [](const std::string& row) { return nic_line + row_00 + row; };
    CHECK(bad_line(with("20: 00\n"), "10 is next") == 3);
    CHECK(bad_line(with("00: 00\n"), "10 is next") == 3);
    CHECK(bad_line(with("1g: 00\n"), "offset") == 3);
    CHECK(bad_line(with("10: 0g\n"), "\"0g\"") == 3);
    CHECK(bad_line(with("10: 000\n"), "\"000\"") == 3);
    CHECK(bad_line(with("10: 0\n"), "\"0\"") == 3);
    CHECK(bad_line(with("10: 0 00"), "\"0\"") == 3);
    CHECK(bad_line(with("10: \x1b[31m\n"), "\"?[31m\"") == 3);
    CHECK(bad_line(with(row_10.substr(0, row_10.size() - 1) + " 00\n"), "more than 16") == 3);
    CHECK(bad_line(with("10: 00 00\n20: 00\n"), "only 2 of 16") == 3);
    CHECK(bad_line(with("10: 00 00\n03:00.0 x\n"), "only 2 of 16") == 3);
    CHECK(bad_line(with("10:\n03:00.0 x\n"), "only 0 of 16") == 3);
}

TEST_CASE("lspci dump: every real one is read, byte for byte", "[hosted][lspci][data]") {
    std::size_t files = 0;
    std::vector<std::uint8_t> bytes; // of all functions, in order
    std::vector<std::uint8_t> expected;
    for (const auto& path : shared_data::files("lspci")) {
        INFO(path.filename().string());
        std::ifstream in{path};
        const std::string text{std::istreambuf_iterator<char>{in}, {}};
        ++files;
        const config_snapshot read = good(text);
        for (const auto& function : read.functions()) {
            bytes.insert(bytes.end(), function.bytes.begin(), function.bytes.end());
        }
        // In these files a row is a line whose third or fourth character is a colon and that has 16
        // pairs, each after a blank.
        std::size_t at = 0;
        while (at < text.size()) {
            const std::size_t end = std::min(text.find('\n', at), text.size());
            const std::string line = text.substr(at, end - at);
            const std::size_t colon = line.find(": ");
            if ((colon == 2 || colon == 3) && line.find('.') == std::string::npos) {
                for (std::size_t i = 0; i < 16; ++i) {
                    const std::string pair = line.substr(colon + 2 + 3 * i, 2);
                    expected.push_back(
                        static_cast<std::uint8_t>(std::strtoul(pair.c_str(), nullptr, 16)));
                }
            }
            at = end + 1;
        }
    }
    if (files == 0) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    CHECK(files > 15);
    CHECK(bytes.size() > 10'000);
    CHECK((bytes == expected));
}
