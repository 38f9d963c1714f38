// SPDX-License-Identifier: BSL-1.0
//
// Ethernet frames as they must be on the wire, with all lengths and checksums, and as a driver
// hands them to a NIC that computes some of these. Made from [rfc 791], [rfc 768], [rfc 9293],
// [rfc 8200] and [rfc 1071], without pt, so that they say what pt and the NIC must reach together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

namespace e1000e_machine {

using bytes = std::vector<std::uint8_t>;

/// Bytes that nobody expects, and the same ones each time.
class random_bytes {
public:
    explicit random_bytes(std::uint32_t seed) : generator_{seed} {}

    bytes operator()(std::size_t count) {
        bytes all(count);
        for (std::uint8_t& byte : all) {
            byte = static_cast<std::uint8_t>(generator_() >> 11);
        }
        return all;
    }
    /// One of the numbers from `first` to `last`.
    std::size_t between(std::size_t first, std::size_t last) {
        return first + generator_() % (last - first + 1);
    }

private:
    std::mt19937 generator_;
};

/// The ones' complement sum of big-endian words from `first` to the end, not inverted [rfc 1071].
inline std::uint16_t ones_complement_sum(const bytes& of, std::size_t first, std::uint64_t sum) {
    for (std::size_t at = first; at < of.size(); ++at) {
        sum += (at - first) % 2 == 0 ? std::uint64_t{of[at]} << 8 : of[at];
    }
    while (sum > 0xFFFF) {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(sum);
}

inline void put16(bytes& to, std::size_t at, std::size_t value) {
    to.at(at) = static_cast<std::uint8_t>(value >> 8);
    to.at(at + 1) = static_cast<std::uint8_t>(value);
}
inline std::uint16_t get16(const bytes& from, std::size_t at) {
    return static_cast<std::uint16_t>(from.at(at) << 8 | from.at(at + 1));
}

enum class internet : std::uint8_t { v4, v6 };
enum class carried : std::uint8_t { tcp = 6, udp = 17 };

/// What the NIC is asked to compute.
enum class left_to_nic : std::uint8_t {
    nothing,
    ip_checksum,
    transport_checksum,
    checksums,
    segments,
};

using mac = std::vector<std::uint8_t>;
inline const mac first_mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x05};
inline const mac second_mac{0x52, 0x54, 0x00, 0x12, 0x34, 0x06};
inline const mac broadcast_mac{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

/// What the packets of one conversation have in common.
struct flow {
    internet version = internet::v4;
    carried protocol = carried::tcp;
    /// Bytes of options: of IPv4, a multiple of 4, or 8 of an IPv6 destination options header.
    std::size_t ip_options = 0;
    std::size_t tcp_options = 0; ///< a multiple of 4
    mac to = second_mac;

    static constexpr std::size_t ip_at = 14;
    [[nodiscard]] std::size_t transport_at() const {
        return ip_at + (version == internet::v4 ? 20 : 40) + ip_options;
    }
    [[nodiscard]] std::size_t checksum_at() const {
        return transport_at() + (protocol == carried::tcp ? 16 : 6);
    }
    [[nodiscard]] std::size_t header_length() const {
        return transport_at() + (protocol == carried::tcp ? 20 + tcp_options : 8);
    }
};

/// What a packet of it has for itself.
struct packet {
    std::uint32_t sequence = 0x0102'0304; ///< TCP
    std::uint8_t flags = 0x18;            ///< TCP: ACK, PSH
    std::uint16_t identification = 0;     ///< IPv4
    bytes payload{};
};

inline constexpr std::uint8_t tcp_fin = 0x01;
inline constexpr std::uint8_t tcp_psh = 0x08;
inline constexpr std::uint8_t tcp_ack = 0x10;

/// The sum of the pseudo header, without the length and not inverted.
inline std::uint64_t pseudo_header_sum(const flow& of, const bytes& frame) {
    const std::size_t first = flow::ip_at + (of.version == internet::v4 ? 12 : 8);
    const std::size_t last = flow::ip_at + (of.version == internet::v4 ? 20 : 40);
    std::uint64_t sum = static_cast<std::uint64_t>(of.protocol);
    for (std::size_t at = first; at < last; at += 2) {
        sum += get16(frame, at);
    }
    return sum;
}

/// The frame with everything computed. It goes from the first NIC to the second.
inline bytes finished(const flow& of, const packet& p) {
    const bool tcp = of.protocol == carried::tcp;
    const std::size_t transport_at = of.transport_at();
    const std::size_t transport_length = of.header_length() - transport_at + p.payload.size();
    bytes frame(of.header_length());
    std::copy(of.to.begin(), of.to.end(), frame.begin());
    std::copy(first_mac.begin(), first_mac.end(), frame.begin() + 6);

    const std::size_t ip = flow::ip_at;
    if (of.version == internet::v4) {
        put16(frame, 12, 0x0800);
        frame[ip] = static_cast<std::uint8_t>(0x45 + of.ip_options / 4);
        put16(frame, ip + 2, 20 + of.ip_options + transport_length);
        put16(frame, ip + 4, p.identification);
        frame[ip + 8] = 64; // time to live
        frame[ip + 9] = static_cast<std::uint8_t>(of.protocol);
        const bytes addresses{10, 0, 0, 1, 10, 200, 0, 2};
        std::copy(addresses.begin(), addresses.end(), frame.begin() + ip + 12);
        std::fill_n(frame.begin() + ip + 20, of.ip_options, std::uint8_t{1}); // no operation
        const bytes header(frame.begin() + ip, frame.begin() + static_cast<int>(transport_at));
        put16(frame, ip + 10, 0xFFFFU ^ ones_complement_sum(header, 0, 0));
    } else {
        put16(frame, 12, 0x86DD);
        frame[ip] = 0x60;
        put16(frame, ip + 4, of.ip_options + transport_length);
        frame[ip + 6] = of.ip_options == 0 ? static_cast<std::uint8_t>(of.protocol) : 60;
        frame[ip + 7] = 64; // hop limit
        for (std::size_t i = 0; i < 16; ++i) {
            frame[ip + 8 + i] = static_cast<std::uint8_t>(i == 0 ? 0xFD : i * 3);
            frame[ip + 24 + i] = static_cast<std::uint8_t>(i == 0 ? 0xFD : i * 11);
        }
        if (of.ip_options != 0) { // next header, length 0, and PadN of 6 bytes
            const bytes options{static_cast<std::uint8_t>(of.protocol), 0, 1, 4, 0, 0, 0, 0};
            std::copy(options.begin(), options.end(), frame.begin() + ip + 40);
        }
    }

    put16(frame, transport_at, 40'000); // from
    put16(frame, transport_at + 2, 9);  // to: discard
    if (tcp) {
        put16(frame, transport_at + 4, p.sequence >> 16);
        put16(frame, transport_at + 6, p.sequence);
        put16(frame, transport_at + 10, 0x1234); // acknowledges
        frame[transport_at + 12] = static_cast<std::uint8_t>((20 + of.tcp_options) / 4 << 4);
        frame[transport_at + 13] = p.flags;
        put16(frame, transport_at + 14, 0x2000); // window
        std::fill_n(frame.begin() + static_cast<int>(transport_at) + 20, of.tcp_options,
                    std::uint8_t{1}); // no operation
    } else {
        put16(frame, transport_at + 4, transport_length);
    }
    frame.insert(frame.end(), p.payload.begin(), p.payload.end());
    const std::uint16_t sum =
        ones_complement_sum(frame, transport_at, pseudo_header_sum(of, frame) + transport_length);
    // A UDP checksum of 0 says that there is none.
    put16(frame, of.checksum_at(), sum == 0xFFFF && !tcp ? 0xFFFF : 0xFFFFU ^ sum);
    return frame;
}

/// The frame as software leaves it for the NIC [82574]: an IPv4 header checksum of 0; in the place
/// of the TCP or UDP checksum the sum of the pseudo header, for segmentation without the length;
/// and for segmentation no lengths either.
inline bytes handed_over(const flow& of, const packet& p, left_to_nic what) {
    bytes frame = finished(of, p);
    const bool segments = what == left_to_nic::segments;
    const bool both = what == left_to_nic::checksums || segments;
    if (of.version == internet::v4 && (both || what == left_to_nic::ip_checksum)) {
        put16(frame, flow::ip_at + 10, 0);
    }
    if (segments) {
        put16(frame, flow::ip_at + (of.version == internet::v4 ? 2 : 4), 0);
        if (of.protocol == carried::udp) {
            put16(frame, of.transport_at() + 4, 0);
        }
    }
    if (both || what == left_to_nic::transport_checksum) {
        const std::size_t length = segments ? 0 : frame.size() - of.transport_at();
        put16(frame, of.checksum_at(),
              ones_complement_sum({}, 0, pseudo_header_sum(of, frame) + length));
    }
    return frame;
}

/// The frames that a packet must become with so many bytes of payload in each: sequence number and
/// identification count on, FIN and PSH are in the last one only.
inline std::vector<bytes> segmented(const flow& of, const packet& p, std::size_t segment_size) {
    std::vector<bytes> all;
    for (std::size_t at = 0; at < p.payload.size(); at += segment_size) {
        const std::size_t end = std::min(at + segment_size, p.payload.size());
        const bool last = end == p.payload.size();
        packet part = p;
        part.payload.assign(p.payload.begin() + static_cast<std::ptrdiff_t>(at),
                            p.payload.begin() + static_cast<std::ptrdiff_t>(end));
        part.sequence = p.sequence + static_cast<std::uint32_t>(at);
        part.identification = static_cast<std::uint16_t>(p.identification + all.size());
        part.flags = static_cast<std::uint8_t>(last ? p.flags : p.flags & ~(tcp_fin | tcp_psh));
        all.push_back(finished(of, part));
    }
    return all;
}

/// With a VLAN tag after the addresses [802.1q].
inline bytes tagged(const bytes& frame, std::uint16_t tag) {
    bytes with(frame.begin(), frame.begin() + 12);
    with.insert(with.end(),
                {0x81, 0x00, static_cast<std::uint8_t>(tag >> 8), static_cast<std::uint8_t>(tag)});
    with.insert(with.end(), frame.begin() + 12, frame.end());
    return with;
}

/// A frame of any size, of a protocol that no NIC knows; shorter than a header: the start of one.
inline bytes plain(std::size_t size, random_bytes& random, const mac& to = second_mac) {
    bytes frame{to};
    frame.insert(frame.end(), first_mac.begin(), first_mac.end());
    frame.insert(frame.end(), {0x88, 0xB5}); // for experiments [ieee 802]
    const bytes content = random(size > frame.size() ? size - frame.size() : 0);
    frame.insert(frame.end(), content.begin(), content.end());
    frame.resize(size);
    return frame;
}

/// With the zeros that a frame shorter than `size` ends in.
inline bytes padded(bytes frame, std::size_t size) {
    frame.resize(std::max(frame.size(), size));
    return frame;
}

} // namespace e1000e_machine
