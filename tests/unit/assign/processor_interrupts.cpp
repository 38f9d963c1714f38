// SPDX-License-Identifier: BSL-1.0
#include "pt/assign/processor.hpp"

#include "pt/assign/answer.hpp"
#include "pt/assign/claims.hpp"
#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"

#include <catch2/catch_test_macros.hpp>

#include "processor_rig.hpp"

#include <cstdint>
#include <vector>

namespace {

using namespace processor_rig;
using assign::answer;
using assign::inject;
using assign::not_mine;
using assign::resume_again;
using assign::resume_behind;
using enum general_register;

const answer general_protection =
    inject(vcpu::exception(vcpu::exception_vector::general_protection, 0));

constexpr std::uint64_t apic_at = 0xFEE0'0000;

/// The guest's `mov [at], eax`, and `mov eax, [at]`.
answer store(machine& m, std::uint64_t at, std::uint32_t value) {
    m.registers()[rdi] = at;
    m.registers()[rax] = value;
    return m.violate(at, {0x89, 0x07});
}
answer load(machine& m, std::uint64_t at) {
    m.registers()[rdi] = at;
    return m.violate(at, {0x8B, 0x07});
}

answer write_msr(machine& m, std::uint32_t number, std::uint64_t value) {
    m.registers()[rcx] = number;
    m.registers()[rax] = value | 0xABCD'0000'0000'0000; // what is above EAX and EDX does not count
    m.registers()[rax] = (value & 0xFFFF'FFFF) | 0xABCD'0000'0000'0000;
    m.registers()[rdx] = value >> 32 | 0xABCD'0000'0000'0000;
    return m.cpu.on_write_msr(m.registers(), 2);
}
answer read_msr(machine& m, std::uint32_t number) {
    m.registers()[rcx] = number | 0x1'0000'0000; // the number is in ECX
    return m.cpu.on_read_msr(m.registers(), 2);
}
std::uint64_t edx_eax(machine& m) { return m.registers()[rdx] << 32 | m.registers()[rax]; }

constexpr std::uint32_t apic_base_msr = 0x1B;
constexpr std::uint64_t enabled = 0x800;
constexpr std::uint64_t bootstrap = 0x100;

// --- The xAPIC page -----------------------------------------------------------------------------

TEST_CASE("the xAPIC page answers dwords, and what else as the local APIC says",
          "[assign][processor]") {
    machine m;
    REQUIRE(m.ready);
    REQUIRE(store(m, apic_at + 0x80, 0x55) == resume_behind(2)); // TPR
    REQUIRE(load(m, apic_at + 0x80) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0x55);
    m.registers()[rdi] = apic_at + 0x81;
    REQUIRE(m.violate(apic_at + 0x81, {0xC6, 0x07, 0x11}) == resume_behind(3)); // a byte: no effect
    REQUIRE(load(m, apic_at + 0x80) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0x55);
    REQUIRE(load(m, apic_at + 0xFFE) ==
            resume_behind(2)); // across the end: zeros here, nobody there
    REQUIRE(m.device.log.empty());
    // or dword [TPR], 2: read and written.
    m.registers()[rdi] = apic_at + 0x80;
    REQUIRE(m.violate(apic_at + 0x80, {0x83, 0x0F, 0x02}) == resume_behind(3));
    REQUIRE(load(m, apic_at + 0x80) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0x57);
}

TEST_CASE("an IPI reaches the other processor by the bus, and one to itself without a kick",
          "[assign][processor]") {
    machine m;
    REQUIRE(store(m, apic_at + 0x310, 1U << 24) == resume_behind(2));
    REQUIRE(store(m, apic_at + 0x300, 0x4041) == resume_behind(2));
    REQUIRE(m.notified == std::vector<std::uint32_t>{1});
    REQUIRE(m.second.apic.waiting_for_start_up() == false);
    REQUIRE(m.other_cpu.before_entry().event == vcpu::external_interrupt(0x41));
    REQUIRE(store(m, apic_at + 0x300, 0x4'4042) == resume_behind(2)); // self
    REQUIRE(m.notified.size() == 1);
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x42));
}

TEST_CASE(
    "the EOI of a level-triggered vector is broadcast to the platform, of an edge not [rule 27]",
    "[assign][processor]") {
    machine m;
    m.first.apic.accept(0x51, lapic::trigger_mode::edge);
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x51));
    REQUIRE(store(m, apic_at + 0xB0, 0) == resume_behind(2));
    REQUIRE(m.device.ended.empty());
    m.first.apic.accept(0x61, lapic::trigger_mode::level);
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x61));
    REQUIRE(store(m, apic_at + 0xB0, 0) == resume_behind(2));
    REQUIRE(m.device.ended == std::vector<std::uint8_t>{0x61});
    // Likewise by the MSR.
    REQUIRE(write_msr(m, apic_base_msr, apic_at | enabled | bootstrap | 0x400) == resume_behind(2));
    m.first.apic.accept(0x71, lapic::trigger_mode::level);
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x71));
    REQUIRE(write_msr(m, 0x80B, 0) == resume_behind(2));
    REQUIRE(m.device.ended == std::vector<std::uint8_t>{0x61, 0x71});
}

