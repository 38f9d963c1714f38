// SPDX-License-Identifier: BSL-1.0
// A guest's ring through a shadow ring to a NIC that has no IOMMU before it (mediation.hpp).
#include "pt/e1000e/shadow_ring.hpp"

#include "pt/core/archetype.hpp"

#include "../../paging_model/contract.hpp"
#include "mediation.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace {

using namespace mediation;
using pt::errc;
using pt::error;
using pt::e1000e::shadow_step;
using pt::e1000e::shadow_stop;

// The guest's memory: its ring at 64, buffers from 1024 on, of pages that lie apart.
constexpr u32 ring_at = 64;
using small = machine<64, 40, 32>;

constexpr u32 TXDW = 1U << 0, TXQE = 1U << 1, TXQ0 = 1U << 22;

std::string fault_of(const small& m) { return m.device.fault == nullptr ? "" : m.device.fault; }

// ---------------------------------------------------------------------------------- a packet's way

constexpr bool one_packet() {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 200, 3);
    m.put(0, 1034, 150 | EOP | IFCS | RS);
    m.shadow.write(TDT, 1);

    const shadow_step given = m.shadow.step();
    bool right = given.why == shadow_stop::idle && given.taken == 1 && given.sent == 1 &&
                 given.done == 0 && given.causes.raw == 0 && m.shadow.in_flight() == 1;
    right = right && !m.is_done(0) && m.shadow.read(TDH) == 0; // the NIC has not sent it yet
    m.device.run();
    const shadow_step back = m.shadow.step();
    right = right && back.done == 1 && back.taken == 0 &&
            (back.causes.raw & (TXDW | TXQE | TXQ0)) == (TXDW | TXQE | TXQ0);
    right = right && m.is_done(0) && m.shadow.read(TDH) == 1 && m.shadow.in_flight() == 0;
    // 54 bytes to the end of the page, 64, and 32.
    return right && m.device.fault == nullptr && m.device.sent_count == 1 &&
           m.device.last_sent().length == 150 && m.device.last_sent().pieces == 3 &&
           m.sent_has(0, 1034, 150);
}
static_assert(one_packet());

constexpr bool pages_that_lie_together() {
    small m{1}; // page i is frame i + 1
    m.program(ring_at, 8);
    m.fill(1024, 400, 3);
    m.put(0, 1034, 150 | EOP | IFCS);
    m.shadow.write(TDT, 1);
    m.shadow.step();
    m.device.run();
    m.shadow.step();
    return m.device.fault == nullptr && m.device.last_sent().pieces == 1 &&
           m.sent_has(0, 1034, 150) && !m.is_done(0) && m.shadow.read(TDH) == 1;
}
static_assert(pages_that_lie_together());

TEST_CASE("a packet is sent from wherever its pages are, and is done when the NIC is done",
          "[e1000e][rule 24]") {
    CHECK(one_packet());
    CHECK(pages_that_lie_together());
}

TEST_CASE("a translation that gives one byte at a time makes no more pieces than pages",
          "[e1000e]") {
    small m{7};
    m.memory.longest_piece = 1;
    m.program(ring_at, 8);
    m.fill(1024, 200, 9);
    m.put(0, 1034, 150 | EOP | IFCS | RS);
    m.shadow.write(TDT, 1);
    while (m.shadow.step(10).why == shadow_stop::budget) {}
    m.device.run();
    m.shadow.step();
    CHECK(m.sent_has(0, 1034, 150));
    CHECK(m.device.last_sent().pieces == 3);
    CHECK(fault_of(m).empty());
}

// ------------------------------------------------------------------------------------------ fields

constexpr bool legacy_fields() {
    small m{5};
    m.program(ring_at, 8);
    m.fill(1024, 300, 1);
    m.shadow.write(0x0000, 1U << 30); // CTRL.VME
    // CSS counts in the first, the rest in the last; everything else there is noise.
    m.put(0, 1030, 20 | css(14) | cso(3) | IC | VLE | tag(0x111) | u64{0xFE} << 32);
    m.put(1, 1100, 30 | css(99) | RS | IDE | u64{1} << 28);
    m.put(2, 1200, 40 | css(77) | cso(24) | IC | VLE | tag(0xA123) | EOP | RS | u64{0xAE} << 32);
    m.shadow.write(TDT, 3);
    m.shadow.step();
    m.device.run();
    const shadow_step back = m.shadow.step();
    const auto& sent = m.device.last_sent();
    return m.device.fault == nullptr && m.device.sent_count == 1 && sent.length == 90 &&
           m.sent_has(0, 1030, 20) && m.sent_has(20, 1100, 30) && m.sent_has(50, 1200, 40) &&
           sent.first == css(14) && sent.last == (cso(24) | IC | VLE | tag(0xA123) | IFCS) &&
           !m.is_done(0) && m.is_done(1) && m.is_done(2) && back.delayed_write_back &&
           // Only STA is written.
           m.command_at(1) == (30 | css(99) | RS | IDE | u64{1} << 28 | DD) &&
           (m.command_at(2) >> 32 & 0xFF) == 0xA1;
}
static_assert(legacy_fields());

constexpr u64 checksum_offsets = 14 | 24 << 8 | 33 << 16 | u64{34} << 32 | u64{50} << 40;

constexpr bool data_fields() {
    small m{5};
    m.program(ring_at, 8);
    m.fill(1024, 300, 1);
    m.shadow.write(0x0000, 1U << 30); // CTRL.VME
    const u64 noise = u64{0xFF} << 32 | u64{1} << 28 | IDE;
    m.put(0, checksum_offsets, DEXT | TCP | IPV4 | noise | u64{54} << 40 | u64{1460} << 48 | 999);
    // POPTS count in the first; IFCS, VLE and the tag in the last.
    m.put(1, 1024, 60 | DATA | IXSM | TXSM | VLE | tag(1) | noise | u64{0x3F} << 42);
    m.put(2, 1100, 40 | DATA | IFCS | VLE | tag(0x7ABC) | EOP | RS);
    m.shadow.write(TDT, 3);
    m.shadow.step();
    m.device.run();
    m.shadow.step();
    const auto& sent = m.device.last_sent();
    const u64 each = DATA | IXSM | TXSM | IFCS | VLE | tag(0x7ABC);
    return m.device.fault == nullptr && m.device.sent_count == 1 && sent.length == 100 &&
           m.sent_has(0, 1024, 60) && m.sent_has(60, 1100, 40) && sent.first == each &&
           sent.last == each && sent.offsets == checksum_offsets &&
           sent.command == (DEXT | TCP | IPV4);
}
static_assert(data_fields());

TEST_CASE("each field counts where the datasheet says, and no other bit reaches the NIC",
          "[e1000e][rule 25]") {
    CHECK(legacy_fields());
    CHECK(data_fields());
}

