// SPDX-License-Identifier: BSL-1.0
// The program pieces of docs/e1000e.md, compiled and run: pt's own driver, and at the other end the
// emulated NIC of docs/e1000e_device.md.
#include "emulated_nic.hpp"
#include "example_machine.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/ring_flush.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/e1000e/tx_watch.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

namespace {

namespace e1000e = pt::e1000e;
namespace pci = pt::pci;

using emulated_nic = example::emulated_nic<example::device_memory>;
using window = example::register_window<emulated_nic>;
using example::frame;
using example::ring_memory;
using example::same_processor;

/// Goes on by itself, so that waiting ends.
struct test_clock {
    std::uint64_t* nanoseconds;
    std::uint64_t now() { return *nanoseconds += 1'000; }
};

/// The Command register of one function.
struct command_register {
    std::uint32_t* value;
    std::uint32_t read(pci::function_address, std::uint16_t, pt::width) { return *value; }
    void write(pci::function_address, std::uint16_t, pt::width, std::uint32_t to) { *value = to; }
};
static_assert(pci::config_access<command_register>);

/// Memory that both sides reach: descriptors from 0x1000 and 0x2000 on, data from 0x4000 on.
struct machine {
    std::unique_ptr<example::ram> memory = std::make_unique<example::ram>();
    std::unique_ptr<emulated_nic> nic =
        std::make_unique<emulated_nic>(example::device_memory{memory.get()});
    example::wire wire;

    machine() { std::iota(memory->bytes + 0x4000, memory->bytes + 0x10000, std::uint8_t{0}); }
    void work() {
        while (nic->work(wire)) {}
    }
};

std::uint16_t word(const frame& bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes.at(at) << 8 | bytes.at(at + 1));
}
std::uint32_t dword(const frame& bytes, std::size_t at) {
    return std::uint32_t{word(bytes, at)} << 16 | word(bytes, at + 2);
}

} // namespace

TEST_CASE("docs/e1000e.md: a packet is sent and its cookie comes back", "[e1000e][example]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x1000};
    same_processor barrier;
    const pt::iova header{0x4000};
    const pt::iova payload{0x5000};
    const std::uint64_t cookie = 7;
    std::vector<std::uint64_t> freed;
    const auto free_buffers_of = [&](std::uint64_t done) { freed.push_back(done); };

    const auto drive = [&]() -> pt::result<> {
        e1000e::tx_slot slots[256]; // one for each descriptor; the caller's memory
        e1000e::tx_ring ring{mmio, descriptors, barrier, pt::iova{0x1000}, slots, 256};
        if (const auto started = ring.start(); !started) {
            return started.error();
        }

        const auto sent = ring.send({{header, 54}, {payload, 1446}}, cookie);
        if (!sent && sent.error().code == pt::errc::busy) {
            // no room now: reclaim, and later again
        }
        here.work();
        ring.reclaim([&](std::uint64_t done) { free_buffers_of(done); });

        e1000e::tx_packet packets[32];
        for (std::uint32_t i = 0; i != 32; ++i) {
            packets[i] = {payload, 64, 100 + i};
        }
        const e1000e::tx_batch batch = ring.send_all(packets, 32);
        REQUIRE(batch == e1000e::tx_batch{32, {}});
        here.work();
        ring.reclaim(free_buffers_of);
        return sent;
    };
    REQUIRE(drive());
    frame whole = here.memory->copy(0x4000, 54);
    const frame rest = here.memory->copy(0x5000, 1446);
    whole.insert(whole.end(), rest.begin(), rest.end());
    REQUIRE(here.wire.frames.size() == 33);
    CHECK(here.wire.frames[0] == whole);
    CHECK(here.wire.frames[32] == here.memory->copy(0x5000, 64));
    REQUIRE(freed.size() == 33);
    CHECK(freed[0] == cookie);
    CHECK(freed[32] == 131);
}

