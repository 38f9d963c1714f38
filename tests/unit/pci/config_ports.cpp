// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/config_ports.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>

using pt::io_port;
using pt::width;
using pt::pci::config_address;
using pt::pci::config_ports;
using pt::pci::extended_config_address;
using pt::pci::function_address;
using pt::pci::port_answer;
using pt::pci::port_claim;

namespace {

constexpr io_port address_port{0xCF8};
constexpr io_port data_port{0xCFC};
constexpr width every_width[] = {width::byte, width::word, width::dword};

constexpr port_answer done(std::uint32_t value) { return {port_claim::whole, value}; }

/// A guest with one function, 00:1f.2, whose first 256 bytes count up.
struct guest {
    pci_fake::function functions[1]{{{0, 0, 31, 2}, 0}};
    pci_fake::machine machine{functions, 1};
    config_ports<pci_fake::config> ports{pci_fake::config{&machine}};

    constexpr guest() {
        for (unsigned i = 0; i < 256; ++i) {
            functions[0].put(i, 1, i);
            functions[0].allow(i, 1, 0xFF);
            functions[0].write_1_to_clear[i] = 0;
        }
    }
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;

    constexpr void select(std::uint32_t value) { ports.write(address_port, width::dword, value); }
};

} // namespace

TEST_CASE("a dword write to 0xCF8 loads CONFIG_ADDRESS and a dword read returns it",
          "[pci][rule 1]") {
    constexpr auto holds = [] {
        guest g;
        bool good = g.ports.read(address_port, width::dword) == done(0);
        good &= g.ports.write(address_port, width::dword, 0x8000'FA40) == port_claim::whole;
        good &= g.ports.read(address_port, width::dword) == done(0x8000'FA40);
        return good && g.machine.event_count == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("bits 1:0 and 30:24 of CONFIG_ADDRESS read back 0", "[pci][rule 1]") {
    constexpr auto holds = [] {
        guest g;
        g.select(0xFFFF'FFFF);
        bool good = g.ports.read(address_port, width::dword) == done(0x80FF'FFFC);
        g.select(0x7F00'0003);
        return good && g.ports.read(address_port, width::dword) == done(0);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("byte and word accesses to 0xCF8..0xCFB are ordinary I/O", "[pci][rule 1]") {
    guest g;
    g.select(0x8000'FA00);
    for (std::uint16_t port = 0xCF8; port <= 0xCFB; ++port) {
        for (const width size : {width::byte, width::word}) {
            if (port == 0xCFB && size == width::word) {
                continue; // its second byte is CONFIG_DATA, see below
            }
            CAPTURE(port, static_cast<int>(size));
            CHECK(g.ports.read(io_port{port}, size).claim == port_claim::none);
            CHECK(g.ports.write(io_port{port}, size, 0x0606) == port_claim::none);
        }
    }
    CHECK(g.ports.selected().raw == 0x8000'FA00);
    CHECK(g.machine.event_count == 0);
}

TEST_CASE("a byte write to 0xCF9 is not CONFIG_ADDRESS", "[pci][rule 1]") {
    constexpr auto holds = [] {
        guest g;
        g.select(0x8000'FA04);
        return g.ports.write(io_port{0xCF9}, width::byte, 0x06) == port_claim::none &&
               g.ports.selected().raw == 0x8000'FA04;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("CONFIG_ADDRESS survives any number of data accesses", "[pci][rule 1]") {
    guest g;
    g.select(0x8000'FA10);
    for (int i = 0; i < 100; ++i) {
        (void)g.ports.write(io_port{static_cast<std::uint16_t>(0xCFC + i % 4)}, width::byte, 0xFF);
        (void)g.ports.read(data_port, width::dword);
    }
    CHECK(g.ports.read(address_port, width::dword) == done(0x8000'FA10));
}

TEST_CASE("the offset is (register & 0xFC) | (port & 3), in each size", "[pci][rule 2]") {
    guest g;
    for (std::uint32_t reg = 0; reg < 256; ++reg) {
        g.select(0x8000'FA00 | reg);
        for (std::uint16_t port = 0xCFC; port <= 0xCFF; ++port) {
            for (const width size : every_width) {
                const unsigned count = static_cast<unsigned>(size);
                if (port + count > 0xD00) {
                    continue;
                }
                // The fake's byte at offset n is n.
                const unsigned offset = (reg & 0xFC) | (port & 3U);
                std::uint32_t expected = 0;
                for (unsigned i = 0; i < count; ++i) {
                    expected |= (offset + i) << 8 * i;
                }
                g.machine.event_count = 0;
                REQUIRE(g.ports.read(io_port{port}, size) == done(expected));
                REQUIRE(g.machine.event_count == 1); // one bus access, not several
                REQUIRE(g.machine.events[0] ==
                        pci_fake::event{
                            false, {0, 0, 31, 2}, static_cast<std::uint16_t>(offset), count, 0});
            }
        }
    }
    CHECK_FALSE(g.machine.out_of_bounds);
}

TEST_CASE("a write reaches its bytes and no others", "[pci][rule 2][rule 5]") {
    constexpr auto holds = [] {
        guest g;
        g.select(0x8000'FA40);
        bool good = g.ports.write(io_port{0xCFD}, width::word, 0xBEEF) == port_claim::whole;
        good &= g.functions[0].get(0x40, 4) == 0x43BE'EF40;
        // Bits above the width are of no effect.
        good &= g.ports.write(io_port{0xCFF}, width::byte, 0x1234'56AA) == port_claim::whole;
        good &= g.functions[0].get(0x40, 8) == 0x4746'4544'AABE'EF40;
        return good && !g.machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an access that runs past 0xCFF, or into 0xCFC, is not one configuration access",
          "[pci][rule 2]") {
    guest g;
    g.select(0x8000'FA40);
    struct crossing {
        std::uint16_t port;
        width size;
    };
    for (const auto [port, size] : {crossing{0xCFF, width::word}, crossing{0xCFD, width::dword},
                                    crossing{0xCFE, width::dword}, crossing{0xCFF, width::dword},
                                    crossing{0xCFB, width::word}, crossing{0xCF9, width::dword},
                                    crossing{0xCFA, width::dword}, crossing{0xCFB, width::dword}}) {
        CAPTURE(port);
        CHECK(g.ports.read(io_port{port}, size).claim == port_claim::part);
        CHECK(g.ports.write(io_port{port}, size, 0) == port_claim::part);
    }
    CHECK(g.machine.event_count == 0); // nothing was done
    CHECK(g.ports.selected().raw == 0x8000'FA40);
}

TEST_CASE("offered byte by byte, an access past 0xCFF reads what the bus's parts read",
          "[pci][rule 2]") {
    guest g;
    g.select(0x8000'FA40);
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 4; ++i) {
        const auto byte = g.ports.read(io_port{static_cast<std::uint16_t>(0xCFE + i)}, width::byte);
        CHECK(byte.claim == (i < 2 ? port_claim::whole : port_claim::none));
        value |= byte.value << 8 * i;
    }
    CHECK(value == 0xFFFF'4342);
}

TEST_CASE("every port and size is claimed as the bytes that it touches say", "[pci][rule 2]") {
    for (unsigned port = 0; port < 0x10000; ++port) {
        for (const width size : every_width) {
            unsigned inside = 0;
            const unsigned count = static_cast<unsigned>(size);
            for (unsigned i = 0; i < count; ++i) {
                inside += port + i >= 0xCFC && port + i <= 0xCFF ? 1 : 0;
            }
            const bool whole = inside == count || (port == 0xCF8 && count == 4);
            const auto expected = whole         ? port_claim::whole
                                  : inside != 0 ? port_claim::part
                                                : port_claim::none;
            const auto claimed = config_ports<pci_fake::config>::claim(
                io_port{static_cast<std::uint16_t>(port)}, size);
            if (claimed != expected) {
                FAIL("port " << port << " size " << count);
            }
        }
    }
}

TEST_CASE("with the enable bit clear the data ports float and writes vanish", "[pci][rule 3]") {
    constexpr auto holds = [] {
        guest g;
        g.select(0x0000'FA40);
        bool good = g.ports.read(data_port, width::dword) == done(0xFFFF'FFFF);
        good &= g.ports.read(io_port{0xCFE}, width::word) == done(0xFFFF);
        good &= g.ports.read(io_port{0xCFF}, width::byte) == done(0xFF);
        good &= g.ports.write(data_port, width::dword, 0) == port_claim::whole;
        return good && g.machine.event_count == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an absent function reads all ones and writes to it vanish", "[pci][rule 3]") {
    guest g;
    g.select(0x8000'FB00); // 00:1f.3
    CHECK(g.ports.read(data_port, width::dword) == done(0xFFFF'FFFF));
    CHECK(g.ports.read(io_port{0xCFD}, width::byte) == done(0xFF));
    CHECK(g.ports.write(data_port, width::dword, 0) == port_claim::whole);
    CHECK(g.functions[0].get(0, 4) == 0x0302'0100);
}

TEST_CASE("the functions are those of the segment that the VMM names", "[pci]") {
    guest g;
    config_ports ports{pci_fake::config{&g.machine}, 7};
    (void)ports.write(address_port, width::dword, 0x80AB'CD00);
    (void)ports.read(data_port, width::dword);
    REQUIRE(g.machine.event_count == 1);
    CHECK(g.machine.events[0].address == function_address{7, 0xAB, 0x19, 5});
}

namespace {

/// A guest whose CONFIG_ADDRESS has the extended form, with one function, 00:1f.2. Byte n is
/// n * 7 / 4 cut to 8 bits, so that no dword is like the one 256 bytes further on.
struct extended_guest {
    pci_fake::function functions[1]{{{0, 0, 31, 2}, 0}};
    pci_fake::machine machine{functions, 1};
    config_ports<pci_fake::config, extended_config_address> ports{pci_fake::config{&machine}};

    constexpr extended_guest() {
        for (unsigned i = 0; i < 4096; ++i) {
            functions[0].put(i, 1, i * 7 / 4);
            functions[0].allow(i, 1, 0xFF);
            functions[0].write_1_to_clear[i] = 0;
        }
    }
    extended_guest(const extended_guest&) = delete;
    extended_guest& operator=(const extended_guest&) = delete;

    constexpr void select(std::uint32_t value) { ports.write(address_port, width::dword, value); }
};

} // namespace

TEST_CASE("bits 30:24 of the conventional form have no effect", "[pci][rule 1]") {
    guest g;
    for (std::uint32_t bits = 0; bits < 0x80; ++bits) {
        g.select(0x8000'FA40 | bits << 24);
        REQUIRE(g.ports.read(address_port, width::dword) == done(0x8000'FA40));
        REQUIRE(g.ports.read(data_port, width::dword) == done(0x4342'4140));
    }
}

TEST_CASE("bits 1:0 and 30:28 of the extended form read back 0", "[pci][rule 1]") {
    constexpr auto holds = [] {
        extended_guest g;
        g.select(0xFFFF'FFFF);
        bool good = g.ports.read(address_port, width::dword) == done(0x8FFF'FFFC);
        g.select(0x7000'0003);
        good &= g.ports.read(address_port, width::dword) == done(0);
        return good && g.machine.event_count == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("bits 27:24 of the extended form are bits 11:8 of the register",
          "[pci][rule 1][rule 2]") {
    extended_guest g;
    for (std::uint32_t offset = 0; offset < 4096; ++offset) {
        g.select(0x8000'FA00 | (offset & 0xF00) << 16 | (offset & 0xFF));
        const io_port port{static_cast<std::uint16_t>(0xCFC + offset % 4)};
        g.machine.event_count = 0;
        REQUIRE(g.ports.read(port, width::byte) == done(offset * 7 / 4 & 0xFF));
        REQUIRE(g.ports.write(port, width::byte, ~offset) == port_claim::whole);
        REQUIRE(g.machine.event_count == 2);
        REQUIRE(g.machine.events[1] ==
                pci_fake::event{
                    true, {0, 0, 31, 2}, static_cast<std::uint16_t>(offset), 1, ~offset & 0xFF});
    }
}

TEMPLATE_TEST_CASE("random accesses agree with a latch of four bytes",
                   "[pci][rule 1][rule 2][rule 3]", config_address, extended_config_address) {
    // The bits that read back, and where the offset comes from, in numbers of the manuals.
    constexpr bool extended = TestType::reach == 4096;
    constexpr std::uint32_t kept = extended ? 0x8FFF'FFFC : 0x80FF'FFFC;

    pci_fake::machine machine{nullptr, 0};
    config_ports<pci_fake::config, TestType> ports{pci_fake::config{&machine}, 3};
    std::uint32_t latch = 0;
    std::mt19937 random{20};
    for (int i = 0; i < 20'000; ++i) {
        const auto at = static_cast<std::uint16_t>(0xCF6 + random() % 12);
        const unsigned count = 1U << random() % 3;
        const auto size = static_cast<width>(count);
        const auto value = static_cast<std::uint32_t>(random());
        const bool is_write = random() % 2 == 0;
        const bool latched = at == 0xCF8 && count == 4;
        const bool data = at >= 0xCFC && at + count <= 0xD00;
        const std::size_t before = machine.event_count;

        CAPTURE(at, count, value, is_write, latch);
        if (is_write) {
            REQUIRE((ports.write(io_port{at}, size, value) == port_claim::whole) ==
                    (latched || data));
            latch = latched ? value & kept : latch;
        } else {
            const port_answer answer = ports.read(io_port{at}, size);
            REQUIRE((answer.claim == port_claim::whole) == (latched || data));
            REQUIRE(answer.value == (latched ? latch : ~std::uint32_t{0} >> (32 - 8 * count)));
        }
        if (!data || latch < 0x8000'0000) {
            REQUIRE(machine.event_count == before);
            continue;
        }
        REQUIRE(machine.event_count == before + 1);
        const pci_fake::event& arrived = machine.events[before % 256];
        const std::uint32_t high = extended ? latch >> 16 & 0xF00 : 0;
        REQUIRE(arrived.offset == (high | (latch & 0xFC) | (at - 0xCFCU)));
        REQUIRE(arrived.size == count);
        REQUIRE(arrived.is_write == is_write);
        REQUIRE(arrived.address == function_address{3, static_cast<std::uint8_t>(latch >> 16),
                                                    static_cast<std::uint8_t>(latch / 2048 % 32),
                                                    static_cast<std::uint8_t>(latch / 256 % 8)});
    }
    CHECK(ports.selected().raw == latch);
    CHECK_FALSE(machine.out_of_bounds);
}
