// SPDX-License-Identifier: BSL-1.0
// The device's side of transmission: frames of one packet each, checksums, tags, write-back,
// causes.
#include "pt/e1000e/tx_engine.hpp"

#include "tx_engine_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace tx_engine_test;
using pt::e1000e::tx_stop;

TEST_CASE("a one-descriptor packet costs two reads and the write of its status byte",
          "[e1000e][rule 24]") {
    constexpr auto check = [](std::uint64_t high) {
        byte memory[512] = {};
        byte buffer[128] = {};
        space guest{memory, 0, 512};
        engine nic{bus{&guest}, buffer, 128};
        nic.write(TDLEN, 128);
        nic.write(TCTL, EN);
        for (unsigned i = 0; i != 64; ++i) {
            memory[256 + i] = static_cast<byte>(i + 1);
        }
        put64(memory, 256);
        put64(memory + 8, high | 64);
        nic.write(TDT, 1);
        bool good = nic.has_work();
        unsigned frames = 0;
        const auto done = nic.step({}, [&](const byte* frame, std::size_t length) {
            good = good && length == 64;
            for (unsigned i = 0; i != 64; ++i) {
                good = good && frame[i] == i + 1;
            }
            ++frames;
            return true;
        });
        good = good && frames == 1 && done.frames == 1 && done.descriptors == 1 &&
               done.why == tx_stop::idle && done.causes.raw == (TXDW | TXQE | TXQ0 | TXDLOW) &&
               done.dropped == 0 && done.fault.code == pt::errc::none && !done.delayed_write_back;
        good = good && guest.reads == 2 && guest.read_bytes == 16 + 64 && guest.writes == 1 &&
               guest.written_bytes == 1 && guest.last_write == 12;
        return good && get64(memory + 8) == (high | 64 | DD) && nic.read(TDH) == 1 &&
               !nic.has_work();
    };
    static_assert(check(END | RS));
    static_assert(check(DATA | END | RS));
    REQUIRE(check(END | RS));
    REQUIRE(check(DATA | END | RS));
}

TEST_CASE("legacy packets of every size arrive as they are; short ones are padded with PSP",
          "[e1000e]") {
    dice random{3};
    rig guest{16};
    const bytes data = random.some(9100);
    for (std::size_t size = 1; size <= 9100; ++size) {
        guest.nic.write(TCTL, size % 2 == 0 ? EN : EN | PSP);
        const bytes packet = part(data, 0, size);
        const std::uint32_t index = guest.send(packet, END | RS);
        guest.run();
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == (size % 2 == 0 ? packet : padded(packet)));
        REQUIRE(guest.is_done(index));
        guest.frames.clear();
    }
    // The padding is zeros, whatever the buffer held before.
    guest.nic.write(TCTL, EN | PSP);
    guest.send(bytes(100, 0xEE), END);
    guest.send(bytes(20, 0x11), END);
    guest.run();
    REQUIRE(guest.frames[1] == padded(bytes(20, 0x11)));
}

TEST_CASE("without IFCS the last 4 bytes are the packet's FCS, which the sink does not get",
          "[e1000e][82574]") {
    constexpr auto check = [](std::uint64_t high) {
        byte memory[512] = {};
        byte buffer[128] = {};
        space guest{memory, 0, 512};
        engine nic{bus{&guest}, buffer, 128};
        nic.write(TDLEN, 128);
        nic.write(TCTL, EN | PSP);
        for (unsigned i = 0; i != 64; ++i) {
            memory[256 + i] = static_cast<byte>(i + 1);
        }
        put64(memory, 256);
        put64(memory + 8, high | EOP | 64);
        nic.write(TDT, 1);
        unsigned frames = 0;
        bool good = true;
        nic.step({}, [&](const byte* frame, std::size_t length) {
            good = good && length == 60 && frame[0] == 1 && frame[59] == 60;
            ++frames;
            return true;
        });
        return good && frames == 1;
    };
    static_assert(check(0));
    static_assert(check(DATA));
    REQUIRE(check(0));
    REQUIRE(check(DATA));
    // Nothing but an FCS is no packet, and its descriptor is done.
    for (std::size_t size = 1; size != 8; ++size) {
        rig guest;
        guest.nic.write(TCTL, EN);
        const bytes data(size, 5);
        const std::uint32_t index = guest.send(data, EOP | RS);
        guest.run();
        REQUIRE(guest.is_done(index));
        REQUIRE(guest.frames.size() == (size > 4 ? 1 : 0));
        REQUIRE((size <= 4 || guest.frames[0] == bytes(size - 4, 5)));
        REQUIRE(guest.total.dropped == 0);
    }
}

