// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/rx_ring.hpp"

#include "receiver.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::e1000e::checksum_result;
using pt::e1000e::family;
using pt::e1000e::queue;
using pt::e1000e::rx_digest;
using pt::e1000e::rx_format;
using pt::e1000e::rx_piece;
using pt::e1000e::rx_place;
using pt::e1000e::rx_settings;
using pt::e1000e::rx_slot;
using pt::e1000e::rx_threshold;
using receiver::nic;
using receiver::written;

template <class Nic>
using ring_of =
    pt::e1000e::rx_ring<receiver::registers<Nic>, receiver::ring_memory<Nic>, receiver::order<Nic>>;

template <class Nic>
constexpr ring_of<Nic> ring_on(Nic& device, rx_slot* slots, std::uint32_t count,
                               const rx_settings& settings = {}, iova base = iova{0x1'2345'6780}) {
    const unsigned number = settings.number == queue::second ? 1 : 0;
    return {{&device}, {&device, number}, {&device, number}, base, slots, count, settings};
}

constexpr auto ignore = [](const rx_piece&) {};
constexpr auto forget = [](std::uint64_t) {};
constexpr std::uint32_t everything = 0xFFFF'FFFF;

/// A legacy descriptor as it is written back: DD and EOP, and nothing to say of the checksums.
constexpr written whole(std::uint64_t length) { return {0, length | 0x07ULL << 32}; }

