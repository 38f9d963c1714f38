// SPDX-License-Identifier: BSL-1.0
#include "pt/svm/msr_permission_map.hpp"

#include "pt/core/result.hpp"
#include "pt/vcpu/bitmap_change.hpp"
#include "pt/vcpu/msr.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::svm::msr_permission_map;
using pt::vcpu::bitmap_change;
using pt::vcpu::msr_access;

constexpr bitmap_change nothing{};
constexpr bitmap_change opened{.opened = true};
constexpr bitmap_change closed{.closed = true};

/// [amd] Table "MSR Ranges Covered by MSRPM": byte offset and first MSR of each vector.
struct vector_row {
    std::size_t offset;
    std::uint32_t first;
};
constexpr vector_row table[] = {{0x000, 0x0000'0000}, {0x800, 0xC000'0000}, {0x1000, 0xC001'0000}};

TEST_CASE("8 KiB of ones, whatever they held: every MSR is intercepted until it is opened",
          "[svm][msr]") {
    std::vector<std::uint64_t> words(msr_permission_map::word_count + 1, 0x1234);
    const msr_permission_map map{words.data()};
    REQUIRE(msr_permission_map::word_count * 8 == 8 * 1024);
    for (std::size_t i = 0; i != msr_permission_map::word_count; ++i) {
        REQUIRE(words[i] == 0xFFFF'FFFF'FFFF'FFFF);
    }
    REQUIRE(words.back() == 0x1234);
    REQUIRE(map.exits(0xC000'0080, msr_access::read));
}

TEST_CASE("two bits an MSR, reads in the lower one, in three vectors of 2 KiB", "[svm][msr]") {
    for (const vector_row row : table) {
        for (const std::uint32_t index : {0x84U, 0x102U, 0x1FFFU}) {
            for (const unsigned access : {1U, 2U, 3U}) {
                std::vector<std::uint64_t> words(msr_permission_map::word_count);
                msr_permission_map map{words.data()};
                const std::uint32_t msr = row.first + index;
                REQUIRE(map.open(msr, static_cast<msr_access>(access)) == opened);
                std::uint8_t raw[8192];
                std::memcpy(raw, words.data(), sizeof raw);
                const std::size_t byte = row.offset + index / 4;
                const unsigned expected = 0xFF & ~(access << index % 4 * 2);
                for (std::size_t i = 0; i != sizeof raw; ++i) {
                    REQUIRE(raw[i] == (i == byte ? expected : 0xFF));
                }
                CHECK(map.exits(msr, msr_access::read) == ((access & 1) == 0));
                CHECK(map.exits(msr, msr_access::write) == ((access & 2) == 0));
                CHECK(map.exits(msr, msr_access::read_write) == (access != 3));
            }
        }
    }
}

TEST_CASE("an MSR that the map does not cover is always intercepted and cannot open",
          "[svm][msr]") {
    constexpr auto check = [] {
        std::uint64_t words[msr_permission_map::word_count]{};
        msr_permission_map map{words};
        bool good = true;
        for (const std::uint32_t msr : {0x2000U, 0x4000'0000U, 0xBFFF'FFFFU, 0xC000'2000U,
                                        0xC000'FFFFU, 0xC001'2000U, 0xFFFF'FFFFU}) {
            good = good && map.exits(msr, msr_access::read) && map.exits(msr, msr_access::write);
            good = good && map.open(msr, msr_access::read) == error{errc::out_of_range, msr};
            good = good && map.close(msr, msr_access::read_write) == nothing;
        }
        good = good && map.open({0xC000'1FF0, 0xC001'0010}, msr_access::read) ==
                           error{errc::out_of_range, 0xC000'2000};
        good = good && map.open({0xC001'1FFF, 0xC001'2000}, msr_access::read) ==
                           error{errc::out_of_range, 0xC001'2000};
        for (const std::uint64_t word : words) {
            good = good && word == ~std::uint64_t{0};
        }
        // Nor are they shadows of an open MSR with the same low bits.
        good = good && map.open(0x174, msr_access::read_write) == opened &&
               map.open(0xC001'0174, msr_access::read_write) == opened;
        for (const std::uint32_t msr :
             {0x2174U, 0x4000'0174U, 0xBFFF'E174U, 0xC000'0174U, 0xC000'2174U, 0xC001'2174U}) {
            good = good && map.exits(msr, msr_access::read) && map.exits(msr, msr_access::write);
        }

        // Closing may name all there are.
        good = good && map.open(0x1FFF, msr_access::read_write) == opened &&
               map.open(0xC001'1FFF, msr_access::read_write) == opened;
        good = good && map.close({0, 0xFFFF'FFFF}, msr_access::write) == closed;
        return good && !map.exits(0xC001'1FFF, msr_access::read) &&
               map.exits(0xC001'1FFF, msr_access::write) && map.exits(0x1FFF, msr_access::write) &&
               map.close({0, 0xFFFF'FFFF}, msr_access::write) == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what would give a guest the host never opens: its APIC, its SVM state, its memory map",
          "[svm][msr]") {
    constexpr auto check = [] {
        std::uint64_t words[msr_permission_map::word_count]{};
        msr_permission_map map{words};
        bool good = true;
        // APIC base, TSC deadline, the x2APIC; VM_CR, VM_HSAVE_PA, SMM_KEY, the AVIC doorbell.
        for (const std::uint32_t msr : {0x1BU, 0x6E0U, 0x80BU, 0x830U, 0xC001'0111U, 0xC001'0114U,
                                        0xC001'0117U, 0xC001'0119U, 0xC001'011BU}) {
            for (const msr_access access :
                 {msr_access::read, msr_access::write, msr_access::read_write}) {
                good = good && map.open(msr, access) == error{errc::refused, msr};
            }
        }
        // SYSCFG, HWCR, IORRBase0, TOP_MEM, TOP_MEM2, PATCH_LOADER, MMIO base, RMP.
        for (const std::uint32_t msr :
             {0x10U, 0x200U, 0x2FFU, 0xC001'0010U, 0xC001'0015U, 0xC001'0016U, 0xC001'001AU,
              0xC001'001DU, 0xC001'0020U, 0xC001'0058U, 0xC001'0132U, 0xC001'0133U}) {
            good = good && map.open(msr, msr_access::write) == error{errc::refused, msr};
        }
        good = good && map.open({0xC001'0000, 0xC001'1FFF}, msr_access::read) ==
                           error{errc::refused, 0xC001'0111};
        good = good && map.open({0xC001'0000, 0xC001'1FFF}, msr_access::write) ==
                           error{errc::refused, 0xC001'0010};
        for (const std::uint64_t word : words) {
            good = good && word == ~std::uint64_t{0};
        }
        // What VMRUN, VMSAVE and VMLOAD exchange does open, and so do performance counters.
        return good && map.open({0xC000'0080, 0xC000'0084}, msr_access::read_write) == opened &&
               map.open({0xC000'0100, 0xC000'0102}, msr_access::read_write) == opened &&
               map.open({0xC001'0000, 0xC001'0007}, msr_access::read_write) == opened;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("random MSRs and ranges: each decision is that of two flags for each MSR", "[svm][msr]") {
    constexpr std::uint64_t other = 0xA5A5'5A5A'A5A5'5A5A;
    std::vector<std::uint64_t> memory(msr_permission_map::word_count + 2, other);
    msr_permission_map map{memory.data() + 1};
    std::map<std::uint32_t, unsigned> intercepted; // bit 0: reads, bit 1: writes
    for (const vector_row row : table) {
        for (std::uint32_t i = 0; i != 0x2000; ++i) {
            intercepted[row.first + i] = 3;
        }
    }
    auto random = [engine = std::mt19937{1511}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    // Where nothing is protected in any vector.
    const auto free = [](std::uint32_t first, std::uint32_t last) {
        return (first >= 0xA00 && last < 0x17D0) || (first > 0x17D1 && last < 0x2000);
    };
    unsigned wrong = 0;
    unsigned changes = 0;
    for (int step = 0; step != 20'000; ++step) {
        const std::uint32_t base = table[random() % 3].first;
        const std::uint32_t index = 0x900 + random() % 0x1700;
        const std::uint32_t size = 1 + random() % (1U << random() % 9);
        const std::uint32_t first = base + index;
        const std::uint32_t last = first + size - 1;
        const unsigned access = 1 + random() % 3;
        const bool opens = random() % 2 == 0;
        if (opens && !free(index, index + size - 1)) {
            continue;
        }
        bool expected = false;
        for (std::uint32_t msr = first; msr != first + size; ++msr) {
            const auto at = intercepted.find(msr);
            if (at == intercepted.end()) {
                continue;
            }
            const unsigned after = opens ? at->second & ~access : at->second | access;
            expected = expected || after != at->second;
            at->second = after;
        }
        const auto typed = static_cast<msr_access>(access);
        if (opens) {
            wrong += map.open({first, last}, typed) != bitmap_change{.opened = expected};
        } else {
            wrong += map.close({first, last}, typed) != bitmap_change{.closed = expected};
        }
        changes += expected;
        for (std::uint32_t msr = first - 2; msr != last + 3; ++msr) {
            const auto at = intercepted.find(msr);
            const unsigned exits = at == intercepted.end() ? 3 : at->second;
            for (const unsigned asked : {1U, 2U, 3U}) {
                wrong += map.exits(msr, static_cast<msr_access>(asked)) != ((exits & asked) != 0);
            }
        }
    }
    for (const auto& [msr, exits] : intercepted) {
        wrong += map.exits(msr, msr_access::read) != ((exits & 1) != 0);
        wrong += map.exits(msr, msr_access::write) != ((exits & 2) != 0);
    }
    REQUIRE(wrong == 0);
    REQUIRE(changes > 5'000);
    REQUIRE(memory.front() == other);
    REQUIRE(memory.back() == other);
}

} // namespace
