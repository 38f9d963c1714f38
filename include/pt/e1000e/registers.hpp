// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"

#include <concepts>
#include <cstdint>

/// The registers of the 82574L/82583V that transmission and reception need [82574]. The 8254x family
/// has the same ones at the same offsets, apart from what is marked. Names, bits and offsets are the
/// datasheet's. Reserved bits are not named, so that a read-modify-write keeps them.
///
/// Registers that each of the two queues has for itself have a `queue_stride`; their `offset` is
/// that of queue 0. The 8254x family has one queue.
namespace pt::e1000e {

/// The PCI Express members (82571 to 82583), or the conventional ones before them (8254x).
enum class family : std::uint8_t { pci_express, pci };

/// A transmit or receive queue of the 82574: 0 or 1.
enum class queue : std::uint8_t { first, second };

/// A register that each queue has for itself.
template <class R>
concept queue_register = mmio_register<R> && requires {
    { R::queue_stride } -> std::convertible_to<std::uint32_t>;
};

/// Where the register of that queue is, in bytes.
template <queue_register R>
[[nodiscard]] constexpr std::uint32_t offset_of(queue number) {
    return R::offset + (number == queue::second ? R::queue_stride : 0);
}

using pt::read;
using pt::write;

/// Reads and writes the register of that queue, with one access.
template <queue_register R, mmio_io Mmio>
[[nodiscard]] constexpr R read(Mmio& mmio, queue number) {
    return R{mmio.read32(offset_of<R>(number))};
}
template <queue_register R, mmio_io Mmio>
constexpr void write(Mmio& mmio, queue number, R value) {
    mmio.write32(offset_of<R>(number), value.raw);
}

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

/// Extended Device Control.
struct ctrl_ext : reg<ctrl_ext, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0018;
    static constexpr bits<12, 12, bool> asdchk{};   ///< auto-speed detection check
    static constexpr bits<13, 13, bool> ee_rst{};   ///< EEPROM reset
    static constexpr bits<15, 15, bool> spd_byps{}; ///< speed select bypass
    static constexpr bits<17, 17, bool> ro_dis{};   ///< relaxed ordering disable
    static constexpr bits<24, 24, bool> eiame{};    ///< MSI-X: EIAC also masks; not on 8254x
    static constexpr bits<27, 27, bool> iame{};     ///< IAM masks when ICR is read; not on 8254x
    static constexpr bits<28, 28, bool> drv_load{}; ///< a driver is loaded
    /// Interrupts clear the delay timers; not on 8254x.
    static constexpr bits<29, 29, bool> int_timers_clear_ena{};
    static constexpr bits<31, 31, bool> pba_support{}; ///< MSI-X pending bits as in [pci]
    static constexpr field_list fields{
        asdchk, ee_rst, spd_byps, ro_dis, eiame, iame, drv_load, int_timers_clear_ena, pba_support};
};

/// VLAN Ether Type: how a VLAN tag begins on the wire.
struct vet : reg<vet, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0038;
    static constexpr bits<15, 0, std::uint16_t> ether_type{}; ///< 0x8100 [802.1q]
    static constexpr field_list fields{ether_type};
};

/// The interrupt causes, at the same bits in ICR, ICS, IMS, IMC, EIAC and IAM.
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

/// Interrupt Auto-Clear: which causes an MSI-X message clears in ICR; the causes of queues and OTHER.
struct eiac : interrupt_causes<eiac, access::read_write> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00DC;
};

/// Interrupt Acknowledge Auto-Mask: which causes are masked with CTRL_EXT.IAME.
struct iam : interrupt_causes<iam, access::read_write> {
    using interrupt_causes::interrupt_causes;
    static constexpr std::uint32_t offset = 0x00E0;
};

/// Interrupt Vector Allocation: which MSI-X vector (0 to 4) a cause has. Not on 8254x.
struct ivar : reg<ivar, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00E4;
    static constexpr bits<2, 0, std::uint8_t> rxq0{};
    static constexpr bits<3, 3, bool> rxq0_valid{};
    static constexpr bits<6, 4, std::uint8_t> rxq1{};
    static constexpr bits<7, 7, bool> rxq1_valid{};
    static constexpr bits<10, 8, std::uint8_t> txq0{};
    static constexpr bits<11, 11, bool> txq0_valid{};
    static constexpr bits<14, 12, std::uint8_t> txq1{};
    static constexpr bits<15, 15, bool> txq1_valid{};
    static constexpr bits<18, 16, std::uint8_t> other{};
    static constexpr bits<19, 19, bool> other_valid{};
    static constexpr bits<31, 31, bool> int_on_all_wb{}; ///< a cause for each write-back
    static constexpr field_list fields{rxq0,  rxq0_valid,  rxq1,         rxq1_valid,
                                       txq0,  txq0_valid,  txq1,         txq1_valid,
                                       other, other_valid, int_on_all_wb};
};

