// SPDX-License-Identifier: BSL-1.0
// Memory types from MTRRs, beside a second model that is written from the manual's text and tries
// every page.
#include "pt/paging/mtrr.hpp"

#include <catch2/catch_test_macros.hpp>
#include <range/v3/range/concepts.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

namespace {

using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::ept::memory_type;
using pt::mtrr::run;

constexpr std::uint8_t UC = 0;
constexpr std::uint8_t WC = 1;
constexpr std::uint8_t WT = 4;
constexpr std::uint8_t WP = 5;
constexpr std::uint8_t WB = 6;

/// A processor's MTRRs as numbers, under the MSR numbers of the manual's list of MSRs.
struct processor {
    std::uint64_t cap = 0;
    std::uint64_t def_type = 0;
    std::array<std::uint64_t, 11> fix{};
    std::array<std::uint64_t, 64> physbase{};
    std::array<std::uint64_t, 64> physmask{};
    unsigned width = 39;
    unsigned faults = 0; ///< #GP, for MSRs that it has not

    constexpr unsigned pairs() const { return static_cast<unsigned>(cap & 0xFF); }
    constexpr std::uint64_t rdmsr(std::uint32_t msr) {
        if (msr == 0xFE) {
            return cap;
        }
        if (msr == 0x2FF) {
            return def_type;
        }
        const bool has_fix = (cap & 0x100) != 0;
        if (msr == 0x250 && has_fix) {
            return fix[0];
        }
        if ((msr == 0x258 || msr == 0x259) && has_fix) {
            return fix[msr - 0x258 + 1];
        }
        if (msr >= 0x268 && msr <= 0x26F && has_fix) {
            return fix[msr - 0x268 + 3];
        }
        if (msr >= 0x200 && msr < 0x250 && (msr - 0x200) / 2 < pairs()) {
            return (msr & 1) == 0 ? physbase[(msr - 0x200) / 2] : physmask[(msr - 0x200) / 2];
        }
        ++faults;
        return 0;
    }
    constexpr pt::result<pt::mtrr::registers> read() {
        return pt::mtrr::read([this](std::uint32_t msr) { return rdmsr(msr); }, width);
    }

