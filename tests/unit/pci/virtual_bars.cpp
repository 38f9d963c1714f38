// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/virtual_bars.hpp"

#include "view_fixture.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>
#include <random>

using namespace view_fixture;

namespace {

struct registers {
    vmm host{};
    pt::pci::virtual_bars<events> bars{events{&host}};

    constexpr explicit registers(std::initializer_list<pt::result<bar>> all, bool io = true,
                                 bool memory = true) {
        if (!bars.assign(view_fixture::bars(all))) {
            host.told.overflow = true; // and no expectation is ever met
        }
        bars.decode(io, memory);
    }
    registers(const registers&) = delete; // events point into it
    registers& operator=(const registers&) = delete;

    constexpr void write(unsigned n, std::uint32_t value) { bars.write(n, value, 0xFFFF'FFFF); }
    constexpr void write_bytes(unsigned n, unsigned first, unsigned count, std::uint32_t value) {
        const std::uint32_t lanes = (count == 4 ? 0xFFFF'FFFF : (1U << 8 * count) - 1) << 8 * first;
        bars.write(n, value << 8 * first, lanes);
    }
    /// What register `n` reads after all ones; what was there is put back.
    constexpr std::uint32_t probe(unsigned n, std::uint32_t ones = 0xFFFF'FFFF) {
        const std::uint32_t before = bars.read(n);
        write(n, ones);
        const std::uint32_t read = bars.read(n);
        write(n, before);
        return read;
    }
    constexpr bool was(std::initializer_list<happening> expected) {
        return host.told.was(expected);
    }
};

} // namespace

TEST_CASE("a register of each kind reads back a probe as [pci] has it, flags and all",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::io, 32), bar_of_kind(1, bar_kind::mem32, 0x2'0000),
                     bar_of_kind(2, bar_kind::mem1m, 0x1000),
                     bar_of_kind(3, bar_kind::mem64, 0x4000, true),
                     bar_of_kind(6, bar_kind::rom, 0x1'0000)},
                    false,
                    false};
        bool good = r.probe(0) == 0xFFFF'FFE1;
        good &= r.probe(1) == 0xFFFE'0000;
        good &= r.probe(2) == 0x000F'F002; // below 1 MiB: no bits above 19
        good &= r.probe(3) == 0xFFFF'C00C && r.probe(4) == 0xFFFF'FFFF;
        good &= r.probe(5) == 0; // not implemented
        good &= r.probe(6, 0xFFFF'F800) == 0xFFFF'0000;
        good &= r.probe(6, 0xFFFF'FFFE) == 0xFFFF'0000;
        good &= r.probe(6) == 0xFFFF'0001; // with the enable bit, which is read-write
        return good && r.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("every size of every kind reads back its lowest writable bit", "[pci][rule 6]") {
    const auto probed = [](bar_kind kind, std::uint64_t size, bool prefetchable) -> std::uint64_t {
        registers r{{bar_of_kind(0, kind, size, prefetchable)}, false, false};
        r.write(0, 0xFFFF'FFFF);
        r.write(1, 0xFFFF'FFFF); // both halves before either is read
        return std::uint64_t{r.bars.read(1)} << 32 | r.bars.read(0);
    };
    for (unsigned log2 = 4; log2 < 64; ++log2) {
        const std::uint64_t size = std::uint64_t{1} << log2;
        const std::uint64_t mask = ~(size - 1);
        CAPTURE(log2);
        REQUIRE(probed(bar_kind::mem64, size, false) == (mask | 4));
        REQUIRE(probed(bar_kind::mem64, size, true) == (mask | 0xC));
        if (log2 < 32) {
            REQUIRE(probed(bar_kind::mem32, size, false) == (mask & 0xFFFF'FFFF));
            REQUIRE(probed(bar_kind::mem32, size, true) == ((mask & 0xFFFF'FFFF) | 8));
        }
        if (log2 < 16) {
            REQUIRE(probed(bar_kind::io, size, false) == ((mask & 0xFFFF'FFFF) | 1));
        }
        if (log2 < 20) {
            REQUIRE(probed(bar_kind::mem1m, size, false) == ((mask & 0xF'FFFF) | 2));
        }
    }
}

TEST_CASE("bytes and words of a register change nothing but themselves", "[pci][rule 5]") {
    std::mt19937 engine{11};
    const auto random = [&] { return static_cast<std::uint32_t>(engine()); };
    registers r{
        {bar_of_kind(0, bar_kind::mem64, 0x40), bar_of_kind(2, bar_kind::mem32, 16)}, false, false};
    std::uint8_t bytes[12]{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const std::uint8_t writable[12]{0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
                                    0xFF, 0xFF, 0xF0, 0xFF, 0xFF, 0xFF};
    for (int run = 0; run < 2000; ++run) {
        const unsigned n = random() % 3;
        const unsigned count = 1U << random() % 3;
        const unsigned first = random() % (5 - count);
        const std::uint32_t value = random();
        r.write_bytes(n, first, count, value);
        for (unsigned i = 0; i < count; ++i) {
            const unsigned at = 4 * n + first + i;
            bytes[at] = static_cast<std::uint8_t>((bytes[at] & ~writable[at]) |
                                                  (value >> 8 * i & writable[at]));
        }
        for (unsigned k = 0; k < 3; ++k) {
            std::uint32_t expected = 0;
            for (unsigned i = 0; i < 4; ++i) {
                expected |= std::uint32_t{bytes[4 * k + i]} << 8 * i;
            }
            REQUIRE(r.bars.read(k) == expected);
        }
    }
    REQUIRE(r.was({}));
}

TEST_CASE("sizing moves nothing, with decoding on or off, in any order of the halves",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const bool on : {false, true}) {
            registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000),
                         bar_of_kind(2, bar_kind::mem32, 0x1000),
                         bar_of_kind(3, bar_kind::io, 32)}};
            r.write(0, 0xD000'0000);
            r.write(1, 0x0000'0008);
            r.write(2, 0xC000'0000);
            r.write(3, 0x0000'C000);
            good &= r.was({bar_moves(0, nowhere, 0x8'D000'0000), bar_moves(2, nowhere, 0xC000'0000),
                           bar_moves(3, nowhere, 0xC000)});
            r.bars.decode(on, on);
            r.host.told.count = 0;
            good &= r.probe(0) == 0xFFFF'C004 && r.probe(1) == 0xFFFF'FFFF; // EDK2
            good &= r.probe(1) == 0xFFFF'FFFF && r.probe(0) == 0xFFFF'C004;
            for (const unsigned first : {0U, 1U}) { // FreeBSD: both before either is restored
                r.write(first, 0xFFFF'FFFF);
                r.write(1 - first, 0xFFFF'FFFF);
                r.write(0, 0xD000'0000);
                r.write(1, 0x0000'0008);
                r.write(first, 0xFFFF'FFFF);
                r.write(1 - first, 0xFFFF'FFFF);
                r.write(1, 0x0000'0008);
                r.write(0, 0xD000'0000);
            }
            r.probe(2);
            r.probe(2, 0xFFFF'FFF0);
            r.probe(3);
            r.probe(3, 0xFFFF'FFFC);
            r.bars.settle();
            good &= r.was({}) && !r.bars.half_written();
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("decoding that is turned on over a probe value maps nothing", "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000),
                     bar_of_kind(2, bar_kind::mem32, 0x1000), bar_of_kind(3, bar_kind::io, 32),
                     bar_of_kind(6, bar_kind::rom, 0x1000)},
                    false,
                    false};
        for (const unsigned n : {0U, 2U, 3U, 6U}) {
            r.write(n, 0xFFFF'FFFF);
        }
        r.write(1, 0x0000'0001);
        r.bars.decode(true, true);
        bool good = r.was({});
        // The other half alone is no address either.
        r.bars.decode(false, false);
        r.write(0, 0xD000'0000);
        r.write(1, 0xFFFF'FFFF);
        r.bars.decode(true, true);
        good &= r.was({});
        r.write(2, 0xC000'0000);
        return good && r.was({bar_moves(2, nowhere, 0xC000'0000)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("all ones in a low half without address bits are no probe", "[pci][rule 6]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const bool on : {false, true}) {
            registers r{{bar_of_kind(0, bar_kind::mem64, 0x1'0000'0000)}, on, on};
            r.write(0, 0xFFFF'FFFF);
            r.write(1, 0xFFFF'FFFF);
            good &= r.bars.read(0) == 4 && r.bars.read(1) == 0xFFFF'FFFF && r.was({});
            r.write(1, 0x10); // nothing in the other half has to be put back
            r.bars.settle();
            r.bars.decode(true, true);
            good &= r.was({bar_moves(0, nowhere, 0x10'0000'0000)});
            r.write(0, 0xFFFF'FFFF);
            r.bars.settle();
            good &= r.was({});
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR moves at once with decoding on, and at decoding on else, in one event",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(1, bar_kind::mem32, 0x1000), bar_of_kind(2, bar_kind::io, 8)}};
        r.write(1, 0xC000'0000);
        r.write(1, 0xC000'1000);
        r.write(2, 0xC001); // its flag bit is read-only
        bool good = r.was({bar_moves(1, nowhere, 0xC000'0000),
                           bar_moves(1, 0xC000'0000, 0xC000'1000), bar_moves(2, nowhere, 0xC000)});
        r.bars.decode(false, false);
        good &= r.was({bar_moves(1, 0xC000'1000, nowhere), bar_moves(2, 0xC000, nowhere)});
        r.write(1, 0xD000'0000);
        r.write(1, 0xE000'0000);
        r.write(2, 0xD000);
        good &= r.was({}) && !r.bars.place(1) && !r.bars.place(2);
        r.bars.decode(true, false);
        good &= r.was({bar_moves(2, nowhere, 0xD000)});
        r.bars.decode(true, true);
        good &=
            r.was({bar_moves(1, nowhere, 0xE000'0000)}) && r.bars.place(1).address() == 0xE000'0000;
        r.bars.decode(true, true);
        r.write(1, 0xE000'0FFF); // the same page
        return good && r.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a mem64 moves once when both halves are written, or when it is settled",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        constexpr std::uint64_t from = 0x8'D000'0000;
        registers r{{bar_of_kind(4, bar_kind::mem64, 0x4000)}};
        r.write(4, 0xD000'0000);
        r.write(5, 0x8);
        bool good = r.was({bar_moves(4, nowhere, from)}) && !r.bars.half_written();
        r.write(4, 0xE000'0000); // low, then high
        good &= r.was({}) && r.bars.half_written() && r.bars.written_half() == 4;
        r.write(5, 0x9);
        good &= r.was({bar_moves(4, from, 0x9'E000'0000)});
        r.write(5, 0x8); // high, then low
        good &= r.was({}) && r.bars.written_half() == 5;
        r.write(4, 0xD000'0000);
        good &= r.was({bar_moves(4, 0x9'E000'0000, from)});
        r.write(4, 0xC000'0000); // low alone
        r.bars.settle();
        good &= r.was({bar_moves(4, from, 0x8'C000'0000)});
        r.write(5, 0); // high alone
        r.bars.settle();
        good &= r.was({bar_moves(4, 0x8'C000'0000, 0xC000'0000)});
        r.write(4, 0xD000'0000); // and one that was taken back
        r.write(4, 0xC000'0000);
        r.bars.settle();
        return good && r.was({}) && !r.bars.half_written();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a mem64 moves with its second half also right after a probe, or when one stays the same",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000)}};
        r.write(0, 0xE000'0000);
        r.write(1, 1);
        bool good = r.was({bar_moves(0, nowhere, 0x1'E000'0000)});
        for (const unsigned n : {0U, 1U}) {
            r.write(n, 0xFFFF'FFFF);
        }
        r.write(0, 0xD000'0000); // the new address without the old one in between
        good &= r.was({});
        r.write(1, 2);
        good &= r.was({bar_moves(0, 0x1'E000'0000, 0x2'D000'0000)});
        r.write(1, 2); // the same, and then the half that changes
        good &= r.was({});
        r.write(0, 0xC000'0000);
        good &= r.was({bar_moves(0, 0x2'D000'0000, 0x2'C000'0000)});
        r.write(0, 0xFFFF'FFFF); // sized and restored: what follows is a move of its own
        r.write(0, 0xC000'0000);
        r.write(0, 0xB000'0000);
        good &= r.was({});
        r.write(1, 3);
        return good && r.was({bar_moves(0, 0x2'C000'0000, 0x3'B000'0000)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("another register's write settles the half that was written before", "[pci][rule 6]") {
    registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000), bar_of_kind(2, bar_kind::mem64, 0x4000)}};
    r.write(0, 0xD000'0000);
    r.write(2, 0xE000'0000);
    REQUIRE(r.was({bar_moves(0, nowhere, 0xD000'0000)}));
    REQUIRE(r.bars.written_half() == 2);
    REQUIRE(r.bars.same_bar(0, 1));
    REQUIRE_FALSE(r.bars.same_bar(1, 2));
    r.write(3, 1);
    REQUIRE(r.was({bar_moves(2, nowhere, 0x1'E000'0000)}));
}

TEST_CASE("what is moved away is reported before what appears", "[pci][rule 6]") {
    registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000), bar_of_kind(1, bar_kind::io, 8),
                 bar_of_kind(2, bar_kind::mem32, 0x1000)},
                false,
                true};
    r.write(0, 0xC000'0000);
    r.write(1, 0x1000);
    r.write(2, 0xC000'1000);
    r.host.told.count = 0;
    r.bars.decode(true, false);
    REQUIRE(r.was({bar_moves(0, 0xC000'0000, nowhere), bar_moves(2, 0xC000'1000, nowhere),
                   bar_moves(1, nowhere, 0x1000)}));
}

TEST_CASE("nothing is mapped at 0, above the ports of x86, or above what the kind can reach",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000), bar_of_kind(2, bar_kind::io, 32),
                     bar_of_kind(3, bar_kind::mem1m, 0x1000),
                     bar_of_kind(4, bar_kind::mem32, 0x1000),
                     bar_of_kind(6, bar_kind::rom, 0x1000)}};
        bool good = r.was({});
        r.write(2, 0x1'0000); // a port that does not exist
        r.write(2, 0xFFFF'0000);
        r.write(2, 0x001F); // below the size
        r.write(4, 0x0000'0FF0);
        r.write(6, 0x0000'0001); // enabled, at 0
        good &= r.was({});
        r.write(2, 0xFFE0);      // the last one
        r.write(3, 0xFFFF'F000); // its upper bits are no bits
        r.write(4, 0xFFFF'F000); // the last page below 4 GiB, and no probe
        r.write(6, 0xFFFF'F001);
        r.write(1, 0xFFFF'FFFE);
        r.bars.settle();
        good &= r.was({bar_moves(2, nowhere, 0xFFE0), bar_moves(3, nowhere, 0xF'F000),
                       bar_moves(4, nowhere, 0xFFFF'F000), bar_moves(6, nowhere, 0xFFFF'F000),
                       bar_moves(0, nowhere, 0xFFFF'FFFE'0000'0000)});
        r.write(2, 0);
        r.write(4, 0);
        good &= r.was({bar_moves(2, 0xFFE0, nowhere), bar_moves(4, 0xFFFF'F000, nowhere)});
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the expansion ROM answers where memory is decoded and its enable bit is set", "[pci]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(6, bar_kind::rom, 0x1'0000)}};
        r.write(6, 0xC000'0000);
        bool good = r.was({}) && r.bars.read(6) == 0xC000'0000;
        r.write(6, 0xC000'0001);
        good &= r.was({bar_moves(6, nowhere, 0xC000'0000)});
        r.write(6, 0xFFFF'F800); // sized with its enable bit off, as [pci] wants it
        good &= r.was({bar_moves(6, 0xC000'0000, nowhere)}) && r.bars.read(6) == 0xFFFF'0000;
        r.write(6, 0xC000'0001);
        good &= r.was({bar_moves(6, nowhere, 0xC000'0000)});
        r.write(6, 0xFFFF'FFFF); // with the bit on
        r.write(6, 0xC000'0001);
        good &= r.was({});
        r.bars.decode(true, false);
        return good && r.was({bar_moves(6, 0xC000'0000, nowhere)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a refused change leaves the BAR nowhere, and the next one says so", "[pci]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000)}};
        r.host.refuses = true;
        r.write(0, 0xC000'0000);
        bool good = r.was({bar_moves(0, nowhere, 0xC000'0000)}) && !r.bars.place(0);
        good &= r.bars.read(0) == 0xC000'0000; // the register is the guest's all the same
        r.host.refuses = false;
        r.write(0, 0xD000'0000);
        good &= r.was({bar_moves(0, nowhere, 0xD000'0000)});
        r.host.refuses = true;
        r.write(0, 0xE000'0000);
        good &= r.was({bar_moves(0, 0xD000'0000, 0xE000'0000)}) && !r.bars.place(0);
        r.bars.decode(false, false); // nowhere already
        return good && r.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a place that was refused is asked for again only when the guest wants it anew",
          "[pci]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000)}};
        const auto refused = bar_moves(0, nowhere, 0xC000'0000);
        r.host.refuses = true;
        r.write(0, 0xC000'0000);
        bool good = r.was({refused});
        r.bars.decode(true, true); // a write to Command that changes something else
        r.write(0, 0xC000'0000);
        good &= r.was({});
        r.bars.decode(false, false);
        r.bars.decode(true, true);
        good &= r.was({refused});
        r.write(0, 0xD000'0000);
        r.write(0, 0xC000'0000);
        return good && r.was({bar_moves(0, nowhere, 0xD000'0000), refused});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR that the VMM cannot move stays where it was, and the next change says so",
          "[pci]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000)}};
        r.write(0, 0xC000'0000);
        r.host.is_stuck = true;
        r.write(0, 0xD000'0000);
        bool good =
            r.was({bar_moves(0, nowhere, 0xC000'0000), bar_moves(0, 0xC000'0000, 0xD000'0000)}) &&
            r.bars.place(0).address() == 0xC000'0000 && r.bars.read(0) == 0xD000'0000;
        r.write(0, 0xD000'0000);
        good &= r.was({}); // asked for already
        r.write(0, 0xC000'0000);
        good &= r.was({}); // there it is
        r.bars.retry();
        good &= r.was({}); // and the other place is not wanted any more
        r.bars.decode(false, false);
        good &= r.was({bar_moves(0, 0xC000'0000, nowhere)});
        r.host.is_stuck = false;
        r.bars.retry();
        return good && r.was({bar_moves(0, 0xC000'0000, nowhere)}) && !r.bars.place(0);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("retry asks again for what was not given and is still wanted, and for nothing else",
          "[pci]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000),
                     bar_of_kind(1, bar_kind::mem32, 0x1000),
                     bar_of_kind(2, bar_kind::mem64, 0x1000)}};
        r.write(1, 0xB000'0000);
        r.host.refuses = true;
        r.write(0, 0xC000'0000);
        r.write(2, 0xD000'0000);
        r.write(3, 0x1);
        r.host.told.count = 0;
        r.bars.retry(); // it is still in the way
        bool good =
            r.was({bar_moves(0, nowhere, 0xC000'0000), bar_moves(2, nowhere, 0x1'D000'0000)});
        r.host.refuses = false;
        r.write(3, 0x2); // half of a move
        r.bars.retry();
        good &= r.was({bar_moves(0, nowhere, 0xC000'0000)}) && r.bars.half_written();
        r.bars.settle();
        good &= r.was({bar_moves(2, nowhere, 0x2'D000'0000)});
        r.bars.retry();
        return good && r.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("retry does not move a BAR that is being sized", "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000)}};
        r.host.refuses = true;
        r.write(0, 0xC000'0000);
        r.host.refuses = false;
        r.write(0, 0xFFFF'FFFF);
        bool good = r.was({bar_moves(0, nowhere, 0xC000'0000)});
        r.bars.retry();
        good &= r.was({}) && !r.bars.place(0);
        r.write(0, 0xC000'0000);
        return good && r.was({bar_moves(0, nowhere, 0xC000'0000)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("reset unmaps, and the registers hold 0", "[pci]") {
    registers r{{bar_of_kind(0, bar_kind::mem64, 0x4000, true), bar_of_kind(2, bar_kind::io, 32)}};
    r.write(0, 0xD000'0000);
    r.write(1, 0x1);
    r.write(2, 0xC000);
    r.write(0, 0xE000'0000); // half a move
    r.host.told.count = 0;
    r.bars.reset();
    REQUIRE(r.was({bar_moves(0, 0x1'D000'0000, nowhere), bar_moves(2, 0xC000, nowhere)}));
    REQUIRE(r.bars.read(0) == 0xC);
    REQUIRE(r.bars.read(1) == 0);
    REQUIRE(r.bars.read(2) == 1);
    r.bars.settle();
    r.bars.decode(true, true);
    REQUIRE(r.was({}));
}

TEST_CASE("a list with a broken or an unsized BAR is an error with its offset, and changes nothing",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        registers r{{bar_of_kind(0, bar_kind::mem32, 0x1000)}};
        r.write(0, 0xC000'0000);
        bool good = r.was({bar_moves(0, nowhere, 0xC000'0000)});
        good &= r.bars
                    .assign(bars({bar_of_kind(0, bar_kind::io, 32),
                                  pt::result<bar>{error{errc::malformed, 0x14}}}))
                    .error() == error{errc::malformed, 0x14};
        good &= r.bars.assign(bars({bar_of_kind(2, bar_kind::io, 0)})).error() ==
                error{errc::out_of_range, 0x18};
        good &= r.bars.assign(bars({bar_of_kind(6, bar_kind::rom, 0x1800)})).error() ==
                error{errc::out_of_range, 0x30};
        // Registers that are not there: a second half after the last one, a ROM elsewhere.
        good &= r.bars.assign(bars({bar_of_kind(5, bar_kind::mem64, 0x1000)})).error() ==
                error{errc::malformed, 0x24};
        good &= r.bars.assign(bars({bar_of_kind(6, bar_kind::mem64, 0x1000)})).error() ==
                error{errc::malformed, 0x30};
        good &= r.bars.assign(bars({bar_of_kind(2, bar_kind::rom, 0x1000)})).error() ==
                error{errc::malformed, 0x18};
        good &= r.bars.read(0) == 0xC000'0000 && r.bars.place(0).address() == 0xC000'0000 &&
                r.bars.size(0) == 0x1000 && r.bars.size(2) == 0;
        return good && r.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR for memory is none for ports and no upper half; the ROM is one", "[pci]") {
    const registers r{{bar_of_kind(0, bar_kind::mem64, 16), bar_of_kind(2, bar_kind::io, 8),
                       bar_of_kind(3, bar_kind::mem1m, 16), bar_of_kind(6, bar_kind::rom, 2048)}};
    REQUIRE(r.bars.is_memory(0));
    REQUIRE_FALSE(r.bars.is_memory(1));
    REQUIRE_FALSE(r.bars.is_memory(2));
    REQUIRE(r.bars.is_memory(3));
    REQUIRE_FALSE(r.bars.is_memory(4));
    REQUIRE(r.bars.is_memory(6));
}

TEST_CASE("the event carries the device's own BAR, as it was sized", "[pci]") {
    const bar given = bar_of_kind(2, bar_kind::mem32, 0x8000, true);
    registers r{{given}};
    r.write(2, 0xC000'0000);
    REQUIRE(r.host.last_bar == given);
}
