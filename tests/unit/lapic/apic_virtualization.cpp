// SPDX-License-Identifier: BSL-1.0
// With a processor that virtualizes the APIC: a small one stands for it here, written from the pseudocode
// of [sdm, APIC Virtualization and Virtual Interrupts].
#include "pt/lapic/apic_virtualization.hpp"

#include "apic_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using lapic_test::rig;
using pt::lapic::effect;
using pt::lapic::effect_kind;
using pt::lapic::eoi_exit_bitmap;
using pt::lapic::guest_interrupt_status;
using pt::lapic::register_page;

/// RVI, SVI and what the processor does with them and the page.
struct processor {
    unsigned rvi = 0;
    unsigned svi = 0;

    constexpr void enter(const register_page& page) {
        const std::uint16_t status = guest_interrupt_status::of(page).raw;
        rvi = status & 0xFF;
        svi = status >> 8;
    }
    static constexpr unsigned highest(const pt::lapic::vector_set& set) {
        for (unsigned vector = 255; vector != 0; --vector) {
            if ((set.words[vector / 32].bits >> (vector % 32) & 1) != 0) {
                return vector;
            }
        }
        return 0;
    }
    constexpr void ppr(register_page& page) const {
        const unsigned tpr = page.tpr.raw & 0xFF;
        page.ppr.raw = tpr >> 4 >= svi >> 4 ? tpr : svi & 0xF0;
    }
    constexpr bool deliver(register_page& page) { // virtual-interrupt delivery
        if (rvi >> 4 <= page.ppr.raw >> 4) {
            return false;
        }
        page.isr.words[rvi / 32].bits |= 1U << rvi % 32;
        svi = rvi;
        page.ppr.raw = rvi & 0xF0;
        page.irr.words[rvi / 32].bits &= ~(1U << rvi % 32);
        rvi = highest(page.irr);
        return true;
    }
    constexpr unsigned eoi(register_page& page) { // EOI virtualization: which vector it was
        const unsigned vector = svi;
        page.isr.words[vector / 32].bits &= ~(1U << vector % 32);
        svi = highest(page.isr);
        ppr(page);
        return vector;
    }
};

TEST_CASE("guest interrupt status is what IRR and ISR say", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        bool good = guest_interrupt_status::of(vm.page).raw == 0;
        vm.edge(0x51);
        vm.apic.acknowledge();
        vm.edge(0x93);
        vm.edge(0x42);
        return good && guest_interrupt_status::of(vm.page).raw == 0x5193;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the EOI of level-triggered vectors exits", "[lapic][rule 27]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        for (const int vector : {0x10, 0x3F, 0x40, 0x80, 0xFF}) {
            vm.level(static_cast<std::uint8_t>(vector));
        }
        vm.edge(0x81);
        eoi_exit_bitmap exits = eoi_exit_bitmap::of(vm.page);
        bool good = exits.words[0] == 0x8000'0000'0001'0000 && exits.words[1] == 1 &&
                    exits.words[2] == 1 && exits.words[3] == 0x8000'0000'0000'0000;
        good = good && exits.contains(0x80) && !exits.contains(0x81);
        exits.insert(0x81);
        return good && exits.contains(0x81) && exits.words[2] == 3;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("the TPR threshold is set only where TPR alone holds an interrupt back", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        bool good = vm.apic.tpr_threshold() == 0; // nothing pending
        vm.write(0x080, 0x50);
        vm.edge(0x62);
        good = good && vm.apic.tpr_threshold() == 0; // deliverable
        vm.write(0x080, 0x60);
        good = good && vm.apic.tpr_threshold() == 6; // lowering TPR to class 5 exits
        vm.write(0x080, 0xF0);
        good = good && vm.apic.tpr_threshold() == 6;
        vm.write(0x080, 0);
        vm.apic.acknowledge();
        vm.edge(0x61);
        vm.write(0x080, 0x80);
        return good && vm.apic.tpr_threshold() == 0; // 0x62 in service holds it back as well
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what the processor delivers and ends, the local APIC knows after the exit", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        processor cpu;
        vm.edge(0x35);
        vm.level(0x72);
        cpu.enter(vm.page);
        cpu.ppr(vm.page);
        bool good = cpu.deliver(vm.page) && !cpu.deliver(vm.page); // 0x72, then 0x35 is lower
        vm.apic.after_hardware();
        good = good && vm.apic.pending() == 0 && vm.read(0x0A0) == 0x70;
        vm.edge(0x90);
        cpu.enter(vm.page);
        good = good && cpu.rvi == 0x90 && cpu.svi == 0x72 && cpu.deliver(vm.page);
        good = good && cpu.eoi(vm.page) == 0x90;
        const unsigned vector = cpu.eoi(vm.page); // exits
        const auto ended = vm.apic.virtualized_eoi(static_cast<std::uint8_t>(vector));
        good = good && ended.kind == effect_kind::end_of_interrupt && ended.ended.vector == 0x72 &&
               ended.ended.broadcast;
        // The VMM takes over again.
        return good && vm.apic.acknowledge() == 0x35 && vm.apic.eoi().vector == 0x35 &&
               vm.apic.eoi().vector == 0 && vm.read(0x0A0) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an EOI-induced exit frees a pin that is still asserted", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.write(0x350, 0x8044);
        vm.apic.set_wire(pt::lapic::local_wire::lint0, pt::lapic::wire_level::asserted);
        processor cpu;
        cpu.enter(vm.page);
        bool good = cpu.deliver(vm.page) && cpu.eoi(vm.page) == 0x44;
        good = good && vm.apic.virtualized_eoi(0x44).ended.broadcast;
        return good && vm.apic.pending() == 0x44 && vm.read(0x350) == 0xC044;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a TPR that the processor changed counts after the exit", "[lapic][rule 26]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        vm.edge(0x65);
        vm.page.tpr.raw = 0x70; // use TPR shadow
        vm.apic.after_hardware();
        bool good = vm.apic.pending() == 0 && vm.read(0x0A0) == 0x70;
        vm.page.tpr.raw = 0x5F;
        vm.apic.after_hardware();
        return good && vm.apic.pending() == 0x65 && vm.read(0x0A0) == 0x5F;
    };
    static_assert(check());
    REQUIRE(check());
}