    constexpr processor& set(unsigned n, std::uint64_t base, std::uint64_t mask) {
        physbase[n] = base;
        physmask[n] = mask;
        return *this;
    }
    /// The next pair: `size` bytes, a power of two, from `base` on.
    constexpr processor& add(std::uint64_t base, std::uint64_t size, std::uint8_t type) {
        const unsigned n = pairs();
        ++cap;
        const std::uint64_t all = (std::uint64_t{1} << width) - 1;
        return set(n, base | type, (all & ~(size - 1)) | 0x800);
    }
};

constexpr std::uint64_t E = 0x800;
constexpr std::uint64_t FE = 0x400;
constexpr std::uint64_t FIX = 0x100;

constexpr std::uint8_t legal(std::uint64_t encoding) {
    const std::uint64_t type = encoding & 0xFF;
    const bool known = type == UC || type == WC || type == WT || type == WP || type == WB;
    return static_cast<std::uint8_t>(known ? type : UC);
}

/// [sdm, "MTRR Precedences"], by the letter.
constexpr std::uint8_t type_by_the_manual(const processor& p, std::uint64_t address) {
    if ((p.def_type & E) == 0 || address >= std::uint64_t{1} << p.width) {
        return UC;
    }
    if (address < 0x10'0000 && (p.def_type & FE) != 0 && (p.cap & FIX) != 0) {
        const auto byte = [&](std::size_t index, std::uint64_t number) {
            return legal(p.fix[index] >> (8 * number));
        };
        if (address < 0x8'0000) {
            return byte(0, address / 0x1'0000);
        }
        if (address < 0xA'0000) {
            return byte(1, (address - 0x8'0000) / 0x4000);
        }
        if (address < 0xC'0000) {
            return byte(2, (address - 0xA'0000) / 0x4000);
        }
        const std::uint64_t page = (address - 0xC'0000) / 0x1000;
        return byte(3 + page / 8, page % 8);
    }
    unsigned matches[7] = {};
    unsigned all = 0;
    const std::uint64_t address_bits = (std::uint64_t{1} << p.width) - 0x1000;
    for (unsigned n = 0; n != p.pairs(); ++n) {
        const std::uint64_t mask = p.physmask[n] & address_bits;
        const std::uint64_t base = p.physbase[n] & address_bits;
        if ((p.physmask[n] & 0x800) != 0 && (address & mask) == (base & mask)) {
            ++matches[legal(p.physbase[n])];
            ++all;
        }
    }
    if (all == 0) {
        return legal(p.def_type);
    }
    for (const std::uint8_t type : {UC, WC, WT, WP, WB}) {
        if (matches[type] == all) {
            return type;
        }
    }
    if (matches[UC] == 0 && matches[WT] + matches[WB] == all) {
        return WT;
    }
    return UC; // one of them is, or the behaviour is undefined
}

struct piece {
    std::uint64_t first;
    std::uint64_t size;
    std::uint8_t type;

    friend constexpr bool operator==(const piece&, const piece&) = default;
};

/// Page by page. Without a type of its own, a page is not told apart, so bytes at the ends are.
std::vector<piece> pieces_by_the_manual(const processor& p, std::uint64_t first,
                                        std::uint64_t size) {
    std::vector<piece> all;
    while (size != 0) {
        const std::uint64_t step = std::min(size, 0x1000 - (first & 0xFFF));
        const std::uint8_t type = type_by_the_manual(p, first);
        if (!all.empty() && all.back().type == type) {
            all.back().size += step;
        } else {
            all.push_back({first, step, type});
        }
        first += step;
        size -= step;
    }
    return all;
}

piece seen(const run& r) {
    return {r.memory.first().raw, r.memory.size(), static_cast<std::uint8_t>(r.type)};
}

std::vector<piece> pieces_of(const pt::mtrr::registers& registers, std::uint64_t first,
                             std::uint64_t size) {
    std::vector<piece> all;
    for (const run r : registers.runs({hpa{first}, size})) {
        all.push_back(seen(r));
    }
    return all;
}

/// Whether the runs of all memory are these, and type_of agrees at their ends.
template <std::size_t N>
constexpr bool is_cut_into(processor p, const piece (&expected)[N], std::uint64_t size) {
    const auto registers = p.read();
    if (!registers || p.faults != 0) {
        return false;
    }
    std::size_t i = 0;
    for (const run r : registers->runs({hpa{0}, size})) {
        if (i == N || r.memory != pt::range{hpa{expected[i].first}, expected[i].size} ||
            static_cast<std::uint8_t>(r.type) != expected[i].type ||
            registers->type_of(r.memory.first()) != r.type ||
            registers->type_of(r.memory.last()) != r.type) {
            return false;
        }
        ++i;
    }
    return i == N;
}

using random_number = std::mt19937_64;

std::uint64_t below(random_number& random, std::uint64_t bound) { return random() % bound; }

std::uint8_t random_type(random_number& random, bool hostile) {
    constexpr std::uint8_t types[] = {UC, WC, WT, WP, WB, WT, WB, UC};
    return hostile && below(random, 6) == 0 ? static_cast<std::uint8_t>(random())
                                            : types[below(random, std::size(types))];
}

enum class masks { contiguous, any };

/// A processor with some ranges below 1 << width, more or less as the manual wants them.
processor random_processor(random_number& random, unsigned width, unsigned pairs, masks kind) {
    const bool hostile = kind == masks::any;
    processor p;
    p.width = width;
    p.cap = pairs | (below(random, 8) != 0 ? FIX : 0) | (random() & 0xC00);
    p.def_type = random_type(random, hostile) | (below(random, 16) != 0 ? E : 0) |
                 (below(random, 4) != 0 ? FE : 0) |
                 (hostile ? random() & ~std::uint64_t{0xFFF} : 0);
    const std::uint8_t usual = random_type(random, false);
    for (auto& fix : p.fix) {
        for (unsigned i = 0; i != 8; ++i) {
            const std::uint8_t type = below(random, 3) == 0 ? random_type(random, hostile) : usual;
            fix |= std::uint64_t{type} << (8 * i);
        }
    }
    const unsigned page_bits = width - 12;
    // Few types make many joints.
    const std::uint8_t few[] = {random_type(random, hostile), random_type(random, hostile)};
    for (unsigned n = 0; n != pairs; ++n) {
        std::uint64_t mask = ~std::uint64_t{0} << (12 + below(random, page_bits + 1));
        switch (hostile ? below(random, 5) : 0) {
        case 1: mask &= random(); break;
        case 2: mask &= random() | random(); break;
        case 3: // one bit or two
            mask = std::uint64_t{1} << (12 + below(random, page_bits));
            mask |= std::uint64_t{1} << (12 + below(random, page_bits));
            break;
        default: break;
        }
        // Beyond the width nothing counts, whether it is set or not.
        const std::uint64_t beyond = hostile ? random() & ~std::uint64_t{0} << width : 0;
        mask &= (std::uint64_t{1} << width) - 0x1000;
        std::uint64_t base = random() & ((std::uint64_t{1} << width) - 0x1000);
        base &= hostile && below(random, 2) == 0 ? ~std::uint64_t{0} : mask;
        const std::uint8_t type =
            below(random, 2) == 0 ? few[below(random, 2)] : random_type(random, hostile);
        const bool valid = below(random, 8) != 0;
        p.set(n, base | type | (hostile ? random() & ~std::uint64_t{0} << width : 0),
              mask | beyond | (valid ? 0x800 : 0) | (hostile ? random() & 0x7FF : 0));
    }
    return p;
}

} // namespace

TEST_CASE("the manual's example of base and mask", "[paging][rule 10]") {
    // [sdm, "Example Base and Mask Calculations"]: 100 MBytes of memory, 64 KBytes to 16 MBytes of
    // which is ISA, a frame buffer of 8 MBytes. As printed, with 40 bits.
    constexpr auto check = [] {
        processor p{.cap = 8 | FIX, .def_type = E, .width = 40};
        p.set(0, 0x0000'0006, 0xFF'FC00'0800).set(1, 0x0400'0006, 0xFF'FE00'0800);
        p.set(2, 0x0600'0006, 0xFF'FFC0'0800).set(3, 0x0400'0000, 0xFF'FFC0'0800);
        p.set(4, 0x00F0'0000, 0xFF'FFF0'0800).set(5, 0xA000'0001, 0xFF'FF80'0800);
        const piece expected[] = {
            {0, 15 * MiB, WB},          {15 * MiB, 1 * MiB, UC},
            {16 * MiB, 48 * MiB, WB},   {64 * MiB, 4 * MiB, UC},
            {68 * MiB, 32 * MiB, WB},   {100 * MiB, 0xA000'0000 - 100 * MiB, UC},
            {0xA000'0000, 8 * MiB, WC}, {0xA080'0000, (1024 * GiB) - 0xA080'0000, UC}};
        return is_cut_into(p, expected, 1024 * GiB);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a real machine: default UC, write-back memory with holes, two frame buffers",
          "[paging][rule 10]") {
    // A Synology DS920+, as its kernel prints the registers; the runs are worked out by hand.
    constexpr auto check = [] {
        processor p{.cap = 10 | FIX, .def_type = E | FE | UC, .width = 39};
        p.fix = {0x0606'0606'0606'0606, 0x0606'0606'0606'0606, 0};
        for (std::size_t i = 3; i != p.fix.size(); ++i) {
            p.fix[i] = 0x0505'0505'0505'0505;
        }
        p.set(0, 0x0'FF80'0001, 0x7F'FF80'0800).set(1, 0x0'0000'0006, 0x7F'8000'0800);
        p.set(2, 0x0'7A00'0000, 0x7F'FE00'0800).set(3, 0x0'7C00'0000, 0x7F'FC00'0800);
        p.set(4, 0x1'0000'0006, 0x7F'0000'0800).set(5, 0x2'0000'0006, 0x7F'8000'0800);
        p.set(6, 0x0'9000'0001, 0x7F'F000'0800);
        const piece expected[] = {{0, 0xA'0000, WB},
                                  {0xA'0000, 0x2'0000, UC},
                                  {0xC'0000, 0x4'0000, WP},
                                  {0x10'0000, 0x79F0'0000, WB},
                                  {0x7A00'0000, 0x1600'0000, UC},
                                  {0x9000'0000, 0x1000'0000, WC},
                                  {0xA000'0000, 0x5F80'0000, UC},
                                  {0xFF80'0000, 0x80'0000, WC},
                                  {0x1'0000'0000, 0x1'8000'0000, WB},
                                  {0x2'8000'0000, 0x7D'8000'0000, UC}};
        return is_cut_into(p, expected, std::uint64_t{1} << 39);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("default write-back with an uncacheable hole below 4 GiB", "[paging][rule 10]") {
    constexpr auto check = [] {
        processor p{.cap = FIX, .def_type = E | WB, .width = 46};
        p.add(2 * GiB, 2 * GiB, UC).add(0x3800'0000'0000, std::uint64_t{1} << 43, UC);
        const piece expected[] = {{0, 2 * GiB, WB},
                                  {2 * GiB, 2 * GiB, UC},
                                  {4 * GiB, 0x3800'0000'0000 - 4 * GiB, WB},
                                  {0x3800'0000'0000, std::uint64_t{1} << 43, UC}};
        return is_cut_into(p, expected, std::uint64_t{1} << 46);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("MTRRs off mean UC for everything, in one run", "[paging][rule 10]") {
    constexpr auto check = [] {
        processor p{.cap = FIX, .def_type = FE | WB}; // FE counts for nothing without E
        p.fix.fill(0x0606'0606'0606'0606);
        p.add(0, 4 * GiB, WB).add(4 * GiB, 4 * GiB, WT);
        const piece expected[] = {{0, ~std::uint64_t{0}, UC}};
        const pt::mtrr::registers none{}; // a processor without MTRRs
        return is_cut_into(p, expected, ~std::uint64_t{0}) &&
               none.type_of(hpa{0}) == memory_type::uncacheable;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("fixed ranges count with E and FE and FIX, and then alone below 1 MiB",
          "[paging][rule 10]") {
    constexpr auto check = [](std::uint64_t cap, std::uint64_t def_type, std::uint8_t expected) {
        processor p{.cap = cap, .def_type = def_type};
        p.fix.fill(0x0505'0505'0505'0505);
        p.add(0, 1 * GiB, UC); // UC beats all, but not a fixed range
        const auto registers = p.read();
        return registers && p.faults == 0 &&
               registers->type_of(hpa{0xF'FFFF}) == memory_type{expected} &&
               registers->type_of(hpa{0}) == memory_type{expected} &&
               registers->type_of(hpa{0x10'0000}) == memory_type::uncacheable;
    };
    static_assert(check(FIX, E | FE | WB, WP));
    REQUIRE(check(FIX, E | FE | WB, WP));
    REQUIRE(check(FIX, E | WB, UC));
    REQUIRE(check(FIX, FE | WB, UC));
    REQUIRE(check(0, E | FE | WB, UC));
}

TEST_CASE("each byte of the fixed-range registers is the type of its own range",
          "[paging][rule 10]") {
    // HyperDbg took the second 16-KiB register for the first (its pull request 336).
    constexpr std::uint64_t sizes[] = {64 * KiB, 16 * KiB, 16 * KiB, 4 * KiB, 4 * KiB, 4 * KiB,
                                       4 * KiB,  4 * KiB,  4 * KiB,  4 * KiB, 4 * KiB};
    std::uint64_t at = 0;
    for (std::size_t i = 0; i != 11; ++i) {
        for (unsigned part = 0; part != 8; ++part, at += sizes[i]) {
            processor p{.cap = FIX, .def_type = E | FE | WB};
            p.fix.fill(0x0606'0606'0606'0606);
            p.fix[i] ^= std::uint64_t{WB ^ WT} << (8 * part);
            const auto registers = p.read();
            REQUIRE(registers);
            std::vector<piece> expected{{0, at, WB}, {at, sizes[i], WT}};
            expected.push_back({at + sizes[i], 2 * MiB - at - sizes[i], WB});
            if (at == 0) {
                expected.erase(expected.begin());
            }
            REQUIRE(pieces_of(*registers, 0, 2 * MiB) == expected);
        }
    }
    REQUIRE(at == 1 * MiB);
}

TEST_CASE("the type of each overlap is the manual's, in whatever order", "[paging][rule 10]") {
    for (unsigned a = 0; a != 256; ++a) {
        for (unsigned b = 0; b != 256; ++b) {
            processor p{.cap = 0, .def_type = E | WP};
            p.add(0, 1 * GiB, static_cast<std::uint8_t>(a));
            p.add(0, 2 * GiB, static_cast<std::uint8_t>(b));
            CAPTURE(a, b);
            const std::uint8_t expected =
                legal(a) == legal(b)                                                ? legal(a)
                : legal(a) + legal(b) == WT + WB && legal(a) > WC && legal(a) != WP ? WT
                                                                                    : UC;
            REQUIRE(p.read()->type_of(hpa{0}) == memory_type{expected});
            REQUIRE(p.read()->type_of(hpa{1 * GiB}) == memory_type{legal(b)});
            REQUIRE(p.read()->type_of(hpa{2 * GiB}) == memory_type::write_protected);
        }
    }
}

TEST_CASE("a range that matches counts, and not the default (hvpp#44)", "[paging][rule 10]") {
    // hvpp gave UC wherever a single range matched.
    for (const std::uint8_t type : {UC, WC, WT, WP, WB}) {
        for (const std::uint8_t otherwise : {UC, WC, WT, WP, WB}) {
            processor p{.def_type = E | otherwise};
            p.add(4 * GiB, 1 * GiB, type);
            CAPTURE(type, otherwise);
            REQUIRE(p.read()->type_of(hpa{4 * GiB}) == memory_type{type});
            REQUIRE(p.read()->type_of(hpa{5 * GiB - 1}) == memory_type{type});
            REQUIRE(p.read()->type_of(hpa{4 * GiB - 1}) == memory_type{otherwise});
            REQUIRE(p.read()->type_of(hpa{5 * GiB}) == memory_type{otherwise});
        }
    }
    processor p{.def_type = E | UC};
    p.add(0, 4 * GiB, WB).add(1 * GiB, 1 * GiB, WT);
    REQUIRE(p.read()->type_of(hpa{1 * GiB}) == memory_type::write_through);
    processor q{.def_type = E | UC};
    q.add(1 * GiB, 1 * GiB, WT).add(0, 4 * GiB, WB);
    REQUIRE(q.read()->type_of(hpa{1 * GiB}) == memory_type::write_through);
}

TEST_CASE("device memory is UC although write-back ranges cover it (HyperPlatform#31)",
          "[paging][rule 10]") {
    // HyperPlatform mapped all of it write-back and relied on the guest's PAT.
    for (const bool uncacheable_first : {false, true}) {
        processor p{.def_type = E | WB};
        if (uncacheable_first) {
            p.add(0xE000'0000, 512 * MiB, UC).add(0, 4 * GiB, WB).add(0xC000'0000, 1 * GiB, WT);
        } else {
            p.add(0xC000'0000, 1 * GiB, WT).add(0, 4 * GiB, WB).add(0xE000'0000, 512 * MiB, UC);
        }
        const std::vector<piece> expected{{0, 3 * GiB, WB},
                                          {3 * GiB, 512 * MiB, WT},
                                          {0xE000'0000, 512 * MiB, UC},
                                          {4 * GiB, 4 * GiB, WB}};
        REQUIRE(pieces_of(*p.read(), 0, 8 * GiB) == expected);
    }
}

TEST_CASE("neighbouring ranges of one type are one run", "[paging][rule 10]") {
    constexpr auto check = [] {
        processor p{.def_type = E | UC};
        p.add(0, 2 * GiB, WB).add(2 * GiB, 1 * GiB, WB).add(4 * GiB, 4 * GiB, WB);
        p.add(3 * GiB, 512 * MiB, WB).add(3 * GiB + 512 * MiB, 512 * MiB, WB);
        p.add(1 * GiB, 4 * KiB, WB); // and inside another
        const piece expected[] = {{0, 8 * GiB, WB}, {8 * GiB, (512 - 8) * GiB, UC}};
        return is_cut_into(p, expected, 512 * GiB);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a mask with holes matches by address, and what it leaves out is not page-stepped",
          "[paging][rule 10]") {
    constexpr std::uint64_t all = std::uint64_t{1} << 52;
    const auto first = [](processor p, std::uint64_t from) {
        return seen(p.read()->first_run({hpa{from}, all - from}));
    };
    // Every second page.
    processor odd{.cap = 1, .def_type = E | WB, .width = 52};
    odd.set(0, 0x1000 | UC, 0x1800);
    REQUIRE(first(odd, 0) == piece{0, 0x1000, WB});
    REQUIRE(first(odd, 0x1000) == piece{0x1000, 0x1000, UC});
    REQUIRE(first(odd, all - 0x1000) == piece{all - 0x1000, 0x1000, UC});
    // The same where it makes no difference: 2^40 pages in one run.
    odd.def_type = E | UC;
    REQUIRE(first(odd, 0x5000) == piece{0x5000, all - 0x5000, UC});
    // Two that add up to everything.
    processor both{.cap = 2, .def_type = E | WB, .width = 52};
    both.set(0, 0x1000 | UC, 0x1800).set(1, 0x0000 | UC, 0x1800);
    REQUIRE(first(both, 0) == piece{0, all, UC});
    REQUIRE(first(both, 0x1234'5678'9ABC) == piece{0x1234'5678'9ABC, all - 0x1234'5678'9ABC, UC});
    // Five that do below 1 GiB.
    processor five{.cap = 5, .def_type = E | WB, .width = 52};
    five.set(0, 0x0000 | UC, 0x3800).set(1, 0x2000 | UC, 0x2800).set(2, 0x1000 | UC, 0x4003'1800);
    five.set(3, 0x2'1000 | UC, 0x4002'1800).set(4, 0x1'1000 | UC, 0x4001'1800);
    REQUIRE(first(five, 0) == piece{0, 0x4000'1000, UC});
    REQUIRE(first(five, 0x4000'1000) == piece{0x4000'1000, 0x1000, WB});
    // A mask of nothing but `valid` is everything; the top bit alone is one half.
    processor half{.cap = 2, .def_type = E | UC, .width = 52};
    half.set(0, WB, 0x800).set(1, all / 2 | WT, all / 2 | 0x800);
    REQUIRE(first(half, 0) == piece{0, all / 2, WB});
    REQUIRE(first(half, all / 2) == piece{all / 2, all / 2, WT});
}

TEST_CASE("nothing is known of addresses at and above MAXPHYADDR but UC", "[paging][rule 10]") {
    constexpr auto check = [] {
        processor p{.cap = 1 | FIX, .def_type = E | WB, .width = 36};
        // Bits beyond the width, which hardware would not have taken, count for nothing.
        p.set(0, 0xFFFF'FFF0'4000'0004, 0xFFFF'FFFF'C000'0FFF);
        const piece expected[] = {{0, 1 * GiB, WB},
                                  {1 * GiB, 1 * GiB, WT},
                                  {2 * GiB, 62 * GiB, WB},
                                  {64 * GiB, ~std::uint64_t{0} - 64 * GiB, UC}};
        const pt::range<hpa> top{hpa{~std::uint64_t{0} << 12}, 0x1000};
        return is_cut_into(p, expected, ~std::uint64_t{0}) &&
               p.read()->first_run(top) == run{top, memory_type::uncacheable};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what fixed ranges hide below 1 MiB is seen where it repeats", "[paging][rule 10]") {
    constexpr auto check = [] {
        processor p{.cap = 1 | FIX, .def_type = E | FE | WB};
        p.fix.fill(0x0606'0606'0606'0606);
        p.set(0, UC, 0x10'0800); // every second MiB, from 0 on
        const piece expected[] = {{0, 2 * MiB, WB},
                                  {2 * MiB, 1 * MiB, UC},
                                  {3 * MiB, 1 * MiB, WB},
                                  {4 * MiB, 1 * MiB, UC}};
        return is_cut_into(p, expected, 5 * MiB);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a MAXPHYADDR that no processor reports does no harm", "[paging]") {
    const auto cut = [](unsigned width) {
        random_number random{52};
        processor p = random_processor(random, 21, 10, masks::contiguous);
        p.def_type |= E | FE;
        p.cap |= FIX;
        p.width = width;
        const auto registers = p.read();
        return pieces_of(*registers, 0, 8 * MiB);
    };
    for (unsigned width = 0; width != 20; ++width) {
        REQUIRE(cut(width) == cut(20));
    }
    for (const unsigned width : {53U, 63U, 64U, 65U, 255U, ~0U}) {
        REQUIRE(cut(width) == cut(52));
    }
    REQUIRE(cut(20) != cut(52));
}

TEST_CASE("nothing is in no run", "[paging]") {
    const pt::mtrr::registers registers{};
    REQUIRE(registers.runs({}).begin() == registers.runs({}).end());
    REQUIRE(registers.runs({hpa{0x1234}, 0}).begin() == registers.runs({hpa{0x1234}, 0}).end());
    REQUIRE(registers.first_run({hpa{0x1234}, 0}).memory.empty());
    STATIC_REQUIRE(ranges::input_range<pt::mtrr::run_list>);
    STATIC_REQUIRE(ranges::forward_iterator<pt::mtrr::run_list::iterator>);
}

TEST_CASE("as many variable ranges as VCNT says, and no MSR that is not there", "[paging]") {
    for (unsigned pairs = 0; pairs != 256; ++pairs) {
        for (const std::uint64_t fix : {std::uint64_t{0}, FIX}) {
            processor p{.cap = pairs | fix, .def_type = E | UC};
            const unsigned last = std::min(pairs, 40U);
            if (last != 0) {
                p.set(last - 1, 0x4000'0000 | WB, 0x7F'C000'0800);
            }
            const auto registers = p.read();
            CAPTURE(pairs, fix);
            REQUIRE(p.faults == 0);
            if (pairs > 40) { // 0x200 + 2 * 40 is IA32_MTRR_FIX64K_00000
                REQUIRE(registers.error() == pt::error{pt::errc::out_of_range, pairs});
            } else {
                REQUIRE(registers->type_of(hpa{0x4000'0000}) == memory_type{last == 0 ? UC : WB});
            }
        }
    }
    // Put together without read(): no more than there are.
    pt::mtrr::registers registers{};
    registers.capabilities.raw = 0xFF;
    registers.default_type.raw = E | WT;
    REQUIRE(registers.type_of(hpa{0}) == memory_type::write_through);
    REQUIRE(registers.first_run({hpa{0}, 1}).type == memory_type::write_through);
}

TEST_CASE("every page of small address spaces, beside the model", "[paging][rule 10]") {
    random_number random{10};
    unsigned long runs = 0;
    for (int set = 0; set != 6000; ++set) {
        const masks kind = set % 3 == 0 ? masks::contiguous : masks::any;
        const auto width = static_cast<unsigned>(20 + below(random, 3));
        const unsigned most = set % 16 == 0 ? 40 : 10;
        processor p =
            random_processor(random, width, static_cast<unsigned>(below(random, most + 1)), kind);
        const auto registers = p.read();
        REQUIRE(registers);
        const std::uint64_t end = (std::uint64_t{1} << width) + 0x3000;
        const std::uint64_t from = set % 2 == 0 ? 0 : below(random, end);
        const std::uint64_t size = set % 2 == 0 ? end : 1 + below(random, end - from);
        const std::vector<piece> expected = pieces_by_the_manual(p, from, size);
        CAPTURE(set, width, from, size);
        REQUIRE(pieces_of(*registers, from, size) == expected);
        runs += expected.size();
        const std::uint64_t address = below(random, end);
        REQUIRE(registers->type_of(hpa{address}) == memory_type{type_by_the_manual(p, address)});
    }
    REQUIRE(runs > 100'000); // or the sets were dull
}

TEST_CASE("large address spaces, at the ends of the runs and in between", "[paging][rule 10]") {
    random_number random{31};
    for (int set = 0; set != 1000; ++set) {
        const masks kind = set % 2 == 0 ? masks::contiguous : masks::any;
        const auto width = static_cast<unsigned>(32 + below(random, 21));
        processor p =
            random_processor(random, width, static_cast<unsigned>(below(random, 11)), kind);
        const auto registers = p.read();
        REQUIRE(registers);
        const std::uint64_t end = std::uint64_t{1} << width;
        std::uint64_t next = set % 4 < 2 ? 0 : below(random, end);
        CAPTURE(set, width, next);
        int left = 30;
        for (const run r : registers->runs({hpa{next}, end - next})) {
            const auto type = static_cast<std::uint8_t>(r.type);
            REQUIRE(r.memory.first().raw == next);
            REQUIRE(!r.memory.empty());
            bool good = true;
            for (int sample = 0; sample != 100; ++sample) {
                good = good && type_by_the_manual(p, next + below(random, r.memory.size())) == type;
            }
            REQUIRE(good);
            REQUIRE(type_by_the_manual(p, next) == type);
            REQUIRE(type_by_the_manual(p, r.memory.last().raw) == type);
            next = r.memory.last().raw + 1;
            REQUIRE((next == end || type_by_the_manual(p, next) != type));
            if (--left == 0) {
                break;
            }
        }
        REQUIRE((left == 0 || next == end));
    }
}

TEST_CASE("masks made to exhaust the search cost a bounded time, and no truth", "[paging]") {
    // The lowest bit decides everything, both ways alike; above it, eight ranges that never change
    // the outcome disagree about each of the other bits.
    processor p{.cap = 10, .def_type = E | WB, .width = 52};
    p.set(0, 0x0000 | UC, 0x1800).set(1, 0x1000 | UC, 0x1800);
    for (unsigned n = 0; n != 8; ++n) {
        std::uint64_t mask = 0;
        for (unsigned bit = 13 + n; bit < 52; bit += 8) {
            mask |= std::uint64_t{1} << bit;
        }
        p.set(2 + n, (mask & 0xAAAA'5555'AAAA'5000) | WB, mask | 0x800);
    }
    const auto registers = p.read();
    std::uint64_t next = 0;
    int left = 20;
    for (const run r : registers->runs({hpa{0}, std::uint64_t{1} << 52})) {
        REQUIRE(r.memory.first().raw == next);
        REQUIRE(r.type == memory_type::uncacheable);
        REQUIRE((r.memory.size() >= 8192 * 0x1000 || r.memory.last().raw + 1 == std::uint64_t{1}
                                                                                    << 52));
        next += r.memory.size();
        if (--left == 0) {
            break;
        }
    }
    REQUIRE(next > 1 * GiB);
    REQUIRE(next != std::uint64_t{1} << 52); // to get there takes millions of pieces
}
