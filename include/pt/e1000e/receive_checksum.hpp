// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/registers.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// What a receiver finds out about the IP packet in a frame, for the descriptor's status [82574].
/// Nothing is true of a frame that holds none.
///
/// Recognised are Ethernet II and SNAP, with and without one VLAN tag; IPv4 with options; IPv6 with
/// hop-by-hop, destination and empty routing headers of up to 64 bytes each; TCP and UDP in them.
/// Not checked are the transport of a fragment, UDP over IPv4 without a checksum, and a packet whose
/// lengths do not fit each other or the frame. Nothing beyond the frame is read, whatever it holds.
struct receive_checksum {
    bool ip_checked = false;            ///< IPCS: it has an IPv4 header
    bool ip_wrong = false;              ///< IPE
    bool transport_checked = false;     ///< TCPCS
    bool transport_wrong = false;       ///< TCPE
    bool is_udp = false;                ///< UDPCS: what was checked is UDP
    bool is_fragment = false;           ///< IPIDV: a fragment of an IPv4 packet
    bool udp_begins = false;            ///< UDPV: a fragment with a UDP header that has a checksum
    bool acknowledges = false;          ///< ACK: what RFCTL takes for a TCP acknowledgement
    bool payload_summed = false;        ///< what RXCSUM.IPPCSE asks for: a fragment of a UDP packet
    std::uint16_t identification = 0;   ///< of a fragment
    std::uint16_t payload_checksum = 0; ///< complement of the sum of the IP payload, if summed

    /// Of the frame of `length` bytes (14 at least), as RXCSUM and RFCTL ask for it. IPOFL and TUOFL
    /// each enable one check, also without the other. `vlan_ether_type` is how a tag begins.
    [[nodiscard]] static constexpr receive_checksum of(const std::uint8_t* frame,
                                                       std::size_t length, rxcsum control,
                                                       rfctl filter,
                                                       std::uint16_t vlan_ether_type) {
        std::size_t type_at = 12;
        if (word(frame + type_at) == vlan_ether_type && length >= 18) {
            type_at = 16;
        }
        // A number up to 1500 is no type but a length, and LLC and SNAP follow [802.3].
        if (word(frame + type_at) <= 1500 && length >= type_at + 10 &&
            word(frame + type_at + 2) == 0xAAAA && word(frame + type_at + 4) == 0x0300 &&
            word(frame + type_at + 6) == 0x0000) {
            type_at += 8;
        }
        const std::uint8_t* const packet = frame + type_at + 2;
        const std::size_t size = length - type_at - 2;
        receive_checksum found;
        switch (word(frame + type_at)) {
        case 0x0800: found.look_at_ipv4(packet, size, control, filter); break;
        case 0x86DD:
            if (!filter[rfctl::ipv6_dis]) {
                found.look_at_ipv6(packet, size, control, filter);
            }
            break;
        default: break;
        }
        return found;
    }

    friend constexpr bool operator==(const receive_checksum&, const receive_checksum&) = default;

private:
    static constexpr std::uint8_t tcp = 6;
    static constexpr std::uint8_t udp = 17;
    static constexpr std::size_t smallest_tcp_header = 20;
    static constexpr std::size_t udp_header = 8;

    /// The two bytes there, the high one first.
    [[nodiscard]] static constexpr std::uint16_t word(const std::uint8_t* bytes) {
        return static_cast<std::uint16_t>(bytes[0] << 8U | bytes[1]);
    }

    constexpr void look_at_ipv4(const std::uint8_t* ip, std::size_t size, rxcsum control,
                                rfctl filter) {
        if (size < 20 || ip[0] >> 4U != 4) {
            return;
        }
        const std::size_t header = std::size_t{4} * (ip[0] & 0xFU);
        const std::size_t total = word(ip + 2);
        if (header < 20 || header > size || header > total) {
            return;
        }
        if (control[rxcsum::ipofl]) {
            ip_checked = true;
            ip_wrong = internet_checksum{}.add(ip, header).sum() != 0xFFFF;
        }
        if (total > size) {
            return;
        }
        const std::uint8_t* const payload = ip + header;
        const std::size_t payload_size = total - header;
        const std::uint8_t protocol = ip[9];
        const std::uint16_t fragment = word(ip + 6);
        if ((fragment & 0x3FFFU) == 0) { // neither more fragments nor an offset
            if (protocol == udp && payload_size >= udp_header && word(payload + 6) == 0) {
                return; // no checksum
            }
            return look_at_transport(
                protocol, payload, payload_size,
                ipv4_pseudo_header(ip, static_cast<std::uint16_t>(payload_size)), control, filter);
        }
        is_fragment = true;
        identification = word(ip + 4);
        if (protocol == udp) {
            udp_begins =
                (fragment & 0x1FFFU) == 0 && payload_size >= udp_header && word(payload + 6) != 0;
            // The manual wants PCSS 0 for it.
            if (control[rxcsum::ippcse] && control[rxcsum::pcss] == 0) {
                payload_summed = true;
                payload_checksum = internet_checksum{}.add(payload, payload_size).checksum();
            }
        }
    }

    constexpr void look_at_ipv6(const std::uint8_t* ip, std::size_t size, rxcsum control,
                                rfctl filter) {
        constexpr std::size_t header = 40;
        if (size < header || ip[0] >> 4U != 6) {
            return;
        }
        std::size_t left = word(ip + 4);
        if (left > size - header) {
            return;
        }
        const std::uint8_t* at = ip + header;
        std::uint8_t next = ip[6];
        while (next == 0x00 || next == 0x3C || next == 0x2B) {
            // Hop by hop, destination options, routing: next header, length in units of 8 bytes
            // beyond the first.
            if (left < 8) {
                return;
            }
            const std::size_t extension = 8U + 8U * at[1];
            // Behind a routing header with addresses the pseudo header has another destination.
            if (extension > left || extension > 64 || (next == 0x2B && extension != 8)) {
                return;
            }
            next = at[0];
            at += extension;
            left -= extension;
        }
        if (filter[rfctl::ipv6_xsum_dis]) {
            control = control.with(rxcsum::tuofl(false));
        }
        look_at_transport(next, at, left,
                          ipv6_pseudo_header(ip, next, static_cast<std::uint32_t>(left)), control,
                          filter);
    }

    /// `pseudo_header` with the length that IP says.
    constexpr void look_at_transport(std::uint8_t protocol, const std::uint8_t* at,
                                     std::size_t size, internet_checksum pseudo_header,
                                     rxcsum control, rfctl filter) {
        if (protocol == tcp) {
            if (size < smallest_tcp_header) {
                return;
            }
            const std::size_t header = std::size_t{4} * (at[12] >> 4U);
            if (header < smallest_tcp_header || header > size) {
                return;
            }
            const bool ack = (at[13] & 0x10U) != 0;
            acknowledges = ack && (!filter[rfctl::ackd_dis] || header == size);
        } else if (protocol != udp || size < udp_header || word(at + 4) != size) {
            return;
        }
        if (control[rxcsum::tuofl]) {
            transport_checked = true;
            is_udp = protocol == udp;
            transport_wrong = pseudo_header.add(at, size).sum() != 0xFFFF;
        }
    }
};

} // namespace pt::e1000e
