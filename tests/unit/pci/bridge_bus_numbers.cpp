// SPDX-License-Identifier: BSL-1.0
//
// The buses behind a bridge: as its registers have them, and only where they can be.
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/core/policy.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

using pt::errc;
using pt::error;
using pt::pci::bus_interval;
using pt::pci::function_address;

namespace {

/// One function, 3:05:1d.1, with this header type and this dword at 0x18.
struct one_function {
    std::uint32_t header_type;
    std::uint32_t numbers;

    constexpr std::uint32_t read(function_address function, std::uint16_t offset, pt::width size) {
        if (function != function_address{3, 5, 0x1D, 1}) {
            return pt::all_ones(size);
        }
        if (offset == 0x0E && size == pt::width::byte) {
            return header_type;
        }
        return offset == 0x18 && size == pt::width::dword ? numbers : 0;
    }
    constexpr void write(function_address, std::uint16_t, pt::width, std::uint32_t) {}
};

constexpr pt::result<bus_interval> behind(std::uint32_t header_type, std::uint32_t numbers,
                                          function_address bridge = {3, 5, 0x1D, 1}) {
    return pt::pci::buses_behind(pt::pci::config_bus_numbers{one_function{header_type, numbers}},
                                 bridge);
}

/// 05:1d.1: 5 << 8 | 0x1D << 3 | 1.
constexpr std::uint64_t source_id = 0x05E9;

} // namespace

TEST_CASE("the buses behind a bridge of either type", "[pci][rule 20]") {
    constexpr auto holds = [] {
        constexpr std::uint32_t six_to_nine =
            0x2009'0605; // latency, subordinate, secondary, primary
        return *behind(1, six_to_nine) == bus_interval{6, 9} &&
               *behind(0x81, six_to_nine) == bus_interval{6, 9} &&
               *behind(2, six_to_nine) == bus_interval{6, 9} &&
               behind(1, six_to_nine)->contains(6) && behind(1, six_to_nine)->contains(9) &&
               !behind(1, six_to_nine)->contains(5) && !behind(1, six_to_nine)->contains(10) &&
               *behind(1, 0x00FF'FF05) == bus_interval{0xFF, 0xFF};
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("no bridge, or none with buses", "[pci]") {
    constexpr auto holds = [] {
        return behind(0, 0x0009'0605).error() == error{errc::absent, source_id} &&
               behind(0x80, 0x0009'0605).error() == error{errc::absent, source_id} &&
               behind(3, 0x0009'0605).error() == error{errc::absent, source_id} &&
               behind(1, 0x0009'0605, {3, 5, 0x1D, 2}).error() ==
                   error{errc::absent, source_id + 1} &&
               behind(1, 0x0009'0605, {2, 5, 0x1D, 1}).error() == error{errc::absent, source_id} &&
               behind(1, 0).error() == error{errc::absent, source_id} &&
               behind(1, 0x00FF'0005).error() == error{errc::absent, source_id};
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("bus numbers that cannot be", "[pci][rule 20]") {
    constexpr auto holds = [] {
        const auto malformed = error{errc::malformed, source_id};
        return behind(1, 0x00FF'0505).error() == malformed && // its own bus
               behind(1, 0x00FF'0105).error() == malformed && // backwards
               behind(1, 0x0006'0705).error() == malformed && // ends before it begins
               // What it says of its primary bus matters to nobody.
               *behind(1, 0x0007'0777) == bus_interval{7, 7};
    };
    static_assert(holds());
    REQUIRE(holds());
}
