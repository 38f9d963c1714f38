// SPDX-License-Identifier: BSL-1.0
// The Internet checksum against the RFC's examples, and against arithmetic modulo 65535.
#include "pt/e1000e/internet_checksum.hpp"

#include "tx_engine_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>

namespace {

using pt::e1000e::internet_checksum;
using tx_engine_test::bytes;

TEST_CASE("the example of RFC 1071 sums to DDF2", "[e1000e]") {
    constexpr auto check = [] {
        constexpr std::uint8_t data[] = {0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7};
        return internet_checksum{}.add(data, 8).sum() == 0xDDF2 &&
               internet_checksum{}.add(data, 8).checksum() == 0x220D &&
               internet_checksum{}.sum() == 0 && internet_checksum{}.checksum() == 0xFFFF;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an IPv4 header with its checksum sums to FFFF", "[e1000e]") {
    constexpr auto check = [] {
        std::uint8_t header[] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11,
                                 0xB8, 0x61, 0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8, 0x00, 0xC7};
        bool good = internet_checksum{}.add(header, 20).sum() == 0xFFFF;
        header[10] = header[11] = 0;
        return good && internet_checksum{}.add(header, 20).checksum() == 0xB861;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("pieces may end anywhere: the sum is that of the bytes in a row", "[e1000e]") {
    constexpr auto check = [] {
        constexpr std::uint8_t data[] = {0x12, 0x34, 0x56, 0x78, 0x9A};
        const std::uint16_t whole = internet_checksum{}.add(data, 5).sum();
        bool good = whole == 0x02AD; // 1234 + 5678 + 9A00 = 1'02AC
        for (std::size_t a = 0; a <= 5; ++a) {
            for (std::size_t b = a; b <= 5; ++b) {
                good = good && internet_checksum{}
                                       .add(data, a)
                                       .add(data + a, b - a)
                                       .add(data + b, 5 - b)
                                       .sum() == whole;
            }
        }
        // A word in the middle of a word.
        return good &&
               internet_checksum{}.add(data, 1).add(std::uint16_t{0x3456}).sum() == 0x1234 + 0x5600;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("random bytes of every length and alignment, also where carries pile up", "[e1000e]") {
    tx_engine_test::dice random{1};
    for (std::size_t length = 0; length != 700; ++length) {
        bytes data = random.one_in(3) ? bytes(length, 0xFF) : random.some(length);
        const std::size_t cut = random.below(length + 1);
        internet_checksum sum;
        sum.add(data.data(), cut).add(data.data() + cut, length - cut);
        REQUIRE(sum.sum() == tx_engine_test::ones_complement_sum(data));
        REQUIRE(sum.checksum() == tx_engine_test::checksum(data));
    }
    const bytes large(1 << 20, 0xFF);
    REQUIRE(internet_checksum{}.add(large.data(), large.size()).sum() == 0xFFFF);
    const bytes zeros(1 << 10, 0);
    REQUIRE(internet_checksum{}.add(zeros.data(), zeros.size()).sum() == 0);
}

TEST_CASE("pseudo headers are those of the RFCs, with and without a length", "[e1000e]") {
    tx_engine_test::dice random{2};
    for (unsigned turn = 0; turn != 200; ++turn) {
        tx_engine_test::stream s = tx_engine_test::any_stream(random);
        const bytes payload = random.some(random.below(100));
        const bytes frame = s.frame(payload, tx_engine_test::stream::finished::none);
        const auto* ip = frame.data() + s.ip_at();
        for (const unsigned length : {0U, 8U, 1500U, 65535U}) {
            const bytes expected = s.pseudo_header(length);
            const auto sum =
                s.v4 ? pt::e1000e::ipv4_pseudo_header(ip, static_cast<std::uint16_t>(length))
                     : pt::e1000e::ipv6_pseudo_header(ip, s.tcp ? 6 : 17, length);
            REQUIRE(sum.sum() == tx_engine_test::ones_complement_sum(expected));
        }
    }
    // A jumbogram's length takes both words.
    const bytes ip(40, 0);
    REQUIRE(pt::e1000e::ipv6_pseudo_header(ip.data(), 17, 0x0002'0001).sum() == 2 + 1 + 17);
}

} // namespace
