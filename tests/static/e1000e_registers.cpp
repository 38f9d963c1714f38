// SPDX-License-Identifier: BSL-1.0
// The 82574's registers against the datasheet's numbers: where each register and each field is.
#include "pt/e1000e/registers.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/ring_flush.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <type_traits>

using namespace pt::e1000e;

namespace {

static_assert(ctrl::offset == 0x00000 && status::offset == 0x00008);
static_assert(icr::offset == 0x000C0 && itr::offset == 0x000C4 && ics::offset == 0x000C8);
static_assert(ims::offset == 0x000D0 && imc::offset == 0x000D8);
static_assert(tctl::offset == 0x00400 && tipg::offset == 0x00410);
static_assert(eiac::offset == 0x000DC && iam::offset == 0x000E0 && ivar::offset == 0x000E4);
static_assert(eitr::offset == 0x000E8 && eitr::offset + 4 * eitr::vector_stride == 0x000F8);
static_assert(ctrl_ext::offset == 0x00018 && vet::offset == 0x00038 && eecd::offset == 0x00010);
static_assert(rctl::offset == 0x00100 && pba::offset == 0x01000);
static_assert(rdtr::offset == 0x02820 && radv::offset == 0x0282C && rsrpd::offset == 0x02C00);
static_assert(tidv::offset == 0x03820 && tadv::offset == 0x0382C);
static_assert(rxcsum::offset == 0x05000 && rfctl::offset == 0x05008);
static_assert(mta_offset == 0x05200 && mta_dwords == 128);
static_assert(vfta_offset == 0x05600 && vfta_dwords == 128);
static_assert(ral::offset == 0x05400 && rah::offset == 0x05404);
static_assert(ral::offset + 15 * receive_address_stride == 0x05478 && receive_addresses == 16);
static_assert(msi_x_vectors == 5);
// Not of the 82574: I219 and later.
static_assert(fextnvm11::offset == 0x05BBC && descriptor_ring_status::offset == 0xE4);

// What each queue has for itself: that of queue 0, and that of queue 1.
template <class R, std::uint32_t First, std::uint32_t Second>
constexpr bool
    is_at = R::offset ==
            First&& offset_of<R>(queue::first) == First&& offset_of<R>(queue::second) == Second;
static_assert(is_at<rdbal, 0x02800, 0x02900> && is_at<rdbah, 0x02804, 0x02904>);
static_assert(is_at<rdlen, 0x02808, 0x02908> && is_at<rdh, 0x02810, 0x02910>);
static_assert(is_at<rdt, 0x02818, 0x02918> && is_at<rxdctl, 0x02828, 0x02928>);
static_assert(is_at<tdbal, 0x03800, 0x03900> && is_at<tdbah, 0x03804, 0x03904>);
static_assert(is_at<tdlen, 0x03808, 0x03908> && is_at<tdh, 0x03810, 0x03910>);
static_assert(is_at<tdt, 0x03818, 0x03918> && is_at<txdctl, 0x03828, 0x03928>);
static_assert(is_at<tarc, 0x03840, 0x03940>);
template <class... Registers>
constexpr bool both_queues_share = (!queue_register<Registers> && ...);
static_assert(
    both_queues_share<ctrl, status, tctl, tipg, tidv, tadv, rctl, rdtr, radv, pba, icr, ims>);

// The access goes where the register of that queue is, once.
struct recorder {
    std::uint32_t* at;
    constexpr std::uint32_t read32(std::uint32_t offset) { return *at = offset; }
    constexpr std::uint64_t read64(std::uint32_t) { return 0; }
    constexpr void write32(std::uint32_t offset, std::uint32_t value) { *at = offset + value; }
    constexpr void write64(std::uint32_t, std::uint64_t) {}
};
constexpr bool the_access_is_to_that_queue() {
    std::uint32_t at = 0;
    recorder mmio{&at};
    const bool reads =
        read<tdh>(mmio, queue::second).raw == 0x3910 && read<tdh>(mmio, queue::first).raw == 0x3810;
    write(mmio, queue::second, rdt{0x1'0000});
    return reads && at == 0x1'2918;
}
static_assert(the_access_is_to_that_queue());

template <class... Registers>
constexpr bool are_mmio_registers = ((pt::mmio_register<Registers> &&
                                      std::is_trivially_copyable_v<Registers> &&
                                      sizeof(Registers) == 4) &&
                                     ...);
static_assert(are_mmio_registers<ctrl, status, ctrl_ext, vet, icr, itr, ics, ims, imc, eiac, iam,
                                 ivar, eitr, rctl, tctl, tipg, pba, eecd, fextnvm11>);
static_assert(
    are_mmio_registers<rdbal, rdbah, rdlen, rdh, rdt, rdtr, rxdctl, radv, rsrpd, tdbal, tdbah,
                       tdlen, tdh, tdt, tidv, tadv, tarc, txdctl, rxcsum, rfctl, ral, rah>);

static_assert(ctrl{ctrl::slu(true), ctrl::asde(true), ctrl::fd(true)}.raw == 0x0000'0061);
static_assert(ctrl{ctrl::rst(true)}.raw == 0x0400'0000);
static_assert(ctrl{ctrl::phy_rst(true)}.raw == 0x8000'0000);
static_assert(ctrl{ctrl::vme(true)}.raw == 0x4000'0000);
static_assert(ctrl{ctrl::frcspd(true), ctrl::frcdplx(true), ctrl::speed(2)}.raw == 0x0000'1A00);
static_assert(ctrl{ctrl::gio_master_disable(true)}.raw == 0x0000'0004);
static_assert(ctrl{ctrl::rfce(true), ctrl::tfce(true)}.raw == 0x1800'0000);

static_assert(status{0x0008'0083}[status::lu] && status{0x0008'0083}[status::fd]);
static_assert(status{0x0008'0083}[status::speed] == 2);
static_assert(status{0x0008'0083}[status::gio_master_enable]);
static_assert(!status{0x0008'0083}[status::txoff] && status{0x0000'0010}[status::txoff]);
static_assert(status{0x0000'0300}[status::asdv] == 3);

// The same bits in all four, and a cause of one register is no cause of another.
template <class R>
constexpr bool has_the_causes =
    R::txdw.mask == 0x0000'0001 && R::txqe.mask == 0x0000'0002 && R::lsc.mask == 0x0000'0004 &&
    R::rxdmt0.mask == 0x0000'0010 && R::rxo.mask == 0x0000'0040 && R::rxt0.mask == 0x0000'0080 &&
    R::mdac.mask == 0x0000'0200 && R::txd_low.mask == 0x0000'8000 && R::srpd.mask == 0x0001'0000 &&
    R::ack.mask == 0x0002'0000 && R::mng.mask == 0x0004'0000 && R::rxq0.mask == 0x0010'0000 &&
    R::rxq1.mask == 0x0020'0000 && R::txq0.mask == 0x0040'0000 && R::txq1.mask == 0x0080'0000 &&
    R::other.mask == 0x0100'0000 && R::int_asserted.mask == 0x8000'0000;
static_assert(has_the_causes<icr> && has_the_causes<ics> && has_the_causes<ims> &&
              has_the_causes<imc> && has_the_causes<eiac> && has_the_causes<iam>);
static_assert(!std::is_same_v<decltype(ims::txdw), decltype(imc::txdw)>);
static_assert(ims{ims::txdw(true), ims::lsc(true)}.raw == 0x0000'0005);
// Writing 1 to a cause in ICR clears that one and no other.
static_assert(icr{0x8000'0005}.after_write(0x0000'0001).raw == 0x8000'0004);
static_assert(icr{0x8000'0005}.write_back().raw == 0);

static_assert(tctl{tctl::en(true)}.raw == 0x0000'0002);
static_assert(tctl{tctl::psp(true)}.raw == 0x0000'0008);
static_assert(tctl{tctl::ct(0xFF)}.raw == 0x0000'0FF0);
static_assert(tctl{tctl::cold(0x3FF)}.raw == 0x003F'F000);
static_assert(tctl{tctl::swxoff(true)}.raw == 0x0040'0000);
static_assert(tctl{tctl::pbe(true)}.raw == 0x0080'0000);
static_assert(tctl{tctl::rtlc(true)}.raw == 0x0100'0000);
static_assert(tctl{tctl::unortx(true)}.raw == 0x0200'0000);
static_assert(tctl{tctl::txdscmt(3)}.raw == 0x0C00'0000);
static_assert(tctl{tctl::mulr(true)}.raw == 0x1000'0000);
static_assert(tctl{tctl::rrthresh(3)}.raw == 0x6000'0000);
static_assert(tipg{tipg::ipgt(8), tipg::ipgr1(8), tipg::ipgr2(6)}.raw == 0x0060'2008);

static_assert(tdbal{tdbal::base_31_4(0xFFF'FFFF)}.raw == 0xFFFF'FFF0);
static_assert(tdlen{tdlen::len(0x1FFF)}.raw == 65'528 * 16);
static_assert(tdlen{tdlen::len(1)}.raw == 128);
static_assert(tdt{tdt::tail(0xFFFF)}.raw == 0x0000'FFFF && tdh{tdh::head(0xFFFF)}.raw == 0xFFFF);
static_assert(txdctl{txdctl::pthresh(0x3F)}.raw == 0x0000'003F);
static_assert(txdctl{txdctl::hthresh(0x3F)}.raw == 0x0000'3F00);
static_assert(txdctl{txdctl::wthresh(1), txdctl::gran(true)}.raw == 0x0101'0000);
static_assert(txdctl{txdctl::lwthresh(0x7F)}.raw == 0xFE00'0000);
static_assert(txdctl{txdctl::count_desc(true)}.raw == 0x0040'0000);
static_assert(tidv{tidv::idv(0xFFFF)}.raw == 0x0000'FFFF);
static_assert(tidv{tidv::fpd(true)}.raw == 0x8000'0000);
static_assert(tadv{tadv::idv(0xFFFF)}.raw == 0x0000'FFFF);
static_assert(tarc{tarc::count(0x7F)}.raw == 0x0000'007F && tarc{tarc::comp(true)}.raw == 0x80);
static_assert(tarc{tarc::ratio(3)}.raw == 0x0000'0300 && tarc{tarc::enable(true)}.raw == 0x400);

static_assert(ctrl{ctrl::speed(3)}.raw == 0x0000'0300);
static_assert(ctrl_ext{ctrl_ext::asdchk(true)}.raw == 0x0000'1000);
static_assert(ctrl_ext{ctrl_ext::ee_rst(true)}.raw == 0x0000'2000);
static_assert(ctrl_ext{ctrl_ext::spd_byps(true)}.raw == 0x0000'8000);
static_assert(ctrl_ext{ctrl_ext::ro_dis(true)}.raw == 0x0002'0000);
static_assert(ctrl_ext{ctrl_ext::eiame(true)}.raw == 0x0100'0000);
static_assert(ctrl_ext{ctrl_ext::iame(true)}.raw == 0x0800'0000);
static_assert(ctrl_ext{ctrl_ext::drv_load(true)}.raw == 0x1000'0000);
static_assert(ctrl_ext{ctrl_ext::int_timers_clear_ena(true)}.raw == 0x2000'0000);
static_assert(ctrl_ext{ctrl_ext::pba_support(true)}.raw == 0x8000'0000);
static_assert(vet{vet::ether_type(0x8100)}.raw == 0x0000'8100);
static_assert(itr{itr::interval(0xFFFF)}.raw == 0xFFFF &&
              eitr{eitr::interval(0xFFFF)}.raw == 0xFFFF);
// Vectors 0, 1, 2, 3 for the queues and 4 for the rest, as drivers use them.
static_assert(ivar{ivar::rxq0(0), ivar::rxq0_valid(true), ivar::txq0(1), ivar::txq0_valid(true),
                   ivar::other(2), ivar::other_valid(true)}
                  .raw == 0x000A'0908);
static_assert(ivar{ivar::rxq0(7)}.raw == 0x0000'0007 && ivar{ivar::rxq1(7)}.raw == 0x0000'0070);
static_assert(ivar{ivar::txq0(7)}.raw == 0x0000'0700 && ivar{ivar::txq1(7)}.raw == 0x0000'7000);
static_assert(ivar{ivar::other(7)}.raw == 0x0007'0000);
static_assert(ivar{ivar::rxq1_valid(true)}.raw == 0x0000'0080);
static_assert(ivar{ivar::txq1_valid(true)}.raw == 0x0000'8000);
static_assert(ivar{ivar::int_on_all_wb(true)}.raw == 0x8000'0000);

static_assert(rctl{rctl::en(true)}.raw == 0x0000'0002 && rctl{rctl::sbp(true)}.raw == 0x4);
static_assert(rctl{rctl::upe(true)}.raw == 0x0000'0008 && rctl{rctl::mpe(true)}.raw == 0x10);
static_assert(rctl{rctl::lpe(true)}.raw == 0x0000'0020 && rctl{rctl::lbm(3)}.raw == 0xC0);
static_assert(rctl{rctl::rdmts(3)}.raw == 0x0000'0300 && rctl{rctl::dtyp(3)}.raw == 0xC00);
static_assert(rctl{rctl::mo(3)}.raw == 0x0000'3000 && rctl{rctl::bam(true)}.raw == 0x8000);
static_assert(rctl{rctl::bsize(3)}.raw == 0x0003'0000);
static_assert(rctl{rctl::vfe(true)}.raw == 0x0004'0000);
static_assert(rctl{rctl::cfien(true)}.raw == 0x0008'0000);
static_assert(rctl{rctl::cfi(true)}.raw == 0x0010'0000);
static_assert(rctl{rctl::dpf(true)}.raw == 0x0040'0000);
static_assert(rctl{rctl::pmcf(true)}.raw == 0x0080'0000);
static_assert(rctl{rctl::bsex(true)}.raw == 0x0200'0000);
static_assert(rctl{rctl::secrc(true)}.raw == 0x0400'0000);
static_assert(rctl{rctl::flxbuf(0xF)}.raw == 0x7800'0000);

static_assert(pba{pba::rxa(0xFFFF)}.raw == 0x0000'FFFF);
static_assert(pba{0x0014'0014}[pba::txa] == 20 && pba{0x0014'0014}[pba::rxa] == 20);
static_assert(!pba::txa.writable);

static_assert(rdbal{rdbal::base_31_4(0xFFF'FFFF)}.raw == 0xFFFF'FFF0);
static_assert(rdbah{rdbah::base_63_32(0xFFFF'FFFF)}.raw == 0xFFFF'FFFF);
static_assert(tdbah{tdbah::base_63_32(0xFFFF'FFFF)}.raw == 0xFFFF'FFFF);
static_assert(rdlen{rdlen::len(0x1FFF)}.raw == 65'528 * 16 && rdlen{rdlen::len(1)}.raw == 128);
static_assert(rdh{rdh::head(0xFFFF)}.raw == 0xFFFF && rdt{rdt::tail(0xFFFF)}.raw == 0xFFFF);
static_assert(rdtr{rdtr::delay(0xFFFF)}.raw == 0xFFFF && rdtr{rdtr::fpd(true)}.raw == 0x8000'0000);
static_assert(radv{radv::delay(0xFFFF)}.raw == 0xFFFF && rsrpd{rsrpd::size(0xFFF)}.raw == 0xFFF);
static_assert(rxdctl{rxdctl::pthresh(0x3F)}.raw == 0x3F &&
              rxdctl{rxdctl::hthresh(0x3F)}.raw == 0x3F00);
static_assert(rxdctl{rxdctl::wthresh(0x3F)}.raw == 0x003F'0000);
static_assert(rxdctl{rxdctl::gran(true)}.raw == 0x0100'0000);

static_assert(rxcsum{rxcsum::pcss(0xFF)}.raw == 0xFF && rxcsum{rxcsum::ipofl(true)}.raw == 0x100);
static_assert(rxcsum{rxcsum::tuofl(true)}.raw == 0x200 &&
              rxcsum{rxcsum::ippcse(true)}.raw == 0x1000);
static_assert(rxcsum{rxcsum::pcsd(true)}.raw == 0x2000);
static_assert(rfctl{rfctl::iscsi_dis(true)}.raw == 0x1 &&
              rfctl{rfctl::iscsi_dwc(0x1F)}.raw == 0x3E);
static_assert(rfctl{rfctl::nfsw_dis(true)}.raw == 0x40 && rfctl{rfctl::nfsr_dis(true)}.raw == 0x80);
static_assert(rfctl{rfctl::nfs_ver(3)}.raw == 0x300 && rfctl{rfctl::ipv6_dis(true)}.raw == 0x400);
static_assert(rfctl{rfctl::ipv6_xsum_dis(true)}.raw == 0x800 &&
              rfctl{rfctl::ackdis(true)}.raw == 0x1000);
static_assert(rfctl{rfctl::ackd_dis(true)}.raw == 0x2000);
static_assert(rfctl{rfctl::ipfrsp_dis(true)}.raw == 0x4000);
static_assert(rfctl{rfctl::exsten(true)}.raw == 0x8000);
static_assert(rfctl{rfctl::ipv6_ex_dis(true)}.raw == 0x1'0000);
static_assert(rfctl{rfctl::new_ipv6_ext_dis(true)}.raw == 0x2'0000);
static_assert(ral{ral::bytes(0xFFFF'FFFF)}.raw == 0xFFFF'FFFF &&
              rah{rah::bytes(0xFFFF)}.raw == 0xFFFF);
static_assert(rah{rah::asel(3)}.raw == 0x0003'0000 && rah{rah::av(true)}.raw == 0x8000'0000);

static_assert(vlan_tag{vlan_tag::vlan(0xFFF)}.raw == 0x0FFF &&
              vlan_tag{vlan_tag::cfi(true)}.raw == 0x1000);
static_assert(vlan_tag{vlan_tag::pri(7)}.raw == 0xE000 && sizeof(vlan_tag) == 2);

static_assert(eecd{0x0000'0200}[eecd::auto_rd] && !eecd{0xFFFF'FDFF}[eecd::auto_rd]);
static_assert(fextnvm11{fextnvm11::disable_mulr_fix(true)}.raw == 0x0000'2000);
static_assert(descriptor_ring_status{0x0100}[descriptor_ring_status::flush_required] &&
              !descriptor_ring_status{0xFEFF}[descriptor_ring_status::flush_required]);
static_assert(sizeof(descriptor_ring_status) == 2);

} // namespace
