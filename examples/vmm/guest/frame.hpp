// SPDX-License-Identifier: BSL-1.0
//
// The frames that the guest sends, so that a capture tells them from all others:
//
//      0  destination
//      6  source
//     12  Ether type 0x88B5, which IEEE 802 leaves to local experiments
//     14  'p' 't'
//     16  what it is (frame_kind)
//     17  0
//     18  its number, 32 bits, little-endian
//     22  24 bytes of text, filled up with zeros
//     46  bytes 46 + number, 47 + number, ... to the end
#pragma once

#include "nic.hpp"

#include <cstdint>

namespace guest {

enum class frame_kind : std::uint8_t { plain = 0, question = 1, answer = 2, done = 3 };

/// Without the FCS.
inline constexpr std::uint32_t shortest_frame = 60;
inline constexpr std::uint32_t longest_frame = 1514;

struct frame_header {
    mac_address destination{};
    mac_address source{};
    frame_kind kind = frame_kind::plain;
    std::uint32_t number = 0;
    const char* text = "";
};

/// Writes a frame of `length` bytes, at least shortest_frame.
void write_frame(std::uint8_t* to, std::uint32_t length, const frame_header& header);

/// A frame of ours that arrived whole: kind, number and source, and whether every byte is right.
struct seen_frame {
    bool is_ours = false;
    bool is_right = false;
    frame_kind kind = frame_kind::plain;
    std::uint32_t number = 0;
    mac_address source{};
};
seen_frame read_frame(const std::uint8_t* from, std::uint32_t length);

bool operator==(const mac_address& a, const mac_address& b);

} // namespace guest
