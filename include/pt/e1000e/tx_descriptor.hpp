// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

namespace pt::e1000e {

/// Bytes of one transmit descriptor of any format.
inline constexpr std::uint32_t tx_descriptor_size = 16;

/// Most bytes that one legacy descriptor may name, and a packet of several [82574].
inline constexpr std::uint32_t largest_legacy_length = 16288;

/// A transmit descriptor of any format as it lies in the ring: two little-endian quadwords.
/// kind_of() says which of the words below they are.
struct tx_descriptor {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    friend constexpr bool operator==(const tx_descriptor&, const tx_descriptor&) = default;
};
static_assert(sizeof(tx_descriptor) == tx_descriptor_size);

/// The descriptor whose tx_descriptor_size bytes begin at `bytes`, as they lie in memory.
[[nodiscard]] constexpr tx_descriptor tx_descriptor_of(const std::uint8_t* bytes) {
    tx_descriptor descriptor;
    for (unsigned at = 0; at != 8; ++at) {
        descriptor.low |= static_cast<std::uint64_t>(bytes[at]) << (8 * at);
        descriptor.high |= static_cast<std::uint64_t>(bytes[at + 8]) << (8 * at);
    }
    return descriptor;
}

/// The first quadword of legacy and data descriptors: where the data is. Descriptors with address 0
/// transfer no data.
struct tx_buffer_address : reg<tx_buffer_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0; ///< in the descriptor
    static constexpr bits<63, 0, iova> buffer_address{};
    static constexpr field_list fields{buffer_address};
};

/// The second quadword of a legacy transmit descriptor: how much data, what to do with it, and what
/// became of it. VLE, IFCS, IC, CSO and the VLAN tag count only in a descriptor with EOP; CSS counts
/// in the first one. The hardware writes STA back where RS was set.
struct legacy_tx_command : reg<legacy_tx_command, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8;            ///< in the descriptor
    static constexpr bits<15, 0, std::uint16_t> length{}; ///< bytes, at most largest_legacy_length
    static constexpr bits<23, 16, std::uint8_t> cso{}; ///< checksum offset, bytes into the packet
    // CMD
    static constexpr bits<24, 24, bool> eop{};  ///< end of packet
    static constexpr bits<25, 25, bool> ifcs{}; ///< insert FCS
    static constexpr bits<26, 26, bool> ic{};   ///< insert checksum
    static constexpr bits<27, 27, bool> rs{};   ///< report status: write DD back
    static constexpr bits<28, 28, bool> rps{};  ///< report packet sent: only 82544, else reserved
    static constexpr bits<29, 29, bool> dext{}; ///< extended format; clear in a legacy descriptor
    static constexpr bits<30, 30, bool> vle{};  ///< insert the VLAN tag (with CTRL.VME)
    static constexpr bits<31, 31, bool> ide{};  ///< delay the interrupt by TIDV
    // STA
    static constexpr bits<32, 32, bool> dd{}; ///< descriptor done
    static constexpr bits<33, 33, bool> ec{}; ///< excess collisions
    static constexpr bits<34, 34, bool> lc{}; ///< late collision
    static constexpr bits<35, 35, bool> tu{}; ///< transmit underrun: only 82544, else reserved

    static constexpr bits<36, 36, bool> ts{};            ///< take a time stamp; not on 8254x
    static constexpr bits<47, 40, std::uint8_t> css{};   ///< checksum start, bytes into the packet
    static constexpr bits<59, 48, std::uint16_t> vlan{}; ///< VLAN tag: identifier
    static constexpr bits<60, 60, bool> cfi{};           ///< VLAN tag: canonical form indicator
    static constexpr bits<63, 61, std::uint8_t> pri{};   ///< VLAN tag: priority
    static constexpr field_list fields{length, cso, eop, ifcs, ic, rs,  rps,  dext, vle, ide,
                                       dd,     ec,  lc,  tu,   ts, css, vlan, cfi,  pri};
};

/// What DTYP says of an extended descriptor (DEXT set).
enum class tx_descriptor_type : std::uint8_t { context = 0, data = 1 }; // all others are reserved

