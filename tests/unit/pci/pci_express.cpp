// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/pci_express.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

constexpr function_address nic = listed::address;

} // namespace

TEST_CASE("PCI Express of an 82576: an endpoint with a function level reset", "[pci]") {
    constexpr auto holds = [] {
        listed d; // the first registers of the capability, as on a real machine
        d.add(0xA0, 0x10);
        d.put(0xA2, 2, 0x0002);
        d.put(0xA4, 4, 0x1000'8CC2);
        const auto express = read_pci_express(d.config(), nic);
        using cap = device_capabilities;
        return express && express->at.offset == 0xA0 &&
               express->type() == device_port_type::endpoint &&
               express->device[cap::max_payload_size_supported] == 2 && // 512 bytes
               express->device[cap::endpoint_l0s_acceptable_latency] == 3 &&
               express->device[cap::endpoint_l1_acceptable_latency] == 6 &&
               express->device[cap::role_based_error_reporting] &&
               express->device[cap::function_level_reset_capability] && express->has_link() &&
               !express->has_slot() && !express->has_root() && express->has_second_registers() &&
               d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the PCI Express structure is as long as its version and its type demand", "[pci]") {
    struct expectation {
        std::uint16_t capabilities; // version, type << 4, slot << 8
        unsigned size;
    };
    constexpr auto holds = [] {
        const expectation all[]{
            {0x0001, 0x14}, {0x0011, 0x14}, // version 1: endpoints end with Link Status
            {0x0091, 0x0C},                 // without a link with Device Status
            {0x0041, 0x24}, {0x0141, 0x24}, // root ports with Root Status
            {0x00A1, 0x24}, {0x0051, 0x14}, {0x0061, 0x14},
            {0x0161, 0x1C}, {0x0151, 0x14}, // an upstream port has no slot, whatever it says
            {0x0002, 0x34}, {0x0092, 0x2C}, {0x00A2, 0x2C},
            {0x0042, 0x34}, {0x0142, 0x3C}, {0x0162, 0x3C},
            {0x0182, 0x3C}, {0x0072, 0x34}, {0x0003, 0x34}, // compatible with 2
        };
        bool good = true;
        for (const auto& one : all) {
            const std::size_t last = 0x100 - one.size;
            listed d;
            d.add(last, 0x10);
            d.put(last + 2, 2, one.capabilities);
            const auto express = read_pci_express(d.config(), nic);
            good &= express && express->size() == one.size && d.only_read();
            listed beyond;
            beyond.add(last + 4, 0x10);
            beyond.put(last + 6, 2, one.capabilities);
            good &= read_pci_express(beyond.config(), nic).error() ==
                        error{errc::malformed, last + 4} &&
                    beyond.only_read();
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("PCI Express: version 0 and the reserved types are malformed", "[pci]") {
    constexpr auto holds = [] {
        bool good = true;
        for (unsigned type = 0; type < 16; ++type) {
            listed d;
            d.add(0x40, 0x10);
            d.put(0x42, 2, 2 | type << 4);
            const bool reserved = type == 2 || type == 3 || type > 10;
            good &= read_pci_express(d.config(), nic).has_value() == !reserved;
        }
        listed none;
        good &= read_pci_express(none.config(), nic).error() == error{errc::absent, 0x10};
        listed zero;
        zero.add(0x40, 0x10);
        return good && read_pci_express(zero.config(), nic).error() == error{errc::malformed, 0x40};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