TEST_CASE("IFCS counts in the last descriptor, and is taken for set where the NIC changes a packet",
          "[e1000e][82574]") {
    dice random{14};
    rig guest{64};
    for (unsigned turn = 0; turn != 4000; ++turn) {
        const bool pads = random.one_in(2);
        const bool mode = random.one_in(2);
        const bool tags = random.one_in(3);
        const bool asked = random.one_in(2);
        const bool sums = random.one_in(3);
        const bool extended = random.one_in(2);
        const unsigned size = random.one_in(2) ? 50 + random.below(20) : 12 + random.below(300);
        guest.nic.write(TCTL, pads ? EN | PSP : EN);
        guest.nic.write(CTRL, mode ? VME : 0);
        const bytes data = random.some(size);
        // From byte 6 to the end, into byte 8; IC in the last descriptor, POPTS in the first.
        guest.post(offsets(0, 0, 0, 6, 8, 0), context(0));
        const std::uint64_t first = extended ? DATA | (sums ? TXSM : 0) : 6ULL << 40;
        const std::uint64_t last = (extended ? DATA : 8ULL << 16 | (sums ? IC : 0)) | EOP |
                                   (tags ? VLE | special(0x0123) : 0) | (asked ? IFCS : 0);
        const unsigned cut = random.below(size);
        if (cut == 0) {
            guest.send(data, first | last);
        } else {
            guest.send(part(data, 0, cut), first | (random.one_in(2) ? IFCS : 0));
            guest.send(part(data, cut, size - cut), last);
        }
        guest.run();
        bytes expected = data;
        if (!asked && !sums && !(tags && mode) && !(pads && size < 60)) {
            expected.resize(size - 4);
        }
        if (sums) {
            const unsigned sum = checksum(part(data, 6, size - 6));
            expected[8] = static_cast<byte>((sum == 0 && extended ? 65535 : sum) / 256);
            expected[9] = static_cast<byte>((sum == 0 && extended ? 65535 : sum) % 256);
        }
        expected = tags && mode ? tagged(expected, 0x8100, 0x0123) : expected;
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == (pads ? padded(expected) : expected));
        guest.frames.clear();
    }
}

TEST_CASE("fragments of any length are put together; empty ones and null addresses add nothing",
          "[e1000e]") {
    dice random{4};
    rig guest{64};
    std::vector<bytes> sent;
    for (unsigned turn = 0; turn != 3000; ++turn) {
        const bytes data = random.some(1 + random.below(random.one_in(10) ? 16000 : 1600));
        send_in_pieces(guest, random, data, 16, random.one_in(2) ? DATA : 0, 0, END);
        sent.push_back(padded(data));
        if (random.one_in(3) || (guest.tail - guest.nic.read(TDH)) % 64 > 40) {
            guest.run();
        }
        if (guest.frames.size() > 100) {
            guest.run();
            REQUIRE(guest.frames == sent);
            guest.frames.clear();
            sent.clear();
        }
    }
    guest.run();
    REQUIRE(guest.frames == sent);
    REQUIRE(guest.total.dropped == 0);
}

