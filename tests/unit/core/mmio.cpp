// SPDX-License-Identifier: BSL-1.0
#include "pt/core/mmio.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace mmio_test {

struct version : pt::reg<version, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0;
    static constexpr bits<7, 4, std::uint8_t, pt::access::read_only> major{};
    static constexpr bits<3, 0, std::uint8_t, pt::access::read_only> minor{};
    static constexpr pt::field_list fields{major, minor};
};
struct root_table : pt::reg<root_table, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x20;
    static constexpr bits<63, 12, pt::hpa> base{};
    static constexpr pt::field_list fields{base};
};

/// The last access, and how many there were.
struct window {
    unsigned accesses = 0;
    char kind = '-';
    std::uint32_t offset = 0;
    std::uint64_t value = 0;
    constexpr void note(char what, std::uint32_t where, std::uint64_t how_much) {
        ++accesses;
        kind = what;
        offset = where;
        value = how_much;
    }
};
struct recorder {
    window* seen;
    constexpr std::uint32_t read32(std::uint32_t offset) {
        return seen->note('r', offset, 4), 0x4EU;
    }
    constexpr std::uint64_t read64(std::uint32_t offset) {
        return seen->note('r', offset, 8), 0xFEDC'BA98'7654'3000;
    }
    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        seen->note('w', offset, value);
    }
    constexpr void write64(std::uint32_t offset, std::uint64_t value) {
        seen->note('W', offset, value);
    }
};

constexpr bool one_access_of_the_registers_size() {
    window seen;
    recorder mmio{&seen};
    const auto v = pt::read<version>(mmio);
    bool good = v[version::major] == 4 && v[version::minor] == 14 && seen.accesses == 1 &&
                seen.kind == 'r' && seen.offset == 0x0 && seen.value == 4;
    const auto r = pt::read<root_table>(mmio);
    good &= r[root_table::base] == pt::hpa{0xFEDC'BA98'7654'3000} && seen.accesses == 2 &&
            seen.kind == 'r' && seen.offset == 0x20 && seen.value == 8;
    pt::write(mmio, version{0x1234'5678U});
    good &=
        seen.accesses == 3 && seen.kind == 'w' && seen.offset == 0x0 && seen.value == 0x1234'5678;
    pt::write(mmio, root_table{root_table::base(pt::hpa{0x8000'0000'0000'0000})});
    good &= seen.accesses == 4 && seen.kind == 'W' && seen.offset == 0x20 &&
            seen.value == 0x8000'0000'0000'0000;
    return good;
}
static_assert(one_access_of_the_registers_size());

TEST_CASE("a register is read and written with one access of its own size", "[core]") {
    CHECK(one_access_of_the_registers_size());
}

} // namespace mmio_test
