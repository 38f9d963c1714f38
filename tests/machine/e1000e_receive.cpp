// SPDX-License-Identifier: BSL-1.0
//
// pt's receive ring on a NIC that nobody here wrote: QEMU's e1000e (82574L) behind VT-d, in another
// domain than the e1000e that sends. What comes out of the ring is compared with the frames that
// were sent. e1000e_machine.hpp tells where QEMU is not the hardware; besides, QEMU 7.2:
//
// - keeps a frame that no NIC takes on the wire, where there are not enough buffers or the receiver
//   is off, until there are or it is on: it loses none. The cause RXO tells of it all the same.
// - computes no packet checksum.
// - appends zeros instead of the CRC, where that is not stripped.
#include "e1000e_machine.hpp"
#include "e1000e_receiver.hpp"
#include "e1000e_sender.hpp"

#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

using namespace e1000e_machine;
using pt::error;
using pt::result;
using pt::e1000e::checksum_result;
using pt::e1000e::icr;
using pt::e1000e::rx_format;
using pt::e1000e::rx_settings;

namespace {

const char* text(rx_format of) { return of == rx_format::legacy ? "legacy" : "extended"; }

/// Two e1000e, of which the first one sends.
struct stand {
    machine m{model::e1000e};
    sender s{m.first(), 256};
    random_bytes random;

    explicit stand(std::uint32_t seed) : random{seed} { got(s.ring.start()); }

    /// What the second one says has happened, and it is forgotten.
    icr causes() {
        const icr now = pt::read<icr>(m.second().registers);
        pt::write(m.second().registers, now);
        return now;
    }
    void finish() {
        s.reclaim_all();
        CHECK(difference(m.wire.all(), s.on_wire) == "none");
        m.finish();
    }
};

} // namespace