// --- MSRs ---------------------------------------------------------------------------------------

TEST_CASE("the local APIC's MSRs are read and written through EDX:EAX, others are not pt's",
          "[assign][processor]") {
    machine m;
    m.registers()[rdx] = ~std::uint64_t{0};
    REQUIRE(read_msr(m, apic_base_msr) == resume_behind(2));
    REQUIRE(edx_eax(m) == (apic_at | enabled | bootstrap));
    const general_registers before = m.registers();
    REQUIRE(read_msr(m, 0x10) == not_mine());
    REQUIRE(read_msr(m, 0x802) == general_protection); // x2APIC is not enabled
    REQUIRE(m.registers()[rax] == before[rax]);
    REQUIRE(write_msr(m, 0xC000'0080, 1) == not_mine());
    m.registers()[rcx] = apic_base_msr;
    REQUIRE(m.cpu.on_read_msr(m.registers(), 0) == not_mine());
    REQUIRE(m.cpu.on_write_msr(m.registers(), 0) == not_mine());
}

TEST_CASE("in x2APIC mode the MSRs answer and the page is not there [rule 28]",
          "[assign][processor]") {
    machine m;
    REQUIRE(write_msr(m, apic_base_msr, apic_at | enabled | bootstrap | 0x400) == resume_behind(2));
    REQUIRE(read_msr(m, 0x802) == resume_behind(2));
    REQUIRE(edx_eax(m) == 0);
    REQUIRE(write_msr(m, 0x830, std::uint64_t{1} << 32 | 0x4043) == resume_behind(2)); // ICR
    REQUIRE(m.other_cpu.before_entry().event == vcpu::external_interrupt(0x43));
    REQUIRE(write_msr(m, 0x83F, 0x44) == resume_behind(2)); // SELF IPI
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x44));
    REQUIRE(write_msr(m, 0x808, 0x100) == general_protection); // a reserved bit
    REQUIRE(write_msr(m, 0x80E, 0) == general_protection);     // no DFR there
    REQUIRE(write_msr(m, apic_base_msr, apic_at | enabled | bootstrap) ==
            general_protection); // not back to xAPIC
    REQUIRE(load(m, apic_at + 0x20) == not_mine());
}

TEST_CASE("the page of the local APIC follows IA32_APIC_BASE to where nothing is",
          "[assign][processor]") {
    machine m;
    const auto use = [&](std::uint64_t at) { return m.guest.use_of(gpa{at}); };
    const std::uint64_t there = 0xD000'0000;
    REQUIRE(write_msr(m, apic_base_msr, there | enabled | bootstrap) == resume_behind(2));
    REQUIRE(use(there) == assign::space_use::local_apic);
    REQUIRE(use(apic_at) == assign::space_use::local_apic); // the VMM's own reservation stays
    REQUIRE(store(m, there + 0x80, 0x33) == resume_behind(2));
    REQUIRE(m.first.apic.cr8() == 3);
    REQUIRE(load(m, apic_at + 0x80) == not_mine()); // it is not there any more

    // From there to elsewhere, and a processor of the same guest can be there next.
    const std::uint64_t elsewhere = 0xD000'1000;
    REQUIRE(write_msr(m, apic_base_msr, elsewhere | enabled | bootstrap) == resume_behind(2));
    REQUIRE(use(there) == error{errc::absent, there});
    REQUIRE(use(elsewhere) == assign::space_use::local_apic);
    general_registers r;
    r[rcx] = apic_base_msr;
    r[rax] = elsewhere | enabled;
    REQUIRE(m.other_cpu.on_write_msr(r, 2) == general_protection);
    r[rax] = there | enabled;
    REQUIRE(m.other_cpu.on_write_msr(r, 2) == resume_behind(2));

    // Back: nothing but the VMM's reservation is left.
    REQUIRE(write_msr(m, apic_base_msr, apic_at | enabled | bootstrap) == resume_behind(2));
    REQUIRE(use(elsewhere) == error{errc::absent, elsewhere});
    REQUIRE(load(m, apic_at + 0x80) == resume_behind(2));
    // After a reset it is at its first place, too.
    m.second.apic.reset();
    (void)m.other_cpu.before_entry();
    REQUIRE(use(there) == error{errc::absent, there});
    REQUIRE(m.space.size() == 2);
}