TEST_CASE("a packet without any data is none, and its descriptors are done", "[e1000e][rule 24]") {
    rig guest;
    guest.post(0, END | RS | 64);
    guest.post(0x4000, END | RS);
    guest.post(0, DATA | RS);
    guest.post(0x4000, DATA | END | RS);
    guest.run();
    REQUIRE(guest.frames.empty());
    REQUIRE(guest.total.dropped == 0);
    REQUIRE(guest.guest.reads == 4); // the descriptors
    for (std::uint32_t i = 0; i != 4; ++i) {
        REQUIRE(guest.is_done(i));
    }
}

TEST_CASE("legacy checksum: CSS of the first descriptor, CSO and IC of the last", "[e1000e]") {
    dice random{5};
    rig guest{64};
    for (unsigned turn = 0; turn != 2000; ++turn) {
        const bytes data = random.some(2 + random.below(300));
        const auto start = static_cast<unsigned>(random.below(256));
        const auto field = static_cast<unsigned>(random.below(256));
        const bool asked = !random.one_in(5);
        // Descriptors in the middle say nothing, nor does IC in the first or CSS in the last.
        const unsigned size = static_cast<unsigned>(data.size());
        const unsigned cut = random.below(size);
        const std::uint64_t noise_css = static_cast<std::uint64_t>(random.below(256)) << 40;
        const std::uint64_t noise_cso = static_cast<std::uint64_t>(random.below(256)) << 16;
        const std::uint64_t css = static_cast<std::uint64_t>(start) << 40;
        const std::uint64_t cso = static_cast<std::uint64_t>(field) << 16;
        if (cut == 0) {
            guest.send(data, css | cso | END | (asked ? IC : 0));
        } else {
            guest.send(part(data, 0, cut), css | noise_cso | (random.one_in(2) ? IC : 0));
            guest.send(part(data, cut, size - cut), noise_css | cso | END | (asked ? IC : 0));
        }
        guest.run();
        bytes expected = data;
        // "IC is ignored if CSS >= length or CSO >= length - 1" [8254x]
        if (asked && start < size && field < size - 1) {
            const unsigned sum = checksum(part(data, start, size - start));
            expected[field] = static_cast<byte>(sum / 256);
            expected[field + 1] = static_cast<byte>(sum % 256);
        }
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == padded(expected));
        guest.frames.clear();
    }
}

TEST_CASE("data descriptors: IP and TCP or UDP checksums as POPTS of the first one asks",
          "[e1000e][rule 25]") {
    dice random{6};
    rig guest{64};
    for (unsigned turn = 0; turn != 3000; ++turn) {
        const stream s = any_stream(random);
        const bytes payload = random.some(random.below(1400));
        const bool ip = s.v4 && random.one_in(2);
        const bool transport = random.one_in(2);
        using finished = stream::finished;
        const bytes data = s.frame(payload, finished::none);
        const bytes expected = s.frame(payload, ip && transport ? finished::both
                                                : ip            ? finished::ip
                                                : transport     ? finished::transport
                                                                : finished::none);
        guest.post(s.context_offsets(), context(s.context_flags()));
        send_in_pieces(guest, random, data, 16, DATA, (ip ? IXSM : 0) | (transport ? TXSM : 0),
                       END);
        guest.run();
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == padded(expected));
        guest.frames.clear();
    }
}

TEST_CASE("POPTS counts in the first data descriptor only", "[e1000e][rule 25]") {
    dice random{7};
    rig guest;
    stream s = any_stream(random);
    s.v4 = true;
    s.source = s.destination = {10, 0, 0, 1};
    s.ip_options.clear();
    const bytes data = s.frame(random.some(100), stream::finished::none);
    guest.post(s.context_offsets(), context(s.context_flags()));
    guest.send(part(data, 0, 40), DATA);
    guest.send(part(data, 40, data.size() - 40), DATA | END | IXSM | TXSM);
    guest.run();
    REQUIRE(guest.frames == std::vector<bytes>{data});
}

