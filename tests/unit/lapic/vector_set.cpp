// SPDX-License-Identifier: BSL-1.0
#include "pt/lapic/vector_set.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <set>

namespace {

using pt::lapic::vector_set;

TEST_CASE("vector v is bit v%32 of the register at 16*(v/32)", "[lapic]") {
    for (unsigned vector = 0; vector != 256; ++vector) {
        vector_set set;
        set.insert(static_cast<std::uint8_t>(vector));
        std::uint8_t bytes[0x80];
        std::memcpy(bytes, set.words, sizeof bytes);
        CAPTURE(vector);
        REQUIRE(bytes[vector / 32 * 16 + vector % 32 / 8] == 1U << vector % 8);
        REQUIRE(set.contains(static_cast<std::uint8_t>(vector)));
    }
}

TEST_CASE("the highest vector of one, of any two, and of none", "[lapic]") {
    constexpr auto check = [] {
        bool good = vector_set{}.highest() == 0;
        for (unsigned high = 0; high != 256; ++high) {
            vector_set set;
            set.insert(static_cast<std::uint8_t>(high));
            good = good && set.highest() == high;
            for (unsigned low = 0; low < high; low += 1 + low / 9) {
                set.insert(static_cast<std::uint8_t>(low));
                good = good && set.highest() == high;
                set.erase(static_cast<std::uint8_t>(high));
                good = good && set.highest() == low;
                set.insert(static_cast<std::uint8_t>(high));
                set.erase(static_cast<std::uint8_t>(low));
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a random set beside std::set", "[lapic]") {
    vector_set set;
    std::set<unsigned> model;
    auto random = [engine = std::mt19937{256}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;
    for (int step = 0; step != 200'000; ++step) {
        const unsigned vector = random() % 256;
        // Sets of few and of many members by turns.
        if (random() % 8 < (step / 1000 % 2 == 0 ? 1U : 6U)) {
            set.insert(static_cast<std::uint8_t>(vector));
            model.insert(vector);
        } else {
            set.erase(static_cast<std::uint8_t>(vector));
            model.erase(vector);
        }
        wrong += set.highest() != (model.empty() ? 0 : *model.rbegin());
        wrong += set.contains(static_cast<std::uint8_t>(vector)) != model.contains(vector);
    }
    REQUIRE(wrong == 0);
}

} // namespace
