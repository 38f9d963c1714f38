// SPDX-License-Identifier: BSL-1.0
//
// An interrupt or an NMI that the guest cannot take yet: pt's injector asks for the window, the
// guest exits when it opens and not before, and the event arrives once.
#include "../guest_tests/windows.hpp"
#include "../svm_interrupts.hpp"

namespace {

using guest_tests::hlt;
using guest_tests::nop;
using guest_tests::sti;
using guest_tests::waiting_vector;
using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::handled_event;
using kernel::virtual_interrupts;
using pt::svm::exit_code;

// ------------------------------------------------------------------------------ interrupt windows

/// Brings the guest into the shadow of an instruction at `code`, which ends at `behind`.
void enter_shadow(virtual_interrupts& interrupts, pt::gpa behind) {
    guest& machine = interrupts.machine();
    machine.put({0x0F, 0xA2}, behind); // cpuid
    check("the guest exits in the shadow",
          interrupts.runs_until(exit_code::cpuid) && machine.rip() == behind.raw);
    check("the VMCB says so", machine.in_interrupt_shadow());
}

/// An interrupt that comes while the guest is in a shadow: not before the instruction that the
/// shadow covers is done.
void in_shadow(virtual_interrupts& interrupts, pt::gpa behind) {
    guest& machine = interrupts.machine();
    enter_shadow(interrupts, behind);
    interrupts.raise(waiting_vector);
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present && decided.interrupt_window);
    // The instruction is done by the VMM, CPUID as here or an IN, and with it the shadow.
    machine.skip_instruction();
    machine.put({nop, hlt}, pt::gpa{machine.rip()});
    const std::uint64_t next = machine.rip();
    check("behind the VMM's instruction it is injected", interrupts.decide().event.present);
    check("and needs no window", !interrupts.decided().interrupt_window);
    check("it arrives", interrupts.enter() && machine.handled().vector == waiting_vector &&
                            machine.handled().return_address == next);
    interrupts.end();
    machine.end_handler();
    check("once", interrupts.runs_until(exit_code::hlt) && machine.rip() == next + 1);
}

void by_sti(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({sti});
    machine.set_interrupt_flag(false);
    in_shadow(interrupts, guest::code + 1);
}

void by_mov_ss(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.general.rax = machine.words().ss.selector;
    machine.execute({0x8E, 0xD0}); // mov %eax, %ss
    machine.set_interrupt_flag(true);
    in_shadow(interrupts, guest::code + 2);
}

/// The request is a virtual interrupt: whoever does not take it back gets one of vector 0.
void taken_back(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(false);
    interrupts.raise(waiting_vector);
    check("the window is asked for", interrupts.decide().interrupt_window);
    static_cast<void>(interrupts.apic().acknowledge());
    interrupts.end();
    machine.set_interrupt_flag(true);
    check("without an interrupt it is not", !interrupts.decide().interrupt_window);
    check("and none comes", interrupts.runs_until(exit_code::hlt));
}

// ------------------------------------------------------------------------------------ NMI windows

/// After raise_nmi(), while another one's handler runs, which IRET ends: the guest exits at it, and
/// behind it; there the NMI arrives.
void nmi_by_nmi(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({nop, hlt});
    interrupts.raise_nmi();
    check_equal("an NMI arrives at once", interrupts.runs_to_handler().vector, 2);
    check("and masks others", interrupts.nmis_are_blocked());
    interrupts.raise_nmi(); // of what comes in its handler, one is kept
    static_cast<void>(interrupts.decide());
    interrupts.raise_nmi();
    machine.end_handler();
    const std::uint64_t iret = machine.rip();
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present);
    check("the NMI window is asked for", decided.nmi_window && !decided.interrupt_window);
    check("the guest exits at IRET",
          interrupts.enter() && machine.reason() == exit_code::iret && machine.rip() == iret);
    check("where NMIs are masked still",
          interrupts.nmis_are_blocked() && !interrupts.decide().event.present);
    check("and one step later", interrupts.enter() &&
                                    machine.reason() == virtual_interrupts::step &&
                                    machine.rip() == guest::code.raw);
    check("where they are not", !interrupts.nmis_are_blocked());
    const handled_event found = interrupts.runs_to_handler();
    check("then the NMI arrives",
          found.any && found.vector == 2 && found.return_address == guest::code.raw);
    check("with the flags as they were", (found.rflags & 0x100) == 0);
    check("no window is asked for any more", !interrupts.decided().nmi_window);
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exit_code::hlt) && !interrupts.decided().event.present);
    check("and nothing is masked in the end", !interrupts.nmis_are_blocked());
}

/// An NMI that comes in a shadow: behind one instruction. No handler runs, so it is no IRET that
/// the VMM waits for.
void nmi_in_shadow(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.general.rax = machine.words().ss.selector;
    machine.execute({0x8E, 0xD0}); // mov %eax, %ss
    enter_shadow(interrupts, guest::code + 2);
    interrupts.raise_nmi();
    machine.put({nop, nop, hlt}, guest::code + 2);
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present && decided.nmi_window);
    const handled_event found = interrupts.runs_to_handler();
    check("the NMI arrives behind the next instruction",
          found.any && found.vector == 2 && found.return_address == guest::code.raw + 3);
    machine.end_handler();
    check("once", interrupts.runs_until(exit_code::hlt) && !interrupts.nmis_are_blocked() &&
                      machine.rip() == guest::code.raw + 4);
}

void nmi_and_interrupt(virtual_interrupts& interrupts) {
    guest_tests::nmi_goes_first(interrupts);
    // The step over IRET has opened both windows.
    const handled_event second = interrupts.runs_to_handler();
    check("it arrives behind IRET", second.any && second.vector == waiting_vector &&
                                        second.return_address == guest::code.raw);
    guest_tests::nmi_breaks_in(interrupts);
}

// --------------------------------------------------------------------------------------- subjects

void interrupt_windows() {
    constexpr guest_tests::interrupt_test<virtual_interrupts> tests[] = {
        {"RFLAGS.IF is 0", guest_tests::window_by_flag},
        {"in the shadow of STI", by_sti},
        {"in the shadow of MOV SS", by_mov_ss},
        {"nothing holds it back", guest_tests::no_window},
        {"it is gone again", taken_back}};
    guest_tests::in_every_mode(tests);
}

void nmi_windows() {
    constexpr guest_tests::interrupt_test<virtual_interrupts> tests[] = {
        {"in an NMI's handler", nmi_by_nmi},
        {"in a shadow", nmi_in_shadow},
        {"with an interrupt", nmi_and_interrupt}};
    guest_tests::in_every_mode(tests);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_interrupt_window",
                                                                         interrupt_windows};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_nmi_window",
                                                                          nmi_windows};

} // namespace
