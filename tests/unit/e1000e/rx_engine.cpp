// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/rx_engine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <vector>

// Everything that is expected comes from a second model below, which is written from the datasheet
// [82574] and the RFCs with plain numbers and uses nothing of pt.
namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::e1000e::queue;
using pt::e1000e::rx_delivery;
using pt::e1000e::rx_outcome;
using pt::e1000e::rx_queue;

using bytes = std::vector<std::uint8_t>;

// Registers and bits.
constexpr std::uint32_t CTRL = 0x0000;
constexpr std::uint32_t VET = 0x0038;
constexpr std::uint32_t RCTL = 0x0100;
constexpr std::uint32_t RDBAL = 0x2800;
constexpr std::uint32_t RDBAH = 0x2804;
constexpr std::uint32_t RDLEN = 0x2808;
constexpr std::uint32_t RDH = 0x2810;
constexpr std::uint32_t RDT = 0x2818;
constexpr std::uint32_t RDTR = 0x2820;
constexpr std::uint32_t RSRPD = 0x2C00;
constexpr std::uint32_t RXCSUM = 0x5000;
constexpr std::uint32_t RFCTL = 0x5008;
constexpr std::uint32_t EN = 1U << 1;
constexpr std::uint32_t UPE = 1U << 3;
constexpr std::uint32_t MPE = 1U << 4;
constexpr std::uint32_t LPE = 1U << 5;
constexpr std::uint32_t SECRC = 1U << 26;
constexpr std::uint32_t VME = 1U << 30;
constexpr std::uint32_t IPOFL = 1U << 8;
constexpr std::uint32_t TUOFL = 1U << 9;
constexpr std::uint32_t IPPCSE = 1U << 12;
constexpr std::uint32_t PCSD = 1U << 13;
constexpr std::uint32_t IPV6DIS = 1U << 10;
constexpr std::uint32_t IPV6XSUMDIS = 1U << 11;
constexpr std::uint32_t ACKDIS = 1U << 12;
constexpr std::uint32_t ACKDDIS = 1U << 13;
constexpr std::uint32_t EXSTEN = 1U << 15;
// Causes.
constexpr std::uint32_t RXDMT0 = 1U << 4;
constexpr std::uint32_t RXO = 1U << 6;
constexpr std::uint32_t RXT0 = 1U << 7;
constexpr std::uint32_t SRPD = 1U << 16;
constexpr std::uint32_t ACK = 1U << 17;
constexpr std::uint32_t RXQ0 = 1U << 20;
constexpr std::uint32_t RXQ1 = 1U << 21;

/// What the device reaches: Size bytes from `origin` on, and nothing else.
template <std::size_t Size>
struct guest {
    static constexpr std::uint64_t origin = 0x7'FFFF'0000; // across a 32-bit border
    std::uint8_t memory[Size] = {};
    unsigned accesses = 0;
    unsigned fail_at = ~0U;  ///< the access that fails, from 0
    unsigned fail_for = ~0U; ///< and how many from there on
    void (*after_write)(void*) = nullptr;
    void* context = nullptr;

    constexpr bool fails() {
        const unsigned number = accesses++;
        return number >= fail_at && number - fail_at < fail_for;
    }
    constexpr void put64(std::uint64_t at, std::uint64_t value) {
        for (unsigned i = 0; i != 8; ++i) {
            memory[at - origin + i] = static_cast<std::uint8_t>(value >> (8 * i));
        }
    }
    [[nodiscard]] constexpr std::uint64_t get64(std::uint64_t at) const {
        std::uint64_t value = 0;
        for (unsigned i = 0; i != 8; ++i) {
            value |= static_cast<std::uint64_t>(memory[at - origin + i]) << (8 * i);
        }
        return value;
    }
};

template <std::size_t Size>
struct bus {
    guest<Size>* of;
    constexpr pt::result<> read(iova at, std::uint8_t* to, std::size_t count) {
        if (of->fails()) {
            return error{errc::not_mapped, at.raw};
        }
        for (std::size_t i = 0; i != count; ++i) {
            const std::uint64_t place = at.raw + i - guest<Size>::origin;
            if (place >= Size) {
                return error{errc::not_mapped, at.raw + i};
            }
            to[i] = of->memory[place];
        }
        return {};
    }
    constexpr pt::result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        if (of->fails()) {
            return error{errc::not_mapped, at.raw};
        }
        for (std::size_t i = 0; i != count; ++i) {
            const std::uint64_t place = at.raw + i - guest<Size>::origin;
            if (place >= Size) {
                return error{errc::not_mapped, at.raw + i};
            }
            of->memory[place] = from[i];
        }
        if (of->after_write != nullptr) {
            of->after_write(of->context);
        }
        return {};
    }
};

template <std::size_t Size>
using engine_on = pt::e1000e::rx_engine<bus<Size>>;

template <class Engine>
constexpr void set_up_ring(Engine& engine, std::uint64_t base, std::uint32_t count,
                           std::uint32_t head, std::uint32_t tail, std::uint32_t second = 0) {
    engine.write(RDBAL + second, static_cast<std::uint32_t>(base));
    engine.write(RDBAH + second, static_cast<std::uint32_t>(base >> 32));
    engine.write(RDLEN + second, count * 16);
    engine.write(RDH + second, head);
    engine.write(RDT + second, tail);
}

// The second model.

/// CRC-32 as in the textbook, bit by bit.
constexpr std::uint32_t crc32(const std::uint8_t* data, std::size_t size) {
    std::uint32_t crc = 0xFFFF'FFFF;
    for (std::size_t i = 0; i != size; ++i) {
        crc ^= data[i];
        for (int bit = 0; bit != 8; ++bit) {
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0xEDB8'8320 : crc >> 1;
        }
    }
    return ~crc;
}

/// The ones' complement sum of big-endian words [rfc1071], as it is defined: with end-around carry.
std::uint16_t ones_sum(const bytes& data) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < data.size(); i += 2) {
        sum += data[i] * 256U + (i + 1 < data.size() ? data[i + 1] : 0U);
        if (sum > 0xFFFF) {
            sum -= 0xFFFF;
        }
    }
    return static_cast<std::uint16_t>(sum);
}

void append(bytes& to, const bytes& more) { to.insert(to.end(), more.begin(), more.end()); }
void append16(bytes& to, std::size_t word) {
    to.push_back(static_cast<std::uint8_t>(word >> 8));
    to.push_back(static_cast<std::uint8_t>(word));
}
void put16(bytes& to, std::size_t at, std::size_t word) {
    to[at] = static_cast<std::uint8_t>(word >> 8);
    to[at + 1] = static_cast<std::uint8_t>(word);
}

