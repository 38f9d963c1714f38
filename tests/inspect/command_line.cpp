// SPDX-License-Identifier: BSL-1.0
//
// Exit codes and messages: what a new user tries.
#include "tool.hpp"

#include <string>

namespace {

const std::string function_0 = "00:1f.2 SATA controller: somebody\n"
                               "00: 86 80 29 28 07 04 b0 02 03 01 06 01 00 00 00 00\n";

/// It fails with 1, says `message` on standard error, and prints nothing.
void refused(std::initializer_list<std::string> words, const std::string& message) {
    const auto done = tool::inspect(words);
    CAPTURE(done.out, done.err);
    CHECK(done.exit == 1);
    CHECK(done.out.empty());
    CHECK(done.err.find(message) != std::string::npos);
    CHECK(done.err.rfind("pt-inspect: ", 0) == 0);
}

/// The command line is wrong; the message says so and where help is.
void misused(std::initializer_list<std::string> words, const std::string& message) {
    const auto done = tool::inspect(words);
    CAPTURE(done.out, done.err);
    CHECK(done.exit > 100); // CLI11's codes for usage errors
    CHECK(done.exit < 128);
    CHECK(done.out.empty());
    CHECK(done.err.find(message) != std::string::npos);
    CHECK(done.err.find("--help") != std::string::npos);
}

} // namespace

TEST_CASE("pt-inspect: a wrong command line says what would be right", "[inspect]") {
    misused({}, "pci, dmar or plan");
    misused({"look"}, "\"look\" is no command");
    misused({"--json"}, "pci, dmar");
    misused({"pci", "dump.txt"}, "--dump FILE");
    misused({"plan", "01:00.0", "dump.txt"}, "--dump FILE");
    misused({"pci", "--dump"}, "--dump");
    misused({"pci", "--dump", "x", "--sysfs"}, "excludes");
    misused({"pci", "--colour"}, "--colour");
    misused({"dmar"}, "FILE is required");
    misused({"dmar", "a", "b"}, "b");
    misused({"plan"}, "ADDRESS is required");
}

TEST_CASE("pt-inspect: help is no error", "[inspect]") {
    for (const std::string command : {"", "pci", "dmar", "plan"}) {
        const auto done =
            command.empty() ? tool::inspect({"--help"}) : tool::inspect({command, "--help"});
        CHECK(done.exit == 0);
        CHECK(done.err.empty());
        CHECK(done.out.find("Usage:") != std::string::npos);
    }
}

TEST_CASE("pt-inspect pci: a file that is no dump is refused with its line", "[inspect][pci]") {
    const tool::scratch here;
    const auto file = [&](const std::string& text) { return here.file("dump", text); };
    const std::string at = (here.path / "dump").string() + ":";
    refused({"pci", "--dump", (here.path / "none").string()}, "No such file");
    refused({"pci", "--dump", here.path.string()}, "is a directory");
    refused({"pci", "--dump", "/proc/self/mem"}, "/proc/self/mem: cannot be read");
    refused({"pci", "--json", "--dump", file("")}, "no function");
    refused({"pci", "--json", "--dump", file(function_0 + "10: 00 zz\n")}, at + "3: \"zz\"");
    refused({"pci", "--dump", file(function_0 + "10: 00 zz\n")}, at + "3: \"zz\"");
    refused({"pci", "--dump", file(function_0 + "30: 00\n")}, at + "3: offset 30");
    refused({"pci", "--dump", file(function_0 + function_0)}, at + "3: function 0000:00:1f.2");
    refused({"pci", "--dump", file("00: 86\n")}, at + "1: ");
}

TEST_CASE("pt-inspect pci: what a short dump does not hold is absent", "[inspect][pci]") {
    const tool::scratch here;
    using tool::json;
    // 64 bytes of a function that has MSI, as `lspci -x` shows a user: no garbage for the rest.
    const std::string rest = "10: 0c 00 00 f0 00 00 00 00 00 00 00 00 00 00 00 00\n"
                             "20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n"
                             "30: 01 00 f0 fe 50 00 00 00 00 00 00 00 0b 01 00 00\n";
    const auto read = [&](const std::string& text) {
        return tool::inspect_json({"pci", "--dump", here.file("dump", text)}).at(0);
    };
    json found = read(function_0 + rest);
    CHECK(found["capabilities"] == json::array());
    CHECK(found["msi"].is_null());
    CHECK(found["msix"].is_null());
    CHECK(found["bars"] ==
          json::parse(R"([{"index":0,"kind":"mem64","prefetchable":true,"address":"0xf0000000"},
                          {"index":6,"kind":"rom","prefetchable":false,"address":"0xfef00000"}])"));
    // The capability's header is there, its Message Control is not.
    found = read(function_0 + rest + "40: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n" +
                 "50: 05 00\n");
    CHECK(found["capabilities"] == json::parse(R"([{"id":"05","offset":"50"}])"));
    CHECK(found["msi"].is_null());
    found = read(function_0 + rest + "40: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n" +
                 "50: 05 00 86 01\n");
    CHECK(found["msi"] ==
          json::parse(R"({"offset":"50","vectors":8,"is_64bit":true,"maskable":true})"));
    // Cut in the header, in the upper half of a 64-bit BAR.
    found = read(function_0 + "10: 0c 00 00 f0 00");
    CHECK(found["bars"] == json::array());
    CHECK(found["class"] == "010601");
    // Cut in the ids.
    found = read("00:1f.2 x\n00: 86 80");
    CHECK(found["vendor"].is_null());
    CHECK(found["class"].is_null());
    CHECK(found["header_type"].is_null());
    CHECK(found["bridge"].is_null());
    CHECK(tool::inspect({"pci", "--dump", here.file("dump", "00:1f.2 x\n00: 86 80")}).exit == 0);
}

