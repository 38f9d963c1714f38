// SPDX-License-Identifier: BSL-1.0
// The 82574's descriptors against the datasheet's figures: where each field is, and which format a
// descriptor has.
#include "pt/e1000e/tx_descriptor.hpp"

#include "pt/core/address.hpp"
#include "pt/e1000e/rx_descriptor.hpp"

#include <cstdint>
#include <initializer_list>
#include <type_traits>

using namespace pt::e1000e;

namespace {

constexpr std::uint64_t all = ~std::uint64_t{0};

static_assert(tx_descriptor_size == 16 && sizeof(tx_descriptor) == 16);
static_assert(std::is_standard_layout_v<tx_descriptor> &&
              std::is_trivially_copyable_v<tx_descriptor>);
static_assert(rx_descriptor_size == 16 && sizeof(rx_descriptor) == 16);
static_assert(std::is_standard_layout_v<rx_descriptor> &&
              std::is_trivially_copyable_v<rx_descriptor>);
static_assert(largest_legacy_length == 16'288);

// The address is the first quadword in both directions.
static_assert(tx_buffer_address::offset == 0 && rx_buffer_address::offset == 0);
static_assert(tx_buffer_address{tx_buffer_address::buffer_address(pt::iova{all})}.raw == all);
static_assert(rx_buffer_address{rx_buffer_address::buffer_address(pt::iova{all})}.raw == all);

// Legacy transmit, the second quadword, low byte first: length 2, CSO 1, CMD 1, STA 1 (with ExtCMD
// above it), CSS 1, special 2.
using command = legacy_tx_command;
static_assert(command::offset == 8);
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

// Bytes as they lie in memory, the least significant first.
constexpr bool a_tx_descriptor_is_little_endian() {
    //                               buffer address                  length    CSO  CMD  STA  CSS
    constexpr std::uint8_t bytes[]{0xF0, 0xDE, 0xBC, 0x9A, 0x78, 0x56, 0x34, 0x12,  //
                                   0xEA, 0x05, 0x18, 0x0D, 0xF1, 0x0E, 0x23, 0xB1}; // special
    const tx_descriptor found = tx_descriptor_of(bytes);
    const command word{found.high};
    return found.low == 0x1234'5678'9ABC'DEF0 && word[command::length] == 1514 &&
           word[command::cso] == 24 && word[command::eop] && !word[command::ifcs] &&
           word[command::ic] && word[command::rs] && word[command::dd] && !word[command::ec] &&
           word[command::ts] && word[command::css] == 14 && word[command::vlan] == 0x123 &&
           word[command::cfi] && word[command::pri] == 5;
}
static_assert(a_tx_descriptor_is_little_endian());

// Data: DTALEN 20 bits, DTYP 4, DCMD 8, STA 4 and ExtCMD 4, POPTS 8, special 16.
using data = data_tx_command;
static_assert(data::offset == 8);
static_assert(data{data::dtalen(0xF'FFFF)}.raw == 0x0000'0000'000F'FFFF);
static_assert(data{data::dtyp(tx_descriptor_type::data)}.raw == 0x0000'0000'0010'0000);
static_assert(data::dtyp.mask == 0x0000'0000'00F0'0000);
static_assert(data{data::eop(true)}.raw == 0x01ULL << 24);
static_assert(data{data::ifcs(true)}.raw == 0x02ULL << 24);
static_assert(data{data::tse(true)}.raw == 0x04ULL << 24);
static_assert(data{data::rs(true)}.raw == 0x08ULL << 24);
static_assert(data{data::rps(true)}.raw == 0x10ULL << 24);
static_assert(data{data::dext(true)}.raw == 0x20ULL << 24);
static_assert(data{data::vle(true)}.raw == 0x40ULL << 24);
static_assert(data{data::ide(true)}.raw == 0x80ULL << 24);
static_assert(data{data::dd(true)}.raw == 0x1ULL << 32);
static_assert(data{data::ec(true)}.raw == 0x2ULL << 32);
static_assert(data{data::lc(true)}.raw == 0x4ULL << 32);
static_assert(data{data::tu(true)}.raw == 0x8ULL << 32);
static_assert(data{data::ts(true)}.raw == 0x10ULL << 32);
static_assert(data{data::ixsm(true)}.raw == 0x01ULL << 40);
static_assert(data{data::txsm(true)}.raw == 0x02ULL << 40);
static_assert(data{data::vlan(0xFFF)}.raw == 0x0FFF'0000'0000'0000);
static_assert(data{data::cfi(true)}.raw == 0x1000'0000'0000'0000);
static_assert(data{data::pri(7)}.raw == 0xE000'0000'0000'0000);

// Context, first quadword: IPCSS 8, IPCSO 8, IPCSE 16, TUCSS 8, TUCSO 8, TUCSE 16.
using offsets = context_tx_offsets;
static_assert(offsets::offset == 0);
static_assert(offsets{offsets::ipcss(0xFF)}.raw == 0x0000'0000'0000'00FF);
static_assert(offsets{offsets::ipcso(0xFF)}.raw == 0x0000'0000'0000'FF00);
static_assert(offsets{offsets::ipcse(0xFFFF)}.raw == 0x0000'0000'FFFF'0000);
static_assert(offsets{offsets::tucss(0xFF)}.raw == 0x0000'00FF'0000'0000);
static_assert(offsets{offsets::tucso(0xFF)}.raw == 0x0000'FF00'0000'0000);
static_assert(offsets{offsets::tucse(0xFFFF)}.raw == 0xFFFF'0000'0000'0000);

// Second: PAYLEN 20, DTYP 4, TUCMD 8, STA 4, reserved 4, HDRLEN 8, MSS 16.
using context = context_tx_command;
static_assert(context::offset == 8);
static_assert(context{context::paylen(0xF'FFFF)}.raw == 0x0000'0000'000F'FFFF);
static_assert(context{context::dtyp(tx_descriptor_type::context)}.raw == 0);
static_assert(context::dtyp.mask == 0x0000'0000'00F0'0000);
static_assert(context{context::tcp(true)}.raw == 0x01ULL << 24);
static_assert(context{context::ip(true)}.raw == 0x02ULL << 24);
static_assert(context{context::tse(true)}.raw == 0x04ULL << 24);
static_assert(context{context::rs(true)}.raw == 0x08ULL << 24);
static_assert(context{context::dext(true)}.raw == 0x20ULL << 24);
static_assert(context{context::snap(true)}.raw == 0x40ULL << 24);
static_assert(context{context::ide(true)}.raw == 0x80ULL << 24);
static_assert(context{context::dd(true)}.raw == 0x1ULL << 32);
static_assert(context{context::hdrlen(0xFF)}.raw == 0x0000'FF00'0000'0000);
static_assert(context{context::mss(0xFFFF)}.raw == 0xFFFF'0000'0000'0000);

// RS, EOP, DD and IDE are at the same bits in all formats, which a ring of any of them relies on.
static_assert(command::rs.mask == data::rs.mask && command::rs.mask == context::rs.mask);
static_assert(command::dd.mask == data::dd.mask && command::dd.mask == context::dd.mask);
static_assert(command::eop.mask == data::eop.mask && command::ide.mask == data::ide.mask);
static_assert(command::dext.mask == data::dext.mask && command::dext.mask == context::dext.mask);

// The format depends on DEXT (bit 29) and DTYP (bits 23:20) and on nothing else: 0 context, 1 data,
// the other 14 reserved.
constexpr bool the_format_is_that_of_dext_and_dtyp() {
    constexpr std::uint64_t dext = 1ULL << 29;
    constexpr std::uint64_t dtyp = 0xFULL << 20;
    for (const std::uint64_t others :
         {std::uint64_t{0}, all & ~dext & ~dtyp, std::uint64_t{0x0123'4567'89AB}}) {
        for (std::uint64_t type = 0; type != 16; ++type) {
            const std::uint64_t word = (others & ~dext & ~dtyp) | type << 20;
            const tx_descriptor_kind extended = type == 0   ? tx_descriptor_kind::context
                                                : type == 1 ? tx_descriptor_kind::data
                                                            : tx_descriptor_kind::reserved;
            for (const std::uint64_t low : {std::uint64_t{0}, all}) {
                if (kind_of({low, word}) != tx_descriptor_kind::legacy ||
                    kind_of({low, word | dext}) != extended) {
                    return false;
                }
            }
        }
    }
    return true;
}
static_assert(the_format_is_that_of_dext_and_dtyp());

// Legacy receive, as written back: length 2, packet checksum 2, status 1, errors 1, special 2.
using received = legacy_rx_status;
static_assert(received::offset == 8);
static_assert(received{0x8765'0000'0000'0000}[received::vlan] == 0x8765);
static_assert(received{0x0000'0000'0000'8765}[received::length] == 0x8765);
static_assert(received{0x0000'0000'8765'0000}[received::packet_checksum] == 0x8765);
static_assert(received::dd.mask == 0x01ULL << 32 && received::eop.mask == 0x02ULL << 32);
static_assert(received::ixsm.mask == 0x04ULL << 32 && received::vp.mask == 0x08ULL << 32);
static_assert(received::udpcs.mask == 0x10ULL << 32 && received::tcpcs.mask == 0x20ULL << 32);
static_assert(received::ipcs.mask == 0x40ULL << 32 && received::pif.mask == 0x80ULL << 32);
static_assert(received::ce.mask == 0x01ULL << 40 && received::se.mask == 0x02ULL << 40);
static_assert(received::seq.mask == 0x04ULL << 40 && received::cxe.mask == 0x10ULL << 40);
static_assert(received::tcpe.mask == 0x20ULL << 40 && received::ipe.mask == 0x40ULL << 40);
static_assert(received::rxe.mask == 0x80ULL << 40);

// Its bytes as they lie in memory, the least significant first.
constexpr bool a_rx_descriptor_is_little_endian() {
    //                               buffer address              length  checksum  status errors
    constexpr std::uint8_t bytes[]{0xF0, 0xDE, 0xBC, 0x9A, 0x78, 0x56, 0x34, 0x12,  //
                                   0xEA, 0x05, 0xCD, 0xAB, 0x2B, 0x40, 0x23, 0xB1}; // special
    const rx_descriptor found = rx_descriptor_of(bytes);
    const received word{found.high};
    return found.low == 0x1234'5678'9ABC'DEF0 && word[received::length] == 1514 &&
           word[received::packet_checksum] == 0xABCD && word[received::dd] && word[received::eop] &&
           !word[received::ixsm] && word[received::vp] && word[received::tcpcs] &&
           !word[received::ipcs] && word[received::ipe] && !word[received::tcpe] &&
           word[received::vlan] == 0xB123;
}
static_assert(a_rx_descriptor_is_little_endian());

// Extended receive, as written back. First: MRQ 4 (RSS type 4 bits, queue at 12:8), then IP
// identification 2 and packet checksum 2, or the RSS hash 4.
using hash = extended_rx_hash;
static_assert(hash::offset == 0);
static_assert(hash::rss_type.mask == 0xF && hash::queue.mask == 0x1F00);
static_assert(hash::ip_identification.mask == 0x0000'FFFF'0000'0000);
static_assert(hash::packet_checksum.mask == 0xFFFF'0000'0000'0000);
// Second: extended status 20 bits, extended errors 12 bits, length 2, VLAN tag 2.
using extended = extended_rx_status;
static_assert(extended::offset == 8);
static_assert(extended::dd.mask == 0x0001 && extended::eop.mask == 0x0002);
static_assert(extended::ixsm.mask == 0x0004 && extended::vp.mask == 0x0008);
static_assert(extended::udpcs.mask == 0x0010 && extended::tcpcs.mask == 0x0020);
static_assert(extended::ipcs.mask == 0x0040 && extended::pif.mask == 0x0080);
static_assert(extended::ipidv.mask == 0x0200 && extended::udpv.mask == 0x0400);
static_assert(extended::ack.mask == 0x8000);
static_assert(extended::ce.mask == 0x0100'0000 && extended::se.mask == 0x0200'0000);
static_assert(extended::seq.mask == 0x0400'0000 && extended::cxe.mask == 0x1000'0000);
static_assert(extended::tcpe.mask == 0x2000'0000 && extended::ipe.mask == 0x4000'0000);
static_assert(extended::rxe.mask == 0x8000'0000);
static_assert(extended::length.mask == 0x0000'FFFF'0000'0000);
static_assert(extended::vlan.mask == 0xFFFF'0000'0000'0000);

// What the hardware writes is not software's to choose.
static_assert(!received::dd.writable && !extended::dd.writable && !hash::queue.writable);

} // namespace