/// MSI-X vectors of the 82574.
inline constexpr std::uint32_t msi_x_vectors = 5;

/// Extended Interrupt Throttling of MSI-X vector 0; EITR of vector n lies 4n bytes further. Not on
/// 8254x.
struct eitr : reg<eitr, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00E8;
    static constexpr std::uint32_t vector_stride = 4;
    static constexpr bits<15, 0, std::uint16_t> interval{}; ///< as in ITR
    static constexpr field_list fields{interval};
};

/// Receive Control.
struct rctl : reg<rctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0100;
    static constexpr bits<1, 1, bool> en{};               ///< receive enable
    static constexpr bits<2, 2, bool> sbp{};              ///< store bad packets
    static constexpr bits<3, 3, bool> upe{};              ///< unicast promiscuous
    static constexpr bits<4, 4, bool> mpe{};              ///< multicast promiscuous
    static constexpr bits<5, 5, bool> lpe{};              ///< long packets: beyond 1522 bytes
    static constexpr bits<7, 6, std::uint8_t> lbm{};      ///< loopback; 0: none
    static constexpr bits<9, 8, std::uint8_t> rdmts{};    ///< RXDMT0 at 1/2, 1/4, 1/8 of RDLEN
    static constexpr bits<11, 10, std::uint8_t> dtyp{};   ///< 1: packet split; reserved on 8254x
    static constexpr bits<13, 12, std::uint8_t> mo{};     ///< which address bits index MTA
    static constexpr bits<15, 15, bool> bam{};            ///< broadcast accept
    static constexpr bits<17, 16, std::uint8_t> bsize{};  ///< buffer size: 2048, 1024, 512, 256
    static constexpr bits<18, 18, bool> vfe{};            ///< VLAN filter (VFTA)
    static constexpr bits<19, 19, bool> cfien{};          ///< the tag's CFI must be that of `cfi`
    static constexpr bits<20, 20, bool> cfi{};            ///< with CFIEN
    static constexpr bits<22, 22, bool> dpf{};            ///< discard PAUSE frames
    static constexpr bits<23, 23, bool> pmcf{};           ///< pass MAC control frames
    static constexpr bits<25, 25, bool> bsex{};           ///< BSIZE times 16 (not for 2048)
    static constexpr bits<26, 26, bool> secrc{};          ///< strip the CRC
    static constexpr bits<30, 27, std::uint8_t> flxbuf{}; ///< KiB, instead of BSIZE; not on 8254x
    static constexpr field_list fields{en,    sbp, upe,   mpe, lpe, lbm,  rdmts, dtyp,  mo,    bam,
                                       bsize, vfe, cfien, cfi, dpf, pmcf, bsex,  secrc, flxbuf};
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

/// Packet Buffer Allocation: how the NIC's own memory is divided.
struct pba : reg<pba, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x1000;
    static constexpr bits<15, 0, std::uint16_t> rxa{};                     ///< receive FIFO, KiB
    static constexpr bits<31, 16, std::uint16_t, access::read_only> txa{}; ///< transmit FIFO, KiB
    static constexpr field_list fields{rxa, txa};
};

/// Receive Descriptor Base Address, low half. The hardware ignores bits 3:0.
struct rdbal : reg<rdbal, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2800;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<3, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<31, 4, std::uint32_t> base_31_4{}; ///< address bits 31:4
    static constexpr field_list fields{zero, base_31_4};
};

/// Receive Descriptor Base Address, high half.
struct rdbah : reg<rdbah, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2804;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<31, 0, std::uint32_t> base_63_32{}; ///< address bits 63:32
    static constexpr field_list fields{base_63_32};
};

/// Receive Descriptor Length: bytes of the ring, a multiple of 128, that is of 8 descriptors.
struct rdlen : reg<rdlen, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2808;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<6, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<19, 7, std::uint16_t> len{}; ///< units of 128 bytes
    static constexpr field_list fields{zero, len};
};

/// Receive Descriptor Head: the index of the descriptor that the hardware fills next.
struct rdh : reg<rdh, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2810;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<15, 0, std::uint16_t> head{};
    static constexpr field_list fields{head};
};

