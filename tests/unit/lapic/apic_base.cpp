// SPDX-License-Identifier: BSL-1.0
// IA32_APIC_BASE and the modes [sdm, x2APIC States].
#include "apic_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::application;
using lapic_test::rig;
using pt::errc;
using pt::lapic::apic_mode;
using pt::lapic::effect;
using pt::lapic::effect_kind;
using pt::lapic::message;

constexpr std::uint64_t disabled = 0xFEE0'0000;
constexpr std::uint64_t xapic = 0xFEE0'0800;
constexpr std::uint64_t x2apic = 0xFEE0'0C00;
constexpr std::uint64_t invalid = 0xFEE0'0400; // EXTD without EN

constexpr bool becomes(rig& vm, std::uint64_t value) {
    const auto made = vm.apic.write_msr(0x1B, value);
    return made.has_value() && made->kind == effect_kind::base_changed;
}
constexpr bool faults(rig& vm, std::uint64_t value) {
    const std::uint64_t before = vm.rdmsr(0x1B);
    return vm.apic.write_msr(0x1B, value) == pt::error{errc::malformed, 0x1B} &&
           vm.rdmsr(0x1B) == before;
}

TEST_CASE("after power-up: enabled, xAPIC, 0xFEE00000; BSP says which processor it is",
          "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig boot;
        rig other{application};
        return boot.rdmsr(0x1B) == 0xFEE0'0900 && other.rdmsr(0x1B) == 0xFEE0'0800 &&
               boot.apic.current_mode() == apic_mode::xapic;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the transitions that exist, and those that fault", "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm{application};
        bool good = faults(vm, invalid);                               // from xAPIC
        good = good && becomes(vm, disabled) && faults(vm, invalid) && // from disabled
               faults(vm, x2apic) && becomes(vm, xapic);
        good = good && becomes(vm, x2apic) && faults(vm, invalid) && // from x2APIC
               faults(vm, xapic) && vm.apic.current_mode() == apic_mode::x2apic;
        return good && becomes(vm, disabled) && vm.apic.current_mode() == apic_mode::disabled &&
               becomes(vm, xapic) && vm.apic.current_mode() == apic_mode::xapic;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("reserved bits fault, those at and above MAXPHYADDR too; BSP cannot be written",
          "[lapic][rule 28]") {
    constexpr auto check = [] {
        bool good = true;
        for (const unsigned width : {36U, 39U, 52U}) {
            rig vm{{.apic_id = 5, .physical_address_width = static_cast<std::uint8_t>(width)}};
            for (unsigned bit = 0; bit != 64; ++bit) {
                if (bit == 8 || bit == 10 || bit == 11) {
                    continue;
                }
                const std::uint64_t value = (xapic | 0x100) ^ (std::uint64_t{1} << bit);
                const bool is_address = bit >= 12 && bit < width;
                good = good && (is_address ? becomes(vm, value) && vm.rdmsr(0x1B) == value &&
                                                 vm.apic.base().raw == value - 0x900
                                           : faults(vm, value));
            }
            vm.wrmsr(0x1B, xapic); // without BSP
            good = good && vm.rdmsr(0x1B) == (xapic | 0x100);
        }
        rig other{application};
        other.wrmsr(0x1B, xapic | 0x100);
        return good && other.rdmsr(0x1B) == xapic;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("writing what is there already changes nothing", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        return vm.apic.write_msr(0x1B, 0xFEE0'0900) == effect{} && vm.read(0x0F0) == 0x1FF;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a page that moves keeps its registers", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.edge(0x44);
        return becomes(vm, 0x8000'0900) && vm.apic.base().raw == 0x8000'0000 &&
               vm.read(0x0F0) == 0x1FF && vm.apic.pending() == 0x44;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE(
    "hardware-disabled: no registers, no messages; as after power-up when it is enabled again",
    "[lapic][rule 28]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x080, 0x40);
        vm.write(0x0D0, 0x0100'0000);
        vm.edge(0x55);
        (void)vm.inbox.post(message{.vector = 0x56});
        bool good = becomes(vm, disabled);
        good = good && vm.read(0x0F0) == 0xFFFF'FFFF && vm.effect_of(0x0F0, 0x1FF) == effect{};
        good = good && !vm.edge(0x57) && vm.apic.pending() == 0 && !vm.apic.has_work();
        (void)vm.inbox.post(message{.vector = 0x58});
        (void)vm.inbox.posted.post(0x59);
        vm.apic.synchronize();
        good = good && becomes(vm, xapic) && vm.read(0x0F0) == 0xFF && vm.read(0x080) == 0 &&
               vm.read(0x0D0) == 0 && vm.read(0x320) == 0x0001'0000 &&
               vm.read(0x020) == 0x0500'0000;
        vm.enable();
        return good && vm.apic.pending() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("hardware-disabled: LINT0 is INTR and LINT1 is NMI", "[lapic]") {
    constexpr auto check = [] {
        using pt::lapic::local_wire;
        using pt::lapic::wire_level;
        rig vm;
        bool good = becomes(vm, disabled);
        vm.apic.set_wire(local_wire::lint0, wire_level::asserted);
        good = good && vm.apic.extint_pending() && vm.apic.has_work();
        vm.apic.take_extint();
        good = good && vm.apic.extint_pending(); // it is a level
        vm.apic.set_wire(local_wire::lint0, wire_level::deasserted);
        good = good && !vm.apic.extint_pending() && !vm.apic.nmi_pending();
        vm.apic.set_wire(local_wire::lint1, wire_level::asserted);
        good = good && vm.apic.nmi_pending();
        vm.apic.take_nmi();
        vm.apic.set_wire(local_wire::lint1, wire_level::asserted); // no new edge
        return good && !vm.apic.nmi_pending() && !vm.apic.extint_pending();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("senders see each change of mode, LDR, DFR, SVR and INIT at once", "[lapic][rule 30]") {
    constexpr auto check = [] {
        using pt::lapic::delivery_mode;
        using pt::lapic::destination_mode;
        rig vm{application}; // id 0x123: 0x23 in xAPIC mode
        const auto logical = [&](std::uint32_t to) {
            return vm.inbox.matches(message{.mode = destination_mode::logical, .destination = to});
        };
        const auto physical = [&](std::uint32_t to) {
            return vm.inbox.matches(
                message{.format = pt::lapic::destination_format::x2apic, .destination = to});
        };
        bool good = physical(0x23) && !physical(0x123) && !logical(0x04);
        good = good && !vm.inbox.takes_vectors();
        vm.enable();
        good = good && vm.inbox.takes_vectors();
        vm.write(0x0D0, 0x2400'0000); // flat: bits 5 and 2; cluster: 2, member 2
        good = good && logical(0x04) && logical(0x20) && !logical(0x18);
        vm.write(0x0E0, 0);
        good = good && logical(0x24) && logical(0x2F) && !logical(0x34) && !logical(0x21);
        (void)vm.inbox.post(message{.delivery = delivery_mode::init});
        vm.apic.synchronize();
        good = good && !logical(0x24) && physical(0x23) && !vm.inbox.takes_vectors();
        static_cast<void>(vm.apic.next_signal());
        vm.to_x2apic();
        good = good && physical(0x123) && !physical(0x23);
        vm.wrmsr(0x80F, 0x1FF);
        good = good && vm.inbox.takes_vectors();
        vm.wrmsr(0x1B, disabled);
        return good && !physical(0x123) && !vm.inbox.takes_vectors();
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
