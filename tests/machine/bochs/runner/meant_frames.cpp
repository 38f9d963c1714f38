// SPDX-License-Identifier: BSL-1.0
#include "meant_frames.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace runner {
namespace {

char low_byte(std::size_t value) { return static_cast<char>(value & 0xFF); }

std::string big_endian(std::size_t value, unsigned bytes) {
    std::string all;
    for (unsigned i = bytes; i-- > 0;) {
        all.push_back(low_byte(value >> (8 * i)));
    }
    return all;
}

/// The bytes that a number stands for, from place `from` on.
std::string bytes_of(std::size_t number, std::size_t count, std::size_t from = 0) {
    std::string all;
    for (std::size_t i = from; i < from + count; ++i) {
        all.push_back(low_byte(31 * number + 7 * i + 3 * (i / 256)));
    }
    return all;
}

/// The Internet checksum [RFC 1071]: of 16-bit words, the last byte filled up with 0.
std::size_t checksum(const std::string& bytes) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const std::size_t byte = static_cast<unsigned char>(bytes[i]);
        sum += i % 2 == 0 ? 256 * byte : byte;
    }
    while (sum > 0xFFFF) {
        sum = sum / 0x10000 + sum % 0x10000;
    }
    return 0xFFFF - sum;
}

/// What is asked of the NIC, as the subject has it.
struct packet {
    std::size_t number = 0;
    bool v6 = false;
    bool udp = false;
    std::size_t payload = 0;
    bool ip_options = false;
    bool tcp_options = false;
    std::string tag{}; ///< with Ether type; none: empty
};

enum class checksums { ip, transport, all };

const std::string from_ipv4 = big_endian(0x0A000001, 4); // 10.0.0.1
const std::string to_ipv4 = big_endian(0x0A000002, 4);
const std::string from_ipv6 = big_endian(0xFD00, 2) + std::string(13, '\0') + '\1'; // fd00::1
const std::string to_ipv6 = big_endian(0xFD00, 2) + std::string(13, '\0') + '\2';

/// What Bochs adds to IPv6's payload length in each segment: the IPv6 header, which is no payload
/// [RFC 8200] [82574], although the manual of the older family counts it [8254x].
constexpr std::size_t bochs_adds_to_ipv6_payload_length = 40;

/// One segment of a packet: `size` bytes of payload from `from` on, the `index`-th. `wrong_by`: how much
/// larger IPv6's payload length is than it should be.
std::string segment(const packet& of, std::size_t from, std::size_t size, std::size_t index,
                    bool last, checksums filled = checksums::all, std::size_t wrong_by = 0) {
    const std::size_t protocol = of.udp ? 17 : 6;
    const std::size_t own_header = of.udp ? 8 : of.tcp_options ? 32 : 20;
    const std::size_t length = own_header + size;
    const std::string pseudo_header =
        of.v6 ? from_ipv6 + to_ipv6 + big_endian(length, 4) + big_endian(protocol, 4)
              : from_ipv4 + to_ipv4 + big_endian(protocol, 2) + big_endian(length, 2);

    std::string transport = big_endian(0x1001, 2) + big_endian(0x1002, 2);
    std::size_t checksum_at = 6;
    if (of.udp) {
        transport += big_endian(length, 2) + big_endian(0, 2);
    } else {
        checksum_at = 16;
        transport += big_endian(0xFFFFF000 + of.number + from, 4) + big_endian(0x01020304, 4);
        transport += big_endian(own_header / 4 * 16, 1) + big_endian(last ? 0x19 : 0x10, 1);
        transport += big_endian(0x2000, 2) + big_endian(0, 2) + big_endian(0, 2);
        if (of.tcp_options) {
            transport +=
                big_endian(0x0101080A, 4) + big_endian(0x11223344, 4) + big_endian(0x55667788, 4);
        }
    }
    transport += bytes_of(of.number, size, from);
    // Where the NIC is not asked for it, there is what software has left: the sum, not inverted.
    const std::size_t sum = filled == checksums::ip ? 0xFFFF - checksum(pseudo_header)
                                                    : checksum(pseudo_header + transport);
    transport.replace(checksum_at, 2, big_endian(sum, 2));

    std::string internet;
    if (of.v6) {
        internet = big_endian(0x60000000, 4) + big_endian(length + wrong_by, 2) +
                   big_endian(protocol, 1) + big_endian(64, 1) + from_ipv6 + to_ipv6;
    } else {
        const std::size_t header = of.ip_options ? 24 : 20;
        internet =
            big_endian(0x40 + header / 4, 1) + big_endian(0, 1) + big_endian(header + length, 2) +
            big_endian(0xFF00 + of.number % 256 + index, 2) + big_endian(0x4000, 2) +
            big_endian(64, 1) + big_endian(protocol, 1) + big_endian(0, 2) + from_ipv4 + to_ipv4;
        if (of.ip_options) {
            internet += big_endian(0x01010100, 4);
        }
        if (filled != checksums::transport) {
            internet.replace(10, 2, big_endian(checksum(internet), 2));
        }
    }
    const std::string addresses = big_endian(0x020000000002, 6) + big_endian(0x020000000001, 6);
    return addresses + of.tag + big_endian(of.v6 ? 0x86DD : 0x0800, 2) + internet + transport;
}

