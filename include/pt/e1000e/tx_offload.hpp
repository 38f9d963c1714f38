// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <cstdint>

namespace pt::e1000e {

/// Most bytes of headers that the NIC repeats in front of each segment: its buffer for them [82574].
inline constexpr std::uint32_t largest_header = 240;

/// A segment's payload is larger than this [82574].
inline constexpr std::uint32_t too_small_segment = 16;

enum class ip_version : std::uint8_t { v4, v6 };
enum class transport : std::uint8_t { tcp, udp };

/// Where a packet's headers are, in bytes from its start as it lies in memory, that is without a VLAN
/// tag that the NIC inserts. What lies between the two is the IP header with its options or
/// extensions.
struct header_layout {
    std::uint8_t ip = 14;           ///< the IP header: 14, or 18 behind a VLAN tag in memory
    std::uint8_t transport_at = 34; ///< the TCP or UDP header
    ip_version version = ip_version::v4;
    transport protocol = transport::tcp;

    friend constexpr bool operator==(const header_layout&, const header_layout&) = default;
};

/// What the NIC computes of a packet on its way out: nothing, checksums, or the segments of a packet
/// that is too large for the wire. Only combinations that the hardware defines can be made, e.g.
///
///     const auto wanted = tx_offload::checksums({.ip = 14, .transport_at = 34});
///
/// The packet's own checksum fields are the start value [82574]:
///   IPv4 header checksum   0
///   TCP or UDP checksum    the pseudo-header's sum, folded but not inverted: with the length of
///                          the TCP or UDP part for a checksum, without it for segmentation
/// and for segmentation the lengths in the headers are the hardware's to fill.
class tx_offload {
public:
    /// Nothing: the packet goes out as it is.
    constexpr tx_offload() = default;

    /// The IPv4 header checksum. not_supported: IPv6 has none. Errors of the layout are the same for
    /// all: out_of_range (ip) before the end of an Ethernet header; out_of_range (transport_at) if
    /// the IP header between the two cannot have that length, or a checksum would lie beyond byte 255.
    [[nodiscard]] static constexpr result<tx_offload> ip_checksum(header_layout headers) {
        if (headers.version == ip_version::v6) {
            return error{errc::not_supported, headers.ip};
        }
        return checked(headers, ixsm);
    }
    /// The TCP or UDP checksum.
    [[nodiscard]] static constexpr result<tx_offload> transport_checksum(header_layout headers) {
        return checked(headers, txsm);
    }
    /// All checksums that the packet has: IPv4 header, and TCP or UDP.
    [[nodiscard]] static constexpr result<tx_offload> checksums(header_layout headers) {
        return checked(headers, all_of(headers));
    }
    /// Segments of up to `segment_size` bytes of payload (MSS), each behind a copy of the first
    /// `header_length` bytes, with all checksums. out_of_range (header_length): it does not end behind
    /// a TCP or UDP header, or is longer than 240; out_of_range (segment_size): 16 or less.
    [[nodiscard]] static constexpr result<tx_offload>
    segmentation(header_layout headers, std::uint8_t header_length, std::uint16_t segment_size) {
        const result<tx_offload> sums = checksums(headers);
        if (!sums) {
            return sums;
        }
        const std::uint32_t own = std::uint32_t{header_length} - headers.transport_at;
        const bool fits = headers.protocol == transport::udp
                              ? own == udp_header
                              : own >= tcp_header && own <= 60 && own % 4 == 0;
        if (!fits || header_length > largest_header) { // `own` wraps where it would be negative
            return error{errc::out_of_range, header_length};
        }
        if (segment_size <= too_small_segment) {
            return error{errc::out_of_range, segment_size};
        }
        tx_offload all = *sums;
        using command = context_tx_command;
        all.command_ = all.command_.with(command::tse(true), command::hdrlen(header_length),
                                         command::mss(segment_size));
        all.least_length_ = header_length + 1U;
        return all;
    }

