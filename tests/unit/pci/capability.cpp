// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/capability.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>
#include <range/v3/range/concepts.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/transform.hpp>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <vector>

using pt::errc;
using pt::error;
using pt::pci::capabilities;
using pt::pci::capability;
using pt::pci::capability_id;
using pt::pci::extended_capabilities;
using pt::pci::extended_capability;
using pt::pci::extended_capability_id;
using pt::pci::function_address;

namespace {

constexpr function_address nic{0, 0, 5, 0};

/// A function with a list; bytes are put in as a device has them.
struct device {
    pci_fake::function functions[1]{{nic, 0x10D3'8086}};
    pci_fake::machine machine{functions, 1};

    constexpr device() { functions[0].put(0x06, 2, 0x0010); }
    device(const device&) = delete;
    device& operator=(const device&) = delete;

    constexpr void pointer(std::uint8_t offset) { functions[0].put(0x34, 1, offset); }
    constexpr void entry(std::size_t offset, std::uint8_t id, std::uint8_t next) {
        functions[0].put(offset, 2, std::uint64_t{id} | std::uint64_t{next} << 8);
    }
    /// A function of PCI Express; others have no extended list.
    constexpr void express() {
        pointer(0x44);
        entry(0x44, 0x10, 0);
    }
    constexpr void extended(std::size_t offset, std::uint16_t id, std::uint64_t version,
                            std::uint64_t next) {
        functions[0].put(offset, 4, id | version << 16 | next << 20);
    }
    constexpr pci_fake::config config() { return {&machine}; }

    /// Whether the walk yields exactly these offsets.
    constexpr bool yields(std::initializer_list<std::uint16_t> offsets) {
        auto expected = offsets.begin();
        for (const capability found : capabilities(config(), nic)) {
            if (expected == offsets.end() || found.offset != *expected++) {
                return false;
            }
        }
        return expected == offsets.end() && !machine.out_of_bounds;
    }
    constexpr bool yields_extended(std::initializer_list<std::uint16_t> offsets) {
        auto expected = offsets.begin();
        for (const extended_capability found : extended_capabilities(config(), nic)) {
            if (expected == offsets.end() || found.offset != *expected++) {
                return false;
            }
        }
        return expected == offsets.end() && !machine.out_of_bounds;
    }
};

} // namespace

TEST_CASE("the walk follows the list in its order", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d; // as the 82574L has it: power management, MSI, PCI Express, MSI-X
        d.pointer(0xC8);
        d.entry(0xC8, 0x01, 0xD0);
        d.entry(0xD0, 0x05, 0xE0);
        d.entry(0xE0, 0x10, 0xA0);
        d.entry(0xA0, 0x11, 0x00);
        const capability expected[]{{capability_id::power_management, 0xC8},
                                    {capability_id::msi, 0xD0},
                                    {capability_id::pci_express, 0xE0},
                                    {capability_id::msi_x, 0xA0}};
        std::size_t count = 0;
        bool good = true;
        for (const capability found : capabilities(d.config(), nic)) {
            good &= count < 4 && found == expected[count];
            ++count;
        }
        good &= *capabilities(d.config(), nic).find(capability_id::msi_x) == expected[3];
        const auto missing = capabilities(d.config(), nic).find(capability_id::agp);
        good &= !missing && missing.error() == error{errc::absent, 2};
        return good && count == 4 && d.machine.writes() == 0 && !d.machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("there is a list only if Status bit 4 says so", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.pointer(0x40);
        d.entry(0x40, 0x05, 0);
        const bool with = d.yields({0x40});
        d.functions[0].put(0x06, 2, 0xFFEF);
        return with && d.yields({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("pointers lose bits 1:0", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.pointer(0x43);
        d.entry(0x40, 0x05, 0x52);
        d.entry(0x50, 0x01, 0xFD);
        d.entry(0xFC, 0x09, 0);
        return d.yields({0x40, 0x50, 0xFC});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a pointer below 0x40 or of all ones ends the list", "[pci][rule 4]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const unsigned end : {0x00U, 0x01U, 0x04U, 0x3CU, 0x3FU, 0xFFU}) {
            device d;
            d.entry(0xFC, 0x05, 0); // what 0xFF would be if it were a pointer
            d.pointer(static_cast<std::uint8_t>(end));
            good &= d.yields({});
            d.pointer(0x40);
            d.entry(0x40, 0x05, static_cast<std::uint8_t>(end));
            good &= d.yields({0x40});
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("loops end, each entry visited once", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device self;
        self.pointer(0x40);
        self.entry(0x40, 0x09, 0x40);
        device later; // 0x40 -> 0x50 -> 0x60 -> 0x50
        later.pointer(0x40);
        later.entry(0x40, 0x01, 0x50);
        later.entry(0x50, 0x05, 0x60);
        later.entry(0x60, 0x10, 0x50);
        return self.yields({0x40}) && later.yields({0x40, 0x50, 0x60});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the longest list has 48 entries", "[pci][rule 4]") {
    device d;
    d.pointer(0x40);
    for (unsigned offset = 0x40; offset < 0x100; offset += 4) {
        d.entry(offset, 0x09, static_cast<std::uint8_t>(offset + 4)); // 0xFC leads to 0
    }
    unsigned count = 0;
    for (const capability found : capabilities(d.config(), nic)) {
        CHECK(found.offset == 0x40 + 4 * count);
        ++count;
    }
    CHECK(count == 48);
}

TEST_CASE("an absent function has no capabilities, and one that goes has no more",
          "[pci][rule 3][rule 4]") {
    device d;
    d.pointer(0x40);
    d.entry(0x40, 0x01, 0x50);
    d.entry(0x50, 0x05, 0x60);
    d.entry(0x60, 0x10, 0x00);
    const auto count = [](auto&& list) {
        unsigned n = 0;
        for ([[maybe_unused]] const auto found : list) {
            ++n;
        }
        return n;
    };
    CHECK(count(capabilities(d.config(), {0, 0, 6, 0})) == 0);
    CHECK(count(extended_capabilities(d.config(), {0, 0, 6, 0})) == 0);
    d.machine.event_count = 0;
    d.machine.removed_after = 4; // Status, Header Type, the pointer, the first header
    CHECK(count(capabilities(d.config(), nic)) == 1);
}

TEST_CASE("a CardBus bridge has its pointer at 0x14, an unknown layout nowhere", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.pointer(0x40);
        d.entry(0x40, 0x05, 0);
        d.entry(0x80, 0x01, 0);
        d.functions[0].put(0x14, 1, 0x80);
        bool good = d.yields({0x40});
        d.functions[0].put(0x0E, 1, 0x81);
        good &= d.yields({0x40});
        d.functions[0].put(0x0E, 1, 0x02);
        good &= d.yields({0x80});
        d.functions[0].put(0x0E, 1, 0x03);
        return good && d.yields({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the extended list starts at 0x100 and is followed by its 12-bit pointers",
          "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.express();
        d.extended(0x100, 0x0001, 2, 0x14B); // bits 1:0 are lost
        d.extended(0x148, 0x0003, 1, 0xFFC);
        d.extended(0xFFC, 0x0010, 1, 0x000);
        const auto list = extended_capabilities(d.config(), nic);
        const extended_capability serial{extended_capability_id::device_serial_number, 1, 0x148};
        const auto missing = list.find(extended_capability_id::pasid);
        return d.yields_extended({0x100, 0x148, 0xFFC}) &&
               *list.find(extended_capability_id::device_serial_number) == serial && !missing &&
               missing.error() == error{errc::absent, 0x1B};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("zero or all ones at 0x100 is no extended list", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.express();
        const bool zero = d.yields_extended({});
        d.functions[0].put(0x100, 4, 0xFFFF'FFFF);
        return zero && d.yields_extended({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an extended pointer below 0x100 ends the list, and loops end", "[pci][rule 4]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const unsigned end : {0x000U, 0x003U, 0x040U, 0x0FCU, 0x0FFU}) {
            device d;
            d.express();
            d.entry(0x40, 0x09, 0);
            d.extended(0x100, 0x0001, 1, end);
            good &= d.yields_extended({0x100});
        }
        device loop;
        loop.express();
        loop.extended(0x100, 0x0001, 1, 0x200);
        loop.extended(0x200, 0x0003, 1, 0x300);
        loop.extended(0x300, 0x0004, 1, 0x203);
        return good && loop.yields_extended({0x100, 0x200, 0x300});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a hidden first entry, id 0 with a pointer, does not end the extended list",
          "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.express();
        d.extended(0x100, 0x0000, 0, 0x140);
        d.extended(0x140, 0x000D, 1, 0);
        return d.yields_extended({0x100, 0x140});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("only a function of PCI Express has an extended list: a bridge to conventional PCI may "
          "show the first 256 bytes again from 0x100 on",
          "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d; // its ids, at 0x100 once more, look like a capability 8086h with a pointer 10Dh
        d.pointer(0x40);
        d.entry(0x40, 0x05, 0x50);
        d.entry(0x50, 0x01, 0x00);
        for (std::size_t byte = 0; byte < 0x100; ++byte) {
            d.functions[0].bytes[0x100 + byte] = d.functions[0].bytes[byte];
        }
        const bool conventional = d.yields_extended({});
        std::size_t beyond = 0;
        for (std::size_t i = 0; i < d.machine.event_count; ++i) {
            beyond += d.machine.events[i].offset >= 0x100;
        }
        // The same bytes where they are an extended list.
        d.entry(0x50, 0x10, 0x00);
        return conventional && beyond == 0 && d.yields_extended({0x100});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a capability that is to have so many bytes has them, or is malformed", "[pci][rule 4]") {
    constexpr auto holds = [] {
        device d;
        d.pointer(0x40);
        d.entry(0x40, 0x10, 0xF8);
        d.entry(0xF8, 0x01, 0);
        d.extended(0x100, 0x000D, 1, 0xFF8);
        d.extended(0xFF8, 0x000F, 1, 0);
        const auto pm = [&](unsigned size) {
            return capabilities(d.config(), nic).find(capability_id::power_management, size);
        };
        const auto ats = [&](unsigned size) {
            return extended_capabilities(d.config(), nic)
                .find(extended_capability_id::address_translation_services, size);
        };
        return pm(8) && pm(9).error() == error{errc::malformed, 0xF8} &&
               pm(~0U).error() == error{errc::malformed, 0xF8} && ats(8) &&
               ats(9).error() == error{errc::malformed, 0xFF8} &&
               capabilities(d.config(), nic).find(capability_id::agp, 8).error() ==
                   error{errc::absent, 2};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("capabilities are a forward range", "[pci]") {
    using list = decltype(capabilities(pci_fake::config{}, nic));
    using extended = decltype(extended_capabilities(pci_fake::config{}, nic));
    STATIC_REQUIRE(std::forward_iterator<list::iterator>);
    STATIC_REQUIRE(std::forward_iterator<extended::iterator>);
    STATIC_REQUIRE(std::sentinel_for<pt::pci::capability_list_end, list::iterator>);
    using sentinel = pt::pci::capability_list_end;
    STATIC_REQUIRE(ranges::forward_range<list>);
    STATIC_REQUIRE(ranges::sentinel_for<sentinel, list::iterator>);
}

namespace {

/// A config_access that is neither default-constructible nor assignable.
struct bound_config {
    pci_fake::machine& at;

    std::uint32_t read(function_address address, std::uint16_t offset, pt::width size) {
        return pci_fake::config{&at}.read(address, offset, size);
    }
    void write(function_address address, std::uint16_t offset, pt::width size,
               std::uint32_t value) {
        pci_fake::config{&at}.write(address, offset, size, value);
    }
};

} // namespace

TEST_CASE("capabilities are ranges whatever the config_access is", "[pci]") {
    device d;
    d.pointer(0x40);
    d.entry(0x40, 0x01, 0x50);
    d.entry(0x50, 0x10, 0x00);
    d.extended(0x100, 0x000D, 1, 0x140);
    d.extended(0x140, 0x0010, 1, 0);
    const auto list = capabilities(bound_config{d.machine}, nic);
    const auto extended = extended_capabilities(bound_config{d.machine}, nic);
    STATIC_REQUIRE_FALSE(std::default_initializable<bound_config>);
    STATIC_REQUIRE(ranges::input_range<decltype(list)>);
    STATIC_REQUIRE(ranges::input_range<decltype(extended)>);
    STATIC_REQUIRE(std::forward_iterator<decltype(list.begin())>);

    const auto offset = [](const auto& found) { return found.offset; };
    const auto offsets = list | ranges::views::transform(offset) | ranges::to<std::vector>();
    const auto more = extended | ranges::views::transform(offset) | ranges::to<std::vector>();
    CHECK(offsets == std::vector<std::uint16_t>{0x40, 0x50});
    CHECK(more == std::vector<std::uint16_t>{0x100, 0x140});
}