TEST_CASE("what one NIC sends the other receives, in buffers of every size, in both formats",
          "[e1000e][82574]") {
    stand with{1};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    enable_tags(m.first());
    enable_tags(m.second());
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        for (const std::uint32_t size : {256U, 512U, 1'024U, 2'048U, 4'096U, 8'192U, 16'384U}) {
            INFO(text(format) << ", buffers of " << size);
            receiver r{
                m.second(), 128, {.format = format, .buffer_size = size, .long_packets = true}};
            r.start();
            std::string wrong = "none";
            for (unsigned i = 0; i < 400; ++i) {
                const job one = any_job(random);
                const bytes raw = plain(random.between(17, 9'000), random);
                const bool is_raw = random.between(0, 3) == 0;
                const bytes& meant = is_raw ? raw : one.meant;
                if (is_raw) {
                    s.send(raw, random.between(1, 16));
                } else {
                    s.send(one.frame, {one.meant}, random.between(1, 16), one.request);
                }
                r.collect();

                // A tag is taken out, and told.
                REQUIRE(r.frames.size() == 1);
                const received seen = std::exchange(r.frames, {}).front();
                const bool has_tag = get16(meant, 12) == 0x8100;
                bytes bare = delivered(meant);
                if (has_tag) {
                    bare.erase(bare.begin() + 12, bare.begin() + 16);
                }
                const auto right_if = [](bool checked) {
                    return checked ? checksum_result::right : checksum_result::not_checked;
                };
                const bool told =
                    seen.last.has_vlan == has_tag &&
                    seen.last.vlan.raw == (has_tag ? get16(meant, 14) : 0) &&
                    seen.pieces == (bare.size() + size - 1) / size &&
                    seen.last.ip_checksum == right_if(!is_raw && one.of.version == internet::v4) &&
                    seen.last.transport_checksum == right_if(!is_raw) && !seen.last.errors.any();
                const std::string differs = difference({seen.frame}, {bare});
                if (wrong == "none" && (!told || differs != "none")) {
                    wrong = "packet " + std::to_string(i) + ", " + std::to_string(bare.size()) +
                            " bytes: " + (differs == "none" ? "what is told of it" : differs);
                }
            }
            CHECK(wrong == "none");
            CHECK(r.in_order());
            CHECK(r.ring.stop().error() == error{errc::busy, 127});
            r.abandon();
        }
    }
    with.finish();
}

TEST_CASE("wrong checksums and unchecked ones are told", "[e1000e][82574]") {
    stand with{2};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        for (const bool check : {true, false}) {
            INFO(text(format) << (check ? ", checked" : ", not checked"));
            receiver r{
                m.second(), 64, {.format = format, .check_ip = check, .check_transport = check}};
            r.start();
            const auto told = [&](const bytes& frame) {
                s.send(frame);
                r.collect();
                REQUIRE(r.frames.size() == 1);
                const received seen = std::exchange(r.frames, {}).front();
                CHECK(difference({seen.frame}, {delivered(frame)}) == "none");
                CHECK(!seen.last.errors.any()); // the frame itself is whole
                return std::pair{seen.last.ip_checksum, seen.last.transport_checksum};
            };
            const checksum_result right =
                check ? checksum_result::right : checksum_result::not_checked;
            const checksum_result wrong =
                check ? checksum_result::wrong : checksum_result::not_checked;
            for (const internet version : {internet::v4, internet::v6}) {
                for (const carried protocol : {carried::tcp, carried::udp}) {
                    const flow of{.version = version, .protocol = protocol};
                    const bytes good = finished(of, {.payload = random(500)});
                    const bool v4 = version == internet::v4;
                    const checksum_result ip = v4 ? right : checksum_result::not_checked;
                    CHECK(told(good) == std::pair{ip, right});
                    bytes bad = good;
                    bad.back() ^= 0x10;
                    CHECK(told(bad) == std::pair{ip, wrong});
                    if (v4) {
                        bad = good;
                        bad[flow::ip_at + 8] ^= 1; // time to live
                        CHECK(told(bad) == std::pair{wrong, right});
                    }
                }
            }
            r.abandon();
        }
    }
    with.finish();
}

TEST_CASE("a ring of any size wraps, however many buffers it has at a time",
          "[e1000e][82574][rule 23]") {
    stand with{3};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        for (const std::uint32_t count : {8U, 24U, 256U, 1'024U}) {
            INFO(text(format) << ", " << count << " descriptors");
            receiver r{m.second(), count, {.format = format, .buffer_size = 512}};
            got(r.ring.start());
            CHECK(r.ring.free_descriptors() == count - 1);
            std::vector<bytes> meant;
            for (std::size_t buffers_used = 0; buffers_used < 2 * count + 100;) {
                r.post(random.between(1, 9));
                const bytes frame = plain(random.between(60, 1'514), random);
                const std::size_t needed = (frame.size() + 511) / 512;
                if (r.ring.in_flight() < needed) {
                    continue;
                }
                s.send(frame, random.between(1, 4));
                meant.push_back(frame);
                buffers_used += needed;
                CHECK(r.take() == needed);
                CHECK(r.ring.head().has_value());
            }
            CHECK(difference(r.contents(), meant) == "none");
            CHECK(r.in_order());
            const std::uint32_t left = r.ring.in_flight();
            CHECK(r.ring.stop() == (left == 0 ? result<>{} : error{errc::busy, left}));
            r.abandon();
            CHECK(r.ring.in_flight() == 0);
            got(r.ring.stop());
        }
    }
    with.finish();
}

TEST_CASE("no buffer is left: what was received is whole, and it goes on with new ones",
          "[e1000e][82574][rule 23]") {
    stand with{4};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        INFO(text(format));
        receiver r{m.second(), 32, {.format = format, .buffer_size = 256, .long_packets = true}};
        got(r.ring.start());
        for (unsigned round = 0; round < 50; ++round) {
            with.causes();
            std::vector<bytes> meant;
            const std::size_t fit = random.between(1, 8);
            r.post(fit);
            for (std::size_t i = 0; i < fit + 5; ++i) {
                meant.push_back(plain(random.between(60, 250), random));
                s.send(meant.back());
            }
            CHECK(r.take() == fit);
            CHECK(r.take() == 0);
            CHECK(r.ring.in_flight() == 0);
            CHECK(r.ring.head() == result<std::uint32_t>{r.ring.tail()}); // and not full
            r.post();
            r.collect();
            CHECK(difference(r.contents(), meant) == "none");

            // There are some for a frame that needs more.
            r.abandon();
            got(r.ring.start());
            r.post(3);
            const bytes large = plain(random.between(1'025, 2'000), random);
            s.send(large);
            CHECK(with.causes()[icr::rxo]);
            CHECK(r.take() == 0); // nothing of it
            r.post();
            r.collect();
            CHECK(difference(r.contents(), {large}) == "none");
            CHECK(r.in_order());
            r.abandon();
            got(r.ring.start());
        }
        got(r.ring.stop());
    }
    with.finish();
}

TEST_CASE("pause, stop and abandon in the middle of it", "[e1000e][82574][rule 24]") {
    stand with{5};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    receiver r{m.second(), 64, {.buffer_size = 1'024}};
    std::vector<bytes> meant;
    const auto some = [&](std::size_t packets) {
        for (; packets != 0; --packets) {
            meant.push_back(plain(random.between(60, 1'514), random));
            s.send(meant.back());
        }
    };
    const auto all_came = [&] {
        r.collect();
        CHECK(difference(r.contents(), meant) == "none");
        CHECK(r.in_order());
        meant.clear();
    };
    CHECK(r.ring.resume().error() == error{errc::busy, 0}); // not started
    r.start();
    for (unsigned round = 0; round < 30; ++round) {
        some(random.between(1, 20));
        got(r.ring.pause());
        const std::size_t before = meant.size();
        some(random.between(1, 5)); // QEMU keeps them
        r.take();
        CHECK(r.frames.size() == before);
        got(r.ring.resume());
        some(random.between(1, 5));
        all_came();

        CHECK(r.ring.start().error().code == errc::busy);
        CHECK(r.ring.stop().error().code == errc::busy);
        some(2);
        r.take();
        r.abandon();
        CHECK(r.ring.free_descriptors() == 0);
        CHECK(r.ring.post(buffers, 0).error() == error{errc::busy, 0});
        all_came();
        r.start();
        some(random.between(1, 20));
        all_came();
    }
    r.abandon();
    with.finish();
}

TEST_CASE("only what the filters let through is received", "[e1000e][82574]") {
    stand with{6};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    const mac stranger{0x52, 0x54, 0x00, 0x99, 0x99, 0x99};
    const mac group{0x01, 0x00, 0x5E, 0x00, 0x00, 0x01};
    const bytes mine = plain(100, random, second_mac);
    const bytes others = plain(101, random, stranger);
    const bytes all_of_us = plain(102, random, broadcast_mac);
    const bytes some_of_us = plain(103, random, group);
    const bytes longer = plain(1'523, random, second_mac);
    const bytes longest = plain(1'518, random, second_mac);
    const std::vector<bytes> all{mine, others, all_of_us, some_of_us, longer, longest};
    const auto seen = [&](const rx_settings& settings, const std::vector<bytes>& sent) {
        receiver r{m.second(), 64, settings};
        r.start();
        for (const bytes& frame : sent) {
            s.send(frame);
        }
        r.collect();
        CHECK(r.in_order());
        r.abandon();
        return r.contents();
    };
    using frames = std::vector<bytes>;
    CHECK(difference(seen({}, all), frames{mine, all_of_us, longest}) == "none");
    CHECK(difference(seen({.broadcast = false}, all), frames{mine, longest}) == "none");
    CHECK(difference(seen({.unicast_promiscuous = true}, all),
                     frames{mine, others, all_of_us, longest}) == "none");
    CHECK(difference(seen({.multicast_promiscuous = true}, all),
                     frames{mine, all_of_us, some_of_us, longest}) == "none");
    CHECK(difference(seen({.long_packets = true}, all), frames{mine, all_of_us, longer, longest}) ==
          "none");

    // By VLAN: the identifier's bit in VFTA.
    const bytes in_5 = tagged(mine, 0xE005);
    const bytes in_37 = tagged(mine, 37);
    m.second().registers.write32(pt::e1000e::vfta_offset + 4, 1U << 5);
    const rx_settings by_vlan{.vlan_filter = true};
    CHECK(difference(seen(by_vlan, {in_5, in_37, mine}), frames{in_37, mine}) == "none");
    m.second().registers.write32(pt::e1000e::vfta_offset, 1U << 5);
    CHECK(difference(seen(by_vlan, {in_5, in_37, mine}), frames{in_5, in_37, mine}) == "none");

    // With the CRC, of which QEMU has only the place.
    const frames with_crc = seen({.strip_crc = false}, {mine});
    REQUIRE(with_crc.size() == 1);
    CHECK(with_crc.front().size() == mine.size() + 4);
    with.finish();
}

TEST_CASE("a buffer outside of the NIC's domain is never written to", "[e1000e][vt-d]") {
    stand with{7};
    machine& m = with.m;
    sender& s = with.s;
    random_bytes& random = with.random;
    nic& n = m.second();
    for (const rx_format format : {rx_format::legacy, rx_format::extended}) {
        INFO(text(format));
        for (const iova outside :
             {iova{n.memory.secret_after(buffers).raw},    // memory of the host, by its own address
              iova{n.memory.host_of(buffers).raw},         // the NIC's own, by the host's address
              iova{m.first().memory.host_of(buffers).raw}, // the other NIC's
              device_memory::scattered + device_memory::scattered_size}) {
            INFO(hex(outside.raw));
            const auto ram = [&](iova at) {
                return m.ram().contains(hpa{at.raw}, 2'048) ? m.ram().load(hpa{at.raw}) : 0;
            };
            const std::uint64_t before = ram(outside);
            receiver r{n, 32, {.format = format}};
            got(r.ring.start());
            got(r.ring.post(outside, 1));
            r.ring.advance_tail();
            s.send(plain(600, random));
            CHECK(m.faults() == std::vector<std::string>{"second writes " + hex(outside.raw) +
                                                         ": write not permitted"});
            CHECK(ram(outside) == before);
            r.ring.abandon([](std::uint64_t) {});

            r.start(); // the NIC goes on
            const bytes good = plain(700, random);
            s.send(good);
            r.collect();
            CHECK(difference(r.contents(), {good}) == "none");
            r.abandon();
        }
        // Descriptors that the NIC reaches at another address than its own: none is carried out.
        const iova outside{n.memory.host_of(first_ring).raw};
        std::array<pt::e1000e::rx_slot, 32> slots{};
        receiver::ring_type ring{n.registers,  {&n.memory, first_ring}, {}, outside, slots.data(),
                                 slots.size(), {.format = format}};
        got(ring.start());
        got(ring.post(buffers, 1));
        ring.advance_tail();
        s.send(plain(600, random));
        const std::vector<std::string> faults = m.faults();
        REQUIRE(!faults.empty());
        CHECK(faults.front() == "second reads " + hex(outside.raw) + ": read not permitted");
        CHECK(ring.receive([](const pt::e1000e::rx_piece&) {}) == 0);
        CHECK(ring.abandon([](std::uint64_t) {}) == 1);
    }
    with.finish();
}