/// A frame, and what is true of it because it was built so.
struct packet {
    bytes frame;
    bool tagged = false;
    std::uint16_t tag = 0;
    bool ipv4 = false; ///< with a header that can be checked
    bool ipv6 = false; ///< what follows is true of an IPv6 packet
    bool ip_bad = false;
    bool transport = false; ///< with a checksum that can be checked
    bool transport_bad = false;
    bool udp = false;
    bool fragment = false;
    std::uint16_t id = 0;
    bool udp_begins = false;
    bool ack = false;
    bool ack_without_data = false;
    bool udp_fragment = false;
    bytes ip_payload; ///< of a fragment
};

class builder {
public:
    explicit builder(unsigned seed) : random_{seed} {}

    std::uint32_t below(std::uint32_t end) { return static_cast<std::uint32_t>(random_() % end); }
    bool one_in(std::uint32_t n) { return below(n) == 0; }
    bytes any(std::size_t size) {
        bytes data(size);
        for (std::uint8_t& byte : data) {
            byte = static_cast<std::uint8_t>(random_());
        }
        return data;
    }

    /// A frame to or from anybody, with about `size` bytes of payload.
    packet build(std::size_t size) {
        packet made;
        made.frame = any(12);
        if (one_in(3)) {
            made.tagged = true;
            made.tag = static_cast<std::uint16_t>(random_());
            append16(made.frame, 0x8100);
            append16(made.frame, made.tag);
        }
        bytes inner;
        std::size_t type = 0x88B5;
        switch (below(4)) {
        case 0: inner = any(size); break;
        case 1:
            type = 0x86DD;
            inner = ipv6(made, size);
            break;
        default:
            type = 0x0800;
            inner = ipv4(made, size);
            break;
        }
        append(inner, any(one_in(3) ? below(40) : 0)); // behind the packet
        if (one_in(4) && inner.size() + 8 <= 1500) {   // LLC and SNAP instead of a type
            append16(made.frame, inner.size() + 8);
            append(made.frame, {0xAA, 0xAA, 0x03, 0, 0, 0});
        }
        append16(made.frame, type);
        append(made.frame, inner);
        return made;
    }

private:
    /// TCP or UDP, with the checksum over `pseudo` and itself.
    bytes transport(packet& made, std::size_t size, bytes pseudo, std::uint8_t protocol,
                    std::size_t length_bytes) {
        bytes segment = any(4); // ports
        std::size_t checksum_at = 6;
        made.udp = protocol == 17;
        made.transport = true;
        if (protocol == 17) {
            append16(segment, 8 + size);
            append16(segment, 0);
        } else {
            append(segment, any(8));
            const std::uint32_t dwords = 5 + below(11);
            const auto flags = static_cast<std::uint8_t>(random_());
            segment.push_back(static_cast<std::uint8_t>(dwords << 4 | below(16)));
            segment.push_back(flags);
            append(segment, any(2));
            append16(segment, 0);
            append(segment, any(2 + 4 * (dwords - 5)));
            checksum_at = 16;
            made.ack = (flags & 0x10) != 0;
            made.ack_without_data = made.ack && size == 0;
        }
        append(segment, any(size));
        if (length_bytes == 2) {
            pseudo.push_back(0);
            pseudo.push_back(protocol);
            append16(pseudo, segment.size());
        } else {
            append16(pseudo, segment.size() >> 16);
            append16(pseudo, segment.size() & 0xFFFF);
            append(pseudo, {0, 0, 0, protocol});
        }
        append(pseudo, segment);
        auto checksum = static_cast<std::uint16_t>(~ones_sum(pseudo));
        if (protocol == 17 && checksum == 0) {
            checksum = 0xFFFF;
        }
        put16(segment, checksum_at, checksum);
        if (one_in(4)) {
            made.transport_bad = true;
            segment[below(4)] ^= static_cast<std::uint8_t>(1U << below(8));
        } else if (protocol == 17 && length_bytes == 2 && one_in(4)) {
            put16(segment, checksum_at, 0); // nobody computed one
            made.transport = made.udp = false;
        } else if (protocol == 17 && one_in(8)) {
            put16(segment, 4, one_in(2) ? 9 + size : 7 + size); // not the length that IP says
            made.transport = made.udp = false;
        }
        return segment;
    }

    bytes ipv4(packet& made, std::size_t size) {
        const std::uint32_t dwords = one_in(2) ? 5 : 5 + below(11);
        bytes header = any(4 * std::size_t{dwords});
        header[0] = static_cast<std::uint8_t>(0x40 | dwords);
        const std::uint32_t kind = below(8); // of fragment; 4 and more: none
        put16(header, 6,
              (one_in(2) ? 0x4000U : 0U) | (kind < 2 ? 0x2000U : 0U) |
                  (kind == 1 || kind == 2 ? 1 + below(0x1FFE) : 0U));
        const bool is_fragment = kind < 3;
        constexpr std::uint8_t protocols[] = {6, 17, 1};
        header[9] = protocols[below(3)];
        const bytes addresses(header.begin() + 12, header.begin() + 20);
        bytes payload;
        packet inner;
        if (header[9] == 1) {
            payload = any(size);
        } else {
            payload = transport(inner, size, addresses, header[9], 2);
        }
        put16(header, 2, header.size() + payload.size());
        put16(header, 10, 0);
        put16(header, 10, static_cast<std::uint16_t>(~ones_sum(header)));
        made.ipv4 = true;
        if (one_in(4)) {
            made.ip_bad = true;
            header[8] ^= static_cast<std::uint8_t>(1U << below(8));
        }
        if (is_fragment) {
            made.fragment = true;
            made.id = static_cast<std::uint16_t>(header[4] << 8 | header[5]);
            made.udp_fragment = header[9] == 17;
            made.udp_begins = kind == 0 && header[9] == 17 && (payload[6] | payload[7]) != 0;
            made.ip_payload = payload;
        } else {
            take_transport(made, inner);
        }
        append(header, payload);
        return damage(made, header, dwords * 4);
    }

