// SPDX-License-Identifier: BSL-1.0
//
// pt's transmit ring on NICs that nobody here wrote: QEMU's e1000e (82574L) and e1000 (82540EM),
// each behind VT-d. What was on the wire is compared with frames that were made without pt
// (e1000e_frames.hpp), and tshark checks every checksum. e1000e_machine.hpp tells where QEMU is not
// the hardware; besides, QEMU 7.2:
//
// - e1000e, where its peer does not segment (a hub, for one), cuts a packet behind the IP header
//   and sends the parts as IP fragments; over IPv6 without a fragment header, and UDP over IPv6 as
//   one long frame. There the packet is put together again. e1000 segments.
// - e1000 sends one frame too many, without payload, after a packet whose payload is a multiple of
//   the segment size.
// - e1000 counts the IPv6 header as a part of the IPv6 payload of a segment, as the formula of the
//   8254x manual has it; that of the 82574 does not.
// - e1000e computes TCP and UDP checksums by the packet's headers, whatever the context says and
//   whatever is in the checksum's place; e1000 goes by the context and by the start value.
// - e1000e has a context for each queue, so what two queues of the 82574 do to each other's does
//   not show.
// - Neither pads short frames.
#include "e1000e_machine.hpp"
#include "e1000e_receiver.hpp"
#include "e1000e_sender.hpp"

#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

using namespace e1000e_machine;
using pt::error;
using pt::result;
using pt::e1000e::context_use;
using pt::e1000e::tx_report;

namespace {

/// Whether some bytes of a secret are in one of the frames.
bool betrays(const std::vector<bytes>& frames) {
    bytes all_of_it;
    for (unsigned i = 0; i < 16; ++i) {
        all_of_it.push_back(static_cast<std::uint8_t>(secret >> i % 8 * 8));
    }
    return std::any_of(frames.begin(), frames.end(), [&](const bytes& frame) {
        for (std::size_t turn = 0; turn < 8; ++turn) {
            const auto first = all_of_it.begin() + static_cast<std::ptrdiff_t>(turn);
            if (std::search(frame.begin(), frame.end(), first, first + 6) != frame.end()) {
                return true;
            }
        }
        return false;
    });
}

/// Whatever is on the wire, or nearly.
constexpr pt::e1000e::rx_settings all_frames{
    .unicast_promiscuous = true, .multicast_promiscuous = true, .long_packets = true};

/// What is on the wire is what was meant, and nothing else.
void check_wire(machine& m, sender& s) {
    CHECK(difference(m.wire.all(), s.on_wire) == "none");
    CHECK(s.in_order());
    s.on_wire.clear();
}

} // namespace