TEST_CASE("VLE counts only with the guest's CTRL.VME", "[e1000e]") {
    small m{5};
    m.program(ring_at, 8);
    m.put(0, 1024, 70 | VLE | tag(5) | IFCS | EOP);
    m.put(1, 1024, 70 | DATA | VLE | tag(5) | IFCS | EOP);
    m.shadow.write(TDT, 2);
    m.shadow.step();
    m.device.run();
    CHECK(m.device.sent[0].last == IFCS);
    CHECK(m.device.sent[1].last == (DATA | IFCS));
    CHECK(fault_of(m).empty());
}

TEST_CASE("a frame that brings its FCS keeps it, unless the NIC changes or pads it", "[e1000e]") {
    small m{5};
    m.program(ring_at, 16);
    m.fill(1024, 200, 1);
    m.put(0, 1024, 60 | EOP);
    m.put(1, 1024, 60 | DATA | EOP);
    m.put(2, 1024, 59 | EOP);
    m.put(3, 1024, 59 | DATA | EOP);
    m.shadow.write(TDT, 4);
    m.shadow.step();
    m.device.run();
    REQUIRE(m.device.sent_count == 4);
    CHECK(m.device.sent[0].last == 0);
    CHECK(m.device.sent[1].last == DATA);
    CHECK(m.device.sent[2].last == IFCS);
    CHECK(m.device.sent[3].last == (DATA | IFCS));
    CHECK(fault_of(m).empty());
}

TEST_CASE("a checksum that lies outside its packet is not inserted", "[e1000e]") {
    small m{5};
    m.program(ring_at, 16);
    m.fill(1024, 200, 1);
    const u64 outside = u64{100} << 32 | u64{50} << 40;        // TUCSS = length
    m.put(0, outside | checksum_offsets % (1ULL << 32), DEXT); // IP is inside
    m.put(1, 1024, 100 | DATA | IXSM | TXSM | IFCS | EOP);
    m.put(2, 33 | 24 << 8 | 32 << 16 | u64{34} << 32 | u64{99} << 40,
          DEXT); // end < start; at its end
    m.put(3, 1024, 100 | DATA | IXSM | TXSM | IFCS | EOP);
    m.put(4, 1024, 100 | css(99) | cso(98) | IC | IFCS | EOP); // the last that fits
    m.put(5, 1024, 100 | css(100) | cso(50) | IC | IFCS | EOP);
    m.put(6, 1024, 100 | css(14) | cso(99) | IC | IFCS | EOP);
    m.shadow.write(TDT, 4);
    m.shadow.step();
    m.device.run();
    REQUIRE(m.device.sent_count == 2);
    CHECK(m.device.sent[0].last == (DATA | IFCS | IXSM));
    CHECK(m.device.sent[0].offsets == checksum_offsets % (1ULL << 32));
    CHECK(m.device.sent[1].last == (DATA | IFCS));
    m.shadow.write(TDT, 7);
    m.shadow.step();
    m.device.run();
    REQUIRE(m.device.sent_count == 5);
    CHECK(m.device.sent[2].first == css(99));
    CHECK(m.device.sent[2].last == (IFCS | IC | cso(98)));
    CHECK(m.device.sent[3].last == IFCS);
    CHECK(m.device.sent[3].first == 0);
    CHECK(m.device.sent[0].last == IFCS); // the fifth one
    CHECK(m.device.sent[0].first == 0);
    CHECK(fault_of(m).empty());
}

// ------------------------------------------------------------------------------------ segmentation

// Ethernet, IPv4, TCP: 14 + 20 + 20 bytes.
constexpr u64 tso_offsets = 14 | 24 << 8 | 33 << 16 | u64{34} << 32 | u64{50} << 40;
constexpr u64 tso_command(u64 payload, u64 header = 54, u64 mss = 100) {
    return payload | header << 40 | mss << 48 | DEXT | TSE | TCP | IPV4;
}
constexpr u64 segments = DATA | TSE | IXSM | TXSM | IFCS;

constexpr bool segmentation() {
    small m{1};
    m.program(ring_at, 8);
    m.fill(1024, 700, 1);
    m.shadow.write(0x0000, 1U << 30); // CTRL.VME
    m.put(0, tso_offsets, tso_command(546) | IDE | RS);
    m.put(1, 1024, 300 | segments | VLE | tag(7));
    m.put(2, 1400, 300 | DATA | TSE | EOP | RS | tag(9)); // with TSE, the first one counts
    m.shadow.write(TDT, 3);
    m.shadow.step();
    const bool in_place = m.memory.reads == 3; // descriptors only
    m.device.run();
    m.shadow.step();
    const auto& sent = m.device.last_sent();
    return in_place && m.device.fault == nullptr && m.device.sent_count == 1 &&
           sent.length == 600 && sent.first == (segments | VLE | tag(7)) &&
           sent.offsets == tso_offsets && sent.command == tso_command(546) &&
           m.sent_has(0, 1024, 300) && m.sent_has(300, 1400, 300) && sent.pieces == 2 &&
           m.is_done(0) && !m.is_done(1) && m.is_done(2);
}
static_assert(segmentation());

/// The headers lie together, and beside them `beside` bytes of the payload, to the end of a page.
constexpr bool payload_beside_headers(u64 payload, u32 beside, bool copied) {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 700, 1);
    const u32 at = 1088 - 54 - beside; // the first page ends behind that
    m.put(0, tso_offsets, tso_command(payload));
    m.put(1, at, (54 + payload) | segments | EOP | RS);
    m.shadow.write(TDT, 2);
    m.shadow.step();
    const bool read = m.memory.reads == (copied ? 3 : 2); // two descriptors, and the copy
    m.device.run();
    m.shadow.step();
    const auto length = static_cast<u32>(54 + payload);
    return read && m.device.fault == nullptr && m.device.sent_count == 1 &&
           m.device.last_sent().length == length && m.sent_has(0, at, length) && m.is_done(1) &&
           m.device.last_sent().pieces == (payload <= (copied ? 4 : beside) ? 1 : 2);
}
static_assert(payload_beside_headers(60, 4, false) && payload_beside_headers(60, 3, true));
static_assert(payload_beside_headers(4, 3, true) && payload_beside_headers(4, 0, true));
static_assert(payload_beside_headers(1, 0, true) && payload_beside_headers(60, 0, true));

/// The longest headers that a NIC takes, in many pieces, with all that belongs beside them.
constexpr bool longest_headers() {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 700, 1);
    m.put(0, tso_offsets, tso_command(300, 240));
    m.put(1, 1030, 540 | segments | EOP | RS);
    m.shadow.write(TDT, 2);
    m.shadow.step();
    m.device.run();
    m.shadow.step();
    return m.device.fault == nullptr && m.sent_has(0, 1030, 540) && m.is_done(1);
}
static_assert(longest_headers());

