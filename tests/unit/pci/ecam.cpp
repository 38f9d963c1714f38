// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/ecam.hpp"

#include "pt/core/archetype.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_config.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

using pt::mmio_width;
using pt::width;
using pt::pci::ecam;
using pt::pci::ecam_address;
using pt::pci::ecam_config_access;
using pt::pci::ecam_window;
using pt::pci::function_address;

namespace {

constexpr mmio_width every_width[] = {mmio_width::byte, mmio_width::word, mmio_width::dword,
                                      mmio_width::qword};

/// A window that writes down what is done to it.
struct recorded_window {
    struct access {
        char direction;
        unsigned size;
        std::uint32_t offset;
        std::uint64_t value;
        friend bool operator==(const access&, const access&) = default;
    };
    std::vector<access>* log;

    std::uint8_t read8(std::uint32_t at) { return log->push_back({'r', 1, at, 0}), 0xA4; }
    std::uint16_t read16(std::uint32_t at) { return log->push_back({'r', 2, at, 0}), 0xA3A4; }
    std::uint32_t read32(std::uint32_t at) { return log->push_back({'r', 4, at, 0}), 0xA1A2'A3A4; }
    std::uint64_t read64(std::uint32_t at) { return log->push_back({'r', 8, at, 0}), 0; }
    void write8(std::uint32_t at, std::uint8_t value) { log->push_back({'w', 1, at, value}); }
    void write16(std::uint32_t at, std::uint16_t value) { log->push_back({'w', 2, at, value}); }
    void write32(std::uint32_t at, std::uint32_t value) { log->push_back({'w', 4, at, value}); }
    void write64(std::uint32_t at, std::uint64_t value) { log->push_back({'w', 8, at, value}); }
};
using access_log = std::vector<recorded_window::access>;

/// A guest with two functions that are neighbours in the window, 01:02.6 and 01:02.7, and one at
/// its end, 02:1f.7; all bytes can be written. Buses 1 and 2 of segment 4 are in the window.
struct guest {
    pci_fake::function functions[3]{{{4, 1, 2, 6}, 0}, {{4, 1, 2, 7}, 0}, {{4, 2, 31, 7}, 0}};
    pci_fake::machine machine{functions, 3};
    ecam<pci_fake::config> window{pci_fake::config{&machine},
                                  {.segment = 4, .first_bus = 1, .last_bus = 2}};

    // Where they are, in bytes from the start of the window, by [pcie]'s formula without bus 0.
    static constexpr std::uint64_t places[3] = {2 * 0x8000 + 6 * 0x1000, 2 * 0x8000 + 7 * 0x1000,
                                                0x10'0000 + 31 * 0x8000 + 7 * 0x1000};
    static constexpr std::uint64_t size = 0x20'0000;

    guest() {
        for (unsigned n = 0; n < 3; ++n) {
            for (unsigned i = 0; i < 4096; ++i) {
                functions[n].bytes[i] = static_cast<std::uint8_t>(i * 31 + i / 256 + n * 101);
                functions[n].writable[i] = 0xFF;
                functions[n].write_1_to_clear[i] = 0;
            }
        }
    }
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;

    /// The byte there, or null where nobody is.
    std::uint8_t* byte(std::uint64_t offset) {
        for (unsigned n = 0; n < 3; ++n) {
            if (offset >= places[n] && offset - places[n] < 4096) {
                return functions[n].bytes + (offset - places[n]);
            }
        }
        return nullptr;
    }
    /// What a load must yield: the bytes of the function where it begins, ones beyond it.
    std::uint64_t expected(std::uint64_t offset, unsigned count) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            const bool same = offset % 4096 + i < 4096;
            const std::uint8_t* const held = same ? byte(offset + i) : nullptr;
            value |= std::uint64_t{held != nullptr ? *held : std::uint8_t{0xFF}} << 8 * i;
        }
        return value;
    }
};

} // namespace

