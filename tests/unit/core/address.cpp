// SPDX-License-Identifier: BSL-1.0
#include "pt/core/address.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

struct small_space;
using small = pt::address<small_space, std::uint8_t>; // small enough to try everything

/// Points of an 8-bit space, sizes up to twice as large as it, against sums of plain integers.
constexpr bool arithmetic_wraps_as_the_machine_does() {
    bool good = true;
    for (unsigned p = 0; p < 256; p += 5) {
        const small point{static_cast<std::uint8_t>(p)};
        for (unsigned n = 0; n < 600; n += 7) {
            good &= (point + n).raw == (p + n) % 256;
            good &= (point - n).raw == (p + 1024 - n) % 256;
            small moved = point;
            moved += n;
            good &= moved == point + n;
            moved -= n;
            good &= moved == point;
        }
        for (unsigned q = 0; q < 256; q += 11) {
            const small other{static_cast<std::uint8_t>(q)};
            good &= point - other == (p + 256 - q) % 256;
            good &= other + (point - other) == point;
            good &= (point < other) == (p < q) && (point == other) == (p == q);
        }
    }
    return good;
}
static_assert(arithmetic_wraps_as_the_machine_does());

TEST_CASE("address arithmetic wraps as the machine's does", "[core]") {
    REQUIRE(arithmetic_wraps_as_the_machine_does());
    CHECK((pt::io_port{0xFFFF} + 1).raw == 0);
    CHECK((pt::io_port{0} - 1).raw == 0xFFFF);
    CHECK(pt::io_port{0} - pt::io_port{0xFFFF} == 1);
    CHECK((pt::gpa{~std::uint64_t{0}} + 1).raw == 0);
    CHECK((pt::gpa{0} - 1).raw == ~std::uint64_t{0});
    CHECK(pt::gpa{5} - pt::gpa{7} == ~std::uint64_t{0} - 1);
    CHECK((pt::io_port{0x1234} + 0x1'0000).raw == 0x1234); // a size beyond the space
}

constexpr bool alignment_is_division() {
    bool good = true;
    for (unsigned p = 0; p < 256; p += 3) {
        const small point{static_cast<std::uint8_t>(p)};
        for (unsigned size = 1; size != 512; size *= 2) {
            good &= point.is_aligned(size) == (p % size == 0);
            good &= point.align_down(size).raw == p / size * size;
            good &= point.offset_in(size) == p % size;
            good &= point.align_down(size) + point.offset_in(size) == point;
        }
    }
    return good;
}
static_assert(alignment_is_division());

TEST_CASE("alignment is division by a power of two", "[core]") {
    REQUIRE(alignment_is_division());
    const pt::hpa high{0xFFFF'FFFF'FFFF'FFFF};
    CHECK(high.align_down(pt::GiB).raw == 0xFFFF'FFFF'C000'0000);
    CHECK(high.offset_in(pt::GiB) == 0x3FFF'FFFF);
    CHECK(high.align_down(std::uint64_t{1} << 63).raw == std::uint64_t{1} << 63);
}

TEST_CASE("binary prefixes", "[core]") {
    CHECK(pt::KiB == 1'024);
    CHECK(pt::MiB == 1'048'576);
    CHECK(pt::GiB == 1'073'741'824);
    CHECK(pt::TiB == 1'099'511'627'776);
}

} // namespace
