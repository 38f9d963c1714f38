// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/e1000e/tx_engine.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

/// A guest's memory, a driver that writes descriptors as plain numbers, and a model of what must
/// leave the NIC. Written from the datasheet [82574] and the RFCs; it uses nothing of pt but the
/// engine.
namespace tx_engine_test {

using byte = std::uint8_t;
using bytes = std::vector<byte>;

// Registers of queue 0; those of queue 1 are 0x100 further.
inline constexpr std::uint32_t CTRL = 0x0000;
inline constexpr std::uint32_t VET = 0x0038;
inline constexpr std::uint32_t TCTL = 0x0400;
inline constexpr std::uint32_t TDBAL = 0x3800;
inline constexpr std::uint32_t TDBAH = 0x3804;
inline constexpr std::uint32_t TDLEN = 0x3808;
inline constexpr std::uint32_t TDH = 0x3810;
inline constexpr std::uint32_t TDT = 0x3818;
inline constexpr std::uint32_t TXDCTL = 0x3828;
inline constexpr std::uint32_t TARC = 0x3840;
inline constexpr std::uint32_t EN = 1U << 1;
inline constexpr std::uint32_t PSP = 1U << 3;
inline constexpr std::uint32_t VME = 1U << 30;

// Causes
inline constexpr std::uint32_t TXDW = 1U << 0;
inline constexpr std::uint32_t TXQE = 1U << 1;
inline constexpr std::uint32_t TXDLOW = 1U << 15;
inline constexpr std::uint32_t TXQ0 = 1U << 22;
inline constexpr std::uint32_t TXQ1 = 1U << 23;

// The second quadword of a descriptor
inline constexpr std::uint64_t EOP = 1ULL << 24;
inline constexpr std::uint64_t IFCS = 1ULL << 25;
inline constexpr std::uint64_t END = EOP | IFCS; ///< as drivers end a packet
inline constexpr std::uint64_t IC = 1ULL << 26;
inline constexpr std::uint64_t TSE = 1ULL << 26;
inline constexpr std::uint64_t RS = 1ULL << 27;
inline constexpr std::uint64_t DEXT = 1ULL << 29;
inline constexpr std::uint64_t VLE = 1ULL << 30;
inline constexpr std::uint64_t SNAP = 1ULL << 30; // of a context
inline constexpr std::uint64_t IDE = 1ULL << 31;
inline constexpr std::uint64_t DD = 1ULL << 32;
inline constexpr std::uint64_t DATA = DEXT | 1ULL << 20;
inline constexpr std::uint64_t IXSM = 1ULL << 40;
inline constexpr std::uint64_t TXSM = 1ULL << 41;
inline constexpr std::uint64_t TCP = 1ULL << 24; // of a context
inline constexpr std::uint64_t IPV4 = 1ULL << 25;

/// The guest's memory: `size` bytes from address `base` on. It counts, and it fails when told to.
struct space {
    byte* memory = nullptr;
    std::uint64_t base = 0;
    std::uint64_t size = 0;

    std::uint64_t accesses = 0;
    std::uint64_t reads = 0;
    std::uint64_t read_bytes = 0;
    std::uint64_t writes = 0;
    std::uint64_t written_bytes = 0;
    std::uint64_t last_write = 0;
    std::uint64_t fail_at = ~0ULL; ///< the access that fails, once

    [[nodiscard]] constexpr bool holds(std::uint64_t at, std::uint64_t count) const {
        return at >= base && count <= size && at - base <= size - count;
    }
};

struct bus {
    space* guest;

    constexpr pt::result<> access(pt::iova at, std::size_t count) {
        if (guest->accesses++ == guest->fail_at || !guest->holds(at.raw, count)) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        return {};
    }
    constexpr pt::result<> read(pt::iova at, byte* to, std::size_t count) {
        if (const auto possible = access(at, count); !possible) {
            return possible;
        }
        ++guest->reads;
        guest->read_bytes += count;
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = guest->memory[at.raw - guest->base + i];
        }
        return {};
    }
    constexpr pt::result<> write(pt::iova at, const byte* from, std::size_t count) {
        if (const auto possible = access(at, count); !possible) {
            return possible;
        }
        ++guest->writes;
        guest->written_bytes += count;
        guest->last_write = at.raw;
        for (std::size_t i = 0; i != count; ++i) {
            guest->memory[at.raw - guest->base + i] = from[i];
        }
        return {};
    }
};
static_assert(pt::bus_memory<bus>);
using engine = pt::e1000e::tx_engine<bus>;

constexpr void put64(byte* at, std::uint64_t value) {
    for (unsigned i = 0; i != 8; ++i) {
        at[i] = static_cast<byte>(value >> (8 * i));
    }
}
constexpr std::uint64_t get64(const byte* at) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i != 8; ++i) {
        value |= static_cast<std::uint64_t>(at[i]) << (8 * i);
    }
    return value;
}

