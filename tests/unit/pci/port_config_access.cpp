// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/port_config_access.hpp"

#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <vector>

using pt::io_port;
using pt::width;
using pt::pci::function_address;
using pt::pci::port_config_access;

namespace {

struct instruction {
    char direction;
    unsigned size;
    unsigned port;
    std::uint32_t value;
    friend bool operator==(const instruction&, const instruction&) = default;
};

/// Ports that write down what is done to them; IN yields 0xA1A2A3A4 cut to its size.
struct recorded_ports {
    std::vector<instruction>* log;

    std::uint8_t in8(io_port port) { return log->push_back({'i', 1, port.raw, 0}), 0xA4; }
    std::uint16_t in16(io_port port) { return log->push_back({'i', 2, port.raw, 0}), 0xA3A4; }
    std::uint32_t in32(io_port port) { return log->push_back({'i', 4, port.raw, 0}), 0xA1A2'A3A4; }
    void out8(io_port port, std::uint8_t value) { log->push_back({'o', 1, port.raw, value}); }
    void out16(io_port port, std::uint16_t value) { log->push_back({'o', 2, port.raw, value}); }
    void out32(io_port port, std::uint32_t value) { log->push_back({'o', 4, port.raw, value}); }
};

} // namespace

TEST_CASE("a read selects the dword and reads the bytes of CONFIG_DATA that are meant", "[pci]") {
    std::vector<instruction> log;
    port_config_access config{recorded_ports{&log}};
    const function_address lpc{0, 0, 31, 2};

    CHECK(config.read(lpc, 0x40, width::dword) == 0xA1A2'A3A4);
    CHECK(config.read(lpc, 0x42, width::word) == 0xA3A4);
    CHECK(config.read(lpc, 0x41, width::word) == 0xA3A4);
    CHECK(config.read({0, 0xFF, 0, 0}, 0xFF, width::byte) == 0xA4);
    CHECK(log == std::vector<instruction>{{'o', 4, 0xCF8, 0x8000'FA40},
                                          {'i', 4, 0xCFC, 0},
                                          {'o', 4, 0xCF8, 0x8000'FA40},
                                          {'i', 2, 0xCFE, 0},
                                          {'o', 4, 0xCF8, 0x8000'FA40},
                                          {'i', 2, 0xCFD, 0},
                                          {'o', 4, 0xCF8, 0x80FF'00FC},
                                          {'i', 1, 0xCFF, 0}});
}

TEST_CASE("a write is one OUT of its own size", "[pci][rule 5]") {
    std::vector<instruction> log;
    port_config_access config{recorded_ports{&log}};
    const function_address nic{0, 0, 5, 0};

    pt::pci::write(config, nic, pt::pci::command{0x0407});
    config.write(nic, 0x3D, width::byte, 0x01);
    config.write(nic, 0x10, width::dword, 0xFEBC'0000);
    CHECK(log == std::vector<instruction>{{'o', 4, 0xCF8, 0x8000'2804},
                                          {'o', 2, 0xCFC, 0x0407},
                                          {'o', 4, 0xCF8, 0x8000'283C},
                                          {'o', 1, 0xCFD, 0x01},
                                          {'o', 4, 0xCF8, 0x8000'2810},
                                          {'o', 4, 0xCFC, 0xFEBC'0000}});
}

TEST_CASE("what the mechanism cannot reach reads all ones, and no port is touched", "[pci]") {
    std::vector<instruction> log;
    port_config_access config{recorded_ports{&log}};

    CHECK(config.read({0, 0, 5, 0}, 0x100, width::dword) == 0xFFFF'FFFF);
    CHECK(config.read({0, 0, 5, 0}, 0xFFE, width::word) == 0xFFFF);
    CHECK(config.read({1, 0, 5, 0}, 0, width::dword) == 0xFFFF'FFFF);
    CHECK(config.read({0, 0, 32, 0}, 0, width::byte) == 0xFF);
    CHECK(config.read({0, 0, 0, 8}, 0, width::dword) == 0xFFFF'FFFF);
    config.write({0, 0, 5, 0}, 0x100, width::dword, 0);
    config.write({1, 0, 5, 0}, 4, width::word, 0);
    CHECK(log.empty());
}

TEST_CASE("through the guest's ports onto the host's, every byte arrives where it was sent",
          "[pci]") {
    // port_config_access drives config_ports, which drives the fake machine: together they must be
    // the fake machine.
    pci_fake::function functions[1]{{{0, 3, 4, 5}, 0}};
    for (unsigned i = 0; i < 256; ++i) {
        functions[0].put(i, 1, i ^ 0x5A);
    }
    pci_fake::machine machine{functions, 1};
    pt::pci::config_ports guest{pci_fake::config{&machine}};

    struct guest_ports {
        pt::pci::config_ports<pci_fake::config>* guest;
        std::uint8_t in8(io_port port) {
            return static_cast<std::uint8_t>(guest->read(port, width::byte).value);
        }
        std::uint16_t in16(io_port port) {
            return static_cast<std::uint16_t>(guest->read(port, width::word).value);
        }
        std::uint32_t in32(io_port port) { return guest->read(port, width::dword).value; }
        void out8(io_port port, std::uint8_t value) { guest->write(port, width::byte, value); }
        void out16(io_port port, std::uint16_t value) { guest->write(port, width::word, value); }
        void out32(io_port port, std::uint32_t value) { guest->write(port, width::dword, value); }
    };
    port_config_access config{guest_ports{&guest}};
    for (std::uint16_t offset = 0; offset < 256; ++offset) {
        for (const width size : {width::byte, width::word, width::dword}) {
            if (offset % 4 + static_cast<unsigned>(size) <= 4) {
                REQUIRE(config.read({0, 3, 4, 5}, offset, size) ==
                        functions[0].get(offset, static_cast<unsigned>(size)));
            }
        }
    }
    CHECK(config.read({0, 3, 4, 4}, 0, width::dword) == 0xFFFF'FFFF);
}
