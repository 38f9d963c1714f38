// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/msi_x.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// How a guest reaches the memory of a BAR.
enum class reach : std::uint8_t {
    mapped,  ///< by itself, through a mapping
    trapped, ///< each access leaves the guest, and the VMM makes or refuses it
};

/// A part of a BAR that is reached in one way.
struct bar_piece {
    bar_part part;
    reach how = reach::mapped;

    friend constexpr bool operator==(const bar_piece&, const bar_piece&) = default;
};

/// A memory BAR cut into pieces that lie end to end, in order, at most five.
class bar_pieces {
public:
    [[nodiscard]] constexpr const bar_piece* begin() const { return pieces_; }
    [[nodiscard]] constexpr const bar_piece* end() const { return pieces_ + count_; }
    [[nodiscard]] constexpr std::size_t size() const { return count_; }

    /// Pages of 4 KiB that hold a part of the MSI-X table or of its pending bits are trapped: who
    /// writes there chooses the host's interrupts. So is a BAR that is smaller than a page, because
    /// what else is in its page belongs to somebody else. A function without MSI-X has a layout of
    /// zeros. A structure that does not lie inside the BAR is trapped as far as it does. The BAR is
    /// one for memory, and sized.
    static constexpr bar_pieces of(const bar& sized, const msi_x_layout& layout) {
        expects(sized.kind != bar_kind::io && sized.size != 0, "only sized memory has pieces");
        bar_pieces pieces;
        if (sized.size < page) {
            pieces.append(sized, sized.size, reach::trapped);
            return pieces;
        }
        const bool table_first = layout.table.offset <= layout.pending_bits.offset;
        pieces.trap(sized, table_first ? layout.table : layout.pending_bits);
        pieces.trap(sized, table_first ? layout.pending_bits : layout.table);
        pieces.append(sized, sized.size, reach::mapped);
        return pieces;
    }

private:
    static constexpr std::uint64_t page = 4096;

    [[nodiscard]] constexpr std::uint64_t covered() const {
        return count_ == 0 ? 0 : pieces_[count_ - 1].part.offset + pieces_[count_ - 1].part.size;
    }
    /// Everything up to `end` that no piece covers yet.
    constexpr void append(const bar& sized, std::uint64_t end, reach how) {
        const std::uint64_t begin = covered();
        if (begin >= end) {
            return;
        }
        if (count_ != 0 && pieces_[count_ - 1].how == how) {
            pieces_[count_ - 1].part.size += end - begin;
            return;
        }
        pieces_[count_++] = {{sized.index, begin, end - begin}, how};
    }
    constexpr void trap(const bar& sized, const bar_part& structure) {
        if (structure.size == 0 || structure.bar != sized.index || structure.offset >= sized.size) {
            return;
        }
        const std::uint64_t room = sized.size - structure.offset;
        const std::uint64_t end =
            structure.offset + (structure.size < room ? structure.size : room);
        append(sized, structure.offset / page * page, reach::mapped);
        append(sized, (end + page - 1) / page * page, reach::trapped);
    }

    bar_piece pieces_[5]{};
    std::size_t count_ = 0;
};

} // namespace pt::pci
