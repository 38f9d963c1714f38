// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/msr_bitmap.hpp"

#include "pt/core/result.hpp"
#include "pt/vcpu/bitmap_change.hpp"
#include "pt/vcpu/msr.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::vcpu::bitmap_change;
using pt::vcpu::msr_access;
using pt::vmx::msr_bitmap;
using pt::vmx::x2apic_virtualization;

constexpr bitmap_change nothing{};
constexpr bitmap_change opened{.opened = true};
constexpr bitmap_change closed{.closed = true};

struct page {
    std::uint64_t words[msr_bitmap::word_count]{};
};

TEST_CASE("every MSR exits until it is opened, whatever the page held", "[vmx][msr]") {
    page memory;
    for (std::uint64_t& word : memory.words) {
        word = 0x5555'5555'5555'5555;
    }
    const msr_bitmap bitmap{memory.words};
    unsigned open = 0;
    for (const std::uint32_t base : {0U, 0xC000'0000U}) {
        for (std::uint32_t msr = base; msr != base + 0x2000; ++msr) {
            open += !bitmap.exits(msr, msr_access::read) || !bitmap.exits(msr, msr_access::write);
        }
    }
    REQUIRE(open == 0);
    for (const std::uint64_t word : memory.words) {
        REQUIRE(word == 0xFFFF'FFFF'FFFF'FFFF);
    }
}

TEST_CASE("1 KiB each of low reads, high reads, low writes, high writes; bit n%8 of byte n/8",
          "[vmx][msr]") {
    const std::pair<std::uint32_t, msr_access> opens[] = {
        {0x174, msr_access::read},         // SYSENTER_CS
        {0xC000'0102, msr_access::read},   // KERNEL_GS_BASE
        {0x175, msr_access::write},        // SYSENTER_ESP
        {0xC000'0081, msr_access::write}}; // STAR
    const std::size_t bytes[] = {0x174 / 8, 1024 + 0x102 / 8, 2048 + 0x175 / 8, 3072 + 0x81 / 8};
    const unsigned values[] = {0xFF & ~0x10U, 0xFF & ~0x04U, 0xFF & ~0x20U, 0xFF & ~0x02U};
    for (std::size_t i = 0; i != 4; ++i) {
        page memory;
        msr_bitmap bitmap{memory.words};
        REQUIRE(bitmap.open(opens[i].first, opens[i].second) == opened);
        std::uint8_t raw[4096];
        std::memcpy(raw, memory.words, sizeof raw);
        for (std::size_t byte = 0; byte != sizeof raw; ++byte) {
            REQUIRE(raw[byte] == (byte == bytes[i] ? values[i] : 0xFF));
        }
        const bool reads = opens[i].second == msr_access::read;
        CHECK(bitmap.exits(opens[i].first, msr_access::read) == !reads);
        CHECK(bitmap.exits(opens[i].first, msr_access::write) == reads);
        CHECK(bitmap.exits(opens[i].first, msr_access::read_write));
    }
}

TEST_CASE("an MSR outside both ranges always exits and cannot open", "[vmx][msr]") {
    constexpr auto check = [] {
        page memory;
        msr_bitmap bitmap{memory.words};
        bool good = true;
        for (const std::uint32_t msr :
             {0x2000U, 0x4000'0000U, 0xBFFF'FFFFU, 0xC000'2000U, 0xC001'0117U, 0xFFFF'FFFFU}) {
            good = good && bitmap.exits(msr, msr_access::read);
            good = good && bitmap.open(msr, msr_access::read) == error{errc::out_of_range, msr};
            good = good && bitmap.close(msr, msr_access::read_write) == nothing;
            good = good && bitmap.exits(msr, msr_access::read);
        }
        // Nor are they shadows of an open MSR with the same low bits.
        good = good && bitmap.open(0x174, msr_access::read_write) == opened &&
               bitmap.open(0xC000'0174, msr_access::read_write) == opened;
        for (const std::uint32_t msr :
             {0x2174U, 0x4000'0174U, 0xBFFF'E174U, 0xC000'2174U, 0xC001'0174U, 0xFFFF'E174U}) {
            good =
                good && bitmap.exits(msr, msr_access::read) && bitmap.exits(msr, msr_access::write);
        }
        good = good && bitmap.close(0x174, msr_access::read_write) == closed &&
               bitmap.close(0xC000'0174, msr_access::read_write) == closed;

        // Ranges that leave their group, and one over everything.
        const auto refused = [&](std::uint32_t first, std::uint32_t last, std::uint32_t where) {
            return bitmap.open({first, last}, msr_access::read) == error{errc::out_of_range, where};
        };
        good = good && refused(0x1FFF, 0x2000, 0x2000) && refused(0, 0xFFFF'FFFF, 0x2000);
        good = good && refused(0xC000'1FFF, 0xC000'2000, 0xC000'2000);
        good = good && refused(0x1FFF, 0xC000'0000, 0x2000);
        good = good && refused(0xBFFF'FFFF, 0xC000'0000, 0xBFFF'FFFF);
        for (const std::uint64_t word : memory.words) {
            good = good && word == ~std::uint64_t{0};
        }
        // Closing may name all there are.
        good = good && bitmap.open({0x1FFF, 0x1FFF}, msr_access::read_write) == opened &&
               bitmap.open({0xC000'1FFF, 0xC000'1FFF}, msr_access::read_write) == opened;
        good = good && !bitmap.exits(0x1FFF, msr_access::read_write);
        good = good && bitmap.close({0, 0xFFFF'FFFF}, msr_access::read) == closed;
        good = good && bitmap.exits(0x1FFF, msr_access::read) &&
               !bitmap.exits(0x1FFF, msr_access::write);
        return good && bitmap.exits(0xC000'1FFF, msr_access::read) &&
               !bitmap.exits(0xC000'1FFF, msr_access::write);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what would give a guest the host never opens, and a range with it opens nothing",
          "[vmx][msr]") {
    constexpr auto check = [] {
        page memory;
        msr_bitmap bitmap{memory.words};
        bool good = true;
        // To the host's interrupts: not even reads.
        for (const std::uint32_t msr : {0x1BU, 0x6E0U, 0x800U, 0x808U, 0x830U, 0x83FU, 0x8FFU}) {
            for (const msr_access access :
                 {msr_access::read, msr_access::write, msr_access::read_write}) {
                good = good && bitmap.open(msr, access) == error{errc::refused, msr};
            }
        }
        // Time, microcode, memory types, and what the processor writes to by physical address.
        for (const std::uint32_t msr :
             {0x10U,  0x3AU,  0x3BU,  0x79U,  0x9BU,  0x17AU, 0x1A0U, 0x1F2U, 0x200U, 0x20FU,
              0x250U, 0x26FU, 0x280U, 0x2FFU, 0x400U, 0x47FU, 0x560U, 0x570U, 0x982U, 0x17D0U}) {
            good = good && bitmap.open(msr, msr_access::write) == error{errc::refused, msr} &&
                   bitmap.open(msr, msr_access::read_write) == error{errc::refused, msr};
        }
        for (const std::uint64_t word : memory.words) {
            good = good && word == ~std::uint64_t{0};
        }
        good = good && bitmap.open({0x7F0, 0x808}, msr_access::read) == error{errc::refused, 0x800};
        good = good && bitmap.open({0, 0x1FFF}, msr_access::read) == error{errc::refused, 0x1B};
        good = good && bitmap.open({0, 0x1FFF}, msr_access::write) == error{errc::refused, 0x10};
        good =
            good && bitmap.open({0x8F0, 0x910}, msr_access::write) == error{errc::refused, 0x8F0};
        // Reading the time does open, and what entries and exits exchange: PAT, SYSENTER, EFER.
        good = good && bitmap.open(0x10, msr_access::read) == opened &&
               bitmap.exits(0x10, msr_access::write);
        good = good && bitmap.open(0x277, msr_access::read_write) == opened &&
               bitmap.open({0x174, 0x176}, msr_access::read_write) == opened &&
               bitmap.open({0xC000'0080, 0xC000'0084}, msr_access::read_write) == opened;
        return good && bitmap.open({0x7FF, 0x7FF}, msr_access::read_write) == opened &&
               bitmap.open({0x900, 0x981}, msr_access::read_write) == opened;
    };
    static_assert(check());
    REQUIRE(check());
}

/// [sdm] x2APIC Register Address Space: what can be read at all, and what can be written.
const std::set<std::uint32_t> readable = [] {
    std::set<std::uint32_t> all{0x802, 0x803, 0x808, 0x80A, 0x80D, 0x80F, 0x828, 0x82F, 0x830};
    for (std::uint32_t msr = 0x810; msr != 0x828; ++msr) {
        all.insert(msr);
    }
    for (std::uint32_t msr = 0x832; msr != 0x83A; ++msr) {
        all.insert(msr);
    }
    all.insert(0x83E);
    return all;
}();

TEST_CASE("the x2APIC's ready set: what the processor virtualizes with those controls, and no more",
          "[vmx][msr][x2apic]") {
    using level = x2apic_virtualization;
    // [sdm] Virtualizing MSR-Based APIC Accesses. Of what may be read, time changes 839H, the page
    // has 830H in two halves, and without virtual-interrupt delivery 80AH is nobody's.
    std::set<std::uint32_t> in_the_page = readable;
    in_the_page.erase(0x839);
    in_the_page.erase(0x830);
    std::set<std::uint32_t> without_ppr = in_the_page;
    without_ppr.erase(0x80A);
    const std::map<level, std::set<std::uint32_t>> reads{{level::none, {}},
                                                         {level::tpr_shadow, {0x808}},
                                                         {level::register_reads, without_ppr},
                                                         {level::interrupt_delivery, in_the_page}};
    const std::map<level, std::set<std::uint32_t>> writes{
        {level::none, {}},
        {level::tpr_shadow, {0x808}},
        {level::register_reads, {0x808}},
        {level::interrupt_delivery, {0x808, 0x80B, 0x83F}}};

    page memory;
    msr_bitmap bitmap{memory.words};
    REQUIRE(bitmap.open({0x7FF, 0x7FF}, msr_access::read_write));
    REQUIRE(bitmap.open({0x900, 0x900}, msr_access::read_write));
    // From each level to each.
    for (const auto& [from, ignored] : reads) {
        for (const auto& [to, also_ignored] : reads) {
            (void)bitmap.virtualize_x2apic(from);
            const bitmap_change change = bitmap.virtualize_x2apic(to);
            CHECK(change == (from < to ? opened : from > to ? closed : nothing));
            for (std::uint32_t msr = 0x800; msr != 0x900; ++msr) {
                REQUIRE(bitmap.exits(msr, msr_access::read) == !reads.at(to).contains(msr));
                REQUIRE(bitmap.exits(msr, msr_access::write) == !writes.at(to).contains(msr));
            }
        }
    }
    // The neighbours are not its.
    CHECK(!bitmap.exits(0x7FF, msr_access::read_write));
    CHECK(!bitmap.exits(0x900, msr_access::read_write));
    // And what was opened so is closed as any other.
    CHECK(bitmap.close(0x808, msr_access::write) == closed);
    CHECK(bitmap.exits(0x808, msr_access::write));
}

TEST_CASE("random MSRs and ranges: each decision is that of a flag for each MSR and access",
          "[vmx][msr]") {
    constexpr std::uint64_t other = 0xA5A5'5A5A'A5A5'5A5A;
    std::vector<std::uint64_t> memory(msr_bitmap::word_count + 2, other);
    msr_bitmap bitmap{memory.data() + 1};
    std::map<std::uint32_t, unsigned> closed_accesses; // bit 0: reads, bit 1: writes
    for (const std::uint32_t base : {0U, 0xC000'0000U}) {
        for (std::uint32_t i = 0; i != 0x2000; ++i) {
            closed_accesses[base + i] = 3;
        }
    }
    auto random = [engine = std::mt19937{174}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    // Written down a second time, coarsely: where anything is protected, no random range goes.
    const auto near_protected = [](std::uint32_t first, std::uint32_t last) {
        return (first < 0x1000 && last < 0x2000) || // between the first and the last below 1000H
               (first < 0x2000 && last >= 0x17D0 && first <= 0x17D1);
    };
    unsigned wrong = 0;
    unsigned changes = 0;
    for (int step = 0; step != 20'000; ++step) {
        const std::uint32_t base = random() % 2 == 0 ? 0 : 0xC000'0000;
        const std::uint32_t first = base + random() % 0x2000;
        const std::uint32_t size = 1 + random() % (1U << random() % 10);
        const std::uint32_t last = first + size - 1;
        const unsigned access = 1 + random() % 3;
        const auto typed = static_cast<msr_access>(access);
        const bool opens = random() % 2 == 0;
        if (opens && (last > base + 0x1FFF || near_protected(first, last))) {
            continue;
        }
        bool expected = false;
        for (std::uint32_t msr = first; msr != first + size; ++msr) {
            const auto at = closed_accesses.find(msr);
            if (at == closed_accesses.end()) {
                continue;
            }
            const unsigned after = opens ? at->second & ~access : at->second | access;
            expected = expected || after != at->second;
            at->second = after;
        }
        if (opens) {
            wrong += bitmap.open({first, last}, typed) != bitmap_change{.opened = expected};
        } else {
            wrong += bitmap.close({first, last}, typed) != bitmap_change{.closed = expected};
        }
        changes += expected;
        for (std::uint32_t msr = first - 2; msr != last + 3; ++msr) {
            const auto at = closed_accesses.find(msr);
            const unsigned exits = at == closed_accesses.end() ? 3 : at->second;
            for (const unsigned asked : {1U, 2U, 3U}) {
                wrong +=
                    bitmap.exits(msr, static_cast<msr_access>(asked)) != ((exits & asked) != 0);
            }
        }
    }
    for (const auto& [msr, exits] : closed_accesses) {
        wrong += bitmap.exits(msr, msr_access::read) != ((exits & 1) != 0);
        wrong += bitmap.exits(msr, msr_access::write) != ((exits & 2) != 0);
    }
    REQUIRE(wrong == 0);
    REQUIRE(changes > 5'000);
    REQUIRE(memory.front() == other);
    REQUIRE(memory.back() == other);
}

} // namespace
