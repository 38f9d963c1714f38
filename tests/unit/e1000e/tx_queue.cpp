// SPDX-License-Identifier: BSL-1.0
// The registers of a transmit queue, as the guest reads and writes them.
#include "pt/e1000e/tx_queue.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::e1000e::queue;
using pt::e1000e::tx_queue;

constexpr std::uint32_t CTRL = 0x0000;
constexpr std::uint32_t VET = 0x0038;
constexpr std::uint32_t TCTL = 0x0400;
constexpr std::uint32_t TDBAL = 0x3800;
constexpr std::uint32_t TDBAH = 0x3804;
constexpr std::uint32_t TDLEN = 0x3808;
constexpr std::uint32_t TDH = 0x3810;
constexpr std::uint32_t TDT = 0x3818;
constexpr std::uint32_t TIDV = 0x3820;
constexpr std::uint32_t TXDCTL = 0x3828;
constexpr std::uint32_t TADV = 0x382C;
constexpr std::uint32_t TARC = 0x3840;

struct expectation {
    std::uint32_t offset;
    bool per_queue;
    std::uint32_t initial;
    std::uint32_t writable; // reserved bits and those that software only writes read 0
};
constexpr expectation expectations[] = {
    {TDBAL, true, 0, 0xFFFF'FFF0},
    {TDBAH, true, 0, 0xFFFF'FFFF},
    {TDLEN, true, 0, 0x000F'FF80},
    {TDH, true, 0, 0x0000'FFFF},
    {TDT, true, 0, 0x0000'FFFF},
    {TXDCTL, true, 0, 0xFF7F'3F3F},
    {TARC, true, 0x403, 0x0000'07FF},
    {TIDV, false, 0, 0x0000'FFFF},
    {TADV, false, 0, 0x0000'FFFF},
    {VET, false, 0x8100, 0x0000'FFFF},
    {TCTL, false, 0x3003'F0F8, 0x7FBF'FFFA},
};

TEST_CASE("a queue owns its registers and those of the transmitter, and no others", "[e1000e]") {
    constexpr auto check = [](queue number) {
        tx_queue registers{number};
        bool good = registers.number() == number;
        const std::uint32_t own = number == queue::second ? 0x100 : 0;
        for (const expectation& e : expectations) {
            const std::uint32_t at = e.offset + (e.per_queue ? own : 0);
            good = good && registers.owns(at) && registers.read(at) == e.initial;
        }
        for (const expectation& e : expectations) {
            const std::uint32_t at = e.offset + (e.per_queue ? own : 0);
            registers.write(TCTL, 0); // TDH takes a value only then
            registers.write(at, 0xFFFF'FFFF);
            good = good && registers.read(at) == e.writable;
            registers.write(at, 0);
            good = good && registers.read(at) == 0;
            if (e.per_queue) { // the other queue's
                const std::uint32_t other = e.offset + (0x100 - own);
                registers.write(other, 0xFFFF'FFFF);
                good = good && !registers.owns(other) && registers.read(other) == 0 &&
                       registers.read(at) == 0;
            }
        }
        // CTRL, STATUS, ICR, TIPG, RDBAL, beside a register, behind both queues
        for (const std::uint32_t offset :
             {CTRL, 0x0008U, 0x00C0U, 0x0410U, 0x2800U, 0x3801U, 0x3A00U, 0xFFFF'FFFCU}) {
            registers.write(offset, 0);
            good = good && !registers.owns(offset) && registers.read(offset) == 0;
        }
        return good;
    };
    static_assert(check(queue::first));
    static_assert(check(queue::second));
    REQUIRE(check(queue::first));
    REQUIRE(check(queue::second));
}

TEST_CASE("the head is written only while the transmitter is disabled", "[e1000e][rule 24]") {
    constexpr auto check = [] {
        tx_queue registers;
        registers.write(TDH, 5);
        bool good = registers.read(TDH) == 5 && registers.places_ring(TDH);
        registers.write(TCTL, 2);
        registers.write(TDH, 7);
        good = good && registers.read(TDH) == 5 && !registers.places_ring(TDH);
        good = good && registers.places_ring(TDBAL) && registers.places_ring(TDBAH) &&
               registers.places_ring(TDLEN) && !registers.places_ring(TDT);
        registers.write(TCTL, 0);
        registers.write(TDH, 7);
        return good && registers.read(TDH) == 7;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("CTRL.RST resets the queue, and VME is all that is kept of CTRL", "[e1000e]") {
    constexpr auto check = [] {
        tx_queue registers{queue::second};
        registers.write(CTRL, 1U << 30);
        bool good = registers.vlan_mode() && registers.read(CTRL) == 0;
        registers.write(CTRL, 0);
        good = good && !registers.vlan_mode();
        registers.write(CTRL, 1U << 30);
        registers.write(TDT + 0x100, 9);
        registers.write(VET, 0x88A8);
        good = good && registers.vlan_ether_type() == 0x88A8;
        registers.write(CTRL, 1U << 26 | 1U << 30);
        return good && !registers.vlan_mode() && registers.read(TDT + 0x100) == 0 &&
               registers.vlan_ether_type() == 0x8100 && registers.number() == queue::second;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a ring is valid when head and tail lie in it and it ends before 2^64",
          "[e1000e][rule 24]") {
    struct ring {
        std::uint64_t base;
        std::uint32_t length, head, tail;
        bool valid;
    };
    constexpr ring rings[] = {
        {0x1000, 0, 0, 0, false},
        {0x1000, 128, 0, 0, true},
        {0x1000, 128, 7, 7, true},
        {0x1000, 128, 8, 0, false},
        {0x1000, 128, 0, 8, false},
        {0x1000, 127, 0, 0, false}, // the low bits do not exist
        {0x1000, 0xF'FF80, 65527, 65527, true},
        {0x1000, 0xF'FF80, 65528, 0, false},
        {0x1000, 0xF'FF80, 0, 0xFFFF, false},
        {0, 128, 0, 0, true},
        {0xFFFF'FFFF'FFFF'FF80, 128, 7, 0, true}, // up to the last byte
        {0xFFFF'FFFF'FFFF'FF90, 128, 0, 0, false},
        {0xFFFF'FFFF'FFFF'FF80, 256, 0, 0, false},
    };
    constexpr auto check = [](const ring& r) {
        tx_queue registers;
        registers.write(TDBAL, static_cast<std::uint32_t>(r.base));
        registers.write(TDBAH, static_cast<std::uint32_t>(r.base >> 32));
        registers.write(TDLEN, r.length);
        registers.write(TDH, r.head);
        registers.write(TDT, r.tail);
        return registers.valid() == r.valid && registers.base().raw == r.base &&
               registers.address_of(3).raw == r.base + 48;
    };
    constexpr auto all = [=](const auto& some) {
        bool good = true;
        for (const ring& r : some) {
            good = good && check(r);
        }
        return good;
    };
    static_assert(all(rings));
    REQUIRE(all(rings));
}

TEST_CASE("the queue is enabled by TCTL.EN together with TARC.ENABLE", "[e1000e]") {
    constexpr auto check = [] {
        tx_queue registers;
        bool good = !registers.enabled() && registers.pads_short_packets();
        registers.write(TCTL, 2);
        good = good && registers.enabled() && !registers.pads_short_packets();
        registers.write(TARC, 3);
        good = good && !registers.enabled();
        registers.write(TARC, 0x400);
        registers.write(TCTL, 8);
        return good && !registers.enabled() && registers.pads_short_packets();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("TXQE when the last descriptor is taken, TXD_LOW when LWTHRESH * 8 are left",
          "[e1000e]") {
    constexpr auto check = [](std::uint32_t lwthresh, std::uint32_t first) {
        tx_queue registers;
        registers.write(TDLEN, 24 * 16);
        registers.write(TXDCTL, lwthresh << 25);
        registers.write(TDH, first);
        const std::uint32_t tail = (first + 23) % 24;
        registers.write(TDT, tail);
        bool good = registers.pending() == 23;
        for (std::uint32_t left = 23; left-- != 0;) {
            const std::uint32_t causes = registers.advance_head().raw;
            const std::uint32_t expected =
                (left == 0 ? 0x2U : 0U) | (left == 8 * lwthresh ? 0x8000U : 0U);
            good = good && causes == expected && registers.pending() == left;
        }
        return good && registers.read(TDH) == tail;
    };
    constexpr auto all = [=] {
        bool good = true;
        for (const std::uint32_t lwthresh : {0U, 1U, 2U, 3U, 127U}) {
            good = good && check(lwthresh, 0) && check(lwthresh, 1) && check(lwthresh, 23);
        }
        return good;
    };
    static_assert(all());
    REQUIRE(all());
}

TEST_CASE("a write-back raises TXDW and the cause of the queue", "[e1000e]") {
    STATIC_REQUIRE(tx_queue{queue::first}.write_back_causes().raw == 0x0040'0001);
    STATIC_REQUIRE(tx_queue{queue::second}.write_back_causes().raw == 0x0080'0001);
}

} // namespace