/// The list, as it grows.
class list {
public:
    /// A frame of bytes that follow from its number; 60 bytes at the least.
    void plain(std::size_t number, std::size_t length, const std::string& tag = "") {
        std::string bytes = bytes_of(number, length);
        bytes.resize(std::max<std::size_t>(length, 60), '\0');
        bytes.insert(std::min<std::size_t>(12, bytes.size()), tag);
        add(number, std::move(bytes));
    }
    void whole(const packet& of, checksums filled = checksums::all) {
        std::string frame = segment(of, 0, of.payload, 0, true, filled);
        frame.resize(std::max<std::size_t>(frame.size(), 60), '\0');
        add(of.number, std::move(frame));
    }
    void segments(const packet& of, std::size_t segment_size) {
        std::size_t index = 0;
        const auto add_segment = [&](std::size_t from, std::size_t size) {
            add(of.number, segment(of, from, size, index, from + size == of.payload, checksums::all,
                                   bochs_adds_to_ipv6_payload_length));
            ++index;
        };
        for (std::size_t from = 0; from < of.payload; from += segment_size) {
            add_segment(from, std::min(segment_size, of.payload - from));
        }
        if (of.payload % segment_size ==
            0) { // Bochs sends the headers once more; no hardware would
            add_segment(of.payload, 0);
        }
    }

    std::vector<meant_frame> take() && { return std::move(all_); }

private:
    void add(std::size_t number, std::string bytes) {
        all_.push_back({"number " + std::to_string(number), std::move(bytes)});
    }

    std::vector<meant_frame> all_;
};

std::size_t piece_length(unsigned shape, std::size_t n, std::size_t k) {
    if (shape == 0) {
        return 1;
    }
    return shape == 1 ? 1 + (13 * k * k + n) % 90 : 200 + (100 * k) % 700;
}

void frames_without_headers(list& all) {
    for (std::size_t length = 1; length <= 1514; ++length) {
        all.plain(length, length);
    }
    for (unsigned shape = 0; shape < 3; ++shape) {
        for (std::size_t n = 1; n <= 16; ++n) {
            std::size_t length = 0;
            for (std::size_t k = 0; k < n; ++k) {
                length += piece_length(shape, n, k);
            }
            all.plain(2000 + 16 * shape + n, length);
        }
    }
    const auto length_of = [](std::size_t j) { return 60 + (37 * j) % 400; };
    for (const std::size_t first : {3000, 4000, 5000}) {
        for (std::size_t j = 0; j < 600; ++j) {
            all.plain(first + j, length_of(j));
        }
    }
    for (std::size_t j = 0; j < 200; ++j) {
        all.plain(6000 + j, length_of(j));
    }
    for (std::size_t number = 7000; number <= 7008; ++number) {
        all.plain(number, 100);
    }
    std::size_t number = 8000;
    for (const std::size_t length : {1515, 2048, 4096, 9018, 16'288}) {
        all.plain(number++, length);
        all.plain(number++, length);
    }
}

void packets_with_checksums(list& all) {
    std::size_t number = 9000;
    for (const bool v6 : {false, true}) {
        for (const bool udp : {false, true}) {
            for (const std::size_t payload : {0, 1, 10, 1000, 1001}) {
                all.whole({.number = number++, .v6 = v6, .udp = udp, .payload = payload});
            }
        }
    }
    all.whole({.number = 9050, .payload = 77}, checksums::ip);
    all.whole({.number = 9051, .payload = 78, .ip_options = true}, checksums::ip);
    all.whole({.number = 9052, .payload = 79}, checksums::transport);
    all.whole({.number = 9053, .payload = 80, .tcp_options = true});
}

void segmented_packets(list& all) {
    const std::pair<std::size_t, std::size_t> payloads_and_segments[] = {
        {1, 536},       {100, 88},       {200, 17},       {4387, 1460}, {20'000, 1448},
        {60'000, 8948}, {200'000, 1460}, {900'001, 1460}, {1500, 500}};
    std::size_t number = 10'000;
    for (const bool v6 : {false, true}) {
        for (const auto& [payload, segment_size] : payloads_and_segments) {
            all.segments({.number = number,
                          .v6 = v6,
                          .payload = payload,
                          .ip_options = number % 3 == 0 && !v6,
                          .tcp_options = number % 5 < 3},
                         segment_size);
            all.whole({.number = number + 100, .v6 = v6, .payload = 99});
            ++number;
        }
        all.segments({.number = number++, .v6 = v6, .udp = true, .payload = 1000}, 300);
    }
}

void tagged_packets(list& all) {
    const std::string tag = big_endian(0x8100, 2) + big_endian(0xA123, 2); // priority 5, VLAN 0x123
    all.plain(11'000, 300, tag);
    all.plain(11'001, 301);
    all.segments({.number = 11'002, .payload = 3000, .tag = tag}, 1460);
    all.plain(11'003, 302);
}

} // namespace

std::vector<meant_frame> meant_frames() {
    list all;
    frames_without_headers(all);
    packets_with_checksums(all);
    segmented_packets(all);
    tagged_packets(all);
    return std::move(all).take();
}

} // namespace runner
