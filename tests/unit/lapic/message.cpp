// SPDX-License-Identifier: BSL-1.0
#include "pt/lapic/message.hpp"

#include "pt/core/result.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>

namespace {

using namespace pt;
using namespace pt::lapic;

TEST_CASE("a device's write to 0xFEExxxxx is the message that its address and data say",
          "[lapic][message]") {
    constexpr auto check = [] {
        // What Linux programs for vector 0x31 of the processor with APIC id 3, physical.
        bool good =
            message_of_msi(0xFEE0'3000, 0x0000'0031) == message{.vector = 0x31, .destination = 3};
        // Logical, fixed, to the members 0x0C.
        good = good &&
               message_of_msi(0xFEE0'C004, 0x4041) ==
                   message{.vector = 0x41, .mode = destination_mode::logical, .destination = 0x0C};
        // Level-triggered and asserted.
        good =
            good && message_of_msi(0xFEE0'1000, 0xC0A0) ==
                        message{.vector = 0xA0, .trigger = trigger_mode::level, .destination = 1};
        // Edge-triggered: the level bit does not matter.
        return good && message_of_msi(0xFEE0'1000, 0x00A0) == message_of_msi(0xFEE0'1000, 0x40A0);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the delivery modes of a message are those that the manual lists", "[lapic][message]") {
    constexpr auto check = [] {
        const auto delivery_of = [](std::uint32_t bits) {
            return message_of_msi(0xFEE0'0000, bits << 8 | 0x51).transform([](message m) {
                return m.delivery;
            });
        };
        return delivery_of(0) == delivery_mode::fixed &&
               delivery_of(1) == delivery_mode::lowest_priority &&
               delivery_of(2) == delivery_mode::smi && delivery_of(4) == delivery_mode::nmi &&
               delivery_of(5) == delivery_mode::init && delivery_of(7) == delivery_mode::extint &&
               delivery_of(3) == error{errc::malformed, 0x351} &&
               delivery_of(6) == error{errc::malformed, 0x651};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a write elsewhere is no interrupt, and a de-assert is none", "[lapic][message]") {
    constexpr auto check = [] {
        const auto refused = [](std::uint64_t address) {
            return message_of_msi(address, 0x31) == error{errc::out_of_range, address};
        };
        return refused(0) && refused(0xFEDF'FFFC) && refused(0xFEF0'0000) &&
               refused(0x1'FEE0'0000) && refused(0x8000'0000'FEE0'0000) &&
               message_of_msi(0xFEE0'0000, 0x8031) == error{errc::malformed, 0x8031};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the redirection hint asks for lowest priority among a logical destination",
          "[lapic][message]") {
    constexpr auto check = [] {
        const auto delivery_of = [](std::uint64_t address, std::uint32_t data) {
            return message_of_msi(address, data)->delivery;
        };
        return delivery_of(0xFEE0'F00C, 0x31) == delivery_mode::lowest_priority && // RH and DM
               delivery_of(0xFEE0'F004, 0x31) == delivery_mode::fixed &&           // DM alone
               delivery_of(0xFEE0'F008, 0x31) == delivery_mode::fixed && // physical: one anyway
               delivery_of(0xFEE0'F00C, 0x431) == delivery_mode::nmi;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("whatever a guest writes is a message within its form or an error", "[lapic][message]") {
    std::mt19937_64 random{6}; // NOLINT(cert-msc51-cpp): the same sequence each time
    unsigned sent = 0;
    for (int i = 0; i != 200'000; ++i) {
        const std::uint64_t address =
            random() % 2 == 0 ? 0xFEE0'0000 | (random() & 0xF'FFFF) : random();
        const auto data = static_cast<std::uint32_t>(random());
        const auto got = message_of_msi(address, data);
        const bool in_window = address >= 0xFEE0'0000 && address <= 0xFEEF'FFFF;
        const unsigned mode = data / 0x100 % 8;
        const bool deasserts = data / 0x4000 % 4 == 2;
        REQUIRE(got.has_value() == (in_window && mode != 3 && mode != 6 && !deasserts));
        if (got) {
            ++sent;
            REQUIRE(got->vector == data % 0x100);
            REQUIRE(got->destination == address / 0x1000 % 0x100);
            REQUIRE((got->mode == destination_mode::logical) == (address / 4 % 2 == 1));
            REQUIRE((got->trigger == trigger_mode::level) == (data / 0x8000 % 2 == 1));
            REQUIRE(got->to == shorthand::none);
            REQUIRE(got->format == destination_format::xapic);
        }
    }
    REQUIRE(sent > 10'000);
}

TEST_CASE("everybody is 0xFF in a destination of 8 bits and 0xFFFFFFFF in one of 32",
          "[lapic][message][rule 30]") {
    constexpr auto check = [] {
        using enum destination_format;
        return is_broadcast({.format = xapic, .destination = 0xFF}) &&
               !is_broadcast({.format = x2apic, .destination = 0xFF}) &&
               is_broadcast({.format = x2apic, .destination = 0xFFFF'FFFF}) &&
               !is_broadcast({.format = xapic, .destination = 0xFE});
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
