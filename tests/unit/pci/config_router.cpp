// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/config_router.hpp"

#include "pt/core/address.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/function_config.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <tuple>
#include <vector>

using pt::errc;
using pt::error;
using pt::io_port;
using pt::mmio_width;
using pt::width;
using pt::pci::config_router;
using pt::pci::config_routes;
using pt::pci::function_address;
using pt::pci::host_function;

namespace {

/// A function that writes down what arrives, and answers every read with its number.
struct recorder {
    struct access {
        bool is_write;
        unsigned offset;
        unsigned size;
        std::uint32_t value;
        friend bool operator==(const access&, const access&) = default;
    };

    std::uint32_t number = 0;
    std::vector<access> log;

    std::uint32_t read(std::uint16_t offset, width size) {
        log.push_back({false, offset, static_cast<unsigned>(size), 0});
        return number;
    }
    void write(std::uint16_t offset, width size, std::uint32_t value) {
        log.push_back({true, offset, static_cast<unsigned>(size), value});
    }
};
static_assert(pt::pci::function_config<recorder>);

function_address numbered(std::uint32_t segment_and_source_id) {
    return {static_cast<std::uint16_t>(segment_and_source_id >> 16),
            static_cast<std::uint8_t>(segment_and_source_id >> 8),
            static_cast<std::uint8_t>(segment_and_source_id / 8 % 32),
            static_cast<std::uint8_t>(segment_and_source_id % 8)};
}

} // namespace

