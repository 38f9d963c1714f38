// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// The registers of the 82574L/82583V that transmission on queue 0 needs [82574]. The 8254x family
/// has the same ones at the same offsets, apart from what is marked. Names, bits and offsets are the
/// datasheet's. Reserved bits are not named, so that a read-modify-write keeps them.
namespace pt::e1000e {

/// Device Control.
struct ctrl : reg<ctrl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0000;
    static constexpr bits<0, 0, bool> fd{}; ///< full duplex
    /// No new DMA requests; reserved on 8254x.
    static constexpr bits<2, 2, bool> gio_master_disable{};
    static constexpr bits<5, 5, bool> asde{};          ///< auto-speed detection
    static constexpr bits<6, 6, bool> slu{};           ///< set link up
    static constexpr bits<9, 8, std::uint8_t> speed{}; ///< 0: 10, 1: 100, 2: 1000 Mb/s
    static constexpr bits<11, 11, bool> frcspd{};      ///< force speed
    static constexpr bits<12, 12, bool> frcdplx{};     ///< force duplex
    static constexpr bits<26, 26, bool> rst{};         ///< device reset; clears itself
    static constexpr bits<27, 27, bool> rfce{};        ///< receive flow control
    static constexpr bits<28, 28, bool> tfce{};        ///< transmit flow control
    static constexpr bits<30, 30, bool> vme{};         ///< VLAN mode: VLE in a descriptor counts
    static constexpr bits<31, 31, bool> phy_rst{};     ///< PHY reset
    static constexpr field_list fields{
        fd, gio_master_disable, asde, slu, speed, frcspd, frcdplx, rst, rfce, tfce, vme, phy_rst};
};

/// Device Status. Read-only; bit 31 is never set, so all ones mean that there is no device.
struct status : reg<status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0008;
    static constexpr bits<0, 0, bool, access::read_only> fd{};    ///< full duplex
    static constexpr bits<1, 1, bool, access::read_only> lu{};    ///< link up
    static constexpr bits<4, 4, bool, access::read_only> txoff{}; ///< paused by flow control
    static constexpr bits<7, 6, std::uint8_t, access::read_only> speed{}; ///< as in CTRL; 3 is 1000
    static constexpr bits<9, 8, std::uint8_t, access::read_only> asdv{};  ///< auto-detected speed
    /// Clear when, after CTRL.GIO_MASTER_DISABLE, no DMA request is left; reserved on 8254x.
    static constexpr bits<19, 19, bool, access::read_only> gio_master_enable{};
    static constexpr field_list fields{fd, lu, txoff, speed, asdv, gio_master_enable};
};

/// The interrupt causes, at the same bits in ICR, ICS, IMS and IMC.
template <class Register, access Kind>
struct interrupt_causes : reg<Register, std::uint32_t> {
    using reg<Register, std::uint32_t>::reg;
    template <unsigned Bit>
    using cause = field<Register, std::uint32_t, Bit, Bit, bool, Kind>;

    static constexpr cause<0> txdw{};          ///< transmit descriptor written back
    static constexpr cause<1> txqe{};          ///< transmit queue empty
    static constexpr cause<2> lsc{};           ///< link status change
    static constexpr cause<4> rxdmt0{};        ///< receive descriptor minimum threshold
    static constexpr cause<6> rxo{};           ///< receiver overrun
    static constexpr cause<7> rxt0{};          ///< receiver timer
    static constexpr cause<9> mdac{};          ///< MDIO access complete
    static constexpr cause<15> txd_low{};      ///< transmit descriptor low threshold
    static constexpr cause<16> srpd{};         ///< small receive packet
    static constexpr cause<17> ack{};          ///< receive ACK frame
    static constexpr cause<18> mng{};          ///< manageability event
    static constexpr cause<20> rxq0{};         ///< receive queue 0 (MSI-X); 20 to 24: not on 8254x
    static constexpr cause<21> rxq1{};         ///< receive queue 1
    static constexpr cause<22> txq0{};         ///< transmit queue 0
    static constexpr cause<23> txq1{};         ///< transmit queue 1
    static constexpr cause<24> other{};        ///< any of the causes without a vector of their own
    static constexpr cause<31> int_asserted{}; ///< the interrupt is asserted; only ICR has it
    static constexpr field_list fields{txdw, txqe,    lsc,  rxdmt0, rxo,         rxt0,
                                       mdac, txd_low, srpd, ack,    mng,         rxq0,
                                       rxq1, txq0,    txq1, other,  int_asserted};
};

/// Interrupt Cause Read. Writing 1 clears a cause; so does reading, under conditions that differ in
/// the family [82574].
struct icr : interrupt_causes<icr, access::write_1_to_clear> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00C0;
};