/// The headers lie in three buffers and four pages, and the fourth buffer has data only.
constexpr bool headers_in_parts() {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    m.put(0, tso_offsets, tso_command(146));
    m.put(1, 1024 + 60, 14 | segments);
    m.put(2, 1024 + 120, 20 | segments);
    m.put(3, 1024 + 180, 66 | segments); // 20 bytes of it are headers
    m.put(4, 1024 + 300, 100 | segments | EOP | RS);
    m.shadow.write(TDT, 5);
    m.shadow.step();
    for (u32 i = 0; i < 250; ++i) {
        m.headers[1].bytes[i] = 0xEE; // not the one that is in use
    }
    m.device.run();
    m.shadow.step();
    const auto& sent = m.device.last_sent();
    return m.device.fault == nullptr && m.device.sent_count == 1 && sent.length == 200 &&
           m.sent_has(0, 1084, 14) && m.sent_has(14, 1144, 20) && m.sent_has(34, 1204, 66) &&
           m.sent_has(100, 1324, 100) && m.is_done(4);
}
static_assert(headers_in_parts());

TEST_CASE("a packet to be segmented goes out with its context, and its headers in one piece",
          "[e1000e][rule 25]") {
    CHECK(segmentation());
    CHECK(headers_in_parts());
}

TEST_CASE("headers are not sent without a few bytes of payload beside them", "[e1000e]") {
    CHECK(payload_beside_headers(60, 4, false));
    CHECK(payload_beside_headers(60, 3, true));
    CHECK(payload_beside_headers(60, 0, true));
    CHECK(payload_beside_headers(5, 4, false));
    for (u32 payload = 1; payload <= 4; ++payload) {
        for (u32 beside = 0; beside <= payload; ++beside) {
            CHECK(payload_beside_headers(payload, beside, beside != payload));
        }
    }
    CHECK(longest_headers());
}

TEST_CASE("without memory for headers, a packet whose headers do not lie together is dropped",
          "[e1000e]") {
    small m{7, 0};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    m.put(0, tso_offsets, tso_command(146));
    m.put(1, 1024 + 6, 200 | segments | EOP | RS); // 58 bytes to the end of the page
    m.put(2, 1024 + 7, 200 | segments | EOP | RS); // 57
    m.shadow.write(TDT, 3);
    const shadow_step all = m.shadow.step();
    CHECK(all.sent == 1);
    CHECK(all.dropped == 1);
    CHECK(all.fault == error{errc::not_supported, ring_at + 2 * 16});
    m.device.run();
    CHECK(m.shadow.step().done == 2);
    CHECK(m.sent_has(0, 1030, 200));
    CHECK(m.is_done(2));
    CHECK(fault_of(m).empty());
}

TEST_CASE("memory for headers is used again when its packet is done", "[e1000e]") {
    small m{7, 2};
    m.program(ring_at, 16);
    m.fill(1024, 400, 1);
    m.put(0, tso_offsets, tso_command(146));
    for (u32 i = 1; i <= 6; ++i) {
        m.put(i, 1024 + 11 * i, 200 | segments | EOP | RS);
    }
    m.shadow.write(TDT, 7);
    CHECK(m.shadow.step().why == shadow_stop::ring_full);
    u32 seen = 0;
    for (unsigned turn = 0; turn < 100 && m.shadow.read(TDH) != 7; ++turn) {
        m.device.run(1);
        m.shadow.step();
        if (m.device.sent_count != seen) {
            seen = m.device.sent_count;
            CHECK(m.sent_has(0, 1024 + 11 * seen, 200));
        }
    }
    CHECK(seen == 6);
    CHECK(m.is_done(6));
    CHECK(fault_of(m).empty());
}

// --------------------------------------------------------------------------------- what is illegal

struct line {
    u64 low;
    u64 high;
};

/// Puts the lines into the guest's ring, and a legal packet behind them; the lines must vanish.
bool vanishes(std::initializer_list<line> lines, u32 fifo_kib = 20, u32 legal_length = 80) {
    small m{7, 4, fifo_kib};
    m.program(ring_at, 16);
    m.fill(1024, 1500, 1);
    u32 at = 0;
    for (const line& each : lines) {
        m.put(at++, each.low, each.high | RS);
    }
    m.put(at++, 1500, legal_length | IFCS | EOP | RS);
    m.shadow.write(TDT, at);
    const shadow_step all = m.shadow.step(~0U);
    m.device.run();
    m.shadow.step();
    bool done = true;
    for (u32 i = 0; i < at; ++i) {
        done = done && m.is_done(i);
    }
    return all.dropped == 1 && all.sent == 1 && all.fault.code != errc::none && done &&
           m.device.sent_count == 1 && m.sent_has(0, 1500, legal_length) &&
           m.device.fault == nullptr && m.shadow.read(TDH) == at;
}

