// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/enumerate.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

using pt::pci::found_function;
using pt::pci::function_address;
using pt::pci::header_layout;
using pt::pci::identity;
using pt::pci::scan_bus;
using pt::pci::scan_tree;
using pt::pci::tree_function;

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

namespace {

/// What a scan of the tree needs to know of a function.
struct node {
    std::uint32_t id = 0x0001'8086;
    std::uint8_t header_type = 0;
    std::uint8_t secondary = 0;
    std::uint8_t subordinate = 0;
};

/// A machine of such functions. It can neither be assigned nor made out of nothing.
struct tree_config {
    std::map<function_address, node>& nodes;
    std::map<function_address, unsigned>& asked; ///< how often each was asked for its ids

    std::uint32_t read(function_address address, std::uint16_t offset, pt::width size) {
        if (offset == 0) {
            ++asked[address];
        }
        const auto found = nodes.find(address);
        if (found == nodes.end()) {
            return pt::all_ones(size);
        }
        const node& at = found->second;
        return offset == 0x00   ? at.id
               : offset == 0x0E ? at.header_type
               : offset == 0x18
                   ? (unsigned{at.subordinate} << 16 | at.secondary * 256U | address.bus)
                   : 0;
    }
    void write(function_address address, std::uint16_t offset, pt::width, std::uint32_t value) {
        REQUIRE(offset == 0x18);
        nodes.at(address).secondary = static_cast<std::uint8_t>(value >> 8);
        nodes.at(address).subordinate = static_cast<std::uint8_t>(value >> 16);
    }
};
static_assert(pt::pci::config_access<tree_config>);

std::vector<tree_function> tree(std::map<function_address, node>& nodes, std::uint8_t bus = 0) {
    std::map<function_address, unsigned> asked;
    std::vector<tree_function> found;
    for (const tree_function& each : scan_tree(tree_config{nodes, asked}, bus)) {
        REQUIRE(found.size() < 65536);
        found.push_back(each);
    }
    return found;
}

std::vector<function_address> addresses(const std::vector<tree_function>& found) {
    std::vector<function_address> all;
    all.reserve(found.size());
    for (const tree_function& each : found) {
        all.push_back(each.address);
    }
    return all;
}

/// The same by recursion, with sets.
struct recursive_model {
    const std::map<function_address, node>& nodes;
    std::vector<tree_function> found{};
    std::set<unsigned> entered{};

    void walk(unsigned bus, unsigned last, function_address bridge, unsigned depth) {
        entered.insert(bus);
        for (const auto& [address, at] : nodes) {
            if (address.bus != bus) {
                continue;
            }
            const auto first = nodes.find({0, address.bus, address.device, 0});
            if (first == nodes.end() ||
                (address.function != 0 && first->second.header_type < 0x80)) {
                continue;
            }
            const unsigned layout = at.header_type % 0x80U;
            found.push_back({address, identity{at.id}, static_cast<header_layout>(layout), bridge,
                             static_cast<std::uint8_t>(depth)});
            const unsigned end = at.subordinate < last ? at.subordinate : last;
            if ((layout == 1 || layout == 2) && at.secondary > bus && at.secondary <= end &&
                !entered.contains(at.secondary)) {
                walk(at.secondary, end, address, depth + 1);
            }
        }
    }
};

constexpr function_address no_function{0, 0, 32, 0};

template <class Scan>
concept begins_when_gone = requires(Scan scan) {
    static_cast<Scan&&>(scan).begin();
};

} // namespace

