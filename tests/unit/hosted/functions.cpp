// SPDX-License-Identifier: BSL-1.0
#include "pt/hosted/functions.hpp"

#include "pt/pci/capability.hpp"
#include "pt/pci/enumerate.hpp"

#include "../pci/fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/take.hpp>
#include <range/v3/view/transform.hpp>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

using pt::pci::base_class;
using pt::pci::capability_id;
using pt::pci::extended_capability_id;
using pt::pci::function_address;
using namespace pt::hosted;

namespace {

/// A host bridge, a bridge to bus 1 with a NIC and a bridge to bus 2 with a disk and a NIC, and a
/// NIC without MSI-X beside it.
struct small_machine {
    pci_fake::function functions[7]{{{0, 0, 0, 0}, 0x29C0'8086}, {{0, 0, 1, 0}, 0x3420'8086},
                                    {{0, 0, 9, 0}, 0x100E'8086}, {{0, 1, 0, 0}, 0x10D3'8086},
                                    {{0, 1, 5, 0}, 0x000E'1B36}, {{0, 2, 1, 0}, 0x0010'1B36},
                                    {{0, 2, 2, 0}, 0x1041'1AF4}};
    pci_fake::machine machine{functions, 7};

    small_machine() {
        constexpr std::uint8_t classes[]{0x06, 0x06, 0x02, 0x02, 0x06, 0x01, 0x02};
        for (std::size_t i = 0; i < 7; ++i) {
            functions[i].put(0x0B, 1, classes[i]);
        }
        functions[1].put(0x0E, 1, 1);
        functions[1].put(0x18, 4, 0x00'02'01'00);
        functions[4].put(0x0E, 1, 1);
        functions[4].put(0x18, 4, 0x00'02'02'01);
        for (const std::size_t with_msi_x : {3U, 5U, 6U}) {
            functions[with_msi_x].put(0x06, 2, 0x0010);
            functions[with_msi_x].put(0x34, 1, 0x40);
            functions[with_msi_x].put(0x40, 2, 0x0011);
        }
        functions[3].put(0x40, 4, 0x0000'5011); // then PCI Express, and Device Serial Number
        functions[3].put(0x50, 2, 0x0010);
        functions[3].put(0x100, 4, 0x0001'0003);
        functions[5].put(0x100, 4, 0x0001'0003); // the same, without PCI Express
    }
};

/// A config_access that carries a lambda: it cannot be assigned, nor made out of nothing.
template <class Read>
struct calling {
    Read on_read;

    std::uint32_t read(function_address address, std::uint16_t offset, pt::width size) {
        return on_read(address, offset, size);
    }
    void write(function_address, std::uint16_t, pt::width, std::uint32_t) {
        FAIL("a view writes nothing");
    }
};
template <class Read>
calling(Read) -> calling<Read>;

auto lambda_over(pci_fake::machine& machine) {
    return calling{[&machine](function_address address, std::uint16_t offset, pt::width size) {
        return pci_fake::config{&machine}.read(address, offset, size);
    }};
}

template <class View>
std::vector<std::string> texts(View&& view) {
    std::vector<std::string> all;
    for (const auto& found : view) {
        all.emplace_back(found.address.text().data());
    }
    return all;
}

using list = std::vector<std::string>;

} // namespace

TEST_CASE("the example of docs/hosted.md", "[hosted]") {
    small_machine host;
    const auto config = lambda_over(host.machine);
    std::vector<function_address> assignable;

    for (const auto& nic :
         functions(config) | of_class(base_class::network) | having(capability_id::msi_x)) {
        assignable.push_back(nic.address);
    }

    CHECK(assignable == std::vector<function_address>{{0, 1, 0, 0}, {0, 2, 2, 0}});
}

TEST_CASE("the functions of a machine as a view, depth first", "[hosted]") {
    small_machine host;
    const auto config = lambda_over(host.machine);
    CHECK(texts(functions(config)) == list{"0000:00:00.0", "0000:00:01.0", "0000:01:00.0",
                                           "0000:01:05.0", "0000:02:01.0", "0000:02:02.0",
                                           "0000:00:09.0"});
    CHECK(texts(functions(config, 1)) ==
          list{"0000:01:00.0", "0000:01:05.0", "0000:02:01.0", "0000:02:02.0"});
    CHECK(texts(functions(config, 0, 1)).empty());
    const auto all = functions(config) | ranges::to<std::vector>();
    REQUIRE(all.size() == 7);
    CHECK(all[4].bridge == function_address{0, 1, 5, 0});
    CHECK(all[4].depth == 2);
    CHECK(all[4].read<pt::pci::class_code>()[pt::pci::class_code::base_class] ==
          base_class::mass_storage);
}

TEST_CASE("each filter lets its functions through", "[hosted]") {
    small_machine host;
    const auto config = lambda_over(host.machine);
    CHECK(texts(functions(config) | of_class(base_class::mass_storage)) == list{"0000:02:01.0"});
    CHECK(texts(functions(config) | of_vendor(0x1B36)) == list{"0000:01:05.0", "0000:02:01.0"});
    CHECK(texts(functions(config) | of_id(0x8086, 0x10D3)) == list{"0000:01:00.0"});
    CHECK(texts(functions(config) | of_id(0x1B36, 0x10D3)).empty());
    CHECK(texts(functions(config) | bridges) == list{"0000:00:01.0", "0000:01:05.0"});
    CHECK(texts(functions(config) | endpoints) ==
          list{"0000:00:00.0", "0000:01:00.0", "0000:02:01.0", "0000:02:02.0", "0000:00:09.0"});
    CHECK(texts(functions(config) | having(capability_id::msi_x)) ==
          list{"0000:01:00.0", "0000:02:01.0", "0000:02:02.0"});
    CHECK(texts(functions(config) | having(capability_id::msi)).empty());
    // Without PCI Express, what is seen at 0x100 is no extended capability.
    CHECK(texts(functions(config) | having(extended_capability_id::device_serial_number)) ==
          list{"0000:01:00.0"});
}

TEST_CASE("a function that is not ready has no class, no layout and no capabilities", "[hosted]") {
    pci_fake::function functions[2]{{{0, 0, 0, 0}, 0x29C0'8086}, {{0, 0, 1, 0}, 0}};
    for (std::uint8_t& byte : functions[1].bytes) {
        byte = 0xFF; // but for the vendor id, which says so
    }
    functions[1].put(0, 2, 0x0001);
    pci_fake::machine machine{functions, 2};
    const pci_fake::config config{&machine};
    CHECK(texts(pt::hosted::functions(config)) == list{"0000:00:00.0", "0000:00:01.0"});
    CHECK(texts(pt::hosted::functions(config) | of_class(base_class::other)).empty());
    CHECK(texts(pt::hosted::functions(config) | endpoints) == list{"0000:00:00.0"});
    CHECK(texts(pt::hosted::functions(config) | bridges).empty());
    CHECK(texts(pt::hosted::functions(config) | having(capability_id::msi)).empty());
}

TEST_CASE("behind a bridge is what it forwards configuration accesses to", "[hosted]") {
    small_machine host;
    const auto config = lambda_over(host.machine);
    CHECK(texts(functions(config) | behind({0, 0, 1, 0})) ==
          list{"0000:01:00.0", "0000:01:05.0", "0000:02:01.0", "0000:02:02.0"});
    CHECK(texts(functions(config) | of_class(base_class::network) | behind({0, 1, 5, 0})) ==
          list{"0000:02:02.0"});
    CHECK(texts(functions(config) | behind({0, 0, 9, 0})).empty());  // no bridge
    CHECK(texts(functions(config) | behind({0, 0, 30, 0})).empty()); // nobody
    CHECK(texts(functions(config) | behind({1, 0, 1, 0})).empty());  // another segment's
    for (const auto& bridge : functions(config) | bridges | ranges::views::take(1)) {
        CHECK(texts(functions(config) | behind(bridge.address) | endpoints).size() == 3);
    }
}

TEST_CASE("the ranges of the core are input ranges of range-v3 with any config_access",
          "[hosted]") {
    small_machine host;
    const auto config = lambda_over(host.machine);
    using lambda = std::remove_const_t<decltype(config)>;
    STATIC_REQUIRE_FALSE(std::is_default_constructible_v<lambda>);
    STATIC_REQUIRE_FALSE(std::is_copy_assignable_v<lambda>);
    STATIC_REQUIRE(ranges::forward_range<pt::pci::bus_scan<lambda>>);
    STATIC_REQUIRE(ranges::forward_range<pt::pci::tree_scan<lambda>>);
    STATIC_REQUIRE(ranges::input_range<decltype(pt::pci::capabilities(config, {}))>);
    STATIC_REQUIRE(ranges::input_range<decltype(pt::pci::extended_capabilities(config, {}))>);
    STATIC_REQUIRE(ranges::view_<decltype(functions(config))>);
    STATIC_REQUIRE(ranges::forward_range<decltype(functions(config))>);

    const auto scan = pt::pci::scan_bus(config, 0);
    const auto devices = scan | ranges::views::transform([](const pt::pci::found_function& found) {
                             return unsigned{found.address.device};
                         });
    CHECK((devices | ranges::to<std::vector>()) == std::vector<unsigned>{0, 1, 9});
}
