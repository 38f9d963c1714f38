// SPDX-License-Identifier: BSL-1.0
// A transmit ring that hangs: found, named, recovered, and working again.
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/e1000e/tx_watch.hpp"

#include "transmitter.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using pt::iova;
using pt::e1000e::family;
using pt::e1000e::tx_motion;
using pt::e1000e::tx_remedy;
using pt::e1000e::tx_report;
using pt::e1000e::tx_trouble;
using transmitter::packet;

/// The transmitter, and around it the registers that a reset and a watch need: what a reset does to
/// a ring is all that counts here. Time goes on by 1 us with each look at the clock.
struct nic {
    transmitter::nic<16> queue{};
    std::uint32_t ctrl = 0x40;
    std::uint32_t status = 0x0008'0083;
    std::uint64_t now = 0;
    unsigned resets = 0;

    /// 8254x: STATUS 19 and CTRL 2 are reserved, and EECD 9 is not AUTO_RD.
    void become_8254x() {
        queue.is_8254x = true;
        queue.txdctl = 0;
        status = 0x0000'0083;
    }

    std::uint32_t read32(std::uint32_t offset) {
        if (queue.gone) {
            return 0xFFFF'FFFF;
        }
        switch (offset) {
        case 0x0000: return ctrl;
        case 0x0008: return (ctrl & 4) != 0 ? status & ~0x0008'0000U : status;
        case 0x0010:
            if (queue.is_8254x) {
                queue.blame("EECD.AUTO_RD was looked for where it is another bit");
            }
            return 0x200; // EECD.AUTO_RD
        case 0x00C0:
        case 0x0100: return 0; // ICR, RCTL
        default: return queue.read32(offset);
        }
    }
    void write32(std::uint32_t offset, std::uint32_t value) {
        switch (offset) {
        case 0x0000:
            if (queue.is_8254x && (value & 4) != 0) {
                queue.blame("a reserved bit of CTRL was set");
            }
            ctrl = value & ~0x0400'0000U;
            if ((value & 0x0400'0000) != 0) {
                ++resets;
                ctrl = 0;
                const auto fault = queue.fault;
                const bool is_8254x = queue.is_8254x;
                queue = {};
                queue.fault = fault;
                if (is_8254x) {
                    become_8254x();
                }
            }
            break;
        case 0x00D8:
        case 0x0100: break; // IMC, RCTL
        default: queue.write32(offset, value); break;
        }
    }
};
struct window {
    nic* device;
    std::uint32_t read32(std::uint32_t offset) { return device->read32(offset); }
    void write32(std::uint32_t offset, std::uint32_t v) { device->write32(offset, v); }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write64(std::uint32_t, std::uint64_t) {}
};
struct stopwatch {
    nic* device;
    std::uint64_t now() { return device->now += 1'000; }
};

struct rig {
    nic device{};
    pt::e1000e::tx_slot slots[16];
    using model = transmitter::nic<16>;
    pt::e1000e::tx_ring<window, transmitter::ring_memory<model>, transmitter::order<model>> ring;
    pt::e1000e::tx_watch<stopwatch> watch{stopwatch{&device}};
    std::vector<std::uint64_t> back;

    explicit rig(tx_report report = tx_report::each_packet(), family members = family::pci_express)
        : ring{{&device},
               {&device.queue},
               {&device.queue},
               iova{0x8000},
               &slots[0],
               16,
               {.members = members, .report = report}} {
        if (members == family::pci) {
            device.become_8254x();
        }
        REQUIRE(ring.start().has_value());
    }
    rig(const rig&) = delete;

