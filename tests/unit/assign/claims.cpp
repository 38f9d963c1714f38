// SPDX-License-Identifier: BSL-1.0
// Who has what of a guest's space: what overlaps is refused, order and slots are kept.
#include "pt/assign/claims.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <vector>

namespace {

using namespace pt::assign;
using pt::errc;
using pt::error;
using pt::gpa;
using pt::io_port;
using pt::range;

constexpr range<gpa> at(std::uint64_t first, std::uint64_t size) { return {gpa{first}, size}; }
constexpr claim<gpa> taken(std::uint64_t first, std::uint64_t size,
                           space_use use = space_use::device,
                           std::uint16_t function = claim<gpa>::no_function) {
    return {.place = at(first, size), .use = use, .function = function};
}

TEST_CASE("claims do not overlap, and the first address in the way is told", "[assign][claims]") {
    constexpr auto holds = [] {
        claim<gpa> slots[4];
        claims<gpa> all{slots};
        bool good = all.add(taken(0x5000, 0x1000)).has_value() &&
                    all.add(taken(0x1000, 0x1000)).has_value() &&
                    all.add(taken(0x2000, 0x100)).has_value();
        good &= all.add(taken(0x1FFF, 2)) == error{errc::refused, 0x1FFF};
        good &= all.add(taken(0, 0x10000)) == error{errc::refused, 0x1000};
        good &= all.add(taken(0x20FF, 1)) == error{errc::refused, 0x20FF};
        good &= all.add(taken(0x2100, 0)) == error{errc::out_of_range, 0x2100};
        good &= all.add(taken(0x2100, 0x2F00)).has_value(); // exactly what is free
        good &= all.add(taken(0x6000, 1)) == error{errc::busy, 0x6000};
        std::uint64_t next = 0x1000;
        for (const claim<gpa>& each : all) {
            good &= each.place.first().raw == next;
            next = each.place.last().raw + 1;
        }
        good &= next == 0x6000 && all.size() == 4;
        good &= all.find(gpa{0x20FF})->place == at(0x2000, 0x100);
        good &= all.find(gpa{0xFFF}) == nullptr && all.find(gpa{0x6000}) == nullptr;
        good &= all.remove(at(0x2000, 0x200)) == error{errc::absent, 0x2000};
        good &= all.remove(at(0x2000, 0x100)).has_value() && all.find(gpa{0x2000}) == nullptr;
        return good && all.find_in(at(0x2000, 0x101))->place.first().raw == 0x2100;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a claim may end where its space does", "[assign][claims]") {
    constexpr auto holds = [] {
        claim<gpa> slots[2];
        claims<gpa> all{slots};
        bool good = all.add(taken(0xFFFF'FFFF'FFFF'F000, 0x1000)).has_value();
        good &= all.find(gpa{~std::uint64_t{0}}) != nullptr;
        claim<io_port> port_slots[1];
        claims<io_port> ports{port_slots};
        good &= ports.add({.place = {io_port{0}, 0x1'0000}}).has_value();
        return good && ports.find(io_port{0xFFFF}) != nullptr;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("what is owed is taken until it is paid", "[assign][claims]") {
    constexpr auto holds = [] {
        claim<gpa> slots[4];
        claims<gpa> all{slots};
        bool good = all.add(taken(0x1000, 0x1000, space_use::memory)).has_value() &&
                    all.add(taken(0x2000, 0x1000, space_use::bar, 7)).has_value() &&
                    all.add(taken(0x3000, 0x1000)).has_value();
        good &= all.owe(at(0x1000, 0x800)) == error{errc::absent, 0x1000};
        good &= !all.remove_owed() && all.owe(at(0x1000, 0x1000)) && all.owe(at(0x2000, 0x1000));
        good &= all.add(taken(0x1000, 1)) == error{errc::refused, 0x1000};
        good &= all.remove_owed() && all.size() == 1 && all.find(gpa{0x1000}) == nullptr;
        return good && all.find(gpa{0x3000}) != nullptr;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("slots that are kept back are there for functions and for nobody else",
          "[assign][claims]") {
    constexpr auto holds = [] {
        claim<gpa> slots[4];
        claims<gpa> all{slots};
        bool good = all.keep_back(5) == error{errc::busy, 5} && all.keep_back(2).has_value();
        good &= all.add(taken(0x1000, 1)).has_value() && all.add(taken(0x2000, 1)).has_value();
        good &= all.add(taken(0x3000, 1)) == error{errc::busy, 0x3000};
        good &= all.add(taken(0x3000, 1, space_use::bar, 0)).has_value();
        good &= all.owe(at(0x3000, 1)).has_value(); // it is the function's still
        good &= all.add(taken(0x4000, 1)) == error{errc::busy, 0x4000};
        good &= all.add(taken(0x4000, 1, space_use::bar, 0)).has_value();
        good &= all.keep_back(1) == error{errc::busy, 1};
        good &= all.remove_owed() && all.remove(at(0x4000, 1)).has_value();
        all.give_back(2);
        good &= all.add(taken(0x3000, 1)).has_value() && all.add(taken(0x4000, 1)).has_value();
        return good && all.keep_back(1) == error{errc::busy, 1};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("claims agree with a page for each address", "[assign][claims]") {
    std::mt19937 random{8};
    const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    claim<gpa> slots[8];
    claims<gpa> all{slots};
    std::vector<unsigned> owner(64, 0); // 0: free, else the number of the claim
    std::vector<range<gpa>> places{{}};
    unsigned alive = 0;
    for (unsigned step = 0; step < 20'000; ++step) {
        const unsigned first = below(64);
        const unsigned size = 1 + below(64 - first < 12 ? 64 - first : 12);
        unsigned in_the_way = 64;
        for (unsigned i = first + size; i-- > first;) {
            in_the_way = owner[i] != 0 ? i : in_the_way;
        }
        if (below(3) != 0) {
            const auto done = all.add(taken(first, size));
            if (in_the_way != 64) {
                REQUIRE(done == error{errc::refused, in_the_way});
            } else if (alive == 8) {
                REQUIRE(done == error{errc::busy, first});
            } else {
                REQUIRE(done);
                ++alive;
                for (unsigned i = first; i < first + size; ++i) {
                    owner[i] = static_cast<unsigned>(places.size());
                }
                places.push_back(at(first, size));
            }
        } else if (owner[first] != 0) {
            const unsigned which = owner[first];
            REQUIRE(all.remove(places[which]));
            --alive;
            for (unsigned& each : owner) {
                each = each == which ? 0 : each;
            }
        }
        const unsigned probe = below(64);
        const auto* const found = all.find(gpa{probe});
        REQUIRE((found != nullptr) == (owner[probe] != 0));
        REQUIRE((found == nullptr || found->place == places[owner[probe]]));
    }
}

} // namespace