TEST_CASE("a context serves all packets until the next one, and one in a packet waits",
          "[e1000e][rule 25]") {
    dice random{8};
    rig guest;
    stream a = any_stream(random);
    stream b = any_stream(random);
    while (b.transport_checksum_at() == a.transport_checksum_at()) {
        b = any_stream(random);
    }
    using finished = stream::finished;
    std::vector<bytes> expected;
    guest.post(a.context_offsets(), context(a.context_flags()));
    for (unsigned turn = 0; turn != 5; ++turn) {
        const bytes payload = random.some(random.below(500));
        guest.send(a.frame(payload, finished::none), DATA | END | a.options());
        expected.push_back(padded(a.frame(payload, a.v4 ? finished::both : finished::transport)));
        guest.send(bytes(80, 7), END); // legacy packets do not disturb it
        expected.push_back(bytes(80, 7));
    }
    const bytes payload = random.some(100);
    const bytes data = a.frame(payload, finished::none);
    guest.send(part(data, 0, 50), DATA | a.options());
    const std::uint32_t within = guest.post(b.context_offsets(), context(b.context_flags() | RS));
    guest.send(part(data, 50, data.size() - 50), DATA | END);
    expected.push_back(a.frame(payload, a.v4 ? finished::both : finished::transport));
    guest.send(b.frame(payload, finished::none), DATA | END | b.options());
    expected.push_back(b.frame(payload, b.v4 ? finished::both : finished::transport));
    // A context for segmentation is another one.
    guest.post(a.context_offsets(), context(a.context_flags() | TSE, 100, 60, 100));
    guest.send(b.frame(payload, finished::none), DATA | END | b.options());
    expected.push_back(b.frame(payload, b.v4 ? finished::both : finished::transport));
    guest.run();
    REQUIRE(guest.frames == expected);
    REQUIRE(guest.is_done(within));
}

TEST_CASE("checksum ends are inclusive; 0 and beyond the packet mean its end; what lies outside "
          "is not inserted",
          "[e1000e]") {
    dice random{9};
    rig guest{64};
    for (unsigned turn = 0; turn != 3000; ++turn) {
        const bytes data = random.some(60 + random.below(250));
        const auto size = static_cast<unsigned>(data.size());
        const unsigned start = random.below(256);
        const unsigned field = random.below(256);
        const unsigned ends[] = {0,        start, start + 1, size - 2,
                                 size - 1, size,  65535,     random.below(400)};
        const unsigned end = ends[random.below(8)];
        const bool ip = random.one_in(2);
        guest.post(ip ? offsets(start, field, end, 0, 0, 0) : offsets(0, 0, 0, start, field, end),
                   context(0));
        guest.send(data, DATA | END | (ip ? IXSM : TXSM));
        guest.run();
        bytes expected = data;
        const unsigned stop = end == 0 || end >= size ? size : end + 1;
        if (start < stop && field + 1 < size) {
            unsigned sum = checksum(part(data, start, stop - start));
            sum = sum == 0 && !ip ? 65535 : sum;
            expected[field] = static_cast<byte>(sum / 256);
            expected[field + 1] = static_cast<byte>(sum % 256);
        }
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == expected);
        guest.frames.clear();
    }
}

TEST_CASE("a transport checksum of 0 goes out as FFFF, an IP checksum as it is", "[e1000e]") {
    rig guest;
    bytes data(64, 0);
    data[30] = 0xFF; // all words sum to FFFF
    data[31] = 0xFF;
    guest.post(offsets(14, 20, 0, 14, 40, 0), context(0));
    guest.send(data, DATA | END | TXSM);
    guest.send(data, DATA | END | IXSM);
    guest.send(data, END | IC | 20ULL << 16 | 14ULL << 40);
    guest.run();
    bytes expected = data;
    expected[40] = expected[41] = 0xFF;
    REQUIRE(guest.frames == std::vector<bytes>{expected, data, data});
    // The IP checksum is in its place when a transport sums over it.
    guest.frames.clear();
    bytes inner(64, 0);
    inner[40] = 0x12;
    guest.post(offsets(40, 50, 59, 34, 36, 0), context(0));
    guest.send(inner, DATA | END | IXSM | TXSM);
    guest.run();
    inner[50] = 0xED; // ~0x1200
    inner[51] = 0xFF;
    // 1200 + EDFF = FFFF, whose complement is 0
    inner[36] = inner[37] = 0xFF;
    REQUIRE(guest.frames == std::vector<bytes>{inner});
}