/// The guest writes all ones, or a value, without an exit; then the APIC-write exit.
constexpr effect stored(rig& vm, std::uint32_t offset, std::uint32_t value) {
    *pt::lapic::register_at(vm.page, offset) = value;
    return vm.apic.apic_write(offset);
}

TEST_CASE("an APIC-write exit does what the write does, and cleans the page", "[lapic]") {
    constexpr auto check = [] {
        bool good = true;
        for (const std::uint32_t offset :
             {0x020U, 0x080U, 0x0B0U, 0x0D0U, 0x0E0U, 0x0F0U, 0x280U, 0x310U, 0x320U, 0x330U,
              0x340U, 0x350U, 0x360U, 0x370U, 0x380U, 0x3E0U}) {
            for (const std::uint32_t value : {0xFFFF'FFFFU, 0U, 0x0002'81FFU}) {
                rig written;
                written.enable();
                written.write(0x370, 0x55);
                rig virtualized;
                virtualized.enable();
                virtualized.write(0x370, 0x55);
                const effect a = written.effect_of(offset, value);
                const effect b = stored(virtualized, offset, value);
                good = good && a == b && written.apic.save() == virtualized.apic.save();
            }
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("APIC-write exits of ICR, EOI, and a pin in remote IRR", "[lapic]") {
    constexpr auto check = [] {
        rig vm;
        vm.enable();
        *pt::lapic::register_at(vm.page, 0x310) = 0x09AB'CDEF; // stored without an exit
        const effect sent = stored(vm, 0x300, 0x0000'5051);
        bool good = sent.kind == effect_kind::send && sent.command.destination == 0x09 &&
                    vm.page.icr_high == 0x0900'0000 && vm.page.icr_low == 0x4051;
        vm.level(0x77);
        vm.apic.acknowledge();
        const effect ended = stored(vm, 0x0B0, 0x1234);
        good = good && ended.kind == effect_kind::end_of_interrupt && ended.ended.vector == 0x77 &&
               vm.page.eoi == 0;
        vm.write(0x350, 0x8044);
        vm.apic.set_wire(pt::lapic::local_wire::lint0, pt::lapic::wire_level::asserted);
        (void)stored(vm, 0x350, 0x8044); // the guest's value has no remote IRR
        good = good && vm.page.lvt_lint0.raw == 0xC044;
        good = good && vm.apic.apic_write(0x040) == effect{} &&
               vm.apic.apic_write(0xFFFF'FFFF) == effect{};
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

/// The guest writes one byte without an exit; then the APIC-write exit, which tells which byte.
effect stored_byte(rig& vm, std::uint32_t offset, std::uint8_t value) {
    auto* const bytes = reinterpret_cast<unsigned char*>(&vm.page);
    bytes[offset] = value;
    return vm.apic.apic_write(offset);
}

// [sdm, Virtualizing Writes to the APIC-Access Page]: also of one and of two bytes.
TEST_CASE("an APIC-write exit of a byte is a write of the register as it is then", "[lapic]") {
    rig vm;
    (void)stored_byte(vm, 0x0F1, 0x01); // SVR bit 8
    CHECK(vm.apic.is_software_enabled());
    CHECK(vm.inbox.takes_vectors()); // senders know it too
    vm.write(0x320, 0x1'0040);
    vm.write(0x380, 100);
    (void)stored_byte(vm, 0x322, 0x02); // unmasked and periodic
    CHECK(vm.apic.next_deadline().of == pt::lapic::deadline::clock::ticks);
    (void)stored_byte(vm, 0x0D1, 0x77); // reserved bits of LDR
    CHECK(vm.read(0x0D0) == 0);
    rig other;
    CHECK(other.apic.restore(vm.apic.save()));
}

TEST_CASE("SELF IPI that the processor did leaves nothing behind; one that exits is an error",
          "[lapic][rule 28]") {
    rig vm;
    vm.to_x2apic();
    vm.wrmsr(0x80F, 0x1FF);
    vm.page.self_ipi = 0x51; // WRMSR 83FH without an exit
    vm.page.irr.insert(0x51);
    vm.apic.after_hardware();
    CHECK(vm.apic.pending() == 0x51);
    CHECK(vm.page.self_ipi == 0);
    CHECK(stored(vm, 0x3F0, 0x0E) == effect{}); // illegal vectors exit
    CHECK(vm.page.self_ipi == 0);
    CHECK(vm.wrmsr(0x828, 0));
    CHECK(vm.rdmsr(0x828) == 0x20); // send illegal vector
    const effect legal = stored(vm, 0x3F0, 0x61);
    CHECK(legal.kind == effect_kind::send);
    CHECK(legal.command == pt::lapic::message{.vector = 0x61,
                                              .to = pt::lapic::shorthand::self,
                                              .format = pt::lapic::destination_format::x2apic});
    rig other;
    CHECK(other.apic.restore(vm.apic.save()));
}

TEST_CASE("vectors below 16 that the processor took from a descriptor are errors",
          "[lapic][rule 26]") {
    rig vm;
    vm.enable();
    vm.page.irr.insert(5); // a device's, posted and processed without an exit
    vm.page.irr.insert(0x45);
    vm.apic.after_hardware();
    CHECK(vm.apic.pending() == 0x45);
    CHECK_FALSE(vm.page.irr.contains(5));
    CHECK(vm.errors() == 0x40); // receive illegal vector
    rig other;
    CHECK(other.apic.restore(vm.apic.save()));
}

TEST_CASE("the EOI of the timer's vector exits while the timer owes ticks", "[lapic][timer]") {
    rig vm{lapic_test::bootstrap, {.minimum_period = 0, .most_owed_ticks = 5}};
    vm.enable();
    vm.write(0x3E0, 0xB); // divide by 1
    vm.write(0x320, 0x2'0040);
    vm.write(0x380, 100);
    vm.now += 100;
    vm.apic.synchronize();
    CHECK_FALSE(vm.apic.eoi_exits().contains(0x40));
    vm.now += 100; // the first has not been taken yet
    vm.apic.synchronize();
    CHECK(vm.apic.eoi_exits().contains(0x40));
    vm.level(0x71);
    CHECK(vm.apic.eoi_exits().contains(0x71));
    CHECK_FALSE(vm.apic.eoi_exits().contains(0x72));
}

TEST_CASE("what the timer owes when its entry is stored without an exit is the old entry's",
          "[lapic][timer]") {
    const auto both = [](std::uint32_t before, std::uint32_t after) {
        rig written;
        rig virtualized;
        for (rig* vm : {&written, &virtualized}) {
            vm->enable();
            vm->write(0x3E0, 0xB);
            vm->write(0x320, before);
            vm->write(0x380, 100);
            vm->now += 150; // one-shot: it has ended, and nobody has looked
        }
        written.write(0x320, after);
        (void)stored(virtualized, 0x320, after);
        CHECK(written.apic.pending() == virtualized.apic.pending());
        return virtualized.apic.pending();
    };
    CHECK(both(0x1'0040, 0x40) == 0);    // masked then: gone before the mask is
    CHECK(both(0x40, 0x1'0040) == 0x40); // came due before it was masked
}

TEST_CASE("the EOI of a pin's vector exits also when it came as an edge since",
          "[lapic][rule 27]") {
    rig vm;
    vm.enable();
    vm.write(0x350, 0x8050);
    vm.apic.set_wire(pt::lapic::local_wire::lint0, pt::lapic::wire_level::asserted);
    CHECK(vm.apic.eoi_exits().contains(0x50));
    vm.edge(0x50); // TMR says edge now
    CHECK(vm.apic.eoi_exits().contains(0x50));
    vm.write(0x360, 0x8051);
    vm.apic.set_wire(pt::lapic::local_wire::lint1, pt::lapic::wire_level::asserted);
    vm.edge(0x51);
    CHECK(vm.apic.eoi_exits().contains(0x51));
}

} // namespace