/// Receive Descriptor Tail: the index one past the last descriptor that the hardware may fill. Equal
/// to the head it means: no buffer is left.
struct rdt : reg<rdt, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2818;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<15, 0, std::uint16_t> tail{};
    static constexpr field_list fields{tail};
};

/// Receive Interrupt Delay: from a packet to RXT0, begun anew by each packet.
struct rdtr : reg<rdtr, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2820;
    static constexpr bits<15, 0, std::uint16_t> delay{};           ///< units of 1.024 us; 0: none
    static constexpr bits<31, 31, bool, access::write_only> fpd{}; ///< write back at once
    static constexpr field_list fields{delay, fpd};
};

/// Receive Descriptor Control of a queue: when descriptors are fetched and written back.
struct rxdctl : reg<rxdctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2828;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<5, 0, std::uint8_t> pthresh{};   ///< prefetch threshold
    static constexpr bits<13, 8, std::uint8_t> hthresh{};  ///< host threshold
    static constexpr bits<21, 16, std::uint8_t> wthresh{}; ///< write-back threshold
    static constexpr bits<24, 24, bool> gran{};            ///< units: 0 cache lines, 1 descriptors
    static constexpr field_list fields{pthresh, hthresh, wthresh, gran};
};

/// Receive Interrupt Absolute Delay: at most this long after the first packet.
struct radv : reg<radv, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x282C;
    static constexpr bits<15, 0, std::uint16_t> delay{}; ///< units of 1.024 us; 0: no limit
    static constexpr field_list fields{delay};
};

/// Receive Small Packet Detect: packets up to this size raise SRPD.
struct rsrpd : reg<rsrpd, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x2C00;
    static constexpr bits<11, 0, std::uint16_t> size{}; ///< bytes; 0: off
    static constexpr field_list fields{size};
};

/// Transmit Descriptor Base Address, low half. The hardware ignores bits 3:0.
struct tdbal : reg<tdbal, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3800;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<3, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<31, 4, std::uint32_t> base_31_4{}; ///< address bits 31:4
    static constexpr field_list fields{zero, base_31_4};
};

/// Transmit Descriptor Base Address, high half.
struct tdbah : reg<tdbah, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3804;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<31, 0, std::uint32_t> base_63_32{}; ///< address bits 63:32
    static constexpr field_list fields{base_63_32};
};

/// Transmit Descriptor Length: bytes of the ring, a multiple of 128, that is of 8 descriptors.
struct tdlen : reg<tdlen, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3808;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<6, 0, std::uint8_t, access::zero> zero{};
    static constexpr bits<19, 7, std::uint16_t> len{}; ///< units of 128 bytes
    static constexpr field_list fields{zero, len};
};

/// Transmit Descriptor Head: the index of the descriptor that the hardware works on. Software writes
/// it only while TCTL.EN is clear, and does not learn from it which buffers are free.
struct tdh : reg<tdh, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3810;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<15, 0, std::uint16_t> head{};
    static constexpr field_list fields{head};
};

/// Transmit Descriptor Tail: the index one past the last descriptor that the hardware may process.
/// Equal to the head it means: nothing to do.
struct tdt : reg<tdt, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3818;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<15, 0, std::uint16_t> tail{};
    static constexpr field_list fields{tail};
};

/// Transmit Interrupt Delay Value: from a write-back with IDE to TXDW, begun anew by each.
struct tidv : reg<tidv, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3820;
    static constexpr bits<15, 0, std::uint16_t> idv{}; ///< units of 1.024 us; 0 is not allowed
    /// Write back at once; reserved on 8254x.
    static constexpr bits<31, 31, bool, access::write_only> fpd{};
    static constexpr field_list fields{idv, fpd};
};

/// Transmit Absolute Interrupt Delay Value: at most this long after the first write-back with IDE.
struct tadv : reg<tadv, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x382C;
    static constexpr bits<15, 0, std::uint16_t> idv{}; ///< units of 1.024 us; 0: no limit
    static constexpr field_list fields{idv};
};

/// Transmit Arbitration Count of a queue: how the two share the wire. Not on 8254x.
struct tarc : reg<tarc, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3840;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<6, 0, std::uint8_t> count{}; ///< packets in a row
    static constexpr bits<7, 7, bool> comp{};          ///< compensation between the queues
    static constexpr bits<9, 8, std::uint8_t> ratio{}; ///< of the compensation: 1, 1/4, 1/16, 1/64
    static constexpr bits<10, 10, bool> enable{};      ///< the queue takes part
    static constexpr field_list fields{count, comp, ratio, enable};
};