TEST_CASE("the VLAN tag comes from the last descriptor, with VLE and CTRL.VME", "[e1000e]") {
    dice random{10};
    rig guest{64};
    for (unsigned turn = 0; turn != 1000; ++turn) {
        const bool mode = !random.one_in(4);
        const bool asked = !random.one_in(4);
        const unsigned ether_type = random.one_in(2) ? 0x8100 : random.below(65536);
        const unsigned tag = random.below(65536);
        guest.nic.write(CTRL, mode ? VME : 0);
        guest.nic.write(VET, ether_type);
        const bytes data = random.some(random.one_in(4) ? 12 + random.below(60) : 100);
        send_in_pieces(guest, random, data, 8, random.one_in(2) ? DATA : 0, 0,
                       END | (asked ? VLE : 0) | special(tag));
        guest.run();
        const bytes expected = mode && asked ? tagged(data, ether_type, tag) : data;
        REQUIRE(guest.frames.size() == 1);
        REQUIRE(guest.frames[0] == padded(expected));
        guest.frames.clear();
    }
    // VLE in any other descriptor says nothing.
    guest.nic.write(CTRL, VME);
    const bytes data = random.some(100);
    guest.send(part(data, 0, 50), VLE | special(5));
    guest.send(part(data, 50, 50), END);
    // Too short to have addresses: no tag.
    guest.send(bytes(11, 1), END | VLE | special(5));
    guest.run();
    REQUIRE(guest.frames == std::vector<bytes>{data, padded(bytes(11, 1))});
}

TEST_CASE("checksum offsets do not count the tag that is inserted", "[e1000e]") {
    dice random{11};
    rig guest;
    guest.nic.write(CTRL, VME);
    for (unsigned turn = 0; turn != 100; ++turn) {
        const stream s = any_stream(random);
        const bytes payload = random.some(100);
        using finished = stream::finished;
        guest.post(s.context_offsets(), context(s.context_flags()));
        guest.send(s.frame(payload, finished::none),
                   DATA | END | VLE | s.options() | special(0x2345));
        guest.run();
        REQUIRE(
            guest.frames.back() ==
            tagged(s.frame(payload, s.v4 ? finished::both : finished::transport), 0x8100, 0x2345));
    }
}

TEST_CASE("DD is written where RS is set and nowhere else, and nothing but STA changes",
          "[e1000e][rule 24]") {
    dice random{12};
    rig guest{64};
    for (unsigned turn = 0; turn != 300; ++turn) {
        const std::uint32_t first = guest.tail;
        const unsigned posted = 1 + random.below(40);
        for (unsigned i = 0; i != posted; ++i) {
            const std::uint64_t rs = random.one_in(2) ? RS : 0;
            // Bits that belong to the guest or that the hardware overwrites
            const std::uint64_t noise = static_cast<std::uint64_t>(random.below(256)) << 32;
            switch (random.below(5)) {
            case 0: guest.post(0, context(rs | noise)); break;
            case 1:
                guest.post(0, DEXT | rs | noise |
                                  static_cast<std::uint64_t>(2 + random.below(14)) << 20 | END);
                break;
            case 2: guest.post(0, rs | noise | END | 9); break;
            case 3: guest.send(random.some(1 + random.below(100)), DATA | rs | noise); break;
            default: guest.send(random.some(1 + random.below(100)), rs | noise | END); break;
            }
        }
        const bytes before = guest.memory;
        guest.guest.writes = guest.guest.written_bytes = 0;
        guest.run();
        bytes expected = before;
        std::uint64_t asked = 0;
        for (unsigned i = 0; i != posted; ++i) {
            const std::uint64_t at = guest.ring + (first + i) % 64 * 16;
            if ((get64(&expected[at + 8]) & RS) != 0) {
                ++asked;
                expected[at + 12] = static_cast<byte>((expected[at + 12] & 0xF0) | 1);
            }
        }
        REQUIRE(guest.memory == expected);
        REQUIRE(guest.guest.writes == asked);
        REQUIRE(guest.guest.written_bytes == asked);
    }
}

