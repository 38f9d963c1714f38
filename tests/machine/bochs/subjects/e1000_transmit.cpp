// SPDX-License-Identifier: BSL-1.0
//
// The transmit ring on the 82540EM. Every frame that is sent here has a number and is made of it by rules
// that the runner knows as well (runner/meant_frames.cpp, which has nothing of pt): it compares what
// Bochs' null network has logged.
//
// Where Bochs 2.7 is not the hardware: it does not pad short frames (TCTL.PSP); it ignores TIPG, TIDV,
// TADV and IDE; it does nothing when a legacy descriptor asks for a checksum (IC); VET is 0 after a
// reset, so it is set here; in the segments of an IPv6 packet it counts the IPv6 header as payload; and
// where segments use up the payload exactly, it sends the headers once more, with nothing behind them.
#include "../../../../examples/kernel/interrupts.hpp"
#include "../../kernel/kernel.hpp"
#include "../e1000.hpp"

#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/e1000e/vlan_tag.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::mmio;
using kernel::packet_writer;
using pt::hpa;
using pt::iova;
using namespace pt::e1000e;

// ------------------------------------------------------------------------- what frames hold

/// Byte `i` of frame `number`, or of its payload where it has headers.
constexpr std::uint8_t byte_of(std::uint32_t number, std::uint32_t i) {
    return static_cast<std::uint8_t>(31 * number + 7 * i + 3 * (i >> 8));
}

void write_bytes(packet_writer& to, std::uint32_t number, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
        to.byte(byte_of(number, i));
    }
}

/// A packet with IP and TCP or UDP headers.
struct packet {
    std::uint32_t number = 0;
    ip_version version = ip_version::v4;
    transport protocol = transport::tcp;
    std::uint32_t payload = 0;
    std::uint16_t segment_size = 0; ///< 0: not segmented
    bool ip_options = false;        ///< 4 bytes, IPv4 only
    bool tcp_options = false;       ///< 12 bytes
};

struct written {
    header_layout layout{};
    std::uint8_t headers = 0;
    std::uint32_t size = 0;
};

/// The addresses: 10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2.
constexpr std::uint32_t ipv4_source = 0x0A00'0001;
constexpr std::uint32_t ipv4_destination = 0x0A00'0002;

/// What software leaves in the checksum field of TCP or UDP: the pseudo-header's sum, not inverted. Its
/// length is the hardware's to add where it segments [82574].
std::uint16_t seed_of(const packet& what, const packet_writer& frame, std::uint32_t length) {
    const std::uint32_t counted = what.segment_size == 0 ? length : 0;
    const std::uint8_t* const ip_header = frame.start() + 14;
    if (what.version == ip_version::v4) {
        return ipv4_pseudo_header(ip_header, static_cast<std::uint16_t>(counted)).sum();
    }
    return ipv6_pseudo_header(ip_header, what.protocol == transport::tcp ? 6 : 17, counted).sum();
}

