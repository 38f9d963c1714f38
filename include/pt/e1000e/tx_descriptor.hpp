// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

namespace pt::e1000e {

/// Bytes of one transmit descriptor of any format.
inline constexpr std::uint32_t tx_descriptor_size = 16;

/// Most bytes that one legacy descriptor may name [82574].
inline constexpr std::uint32_t largest_legacy_length = 16288;

/// The first quadword of a legacy transmit descriptor: where the data is. Descriptors with address 0
/// transfer no data.
struct legacy_tx_address : reg<legacy_tx_address, std::uint64_t> {
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

/// A legacy transmit descriptor as it lies in the ring.
struct legacy_tx_descriptor {
    legacy_tx_address address;
    legacy_tx_command command;

    friend constexpr bool operator==(const legacy_tx_descriptor&,
                                     const legacy_tx_descriptor&) = default;
};
static_assert(sizeof(legacy_tx_descriptor) == tx_descriptor_size);

} // namespace pt::e1000e
