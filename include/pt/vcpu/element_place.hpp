// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"

#include <cstdint>

namespace pt::vcpu {

/// A part of an operand that lies together.
struct element_piece {
    gpa address{};          ///< of the first byte
    std::uint32_t size = 0; ///< in bytes
};

/// Where an operand of at most 8 bytes lies: in one piece, or in several where it crosses the end of
/// a page.
struct element_place {
    element_piece pieces[8]{}; ///< as many as an element has bytes at most; none is empty
    std::uint8_t count = 0;
    event fault{}; ///< if present, the guest cannot reach all of the element
    std::uint64_t cr2 = 0;
};

/// Finds an element of `size` bytes, 1 to 8, and checks all of it, before anything is read or
/// written. The offset does not wrap inside of an element: what lies beyond the segment is a fault,
/// and not at its start.
template <guest_memory Memory>
[[nodiscard]] constexpr element_place locate_element(Memory& memory, logical_address first,
                                                     std::uint32_t size, memory_access access) {
    expects(size >= 1 && size <= 8, "an element has 1 to 8 bytes");
    element_place found{};
    for (std::uint32_t left = size; left != 0;) {
        const logical_address rest{first.segment, first.offset + (size - left)};
        guest_place piece = memory.locate(rest, left, access);
        if (piece.fault.present) {
            found.fault = piece.fault;
            found.cr2 = piece.cr2;
            return found;
        }
        expects(piece.size != 0, "a place in guest memory has at least one byte");
        if (piece.size > left) {
            piece.size = left;
        }
        found.pieces[found.count++] = {piece.address, piece.size};
        left -= piece.size;
    }
    return found;
}

/// The element's value, least significant byte first; bits above its size are 0.
template <guest_memory Memory>
[[nodiscard]] constexpr std::uint64_t read_element(Memory& memory, const element_place& from) {
    std::uint8_t bytes[8]{};
    std::uint32_t done = 0;
    for (unsigned i = 0; i != from.count; ++i) {
        memory.read(from.pieces[i].address, bytes + done, from.pieces[i].size);
        done += from.pieces[i].size;
    }
    std::uint64_t value = 0;
    for (unsigned i = 0; i != 8; ++i) {
        value |= std::uint64_t{bytes[i]} << 8 * i;
    }
    return value;
}

/// Stores as many low bytes of the value as the element has.
template <guest_memory Memory>
constexpr void write_element(Memory& memory, const element_place& to, std::uint64_t value) {
    std::uint8_t bytes[8]{};
    for (unsigned i = 0; i != 8; ++i) {
        bytes[i] = static_cast<std::uint8_t>(value >> 8 * i);
    }
    std::uint32_t done = 0;
    for (unsigned i = 0; i != to.count; ++i) {
        memory.write(to.pieces[i].address, bytes + done, to.pieces[i].size);
        done += to.pieces[i].size;
    }
}

} // namespace pt::vcpu
