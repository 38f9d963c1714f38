// SPDX-License-Identifier: BSL-1.0
#include "pt/core/range.hpp"

#include <catch2/catch_test_macros.hpp>

#include <bitset>
#include <cstdint>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::gpa;
using pt::io_port;
using pt::range;

struct small_space;
using small = pt::address<small_space, std::uint8_t>;
using members = std::bitset<256>; // the model: which addresses are inside

struct modelled {
    range<small> tested;
    members model;
};

/// Ranges at both ends of an 8-bit space, up to all of it.
std::vector<modelled> small_ranges(unsigned& wrapping) {
    std::vector<modelled> all;
    for (const unsigned first : {0U, 1U, 2U, 3U, 7U, 128U, 252U, 253U, 254U, 255U}) {
        for (const unsigned size :
             {0U, 1U, 2U, 3U, 4U, 5U, 127U, 128U, 129U, 252U, 253U, 254U, 255U, 256U, 257U}) {
            const auto made = range<small>::checked(small{static_cast<std::uint8_t>(first)}, size);
            const bool fits = size == 0 || first + size <= 256;
            if (made.has_value() != fits) {
                FAIL("checked() of first " << first << ", size " << size);
            }
            if (!fits) {
                CHECK(made.error() == error{errc::out_of_range, first});
                ++wrapping;
                continue;
            }
            members model;
            for (unsigned i = 0; i != size; ++i) {
                model.set(first + i);
            }
            all.push_back({*made, model});
        }
    }
    return all;
}

TEST_CASE("ranges are sets of addresses", "[core]") {
    unsigned wrapping = 0;
    const auto all = small_ranges(wrapping);
    REQUIRE(all.size() > 60);
    REQUIRE(wrapping > 60);
    unsigned wrong = 0;
    for (const auto& [a, in_a] : all) {
        wrong += a.size() == in_a.count() ? 0 : 1;
        wrong += a.empty() == in_a.none() ? 0 : 1;
        for (unsigned p = 0; p != 256; ++p) {
            wrong += a.contains(small{static_cast<std::uint8_t>(p)}) == in_a.test(p) ? 0 : 1;
        }
        if (!a.empty()) {
            wrong += in_a.test(a.first().raw) && in_a.test(a.last().raw) ? 0 : 1;
            wrong += a.last() - a.first() + 1 == in_a.count() ? 0 : 1;
        }
        for (const auto& [b, in_b] : all) {
            const members both = in_a & in_b;
            wrong += a.contains(b) == (both == in_b) ? 0 : 1;
            wrong += a.overlaps(b) == both.any() ? 0 : 1;
            const range<small> common = a.intersection(b);
            members in_common;
            for (unsigned p = 0; p != 256; ++p) {
                in_common.set(p, common.contains(small{static_cast<std::uint8_t>(p)}));
            }
            wrong += in_common == both ? 0 : 1;
            wrong += common == b.intersection(a) ? 0 : 1;
        }
    }
    CHECK(wrong == 0);
}

constexpr bool the_port_space_is_a_range() {
    constexpr range<io_port> ports{io_port{0}, 0x1'0000};
    constexpr range<io_port> config{io_port{0xCF8}, 8};
    constexpr range<io_port> top{io_port{0xFFFF}, 1};
    return ports.last() == io_port{0xFFFF} && ports.contains(config) && !config.contains(ports) &&
           ports.contains(io_port{0}) && ports.contains(io_port{0xFFFF}) && ports.contains(top) &&
           ports.intersection(config) == config && ports.intersection(ports) == ports &&
           top.last() == io_port{0xFFFF} && !config.overlaps(top) &&
           !range<io_port>::checked(io_port{0xFFFF}, 2) &&
           !range<io_port>::checked(io_port{0}, 0x1'0001) &&
           !range<io_port>::checked(io_port{1}, 0x1'0000) &&
           !range<io_port>::checked(io_port{1}, ~std::uint64_t{0});
}
static_assert(the_port_space_is_a_range());

constexpr bool the_end_of_64_bits_is_inside() {
    constexpr std::uint64_t top = ~std::uint64_t{0};
    constexpr range<gpa> last_page{gpa{top - 0xFFF}, 0x1000};
    constexpr range<gpa> nearly_all{gpa{1}, top};
    return last_page.last() == gpa{top} && last_page.contains(gpa{top}) &&
           !last_page.contains(gpa{0}) && nearly_all.contains(last_page) &&
           !nearly_all.contains(gpa{0}) && nearly_all.intersection(last_page) == last_page &&
           range<gpa>{gpa{0}, top}.overlaps(last_page) &&
           !range<gpa>{gpa{0}, top}.contains(gpa{top}) &&
           !range<gpa>::checked(gpa{top - 0xFFF}, 0x1001) && !range<gpa>::checked(gpa{2}, top) &&
           range<gpa>::checked(gpa{top}, 1).has_value() &&
           range<gpa>::checked(gpa{top}, 0).has_value();
}
static_assert(the_end_of_64_bits_is_inside());

TEST_CASE("a range may reach the end of its address space", "[core]") {
    CHECK(the_port_space_is_a_range());
    CHECK(the_end_of_64_bits_is_inside());
    CHECK(range<gpa>::checked(gpa{~std::uint64_t{0}}, 2).error() ==
          error{errc::out_of_range, ~std::uint64_t{0}});
}

TEST_CASE("ranges that touch do not overlap", "[core]") {
    constexpr range<gpa> low{gpa{0x1000}, 0x1000};
    constexpr range<gpa> high{gpa{0x2000}, 0x1000};
    CHECK(!low.overlaps(high));
    CHECK(low.intersection(high) == range<gpa>{});
    CHECK(low.overlaps({gpa{0x1FFF}, 2}));
    CHECK(range<gpa>{} == range<gpa>{gpa{0}, 0});
}

} // namespace
