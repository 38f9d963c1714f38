// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::pc {

/// What a guest may do with memory; the numbers are those of the memory maps of multiboot and of
/// INT 15H, E820H.
enum class memory_kind : std::uint32_t {
    available = 1,
    reserved = 2,         ///< the tables that firmware leaves in low memory
    acpi_reclaimable = 3, ///< free once the guest has read the tables that are there
};

/// Memory of a guest in one piece, and where the VMM reaches its first byte.
struct ram_piece {
    pt::range<pt::gpa> at{};
    std::uint8_t* bytes = nullptr;
    memory_kind kind = memory_kind::available;
};

/// The memory of one guest: the VMM's way to the bytes, whatever the guest says of addresses. A
/// handle: the pieces stay with the VMM, sorted by address.
class guest_ram {
public:
    constexpr guest_ram(const ram_piece* pieces, std::uint32_t count)
        : pieces_{pieces}, count_{count} {}

    [[nodiscard]] constexpr const ram_piece* begin() const { return pieces_; }
    [[nodiscard]] constexpr const ram_piece* end() const { return pieces_ + count_; }

    /// The piece that `at` lies in; nullptr: there is no memory.
    [[nodiscard]] constexpr const ram_piece* find(pt::gpa at) const {
        for (const ram_piece& piece : *this) {
            if (piece.at.contains(at)) {
                return &piece;
            }
        }
        return nullptr;
    }

    /// Where `size` bytes from `first` on lie for the VMM. errc::out_of_range with `first`: not all
    /// of them are in one piece. (A pointer could not say so: memory of a guest may lie at 0.)
    [[nodiscard]] constexpr pt::result<std::uint8_t*> bytes(pt::gpa first,
                                                            std::uint64_t size) const {
        const ram_piece* const piece = find(first);
        if (piece == nullptr || size > piece->at.size() - (first - piece->at.first())) {
            return pt::error{pt::errc::out_of_range, first.raw};
        }
        return piece->bytes + (first - piece->at.first());
    }

    /// Where there is no memory it reads all ones.
    constexpr void read(pt::gpa from, std::uint8_t* to, std::size_t count) const {
        for (std::size_t i = 0; i != count; ++i) {
            const auto byte = bytes(from + i, 1);
            to[i] = byte ? **byte : std::uint8_t{0xFF};
        }
    }

    /// Where there is no memory the write is lost.
    constexpr void write(pt::gpa to, const std::uint8_t* from, std::size_t count) const {
        for (std::size_t i = 0; i != count; ++i) {
            if (const auto byte = bytes(to + i, 1)) {
                **byte = from[i];
            }
        }
    }

private:
    const ram_piece* pieces_;
    std::uint32_t count_;
};

} // namespace vmm::pc
