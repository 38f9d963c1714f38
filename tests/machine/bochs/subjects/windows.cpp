// SPDX-License-Identifier: BSL-1.0
//
// An interrupt or an NMI that the guest cannot take yet: pt's injector asks for the window, the
// processor exits when it opens and not before, and the event arrives once.
#include "../virtual_interrupts.hpp"

#include "pt/vmx/interruptibility.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::virtual_interrupts;
using pt::vmx::exit_reason;
using state = pt::vmx::interruptibility_state;

constexpr std::uint8_t vector = 0x61;
constexpr std::uint8_t nop = 0x90;
constexpr std::uint8_t hlt = 0xF4;
constexpr std::uint8_t sti = 0xFB;

/// After raise(): the guest runs up to `place`, where the window opens; then the handler runs,
/// once, and returns there.
void check_window(guest& machine, virtual_interrupts& interrupts, pt::gpa place) {
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present);
    check("the window is asked for", decided.interrupt_window && !decided.nmi_window);
    const bool opens = interrupts.enter() && machine.reason() == exit_reason::interrupt_window;
    check("the window opens", opens);
    check_equal("where it should", machine.rip(), place.raw);

    const handled_event found = interrupts.runs_to_handler();
    check_equal("then the interrupt arrives", found.vector, vector);
    check_equal("where the window opened", found.return_address, place.raw);
    check("no window is asked for any more", !interrupts.decided().interrupt_window);
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exit_reason::hlt) && !interrupts.decided().event.present);
    check_equal("and the guest goes on", machine.rsp(), guest::stack.raw);
}

// ------------------------------------------------------------------------------ interrupt windows

void by_flag(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, sti, nop, nop, hlt});
    machine.set_interrupt_flag(false);
    interrupts.raise(vector);
    // One instruction after STI, which blocks that long.
    check_window(machine, interrupts, guest::code + 3);
}

void by_sti(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({sti, 0x0F, 0xA2}); // cpuid
    machine.set_interrupt_flag(false);
    check("the guest exits behind STI", interrupts.runs_until(exit_reason::cpuid));
    check("where STI blocks", machine.blocking()[state::blocking_by_sti]);
    interrupts.raise(vector);
    machine.execute({nop, nop, hlt}, guest::code + 1);
    check_window(machine, interrupts, guest::code + 2);
}

void by_mov_ss(guest& machine, virtual_interrupts& interrupts) {
    machine.general.rax = kernel::vmread(kernel::vmcs_field::guest_es_selector);
    machine.execute({0x8E, 0xD0, 0x0F, 0xA2}); // mov %eax, %ss; cpuid
    machine.set_interrupt_flag(true);
    check("the guest exits behind MOV SS", interrupts.runs_until(exit_reason::cpuid));
    check("where MOV SS blocks", machine.blocking()[state::blocking_by_mov_ss]);
    interrupts.raise(vector);
    machine.execute({nop, nop, hlt}, guest::code + 2);
    check_window(machine, interrupts, guest::code + 3);
}

void no_window(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, hlt});
    machine.set_interrupt_flag(true);
    interrupts.raise(vector);
    const handled_event found = interrupts.runs_to_handler();
    check("the interrupt arrives at once", found.any && found.vector == vector &&
                                               found.return_address == guest::code.raw &&
                                               !interrupts.decided().interrupt_window);
    // In its handler a lower one waits for nothing but the end of it, a higher one for the window.
    interrupts.raise(vector - 0x10);
    check("a lower one asks for no window", !interrupts.decide().interrupt_window);
    interrupts.raise(vector + 0x10);
    check("a higher one does", interrupts.decide().interrupt_window);
    machine.end_handler();
    check("which opens when the handler returns",
          interrupts.runs_until(exit_reason::interrupt_window) && machine.rip() == guest::code.raw);
    check_equal("the higher one arrives", interrupts.runs_to_handler().vector, vector + 0x10);
    static_cast<void>(interrupts.apic().eoi());
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("the lower one waits for the window",
          interrupts.runs_until(exit_reason::interrupt_window));
    check_equal("and arrives, too", interrupts.runs_to_handler().vector, vector - 0x10);
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("then there is nothing any more",
          interrupts.runs_until(exit_reason::hlt) && !interrupts.decided().event.present);
}

