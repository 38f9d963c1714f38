// SPDX-License-Identifier: BSL-1.0
// x2APIC mode [sdm, Local APIC Register Address Map Supported by x2APIC]: which MSRs there are, how they
// are accessed, and which bits must be 0.
#include "apic_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::application;
using lapic_test::rig;
using pt::errc;
using pt::lapic::effect_kind;
using pt::lapic::message;

enum class rights { absent, ro, wo, rw };

/// The table, as it is printed.
constexpr rights table(std::uint32_t number) {
    switch (number) {
    case 0x802:                    // id
    case 0x803:                    // version
    case 0x80A:                    // PPR
    case 0x80D:                    // LDR
    case 0x839: return rights::ro; // current count
    case 0x80B:                    // EOI
    case 0x83F: return rights::wo; // SELF IPI
    case 0x808:                    // TPR
    case 0x80F:                    // SVR
    case 0x828:                    // ESR
    case 0x82F:                    // LVT CMCI
    case 0x830:                    // ICR
    case 0x832:                    // LVT
    case 0x833:
    case 0x834:
    case 0x835:
    case 0x836:
    case 0x837:
    case 0x838:                    // initial count
    case 0x83E: return rights::rw; // divide configuration
    default: return number >= 0x810 && number <= 0x827 ? rights::ro : rights::absent;
    }
}

