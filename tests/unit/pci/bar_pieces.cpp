// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/bar_pieces.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

using pt::pci::bar;
using pt::pci::bar_kind;
using pt::pci::bar_part;
using pt::pci::bar_piece;
using pt::pci::bar_pieces;
using pt::pci::msi_x_layout;
using pt::pci::reach;

namespace {

constexpr bar memory_bar(std::uint8_t index, std::uint64_t size) {
    return {bar_kind::mem64, false, index, 0x10, 0, size};
}

/// The second model: one flag a byte below a page, one flag a page above.
std::vector<bool> trapped_pages(const bar& sized, const msi_x_layout& layout) {
    std::vector<bool> trapped(sized.size < 4096 ? 1 : sized.size / 4096);
    if (sized.size < 4096) {
        trapped[0] = true;
        return trapped;
    }
    for (std::size_t page = 0; page < trapped.size(); ++page) {
        for (const bar_part& part : {layout.table, layout.pending_bits}) {
            // Counted by the 8 bytes, of which both structures are made.
            for (std::uint64_t at = part.offset; at < part.offset + part.size; at += 8) {
                if (part.bar == sized.index && at / 4096 == page) {
                    trapped[page] = true;
                }
            }
        }
    }
    return trapped;
}

/// Whether the pieces lie end to end, cover the BAR, are as few as can be, and agree with the flags.
bool agree(const bar& sized, const msi_x_layout& layout) {
    const std::vector<bool> trapped = trapped_pages(sized, layout);
    const bar_pieces pieces = bar_pieces::of(sized, layout);
    std::uint64_t at = 0;
    const bar_piece* before = nullptr;
    for (const bar_piece& piece : pieces) {
        if (piece.part.bar != sized.index || piece.part.offset != at || piece.part.size == 0 ||
            (before != nullptr && before->how == piece.how)) {
            return false;
        }
        for (; at < piece.part.offset + piece.part.size;
             at += sized.size < 4096 ? sized.size : 4096) {
            if (at >= sized.size || trapped[at / 4096] != (piece.how == reach::trapped)) {
                return false;
            }
        }
        before = &piece;
    }
    return at == sized.size && pieces.size() <= 5;
}

} // namespace

TEST_CASE("a BAR without MSI-X in it is mapped as a whole", "[pci]") {
    constexpr auto holds = [] {
        const bar_pieces none = bar_pieces::of(memory_bar(0, 0x2'0000), {});
        const bar_pieces other =
            bar_pieces::of(memory_bar(2, 0x1'0000'0000), {5, {3, 0x1000, 80}, {1, 0x2000, 8}});
        return none.size() == 1 && *none.begin() == bar_piece{{0, 0, 0x2'0000}, reach::mapped} &&
               other.size() == 1 &&
               *other.begin() == bar_piece{{2, 0, 0x1'0000'0000}, reach::mapped};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the pages of the MSI-X table and of the pending bits are trapped, and no other",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        // 300 vectors: 4800 bytes from 0x1800, pages 1 and 2. The PBA of 40 bytes: page 5.
        const bar_pieces pieces =
            bar_pieces::of(memory_bar(4, 0x8000), {300, {4, 0x1800, 4800}, {4, 0x5FD8, 40}});
        const bar_piece expected[] = {{{4, 0x0000, 0x1000}, reach::mapped},
                                      {{4, 0x1000, 0x2000}, reach::trapped},
                                      {{4, 0x3000, 0x2000}, reach::mapped},
                                      {{4, 0x5000, 0x1000}, reach::trapped},
                                      {{4, 0x6000, 0x2000}, reach::mapped}};
        bool good = pieces.size() == 5 && pieces.end() - pieces.begin() == 5;
        for (std::size_t n = 0; n < 5 && good; ++n) {
            good = pieces.begin()[n] == expected[n];
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR smaller than a page is trapped: its page is not its own", "[pci]") {
    for (std::uint64_t size = 16; size < 4096; size *= 2) {
        const bar_pieces pieces = bar_pieces::of(memory_bar(1, size), {});
        REQUIRE(pieces.size() == 1);
        REQUIRE(*pieces.begin() == bar_piece{{1, 0, size}, reach::trapped});
    }
    REQUIRE(bar_pieces::of(memory_bar(1, 4096), {}).begin()->how == reach::mapped);
}

TEST_CASE("a table at the very end of a BAR, and one that runs past it, trap what is inside",
          "[pci][rule 7]") {
    const auto last = [](std::uint64_t size, bar_part table) {
        const bar_pieces pieces = bar_pieces::of(memory_bar(0, size), {1, table, {}});
        return pieces.begin()[pieces.size() - 1];
    };
    REQUIRE(last(0x4000, {0, 0x3FF0, 16}) == bar_piece{{0, 0x3000, 0x1000}, reach::trapped});
    REQUIRE(last(0x4000, {0, 0x3FF8, 16}) == bar_piece{{0, 0x3000, 0x1000}, reach::trapped});
    REQUIRE(last(0x4000, {0, 0x4000, 16}) == bar_piece{{0, 0x0000, 0x4000}, reach::mapped});
    REQUIRE(last(0x4000, {0, 0xFFFF'FFF8, 32768}) == bar_piece{{0, 0, 0x4000}, reach::mapped});
    // The largest BAR there can be, and a table in its last bytes.
    constexpr std::uint64_t half = std::uint64_t{1} << 63;
    REQUIRE(last(half, {0, half - 16, 16}) == bar_piece{{0, half - 4096, 4096}, reach::trapped});
}

TEST_CASE("pieces agree with a model of one flag a page", "[pci][rule 7]") {
    std::mt19937 engine{7};
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    for (int run = 0; run < 20000; ++run) {
        const bar sized =
            memory_bar(static_cast<std::uint8_t>(random() % 2), std::uint64_t{16} << random() % 14);
        const auto part = [&](std::uint64_t size) -> bar_part {
            return {static_cast<std::uint8_t>(random() % 2), random() % 0x2'8000 & ~7U, size};
        };
        const unsigned vectors = random() % 2 == 0 ? 1 + random() % 8 : 1 + random() % 2048;
        const msi_x_layout layout{static_cast<std::uint16_t>(vectors), part(vectors * 16U),
                                  part((vectors + 63) / 64 * 8)};
        CAPTURE(run, sized.index, sized.size, layout.table.bar, layout.table.offset,
                layout.table.size, layout.pending_bits.bar, layout.pending_bits.offset);
        REQUIRE(agree(sized, layout));
    }
}
