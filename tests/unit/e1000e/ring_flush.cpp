// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/ring_flush.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::e1000e::flushed_ring;
using pt::e1000e::ring_flush;

// Offsets and bits as the public drivers have them, as plain numbers.
constexpr std::uint32_t STATUS = 0x0008;
constexpr std::uint32_t RCTL = 0x0100;
constexpr std::uint32_t TCTL = 0x0400;
constexpr std::uint32_t RXDCTL = 0x2828;
constexpr std::uint32_t TDBAL = 0x3800;
constexpr std::uint32_t TDBAH = 0x3804;
constexpr std::uint32_t TDLEN = 0x3808;
constexpr std::uint32_t TDH = 0x3810;
constexpr std::uint32_t TDT = 0x3818;
constexpr std::uint32_t FEXTNVM11 = 0x5BBC;
constexpr std::uint32_t EN = 1U << 1;

/// An I219 that holds descriptors. Time goes on by 1 us with each access and each look at the clock.
struct nic {
    bool gone = false;
    bool transmit_holds = true;
    bool receive_holds = false;
    std::uint32_t rctl = 0x0400'8000;
    std::uint32_t tctl = 0x3103'F0F8;
    std::uint32_t rxdctl = 0x0A04'FFFF;
    std::uint32_t fextnvm11 = 0x0000'0001;
    std::uint32_t tdbal = 0x4567'8000;
    std::uint32_t tdbah = 0x0000'0123;
    std::uint32_t tdlen = 128;
    std::uint32_t tdh = 6;
    std::uint32_t tdt = 7;
    std::uint64_t ring[16] = {};

    std::uint64_t now = 0;
    std::uint64_t told_at = 0;
    std::uint64_t disabled_at = 0;
    std::uint64_t enabled_at = 0;
    bool released = false;
    unsigned writes = 0;
    unsigned tail_writes = 0;
    unsigned receiver_enables = 0;
    const char* fault = nullptr;

