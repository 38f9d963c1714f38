// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/enhanced_allocation.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>
#include <range/v3/range/concepts.hpp>

#include <initializer_list>

namespace {

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

constexpr function_address nic = listed::address;

constexpr std::uint32_t type(unsigned dwords, unsigned bei, unsigned primary,
                             unsigned secondary = 0xFF, std::uint32_t flags = 0x8000'0000) {
    return dwords | bei << 4 | primary << 8 | secondary << 16 | flags;
}

/// A function whose Enhanced Allocation starts at `offset` with these dwords after the header.
struct with_entries : listed {
    constexpr with_entries(unsigned count, std::initializer_list<std::uint32_t> dwords,
                           std::size_t offset = 0x98) {
        add(offset, 0x14);
        put(offset + 2, 2, count);
        for (const std::uint32_t dword : dwords) {
            offset += 4;
            put(offset, 4, dword);
        }
    }
    constexpr auto ranges() { return fixed_ranges(config(), nic); }
};

template <class List>
constexpr std::size_t count(const List& list) {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& entry : list) {
        ++n;
    }
    return n;
}

} // namespace

TEST_CASE("Enhanced Allocation of a ThunderX NIC: BARs and VF BARs at fixed addresses", "[pci]") {
    constexpr auto holds = [] {
        // Two of its four entries: BAR 0 of 1 GiB, and VF BAR 0 of 2 MiB for each VF.
        with_entries d{2,
                       {type(4, 0, 0), 0x0000'0002, 0x3FFF'FFFE, 0x0000'8430, 0x0000'0000,
                        type(4, 9, 4), 0xA000'0002, 0x001F'FFFE, 0x0000'8430, 0x0000'0000}};
        const auto ea = read_enhanced_allocation(d.config(), nic);
        const auto list = d.ranges();
        const auto bar = list.find(bar_equivalent::bar_0);
        const auto vf = list.find(bar_equivalent::vf_bar_0);
        return ea && ea->at.offset == 0x98 && ea->entries == 2 && ea->first_entry == 0x9C &&
               count(list) == 2 && bar && bar->offset == 0x9C && bar->address == 0x8430'0000'0000 &&
               bar->size == 0x4000'0000 && bar->is_64bit &&
               bar->properties == range_properties::memory && bar->enabled && !bar->writable &&
               !bar->prefetchable() && !bar->is_io() && vf && vf->offset == 0xB0 &&
               vf->address == 0x8430'A000'0000 && vf->size == 0x20'0000 &&
               vf->properties == range_properties::vf_memory &&
               list.find(bar_equivalent::bar_4).error() == error{errc::absent, 4} && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("base and MaxOffset have 32 or 64 bits each, in entries of two to four dwords", "[pci]") {
    constexpr auto one = [](std::initializer_list<std::uint32_t> dwords, std::uint64_t address,
                            std::uint64_t size) {
        with_entries d{1, dwords};
        const auto list = d.ranges();
        const auto found = *list.begin();
        return found && found->address == address && found->size == size && d.only_read();
    };
    constexpr auto holds = [=] {
        return one({type(2, 1, 1), 0xFE00'0000, 0x0000'FFFC}, 0xFE00'0000, 0x1'0000) &&
               // Only the base: its upper half is the fourth dword. Only MaxOffset: the same.
               one({type(3, 1, 1), 0x4000'0002, 0x0000'0FFC, 0x12}, 0x12'4000'0000, 0x1000) &&
               one({type(3, 1, 1), 0x0000'0000, 0x0000'0FFC}, 0, 0x1000) &&
               one({type(4, 1, 1), 0x0000'0002, 0xFFFF'FFFE, 0x40, 0x1}, 0x40'0000'0000,
                   0x2'0000'0000) &&
               // The smallest, and a size that is no power of two.
               one({type(2, 2, 2), 0x0000'1000, 0x0000'0000}, 0x1000, 4) &&
               one({type(2, 2, 2), 0x0000'1000, 0x0000'0BFC}, 0x1000, 0xC00) &&
               // Dwords that the entry does not need are skipped.
               one({type(7, 2, 2), 0x0000'1000, 0x0000'0FFC, 9, 9, 9, 9, 9}, 0x1000, 0x1000) &&
               // The end of the address space.
               one({type(2, 1, 0), 0xFFFF'F000, 0x0000'0FFC}, 0xFFFF'F000, 0x1000) &&
               one({type(4, 1, 0), 0xFFFF'F002, 0x0000'0FFE, 0xFFFF'FFFF, 0}, 0xFFFF'FFFF'FFFF'F000,
                   0x1000);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("secondary properties count where the primary ones are reserved", "[pci]") {
    constexpr auto one = [](unsigned primary, unsigned secondary, std::uint32_t flags,
                            range_properties expected, bool usable) {
        with_entries d{1, {type(2, 1, primary, secondary, flags), 0x1000, 0xFFC}};
        const auto list = d.ranges();
        const auto found = *list.begin();
        return found && found->properties == expected && found->usable() == usable &&
               found->writable == ((flags & 0x4000'0000) != 0) &&
               list.find(bar_equivalent::bar_1).has_value() == usable;
    };
    constexpr auto holds = [=] {
        constexpr std::uint32_t on = 0x8000'0000;
        return one(1, 0, on, range_properties::prefetchable_memory, true) &&
               one(0x08, 0, on, range_properties::memory, true) &&
               one(0xFC, 2, on | 0x4000'0000, range_properties::io, true) &&
               one(0x08, 0x09, on, range_properties::unavailable, false) &&
               one(0xFF, 0, on, range_properties::unavailable, false) &&
               one(0xFD, 0, on, range_properties::unavailable_memory, false) &&
               one(0xFE, 0, on, range_properties::unavailable_io, false) &&
               one(0, 0, 0, range_properties::memory, false); // not enabled
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the reserved BAR Equivalent Indicator 15 is Equivalent Not Indicated", "[pci]") {
    constexpr auto holds = [] {
        with_entries d{2, {type(2, 15, 0), 0x1000, 0xFFC, type(2, 14, 4), 0x2000, 0xFFC}};
        const auto list = d.ranges();
        const auto found = list.find(bar_equivalent::not_indicated);
        return found && found->address == 0x1000 &&
               list.find(bar_equivalent::vf_bar_5)->address == 0x2000 && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("entries that are too short, or whose addresses wrap, are errors of their own",
          "[pci][rule 4]") {
    constexpr auto holds = [] {
        with_entries d{7, {type(0, 0, 0),                                           // 0x9C: nothing
                           type(1, 0, 0), 0x1000,                                   // 0xA0
                           type(2, 0, 0), 0x1002,      0x0FFC,                      // 0xA8: 64 bits
                           type(3, 0, 0), 0x1002,      0x0FFE,      0,              // 0xB4: twice
                           type(2, 0, 0), 0xFFFF'F004, 0x0FFC,                      // 0xC4: wraps
                           type(4, 0, 0), 0x0002,      0xFFFF'FFFE, 0, 0xFFFF'FFFF, // 0xD0: 2^64
                           type(2, 3, 0), 0x2000,      0x0FFC}};                    // 0xE4: sound
        const std::uint16_t offsets[]{0x9C, 0xA0, 0xA8, 0xB4, 0xC4, 0xD0};
        const auto list = d.ranges();
        std::size_t n = 0;
        bool good = true;
        for (const auto& entry : list) {
            good &= n < 6 ? entry.error() == error{errc::malformed, offsets[n]}
                          : entry && entry->offset == 0xE4;
            ++n;
        }
        return good && n == 7 && list.find(bar_equivalent::bar_3).has_value() && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("entries end with their number, and with the first 256 bytes", "[pci][rule 4]") {
    constexpr auto holds = [] {
        with_entries last{1, {type(2, 0, 0), 0x1000, 0xFFC}, 0xF0}; // its end is 0x100
        with_entries beyond{1, {type(3, 0, 0), 0x1000, 0xFFC}, 0xF0};
        with_entries many{63, {}, 0xE8}; // 63 entries of one dword each, five of which have room
        with_entries none{0, {type(2, 0, 0), 0x1000, 0xFFC}};
        with_entries at_the_very_end{1, {}, 0xFC};
        const auto beyond_list = beyond.ranges();
        const auto many_list = many.ranges();
        std::size_t n = 0;
        bool good = true;
        for (const auto& entry : many_list) {
            good &= entry.error() == error{errc::malformed, 0xEC + 4 * n};
            ++n;
        }
        return good && n == 6 && last.ranges().find(bar_equivalent::bar_0).has_value() &&
               count(beyond_list) == 1 &&
               (*beyond_list.begin()).error() == error{errc::malformed, 0xF4} &&
               count(none.ranges()) == 0 && count(at_the_very_end.ranges()) == 1 &&
               last.only_read() && beyond.only_read() && many.only_read() &&
               at_the_very_end.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a bridge has its fixed bus numbers before the entries", "[pci]") {
    constexpr auto holds = [] {
        with_entries d{1, {0x0000'0504, type(2, 6, 5), 0x2000'0000, 0x000F'FFFC}};
        d.put(0x0E, 1, 0x01);
        const auto ea = read_enhanced_allocation(d.config(), nic);
        const auto list = d.ranges();
        const auto behind = list.find(bar_equivalent::behind_bridge);
        with_entries short_one{0, {}, 0xFC};
        short_one.put(0x0E, 1, 0x01);
        return ea && ea->fixed_secondary == 4 && ea->fixed_subordinate == 5 &&
               ea->first_entry == 0xA0 && behind && behind->address == 0x2000'0000 &&
               behind->size == 0x10'0000 &&
               behind->properties == range_properties::behind_bridge_memory &&
               read_enhanced_allocation(short_one.config(), nic).error() ==
                   error{errc::malformed, 0xFC} &&
               count(short_one.ranges()) == 0 && short_one.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a function without Enhanced Allocation has no fixed ranges", "[pci]") {
    listed none;
    none.add(0x50, 0x01);
    CHECK(read_enhanced_allocation(none.config(), nic).error() == error{errc::absent, 0x14});
    CHECK(count(fixed_ranges(none.config(), nic)) == 0);
    STATIC_REQUIRE(ranges::forward_range<fixed_range_list<pci_fake::config>>);
}