// ------------------------------------------------------------------------------------ NMI windows

/// After raise_nmi(): as check_window().
void check_nmi_window(guest& machine, virtual_interrupts& interrupts, pt::gpa place) {
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

void nmi_by_nmi(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, hlt});
    interrupts.raise_nmi();
    check_equal("an NMI arrives at once", interrupts.runs_to_handler().vector, 2);
    interrupts.raise_nmi(); // of what comes in its handler, one is kept
    static_cast<void>(interrupts.decide());
    interrupts.raise_nmi();
    machine.end_handler();
    check_nmi_window(machine, interrupts, guest::code); // behind IRET
}

void nmi_by_mov_ss(guest& machine, virtual_interrupts& interrupts) {
    machine.general.rax = kernel::vmread(kernel::vmcs_field::guest_es_selector);
    machine.execute({0x8E, 0xD0, 0x0F, 0xA2}); // mov %eax, %ss; cpuid
    check("the guest exits behind MOV SS", interrupts.runs_until(exit_reason::cpuid));
    interrupts.raise_nmi();
    machine.execute({nop, nop, hlt}, guest::code + 2);
    check_nmi_window(machine, interrupts, guest::code + 3);
}

void nmi_by_sti(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({sti, 0x0F, 0xA2}); // cpuid
    check("the guest exits behind STI", interrupts.runs_until(exit_reason::cpuid));
    check("where STI blocks", machine.blocking()[state::blocking_by_sti]);
    interrupts.raise_nmi();
    machine.execute({nop, nop, hlt}, guest::code + 1);
    check_nmi_window(machine, interrupts, guest::code + 2);
}

void nmi_and_interrupt(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, hlt});
    machine.set_interrupt_flag(true);
    interrupts.raise(vector);
    interrupts.raise_nmi();
    check_equal("the NMI goes first", interrupts.runs_to_handler().vector, 2);
    check("the interrupt waits for its window",
          interrupts.decided().interrupt_window && !interrupts.decided().nmi_window);
    machine.end_handler();
    check("the window opens behind IRET",
          interrupts.runs_until(exit_reason::interrupt_window) && machine.rip() == guest::code.raw);
    check_equal("then the interrupt arrives", interrupts.runs_to_handler().vector, vector);
    interrupts.raise_nmi();
    check("an NMI breaks into its handler", interrupts.decide().event == pt::vcpu::nmi());
    interrupts.injector().interrupted(interrupts.decided().event); // no entry took place
    const handled_event found = interrupts.runs_to_handler();
    check("and is not lost when the VMM turns back before the entry",
          found.any && found.vector == 2 &&
              found.return_address == guest::handlers.raw + 8 * vector);
}

// --------------------------------------------------------------------------------------- subjects

struct test {
    const char* name;
    void (*run)(guest&, virtual_interrupts&);
};

template <std::size_t N>
void in_every_mode(const test (&tests)[N]) {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        for (const test& each : tests) {
            kernel::begin_part(name(mode), each.name);
            virtual_interrupts interrupts{machine};
            machine.start(mode);
            each.run(machine, interrupts);
        }
    }
    kernel::begin_part(nullptr);
}

void interrupt_windows() {
    constexpr test tests[] = {{"RFLAGS.IF is 0", by_flag},
                              {"STI blocks", by_sti},
                              {"MOV SS blocks", by_mov_ss},
                              {"nothing blocks", no_window}};
    in_every_mode(tests);
}

void nmi_windows() {
    constexpr test tests[] = {{"an NMI blocks", nmi_by_nmi},
                              {"MOV SS blocks", nmi_by_mov_ss},
                              {"STI blocks", nmi_by_sti},
                              {"with an interrupt", nmi_and_interrupt}};
    in_every_mode(tests);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"interrupt_window",
                                                                         interrupt_windows};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"nmi_window",
                                                                          nmi_windows};

} // namespace
