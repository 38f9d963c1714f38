// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// Bytes of an Ethernet address.
inline constexpr std::uint32_t ethernet_address_size = 6;

/// The bit of MTA that stands for an address, 0 to 4,095: bit 4:0 of the number in dword 11:5. `mo`
/// is RCTL.MO, which chooses the twelve bits of the address: 0: 47:36, 1: 46:35, 2: 45:34,
/// 3: 43:32, where the last byte on the wire is 47:40 [82574]. Bits of `mo` above 1:0 do not count.
[[nodiscard]] constexpr std::uint32_t multicast_hash(const std::uint8_t* address, std::uint8_t mo) {
    constexpr std::uint8_t lowest_bit[] = {4, 3, 2, 0};
    const std::uint32_t last_two_bytes = address[4] | static_cast<std::uint32_t>(address[5]) << 8U;
    return (last_two_bytes >> lowest_bit[mo & 3U]) & 0xFFFU;
}

/// Why the destination of a packet is accepted, or that it is not.
enum class address_match : std::uint8_t {
    none,
    exact,       ///< RAL and RAH
    promiscuous, ///< RCTL.UPE or MPE
    broadcast,   ///< RCTL.BAM
    inexact,     ///< MTA alone: software must look at the address itself
};

/// The filter registers as a guest sees them, and what they let through [82574]: 16 exact addresses
/// (RAL, RAH), the multicast table MTA and the VLAN table VFTA, together 1,152 bytes. RCTL, which
/// says what of them counts, is with the queue. A VMM loads the station's address into RAL and RAH
/// of entry 0 after reset(), as the hardware does from its EEPROM.
class receive_filter {
    static constexpr std::uint32_t address_dwords = 2 * receive_addresses;

    [[nodiscard]] static constexpr bool index_in(std::uint32_t offset, std::uint32_t first,
                                                 std::uint32_t dwords) {
        return offset >= first && offset - first < 4 * dwords;
    }

    /// The dword behind an offset that is ours.
    template <class Self>
    [[nodiscard]] static constexpr auto* at(Self& self, std::uint32_t offset) {
        if (index_in(offset, vfta_offset, vfta_dwords)) {
            return &self.vlans_[(offset - vfta_offset) / 4];
        }
        if (index_in(offset, mta_offset, mta_dwords)) {
            return &self.multicast_[(offset - mta_offset) / 4];
        }
        return &self.addresses_[(offset - ral::offset) / 4];
    }

    [[nodiscard]] static constexpr std::uint64_t address_at(const std::uint8_t* bytes) {
        std::uint64_t address = 0;
        for (std::uint32_t i = 0; i != ethernet_address_size; ++i) {
            address |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
        }
        return address;
    }

    [[nodiscard]] static constexpr bool bit_of(const std::uint32_t* table, std::uint32_t number) {
        return ((table[number / 32] >> (number % 32)) & 1U) != 0;
    }

public:
    /// All tables empty. (The hardware leaves MTA and VFTA undefined.)
    constexpr void reset() { *this = receive_filter{}; }

    /// Whether the dword at `offset` of the register window is one of these registers.
    [[nodiscard]] static constexpr bool owns(std::uint32_t offset) {
        return offset % 4 == 0 && (index_in(offset, ral::offset, address_dwords) ||
                                   index_in(offset, mta_offset, mta_dwords) ||
                                   index_in(offset, vfta_offset, vfta_dwords));
    }

    /// The register at `offset`; 0 for one that is not ours.
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const {
        const std::uint32_t* const found = owns(offset) ? at(*this, offset) : nullptr;
        return found == nullptr ? 0 : *found;
    }

    /// Writes the register at `offset`; nothing for one that is not ours. Reserved bits stay 0.
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (!owns(offset)) {
            return;
        }
        const bool is_rah =
            index_in(offset, ral::offset, address_dwords) && offset % receive_address_stride != 0;
        *at(*this, offset) = is_rah ? rah{}.after_write(value).raw : value;
    }

    /// What lets the packet in, by its first twelve bytes (destination and source) and RCTL. An
    /// exact entry goes before all else, since it alone says that the packet is for this station.
    /// An entry whose ASEL is 1 is compared with the source; 2 and 3 are reserved, and match nothing.
    [[nodiscard]] constexpr address_match accepts(const std::uint8_t* packet, rctl control) const {
        const std::uint64_t destination = address_at(packet);
        const std::uint64_t source = address_at(packet + ethernet_address_size);
        for (std::uint32_t entry = 0; entry != receive_addresses; ++entry) {
            const rah high{addresses_[2 * entry + 1]};
            if (high[rah::av] && high[rah::asel] <= 1) {
                const std::uint64_t wanted = addresses_[std::size_t{2} * entry] |
                                             static_cast<std::uint64_t>(high[rah::bytes]) << 32U;
                if (wanted == (high[rah::asel] == 0 ? destination : source)) {
                    return address_match::exact;
                }
            }
        }
        const bool is_group = (packet[0] & 1U) != 0;
        if (!is_group) {
            return control[rctl::upe] ? address_match::promiscuous : address_match::none;
        }
        if (control[rctl::bam] && destination == 0xFFFF'FFFF'FFFF) {
            return address_match::broadcast;
        }
        if (control[rctl::mpe]) {
            return address_match::promiscuous;
        }
        const std::uint32_t hash = multicast_hash(packet, control[rctl::mo]);
        return bit_of(multicast_, hash) ? address_match::inexact : address_match::none;
    }

    /// Whether a packet with that tag gets in, apart from its addresses: with RCTL.VFE by VFTA, with
    /// RCTL.CFIEN by the tag's CFI.
    [[nodiscard]] constexpr bool accepts(vlan_tag tag, rctl control) const {
        if (control[rctl::cfien] && tag[vlan_tag::cfi] != control[rctl::cfi]) {
            return false;
        }
        return !control[rctl::vfe] || bit_of(vlans_, tag[vlan_tag::vlan]);
    }

private:
    std::uint32_t addresses_[address_dwords] = {}; ///< RAL and RAH in turn
    std::uint32_t multicast_[mta_dwords] = {};
    std::uint32_t vlans_[vfta_dwords] = {};
};

} // namespace pt::e1000e