TEST_CASE("what the datasheet does not define never reaches the NIC", "[e1000e][rule 24]") {
    const line tso{tso_offsets, tso_command(146)};
    const auto tso_data = [](u64 length) { return line{1024, length | segments | EOP}; };

    SECTION("lengths") {
        CHECK(vanishes({{1024, 16 | EOP}}));
        CHECK(vanishes({{1024, 16 | DATA | EOP}}));
        CHECK(vanishes({{1024, 8}, {1024, 8 | EOP}}));
        CHECK(vanishes({{1024, 945 | EOP}}, 1, 944)); // the FIFO holds 1024, and 80 must be left
        CHECK(vanishes({{1024, 900 | DATA}, {1024, 45 | DATA | EOP}}, 1));
        CHECK(vanishes({{1024, 0xFFFF | EOP}}));
        CHECK(vanishes({{1024, 0xF'FFFF | DATA | EOP}}));
    }
    SECTION("types") {
        CHECK(vanishes({{1024, 80}, {1024, 80 | DATA | EOP}}));
        CHECK(vanishes({{1024, 80 | DATA}, {1024, 80 | EOP}}));
        CHECK(vanishes({{1024, 80}, {0, DEXT}, {1024, 80 | EOP}}));
        for (u64 type = 2; type < 16; ++type) {
            CAPTURE(type);
            CHECK(vanishes({{1024, 80}, {1024, 80 | DEXT | type << 20}, {1024, 80 | EOP}}));
        }
    }
    SECTION("offloads without a context") {
        CHECK(vanishes({{1024, 80 | DATA | IXSM | EOP}}));
        CHECK(vanishes({{1024, 80 | DATA | TXSM | EOP}}));
        CHECK(vanishes({{checksum_offsets, DEXT}, {1024, 200 | segments | EOP}}));
    }
    SECTION("TSE on some descriptors") {
        CHECK(vanishes({tso, {1024, 100 | segments}, {1200, 100 | DATA | IFCS | EOP}}));
        CHECK(vanishes({tso, {1024, 100 | DATA | IFCS}, {1200, 100 | segments | EOP}}));
    }
    SECTION("HDRLEN and PAYLEN that are not the data's length") {
        CHECK(vanishes({tso, tso_data(199)}));
        CHECK(vanishes({tso, tso_data(201)}));
        CHECK(vanishes({tso, tso_data(54)}));
        CHECK(vanishes({tso, tso_data(20)}));
        CHECK(vanishes({{tso_offsets, tso_command(0)}, tso_data(54)}));
    }
    SECTION("headers and segments") {
        CHECK(vanishes({{tso_offsets, tso_command(146, 54, 16)}, tso_data(200)}));
        CHECK(vanishes({{tso_offsets, tso_command(146, 0)}, tso_data(146)}));
        CHECK(vanishes({{tso_offsets, tso_command(146, 53)}, tso_data(199)}));
        CHECK(vanishes({{tso_offsets, tso_command(146, 241)}, tso_data(146 + 241)}));
        // 54 + 886 + 4 bytes for a tag are 944.
        CHECK(vanishes({{tso_offsets, tso_command(946, 54, 887)}, tso_data(1000)}, 1));
        CHECK_FALSE(vanishes({{tso_offsets, tso_command(946, 54, 886)}, tso_data(1000)}, 1));
        const auto with = [](u64 mask, u64 value) { return (tso_offsets & ~mask) | value; };
        CHECK(vanishes({{with(0xFF, 13), tso_command(146)}, tso_data(200)}));        // IPCSS
        CHECK(vanishes({{with(0xFF, 15), tso_command(146)}, tso_data(200)}));        // 19 bytes
        CHECK(vanishes({{with(0xFF00, 53 << 8), tso_command(146)}, tso_data(200)})); // IPCSO
        CHECK(vanishes({{with(0xFFFF0000, 13 << 16), tso_command(146)}, tso_data(200)}));
        CHECK(vanishes({{with(0xFFFF0000, 54 << 16), tso_command(146)}, tso_data(200)}));
        CHECK(vanishes({{with(u64{0xFF} << 32, u64{35} << 32), tso_command(146)}, tso_data(200)}));
        CHECK(vanishes({{with(u64{0xFF} << 40, u64{53} << 40), tso_command(146)}, tso_data(200)}));
        CHECK(
            vanishes({{with(u64{0xFFFF} << 48, u64{33} << 48), tso_command(146)}, tso_data(200)}));
        // An IPv6 header has 40 bytes.
        CHECK(vanishes({{tso_offsets, tso_command(146) & ~IPV4}, tso_data(200)}));
    }
    SECTION("addresses") {
        CHECK(vanishes({{64 * 40, 80 | EOP}})); // the page behind the guest's last one
        CHECK(vanishes({{64 * 40 - 79, 80 | EOP}}));
        CHECK(vanishes({{~u64{0} - 20, 80 | EOP}}));
        CHECK(vanishes({{~u64{0}, 80 | DATA | EOP}}));
        CHECK(vanishes({{host_base, 80 | EOP}}));
        CHECK(vanishes({tso, {1024, 100 | segments}, {host_base, 100 | segments | EOP}}));
    }
}

TEST_CASE("a fault that nobody else told names the descriptor at which it turned out", "[e1000e]") {
    const auto fault = [](std::initializer_list<line> lines) {
        machine<64, 40, 32, 1024, 4, 64, 6> m{7}; // 6 slots
        m.program(ring_at, 8, 5);                 // the ring goes round
        u32 at = 5;
        for (const line& each : lines) {
            m.put(at, each.low, each.high);
            at = at == 7 ? 0 : at + 1;
        }
        m.shadow.write(TDT, at);
        const error first = m.shadow.step().fault;
        CHECK(m.shadow.step().fault == error{});
        return first;
    };
    const auto at = [](errc code, u32 index) { return error{code, ring_at + 16 * index}; };
    const line tso{tso_offsets, tso_command(146)};
    CHECK(fault({{1024, 0xFFFF | EOP}}) == at(errc::malformed, 5));
    CHECK(fault({{1024, 80}, {1024, 80 | DATA | EOP}}) == at(errc::malformed, 6));
    CHECK(fault({{1024, 80}, {0, DEXT}, {1024, 80 | EOP}}) == at(errc::malformed, 6));
    CHECK(fault({{1024, 80}, {1024, 1}, {~u64{0}, 2 | EOP}}) == at(errc::malformed, 7));
    CHECK(fault({tso, {1024, 100 | segments}, {1024, 99 | segments | EOP}}) ==
          at(errc::malformed, 7));
    CHECK(fault({{1024, 10}, {1024, 1}, {1024, 5 | EOP}}) == at(errc::not_supported, 7));
    CHECK(fault({{1024, 1}, {1024, 1}, {1024, 1}, {1024, 1}, {1024, 1}, {1024, 1}, {1024, 1}}) ==
          at(errc::out_of_range, 2)); // the sixth one has the last slot
    CHECK(fault({{64 * 40 - 20, 80 | EOP}}) == error{errc::not_mapped, 64 * 40}); // the buffer's
}

TEST_CASE("of an illegal packet only that is counted, and the first fault is told", "[e1000e]") {
    small m{7};
    m.program(ring_at, 16);
    m.put(0, 1024, 80);
    m.put(1, 64 * 40 - 20, 80); // 20 bytes are there
    m.put(2, host_base, 80);    // belongs to the same packet
    m.put(3, 1024, 80 | EOP);
    m.put(4, 1024, 5 | EOP);
    m.shadow.write(TDT, 5);
    const shadow_step all = m.shadow.step();
    CHECK(all.taken == 5);
    CHECK(all.dropped == 2);
    CHECK(all.sent == 0);
    CHECK(all.done == 5);
    CHECK(all.fault == error{errc::not_mapped, 64 * 40});
    CHECK(m.shadow.read(TDH) == 5);
    CHECK(m.device.reg(TDT) == 0);
}

TEST_CASE("descriptors without data send nothing, and take their place in the packet",
          "[e1000e][rule 24]") {
    small m{7};
    m.program(ring_at, 16);
    m.fill(1024, 200, 1);
    m.put(0, 1024, 0 | RS);
    m.put(1, 1024, 70 | css(20)); // CSS counts in the first descriptor, which has none
    m.put(2, 0, 70 | RS);
    m.put(3, 0, 0 | EOP | RS | IC | cso(30));
    m.put(4, 0, 100 | EOP | RS); // no packet at all
    m.put(5, 0, DEXT | 7U << 20 | RS | EOP);
    m.shadow.write(TDT, 6);
    const shadow_step all = m.shadow.step();
    CHECK(all.sent == 1);
    CHECK(all.dropped == 0);
    m.device.run();
    m.shadow.step();
    CHECK(m.device.last_sent().length == 70);
    CHECK(m.device.last_sent().first == 0); // CSS
    CHECK(m.device.last_sent().last == (IC | cso(30) | IFCS));
    for (const u32 i : {0U, 2U, 3U, 4U, 5U}) {
        CHECK(m.is_done(i));
    }
    CHECK(m.shadow.read(TDH) == 6);
    CHECK(fault_of(m).empty());
}

/// Translates whatever it is given, and 2048 to where a NIC understands that there is no data.
struct everything {
    static constexpr pt::result<pt::dma_piece> translate(pt::iova at, u64 size, pt::dma_access) {
        return pt::dma_piece{pt::hpa{at.raw - 2048}, size};
    }
};
TEST_CASE("a buffer at host address 0, or around the end of the address space, is dropped",
          "[e1000e]") {
    small m{7};
    pt::e1000e::shadow_ring shadow{
        guest_memory<small::host_type>{&m.memory}, everything{}, m.ring,
        pt::e1000e::shadow_storage{
            .pieces = m.pieces, .piece_count = 64, .slots = m.slots, .slot_count = 64}};
    m.guest_ring = ring_at;
    shadow.write(TDBAL, ring_at);
    shadow.write(TDLEN, 128);
    shadow.write(TCTL, EN);
    m.put(0, 2048, 80 | EOP);
    m.put(1, 2049, 80 | EOP);
    m.put(2, ~u64{0} - 78, 80 | EOP);
    m.put(3, ~u64{0} - 79, 80 | EOP);
    shadow.write(TDT, 2);
    const shadow_step first = shadow.step();
    CHECK(first.dropped == 1);
    CHECK(first.fault == error{errc::out_of_range, ring_at});
    CHECK(first.sent == 1);
    shadow.write(TDT, 4);
    const shadow_step second = shadow.step();
    CHECK(second.dropped == 1);
    CHECK(second.fault == error{errc::malformed, ring_at + 2 * 16});
    CHECK(second.sent == 1);
}

// ------------------------------------------------------------------------------------------ limits

TEST_CASE("a packet that never ends is dropped where the storage ends", "[e1000e][rule 24]") {
    small m{7};
    m.program(ring_at, 16);
    m.fill(1024, 200, 1);
    u32 tail = 0;
    u32 dropped = 0;
    for (u32 i = 0; i < 500; ++i) {
        m.put(tail, 1024, 1 | RS);
        tail = (tail + 1) % 16;
        m.shadow.write(TDT, tail);
        dropped += m.shadow.step().dropped;
    }
    CHECK(dropped == 1);
    CHECK(m.device.reg(TDT) == 0);
    m.put(tail, 1024, 80 | EOP | RS); // the end of it
    m.put((tail + 1) % 16, 1100, 80 | EOP | RS);
    m.shadow.write(TDT, (tail + 2) % 16);
    m.shadow.step();
    m.device.run();
    m.shadow.step();
    CHECK(m.device.sent_count == 1);
    CHECK(m.sent_has(0, 1100, 80));
    CHECK(m.shadow.read(TDH) == (tail + 2) % 16);
    CHECK(fault_of(m).empty());
}

/// Packets of 14, 15 and 16 pieces, the last of them in two buffers, and one behind them.
template <class Machine>
void takes_15_pieces() {
    Machine m{7};
    m.program(ring_at, 16);
    m.fill(1024, 1400, 1);
    m.put(0, 1024, (64 * 14) | EOP | IFCS | RS);
    m.put(1, 1024, (64 * 15) | EOP | IFCS | RS);
    m.put(2, 1024, 64 * 10);
    m.put(3, 1088, (64 * 6) | EOP | IFCS | RS);
    m.put(4, 1100, 80 | EOP | IFCS | RS);
    m.shadow.write(TDT, 5);
    u32 dropped = 0;
    for (unsigned i = 0; i < 10; ++i) {
        const shadow_step now = m.shadow.step();
        dropped += now.dropped;
        CHECK((now.fault == error{} || now.fault == error{errc::out_of_range, ring_at + 3 * 16}));
        m.device.run();
    }
    CHECK(dropped == 1);
    REQUIRE(m.device.sent_count == 3);
    CHECK(m.device.sent[0].pieces == 14);
    CHECK(m.device.sent[1].pieces == 15);
    CHECK(m.sent_has(0, 1100, 80));
    CHECK(m.shadow.read(TDH) == 5);
    CHECK(m.device.fault == nullptr);
}
TEST_CASE("a packet of more pieces than the storage or the real ring has is dropped", "[e1000e]") {
    takes_15_pieces<machine<64, 40, 64, 2048, 4, 15>>(); // the storage has 15
    takes_15_pieces<machine<64, 40, 16, 2048, 4, 40>>(); // the real ring holds 15
}

TEST_CASE("a step does what its budget allows, and the next one goes on", "[e1000e]") {
    small m{7};
    m.program(ring_at, 16);
    m.fill(1024, 1000, 1);
    for (u32 i = 0; i < 4; ++i) {
        m.put(i, 1030 + 10 * i, 200 | (i == 3 ? EOP | IFCS | RS : u64{0}));
    }
    m.shadow.write(TDT, 4);
    u32 steps = 0;
    for (shadow_step now = m.shadow.step(1); now.why == shadow_stop::budget;
         now = m.shadow.step(1)) {
        CHECK(now.taken + now.sent + now.done <= 1);
        REQUIRE(++steps < 100);
    }
    CHECK(steps == 4 + 4 * 4 + 1); // descriptors, pieces, packets
    CHECK(m.shadow.step(0).why == shadow_stop::budget);
    m.device.run();
    CHECK(m.device.sent_count == 1);
    CHECK(fault_of(m).empty());
}

TEST_CASE("a full real ring makes a packet wait, and what was checked is what goes out",
          "[e1000e]") {
    machine<64, 40, 8> m{7}; // the real ring holds 7
    m.program(ring_at, 16);
    m.fill(1024, 1000, 1);
    for (u32 i = 0; i < 4; ++i) {
        m.put(i, 1024 + 64 * i, 3 * 64 | EOP | IFCS | RS);
    }
    m.shadow.write(TDT, 4);
    const shadow_step now = m.shadow.step();
    CHECK(now.why == shadow_stop::ring_full);
    CHECK(now.sent == 2);
    CHECK(now.taken == 3);
    const u64 reads = m.memory.reads;
    for (u32 i = 0; i < 3; ++i) { // what was read is not read again
        m.put(i, host_base, 9999 | EOP | IFCS | RS);
    }
    for (unsigned i = 0; i < 3; ++i) {
        CHECK(m.shadow.step().why == shadow_stop::ring_full);
    }
    CHECK(m.memory.reads == reads);
    m.device.run();
    CHECK(m.shadow.step().sent == 2);
    m.device.run();
    m.shadow.step();
    CHECK(m.memory.reads == reads + 1);
    CHECK(m.device.sent_count == 4);
    for (u32 i = 0; i < 4; ++i) {
        CHECK(m.device.sent[i].length == 192);
        CHECK(m.device.sent[i].bytes[0] == *m.memory.at(1024 + 64 * i));
    }
    CHECK(m.shadow.read(TDH) == 4);
    CHECK(m.device.fault == nullptr);
}

// ----------------------------------------------------------------------------- other real NICs

/// A real ring with such reports; the VMM steps when the guest writes TDT, and then only when the
/// NIC has interrupted it. Whether all of the guest's packets come back.
bool comes_back(pt::e1000e::tx_report report, u32 packets) {
    small m{7, 4, 20, {.report = report}};
    m.program(ring_at, 16);
    m.fill(1024, 200, 1);
    for (u32 i = 0; i < packets; ++i) {
        m.put(i, 1024 + i, 80 | EOP | IFCS | RS);
    }
    m.shadow.write(TDT, packets);
    m.shadow.step();
    for (u32 seen = 0;;) {
        m.device.run();
        if (m.device.reports == seen) {
            break; // nothing wakes the VMM any more
        }
        seen = m.device.reports;
        m.shadow.step();
    }
    return m.device.sent_count == packets && m.shadow.read(TDH) == packets &&
           m.is_done(packets - 1) && m.shadow.in_flight() == 0 && m.device.fault == nullptr;
}
TEST_CASE("a guest gets its packets back whatever the real ring's reports are", "[e1000e]") {
    using pt::e1000e::tx_report;
    const u32 packets = GENERATE(1U, 3U, 15U);
    CHECK(comes_back(tx_report::each_packet(), packets));
    CHECK(comes_back(tx_report::every(2), packets));
    CHECK(comes_back(tx_report::every(16), packets));
    CHECK(comes_back(tx_report::every(1'000'000), packets));
    CHECK(comes_back(tx_report::while_idle(), packets));
}

constexpr pt::e1000e::tx_settings pci{.members = pt::e1000e::family::pci};
constexpr pt::e1000e::tx_settings pci_padded{.members = pt::e1000e::family::pci,
                                             .padding = pt::iova{zeros_base}};

TEST_CASE("on 8254x a packet to be segmented is dropped, and no other one", "[e1000e]") {
    small m{1, 4, 20, pci};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    m.put(0, tso_offsets, tso_command(146) | RS);
    m.put(1, 1024, 100 | segments | RS);
    m.put(2, 1124, 100 | segments | EOP | RS);
    m.put(3, checksum_offsets, DEXT | TCP | IPV4);
    m.put(4, 1024, 100 | DATA | IXSM | TXSM | IFCS | EOP | RS);
    m.shadow.write(TDT, 5);
    const shadow_step all = m.shadow.step();
    CHECK(all.fault == error{errc::not_supported, ring_at + 16});
    CHECK(all.dropped == 1);
    CHECK(all.sent == 1);
    m.device.run();
    m.shadow.step();
    CHECK((m.is_done(1) && m.is_done(2) && m.is_done(4)));
    CHECK(m.device.sent_count == 1);
    CHECK(m.device.last_sent().first == (DATA | IXSM | TXSM | IFCS));
    CHECK(m.sent_has(0, 1024, 100));
    CHECK(fault_of(m).empty());
}

/// Packets of `length` bytes, legacy ones and data, in one piece and in two, on such a ring: whether
/// they go out with zeros behind them up to `least`.
constexpr bool goes_out_as(const pt::e1000e::tx_settings& settings, u32 length, u32 least) {
    small m{7, 4, 20, settings};
    m.program(ring_at, 8);
    m.fill(1024, 200, 1);
    const u64 each[]{css(2) | cso(4) | IC, DATA};
    u32 index = 0;
    for (const u64 command : each) {
        for (const u32 at : {1024U, 1087U}) { // the second one crosses a page
            m.put(index++, at, length | command | EOP | RS);
        }
    }
    m.shadow.write(TDT, 4);
    const shadow_step given = m.shadow.step();
    m.device.run();
    m.shadow.step();
    bool right = m.device.fault == nullptr && m.shadow.read(TDH) == 4 && m.is_done(3);
    if (least == 0) {
        return right && given.dropped == 4 && m.device.sent_count == 0 &&
               given.fault == error{errc::not_supported, ring_at};
    }
    right = right && given.sent == 4 && m.device.sent_count == 4;
    for (u32 i = 0; i < 4; ++i) {
        const auto& sent = m.device.sent[i];
        // A sum that would lie in the padding is not inserted.
        const u64 sums = i < 2 && length >= 6 ? IC | cso(4) : 0;
        right = right && sent.length == (length < least ? least : length) &&
                sent.last == (sums | (i < 2 ? 0 : DATA) | (length < 60 || sums != 0 ? IFCS : 0) |
                              (sent.pieces == 1 && sums != 0 ? css(2) : 0));
        for (u32 j = 0; j < sent.length; ++j) {
            right = right && sent.bytes[j] ==
                                 (j < length ? *m.memory.at((i % 2 == 0 ? 1024 : 1087) + j) : 0);
        }
    }
    return right;
}
constexpr pt::e1000e::tx_settings padded{.padding = pt::iova{zeros_base}};
static_assert(goes_out_as(padded, 16, 17) && goes_out_as({}, 16, 0));
static_assert(goes_out_as(pci_padded, 42, 60) && goes_out_as(pci, 42, 0));

TEST_CASE("a short packet gets zeros from the real ring's padding, or is dropped without",
          "[e1000e]") {
    for (u32 length = 1; length <= 61; ++length) {
        CAPTURE(length);
        CHECK(goes_out_as(padded, length, 17));
        CHECK(goes_out_as({}, length, length < 17 ? 0 : 17));
        CHECK(goes_out_as(pci_padded, length, 60));
        CHECK(goes_out_as(pci, length, length < 60 ? 0 : 60));
    }
}

TEST_CASE("a short packet is dropped where the storage has no piece for its padding", "[e1000e]") {
    machine<64, 40, 32, 1024, 4, 2> m{7, 4, 20, pci_padded}; // two pieces
    m.program(ring_at, 8);
    m.fill(1024, 200, 1);
    m.put(0, 1024, 42 | EOP | RS); // and padding
    m.put(1, 1080, 42 | EOP | RS); // in two pages
    m.put(2, 1080, 60 | EOP | RS);
    m.shadow.write(TDT, 3);
    const shadow_step all = m.shadow.step();
    CHECK(all.fault == error{errc::out_of_range, ring_at + 16});
    CHECK(all.dropped == 1);
    m.device.run();
    m.shadow.step();
    CHECK(m.device.sent_count == 2);
    CHECK(m.sent_has(0, 1080, 60));
    CHECK(m.shadow.read(TDH) == 3);
    CHECK(m.device.fault == nullptr);
}

// ------------------------------------------------------------------------------- order and memory

TEST_CASE("the head moves in order: a dropped packet waits for those before it", "[e1000e]") {
    small m{7};
    m.program(ring_at, 16);
    m.put(0, 1024, 5 | EOP | RS); // dropped at once
    m.put(1, 1024, 80 | EOP | IFCS | RS);
    m.put(2, 1024, 5 | EOP | RS);
    m.put(3, 1100, 80 | EOP | IFCS | RS);
    m.shadow.write(TDT, 4);
    CHECK(m.shadow.step().done == 1);
    CHECK(m.shadow.read(TDH) == 1);
    CHECK_FALSE(m.is_done(2));
    m.device.run(2); // each is two pieces
    CHECK(m.shadow.step().done == 2);
    CHECK(m.shadow.read(TDH) == 3);
    CHECK(m.is_done(2));
    CHECK_FALSE(m.is_done(3));
    m.device.run();
    CHECK(m.shadow.step().done == 1);
    CHECK(m.is_done(3));
}

TEST_CASE("a ring that cannot be read or written back stops, and nothing is lost", "[e1000e]") {
    small m{7};
    m.program(ring_at, 16); // pages 1 to 4
    m.fill(1024, 200, 1);
    for (u32 i = 0; i < 6; ++i) {
        m.put(i, 1024 + i, 80 | EOP | IFCS | RS);
    }
    const u32 frame = m.memory.frame_of[2];
    m.memory.frame_of[2] = nowhere; // descriptors 4 to 7
    m.shadow.write(TDT, 6);
    for (unsigned i = 0; i < 3; ++i) {
        const shadow_step now = m.shadow.step();
        CHECK(now.why == shadow_stop::memory_fault);
        CHECK(now.fault == error{errc::not_mapped, 128});
        m.device.run();
    }
    CHECK(m.shadow.read(TDH) == 4);
    m.memory.frame_of[2] = frame;
    m.memory.read_only[2] = true;
    m.shadow.step();
    m.device.run();
    for (unsigned i = 0; i < 3; ++i) {
        const shadow_step now = m.shadow.step();
        CHECK(now.why == shadow_stop::memory_fault);
        CHECK(now.fault == error{errc::refused, 128 + 12});
    }
    CHECK(m.shadow.read(TDH) == 4);
    m.memory.read_only[2] = false;
    CHECK(m.shadow.step().done == 2);
    CHECK(m.shadow.read(TDH) == 6);
    CHECK(m.device.sent_count == 6);
    CHECK(fault_of(m).empty());
}

TEST_CASE("registers that describe no ring, or a disabled transmitter, stop it", "[e1000e]") {
    small m{7};
    CHECK(m.shadow.step().why == shadow_stop::disabled);
    m.shadow.write(TCTL, EN);
    CHECK(m.shadow.step().why == shadow_stop::bad_ring);
    m.program(ring_at, 8);
    m.shadow.write(TDT, 8);
    CHECK(m.shadow.step().why == shadow_stop::bad_ring);
    m.shadow.write(TDT, 0xFFFF);
    CHECK(m.shadow.step().why == shadow_stop::bad_ring);
    m.shadow.write(TDT, 0);
    CHECK(m.shadow.step().why == shadow_stop::idle);
    CHECK(m.shadow.owns(TDT));
    CHECK_FALSE(m.shadow.owns(0x0000));
    CHECK(m.shadow.write_back_causes().raw == (TXDW | TXQ0));
}

TEST_CASE("a tail that moves back harms nobody", "[e1000e][rule 24]") {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 200, 1);
    for (u32 i = 0; i < 8; ++i) {
        m.put(i, 1024, 80 | EOP | IFCS | RS);
    }
    for (u32 turn = 0; turn < 200; ++turn) {
        m.shadow.write(TDT, turn * 5 % 8);
        m.shadow.step(turn % 7);
        m.device.run(turn % 3);
    }
    CHECK(fault_of(m).empty());
}

// --------------------------------------------------------------------------------- resets, revokes

TEST_CASE("nothing is written to a ring that is no longer there", "[e1000e]") {
    const auto other = GENERATE(0, 1, 2, 3);
    machine<64, 40, 16> m{7};
    m.program(ring_at, 16);
    m.fill(1024, 1000, 1);
    for (u32 i = 0; i < 4; ++i) {
        m.put(i, 1024 + 100 * i, 100 | EOP | IFCS | RS);
    }
    m.put(4, 1024, 100); // an unfinished one
    m.shadow.write(TDT, 5);
    m.shadow.step();
    CHECK(m.shadow.in_flight() == 4);
    m.device.run(2);

    switch (other) {
    case 0: m.shadow.reset(); break;
    case 1: m.shadow.write(TCTL, 0); break;    // and below TDH is written
    case 2: m.shadow.write(TDLEN, 128); break; // while enabled
    default: m.shadow.write(TDBAL, 640); break;
    }
    // Its memory is used for something else.
    for (u32 i = 0; i < 256; ++i) {
        *m.memory.at(ring_at + i) = 0x5A;
    }
    m.program(640, 8, other == 3 ? 0 : 2);
    const u32 first = m.shadow.read(TDH);
    m.put(first, 1500, 110 | EOP | IFCS | RS);
    m.put(first + 1, 1600, 120 | EOP | IFCS | RS);
    m.shadow.write(TDT, first + 2);
    m.shadow.step();
    CHECK_FALSE(m.is_done(first));
    // The NIC still sends what it has, and only then the new ones.
    for (unsigned i = 0; i < 40; ++i) {
        m.device.run(1);
        m.shadow.step();
        CHECK(m.is_done(first) == (m.device.sent_count >= 5));
    }
    CHECK(m.device.sent_count == 6);
    CHECK(m.shadow.read(TDH) == first + 2);
    CHECK(m.shadow.in_flight() == 0);
    CHECK(m.ring.free_descriptors() == 15);
    for (u32 i = 0; i < 256; ++i) {
        REQUIRE(*m.memory.at(ring_at + i) == 0x5A);
    }
    CHECK(m.device.fault == nullptr);
}

TEST_CASE("while the guest's transmitter is disabled its ring rests, and then goes on",
          "[e1000e]") {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    for (u32 i = 0; i < 3; ++i) {
        m.put(i, 1024 + 100 * i, 100 | EOP | IFCS | RS);
    }
    m.shadow.write(TDT, 2);
    m.shadow.step();
    m.shadow.write(TCTL, 0);
    m.shadow.write(TDT, 3);
    m.device.run();
    CHECK(m.shadow.step().why == shadow_stop::disabled);
    CHECK(m.shadow.in_flight() == 0);
    CHECK_FALSE(m.is_done(0));
    CHECK(m.shadow.read(TDH) == 0);
    m.shadow.write(TCTL, EN);
    const shadow_step now = m.shadow.step();
    CHECK(now.done == 2);
    CHECK(now.sent == 1);
    m.device.run();
    CHECK(m.shadow.step().done == 1);
    CHECK(m.device.sent_count == 3);
    CHECK(fault_of(m).empty());
}

TEST_CASE("a guest may write the values that its registers have", "[e1000e]") {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    m.put(0, 1024, 100 | EOP | IFCS | RS);
    m.shadow.write(TDT, 1);
    m.shadow.step();
    m.shadow.write(TDBAL, ring_at);
    m.shadow.write(TDBAH, 0);
    m.shadow.write(TDLEN, 128);
    m.shadow.write(TDH, 5); // not while it is enabled
    m.device.run();
    m.shadow.step();
    CHECK(m.device.sent_count == 1);
    CHECK(m.is_done(0));
    CHECK(m.shadow.read(TDH) == 1);
}

TEST_CASE("a reset forgets contexts", "[e1000e]") {
    small m{7};
    m.program(ring_at, 8);
    m.put(0, checksum_offsets, DEXT);
    m.put(1, tso_offsets, tso_command(146));
    m.shadow.write(TDT, 2);
    m.shadow.step();
    m.shadow.write(0x0000, 1U << 26); // CTRL.RST
    CHECK(m.shadow.step().why == shadow_stop::disabled);
    m.program(ring_at, 8);
    m.put(0, 1024, 100 | DATA | IXSM | EOP);
    m.put(1, 1024, 200 | segments | EOP);
    m.shadow.write(TDT, 2);
    CHECK(m.shadow.step().dropped == 2);
}

TEST_CASE("a packet that was skipped to its end does not outlive a reset", "[e1000e]") {
    small m{7};
    m.program(ring_at, 8);
    m.fill(1024, 400, 1);
    m.put(0, 1024, 100);              // goes on
    m.put(1, checksum_offsets, DEXT); // in its middle: what follows up to EOP is dropped
    m.shadow.write(TDT, 2);
    CHECK(m.shadow.step().dropped == 1);
    m.shadow.write(0x0000, 1U << 26); // CTRL.RST
    m.program(ring_at, 8);
    m.put(0, 1200, 100 | EOP | IFCS | RS);
    m.shadow.write(TDT, 1);
    CHECK(m.shadow.step().sent == 1);
    m.device.run();
    m.shadow.step();
    CHECK(m.sent_has(0, 1200, 100));
    CHECK(m.is_done(0));
    CHECK(fault_of(m).empty());
}

TEST_CASE("after revoke() the NIC gets no address that was translated before", "[e1000e]") {
    machine<64, 40, 8> m{7};
    m.program(ring_at, 16);
    m.fill(1024, 500, 1);
    m.put(0, 1024, 4 * 64 | EOP | IFCS | RS);
    m.put(1, 1024 + 256, 4 * 64 | EOP | IFCS | RS); // waits for room
    m.put(2, 1024, 70);
    m.shadow.write(TDT, 3);
    CHECK(m.shadow.step().why == shadow_stop::ring_full);
    CHECK(m.shadow.revoke() == 1);
    m.device.run();
    CHECK(m.shadow.revoke() == 0);
    // Nothing of the guest's is with the NIC now: all of its pages may move.
    u8 kept[40 * page];
    for (u32 i = 0; i < sizeof kept; ++i) {
        kept[i] = *m.memory.at(i);
    }
    for (u32 i = 0; i < 40; ++i) {
        m.memory.frame_of[i] = (m.memory.frame_of[i] + 13) % 64;
    }
    for (u32 i = 0; i < sizeof kept; ++i) {
        *m.memory.at(i) = kept[i];
    }
    m.put(3, 1094, 60 | EOP | IFCS | RS);
    m.shadow.write(TDT, 4);
    for (unsigned i = 0; i < 5; ++i) {
        m.shadow.step();
        m.device.run();
    }
    CHECK(m.device.sent_count == 3);
    CHECK(m.sent_has(0, 1024, 130));
    CHECK(m.device.sent[1].length == 256);
    CHECK(m.device.sent[1].bytes[200] == *m.memory.at(1024 + 256 + 200));
    CHECK(m.shadow.read(TDH) == 4);
    CHECK(m.device.fault == nullptr);
}

TEST_CASE("after a NIC that hung, its packets are done and the rest goes on", "[e1000e]") {
    machine<64, 40, 8> m{7, 1};
    m.program(ring_at, 16);
    m.fill(1024, 900, 1);
    m.put(0, tso_offsets, tso_command(146));
    m.put(1, 1035, 200 | segments | EOP | RS); // its headers are copied
    m.put(2, 1024, 100 | EOP | IFCS | RS);
    m.put(3, 1046, 200 | segments | EOP | RS); // and its headers
    m.put(4, 1200, 150 | EOP | IFCS | RS);
    m.shadow.write(TDT, 5);
    m.shadow.step();
    m.shadow.abandon();
    m.device.registers[TDH / 4] = m.device.registers[TDT / 4] = 0;
    CHECK(m.shadow.in_flight() == 0);
    CHECK(m.shadow.step().why == shadow_stop::ring_full); // the real ring is not started
    CHECK(m.is_done(1));
    REQUIRE(m.ring.start());
    for (unsigned i = 0; i < 5; ++i) {
        m.shadow.step();
        m.device.run();
    }
    CHECK(m.shadow.read(TDH) == 5);
    CHECK(m.device.sent_count == 2);
    CHECK(m.sent_has(0, 1200, 150));
    CHECK(m.device.fault == nullptr);
}

TEST_CASE("a packet that waits is checked again after a reset, which may have changed the FIFO",
          "[e1000e]") {
    machine<64, 40, 8> m{1};
    m.program(ring_at, 16);
    m.fill(1024, 1000, 1);
    for (u32 i = 0; i < 8; ++i) {
        m.put(i, 1024, (i == 7 ? 945 : 100) | EOP | IFCS | RS);
    }
    m.put(8, 1024, 944 | EOP | IFCS | RS);
    m.shadow.write(TDT, 9);
    CHECK(m.shadow.step().why == shadow_stop::ring_full);
    m.shadow.abandon();
    m.device.registers[TDH / 4] = m.device.registers[TDT / 4] = 0;
    m.device.registers[PBA / 4] = 1U << 16;
    REQUIRE(m.ring.start());
    const shadow_step now = m.shadow.step();
    CHECK(now.dropped == 1);
    CHECK(now.sent == 1);
    m.device.run();
    CHECK(m.device.sent_count == 1);
    CHECK(m.sent_has(0, 1024, 944));
    CHECK(m.device.fault == nullptr);
}

// ------------------------------------------------------------------------------------------- parts

TEST_CASE("a shadow ring needs nothing beyond its policies", "[e1000e]") {
    using least = pt::e1000e::tx_ring<pt::archetype::mmio_io, pt::archetype::dma_memory,
                                      pt::archetype::barrier>;
    pt::e1000e::tx_slot ring_slots[8];
    least ring{{}, {}, {}, pt::iova{0}, ring_slots, 8};
    pt::e1000e::tx_descriptor pieces[1];
    pt::e1000e::shadow_slot slots[1];
    pt::e1000e::shadow_ring shadow{
        pt::archetype::bus_memory{}, pt::archetype::dma_translation{}, ring,
        pt::e1000e::shadow_storage{
            .pieces = pieces, .piece_count = 1, .slots = slots, .slot_count = 1}};
    shadow.write(TDLEN, 128);
    shadow.write(TDT, 1);
    shadow.write(TCTL, EN);
    CHECK(shadow.step().why == shadow_stop::memory_fault);
}

TEST_CASE("a shadow ring without storage breaks the contract", "[e1000e]") {
    small m;
    const auto make = [&m](pt::e1000e::shadow_storage storage) {
        return paging_model::breaks_contract([&] {
            pt::e1000e::shadow_ring{guest_memory<small::host_type>{&m.memory},
                                    translation<small::host_type>{&m.memory}, m.ring, storage};
        });
    };
    CHECK_FALSE(make({.pieces = m.pieces, .piece_count = 1, .slots = m.slots, .slot_count = 1}));
    CHECK(make({.pieces = m.pieces, .piece_count = 0, .slots = m.slots, .slot_count = 1}));
    CHECK(make({.pieces = m.pieces, .piece_count = 1, .slots = m.slots, .slot_count = 0}));
    CHECK(make({.pieces = nullptr, .piece_count = 1, .slots = m.slots, .slot_count = 1}));
    CHECK(make({.pieces = m.pieces, .piece_count = 1, .slots = nullptr, .slot_count = 1}));
    CHECK(make({.pieces = m.pieces,
                .piece_count = 1,
                .slots = m.slots,
                .slot_count = 1,
                .header_count = 1}));
}

} // namespace
