// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/address_size.hpp"

#include <cstdint>

namespace pt::vcpu {

enum class io_direction : std::uint8_t { out = 0, in = 1 };

/// Segment registers in the order in which the processors number them [sdm] [amd].
enum class segment_register : std::uint8_t { es = 0, cs = 1, ss = 2, ds = 3, fs = 4, gs = 5 };

/// An IN, OUT, INS or OUTS that exited.
struct io_instruction {
    io_port port{};
    width size = width::byte;
    io_direction direction = io_direction::out;
    bool string = false; ///< INS or OUTS: the value is in memory, not in the accumulator
    bool rep = false;    ///< with a REP prefix: as often as rCX says
    address_size addresses = address_size::bits_64;  ///< of a string instruction
    segment_register segment = segment_register::ds; ///< of OUTS; INS always writes to ES
    std::uint8_t length = 0; ///< of the instruction in bytes; 0: the processor did not say

    friend constexpr bool operator==(const io_instruction&, const io_instruction&) = default;
};

} // namespace pt::vcpu
