// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/tx_ring.hpp"

#include "transmitter.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::e1000e::context_use;
using pt::e1000e::family;
using pt::e1000e::fragment;
using pt::e1000e::queue;
using pt::e1000e::tx_descriptor;
using pt::e1000e::tx_interrupt;
using pt::e1000e::tx_offload;
using pt::e1000e::tx_report;
using pt::e1000e::tx_request;
using pt::e1000e::tx_settings;
using pt::e1000e::tx_slot;
using pt::e1000e::vlan_insertion;
using pt::e1000e::vlan_tag;
using transmitter::nic;
using transmitter::packet;
using transmitter::piece;

template <class Nic>
using ring_of = pt::e1000e::tx_ring<transmitter::registers<Nic>, transmitter::ring_memory<Nic>,
                                    transmitter::order<Nic>>;

template <class Nic>
constexpr ring_of<Nic> ring_on(Nic& device, tx_slot* slots, std::uint32_t count,
                               iova base = iova{0x1'2345'6780}, tx_settings settings = {}) {
    return {{&device}, {&device}, {&device}, base, slots, count, settings};
}
template <class Nic>
constexpr ring_of<Nic> ring_on(Nic& device, tx_slot* slots, std::uint32_t count,
                               tx_settings settings) {
    return ring_on(device, slots, count, iova{0x1'2345'6780}, settings);
}

constexpr auto ignore = [](std::uint64_t) {};
constexpr auto no_packets = [](const packet&) {};
constexpr std::uint32_t everything = 0xFFFF'FFFF;