    bytes ipv6(packet& made, std::size_t size) {
        bytes header = any(40);
        header[0] = static_cast<std::uint8_t>(0x60 | below(16));
        const bytes addresses(header.begin() + 8, header.begin() + 40);
        constexpr std::uint8_t protocols[] = {6, 17, 58};
        const std::uint8_t protocol = protocols[below(3)];
        packet inner;
        bytes segment;
        if (protocol == 58) {
            segment = any(size);
        } else {
            segment = transport(inner, size, addresses, protocol, 4);
        }
        // The headers between, from the last to the first.
        std::uint8_t next = protocol;
        bytes between;
        for (std::uint32_t left = one_in(2) ? 0 : below(4); left != 0; --left) {
            constexpr std::uint8_t kinds[] = {0x00, 0x3C, 0x2B, 0x2C};
            const std::uint8_t kind = kinds[below(one_in(4) ? 4 : 3)];
            const std::uint32_t units = kind == 0x2B && !one_in(4) ? 0 : below(one_in(4) ? 12 : 8);
            bytes extension = any(8 + 8 * std::size_t{units});
            extension[0] = next;
            extension[1] = static_cast<std::uint8_t>(units);
            if (kind == 0x2C || units > 7 || (kind == 0x2B && units != 0)) {
                inner = {}; // a fragment; longer than 64 bytes; a route with addresses
            }
            next = kind;
            append(extension, between);
            between = extension;
        }
        append(between, segment);
        put16(header, 4, between.size());
        header[6] = next;
        made.ipv6 = true;
        take_transport(made, inner);
        append(header, between);
        return damage(made, header, 40);
    }

    static void take_transport(packet& made, const packet& inner) {
        made.transport = inner.transport;
        made.transport_bad = inner.transport && inner.transport_bad;
        made.udp = inner.udp;
        made.ack = inner.ack;
        made.ack_without_data = inner.ack_without_data;
    }

    /// Sometimes cuts the end off, so that IP claims more than there is; or breaks the version.
    bytes damage(packet& made, bytes ip, std::size_t header) {
        const auto nothing_known = [&] {
            const bool ipv4 = made.ipv4;
            const bool bad = made.ip_bad;
            packet empty;
            empty.frame = made.frame;
            empty.tagged = made.tagged;
            empty.tag = made.tag;
            made = empty;
            made.ipv4 = ipv4;
            made.ip_bad = bad;
        };
        if (one_in(8) && ip.size() > header + 1) {
            // Nothing is behind it then: build() may add bytes, so claim more than it can.
            nothing_known();
            ip.resize(header + below(static_cast<std::uint32_t>(ip.size() - header)));
            if (made.ipv4) {
                made.ip_bad = false;
                put16(ip, 2, 0xFFFF);
                put16(ip, 10, 0);
                const bytes only(ip.begin(), ip.begin() + static_cast<std::ptrdiff_t>(header));
                put16(ip, 10, static_cast<std::uint16_t>(~ones_sum(only)));
            } else {
                put16(ip, 4, 0xFFFF);
            }
        } else if (one_in(16)) {
            nothing_known();
            made.ipv4 = made.ip_bad = false;
            ip[0] = static_cast<std::uint8_t>(0x50 | (ip[0] & 0xF));
        }
        return ip;
    }

    std::mt19937 random_;
};

/// What the guest's registers say, for the model.
struct setting {
    std::uint32_t rctl = EN | UPE | MPE | SECRC;
    std::uint32_t rxcsum = IPOFL | TUOFL;
    std::uint32_t rfctl = 0;
    bool vme = false;
    std::uint32_t buffer_size = 2048;
    std::uint32_t count = 8;
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
    std::uint64_t base = 0;
    bool inexact = false;
};

/// Puts the packet into memory as the datasheet says, and returns the descriptors that it took; 0: not
/// enough. Nothing was written then.
template <class Guest>
std::uint32_t model_receives(Guest& guest, const packet& sent, const setting& with) {
    bytes stored = sent.frame;
    stored.resize(std::max<std::size_t>(stored.size(), 60));
    const std::uint32_t crc = crc32(stored.data(), stored.size());
    const bool strips = sent.tagged && with.vme;
    if (strips) {
        stored.erase(stored.begin() + 12, stored.begin() + 16);
    }
    if ((with.rctl & SECRC) == 0) {
        for (unsigned i = 0; i != 4; ++i) {
            stored.push_back(static_cast<std::uint8_t>(crc >> (8 * i)));
        }
    }
    // Which descriptors.
    std::vector<std::uint32_t> all;
    std::size_t room = 0;
    for (std::uint32_t at = with.head; room < stored.size(); at = (at + 1) % with.count) {
        if (at == with.tail) {
            return 0;
        }
        all.push_back(at);
        room += guest.get64(with.base + 16 * at) != 0 ? with.buffer_size : 0;
    }
    // What they say.
    const bool extended = (with.rfctl & EXSTEN) != 0;
    const bool v6_off = sent.ipv6 && (with.rfctl & IPV6DIS) != 0;
    const bool ipcs = sent.ipv4 && (with.rxcsum & IPOFL) != 0;
    const bool tcpcs = sent.transport && (with.rxcsum & TUOFL) != 0 && !v6_off &&
                       !(sent.ipv6 && (with.rfctl & IPV6XSUMDIS) != 0);
    const bool ack = ((with.rfctl & ACKDDIS) != 0 ? sent.ack_without_data : sent.ack) && !v6_off;
    std::uint64_t status = 0x02; // EOP
    status |= !ipcs && !tcpcs ? 0x04 : 0;
    status |= strips ? 0x08 : 0;
    status |= tcpcs && sent.udp ? 0x10 : 0;
    status |= tcpcs ? 0x20 : 0;
    status |= ipcs ? 0x40 : 0;
    status |= with.inexact ? 0x80 : 0;
    std::uint64_t errors = 0;
    errors |= tcpcs && sent.transport_bad ? 0x20 : 0;
    errors |= ipcs && sent.ip_bad ? 0x40 : 0;
    const std::uint32_t pcss = with.rxcsum & 0xFF;
    bytes summed(stored.begin() +
                     static_cast<std::ptrdiff_t>(std::min<std::size_t>(pcss, stored.size())),
                 stored.end());
    if (sent.udp_fragment && (with.rxcsum & IPPCSE) != 0 && pcss == 0) {
        summed = sent.ip_payload;
    }
    const std::uint64_t sum = static_cast<std::uint16_t>(~ones_sum(summed));
    std::uint64_t low = 0; // extended
    if ((with.rxcsum & PCSD) == 0) {
        low = sum << 48 | std::uint64_t{sent.fragment ? sent.id : 0U} << 32;
        status |= extended && sent.fragment ? 1U << 9 : 0;
    }
    status |= extended && sent.udp_begins ? 1U << 10 : 0;
    status |= extended && ack ? 1U << 15 : 0;

    std::size_t done = 0;
    for (const std::uint32_t at : all) {
        const std::uint64_t descriptor = with.base + 16 * at;
        const std::uint64_t buffer = guest.get64(descriptor);
        if (buffer == 0) {
            const std::uint64_t high = guest.get64(descriptor + 8);
            guest.put64(descriptor + 8, high | (extended ? 1 : 1ULL << 32));
            continue;
        }
        const std::size_t length = std::min<std::size_t>(with.buffer_size, stored.size() - done);
        std::copy_n(stored.begin() + static_cast<std::ptrdiff_t>(done), length,
                    guest.memory + (buffer - Guest::origin));
        const bool first = done == 0;
        done += length;
        const bool last = done == stored.size();
        const std::uint64_t said = last ? status : 0;
        const std::uint64_t wrong = last ? errors : 0;
        const std::uint64_t tag = last && strips ? sent.tag : 0U;
        if (extended) {
            guest.put64(descriptor, low);
            guest.put64(descriptor + 8, tag << 48 | length << 32 | wrong << 24 | said | 1);
        } else {
            guest.put64(descriptor + 8, tag << 48 | wrong << 40 | (said | 1) << 32 |
                                            (first ? sum << 16 : 0) | length);
        }
    }
    return static_cast<std::uint32_t>(all.size());
}