TEST_CASE("an ECAM address reads as the bus, device, function and register of its bits", "[pci]") {
    constexpr auto holds = [] {
        using ea = ecam_address;
        constexpr ea at{0xABC'DEF5}; // 10101011'11001'101'1110'111101'01
        bool good = at[ea::bus] == 0xAB && at[ea::device] == 25 && at[ea::function] == 5;
        good &= at[ea::extended_register_number] == 0xE && at[ea::register_number] == 0x3D &&
                at[ea::byte] == 1;
        good &= at.target(9) == function_address{9, 0xAB, 25, 5} && at.offset() == 0xEF5;
        return good && ea::select({9, 0xAB, 25, 5}, 0xEF5) == at;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a window takes 1 MiB a bus and begins with its first one", "[pci]") {
    constexpr auto holds = [] {
        bool good = ecam_window{}.size() == 0x1000'0000;
        constexpr ecam_window two{.segment = 4, .first_bus = 0x7F, .last_bus = 0x80};
        good &= two.size() == 0x20'0000;
        good &= two.contains({4, 0x7F, 0, 0}) && two.contains({4, 0x80, 31, 7});
        good &= !two.contains({4, 0x7E, 0, 0}) && !two.contains({4, 0x81, 0, 0});
        good &= !two.contains({0, 0x7F, 0, 0}) && !two.contains({4, 0x7F, 32, 0});
        good &= two.offset_of({4, 0x80, 1, 2}, 0x34) == 0x10'0000 + 0x8000 + 0x2000 + 0x34;
        good &= two.address_at(0x10'A034).target(4) == function_address{4, 0x80, 1, 2};
        // Firmware may say anything.
        constexpr ecam_window none{.segment = 0, .first_bus = 1, .last_bus = 0};
        good &= none.size() == 0 && !none.contains({0, 0, 0, 0}) && !none.contains({0, 1, 0, 0});
        constexpr ecam_window one{.segment = 0, .first_bus = 255, .last_bus = 255};
        return good && one.size() == 0x10'0000 && one.offset_of({0, 255, 31, 7}, 4095) == 0xF'FFFF;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the host's access is one access of its own size to the window", "[pci][rule 5]") {
    access_log log;
    ecam_config_access config{recorded_window{&log}};
    CHECK(config.read({0, 0xFF, 31, 7}, 0xFFC, width::dword) == 0xA1A2'A3A4);
    CHECK(config.read({0, 0, 3, 1}, 0x42, width::word) == 0xA3A4);
    CHECK(config.read({0, 0, 3, 1}, 0x41, width::word) == 0xA3A4);
    CHECK(config.read({0, 2, 0, 0}, 0x101, width::byte) == 0xA4);
    config.write({0, 0, 3, 1}, 4, width::word, 0x0407);
    config.write({0, 1, 0, 0}, 0x3D, width::byte, 0xFF);
    config.write({0, 0, 31, 0}, 0x10, width::dword, 0xFEBC'0000);
    CHECK(log == access_log{{'r', 4, 0xFFF'FFFC, 0},
                            {'r', 2, 0x1'9042, 0},
                            {'r', 2, 0x1'9041, 0},
                            {'r', 1, 0x20'0101, 0},
                            {'w', 2, 0x1'9004, 0x0407},
                            {'w', 1, 0x10'003D, 0xFF},
                            {'w', 4, 0xF'8010, 0xFEBC'0000}});
}

TEST_CASE("the host's access outside the window reads all ones and touches nothing",
          "[pci][rule 3]") {
    access_log log;
    const ecam_window buses{.segment = 1, .first_bus = 0x10, .last_bus = 0x1F};
    ecam_config_access config{recorded_window{&log}, buses};
    for (const function_address outside : {function_address{1, 0x0F, 0, 0},
                                           {1, 0x20, 0, 0},
                                           {0, 0x10, 0, 0},
                                           {1, 0x10, 32, 0},
                                           {1, 0x10, 0, 8}}) {
        CHECK(config.read(outside, 0, width::dword) == 0xFFFF'FFFF);
        CHECK(config.read(outside, 0x41, width::word) == 0xFFFF);
        CHECK(config.read(outside, 0xFFF, width::byte) == 0xFF);
        config.write(outside, 4, width::word, 0);
    }
    CHECK(log.empty());
    CHECK(config.read({1, 0x10, 0, 0}, 0, width::dword) == 0xA1A2'A3A4);
    CHECK(log == access_log{{'r', 4, 0, 0}});
}

TEST_CASE("a guest's load yields the bytes of one function, whatever its place and size", "[pci]") {
    guest g;
    for (const std::uint64_t place : guest::places) {
        for (unsigned at = 0; at < 4096; ++at) {
            for (const mmio_width size : every_width) {
                const unsigned count = static_cast<unsigned>(size);
                if (g.window.read(place + at, size) != g.expected(place + at, count)) {
                    FAIL("offset " << place + at << " size " << count);
                }
            }
        }
    }
    CHECK_FALSE(g.machine.out_of_bounds);
}

TEST_CASE("a guest's access is one configuration access to each dword, lowest first",
          "[pci][rule 5]") {
    struct piece {
        unsigned offset;
        unsigned size;
    };
    struct split {
        unsigned offset;
        mmio_width size;
        std::vector<piece> pieces;
    };
    // By hand: legal are 1, 2 and 4 bytes inside a dword, and three are an aligned word and a byte.
    const split splits[] = {
        {0x40, mmio_width::byte, {{0x40, 1}}},
        {0x43, mmio_width::byte, {{0x43, 1}}},
        {0x40, mmio_width::word, {{0x40, 2}}},
        {0x41, mmio_width::word, {{0x41, 2}}},
        {0x42, mmio_width::word, {{0x42, 2}}},
        {0x43, mmio_width::word, {{0x43, 1}, {0x44, 1}}},
        {0x40, mmio_width::dword, {{0x40, 4}}},
        {0x41, mmio_width::dword, {{0x41, 1}, {0x42, 2}, {0x44, 1}}},
        {0x42, mmio_width::dword, {{0x42, 2}, {0x44, 2}}},
        {0x43, mmio_width::dword, {{0x43, 1}, {0x44, 2}, {0x46, 1}}},
        {0x40, mmio_width::qword, {{0x40, 4}, {0x44, 4}}},
        {0x41, mmio_width::qword, {{0x41, 1}, {0x42, 2}, {0x44, 4}, {0x48, 1}}},
        {0x42, mmio_width::qword, {{0x42, 2}, {0x44, 4}, {0x48, 2}}},
        {0x43, mmio_width::qword, {{0x43, 1}, {0x44, 4}, {0x48, 2}, {0x4A, 1}}},
        // The end of the function's space, with a neighbour behind it.
        {0xFFF, mmio_width::word, {{0xFFF, 1}}},
        {0xFFD, mmio_width::dword, {{0xFFD, 1}, {0xFFE, 2}}},
        {0xFFC, mmio_width::qword, {{0xFFC, 4}}},
        {0xFF9, mmio_width::qword, {{0xFF9, 1}, {0xFFA, 2}, {0xFFC, 4}}},
    };
    for (const split& expected : splits) {
        CAPTURE(expected.offset, static_cast<unsigned>(expected.size));
        guest g;
        const std::uint64_t value = 0x8877'6655'4433'2211;
        (void)g.window.read(guest::places[0] + expected.offset, expected.size);
        g.window.write(guest::places[0] + expected.offset, expected.size, value);
        const std::size_t count = expected.pieces.size();
        REQUIRE(g.machine.event_count == 2 * count);
        for (std::size_t i = 0; i < count; ++i) {
            const auto [offset, size] = expected.pieces[i];
            const std::uint32_t part =
                static_cast<std::uint32_t>(value >> 8 * (offset - expected.offset)) &
                ~std::uint32_t{0} >> (32 - 8 * size);
            const auto at = static_cast<std::uint16_t>(offset);
            CHECK(g.machine.events[i] == pci_fake::event{false, {4, 1, 2, 6}, at, size, 0});
            CHECK(g.machine.events[count + i] ==
                  pci_fake::event{true, {4, 1, 2, 6}, at, size, part});
        }
        CHECK_FALSE(g.machine.out_of_bounds);
    }
}

TEST_CASE("random stores agree with plain bytes, and never run into the next function", "[pci]") {
    guest g;
    std::vector<std::uint8_t> model(guest::size);
    for (std::uint64_t i = 0; i < guest::size; ++i) {
        const std::uint8_t* const held = g.byte(i);
        model[i] = held != nullptr ? *held : std::uint8_t{0xFF};
    }
    std::mt19937_64 random{4};
    for (int i = 0; i < 20'000; ++i) {
        // Mostly near the start or the end of a function.
        const std::uint64_t place = guest::places[random() % 3] + (random() % 2) * 4096;
        const std::uint64_t offset = place - 12 + random() % 24;
        const auto size = every_width[random() % 4];
        const std::uint64_t value = random();
        g.window.write(offset, size, value);
        for (unsigned n = 0; n < static_cast<unsigned>(size); ++n) {
            if (offset % 4096 + n < 4096 && g.byte(offset + n) != nullptr) {
                model[offset + n] = static_cast<std::uint8_t>(value >> 8 * n);
            }
        }
    }
    for (const std::uint64_t place : guest::places) {
        for (std::uint64_t at = place; at < place + 4096; ++at) {
            if (*g.byte(at) != model[at]) {
                FAIL("byte " << at);
            }
        }
    }
    CHECK_FALSE(g.machine.out_of_bounds);
}

TEST_CASE("nothing is beyond the window", "[pci][rule 3]") {
    guest g;
    // The last byte of the window is the last of 02:1f.7; what follows reads ones.
    CHECK(g.window.read(guest::size - 1, mmio_width::qword) ==
          (0xFFFF'FFFF'FFFF'FF00 | g.functions[2].bytes[4095]));
    g.machine.event_count = 0;
    for (const std::uint64_t offset :
         {guest::size, guest::size + 4, std::uint64_t{0x1000'0000}, std::uint64_t{1} << 32,
          ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
        CHECK(g.window.read(offset, mmio_width::qword) == ~std::uint64_t{0});
        CHECK(g.window.read(offset, mmio_width::word) == 0xFFFF);
        g.window.write(offset, mmio_width::qword, 0);
    }
    ecam none{pci_fake::config{&g.machine}, {.segment = 4, .first_bus = 2, .last_bus = 1}};
    CHECK(none.read(0, mmio_width::dword) == 0xFFFF'FFFF);
    none.write(0, mmio_width::dword, 0);
    CHECK(g.machine.event_count == 0);
}

TEST_CASE("a store beside a write-1-to-clear bit does not clear it", "[pci][rule 5]") {
    pci_fake::function functions[1]{{{0, 0, 3, 0}, 0x10D3'8086}};
    functions[0].put(6, 2, 0xF910); // Status with all its errors
    pci_fake::machine machine{functions, 1};
    ecam window{pci_fake::config{&machine}};
    constexpr std::uint64_t nic = 3 * 0x8000;

    window.write(nic + 4, mmio_width::word, 0xFFFF);
    CHECK(functions[0].get(4, 4) == 0xF910'0547);
    window.write(nic + 3, mmio_width::dword, 0xFFFF'FFFF); // up to and with byte 6
    CHECK(functions[0].get(4, 4) == 0xF910'0547);
    window.write(nic + 7, mmio_width::byte, 0x80);
    CHECK(functions[0].get(4, 4) == 0x7910'0547);
}

TEST_CASE("a guest's window over the host's, over a guest's again, is the function itself",
          "[pci]") {
    guest inner;
    struct mapped_guest {
        ecam<pci_fake::config>* at;
        std::uint8_t read8(std::uint32_t o) {
            return static_cast<std::uint8_t>(at->read(o, mmio_width::byte));
        }
        std::uint16_t read16(std::uint32_t o) {
            return static_cast<std::uint16_t>(at->read(o, mmio_width::word));
        }
        std::uint32_t read32(std::uint32_t o) {
            return static_cast<std::uint32_t>(at->read(o, mmio_width::dword));
        }
        std::uint64_t read64(std::uint32_t o) { return at->read(o, mmio_width::qword); }
        void write8(std::uint32_t o, std::uint8_t v) { at->write(o, mmio_width::byte, v); }
        void write16(std::uint32_t o, std::uint16_t v) { at->write(o, mmio_width::word, v); }
        void write32(std::uint32_t o, std::uint32_t v) { at->write(o, mmio_width::dword, v); }
        void write64(std::uint32_t o, std::uint64_t v) { at->write(o, mmio_width::qword, v); }
    };
    // The functions have other addresses in the outer guest, and its window other buses.
    ecam_config_access host{mapped_guest{&inner.window}, inner.window.window()};
    pt::pci::host_function first{host, {4, 1, 2, 6}};
    pt::pci::host_function second{host, {4, 2, 31, 7}};
    pt::pci::config_routes<2> routes;
    REQUIRE(routes.add({0, 0x40, 0, 0}, first));
    REQUIRE(routes.add({0, 0x41, 0, 0}, second));
    ecam outer{pt::pci::config_router{routes}, {.segment = 0, .first_bus = 0x40, .last_bus = 0x4F}};

    std::mt19937_64 random{5};
    for (int i = 0; i < 5'000; ++i) {
        const std::uint64_t bus = random() % 2;
        const std::uint64_t at = random() % 4096;
        const std::uint64_t place = guest::places[2 * bus] + at;
        const auto size = every_width[random() % 4];
        const unsigned count = static_cast<unsigned>(size);
        const std::uint64_t value = random();
        REQUIRE(outer.read(bus << 20 | at, size) == inner.expected(place, count));
        outer.write(bus << 20 | at, size, value);
        for (unsigned n = 0; n < count && at + n < 4096; ++n) {
            REQUIRE(*inner.byte(place + n) == static_cast<std::uint8_t>(value >> 8 * n));
        }
    }
    CHECK(outer.read(2U << 20, mmio_width::dword) == 0xFFFF'FFFF);
    CHECK_FALSE(inner.machine.out_of_bounds);
}

TEST_CASE("the window needs no more than its policies promise", "[pci]") {
    constexpr auto holds = [] {
        ecam_config_access host{pt::archetype::narrow_mmio_io{}};
        ecam guest{host};
        guest.write(0, mmio_width::qword, 0);
        return guest.read(1, mmio_width::qword) == ~std::uint64_t{0};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