/// A context descriptor's quadwords.
constexpr std::uint64_t offsets(unsigned ipcss, unsigned ipcso, unsigned ipcse, unsigned tucss,
                                unsigned tucso, unsigned tucse) {
    return ipcss | ipcso << 8 | static_cast<std::uint64_t>(ipcse) << 16 |
           static_cast<std::uint64_t>(tucss) << 32 | static_cast<std::uint64_t>(tucso) << 40 |
           static_cast<std::uint64_t>(tucse) << 48;
}
constexpr std::uint64_t context(std::uint64_t flags, std::uint64_t paylen = 0,
                                std::uint64_t hdrlen = 0, std::uint64_t mss = 0) {
    return DEXT | flags | paylen | hdrlen << 40 | mss << 48;
}
constexpr std::uint64_t special(unsigned tag) { return static_cast<std::uint64_t>(tag) << 48; }

// ---- the model ----

/// [rfc1071] by its meaning: ones' complement addition of 16-bit words is addition modulo 65535,
/// where only a sum of nothing but zeros is written 0.
inline unsigned ones_complement_sum(const bytes& data) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < data.size(); ++i) {
        sum += static_cast<std::uint64_t>(data[i]) * (i % 2 == 0 ? 256 : 1);
    }
    return sum == 0 ? 0 : static_cast<unsigned>((sum - 1) % 65535 + 1);
}
inline unsigned checksum(const bytes& data) { return 65535 - ones_complement_sum(data); }