TEST_CASE(
    "a local APIC does not move over anything else of the guest's: #GP, and nothing has moved",
    "[assign][processor]") {
    machine m;
    REQUIRE(m.guest.reserve({gpa{0xA'0000}, 4 * KiB}, assign::space_use::device));
    for (const std::uint64_t taken : {0x5000ULL, 0x1'F000ULL, 0xA'0000ULL}) {
        REQUIRE(write_msr(m, apic_base_msr, taken | enabled | bootstrap) == general_protection);
        REQUIRE(m.first.apic.base() == gpa{apic_at});
    }
    // What the local APIC refuses claims nothing.
    REQUIRE(write_msr(m, apic_base_msr, 0xD000'0000 | enabled | bootstrap | 1) ==
            general_protection); // a reserved bit
    REQUIRE(write_msr(m, apic_base_msr, std::uint64_t{1} << 51 | enabled | bootstrap) ==
            general_protection); // beyond MAXPHYADDR
    REQUIRE(m.space.size() == 3);
    // Nor is there a place without a slot for its claim.
    for (std::uint64_t n = 0; n != 5; ++n) {
        REQUIRE(m.guest.reserve({gpa{0xB'0000 + n * 4 * KiB}, 4 * KiB}, assign::space_use::device));
    }
    REQUIRE(write_msr(m, apic_base_msr, 0xD000'0000 | enabled | bootstrap) == general_protection);
    REQUIRE(write_msr(m, apic_base_msr, apic_at | enabled | bootstrap) == resume_behind(2));
}

TEST_CASE("CR8 is TPR 7:4, and a value above 15 is a #GP", "[assign][processor]") {
    machine m;
    m.registers()[r9] = 0xB;
    REQUIRE(m.cpu.on_write_cr8(m.registers(), r9, 4) == resume_behind(4));
    REQUIRE(load(m, apic_at + 0x80) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0xB0);
    m.registers()[rbx] = ~std::uint64_t{0};
    REQUIRE(m.cpu.on_read_cr8(m.registers(), rbx, 3) == resume_behind(3));
    REQUIRE(m.registers()[rbx] == 0xB);
    m.registers()[r9] = 0x10;
    REQUIRE(m.cpu.on_write_cr8(m.registers(), r9, 4) == general_protection);
    REQUIRE(m.cpu.on_write_cr8(m.registers(), rbx, 0) == not_mine());
    REQUIRE(m.cpu.on_read_cr8(m.registers(), rbx, 0) == not_mine());
}

// --- Time, interrupts, entries ------------------------------------------------------------------

TEST_CASE("the timer's interrupt comes when its time has", "[assign][processor]") {
    machine m;
    REQUIRE(m.cpu.next_timer().of == lapic::deadline::clock::none);
    REQUIRE(store(m, apic_at + 0x3E0, 0xB) == resume_behind(2));  // divide by 1
    REQUIRE(store(m, apic_at + 0x320, 0x30) == resume_behind(2)); // one-shot
    REQUIRE(store(m, apic_at + 0x380, 1000) == resume_behind(2));
    const lapic::deadline due = m.cpu.next_timer();
    REQUIRE((due.of == lapic::deadline::clock::ticks && due.at == 1000));
    REQUIRE(m.cpu.wakes() == false);
    m.time.now = 999;
    REQUIRE(m.cpu.on_timer() == resume_again());
    REQUIRE(m.cpu.before_entry().event.present == false);
    m.time.now = 1000;
    REQUIRE(m.cpu.on_timer() == resume_again());
    REQUIRE(m.cpu.wakes());
    REQUIRE(m.cpu.before_entry().event == vcpu::external_interrupt(0x30));
}

TEST_CASE("an interrupt of the host that is a guest's message is the guest's, others are not pt's",
          "[assign][processor]") {
    machine m;
    REQUIRE(m.cpu.on_external_interrupt(0x91) == not_mine());
    REQUIRE(m.routes.bind(0x91, {.vector = 0x45, .destination = 1}));
    REQUIRE(m.cpu.on_external_interrupt(0x91) == resume_again());
    REQUIRE(m.notified == std::vector<std::uint32_t>{1});
    REQUIRE(m.other_cpu.wakes());
    REQUIRE(m.other_cpu.before_entry().event == vcpu::external_interrupt(0x45));
    REQUIRE(m.cpu.before_entry().event.present == false);
    REQUIRE(m.routes.unbind(0x91));
    REQUIRE(m.cpu.on_external_interrupt(0x91) == not_mine());
    REQUIRE(m.cpu.on_external_interrupt(0x20) == not_mine());
}

TEST_CASE("what an exit interrupted is delivered again, before what came since [rule 32]",
          "[assign][processor]") {
    machine m;
    m.first.apic.accept(0x51, lapic::trigger_mode::edge);
    const vcpu::event first = m.cpu.before_entry().event;
    m.cpu.interrupted(first);
    m.first.apic.accept(0x91, lapic::trigger_mode::edge);
    const answer fault = write_msr(m, 0x802, 0);
    REQUIRE(fault == general_protection);
    REQUIRE(m.cpu.raise(fault.event));
    REQUIRE(m.cpu.before_entry().event == fault.event);
    const auto next = m.cpu.before_entry();
    REQUIRE(next.event == first);
    REQUIRE(next.interrupt_window); // 0x91 waits
    // A fault during the delivery of a double fault: a triple fault.
    REQUIRE(m.cpu.raise(vcpu::exception(vcpu::exception_vector::double_fault, 0)));
    REQUIRE(m.cpu.raise(fault.event) == error{errc::hardware_fault, 13});
}

} // namespace
