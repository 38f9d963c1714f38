// SPDX-License-Identifier: BSL-1.0
// Host vectors for devices, beside a plain list of who has which.
#include "pt/assign/vector_pool.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::assign::host_vector_block;
using pt::assign::host_vectors;
using pt::assign::vector_pool;

TEST_CASE("a block begins where an MSI's data has room for the vector's number",
          "[assign][vectors]") {
    constexpr auto holds = [] {
        host_vectors vectors{0x31, 0x4F};
        vector_pool pool{vectors, 5};
        bool ok = pool.destination() == 5;
        ok = ok && pool.allocate(1).value() == host_vector_block{0x31, 1};
        ok = ok && pool.allocate(4).value() == host_vector_block{0x34, 4};
        ok = ok && pool.allocate(3).value() == host_vector_block{0x38, 3}; // as four
        ok = ok && pool.allocate(16).value() == host_vector_block{0x40, 16};
        ok = ok && pool.allocate(1).value() == host_vector_block{0x32, 1};
        ok = ok && pool.allocate(2).value() == host_vector_block{0x3C, 2};
        ok = ok && pool.allocate(4) == error{errc::busy, 4}; // 33, 3B, 3E, 3F are left
        pool.release({0x34, 4});
        ok = ok && pool.allocate(4).value() == host_vector_block{0x34, 4};
        return ok && vectors.is_taken(0x37) && !vectors.is_taken(0x33) && !vectors.is_taken(0x3B);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("more vectors than there ever are is another error than more than there are now",
          "[assign][vectors]") {
    constexpr auto holds = [] {
        host_vectors vectors{0x80, 0xFF};
        vector_pool pool{vectors, 0};
        bool ok = pool.allocate(0) == error{errc::out_of_range, 0};
        ok = ok && pool.allocate(129) == error{errc::out_of_range, 129};
        ok = ok && pool.allocate(2048) == error{errc::out_of_range, 2048};
        ok = ok && pool.allocate(0xFFFF) == error{errc::out_of_range, 0xFFFF};
        ok = ok && pool.allocate(128).value() == host_vector_block{0x80, 128};
        ok = ok && pool.allocate(128) == error{errc::busy, 128};
        host_vectors odd{0x41, 0x5F}; // 31 of them, but none that begins with a multiple of 32
        vector_pool few{odd, 0};
        return ok && few.allocate(17) == error{errc::out_of_range, 17} &&
               few.allocate(16).value().first == 0x50;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a block knows its vectors", "[assign][vectors]") {
    constexpr host_vector_block block{0xF0, 16};
    STATIC_REQUIRE(block[0] == 0xF0);
    STATIC_REQUIRE(block[15] == 0xFF);
    STATIC_REQUIRE(block.contains(0xFF));
    STATIC_REQUIRE(!block.contains(0xEF));
    STATIC_REQUIRE(!host_vector_block{0x40, 4}.contains(0x44));
    STATIC_REQUIRE(!host_vector_block{}.contains(0));
}

TEST_CASE("random blocks never overlap, and everything comes back", "[assign][vectors]") {
    std::mt19937 random{8};
    for (unsigned round = 0; round < 50; ++round) {
        const auto first = static_cast<std::uint8_t>(32 + random() % 200);
        const auto last = static_cast<std::uint8_t>(first + random() % (256U - first));
        host_vectors vectors{first, last};
        vector_pool one{vectors, 0};
        vector_pool other{vectors, 1}; // of another processor's idea of the same vectors
        std::vector<int> owner(256, 0);
        std::vector<host_vector_block> held;
        for (int step = 1; step < 200; ++step) {
            vector_pool<>& pool = random() % 2 == 0 ? one : other;
            if (!held.empty() && random() % 3 == 0) {
                const std::size_t n = random() % held.size();
                for (unsigned i = 0; i < held[n].count; ++i) {
                    owner[held[n].first + i] = 0;
                }
                pool.release(held[n]);
                held[n] = held.back();
                held.pop_back();
                continue;
            }
            const auto count = static_cast<std::uint16_t>(1 + random() % 20);
            unsigned size = 1;
            while (size < count) {
                size *= 2;
            }
            // Every place where it could be.
            bool possible = false;
            bool free = false;
            for (unsigned at = 0; at + count <= 256; at += size) {
                if (at < first || at + count > last + 1U) {
                    continue;
                }
                possible = true;
                bool all = true;
                for (unsigned i = 0; i < count; ++i) {
                    all = all && owner[at + i] == 0;
                }
                free = free || all;
            }
            const auto got = pool.allocate(count);
            REQUIRE(got.has_value() == free);
            if (!got) {
                REQUIRE(got.error() == error{possible ? errc::busy : errc::out_of_range, count});
                continue;
            }
            REQUIRE(got->count == count);
            REQUIRE(got->first % size == 0);
            for (unsigned i = 0; i < count; ++i) {
                REQUIRE((got->first + i >= first && got->first + i <= last));
                REQUIRE(owner[got->first + i] == 0);
                owner[got->first + i] = step;
            }
            held.push_back(*got);
        }
        for (const host_vector_block& block : held) {
            one.release(block);
        }
        for (unsigned v = 0; v < 256; ++v) {
            REQUIRE_FALSE(vectors.is_taken(static_cast<std::uint8_t>(v)));
        }
    }
}

} // namespace
