// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

/// Random packets as software leaves them in memory, and the frames that they have to become on the
/// wire. Nothing here is pt's: each frame is written out from what it says, one header after the
/// other, and its checksums are computed over the finished bytes by the remainder of division by
/// 65,535 [rfc 1071], so that no mistake is made twice.
namespace traffic {

/// splitmix64: cheap enough for every byte of millions of packets.
class random_numbers {
public:
    explicit constexpr random_numbers(std::uint64_t seed) : state_{seed} {}
    constexpr std::uint64_t next() {
        std::uint64_t z = state_ += 0x9E37'79B9'7F4A'7C15;
        z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9;
        z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EB;
        return z ^ (z >> 31);
    }
    /// 0 to most.
    constexpr std::uint32_t up_to(std::uint32_t most) {
        return static_cast<std::uint32_t>((next() >> 32) * (std::uint64_t{most} + 1) >> 32);
    }
    constexpr std::uint32_t between(std::uint32_t least, std::uint32_t most) {
        return least + up_to(most - least);
    }
    /// True once in n times.
    constexpr bool once_in(std::uint32_t n) { return up_to(n - 1) == 0; }
    void fill(std::uint8_t* to, std::size_t count) {
        for (; count >= 8; to += 8, count -= 8) {
            const std::uint64_t bits = next();
            std::memcpy(to, &bits, 8);
        }
        const std::uint64_t bits = next();
        if (count != 0) { // or there may be no place
            std::memcpy(to, &bits, count);
        }
    }

private:
    std::uint64_t state_;
};

/// The ones' complement sum of 16-bit words is their sum modulo 65,535, where only nothing but
/// zeros gives 0. An odd last byte is the high one of its word.
inline std::uint64_t words_of(const std::uint8_t* bytes, std::size_t count) {
    std::uint64_t total = 0;
    for (std::size_t i = 0; i < count; ++i) {
        total += i % 2 == 0 ? std::uint64_t{bytes[i]} * 256 : bytes[i];
    }
    return total;
}
inline std::uint16_t sum_of(std::uint64_t words) {
    const std::uint64_t remainder = words % 65'535;
    return static_cast<std::uint16_t>(words != 0 && remainder == 0 ? 65'535 : remainder);
}

/// What is in a checksum's field.
enum class checksum_field : std::uint8_t {
    finished,
    zero,                  ///< IPv4 header, for the NIC
    pseudo_header,         ///< TCP or UDP, for the NIC: with the length
    pseudo_header_no_size, ///< the same for segmentation
};

/// What the NIC is asked for.
enum class work : std::uint8_t { none, ip_checksum, transport_checksum, checksums, segmentation };

/// One packet, as what it says.
struct packet {
    bool is_ip = false; ///< else `size` bytes of anything
    std::uint32_t size = 0;

    std::uint8_t addresses[12]{}; ///< destination, source
    bool has_tag = false;         ///< in memory
    std::uint16_t tag = 0;
    bool v6 = false;
    bool udp = false;
    std::uint32_t ip_extra = 0; ///< bytes of options or extension headers
    std::uint32_t tcp_extra = 0;
    std::uint8_t network[32]{}; ///< source, destination; the first 8 bytes for IPv4
    std::uint8_t traffic_class = 0;
    std::uint8_t ttl = 0;
    std::uint16_t id = 0;
    std::uint16_t ports[2]{};
    std::uint32_t sequence = 0;
    std::uint32_t acknowledged = 0;
    std::uint16_t window = 0;
    std::uint8_t flags = 0; ///< of TCP
    std::vector<std::uint8_t> payload;

    work wanted = work::none;
    std::uint32_t segment_size = 0;
    bool inserts_tag = false; ///< by the NIC
    std::uint16_t inserted_tag = 0;

    [[nodiscard]] std::uint32_t ip_at() const { return has_tag ? 18 : 14; }
    [[nodiscard]] std::uint32_t transport_at() const { return ip_at() + (v6 ? 40 : 20) + ip_extra; }
    [[nodiscard]] std::uint32_t payload_at() const {
        return transport_at() + (udp ? 8 : 20 + tcp_extra);
    }
};

/// Bytes in the order of the network.
class writer {
public:
    explicit writer(std::vector<std::uint8_t>& to) : to_{to} {}
    void u8(std::uint32_t value) { to_.push_back(static_cast<std::uint8_t>(value)); }
    void u16(std::uint32_t value) {
        u8(value >> 8 & 0xFF);
        u8(value & 0xFF);
    }
    void u32(std::uint32_t value) {
        u16(value >> 16);
        u16(value & 0xFFFF);
    }
    void bytes(const std::uint8_t* from, std::size_t count) {
        to_.insert(to_.end(), from, from + count);
    }

private:
    std::vector<std::uint8_t>& to_;
};

/// A frame of `count` bytes of `payload`, which is the n-th part of the packet's and begins
/// `skipped` bytes into it. `length_fields`: what is in the headers' lengths, beside what is true.
struct part {
    const std::uint8_t* payload;
    std::uint32_t count;
    std::uint32_t n = 0;
    std::uint32_t skipped = 0;
    bool is_last = true;
    bool has_lengths = true; ///< else 0, for the NIC to fill
};

inline void build(const packet& of, const part& which, checksum_field ip_sum,
                  checksum_field transport_sum, std::vector<std::uint8_t>& to) {
    const std::size_t start = to.size();
    const std::uint32_t transport_bytes = (of.udp ? 8 : 20 + of.tcp_extra) + which.count;
    writer out{to};
    out.bytes(of.addresses, 12);
    if (of.has_tag) {
        out.u16(0x8100);
        out.u16(of.tag);
    }
    const std::uint32_t protocol = of.udp ? 17 : 6;
    if (!of.v6) {
        const std::uint32_t header = 20 + of.ip_extra;
        out.u16(0x0800);
        out.u8(0x40 + header / 4);
        out.u8(of.traffic_class);
        out.u16(which.has_lengths ? header + transport_bytes : 0);
        out.u16((of.id + which.n) & 0xFFFF);
        out.u16(0x4000); // do not fragment
        out.u8(of.ttl);
        out.u8(protocol);
        out.u16(0);
        out.bytes(of.network, 8);
        for (std::uint32_t i = 0; i < of.ip_extra; ++i) {
            out.u8(1); // no operation
        }
    } else {
        out.u16(0x86DD);
        out.u32(6U << 28 | std::uint32_t{of.traffic_class} << 20 | of.id);
        out.u16(which.has_lengths ? of.ip_extra + transport_bytes : 0);
        out.u8(of.ip_extra != 0 ? 60 : protocol); // destination options
        out.u8(of.ttl);
        out.bytes(of.network, 32);
        if (of.ip_extra != 0) {
            out.u8(protocol);
            out.u8(of.ip_extra / 8 - 1);
            out.u8(1); // PadN
            out.u8(of.ip_extra - 4);
            for (std::uint32_t i = 4; i < of.ip_extra; ++i) {
                out.u8(0);
            }
        }
    }
    out.u16(of.ports[0]);
    out.u16(of.ports[1]);
    if (of.udp) {
        out.u16(which.has_lengths ? transport_bytes : 0);
        out.u16(0);
    } else {
        const std::uint32_t fin_and_psh = 0x09;
        out.u32(of.sequence + which.skipped);
        out.u32(of.acknowledged);
        out.u8((20 + of.tcp_extra) / 4 << 4);
        out.u8(which.is_last ? of.flags : of.flags & ~fin_and_psh);
        out.u16(of.window);
        out.u16(0);
        out.u16(0);
        for (std::uint32_t i = 0; i < of.tcp_extra; ++i) {
            out.u8(1); // no operation
        }
    }
    out.bytes(which.payload, which.count);

    std::uint8_t* const frame = to.data() + start;
    const auto put = [&](std::uint32_t at, std::uint32_t value) {
        frame[at] = static_cast<std::uint8_t>(value >> 8);
        frame[at + 1] = static_cast<std::uint8_t>(value);
    };
    if (!of.v6 && ip_sum == checksum_field::finished) {
        put(of.ip_at() + 10, 65'535U - sum_of(words_of(frame + of.ip_at(), 20 + of.ip_extra)));
    }
    std::uint64_t pseudo = words_of(of.network, of.v6 ? 32 : 8) + protocol;
    if (transport_sum != checksum_field::pseudo_header_no_size) {
        pseudo += transport_bytes;
    }
    const std::uint32_t at = of.transport_at() + (of.udp ? 6 : 16);
    if (transport_sum == checksum_field::finished) {
        const std::uint32_t sum =
            65'535U - sum_of(pseudo + words_of(frame + of.transport_at(), transport_bytes));
        put(at, sum == 0 ? 65'535 : sum); // in UDP, 0 is: no checksum [rfc 768]
    } else {
        put(at, sum_of(pseudo));
    }
}

/// Bytes of the packet as it lies in memory.
inline void as_in_memory(const packet& of, std::vector<std::uint8_t>& to) {
    to.clear();
    if (!of.is_ip) {
        to.assign(of.payload.begin(), of.payload.begin() + of.size);
        return;
    }
    const bool ip = of.wanted == work::ip_checksum || of.wanted == work::checksums ||
                    of.wanted == work::segmentation;
    checksum_field transport = checksum_field::finished;
    if (of.wanted == work::transport_checksum || of.wanted == work::checksums) {
        transport = checksum_field::pseudo_header;
    } else if (of.wanted == work::segmentation) {
        transport = checksum_field::pseudo_header_no_size;
    }
    const auto count = static_cast<std::uint32_t>(of.payload.size());
    build(of,
          {.payload = of.payload.data(),
           .count = count,
           .has_lengths = of.wanted != work::segmentation},
          ip ? checksum_field::zero : checksum_field::finished, transport, to);
}

/// Frames one after the other, and where each of them ends.
struct frames {
    std::vector<std::uint8_t> bytes;
    std::vector<std::uint32_t> ends;

    void clear() {
        bytes.clear();
        ends.clear();
    }
    [[nodiscard]] std::size_t count() const { return ends.size(); }
    [[nodiscard]] std::uint32_t start(std::size_t n) const { return n == 0 ? 0 : ends[n - 1]; }
    [[nodiscard]] const std::uint8_t* frame(std::size_t n) const { return bytes.data() + start(n); }
    [[nodiscard]] std::uint32_t length(std::size_t n) const { return ends[n] - start(n); }
    [[nodiscard]] bool is(std::size_t n, const std::uint8_t* other, std::size_t size) const {
        return n < count() && length(n) == size && std::memcmp(frame(n), other, size) == 0;
    }
};

/// What a frame becomes with a tag that the NIC inserts, and padded to 60 bytes: without the CRC,
/// which nobody sees here.
inline void finish(const packet& of, std::uint32_t start, frames& to) {
    if (of.inserts_tag) {
        const std::uint8_t tag[4]{0x81, 0x00, static_cast<std::uint8_t>(of.inserted_tag >> 8),
                                  static_cast<std::uint8_t>(of.inserted_tag)};
        to.bytes.insert(to.bytes.begin() + start + 12, tag, tag + 4);
    }
    if (to.bytes.size() - start < 60) {
        to.bytes.resize(start + 60, 0);
    }
    to.ends.push_back(static_cast<std::uint32_t>(to.bytes.size()));
}

/// The frames on the wire.
inline void on_the_wire(const packet& of, frames& to) {
    to.clear();
    const auto count = static_cast<std::uint32_t>(of.payload.size());
    if (!of.is_ip) {
        to.bytes.assign(of.payload.begin(), of.payload.begin() + of.size);
        finish(of, 0, to);
        return;
    }
    const std::uint32_t step = of.wanted == work::segmentation ? of.segment_size : count;
    std::uint32_t n = 0;
    std::uint32_t at = 0;
    do {
        const std::uint32_t left = count - at;
        const std::uint32_t here = left < step ? left : step;
        const auto start = static_cast<std::uint32_t>(to.bytes.size());
        build(of, {of.payload.data() + at, here, n, at, here == left, true},
              checksum_field::finished, checksum_field::finished, to.bytes);
        finish(of, start, to);
        at += here;
        ++n;
    } while (at < count);
}

/// Limits of what is generated.
struct limits {
    std::uint32_t largest_frame = 9'018;    ///< without tag and CRC
    std::uint32_t largest_payload = 24'000; ///< of a packet that is segmented
    std::uint32_t complex_once_in = 4; ///< the others are bytes of anything without any offload
};

/// Bytes of anything, without a request.
inline void generate_plain(random_numbers& random, const limits& within, packet& of) {
    of.is_ip = of.inserts_tag = false;
    of.wanted = work::none;
    const std::uint32_t kind = random.up_to(63);
    of.size = kind == 0   ? random.between(17, within.largest_frame)
              : kind == 1 ? random.between(1, 20)
              : kind < 8  ? random.between(60, 1'514)
                          : random.between(17, 96);
    of.payload.resize(of.size);
    random.fill(of.payload.data(), of.size);
}

inline void generate(random_numbers& random, const limits& within, packet& of) {
    if (!random.once_in(within.complex_once_in)) {
        generate_plain(random, within, of);
        of.inserts_tag = of.size >= 17 && random.once_in(within.complex_once_in * 2);
        of.inserted_tag = static_cast<std::uint16_t>(random.next());
        return;
    }
    of.is_ip = true;
    of.inserts_tag = random.once_in(4);
    of.inserted_tag = static_cast<std::uint16_t>(random.next());
    random.fill(of.addresses, sizeof of.addresses);
    random.fill(of.network, sizeof of.network);
    of.has_tag = random.once_in(8);
    of.tag = static_cast<std::uint16_t>(random.next());
    of.v6 = random.once_in(2);
    of.udp = random.once_in(2);
    of.ip_extra = random.once_in(4) ? (of.v6 ? 8 : 4) * random.between(1, of.v6 ? 4 : 10) : 0;
    of.tcp_extra = random.once_in(2) ? 4 * random.up_to(10) : 0;
    const std::uint64_t bits = random.next();
    of.traffic_class = static_cast<std::uint8_t>(bits);
    of.ttl = static_cast<std::uint8_t>(bits >> 8);
    // The identification and the sequence number wrap now and then.
    of.id = random.once_in(4) ? static_cast<std::uint16_t>(0xFFFF - random.up_to(4))
                              : static_cast<std::uint16_t>(bits >> 16);
    of.sequence = random.once_in(4) ? ~std::uint32_t{0} - random.up_to(4'000)
                                    : static_cast<std::uint32_t>(bits >> 32);
    of.ports[0] = static_cast<std::uint16_t>(bits >> 20);
    of.ports[1] = static_cast<std::uint16_t>(bits >> 36);
    of.acknowledged = static_cast<std::uint32_t>(random.next());
    of.window = static_cast<std::uint16_t>(bits >> 48);
    of.flags = static_cast<std::uint8_t>(bits >> 11);
    of.wanted = static_cast<work>(random.up_to(4));
    if (of.wanted == work::ip_checksum && of.v6) {
        of.wanted = work::checksums;
    }
    const std::uint32_t room = within.largest_frame - of.payload_at();
    if (of.wanted == work::segmentation) {
        of.segment_size =
            random.once_in(8) ? random.between(17, 64) : random.between(200, room - 4);
        const std::uint32_t most = random.once_in(8) ? within.largest_payload : 3 * of.segment_size;
        of.payload.resize(
            random.between(1, most < within.largest_payload ? most : within.largest_payload));
    } else {
        of.payload.resize(random.once_in(8) ? random.up_to(room) : random.up_to(200));
    }
    random.fill(of.payload.data(), of.payload.size());
}

} // namespace traffic
