// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/frame_check_sequence.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using pt::e1000e::frame_check_sequence;

/// The definition [802.3]: the bits in the order of the wire, low ones of each byte first, as a
/// polynomial; the first 32 of them inverted; times x^32; the remainder of the division by the
/// generator, inverted. Its highest coefficient is sent first, which is bit 0 of the value.
constexpr std::uint32_t by_division(const std::uint8_t* bytes, std::size_t count) {
    constexpr std::uint32_t generator = 0x04C1'1DB7; // and x^32
    std::uint32_t remainder = 0;
    for (std::size_t bit = 0; bit != 8 * count + 32; ++bit) {
        std::uint32_t coefficient = bit < 8 * count ? (bytes[bit / 8] >> (bit % 8)) & 1U : 0U;
        coefficient ^= bit < 32 ? 1U : 0U;
        const bool divides = (remainder >> 31) != 0;
        remainder = remainder << 1 | coefficient;
        if (divides) {
            remainder ^= generator;
        }
    }
    std::uint32_t value = 0;
    for (unsigned bit = 0; bit != 32; ++bit) {
        value |= ((~remainder >> bit) & 1U) << (31 - bit);
    }
    return value;
}

constexpr bool known_values() {
    // The check value that every catalogue of CRCs has for CRC-32.
    constexpr std::uint8_t digits[] = {'1', '2', '3', '4', '5', '6', '7', '8', '9'};
    constexpr std::uint8_t zero[] = {0};
    constexpr std::uint8_t ones[] = {0xFF, 0xFF, 0xFF, 0xFF};
    return frame_check_sequence{}.add(digits, 9).value() == 0xCBF4'3926 &&
           by_division(digits, 9) == 0xCBF4'3926 && frame_check_sequence{}.value() == 0 &&
           frame_check_sequence{}.add(zero, 1).value() == 0xD202'EF8D &&
           frame_check_sequence{}.add(ones, 4).value() == 0xFFFF'FFFF;
}
static_assert(known_values());

TEST_CASE("the frame check sequence is CRC-32", "[e1000e][802.3]") {
    REQUIRE(known_values());
    std::mt19937 random{7};
    std::vector<std::uint8_t> bytes(300);
    for (std::size_t size = 4; size != bytes.size(); ++size) {
        for (std::uint8_t& byte : bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
        const std::uint32_t expected = by_division(bytes.data(), size);
        REQUIRE(frame_check_sequence{}.add(bytes.data(), size).value() == expected);
        // In pieces, at any place.
        const std::size_t cut = random() % (size + 1);
        REQUIRE(frame_check_sequence{}
                    .add(bytes.data(), cut)
                    .add(bytes.data() + cut, size - cut)
                    .value() == expected);
    }
}

TEST_CASE("a frame with its check sequence leaves the constant residue", "[e1000e][802.3]") {
    std::vector<std::uint8_t> frame;
    for (unsigned i = 0; i != 60; ++i) {
        frame.push_back(static_cast<std::uint8_t>(i * 7));
    }
    const std::uint32_t crc = frame_check_sequence{}.add(frame.data(), frame.size()).value();
    for (unsigned i = 0; i != 4; ++i) { // low byte first
        frame.push_back(static_cast<std::uint8_t>(crc >> (8 * i)));
    }
    CHECK(frame_check_sequence{}.add(frame.data(), frame.size()).value() == 0x2144'DF1C);
}

} // namespace