TEST_CASE("TXDW without IDE, a delayed write-back with it, neither without RS", "[e1000e]") {
    for (const std::uint64_t kind : {std::uint64_t{0}, DATA, DEXT, DEXT | std::uint64_t{5} << 20}) {
        struct expectation {
            std::uint64_t command;
            std::uint32_t causes;
            bool delayed;
        };
        for (const expectation& e :
             {expectation{0, 0, false}, expectation{IDE, 0, false},
              expectation{RS, TXDW | TXQ0, false}, expectation{RS | IDE, 0, true}}) {
            rig guest;
            guest.nic.write(TXDCTL, 0x7FU << 25); // TXDLOW out of the way
            guest.post(0x4000, kind | e.command | END | 70);
            guest.run();
            REQUIRE(guest.total.causes.raw == (e.causes | TXQE));
            REQUIRE(guest.total.delayed_write_back == e.delayed);
        }
    }
    rig both;
    both.send(bytes(70, 1), RS | IDE | END);
    both.send(bytes(70, 1), RS | END);
    both.run();
    REQUIRE((both.total.causes.raw & TXDW) != 0);
    REQUIRE(both.total.delayed_write_back);
    REQUIRE(both.nic.write_back_causes().raw == (TXDW | TXQ0));
}

TEST_CASE("the second queue has its own registers and cause", "[e1000e]") {
    byte memory[512] = {};
    byte buffer[128] = {};
    space guest{memory, 0, 512};
    engine nic{bus{&guest}, buffer, 128, pt::e1000e::queue::second};
    nic.write(TDLEN + 0x100, 128);
    nic.write(TCTL, EN);
    put64(memory, 256);
    put64(memory + 8, END | RS | 64);
    nic.write(TDT, 1);
    REQUIRE(!nic.has_work());
    REQUIRE(!nic.owns(TDT));
    nic.write(TDT + 0x100, 1);
    REQUIRE(nic.has_work());
    const auto done = nic.step({}, [](const byte*, std::size_t) { return true; });
    REQUIRE(done.causes.raw == (TXDW | TXQ1 | TXQE | TXDLOW));
    REQUIRE(nic.read(TDH + 0x100) == 1);
    REQUIRE(nic.write_back_causes().raw == (TXDW | TXQ1));
}

TEST_CASE("TXQE and TXDLOW come with the descriptor that empties the queue so far", "[e1000e]") {
    rig guest{64};
    guest.nic.write(TXDCTL, 2U << 25); // 16
    for (unsigned i = 0; i != 20; ++i) {
        guest.send(bytes(60, 1), END);
    }
    guest.doorbell();
    for (unsigned left = 20; left-- != 0;) {
        const auto done = guest.step({1, 1});
        REQUIRE(done.descriptors == 1);
        REQUIRE(done.causes.raw == ((left == 0 ? TXQE : 0U) | (left == 16 ? TXDLOW : 0U)));
    }
    // Again nothing: no cause without work.
    REQUIRE(guest.step().causes.raw == 0);
}

TEST_CASE("reserved types are passed over, also in the middle of a packet", "[e1000e]") {
    dice random{13};
    rig guest;
    const bytes data = random.some(200);
    guest.send(part(data, 0, 100), 0);
    for (std::uint64_t type = 2; type != 16; ++type) {
        guest.post(0x4000, DEXT | type << 20 | END | RS | 500);
    }
    guest.send(part(data, 100, 100), END);
    guest.run();
    REQUIRE(guest.frames == std::vector<bytes>{data});
    for (std::uint32_t i = 1; i != 15; ++i) {
        REQUIRE(guest.is_done(i));
    }
}

