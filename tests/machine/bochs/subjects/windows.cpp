// SPDX-License-Identifier: BSL-1.0
//
// An interrupt or an NMI that the guest cannot take yet: pt's injector asks for the window, the
// processor exits when it opens and not before, and the event arrives once.
#include "../../kernel/guest_tests/windows.hpp"
#include "../virtual_interrupts.hpp"

#include "pt/vmx/interruptibility.hpp"

namespace {

using guest_tests::check_window;
using guest_tests::hlt;
using guest_tests::nop;
using guest_tests::sti;
using guest_tests::waiting_vector;
using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::handled_event;
using kernel::virtual_interrupts;
using pt::vmx::exit_reason;
using state = pt::vmx::interruptibility_state;

// ------------------------------------------------------------------------------ interrupt windows

void by_sti(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({sti, 0x0F, 0xA2}); // cpuid
    machine.set_interrupt_flag(false);
    check("the guest exits behind STI", interrupts.runs_until(exit_reason::cpuid));
    check("where STI blocks", machine.blocking()[state::blocking_by_sti]);
    interrupts.raise(waiting_vector);
    machine.execute({nop, nop, hlt}, guest::code + 1);
    check_window(interrupts, guest::code + 2);
}

void by_mov_ss(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.general.rax = kernel::vmread(kernel::vmcs_field::guest_es_selector);
    machine.execute({0x8E, 0xD0, 0x0F, 0xA2}); // mov %eax, %ss; cpuid
    machine.set_interrupt_flag(true);
    check("the guest exits behind MOV SS", interrupts.runs_until(exit_reason::cpuid));
    check("where MOV SS blocks", machine.blocking()[state::blocking_by_mov_ss]);
    interrupts.raise(waiting_vector);
    machine.execute({nop, nop, hlt}, guest::code + 2);
    check_window(interrupts, guest::code + 3);
}

// ------------------------------------------------------------------------------------ NMI windows

/// After raise_nmi(): as check_window().
void check_nmi_window(virtual_interrupts& interrupts, pt::gpa place) {
    guest& machine = interrupts.machine();
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present);
    check("the NMI window is asked for", decided.nmi_window && !decided.interrupt_window);
    const bool opens = interrupts.enter() && machine.reason() == exit_reason::nmi_window;
    check("the NMI window opens", opens);
    check_equal("where it should", machine.rip(), place.raw);

    const handled_event found = interrupts.runs_to_handler();
    check("then the NMI arrives", found.any && found.vector == 2 &&
                                      found.return_address == place.raw &&
                                      machine.blocking()[state::blocking_by_nmi]);
    check("no window is asked for any more", !interrupts.decided().nmi_window);
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exit_reason::hlt) && !interrupts.decided().event.present);
    check("and nothing blocks in the end", machine.blocking().raw == 0);
}

void nmi_by_nmi(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({nop, hlt});
    interrupts.raise_nmi();
    check_equal("an NMI arrives at once", interrupts.runs_to_handler().vector, 2);
    interrupts.raise_nmi(); // of what comes in its handler, one is kept
    static_cast<void>(interrupts.decide());
    interrupts.raise_nmi();
    machine.end_handler();
    check_nmi_window(interrupts, guest::code); // behind IRET
}

void nmi_by_mov_ss(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.general.rax = kernel::vmread(kernel::vmcs_field::guest_es_selector);
    machine.execute({0x8E, 0xD0, 0x0F, 0xA2}); // mov %eax, %ss; cpuid
    check("the guest exits behind MOV SS", interrupts.runs_until(exit_reason::cpuid));
    interrupts.raise_nmi();
    machine.execute({nop, nop, hlt}, guest::code + 2);
    check_nmi_window(interrupts, guest::code + 3);
}

void nmi_by_sti(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    machine.execute({sti, 0x0F, 0xA2}); // cpuid
    check("the guest exits behind STI", interrupts.runs_until(exit_reason::cpuid));
    check("where STI blocks", machine.blocking()[state::blocking_by_sti]);
    interrupts.raise_nmi();
    machine.execute({nop, nop, hlt}, guest::code + 1);
    check_nmi_window(interrupts, guest::code + 2);
}

void nmi_and_interrupt(virtual_interrupts& interrupts) {
    guest& machine = interrupts.machine();
    guest_tests::nmi_goes_first(interrupts);
    check("the window opens behind IRET",
          interrupts.runs_until(exit_reason::interrupt_window) && machine.rip() == guest::code.raw);
    check_equal("then the interrupt arrives", interrupts.runs_to_handler().vector, waiting_vector);
    guest_tests::nmi_breaks_in(interrupts);
}

// --------------------------------------------------------------------------------------- subjects

void interrupt_windows() {
    constexpr guest_tests::interrupt_test<virtual_interrupts> tests[] = {
        {"RFLAGS.IF is 0", guest_tests::window_by_flag},
        {"STI blocks", by_sti},
        {"MOV SS blocks", by_mov_ss},
        {"nothing blocks", guest_tests::no_window}};
    guest_tests::in_every_mode(tests);
}

void nmi_windows() {
    constexpr guest_tests::interrupt_test<virtual_interrupts> tests[] = {
        {"an NMI blocks", nmi_by_nmi},
        {"MOV SS blocks", nmi_by_mov_ss},
        {"STI blocks", nmi_by_sti},
        {"with an interrupt", nmi_and_interrupt}};
    guest_tests::in_every_mode(tests);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"interrupt_window",
                                                                         interrupt_windows};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"nmi_window",
                                                                          nmi_windows};

} // namespace
