// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/receive_filter.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstdint>
#include <set>

namespace {

using pt::e1000e::address_match;
using pt::e1000e::multicast_hash;
using pt::e1000e::rctl;
using pt::e1000e::receive_filter;
using pt::e1000e::vlan_tag;

using addresses = std::array<std::uint8_t, 12>; // destination, source

constexpr addresses to(std::uint64_t destination, std::uint64_t source = 0x02'0000'0000'99) {
    addresses packet{};
    for (unsigned i = 0; i != 6; ++i) { // as one writes them: the first byte on the left
        packet[i] = static_cast<std::uint8_t>(destination >> (40 - 8 * i));
        packet[6 + i] = static_cast<std::uint8_t>(source >> (40 - 8 * i));
    }
    return packet;
}

// RCTL, in plain numbers [82574].
constexpr std::uint32_t UPE = 1U << 3;
constexpr std::uint32_t MPE = 1U << 4;
constexpr std::uint32_t BAM = 1U << 15;
constexpr std::uint32_t VFE = 1U << 18;
constexpr std::uint32_t CFIEN = 1U << 19;
constexpr std::uint32_t CFI = 1U << 20;

constexpr address_match what(const receive_filter& filter, const addresses& packet,
                             std::uint32_t control) {
    return filter.accepts(packet.data(), rctl{control});
}

constexpr bool manual_example() {
    // The manual's example [8254x]: 12:34:56:78:9A:BC, of which bits 47:36 are 0xBC9, is bit 9 of
    // dword 94. The other choices of RCTL.MO move the window down by one, two, and four bits in all.
    constexpr addresses packet = to(0x1234'5678'9ABC);
    const std::uint8_t* const address = packet.data();
    return multicast_hash(address, 0) == 94 * 32 + 9 && multicast_hash(address, 0) == 0xBC9 &&
           multicast_hash(address, 1) == ((0xBC9A >> 3) & 0xFFF) &&
           multicast_hash(address, 2) == ((0xBC9A >> 2) & 0xFFF) &&
           multicast_hash(address, 3) == 0xC9A && multicast_hash(address, 7) == 0xC9A;
}
static_assert(manual_example());

TEST_CASE("an address has the bit of MTA that the manual's example says", "[e1000e][8254x]") {
    REQUIRE(manual_example());
}

constexpr bool exact_addresses() {
    receive_filter filter;
    const addresses packet = to(0x5254'0012'3456);
    if (what(filter, packet, 0) != address_match::none) {
        return false;
    }
    filter.write(0x5400, 0x1200'5452); // the first byte on the wire is the lowest
    filter.write(0x5404, 0x0000'5634);
    if (what(filter, packet, 0) != address_match::none) { // AV is clear
        return false;
    }
    filter.write(0x5404, 0x8000'5634);
    if (what(filter, packet, 0) != address_match::exact ||
        what(filter, to(0x5254'0012'3457), 0) != address_match::none ||
        what(filter, to(0x5354'0012'3456), 0) != address_match::none) {
        return false;
    }
    // Entry 15, for a multicast address: it is exact, so software need not look.
    filter.write(0x5478, 0x005E'0001);
    filter.write(0x547C, 0x8000'FB00);
    return what(filter, to(0x0100'5E00'00FB), MPE) == address_match::exact &&
           what(filter, packet, UPE) == address_match::exact;
}
static_assert(exact_addresses());

TEST_CASE("an exact address is accepted by RAL and RAH", "[e1000e][82574]") {
    REQUIRE(exact_addresses());
    receive_filter filter;
    for (unsigned entry = 0; entry != 16; ++entry) {
        filter.reset();
        filter.write(0x5400 + 8 * entry, 0x1200'5452);
        filter.write(0x5404 + 8 * entry, 0x8000'5634);
        CHECK(what(filter, to(0x5254'0012'3456), 0) == address_match::exact);
    }
    // ASEL 1 compares the source; 2 and 3 are reserved.
    filter.write(0x547C, 0x8001'5634);
    CHECK(what(filter, to(0x5254'0012'3456), 0) == address_match::none);
    CHECK(what(filter, to(0x0200'0000'0001, 0x5254'0012'3456), 0) == address_match::exact);
    filter.write(0x547C, 0x8002'5634);
    CHECK(what(filter, to(0x5254'0012'3456, 0x5254'0012'3456), 0) == address_match::none);
    filter.write(0x547C, 0x8003'5634);
    CHECK(what(filter, to(0x5254'0012'3456, 0x5254'0012'3456), 0) == address_match::none);
}

TEST_CASE("promiscuous bits and broadcast accept what they name and nothing else",
          "[e1000e][82574]") {
    const receive_filter filter;
    const addresses unicast = to(0x5254'0012'3456);
    const addresses multicast = to(0x0100'5E00'00FB);
    const addresses broadcast = to(0xFFFF'FFFF'FFFF);
    const addresses nearly = to(0xFFFF'FFFF'FFFE); // a multicast address like others
    CHECK(what(filter, unicast, UPE) == address_match::promiscuous);
    CHECK(what(filter, unicast, MPE | BAM) == address_match::none);
    CHECK(what(filter, multicast, MPE) == address_match::promiscuous);
    CHECK(what(filter, multicast, UPE | BAM) == address_match::none);
    CHECK(what(filter, broadcast, BAM) == address_match::broadcast);
    CHECK(what(filter, broadcast, UPE) == address_match::none);
    CHECK(what(filter, broadcast, MPE) == address_match::promiscuous);
    CHECK(what(filter, nearly, BAM) == address_match::none);
}

TEST_CASE("a multicast address is accepted by its bit of MTA alone, for each RCTL.MO",
          "[e1000e][82574]") {
    for (std::uint32_t mo = 0; mo != 4; ++mo) {
        const std::uint32_t control = mo << 12;
        const unsigned shift = mo == 3 ? 0 : 4 - mo;
        for (std::uint64_t last = 0; last < 0x1'0000; last += 0x137) {
            // The last two bytes, lower one first on the wire.
            const addresses packet = to(0x0100'5E00'0000 | (last & 0xFF) << 8 | last >> 8);
            const auto bit = static_cast<std::uint32_t>((last >> shift) & 0xFFF);
            receive_filter filter;
            REQUIRE(what(filter, packet, control) == address_match::none);
            filter.write(0x5200 + bit / 32 * 4, 1U << bit % 32);
            REQUIRE(what(filter, packet, control) == address_match::inexact);
            filter.write(0x5200 + bit / 32 * 4, ~(1U << bit % 32));
            REQUIRE(what(filter, packet, control) == address_match::none);
            // Unicast never goes by MTA.
            filter.write(0x5200 + bit / 32 * 4, 0xFFFF'FFFF);
            REQUIRE(what(filter, to(0x0200'5E00'0000 | (last & 0xFF) << 8 | last >> 8), control) ==
                    address_match::none);
        }
    }
}

TEST_CASE("VFE goes by VFTA and CFIEN by the tag's CFI", "[e1000e][82574]") {
    receive_filter filter;
    auto accepts = [&](std::uint16_t tag, std::uint32_t control) {
        return filter.accepts(vlan_tag{tag}, rctl{control});
    };
    CHECK(accepts(0xFFFF, 0));
    CHECK_FALSE(accepts(0x0123, VFE));
    filter.write(0x5600 + 0x123 / 32 * 4, 1U << 0x123 % 32);
    for (std::uint16_t vlan = 0; vlan != 0x1000; ++vlan) {
        REQUIRE(accepts(vlan, VFE) == (vlan == 0x123));
    }
    CHECK(accepts(0xE123, VFE)); // the priority does not count
    CHECK(accepts(0x1123, VFE)); // nor does CFI
    CHECK(accepts(0x0123, VFE | CFIEN));
    CHECK_FALSE(accepts(0x1123, VFE | CFIEN));
    CHECK(accepts(0x1123, VFE | CFIEN | CFI));
    CHECK_FALSE(accepts(0x0123, VFE | CFIEN | CFI));
    CHECK_FALSE(accepts(0x1000, CFIEN));
    CHECK(accepts(0x0001, CFI));
}

TEST_CASE("the filter's registers are RAL, RAH, MTA and VFTA, dword by dword", "[e1000e][82574]") {
    std::set<std::uint32_t> ours;
    for (std::uint32_t i = 0; i != 128; ++i) {
        ours.insert(0x5200 + 4 * i);
        ours.insert(0x5600 + 4 * i);
    }
    for (std::uint32_t i = 0; i != 32; ++i) {
        ours.insert(0x5400 + 4 * i);
    }
    receive_filter filter;
    for (std::uint32_t offset = 0; offset != 0x2'0000; ++offset) {
        REQUIRE(receive_filter::owns(offset) == ours.contains(offset));
        filter.write(offset, 0xFFFF'FFFF - offset);
    }
    CHECK_FALSE(receive_filter::owns(0xFFFF'FFFC));
    for (std::uint32_t offset = 0; offset != 0x2'0000; ++offset) {
        std::uint32_t expected = ours.contains(offset) ? 0xFFFF'FFFF - offset : 0;
        if (offset >= 0x5400 && offset < 0x5480 && offset % 8 == 4) {
            expected &= 0x8003'FFFF; // RAH: AV, ASEL, two bytes
        }
        REQUIRE(filter.read(offset) == expected);
    }
    filter.reset();
    for (const std::uint32_t offset : ours) {
        REQUIRE(filter.read(offset) == 0);
    }
}

} // namespace