TEST_CASE("docs/e1000e.md: the picture of the ring, step by step", "[e1000e][example][rule 23]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x1000};
    e1000e::tx_slot slots[8];
    e1000e::tx_ring ring{mmio, descriptors, same_processor{}, pt::iova{0x1000}, slots, 8};
    const auto head_and_tail_are = [&](std::uint32_t head, std::uint32_t tail) {
        return mmio.read32(0x3810) == head && mmio.read32(0x3818) == tail;
    };
    const auto eop_rs_dd = [&](std::uint32_t index) {
        return descriptors.read64(index * 16 + 8) & 0x1'0900'0000U;
    };

    REQUIRE(ring.start()); // 1
    CHECK(mmio.read32(0x3800) == 0x1000);
    CHECK(mmio.read32(0x3808) == 0x80);
    CHECK(head_and_tail_are(0, 0));

    const pt::iova buffer{0x4000};
    REQUIRE(ring.enqueue({{buffer, 20}, {buffer, 20}, {buffer, 20}}, 9)); // 2
    CHECK(eop_rs_dd(0) == 0);
    CHECK(eop_rs_dd(1) == 0);
    CHECK(eop_rs_dd(2) == 0x0900'0000);
    CHECK(head_and_tail_are(0, 0));

    ring.advance_tail(); // 3
    CHECK(head_and_tail_are(0, 3));
    here.work(); // 4 and 5
    CHECK(head_and_tail_are(3, 3));
    CHECK(eop_rs_dd(0) == 0);
    CHECK(eop_rs_dd(1) == 0);
    CHECK(eop_rs_dd(2) == 0x1'0900'0000);
    CHECK(here.wire.frames.size() == 1);

    CHECK(ring.reclaim([](std::uint64_t cookie) { CHECK(cookie == 9); }) == 1); // 6
    CHECK(ring.free_descriptors() == 7);

    for (std::uint64_t cookie = 0; cookie != 7; ++cookie) { // 7
        REQUIRE(ring.send({{buffer, 60}}, cookie));
    }
    CHECK(head_and_tail_are(3, 2));
    CHECK(ring.send({{buffer, 60}}, 7).error().code == pt::errc::busy);
}

TEST_CASE("docs/e1000e.md: the picture of segmentation is what the device does",
          "[e1000e][example]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x1000};
    e1000e::tx_slot slots[8];
    e1000e::tx_ring ring{mmio, descriptors, same_processor{}, pt::iova{0x1000}, slots, 8};
    REQUIRE(ring.start());

    // The header of the picture: ACK PSH FIN, sequence 1000, identification 7.
    const pt::iova header{0x4000};
    const pt::iova page{0x5000};
    const pt::iova other_page{0x7000};
    const std::uint64_t cookie = 1;
    std::uint8_t* bytes = here.memory->bytes + header.raw;
    std::memset(bytes, 0, 54);
    bytes[12] = 0x08;
    bytes[14] = 0x45;
    bytes[19] = 7;
    bytes[22] = 64;
    bytes[23] = 6;
    bytes[40] = 1000 >> 8;
    bytes[41] = 1000 & 0xFF;
    bytes[46] = 0x50;
    bytes[47] = 0x19;
    bytes[51] = 6; // the pseudo-header of 0.0.0.0 and 0.0.0.0 without the length: the protocol

    const auto tcp = e1000e::tx_offload::checksums({.ip = 14, .transport_at = 34});
    const auto large = e1000e::tx_offload::segmentation({.ip = 14, .transport_at = 34}, 54, 1460);
    REQUIRE(tcp);
    REQUIRE(large);
    const auto sent =
        ring.send({{header, 54}, {page, 2800}, {other_page, 1200}}, cookie, {.offload = *large});
    REQUIRE(sent);
    here.work();
    CHECK(ring.reclaim([](std::uint64_t) {}) == 1);

    REQUIRE(here.wire.frames.size() == 3);
    frame payload = here.memory->copy(page.raw, 2800);
    const frame rest = here.memory->copy(other_page.raw, 1200);
    payload.insert(payload.end(), rest.begin(), rest.end());
    for (std::size_t i = 0; i != 3; ++i) {
        const frame& segment = here.wire.frames[i];
        const std::size_t length = i == 2 ? 1080 : 1460;
        REQUIRE(segment.size() == 54 + length);
        CHECK(word(segment, 16) == 40 + length);      // IP total length
        CHECK(word(segment, 18) == 7 + i);            // identification
        CHECK(dword(segment, 38) == 1000 + i * 1460); // TCP sequence number
        CHECK(segment[47] == (i == 2 ? 0x19 : 0x10)); // TCP flags
        const auto from = payload.begin() + static_cast<std::ptrdiff_t>(i) * 1460;
        CHECK(std::equal(segment.begin() + 54, segment.end(), from));
        std::uint32_t sum = 6 + 20 + static_cast<std::uint32_t>(length); // over a finished segment
        for (std::size_t at = 34; at < segment.size(); at += 2) {
            sum += word(segment, at);
        }
        CHECK(sum % 0xFFFF == 0);
    }
}

TEST_CASE("docs/e1000e.md: a NIC is brought up", "[e1000e][example]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x1000};
    std::uint64_t now = 0;
    test_clock clock{&now};
    std::uint32_t command = 0x0002; // memory space
    command_register config{&command};
    const pci::function_address function{};
    e1000e::tx_slot slots[8];
    e1000e::tx_ring ring{mmio, descriptors, same_processor{}, pt::iova{0x1000}, slots, 8};
    std::vector<const char*> told;
    const auto tell = [&](const char* what) { told.push_back(what); };
    e1000e::reset_report report;

    const auto bring_up = [&]() -> pt::result<> {
        const auto fresh = e1000e::reset(mmio, clock); // whoever had it before
        if (!fresh) {
            return fresh.error();
        }
        if (!fresh->master_was_quiet) {
            tell("its DMA may still arrive: in its domain there must be nothing that matters");
        }
        pci::write(config, function,
                   pci::read<pci::command>(config, function)
                       .write_back()
                       .with(pci::command::bus_master(true)));

        if (const auto link = e1000e::set_link_up(mmio); !link) {
            return link.error();
        }
        const auto control = e1000e::read<e1000e::ctrl>(mmio);
        e1000e::write(mmio, control.write_back().with(e1000e::ctrl::vme(true))); // for VLAN tags
        if (const auto started = ring.start(); !started) {
            return started.error();
        }
        using e1000e::ims;
        e1000e::write(mmio, ims{ims::txdw(true), ims::rxt0(true), ims::lsc(true)});
        report = *fresh;
        return {};
    };
    // Its owner before left it sending, with an interrupt pending.
    mmio.write32(0x0400, 0x2);
    mmio.write32(0x00D0, 0x1);
    mmio.write32(0x00C8, 0x1);
    REQUIRE(bring_up());
    CHECK(told.empty());
    CHECK(report == e1000e::reset_report{.master_was_quiet = true, .eeprom_was_read = true});
    CHECK(now < 11'000'000); // to drain; for DMA and EEPROM it needs not wait
    CHECK(command == 0x0006);
    CHECK((mmio.read32(0x0000) & 0x4000'0044) == 0x4000'0040); // VME and SLU, and DMA is allowed
    CHECK(mmio.read32(0x0008) == 0x0008'0083);
    CHECK(mmio.read32(0x00D0) == 0x85); // TXDW, LSC, RXT0
    CHECK_FALSE(here.nic->interrupts().asserted());

    REQUIRE(ring.send({{pt::iova{0x4000}, 64}}, 1,
                      {.tagging = e1000e::vlan_insertion::insert, .tag = e1000e::vlan_tag{5}}));
    here.work();
    CHECK(here.nic->interrupts().asserted());
    REQUIRE(here.wire.frames.size() == 1);
    CHECK(dword(here.wire.frames[0], 12) == 0x8100'0005);
}

TEST_CASE("docs/e1000e.md: a NIC that does not move is looked at, and recovered",
          "[e1000e][example]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x1000};
    same_processor barrier;
    std::uint64_t now = 0;
    test_clock clock{&now};
    e1000e::tx_slot slots[8];
    e1000e::tx_ring ring{mmio, descriptors, barrier, pt::iova{0x1000}, slots, 8};
    e1000e::rx_slot rx_slots[8];
    e1000e::rx_ring receiver{
        mmio, ring_memory{here.memory->bytes + 0x2000}, barrier, pt::iova{0x2000}, rx_slots, 8};
    std::vector<std::uint64_t> freed;
    const auto free_buffers_of = [&](std::uint64_t done) { freed.push_back(done); };
    std::vector<std::uint64_t> taken;
    const auto take_back = [&](std::uint64_t buffer) { taken.push_back(buffer); };
    const auto post_all = [&] {
        for (std::uint64_t i = 0; receiver.post(pt::iova{0x8000 + i * 2048}, i); ++i) {}
        receiver.advance_tail();
    };
    REQUIRE(ring.start());
    REQUIRE(receiver.start());
    post_all();
    REQUIRE(ring.send({{pt::iova{0x4000}, 64}}, 1));

    bool newer = true;
    unsigned flushes = 0;
    const pt::iova zeros{0x4000};
    const auto ring_status = [&] {
        ++flushes;
        return std::uint16_t{0};
    };
    const auto bring_back = [&]() -> pt::result<> {
        if (newer) { // I219 and later
            const auto let_go = e1000e::flush_rings(mmio, descriptors, barrier, clock,
                                                    {pt::iova{0x1000}, 8, zeros}, ring_status);
            if (!let_go) {
                return let_go.error();
            }
        }
        const auto done = e1000e::recover(ring, clock, free_buffers_of);
        if (!done) {
            return done.error(); // time_out: the cookies stay; take the memory away, then abandon()
        }
        receiver.abandon(take_back); // the NIC has no other ring any more, either
        if (const auto started = receiver.start(); !started) {
            return started.error();
        }
        post_all();
        const auto control = e1000e::read<e1000e::ctrl>(mmio);
        e1000e::write(mmio, control.write_back().with(e1000e::ctrl::vme(true)));
        using e1000e::ims;
        e1000e::write(mmio, ims{ims::txdw(true), ims::rxt0(true), ims::lsc(true)});
        return {};
    };
    const auto act_on = [&](const e1000e::tx_diagnosis& found) -> pt::result<> {
        switch (found.remedy) {
        case e1000e::tx_remedy::wait: break; // for the cable, or the other side
        case e1000e::tx_remedy::write_tail: e1000e::write_tail_again(ring); break;
        case e1000e::tx_remedy::reset: return bring_back();
        case e1000e::tx_remedy::abandon: // there is no NIC any more
            ring.abandon(free_buffers_of);
            receiver.abandon(take_back);
            break;
        }
        return {};
    };

    e1000e::tx_watch watch{clock};
    const auto look = [&]() -> pt::result<> {
        ring.reclaim(free_buffers_of);
        switch (watch.look(ring)) {
        case e1000e::tx_motion::idle:
        case e1000e::tx_motion::moving:
        case e1000e::tx_motion::waiting: break;
        case e1000e::tx_motion::hung: return act_on(watch.diagnose(ring));
        }
        return {};
    };
    const auto look_for_seconds = [&](int seconds) {
        for (; seconds != 0; --seconds) {
            REQUIRE(look());
            now += 1'000'000'000;
        }
    };
    SECTION("a write of the tail that was lost") {
        mmio.write32(0x3818, 0);
        look_for_seconds(2);
        CHECK(mmio.read32(0x3818) == 1);
        CHECK(freed.empty());
        here.work();
        look_for_seconds(1);
        CHECK(here.wire.frames.size() == 1);
    }
    SECTION("a NIC that does nothing") {
        look_for_seconds(2);
        CHECK(here.wire.frames.empty());
        CHECK(taken == std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6});
        CHECK(flushes == 1);
        REQUIRE(ring.send({{pt::iova{0x5000}, 64}}, 2)); // and now it does
        here.work();
        look_for_seconds(1);
        CHECK(here.wire.frames == std::vector<frame>{here.memory->copy(0x5000, 64)});
        CHECK(freed == std::vector<std::uint64_t>{1, 2});
        const frame sent(100, 0xFF);
        CHECK(here.nic->deliver(sent.data(), sent.size()) == e1000e::rx_outcome::taken);
        CHECK(here.nic->interrupts().asserted());
        std::uint32_t length = 0;
        receiver.receive([&](const e1000e::rx_piece& piece) { length = piece.length; });
        CHECK(length == 100);
        return;
    }
    CHECK(freed == std::vector<std::uint64_t>{1});
    CHECK(taken.empty());
}

TEST_CASE("docs/e1000e.md: frames are received in pieces, and each buffer goes back",
          "[e1000e][example]") {
    machine here;
    window mmio{here.nic.get()};
    ring_memory descriptors{here.memory->bytes + 0x2000};
    same_processor barrier;
    const auto address_of = [](std::uint64_t buffer) { return pt::iova{0x4000 + buffer * 2048}; };
    std::vector<frame> frames;
    const auto take = [&](std::uint64_t buffer, std::uint32_t length, e1000e::rx_place place) {
        const frame part = here.memory->copy(address_of(buffer).raw, length);
        if (place == e1000e::rx_place::only || place == e1000e::rx_place::first) {
            frames.emplace_back();
        }
        frames.back().insert(frames.back().end(), part.begin(), part.end());
    };

    std::vector<frame> expected;
    const auto drive = [&]() -> pt::result<> {
        e1000e::rx_slot slots[8];
        e1000e::rx_ring ring{mmio, descriptors,           barrier, pt::iova{0x2000}, slots,
                             8,    {.long_packets = true}};
        if (const auto started = ring.start(); !started) {
            return started.error();
        }
        for (std::uint64_t buffer = 0; ring.post(address_of(buffer), buffer); ++buffer) {
            // until the ring is full: seven of them
        }
        ring.advance_tail();

        for (std::size_t i = 0; i != 40; ++i) {
            frame sent(i % 3 == 0 ? 5000 : 100 + i, static_cast<std::uint8_t>(i));
            std::fill_n(sent.begin(), 6, std::uint8_t{0xFF}); // broadcast
            CHECK(here.nic->deliver(sent.data(), sent.size()) == e1000e::rx_outcome::taken);
            expected.push_back(sent);

            ring.receive([&](const e1000e::rx_piece& piece) {
                if (!piece.errors.any()) {
                    take(piece.cookie, piece.length, piece.place);
                }
                static_cast<void>(
                    ring.post(address_of(piece.cookie), piece.cookie)); // there is room
            });
            ring.advance_tail();
        }
        return {};
    };
    REQUIRE(drive());
    CHECK(frames == expected);
}