written write_packet(hpa place, const packet& what) {
    const bool v4 = what.version == ip_version::v4;
    const bool tcp = what.protocol == transport::tcp;
    const bool segmented = what.segment_size != 0;
    const std::uint32_t ip_header = v4 ? (what.ip_options ? 24 : 20) : 40;
    const std::uint32_t own_header = tcp ? (what.tcp_options ? 32 : 20) : 8;
    const std::uint32_t length = own_header + what.payload;

    packet_writer to{place};
    to.dword(0x0200'0000); // to 02:00:00:00:00:02, from 02:00:00:00:00:01
    to.word(0x0002);
    to.dword(0x0200'0000);
    to.word(0x0001);
    to.word(v4 ? 0x0800 : 0x86DD);
    if (v4) {
        to.byte(0x40 | ip_header / 4);
        to.byte(0);
        to.word(segmented ? 0 : ip_header + length);
        to.word(0xFF00 + what.number % 0x100); // identification, which segments count up
        to.word(0x4000);
        to.byte(64);
        to.byte(tcp ? 6 : 17);
        to.word(0);
        to.dword(ipv4_source);
        to.dword(ipv4_destination);
        if (what.ip_options) {
            to.dword(0x0101'0100);
        }
    } else {
        to.dword(0x6000'0000);
        to.word(segmented ? 0 : length);
        to.byte(tcp ? 6 : 17);
        to.byte(64);
        for (const std::uint32_t last : {1U, 2U}) {
            to.dword(0xFD00'0000);
            to.dword(0);
            to.dword(0);
            to.dword(last);
        }
    }
    to.word(0x1001); // ports
    to.word(0x1002);
    if (tcp) {
        to.dword(0xFFFF'F000 + what.number); // sequence number, which wraps
        to.dword(0x0102'0304);
        to.byte(own_header / 4 << 4);
        to.byte(0x19); // FIN, PSH, ACK
        to.word(0x2000);
        to.word(seed_of(what, to, length));
        to.word(0);
        if (what.tcp_options) {
            to.dword(0x0101'080A);
            to.dword(0x1122'3344);
            to.dword(0x5566'7788);
        }
    } else {
        to.word(segmented ? 0 : length);
        to.word(seed_of(what, to, length));
    }
    written all{.layout = {.ip = 14,
                           .transport_at = static_cast<std::uint8_t>(14 + ip_header),
                           .version = what.version,
                           .protocol = what.protocol},
                .headers = static_cast<std::uint8_t>(to.size()),
                .size = to.size() + what.payload};
    write_bytes(to, what.number, what.payload);
    return all;
}

// ---------------------------------------------------------------------------------- the ring

constexpr std::uint32_t most_descriptors = 64;
constinit tx_slot slots[most_descriptors]{};

/// What all rings share: they come one after the other.
struct place {
    mmio nic;
    hpa descriptors; ///< a frame
    hpa padding;     ///< a frame of zeros
    hpa data;        ///< 2 MiB
};

/// A started ring, and the cookies of its packets: 1, 2, 3 and so on.
class traffic {
public:
    traffic(const place& here, std::uint32_t count, tx_report report = tx_report::each_packet(),
            family members = family::pci)
        : here_{here},
          ring_{here.nic,
                kernel::dma_memory{here.descriptors},
                kernel::barrier{},
                iova{here.descriptors.raw},
                slots,
                count,
                {.members = members, .report = report, .padding = iova{here.padding.raw}}} {
        check("the ring starts", ring_.start());
    }
    ~traffic() {
        check_equal("every packet that was meant was taken", refused_, 0);
        check("each cookie came back, once and in order", back_ == sent_ && wrong_ == 0);
        check("the ring stops", ring_.stop());
    }
    traffic(const traffic&) = delete;
    traffic& operator=(const traffic&) = delete;

    auto& ring() { return ring_; }
    [[nodiscard]] std::uint64_t next_cookie() const { return sent_ + 1; }
    [[nodiscard]] hpa data(std::uint32_t offset = 0) const { return here_.data + offset; }

    /// For a packet that must be taken.
    bool count(const pt::result<>& outcome) {
        if (outcome) {
            ++sent_;
        } else {
            ++refused_;
        }
        return outcome.has_value();
    }
    /// For many packets at once.
    void count(const tx_batch& outcome) {
        sent_ += outcome.sent;
        if (outcome.stopped.code != pt::errc::none && outcome.stopped.code != pt::errc::busy) {
            ++refused_;
        }
    }
    /// For one that may wait. False: now there is no room.
    bool offer(const pt::result<>& outcome) {
        if (!outcome && outcome.error().code == pt::errc::busy) {
            return false;
        }
        return count(outcome);
    }

    /// Waits until every cookie is back.
    bool drain() {
        return kernel::wait_until([this] {
            ring_.reclaim([this](std::uint64_t cookie) { wrong_ += cookie == ++back_ ? 0 : 1; });
            return ring_.in_flight() == 0;
        });
    }

    /// Writes a frame of bytes that follow from its number, and gives its one fragment.
    fragment frame(std::uint32_t number, std::uint32_t length, std::uint32_t offset = 0) {
        packet_writer to{data(offset)};
        write_bytes(to, number, length);
        return {iova{data(offset).raw}, length};
    }

private:
    place here_;
    tx_ring<mmio, kernel::dma_memory, kernel::barrier> ring_;
    std::uint64_t sent_ = 0;
    std::uint64_t back_ = 0;
    std::uint64_t wrong_ = 0;
    std::uint64_t refused_ = 0;
};

// --------------------------------------------------------------------------------- the series

/// Each size, one by one, through the smallest ring. The shortest get zeros behind them, up to the 60
/// bytes that this family is given.
void every_size(const place& here) {
    kernel::begin_part("every size");
    traffic sent{here, 8};
    for (std::uint32_t length = 1; length <= 1514; ++length) {
        if (!sent.count(sent.ring().send({sent.frame(length, length)}, sent.next_cookie())) ||
            !sent.drain()) {
            return;
        }
    }
}

/// How long piece `k` of `n` is.
constexpr std::uint32_t piece_length(unsigned shape, std::uint32_t n, std::uint32_t k) {
    switch (shape) {
    case 0: return 1;
    case 1: return 1 + (13 * k * k + n) % 90;
    default: return 200 + 100 * k % 700;
    }
}

/// 1 to 16 fragments at odd addresses, several packets for one write of the tail.
void fragments(const place& here) {
    kernel::begin_part("fragments");
    traffic sent{here, most_descriptors};
    constexpr std::uint32_t room_of_packet = 0x1'0000;
    constexpr std::uint32_t room_of_piece = 0x1000;
    std::uint32_t taken = 0;
    for (unsigned shape = 0; shape < 3; ++shape) {
        for (std::uint32_t n = 1; n <= 16; ++n) {
            const std::uint32_t number = 2000 + 16 * shape + n;
            fragment pieces[16];
            std::uint32_t at = 0;
            for (std::uint32_t k = 0; k < n; ++k) {
                const hpa piece =
                    sent.data(taken % 16 * room_of_packet + k * room_of_piece + 3 * k);
                const std::uint32_t length = piece_length(shape, n, k);
                for (std::uint32_t i = 0; i < length; ++i, ++at) {
                    kernel::pointer_to<std::uint8_t>(piece)[i] = byte_of(number, at);
                }
                pieces[k] = {iova{piece.raw}, length};
            }
            while (!sent.offer(sent.ring().enqueue(pieces, n, sent.next_cookie()))) {
                sent.ring().advance_tail();
                if (!sent.drain()) {
                    return;
                }
            }
            ++taken;
        }
    }
    sent.ring().advance_tail();
    sent.drain();
}

constexpr std::uint32_t length_of(std::uint32_t j) { return 60 + 37 * j % 400; }

/// Fills a ring of 16 up again and again. `room`: how many packets it holds.
void batches(const place& here, const char* name, std::uint32_t first_number, tx_report report,
             std::uint64_t room) {
    kernel::begin_part("batches", name);
    traffic sent{here, 16, report};
    std::uint64_t first = 0;
    for (std::uint32_t j = 0; j < 600; ++j) {
        const fragment frame = sent.frame(first_number + j, length_of(j), j % 16 * 0x1000);
        while (!sent.offer(sent.ring().enqueue({frame}, sent.next_cookie()))) {
            first = first == 0 ? sent.ring().in_flight() : first;
            sent.ring().advance_tail();
            if (!sent.drain()) {
                return;
            }
        }
    }
    sent.ring().advance_tail();
    sent.drain();
    check_equal("the ring was full with as many as it can hold", first, room);
}

void batches_by_one_call(const place& here) {
    kernel::begin_part("batches by one call");
    traffic sent{here, 16};
    constexpr std::uint32_t count = 200;
    std::uint32_t full = 0;
    for (std::uint32_t j = 0; j < count;) {
        tx_packet packets[40];
        for (std::uint32_t k = 0; k < 40; ++k) {
            const fragment frame = sent.frame(6000 + j + k, length_of(j + k), k * 0x1000);
            packets[k] = {frame.address, frame.length, sent.next_cookie() + k};
        }
        const std::uint32_t left = count - j < 40 ? count - j : 40;
        const tx_batch batch = sent.ring().send_all(packets, left);
        sent.count(batch);
        full += batch.stopped.code == pt::errc::busy ? 1 : 0;
        j += batch.sent;
        if (!sent.drain() || batch.sent == 0) {
            return;
        }
    }
    check("the ring was full on the way", full > 3);
}

void pauses(const place& here) {
    kernel::begin_part("pauses");
    traffic sent{here, 16};
    const auto send = [&](std::uint32_t number) {
        sent.count(
            sent.ring().send({sent.frame(number, 100, number % 16 * 0x1000)}, sent.next_cookie()));
    };
    send(7000);
    sent.drain();
    check("the transmitter pauses", sent.ring().pause());
    const auto head = sent.ring().head();
    for (std::uint32_t number = 7001; number <= 7005; ++number) {
        send(number);
    }
    kernel::pause_for(kernel::long_enough);
    check_equal("no cookie comes back", sent.ring().reclaim([](std::uint64_t) {}), 0);
    const auto later = sent.ring().head();
    check("the head stands still", head && later && *head == *later);
    check_error("it does not stop with packets in flight", sent.ring().stop(), pt::errc::busy);
    check("the transmitter goes on", sent.ring().resume());
    sent.drain();
    check("it stops in order", sent.ring().stop());
    check("and starts again", sent.ring().start());
    for (std::uint32_t number = 7006; number <= 7008; ++number) {
        send(number);
    }
    sent.drain();
}

void long_frames(const place& here) {
    kernel::begin_part("long frames");
    traffic sent{here, 16};
    std::uint32_t number = 8000;
    for (const std::uint32_t length : {1515U, 2048U, 4096U, 9018U, 16'288U}) {
        sent.count(sent.ring().send({sent.frame(number++, length)}, sent.next_cookie()));
        sent.drain();
        const fragment whole = sent.frame(number++, length);
        const std::uint32_t third = length / 3;
        sent.count(sent.ring().send({{whole.address, third},
                                     {whole.address + third, third},
                                     {whole.address + 2 * third, length - 2 * third}},
                                    sent.next_cookie()));
        sent.drain();
    }
    check_error("more than a legacy packet may have is refused",
                sent.ring().send({sent.frame(number, 16'289)}, 0), pt::errc::out_of_range);
}

/// What the NIC is asked for.
enum class asked : std::uint8_t { ip_checksum, transport_checksum, checksums };

pt::result<tx_offload> offload_for(const written& bytes, asked what) {
    switch (what) {
    case asked::ip_checksum: return tx_offload::ip_checksum(bytes.layout);
    case asked::transport_checksum: return tx_offload::transport_checksum(bytes.layout);
    case asked::checksums: return tx_offload::checksums(bytes.layout);
    }
    return pt::error{pt::errc::out_of_range};
}

void send_with_checksums(traffic& sent, const packet& what, asked wanted) {
    const written bytes = write_packet(sent.data(), what);
    const auto offload = offload_for(bytes, wanted);
    if (!offload) {
        sent.count(pt::result<>{offload.error()});
        return;
    }
    sent.count(sent.ring().send({{iova{sent.data().raw}, bytes.size}}, sent.next_cookie(),
                                {.offload = *offload}));
    sent.drain();
}

void checksums(const place& here) {
    kernel::begin_part("checksums");
    traffic sent{here, most_descriptors};
    std::uint32_t number = 9000;
    for (const ip_version version : {ip_version::v4, ip_version::v6}) {
        for (const transport protocol : {transport::tcp, transport::udp}) {
            for (const std::uint32_t payload : {0U, 1U, 10U, 1000U, 1001U}) {
                send_with_checksums(sent,
                                    {.number = number++,
                                     .version = version,
                                     .protocol = protocol,
                                     .payload = payload},
                                    asked::checksums);
            }
        }
    }
    send_with_checksums(sent, {.number = 9050, .payload = 77}, asked::ip_checksum);
    send_with_checksums(sent, {.number = 9051, .payload = 78, .ip_options = true},
                        asked::ip_checksum);
    send_with_checksums(sent, {.number = 9052, .payload = 79}, asked::transport_checksum);
    send_with_checksums(sent, {.number = 9053, .payload = 80, .tcp_options = true},
                        asked::checksums);
}

/// The headers on their own and the payload as it is, or all of it as one fragment.
void send_segmented(traffic& sent, const packet& what, const tx_request& more = {}) {
    const written bytes = write_packet(sent.data(), what);
    const auto offload = tx_offload::segmentation(bytes.layout, bytes.headers, what.segment_size);
    if (!offload) {
        sent.count(pt::result<>{offload.error()});
        return;
    }
    tx_request request = more;
    request.offload = *offload;
    const iova start{sent.data().raw};
    const fragment parts[] = {{start, bytes.headers},
                              {start + bytes.headers, bytes.size - bytes.headers}};
    const fragment whole{start, bytes.size};
    const bool apart = what.number % 2 == 0;
    sent.count(
        sent.ring().send(apart ? parts : &whole, apart ? 2 : 1, sent.next_cookie(), request));
    sent.drain();
}

struct segmentation {
    std::uint32_t payload;
    std::uint16_t segment_size;
};
/// The last one uses its payload up exactly.
constexpr segmentation segmentations[] = {{1, 536},        {100, 88},       {200, 17},
                                          {4387, 1460},    {20'000, 1448},  {60'000, 8948},
                                          {200'000, 1460}, {900'001, 1460}, {1500, 500}};

void segments(const place& here) {
    std::uint32_t number = 10'000;
    for (const ip_version version : {ip_version::v4, ip_version::v6}) {
        const bool v4 = version == ip_version::v4;
        kernel::begin_part(v4 ? "segments, IPv4" : "segments, IPv6");
        // The ring refuses them to 8254x, for what is wrong with the silicon.
        traffic sent{here, most_descriptors, tx_report::every(2), family::pci_express};
        for (const segmentation& each : segmentations) {
            send_segmented(sent, {.number = number,
                                  .version = version,
                                  .payload = each.payload,
                                  .segment_size = each.segment_size,
                                  .ip_options = number % 3 == 0 && v4,
                                  .tcp_options = number % 5 < 3});
            send_with_checksums(sent, {.number = number + 100, .version = version, .payload = 99},
                                asked::checksums);
            ++number;
        }
        send_segmented(sent, {.number = number++,
                              .version = version,
                              .protocol = transport::udp,
                              .payload = 1000,
                              .segment_size = 300});
    }
}

void tags(const place& here) {
    kernel::begin_part("VLAN tags");
    mmio nic = here.nic;
    pt::write(nic, vet{vet::ether_type(0x8100)});
    pt::write(nic, pt::read<ctrl>(nic).write_back().with(ctrl::vme(true)));
    traffic sent{here, most_descriptors, tx_report::each_packet(), family::pci_express};
    const tx_request tagged{.tagging = vlan_insertion::insert,
                            .tag = vlan_tag{vlan_tag::vlan(0x123), vlan_tag::pri(5)}};
    sent.count(sent.ring().send({sent.frame(11'000, 300)}, sent.next_cookie(), tagged));
    sent.drain();
    sent.count(sent.ring().send({sent.frame(11'001, 301)}, sent.next_cookie()));
    sent.drain();
    send_segmented(sent, {.number = 11'002, .payload = 3000, .segment_size = 1460}, tagged);
    sent.count(sent.ring().send({sent.frame(11'003, 302)}, sent.next_cookie()));
    sent.drain();
    pt::write(nic, pt::read<ctrl>(nic).write_back().with(ctrl::vme(false)));
}

void run() {
    const pt::result<mmio> nic = kernel::bring_up_e1000();
    if (!nic) {
        return;
    }
    const place here{*nic, kernel::take_frame(), kernel::take_frame(), kernel::take_large_frame()};
    every_size(here);
    fragments(here);
    batches(here, "each packet reports", 3000, tx_report::each_packet(), 15);
    batches(here, "every fourth reports", 4000, tx_report::every(4), 14);
    batches(here, "one reports while the ring is idle", 5000, tx_report::while_idle(), 14);
    batches_by_one_call(here);
    pauses(here);
    long_frames(here);
    checksums(here);
    segments(here);
    tags(here);
    kernel::begin_part(nullptr);
    mmio registers = *nic;
    kernel::pause_for(kernel::long_enough);
    const icr causes = pt::read<icr>(registers);
    check("its causes say that descriptors were written back, and that the queue is empty",
          causes[icr::txdw] && causes[icr::txqe]);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"e1000_transmit", run};

} // namespace