TEST_CASE("a scan of the tree goes behind a bridge before it goes on beside it", "[pci]") {
    constexpr auto holds = [] {
        pci_fake::function functions[]{{{5, 0, 0, 0}, 0x0001'8086}, // host bridge
                                       {{5, 0, 1, 0}, 0x0002'8086}, // to bus 1
                                       {{5, 1, 0, 0}, 0x0003'8086}, // a device of two
                                       {{5, 1, 0, 1}, 0x0004'8086}, // to bus 2
                                       {{5, 2, 7, 0}, 0x0005'8086}, {{5, 1, 3, 0}, 0x0006'8086},
                                       {{5, 0, 1, 3}, 0x0007'8086}, // CardBus, to bus 4
                                       {{5, 4, 0, 0}, 0x0008'8086}, {{5, 0, 2, 0}, 0x0009'8086}};
        functions[1].put(0x0E, 1, 0x81);
        functions[1].put(0x18, 4, 0x00'03'01'00);
        functions[2].put(0x0E, 1, 0x80);
        functions[3].put(0x0E, 1, 0x81);
        functions[3].put(0x18, 4, 0x00'02'02'01);
        functions[6].put(0x0E, 1, 0x82);
        functions[6].put(0x18, 4, 0x00'04'04'00);
        pci_fake::machine machine{functions, 9};
        constexpr unsigned depths[]{0, 0, 1, 1, 2, 1, 0, 1, 0};
        constexpr std::size_t none = 9;
        constexpr std::size_t above[]{none, none, 1, 1, 3, 1, none, 6, none};
        std::size_t n = 0;
        bool good = true;
        for (const auto [address, id, layout, bridge, depth] :
             scan_tree(pci_fake::config{&machine}, 0, 5)) {
            good &= n < 9 && address == functions[n].address && id.raw == functions[n].get(0, 4) &&
                    static_cast<unsigned>(layout) == functions[n].get(0x0E, 1) % 0x80 &&
                    depth == depths[n] &&
                    (above[n] == none ? !bridge.valid() : bridge == functions[above[n]].address);
            ++n;
        }
        return good && n == 9 && machine.writes() == 0 && !machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the tree of an empty bus is empty", "[pci]") {
    std::map<function_address, node> nobody;
    CHECK(tree(nobody).empty());
    CHECK(tree(nobody, 0xFF).empty());
}

TEST_CASE("a bus that no honest bridge would have is not entered", "[pci]") {
    const function_address bridge{0, 4, 0, 0};
    const auto with = [&](std::uint8_t secondary, std::uint8_t subordinate) {
        std::map<function_address, node> nodes{{bridge, {1, 1, secondary, subordinate}}};
        for (const std::uint8_t bus : {std::uint8_t{0}, std::uint8_t{3}, std::uint8_t{5}}) {
            nodes[{0, bus, 0, 0}] = {};
        }
        nodes[bridge].id = 0x0002'8086;
        return tree(nodes, 4).size() - 1;
    };
    CHECK(with(5, 5) == 1);
    CHECK(with(5, 255) == 1);
    CHECK(with(0, 0) == 0);   // unassigned
    CHECK(with(0, 255) == 0); // so is this
    CHECK(with(4, 255) == 0); // its own bus
    CHECK(with(3, 255) == 0); // below it
    CHECK(with(5, 4) == 0);   // nothing from 5 to 4
}

TEST_CASE("a bus beyond the subordinate bus of a bridge above is not entered", "[pci]") {
    std::map<function_address, node> nodes{{{0, 0, 0, 0}, {0x0001'8086, 1, 1, 3}},
                                           {{0, 1, 0, 0}, {0x0001'8086, 1, 3, 9}},
                                           {{0, 1, 1, 0}, {0x0001'8086, 1, 4, 9}},
                                           {{0, 3, 0, 0}, {0x0001'8086, 1, 5, 9}},
                                           {{0, 4, 0, 0}, {}},
                                           {{0, 5, 0, 0}, {}}};
    CHECK(addresses(tree(nodes)) ==
          std::vector<function_address>{{0, 0, 0, 0}, {0, 1, 0, 0}, {0, 3, 0, 0}, {0, 1, 1, 0}});
}

TEST_CASE("of two bridges to one bus the first has it", "[pci]") {
    std::map<function_address, node> nodes{{{0, 0, 0, 0}, {0x0001'8086, 1, 2, 5}},
                                           {{0, 0, 1, 0}, {0x0001'8086, 1, 2, 5}},
                                           {{0, 0, 2, 0}, {0x0001'8086, 1, 3, 4}},
                                           {{0, 2, 0, 0}, {}},
                                           {{0, 3, 0, 0}, {}}};
    const auto found = tree(nodes);
    CHECK(addresses(found) ==
          std::vector<function_address>{
              {0, 0, 0, 0}, {0, 2, 0, 0}, {0, 0, 1, 0}, {0, 0, 2, 0}, {0, 3, 0, 0}});
    CHECK(found[1].bridge == function_address{0, 0, 0, 0});
    CHECK(found[4].bridge == function_address{0, 0, 2, 0});
}

TEST_CASE("a chain of 255 bridges is followed to its end and back", "[pci]") {
    std::map<function_address, node> nodes;
    for (unsigned bus = 0; bus < 256; ++bus) {
        const auto number = static_cast<std::uint8_t>(bus);
        if (bus < 255) {
            nodes[{0, number, 3, 5}] = {0x0001'8086, 1, static_cast<std::uint8_t>(bus + 1), 255};
        }
        nodes[{0, number, 3, 0}] = {0x0002'8086, 0x80};
        nodes[{0, number, 9, 0}] = {0x0003'8086};
    }
    const auto found = tree(nodes);
    REQUIRE(found.size() == 2 * 256 + 255);
    CHECK(found[511].depth == 255);
    CHECK(found[511].address == function_address{0, 255, 9, 0});
    for (unsigned bus = 0; bus < 256; ++bus) {
        const tree_function& back = found[found.size() - 1 - bus];
        CHECK(back.address == function_address{0, static_cast<std::uint8_t>(bus), 9, 0});
        CHECK(back.depth == bus);
    }
}

TEST_CASE("a machine where every function is a bridge ends, and no bus is asked twice", "[pci]") {
    struct crowd {
        std::vector<unsigned>* asked;
        unsigned seed;

        std::uint32_t read(function_address address, std::uint16_t offset, pt::width) {
            if (offset == 0) {
                ++(*asked)[address.source_id()];
                return 0x0001'8086;
            }
            // Other bus numbers at each read.
            return offset == 0x0E ? 0x81 : (seed = seed * 1664525 + 1013904223) >> 8;
        }
        void write(function_address, std::uint16_t, pt::width, std::uint32_t) {}
    };
    for (unsigned seed = 0; seed < 4; ++seed) {
        std::vector<unsigned> asked(65536);
        std::vector<unsigned> found(65536);
        for (const auto& each : scan_tree(crowd{&asked, seed})) {
            REQUIRE(++found[each.address.source_id()] == 1);
        }
        for (const unsigned times : asked) {
            CHECK(times <= 2); // when it was found, and when the scan came back to a bridge
        }
        CHECK(found[0xFF] == 1);
    }
}

TEST_CASE("a scan of any tree finds what a recursive walk finds, in its order", "[pci]") {
    std::mt19937 random{3}; // NOLINT(cert-msc51-cpp): the same trees each time
    std::size_t deepest = 0;
    for (unsigned machine = 0; machine < 400; ++machine) {
        std::map<function_address, node> nodes;
        for (unsigned i = 0; i < 40; ++i) {
            const function_address address{0, static_cast<std::uint8_t>(random() % 8),
                                           static_cast<std::uint8_t>(random() % 2),
                                           static_cast<std::uint8_t>(random() % 3)};
            nodes[address] = {static_cast<std::uint32_t>(0x0001'8086 + 0x1'0000 * i),
                              static_cast<std::uint8_t>(random() % 3 + 0x80 * (random() % 4 != 0)),
                              static_cast<std::uint8_t>(random() % 9),
                              static_cast<std::uint8_t>(4 + random() % 6)};
        }
        recursive_model model{nodes};
        model.walk(0, 255, no_function, 0);
        REQUIRE(tree(nodes) == model.found);
        for (const auto& each : model.found) {
            deepest = each.depth > deepest ? each.depth : deepest;
        }
    }
    CHECK(deepest >= 4);
}

TEST_CASE("a bridge that is not ready is found and not entered", "[pci]") {
    std::map<function_address, node> nodes{
        {{0, 0, 0, 0}, {0xFFFF'0001, 0x81, 1, 1}}, {{0, 0, 0, 1}, {}}, {{0, 1, 0, 0}, {}}};
    const auto found = tree(nodes);
    REQUIRE(found.size() == 1);
    CHECK(found[0].id.not_ready());
    CHECK(found[0].layout == header_layout::device);
}

namespace {

/// Functions that are reached as on a real machine: through bridges whose numbers say so.
struct routed_config {
    struct place {
        node at;
        const function_address* behind; ///< the wire: null on bus 0
    };
    std::map<const function_address*, place>& functions; ///< by device and function; bus is routed

    place* find(function_address address) {
        const function_address* bridge = nullptr; // to the bus that has been reached
        for (unsigned hops = 0; hops < 8; ++hops) {
            const unsigned bus = bridge == nullptr ? 0 : functions.at(bridge).at.secondary;
            const function_address* next = nullptr;
            for (auto& [where, what] : functions) {
                if (what.behind != bridge) {
                    continue;
                }
                if (address.bus == bus && where->device == address.device &&
                    where->function == address.function) {
                    return &what;
                }
                const bool claims = what.at.secondary != 0 && address.bus >= what.at.secondary &&
                                    address.bus <= what.at.subordinate;
                if (address.bus != bus && claims) {
                    REQUIRE(next == nullptr); // two bridges would claim the access
                    next = where;
                }
            }
            if (next == nullptr) {
                return nullptr;
            }
            bridge = next;
        }
        return nullptr;
    }
    std::uint32_t read(function_address address, std::uint16_t offset, pt::width size) {
        const place* const found = find(address);
        if (found == nullptr) {
            return pt::all_ones(size);
        }
        const node& at = found->at;
        return offset == 0x00   ? at.id
               : offset == 0x0E ? at.header_type
               : offset == 0x18 ? unsigned{at.subordinate} << 16 | at.secondary * 256U | address.bus
                                : 0;
    }
    void write(function_address address, std::uint16_t offset, pt::width, std::uint32_t value) {
        REQUIRE(offset == 0x18);
        REQUIRE(find(address) != nullptr);
        node& at = find(address)->at;
        at.secondary = static_cast<std::uint8_t>(value >> 8);
        at.subordinate = static_cast<std::uint8_t>(value >> 16);
    }
};

/// The example of docs/pci.md: numbers all buses behind bus 0, depth first.
template <pt::pci::config_access Config>
pt::result<> number_buses(Config config) {
    namespace pci = pt::pci;
    struct numbered {
        pci::tree_function bridge;
        std::uint8_t secondary;
    };
    std::vector<numbered> open; // the bridges on the way
    std::uint8_t last = 0;

    const auto leave = [&](unsigned depth) -> pt::result<> {
        for (; open.size() > depth; open.pop_back()) {
            const auto [bridge, secondary] = open.back();
            const auto done =
                pci::write_bus_numbers(config, bridge.address, bridge.address.bus, secondary, last);
            if (!done) {
                return done;
            }
        }
        return {};
    };
    for (const auto& found : pci::scan_tree(config)) {
        if (const auto done = leave(found.depth); !done) {
            return done;
        }
        if (found.layout == pci::header_layout::bridge) {
            const auto done =
                pci::write_bus_numbers(config, found.address, found.address.bus, ++last, 255);
            if (!done) {
                return done;
            }
            open.push_back({found, last});
        }
    }
    return leave(0);
}

} // namespace

TEST_CASE("the body of a loop may assign the buses that the scan goes to next", "[pci]") {
    // 1c.0 to (00.0 to 03.0, 04.0 to 05.0), 1c.1 to 00.0, and 1f.0 beside them
    const function_address places[]{{0, 0, 0x1C, 0}, {0, 0, 0, 0},   {0, 0, 3, 0},
                                    {0, 0, 4, 0},    {0, 0, 5, 0},   {0, 0, 0x1C, 1},
                                    {0, 0, 0, 0},    {0, 0, 0x1F, 0}};
    const node bridge{0x0001'8086, 0x81};
    const node device{0x0002'8086, 0x00};
    std::map<const function_address*, routed_config::place> functions{
        {places + 0, {bridge, nullptr}},    {places + 1, {bridge, places + 0}},
        {places + 2, {device, places + 1}}, {places + 3, {bridge, places + 0}},
        {places + 4, {device, places + 3}}, {places + 5, {bridge, nullptr}},
        {places + 6, {device, places + 5}}, {places + 7, {device, nullptr}}};
    const routed_config config{functions};
    REQUIRE(number_buses(config));
    const auto numbers = [&](unsigned place) {
        const node& at = functions.at(places + place).at;
        return std::pair<unsigned, unsigned>{at.secondary, at.subordinate};
    };
    CHECK(numbers(0) == std::pair{1U, 3U});
    CHECK(numbers(1) == std::pair{2U, 2U});
    CHECK(numbers(3) == std::pair{3U, 3U});
    CHECK(numbers(5) == std::pair{4U, 4U});

    std::vector<function_address> found;
    for (const auto& each : scan_tree(config)) {
        found.push_back(each.address);
    }
    CHECK(found == std::vector<function_address>{{0, 0, 0x1C, 0},
                                                 {0, 1, 0, 0},
                                                 {0, 2, 3, 0},
                                                 {0, 1, 4, 0},
                                                 {0, 3, 5, 0},
                                                 {0, 0, 0x1C, 1},
                                                 {0, 4, 0, 0},
                                                 {0, 0, 0x1F, 0}});
}

TEST_CASE("an iterator of a tree that was copied goes its own way", "[pci]") {
    std::map<function_address, node> nodes{
        {{0, 0, 0, 0}, {0x0001'8086, 1, 1, 1}}, {{0, 1, 0, 0}, {}}, {{0, 0, 1, 0}, {}}};
    std::map<function_address, unsigned> asked;
    const auto scan = scan_tree(tree_config{nodes, asked});
    auto first = scan.begin();
    const auto before = first++;
    CHECK(before->address == function_address{0, 0, 0, 0});
    CHECK(first->address == function_address{0, 1, 0, 0});
    auto again = before;
    CHECK(++again == first);
    CHECK((*++first).address == function_address{0, 0, 1, 0});
    CHECK(++first == scan.end());
    CHECK(again->depth == 1);
}

TEST_CASE("scans are forward ranges, whatever can be done with the config_access", "[pci]") {
    STATIC_REQUIRE_FALSE(std::default_initializable<tree_config>);
    STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<tree_config>);
    STATIC_REQUIRE(std::forward_iterator<pt::pci::bus_scan<pci_fake::config>::iterator>);
    STATIC_REQUIRE(std::forward_iterator<pt::pci::bus_scan<tree_config>::iterator>);
    STATIC_REQUIRE(std::forward_iterator<pt::pci::tree_scan<tree_config>::iterator>);
    STATIC_REQUIRE(
        std::sentinel_for<pt::pci::bus_scan_end, pt::pci::bus_scan<tree_config>::iterator>);
    STATIC_REQUIRE(
        std::sentinel_for<pt::pci::tree_scan_end, pt::pci::tree_scan<tree_config>::iterator>);
    STATIC_REQUIRE(sizeof(pt::pci::tree_scan<tree_config>::iterator) < 1024);
    // An iterator refers to its range: none of a range that is about to go.
    STATIC_REQUIRE_FALSE(begins_when_gone<pt::pci::bus_scan<tree_config>>);
    STATIC_REQUIRE_FALSE(begins_when_gone<pt::pci::tree_scan<tree_config>>);
}
