// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/receive_checksum.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// Random packets against a second model are in rx_engine.cpp; here are packets byte by byte.
namespace {

using pt::e1000e::receive_checksum;
using pt::e1000e::rfctl;
using pt::e1000e::rxcsum;

using bytes = std::vector<std::uint8_t>;

constexpr rxcsum both{0x300U};
constexpr rxcsum everything{0x1300U}; // and IPPCSE

bytes operator+(bytes a, const bytes& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

receive_checksum of(const bytes& frame, rxcsum control = both, rfctl filter = {}) {
    return receive_checksum::of(frame.data(), frame.size(), control, filter, 0x8100);
}

const bytes addresses(12, 0x02);
const bytes is_ipv4 = {0x08, 0x00};
const bytes is_ipv6 = {0x86, 0xDD};

// The header that textbooks compute: its checksum is B861.
const bytes header = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
                      0xB8, 0x61, 0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8, 0x00, 0xC7};

// 10.0.0.1 to 10.0.0.2, "hi" from port 1 to port 2. By hand: pseudo header 0A00+0001+0A00+0002+0011
// +000A = 141E; 0001+0002+000A+6869 = 6876; together 7C94, complement 836B.
const bytes udp_header = {0x45, 0x00, 0x00, 0x1E, 0x00, 0x00, 0x00, 0x00, 0x40, 0x11,
                          0x66, 0xCD, 0x0A, 0x00, 0x00, 0x01, 0x0A, 0x00, 0x00, 0x02};
const bytes udp = {0x00, 0x01, 0x00, 0x02, 0x00, 0x0A, 0x83, 0x6B, 'h', 'i'};

// ::1 to ::2, an ACK without data, port 1 to 2. Pseudo header 0001+0002+0014+0006 = 001D; 0001+0002
// +5010 = 5013; together 5030, complement AFCF.
bytes ipv6_header(std::uint8_t next, std::uint8_t length) {
    bytes made = {0x60, 0, 0, 0, 0, length, next, 64};
    made.resize(40);
    made[23] = 1;
    made[39] = 2;
    return made;
}
const bytes tcp = {0x00, 0x01, 0x00, 0x02, 0,    0,    0,    0,    0, 0,
                   0,    0,    0x50, 0x10, 0x00, 0x00, 0xAF, 0xCF, 0, 0};

TEST_CASE("an IPv4 header is checked", "[e1000e][rfc791]") {
    const bytes frame = addresses + is_ipv4 + header;
    receive_checksum expected;
    expected.ip_checked = true; // that its payload is cut off does not matter
    CHECK(of(frame) == expected);
    for (std::size_t bit = 0; bit != 8 * 20; ++bit) {
        if (bit < 8 || (bit >= 16 && bit < 32)) {
            continue; // version and lengths
        }
        bytes bad = frame;
        bad[14 + bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
        CHECK(of(bad).ip_wrong);
    }
    expected.ip_checked = false;
    CHECK(of(frame, rxcsum{0x200U}) == expected);
}

TEST_CASE("UDP over IPv4 is checked, behind a tag and SNAP as well", "[e1000e][rfc768]") {
    receive_checksum expected;
    expected.ip_checked = expected.transport_checked = expected.is_udp = true;
    const bytes tag = {0x81, 0x00, 0x01, 0x23};
    const bytes snap = {0x00, 0x26, 0xAA, 0xAA, 0x03, 0, 0, 0};
    for (const bytes& between : {bytes{}, tag, snap, tag + snap}) {
        const bytes frame = addresses + between + is_ipv4 + udp_header + udp;
        CHECK(of(frame) == expected);
        CHECK(of(frame + bytes(20, 0xFF)) == expected); // padding is no part of it
        bytes bad = frame;
        bad.back() ^= 1;
        CHECK(of(bad).transport_wrong);
        CHECK_FALSE(of(bad).ip_wrong);
    }
    // LLC, but not SNAP; OUI not 0; two tags; a type just above the lengths.
    const bytes others[] = {{0x00, 0x26, 0xAA, 0xAB, 0x03, 0, 0, 0},
                            {0x00, 0x26, 0xAA, 0xAA, 0x03, 0, 0, 1},
                            {0x00, 0x26, 0xAA, 0xAA, 0x02, 0, 0, 0},
                            tag + tag,
                            {0x05, 0xDD, 0xAA, 0xAA, 0x03, 0, 0, 0}};
    for (const bytes& between : others) {
        CHECK(of(addresses + between + is_ipv4 + udp_header + udp) == receive_checksum{});
    }
    // No checksum: not checked.
    bytes none = addresses + is_ipv4 + udp_header + udp;
    none[14 + 20 + 6] = none[14 + 20 + 7] = 0;
    expected.transport_checked = expected.is_udp = false;
    CHECK(of(none) == expected);
    // A UDP length that IP does not confirm, and an IP packet too short for a header.
    for (const int length : {0, 7, 8, 9, 11, 255}) {
        bytes bad = addresses + is_ipv4 + udp_header + udp;
        bad[14 + 20 + 5] = static_cast<std::uint8_t>(length);
        CHECK(of(bad) == expected);
    }
    bytes stub = addresses + is_ipv4 + udp_header + udp;
    stub[14 + 3] = 27;
    stub[14 + 11] += 3;
    stub[14 + 20 + 5] = 7;
    CHECK(of(stub) == expected);
}

TEST_CASE("TCP over IPv6 is checked; RFCTL says what an acknowledgement is", "[e1000e][rfc8200]") {
    const bytes frame = addresses + is_ipv6 + ipv6_header(6, 20) + tcp;
    receive_checksum expected;
    expected.transport_checked = expected.acknowledges = true;
    CHECK(of(frame) == expected);
    CHECK(of(frame, both, rfctl{1U << 13}) == expected); // without data: also with ACKD_DIS
    CHECK(of(frame, both, rfctl{1U << 10}) == receive_checksum{});
    expected.transport_checked = false;
    CHECK(of(frame, both, rfctl{1U << 11}) == expected);
    CHECK(of(frame, rxcsum{0x100U}) == expected);
    // A data offset that is no header, or goes beyond the packet.
    for (unsigned offset = 0; offset != 16; ++offset) {
        bytes bad = frame;
        bad[14 + 40 + 12] = static_cast<std::uint8_t>(offset << 4);
        CHECK(of(bad).transport_checked == (offset == 5));
        CHECK(of(bad).acknowledges == (offset == 5));
    }
    // Longer by 4 bytes of zeros: data, or options.
    const bytes longer = addresses + is_ipv6 + ipv6_header(6, 24) + tcp + bytes(4, 0);
    CHECK(of(longer).acknowledges);
    CHECK_FALSE(of(longer, both, rfctl{1U << 13}).acknowledges);
    CHECK(of(longer).transport_wrong); // its length is part of the sum
    // Shorter than a header.
    CHECK(of(addresses + is_ipv6 + ipv6_header(6, 19) + tcp) == receive_checksum{});
}

TEST_CASE("IPv6 extension headers that are skipped, and those that are not", "[e1000e][8254x]") {
    receive_checksum expected;
    expected.transport_checked = expected.acknowledges = true;
    auto with = [](std::uint8_t kind, std::uint8_t units) {
        bytes extension(8 + 8 * std::size_t{units}, 0);
        extension[0] = 6;
        extension[1] = units;
        const auto length = static_cast<std::uint8_t>(extension.size() + 20);
        return of(addresses + is_ipv6 + ipv6_header(kind, length) + extension + tcp);
    };
    for (const std::uint8_t kind :
         {std::uint8_t{0}, std::uint8_t{0x3C}}) { // hop by hop, destination options
        CHECK(with(kind, 0) == expected);
        CHECK(with(kind, 7) == expected); // 64 bytes
        CHECK(with(kind, 8) == receive_checksum{});
    }
    CHECK(with(0x2B, 0) == expected); // routing
    CHECK(with(0x2B, 1) == receive_checksum{});
    CHECK(with(0x2C, 0) == receive_checksum{}); // fragment
    CHECK(with(0x33, 0) == receive_checksum{}); // authentication
    // A chain that ends in the middle of nowhere.
    for (std::uint8_t length = 0; length != 8; ++length) {
        CHECK(of(addresses + is_ipv6 + ipv6_header(0, length) + bytes(length, 0)) ==
              receive_checksum{});
    }
}

TEST_CASE("fragments of UDP are summed where RXCSUM.IPPCSE asks for it", "[e1000e][82574]") {
    bytes first = addresses + is_ipv4 + udp_header + udp;
    first[14 + 4] = 0xCA; // identification
    first[14 + 6] = 0x20; // more fragments
    receive_checksum expected;
    expected.ip_checked = expected.ip_wrong = true; // its checksum was not made anew
    expected.is_fragment = expected.udp_begins = true;
    expected.identification = 0xCA00;
    CHECK(of(first) == expected);
    expected.payload_summed = true;
    // 0001+0002+000A+836B+6869 = EBE1; complement 141E.
    expected.payload_checksum = 0x141E;
    CHECK(of(first, everything) == expected);
    CHECK_FALSE(of(first, rxcsum{0x1301U}).payload_summed); // PCSS must be 0 for it
    // That is the sum of the pseudo header: what is left of a packet that is right as a whole.
    bytes later = first;
    later[14 + 6] = 0x00;
    later[14 + 7] = 0x01; // the last one
    expected.udp_begins = false;
    CHECK(of(later, everything) == expected);
    bytes without = first;
    without[14 + 26] = without[14 + 27] = 0;
    CHECK_FALSE(of(without, everything).udp_begins);
    CHECK(of(without, everything).payload_summed);
    bytes stub = first;
    stub[14 + 3] = 27; // 7 bytes of UDP
    CHECK_FALSE(of(stub, everything).udp_begins);
}

TEST_CASE("the result does not depend on what lies behind the frame", "[e1000e][hostile]") {
    const bytes extensions = {0, 0, 1, 4, 0, 0, 0, 0, 0x2B, 1, 5, 12, 0, 0, 0, 0,
                              0, 0, 0, 0, 0, 0, 0, 0, 6,    0, 0, 0,  0, 0, 0, 0};
    bytes stub = udp_header; // seven bytes of UDP, and then the frame ends
    stub[3] = 27;
    bytes long_header = header; // options that are not there, in a packet that is not there
    long_header[0] = 0x4F;
    long_header[2] = 0xFF;
    const bytes frames[] = {
        addresses + is_ipv4 + udp_header + udp,
        addresses + bytes{0x81, 0, 0, 0} + is_ipv6 + ipv6_header(0, 52) + extensions + tcp,
        addresses + bytes{0x00, 0x40, 0xAA, 0xAA, 0x03, 0, 0, 0} + is_ipv6 + ipv6_header(6, 20) +
            tcp,
        addresses + is_ipv4 + stub + bytes(7, 0),
        addresses + is_ipv4 + long_header,
    };
    constexpr std::uint8_t values[] = {0x00, 0x01, 0x05, 0x06, 0x11, 0x20,
                                       0x45, 0x4F, 0x60, 0xF0, 0xFF};
    for (const bytes& frame : frames) {
        for (std::size_t size = 14; size <= frame.size(); ++size) {
            for (std::size_t at = 12; at != size; ++at) {
                for (const std::uint8_t value : values) {
                    bytes changed(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
                    changed[at] = value;
                    const auto exact = std::make_unique<std::uint8_t[]>(size); // for sanitizers
                    std::copy(changed.begin(), changed.end(), exact.get());
                    const receive_checksum alone =
                        receive_checksum::of(exact.get(), size, everything, rfctl{}, 0x8100);
                    for (const std::uint8_t behind : {std::uint8_t{0x00}, std::uint8_t{0x11}}) {
                        changed.resize(size + 100, behind);
                        REQUIRE(receive_checksum::of(changed.data(), size, everything, rfctl{},
                                                     0x8100) == alone);
                        changed.resize(size);
                    }
                }
            }
        }
    }
}

} // namespace