/// Transmit Descriptor Control of a queue: when descriptors are fetched and written back.
struct txdctl : reg<txdctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3828;
    static constexpr std::uint32_t queue_stride = 0x100;
    static constexpr bits<5, 0, std::uint8_t> pthresh{};   ///< prefetch threshold
    static constexpr bits<13, 8, std::uint8_t> hthresh{};  ///< host threshold
    static constexpr bits<21, 16, std::uint8_t> wthresh{}; ///< write-back threshold; 0: at once
    /// Counts descriptors still to be processed; software sets it on PCI Express members, and it is
    /// reserved on 8254x.
    static constexpr bits<22, 22, bool> count_desc{};
    static constexpr bits<24, 24, bool> gran{};             ///< units: 0 cache lines, 1 descriptors
    static constexpr bits<31, 25, std::uint8_t> lwthresh{}; ///< low threshold, units of 8
    static constexpr field_list fields{pthresh, hthresh, wthresh, count_desc, gran, lwthresh};
};

/// Receive Checksum Control.
struct rxcsum : reg<rxcsum, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x5000;
    static constexpr bits<7, 0, std::uint8_t> pcss{}; ///< where the packet checksum starts, bytes
    static constexpr bits<8, 8, bool> ipofl{};        ///< check IPv4 header checksums
    static constexpr bits<9, 9, bool> tuofl{};        ///< check TCP and UDP checksums
    static constexpr bits<12, 12, bool> ippcse{};     ///< IP payload checksum; not on 8254x
    static constexpr bits<13, 13, bool> pcsd{};       ///< RSS hash instead of it; not on 8254x
    static constexpr field_list fields{pcss, ipofl, tuofl, ippcse, pcsd};
};

/// Receive Filter Control. 8254x has none.
struct rfctl : reg<rfctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x5008;
    static constexpr bits<0, 0, bool> iscsi_dis{};
    static constexpr bits<5, 1, std::uint8_t> iscsi_dwc{};
    static constexpr bits<6, 6, bool> nfsw_dis{};
    static constexpr bits<7, 7, bool> nfsr_dis{};
    static constexpr bits<9, 8, std::uint8_t> nfs_ver{};
    static constexpr bits<10, 10, bool> ipv6_dis{};      ///< no IPv6 filter
    static constexpr bits<11, 11, bool> ipv6_xsum_dis{}; ///< no TCP/UDP checksum over IPv6
    static constexpr bits<12, 12, bool> ackdis{};        ///< no ACK cause
    static constexpr bits<13, 13, bool> ackd_dis{};      ///< no ACK data cause
    static constexpr bits<14, 14, bool> ipfrsp_dis{};    ///< no split of IP fragments
    static constexpr bits<15, 15, bool> exsten{};        ///< extended receive descriptors
    static constexpr bits<16, 16, bool> ipv6_ex_dis{};
    static constexpr bits<17, 17, bool> new_ipv6_ext_dis{};
    static constexpr field_list fields{
        iscsi_dis, iscsi_dwc, nfsw_dis,   nfsr_dis, nfs_ver,     ipv6_dis,        ipv6_xsum_dis,
        ackdis,    ackd_dis,  ipfrsp_dis, exsten,   ipv6_ex_dis, new_ipv6_ext_dis};
};

/// Multicast Table Array, dwords 0 to 127 from here on: a bit for each hash of an address.
inline constexpr std::uint32_t mta_offset = 0x5200;
inline constexpr std::uint32_t mta_dwords = 128;

/// Receive Address Low of entry 0, bytes 0 to 3 of the address, the first one lowest. Entry n lies
/// 8n bytes further, and RAH 4 bytes after RAL.
struct ral : reg<ral, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x5400;
    static constexpr bits<31, 0, std::uint32_t> bytes{};
    static constexpr field_list fields{bytes};
};

/// Receive Address High of entry 0.
struct rah : reg<rah, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x5404;
    static constexpr bits<15, 0, std::uint16_t> bytes{}; ///< bytes 4 and 5 of the address
    static constexpr bits<17, 16, std::uint8_t> asel{};  ///< 0: destination address
    static constexpr bits<31, 31, bool> av{};            ///< the entry is valid
    static constexpr field_list fields{bytes, asel, av};
};
inline constexpr std::uint32_t receive_addresses = 16;
inline constexpr std::uint32_t receive_address_stride = 8;

/// VLAN Filter Table Array, dwords 0 to 127 from here on: a bit for each identifier.
inline constexpr std::uint32_t vfta_offset = 0x5600;
inline constexpr std::uint32_t vfta_dwords = 128;

} // namespace pt::e1000e
