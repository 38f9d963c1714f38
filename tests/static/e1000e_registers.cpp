// SPDX-License-Identifier: BSL-1.0
// Layouts of the 82574's transmit registers and legacy descriptor against the datasheet's numbers.
#include "pt/e1000e/registers.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <type_traits>

using namespace pt::e1000e;

namespace {

static_assert(ctrl::offset == 0x00000 && status::offset == 0x00008);
static_assert(icr::offset == 0x000C0 && itr::offset == 0x000C4 && ics::offset == 0x000C8);
static_assert(ims::offset == 0x000D0 && imc::offset == 0x000D8);
static_assert(tctl::offset == 0x00400 && tipg::offset == 0x00410);
static_assert(tdbal::offset == 0x03800 && tdbah::offset == 0x03804 && tdlen::offset == 0x03808);
static_assert(tdh::offset == 0x03810 && tdt::offset == 0x03818 && txdctl::offset == 0x03828);

template <class... Registers>
constexpr bool are_mmio_registers = ((pt::mmio_register<Registers> &&
                                      std::is_trivially_copyable_v<Registers> &&
                                      sizeof(Registers) == 4) &&
                                     ...);
static_assert(are_mmio_registers<ctrl, status, icr, itr, ics, ims, imc, tctl, tipg, tdbal, tdbah,
                                 tdlen, tdh, tdt, txdctl>);

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
              has_the_causes<imc>);
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

// The legacy transmit descriptor, low byte first: address 8, length 2, CSO 1, CMD 1, STA 1 (with
// ExtCMD above it), CSS 1, special 2.
using command = legacy_tx_command;
static_assert(sizeof(legacy_tx_descriptor) == 16 &&
              std::is_standard_layout_v<legacy_tx_descriptor>);
static_assert(command{command::length(0xFFFF)}.raw == 0x0000'0000'0000'FFFF);
static_assert(command{command::cso(0xFF)}.raw == 0x0000'0000'00FF'0000);
static_assert(command{command::eop(true)}.raw == 0x01ULL << 24);
static_assert(command{command::ifcs(true)}.raw == 0x02ULL << 24);
static_assert(command{command::ic(true)}.raw == 0x04ULL << 24);
static_assert(command{command::rs(true)}.raw == 0x08ULL << 24);
static_assert(command{command::rps(true)}.raw == 0x10ULL << 24);
static_assert(command{command::dext(true)}.raw == 0x20ULL << 24);
static_assert(command{command::vle(true)}.raw == 0x40ULL << 24);
static_assert(command{command::ide(true)}.raw == 0x80ULL << 24);
static_assert(command{command::dd(true)}.raw == 0x1ULL << 32);
static_assert(command{command::ec(true)}.raw == 0x2ULL << 32);
static_assert(command{command::lc(true)}.raw == 0x4ULL << 32);
static_assert(command{command::tu(true)}.raw == 0x8ULL << 32);
static_assert(command{command::ts(true)}.raw == 0x10ULL << 32);
static_assert(command{command::css(0xFF)}.raw == 0x0000'FF00'0000'0000);
static_assert(command{command::vlan(0xFFF)}.raw == 0x0FFF'0000'0000'0000);
static_assert(command{command::cfi(true)}.raw == 0x1000'0000'0000'0000);
static_assert(command{command::pri(7)}.raw == 0xE000'0000'0000'0000);
static_assert(legacy_tx_address{legacy_tx_address::buffer_address(pt::iova{~0ULL})}.raw == ~0ULL);

} // namespace