TEST_CASE("a function without a route reads all ones, and writes to it vanish", "[pci][rule 3]") {
    constexpr auto holds = [] {
        config_routes<2> routes;
        config_router router{routes};
        bool good = routes.size() == 0 && !routes.contains({0, 0, 0, 0});
        for (const function_address nobody : {function_address{},
                                              {0, 0, 31, 7},
                                              {0xFFFF, 255, 31, 7},
                                              {0, 0, 32, 0},
                                              {0, 0, 0, 8},
                                              {0, 255, 255, 255}}) {
            good &= router.read(nobody, 0, width::byte) == 0xFF;
            good &= router.read(nobody, 0xFFE, width::word) == 0xFFFF;
            good &= router.read(nobody, 0x10, width::dword) == 0xFFFF'FFFF;
            router.write(nobody, 0x10, width::dword, 0);
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("add and remove say what is wrong, and change nothing then", "[pci]") {
    constexpr auto holds = [] {
        config_routes<2> routes;
        pt::pci::archetype::function_config nobody;
        bool good = routes.add({0x12, 0x34, 5, 6}, nobody).has_value();
        // Segment 31:16; bus 15:8, device 7:3, function 2:0.
        good &= routes.add({0x12, 0x34, 5, 6}, nobody).error() ==
                error{errc::already_mapped, 0x0012'342E};
        good &= routes.add({0, 0, 32, 0}, nobody).error() == error{errc::out_of_range, 32};
        good &= routes.add({0, 0, 31, 8}, nobody).error() == error{errc::out_of_range, 8};
        good &= routes.remove({0, 0, 0, 255}).error() == error{errc::out_of_range, 255};
        good &= routes.remove({0, 0, 5, 6}).error() == error{errc::absent, 0x2E};
        good &= routes.size() == 1 && routes.contains({0x12, 0x34, 5, 6});

        good &= routes.add({0, 0, 5, 6}, nobody).has_value();
        good &= routes.add({0, 0, 5, 7}, nobody).error() == error{errc::busy, 2};
        good &= routes.add({0, 0, 5, 6}, nobody).error().code == errc::already_mapped;
        good &= routes.size() == 2 && !routes.contains({0, 0, 5, 7});

        good &= routes.remove({0x12, 0x34, 5, 6}).has_value();
        good &= routes.add({0, 0, 5, 7}, nobody).has_value();
        good &= routes.contains({0, 0, 5, 6}) && routes.contains({0, 0, 5, 7});
        return good && routes.size() == 2 && !routes.contains({0x12, 0x34, 5, 6});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("every address but an absurd one can be routed, all ones too", "[pci]") {
    constexpr auto holds = [] {
        config_routes<1> routes;
        pt::pci::archetype::function_config nobody;
        const function_address highest{0xFFFF, 255, 31, 7};
        bool good = !routes.contains(highest) && routes.add(highest, nobody).has_value();
        good &= routes.contains(highest) && !routes.contains({0xFFFF, 255, 31, 6});
        // Numbers that no bus carries, though their bits would add up to a route.
        good &= !routes.contains({0xFFFF, 254, 63, 7}) && !routes.contains({0xFFFF, 255, 30, 15});
        return good && routes.remove(highest).has_value() && !routes.contains(highest);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an access arrives at its object as it was made", "[pci][rule 5]") {
    recorder nic{.number = 0xA5, .log = {}};
    config_routes<8> routes;
    REQUIRE(routes.add({0, 0, 3, 0}, nic));
    config_router router{routes};
    CHECK(router.read({0, 0, 3, 0}, 0x41, width::word) == 0xA5);
    router.write({0, 0, 3, 0}, 0xFFF, width::byte, 0x5A);
    router.write({0, 0, 3, 0}, 0x04, width::dword, 0xF900'0407);
    CHECK(nic.log == std::vector<recorder::access>{{false, 0x41, 2, 0},
                                                   {true, 0xFFF, 1, 0x5A},
                                                   {true, 0x04, 4, 0xF900'0407}});
}

TEST_CASE("one object may play several functions, and may be constant", "[pci]") {
    struct constant {
        std::uint32_t read(std::uint16_t offset, width) const { return offset; }
        void write(std::uint16_t, width, std::uint32_t) const {}
    };
    const constant both;
    config_routes<2> routes;
    REQUIRE(routes.add({0, 1, 0, 0}, both));
    REQUIRE(routes.add({0, 2, 0, 0}, both));
    config_router router{routes};
    CHECK(router.read({0, 1, 0, 0}, 0x44, width::byte) == 0x44);
    CHECK(router.read({0, 2, 0, 0}, 0x48, width::byte) == 0x48);
    REQUIRE(routes.remove({0, 1, 0, 0}));
    CHECK(router.read({0, 1, 0, 0}, 0x44, width::byte) == 0xFF);
    CHECK(router.read({0, 2, 0, 0}, 0x48, width::byte) == 0x48);
}

TEST_CASE("the guest's address need not be the host's", "[pci]") {
    pci_fake::function functions[2]{{{0, 4, 0, 1}, 0x10D3'8086}, {{0, 0, 3, 0}, 0x1234'5678}};
    pci_fake::machine machine{functions, 2};
    const pci_fake::config host{&machine};
    host_function nic{host, {0, 4, 0, 1}};
    host_function other{host, {0, 0, 3, 0}};
    config_routes<2> routes;
    REQUIRE(routes.add({0, 0, 3, 0}, nic)); // where the host has the other one
    REQUIRE(routes.add({0, 4, 0, 1}, other));

    pt::pci::config_ports guest{config_router{routes}};
    const auto id_of = [&](std::uint32_t selection) {
        guest.write(io_port{0xCF8}, width::dword, selection);
        return guest.read(io_port{0xCFC}, width::dword).value;
    };
    CHECK(id_of(0x8000'1800) == 0x10D3'8086);
    CHECK(id_of(0x8004'0100) == 0x1234'5678);
    CHECK(id_of(0x8004'0000) == 0xFFFF'FFFF);
    REQUIRE(machine.event_count == 2);
    CHECK(machine.events[0] == pci_fake::event{false, {0, 4, 0, 1}, 0, 4, 0});
    CHECK(machine.events[1] == pci_fake::event{false, {0, 0, 3, 0}, 0, 4, 0});
}

TEST_CASE("the example of docs/pci.md", "[pci]") {
    namespace pci = pt::pci;
    pci_fake::function device[1]{{{0, 4, 0, 2}, 0x10D3'8086}};
    pci_fake::machine machine{device, 1};
    const pci_fake::config config{&machine};
    const function_address nic{0, 4, 0, 2};

    pci::host_function real{config, nic};
    config_routes<8> functions;
    const auto added = functions.add({0, 0, 3, 0}, real);
    REQUIRE(added);
    config_router router{functions};
    pci::config_ports ports{router};
    pci::ecam window{router, {.last_bus = 63}};

    CHECK(ports.write(io_port{0xCF8}, width::dword, 0x8000'1804) == pci::port_claim::whole);
    CHECK(ports.write(io_port{0xCFC}, width::word, 0x0407) == pci::port_claim::whole);
    CHECK(window.read(0x1'8000, mmio_width::qword) == 0x0000'0407'10D3'8086);
    CHECK(window.window().size() == 64 * pt::MiB);
    CHECK(device[0].get(4, 2) == 0x0407);
}

TEST_CASE("a router is a handle: what changes in the table changes for all of them", "[pci]") {
    recorder nic{.number = 1, .log = {}};
    config_routes<1> routes;
    config_router first{routes};
    config_router second = first;
    REQUIRE(routes.add({0, 0, 3, 0}, nic));
    CHECK(first.read({0, 0, 3, 0}, 0, width::dword) == 1);
    CHECK(second.read({0, 0, 3, 0}, 0, width::dword) == 1);
    REQUIRE(routes.remove({0, 0, 3, 0}));
    CHECK(first.read({0, 0, 3, 0}, 0, width::dword) == 0xFFFF'FFFF);
}

TEST_CASE("no access of a guest leaves the objects that it was given", "[pci]") {
    // Every function of every bus through the ports, in both forms, and through the window; each
    // object must see exactly what was meant for it.
    recorder objects[4];
    const std::uint32_t places[4] = {0x0000, 0x0019, 0x0500, 0xFFFF};
    config_routes<4> routes;
    for (unsigned i = 0; i < 4; ++i) {
        objects[i].number = i;
        REQUIRE(routes.add(numbered(places[i]), objects[i]));
    }
    pt::pci::config_ports conventional{config_router{routes}};
    pt::pci::config_ports<config_router, pt::pci::extended_config_address> extended{
        config_router{routes}};
    pt::pci::ecam window{config_router{routes}};

    const auto arrivals = [&] {
        std::size_t count = 0;
        for (recorder& object : objects) {
            count += object.log.size();
        }
        return count;
    };
    for (std::uint32_t source = 0; source < 0x1'0000; ++source) {
        std::size_t meant = 0;
        for (unsigned i = 0; i < 4; ++i) {
            meant += places[i] == source ? 1 : 0;
            objects[i].log.clear();
        }
        conventional.write(io_port{0xCF8}, width::dword, 0x8000'0040 | source << 8);
        conventional.write(io_port{0xCFE}, width::word, 0x1234);
        extended.write(io_port{0xCF8}, width::dword, 0x8F00'0040 | source << 8);
        const std::uint32_t seen = extended.read(io_port{0xCFD}, width::byte).value;
        window.write(std::uint64_t{source} << 12 | 0xFFC, mmio_width::qword, ~std::uint64_t{0});
        if (meant == 0) {
            if (arrivals() != 0 || seen != 0xFF) {
                FAIL("source id " << source);
            }
            continue;
        }
        REQUIRE(arrivals() == 3);
        REQUIRE(seen < 4);
        REQUIRE(places[seen] == source);
        REQUIRE(objects[seen].log == std::vector<recorder::access>{{true, 0x42, 2, 0x1234},
                                                                   {false, 0xF41, 1, 0},
                                                                   {true, 0xFFC, 4, 0xFFFF'FFFF}});
    }
}

using capacities = std::tuple<config_routes<1>, config_routes<3>, config_routes<8>,
                              config_routes<13>, config_routes<64>>;

TEMPLATE_LIST_TEST_CASE("random changes agree with a map, whatever the addresses", "[pci]",
                        capacities) {
    constexpr std::size_t capacity = TestType::capacity;
    constexpr std::size_t places = 3 * capacity;
    std::mt19937 random{static_cast<std::uint32_t>(capacity)};

    // Devices of one bus, a bus to each, functions of devices, and no order at all.
    for (const unsigned pattern : {0U, 1U, 2U, 3U}) {
        std::vector<function_address> pool;
        for (std::uint32_t i = 0; i < places; ++i) {
            pool.push_back(numbered(pattern == 0   ? i * 8
                                    : pattern == 1 ? i * 256
                                    : pattern == 2 ? i
                                                   : static_cast<std::uint32_t>(random())));
        }
        std::vector<recorder> objects(places);
        for (std::uint32_t i = 0; i < places; ++i) {
            objects[i].number = i;
        }
        TestType routes;
        config_router router{routes};
        std::map<function_address, std::uint32_t> model;

        for (int step = 0; step < 600; ++step) {
            const std::size_t which = random() % places;
            const function_address where = pool[which];
            const bool there = model.contains(where);
            if (random() % 5 < 3) {
                recorder& object = objects[random() % places];
                const auto added = routes.add(where, object);
                if (there) {
                    REQUIRE(added.error().code == errc::already_mapped);
                } else if (model.size() == capacity) {
                    REQUIRE(added.error() == error{errc::busy, capacity});
                } else {
                    REQUIRE(added);
                    model[where] = object.number;
                }
            } else {
                REQUIRE(routes.remove(where).has_value() == there);
                model.erase(where);
            }
            REQUIRE(routes.size() == model.size());
            for (const function_address asked : pool) {
                const auto found = model.find(asked);
                const std::uint32_t expected = found == model.end() ? 0xFFFF'FFFF : found->second;
                if (router.read(asked, 0, width::dword) != expected ||
                    routes.contains(asked) != (found != model.end())) {
                    FAIL("capacity " << capacity << " pattern " << pattern << " step " << step);
                }
            }
        }
    }
}