TEST_CASE("a receive ring has 8 to 65,528 descriptors, in eights, at a multiple of 16",
          "[e1000e][82574][rule 23]") {
    const auto device = std::make_unique<nic<65'536>>();
    std::vector<rx_slot> slots(131'072);
    auto start = [&](std::uint32_t count, iova base) {
        return ring_on(*device, slots.data(), count, {}, base).start();
    };
    CHECK(start(0, iova{0}) == error{errc::out_of_range, 0});
    CHECK(start(65'536, iova{0}) == error{errc::out_of_range, 65'536});
    CHECK(start(0xFFFF'FFF8, iova{0}) == error{errc::out_of_range, 0xFFFF'FFF8});
    for (const std::uint32_t count : {1U, 7U, 9U, 12U, 65'527U}) {
        CHECK(start(count, iova{0}) == error{errc::misaligned, count});
    }
    CHECK(start(8, iova{8}) == error{errc::misaligned, 8});
    CHECK(start(16, iova{~std::uint64_t{0} - 127}) ==
          error{errc::out_of_range, ~std::uint64_t{0} - 127});
    CHECK(device->register_writes == 0);

    for (const std::uint32_t count : {8U, 16U, 65'528U}) {
        device->rctl &= ~receiver::EN;
        CHECK(start(count, iova{0}).has_value());
        CHECK(device->queues[0].rdlen == count * 16);
    }
    device->rctl &= ~receiver::EN;
    CHECK(start(8, iova{~std::uint64_t{0} - 127}).has_value()); // up to the last byte
    CHECK(device->fault == nullptr);
}

TEST_CASE("settings that the hardware does not have are errors before a write", "[e1000e]") {
    nic<8> device;
    rx_slot slots[8];
    auto start = [&](const rx_settings& settings) {
        return ring_on(device, slots, 8, settings).start();
    };
    for (const std::uint32_t size : {0U, 1U, 255U, 257U, 1536U, 3072U, 32'768U, 0xFFFF'FFFFU}) {
        rx_settings settings;
        settings.buffer_size = size;
        CHECK(start(settings) == error{errc::out_of_range, size});
    }
    rx_settings old;
    old.members = family::pci;
    old.format = rx_format::extended;
    CHECK(start(old) == error{errc::not_supported, 0x5008});
    old.format = rx_format::legacy;
    old.number = queue::second;
    CHECK(start(old) == error{errc::not_supported, 1});
    rx_settings hash;
    hash.digest = rx_digest::rss_hash; // a legacy descriptor has no room for it
    CHECK(start(hash) == error{errc::not_supported, 0x5008});
    CHECK(device.register_writes == 0);
}

TEST_CASE("start programs the receiver as the datasheet has it", "[e1000e][82574][rule 24]") {
    nic<8> device;
    device.queues[0].rdh = device.queues[0].rdt = 5; // left over
    device.queues[0].rxdctl = 0xFEC0'1F1F | 0x3FU << 16;
    device.rxcsum = 0x3000;
    rx_slot slots[8];
    SECTION("as it comes") {
        auto ring = ring_on(device, slots, 8, {}, iova{0xFEDC'BA98'7654'3210});
        CHECK(ring.free_descriptors() == 0);
        REQUIRE(ring.start().has_value());
        CHECK(device.queues[0].rdbal == 0x7654'3210);
        CHECK(device.queues[0].rdbah == 0xFEDC'BA98);
        CHECK(device.queues[0].rdlen == 128);
        CHECK(device.queues[0].rdh == 0);
        CHECK(device.queues[0].rdt == 0);
        CHECK(device.queues[0].rxdctl == 0xFFC1'0000); // GRAN, WTHRESH 1; reserved bits stay
        CHECK(device.rdtr == 0);
        CHECK(device.radv == 0);
        CHECK(device.rfctl == 0x1000);     // legacy; ACKDIS as it was
        CHECK(device.rxcsum == 0x0300);    // IPOFL, TUOFL
        CHECK(device.rctl == 0x0400'B002); // EN, BAM, SECRC; MO as it was
        CHECK(ring.free_descriptors() == 7);
        CHECK(ring.count() == 8);
        CHECK(ring.in_flight() == 0);
        CHECK(ring.tail() == 0);
    }
    SECTION("with everything on") {
        rx_settings all;
        all.format = rx_format::extended;
        all.digest = rx_digest::rss_hash;
        all.threshold = rx_threshold::eighth;
        all.buffer_size = 16'384;
        all.unicast_promiscuous = all.multicast_promiscuous = all.vlan_filter = true;
        all.long_packets = all.bad_packets = true;
        all.broadcast = all.strip_crc = all.check_ip = all.check_transport = false;
        all.packet_checksum_start = 14;
        all.interrupt_delay = 0xABCD;
        all.absolute_delay = 0xFFFF;
        auto ring = ring_on(device, slots, 8, all);
        REQUIRE(ring.start().has_value());
        CHECK(device.rdtr == 0xABCD);
        CHECK(device.radv == 0xFFFF);
        CHECK(device.rfctl == 0x9000);
        CHECK(device.rxcsum == 0x200E); // PCSD, PCSS
        // BSEX, VFE, BSIZE 1, MO 3, RDMTS 2, LPE, MPE, UPE, SBP, EN
        CHECK(device.rctl == 0x0205'323E);
    }
    SECTION("the second queue has registers of its own") {
        rx_settings second;
        second.number = queue::second;
        auto ring = ring_on(device, slots, 8, second);
        REQUIRE(ring.start().has_value());
        CHECK(device.queues[1].rdbal == 0x2345'6780);
        CHECK(device.queues[1].rdbah == 1);
        CHECK(device.queues[1].rdlen == 128);
        CHECK(device.queues[0].rdlen == 0);
        REQUIRE(ring.post(iova{0x1000}, 1).has_value());
        ring.advance_tail();
        CHECK(device.queues[1].rdt == 1);
        CHECK(device.queues[0].rdt == 5);
        CHECK(ring.head().value() == 0);
        device.queues[1].rdh = 8;
        CHECK(ring.head().error() == error{errc::hardware_fault, 8});
        device.gone = true;
        CHECK(ring.head().error() == error{errc::absent, 0x2910});
    }
    SECTION("8254x has no RFCTL") {
        device.is_8254x = true;
        device.rxcsum = 0;
        rx_settings old;
        old.members = family::pci;
        auto ring = ring_on(device, slots, 8, old);
        REQUIRE(ring.start().has_value());
        CHECK(device.rctl == 0x0400'B002);
    }
    CHECK(device.fault == nullptr);
}

TEST_CASE("each buffer size has its code in RCTL", "[e1000e][82574]") {
    // BSIZE in bits 17:16 and BSEX in bit 25.
    constexpr std::uint32_t table[][2] = {
        {2048, 0},         {1024, 0x1'0000},     {512, 0x2'0000},
        {256, 0x3'0000},   {16'384, 0x201'0000}, {8192, 0x202'0000},
        {4096, 0x203'0000}};
    for (const auto& [size, code] : table) {
        nic<8> device;
        rx_slot slots[8];
        rx_settings settings;
        settings.buffer_size = size;
        auto ring = ring_on(device, slots, 8, settings);
        REQUIRE(ring.start().has_value());
        CHECK((device.rctl & 0x7A03'0000) == code);
        CHECK(device.fault == nullptr);
        // A buffer ends within the address space.
        const std::uint64_t last = ~std::uint64_t{0} - (size - 1);
        CHECK(ring.post(iova{last}, 1).has_value());
        CHECK(ring.post(iova{last + 1}, 1) == error{errc::out_of_range, last + 1});
    }
}

TEST_CASE("the head is not written while the receiver is enabled", "[e1000e][82574][rule 24]") {
    nic<8> device;
    device.rctl |= receiver::EN;
    rx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    CHECK(ring.start() == error{errc::busy, 0x100});
    CHECK(device.register_writes == 0);
    CHECK(ring.free_descriptors() == 0);
    CHECK(ring.post(iova{0x1000}, 1) == error{errc::busy, 0});
    CHECK(ring.resume() == error{errc::busy, 0});
    CHECK(device.register_writes == 0);
}

TEST_CASE("a receiver that is gone, or does not enable, is an error", "[e1000e]") {
    rx_slot slots[8];
    SECTION("gone before start") {
        nic<8> device;
        device.gone = true;
        auto ring = ring_on(device, slots, 8);
        CHECK(ring.start() == error{errc::absent, 0x100});
        CHECK(ring.head().error() == error{errc::absent, 0x2810});
        CHECK(ring.stop() == error{errc::absent, 0x100});
        CHECK(ring.pause() == error{errc::absent, 0x100});
    }
    SECTION("the enable bit does not stay") {
        nic<8> device;
        device.never_enables = true;
        auto ring = ring_on(device, slots, 8);
        CHECK(ring.start() == error{errc::hardware_fault, 0x100});
        CHECK(ring.free_descriptors() == 0);
        CHECK(ring.post(iova{0x1000}, 1) == error{errc::busy, 0});
    }
    SECTION("gone with buffers posted: their cookies come back") {
        nic<8> device;
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.post(iova{0x1000}, 1).has_value());
        REQUIRE(ring.post(iova{0x2000}, 2).has_value());
        ring.advance_tail();
        REQUIRE(ring.post(iova{0x3000}, 3).has_value());
        device.gone = true;
        CHECK(ring.receive(ignore) == 0);
        CHECK(ring.stop() == error{errc::busy, 3});
        CHECK(ring.start() == error{errc::busy, 3});
        CHECK(ring.resume() == error{errc::absent, 0x100});
        std::vector<std::uint64_t> back;
        CHECK(ring.abandon([&](std::uint64_t cookie) { back.push_back(cookie); }) == 3);
        CHECK(back == std::vector<std::uint64_t>{1, 2, 3});
        CHECK(ring.in_flight() == 0);
        CHECK(ring.abandon(forget) == 0);
        CHECK(ring.post(iova{0x1000}, 4) == error{errc::busy, 0});
        CHECK(ring.resume() == error{errc::busy, 0});
    }
}

TEST_CASE("a posted buffer's descriptor, bit for bit, in either format", "[e1000e][82574]") {
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        nic<8> device;
        rx_slot slots[8];
        rx_settings settings;
        settings.format = format;
        auto ring = ring_on(device, slots, 8, settings);
        REQUIRE(ring.start().has_value());
        auto& memory = device.queues[0].memory;
        std::fill(std::begin(memory), std::end(memory), ~std::uint64_t{0}); // stale, with DD
        CHECK(ring.post(iova{0}, 9) == error{errc::reserved_address, 0});
        CHECK(ring.post(iova{~std::uint64_t{0}}, 9) ==
              error{errc::out_of_range, ~std::uint64_t{0}});
        REQUIRE(ring.post(iova{0xFEDC'BA98'7654'3211}, 9).has_value());
        CHECK(memory[0] == 0xFEDC'BA98'7654'3211);
        CHECK(memory[1] == 0);
        CHECK(memory[2] == ~std::uint64_t{0}); // not ours
        CHECK(device.queues[0].rdt == 0);
        ring.advance_tail();
        CHECK(device.queues[0].rdt == 1);
        CHECK(ring.tail() == 1);
        ring.advance_tail();                      // nothing new
        CHECK(device.queues[0].tail_writes == 2); // at start, and once for the buffer
        // The stale DD behind it is none of ours: looked at, it would be recorded as a fault.
        REQUIRE(
            device.fill(format == rx_format::legacy ? whole(60) : written{0, 60ULL << 32 | 0x7}));
        device.write_back(1);
        CHECK(ring.receive(ignore) == 1);
        CHECK(ring.receive(ignore) == 0);
        CHECK(device.fault == nullptr);
    }
}

TEST_CASE("a full receive ring is never empty, at any size", "[e1000e][82574][rule 23]") {
    const auto device = std::make_unique<nic<65'528>>();
    std::vector<rx_slot> slots(65'528);
    for (const std::uint32_t count : {8U, 16U, 24U, 64U, 1'000U, 65'528U}) {
        device->rctl &= ~receiver::EN;
        auto ring = ring_on(*device, slots.data(), count);
        REQUIRE(ring.start().has_value());
        std::uint64_t posted = 0;
        std::uint64_t back = 0;
        bool in_order = true;
        for (int round = 0; round != 3; ++round) { // the tail starts at 0, n - 1, n - 2
            std::uint32_t held = 0;
            while (ring.post(iova{0x1000}, posted)) {
                ++held;
                ++posted;
            }
            CHECK(held == count - 1);
            CHECK(ring.free_descriptors() == 0);
            ring.advance_tail();
            CHECK(device->queues[0].pending() == count - 1);
            std::uint32_t filled = 0;
            while (device->fill(whole(60))) {
                ++filled;
            }
            CHECK(filled == count - 1);
            CHECK(ring.receive(ignore) == 0); // full of packets, but no DD yet
            CHECK(device->write_back(everything) == count - 1);
            CHECK(ring.receive([&](const rx_piece& piece) {
                in_order &= piece.cookie == back++ && piece.length == 60;
            }) == count - 1);
        }
        CHECK(in_order);
        CHECK(back == posted);
        CHECK(device->fault == nullptr);
    }
}

/// The first buffer of one packet, in legacy format.
constexpr rx_piece legacy_piece(std::uint64_t high) {
    nic<8> device;
    rx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    rx_piece got;
    if (!ring.start() || !ring.post(iova{0x1000}, 42)) {
        return got;
    }
    ring.advance_tail();
    device.fill({0, high});
    device.write_back(1);
    ring.receive([&](const rx_piece& piece) { got = piece; });
    return got;
}

constexpr rx_piece extended_piece(std::uint64_t low, std::uint64_t high,
                                  rx_digest digest = rx_digest::packet_checksum) {
    nic<8> device;
    rx_slot slots[8];
    rx_settings settings;
    settings.format = rx_format::extended;
    settings.digest = digest;
    auto ring = ring_on(device, slots, 8, settings);
    rx_piece got;
    if (!ring.start() || !ring.post(iova{0x1000}, 42)) {
        return got;
    }
    ring.advance_tail();
    device.fill({low, high});
    device.write_back(1);
    ring.receive([&](const rx_piece& piece) { got = piece; });
    return device.fault == nullptr ? got : rx_piece{};
}

constexpr rx_piece plain(std::uint32_t length) {
    rx_piece piece;
    piece.cookie = 42;
    piece.length = length;
    return piece;
}

constexpr bool legacy_status() {
    // Length 0x5DC, packet checksum 0xBEEF; DD, EOP, IXSM.
    rx_piece expected = plain(0x5DC);
    expected.packet_checksum = 0xBEEF;
    bool same = legacy_piece(0x0000'0007'BEEF'05DC) == expected;
    // IXSM counts before all that is said of checksums.
    same &= legacy_piece(0x0000'6077'BEEF'05DC) == expected;
    // IPCS, TCPCS; a VLAN tag without VP does not count.
    expected.ip_checksum = expected.transport_checksum = checksum_result::right;
    same &= legacy_piece(0xE123'0063'BEEF'05DC) == expected;
    expected.has_vlan = true;
    expected.vlan = pt::e1000e::vlan_tag{0xE123};
    same &= legacy_piece(0xE123'006B'BEEF'05DC) == expected;
    // IPE (0x40), then TCPE (0x20), of what was checked only; UDPCS alone says that it was.
    rx_piece bad = plain(0x40);
    bad.ip_checksum = checksum_result::wrong;
    same &= legacy_piece(0x0000'6043'0000'0040) == bad;
    bad.ip_checksum = checksum_result::not_checked;
    bad.transport_checksum = checksum_result::wrong;
    same &= legacy_piece(0x0000'6013'0000'0040) == bad;
    // PIF, and errors one by one: CE, SE, SEQ, CXE, RXE.
    rx_piece other = plain(0x40);
    other.passed_inexact_filter = true;
    other.errors.crc = true;
    same &= legacy_piece(0x0000'0187'0000'0040) == other;
    other.errors = {};
    other.errors.symbol = true;
    same &= legacy_piece(0x0000'0287'0000'0040) == other;
    other.errors = {};
    other.errors.sequence = true;
    same &= legacy_piece(0x0000'0487'0000'0040) == other;
    other.errors = {};
    other.errors.carrier_extension = true;
    same &= legacy_piece(0x0000'1087'0000'0040) == other;
    other.errors = {};
    other.errors.data = true;
    same &= legacy_piece(0x0000'8087'0000'0040) == other;
    return same && other.errors.any() && !plain(1).errors.any();
}
static_assert(legacy_status());

constexpr bool extended_status() {
    // MRQ: RSS type 2, queue 1; IP identification 0xCAFE, packet checksum 0xBEEF.
    constexpr std::uint64_t low = 0xBEEF'CAFE'0000'0102;
    rx_piece expected = plain(0x5DC);
    expected.packet_checksum = 0xBEEF;
    bool same = extended_piece(low, 0x0000'05DC'0000'0007) == expected;
    // IPIDV, UDPV, ACK.
    expected.is_fragment = true;
    expected.ip_identification = 0xCAFE;
    expected.udp_begins = true;
    expected.acknowledges = true;
    same &= extended_piece(low, 0x0000'05DC'0000'8607) == expected;
    // IPCS, TCPCS, UDPCS, VP, PIF; IPE (bit 30), TCPE (29), CE (24).
    expected.ip_checksum = expected.transport_checksum = checksum_result::wrong;
    expected.has_vlan = expected.passed_inexact_filter = expected.errors.crc = true;
    expected.vlan = pt::e1000e::vlan_tag{0x0FFF};
    same &= extended_piece(low, 0x0FFF'05DC'6100'86FB) == expected;
    // With PCSD, the upper half is the RSS hash, whatever IPIDV says.
    rx_piece hashed = plain(0x5DC);
    hashed.rss_type = 2;
    hashed.rss_hash = 0xBEEF'CAFE;
    same &= extended_piece(low, 0x0000'05DC'0000'0207, rx_digest::rss_hash) == hashed;
    return same;
}
static_assert(extended_status());

TEST_CASE("a piece says what the descriptor says, bit for bit, in either format",
          "[e1000e][82574]") {
    REQUIRE(legacy_status());
    REQUIRE(extended_status());
}

TEST_CASE("a packet of several buffers: status in the last, legacy packet checksum in the first",
          "[e1000e][82574]") {
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        nic<16> device;
        rx_slot slots[16];
        rx_settings settings;
        settings.format = format;
        settings.buffer_size = 256;
        const bool legacy = format == rx_format::legacy;
        auto ring = ring_on(device, slots, 16, settings);
        REQUIRE(ring.start().has_value());
        for (std::uint64_t i = 0; i != 5; ++i) {
            REQUIRE(ring.post(iova{0x1000 + 256 * i}, i).has_value());
        }
        ring.advance_tail();
        auto fill = [&](std::uint64_t status, std::uint64_t length, std::uint64_t vlan) {
            // Everything else is set everywhere, to see that it does not count in the wrong place.
            REQUIRE(device.fill(
                legacy ? written{0, vlan << 48 | status << 32 | 0xBEEFULL << 16 | length}
                       : written{0xBEEF'0000'0000'0000, vlan << 48 | length << 32 | status}));
        };
        fill(0x79, 256, 0x123); // no EOP
        fill(0x79, 256, 0x123);
        fill(0x7B, 100, 0x123); // EOP
        fill(0x79, 256, 0x456);
        fill(0x7B, 1, 0x456);
        device.write_back(everything);
        std::vector<rx_piece> got;
        CHECK(ring.receive([&](const rx_piece& piece) { got.push_back(piece); }) == 5);
        REQUIRE(got.size() == 5);
        constexpr rx_place places[] = {rx_place::first, rx_place::middle, rx_place::last,
                                       rx_place::first, rx_place::last};
        for (std::size_t i = 0; i != 5; ++i) {
            CHECK(got[i].cookie == i);
            CHECK(got[i].place == places[i]);
            const bool last = places[i] == rx_place::last;
            CHECK(got[i].has_vlan == last);
            CHECK(got[i].vlan.raw == (last ? (i == 2 ? 0x123 : 0x456) : 0));
            CHECK(got[i].ip_checksum ==
                  (last ? checksum_result::right : checksum_result::not_checked));
            const bool has_sum = legacy ? places[i] == rx_place::first : last;
            CHECK(got[i].packet_checksum == (has_sum ? 0xBEEF : 0));
        }
        CHECK(got[2].length == 100);
        CHECK(got[4].length == 1);
        CHECK(device.fault == nullptr);
    }
}

TEST_CASE("several descriptors that are written back at once come back in one call", "[e1000e]") {
    nic<64> device;
    rx_slot slots[64];
    auto ring = ring_on(device, slots, 64);
    REQUIRE(ring.start().has_value());
    for (std::uint64_t i = 0; i != 40; ++i) {
        REQUIRE(ring.post(iova{0x1000}, i).has_value());
    }
    ring.advance_tail();
    for (int i = 0; i != 30; ++i) {
        REQUIRE(device.fill(whole(60)));
    }
    device.write_back(4);
    CHECK(ring.receive(ignore) == 4);
    device.write_back(26);
    CHECK(ring.receive(ignore) == 26);
    CHECK(ring.in_flight() == 10);
    CHECK(ring.free_descriptors() == 53);
    CHECK(device.queues[0].tail_writes == 2);
    CHECK(device.fault == nullptr);
}

TEST_CASE("a length beyond the buffer is clamped and reported, of that piece",
          "[e1000e][hostile]") {
    rx_piece expected = plain(2048);
    expected.errors.length = true;
    expected.packet_checksum = 0;
    CHECK(legacy_piece(0x0000'0007'0000'0801) == expected);
    CHECK(legacy_piece(0x0000'0007'0000'FFFF) == expected);
    CHECK(legacy_piece(0x0000'0007'0000'0800) == plain(2048));
    CHECK(legacy_piece(0x0000'0007'0000'0000) == plain(0));
    CHECK(extended_piece(0, 0x0000'FFFF'0000'0007) == expected);
    expected.place = rx_place::first;
    CHECK(legacy_piece(0x0000'0001'0000'FFFF) == expected); // without EOP
}

TEST_CASE("whatever a device writes, each cookie comes back once, in order, and in bounds",
          "[e1000e][hostile]") {
    // The memory of this device answers at random: DD anywhere, other content at each look.
    struct any_memory {
        std::mt19937_64* random;
        std::uint32_t* reads;
        std::uint64_t read64(std::uint32_t offset) {
            REQUIRE(offset % 8 == 0);
            REQUIRE(offset < 16 * 24);
            ++*reads;
            return (*random)() | ((*random)() % 4 != 0 ? 0x1'0000'0001ULL : 0);
        }
        void write64(std::uint32_t offset, std::uint64_t) { REQUIRE(offset < 16 * 24); }
    };
    struct any_registers {
        std::mt19937_64* random;
        std::uint32_t* control;
        std::uint32_t read32(std::uint32_t offset) {
            return offset == 0x100 ? *control : static_cast<std::uint32_t>((*random)());
        }
        std::uint64_t read64(std::uint32_t) { return (*random)(); }
        void write32(std::uint32_t offset, std::uint32_t value) {
            if (offset == 0x100) {
                *control = value;
            }
        }
        void write64(std::uint32_t, std::uint64_t) {}
    };
    struct no_order {
        void release() {}
        void acquire() {}
    };
    std::mt19937_64 random{11};
    for (int run = 0; run != 50; ++run) {
        std::uint32_t reads = 0;
        std::uint32_t control = 0;
        rx_slot slots[24];
        rx_settings settings;
        settings.format = run % 2 == 0 ? rx_format::legacy : rx_format::extended;
        settings.buffer_size = 512;
        pt::e1000e::rx_ring ring{any_registers{&random, &control},
                                 any_memory{&random, &reads},
                                 no_order{},
                                 iova{0},
                                 slots,
                                 24,
                                 settings};
        REQUIRE(ring.start().has_value());
        std::uint64_t posted = 0;
        std::uint64_t back = 0;
        for (int step = 0; step != 500; ++step) {
            for (auto n = random() % 5; n != 0 && ring.post(iova{0x1000}, posted); --n) {
                ++posted;
            }
            ring.advance_tail();
            const std::uint32_t before = ring.in_flight();
            reads = 0;
            ring.receive([&](const rx_piece& piece) {
                REQUIRE(piece.cookie == back++);
                REQUIRE(piece.length <= 512);
                if (random() % 2 == 0 && ring.post(iova{0x1000}, posted)) {
                    ++posted;
                    ring.advance_tail();
                }
            });
            REQUIRE(reads <= 2 * before); // bounded, whatever is posted meanwhile
            static_cast<void>(ring.head());
        }
        ring.abandon([&](std::uint64_t cookie) { REQUIRE(cookie == back++); });
        REQUIRE(back == posted);
    }
}

TEST_CASE("any traffic, at any pace", "[e1000e]") {
    std::mt19937 random{3};
    auto below = [&](unsigned end) { return static_cast<std::uint32_t>(random() % end); };
    for (int run = 0; run != 40; ++run) {
        const auto device = std::make_unique<nic<256>>();
        const std::uint32_t count = 8 * (1 + below(32));
        std::vector<rx_slot> slots(count);
        rx_settings settings;
        settings.format = run % 2 == 0 ? rx_format::legacy : rx_format::extended;
        settings.number = run % 4 < 2 ? queue::first : queue::second;
        const unsigned number = run % 4 < 2 ? 0 : 1;
        auto ring = ring_on(*device, slots.data(), count, settings);
        REQUIRE(ring.start().has_value());
        std::uint64_t posted = 0;
        std::uint64_t filled = 0;
        std::uint64_t back = 0;
        std::deque<std::uint32_t> lengths;
        auto post_some = [&](std::uint32_t most) {
            for (; most != 0 && ring.post(iova{0x1'0000 + posted}, posted); --most) {
                ++posted;
            }
        };
        for (int step = 0; step != 2000; ++step) {
            switch (below(7)) {
            case 0: post_some(below(20)); break;
            case 1: ring.advance_tail(); break;
            case 2:
                for (auto n = below(20); n != 0; --n) {
                    const auto length = below(2049);
                    const bool legacy = settings.format == rx_format::legacy;
                    if (device->fill(legacy ? whole(length)
                                            : written{0, std::uint64_t{length} << 32 | 7},
                                     number)) {
                        lengths.push_back(length);
                        ++filled;
                    }
                }
                break;
            case 3: device->write_back(below(20), number); break;
            case 4:
                ring.receive([&](const rx_piece& piece) {
                    REQUIRE(piece.cookie == back++);
                    REQUIRE(piece.length == lengths.front());
                    lengths.pop_front();
                    if (below(2) == 0) {
                        post_some(2);
                    }
                });
                break;
            case 5:
                if (below(4) == 0) {
                    REQUIRE(ring.pause().has_value());
                    REQUIRE_FALSE(device->enabled());
                }
                break;
            default: REQUIRE(ring.resume().has_value()); break;
            }
            REQUIRE(ring.in_flight() == posted - back);
            REQUIRE(ring.free_descriptors() == count - 1 - ring.in_flight());
            REQUIRE(device->fault == nullptr);
        }
        REQUIRE(filled > 0);
        REQUIRE(back > 0);
        device->write_back(everything, number);
        ring.receive([&](const rx_piece& piece) { REQUIRE(piece.cookie == back++); });
        REQUIRE(back == filled);
        ring.abandon([&](std::uint64_t cookie) { REQUIRE(cookie == back++); });
        REQUIRE(back == posted);
        REQUIRE(ring.start().has_value()); // from the beginning
        REQUIRE(ring.tail() == 0);
        REQUIRE(device->fault == nullptr);
    }
}

TEST_CASE("pause keeps the buffers, stop wants none, abandon gives them back", "[e1000e]") {
    nic<8> device;
    rx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    const std::uint32_t control = device.rctl;
    for (std::uint64_t i = 0; i != 4; ++i) {
        REQUIRE(ring.post(iova{0x1000}, i).has_value());
    }
    ring.advance_tail();
    REQUIRE(device.fill({0, 60 | 0x1ULL << 32})); // the first buffer of a packet
    REQUIRE(ring.pause().has_value());
    CHECK(device.rctl == (control & ~receiver::EN));
    CHECK_FALSE(device.fill(whole(60)));
    device.write_back(1);
    CHECK(ring.receive(ignore) == 1);
    REQUIRE(ring.post(iova{0x1000}, 4).has_value()); // the tail may be written meanwhile
    ring.advance_tail();
    CHECK(ring.stop() == error{errc::busy, 4});
    REQUIRE(ring.resume().has_value());
    CHECK(device.rctl == control);
    std::vector<std::uint64_t> back;
    CHECK(ring.abandon([&](std::uint64_t cookie) {
        back.push_back(cookie);
        CHECK(ring.post(iova{0x1000}, 9) == error{errc::busy, 0}); // it takes nothing any more
    }) == 4);
    CHECK(back == std::vector<std::uint64_t>{1, 2, 3, 4});
    CHECK_FALSE(device.enabled());
    CHECK(ring.stop().has_value());
    // A new start is a new packet.
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.post(iova{0x1000}, 5).has_value());
    ring.advance_tail();
    REQUIRE(device.fill(whole(60)));
    device.write_back(1);
    CHECK(ring.receive([](const rx_piece& piece) { CHECK(piece.place == rx_place::only); }) == 1);
    CHECK(ring.stop().has_value());
    CHECK(device.fault == nullptr);
}

TEST_CASE("abandon from within receive ends it", "[e1000e]") {
    nic<8> device;
    rx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    for (std::uint64_t i = 0; i != 5; ++i) {
        REQUIRE(ring.post(iova{0x1000}, i).has_value());
        ring.advance_tail();
        REQUIRE(device.fill(whole(60)));
    }
    device.write_back(5);
    std::vector<std::uint64_t> back;
    CHECK(ring.receive([&](const rx_piece& piece) {
        back.push_back(piece.cookie);
        if (piece.cookie == 1) {
            ring.abandon([&](std::uint64_t cookie) { back.push_back(cookie); });
        }
    }) == 2);
    CHECK(back == std::vector<std::uint64_t>{0, 1, 2, 3, 4});
    CHECK(device.fault == nullptr); // nothing was looked at behind it
}

TEST_CASE("a ring is busy until abandon has handed back the last cookie", "[e1000e]") {
    nic<8> device;
    rx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    for (std::uint64_t i = 1; i != 6; ++i) {
        REQUIRE(ring.post(iova{0x1000}, i).has_value());
        ring.advance_tail();
    }
    for (int i = 0; i != 2; ++i) {
        REQUIRE(device.fill(whole(60)));
    }
    device.write_back(2);
    REQUIRE(ring.receive(ignore) == 2);
    REQUIRE(ring.post(iova{0x1000}, 6).has_value()); // the device does not know of it
    std::vector<std::uint64_t> back;
    CHECK(ring.abandon([&](std::uint64_t cookie) {
        back.push_back(cookie);
        const auto left = static_cast<std::uint32_t>(4 - back.size());
        CHECK(ring.in_flight() == left);
        CHECK(ring.receive(ignore) == 0);
        if (left != 0) {
            CHECK(ring.start() == error{errc::busy, left});
            CHECK(ring.resume() == error{errc::busy, 0});
            CHECK(ring.stop() == error{errc::busy, left});
        } else { // all are out
            CHECK(ring.start().has_value());
            CHECK(ring.post(iova{0x1000}, 7).has_value());
        }
    }) == 4);
    CHECK(back == std::vector<std::uint64_t>{3, 4, 5, 6});
    CHECK(ring.in_flight() == 1);

    // Within itself it hands back the rest.
    REQUIRE(ring.post(iova{0x1000}, 8).has_value());
    REQUIRE(ring.post(iova{0x1000}, 9).has_value());
    back.clear();
    CHECK(ring.abandon([&](std::uint64_t cookie) {
        back.push_back(cookie);
        CHECK(ring.abandon([&](std::uint64_t rest) { back.push_back(rest); }) == 2);
    }) == 1);
    CHECK(back == std::vector<std::uint64_t>{7, 8, 9});
    CHECK(ring.in_flight() == 0);
    CHECK(device.fault == nullptr);
}

TEST_CASE("two rings of one device: the second starts while the first is paused",
          "[e1000e][82574]") {
    nic<8> device;
    rx_slot slots[2][8];
    rx_settings settings;
    auto first = ring_on(device, slots[0], 8, settings);
    settings.number = queue::second;
    auto second = ring_on(device, slots[1], 8, settings);
    REQUIRE(first.start().has_value());
    REQUIRE(first.post(iova{0x1000}, 1).has_value());
    first.advance_tail();
    CHECK(second.start() == error{errc::busy, 0x100});
    REQUIRE(first.pause().has_value());
    REQUIRE(second.start().has_value());
    REQUIRE(second.post(iova{0x2000}, 2).has_value());
    second.advance_tail();
    REQUIRE(device.fill(whole(61), 0));
    REQUIRE(device.fill(whole(62), 1));
    device.write_back(1, 0);
    device.write_back(1, 1);
    CHECK(first.receive([](const rx_piece& piece) {
        CHECK(piece.cookie == 1);
        CHECK(piece.length == 61);
    }) == 1);
    CHECK(second.receive([](const rx_piece& piece) {
        CHECK(piece.cookie == 2);
        CHECK(piece.length == 62);
    }) == 1);
    CHECK(device.fault == nullptr);
}

} // namespace
