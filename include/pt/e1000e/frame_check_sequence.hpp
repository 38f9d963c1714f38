// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace pt::e1000e {

/// Bytes of the frame check sequence at the end of a frame on the wire.
inline constexpr std::size_t frame_check_sequence_size = 4;

/// The frame check sequence of Ethernet (CRC-32) [802.3], of bytes that come in pieces:
///
///     frame_check_sequence{}.add(frame, length).value()
///
/// It takes four bytes at a time, by tables of 4 KiB.
class frame_check_sequence {
public:
    /// Goes on with these bytes.
    constexpr frame_check_sequence& add(const std::uint8_t* bytes, std::size_t count) {
        std::uint32_t left = remainder_;
        for (; count >= 4; count -= 4, bytes += 4) {
            left ^= static_cast<std::uint32_t>(bytes[0]) |
                    static_cast<std::uint32_t>(bytes[1]) << 8U |
                    static_cast<std::uint32_t>(bytes[2]) << 16U |
                    static_cast<std::uint32_t>(bytes[3]) << 24U;
            left = after.zeros[3][left & 0xFFU] ^ after.zeros[2][(left >> 8U) & 0xFFU] ^
                   after.zeros[1][(left >> 16U) & 0xFFU] ^ after.zeros[0][left >> 24U];
        }
        for (; count != 0; --count, ++bytes) {
            left = after.zeros[0][(left ^ *bytes) & 0xFFU] ^ (left >> 8U);
        }
        remainder_ = left;
        return *this;
    }

    /// Of all bytes so far. On the wire it is sent with bits 7:0 first, 31:24 last.
    [[nodiscard]] constexpr std::uint32_t value() const { return ~remainder_; }

private:
    /// zeros[n][byte]: what is left of a byte that 8 * (n + 1) zero bits follow, after division by
    /// the polynomial 0x04C11DB7. Ethernet sends low bits first, so all is mirrored.
    struct remainders {
        std::uint32_t zeros[4][256] = {};

        constexpr remainders() {
            for (std::uint32_t byte = 0; byte != 256; ++byte) {
                std::uint32_t left = byte;
                for (unsigned bit = 0; bit != 8; ++bit) {
                    left = (left >> 1U) ^ ((left & 1U) != 0 ? 0xEDB8'8320U : 0U);
                }
                zeros[0][byte] = left;
            }
            for (std::uint32_t byte = 0; byte != 256; ++byte) {
                for (unsigned n = 1; n != 4; ++n) {
                    const std::uint32_t before = zeros[n - 1][byte];
                    zeros[n][byte] = zeros[0][before & 0xFFU] ^ (before >> 8U);
                }
            }
        }
    };
    static const remainders after;

    std::uint32_t remainder_ = ~std::uint32_t{0};
};

inline constexpr frame_check_sequence::remainders frame_check_sequence::after{};

} // namespace pt::e1000e