TEST_CASE("frames of every size from 1 byte to jumbo, in 1 to 16 pieces",
          "[e1000e][82574][rule 23][rule 24]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    {
        random_bytes random{1};
        receiver r{m.second(), 64, all_frames};
        r.start();
        sender s{m.first(), 64};
        got(s.ring.start());
        for (std::size_t size = 1; size <= 9'000; size += of == model::e1000e ? 1 : 13) {
            const bytes frame = plain(size, random);
            s.send(frame, 1 + size % 16);
            r.collect();
        }
        // The longest, of several descriptors and of one.
        for (const std::size_t pieces : {1U, 2U, 16U}) {
            s.send(plain(16'288, random), pieces);
            r.collect();
        }
        const bytes too_long = plain(16'289, random);
        CHECK(s.enqueue(too_long, {}).error() == error{errc::out_of_range, 0});
        s.reclaim_all();
        CHECK(s.sent() > (of == model::e1000e ? 9'000U : 600U));
        CHECK(difference(r.contents(), delivered(s.on_wire)) == "none");
        CHECK(r.in_order());
        check_wire(m, s);
        got(s.ring.stop());
        r.abandon();
    }
    m.finish();
}

TEST_CASE("checksums and VLAN tags as the NIC fills them in", "[e1000e][82574][rule 25]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    {
        random_bytes random{2};
        receiver r{m.second(), 64, all_frames};
        r.start();
        sender s{m.first(), 128};
        enable_tags(m.first());
        got(s.ring.start());
        checksum_verdicts meant;
        for (unsigned i = 0; i < 3'000; ++i) {
            const job one = any_job(random);
            s.send(one.frame, {one.meant}, random.between(1, 16), one.request);
            r.collect();
            meant.ip.good += one.of.version == internet::v4 ? 1U : 0U;
            (one.of.protocol == carried::tcp ? meant.tcp : meant.udp).good += 1;
        }
        // A UDP checksum that comes out as 0 is sent as all ones [rfc 768].
        for (const internet version : {internet::v4, internet::v6}) {
            const flow udp{.version = version, .protocol = carried::udp};
            packet one{.payload = bytes(2)};
            put16(one.payload, 0, get16(finished(udp, one), udp.checksum_at()));
            const bytes whole = finished(udp, one);
            CHECK(get16(whole, udp.checksum_at()) == 0xFFFF);
            s.send(handed_over(udp, one, left_to_nic::checksums), {whole}, 1,
                   {.offload = offload(udp, left_to_nic::checksums)});
            r.collect();
            meant.ip.good += version == internet::v4 ? 1U : 0U;
            meant.udp.good += 1;
        }
        s.reclaim_all();
        CHECK(difference(r.contents(), delivered(s.on_wire)) == "none");
        CHECK(r.in_order());
        check_wire(m, s);
        got(s.ring.stop());
        r.abandon();

        const checksum_verdicts found = ask_tshark(m.wire.path());
        INFO(found.first_bad);
        CHECK(found.all_good());
        CHECK(found.frames == 3'002);
        CHECK(found.ip.good == meant.ip.good);
        CHECK(found.tcp.good == meant.tcp.good);
        CHECK(found.udp.good == meant.udp.good);
    }
    m.finish();
}

TEST_CASE("segments of a packet, over IPv4 and IPv6, of TCP and UDP", "[e1000e][82574]") {
    const internet version = GENERATE(internet::v4, internet::v6);
    const carried protocol = GENERATE(carried::tcp, carried::udp);
    INFO((version == internet::v4 ? "IPv4" : "IPv6")
         << (protocol == carried::tcp ? ", TCP" : ", UDP"));
    machine m{model::e1000};
    const scratch_directory scratch;
    {
        random_bytes random{12};
        receiver r{m.second(), 1'024, all_frames};
        r.start();
        // The ring refuses segmentation to 8254x, for what is wrong with the silicon.
        m.first().members = family::pci_express;
        sender s{m.first(), 256};
        enable_tags(m.first());
        got(s.ring.start());
        std::vector<bytes> all; // with IPv6 lengths put right
        std::size_t meant = 0;
        const auto send = [&](const flow& of, std::size_t size, std::size_t segment_size,
                              std::optional<std::uint16_t> tag = {}) {
            packet one{.sequence = static_cast<std::uint32_t>(random.between(0, 0xFFFF'FFFF)),
                       .flags = tcp_ack | tcp_psh | tcp_fin,
                       .identification = static_cast<std::uint16_t>(random.between(0, 0xFFFF)),
                       .payload = random(size)};
            std::vector<bytes> frames = segmented(of, one, segment_size);
            meant += frames.size();
            if (size % segment_size == 0) { // QEMU's one too many
                packet rest = one;
                rest.payload.clear();
                rest.sequence += static_cast<std::uint32_t>(size);
                rest.identification =
                    static_cast<std::uint16_t>(rest.identification + frames.size());
                frames.push_back(finished(of, rest));
                ++meant;
            }
            pt::e1000e::tx_request request{.offload = segmentation(of, segment_size)};
            if (tag) {
                request = with_tag(request, *tag);
                for (bytes& frame : frames) {
                    frame = tagged(frame, *tag);
                }
            }
            s.send(handed_over(of, one, left_to_nic::segments), {}, random.between(1, 16), request);
            std::vector<bytes> seen = m.wire.all();
            r.collect();
            CHECK(difference(r.contents(), delivered(seen)) == "none");
            if (version == internet::v6) {
                for (bytes& frame : seen) {
                    const std::size_t at = flow::ip_at + (tag ? 4 : 0) + 4;
                    put16(frame, at, get16(frame, at) - 40U);
                }
            }
            INFO(size << " bytes of payload in segments of " << segment_size);
            CHECK(difference(seen, frames) == "none");
            all.insert(all.end(), seen.begin(), seen.end());
        };
        const flow simple{.version = version, .protocol = protocol};
        // One segment that is full or is not, one more byte, and the largest there are.
        for (const std::size_t size : {1U, 999U, 1'000U, 1'001U, 1'999U, 2'001U}) {
            send(simple, size, 1'000);
        }
        send(simple, 1'000, 17);
        send(simple, 65'000, 8'960, 0xABCD);
        send(simple, 200'000, 1'460);
        for (unsigned i = 0; i < 300; ++i) {
            flow of = simple;
            of.ip_options = random.between(0, 2) == 0 ? 8 : 0;
            of.tcp_options = protocol == carried::tcp ? random.between(0, 10) * 4 : 0;
            const std::size_t most = random.between(0, 9) == 0 ? 60'000 : 9'000;
            const auto tag = static_cast<std::uint16_t>(random.between(0, 0xFFFF));
            send(of, random.between(1, most), random.between(100, 1'460),
                 i % 2 == 0 ? std::optional{tag} : std::nullopt);
        }
        s.reclaim_all();
        CHECK(s.in_order());
        CHECK(r.in_order());
        got(s.ring.stop());
        r.abandon();

        // QEMU's own capture, unless it has the wrong length.
        const std::filesystem::path corrected = scratch.path() / "frames.pcap";
        write_capture(corrected, all);
        const checksum_verdicts found =
            ask_tshark(version == internet::v4 ? m.wire.path() : corrected);
        INFO(found.first_bad);
        CHECK(found.all_good());
        CHECK(found.ip.good == (version == internet::v4 ? meant : 0));
        CHECK((protocol == carried::tcp ? found.tcp : found.udp).good == meant);
    }
    m.finish();
}

TEST_CASE("what e1000e makes of segmentation holds the whole packet", "[e1000e]") {
    const internet version = GENERATE(internet::v4, internet::v6);
    INFO((version == internet::v4 ? "IPv4" : "IPv6"));
    machine m{model::e1000e};
    {
        random_bytes random{13};
        sender s{m.first(), 256};
        got(s.ring.start());
        for (unsigned i = 0; i < 300; ++i) {
            const flow of{.version = version, .tcp_options = random.between(0, 10) * 4};
            const packet one{.identification = static_cast<std::uint16_t>(i),
                             .payload = random(random.between(1, 30'000))};
            // A fragment has a multiple of 8 bytes; e1000e has it of the segment size.
            const std::size_t segment_size = random.between(100, 1'000) / 8 * 8;
            s.send(handed_over(of, one, left_to_nic::segments), {}, random.between(1, 16),
                   {.offload = segmentation(of, segment_size)});

            // All that is behind the IP headers, in order, is the segment that was never cut.
            const bytes whole = finished(of, one);
            const auto transport = static_cast<std::ptrdiff_t>(of.transport_at());
            bytes together;
            bool fragments = true;
            for (const bytes& frame : m.wire.all()) {
                const std::size_t before = together.size();
                together.insert(together.end(), frame.begin() + transport, frame.end());
                if (version == internet::v4) { // [rfc 791]: more to come, and where this one goes
                    const std::size_t place = get16(frame, flow::ip_at + 6);
                    const bool last = together.size() == whole.size() - of.transport_at();
                    fragments = fragments && place == before / 8 + (last ? 0U : 0x2000U);
                }
            }
            INFO(one.payload.size() << " bytes by " << segment_size);
            CHECK(fragments);
            CHECK(difference({together}, {bytes(whole.begin() + transport, whole.end())}) ==
                  "none");
        }
        s.reclaim_all();
        CHECK(s.in_order());
        got(s.ring.stop());

        if (version == internet::v4) { // tshark puts them together, too
            const checksum_verdicts found = ask_tshark(m.wire.path());
            INFO(found.first_bad);
            CHECK(found.all_good());
            CHECK(found.ip.good == found.frames);
            CHECK(found.tcp.good == 300);
        }
    }
    m.finish();
}

TEST_CASE("tshark sees each wrong checksum", "[e1000e]") {
    const scratch_directory scratch;
    random_bytes random{3};
    std::vector<bytes> frames;
    for (const internet version : {internet::v4, internet::v6}) {
        for (const carried protocol : {carried::tcp, carried::udp}) {
            const flow of{.version = version, .protocol = protocol};
            packet one;
            one.payload = random(333);
            frames.push_back(finished(of, one));
            frames.push_back(tagged(frames.back(), 0x2123));
        }
    }
    const auto verdict_on = [&](const std::vector<bytes>& all) {
        write_capture(scratch.path() / "frames.pcap", all);
        return ask_tshark(scratch.path() / "frames.pcap");
    };
    const checksum_verdicts sound = verdict_on(frames);
    CHECK(sound.all_good());
    CHECK(sound.frames == frames.size());

    std::vector<bytes> one_wrong = frames;
    one_wrong[5].back() ^= 1;
    const checksum_verdicts found = verdict_on(one_wrong);
    CHECK(found.ip.bad + found.tcp.bad + found.udp.bad == 1);
    CHECK(found.first_bad.starts_with("6,"));

    std::vector<bytes> all_wrong = frames;
    for (bytes& frame : all_wrong) {
        frame.back() ^= 1;
    }
    const checksum_verdicts transports = verdict_on(all_wrong);
    CHECK(transports.ip.good == 4);
    CHECK(transports.tcp.bad == 4);
    CHECK(transports.udp.bad == 4);

    all_wrong = frames;
    all_wrong[0][flow::ip_at + 8] ^= 1;     // time to live
    all_wrong[1][flow::ip_at + 4 + 8] ^= 1; // behind a tag
    const checksum_verdicts headers = verdict_on(all_wrong);
    CHECK(headers.ip.bad == 2);
    CHECK(headers.tcp.good == 4);
}

TEST_CASE("a ring of any size wraps, whichever packets are reported",
          "[e1000e][82574][rule 23][rule 24]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    enable_tags(m.first());
    random_bytes random{4};
    for (const std::uint32_t count : {8U, 24U, 256U, 1'024U}) {
        for (const tx_report report :
             {tx_report::each_packet(), tx_report::every(2), tx_report::every(5),
              tx_report::every(100'000), tx_report::while_idle()}) {
            INFO(count << " descriptors, reported each " << report.interval());
            sender s{m.first(), count, {.report = report}};
            got(s.ring.start());
            CHECK(s.ring.head() == result<std::uint32_t>{0});
            for (unsigned i = 0; i < 2 * count || i < 100; ++i) {
                const job one = any_job(random);
                // Context, pieces, and one that is kept for reports.
                s.send(one.frame, {one.meant}, random.between(1, count == 8 ? 4 : 16), one.request);
                if (random.between(0, 9) == 0) {
                    s.reclaim();
                }
            }
            s.reclaim_all();
            check_wire(m, s);
            CHECK(s.ring.head() == result<std::uint32_t>{s.ring.tail()});
            got(s.ring.stop());
        }
    }
    CHECK(ask_tshark(m.wire.path()).all_good());
    m.finish();
}

TEST_CASE("many packets for one write of the tail", "[e1000e][82574][rule 24]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    random_bytes random{5};
    { // by enqueue()
        sender s{m.first(), 256};
        got(s.ring.start());
        for (unsigned round = 0; round < 50; ++round) {
            for (std::size_t left = random.between(1, 15); left != 0; --left) {
                const bytes frame = plain(random.between(60, 2'000), random);
                got(s.enqueue(frame, {frame}, random.between(1, 16)));
            }
            CHECK(m.wire.next().empty()); // nobody has told the NIC
            s.ring.advance_tail();
            check_wire(m, s);
            s.reclaim();
        }
        s.reclaim_all();
        got(s.ring.stop());
    }
    { // and by send_all(), until the ring is full
        for (const tx_report report : {tx_report::each_packet(), tx_report::every(32)}) {
            sender s{m.first(), 128, {.report = report}};
            got(s.ring.start());
            std::uint64_t cookie = 0;
            std::uint64_t back = 0;
            bool in_order = true;
            const auto reclaim = [&] {
                s.ring.reclaim([&](std::uint64_t each) { in_order = in_order && each == back++; });
            };
            for (unsigned round = 0; round < 40; ++round) {
                std::vector<bytes> frames;
                std::vector<pt::e1000e::tx_packet> packets;
                for (std::size_t left = random.between(1, 200); left != 0; --left) {
                    frames.push_back(plain(random.between(60, 300), random));
                    const fragment whole = s.place(frames.back(), 1).front();
                    packets.push_back({whole.address, whole.length, cookie + packets.size()});
                }
                reclaim();
                reclaim(); // what it had to ask a report for
                CHECK(s.ring.in_flight() == 0);
                const std::uint32_t room = s.ring.free_descriptors();
                const auto count = static_cast<std::uint32_t>(packets.size());
                const pt::e1000e::tx_batch batch = s.ring.send_all(packets.data(), count);
                CHECK(batch.sent == std::min(count, room));
                CHECK(batch.stopped == (count > room ? error{errc::busy, 0} : error{}));
                frames.resize(batch.sent);
                CHECK(difference(m.wire.all(), frames) == "none");
                cookie += batch.sent;
            }
            reclaim();
            reclaim();
            CHECK(in_order);
            CHECK(back == cookie);
            got(s.ring.stop());
        }
    }
    m.finish();
}

TEST_CASE("a full ring takes nothing, loses nothing, and goes on", "[e1000e][82574][rule 23]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    random_bytes random{6};
    for (const std::uint32_t count : {8U, 64U}) {
        sender s{m.first(), count};
        got(s.ring.start());
        for (unsigned round = 0; round < 20; ++round) {
            got(s.ring.pause());
            std::uint32_t used = 0;
            for (;;) {
                const std::size_t pieces = random.between(1, 4);
                const std::uint32_t free = s.ring.free_descriptors();
                CHECK(free == count - 1 - used);
                const bytes frame = plain(random.between(64, 1'500), random);
                const std::vector<fragment> all = s.place(frame, pieces);
                const result<> put = s.enqueue(frame, {frame}, pieces);
                if (!put) {
                    CHECK(put.error() == error{errc::busy, free});
                    CHECK(pieces > free);
                    break;
                }
                used += static_cast<std::uint32_t>(all.size());
                if (random.between(0, 1) == 0) {
                    s.ring.advance_tail();
                }
            }
            s.ring.advance_tail();
            const auto in_flight = s.ring.in_flight();
            CHECK(s.reclaim() == 0);
            CHECK(m.wire.next().empty());
            CHECK(s.ring.stop().error() == error{errc::busy, in_flight});
            got(s.ring.resume());
            check_wire(m, s);
            CHECK(s.reclaim() == in_flight);
            CHECK(s.ring.free_descriptors() == count - 1);
        }
        got(s.ring.stop());
    }
    m.finish();
}

TEST_CASE("pause, stop, abandon and reset in the middle of it", "[e1000e][82574][rule 24]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    random_bytes random{8};
    sender s{m.first(), 64, {.report = tx_report::every(3)}};
    const auto some = [&](std::size_t packets) {
        for (; packets != 0; --packets) {
            const job one = any_job(random);
            s.send(one.frame, {one.meant}, random.between(1, 8), one.request);
        }
    };
    enable_tags(m.first());
    got(s.ring.start());
    for (unsigned round = 0; round < 30; ++round) {
        some(random.between(1, 40));
        check_wire(m, s);

        got(s.ring.pause());
        some(random.between(1, 3));
        CHECK(m.wire.next().empty());
        got(s.ring.resume());
        some(random.between(0, 5));
        check_wire(m, s);

        CHECK(s.ring.start().error().code == errc::busy);
        s.reclaim_all();
        got(s.ring.stop());
        CHECK(s.enqueue(plain(64, random), {}).error() == error{errc::busy, 0});
        got(s.ring.start());
        some(random.between(1, 10));
        check_wire(m, s);
        s.reclaim_all();

        got(s.ring.pause());
        some(random.between(1, 3));
        CHECK(m.wire.next().empty());
        const std::uint32_t lost = s.ring.in_flight();
        CHECK(s.ring.abandon(s.unsent()) == lost);
        CHECK(s.ring.in_flight() == 0);
        got(s.ring.start());
        some(random.between(1, 10));
        check_wire(m, s);
        s.reclaim_all();

        got(s.ring.pause());
        some(random.between(1, 3));
        got(pt::e1000e::recover(s.ring, steady_clock{}, s.unsent(), {.drain = 0}));
        m.wait_for_link(m.first());
        enable_tags(m.first());
    }
    some(10);
    check_wire(m, s);
    s.reclaim_all();
    got(s.ring.stop());
    CHECK(ask_tshark(m.wire.path()).all_good());
    m.finish();
}

TEST_CASE("both queues of the 82574", "[e1000e][82574]") {
    machine m{model::e1000e};
    random_bytes random{9};
    enable_tags(m.first());
    sender one{m.first(), 32, {.contexts = context_use::repeated}};
    sender other{
        m.first(),
        64,
        {.number = queue::second, .report = tx_report::every(4), .contexts = context_use::repeated},
        {.ring = second_ring, .part = 1}};
    got(one.ring.prepare());
    got(other.ring.prepare());
    got(one.ring.resume()); // both
    for (unsigned i = 0; i < 1'500; ++i) {
        sender& s = random.between(0, 1) == 0 ? one : other;
        const job any = any_job(random);
        s.send(any.frame, {any.meant}, random.between(1, 12), any.request);
        if (random.between(0, 4) == 0) {
            check_wire(m, s);
        } else {
            CHECK(difference(m.wire.all(), s.on_wire) == "none");
            s.on_wire.clear();
        }
    }
    // What waits in one queue does not hold up the other; and one bit stops both.
    const bytes first = plain(100, random);
    const bytes second = plain(200, random);
    one.reclaim_all();
    other.reclaim_all();
    got(one.enqueue(first, {first}));
    got(other.enqueue(second, {second}));
    other.ring.advance_tail();
    check_wire(m, other);
    one.ring.advance_tail();
    check_wire(m, one);
    got(other.ring.pause());
    one.send(first);
    other.send(second);
    CHECK(m.wire.next().empty());
    got(one.ring.resume());
    CHECK(difference(m.wire.all(), {first, second}) == "none");
    one.reclaim_all();
    other.reclaim_all();
    got(one.ring.stop());
    got(other.ring.stop());
    CHECK(ask_tshark(m.wire.path()).all_good());
    m.finish();
}

TEST_CASE("a piece outside of the NIC's domain never reaches the wire", "[e1000e][vt-d]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    nic& n = m.first();
    random_bytes random{10};
    sender s{n, 64};
    got(s.ring.start());
    std::vector<bytes> seen;
    for (const iova outside :
         {iova{n.memory.secret_after(buffers).raw},     // memory of the host, by its own address
          iova{n.memory.host_of(buffers).raw},          // the NIC's own, by the host's address
          iova{m.second().memory.host_of(buffers).raw}, // the other NIC's
          device_memory::scattered + device_memory::scattered_size, // beside the NIC's
          device_memory::together - page, iova{0x1000}}) {
        for (std::size_t where = 0; where < 3; ++where) {
            INFO("piece " << where << " at " << hex(outside.raw));
            const bytes frame = plain(300, random);
            std::vector<fragment> pieces = s.place(frame, 3);
            pieces[where].address = outside;
            got(s.ring.send(pieces.data(), pieces.size(), 1));
            CHECK(m.faults() == std::vector<std::string>{"first reads " + hex(outside.raw) +
                                                         ": read not permitted"});
            CHECK(s.ring.reclaim([](std::uint64_t) {}) == 1); // DD, in spite of it
            seen.push_back(m.wire.next());
            bytes zeroed = frame;
            std::size_t at = 0;
            for (std::size_t i = 0; i < where; ++i) {
                at += pieces[i].length;
            }
            std::fill_n(zeroed.begin() + static_cast<std::ptrdiff_t>(at), pieces[where].length,
                        std::uint8_t{0});
            CHECK(difference({seen.back()}, {zeroed}) == "none");
        }
        const bytes good = plain(300, random);
        const std::vector<fragment> pieces = s.place(good, 3);
        got(s.ring.send(pieces.data(), pieces.size(), 1));
        CHECK(difference(m.wire.all(), {good}) == "none");
        CHECK(m.faults().empty());
        CHECK(s.ring.reclaim([](std::uint64_t) {}) == 1);
    }
    CHECK(!betrays(seen));
    CHECK(betrays({bytes{1, 0xC2, 0x5E, 0xE7, 0xC2, 0x5E, 0xE7}})); // it can fail
    m.finish();
}

TEST_CASE("descriptors outside of the NIC's domain are never carried out", "[e1000e][vt-d]") {
    const model of = GENERATE(model::e1000e, model::e1000);
    INFO(text(of));
    machine m{of};
    nic& n = m.first();
    random_bytes random{11};
    // For software it is where it always is, for the NIC at the host's address of that.
    std::array<pt::e1000e::tx_slot, 64> slots{};
    const iova outside{n.memory.host_of(first_ring).raw};
    sender::ring_type ring{n.registers,  {&n.memory, first_ring}, {}, outside, slots.data(),
                           slots.size(), {.members = n.members}};
    got(ring.start());
    const bytes frame = plain(300, random);
    n.memory.write(buffers, frame.data(), frame.size());
    got(ring.send({{buffers, 300}}, 1));
    CHECK(m.faults() ==
          std::vector<std::string>{"first reads " + hex(outside.raw) + ": read not permitted"});
    CHECK(m.wire.next().empty());
    CHECK(ring.reclaim([](std::uint64_t) {}) == 0);
    CHECK(ring.abandon([](std::uint64_t) {}) == 1);
    m.finish();
}

TEST_CASE("the interrupt of a packet is at once or delayed", "[e1000e][82574]") {
    using pt::e1000e::icr;
    machine m{model::e1000e};
    random_bytes random{14};
    steady_clock time;
    sender s{m.first(), 8, {.interrupt_delay = 0xC000, .absolute_delay = 0}}; // about 50 ms
    got(s.ring.start());
    const auto written_back = [&] { return pt::read<icr>(m.first().registers)[icr::txdw]; };
    const auto forget = [&] { pt::write(m.first().registers, icr{0xFFFF'FFFF}); };
    const bytes frame = plain(100, random);
    for (unsigned round = 0; round < 3; ++round) {
        forget();
        s.send(frame);
        CHECK(written_back());
        s.reclaim_all();

        forget();
        const std::uint64_t begin = time.now();
        s.send(frame, {frame}, 1, {.interrupt = pt::e1000e::tx_interrupt::delayed});
        s.reclaim_all(); // DD is not delayed
        std::uint64_t passed = 0;
        for (bool seen = false; !seen && passed < 10'000'000'000;) {
            seen = written_back();
            passed = time.now() - begin;
        }
        CHECK(passed >= 50'331'648); // 0xC000 times 1.024 us
        CHECK(passed < 10'000'000'000);
    }
    check_wire(m, s);
    got(s.ring.stop());
    m.finish();
}
