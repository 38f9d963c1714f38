// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/bridge.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

using pt::errc;
using pt::error;
using pt::pci::bridge_control;
using pt::pci::secondary_status;
using pt::pci::write_bus_numbers;

namespace {

constexpr pt::pci::function_address bridge{0, 0, 0x1C, 0};

/// A bridge of that header type whose bus numbers can be written, on bus 0.
constexpr pci_fake::function a_bridge(unsigned layout, std::uint32_t numbers) {
    pci_fake::function made{bridge, 0x9D10'8086};
    made.put(0x0E, 1, layout);
    made.put(0x18, 4, numbers);
    made.allow(0x18, 4, 0xFFFF'FFFF);
    return made;
}

} // namespace

TEST_CASE("bus numbers are written in one dword, and the latency timer stays", "[pci]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const unsigned layout : {0x01U, 0x02U, 0x81U}) {
            pci_fake::function one = a_bridge(layout, 0x40'00'00'00);
            pci_fake::machine machine{&one, 1};
            good &= write_bus_numbers(pci_fake::config{&machine}, bridge, 1, 2, 5).has_value();
            good &= one.get(0x18, 4) == 0x40'05'02'01 && machine.writes() == 1 &&
                    machine.write(0) == pci_fake::event{true, bridge, 0x18, 4, 0x40'05'02'01};
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a bridge's buses can be taken away", "[pci]") {
    pci_fake::function one = a_bridge(1, 0x40'05'02'01);
    pci_fake::machine machine{&one, 1};
    CHECK(write_bus_numbers(pci_fake::config{&machine}, bridge, 1, 0, 0));
    CHECK(one.get(0x18, 4) == 0x40'00'00'01);
}

TEST_CASE("bus numbers in an impossible order are refused, and nothing is written", "[pci]") {
    pci_fake::function one = a_bridge(1, 0x40'05'02'01);
    pci_fake::machine machine{&one, 1};
    const pci_fake::config config{&machine};
    CHECK(write_bus_numbers(config, bridge, 2, 2, 5).error() == error{errc::out_of_range, 2});
    CHECK(write_bus_numbers(config, bridge, 3, 2, 5).error() == error{errc::out_of_range, 2});
    CHECK(write_bus_numbers(config, bridge, 0, 3, 2).error() == error{errc::out_of_range, 2});
    CHECK(write_bus_numbers(config, bridge, 0, 3, 0).error() == error{errc::out_of_range, 0});
    CHECK(write_bus_numbers(config, bridge, 0, 0, 3).error() == error{errc::out_of_range, 0});
    CHECK(machine.writes() == 0);
}

TEST_CASE("bus numbers of what is no bridge are not written", "[pci]") {
    pci_fake::function one = a_bridge(0, 0);
    pci_fake::machine machine{&one, 1};
    const pci_fake::config config{&machine};
    CHECK(write_bus_numbers(config, bridge, 0, 1, 1).error() == error{errc::absent, 0x18});
    CHECK(write_bus_numbers(config, {0, 0, 1, 0}, 0, 1, 1).error() == error{errc::absent, 0x18});
    CHECK(machine.writes() == 0);
}

TEST_CASE("bus numbers that do not hold are an error, and what was there is back", "[pci]") {
    pci_fake::function one = a_bridge(1, 0x00'02'01'00);
    one.allow(0x18, 4, 0x00'0F'0F'0F);
    pci_fake::machine machine{&one, 1};
    const pci_fake::config config{&machine};
    CHECK(write_bus_numbers(config, bridge, 0, 0x21, 0x22).error() ==
          error{errc::hardware_fault, 0x18});
    CHECK(one.get(0x18, 4) == 0x00'02'01'00);
}

TEST_CASE("Secondary Status and Bridge Control of a device as the bytes have them",
          "[pci][rule 5]") {
    pci_fake::function one = a_bridge(1, 0);
    one.put(0x1E, 2, 0xF9A0);
    one.write_1_to_clear[0x1F] = 0xF9;
    one.put(0x3E, 2, 0xF400);
    one.allow(0x3E, 2, 0x0BFF);
    one.write_1_to_clear[0x3F] = 0x04;
    pci_fake::machine machine{&one, 1};
    pci_fake::config config{&machine};

    // A read-modify-write resets the bus and clears no error.
    const auto control = pt::pci::read<bridge_control>(config, bridge);
    CHECK(control[bridge_control::discard_timer_status]);
    pt::pci::write(config, bridge,
                   control.write_back().with(bridge_control::secondary_bus_reset(true)));
    CHECK(one.get(0x3C, 4) == 0xF440'0000);
    pt::pci::write(config, bridge, bridge_control{bridge_control::discard_timer_status(true)});
    CHECK(one.get(0x3E, 2) == 0xF000);

    const auto status = pt::pci::read<secondary_status>(config, bridge);
    CHECK(status[secondary_status::received_system_error]);
    CHECK(status[secondary_status::capable_of_66_mhz]);
    pt::pci::write(config, bridge, secondary_status{secondary_status::received_system_error(true)});
    CHECK(one.get(0x1E, 2) == 0xB9A0);
}
