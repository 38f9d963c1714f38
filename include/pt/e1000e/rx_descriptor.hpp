// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

namespace pt::e1000e {

/// Bytes of one receive descriptor, legacy or extended.
inline constexpr std::uint32_t rx_descriptor_size = 16;

/// A receive descriptor of either format as it lies in the ring: two little-endian quadwords. Which
/// format it has is the receiver's setting (RFCTL.EXSTEN) and not the descriptor's.
struct rx_descriptor {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    friend constexpr bool operator==(const rx_descriptor&, const rx_descriptor&) = default;
};
static_assert(sizeof(rx_descriptor) == rx_descriptor_size);

/// The descriptor whose rx_descriptor_size bytes begin at `bytes`, as they lie in memory.
[[nodiscard]] constexpr rx_descriptor rx_descriptor_of(const std::uint8_t* bytes) {
    rx_descriptor descriptor;
    for (unsigned at = 0; at != 8; ++at) {
        descriptor.low |= static_cast<std::uint64_t>(bytes[at]) << (8 * at);
        descriptor.high |= static_cast<std::uint64_t>(bytes[at + 8]) << (8 * at);
    }
    return descriptor;
}

/// The first quadword, as software writes it in both formats: where the buffer is. The hardware
/// leaves it in a legacy descriptor, and overwrites it in an extended one. The second is written 0.
struct rx_buffer_address : reg<rx_buffer_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0; ///< in the descriptor
    static constexpr bits<63, 0, iova> buffer_address{};
    static constexpr field_list fields{buffer_address};
};

/// The second quadword of a legacy receive descriptor, as the hardware writes it back. Errors and all
/// of the status but DD and EOP count in the packet's last descriptor; the packet checksum is in
/// its first.
struct legacy_rx_status : reg<legacy_rx_status, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8; ///< in the descriptor
    template <unsigned High, unsigned Low, class T>
    using reported_bits = bits<High, Low, T, access::read_only>;

    static constexpr reported_bits<15, 0, std::uint16_t> length{}; ///< bytes in this buffer
    static constexpr reported_bits<31, 16, std::uint16_t>
        packet_checksum{}; ///< from RXCSUM.PCSS on
    // Status
    static constexpr reported_bits<32, 32, bool> dd{};    ///< descriptor done
    static constexpr reported_bits<33, 33, bool> eop{};   ///< end of packet
    static constexpr reported_bits<34, 34, bool> ixsm{};  ///< ignore the checksum results
    static constexpr reported_bits<35, 35, bool> vp{};    ///< the tag was taken out of the packet
    static constexpr reported_bits<36, 36, bool> udpcs{}; ///< UDP checksum checked; not on 8254x
    static constexpr reported_bits<37, 37, bool> tcpcs{}; ///< TCP (or UDP) checksum checked
    static constexpr reported_bits<38, 38, bool> ipcs{};  ///< IPv4 header checksum checked
    static constexpr reported_bits<39, 39, bool> pif{};   ///< passed an inexact filter
    // Errors
    static constexpr reported_bits<40, 40, bool> ce{};   ///< CRC or alignment
    static constexpr reported_bits<41, 41, bool> se{};   ///< symbol
    static constexpr reported_bits<42, 42, bool> seq{};  ///< sequence
    static constexpr reported_bits<44, 44, bool> cxe{};  ///< carrier extension
    static constexpr reported_bits<45, 45, bool> tcpe{}; ///< TCP or UDP checksum is wrong
    static constexpr reported_bits<46, 46, bool> ipe{};  ///< IPv4 header checksum is wrong
    static constexpr reported_bits<47, 47, bool> rxe{};  ///< data

    static constexpr reported_bits<63, 48, std::uint16_t> vlan{}; ///< the tag, with VP
    static constexpr field_list fields{length, packet_checksum,
                                       dd,     eop,
                                       ixsm,   vp,
                                       udpcs,  tcpcs,
                                       ipcs,   pif,
                                       ce,     se,
                                       seq,    cxe,
                                       tcpe,   ipe,
                                       rxe,    vlan};
};

/// The first quadword of an extended receive descriptor, as the hardware writes it back. Not on
/// 8254x.
struct extended_rx_hash : reg<extended_rx_hash, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0; ///< in the descriptor
    template <unsigned High, unsigned Low, class T>
    using reported_bits = bits<High, Low, T, access::read_only>;

    // MRQ
    static constexpr reported_bits<3, 0, std::uint8_t> rss_type{};
    static constexpr reported_bits<12, 8, std::uint8_t> queue{};
    // Without RXCSUM.PCSD; with it bits 63:32 are the RSS hash.
    static constexpr reported_bits<47, 32, std::uint16_t> ip_identification{};
    static constexpr reported_bits<63, 48, std::uint16_t> packet_checksum{};
    static constexpr field_list fields{rss_type, queue, ip_identification, packet_checksum};
};

/// The second quadword of an extended receive descriptor, as the hardware writes it back.
struct extended_rx_status : reg<extended_rx_status, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8; ///< in the descriptor
    template <unsigned High, unsigned Low, class T>
    using reported_bits = bits<High, Low, T, access::read_only>;

    // Extended status
    static constexpr reported_bits<0, 0, bool> dd{};     ///< descriptor done
    static constexpr reported_bits<1, 1, bool> eop{};    ///< end of packet
    static constexpr reported_bits<2, 2, bool> ixsm{};   ///< ignore the checksum results
    static constexpr reported_bits<3, 3, bool> vp{};     ///< the tag was taken out of the packet
    static constexpr reported_bits<4, 4, bool> udpcs{};  ///< UDP checksum checked
    static constexpr reported_bits<5, 5, bool> tcpcs{};  ///< TCP (or UDP) checksum checked
    static constexpr reported_bits<6, 6, bool> ipcs{};   ///< IPv4 header checksum checked
    static constexpr reported_bits<7, 7, bool> pif{};    ///< passed an inexact filter
    static constexpr reported_bits<9, 9, bool> ipidv{};  ///< the IP identification is valid
    static constexpr reported_bits<10, 10, bool> udpv{}; ///< a UDP packet with a checksum
    static constexpr reported_bits<15, 15, bool> ack{};  ///< a TCP ACK
    // Extended errors
    static constexpr reported_bits<24, 24, bool> ce{};   ///< CRC or alignment
    static constexpr reported_bits<25, 25, bool> se{};   ///< symbol
    static constexpr reported_bits<26, 26, bool> seq{};  ///< sequence
    static constexpr reported_bits<28, 28, bool> cxe{};  ///< carrier extension
    static constexpr reported_bits<29, 29, bool> tcpe{}; ///< TCP or UDP checksum is wrong
    static constexpr reported_bits<30, 30, bool> ipe{};  ///< IPv4 header checksum is wrong
    static constexpr reported_bits<31, 31, bool> rxe{};  ///< data

    static constexpr reported_bits<47, 32, std::uint16_t> length{}; ///< bytes in this buffer
    static constexpr reported_bits<63, 48, std::uint16_t> vlan{};   ///< the tag, with VP
    static constexpr field_list fields{dd,  eop, ixsm, vp,  udpcs, tcpcs, ipcs, pif, ipidv,  udpv,
                                       ack, ce,  se,   seq, cxe,   tcpe,  ipe,  rxe, length, vlan};
};

} // namespace pt::e1000e