TEST_CASE("pt-inspect pci: a cut anywhere yields a report or a message, never both",
          "[inspect][pci]") {
    const tool::scratch here;
    const std::string text = function_0 + "01:00.0 x\n" + function_0.substr(34);
    for (std::size_t size = 0; size <= text.size(); size += 7) {
        const auto done =
            tool::inspect({"pci", "--json", "--dump", here.file("dump", text.substr(0, size))});
        CAPTURE(size, done.err);
        CHECK((done.exit == 0 || done.exit == 1));
        CHECK(done.out.empty() == (done.exit != 0));
        CHECK(done.err.empty() == (done.exit == 0));
        if (done.exit == 0) {
            CHECK(tool::json::accept(done.out));
        }
    }
}

TEST_CASE("pt-inspect pci: bridges in a circle are listed once", "[inspect][pci]") {
    const tool::scratch here;
    // Two bridges, each behind the other, and one that is behind itself.
    const auto bridge = [](const std::string& bus, const std::string& secondary) {
        return bus +
               ":00.0 PCI bridge: x\n"
               "00: 86 80 29 28 07 04 10 00 03 00 04 06 00 00 01 00\n"
               "10: 00 00 00 00 00 00 00 00 00 " +
               secondary + " ff 00 00 00 00 00\n" +
               "20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n"
               "30: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n";
    };
    const std::string file =
        here.file("dump", bridge("01", "02") + bridge("02", "01") + bridge("03", "03"));
    CHECK(tool::inspect_json({"pci", "--dump", file}).size() == 3);
    const auto text = tool::inspect({"pci", "--dump", file});
    CHECK(text.exit == 0);
    std::size_t blocks = 0;
    for (std::size_t at = 0; (at = text.out.find("header type", at)) != std::string::npos; ++at) {
        ++blocks;
    }
    CHECK(blocks == 3);
    CHECK(tool::inspect({"plan", "01:00.0", "--dump", file}).exit == 0);
}

TEST_CASE("pt-inspect: colour is for terminals", "[inspect]") {
    const tool::scratch here;
    const std::string file = here.file("dump", function_0);
    CHECK(tool::inspect({"pci", "--dump", file}).out.find('\x1b') == std::string::npos);
    if (!tool::is_here("script")) {
        SKIP("no `script` (Debian package bsdutils) to make a terminal");
    }
    // `script` runs a command on a terminal of its own.
    const auto on_terminal = [&](const std::string& environment) {
        return tool::run(
                   {"script", "-qec", std::string{PT_INSPECT} + " pci --dump " + file, "/dev/null"},
                   environment)
            .out;
    };
    CHECK(on_terminal("TERM=xterm NO_COLOR=").find('\x1b') != std::string::npos);
    CHECK(on_terminal("TERM=xterm NO_COLOR=1").find('\x1b') == std::string::npos);
    CHECK(on_terminal("TERM=dumb NO_COLOR=").find('\x1b') == std::string::npos);
}

TEST_CASE("pt-inspect: output that cannot be written is an error", "[inspect]") {
    const tool::scratch here;
    const std::string file = here.file("dump", function_0);
    const auto done =
        tool::run({"sh", "-c", std::string{PT_INSPECT} + " pci --dump " + file + " >/dev/full"});
    CHECK(done.exit == 1);
    CHECK(done.err.find("not written") != std::string::npos);
}

TEST_CASE("pt-inspect pci --sysfs: a machine that is not this one", "[inspect][pci]") {
    const tool::scratch here;
    std::string space(256, '\0');
    space[0] = '\x86';
    space[1] = '\x80';
    space[2] = '\xD3';
    space[3] = '\x10';
    here.file("0001:02:03.4/config", space);
    const auto found = tool::inspect_json({"pci", "--sysfs", "--sysfs-root", here.path.string()});
    REQUIRE(found.size() == 1);
    CHECK(found[0]["address"] == "0001:02:03.4");
    CHECK(found[0]["device"] == "10d3");
    refused({"pci", "--json", "--sysfs-root", (here.path / "none").string()}, "none");
    const tool::scratch empty;
    CHECK(tool::inspect_json({"pci", "--sysfs-root", empty.path.string()}) == tool::json::array());
}