inline void append(bytes& to, const bytes& more) { to.insert(to.end(), more.begin(), more.end()); }
inline void append16(bytes& to, unsigned value) {
    to.push_back(static_cast<byte>(value / 256 % 256));
    to.push_back(static_cast<byte>(value % 256));
}
inline void append32(bytes& to, std::uint32_t value) {
    append16(to, value / 65536);
    append16(to, value % 65536);
}
inline bytes part(const bytes& of, std::size_t from, std::size_t count) {
    const auto begin = of.begin() + static_cast<std::ptrdiff_t>(from);
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

/// One TCP or UDP stream, from which whole frames are made.
struct stream {
    bool v4 = true;
    bool tcp = true;
    bool snap = false;
    bytes ethernet = bytes(12, 0x02); // addresses
    bytes source;
    bytes destination;
    bytes ip_options;  // IPv4: a multiple of 4 bytes; IPv6: extension headers
    bytes tcp_options; // a multiple of 4 bytes
    unsigned identification = 0;
    std::uint32_t sequence = 0;
    unsigned flags = 0x10;

    [[nodiscard]] unsigned ip_at() const { return snap ? 22 : 14; }
    [[nodiscard]] unsigned transport_at() const {
        return ip_at() + (v4 ? 20U : 40U) + static_cast<unsigned>(ip_options.size());
    }
    [[nodiscard]] unsigned header_length() const {
        return transport_at() + (tcp ? 20U + static_cast<unsigned>(tcp_options.size()) : 8U);
    }
    [[nodiscard]] unsigned ip_checksum_at() const { return ip_at() + 10; }
    [[nodiscard]] unsigned transport_checksum_at() const {
        return transport_at() + (tcp ? 16U : 6U);
    }
    [[nodiscard]] bytes pseudo_header(unsigned length) const {
        bytes all = source;
        append(all, destination);
        if (v4) {
            all.push_back(0);
            all.push_back(tcp ? 6 : 17);
            append16(all, length);
        } else {
            append32(all, length);
            append32(all, tcp ? 6 : 17);
        }
        return all;
    }

    enum class finished { ip = 1, transport = 2, both = 3, none = 0 };
    /// The frame with `payload`. What is not `done` is left to the NIC: the IP checksum is 0, and
    /// the transport's is the sum of the pseudo header. `for_segments`: the prototype, without
    /// lengths.
    [[nodiscard]] bytes frame(const bytes& payload, finished done,
                              bool for_segments = false) const {
        const bool ip_done = done == finished::ip || done == finished::both;
        const bool transport_done = done == finished::transport || done == finished::both;
        bytes transport;
        append16(transport, 0x1234);
        append16(transport, 0x0050);
        const unsigned size =
            header_length() - transport_at() + static_cast<unsigned>(payload.size());
        if (tcp) {
            append32(transport, sequence);
            append32(transport, 0x0A0B'0C0D);
            transport.push_back(static_cast<byte>((20 + tcp_options.size()) / 4 * 16));
            transport.push_back(static_cast<byte>(flags));
            append16(transport, 0xFFEE);
            append16(transport, 0);
            append16(transport, 0);
            append(transport, tcp_options);
        } else {
            append16(transport, for_segments ? 0 : size);
            append16(transport, 0);
        }
        append(transport, payload);
        unsigned sum = 0;
        if (transport_done) {
            bytes whole = pseudo_header(size);
            append(whole, transport);
            sum = checksum(whole);
            sum = sum == 0 ? 65535 : sum; // as UDP wants it [rfc768]; the same number in TCP
        } else {
            sum = ones_complement_sum(pseudo_header(for_segments ? 0 : size));
        }
        transport[tcp ? 16 : 6] = static_cast<byte>(sum / 256);
        transport[tcp ? 17 : 7] = static_cast<byte>(sum % 256);

        bytes ip;
        const unsigned whole = static_cast<unsigned>(ip_options.size() + transport.size());
        if (v4) {
            ip.push_back(static_cast<byte>(0x40 + (20 + ip_options.size()) / 4));
            ip.push_back(0);
            append16(ip, for_segments ? 0 : 20 + whole);
            append16(ip, identification);
            append16(ip, 0x4000);
            ip.push_back(64);
            ip.push_back(tcp ? 6 : 17);
            append16(ip, 0);
            append(ip, source);
            append(ip, destination);
            append(ip, ip_options);
            if (ip_done) {
                const unsigned header_sum = checksum(ip);
                ip[10] = static_cast<byte>(header_sum / 256);
                ip[11] = static_cast<byte>(header_sum % 256);
            }
        } else {
            append32(ip, 0x6000'0000);
            append16(ip, for_segments ? 0 : whole);
            ip.push_back(ip_options.empty() ? (tcp ? 6 : 17) : 0);
            ip.push_back(64);
            append(ip, source);
            append(ip, destination);
            append(ip, ip_options);
        }
        append(ip, transport);

        bytes result = ethernet;
        if (snap) {
            append16(result, for_segments ? 0 : 8 + static_cast<unsigned>(ip.size()));
            append(result, {0xAA, 0xAA, 0x03, 0, 0, 0});
        }
        append16(result, v4 ? 0x0800 : 0x86DD);
        append(result, ip);
        return result;
    }

    /// The offsets of the context descriptor; the ends are those of the header and of the packet.
    [[nodiscard]] std::uint64_t context_offsets() const {
        return offsets(ip_at(), ip_checksum_at(), transport_at() - 1, transport_at(),
                       transport_checksum_at(), 0);
    }
    [[nodiscard]] std::uint64_t context_flags() const {
        return (tcp ? TCP : 0) | (v4 ? IPV4 : 0) | (snap ? SNAP : 0);
    }
    [[nodiscard]] std::uint64_t options() const { return (v4 ? IXSM : 0) | TXSM; }
};

/// The frame with a VLAN tag after the addresses.
inline bytes tagged(const bytes& frame, unsigned ether_type, unsigned tag) {
    bytes result = part(frame, 0, 12);
    append16(result, ether_type);
    append16(result, tag);
    append(result, part(frame, 12, frame.size() - 12));
    return result;
}
inline bytes padded(bytes frame) {
    if (frame.size() < 60) {
        frame.resize(60);
    }
    return frame;
}

/// The frames that a segmented packet must become.
inline std::vector<bytes> segments(stream from, const bytes& payload, std::size_t mss) {
    std::vector<bytes> frames;
    const unsigned flags = from.flags;
    std::size_t at = 0;
    do {
        const std::size_t size = payload.size() - at < mss ? payload.size() - at : mss;
        const bool last = at + size == payload.size();
        from.flags = last ? flags : flags & ~0x09U; // FIN and PSH belong to the last one
        frames.push_back(from.frame(part(payload, at, size), from.v4
                                                                 ? stream::finished::both
                                                                 : stream::finished::transport));
        from.sequence += static_cast<std::uint32_t>(size);
        from.identification = (from.identification + 1) % 65536;
        at += size;
    } while (at != payload.size());
    return frames;
}

// ---- the driver ----

struct dice {
    std::mt19937 engine;

    explicit dice(unsigned seed) : engine{seed} {}
    /// A number below `end`.
    unsigned below(std::size_t end) {
        return static_cast<unsigned>(engine() % (end == 0 ? 1 : end));
    }
    bool one_in(unsigned n) { return below(n) == 0; }
    bytes some(std::size_t count) {
        bytes data(count);
        for (byte& b : data) {
            b = static_cast<byte>(engine());
        }
        return data;
    }
};

inline stream any_stream(dice& random) {
    stream s;
    s.v4 = random.one_in(2);
    s.tcp = random.one_in(2);
    s.ethernet = random.some(12);
    s.source = random.some(s.v4 ? 4 : 16);
    s.destination = random.some(s.v4 ? 4 : 16);
    if (s.v4) {
        s.ip_options = random.some(4 * random.below(11));
    } else if (random.one_in(2)) {
        s.ip_options = random.some(8);
    }
    s.tcp_options = random.some(4 * random.below(11));
    s.identification = random.below(65536);
    s.sequence = static_cast<std::uint32_t>(random.engine());
    s.flags = random.below(256);
    return s;
}

/// A guest with a ring of `count` descriptors at `ring`, and a NIC.
struct rig {
    static constexpr std::uint64_t memory_size = 4 << 20;

    bytes memory = bytes(memory_size);
    bytes buffer;
    space guest;
    engine nic;
    std::uint64_t ring = 0x1000;
    std::uint32_t count;
    std::uint32_t tail = 0;
    std::uint64_t free_at = 0x20'0000; ///< where the next data goes
    std::vector<bytes> frames;
    pt::e1000e::tx_step total; ///< of all steps; `why` and `fault` of the last one

    explicit rig(std::uint32_t descriptors = 256, std::size_t capacity = 16384 + 4)
        : buffer(capacity),
          guest{memory.data(), 0, memory_size},
          nic{bus{&guest}, buffer.data(), capacity},
          count{descriptors} {
        nic.write(TDBAL, static_cast<std::uint32_t>(ring));
        nic.write(TDLEN, count * 16);
        nic.write(TCTL, EN | PSP);
    }
    rig(const rig&) = delete;

    [[nodiscard]] byte* at(std::uint32_t index) { return memory.data() + ring + index * 16ULL; }
    [[nodiscard]] std::uint64_t command(std::uint32_t index) { return get64(at(index) + 8); }
    [[nodiscard]] bool is_done(std::uint32_t index) { return (command(index) & DD) != 0; }

    /// Puts data somewhere and says where.
    std::uint64_t place(const bytes& data) {
        if (free_at + data.size() + 64 > memory_size) {
            free_at = 0x20'0000;
        }
        const std::uint64_t where = free_at;
        std::copy(data.begin(), data.end(), memory.data() + where);
        free_at += data.size() + 1 + free_at % 7;
        return where;
    }
    std::uint32_t post(std::uint64_t low, std::uint64_t high) {
        put64(at(tail), low);
        put64(at(tail) + 8, high);
        const std::uint32_t index = tail;
        tail = (tail + 1) % count;
        return index;
    }
    /// One descriptor with that data; returns its index.
    std::uint32_t send(const bytes& data, std::uint64_t high) {
        return post(data.empty() ? 0 : place(data), high | data.size());
    }
    void doorbell() { nic.write(TDT, tail); }

    /// Takes frames unless `refuse` says no.
    template <class Refuse>
    pt::e1000e::tx_step step(pt::e1000e::tx_budget budget, Refuse&& refuse) {
        const auto one = nic.step(budget, [&](const byte* frame, std::size_t length) {
            if (refuse()) {
                return false;
            }
            frames.emplace_back(frame, frame + length);
            return true;
        });
        total.why = one.why;
        total.descriptors += one.descriptors;
        total.frames += one.frames;
        total.dropped += one.dropped;
        total.malformed += one.malformed;
        total.causes.raw |= one.causes.raw;
        total.delayed_write_back = total.delayed_write_back || one.delayed_write_back;
        total.fault = one.fault;
        return one;
    }
    pt::e1000e::tx_step step(pt::e1000e::tx_budget budget = {1U << 20, 1U << 20}) {
        return step(budget, [] { return false; });
    }
    /// Works until nothing is left.
    pt::e1000e::tx_step run() {
        doorbell();
        return step();
    }
};

/// Cuts `data` into up to `most` descriptors with random empty ones among them: `common` in each,
/// `first` in the first one and `last` in the last.
inline void send_in_pieces(rig& guest, dice& random, const bytes& data, unsigned most,
                           std::uint64_t common, std::uint64_t first, std::uint64_t last) {
    const unsigned pieces = 1 + random.below(most);
    std::size_t at = 0;
    for (unsigned piece = 0; piece != pieces; ++piece) {
        const bool is_last = piece + 1 == pieces;
        std::size_t size = data.size() - at;
        if (!is_last) {
            size = random.one_in(4) ? 0 : random.below(size + 1);
        }
        const std::uint64_t high = common | (piece == 0 ? first : 0) | (is_last ? last : 0);
        if (size == 0 && random.one_in(2)) {
            guest.post(0, high | random.below(2000)); // a null address transfers no data
        } else {
            const bytes some = part(data, at, size);
            guest.post(guest.place(some), high | size);
        }
        at += size;
    }
}

} // namespace tx_engine_test