/// The second quadword of a data descriptor (DEXT set, DTYP 1). POPTS counts in the first data
/// descriptor of a packet; VLE, IFCS and the VLAN tag in the last one, or with TSE in the first.
struct data_tx_command : reg<data_tx_command, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8;            ///< in the descriptor
    static constexpr bits<19, 0, std::uint32_t> dtalen{}; ///< bytes; as `length` without TSE
    static constexpr bits<23, 20, tx_descriptor_type> dtyp{};
    // DCMD
    static constexpr bits<24, 24, bool> eop{};  ///< end of packet
    static constexpr bits<25, 25, bool> ifcs{}; ///< insert FCS
    static constexpr bits<26, 26, bool> tse{};  ///< TCP segmentation enable
    static constexpr bits<27, 27, bool> rs{};   ///< report status: write DD back
    static constexpr bits<28, 28, bool> rps{};  ///< report packet sent: only 82544, else reserved
    static constexpr bits<29, 29, bool> dext{}; ///< extended format; set in a data descriptor
    static constexpr bits<30, 30, bool> vle{};  ///< insert the VLAN tag (with CTRL.VME)
    static constexpr bits<31, 31, bool> ide{};  ///< delay the interrupt by TIDV
    // STA
    static constexpr bits<32, 32, bool> dd{}; ///< descriptor done
    static constexpr bits<33, 33, bool> ec{}; ///< excess collisions
    static constexpr bits<34, 34, bool> lc{}; ///< late collision
    static constexpr bits<35, 35, bool> tu{}; ///< transmit underrun: only 82544, else reserved

    static constexpr bits<36, 36, bool> ts{}; ///< take a time stamp; not on 8254x
    // POPTS
    static constexpr bits<40, 40, bool> ixsm{};          ///< insert the IP checksum
    static constexpr bits<41, 41, bool> txsm{};          ///< insert the TCP or UDP checksum
    static constexpr bits<59, 48, std::uint16_t> vlan{}; ///< VLAN tag: identifier
    static constexpr bits<60, 60, bool> cfi{};           ///< VLAN tag: canonical form indicator
    static constexpr bits<63, 61, std::uint8_t> pri{};   ///< VLAN tag: priority
    static constexpr field_list fields{dtalen, dtyp, eop, ifcs, tse, rs,   rps,  dext, vle, ide,
                                       dd,     ec,   lc,  tu,   ts,  ixsm, txsm, vlan, cfi, pri};
};

/// The first quadword of a context descriptor: where checksums are computed and put, in bytes from the
/// packet's start. The ends are inclusive; 0 is the end of the packet.
struct context_tx_offsets : reg<context_tx_offsets, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0;            ///< in the descriptor
    static constexpr bits<7, 0, std::uint8_t> ipcss{};    ///< IP checksum: start
    static constexpr bits<15, 8, std::uint8_t> ipcso{};   ///< IP checksum: where it is put
    static constexpr bits<31, 16, std::uint16_t> ipcse{}; ///< IP checksum: last byte
    static constexpr bits<39, 32, std::uint8_t> tucss{};  ///< TCP/UDP checksum: start
    static constexpr bits<47, 40, std::uint8_t> tucso{};  ///< TCP/UDP checksum: where it is put
    static constexpr bits<63, 48, std::uint16_t> tucse{}; ///< TCP/UDP checksum: last byte
    static constexpr field_list fields{ipcss, ipcso, ipcse, tucss, tucso, tucse};
};

/// The second quadword of a context descriptor (DEXT set, DTYP 0). It has no buffer: it prepares the
/// hardware for the data descriptors that follow. PAYLEN, HDRLEN and MSS count with TSE.
struct context_tx_command : reg<context_tx_command, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8;            ///< in the descriptor
    static constexpr bits<19, 0, std::uint32_t> paylen{}; ///< bytes, without the headers
    static constexpr bits<23, 20, tx_descriptor_type> dtyp{};
    // TUCMD
    static constexpr bits<24, 24, bool> tcp{};  ///< 1: TCP, 0: UDP
    static constexpr bits<25, 25, bool> ip{};   ///< 1: IPv4, 0: IPv6
    static constexpr bits<26, 26, bool> tse{};  ///< TCP segmentation enable
    static constexpr bits<27, 27, bool> rs{};   ///< report status: write DD back
    static constexpr bits<29, 29, bool> dext{}; ///< extended format; set in a context descriptor
    static constexpr bits<30, 30, bool> snap{}; ///< 802.3 SNAP: the length field too; not on 8254x
    static constexpr bits<31, 31, bool> ide{};  ///< delay the interrupt by TIDV
    // STA
    static constexpr bits<32, 32, bool> dd{}; ///< descriptor done

    static constexpr bits<47, 40, std::uint8_t> hdrlen{}; ///< bytes of the prototype header
    static constexpr bits<63, 48, std::uint16_t> mss{};   ///< bytes of payload in each frame
    static constexpr field_list fields{paylen, dtyp, tcp, ip, tse,    rs,
                                       dext,   snap, ide, dd, hdrlen, mss};
};

enum class tx_descriptor_kind : std::uint8_t { legacy, context, data, reserved };

/// The format of a descriptor, whatever its bytes are.
[[nodiscard]] constexpr tx_descriptor_kind kind_of(const tx_descriptor& descriptor) {
    const data_tx_command command{descriptor.high};
    if (!command[data_tx_command::dext]) {
        return tx_descriptor_kind::legacy;
    }
    switch (command[data_tx_command::dtyp]) {
    case tx_descriptor_type::context: return tx_descriptor_kind::context;
    case tx_descriptor_type::data: return tx_descriptor_kind::data;
    }
    return tx_descriptor_kind::reserved;
}

} // namespace pt::e1000e