TEST_CASE("MSRs that are not in the table fault, and RO and WO ones in the other direction",
          "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        vm.to_x2apic();
        bool good = true;
        for (std::uint32_t number = 0x7F0; number != 0x910; ++number) {
            const rights has = table(number);
            const bool reads = has == rights::ro || has == rights::rw;
            const bool writes = has == rights::wo || has == rights::rw;
            good = good && vm.apic.read_msr(number).has_value() == reads;
            good = good && vm.apic.write_msr(number, 0).has_value() == writes;
            if (!writes) {
                good =
                    good && vm.apic.write_msr(number, 0).error() == pt::error{errc::absent, number};
            }
            good = good && vm.apic.handles_msr(number) == (number >= 0x800 && number < 0x900);
        }
        for (const std::uint32_t number : {0U, 0x1AU, 0xFFFF'F80FU, 0x1080FU, 0xC000'0808U}) {
            good = good && !vm.apic.read_msr(number) && !vm.apic.write_msr(number, 0) &&
                   !vm.apic.handles_msr(number);
        }
        return good && vm.apic.handles_msr(0x1B) && vm.apic.handles_msr(0x6E0);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("outside of x2APIC mode all of them fault", "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        bool good = true;
        for (std::uint32_t number = 0x800; number != 0x900; ++number) {
            good = good && !vm.apic.read_msr(number) && !vm.apic.write_msr(number, 0);
        }
        vm.wrmsr(0x1B, 0xFEE0'0000); // hardware-disabled
        for (std::uint32_t number = 0x800; number != 0x900; ++number) {
            good = good && !vm.apic.read_msr(number) && !vm.apic.write_msr(number, 0);
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

/// The bits that may be 1 in a write, by the figures of the registers. Read-only status bits may.
struct legal_bits {
    std::uint32_t number;
    std::uint64_t bits;
};
constexpr legal_bits legal[] = {
    {0x808, 0xFF},                  // TPR
    {0x80B, 0},                     // EOI: 0 only
    {0x80F, 0x3FF},                 // SVR
    {0x828, 0},                     // ESR: 0 only
    {0x82F, 0x0001'17FF},           // CMCI
    {0x830, 0xFFFF'FFFF'000C'DFFF}, // ICR: the former delivery status is ignored
    {0x832, 0x0007'10FF},           // timer
    {0x833, 0x0001'17FF},           // thermal sensor
    {0x834, 0x0001'17FF},           // performance counters
    {0x835, 0x0001'F7FF},           // LINT0
    {0x836, 0x0001'F7FF},           // LINT1
    {0x837, 0x0001'10FF},           // error
    {0x838, 0xFFFF'FFFF},           // initial count
    {0x83E, 0xB},                   // divide configuration
    {0x83F, 0xFF},                  // SELF IPI
};

TEST_CASE("every reserved bit of every register faults, and changes nothing", "[lapic][rule 28]") {
    constexpr auto check = [] {
        bool good = true;
        for (const auto& [number, bits] : legal) {
            rig vm;
            vm.to_x2apic();
            const auto before = vm.apic.save();
            for (unsigned bit = 0; bit != 64; ++bit) {
                if ((bits >> bit & 1) == 0) {
                    const auto made = vm.apic.write_msr(number, std::uint64_t{1} << bit);
                    good = good && made == pt::error{errc::malformed, number};
                }
            }
            good = good && vm.apic.save() == before && vm.wrmsr(number, 0);
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
    for (const auto& [number, bits] : legal) {
        rig vm;
        vm.to_x2apic();
        for (unsigned bit = 0; bit != 64; ++bit) {
            CAPTURE(number, bit);
            REQUIRE(vm.wrmsr(number, std::uint64_t{1} << bit) == ((bits >> bit & 1) != 0));
        }
    }
}

TEST_CASE("SVR bit 12 is legal where suppression is offered", "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm{lapic_test::suppressing};
        vm.to_x2apic();
        return vm.wrmsr(0x80F, 0x13FF) && vm.rdmsr(0x80F) == 0x13FF && !vm.wrmsr(0x80F, 0x2000) &&
               !vm.wrmsr(0x80F, 0xC00);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the id has 32 bits and the logical id is derived from it", "[lapic][rule 28]") {
    constexpr auto check = [] {
        const auto logical = [](std::uint32_t id) {
            rig vm{{.apic_id = id}};
            vm.to_x2apic();
            return vm.rdmsr(0x802) == id ? vm.rdmsr(0x80D) : 0;
        };
        // [sdm]: id[19:4] is the cluster, and the bit is number id[3:0].
        return logical(0) == 0x0000'0001 && logical(0x0F) == 0x0000'8000 &&
               logical(0x10) == 0x0001'0001 && logical(0x123) == 0x0012'0008 &&
               logical(0xF'FFFE) == 0xFFFF'4000;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a change to x2APIC mode keeps the registers, but for LDR and the destination of ICR",
          "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm{application};
        vm.enable();
        vm.write(0x080, 0x35);
        vm.write(0x0D0, 0x4200'0000);
        vm.write(0x310, 0x0900'0000);
        vm.write(0x300, 0x0000'4851);
        vm.write(0x350, 0x0000'0700);
        vm.edge(0x99);
        bool good = vm.read(0x020) == 0x2300'0000;
        vm.to_x2apic();
        good = good && vm.rdmsr(0x802) == 0x123 && vm.rdmsr(0x808) == 0x35 &&
               vm.rdmsr(0x80D) == 0x0012'0008 && vm.rdmsr(0x80F) == 0x1FF &&
               vm.rdmsr(0x830) == 0x4851 && vm.rdmsr(0x835) == 0x700 &&
               vm.rdmsr(0x824) == 0x0200'0000 && vm.apic.pending() == 0x99;
        // The page is gone.
        return good && vm.read(0x080) == 0xFFFF'FFFF &&
               vm.apic.read(0x80, pt::mmio_width::byte) == 0xFF &&
               vm.effect_of(0x080, 0) == pt::lapic::effect{} && vm.rdmsr(0x808) == 0x35;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("ICR is one register of 64 bits, with a destination of 32", "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        vm.to_x2apic();
        const auto made = vm.apic.write_msr(0x830, 0x0003'0008'0000'4877).value();
        bool good = made.kind == effect_kind::send &&
                    made.command == message{.vector = 0x77,
                                            .mode = pt::lapic::destination_mode::logical,
                                            .format = pt::lapic::destination_format::x2apic,
                                            .destination = 0x0003'0008};
        good = good && vm.rdmsr(0x830) == 0x0003'0008'0000'4877;
        // A virtual-APIC page has it there, and RDMSR without an exit takes it from there [sdm].
        good = good && vm.page.icr_low == 0x4877 && vm.page.icr_destination == 0x0003'0008 &&
               vm.page.icr_high == 0;
        return good && vm.wrmsr(0x830, 0x1077) && vm.rdmsr(0x830) == 0x77;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("SELF IPI sends a fixed interrupt to oneself; illegal vectors are an error",
          "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        vm.to_x2apic();
        vm.wrmsr(0x80F, 0x1FF);
        const auto made = vm.apic.write_msr(0x83F, 0xA1).value();
        bool good = made.kind == effect_kind::send &&
                    made.command == message{.vector = 0xA1,
                                            .to = pt::lapic::shorthand::self,
                                            .format = pt::lapic::destination_format::x2apic};
        good = good && vm.apic.write_msr(0x83F, 0x0F).value() == pt::lapic::effect{};
        good = good && vm.wrmsr(0x828, 0) && vm.rdmsr(0x828) == 0x20;
        return good && vm.wrmsr(0x828, 0) && vm.rdmsr(0x828) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("EOI by MSR ends the highest vector", "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        vm.to_x2apic();
        vm.wrmsr(0x80F, 0x1FF);
        vm.level(0x61);
        vm.apic.acknowledge();
        bool good = !vm.wrmsr(0x80B, 1) && vm.rdmsr(0x813) == 2; // nothing has ended
        const auto made = vm.apic.write_msr(0x80B, 0).value();
        return good && made.kind == effect_kind::end_of_interrupt && made.ended.vector == 0x61 &&
               made.ended.broadcast && vm.rdmsr(0x813) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("INIT leaves the local APIC in x2APIC mode", "[lapic][rule 30]") {
    constexpr auto check = [] {
        rig vm{application};
        vm.to_x2apic();
        vm.wrmsr(0x80F, 0x1FF);
        vm.wrmsr(0x830, 0x0003'0008'0000'4877);
        (void)vm.inbox.post(message{.delivery = pt::lapic::delivery_mode::init});
        vm.apic.synchronize();
        return vm.apic.current_mode() == pt::lapic::apic_mode::x2apic && vm.rdmsr(0x802) == 0x123 &&
               vm.rdmsr(0x80D) == 0x0012'0008 && vm.rdmsr(0x80F) == 0xFF && vm.rdmsr(0x830) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
