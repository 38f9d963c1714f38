// SPDX-License-Identifier: BSL-1.0
#include "frame.hpp"

namespace guest {
namespace {

constexpr std::uint32_t text_at = 22;
constexpr std::uint32_t pattern_at = 46;

constexpr std::uint8_t pattern(std::uint32_t index, std::uint32_t number) {
    return static_cast<std::uint8_t>(index + number);
}

} // namespace

void write_frame(std::uint8_t* to, std::uint32_t length, const frame_header& header) {
    for (unsigned i = 0; i != 6; ++i) {
        to[i] = header.destination.bytes[i];
        to[6 + i] = header.source.bytes[i];
    }
    to[12] = 0x88;
    to[13] = 0xB5;
    to[14] = 'p';
    to[15] = 't';
    to[16] = static_cast<std::uint8_t>(header.kind);
    to[17] = 0;
    for (unsigned i = 0; i != 4; ++i) {
        to[18 + i] = static_cast<std::uint8_t>(header.number >> 8 * i);
    }
    const char* letter = header.text;
    for (std::uint32_t i = text_at; i != pattern_at; ++i) {
        to[i] = static_cast<std::uint8_t>(*letter);
        letter += *letter == '\0' ? 0 : 1;
    }
    for (std::uint32_t i = pattern_at; i < length; ++i) {
        to[i] = pattern(i, header.number);
    }
}

seen_frame read_frame(const std::uint8_t* from, std::uint32_t length) {
    seen_frame seen;
    if (length < pattern_at || from[12] != 0x88 || from[13] != 0xB5 || from[14] != 'p' ||
        from[15] != 't') {
        return seen;
    }
    seen.is_ours = true;
    seen.kind = static_cast<frame_kind>(from[16]);
    for (unsigned i = 0; i != 4; ++i) {
        seen.number |= std::uint32_t{from[18 + i]} << 8 * i;
    }
    for (unsigned i = 0; i != 6; ++i) {
        seen.source.bytes[i] = from[6 + i];
    }
    seen.is_right = true;
    for (std::uint32_t i = pattern_at; i != length; ++i) {
        seen.is_right = seen.is_right && from[i] == pattern(i, seen.number);
    }
    return seen;
}

bool operator==(const mac_address& a, const mac_address& b) {
    for (unsigned i = 0; i != 6; ++i) {
        if (a.bytes[i] != b.bytes[i]) {
            return false;
        }
    }
    return true;
}

} // namespace guest
