// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/tx_watch.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>

namespace {

using pt::errc;
using pt::error;
using pt::e1000e::family;
using pt::e1000e::queue;
using pt::e1000e::tx_diagnosis;
using pt::e1000e::tx_motion;
using pt::e1000e::tx_remedy;
using pt::e1000e::tx_trouble;
using pt::e1000e::tx_watch;
using pt::e1000e::tx_watch_limits;
using pt::e1000e::write_tail_again;

/// The registers that a watch looks at, as plain numbers [82574]; nothing else may be touched.
struct nic {
    std::uint32_t status = 0x0008'0083; // GIO master enabled, 1000 Mb/s, link up, full duplex
    std::uint32_t tctl = 0x3003'F0FA;
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
    std::uint32_t queue_at = 0; ///< 0x100 for queue 1
    std::uint64_t now = 5'000;
    unsigned reads = 0;
    unsigned tail_writes = 0;
    const char* fault = nullptr;

    constexpr std::uint32_t read32(std::uint32_t offset) {
        ++reads;
        if (status == 0xFFFF'FFFF) {
            return 0xFFFF'FFFF;
        }
        if (offset == 0x0008) {
            return status;
        }
        if (offset == 0x0400) {
            return tctl;
        }
        if (offset == 0x3810 + queue_at) {
            return head;
        }
        if (offset == 0x3818 + queue_at) {
            return tail;
        }
        fault = "another register was read";
        return 0;
    }
    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        if (offset != 0x3818 + queue_at) {
            fault = "another register was written";
        }
        tail = value;
        ++tail_writes;
    }
};
struct window {
    nic* device;
    constexpr std::uint32_t read32(std::uint32_t offset) { return device->read32(offset); }
    constexpr void write32(std::uint32_t offset, std::uint32_t v) { device->write32(offset, v); }
    constexpr std::uint64_t read64(std::uint32_t) { return 0; }
    constexpr void write64(std::uint32_t, std::uint64_t) {}
};
struct stopwatch {
    nic* device;
    constexpr std::uint64_t now() { return device->now; }
};

/// A ring of 8 descriptors that says what it is told to say.
struct ring {
    nic* device;
    window mmio{device};
    std::uint32_t packets = 0;
    std::uint32_t next = 0;
    queue own = queue::first;
    family kind = family::pci_express;
    bool told = true;
    bool done = false; ///< reclaim() would hand something back

    constexpr std::uint32_t in_flight() const { return packets; }
    constexpr bool has_done() const { return done; }
    constexpr std::uint32_t tail() const { return next; }
    constexpr pt::result<std::uint32_t> head() {
        const std::uint32_t now = mmio.read32(0x3810 + device->queue_at);
        if (now == 0xFFFF'FFFF) {
            return error{errc::absent, 0x3810};
        }
        if (now >= 8) {
            return error{errc::hardware_fault, now};
        }
        return now;
    }
    constexpr void advance_tail() {
        if (!told) {
            mmio.write32(0x3818 + device->queue_at, next);
        }
        told = true;
    }
    constexpr queue number() const { return own; }
    constexpr family members() const { return kind; }
    constexpr window& registers() { return mmio; }

    /// One packet of one descriptor, sent.
    constexpr void send() {
        next = (next + 1) % 8;
        device->tail = next;
        ++packets;
    }
};
static_assert(pt::e1000e::watchable_ring<ring>);

constexpr tx_watch_limits limits{.still = 1'000, .paused = 5'000};

struct rig {
    nic device{};
    ring watched{&device};
    tx_watch<stopwatch> watch{stopwatch{&device}, limits};

    constexpr rig() = default;
    rig(const rig&) = delete;

    constexpr tx_motion look_after(std::uint64_t nanoseconds) {
        device.now += nanoseconds;
        return watch.look(watched);
    }
};

