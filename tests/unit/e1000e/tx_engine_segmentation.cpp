// SPDX-License-Identifier: BSL-1.0
// Packets that the device's side of transmission cuts into segments, against frames that are made
// one by one.
#include "pt/e1000e/tx_engine.hpp"

#include "tx_engine_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace tx_engine_test;
using pt::errc;
using pt::e1000e::tx_stop;
using finished = stream::finished;

/// Posts the context and the data of a packet that is to become segments of `mss` bytes.
void post_segments(rig& guest, dice& random, const stream& s, const bytes& payload, unsigned mss,
                   unsigned pieces, std::uint64_t first = 0, std::uint64_t last = 0) {
    guest.post(s.context_offsets(),
               context(s.context_flags() | TSE, payload.size(), s.header_length(), mss));
    send_in_pieces(guest, random, s.frame(payload, finished::none, true), pieces, DATA | TSE,
                   s.options() | first, END | last);
}

std::vector<bytes> on_the_wire(std::vector<bytes> frames) {
    for (bytes& frame : frames) {
        frame = padded(frame);
    }
    return frames;
}

TEST_CASE("one TCP packet becomes two, each with its own lengths, numbers and checksums",
          "[e1000e]") {
    constexpr auto check = [] {
        constexpr std::uint8_t header[54] = {
            2,    0,    0,    0,    0,    1,    2,    0,    0,  0, 0, 2, 8, 0, // Ethernet
            0x45, 0,    0,    0,    0xFF, 0xFF, 0x40, 0,    64, 6, 0, 0,       // IPv4
            10,   0,    0,    1,    10,   0,    0,    2,                       //
            0x12, 0x34, 0,    80,   0xFF, 0xFF, 0xFF, 0xF8, 0,  0, 0, 9,       // TCP
            0x50, 0x19, 0xFF, 0xEE, 0x14, 0x09, 0,    0}; // FIN, PSH, ACK; sum of the pseudo header
        byte memory[1024] = {};
        byte buffer[128] = {};
        space guest{memory, 0, 1024};
        engine nic{bus{&guest}, buffer, 128};
        nic.write(TDLEN, 128);
        nic.write(TCTL, EN);
        for (unsigned i = 0; i != 54; ++i) {
            memory[512 + i] = header[i];
        }
        for (unsigned i = 0; i != 24; ++i) {
            memory[512 + 54 + i] = static_cast<byte>(i);
        }
        put64(memory, offsets(14, 24, 33, 34, 50, 0));
        put64(memory + 8, context(TCP | IPV4 | TSE, 24, 54, 18));
        put64(memory + 16, 512);
        put64(memory + 24, DATA | TSE | END | RS | IXSM | TXSM | (54 + 24));
        nic.write(TDT, 2);
        unsigned frames = 0;
        bool good = true;
        const auto sum = [](const byte* data, std::size_t count, unsigned more) {
            unsigned total = more;
            for (std::size_t i = 0; i + 1 < count; i += 2) {
                total += data[i] * 256U + data[i + 1];
            }
            return (total & 0xFFFF) + (total >> 16);
        };
        const auto done = nic.step({}, [&](const byte* frame, std::size_t length) {
            const unsigned payload = frames == 0 ? 18 : 6;
            good = good && length == 54 + payload;
            good = good && frame[16] == 0 && frame[17] == 40 + payload; // total length
            good = good && frame[18] == (frames == 0 ? 0xFF : 0) && frame[19] == frame[18];
            good = good && sum(frame + 14, 20, 0) == 0xFFFF;
            good = good && frame[38] == (frames == 0 ? 0xFF : 0) &&
                   frame[41] == (frames == 0 ? 0xF8 : 0x0A); // FFFFFFF8 + 18 = 0000000A
            good = good && frame[47] == (frames == 0 ? 0x10 : 0x19);
            // addresses, protocol, length
            good = good && sum(frame + 34, 20 + payload,
                               0x0A00 + 1 + 0x0A00 + 2 + 6 + 20 + payload) == 0xFFFF;
            for (unsigned i = 0; i != payload; ++i) {
                good = good && frame[54 + i] == i + 18 * frames;
            }
            ++frames;
            return true;
        });
        return good && frames == 2 && done.descriptors == 2 && done.malformed == 0 &&
               done.dropped == 0 && (get64(memory + 24) & DD) != 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("segments of any stream, size and split of the data", "[e1000e][rule 25]") {
    dice random{20};
    rig guest{64};
    for (unsigned turn = 0; turn != 2500; ++turn) {
        stream s = any_stream(random);
        s.snap = random.one_in(4);
        const unsigned mss = 1 + random.below(random.one_in(3) ? 40 : 1500);
        const bytes payload = random.some(1 + random.below(random.one_in(10) ? 60000 : mss * 5));
        if (random.one_in(3)) { // wrap
            s.identification = 65535 - random.below(3);
            s.sequence = 0xFFFF'FFFF - random.below(payload.size());
        }
        if (s.header_length() > 240) {
            continue;
        }
        post_segments(guest, random, s, payload, mss, 16);
        guest.run();
        REQUIRE(guest.frames == on_the_wire(segments(s, payload, mss)));
        guest.frames.clear();
    }
    REQUIRE(guest.total.dropped == 0);
    REQUIRE(guest.total.malformed == 0);
}

TEST_CASE("without POPTS the checksum fields stay as they are in the prototype", "[e1000e]") {
    dice random{21};
    for (const std::uint64_t asked : {std::uint64_t{0}, IXSM, TXSM}) {
        rig guest;
        stream s = any_stream(random);
        while (!s.v4) {
            s = any_stream(random);
        }
        const bytes payload = random.some(300);
        const bytes prototype = s.frame(payload, finished::none, true);
        guest.post(s.context_offsets(),
                   context(s.context_flags() | TSE, 300, s.header_length(), 100));
        guest.send(prototype, DATA | TSE | END | asked);
        guest.run();
        auto expected = segments(s, payload, 100);
        for (bytes& frame : expected) {
            for (const unsigned field : {asked == IXSM ? 0U : s.ip_checksum_at(),
                                         asked == TXSM ? 0U : s.transport_checksum_at()}) {
                frame[field] = prototype[field];
                frame[field + 1] = prototype[field + 1];
            }
        }
        REQUIRE(guest.frames == expected);
    }
}

TEST_CASE("the tag and POPTS of segments come from the first data descriptor", "[e1000e]") {
    dice random{22};
    rig guest;
    guest.nic.write(CTRL, VME);
    for (unsigned turn = 0; turn != 200; ++turn) {
        const stream s = any_stream(random);
        if (s.header_length() > 240) {
            continue;
        }
        const bytes payload = random.some(1 + random.below(500));
        const bool asked = random.one_in(2);
        const unsigned tag = random.below(65536);
        const bytes data = s.frame(payload, finished::none, true);
        const std::size_t cut = random.below(data.size());
        guest.post(s.context_offsets(),
                   context(s.context_flags() | TSE, payload.size(), s.header_length(), 90));
        guest.send(part(data, 0, cut), DATA | TSE | s.options() | (asked ? VLE : 0) | special(tag));
        guest.send(part(data, cut, data.size() - cut),
                   DATA | TSE | END | (asked ? 0 : VLE) | special(tag ^ 0xFFFF));
        guest.run();
        auto expected = segments(s, payload, 90);
        for (bytes& frame : expected) {
            frame = padded(asked ? tagged(frame, 0x8100, tag) : frame);
        }
        REQUIRE(guest.frames == expected);
        guest.frames.clear();
    }
}

TEST_CASE("segments have no FCS of software's, whatever IFCS says", "[e1000e]") {
    dice random{13};
    for (const std::uint64_t first : {std::uint64_t{0}, IFCS}) {
        for (const std::uint64_t last : {EOP, END}) {
            rig guest;
            const stream s = any_stream(random);
            const bytes payload = random.some(250);
            const bytes data = s.frame(payload, stream::finished::none, true);
            const std::uint64_t common = DATA | TSE | s.options();
            guest.post(s.context_offsets(),
                       context(s.context_flags() | TSE, 250, s.header_length(), 100));
            guest.send(part(data, 0, s.header_length()), common | first);
            guest.send(payload, common | last);
            guest.run();
            REQUIRE(guest.frames == segments(s, payload, 100));
        }
    }
}

TEST_CASE("a context for segmentation serves every packet of that size", "[e1000e]") {
    dice random{23};
    rig guest;
    stream s = any_stream(random);
    s.tcp_options.clear();
    s.ip_options.clear();
    guest.post(s.context_offsets(), context(s.context_flags() | TSE, 500, s.header_length(), 200));
    std::vector<bytes> expected;
    for (unsigned turn = 0; turn != 4; ++turn) {
        const bytes payload = random.some(500);
        guest.send(s.frame(payload, finished::none, true), DATA | TSE | END | s.options());
        for (const bytes& frame : segments(s, payload, 200)) {
            expected.push_back(frame);
        }
        guest.post(0, context(0)); // that for checksums is another one
    }
    guest.run();
    REQUIRE(guest.frames == expected);
}

TEST_CASE("EOP before PAYLEN ends the packet there, as its last frame", "[e1000e]") {
    dice random{24};
    for (const std::size_t size : {1U, 99U, 100U, 101U, 199U, 200U, 250U, 499U}) {
        rig guest;
        stream s = any_stream(random);
        s.tcp_options.clear();
        s.ip_options.clear();
        s.flags = 0x19;
        const bytes payload = random.some(size);
        guest.post(s.context_offsets(),
                   context(s.context_flags() | TSE, 500, s.header_length(), 100));
        guest.send(s.frame(payload, finished::none, true), DATA | TSE | END | RS | s.options());
        guest.send(bytes(70, 1), END); // and the next one is not touched
        guest.run();
        auto expected = on_the_wire(segments(s, payload, 100));
        expected.push_back(bytes(70, 1));
        REQUIRE(guest.frames == expected);
        REQUIRE(guest.total.malformed == 1);
        REQUIRE(guest.total.dropped == 0);
        REQUIRE(guest.is_done(1));
    }
}

TEST_CASE("data beyond PAYLEN is neither sent nor read", "[e1000e]") {
    dice random{25};
    for (const bool own_descriptor : {false, true}) {
        rig guest;
        stream s = any_stream(random);
        s.tcp_options.clear();
        s.ip_options.clear();
        const bytes payload = random.some(450);
        bytes data = s.frame(payload, finished::none, true);
        guest.post(s.context_offsets(),
                   context(s.context_flags() | TSE, 450, s.header_length(), 100));
        if (own_descriptor) {
            guest.send(data, DATA | TSE | s.options());
            guest.post(0x8000, DATA | TSE | END | RS | 60000);
        } else {
            append(data, random.some(3000));
            guest.send(data, DATA | TSE | END | RS | s.options());
        }
        guest.send(bytes(70, 1), END);
        guest.run();
        const std::uint64_t read = guest.guest.read_bytes;
        guest.send(s.frame(payload, finished::none, true), DATA | TSE | END | s.options());
        guest.run(); // that one is as it should be
        auto expected = segments(s, payload, 100);
        expected.push_back(bytes(70, 1));
        for (const bytes& frame : segments(s, payload, 100)) {
            expected.push_back(frame);
        }
        REQUIRE(guest.frames == expected);
        REQUIRE(guest.total.malformed == 1);
        REQUIRE(read == (own_descriptor ? 4U : 3U) * 16 + s.header_length() + 450 + 70);
        REQUIRE(guest.is_done(own_descriptor ? 2 : 1));
    }
}

TEST_CASE("PAYLEN 0 is one frame of the header alone", "[e1000e]") {
    dice random{26};
    rig guest;
    stream s = any_stream(random);
    s.v4 = s.tcp = true;
    s.source = s.destination = {1, 2, 3, 4};
    s.ip_options.clear();
    guest.post(s.context_offsets(), context(s.context_flags() | TSE, 0, s.header_length(), 100));
    guest.send(s.frame({}, finished::none, true), DATA | TSE | END | s.options());
    guest.run();
    REQUIRE(guest.frames == on_the_wire({s.frame({}, finished::both)}));
    REQUIRE(guest.total.malformed == 0);
}

TEST_CASE("a packet that cannot be segmented is dropped, its descriptors are done", "[e1000e]") {
    struct wrong {
        std::uint64_t hdrlen, mss;
        std::size_t data;
        errc why;
    };
    for (const wrong& w :
         {wrong{0, 100, 500, errc::malformed},   // no header
          wrong{241, 100, 500, errc::malformed}, // larger than the header buffer
          wrong{255, 100, 500, errc::malformed}, wrong{54, 0, 500, errc::malformed}, // no segment
          wrong{54, 100, 53, errc::malformed},      // less data than header
          wrong{54, 1943, 500, errc::out_of_range}, // 54 + 1943 + 4 = 2001
          wrong{54, 65535, 500, errc::out_of_range}}) {
        rig guest{64, 2000};
        guest.post(offsets(14, 24, 33, 34, 50, 0), context(TCP | IPV4 | TSE, 400, w.hdrlen, w.mss));
        const std::uint32_t bad = guest.send(bytes(w.data - 20, 1), DATA | TSE | RS);
        guest.send(bytes(20, 1), DATA | TSE | END | RS);
        guest.send(bytes(70, 2), END);
        guest.run();
        REQUIRE(guest.frames == std::vector<bytes>{bytes(70, 2)});
        REQUIRE(guest.total.dropped == 1);
        REQUIRE(guest.total.malformed == 0);
        REQUIRE(guest.total.fault.code == w.why);
        const bool late = w.data < w.hdrlen; // known only at the end
        REQUIRE(guest.total.fault.where == guest.ring + 16 * (late ? bad + 1 : bad));
        REQUIRE(guest.is_done(bad));
        REQUIRE(guest.is_done(bad + 1));
    }
    // The longest that fits
    rig guest{64, 2000};
    guest.post(offsets(14, 24, 33, 34, 50, 0), context(TCP | IPV4 | TSE, 4000, 54, 1942));
    guest.send(bytes(4054, 1), DATA | TSE | END);
    guest.run();
    REQUIRE(guest.frames.size() == 3);
    REQUIRE(guest.frames[0].size() == 1996);
    REQUIRE(guest.frames[2].size() == 54 + 4000 - 2 * 1942);
    // The longest header
    guest.post(offsets(14, 24, 33, 34, 50, 0), context(TCP | IPV4 | TSE, 10, 240, 100));
    guest.send(bytes(250, 1), DATA | TSE | END);
    guest.run();
    REQUIRE(guest.frames.size() == 4);
    REQUIRE(guest.frames[3].size() == 250);
}

TEST_CASE("fields that do not lie in the header are not updated", "[e1000e]") {
    dice random{27};
    rig guest;
    for (unsigned turn = 0; turn != 2000; ++turn) {
        const unsigned header = 1 + random.below(80);
        const unsigned ip = random.below(100);
        const unsigned transport = random.below(100);
        const bool v4 = random.one_in(2);
        const bool tcp = random.one_in(2);
        const bool snap = random.one_in(2);
        const bytes data = random.some(header + 30); // one frame of 20 bytes, one of 10
        guest.nic.write(TCTL, EN);
        guest.post(
            offsets(ip, 0, 0, transport, 0, 0),
            context((v4 ? IPV4 : 0) | (tcp ? TCP : 0) | (snap ? SNAP : 0) | TSE, 30, header, 20));
        guest.send(data, DATA | TSE | END);
        guest.run();
        REQUIRE(guest.frames.size() == 2);
        for (unsigned n = 0; n != 2; ++n) {
            const unsigned payload = n == 0 ? 20 : 10;
            bytes expected = part(data, 0, header);
            const auto put = [&](unsigned at, unsigned value) {
                if (at + 2 <= header) {
                    expected[at] = static_cast<byte>(value / 256);
                    expected[at + 1] = static_cast<byte>(value % 256);
                }
            };
            const auto old = [&](unsigned at) { return data[at] * 256U + data[at + 1]; };
            if (snap) {
                put(12, (payload + header + 65536 - 14) % 65536);
            }
            if (v4) {
                put(ip + 2, (payload + header + 65536 - ip) % 65536);
                if (ip + 6 <= header) {
                    put(ip + 4, (old(ip + 4) + n) % 65536);
                }
            } else {
                put(ip + 4, (payload + header + 65536 - ip - 40) % 65536);
            }
            if (!tcp) {
                put(transport + 4, (payload + header + 65536 - transport) % 65536);
            } else {
                if (transport + 8 <= header) {
                    const std::uint32_t sequence =
                        (old(transport + 4) << 16) + old(transport + 6) + 20 * n;
                    put(transport + 4, sequence >> 16);
                    put(transport + 6, sequence & 0xFFFF);
                }
                if (n == 0 && transport + 14 <= header) {
                    expected[transport + 13] = static_cast<byte>(expected[transport + 13] & ~0x09U);
                }
            }
            append(expected, part(data, header + 20 * n, payload));
            // Where fields lie over one another, their order is not defined.
            const unsigned ip_end = ip + 6;
            const bool apart = (transport >= ip_end || ip >= transport + 14) &&
                               (!snap || (ip >= 14 && transport >= 14));
            if (apart) {
                REQUIRE(guest.frames[n] == expected);
            } else {
                REQUIRE(guest.frames[n].size() == expected.size());
            }
        }
        guest.frames.clear();
    }
}

TEST_CASE("a packet that is being segmented keeps its context and its first descriptor",
          "[e1000e][rule 25]") {
    dice random{28};
    rig guest;
    stream s = any_stream(random);
    s.tcp_options.clear();
    s.ip_options.clear();
    const bytes payload = random.some(1000);
    const bytes data = s.frame(payload, finished::none, true);
    guest.post(s.context_offsets(), context(s.context_flags() | TSE, 1000, s.header_length(), 150));
    guest.send(part(data, 0, 500), DATA | TSE | s.options());
    guest.post(~std::uint64_t{0}, context(TSE, 1, 1, 1)); // not allowed in the middle of a packet
    guest.send(part(data, 500, 300), DATA);               // nor is another kind
    guest.send(part(data, 800, data.size() - 800), END);
    guest.run();
    REQUIRE(guest.frames == on_the_wire(segments(s, payload, 150)));
    REQUIRE(guest.total.malformed == 0);
}

TEST_CASE("a megabyte in segments of 17 bytes takes as many steps as it has frames", "[e1000e]") {
    rig guest{64, 128};
    guest.post(offsets(14, 24, 33, 34, 50, 0), context(TCP | IPV4 | TSE, 0xF'FF00, 54, 17));
    guest.post(0x20'0000, DATA | TSE | END | RS | IXSM | TXSM | (0xF'FF00 + 54));
    guest.doorbell();
    std::uint64_t steps = 0;
    std::uint64_t taken = 0;
    while (guest.total.why != tx_stop::idle || steps == 0) {
        const std::uint64_t before = guest.guest.read_bytes;
        const auto done = guest.step({1, 1});
        REQUIRE(done.frames <= 1);
        REQUIRE(done.descriptors <= 1);
        REQUIRE(guest.guest.read_bytes - before <= 16 + 2 * 128);
        taken += guest.frames.empty() ? 0 : guest.frames[0].size() - 54;
        guest.frames.clear();
        REQUIRE(++steps < 70000);
    }
    REQUIRE(taken == 0xF'FF00);
    REQUIRE(guest.total.frames == (0xF'FF00 + 16) / 17);
    REQUIRE(guest.is_done(1));
}

} // namespace