// The tests.

constexpr std::uint64_t ring_at = guest<0x4000>::origin;
constexpr std::uint64_t buffer_at = guest<0x4000>::origin + 0x1001;

/// A ring of 8 with three buffers, and a frame to everybody.
template <class Engine, class Guest>
constexpr void plain(Engine& engine, Guest& of) {
    for (std::uint64_t i = 0; i != 3; ++i) {
        of.put64(ring_at + 16 * i, buffer_at + 0x800 * i);
    }
    set_up_ring(engine, ring_at, 8, 0, 3);
    engine.write(RCTL, EN | UPE | SECRC);
}

constexpr bool one_frame() {
    guest<0x4000> of;
    engine_on<0x4000> engine{bus<0x4000>{&of}};
    plain(engine, of);
    std::uint8_t frame[64] = {0x52, 0x54, 0, 0x12, 0x34, 0x56, 2, 0, 0, 0, 0, 1, 0x88, 0xB5};
    frame[63] = 0x5A;
    const rx_delivery done = engine.deliver(frame, 64);
    bool same = done.outcome == rx_outcome::taken && done.descriptors == 1 &&
                done.causes.raw == (RXT0 | RXQ0) && done.delayed.raw == 0 && done.fault == error{};
    for (std::size_t i = 0; i != 64; ++i) {
        same &= of.memory[0x1001 + i] == frame[i];
    }
    // Length 64, DD, EOP, IXSM, and the complement of the sum of the words that are not 0.
    std::uint32_t sum = 0x5254 + 0x0012 + 0x3456 + 0x0200 + 0x0001 + 0x88B5 + 0x005A;
    sum = (sum & 0xFFFF) + (sum >> 16);
    same &= of.get64(ring_at) == buffer_at;
    same &= of.get64(ring_at + 8) == (0x0000'0007'0000'0040 | std::uint64_t{0xFFFF - sum} << 16);
    same &= of.get64(ring_at + 24) == 0 && engine.read(RDH) == 1 && engine.read(RDT) == 3;
    return same && engine.count(rx_outcome::taken) == 1 && engine.count(rx_outcome::filtered) == 0;
}
static_assert(one_frame());

TEST_CASE("a frame lies in its buffer and its descriptor says so", "[e1000e][82574]") {
    REQUIRE(one_frame());
}

TEST_CASE("any packet, any ring, any setting: memory is as the second model has it",
          "[e1000e][82574]") {
    using big = guest<0x10'0000>;
    builder random{21};
    const auto of = std::make_unique<big>();
    const auto model = std::make_unique<big>();
    unsigned taken = 0;
    std::map<unsigned, unsigned> seen; // what the packets were, so that no kind is missing
    for (int run = 0; run != 6000; ++run) {
        setting with;
        with.count = 8 * (1 + random.below(4));
        with.head = random.below(with.count);
        with.tail = random.below(with.count);
        with.base = big::origin + 16 * random.below(100);
        with.vme = random.one_in(2);
        with.rfctl = (random.one_in(2) ? EXSTEN : 0) | (random.one_in(8) ? IPV6DIS : 0) |
                     (random.one_in(8) ? IPV6XSUMDIS : 0) | (random.one_in(4) ? ACKDIS : 0) |
                     (random.one_in(4) ? ACKDDIS : 0);
        with.rxcsum = (random.one_in(4) ? 0 : IPOFL) | (random.one_in(4) ? 0 : TUOFL) |
                      (random.one_in(4) ? IPPCSE : 0) | (random.one_in(4) ? PCSD : 0) |
                      (random.one_in(2) ? random.below(256) : 0);
        with.rctl = EN | UPE | MPE | LPE | (random.one_in(2) ? SECRC : 0);
        const std::uint32_t code = random.below(9); // BSIZE, BSEX, FLXBUF
        constexpr std::uint32_t sizes[] = {2048, 1024, 512, 256, 16'384, 8192, 4096, 1024, 15'360};
        constexpr std::uint32_t codes[] = {0,          1U << 16,    2U << 16,
                                           3U << 16,   0x201'0000,  0x202'0000,
                                           0x203'0000, 0x0802'0000, 0x7A01'0000};
        with.buffer_size = sizes[code];
        with.rctl |= codes[code];

        for (std::uint64_t i = 0; i != with.count; ++i) {
            // Buffers do not touch each other, begin anywhere, and are missing now and then.
            const std::uint64_t at = big::origin + 0x4000 + 0x5000 * i + random.below(0x1000);
            const std::uint64_t buffer = random.one_in(10) ? 0 : at;
            of->put64(with.base + 16 * i, buffer);
            model->put64(with.base + 16 * i, buffer);
            // Software should write 0 there; what does not belong to the device stays.
            const std::uint64_t high = random.one_in(2) ? 0 : 0xA5A5'A5A4'A5A5'A5A4;
            of->put64(with.base + 16 * i + 8, high);
            model->put64(with.base + 16 * i + 8, high);
        }

        const packet sent =
            random.build(random.one_in(8) ? random.below(12'000) : random.below(400));
        engine_on<0x10'0000> engine{bus<0x10'0000>{of.get()}};
        set_up_ring(engine, with.base, with.count, with.head, with.tail);
        engine.write(RXCSUM, with.rxcsum);
        engine.write(RFCTL, with.rfctl);
        engine.write(CTRL, with.vme ? VME : 0);
        engine.write(RCTL, with.rctl);

        const auto exact = std::make_unique<std::uint8_t[]>(sent.frame.size()); // for the sanitizer
        std::copy(sent.frame.begin(), sent.frame.end(), exact.get());
        const std::uint32_t expected = model_receives(*model, sent, with);
        const rx_delivery done = engine.deliver(exact.get(), sent.frame.size());
        INFO("run " << run << ", " << sent.frame.size() << " bytes");
        if (expected == 0) {
            REQUIRE(done.outcome == rx_outcome::no_descriptors);
            REQUIRE((done.causes.raw & ~RXDMT0) == RXO);
            // Those without a buffer at the head are done with all the same.
            for (std::uint32_t i = 0; i != done.descriptors; ++i) {
                const std::uint64_t at = with.base + 16 * ((with.head + i) % with.count);
                REQUIRE(model->get64(at) == 0);
                model->put64(at + 8,
                             model->get64(at + 8) | ((with.rfctl & EXSTEN) != 0 ? 1 : 1ULL << 32));
            }
        } else {
            ++taken;
            REQUIRE(done.outcome == rx_outcome::taken);
            REQUIRE(done.descriptors == expected);
            const bool ack = (with.rfctl & ACKDDIS) != 0 ? sent.ack_without_data : sent.ack;
            const bool told =
                ack && (with.rfctl & ACKDIS) == 0 && !(sent.ipv6 && (with.rfctl & IPV6DIS) != 0);
            REQUIRE((done.causes.raw & ~RXDMT0) == (RXT0 | RXQ0 | (told ? ACK : 0)));
            ++seen[(sent.ipv4 ? 1U : 0U) | (sent.ipv6 ? 2U : 0U) | (sent.transport ? 4U : 0U) |
                   (sent.udp ? 8U : 0U) | (sent.fragment ? 16U : 0U) | (sent.tagged ? 32U : 0U)];
        }
        REQUIRE(engine.read(RDH) == (with.head + done.descriptors) % with.count);
        REQUIRE(
            std::equal(std::begin(of->memory), std::end(of->memory), std::begin(model->memory)));
    }
    CHECK(taken > 3000);
    // Other, IPv4, IPv6; TCP and UDP in each; fragments; each with and without a tag.
    for (const unsigned kind : {0U, 1U, 2U, 5U, 13U, 6U, 14U, 17U}) {
        CHECK(seen[kind] > 20);
        CHECK(seen[kind | 32] > 20);
    }
}

TEST_CASE("nothing beyond a frame is read, whatever it holds", "[e1000e][hostile]") {
    using small = guest<0x4000>;
    builder random{5};
    const auto of = std::make_unique<small>();
    for (int run = 0; run != 20'000; ++run) {
        engine_on<0x4000> engine{bus<0x4000>{of.get()}};
        plain(engine, *of);
        engine.write(RCTL, EN | UPE | MPE);
        engine.write(CTRL, VME);
        engine.write(RXCSUM, IPOFL | TUOFL | IPPCSE);
        const std::size_t size = 14 + random.below(150);
        bytes frame = random.any(size);
        // Random numbers where they lead far: types, versions, lengths, next headers.
        constexpr std::uint16_t types[] = {0x0800, 0x86DD, 0x8100, 0x0010};
        put16(frame, 12, types[random.below(4)]);
        if (size > 40) {
            put16(frame, 16, types[random.below(4)]);
            frame[random.one_in(2) ? 14 : 18] =
                static_cast<std::uint8_t>(random.one_in(2) ? 0x45 + random.below(11) : 0x60);
            frame[random.one_in(2) ? 20 : 24] = static_cast<std::uint8_t>(random.below(64));
            put16(frame, random.one_in(2) ? 18 : 16, random.below(200));
        }
        const auto exact = std::make_unique<std::uint8_t[]>(size);
        std::copy(frame.begin(), frame.end(), exact.get());
        REQUIRE(engine.deliver(exact.get(), size).outcome == rx_outcome::taken);
    }
}

TEST_CASE("frames are filled up to 60 bytes, and have a header", "[e1000e][802.3]") {
    for (std::size_t size = 0; size != 70; ++size) {
        guest<0x4000> of;
        std::fill(std::begin(of.memory) + 0x1000, std::end(of.memory), std::uint8_t{0xEE});
        engine_on<0x4000> engine{bus<0x4000>{&of}};
        plain(engine, of);
        const auto frame = std::make_unique<std::uint8_t[]>(size);
        std::fill_n(frame.get(), size, std::uint8_t{0x42}); // unicast
        const rx_delivery done = engine.deliver(frame.get(), size);
        if (size < 14) {
            CHECK(done.outcome == rx_outcome::too_short);
            CHECK(engine.read(RDH) == 0);
            continue;
        }
        REQUIRE(done.outcome == rx_outcome::taken);
        const std::size_t length = std::max<std::size_t>(size, 60);
        CHECK((of.get64(ring_at + 8) & 0xFFFF) == length);
        for (std::size_t i = 0; i != 80; ++i) {
            REQUIRE(of.memory[0x1001 + i] == (i < size ? 0x42 : i < length ? 0 : 0xEE));
        }
    }
}

TEST_CASE("packets longer than RCTL.LPE allows are dropped", "[e1000e][82574]") {
    using big = guest<0x1'0000>;
    const auto of = std::make_unique<big>();
    const bytes frame(20'000, 0x42);
    auto deliver = [&](std::uint32_t rctl, std::size_t size) {
        engine_on<0x1'0000> engine{bus<0x1'0000>{of.get()}};
        for (std::uint64_t i = 0; i != 7; ++i) {
            of->put64(big::origin + 16 * i, big::origin + 0x1000 + 0x1000 * i);
        }
        set_up_ring(engine, big::origin, 8, 0, 7);
        engine.write(RCTL, EN | UPE | 0x203'0000 | rctl); // buffers of 4096 bytes
        return engine.deliver(frame.data(), size).outcome;
    };
    // 1522 and 16,384 bytes count from the destination to the CRC, which frames here do not have.
    for (const std::uint32_t strip : {0U, SECRC}) {
        CHECK(deliver(strip, 1518) == rx_outcome::taken);
        CHECK(deliver(strip, 1519) == rx_outcome::too_long);
        CHECK(deliver(strip | LPE, 1519) == rx_outcome::taken);
        CHECK(deliver(strip | LPE, 16'380) == rx_outcome::taken);
        CHECK(deliver(strip | LPE, 16'381) == rx_outcome::too_long);
        CHECK(deliver(strip | LPE, 20'000) == rx_outcome::too_long);
    }
}

TEST_CASE("what is refused changes nothing, and is counted by its reason", "[e1000e]") {
    using small = guest<0x4000>;
    small of;
    engine_on<0x4000> engine{bus<0x4000>{&of}};
    plain(engine, of);
    const auto before = std::make_unique<small>(of);
    const bytes frame(60, 0x42);
    auto outcome = [&] {
        const rx_delivery done = engine.deliver(frame.data(), frame.size());
        CHECK(done.descriptors == 0);
        CHECK(done.causes.raw == 0);
        CHECK(done.delayed.raw == 0);
        CHECK(of.accesses == 0);
        return done.outcome;
    };
    engine.write(RCTL, UPE | SECRC);
    CHECK(outcome() == rx_outcome::disabled);
    for (const std::uint32_t type : {1U, 2U, 3U}) { // packet split, reserved
        engine.write(RCTL, EN | UPE | type << 10);
        CHECK(outcome() == rx_outcome::not_supported);
    }
    engine.write(RCTL, EN | SECRC);
    CHECK(outcome() == rx_outcome::filtered);
    engine.write(RCTL, EN | UPE | SECRC);

    engine.write(RDT, 8);
    CHECK(outcome() == rx_outcome::bad_ring);
    engine.write(RDT, 0xFFFF);
    CHECK(outcome() == rx_outcome::bad_ring);
    engine.write(RDT, 3);
    engine.write(RDLEN, 0);
    CHECK(outcome() == rx_outcome::bad_ring);
    engine.write(RDLEN, 127);
    CHECK(outcome() == rx_outcome::bad_ring);
    engine.write(RDLEN, 256);
    engine.write(RDBAL, 0xFFFF'FF10); // one descriptor beyond the end of the address space
    engine.write(RDBAH, 0xFFFF'FFFF);
    CHECK(outcome() == rx_outcome::bad_ring);
    engine.write(RCTL, 0);
    set_up_ring(engine, ring_at, 16, 16, 3);
    engine.write(RCTL, EN | UPE);
    CHECK(outcome() == rx_outcome::bad_ring);
    CHECK(std::equal(std::begin(of.memory), std::end(of.memory), std::begin(before->memory)));

    CHECK(engine.count(rx_outcome::disabled) == 1);
    CHECK(engine.count(rx_outcome::not_supported) == 3);
    CHECK(engine.count(rx_outcome::filtered) == 1);
    CHECK(engine.count(rx_outcome::bad_ring) == 6);
    CHECK(engine.count(rx_outcome::taken) == 0);
    engine.write(CTRL, 1U << 26); // RST
    CHECK(engine.count(rx_outcome::bad_ring) == 6);
}

TEST_CASE("the filters decide, and PIF says that MTA alone let a packet in", "[e1000e][82574]") {
    guest<0x4000> of;
    engine_on<0x4000> engine{bus<0x4000>{&of}};
    plain(engine, of);
    engine.write(RCTL, EN | SECRC | 1U << 18); // VFE
    bytes frame(60, 0);
    frame[0] = 0x01;
    frame[4] = 0x9A;
    frame[5] = 0xBC; // bit 9 of dword 94, as in the manual's example
    CHECK(engine.deliver(frame.data(), 60).outcome == rx_outcome::filtered);
    engine.write(0x5200 + 4 * 94, 1U << 9);
    CHECK(engine.read(0x5200 + 4 * 94) == 1U << 9);
    CHECK(engine.deliver(frame.data(), 60).outcome == rx_outcome::taken);
    CHECK((of.get64(ring_at + 8) >> 32 & 0xFF) == 0x87); // PIF, IXSM, EOP, DD
    frame[12] = 0x81;
    frame[15] = 0x21; // VLAN 0x021
    CHECK(engine.deliver(frame.data(), 60).outcome == rx_outcome::filtered);
    engine.write(0x5604, 1U << 1);
    CHECK(engine.deliver(frame.data(), 60).outcome == rx_outcome::taken);
    engine.write(VET, 0x9100); // what was a tag is none any more
    engine.write(0x5604, 0);
    engine.write(CTRL, VME);
    CHECK(engine.deliver(frame.data(), 60).outcome == rx_outcome::taken);
    CHECK((of.get64(ring_at + 40) & 0xFF'0000'FFFF) == 0x87'0000'003C); // not stripped either
}

TEST_CASE("RXT0 comes at once or after the delay, with the cause of the queue", "[e1000e][82574]") {
    for (const queue number : {queue::first, queue::second}) {
        guest<0x4000> of;
        engine_on<0x4000> engine{bus<0x4000>{&of}, number};
        const std::uint32_t second = number == queue::second ? 0x100 : 0;
        const std::uint32_t packet_causes = RXT0 | (second != 0 ? RXQ1 : RXQ0);
        for (std::uint64_t i = 0; i != 64; ++i) {
            of.put64(ring_at + 16 * i, buffer_at);
        }
        set_up_ring(engine, ring_at, 64, 0, 63, second);
        engine.write(RCTL, EN | UPE | SECRC);
        const bytes frame(100, 0x42);
        auto deliver = [&] { return engine.deliver(frame.data(), frame.size()); };
        rx_delivery done = deliver();
        CHECK(done.causes.raw == packet_causes);
        CHECK(done.delayed.raw == 0);
        CHECK(engine.read(RDH + second) == 1);
        CHECK(engine.read(RDH + 0x100 - second) == 0);

        engine.write(RDTR, 0x8000'0005); // FPD is a command and no value
        CHECK(engine.read(RDTR) == 5);
        done = deliver();
        CHECK(done.causes.raw == 0);
        CHECK(done.delayed.raw == packet_causes);

        // A small packet: up to RSRPD.SIZE bytes as they are in memory. It ends the delay.
        engine.write(RSRPD, 99);
        CHECK(deliver().causes.raw == 0);
        engine.write(RSRPD, 100);
        done = deliver();
        CHECK(done.causes.raw == (SRPD | packet_causes));
        CHECK(done.delayed.raw == 0);
        engine.write(RCTL, EN | UPE); // the CRC counts where it is stored
        CHECK(deliver().causes.raw == 0);
        engine.write(RSRPD, 104);
        CHECK(deliver().causes.raw == (SRPD | packet_causes));

        engine.write(RFCTL, EXSTEN); // MRQ says which queue it is, in bits 12:8
        engine.write(RXCSUM, PCSD);
        const std::uint64_t at = ring_at + 16 * engine.read(RDH + second);
        deliver();
        CHECK(of.get64(at) == second);
    }
}

TEST_CASE("RXDMT0 says once that a half, a quarter or an eighth of the ring is left",
          "[e1000e][82574]") {
    for (std::uint32_t rdmts = 0; rdmts != 3; ++rdmts) {
        guest<0x4000> of;
        engine_on<0x4000> engine{bus<0x4000>{&of}};
        for (std::uint64_t i = 0; i != 64; ++i) {
            of.put64(ring_at + 16 * i, buffer_at);
        }
        set_up_ring(engine, ring_at, 64, 10, 9); // full: 63 buffers
        engine.write(RDTR, 1);
        // Buffers of 256 bytes, and frames of three: the threshold is jumped over.
        engine.write(RCTL, EN | UPE | SECRC | 3U << 16 | rdmts << 8);
        const bytes frame(600, 0x42);
        const std::uint32_t threshold = 64 >> (rdmts + 1);
        for (std::uint32_t left = 63; left >= 3; left -= 3) {
            const rx_delivery done = engine.deliver(frame.data(), frame.size());
            REQUIRE(done.descriptors == 3);
            const bool crossed = left > threshold && left - 3 <= threshold;
            CHECK(done.causes.raw == (crossed ? RXDMT0 | RXT0 | RXQ0 : 0));
            CHECK(done.delayed.raw == (crossed ? 0 : RXT0 | RXQ0));
        }
        CHECK(engine.deliver(frame.data(), frame.size()).causes.raw == RXO);
        // Exactly as many left.
        engine.write(RDT, (9 + threshold + 1) % 64);
        CHECK(engine.deliver(frame.data(), 200).causes.raw == (RXDMT0 | RXT0 | RXQ0));
        CHECK(engine.deliver(frame.data(), 200).causes.raw == 0);
        engine.write(RCTL, 0);
        engine.write(RDH, 9);
        engine.write(RCTL, EN | UPE | SECRC | 3U << 16 | rdmts << 8);
        engine.write(RDT, 11); // head 9, two buffers: still one too few
        const rx_delivery done = engine.deliver(frame.data(), frame.size());
        CHECK(done.outcome == rx_outcome::no_descriptors);
        CHECK(done.causes.raw == RXO);
        CHECK(engine.read(RDH) == 9);
    }
}

TEST_CASE("a ring full of descriptors without buffers costs bounded work, and goes on",
          "[e1000e][hostile]") {
    using big = guest<0x10'0000>;
    const auto of = std::make_unique<big>();
    engine_on<0x10'0000> engine{bus<0x10'0000>{of.get()}};
    set_up_ring(engine, big::origin, 1024, 0, 1023);
    of->put64(big::origin + 16 * 600, big::origin + 0x8000);
    engine.write(RCTL, EN | UPE | SECRC);
    const bytes frame(60, 0x42);
    unsigned deliveries = 0;
    unsigned low = 0;
    for (rx_outcome last = rx_outcome::no_descriptors; last != rx_outcome::taken; ++deliveries) {
        of->accesses = 0;
        const rx_delivery done = engine.deliver(frame.data(), frame.size());
        last = done.outcome;
        low += (done.causes.raw & RXDMT0) != 0 ? 1 : 0;
        REQUIRE(of->accesses <= 2 * 96 + 4);
        REQUIRE(done.descriptors > 0);
        REQUIRE(deliveries < 20);
    }
    CHECK(engine.read(RDH) == 601);
    CHECK(low == 1); // when half of the 1024 were left
    for (std::uint64_t i = 0; i != 1024; ++i) {
        REQUIRE((of->get64(big::origin + 16 * i + 8) >> 32 & 1) == (i <= 600 ? 1 : 0));
    }
}

TEST_CASE("each descriptor is read once, and DD comes after all else, in the first one last",
          "[e1000e][hostile]") {
    for (const std::uint32_t rfctl : {0U, EXSTEN}) {
        using small = guest<0x4000>;
        small of;
        engine_on<0x4000> engine{bus<0x4000>{&of}};
        plain(engine, of);
        engine.write(RFCTL, rfctl);
        engine.write(RCTL, EN | UPE | 3U << 16); // 256 bytes, and a CRC
        const bytes frame(700, 0x42);
        struct watcher {
            small* of;
            unsigned dd;
            bool right = true;
        } watch{&of, rfctl != 0 ? 0U : 32U};
        of.context = &watch;
        of.after_write = [](void* context) {
            auto& self = *static_cast<watcher*>(context);
            auto done = [&](std::uint64_t i) {
                return (self.of->get64(ring_at + 16 * i + 8) >> self.dd & 1) != 0;
            };
            // The first one's DD: the others have theirs. Any DD: all bytes are there.
            self.right &= !done(0) || (done(1) && done(2));
            self.right &= !done(1) || done(2);
            if (done(0) || done(1) || done(2)) {
                self.right &= self.of->memory[0x1001] == 0x42 &&
                              self.of->memory[0x2001 + 700 - 513] == 0x42 &&
                              self.of->memory[0x2001 + 704 - 513] != 0;
            }
        };
        REQUIRE(engine.deliver(frame.data(), frame.size()).descriptors == 3);
        CHECK(watch.right);
        // 3 reads; 3 pieces of the frame and the CRC; 3 second and perhaps 3 first quadwords; 3 DD.
        CHECK(of.accesses == (rfctl != 0 ? 16 : 13));
    }
}

TEST_CASE("a fault at any access: nothing is taken, and the next attempt takes it all",
          "[e1000e][hostile]") {
    using small = guest<0x4000>;
    for (const std::uint32_t rfctl : {0U, EXSTEN}) {
        const unsigned dd = rfctl != 0 ? 0 : 32;
        const bytes frame(700, 0x42);
        auto set_up = [&](small& of, engine_on<0x4000>& engine) {
            plain(engine, of);
            of.put64(ring_at + 16, 0); // the second has no buffer
            of.put64(ring_at + 16 * 3, buffer_at + 0x1800);
            engine.write(RDT, 4);
            engine.write(RFCTL, rfctl);
            engine.write(RCTL, EN | UPE | 3U << 16);
        };
        small good;
        engine_on<0x4000> undisturbed{bus<0x4000>{&good}};
        set_up(good, undisturbed);
        REQUIRE(undisturbed.deliver(frame.data(), frame.size()).descriptors == 4);
        for (unsigned n = 0; n != good.accesses; ++n) {
            small of;
            engine_on<0x4000> engine{bus<0x4000>{&of}};
            set_up(of, engine);
            of.fail_at = n;
            of.fail_for = 1;
            const rx_delivery failed = engine.deliver(frame.data(), frame.size());
            REQUIRE(failed.outcome == rx_outcome::memory_fault);
            REQUIRE(failed.fault.code == errc::not_mapped);
            REQUIRE(failed.descriptors == 0);
            REQUIRE(failed.causes.raw == 0);
            REQUIRE(failed.delayed.raw == 0);
            REQUIRE(engine.read(RDH) == 0);
            REQUIRE((of.get64(ring_at + 8) >> dd & 1) == 0); // the guest sees nothing
            if (rfctl != 0 && n > 11) {
                continue; // the addresses are gone, and a real device could not go on either
            }
            REQUIRE(engine.deliver(frame.data(), frame.size()).outcome == rx_outcome::taken);
            REQUIRE(
                std::equal(std::begin(of.memory), std::end(of.memory), std::begin(good.memory)));
        }
    }
}

TEST_CASE("buffers and rings outside the guest's memory are faults", "[e1000e][hostile]") {
    using small = guest<0x4000>;
    small of;
    engine_on<0x4000> engine{bus<0x4000>{&of}};
    plain(engine, of);
    const bytes frame(60, 0x42);
    auto fault = [&] {
        const rx_delivery done = engine.deliver(frame.data(), frame.size());
        CHECK(done.outcome == rx_outcome::memory_fault);
        return done.fault;
    };
    const std::uint64_t end = small::origin + 0x4000;
    of.put64(ring_at, end - 59);
    CHECK(fault() == error{errc::not_mapped, end});
    of.put64(ring_at, ~std::uint64_t{0});
    CHECK(fault() == error{errc::not_mapped, ~std::uint64_t{0}});
    of.put64(ring_at, 1);
    CHECK(fault() == error{errc::not_mapped, 1});
    set_up_ring(engine, end, 8, 0, 3);
    CHECK(fault() == error{errc::not_mapped, end});
    CHECK(engine.count(rx_outcome::memory_fault) == 4);
}

TEST_CASE("the queue's registers: places, reserved bits, values after reset", "[e1000e][82574]") {
    struct row {
        std::uint32_t offset;
        std::uint32_t writable;
        std::uint32_t initial;
    };
    for (const std::uint32_t second : {0U, 0x100U}) {
        const row rows[] = {
            {0x0038, 0x0000'FFFF, 0x8100},            // VET
            {0x0100, 0x7EDF'BFFE & ~EN, 0},           // RCTL, disabled here
            {0x2800 + second, 0xFFFF'FFF0, 0},        // RDBAL
            {0x2804 + second, 0xFFFF'FFFF, 0},        // RDBAH
            {0x2808 + second, 0x000F'FF80, 0},        // RDLEN
            {0x2810 + second, 0x0000'FFFF, 0},        // RDH
            {0x2818 + second, 0x0000'FFFF, 0},        // RDT
            {0x2820, 0x0000'FFFF, 0},                 // RDTR
            {0x2828 + second, 0x013F'3F3F, 0x1'0000}, // RXDCTL
            {0x282C, 0x0000'FFFF, 0},                 // RADV
            {0x2C00, 0x0000'0FFF, 0},                 // RSRPD
            {0x5000, 0x0000'33FF, 0x300},             // RXCSUM
            {0x5008, 0x0003'FFFF, 0},                 // RFCTL
        };
        rx_queue registers{second != 0 ? queue::second : queue::first};
        CHECK(registers.number() == (second != 0 ? queue::second : queue::first));
        auto find = [&](std::uint32_t offset) {
            return std::find_if(std::begin(rows), std::end(rows),
                                [&](const row& r) { return r.offset == offset; });
        };
        for (std::uint32_t offset = 0; offset != 0x2'0000; ++offset) {
            const row* const found = find(offset);
            REQUIRE(registers.owns(offset) == (found != std::end(rows)));
            REQUIRE(registers.read(offset) == (found != std::end(rows) ? found->initial : 0));
        }
        for (const row& r : rows) {
            registers.write(r.offset, ~EN);
            CHECK(registers.read(r.offset) == (r.writable & ~EN));
            registers.write(r.offset, 0);
            CHECK(registers.read(r.offset) == 0);
        }
        // RDH takes a value only while the receiver is disabled; RDT always.
        registers.write(0x0100, EN);
        registers.write(0x2810 + second, 5);
        registers.write(0x2818 + second, 6);
        CHECK(registers.read(0x2810 + second) == 0);
        CHECK(registers.read(0x2818 + second) == 6);
        registers.write(0x0100, 0);
        registers.write(0x2810 + second, 5);
        CHECK(registers.read(0x2810 + second) == 5);
        // CTRL is not here, but two of its bits are taken notice of.
        registers.write(0x0000, VME);
        CHECK(registers.vlan_mode());
        CHECK(registers.read(0x0000) == 0);
        registers.write(0x0000, 1U << 26); // RST
        CHECK_FALSE(registers.vlan_mode());
        for (const row& r : rows) {
            CHECK(registers.read(r.offset) == r.initial);
        }
        registers.write(0x0004, 0xFFFF'FFFF); // nobody's
        registers.write(0x0100, 0x0200'0000); // BSEX with BSIZE 0 is reserved
        CHECK(registers.buffer_size() == 2048);
    }
}

TEST_CASE("a reset of the NIC empties queue and filters", "[e1000e][82574]") {
    guest<0x4000> of;
    engine_on<0x4000> engine{bus<0x4000>{&of}};
    plain(engine, of);
    engine.write(0x5404, 0x8000'1234);
    engine.write(0x5200, 1);
    CHECK(engine.owns(0x5404));
    CHECK(engine.owns(RDT));
    CHECK_FALSE(engine.owns(CTRL));
    CHECK_FALSE(engine.owns(0x3818));
    CHECK(engine.filter().read(0x5200) == 1);
    CHECK(engine.registers().tail() == 3);
    engine.write(CTRL, 1U << 26);
    CHECK(engine.read(0x5404) == 0);
    CHECK(engine.read(0x5200) == 0);
    CHECK(engine.read(RDT) == 0);
    CHECK(engine.read(RCTL) == 0);
}

} // namespace