    /// Whether there is anything to compute.
    [[nodiscard]] constexpr bool needed() const { return options_ != 0; }
    /// Whether one packet becomes several frames.
    [[nodiscard]] constexpr bool segments() const { return command_[context_tx_command::tse]; }
    /// The IP version, where anything is needed.
    [[nodiscard]] constexpr ip_version version() const {
        return command_[context_tx_command::ip] ? ip_version::v4 : ip_version::v6;
    }
    /// HDRLEN; 0 unless it segments.
    [[nodiscard]] constexpr std::uint8_t header_length() const {
        return command_[context_tx_command::hdrlen];
    }
    /// MSS; 0 unless it segments.
    [[nodiscard]] constexpr std::uint16_t segment_size() const {
        return command_[context_tx_command::mss];
    }
    /// Bytes that a packet has at the least: all of the headers that are computed in.
    [[nodiscard]] constexpr std::uint32_t least_length() const { return least_length_; }

    /// The context descriptor. `payload` is the packet's length without the headers, below 2^20, where
    /// it segments, and does not count otherwise.
    [[nodiscard]] constexpr tx_descriptor context(std::uint32_t payload = 0) const {
        if (!segments()) {
            return {offsets_.raw, command_.raw};
        }
        return {offsets_.raw, command_.with(context_tx_command::paylen(payload)).raw};
    }
    /// What each data descriptor of the packet has: format, POPTS and TSE.
    [[nodiscard]] constexpr data_tx_command data() const {
        using command = data_tx_command;
        return command{command::dtyp(tx_descriptor_type::data), command::dext(true),
                       command::tse(segments()), command::ixsm((options_ & ixsm) != 0),
                       command::txsm((options_ & txsm) != 0)};
    }

    friend constexpr bool operator==(const tx_offload&, const tx_offload&) = default;

private:
    static constexpr std::uint8_t ixsm = 1;
    static constexpr std::uint8_t txsm = 2;
    static constexpr std::uint32_t tcp_header = 20;
    static constexpr std::uint32_t udp_header = 8;

    static constexpr std::uint8_t all_of(header_layout headers) {
        return headers.version == ip_version::v4 ? ixsm | txsm : txsm;
    }

    static constexpr result<tx_offload> checked(header_layout headers, std::uint8_t options) {
        constexpr std::uint32_t ethernet_header = 14;
        if (headers.ip < ethernet_header) {
            return error{errc::out_of_range, headers.ip};
        }
        const bool v4 = headers.version == ip_version::v4;
        const bool tcp = headers.protocol == transport::tcp;
        const std::uint32_t own = std::uint32_t{headers.transport_at} - headers.ip;
        const bool fits =
            v4 ? own >= 20 && own <= 60 && own % 4 == 0 : own >= 40 && own <= 255 && own % 8 == 0;
        const std::uint32_t checksum_at = headers.transport_at + (tcp ? 16U : 6U);
        if (!fits || checksum_at > 255) { // `own` wraps where it would be negative
            return error{errc::out_of_range, headers.transport_at};
        }

        using offsets = context_tx_offsets;
        using command = context_tx_command;
        tx_offload made;
        made.options_ = options;
        // The transport checksum reaches to the packet's end (TUCSE 0). IPv6 has no header
        // checksum, but segmentation finds the header by IPCSS.
        made.offsets_ = offsets{offsets::ipcss(headers.ip), offsets::tucss(headers.transport_at),
                                offsets::tucso(static_cast<std::uint8_t>(checksum_at))};
        if (v4) {
            made.offsets_ = made.offsets_.with(
                offsets::ipcso(static_cast<std::uint8_t>(headers.ip + 10)),
                offsets::ipcse(static_cast<std::uint16_t>(headers.transport_at - 1)));
        }
        made.command_ = command{command::dtyp(tx_descriptor_type::context), command::tcp(tcp),
                                command::ip(v4), command::dext(true)};
        made.least_length_ = (options & txsm) == 0
                                 ? headers.transport_at
                                 : headers.transport_at + (tcp ? tcp_header : udp_header);
        return made;
    }

    context_tx_offsets offsets_{};
    context_tx_command command_{};
    std::uint32_t least_length_ = 0;
    std::uint8_t options_ = 0;
};

} // namespace pt::e1000e