/// Interrupt Throttling: the least time between two interrupts.
struct itr : reg<itr, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00C4;
    static constexpr bits<15, 0, std::uint16_t> interval{}; ///< units of 256 ns; 0: no throttling
    static constexpr field_list fields{interval};
};

/// Interrupt Cause Set: writing 1 raises a cause; 0 does nothing. Write-only.
struct ics : interrupt_causes<ics, access::read_write> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00C8;
};

/// Interrupt Mask Set/Read: writing 1 enables a cause, 0 does nothing; it reads as the mask.
struct ims : interrupt_causes<ims, access::read_write> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00D0;
};

/// Interrupt Mask Clear: writing 1 disables a cause; 0 does nothing. Write-only.
struct imc : interrupt_causes<imc, access::read_write> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00D8;
};

/// Transmit Control. Bit 31 is never set, so all ones mean that there is no device.
struct tctl : reg<tctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0400;
    static constexpr bits<1, 1, bool> en{};                ///< transmit enable
    static constexpr bits<3, 3, bool> psp{};               ///< pad short packets to 64 bytes
    static constexpr bits<11, 4, std::uint8_t> ct{};       ///< collision threshold
    static constexpr bits<21, 12, std::uint16_t> cold{};   ///< collision distance, byte times
    static constexpr bits<22, 22, bool> swxoff{};          ///< send a PAUSE frame; clears itself
    static constexpr bits<23, 23, bool> pbe{};             ///< packet burst
    static constexpr bits<24, 24, bool> rtlc{};            ///< retransmit on late collision
    static constexpr bits<25, 25, bool> unortx{};          ///< underrun: no retransmission
    static constexpr bits<27, 26, std::uint8_t> txdscmt{}; ///< descriptor minimum threshold
    static constexpr bits<28, 28, bool> mulr{};            ///< many DMA reads at once; not on 8254x
    static constexpr bits<30, 29, std::uint8_t> rrthresh{}; ///< read request threshold; as MULR
    static constexpr field_list fields{en,   psp,    ct,      cold, swxoff,  pbe,
                                       rtlc, unortx, txdscmt, mulr, rrthresh};
};

/// Transmit Inter-Packet Gap, in MAC clocks.
struct tipg : reg<tipg, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0410;
    static constexpr bits<9, 0, std::uint16_t> ipgt{};    ///< back to back
    static constexpr bits<19, 10, std::uint16_t> ipgr1{}; ///< part 1, half duplex
    static constexpr bits<29, 20, std::uint16_t> ipgr2{}; ///< after deferral, half duplex
    static constexpr field_list fields{ipgt, ipgr1, ipgr2};
};

/// Transmit Descriptor Base Address, low half. The hardware ignores bits 3:0.
struct tdbal : reg<tdbal, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3800;
    static constexpr bits<3, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<31, 4, std::uint32_t> base_31_4{}; ///< address bits 31:4
    static constexpr field_list fields{zero, base_31_4};
};

/// Transmit Descriptor Base Address, high half.
struct tdbah : reg<tdbah, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3804;
    static constexpr bits<31, 0, std::uint32_t> base_63_32{}; ///< address bits 63:32
    static constexpr field_list fields{base_63_32};
};

/// Transmit Descriptor Length: bytes of the ring, a multiple of 128, that is of 8 descriptors.
struct tdlen : reg<tdlen, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3808;
    static constexpr bits<6, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<19, 7, std::uint16_t> len{}; ///< units of 128 bytes
    static constexpr field_list fields{zero, len};
};

/// Transmit Descriptor Head: the index of the descriptor that the hardware works on. Software writes
/// it only while TCTL.EN is clear, and does not learn from it which buffers are free.
struct tdh : reg<tdh, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3810;
    static constexpr bits<15, 0, std::uint16_t> head{};
    static constexpr field_list fields{head};
};

/// Transmit Descriptor Tail: the index one past the last descriptor that the hardware may process.
/// Equal to the head it means: nothing to do.
struct tdt : reg<tdt, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3818;
    static constexpr bits<15, 0, std::uint16_t> tail{};
    static constexpr field_list fields{tail};
};

/// Transmit Descriptor Control of queue 0: when descriptors are fetched and written back.
struct txdctl : reg<txdctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3828;
    static constexpr bits<5, 0, std::uint8_t> pthresh{};    ///< prefetch threshold
    static constexpr bits<13, 8, std::uint8_t> hthresh{};   ///< host threshold
    static constexpr bits<21, 16, std::uint8_t> wthresh{};  ///< write-back threshold; 0: at once
    static constexpr bits<24, 24, bool> gran{};             ///< units: 0 cache lines, 1 descriptors
    static constexpr bits<31, 25, std::uint8_t> lwthresh{}; ///< low threshold, units of 8
    static constexpr field_list fields{pthresh, hthresh, wthresh, gran, lwthresh};
};

} // namespace pt::e1000e