template <class Nic>
std::string fault_of(const Nic& device) {
    return device.fault == nullptr ? "none" : device.fault;
}

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
    CHECK(device.txdctl == 0x01C0'0000); // GRAN, thresholds 0, bit 22, bit 23 as it was
    CHECK(device.tarc == 0x0000'0403);   // the queue takes part
    CHECK(device.tidv == 0);             // nothing is delayed
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
               // what is behind the tail is nobody's
               std::equal(std::begin(device.memory), std::begin(device.memory) + 2 * 3,
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
    CHECK(ring.send({{iova{0x1000}, 16}}, 2) == error{errc::out_of_range, 16}); // below 17
    CHECK(ring.send({{iova{0x1000}, 1}, {iova{0x2000}, 1}}, 2) == error{errc::out_of_range, 2});
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

TEST_CASE("full is never empty, at any ring size and with any reports",
          "[e1000e][82574][rule 23]") {
    const auto device = std::make_unique<nic<65'528>>();
    std::vector<tx_slot> slots(65'528);
    for (const std::uint32_t count : {8U, 16U, 24U, 64U, 1'000U, 65'528U}) {
        for (const tx_report report :
             {tx_report::each_packet(), tx_report::every(2), tx_report::every(5),
              tx_report::every(100'000), tx_report::while_idle()}) {
            device->tctl &= ~transmitter::EN;
            auto ring = ring_on(*device, slots.data(), count, {.report = report});
            REQUIRE(ring.start().has_value());
            // One stays free, and one more to ask for a report by.
            const std::uint32_t room = report == tx_report::each_packet() ? count - 1 : count - 2;
            std::uint64_t sent = 0;
            std::uint64_t back = 0;
            bool in_order = true;
            const auto take = [&](std::uint64_t cookie) { in_order &= cookie == back++; };
            for (int round = 0; round != 3; ++round) { // the tail starts elsewhere each time
                CHECK(ring.free_descriptors() == room);
                std::uint32_t held = 0;
                while (ring.send({{iova{0x1000}, 60}}, sent)) {
                    ++held;
                    ++sent;
                }
                CHECK(held == room);
                CHECK(device->pending() == room);
                CHECK(device->tdh != device->tdt);
                device->transmit(everything, no_packets);
                CHECK(device->tdh == device->tdt);
                CHECK(ring.reclaim(ignore) == 0); // done, but no DD yet
                int looks = 0;
                for (; ring.in_flight() != 0 && looks != 4; ++looks) {
                    device->transmit(everything, no_packets);
                    device->write_back(everything);
                    ring.reclaim(take);
                }
                CHECK(looks <= 3); // reported ones, those behind them, and nothing more
                CHECK(ring.in_flight() == 0);
            }
            CHECK(in_order);
            CHECK(back == sent);
            CHECK(fault_of(*device) == "none");
        }
    }
}

TEST_CASE("many packets, one write of the tail", "[e1000e]") {
    nic<64> device;
    tx_slot slots[64];
    auto ring = ring_on(device, slots, 64);
    REQUIRE(ring.start().has_value());
    for (std::uint64_t i = 0; i != 32; ++i) {
        REQUIRE(ring.enqueue({{iova{0x1000 + i * 0x1000}, 60}}, i).has_value());
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
    SECTION("one that is reported by itself") {
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 1).has_value());
        device.memory[1] |= 1ULL << 32; // a device that writes where it must not
        CHECK(ring.reclaim(ignore) == 0);
        CHECK(ring.in_flight() == 1);
    }
    SECTION("one that reports another, which the device knows") {
        auto ring = ring_on(device, slots, 8, {.report = tx_report::every(2)});
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
        REQUIRE(ring.enqueue({{iova{0x2000}, 60}}, 2).has_value());
        device.memory[3] |= 1ULL << 32;
        CHECK(ring.reclaim(ignore) == 0);
        CHECK(ring.in_flight() == 2);
        ring.advance_tail();
        CHECK(ring.reclaim(ignore) == 2);
    }
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

TEST_CASE("queue 1 has registers of its own", "[e1000e][82574]") {
    nic<8> device; // which blames every access to those of queue 0
    device.queue_at = 0x100;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8, iova{0x8000}, {.number = queue::second});
    CHECK(ring.number() == queue::second);
    REQUIRE(ring.start().has_value());
    CHECK(device.tdlen == 128);
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
    CHECK(device.tdt == 1);
    CHECK(ring.head().value() == 0);
    device.transmit(everything, no_packets);
    CHECK(ring.head().value() == 1);
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 1);
    device.gone = true;
    CHECK(ring.head().error() == error{errc::absent, 0x3910});
    CHECK(fault_of(device) == "none");
}

/// A NIC with both queues: what they share goes to both.
struct both_queues {
    nic<8>* first;
    nic<8>* second;
    [[nodiscard]] static bool is_of_second(std::uint32_t offset) { return offset >= 0x3900; }
    std::uint32_t read32(std::uint32_t offset) {
        return (is_of_second(offset) ? second : first)->read32(offset);
    }
    void write32(std::uint32_t offset, std::uint32_t value) {
        if (offset < 0x3800 || !is_of_second(offset)) {
            first->write32(offset, value);
        }
        if (offset < 0x3800 || is_of_second(offset)) {
            second->write32(offset, value);
        }
    }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write64(std::uint32_t, std::uint64_t) {}
};

TEST_CASE("both queues are prepared before the transmitter is enabled", "[e1000e][82574]") {
    nic<8> models[2];
    models[1].queue_at = 0x100;
    tx_slot slots[2][8];
    using ring_of_two = pt::e1000e::tx_ring<both_queues, transmitter::ring_memory<nic<8>>,
                                            transmitter::order<nic<8>>>;
    const both_queues shared{&models[0], &models[1]};
    ring_of_two first{shared, {&models[0]}, {&models[0]}, iova{0x8000}, slots[0], 8};
    ring_of_two second{
        shared, {&models[1]}, {&models[1]}, iova{0x9000}, slots[1], 8, {.number = queue::second}};
    REQUIRE(first.prepare().has_value());
    REQUIRE(second.start().has_value());
    CHECK(models[0].enabled());
    CHECK(models[1].enabled());
    CHECK(models[0].tdbal == 0x8000);
    CHECK(models[1].tdbal == 0x9000);
    // One that comes later must wait until both are disabled.
    CHECK(first.prepare() == error{errc::busy, 0x400});
    std::uint32_t packets = 0;
    for (int i = 0; i != 2; ++i) {
        auto& ring = i == 0 ? first : second;
        REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
        models[i].transmit(everything, [&](const packet&) { ++packets; });
        models[i].write_back(everything);
        CHECK(ring.reclaim(ignore) == 1);
    }
    CHECK(packets == 2);
    CHECK(fault_of(models[0]) == "none");
    CHECK(fault_of(models[1]) == "none");
}

TEST_CASE("8254x has no TARC, and TXDCTL bit 22 is reserved", "[e1000e][8254x]") {
    nic<8> device;
    device.is_8254x = true;
    device.txdctl = 0;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8, {.members = family::pci});
    CHECK(ring.members() == family::pci);
    REQUIRE(ring.start().has_value());
    CHECK(device.txdctl == 0x0100'0000);
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
    device.transmit(everything, no_packets);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("8254x does not segment", "[e1000e][8254x]") {
    nic<16> device;
    tx_slot slots[16];
    using pt::e1000e::ip_version;
    const tx_offload v4 = *tx_offload::segmentation({14, 34}, 54, 1'460);
    const tx_offload v6 = *tx_offload::segmentation({14, 54, ip_version::v6}, 74, 1'440);
    const tx_offload sums = *tx_offload::checksums({14, 54, ip_version::v6});
    CHECK(v4.version() == ip_version::v4);
    CHECK(v6.version() == ip_version::v6);
    for (const family members : {family::pci, family::pci_express}) {
        device = {};
        device.is_8254x = members == family::pci;
        auto ring = ring_on(device, slots, 16, {.members = members});
        CHECK(ring.has_segmentation() == (members == family::pci_express));
        REQUIRE(ring.start().has_value());
        const pt::result<> expected =
            members == family::pci ? pt::result<>{error{errc::not_supported, 0}} : pt::result<>{};
        CHECK(ring.send({{iova{0x1000}, 5'000}}, 1, {.offload = v6}) == expected);
        CHECK(ring.send({{iova{0x1000}, 5'000}}, 2, {.offload = v4}) == expected);
        CHECK(ring.send({{iova{0x1000}, 1'000}}, 3, {.offload = sums}).has_value());
        CHECK(ring.in_flight() == (members == family::pci ? 1 : 3));
    }
}

TEST_CASE("a queue that takes no part is made to", "[e1000e][82574]") {
    nic<8> device;
    device.tarc = 0x0800'0003; // the initial value of some members without ENABLE
    device.txdctl = 0;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    CHECK(device.tarc == 0x0800'0403);
    CHECK(device.txdctl == 0x0140'0000);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("interrupts are delayed for those packets that want it, if there is a delay",
          "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    const auto delay = GENERATE(std::uint16_t{0}, std::uint16_t{8});
    auto ring = ring_on(device, slots, 8, {.interrupt_delay = delay, .absolute_delay = 32});
    REQUIRE(ring.start().has_value());
    CHECK(device.tidv == delay);
    CHECK(device.tadv == (delay == 0 ? 0 : 32));
    std::vector<bool> delayed;
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 1, {.interrupt = tx_interrupt::delayed}).has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 2, {.interrupt = tx_interrupt::at_once}).has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 3).has_value());
    device.transmit(everything, [&](const packet& p) { delayed.push_back(p.delayed()); });
    CHECK(delayed == std::vector<bool>{delay != 0, false, false});
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a ring is prepared, and sends what it holds when the transmitter is enabled",
          "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.prepare().has_value());
    CHECK(!device.enabled());
    CHECK(ring.free_descriptors() == 7);
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
    std::uint32_t packets = 0;
    const auto count = [&](const packet&) { ++packets; };
    device.transmit(everything, count);
    CHECK(packets == 0);
    REQUIRE(ring.resume().has_value());
    device.transmit(everything, count);
    CHECK(packets == 1);
    CHECK(ring.prepare() == error{errc::busy, 1}); // not while a packet is in flight,
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 1);
    CHECK(ring.prepare() == error{errc::busy, 0x400}); // nor while enabled
    CHECK(ring.send({{iova{0x1000}, 60}}, 2).has_value());
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a ring that pauses keeps its packets and takes more", "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    const std::uint32_t control = device.tctl;
    REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}}, 1).has_value());
    REQUIRE(ring.send({{iova{0x3000}, 60}}, 2).has_value());
    std::vector<std::uint64_t> seen;
    const auto see = [&](const packet& p) { seen.push_back(p.pieces[0].address); };
    device.transmit(1, see); // in the middle of the first
    REQUIRE(ring.pause().has_value());
    CHECK(device.tctl == (control & ~transmitter::EN));
    REQUIRE(ring.send({{iova{0x4000}, 60}}, 3).has_value());
    CHECK(ring.in_flight() == 3);
    CHECK(ring.reclaim(ignore) == 0);
    device.transmit(everything, see);
    CHECK(seen.empty());
    REQUIRE(ring.resume().has_value());
    CHECK(device.tctl == control);
    device.transmit(everything, see);
    CHECK(seen == std::vector<std::uint64_t>{0x1000, 0x3000, 0x4000});
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 3);
    device.never_enables = true;
    REQUIRE(ring.pause().has_value());
    CHECK(ring.resume() == error{errc::hardware_fault, 0x400});
    device.gone = true;
    CHECK(ring.pause() == error{errc::absent, 0x400});
    CHECK(ring.resume() == error{errc::absent, 0x400});
    CHECK(fault_of(device) == "none");
}

TEST_CASE("packets ask for reports as it was settled", "[e1000e][82574][rule 24]") {
    nic<64> device;
    tx_slot slots[64];
    std::vector<bool> reported;
    const auto see = [&](const packet& p) { reported.push_back(p.reported()); };
    const auto send = [](auto& ring, std::uint64_t packets) {
        for (std::uint64_t i = 0; i != packets; ++i) {
            REQUIRE(ring.send({{iova{0x1000}, 60}}, i).has_value());
        }
    };
    std::vector<std::uint64_t> back;
    const auto take = [&](std::uint64_t cookie) { back.push_back(cookie); };

    SECTION("each") {
        auto ring = ring_on(device, slots, 64);
        REQUIRE(ring.start().has_value());
        send(ring, 3);
        device.transmit(everything, see);
        CHECK(reported == std::vector<bool>{true, true, true});
    }
    SECTION("every third") {
        auto ring = ring_on(device, slots, 64, {.report = tx_report::every(3)});
        REQUIRE(ring.start().has_value());
        send(ring, 7);
        device.transmit(2, see);
        device.write_back(everything);
        CHECK(ring.reclaim(take) == 0); // the report comes with the third
        device.transmit(everything, see);
        CHECK(reported == std::vector<bool>{false, false, true, false, false, true, false});
        device.write_back(2); // up to the fourth
        CHECK(ring.reclaim(take) == 3);
        device.write_back(everything);
        CHECK(device.tail_writes == 7);
        // Three more, and the last is left alone: the ring asks for it by a context descriptor.
        CHECK(ring.reclaim(take) == 3);
        CHECK(device.tail_writes == 8);
        CHECK(device.memory[15] == 0x0000'0000'2800'0000); // DEXT and RS: a context, and no data
        CHECK(ring.reclaim(take) == 0);
        CHECK(device.tail_writes == 8); // once is enough
        device.transmit(everything, see);
        device.write_back(everything);
        CHECK(ring.reclaim(take) == 1);
        CHECK(back == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6});
        CHECK(reported.size() == 7); // it was no packet
        CHECK(ring.free_descriptors() == 62);
        CHECK(ring.stop().has_value());
    }
    SECTION("while idle") {
        auto ring = ring_on(device, slots, 64, {.report = tx_report::while_idle()});
        REQUIRE(ring.start().has_value());
        send(ring, 5);
        device.transmit(everything, see);
        CHECK(reported == std::vector<bool>{true, false, false, false, false});
        device.write_back(everything);
        CHECK(ring.reclaim(take) == 1);
        CHECK(device.contexts == 0);
        send(ring, 1); // while the question is on its way
        device.transmit(everything, see);
        CHECK(device.contexts == 1);
        CHECK(!reported.back());
        device.write_back(everything);
        while (ring.reclaim(take) != 0) {
            device.transmit(everything, see);
            device.write_back(everything);
        }
        CHECK(back == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 0});
        CHECK(ring.in_flight() == 0);
    }
    SECTION("packets that the device does not know of are not asked for") {
        auto ring = ring_on(device, slots, 64, {.report = tx_report::every(10)});
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 0).has_value());
        CHECK(ring.reclaim(take) == 0);
        CHECK(device.tail_writes == 0);
        ring.advance_tail();
        CHECK(ring.reclaim(take) == 0);
        CHECK(device.tail_writes == 2); // the packet, and the question
        CHECK(device.contexts == 0);
        device.transmit(everything, see);
        CHECK(device.contexts == 1);
    }
    SECTION("abandoned in the middle") {
        auto ring = ring_on(device, slots, 64, {.report = tx_report::every(3)});
        REQUIRE(ring.start().has_value());
        send(ring, 7);
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}, {iova{0x2000}, 60}}, 7).has_value());
        CHECK(ring.abandon(take) == 8);
        CHECK(back == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7});
        CHECK(ring.free_descriptors() == 0);
        REQUIRE(ring.start().has_value());
        CHECK(ring.free_descriptors() == 62);
        send(ring, 3);
        device.transmit(everything, see);
        CHECK(reported == std::vector<bool>{false, false, true});
    }
    CHECK(fault_of(device) == "none");
}

/// What the model got for a request, in the terms of the request.
const tx_offload checksums = *tx_offload::checksums({.ip = 14, .transport_at = 34});
const tx_offload other_checksums =
    *tx_offload::checksums({14, 54, pt::e1000e::ip_version::v6, pt::e1000e::transport::udp});

transmitter::context context_of(const tx_offload& offload, std::uint32_t payload = 0) {
    const tx_descriptor made = offload.context(payload);
    return {made.low, made.high};
}

TEST_CASE("a context goes out again only when it changes", "[e1000e][82574][rule 25]") {
    nic<64> device;
    tx_slot slots[64];
    const context_use use = GENERATE(context_use::reused, context_use::repeated);
    const bool repeats = use == context_use::repeated;
    auto ring = ring_on(device, slots, 64, {.contexts = use});
    REQUIRE(ring.start().has_value());
    std::vector<packet> seen;
    const auto send = [&](const tx_offload& offload) {
        if (repeats) {
            device.other_queue_sends();
        }
        const unsigned before = device.contexts;
        REQUIRE(ring.send({{iova{0x1000}, 100}}, 0, {.offload = offload}).has_value());
        device.transmit(everything, [&](const packet& p) { seen.push_back(p); });
        return device.contexts - before;
    };
    const unsigned again = repeats ? 1 : 0;
    CHECK(send(checksums) == 1);
    CHECK(send(checksums) == again);
    CHECK(send({}) == 0); // a legacy descriptor needs none, and leaves it
    CHECK(send(checksums) == again);
    CHECK(send(other_checksums) == 1);
    CHECK(send(other_checksums) == again);
    CHECK(send(checksums) == 1);
    REQUIRE(seen.size() == 7);
    for (const std::size_t i : {0U, 1U, 3U, 6U}) {
        CHECK(seen[i].used == context_of(checksums));
        CHECK(seen[i].options() == 3);
    }
    for (const std::size_t i : {4U, 5U}) {
        CHECK(seen[i].used == context_of(other_checksums));
        CHECK(seen[i].options() == 2);
    }
    CHECK(!seen[2].is_data());
    // Segmentation: always, since nothing says that a context survives its packet.
    const tx_offload segments = *tx_offload::segmentation({14, 34}, 54, 20);
    CHECK(send(segments) == 1);
    CHECK(send(segments) == 1);
    CHECK(seen.back().used == context_of(segments, 46));
    CHECK(send(checksums) == 1);
    // A reset takes the context away.
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 10);
    REQUIRE(ring.stop().has_value());
    REQUIRE(ring.start().has_value());
    CHECK(send(checksums) == 1);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a question for a report leaves the context as it is", "[e1000e][rule 25]") {
    nic<64> device;
    tx_slot slots[64];
    auto ring = ring_on(device, slots, 64, {.report = tx_report::every(50)});
    REQUIRE(ring.start().has_value());
    std::vector<packet> seen;
    const auto see = [&](const packet& p) { seen.push_back(p); };
    REQUIRE(ring.send({{iova{0x1000}, 100}}, 1, {.offload = checksums}).has_value());
    CHECK(ring.reclaim(ignore) == 0); // asks
    REQUIRE(ring.send({{iova{0x1000}, 100}}, 2, {.offload = checksums}).has_value());
    device.transmit(everything, see);
    CHECK(device.contexts == 2);
    REQUIRE(seen.size() == 2);
    CHECK(seen[1].used == context_of(checksums));
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 1);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a question for a report announces no data to segment", "[e1000e][rule 25]") {
    nic<64> device;
    tx_slot slots[64];
    auto ring = ring_on(device, slots, 64, {.report = tx_report::every(50)});
    REQUIRE(ring.start().has_value());
    const tx_offload segments = *tx_offload::segmentation({14, 34}, 54, 1'460);
    REQUIRE(ring.send({{iova{0x1000}, 3'000}}, 1, {.offload = segments}).has_value());
    CHECK(ring.reclaim(ignore) == 0);               // asks
    CHECK(device.memory[2 * 2 + 1] == 0x2800'0000); // DEXT and RS; no TSE, no PAYLEN
    CHECK(device.memory[2 * 2] == 0);
    // And what comes next says what it needs.
    std::vector<packet> seen;
    REQUIRE(ring.send({{iova{0x1000}, 100}}, 2, {.offload = checksums}).has_value());
    device.transmit(everything, [&](const packet& p) { seen.push_back(p); });
    REQUIRE(seen.size() == 2);
    CHECK(seen[1].used == context_of(checksums));
    device.write_back(everything);
    CHECK(ring.reclaim(ignore) == 1);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("nothing is stopped or prepared while cookies are handed back", "[e1000e][rule 24]") {
    nic<16> device;
    tx_slot slots[16];
    for (const tx_report report : {tx_report::each_packet(), tx_report::every(2)}) {
        device = {};
        auto ring = ring_on(device, slots, 16, {.report = report});
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 1).has_value());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 2).has_value());
        ring.advance_tail();
        device.transmit(everything, no_packets);
        device.write_back(everything);
        std::uint64_t next = 1;
        ring.reclaim([&](std::uint64_t cookie) {
            CHECK(cookie == next++);
            CHECK(ring.stop() == error{errc::busy, ring.in_flight()});
            CHECK(ring.prepare() == error{errc::busy, ring.in_flight()});
        });
        CHECK(next == 3);
        CHECK(ring.stop().has_value());
    }
    CHECK(fault_of(device) == "none");
}

TEST_CASE("short packets are padded to 17 bytes from the caller's zeros", "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8, {.padding = iova{0x7000}});
    REQUIRE(ring.start().has_value());
    for (std::uint32_t length = 1; length != 20; ++length) {
        REQUIRE(ring.send({{iova{0x1000}, length}}, length).has_value());
        device.transmit(everything, [&](const packet& p) {
            CHECK(p.count == (length < 17 ? 2 : 1));
            CHECK(p.pieces[0] == piece{0x1000, length});
            if (p.count == 2) {
                CHECK(p.pieces[1] == piece{0x7000, 17 - length});
            }
        });
        device.write_back(everything);
        CHECK(ring.reclaim(ignore) == 1);
    }
    // Pieces count together, and the padding needs a descriptor of its own.
    const fragment bytes[7] = {{iova{1}, 1}, {iova{2}, 1}, {iova{3}, 1}, {iova{4}, 1},
                               {iova{5}, 1}, {iova{6}, 1}, {iova{7}, 1}};
    CHECK(ring.send(bytes, 7, 1) == error{errc::out_of_range, 7});
    CHECK(ring.send(bytes, 6, 1).has_value());
    device.transmit(everything, [&](const packet& p) {
        CHECK(p.count == 7);
        CHECK(p.length == 17);
    });
    CHECK(ring.send(bytes, 1, 1) == error{errc::busy, 0});
    CHECK(fault_of(device) == "none");
}

TEST_CASE("8254x is given nothing to pad", "[e1000e][8254x]") {
    nic<8> device;
    device.is_8254x = true;
    device.txdctl = 0;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8, {.members = family::pci, .padding = iova{0x7000}});
    CHECK(ring.least_packet() == 60);
    REQUIRE(ring.start().has_value());
    for (std::uint32_t length = 1; length != 64; ++length) {
        REQUIRE(ring.send({{iova{0x1000}, length}}, length).has_value());
        device.transmit(everything, [&](const packet& p) {
            CHECK(p.count == (length < 60 ? 2 : 1));
            CHECK(p.length == std::max(length, 60U));
        });
        device.write_back(everything);
        CHECK(ring.reclaim(ignore) == 1);
    }
    CHECK(fault_of(device) == "none");
}

TEST_CASE("no data is at address 0 or past the end of the address space",
          "[e1000e][82574][rule 24]") {
    nic<16> device;
    tx_slot slots[16];
    constexpr std::uint64_t end = ~std::uint64_t{0};
    for (const tx_report report : {tx_report::each_packet(), tx_report::every(3)}) {
        device.tctl &= ~transmitter::EN;
        auto ring = ring_on(device, slots, 16, {.report = report, .padding = iova{0x7000}});
        REQUIRE(ring.start().has_value());
        const error nothing_there{errc::reserved_address, 0};
        CHECK(ring.send({{iova{0}, 100}}, 1) == nothing_there);
        CHECK(ring.send({{iova{0}, 10}}, 1) == nothing_there);
        CHECK(ring.send({{iova{0}, 100}}, 1, {.offload = checksums}) == nothing_there);
        CHECK(ring.send({{iova{0x1000}, 60}, {iova{0}, 100}}, 1) ==
              error{errc::reserved_address, 1});
        CHECK(ring.send({{iova{end - 98}, 100}}, 1) == error{errc::out_of_range, 0});
        CHECK(ring.send({{iova{0x1000}, 60}, {iova{end}, 2}}, 1) == error{errc::out_of_range, 1});
        const pt::e1000e::tx_packet packets[] = {
            {iova{0x1000}, 60, 1}, {iova{0}, 60, 2}, {iova{0x1000}, 60, 3}};
        const pt::e1000e::tx_batch batch = ring.send_all(packets, 3);
        CHECK(batch.sent == 1);
        CHECK(batch.stopped == nothing_there);
        CHECK(ring.in_flight() == 1);
        // Up to the last byte.
        CHECK(ring.send({{iova{end - 99}, 100}}, 2).has_value());
        CHECK(ring.send({{iova{1}, 100}, {iova{end}, 1}}, 3).has_value());
        unsigned sent = 0;
        device.transmit(everything, [&](const packet&) { ++sent; });
        CHECK(sent == 3);
        device.write_back(everything);
        ring.reclaim(ignore);
        ring.abandon(ignore);
    }
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a ring that was abandoned does not enable the transmitter", "[e1000e][rule 24]") {
    nic<16> device;
    tx_slot slots[16];
    auto ring = ring_on(device, slots, 16);
    const error not_started{errc::busy, 0};
    CHECK(ring.resume() == not_started);
    CHECK(device.register_writes == 0);
    REQUIRE(ring.start().has_value());
    REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
    REQUIRE(ring.enqueue({{iova{0x2000}, 60}}, 2).has_value());
    std::uint64_t next = 1;
    const std::uint32_t back = ring.abandon([&](std::uint64_t cookie) {
        CHECK(cookie == next++);
        const auto writes = device.register_writes;
        ring.advance_tail(); // announces nothing
        CHECK(ring.start() == error{errc::busy, ring.in_flight()});
        CHECK(ring.send({{iova{0x3000}, 60}}, 3) == error{errc::busy, 0});
        CHECK(ring.resume() == not_started);
        CHECK(device.register_writes == writes);
    });
    CHECK(back == 2);
    CHECK(device.tdt == 1);
    CHECK(ring.resume() == not_started);
    CHECK(!device.enabled());
}

TEST_CASE("whether a packet is done can be asked", "[e1000e][rule 24]") {
    nic<16> device;
    tx_slot slots[16];
    for (const tx_report report : {tx_report::each_packet(), tx_report::every(2)}) {
        device = {};
        auto ring = ring_on(device, slots, 16, {.report = report});
        CHECK(!ring.has_done());
        REQUIRE(ring.start().has_value());
        CHECK(!ring.has_done());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 1).has_value());
        REQUIRE(ring.enqueue({{iova{0x1000}, 60}}, 2).has_value());
        CHECK(!ring.has_done());
        ring.advance_tail();
        CHECK(!ring.has_done());
        device.transmit(everything, no_packets);
        CHECK(!ring.has_done());
        device.write_back(everything);
        CHECK(ring.has_done());
        CHECK(ring.reclaim(ignore) == 2);
        CHECK(!ring.has_done());
    }
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a ring of each size holds one packet less, wherever it begins",
          "[e1000e][82574][rule 23]") {
    // The model is too slow for this: registers in memory, and DD as it comes to be looked at.
    struct window {
        std::vector<std::uint32_t>* values;
        std::uint32_t read32(std::uint32_t at) { return (*values)[at / 4]; }
        void write32(std::uint32_t at, std::uint32_t value) { (*values)[at / 4] = value; }
        std::uint64_t read64(std::uint32_t) { return 0; }
        void write64(std::uint32_t, std::uint64_t) {}
    };
    struct descriptors {
        std::vector<std::uint64_t>* words;
        bool* done;
        std::uint64_t read64(std::uint32_t at) {
            return words->at(at / 8) | (*done ? 1ULL << 32 : 0);
        }
        void write64(std::uint32_t at, std::uint64_t value) { words->at(at / 8) = value; }
    };
    struct order {
        void release() {}
        void acquire() {}
    };
    std::vector<std::uint32_t> registers(0x5000 / 4);
    std::vector<tx_slot> slots(65'528);
    std::vector<std::uint64_t> words;
    const std::vector<pt::e1000e::tx_packet> packets(65'528, {iova{0x1000}, 60, 7});
    bool done = false;
    std::vector<std::uint32_t> sizes;
    for (std::uint32_t size = 8; size <= 3'072; size += 8) {
        sizes.push_back(size);
    }
    for (std::uint32_t power = 4'096; power <= 65'536; power *= 2) {
        sizes.insert(sizes.end(), {power - 16, power - 8});
        if (power != 65'536) {
            sizes.insert(sizes.end(), {power, power + 8});
        }
    }
    unsigned wrong = 0;
    for (const std::uint32_t size : sizes) {
        words.assign(std::size_t{2} * size, 0);
        registers[0x400 / 4] = 0;
        pt::e1000e::tx_ring<window, descriptors, order> ring{{&registers},  {&words, &done}, {},
                                                             iova{0x10000}, slots.data(),    size};
        wrong += ring.start().has_value() ? 0 : 1;
        for (const std::uint32_t begin : {0U, size - 2, 3U}) {
            // To where this round begins.
            const std::uint32_t skipped = (begin + size - ring.tail()) % size;
            wrong += ring.send_all(packets.data(), skipped).sent == skipped ? 0 : 1;
            done = true;
            wrong += ring.reclaim(ignore) == skipped ? 0 : 1;
            done = false;
            wrong += ring.tail() == begin && ring.free_descriptors() == size - 1 ? 0 : 1;

            const pt::e1000e::tx_batch all = ring.send_all(packets.data(), size);
            wrong += all == pt::e1000e::tx_batch{size - 1, {errc::busy, 0}} ? 0 : 1;
            wrong += registers[0x3818 / 4] == (begin + size - 1) % size ? 0 : 1;
            wrong += ring.in_flight() == size - 1 && ring.reclaim(ignore) == 0 ? 0 : 1;
            done = true;
            wrong += ring.reclaim(ignore) == size - 1 && ring.in_flight() == 0 ? 0 : 1;
            done = false;
        }
    }
    CHECK(wrong == 0);
}

TEST_CASE("a packet fits the transmit FIFO that PBA leaves, less 80 bytes", "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    const unsigned kib = GENERATE(0U, 1U, 8U, 15U, 16U, 20U, 0xFFFFU);
    device.pba = kib << 16 | 20;
    // 16 KiB less 80 is more than a packet may ever have; 0 says nothing.
    const std::uint32_t most = kib == 1 ? 944 : kib == 8 ? 8'112 : kib == 15 ? 15'280 : 16'288;
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    CHECK(ring.send({{iova{0x1000}, most}}, 1).has_value());
    CHECK(ring.send({{iova{0x1000}, most + 1}}, 2) == error{errc::out_of_range, 0});
    CHECK(ring.send({{iova{0x1000}, most - 20}, {iova{0x9000}, 20}}, 3).has_value());
    CHECK(ring.send({{iova{0x1000}, most - 20}, {iova{0x9000}, 21}}, 4) ==
          error{errc::out_of_range, 1});
    CHECK(ring.send({{iova{0x1000}, most + 1}}, 5, {.offload = checksums}) ==
          error{errc::out_of_range, 0});
    const pt::e1000e::tx_packet whole{iova{0x1000}, most + 1, 6};
    CHECK(ring.send_all(&whole, 1) == pt::e1000e::tx_batch{0, error{errc::out_of_range, 0}});
    // A segment and its headers, too.
    const auto size = static_cast<std::uint16_t>(most - 54);
    const tx_offload fits = *tx_offload::segmentation({14, 34}, 54, size);
    const tx_offload does_not =
        *tx_offload::segmentation({14, 34}, 54, static_cast<std::uint16_t>(size + 1));
    CHECK(ring.send({{iova{0x1000}, 16'000}}, 7, {.offload = fits}).has_value());
    CHECK(ring.send({{iova{0x1000}, 16'000}}, 8, {.offload = does_not}) ==
          error{errc::out_of_range, most + 1});
    device.transmit(everything, no_packets);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("a packet has the headers that it is computed in", "[e1000e]") {
    nic<16> device;
    tx_slot slots[16];
    auto ring = ring_on(device, slots, 16, {.padding = iova{0x7000}});
    REQUIRE(ring.start().has_value());
    const tx_offload segments = *tx_offload::segmentation({14, 34}, 54, 1'460);
    CHECK(ring.send({{iova{0x1000}, 53}}, 1, {.offload = checksums}) ==
          error{errc::out_of_range, 53});
    CHECK(ring.send({{iova{0x1000}, 10}}, 1, {.offload = checksums}) ==
          error{errc::out_of_range, 10}); // padding does not make headers
    CHECK(ring.send({{iova{0x1000}, 54}}, 1, {.offload = checksums}).has_value());
    CHECK(ring.send({{iova{0x1000}, 54}}, 1, {.offload = segments}) ==
          error{errc::out_of_range, 54});
    // Headers to segment by lie in one piece; others may be cut.
    CHECK(ring.send({{iova{0x1000}, 53}, {iova{0x2000}, 15}}, 1, {.offload = segments}) ==
          error{errc::out_of_range, 0});
    CHECK(
        ring.send({{iova{0x1000}, 54}, {iova{0x2000}, 15}}, 1, {.offload = segments}).has_value());
    CHECK(
        ring.send({{iova{0x1000}, 40}, {iova{0x2000}, 15}}, 1, {.offload = checksums}).has_value());
    device.transmit(everything, no_packets);
    CHECK(fault_of(device) == "none");
}

TEST_CASE("segmentation takes 2^20 - 1 bytes of payload, in descriptors of 16,288 at most",
          "[e1000e][82574][rule 25]") {
    const auto device = std::make_unique<nic<128>>();
    std::vector<tx_slot> slots(128);
    auto ring = ring_on(*device, slots.data(), 128);
    REQUIRE(ring.start().has_value());
    const tx_request segments{.offload = *tx_offload::segmentation({14, 34}, 54, 1'460)};
    std::vector<packet> seen;
    const auto see = [&](const packet& p) { seen.push_back(p); };

    SECTION("split where a descriptor is full") {
        REQUIRE(ring.send({{iova{0x10'0000}, 54}, {iova{0x20'0000}, 16'288}}, 1, segments));
        REQUIRE(ring.send({{iova{0x10'0000}, 54}, {iova{0x20'0000}, 16'289}}, 2, segments));
        REQUIRE(ring.send({{iova{0x10'0000}, 40'000}, {iova{0x20'0000}, 32'576}}, 3, segments));
        device->transmit(everything, see);
        REQUIRE(seen.size() == 3);
        CHECK(seen[0].count == 2);
        CHECK(seen[1].count == 3);
        CHECK(seen[1].pieces[1] == piece{0x20'0000, 16'288});
        CHECK(seen[1].pieces[2] == piece{0x20'3FA0, 1});
        CHECK(seen[2].count == 5);
        CHECK(seen[2].pieces[0] == piece{0x10'0000, 16'288});
        CHECK(seen[2].pieces[1] == piece{0x10'3FA0, 16'288});
        CHECK(seen[2].pieces[2] == piece{0x10'7F40, 7'424});
        CHECK(seen[2].pieces[3] == piece{0x20'0000, 16'288});
        CHECK(seen[2].pieces[4] == piece{0x20'3FA0, 16'288});
        CHECK(seen[2].used == context_of(segments.offload, 72'576 - 54));
        CHECK(ring.free_descriptors() == 127 - 3 - 4 - 6);
    }
    SECTION("the largest") {
        const std::uint32_t most = 54 + 0xF'FFFF;
        CHECK(ring.send({{iova{0x10'0000}, most + 1}}, 1, segments) ==
              error{errc::out_of_range, 0});
        CHECK(ring.send({{iova{0x10'0000}, most}, {iova{0x90'0000}, 1}}, 1, segments) ==
              error{errc::out_of_range, 1});
        REQUIRE(ring.send({{iova{0x10'0000}, most}}, 1, segments).has_value());
        device->transmit(everything, see);
        REQUIRE(seen.size() == 1);
        CHECK(seen[0].length == most);
        CHECK(seen[0].count == 65);
        CHECK((seen[0].used.high & 0xF'FFFF) == 0xF'FFFF);
        // not twice: the descriptors of the split count
        CHECK(ring.send({{iova{0x10'0000}, most}}, 2, segments) == error{errc::busy, 61});
    }
    SECTION("more than the ring has") {
        std::vector<tx_slot> few(8);
        const auto small = std::make_unique<nic<8>>();
        auto small_ring = ring_on(*small, few.data(), 8);
        REQUIRE(small_ring.start().has_value());
        CHECK(small_ring.send({{iova{0x10'0000}, 7 * 16'288}}, 1, segments) ==
              error{errc::out_of_range, 1});
        CHECK(small_ring.send({{iova{0x10'0000}, 6 * 16'288}}, 1, segments).has_value());
        small->transmit(everything, see);
        CHECK(fault_of(*small) == "none");
    }
    CHECK(fault_of(*device) == "none");
}

TEST_CASE("a tag is in each descriptor that the NIC looks for it in", "[e1000e][82574]") {
    nic<8> device;
    tx_slot slots[8];
    auto ring = ring_on(device, slots, 8);
    REQUIRE(ring.start().has_value());
    tx_request request{.tagging = vlan_insertion::insert, .tag = vlan_tag{0xA123}};
    SECTION("legacy: in the last") {
        REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}}, 1, request).has_value());
        CHECK(device.memory[1] == 0x0000'0000'0000'003C);
        CHECK(device.memory[3] == 0xA123'0000'4B00'003C); // VLE, RS, IFCS, EOP
    }
    SECTION("data: in each") {
        request.offload = checksums;
        REQUIRE(ring.send({{iova{0x1000}, 60}, {iova{0x2000}, 60}}, 1, request).has_value());
        CHECK(device.memory[3] == 0xA123'0300'6210'003C); // VLE, DEXT, IFCS
        CHECK(device.memory[5] == 0xA123'0300'6B10'003C); // and RS, EOP
    }
    SECTION("not without being asked") {
        request.tagging = vlan_insertion::none;
        REQUIRE(ring.send({{iova{0x1000}, 60}}, 1, request).has_value());
        CHECK(device.memory[1] == 0x0000'0000'0B00'003C);
    }
    device.transmit(everything, [&](const packet& p) {
        CHECK(p.tagged() == (request.tagging == vlan_insertion::insert));
    });
    CHECK(fault_of(device) == "none");
}

TEST_CASE("send_all sends as many as it can, with one write of the tail", "[e1000e]") {
    const auto report =
        GENERATE(tx_report::each_packet(), tx_report::every(3), tx_report::while_idle());
    const std::uint32_t room = report == tx_report::each_packet() ? 15 : 14;
    nic<16> device;
    tx_slot slots[16];
    auto ring = ring_on(device, slots, 16, {.report = report, .padding = iova{0x7000}});
    REQUIRE(ring.start().has_value());
    pt::e1000e::tx_packet packets[20];
    for (std::uint32_t i = 0; i != 20; ++i) {
        packets[i] = {iova{0x1000 * (i + 1)}, 60 + i, i};
    }
    std::vector<piece> seen;
    std::vector<std::uint64_t> back;
    const auto finish = [&] {
        for (int i = 0; i != 4; ++i) {
            device.transmit(everything, [&](const packet& p) {
                seen.insert(seen.end(), p.pieces, p.pieces + p.count);
            });
            device.write_back(everything);
            ring.reclaim([&](std::uint64_t cookie) { back.push_back(cookie); });
        }
        CHECK(ring.in_flight() == 0);
    };
    SECTION("all of them") {
        CHECK(ring.send_all(packets, 9) == pt::e1000e::tx_batch{9, {}});
        CHECK(device.tail_writes == 1);
        finish();
        CHECK(back.size() == 9);
        for (std::uint32_t i = 0; i != 9; ++i) {
            CHECK(seen[i] == piece{0x1000 * (i + 1), 60 + i});
            CHECK(back[i] == i);
        }
    }
    SECTION("none") {
        CHECK(ring.send_all(packets, 0) == pt::e1000e::tx_batch{0, {}});
        CHECK(device.tail_writes == 0);
    }
    SECTION("until the ring is full, and then the rest") {
        CHECK(ring.send_all(packets, 20) == pt::e1000e::tx_batch{room, error{errc::busy, 0}});
        CHECK(device.tail_writes == 1);
        CHECK(ring.send_all(packets + room, 20 - room) ==
              pt::e1000e::tx_batch{0, error{errc::busy, 0}});
        CHECK(device.tail_writes == 1);
        finish();
        CHECK(ring.send_all(packets + room, 20 - room) == pt::e1000e::tx_batch{20 - room, {}});
        finish();
        CHECK(back.size() == 20);
        for (std::uint32_t i = 0; i != 20; ++i) {
            CHECK(seen[i] == piece{0x1000 * (i + 1), 60 + i});
            CHECK(back[i] == i);
        }
    }
    SECTION("until one that can never be sent") {
        packets[4].length = 0;
        CHECK(ring.send_all(packets, 9) == pt::e1000e::tx_batch{4, error{errc::out_of_range, 0}});
        CHECK(device.tail_writes == 1);
        CHECK(ring.in_flight() == 4);
        packets[0].length = 20'000;
        CHECK(ring.send_all(packets, 9) == pt::e1000e::tx_batch{0, error{errc::out_of_range, 0}});
        CHECK(device.tail_writes == 1);
        finish();
        CHECK(back.size() == 4);
    }
    SECTION("one in the middle that needs padding") {
        packets[4].length = 5;
        CHECK(ring.send_all(packets, 9) == pt::e1000e::tx_batch{9, {}});
        CHECK(device.tail_writes == 1);
        finish();
        CHECK(back.size() == 9);
        REQUIRE(seen.size() == 10);
        CHECK(seen[4] == piece{0x5000, 5});
        CHECK(seen[5] == piece{0x7000, 12});
        CHECK(seen[6] == piece{0x6000, 65});
    }
    CHECK(ring.stop().has_value());
    CHECK(fault_of(device) == "none");
}

TEST_CASE("send_all asks for reports where send would", "[e1000e]") {
    const auto report =
        GENERATE(tx_report::each_packet(), tx_report::every(3), tx_report::while_idle());
    std::vector<bool> reported[2];
    for (const bool together : {false, true}) {
        nic<16> device;
        tx_slot slots[16];
        auto ring = ring_on(device, slots, 16, {.report = report});
        REQUIRE(ring.start().has_value());
        REQUIRE(ring.send({{iova{0x1000}, 60}}, 0).has_value());
        const pt::e1000e::tx_packet one{iova{0x1000}, 60, 1};
        const pt::e1000e::tx_packet packets[7] = {one, one, one, one, one, one, one};
        if (together) {
            CHECK(ring.send_all(packets, 7).sent == 7);
        } else {
            for (int i = 0; i != 7; ++i) {
                REQUIRE(ring.send({{iova{0x1000}, 60}}, 1).has_value());
            }
        }
        device.transmit(everything, [&](const packet& p) {
            reported[together ? 1 : 0].push_back(p.reported());
        });
    }
    CHECK(reported[0].size() == 8);
    CHECK(reported[0] == reported[1]);
}

TEST_CASE("ready descriptors: RS, EOP and STA are the ring's, all else is the caller's",
          "[e1000e][rule 24][rule 25]") {
    nic<8> device;
    tx_slot slots[8];
    SECTION("legacy") {
        auto ring = ring_on(device, slots, 8, {.report = tx_report::every(2)});
        REQUIRE(ring.start().has_value());
        const tx_descriptor data[2] = {{0x1111, ~0x2000'0000ULL}, {0x2222, ~0x2000'0000ULL}};
        REQUIRE(ring.enqueue_raw(data, 2, nullptr, 7).has_value());
        ring.advance_tail();
        CHECK(device.tdt == 2);
        CHECK(device.memory[0] == 0x1111);
        CHECK(device.memory[1] == 0xFFFF'FFF0'D6FF'FFFF); // no EOP, RS, DD, EC, LC, TU
        CHECK(device.memory[2] == 0x2222);
        CHECK(device.memory[3] == 0xFFFF'FFF0'D7FF'FFFF); // EOP; RS is not due
        REQUIRE(ring.enqueue_raw(data, 1, nullptr, 8).has_value());
        CHECK(device.memory[5] == 0xFFFF'FFF0'DFFF'FFFF); // EOP and RS
    }
    SECTION("data, with a context that goes out when it changes") {
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        const tx_descriptor data[2] = {{0x1000, 0x0000'0300'2210'003C},
                                       {0x2000, 0x0000'0300'2210'003C}};
        const tx_descriptor context{0x0000'3222'0021'180E, 0x0000'000F'AB00'0000}; // RS, IDE, STA
        CHECK(ring.enqueue_raw(data, 0, &context, 1) == error{errc::out_of_range, 0});
        CHECK(ring.enqueue_raw(data, 7, &context, 1) == error{errc::out_of_range, 7});
        REQUIRE(ring.enqueue_raw(data, 2, &context, 1).has_value());
        CHECK(device.memory[0] == 0x0000'3222'0021'180E);
        CHECK(device.memory[1] == 0x0000'0000'2300'0000);
        REQUIRE(ring.enqueue_raw(data, 2, &context, 2).has_value());
        CHECK(ring.free_descriptors() == 2);
        const tx_descriptor other{0x0000'3222'0021'180F, 0x2300'0000};
        CHECK(ring.enqueue_raw(data, 2, &other, 3) == error{errc::busy, 2});
        CHECK(ring.enqueue_raw(data, 2, &context, 3).has_value());
        CHECK(ring.free_descriptors() == 0);
        ring.advance_tail();
        std::uint32_t packets = 0;
        device.transmit(everything, [&](const packet& p) {
            ++packets;
            CHECK(p.used == transmitter::context{context.low, 0x2300'0000});
        });
        CHECK(packets == 3);
        CHECK(device.contexts == 1);
        device.write_back(everything);
        CHECK(ring.reclaim(ignore) == 3);
        // The caller's own packets know of it.
        REQUIRE(ring.send({{iova{0x1000}, 60}}, 4, {.offload = checksums}).has_value());
        device.transmit(everything,
                        [&](const packet& p) { CHECK(p.used == context_of(checksums)); });
        CHECK(device.contexts == 1);
        CHECK(fault_of(device) == "none");
    }
    SECTION("segmentation: with its context each time") {
        auto ring = ring_on(device, slots, 8);
        REQUIRE(ring.start().has_value());
        const tx_offload segments = *tx_offload::segmentation({14, 34}, 54, 20);
        const tx_descriptor context = segments.context(46);
        const tx_descriptor data{0x1000, segments.data().raw | 0x0200'0064}; // IFCS, 100 bytes
        REQUIRE(ring.enqueue_raw(&data, 1, &context, 1).has_value());
        REQUIRE(ring.enqueue_raw(&data, 1, &context, 2).has_value());
        ring.advance_tail();
        device.transmit(everything, no_packets);
        CHECK(device.contexts == 2);
        CHECK(fault_of(device) == "none");
    }
}

TEST_CASE("random traffic of all kinds: each cookie once, in order, each packet as it was sent",
          "[e1000e][82574][rule 23][rule 24][rule 25]") {
    struct expected_packet {
        std::uint64_t cookie;
        std::vector<piece> pieces;
        tx_request request;
        std::uint32_t length;
    };
    const tx_offload offloads[] = {
        {},
        {},
        checksums,
        other_checksums,
        *tx_offload::ip_checksum({14, 34}),
        *tx_offload::segmentation({14, 34}, 54, 1'460),
        *tx_offload::segmentation({14, 54, pt::e1000e::ip_version::v6}, 74, 100)};
    const tx_report reports[] = {tx_report::each_packet(), tx_report::every(2), tx_report::every(7),
                                 tx_report::every(1'000), tx_report::while_idle()};
    constexpr std::uint32_t most = 512;
    const auto device = std::make_unique<nic<most>>();
    std::vector<tx_slot> slots(most);
    for (std::uint32_t seed = 0; seed != 100; ++seed) {
        std::mt19937_64 random{seed};
        auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
        *device = {};
        device->queue_at = 0x100 * below(2);
        device->bursts = below(2) == 0;
        const std::uint32_t count = 8 * (1 + (seed % 2 == 0 ? below(4) : below(most / 8)));
        const tx_settings settings{.number = device->queue_at == 0 ? queue::first : queue::second,
                                   .report = reports[seed % 5],
                                   .contexts =
                                       below(2) == 0 ? context_use::reused : context_use::repeated,
                                   .padding = iova{0x7000},
                                   .interrupt_delay = static_cast<std::uint16_t>(below(2) * 10)};
        const std::uint32_t room =
            settings.report == tx_report::each_packet() ? count - 1 : count - 2;
        auto ring = ring_on(*device, slots.data(), count, iova{0x10'0000}, settings);
        REQUIRE(ring.start().has_value());

        std::deque<expected_packet> on_the_way; // to the wire
        std::deque<std::uint64_t> in_flight;    // to the driver
        std::uint64_t failures = 0;
        std::uint64_t refused = 0;
        std::uint64_t returned = 0;
        const auto fails = [&](bool when) { failures += when ? 1 : 0; };
        const auto put = [&](const std::vector<fragment>& fragments, const tx_request& request,
                             bool batch) {
            expected_packet packet{random(), {}, request, 0};
            for (const fragment& f : fragments) {
                fragment left = f;
                for (; left.length > 16'288; left.length -= 16'288) {
                    packet.pieces.push_back({left.address.raw, 16'288});
                    left.address = iova{left.address.raw + 16'288};
                }
                packet.pieces.push_back({left.address.raw, left.length});
                packet.length += f.length;
            }
            if (packet.length < 17) {
                packet.pieces.push_back({0x7000, 17 - packet.length});
            }
            const std::uint32_t free = ring.free_descriptors();
            const auto sent =
                batch ? ring.enqueue(fragments.data(), fragments.size(), packet.cookie, request)
                      : ring.send(fragments.data(), fragments.size(), packet.cookie, request);
            if (sent) {
                const std::uint32_t used = free - ring.free_descriptors();
                fails(used < packet.pieces.size() || used > packet.pieces.size() + 1);
                in_flight.push_back(packet.cookie);
                on_the_way.push_back(std::move(packet));
            } else {
                // Only a lack of room is left as a reason, and the context may be what is too much.
                const bool never = sent.error().code == errc::out_of_range;
                fails(!never && sent != error{errc::busy, free});
                fails(packet.pieces.size() + 1 <= (never ? room : free));
                ++refused;
            }
        };
        const auto see = [&](const packet& seen) {
            if (on_the_way.empty()) {
                ++failures;
                return;
            }
            const expected_packet& wanted = on_the_way.front();
            fails(seen.count != wanted.pieces.size() ||
                  !std::equal(wanted.pieces.begin(), wanted.pieces.end(), seen.pieces));
            const tx_offload& offload = wanted.request.offload;
            fails(seen.is_data() != offload.needed());
            fails(seen.segments() != offload.segments());
            if (offload.needed()) {
                fails(seen.used != context_of(offload, wanted.length - offload.header_length()));
                fails(((seen.first ^ offload.data().raw) & 0xFF00'24F0'0000) != 0);
            }
            const bool tagged = wanted.request.tagging == vlan_insertion::insert;
            fails(seen.tagged() != tagged);
            fails(tagged && seen.tag() != wanted.request.tag.raw);
            fails(seen.delayed() != (settings.interrupt_delay != 0 &&
                                     wanted.request.interrupt == tx_interrupt::delayed));
            on_the_way.pop_front();
            if (settings.contexts == context_use::repeated) {
                device->other_queue_sends();
            }
        };
        const auto take = [&](std::uint64_t cookie) {
            fails(device->acquire_is_due);
            fails(in_flight.empty() || in_flight.front() != cookie);
            in_flight.pop_front();
            ++returned;
        };
        bool paused = false;
        for (int step = 0; step != 3'000; ++step) {
            switch (below(8)) {
            case 0:
            case 1:
            case 2: {
                tx_request request{.offload = offloads[below(7)]};
                if (below(4) == 0) {
                    request.tagging = vlan_insertion::insert;
                    request.tag = vlan_tag{static_cast<std::uint16_t>(random())};
                }
                if (below(3) == 0) {
                    request.interrupt = tx_interrupt::delayed;
                }
                std::vector<fragment> fragments;
                const bool segments = request.offload.segments();
                for (std::uint32_t left = 1 + below(std::min(6U, room)); left != 0; --left) {
                    const std::uint32_t length =
                        segments && below(8) == 0 ? 1 + below(40'000) : 1 + below(2'036);
                    fragments.push_back({iova{random() >> 1}, length});
                }
                if (request.offload.needed()) {
                    fragments[0].length += 80;
                } else if (below(10) == 0) {
                    fragments = {{iova{random()}, 1 + below(20)}};
                }
                put(fragments, request, below(3) == 0);
                break;
            }
            case 3: {
                std::vector<pt::e1000e::tx_packet> packets(below(12));
                for (auto& each : packets) {
                    each = {iova{random()}, 1 + below(1'500), random()};
                }
                const auto batch =
                    ring.send_all(packets.data(), static_cast<std::uint32_t>(packets.size()));
                fails(batch.sent != packets.size() && batch.stopped.code != errc::busy);
                for (std::uint32_t i = 0; i != batch.sent; ++i) {
                    expected_packet packet{
                        packets[i].cookie, {{packets[i].address.raw, packets[i].length}}, {}, 0};
                    if (packets[i].length < 17) {
                        packet.pieces.push_back({0x7000, 17 - packets[i].length});
                    }
                    in_flight.push_back(packet.cookie);
                    on_the_way.push_back(std::move(packet));
                }
                break;
            }
            case 4: ring.advance_tail(); break;
            case 5:
                device->transmit(below(12), see);
                device->write_back(below(20));
                break;
            case 6:
                if (below(20) == 0) {
                    fails(!(paused ? ring.resume() : ring.pause()));
                    paused = !paused;
                }
                break;
            default: {
                const auto before = returned;
                fails(ring.reclaim(take) != returned - before);
                break;
            }
            }
            fails(ring.in_flight() != in_flight.size());
            fails(ring.free_descriptors() > room);
        }
        if (paused) {
            fails(!ring.resume());
        }
        ring.advance_tail();
        for (int i = 0; i != 4; ++i) { // nothing is ever stuck
            device->transmit(everything, see);
            device->write_back(everything);
            ring.reclaim(take);
        }
        INFO("seed " << seed << ", " << count << " descriptors, " << refused << " refused");
        CHECK(failures == 0);
        CHECK(in_flight.empty());
        CHECK(on_the_way.empty());
        CHECK(ring.free_descriptors() == room);
        CHECK(ring.stop().has_value());
        CHECK(returned > 50);
        CHECK(fault_of(*device) == "none");
    }
}

TEST_CASE("a device that writes anything anywhere in the ring returns each cookie at most once",
          "[e1000e][rule 24]") {
    const auto report = GENERATE(tx_report::each_packet(), tx_report::every(3),
                                 tx_report::every(1'000), tx_report::while_idle());
    nic<64> device;
    std::vector<tx_slot> slots(64); // a sanitizer sees an index beyond it
    std::mt19937_64 random{24};
    auto ring = ring_on(device, slots.data(), 64, {.report = report});
    REQUIRE(ring.start().has_value());
    std::uint64_t sent = 0;
    std::uint64_t back = 0;
    bool in_order = true;
    for (int step = 0; step != 20'000; ++step) {
        const auto size = 1 + random() % 8;
        const fragment one{iova{1}, 20};
        const fragment pieces[8] = {one, one, one, one, one, one, one, one};
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
        const fragment pieces[5] = {{iova{cookie + 1}, 21},
                                    {iova{cookie + 2}, 22},
                                    {iova{cookie + 3}, 23},
                                    {iova{cookie + 4}, 24},
                                    {iova{cookie + 5}, 25}};
        good &= ring.send(pieces, size, cookie).has_value();
        good &= ring.free_descriptors() == 7 - size;
        std::uint32_t packets = 0;
        device.transmit(everything, [&](const packet& seen) {
            ++packets;
            good &= seen.count == size && !seen.is_data();
            for (std::uint32_t i = 0; i != seen.count; ++i) {
                good &= seen.pieces[i] == piece{cookie + 1 + i, 21 + i};
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
