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
using pt::pci::config_latch;
using pt::pci::extended_config_address;
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
    port_config_access config{recorded_ports{&log}, config_latch::ours};
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
    port_config_access config{recorded_ports{&log}, config_latch::ours};
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

TEST_CASE("by default the latch is read before an access and put back after it", "[pci]") {
    std::vector<instruction> log;
    port_config_access config{recorded_ports{&log}};

    CHECK(config.read({0, 0, 31, 2}, 0x42, width::word) == 0xA3A4);
    config.write({0, 0, 31, 2}, 0x40, width::byte, 0x5A);
    CHECK(log == std::vector<instruction>{{'i', 4, 0xCF8, 0},
                                          {'o', 4, 0xCF8, 0x8000'FA40},
                                          {'i', 2, 0xCFE, 0},
                                          {'o', 4, 0xCF8, 0xA1A2'A3A4},
                                          {'i', 4, 0xCF8, 0},
                                          {'o', 4, 0xCF8, 0x8000'FA40},
                                          {'o', 1, 0xCFC, 0x5A},
                                          {'o', 4, 0xCF8, 0xA1A2'A3A4}});
}

namespace {

/// The machine's two dwords of ports in plain arithmetic, with one function's bytes behind them;
/// all others float. Nothing of pt is in it.
struct shared_hardware {
    std::uint32_t latch = 0;
    std::uint32_t function = 0; ///< bits 23:8 of a latch that selects it
    std::uint8_t bytes[4096]{};
    bool locked = false;
    unsigned locks = 0;
    unsigned accesses = 0;
    unsigned unlocked_accesses = 0;

    std::uint8_t* data(unsigned port) {
        const bool selects = latch >= 0x8000'0000 && (latch & 0x00FF'FF00) == function;
        return selects ? bytes + (latch >> 16 & 0xF00) + (latch & 0xFC) + (port - 0xCFC) : nullptr;
    }
    void note() {
        ++accesses;
        unlocked_accesses += locked ? 0 : 1;
    }
    std::uint32_t in(unsigned port, unsigned count) {
        note();
        if (port == 0xCF8 && count == 4) {
            return latch;
        }
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            const std::uint8_t* const byte = data(port + i);
            value |= std::uint32_t{byte != nullptr ? *byte : std::uint8_t{0xFF}} << 8 * i;
        }
        return value;
    }
    void out(unsigned port, unsigned count, std::uint32_t value) {
        note();
        if (port == 0xCF8 && count == 4) {
            latch = value;
            return;
        }
        for (unsigned i = 0; i < count; ++i) {
            if (std::uint8_t* const byte = data(port + i); byte != nullptr) {
                *byte = static_cast<std::uint8_t>(value >> 8 * i);
            }
        }
    }
};

struct shared_ports {
    shared_hardware* at;

    std::uint8_t in8(io_port port) { return static_cast<std::uint8_t>(at->in(port.raw, 1)); }
    std::uint16_t in16(io_port port) { return static_cast<std::uint16_t>(at->in(port.raw, 2)); }
    std::uint32_t in32(io_port port) { return at->in(port.raw, 4); }
    void out8(io_port port, std::uint8_t value) { at->out(port.raw, 1, value); }
    void out16(io_port port, std::uint16_t value) { at->out(port.raw, 2, value); }
    void out32(io_port port, std::uint32_t value) { at->out(port.raw, 4, value); }
};

struct hardware_lock {
    shared_hardware* at;
    void lock() {
        REQUIRE_FALSE(at->locked); // not recursive
        at->locked = true;
        ++at->locks;
    }
    void unlock() {
        REQUIRE(at->locked);
        at->locked = false;
    }
};

/// 00:1f.2 with random bytes, while somebody else is about to access dword 0x5C of 07:0a.3.
shared_hardware somebody_selected() {
    shared_hardware hardware;
    hardware.function = 0x0000'FA00;
    hardware.latch = 0x8007'535C;
    for (unsigned i = 0; i < 4096; ++i) {
        hardware.bytes[i] = static_cast<std::uint8_t>(i * 29 + i / 256);
    }
    return hardware;
}

/// Every access of every size, read and then written; the somebody looks after each of them.
template <class Config>
void each_access_leaves_the_selection(Config config, shared_hardware& hardware, unsigned reach) {
    const std::uint32_t selection = hardware.latch;
    for (unsigned offset = 0; offset < reach; ++offset) {
        for (const unsigned count : {1U, 2U, 4U}) {
            if (offset % 4 + count > 4) {
                continue;
            }
            const auto at = static_cast<std::uint16_t>(offset);
            const auto size = static_cast<width>(count);
            std::uint32_t held = 0;
            for (unsigned i = 0; i < count; ++i) {
                held |= std::uint32_t{hardware.bytes[offset + i]} << 8 * i;
            }
            const std::uint32_t ones = ~std::uint32_t{0} >> (32 - 8 * count);
            REQUIRE(config.read({0, 0, 31, 2}, at, size) == held);
            REQUIRE(hardware.latch == selection);
            config.write({0, 0, 31, 2}, at, size, held ^ ones);
            REQUIRE(hardware.latch == selection);
            REQUIRE(config.read({0, 0, 31, 2}, at, size) == (held ^ ones));
            REQUIRE(config.read({0, 0, 31, 3}, at, size) == ones);
            REQUIRE(hardware.latch == selection);
        }
    }
}

} // namespace

TEST_CASE("somebody else's selection is still there after each access", "[pci][rule 1]") {
    shared_hardware hardware = somebody_selected();
    each_access_leaves_the_selection(port_config_access{shared_ports{&hardware}}, hardware, 256);
}

TEST_CASE("whatever somebody had written to 0xCF8 is there again, enabled or not",
          "[pci][rule 1]") {
    for (const std::uint32_t selection : {0U, 0x8000'0000U, 0x7FFF'FFFFU, 0xFFFF'FFFFU}) {
        shared_hardware hardware = somebody_selected();
        hardware.latch = selection;
        port_config_access config{shared_ports{&hardware}};
        CHECK(config.read({0, 0, 31, 2}, 4, width::byte) == 4 * 29);
        CHECK(hardware.latch == selection);
    }
}

TEST_CASE("a VMM that owns the ports does not pay for the latch", "[pci]") {
    shared_hardware hardware = somebody_selected();
    port_config_access config{shared_ports{&hardware}, config_latch::ours};
    CHECK(config.read({0, 0, 31, 2}, 4, width::byte) == 4 * 29);
    CHECK(hardware.accesses == 2);
    CHECK(hardware.latch == 0x8000'FA04);
}

TEST_CASE("the mutex is held around all instructions of an access, and once", "[pci]") {
    for (const config_latch latch : {config_latch::kept, config_latch::ours}) {
        shared_hardware hardware = somebody_selected();
        port_config_access config{shared_ports{&hardware}, latch, hardware_lock{&hardware}};
        (void)config.read({0, 0, 31, 2}, 0x40, width::dword);
        config.write({0, 0, 31, 2}, 0x42, width::word, 0x1234);
        CHECK(hardware.locks == 2);
        CHECK(hardware.accesses == (latch == config_latch::kept ? 8 : 4));
        CHECK(hardware.unlocked_accesses == 0);
        CHECK_FALSE(hardware.locked);
    }
}

TEST_CASE("the extended form reaches all 4096 bytes, and leaves the selection too",
          "[pci][rule 1]") {
    shared_hardware hardware = somebody_selected();
    hardware.latch = 0x8307'535C;
    port_config_access<shared_ports, extended_config_address> config{shared_ports{&hardware}};
    each_access_leaves_the_selection(config, hardware, 4096);
    CHECK(config.read({1, 0, 31, 2}, 0x100, width::dword) == 0xFFFF'FFFF); // no segments either
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
