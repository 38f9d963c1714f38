// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/tx_ring.hpp"

#include "transmitter.hpp"

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
using pt::e1000e::fragment;
using pt::e1000e::tx_slot;
using transmitter::nic;
using transmitter::piece;

template <class Nic>
using ring_of = pt::e1000e::tx_ring<transmitter::registers<Nic>, transmitter::ring_memory<Nic>,
                                    transmitter::order<Nic>>;

template <class Nic>
constexpr ring_of<Nic> ring_on(Nic& device, tx_slot* slots, std::uint32_t count,
                               iova base = iova{0x1'2345'6780}) {
    return {{&device}, {&device}, {&device}, base, slots, count};
}

constexpr auto ignore = [](std::uint64_t) {};
constexpr auto no_packets = [](const piece*, std::uint32_t) {};
constexpr std::uint32_t everything = 0xFFFF'FFFF;

TEST_CASE("a ring has 8 to 65,528 descriptors, in eights, at a multiple of 16",
          "[e1000e][82574][rule 23]") {
    const auto device = std::make_unique<nic<65'536>>();
    std::vector<tx_slot> slots(131'072);
    auto start = [&](std::uint32_t count, iova base) {
        return ring_on(*device, slots.data(), count, base).start();
    };
    CHECK(start(0, iova{0}) == error{errc::out_of_range, 0});
    CHECK(start(65'536, iova{0}) == error{errc::out_of_range, 65'536});
    CHECK(start(0xFFFF'FFF8, iova{0}) == error{errc::out_of_range, 0xFFFF'FFF8});
    // 1 to 7 descriptors are below the smallest TDLEN of 128 bytes (zephyr#74072).
    for (const std::uint32_t count : {1U, 7U, 9U, 12U, 65'527U}) {
        CHECK(start(count, iova{0}) == error{errc::misaligned, count});
    }
    CHECK(start(8, iova{8}) == error{errc::misaligned, 8});
    CHECK(start(16, iova{~std::uint64_t{0} - 127}) ==
          error{errc::out_of_range, ~std::uint64_t{0} - 127});
    CHECK(device->register_writes == 0);

    for (const std::uint32_t count : {8U, 16U, 65'528U}) {
        device->tctl &= ~transmitter::EN;
        CHECK(start(count, iova{0}).has_value());
        CHECK(device->tdlen == count * 16);
    }
    device->tctl &= ~transmitter::EN;
    CHECK(start(8, iova{~std::uint64_t{0} - 127}).has_value()); // up to the last byte
    CHECK(device->fault == nullptr);
}

TEST_CASE("start programs the registers as the datasheet has them", "[e1000e][82574][rule 24]") {
    nic<8> device;
    device.tdh = device.tdt = 5; // left over
    device.txdctl = 0x00C0'1F1F | (0x3FU << 16);
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8, iova{0xFEDC'BA98'7654'3210});
    CHECK(ring.free_descriptors() == 0);
    REQUIRE(ring.start().has_value());
    CHECK(device.fault == nullptr);
    CHECK(device.tdbal == 0x7654'3210);
    CHECK(device.tdbah == 0xFEDC'BA98);
    CHECK(device.tdlen == 128);
    CHECK(device.tdh == 0);
    CHECK(device.tdt == 0);
    CHECK(device.tipg == 0x0060'2008);
    CHECK(device.txdctl == 0x01C0'0000); // GRAN, thresholds 0, reserved bits as they were
    CHECK(device.tctl == 0x3003'F0FA);   // EN, PSP, CT 15, COLD 63; MULR and RRTHRESH as they were
    CHECK(ring.free_descriptors() == 7);
    CHECK(ring.in_flight() == 0);
}

TEST_CASE("the head is not written while the transmitter is enabled", "[e1000e][82574][rule 24]") {
    nic<8> device;
    device.tctl |= transmitter::EN;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    CHECK(ring.start() == error{errc::busy, 0x400});
    CHECK(device.register_writes == 0);
    CHECK(ring.free_descriptors() == 0);
    CHECK(ring.send({{iova{0x1000}, 60}}, 1) == error{errc::busy, 0});
}

TEST_CASE("a device that is gone, or does not enable, is an error", "[e1000e]") {
    tx_slot slots[8];
    SECTION("gone before start") {
        nic<8> device;
        device.gone = true;
        auto ring = ring_on(device, slots, 8);
        CHECK(ring.start() == error{errc::absent, 0x400});
        CHECK(ring.head().error() == error{errc::absent, 0x3810});
        CHECK(ring.stop() == error{errc::absent, 0x400});
    }
    SECTION("the enable bit does not stay") {
        nic<8> device;
        device.never_enables = true;
        auto ring = ring_on(device, slots, 8);
        CHECK(ring.start() == error{errc::hardware_fault, 0x400});
        CHECK(ring.free_descriptors() == 0);
    }
    SECTION("gone with packets in flight: their cookies come back") {
        nic<8> device;
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}}, 1).has_value());
        REQUIRE(ring.send({{iova{0x3000}, 60}}, 2).has_value());
        REQUIRE(ring.enqueue({{iova{0x4000}, 60}}, 3).has_value());
        device.gone = true;
        CHECK(ring.head().error() == error{errc::absent, 0x3810});
        CHECK(ring.reclaim(ignore) == 0);
        CHECK(ring.stop() == error{errc::busy, 3});
        std::vector<std::uint64_t> back;
        CHECK(ring.abandon([&](std::uint64_t cookie) { back.push_back(cookie); }) == 3);
        CHECK(back == std::vector<std::uint64_t>{1, 2, 3});
        CHECK(ring.in_flight() == 0);
        CHECK(ring.abandon(ignore) == 0);
        CHECK(ring.stop() == error{errc::absent, 0x400});
        CHECK(ring.send({{iova{0x1000}, 60}}, 4) == error{errc::busy, 0});
    }
    SECTION("a head that is no index of the ring") {
        nic<16> device;
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        device.tdh = 7;
        CHECK(ring.head().value() == 7);
        device.tdh = 8;
        CHECK(ring.head().error() == error{errc::hardware_fault, 8});
    }
}

TEST_CASE("a packet's descriptors, bit for bit", "[e1000e][82574][rule 24]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    std::fill(std::begin(device.memory), std::end(device.memory), ~std::uint64_t{0}); // stale
    const fragment pieces[] = {
        {iova{0xFFFF'FFFF'FFFF'FFFF}, 1}, {iova{0x1'0000'0ABC}, 0x1234}, {iova{0x10}, 0x200}};
    REQUIRE(ring.send(pieces, 3, 7).has_value());
    CHECK(device.memory[0] == 0xFFFF'FFFF'FFFF'FFFF);
    CHECK(device.memory[1] == 0x0000'0000'0000'0001);
    CHECK(device.memory[2] == 0x0000'0001'0000'0ABC);
    CHECK(device.memory[3] == 0x0000'0000'0000'1234);
    CHECK(device.memory[4] == 0x0000'0000'0000'0010);
    CHECK(device.memory[5] == 0x0000'0000'0B00'0200); // EOP 24, IFCS 25, RS 27
    CHECK(device.memory[6] == ~std::uint64_t{0});     // not ours
    CHECK(device.tdt == 3);
    CHECK(ring.tail() == 3);
    CHECK(device.fault == nullptr);
}

TEST_CASE("a packet that cannot be sent changes nothing", "[e1000e][rule 23][rule 24]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}, {iova{0x3000}, 60}}, 1).has_value());
    const nic<8> before = device;
    auto unchanged = [&] {
        return device.fault == nullptr && device.tdt == before.tdt &&
               device.register_writes == before.register_writes &&
               std::equal(std::begin(device.memory), std::end(device.memory),
                          std::begin(before.memory)) &&
               ring.free_descriptors() == 4 && ring.in_flight() == 1 && ring.tail() == 3;
    };
    const fragment one{iova{0x1000}, 60};
    const fragment eight[8] = {one, one, one, one, one, one, one, one};
    CHECK(ring.send(eight, 0, 2) == error{errc::out_of_range, 0});
    CHECK(ring.send({}, 2) == error{errc::out_of_range, 0});
    CHECK(unchanged());
    CHECK(ring.send(eight, 8, 2) == error{errc::out_of_range, 8}); // never: one slot stays free
    CHECK(unchanged());
    CHECK(ring.send(eight, 7, 2) == error{errc::busy, 4}); // later
    CHECK(ring.send(eight, 5, 2) == error{errc::busy, 4});
    CHECK(unchanged());
    CHECK(ring.send({one, {iova{0x2000}, 0}, one}, 2) == error{errc::out_of_range, 1});
    CHECK(ring.send({{iova{0x1000}, 16'289}}, 2) == error{errc::out_of_range, 0});
    CHECK(ring.send({{iova{0x1000}, 0xFFFF'FFFF}}, 2) == error{errc::out_of_range, 0});
    CHECK(ring.send({{iova{0x1000}, 16'000}, {iova{0x8000}, 289}}, 2) ==
          error{errc::out_of_range, 1});
    CHECK(ring.send({one, {iova{0x8000}, 0xFFFF'FFC5}}, 2) == error{errc::out_of_range, 1});
    CHECK(unchanged());
    CHECK(ring.send({{iova{0x1000}, 16'000}, {iova{0x8000}, 288}}, 2).has_value());
    CHECK(ring.send(eight, 2, 3).has_value());
    CHECK(ring.free_descriptors() == 0);
    CHECK(ring.send(eight, 1, 4) == error{errc::busy, 0});
    CHECK(device.fault == nullptr);
}

TEST_CASE("full is never empty, at any ring size", "[e1000e][82574][rule 23]") {
    const auto device = std::make_unique<nic<65'528>>();
    std::vector<tx_slot> slots(65'528);
    for (const std::uint32_t count : {8U, 16U, 24U, 64U, 1'000U, 65'528U}) {
        device->tctl &= ~transmitter::EN;
        auto ring = ring_on(*device, slots.data(), count);
        REQUIRE(ring.start().has_value());
        std::uint64_t sent = 0;
        std::uint64_t back = 0;
        bool in_order = true;
        for (int round = 0; round != 3; ++round) { // the tail starts at 0, n - 1, n - 2
            std::uint32_t held = 0;
            while (ring.send({{iova{0x1000}, 60}}, sent)) {
                ++held;
                ++sent;
            }
            CHECK(held == count - 1);
            CHECK(device->pending() == count - 1);
            CHECK(device->tdh != device->tdt);
            device->transmit(everything, no_packets);
            CHECK(device->tdh == device->tdt);
            CHECK(ring.reclaim(ignore) == 0); // done, but no DD yet
            device->write_back(everything);
            CHECK(ring.reclaim([&](std::uint64_t cookie) { in_order &= cookie == back++; }) ==
                  held);
        }
        CHECK(in_order);
        CHECK(back == sent);
        CHECK(device->fault == nullptr);
    }
}

TEST_CASE("many packets, one write of the tail", "[e1000e]") {
    nic<64> device;
    tx_slot slots[64];
    auto ring = ring_on(device, slots, 64);
    REQUIRE(ring.start().has_value());
    for (std::uint64_t i = 0; i != 32; ++i) {
        REQUIRE(ring.enqueue({{iova{i * 0x1000}, 60}}, i).has_value());
    }
    CHECK(device.tdt == 0);
    CHECK(ring.in_flight() == 32);
    ring.advance_tail();
    CHECK(device.tdt == 32);
    ring.advance_tail(); // nothing new
    CHECK(device.tail_writes == 1);
    CHECK(device.fault == nullptr);
}

TEST_CASE("a packet comes back only after the tail told of it", "[e1000e][rule 24]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 1).has_value());
    device.memory[1] |= 1ULL << 32; // a device that writes where it must not
    CHECK(ring.reclaim(ignore) == 0);
    CHECK(ring.in_flight() == 1);
}

TEST_CASE("a packet is done when its last descriptor is", "[e1000e][82574][rule 24]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}, {iova{0x3000}, 60}}, 1).has_value());
    // Write-back bursts set DD where no RS asked for it, too.
    device.memory[1] |= 1ULL << 32;
    device.memory[3] |= 1ULL << 32;
    CHECK(ring.reclaim(ignore) == 0);
    device.memory[5] |= 1ULL << 32;
    CHECK(ring.reclaim(ignore) == 1);
    CHECK(ring.free_descriptors() == 7);
}

TEST_CASE("stop waits for the packets, and a stopped ring starts again", "[e1000e][rule 24]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}, {iova{0x3000}, 60}}, 1).has_value());
    CHECK(ring.stop() == error{errc::busy, 1});
    CHECK(ring.start() == error{errc::busy, 1});
    CHECK(device.enabled());
    device.transmit(everything, no_packets);
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 1);
    CHECK(ring.stop().has_value());
    CHECK(!device.enabled());
    CHECK(ring.send({{iova{0x1000}, 60}}, 2) == error{errc::busy, 0});
    REQUIRE(ring.start().has_value());
    CHECK(device.tdh == 0);
    CHECK(ring.tail() == 0);
    CHECK(ring.free_descriptors() == 7);
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 2).has_value());
    CHECK(ring.abandon([](std::uint64_t cookie) { CHECK(cookie == 2); }) == 1);
    CHECK(!device.enabled());
    REQUIRE(ring.start().has_value());
    CHECK(device.fault == nullptr);
}

TEST_CASE("reclaim is bounded although its callback sends and the device is at once done",
          "[e1000e]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    std::uint64_t next = 0;
    auto send = [&] {
        const bool sent = ring.send({{iova{0x1000}, 60}}, next).has_value();
        next += sent ? 1 : 0;
        device.transmit(everything, no_packets);
        device.write_back(everything);
        return sent;
    };
    while (send()) {}
    REQUIRE(next == 7);
    std::uint64_t expected = 0;
    for (int round = 0; round != 5; ++round) {
        CHECK(ring.reclaim([&](std::uint64_t cookie) {
            CHECK(cookie == expected++);
            CHECK(send());
        }) == 7);
    }
    CHECK(ring.in_flight() == 7);
    CHECK(device.fault == nullptr);
}

TEST_CASE("random traffic: each cookie once, in order, each fragment as it was sent",
          "[e1000e][82574][rule 23][rule 24]") {
    struct expected_packet {
        std::uint64_t cookie;
        std::vector<piece> pieces;
    };
    constexpr std::uint32_t most = 512;
    const auto device = std::make_unique<nic<most>>();
    std::vector<tx_slot> slots(most);
    for (std::uint32_t seed = 0; seed != 60; ++seed) {
        std::mt19937_64 random{seed};
        auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
        *device = {};
        const std::uint32_t count = 8 * (1 + (seed % 2 == 0 ? below(4) : below(most / 8)));
        auto ring = ring_on(*device, slots.data(), count);
        REQUIRE(ring.start().has_value());

        std::deque<expected_packet> on_the_way; // to the wire
        std::deque<std::uint64_t> in_flight;    // to the driver
        std::uint32_t descriptors = 0;
        std::deque<std::uint32_t> sizes;
        std::uint64_t failures = 0;
        std::uint64_t refused = 0;
        std::uint64_t returned = 0;
        for (int step = 0; step != 4'000; ++step) {
            switch (below(6)) {
            case 0:
            case 1:
            case 2: {
                std::vector<fragment> fragments;
                expected_packet packet{random(), {}};
                for (std::uint32_t left = 1 + below(std::min(8U, count - 1)); left != 0; --left) {
                    const fragment f{iova{random()}, 1 + below(2'036)};
                    fragments.push_back(f);
                    packet.pieces.push_back({f.address.raw, f.length});
                }
                const auto size = static_cast<std::uint32_t>(fragments.size());
                const bool batch = below(3) == 0;
                const auto sent =
                    batch ? ring.enqueue(fragments.data(), fragments.size(), packet.cookie)
                          : ring.send(fragments.data(), fragments.size(), packet.cookie);
                const std::uint32_t room = count - 1 - descriptors;
                if (size > room) {
                    failures += sent == error{errc::busy, room} ? 0 : 1;
                    ++refused;
                } else {
                    failures += sent.has_value() ? 0 : 1;
                    descriptors += size;
                    sizes.push_back(size);
                    in_flight.push_back(packet.cookie);
                    on_the_way.push_back(std::move(packet));
                }
                break;
            }
            case 3: ring.advance_tail(); break;
            case 4:
                device->transmit(below(12), [&](const piece* pieces, std::uint32_t n) {
                    failures += !on_the_way.empty() && std::equal(pieces, pieces + n,
                                                                  on_the_way.front().pieces.begin(),
                                                                  on_the_way.front().pieces.end())
                                    ? 0
                                    : 1;
                    on_the_way.pop_front();
                });
                device->write_back(below(20));
                break;
            default:
                returned += ring.reclaim([&](std::uint64_t cookie) {
                    failures += device->acquire_is_due ? 1 : 0;
                    failures += !in_flight.empty() && in_flight.front() == cookie ? 0 : 1;
                    descriptors -= sizes.front();
                    in_flight.pop_front();
                    sizes.pop_front();
                });
                break;
            }
            failures += ring.in_flight() == in_flight.size() ? 0 : 1;
            failures += ring.free_descriptors() == count - 1 - descriptors ? 0 : 1;
        }
        ring.advance_tail();
        device->transmit(everything, [&](const piece*, std::uint32_t) { on_the_way.pop_front(); });
        device->write_back(everything);
        ring.reclaim([&](std::uint64_t cookie) {
            failures += in_flight.front() == cookie ? 0 : 1;
            in_flight.pop_front();
        });
        INFO("seed " << seed << ", " << count << " descriptors, " << refused << " refused");
        CHECK(failures == 0);
        CHECK(in_flight.empty());
        CHECK(on_the_way.empty());
        CHECK(ring.stop().has_value());
        CHECK(returned > 100);
        CHECK((device->fault == nullptr ? "" : device->fault) == std::string{});
    }
}

TEST_CASE("a device that writes anything anywhere in the ring returns each cookie at most once",
          "[e1000e][rule 24]") {
    nic<64> device;
    std::vector<tx_slot> slots(64); // a sanitizer sees an index beyond it
    std::mt19937_64 random{24};
    auto ring = ring_on(device, slots.data(), 64);
    REQUIRE(ring.start().has_value());
    std::uint64_t sent = 0;
    std::uint64_t back = 0;
    bool in_order = true;
    for (int step = 0; step != 20'000; ++step) {
        const auto size = 1 + random() % 8;
        const fragment pieces[8] = {{iova{1}, 9}, {iova{2}, 9}, {iova{3}, 9}, {iova{4}, 9},
                                    {iova{5}, 9}, {iova{6}, 9}, {iova{7}, 9}, {iova{8}, 9}};
        sent += ring.send(pieces, size, sent).has_value() ? 1 : 0;
        device.memory[random() % 128] = random();
        device.memory[random() % 128] = ~std::uint64_t{0};
        device.tdh = static_cast<std::uint32_t>(random());
        const std::uint32_t held = ring.in_flight();
        const std::uint32_t packets =
            ring.reclaim([&](std::uint64_t cookie) { in_order &= cookie == back++; });
        in_order &= packets <= held && ring.in_flight() == held - packets;
    }
    CHECK(in_order);
    CHECK(back > 500);
    CHECK(back + ring.in_flight() == sent);
    // `fault` says nothing here: the model's own head is part of what was spoiled.
}

/// Wraps an 8-descriptor ring with packets of 1 to 5 fragments, and checks each on the device's side.
constexpr bool a_small_ring_wraps() {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    if (!ring.start()) {
        return false;
    }
    bool good = true;
    std::uint64_t back = 0;
    for (std::uint64_t cookie = 0; cookie != 20; ++cookie) {
        const std::uint32_t size = 1 + static_cast<std::uint32_t>(cookie % 5);
        const fragment pieces[5] = {{iova{cookie}, 11},
                                    {iova{cookie + 1}, 12},
                                    {iova{cookie + 2}, 13},
                                    {iova{cookie + 3}, 14},
                                    {iova{cookie + 4}, 15}};
        good &= ring.send(pieces, size, cookie).has_value();
        good &= ring.free_descriptors() == 7 - size;
        std::uint32_t packets = 0;
        device.transmit(everything, [&](const piece* seen, std::uint32_t n) {
            ++packets;
            good &= n == size;
            for (std::uint32_t i = 0; i != n; ++i) {
                good &= seen[i] == piece{cookie + i, 11 + i};
            }
        });
        device.write_back(everything);
        good &= packets == 1;
        good &= ring.reclaim([&](std::uint64_t c) { good &= c == back++; }) == 1;
    }
    return good && back == 20 && ring.stop().has_value() && device.fault == nullptr;
}
static_assert(a_small_ring_wraps());

TEST_CASE("a small ring wraps, at compile time and at run time", "[e1000e][rule 23]") {
    REQUIRE(a_small_ring_wraps());
}

} // namespace
