// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/virtual_msi_x.hpp"

#include "view_fixture.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

using namespace view_fixture;
using pt::pci::msi_x_vector;

namespace {

constexpr auto msi_x = interrupt_kind::msi_x;
constexpr std::uint64_t ones = ~std::uint64_t{0};

struct table {
    vmm host{};
    msi_x_vector vectors[4]{};
    pt::pci::virtual_msi_x<route> msi_x{route{&host}};

    constexpr explicit table(std::uint16_t count = 4) { msi_x.assign(vectors, count); }
    table(const table&) = delete;
    table& operator=(const table&) = delete;

    constexpr void put(std::uint64_t offset, std::uint32_t value) {
        msi_x.write_table(offset, mmio_width::dword, value);
    }
    constexpr std::uint64_t get(std::uint64_t offset) {
        return msi_x.read_table(offset, mmio_width::dword);
    }
    constexpr void put_vector(unsigned n, std::uint32_t data, std::uint32_t control) {
        put(16 * n, 0xFEE0'0000);
        put(16 * n + 4, 0);
        put(16 * n + 8, data);
        put(16 * n + 12, control);
    }
    constexpr bool was(std::initializer_list<happening> expected) {
        return host.told.was(expected);
    }
};

} // namespace

TEST_CASE("a table starts masked, and reads back what can be written of it", "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t;
        bool good = true;
        for (unsigned n = 0; n < 4; ++n) {
            good &= t.get(16 * n) == 0 && t.get(16 * n + 4) == 0 && t.get(16 * n + 8) == 0 &&
                    t.get(16 * n + 12) == 1;
        }
        for (unsigned offset = 0; offset < 64; offset += 4) {
            t.put(offset, 0xFFFF'FFFF);
        }
        for (unsigned n = 0; n < 4; ++n) { // address a multiple of 4; Vector Control is one bit
            good &= t.get(16 * n) == 0xFFFF'FFFC && t.get(16 * n + 4) == 0xFFFF'FFFF &&
                    t.get(16 * n + 8) == 0xFFFF'FFFF && t.get(16 * n + 12) == 1;
        }
        t.msi_x.write_table(16, mmio_width::qword, 0x1234'5678'9ABC'DEF3);
        good &= t.get(16) == 0x9ABC'DEF0 && t.get(20) == 0x1234'5678;
        good &= t.msi_x.read_table(16, mmio_width::qword) == 0x1234'5678'9ABC'DEF0;
        t.msi_x.write_table(24, mmio_width::qword, 0xFFFF'FFFE'0000'0040);
        good &= t.msi_x.read_table(24, mmio_width::qword) == 0x40;
        good &= t.get(12) == 1 && t.get(44) == 1; // the neighbours
        return good && t.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("only aligned dwords and qwords reach the table and the pending bits", "[pci][rule 7]") {
    table t;
    t.put_vector(0, 0xAB, 0);
    for (const mmio_width size :
         {mmio_width::byte, mmio_width::word, mmio_width::dword, mmio_width::qword}) {
        for (std::uint64_t offset = 0; offset < 80; ++offset) {
            const bool legal = size_of(size) >= 4 && offset % size_of(size) == 0;
            CAPTURE(offset, size_of(size));
            if (!legal) {
                t.msi_x.write_table(offset, size, 0);
                REQUIRE(t.msi_x.read_table(offset, size) == all_ones(size));
                REQUIRE(t.msi_x.read_pending(offset, size) == all_ones(size));
            } else {
                REQUIRE((t.msi_x.read_table(offset, size) == all_ones(size)) == (offset >= 64));
                REQUIRE((t.msi_x.read_pending(offset, size) == all_ones(size)) == (offset >= 8));
            }
        }
    }
    REQUIRE(t.get(0) == 0xFEE0'0000);
    REQUIRE(t.get(8) == 0xAB);
    // Far out: no arithmetic wraps.
    t.msi_x.write_table(ones - 7, mmio_width::qword, 0);
    REQUIRE(t.msi_x.read_table(ones - 7, mmio_width::qword) == ones);
    REQUIRE(t.msi_x.read_pending(ones - 7, mmio_width::qword) == ones);
    REQUIRE(t.msi_x.read_pending(std::uint64_t{1} << 61, mmio_width::qword) == ones);
}

TEST_CASE("a vector is open while it and the function are unmasked and enabled; each change once",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t;
        t.put_vector(1, 0x41, 0);
        bool good = t.was({});
        t.msi_x.control(true, true);
        good &= t.was({});
        t.msi_x.control(true, false);
        good &= t.was({opens(msi_x, 1, 0xFEE0'0000, 0x41)});
        t.msi_x.control(true, false);
        t.put(16 + 8, 0x41);
        t.put(16 + 12, 0xFFFF'FFFE); // reserved bits
        t.put(16, 0xFEE0'0003);      // and the two that are 0
        good &= t.was({});
        t.put(16 + 8, 0x42); // while it is open
        t.put(16 + 4, 0x1);
        good &= t.was({opens(msi_x, 1, 0xFEE0'0000, 0x42), opens(msi_x, 1, 0x1'FEE0'0000, 0x42)});
        t.msi_x.write_table(16, mmio_width::qword, 0x2'FEE0'1000); // as a whole
        good &= t.was({opens(msi_x, 1, 0x2'FEE0'1000, 0x42)});
        t.msi_x.write_table(24, mmio_width::qword, 0x1'0000'0043); // data and mask at once
        good &= t.was({closes(msi_x, 1)});
        t.msi_x.write_table(24, mmio_width::qword, 0x44);
        good &= t.was({opens(msi_x, 1, 0x2'FEE0'1000, 0x44)});
        t.msi_x.control(true, true);
        good &= t.was({closes(msi_x, 1)});
        t.put(16 + 8, 0x45);
        good &= t.was({});
        t.msi_x.control(true, false);
        t.msi_x.control(false, false);
        return good && t.was({opens(msi_x, 1, 0x2'FEE0'1000, 0x45), closes(msi_x, 1)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("what arrives masked is pending and sent exactly once, by either mask", "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t;
        t.put_vector(0, 0x40, 0);
        t.put_vector(2, 0x42, 1);
        t.msi_x.control(true, false);
        bool good = t.was({opens(msi_x, 0, 0xFEE0'0000, 0x40)});
        good &= t.msi_x.request(0).has_value() && t.msi_x.request(2).has_value() &&
                t.msi_x.request(2).has_value();
        good &= t.was({sends(msi_x, 0, 0xFEE0'0000, 0x40)});
        good &= t.msi_x.read_pending(0, mmio_width::qword) == 4;
        t.msi_x.control(true, true);
        good &= t.was({closes(msi_x, 0)}) && t.msi_x.request(0).has_value();
        good &= t.msi_x.read_pending(0, mmio_width::dword) == 5;
        good &= t.msi_x.read_pending(4, mmio_width::dword) == 0;
        t.put(32 + 12, 0);
        good &= t.was({});
        t.msi_x.control(true, false);
        good &= t.was({opens(msi_x, 0, 0xFEE0'0000, 0x40), sends(msi_x, 0, 0xFEE0'0000, 0x40),
                       opens(msi_x, 2, 0xFEE0'0000, 0x42), sends(msi_x, 2, 0xFEE0'0000, 0x42)});
        good &= t.msi_x.read_pending(0, mmio_width::qword) == 0;
        t.put(32 + 12, 1);
        t.put(32 + 12, 0);
        return good && t.was({closes(msi_x, 2), opens(msi_x, 2, 0xFEE0'0000, 0x42)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("pending bits are also what the device itself holds back of closed vectors",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t{3};
        t.host.held_back = 0xF;
        bool good = t.msi_x.read_pending(0, mmio_width::qword) == 0; // off
        t.put_vector(1, 0x41, 0);
        t.msi_x.control(true, false);
        good &= t.msi_x.read_pending(0, mmio_width::qword) == 5; // 1 is open, 3 does not exist
        t.host.held_back = 4;
        return good && t.msi_x.read_pending(0, mmio_width::qword) == 4;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("requests beyond the table, and while it is off, are errors with the number",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t{2};
        bool good = t.msi_x.request(1).error() == error{errc::refused, 1};
        t.msi_x.control(true, false);
        good &= t.msi_x.request(2).error() == error{errc::out_of_range, 2};
        good &= t.msi_x.request(0xFFFF).error() == error{errc::out_of_range, 0xFFFF};
        good &= t.get(32) == 0xFFFF'FFFF; // past the end
        t.put(32 + 12, 0);
        return good && t.was({});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("reset closes what is open, masks all, and forgets messages and what is pending",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        table t;
        t.put_vector(0, 0x40, 0);
        t.put_vector(1, 0x41, 1);
        t.msi_x.control(true, false);
        bool good = t.msi_x.request(1).has_value();
        t.host.told.count = 0;
        t.msi_x.reset();
        good &= t.was({closes(msi_x, 0)});
        t.msi_x.control(true, false);
        t.put(12, 0);
        t.put(28, 0);
        return good && t.was({opens(msi_x, 0, 0, 0), opens(msi_x, 1, 0, 0)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a table of no vectors answers nothing", "[pci][rule 7]") {
    vmm host{};
    pt::pci::virtual_msi_x<route> none{route{&host}};
    none.control(true, false);
    none.write_table(0, mmio_width::dword, 0);
    none.write_table(8, mmio_width::qword, 0);
    REQUIRE(none.size() == 0);
    REQUIRE(none.read_table(0, mmio_width::dword) == 0xFFFF'FFFF);
    REQUIRE(none.read_pending(0, mmio_width::qword) == ones);
    REQUIRE(none.request(0).error() == error{errc::out_of_range, 0});
    none.reset();
    REQUIRE(host.told.was({}));
}

TEST_CASE("2048 vectors: every entry and every pending bit is its own", "[pci][rule 7]") {
    vmm host{};
    std::vector<msi_x_vector> vectors(2048);
    pt::pci::virtual_msi_x<route> big{route{&host}};
    big.assign(vectors.data(), 2048);
    big.control(true, true);
    std::mt19937 engine{3};
    std::vector<bool> pending(2048);
    for (unsigned n = 0; n < 2048; ++n) {
        big.write_table(16 * n + 8, mmio_width::dword, 0x10000 + n);
        if (engine() % 2 == 0) {
            pending[n] = true;
            REQUIRE(big.request(static_cast<std::uint16_t>(n)));
        }
    }
    REQUIRE(big.read_table(2047 * 16 + 8, mmio_width::qword) == 0x1'0001'07FF);
    REQUIRE(big.read_table(2048 * 16, mmio_width::dword) == 0xFFFF'FFFF);
    REQUIRE(big.read_pending(256, mmio_width::dword) == 0xFFFF'FFFF);
    for (unsigned n = 0; n < 2048; ++n) {
        const std::uint64_t bits = big.read_pending(n / 64 * 8, mmio_width::qword);
        REQUIRE((bits >> n % 64 & 1) == (pending[n] ? 1U : 0U));
        REQUIRE(big.read_pending(n / 32 * 4, mmio_width::dword) ==
                (bits >> (n % 64 / 32 * 32) & 0xFFFF'FFFF));
    }
    REQUIRE(host.told.was({}));
}
