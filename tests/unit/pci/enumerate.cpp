// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/enumerate.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <iterator>
#include <vector>

using pt::pci::found_function;
using pt::pci::function_address;
using pt::pci::identity;
using pt::pci::scan_bus;

namespace {

std::vector<function_address> scan(pci_fake::machine& machine, std::uint8_t bus,
                                   std::uint16_t segment = 0) {
    std::vector<function_address> found;
    for (const auto [address, id] : scan_bus(pci_fake::config{&machine}, bus, segment)) {
        found.push_back(address);
    }
    return found;
}

} // namespace

TEST_CASE("a scan finds every function of the bus, in order, with its ids", "[pci]") {
    constexpr auto holds = [] {
        pci_fake::function functions[]{{{0, 2, 31, 0}, 0x1000'1AF4},
                                       {{0, 2, 0, 0}, 0x10D3'8086},
                                       {{0, 2, 5, 0}, 0x11E8'1234},
                                       {{0, 3, 0, 0}, 0x0001'8086}}; // another bus
        pci_fake::machine machine{functions, 4};
        const found_function expected[]{{{0, 2, 0, 0}, identity{0x10D3'8086}},
                                        {{0, 2, 5, 0}, identity{0x11E8'1234}},
                                        {{0, 2, 31, 0}, identity{0x1000'1AF4}}};
        std::size_t count = 0;
        bool good = true;
        for (const auto found : scan_bus(pci_fake::config{&machine}, 2)) {
            good &= count < 3 && found == expected[count];
            ++count;
        }
        return good && count == 3 && !machine.out_of_bounds && machine.writes() == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("functions 1 to 7 are asked only behind a multi-function header", "[pci]") {
    pci_fake::function functions[]{{{0, 0, 1, 0}, 0x0001'8086}, {{0, 0, 1, 1}, 0x0002'8086},
                                   {{0, 0, 2, 0}, 0x0003'8086}, {{0, 0, 2, 3}, 0x0004'8086},
                                   {{0, 0, 2, 7}, 0x0005'8086}, {{0, 0, 4, 0}, 0x0006'8086}};
    functions[2].put(0x0E, 1, 0x80);
    pci_fake::machine machine{functions, 6};
    CHECK(scan(machine, 0) ==
          std::vector<function_address>{
              {0, 0, 1, 0}, {0, 0, 2, 0}, {0, 0, 2, 3}, {0, 0, 2, 7}, {0, 0, 4, 0}});
    for (std::size_t i = 0; i < machine.event_count; ++i) {
        CHECK((machine.events[i].address.device == 2 || machine.events[i].address.function == 0));
    }
}

TEST_CASE("without function 0 a device has no functions", "[pci]") {
    pci_fake::function functions[]{{{0, 0, 1, 2}, 0x0001'8086}};
    functions[0].put(0x0E, 1, 0x80);
    pci_fake::machine machine{functions, 1};
    CHECK(scan(machine, 0).empty());
    CHECK(machine.event_count == 32); // one question a device
}

TEST_CASE("only function 0 says whether there are more", "[pci]") {
    pci_fake::function functions[]{{{0, 0, 1, 0}, 0x0001'8086}, {{0, 0, 1, 1}, 0x0002'8086}};
    functions[1].put(0x0E, 1, 0x80);
    pci_fake::machine machine{functions, 2};
    CHECK(scan(machine, 0).size() == 1);

    functions[0].put(0x0E, 1, 0x80);
    functions[1].put(0x0E, 1, 0x00);
    pci_fake::function more[]{functions[0], functions[1], {{0, 0, 1, 5}, 0x0003'8086}};
    pci_fake::machine larger{more, 3};
    CHECK(scan(larger, 0).size() == 3);
}

TEST_CASE("vendor ids 0xFFFF and 0 are no function", "[pci]") {
    pci_fake::function functions[]{
        {{0, 0, 1, 0}, 0x1234'FFFF}, {{0, 0, 2, 0}, 0x0000'0000}, {{0, 0, 3, 0}, 0x0000'FFFF}};
    pci_fake::machine machine{functions, 3};
    CHECK(scan(machine, 0).empty());
}

TEST_CASE("a function that is not ready is found, and its header is left alone", "[pci]") {
    pci_fake::function functions[]{{{0, 0, 4, 0}, 0xFFFF'0001}};
    functions[0].put(0x0E, 1, 0xFF);
    pci_fake::machine machine{functions, 1};
    std::size_t count = 0;
    for (const auto found : scan_bus(pci_fake::config{&machine}, 0)) {
        CHECK(found.id.not_ready());
        ++count;
    }
    CHECK(count == 1);
    CHECK(machine.event_count == 32);
}

TEST_CASE("a bus where every function answers ends after 256", "[pci]") {
    struct crowd {
        std::uint32_t read(function_address, std::uint16_t offset, pt::width) {
            return offset == 0x0E ? 0x80 : 0x0001'8086;
        }
        void write(function_address, std::uint16_t, pt::width, std::uint32_t) {}
    };
    unsigned count = 0;
    for (const auto found : scan_bus(crowd{}, 0xFF, 0xFFFF)) {
        REQUIRE(found.address == function_address::from_source_id(
                                     static_cast<std::uint16_t>(0xFF00 + count), 0xFFFF));
        ++count;
    }
    CHECK(count == 256);
}

TEST_CASE("a scan is a forward range", "[pci]") {
    using iterator = pt::pci::bus_scan<pci_fake::config>::iterator;
    STATIC_REQUIRE(std::forward_iterator<iterator>);
    STATIC_REQUIRE(std::sentinel_for<pt::pci::bus_scan_end, iterator>);
}
