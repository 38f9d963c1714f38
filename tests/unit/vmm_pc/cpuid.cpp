// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/cpuid.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <string>

namespace {

using vmm::pc::cpuid_registers;

/// A host with every bit set, AMD's name, and leaves up to 20H and 80000028H.
struct rich_host {
    constexpr cpuid_registers operator()(std::uint32_t leaf, std::uint32_t) const {
        if (leaf == 0) {
            return {0x20, 0x6874'7541, 0x444D'4163, 0x6974'6E65};
        }
        if (leaf == 0x8000'0000) {
            return {0x8000'0028, 1, 2, 3};
        }
        return {~0U, ~0U, ~0U, ~0U};
    }
};
/// One with nothing but leaf 1, and no extended leaves.
struct poor_host {
    constexpr cpuid_registers operator()(std::uint32_t leaf, std::uint32_t) const {
        return {leaf == 0 ? 1U : 0U, 0, 0, 0};
    }
};
template <class Host>
using cpuid = vmm::pc::virtual_cpuid<Host>;

constexpr auto on = cpuid<rich_host>::local_apic_state::enabled;
constexpr auto off = cpuid<rich_host>::local_apic_state::disabled;

constexpr bool has(std::uint32_t word, unsigned bit) { return (word >> bit & 1) != 0; }

} // namespace

TEST_CASE("the processor keeps its name, and has one core", "[vmm_pc][cpuid]") {
    cpuid<rich_host> guest{{}, {.apic_id = 0, .physical_address_width = 39}};
    const auto name = guest.answer(0, 0, on);
    CHECK(name == cpuid_registers{0xB, 0x6874'7541, 0x444D'4163, 0x6974'6E65});
    const auto one = guest.answer(1, 0, on);
    CHECK(one.ebx == (1U << 16 | 0xFF00)); // APIC id 0, one logical processor, CLFLUSH of the host
    CHECK_FALSE(has(one.edx, 28));         // HTT
    CHECK(has(one.edx, 9));
    CHECK_FALSE(has(guest.answer(1, 0, off).edx, 9));
    CHECK((guest.answer(4, 0, on).eax >> 14) == 0);
    CHECK(guest.answer(0xB, 0, on) == cpuid_registers{0, 1, 0x100, 0}); // threads of a core
    CHECK(guest.answer(0xB, 1, on) == cpuid_registers{0, 1, 0x201, 0}); // cores of a package
    CHECK(guest.answer(0xB, 2, on) == cpuid_registers{0, 0, 0x002, 0});
    CHECK((guest.answer(0x8000'0008, 0, on).eax & 0xFFFF) == 0x3027); // 48 and 39 bits
    CHECK((guest.answer(0x8000'0008, 0, on).ecx & 0xFF) == 0);
}

TEST_CASE("what this VMM does not virtualize is hidden", "[vmm_pc][cpuid]") {
    cpuid<rich_host> guest{{}, {}};
    const auto one = guest.answer(1, 0, on);
    // MONITOR, VMX, SMX, EIST, TM2, SDBG, FMA, PDCM, PCID, DCA, XSAVE, OSXSAVE, AVX, F16C
    for (const unsigned bit : {3U, 5U, 6U, 7U, 8U, 11U, 12U, 15U, 17U, 18U, 26U, 27U, 28U, 29U}) {
        INFO("ecx " << bit);
        CHECK_FALSE(has(one.ecx, bit));
    }
    for (const unsigned bit : {18U, 21U, 22U, 27U, 29U, 30U, 31U}) { // PSN, DS, ACPI, SS, TM, PBE
        INFO("edx " << bit);
        CHECK_FALSE(has(one.edx, bit));
    }
    const auto seven = guest.answer(7, 0, on);
    CHECK(seven.eax == 0);
    CHECK(seven.ecx == 0); // LA57, PKU, shadow stacks, RDPID, ...
    // TSC_ADJUST, SGX, AVX2, INVPCID, RTM, RDT, MPX, AVX-512, PT
    for (const unsigned bit : {1U, 2U, 5U, 10U, 11U, 12U, 14U, 15U, 16U, 25U, 31U}) {
        INFO("7.ebx " << bit);
        CHECK_FALSE(has(seven.ebx, bit));
    }
    CHECK((seven.edx & ~(1U << 4)) == 0); // no speculation control, no architectural capabilities
    CHECK(guest.answer(7, 1, on) == cpuid_registers{});
    const auto extended = guest.answer(0x8000'0001, 0, on);
    CHECK_FALSE(has(extended.ecx, 2));  // SVM
    CHECK_FALSE(has(extended.edx, 27)); // RDTSCP
    for (const std::uint32_t leaf : {0x5U, 0xAU, 0xDU, 0xFU, 0x12U, 0x14U, 0x18U, 0x1CU, 0x1FU,
                                     0x8000'000AU, 0x8000'001FU, 0xFFFF'FFFFU, 0x4000'0001U}) {
        INFO(leaf);
        CHECK(guest.answer(leaf, 0, on) == cpuid_registers{});
    }
}

TEST_CASE("what pt brings is offered, whatever the host has", "[vmm_pc][cpuid]") {
    cpuid<poor_host> guest{{}, {.tsc_kilohertz = 2'000'000, .apic_kilohertz = 1'000'000}};
    const auto one = guest.answer(1, 0, cpuid<poor_host>::local_apic_state::enabled);
    CHECK(one.ecx == (1U << 21 | 1U << 24 | 1U << 31)); // x2APIC, TSC-deadline, hypervisor
    CHECK(one.edx == 1U << 9);
    const auto signature =
        guest.answer(0x4000'0000, 0, cpuid<poor_host>::local_apic_state::enabled);
    CHECK(signature.eax == 0x4000'0010);
    char name[13] = {};
    std::memcpy(name, &signature.ebx, 4);
    std::memcpy(name + 4, &signature.ecx, 4);
    std::memcpy(name + 8, &signature.edx, 4);
    CHECK(std::string{name} == "pt example");
    const auto clocks = guest.answer(0x4000'0010, 0, cpuid<poor_host>::local_apic_state::enabled);
    CHECK((clocks.eax == 2'000'000 && clocks.ebx == 1'000'000));
}

TEST_CASE("a host without extended leaves gives its guest none", "[vmm_pc][cpuid]") {
    cpuid<poor_host> guest{{}, {}};
    constexpr auto enabled = cpuid<poor_host>::local_apic_state::enabled;
    CHECK(guest.answer(0x8000'0000, 0, enabled).eax == 0);
    CHECK(guest.answer(0x8000'0002, 0, enabled) == cpuid_registers{});
    CHECK(guest.answer(0x8000'0007, 0, enabled) == cpuid_registers{});
}