TEST_CASE("the first descriptor says what a packet is, whatever format its others have",
          "[e1000e]") {
    dice random{14};
    rig guest;
    const bytes data = random.some(200);
    guest.post(offsets(0, 0, 0, 20, 50, 0), context(0));
    bytes expected = data;
    const unsigned sum = checksum(part(data, 20, 180));
    expected[50] = static_cast<byte>(sum / 256);
    expected[51] = static_cast<byte>(sum % 256);
    // Data first: POPTS of the first, and IC of a legacy one says nothing.
    guest.send(part(data, 0, 100), DATA | TXSM);
    guest.send(part(data, 100, 100), END | IC | 99ULL << 16);
    // Legacy first: a data descriptor's TSE is not IC.
    guest.send(part(data, 0, 100), 0);
    guest.send(part(data, 100, 100), DATA | END | TSE | TXSM);
    guest.run();
    REQUIRE(guest.frames == std::vector<bytes>{expected, data});
    REQUIRE(guest.total.malformed == 0);
}

TEST_CASE("a pause keeps what is in the making; TARC and TCTL stop the queue", "[e1000e]") {
    dice random{15};
    rig guest;
    const bytes data = random.some(200);
    guest.send(part(data, 0, 100), 0);
    guest.run();
    REQUIRE(guest.total.why == tx_stop::idle);
    guest.send(part(data, 100, 100), END);
    guest.nic.write(TCTL, PSP);
    REQUIRE(guest.run().why == tx_stop::disabled);
    REQUIRE(!guest.nic.has_work());
    guest.nic.write(TCTL, EN | PSP);
    guest.nic.write(TARC, 0);
    REQUIRE(guest.run().why == tx_stop::disabled);
    guest.nic.write(TARC, 0x403);
    REQUIRE(guest.run().why == tx_stop::idle);
    REQUIRE(guest.frames == std::vector<bytes>{data});
}

TEST_CASE("placing the ring forgets a packet in the making, and so does a reset", "[e1000e]") {
    for (const std::uint32_t offset : {TDBAL, TDBAH, TDLEN, TDH, CTRL, TDT, TXDCTL}) {
        rig guest;
        guest.nic.write(CTRL, VME);
        guest.post(offsets(0, 0, 0, 10, 20, 0), context(0));
        guest.send(bytes(100, 1), 0);
        guest.run();
        guest.nic.write(TCTL, 0);
        if (offset == CTRL) {
            guest.nic.write(CTRL, 1U << 26);
            REQUIRE(guest.nic.read(TDLEN) == 0);
            REQUIRE(guest.nic.read(TDH) == 0);
            guest.nic.write(TDBAL, static_cast<std::uint32_t>(guest.ring));
            guest.nic.write(TDLEN, guest.count * 16);
            guest.tail = 0;
        } else {
            guest.nic.write(offset, guest.nic.read(offset));
        }
        guest.nic.write(TCTL, EN | PSP);
        const bytes data(70, 2);
        guest.send(data, DATA | END | TXSM | VLE);
        guest.run();
        REQUIRE(guest.frames.size() == 1);
        const bool kept = offset == TDT || offset == TXDCTL;
        REQUIRE(guest.frames[0].size() == (kept ? 174U : offset == CTRL ? 70U : 74U));
        if (offset == CTRL) { // no context: everything is summed up, and the sum put at 0
            bytes expected = data;
            const unsigned sum = checksum(data);
            expected[0] = static_cast<byte>(sum / 256);
            expected[1] = static_cast<byte>(sum % 256);
            REQUIRE(guest.frames[0] == expected);
        }
    }
}

TEST_CASE("the head cannot be moved under a running engine", "[e1000e][rule 24]") {
    rig guest;
    guest.send(bytes(100, 1), 0);
    guest.run();
    guest.nic.write(TDH, 7);
    REQUIRE(guest.nic.read(TDH) == 1);
    guest.send(bytes(100, 2), END);
    guest.run();
    REQUIRE(guest.frames.size() == 1);
    REQUIRE(guest.frames[0].size() == 200);
}

} // namespace