    void send(std::uint64_t cookie) {
        REQUIRE(ring.send({{iova{0x1000}, 60}}, cookie).has_value());
    }
    void reclaim() {
        ring.reclaim([&](std::uint64_t cookie) { back.push_back(cookie); });
    }
    tx_motion look_after(std::uint64_t nanoseconds) {
        device.now += nanoseconds;
        return watch.look(ring);
    }
    /// All that was sent is on the wire and reported.
    void work() {
        for (int i = 0; i != 3; ++i) {
            device.queue.transmit(~0U, [](const packet&) {});
            device.queue.write_back(~0U);
            reclaim();
        }
    }
};
constexpr std::uint64_t second = 1'000'000'000;

TEST_CASE("a ring that hangs is recovered, and sends again", "[e1000e][watch]") {
    rig r{GENERATE(tx_report::each_packet(), tx_report::every(4), tx_report::while_idle())};
    for (std::uint64_t i = 0; i != 6; ++i) {
        r.send(i);
    }
    r.work();
    CHECK(r.back.size() == 6);
    CHECK(r.look_after(0) == tx_motion::idle);
    for (std::uint64_t i = 6; i != 12; ++i) {
        r.send(i);
    }
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.queue.transmit(2, [](const packet&) {});
    r.reclaim();
    CHECK(r.look_after(second) == tx_motion::moving);
    CHECK(r.look_after(second / 2) == tx_motion::waiting);
    CHECK(r.look_after(second / 2) == tx_motion::hung);
    const auto found = r.watch.diagnose(r.ring);
    CHECK(found.trouble == tx_trouble::head_stuck);
    REQUIRE(found.remedy == tx_remedy::reset);
    const auto done = pt::e1000e::recover(r.ring, stopwatch{&r.device},
                                          [&](std::uint64_t cookie) { r.back.push_back(cookie); });
    REQUIRE(done.has_value());
    CHECK(r.device.resets == 1);
    REQUIRE(r.back.size() == 12);
    for (std::uint64_t i = 0; i != 12; ++i) {
        CHECK(r.back[i] == i);
    }
    CHECK(r.ring.in_flight() == 0);
    CHECK(r.ring.tail() == 0);
    CHECK(r.look_after(second) == tx_motion::idle);
    for (std::uint64_t i = 12; i != 18; ++i) {
        r.send(i);
    }
    r.work();
    CHECK(r.back.size() == 18);
    CHECK((r.device.queue.fault == nullptr ? "" : r.device.queue.fault) == std::string{});
}

TEST_CASE("a NIC that does not report is told apart from one that does not send",
          "[e1000e][watch][rule 24]") {
    rig r;
    r.send(0);
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.queue.transmit(~0U, [](const packet&) {}); // and no write-back
    CHECK(r.look_after(1) == tx_motion::moving);
    CHECK(r.look_after(second) == tx_motion::hung);
    CHECK(r.watch.diagnose(r.ring).trouble == tx_trouble::not_reported);
    r.device.queue.write_back(~0U);
    r.reclaim();
    CHECK(r.look_after(0) == tx_motion::idle);
}

TEST_CASE("reports that nobody asked for in time are no hang", "[e1000e][watch][rule 24]") {
    rig r{tx_report::every(100)};
    r.send(0);
    for (int i = 0; i != 10; ++i) { // the driver reclaims between its looks
        r.device.queue.transmit(~0U, [](const packet&) {});
        r.device.queue.write_back(~0U);
        r.reclaim();
        CHECK(r.look_after(second) != tx_motion::hung);
    }
    CHECK(r.back.size() == 1);
}

TEST_CASE("a driver that does not reclaim for long has no NIC that hangs",
          "[e1000e][watch][rule 24]") {
    rig r{GENERATE(tx_report::each_packet(), tx_report::every(4), tx_report::while_idle())};
    CHECK_FALSE(r.ring.has_done());
    for (std::uint64_t i = 0; i != 4; ++i) {
        r.send(i);
    }
    CHECK_FALSE(r.ring.has_done());
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.queue.transmit(~0U, [](const packet&) {});
    r.device.queue.write_back(~0U);
    for (int i = 0; i != 5; ++i) {
        CHECK(r.look_after(2 * second) == tx_motion::moving);
    }
    CHECK(r.watch.diagnose(r.ring).trouble == tx_trouble::none);
    r.work();
    CHECK(r.back == std::vector<std::uint64_t>{0, 1, 2, 3});
    CHECK_FALSE(r.ring.has_done());
    CHECK(r.look_after(2 * second) == tx_motion::idle);
    CHECK((r.device.queue.fault == nullptr ? "" : r.device.queue.fault) == std::string{});
}

TEST_CASE("an 8254x that hangs is recovered as what it is", "[e1000e][8254x][watch]") {
    rig r{tx_report::each_packet(), family::pci};
    r.send(0);
    CHECK(r.look_after(0) == tx_motion::waiting);
    CHECK(r.look_after(second) == tx_motion::hung);
    CHECK(r.watch.diagnose(r.ring).trouble == tx_trouble::head_stuck); // and DMA is not off
    const auto done = pt::e1000e::recover(r.ring, stopwatch{&r.device},
                                          [&](std::uint64_t cookie) { r.back.push_back(cookie); });
    REQUIRE(done.has_value());
    CHECK(*done == pt::e1000e::reset_report{});
    CHECK(r.device.resets == 1);
    CHECK(r.back == std::vector<std::uint64_t>{0});
    r.send(1);
    r.work();
    CHECK(r.back == std::vector<std::uint64_t>{0, 1});
    CHECK((r.device.queue.fault == nullptr ? "" : r.device.queue.fault) == std::string{});
}

TEST_CASE("a tail that was not told, or was lost, is written again", "[e1000e][watch]") {
    rig r;
    SECTION("not told") { REQUIRE(r.ring.enqueue({{iova{0x1000}, 60}}, 0).has_value()); }
    SECTION("lost") {
        r.send(0);
        r.device.queue.tdt = 0;
    }
    CHECK(r.look_after(0) == tx_motion::waiting);
    CHECK(r.look_after(second) == tx_motion::hung);
    REQUIRE(r.watch.diagnose(r.ring).remedy == tx_remedy::write_tail);
    write_tail_again(r.ring);
    CHECK(r.device.queue.tdt == 1);
    r.work();
    CHECK(r.back == std::vector<std::uint64_t>{0});
    CHECK((r.device.queue.fault == nullptr ? "" : r.device.queue.fault) == std::string{});
}

TEST_CASE("a NIC that was reset behind the driver's back", "[e1000e][watch]") {
    rig r;
    r.send(0);
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.write32(0x0000, 0x0400'0000);
    CHECK(r.look_after(second) == tx_motion::hung);
    const auto found = r.watch.diagnose(r.ring);
    CHECK(found.trouble == tx_trouble::disabled);
    CHECK(found.remedy == tx_remedy::reset);
    CHECK(found.tail == 0);
    CHECK(found.next == 1);
}

TEST_CASE("a NIC that is gone gives its packets back", "[e1000e][watch]") {
    rig r;
    r.send(0);
    r.send(1);
    r.device.queue.gone = true;
    CHECK(r.look_after(0) == tx_motion::hung);
    REQUIRE(r.watch.diagnose(r.ring).remedy == tx_remedy::abandon);
    CHECK(r.ring.abandon([&](std::uint64_t cookie) { r.back.push_back(cookie); }) == 2);
    CHECK(r.back == std::vector<std::uint64_t>{0, 1});
    CHECK(r.look_after(0) == tx_motion::idle);
}

} // namespace
