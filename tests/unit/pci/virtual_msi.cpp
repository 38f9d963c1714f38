// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/virtual_msi.hpp"

#include "view_fixture.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>

using namespace view_fixture;
using pt::pci::msi_state;

namespace {

constexpr auto msi = interrupt_kind::msi;

struct capability {
    vmm host{};
    pt::pci::virtual_msi<route> msi{route{&host}};

    constexpr capability() = default;
    capability(const capability&) = delete;
    capability& operator=(const capability&) = delete;

    constexpr bool was(std::initializer_list<happening> expected) {
        return host.told.was(expected);
    }
};

/// Enabled, with 2^log2 vectors.
constexpr msi_state on(std::uint8_t log2, std::uint64_t address, std::uint16_t data,
                       std::uint32_t mask = 0) {
    return {true, log2, address, data, mask};
}

} // namespace

TEST_CASE("each vector has its number in the low bits of the data, as many as vectors need",
          "[pci][rule 7]") {
    for (std::uint8_t log2 = 0; log2 <= 5; ++log2) {
        capability c;
        c.msi.program(on(log2, 0xFEE0'1000, 0x40BF));
        const unsigned vectors = 1U << log2;
        REQUIRE(c.host.told.count == vectors);
        for (unsigned vector = 0; vector < vectors; ++vector) {
            const std::uint32_t data = 0x40BF / vectors * vectors + vector;
            REQUIRE(c.host.told.entries[vector] == opens(msi, vector, 0xFEE0'1000, data));
        }
        c.host.told.count = 0;
        REQUIRE(c.msi.request(static_cast<std::uint16_t>(vectors - 1)));
        REQUIRE(c.was(
            {sends(msi, vectors - 1, 0xFEE0'1000, 0x40BF / vectors * vectors + vectors - 1)}));
        REQUIRE(c.msi.request(static_cast<std::uint16_t>(vectors)).error() ==
                error{errc::out_of_range, vectors});
        REQUIRE(c.was({}));
    }
}

TEST_CASE("reserved numbers of vectors are the most there can be", "[pci][rule 7]") {
    for (const unsigned log2 : {6U, 7U, 255U}) {
        capability c;
        c.msi.program(on(static_cast<std::uint8_t>(log2), 0xFEE0'1000, 0x40BF));
        REQUIRE(c.host.told.count == 32);
        REQUIRE(c.host.told.entries[31] == opens(msi, 31, 0xFEE0'1000, 0x40BF));
        c.host.told.count = 0;
        REQUIRE(c.msi.request(32).error() == error{errc::out_of_range, 32});
        REQUIRE(c.msi.pending() == 0);
    }
}

TEST_CASE("the route hears of a change, and of nothing else", "[pci]") {
    constexpr auto holds = [] {
        capability c;
        c.msi.program({false, 1, 0xFEE0'0000, 0x40, 0});
        bool good = c.was({});
        c.msi.program(on(1, 0xFEE0'0000, 0x40));
        good &= c.was({opens(msi, 0, 0xFEE0'0000, 0x40), opens(msi, 1, 0xFEE0'0000, 0x41)});
        c.msi.program(on(1, 0xFEE0'0000, 0x40));
        good &= c.was({});
        c.msi.program(on(1, 0xFEE0'0000, 0x40, 2)); // vector 1 is masked
        good &= c.was({closes(msi, 1)});
        c.msi.program(on(1, 0xFEE0'0000, 0x40, ~std::uint32_t{3} | 2)); // others do not exist
        good &= c.was({});
        c.msi.program(on(1, 0x1'FEE0'0000, 0x40, 2));
        good &= c.was({opens(msi, 0, 0x1'FEE0'0000, 0x40)});
        c.msi.program(on(1, 0x1'FEE0'0000, 0x60));
        good &= c.was({opens(msi, 0, 0x1'FEE0'0000, 0x60), opens(msi, 1, 0x1'FEE0'0000, 0x61)});
        c.msi.program(on(0, 0x1'FEE0'0000, 0x60)); // one vector: its message is the same
        good &= c.was({closes(msi, 1)});
        c.msi.program({});
        return good && c.was({closes(msi, 0)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("data bits that the vector's number replaces are no change of the message", "[pci]") {
    constexpr auto holds = [] {
        capability c;
        c.msi.program(on(2, 0xFEE0'0000, 0x40, 0xE));
        bool good = c.was({opens(msi, 0, 0xFEE0'0000, 0x40)});
        c.msi.program(on(2, 0xFEE0'0000, 0x43, 0xE));
        good &= c.was({});
        c.msi.program(on(1, 0xFEE0'0000, 0x43, 0xE)); // now bit 1 is data again
        return good && c.was({opens(msi, 0, 0xFEE0'0000, 0x42)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("what arrives while a vector is masked is pending, and sent once when it is unmasked",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        capability c;
        c.msi.program(on(2, 0xFEE0'0000, 0x80, 0xA));
        c.host.told.count = 0;
        bool good = c.msi.request(1).has_value() && c.msi.request(1).has_value() &&
                    c.msi.request(3).has_value();
        good &= c.was({}) && c.msi.pending() == 0xA;
        c.msi.program(on(2, 0xFEE0'0000, 0x90, 0x8)); // with the message of now
        good &= c.was({opens(msi, 0, 0xFEE0'0000, 0x90), opens(msi, 1, 0xFEE0'0000, 0x91),
                       sends(msi, 1, 0xFEE0'0000, 0x91), opens(msi, 2, 0xFEE0'0000, 0x92)});
        good &= c.msi.pending() == 0x8;
        c.msi.program(on(2, 0xFEE0'0000, 0x90, 0x0));
        good &= c.was({opens(msi, 3, 0xFEE0'0000, 0x93), sends(msi, 3, 0xFEE0'0000, 0x93)});
        good &= c.msi.pending() == 0;
        c.msi.program(on(2, 0xFEE0'0000, 0x90, 0xF));
        c.msi.program(on(2, 0xFEE0'0000, 0x90, 0x0));
        return good && c.host.told.count == 8; // four closed, four opened, none sent
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("pending bits are also what the device itself holds back of closed vectors in use",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        capability c;
        c.host.held_back = 0xFFFF'FFFF;
        bool good = c.msi.pending() == 0;
        c.msi.program(on(3, 0xFEE0'0000, 0x80, 0x81));
        good &= c.msi.pending() == 0x81;
        c.host.held_back = 0x80;
        good &= c.msi.pending() == 0x80;
        c.msi.program({});
        return good && c.msi.pending() == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a capability that is off refuses, and reset forgets what is pending", "[pci][rule 7]") {
    constexpr auto holds = [] {
        capability c;
        bool good = c.msi.request(0).error() == error{errc::refused, 0};
        good &= c.msi.request(0xFFFF).error() == error{errc::refused, 0xFFFF};
        c.msi.program(on(5, 0xFEE0'0000, 0, ~std::uint32_t{0}));
        for (std::uint16_t vector = 0; vector < 32; ++vector) {
            good &= c.msi.request(vector).has_value();
        }
        good &= c.msi.request(32).error() == error{errc::out_of_range, 32};
        good &= c.msi.request(0xFFFF).error() == error{errc::out_of_range, 0xFFFF};
        good &= c.msi.pending() == 0xFFFF'FFFF;
        c.msi.reset();
        c.msi.program(on(0, 0xFEE0'0000, 0));
        return good && c.was({opens(msi, 0, 0xFEE0'0000, 0)}) && c.msi.pending() == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
