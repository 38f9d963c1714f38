// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// The Internet checksum [rfc1071]: a sum of 16-bit words in ones' complement, over bytes that are
/// added piece by piece in the order of the packet. A piece may end anywhere, also in the middle of
/// a word. Words are numbers whose high byte comes first in the packet.
class internet_checksum {
public:
    constexpr internet_checksum() = default;

    /// Goes on with `count` bytes.
    constexpr internet_checksum& add(const std::uint8_t* bytes, std::size_t count) {
        // The order of the bytes in a word does not matter to the sum [rfc1071], so whole
        // little-endian dwords are added, and the bytes of the result swapped.
        std::uint64_t sum = 0;
        std::size_t at = 0;
        for (; count - at >= 16; at += 16) { // one addition waits for the one before
            sum += (dword(bytes + at) + dword(bytes + at + 4)) +
                   (dword(bytes + at + 8) + dword(bytes + at + 12));
        }
        for (; at != count; ++at) {
            sum += static_cast<std::uint64_t>(bytes[at]) << (at % 2 == 0 ? 0U : 8U);
        }
        append(swapped(folded(sum)));
        odd_ = odd_ != (count % 2 != 0);
        return *this;
    }

    /// Goes on with two bytes, the high one first.
    constexpr internet_checksum& add(std::uint16_t word) {
        append(word);
        return *this;
    }

    /// The sum of what was added: what software leaves in the checksum field of a packet that the
    /// hardware completes. 0xFFFF where a packet holds its right checksum.
    [[nodiscard]] constexpr std::uint16_t sum() const { return folded(sum_); }

    /// The complement of the sum: what belongs in the checksum field.
    [[nodiscard]] constexpr std::uint16_t checksum() const {
        return static_cast<std::uint16_t>(~sum());
    }

private:
    static constexpr std::uint64_t dword(const std::uint8_t* bytes) {
        return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8 |
               static_cast<std::uint32_t>(bytes[2]) << 16 |
               static_cast<std::uint32_t>(bytes[3]) << 24;
    }
    static constexpr std::uint16_t folded(std::uint64_t sum) {
        while ((sum >> 16) != 0) {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        return static_cast<std::uint16_t>(sum);
    }
    static constexpr std::uint16_t swapped(std::uint16_t word) {
        return static_cast<std::uint16_t>(word << 8 | word >> 8);
    }
    constexpr void append(std::uint16_t word) { sum_ += odd_ ? swapped(word) : word; }

    std::uint64_t sum_ = 0;
    bool odd_ = false; // an odd number of bytes came before
};

/// The pseudo header that TCP and UDP over IPv4 sum up before their own bytes [rfc793] [rfc768].
/// `ip_header` is an IPv4 header of at least 20 bytes, `length` the bytes of the transport header
/// and its data; 0 where the hardware segments the packet and adds the lengths itself [82574].
[[nodiscard]] constexpr internet_checksum ipv4_pseudo_header(const std::uint8_t* ip_header,
                                                             std::uint16_t length) {
    return internet_checksum{}
        .add(ip_header + 12, 8) // source and destination address
        .add(ip_header[9])      // protocol
        .add(length);
}

/// The pseudo header of IPv6 [rfc8200]. `ip_header` is an IPv6 header of 40 bytes. `next_header` is
/// that of the transport, which is not the header's own where extension headers lie between; behind
/// a routing header the caller sums up the final destination himself. `length` as above.
[[nodiscard]] constexpr internet_checksum
ipv6_pseudo_header(const std::uint8_t* ip_header, std::uint8_t next_header, std::uint32_t length) {
    return internet_checksum{}
        .add(ip_header + 8, 32) // source and destination address
        .add(static_cast<std::uint16_t>(length >> 16))
        .add(static_cast<std::uint16_t>(length & 0xFFFF))
        .add(next_header);
}

} // namespace pt::e1000e