constexpr bool a_still_ring_hangs_at_the_limit() {
    rig r;
    bool good = r.look_after(9'999) == tx_motion::idle;
    r.watched.send();
    good &= r.look_after(9'999) == tx_motion::waiting; // the time begins here
    good &= r.look_after(999) == tx_motion::waiting;
    good &= r.look_after(1) == tx_motion::hung;
    return good && r.device.fault == nullptr;
}
static_assert(a_still_ring_hangs_at_the_limit());

TEST_CASE("packets in flight, and neither reclaim nor the head moves for the limit: a hang",
          "[e1000e][watch]") {
    REQUIRE(a_still_ring_hangs_at_the_limit());
    rig r;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    CHECK(r.look_after(900) == tx_motion::waiting);
    r.watched.send(); // sending is no progress of the device
    CHECK(r.look_after(99) == tx_motion::waiting);
    CHECK(r.look_after(1) == tx_motion::hung);
    // The limit begins anew, so that a remedy has its time.
    CHECK(r.look_after(1) == tx_motion::waiting);
    CHECK(r.look_after(998) == tx_motion::waiting);
    CHECK(r.look_after(1) == tx_motion::hung);
    r.watched.packets = 0;
    CHECK(r.look_after(1) == tx_motion::idle);
}

TEST_CASE("the head moves, or packets come back: no hang", "[e1000e][watch]") {
    rig r;
    r.watched.send();
    r.watched.send();
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    SECTION("the head") {
        r.device.head = 1;
        CHECK(r.look_after(5'000) == tx_motion::moving);
        CHECK(r.look_after(999) == tx_motion::waiting);
        r.device.head = 0; // all around the ring
        CHECK(r.look_after(1) == tx_motion::moving);
        CHECK(r.look_after(999) == tx_motion::waiting);
        CHECK(r.look_after(1) == tx_motion::hung);
    }
    SECTION("reclaim") {
        r.watched.packets = 2;
        CHECK(r.look_after(5'000) == tx_motion::moving);
        CHECK(r.look_after(999) == tx_motion::waiting);
        CHECK(r.look_after(1) == tx_motion::hung);
    }
    SECTION("as many came back as were sent, exactly once around") {
        for (int i = 0; i != 4; ++i) {
            r.watched.send();
        }
        r.watched.packets = 3;
        CHECK(r.look_after(5'000) == tx_motion::moving);
    }
    SECTION("while things move a look costs one read") {
        r.device.reads = 0;
        for (std::uint32_t i = 1; i != 6; ++i) {
            r.device.head = i;
            CHECK(r.look_after(100) == tx_motion::moving);
        }
        CHECK(r.device.reads == 5);
    }
    CHECK(r.device.fault == nullptr);
}

constexpr bool what_waits_for_reclaim_is_no_hang() {
    rig r;
    r.watched.send();
    bool good = r.look_after(0) == tx_motion::waiting;
    r.watched.done = true;
    good &= r.look_after(1'000'000) == tx_motion::moving;
    return good && r.device.fault == nullptr;
}
static_assert(what_waits_for_reclaim_is_no_hang());

TEST_CASE("packets that are done and only wait for reclaim() are no hang, however long",
          "[e1000e][watch]") {
    REQUIRE(what_waits_for_reclaim_is_no_hang());
    rig r;
    r.watched.send();
    r.watched.send();
    r.watched.done = true;
    CHECK(r.look_after(0) == tx_motion::moving); // at the first look, too
    r.device.reads = 0;
    CHECK(r.look_after(99'999) == tx_motion::moving);
    CHECK(r.look_after(99'999) == tx_motion::moving);
    CHECK(r.device.reads == 2); // as cheap as any other movement
    SECTION("the limit of what is left begins after it") {
        r.watched.done = false;
        r.watched.packets = 1;
        CHECK(r.look_after(99'999) == tx_motion::moving);
        CHECK(r.look_after(999) == tx_motion::waiting);
        CHECK(r.look_after(1) == tx_motion::hung);
    }
    SECTION("a NIC that is gone is gone") {
        r.device.status = 0xFFFF'FFFF;
        CHECK(r.look_after(1) == tx_motion::hung);
        CHECK(r.watch.diagnose(r.watched).remedy == tx_remedy::abandon);
    }
    CHECK(r.device.fault == nullptr);
}

TEST_CASE("a report that comes after the look saves the NIC from a reset", "[e1000e][watch]") {
    rig r;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.head = 1;
    SECTION("without it") {
        CHECK(r.look_after(1) == tx_motion::moving);
        CHECK(r.look_after(1'000) == tx_motion::hung);
        CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::not_reported);
        r.watched.done = true;
        CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::none);
        CHECK(r.watch.diagnose(r.watched).remedy == tx_remedy::wait);
    }
    SECTION("in a pause that was too long") {
        r.device.status |= 0x10; // TXOFF
        CHECK(r.look_after(1) == tx_motion::moving);
        CHECK(r.look_after(5'000) == tx_motion::hung);
        CHECK(r.watch.diagnose(r.watched).remedy == tx_remedy::reset);
        r.watched.done = true;
        CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::paused);
        CHECK(r.watch.diagnose(r.watched).remedy == tx_remedy::wait);
    }
    CHECK(r.device.fault == nullptr);
}

TEST_CASE("a pause by flow control is a hang only after a limit of its own", "[e1000e][watch]") {
    rig r;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.status |= 0x10; // TXOFF
    CHECK(r.look_after(4'000) == tx_motion::waiting);
    const tx_diagnosis meanwhile = r.watch.diagnose(r.watched);
    CHECK(meanwhile.trouble == tx_trouble::paused);
    CHECK(meanwhile.remedy == tx_remedy::wait);
    SECTION("it ends: the time of a free transmitter begins") {
        r.device.status &= ~0x10U;
        CHECK(r.look_after(999) == tx_motion::waiting);
        CHECK(r.look_after(1) == tx_motion::hung);
        CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::head_stuck);
    }
    SECTION("it does not") {
        CHECK(r.look_after(999) == tx_motion::waiting);
        CHECK(r.look_after(1) == tx_motion::hung);
        const tx_diagnosis found = r.watch.diagnose(r.watched);
        CHECK(found.trouble == tx_trouble::paused);
        CHECK(found.remedy == tx_remedy::reset);
    }
    SECTION("pauses again and again, and never a packet between them") {
        CHECK(r.look_after(900) == tx_motion::waiting);
        r.device.status &= ~0x10U;
        CHECK(r.look_after(99) == tx_motion::waiting);
        r.device.status |= 0x10;
        CHECK(r.look_after(1) == tx_motion::hung); // 5,000 after the last movement
    }
}

TEST_CASE("a diagnosis names the most fundamental trouble, and what to do", "[e1000e][watch]") {
    rig r;
    CHECK(r.watch.diagnose(r.watched) == tx_diagnosis{.device = pt::e1000e::status{0x0008'0083},
                                                      .control = pt::e1000e::tctl{0x3003'F0FA}});
    r.watched.send();
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    // Nothing that can be seen: only time tells.
    CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::none);
    CHECK(r.watch.diagnose(r.watched).remedy == tx_remedy::wait);
    CHECK(r.look_after(1'000) == tx_motion::hung);

    auto is = [&](tx_trouble why, tx_remedy what) {
        const tx_diagnosis found = r.watch.diagnose(r.watched);
        CHECK(found.trouble == why);
        CHECK(found.remedy == what);
        CHECK(found.device.raw == r.device.status);
        CHECK(found.next == 2);
        CHECK(found.in_flight == 2);
        if (why != tx_trouble::absent) {
            CHECK(found.control.raw == r.device.tctl);
            CHECK(found.head == r.device.head);
            CHECK(found.tail == r.device.tail);
        }
    };
    // From the last reason to the first: each hides those before it.
    is(tx_trouble::head_stuck, tx_remedy::reset);
    r.device.head = 2;
    is(tx_trouble::not_reported, tx_remedy::reset);
    r.device.status |= 0x10;
    is(tx_trouble::paused, tx_remedy::reset);
    r.device.status &= ~0x02U;
    is(tx_trouble::link_down, tx_remedy::wait);
    r.device.tail = 1;
    is(tx_trouble::tail_differs, tx_remedy::write_tail);
    r.device.head = 8;
    is(tx_trouble::head_outside, tx_remedy::reset);
    r.device.status &= ~0x0008'0000U;
    is(tx_trouble::no_bus_master, tx_remedy::reset);
    r.device.tctl &= ~0x02U;
    is(tx_trouble::disabled, tx_remedy::reset);
    r.device.status = 0xFFFF'FFFF;
    is(tx_trouble::absent, tx_remedy::abandon);
    CHECK(r.device.fault == nullptr);
    CHECK(r.device.tail_writes == 0); // it only reads
}

TEST_CASE("STATUS bit 19 is reserved on 8254x", "[e1000e][8254x][watch]") {
    nic device;
    device.status = 0x0000'0083;
    ring watched{&device};
    watched.kind = family::pci;
    watched.send();
    tx_watch watch{stopwatch{&device}, limits};
    CHECK(watch.look(watched) == tx_motion::waiting);
    device.now += 1'000;
    CHECK(watch.look(watched) == tx_motion::hung);
    CHECK(watch.diagnose(watched).trouble == tx_trouble::head_stuck);
}

TEST_CASE("a NIC that is gone hangs at once and is no pause", "[e1000e][watch]") {
    rig r;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    r.device.status = 0xFFFF'FFFF; // TXOFF reads set as well
    CHECK(r.look_after(1) == tx_motion::hung);
    CHECK(r.look_after(1) == tx_motion::hung);
    CHECK(r.watch.diagnose(r.watched).trouble == tx_trouble::absent);
    rig gone;
    gone.device.status = 0xFFFF'FFFF;
    gone.watched.send();
    CHECK(gone.look_after(0) == tx_motion::hung); // at the first look, too
    gone.watched.packets = 0;
    CHECK(gone.look_after(0) == tx_motion::idle); // nothing is lost there
}

TEST_CASE("after a recovery the same packet at the same place has the whole limit again",
          "[e1000e][watch]") {
    rig r;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    CHECK(r.look_after(1'000) == tx_motion::hung);
    r.watched.next = r.watched.packets = 0; // recover(), and then the same again
    r.watched.send();
    CHECK(r.look_after(999) == tx_motion::waiting);
    r.device.head = 1;
    CHECK(r.look_after(999) == tx_motion::moving);
}

TEST_CASE("the tail is written again only if the NIC lost it", "[e1000e][watch]") {
    rig r;
    SECTION("lost") {
        r.watched.send();
        r.device.tail = 0;
        write_tail_again(r.watched);
        CHECK(r.device.tail == 1);
        CHECK(r.device.tail_writes == 1);
    }
    SECTION("never told") {
        r.watched.send();
        r.device.tail = 0;
        r.watched.told = false;
        write_tail_again(r.watched);
        CHECK(r.watched.told); // by the ring, which has a barrier
        CHECK(r.device.tail == 1);
        CHECK(r.device.tail_writes == 1);
    }
    SECTION("there") {
        r.watched.send();
        write_tail_again(r.watched);
        CHECK(r.device.tail_writes == 0);
    }
    SECTION("nothing to tell: the ring may be another's by now") {
        r.device.tail = 5;
        r.watched.told = false;
        write_tail_again(r.watched);
        CHECK(r.device.tail_writes == 0);
    }
    CHECK(r.device.fault == nullptr);
}

TEST_CASE("queue 1 is watched by its own registers", "[e1000e][82574][watch]") {
    rig r;
    r.device.queue_at = 0x100;
    r.watched.own = queue::second;
    r.watched.send();
    CHECK(r.look_after(0) == tx_motion::waiting);
    CHECK(r.look_after(1'000) == tx_motion::hung);
    CHECK(r.watch.diagnose(r.watched).tail == 1);
    r.device.tail = 0;
    write_tail_again(r.watched);
    CHECK(r.device.tail == 1);
    CHECK(r.device.fault == nullptr);
}

} // namespace
