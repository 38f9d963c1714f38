// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/tx_offload.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>

namespace {

using pt::errc;
using pt::error;
using pt::result;
using pt::e1000e::header_layout;
using pt::e1000e::ip_version;
using pt::e1000e::transport;
using pt::e1000e::tx_descriptor;
using pt::e1000e::tx_offload;

constexpr header_layout tcp4{14, 34, ip_version::v4, transport::tcp};
constexpr header_layout udp4{14, 34, ip_version::v4, transport::udp};
constexpr header_layout tcp6{14, 54, ip_version::v6, transport::tcp};
constexpr header_layout udp6{14, 54, ip_version::v6, transport::udp};

// Bits of the second quadword [82574].
constexpr std::uint64_t TCP = 1ULL << 24;
constexpr std::uint64_t IP = 1ULL << 25;
constexpr std::uint64_t TSE = 1ULL << 26;
constexpr std::uint64_t DEXT = 1ULL << 29;
constexpr std::uint64_t dtyp_data = 1ULL << 20;
constexpr std::uint64_t IXSM = 1ULL << 40;
constexpr std::uint64_t TXSM = 1ULL << 41;

constexpr std::uint64_t seconds(std::uint64_t command, std::uint64_t hdrlen, std::uint64_t mss,
                                std::uint64_t paylen) {
    return mss << 48 | hdrlen << 40 | command | paylen;
}

/// Contexts as drivers in public use give them to this NIC, by hand from the datasheet's figure:
/// TUCSE 0, TUCSO, TUCSS, IPCSE, IPCSO, IPCSS.
constexpr bool contexts_are_those_of_the_datasheet() {
    // TCP over IPv4 without options: IP 14 to 33, its checksum at 24; TCP at 34, its checksum at 50
    const tx_descriptor tcp = tx_offload::checksums(tcp4)->context();
    bool good = tcp == tx_descriptor{0x0000'3222'0021'180E, DEXT | IP | TCP};
    // UDP: its checksum at 40
    good &=
        tx_offload::checksums(udp4)->context() == tx_descriptor{0x0000'2822'0021'180E, DEXT | IP};
    // IPv6: no header checksum; TCP at 54, its checksum at 70, UDP's at 60
    good &=
        tx_offload::checksums(tcp6)->context() == tx_descriptor{0x0000'4636'0000'000E, DEXT | TCP};
    good &= tx_offload::checksums(udp6)->context() == tx_descriptor{0x0000'3C36'0000'000E, DEXT};
    // behind a tag in memory, and 4 bytes of IPv4 options
    good &= tx_offload::checksums({18, 42, ip_version::v4, transport::tcp})->context() ==
            tx_descriptor{0x0000'3A2A'0029'1C12, DEXT | IP | TCP};
    // segmentation: 54 bytes of headers, 1,460 of payload in each frame, 65,000 in all
    good &= tx_offload::segmentation(tcp4, 54, 1'460)->context(65'000) ==
            tx_descriptor{0x0000'3222'0021'180E, seconds(DEXT | TSE | IP | TCP, 54, 1'460, 65'000)};
    good &= tx_offload::segmentation(tcp6, 86, 1'428)->context(0xF'FFFF) == // 12 bytes of options
            tx_descriptor{0x0000'4636'0000'000E, seconds(DEXT | TSE | TCP, 86, 1'428, 0xF'FFFF)};
    good &= tx_offload::segmentation(udp4, 42, 1'472)->context(3'000) ==
            tx_descriptor{0x0000'2822'0021'180E, seconds(DEXT | TSE | IP, 42, 1'472, 3'000)};
    // without segmentation the payload does not count
    good &= tx_offload::checksums(tcp4)->context(1'234) == tcp;
    return good;
}
static_assert(contexts_are_those_of_the_datasheet());

TEST_CASE("contexts are those of the datasheet", "[e1000e][82574][rule 25]") {
    REQUIRE(contexts_are_those_of_the_datasheet());
}

constexpr bool data_descriptors_ask_for_what_is_wanted() {
    constexpr std::uint64_t plain = DEXT | dtyp_data;
    bool good = tx_offload::checksums(tcp4)->data().raw == (plain | IXSM | TXSM);
    good &= tx_offload::checksums(udp4)->data().raw == (plain | IXSM | TXSM);
    good &= tx_offload::checksums(tcp6)->data().raw == (plain | TXSM); // IPv6 has no checksum
    good &= tx_offload::transport_checksum(tcp4)->data().raw == (plain | TXSM);
    good &= tx_offload::transport_checksum(udp6)->data().raw == (plain | TXSM);
    good &= tx_offload::ip_checksum(udp4)->data().raw == (plain | IXSM);
    good &= tx_offload::segmentation(tcp4, 54, 17)->data().raw == (plain | TSE | IXSM | TXSM);
    good &= tx_offload::segmentation(udp6, 62, 17)->data().raw == (plain | TSE | TXSM);
    return good;
}
static_assert(data_descriptors_ask_for_what_is_wanted());

TEST_CASE("data descriptors ask for what is wanted, in POPTS and TSE", "[e1000e][82574][rule 25]") {
    REQUIRE(data_descriptors_ask_for_what_is_wanted());
}

TEST_CASE("an offload tells what it is", "[e1000e]") {
    const tx_offload none;
    CHECK(!none.needed());
    CHECK(!none.segments());
    CHECK(none.least_length() == 0);
    CHECK(none == tx_offload{});

    const tx_offload sums = *tx_offload::checksums(tcp4);
    CHECK(sums.needed());
    CHECK(!sums.segments());
    CHECK(sums.header_length() == 0);
    CHECK(sums.segment_size() == 0);
    CHECK(sums.least_length() == 54); // all of the TCP header is there
    CHECK(tx_offload::checksums(udp4)->least_length() == 42);
    CHECK(tx_offload::ip_checksum(tcp4)->least_length() == 34);
    CHECK(sums != none);
    CHECK(sums != *tx_offload::transport_checksum(tcp4));
    CHECK(sums != *tx_offload::checksums(udp4));

    const tx_offload segments = *tx_offload::segmentation(tcp4, 66, 1'448);
    CHECK(segments.needed());
    CHECK(segments.segments());
    CHECK(segments.header_length() == 66);
    CHECK(segments.segment_size() == 1'448);
    CHECK(segments.least_length() == 67); // headers alone are no segment
    CHECK(segments != *tx_offload::segmentation(tcp4, 66, 1'447));
    // all of them compute
    CHECK(tx_offload::ip_checksum(tcp4)->needed());
    CHECK(tx_offload::transport_checksum(tcp6)->needed());
}

TEST_CASE("IPv6 has no header checksum", "[e1000e]") {
    CHECK(tx_offload::ip_checksum(tcp6).error() == error{errc::not_supported, 14});
    CHECK(*tx_offload::checksums(udp6) == *tx_offload::transport_checksum(udp6));
}

TEST_CASE("errors name the field", "[e1000e]") {
    CHECK(tx_offload::checksums({13, 33}).error() == error{errc::out_of_range, 13});
    CHECK(tx_offload::checksums({14, 33}).error() == error{errc::out_of_range, 33});
    CHECK(tx_offload::ip_checksum({14, 14}).error() == error{errc::out_of_range, 14});
    CHECK(tx_offload::transport_checksum({14, 0}).error() == error{errc::out_of_range, 0});
    // the checksum of TCP at 240 would lie at 256
    CHECK(tx_offload::checksums({184, 240}).error() == error{errc::out_of_range, 240});
    CHECK(tx_offload::segmentation(tcp4, 53, 1'460).error() == error{errc::out_of_range, 53});
    CHECK(tx_offload::segmentation(tcp4, 98, 1'460).error() == error{errc::out_of_range, 98});
    CHECK(tx_offload::segmentation(udp4, 46, 1'460).error() == error{errc::out_of_range, 46});
    CHECK(tx_offload::segmentation(tcp4, 54, 16).error() == error{errc::out_of_range, 16});
    CHECK(tx_offload::segmentation({14, 33}, 54, 1'460).error() == error{errc::out_of_range, 33});
}

/// Which layouts are possible, said by lists instead of arithmetic.
bool is_possible(const header_layout& l) {
    const int header = l.transport_at - l.ip;
    const int checksum = l.transport_at + (l.protocol == transport::tcp ? 16 : 6);
    bool length = false;
    if (l.version == ip_version::v4) {
        for (const int possible : {20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60}) {
            length |= header == possible;
        }
    } else {
        for (int possible = 40; possible < 256; possible += 8) {
            length |= header == possible;
        }
    }
    return length && l.ip >= 14 && checksum < 256;
}

/// Whether the NIC is defined for it, from the bits alone.
bool is_legal(const tx_descriptor& context, std::uint64_t data, const header_layout& l) {
    const auto byte = [](std::uint64_t word, unsigned low) { return (word >> low) & 0xFF; };
    const auto word = [](std::uint64_t all, unsigned low) { return (all >> low) & 0xFFFF; };
    const std::uint64_t ipcss = byte(context.low, 0);
    const std::uint64_t ipcso = byte(context.low, 8);
    const std::uint64_t ipcse = word(context.low, 16);
    const std::uint64_t tucss = byte(context.low, 32);
    const std::uint64_t tucso = byte(context.low, 40);
    bool good = ipcss == l.ip && tucss == l.transport_at && word(context.low, 48) == 0;
    good &= tucso == tucss + (l.protocol == transport::tcp ? 16U : 6U);
    if (l.version == ip_version::v4) {
        good &= ipcso == ipcss + 10 && ipcse == tucss - 1U && ipcso < ipcse;
    } else {
        good &= ipcso == 0 && ipcse == 0 && (data & IXSM) == 0;
    }
    // Nothing but TCP, IP, TSE and DEXT; DTYP, RS, STA, IDE and SNAP are 0.
    const std::uint64_t command = context.high & 0x0000'00FF'FFF0'0000;
    std::uint64_t wanted = DEXT;
    wanted |= l.protocol == transport::tcp ? TCP : 0;
    wanted |= l.version == ip_version::v4 ? IP : 0;
    wanted |= data & TSE;
    good &= command == wanted;
    // Data: format, TSE and POPTS, and at least one of POPTS; with TSE both where IPv4 is.
    good &= (data & ~(TSE | IXSM | TXSM)) == (DEXT | dtyp_data) && (data & (IXSM | TXSM)) != 0;
    if ((data & TSE) != 0) {
        good &= (data & TXSM) != 0 && ((data & IXSM) != 0) == (l.version == ip_version::v4);
    } else {
        good &= (context.high & ~command) == 0; // neither PAYLEN, HDRLEN nor MSS
    }
    return good;
}

TEST_CASE("all layouts: only possible ones are made, and the NIC is defined for all of them",
          "[e1000e][82574][rule 25]") {
    unsigned wrong = 0;
    unsigned made = 0;
    const auto judge = [&](const result<tx_offload>& offload, const header_layout& l,
                           bool possible) {
        wrong += offload.has_value() == possible ? 0 : 1;
        if (offload) {
            ++made;
            wrong += is_legal(offload->context(), offload->data().raw, l) ? 0 : 1;
        } else {
            wrong +=
                offload.error().where == l.ip || offload.error().where == l.transport_at ? 0 : 1;
        }
    };
    for (const ip_version version : {ip_version::v4, ip_version::v6}) {
        for (const transport protocol : {transport::tcp, transport::udp}) {
            for (unsigned ip = 0; ip != 256; ++ip) {
                for (unsigned at = 0; at != 256; ++at) {
                    const header_layout l{static_cast<std::uint8_t>(ip),
                                          static_cast<std::uint8_t>(at), version, protocol};
                    const bool possible = is_possible(l);
                    judge(tx_offload::ip_checksum(l), l, possible && version == ip_version::v4);
                    judge(tx_offload::transport_checksum(l), l, possible);
                    judge(tx_offload::checksums(l), l, possible);
                }
            }
        }
    }
    CHECK(wrong == 0);
    CHECK(made > 20'000);
}

TEST_CASE("all header lengths and segment sizes: HDRLEN ends behind the transport header, MSS is "
          "larger than 16",
          "[e1000e][82574][rule 25]") {
    unsigned wrong = 0;
    unsigned made = 0;
    for (const header_layout& l :
         {tcp4, udp4, tcp6, udp6, header_layout{18, 78, ip_version::v4, transport::tcp},
          header_layout{14, 222, ip_version::v6, transport::tcp},
          header_layout{14, 230, ip_version::v6, transport::udp},
          header_layout{14, 238, ip_version::v6, transport::udp}}) {
        for (unsigned length = 0; length != 256; ++length) {
            const unsigned own = length - l.transport_at;
            bool possible = false;
            if (l.protocol == transport::udp) {
                possible = length == l.transport_at + 8U;
            } else {
                for (unsigned header = 20; header <= 60; header += 4) {
                    possible |= own == header;
                }
            }
            possible &= length <= 240;
            for (const unsigned size : {0U, 1U, 16U, 17U, 1'460U, 0xFFFFU}) {
                const auto offload = tx_offload::segmentation(l, static_cast<std::uint8_t>(length),
                                                              static_cast<std::uint16_t>(size));
                wrong += offload.has_value() == (possible && size > 16) ? 0 : 1;
                if (!offload) {
                    continue;
                }
                ++made;
                const tx_descriptor context = offload->context(0xA'BCDE);
                wrong += is_legal(context, offload->data().raw, l) ? 0 : 1;
                wrong +=
                    (context.high & 0xFFFF'FF00'000F'FFFF) == seconds(0, length, size, 0xA'BCDE)
                        ? 0
                        : 1;
                wrong += offload->least_length() == length + 1 ? 0 : 1;
            }
        }
    }
    CHECK(wrong == 0);
    // 11 + 1 + 11 + 1 + 11 (78 + 60 is 138) TCP and UDP, none above 240, times 3 sizes
    CHECK(made == (11 + 1 + 11 + 1 + 11 + 0 + 1 + 0) * 3);
}

} // namespace
