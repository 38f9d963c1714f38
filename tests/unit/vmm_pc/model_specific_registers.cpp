// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/model_specific_registers.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

struct counter {
    constexpr std::uint64_t operator()() const { return 0x1234'5678'9ABC; }
};
using registers = vmm::pc::model_specific_registers<counter>;

constexpr std::uint32_t default_type = 0x2FF;

} // namespace

TEST_CASE("registers that kernels read without asking are there", "[vmm_pc][msr]") {
    registers msr{counter{}};
    // Platform id, feature control, microcode, MTRRs, machine check, performance status, misc
    // enable, debug control; and of AMD: SYSCFG, HWCR, interrupt pending, DE_CFG.
    for (const std::uint32_t number :
         {0x17U, 0x3AU, 0x8BU, 0xFEU, 0x179U, 0x17AU, 0x198U, 0x1A0U, 0x1D9U, 0x2FFU, 0xC001'0010U,
          0xC001'0015U, 0xC001'0055U, 0xC001'1029U}) {
        INFO(number);
        CHECK(msr.read(number).has_value());
    }
    CHECK(*msr.read(0x10) == 0x1234'5678'9ABC);
    CHECK((*msr.read(0x3A) & 7) == 1);        // locked, without VMX
    CHECK((*msr.read(0xFE) & 0xFFF) == 0);    // no fixed and no variable ranges
    CHECK((*msr.read(0x179) & 0xFF) == 0);    // no banks
    CHECK((*msr.read(0x1A0) >> 18 & 1) == 0); // MONITOR is hidden
    CHECK(*msr.read(default_type) == 0x806);  // enabled, write-back
}

TEST_CASE("a register that is not there is an error for both", "[vmm_pc][msr]") {
    registers msr{counter{}};
    for (const std::uint32_t number :
         {0x0U, 0x48U, 0x480U, 0x10AU, 0x277U, 0x800U, 0xC000'0080U, 0xC001'0114U, 0xFFFF'FFFFU}) {
        CHECK(msr.read(number).error() == pt::error{pt::errc::absent, number});
        CHECK(msr.write(number, 0).error() == pt::error{pt::errc::absent, number});
    }
    for (const std::uint32_t number : {0x17U, 0x3AU, 0xFEU, 0x179U, 0x198U}) { // read-only
        CHECK(msr.read(number).has_value());
        CHECK_FALSE(msr.write(number, 0).has_value());
    }
}

TEST_CASE("the default memory type takes types that exist", "[vmm_pc][msr]") {
    registers msr{counter{}};
    for (std::uint64_t type = 0; type != 256; ++type) {
        const bool exists = type == 0 || type == 1 || type == 4 || type == 5 || type == 6;
        CHECK(msr.write(default_type, 0x800 | type).has_value() == exists);
    }
    CHECK(*msr.read(default_type) == 0x806);
    CHECK(msr.write(default_type, 0x406).error().code == pt::errc::malformed); // fixed ranges
    CHECK(msr.write(default_type, std::uint64_t{1} << 40).error().code == pt::errc::malformed);
    CHECK(msr.write(default_type, 0).has_value());
    CHECK(*msr.read(default_type) == 0);
}

TEST_CASE("of misc enable, fast strings are the guest's", "[vmm_pc][msr]") {
    registers msr{counter{}};
    REQUIRE(msr.write(0x1A0, ~std::uint64_t{0}));
    CHECK(*msr.read(0x1A0) == 0x1801);
    REQUIRE(msr.write(0x1A0, 0));
    CHECK(*msr.read(0x1A0) == 0x1800);
    REQUIRE(msr.write(0x79, 0x1000)); // a microcode update goes nowhere
    REQUIRE(msr.write(0x8B, 0));
    CHECK(*msr.read(0x8B) == std::uint64_t{1} << 32);
    REQUIRE(msr.write(0x1D9, 1));
    CHECK(*msr.read(0x1D9) == 0);
}