    constexpr void blame(const char* what) {
        if (fault == nullptr) {
            fault = what;
        }
    }
    constexpr std::uint32_t read32(std::uint32_t offset) {
        now += 1'000;
        if (gone) {
            return 0xFFFF'FFFF;
        }
        switch (offset) {
        case STATUS: return 0x0008'0083;
        case RCTL: return rctl;
        case TCTL: return tctl;
        case RXDCTL: return rxdctl;
        case TDBAL: return tdbal;
        case TDBAH: return tdbah;
        case TDLEN: return tdlen;
        case TDH: return tdh;
        case TDT: return tdt;
        case FEXTNVM11: return fextnvm11;
        default: blame("another register was read"); return 0;
        }
    }
    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        now += 1'000;
        ++writes;
        switch (offset) {
        case FEXTNVM11: fextnvm11 = value; break;
        case TCTL: tctl = value; break;
        case TDT:
            if ((tctl & EN) == 0) {
                blame("the tail was moved with the transmitter disabled");
            }
            if (!released) {
                blame("the descriptor was not released before the tail moved");
            }
            ++tail_writes;
            told_at = now;
            tdt = value;
            break;
        case RXDCTL:
            if ((rctl & EN) != 0 || now - disabled_at < 100'000) {
                blame("RXDCTL was written before the receiver had stopped");
            }
            rxdctl = value;
            break;
        case RCTL:
            if ((value & EN) != 0) {
                ++receiver_enables;
                enabled_at = now;
            } else {
                disabled_at = now;
                // prefetch 31, host 1, in descriptors, for at least 100 us
                if (receiver_enables != 0 && now - enabled_at >= 100'000 &&
                    (rxdctl & 0x0100'3FFF) == 0x0100'011F) {
                    receive_holds = false;
                }
            }
            rctl = value;
            break;
        default: blame("another register was written"); break;
        }
    }
    constexpr std::uint16_t ring_status() {
        now += 1'000;
        // A first descriptor of 512 bytes without EOP, and 200 us for it.
        if (tail_writes == 1 && now - told_at >= 200'000 && fextnvm11 == 0x0000'2001 &&
            ring[14] == 0xABC'DEF0 && ring[15] == 0x0200'0200) {
            transmit_holds = false;
        }
        return transmit_holds || receive_holds ? 0x0110 : 0x0010;
    }
};
struct window {
    nic* device;
    constexpr std::uint32_t read32(std::uint32_t offset) { return device->read32(offset); }
    constexpr void write32(std::uint32_t offset, std::uint32_t v) { device->write32(offset, v); }
    constexpr std::uint64_t read64(std::uint32_t) { return 0; }
    constexpr void write64(std::uint32_t, std::uint64_t) {}
};
struct descriptors {
    nic* device;
    constexpr std::uint64_t read64(std::uint32_t offset) { return device->ring[offset / 8]; }
    constexpr void write64(std::uint32_t offset, std::uint64_t value) {
        if (offset % 8 != 0 || offset >= 128) {
            return device->blame("a store beside the ring");
        }
        device->ring[offset / 8] = value;
        device->released = false;
    }
};
struct order {
    nic* device;
    constexpr void release() { device->released = true; }
    constexpr void acquire() {}
};
struct stopwatch {
    nic* device;
    constexpr std::uint64_t now() { return device->now += 1'000; }
};

constexpr flushed_ring ours{.base = iova{0x123'4567'8000}, .count = 8, .data = iova{0x0ABC'DEF0}};

constexpr pt::result<ring_flush> flush(nic& device, flushed_ring ring = ours) {
    return pt::e1000e::flush_rings(window{&device}, descriptors{&device}, order{&device},
                                   stopwatch{&device}, ring, [&] { return device.ring_status(); });
}

constexpr bool a_transmit_ring_is_flushed() {
    nic device;
    const auto done = flush(device);
    return done.has_value() && *done == ring_flush::transmit && device.fault == nullptr &&
           device.tdt == 0 && // it wraps
           device.tctl == 0x3103'F0FA && device.receiver_enables == 0 && !device.transmit_holds;
}
static_assert(a_transmit_ring_is_flushed());

TEST_CASE("the transmit ring is flushed by a packet that never ends", "[e1000e][i219]") {
    REQUIRE(a_transmit_ring_is_flushed());
    nic device;
    device.tdh = 0;
    device.tdt = 3; // not where the model waits for the descriptor
    CHECK(flush(device).error() == error{errc::hardware_fault, 0xE4});
    CHECK(device.tdt == 4);
    CHECK(device.ring[6] == 0x0ABC'DEF0);
    CHECK(device.ring[7] == 0x0200'0200); // IFCS and 512; neither EOP nor RS
}

TEST_CASE("then the receive ring, if something is still held", "[e1000e][i219]") {
    nic device;
    device.receive_holds = true;
    const auto done = flush(device);
    REQUIRE(done.has_value());
    CHECK(*done == ring_flush::transmit_and_receive);
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    CHECK(device.receiver_enables == 1);
    CHECK(device.rctl == 0x0400'8000);   // disabled, and otherwise as it was
    CHECK(device.rxdctl == 0x0B04'C11F); // PTHRESH 31, HTHRESH 1, GRAN; the rest as it was
    CHECK(device.now < 1'000'000);       // in no more time than that
}

TEST_CASE("a receiver that is still enabled is stopped first", "[e1000e][i219]") {
    nic device;
    device.receive_holds = true;
    device.rctl |= EN;
    const auto done = flush(device);
    REQUIRE(done.has_value());
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    CHECK((device.rctl & EN) == 0);
}

TEST_CASE("nothing is flushed that need not be", "[e1000e][i219]") {
    nic device;
    SECTION("nothing is held") { device.transmit_holds = false; }
    SECTION("no ring was ever programmed") { device.tdlen = 0; }
    const auto done = flush(device);
    REQUIRE(done.has_value());
    CHECK(*done == ring_flush::not_needed);
    CHECK(device.fextnvm11 == 0x0000'2001); // always, before a reset
    CHECK(device.writes == 1);
    CHECK(device.fault == nullptr);
}

TEST_CASE("a ring that cannot be flushed is left alone", "[e1000e][i219]") {
    nic device;
    SECTION("somebody else's: base") {
        device.tdbal = 0x4567'9000;
        CHECK(flush(device).error() == error{errc::refused, 0x3800});
    }
    SECTION("somebody else's: base, high half") {
        device.tdbah = 0;
        CHECK(flush(device).error() == error{errc::refused, 0x3800});
    }
    SECTION("somebody else's: length") {
        device.tdlen = 256;
        CHECK(flush(device).error() == error{errc::refused, 0x3800});
    }
    SECTION("a head outside") {
        device.tdh = 8;
        CHECK(flush(device).error() == error{errc::hardware_fault, 0x3810});
    }
    SECTION("a tail outside") {
        device.tdt = 8;
        CHECK(flush(device).error() == error{errc::hardware_fault, 0x3818});
    }
    SECTION("full, in the middle") {
        device.tdh = 4;
        device.tdt = 3;
        CHECK(flush(device).error() == error{errc::busy, 0x3818});
    }
    SECTION("full, around the end") {
        device.tdh = 0;
        device.tdt = 7;
        CHECK(flush(device).error() == error{errc::busy, 0x3818});
    }
    CHECK(device.writes == 1);
    CHECK(device.fault == nullptr);
    for (const std::uint64_t word : device.ring) {
        CHECK(word == 0);
    }
}

TEST_CASE("a NIC that is gone is absent", "[e1000e][i219]") {
    nic device;
    device.gone = true;
    CHECK(flush(device).error() == error{errc::absent, 0x0008});
    CHECK(device.writes == 0);
}

} // namespace
