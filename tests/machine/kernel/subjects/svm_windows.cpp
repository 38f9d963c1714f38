// SPDX-License-Identifier: BSL-1.0
//
// An interrupt or an NMI that the guest cannot take yet: pt's injector asks for the window, the
// guest exits when it opens and not before, and the event arrives once.
#include "../svm_interrupts.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::virtual_interrupts;
using pt::svm::exit_code;

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
    check("the window opens", interrupts.enter() && machine.reason() == exit_code::vintr);
    check_equal("where it should", machine.rip(), place.raw);

    const handled_event found = interrupts.runs_to_handler();
    check_equal("then the interrupt arrives", found.vector, vector);
    check_equal("where the window opened", found.return_address, place.raw);
    check("no window is asked for any more", !interrupts.decided().interrupt_window);
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exit_code::hlt) && !interrupts.decided().event.present);
    check_equal("and the guest goes on", machine.rsp(), guest::stack.raw);
}

// ------------------------------------------------------------------------------ interrupt windows

void by_flag(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, sti, nop, nop, hlt});
    machine.set_interrupt_flag(false);
    interrupts.raise(vector);
    // One instruction after STI, whose shadow is that long.
    check_window(machine, interrupts, guest::code + 3);
}

/// Brings the guest into the shadow of an instruction at `code`, which ends at `behind`.
void enter_shadow(guest& machine, virtual_interrupts& interrupts, pt::gpa behind) {
    machine.put({0x0F, 0xA2}, behind); // cpuid
    check("the guest exits in the shadow",
          interrupts.runs_until(exit_code::cpuid) && machine.rip() == behind.raw);
    check("the VMCB says so", machine.in_interrupt_shadow());
}

/// An interrupt that comes while the guest is in a shadow: not before the instruction that the
/// shadow covers is done.
void in_shadow(guest& machine, virtual_interrupts& interrupts, pt::gpa behind) {
    enter_shadow(machine, interrupts, behind);
    interrupts.raise(vector);
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present && decided.interrupt_window);
    // The instruction is done by the VMM, CPUID as here or an IN, and with it the shadow.
    machine.skip_instruction();
    machine.put({nop, hlt}, pt::gpa{machine.rip()});
    const std::uint64_t next = machine.rip();
    check("behind the VMM's instruction it is injected", interrupts.decide().event.present);
    check("and needs no window", !interrupts.decided().interrupt_window);
    check("it arrives", interrupts.enter() && machine.handled().vector == vector &&
                            machine.handled().return_address == next);
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("once", interrupts.runs_until(exit_code::hlt) && machine.rip() == next + 1);
}

void by_sti(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({sti});
    machine.set_interrupt_flag(false);
    in_shadow(machine, interrupts, guest::code + 1);
}

void by_mov_ss(guest& machine, virtual_interrupts& interrupts) {
    machine.general.rax = machine.words().ss.selector;
    machine.execute({0x8E, 0xD0}); // mov %eax, %ss
    machine.set_interrupt_flag(true);
    in_shadow(machine, interrupts, guest::code + 2);
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
          interrupts.runs_until(exit_code::vintr) && machine.rip() == guest::code.raw);
    check_equal("the higher one arrives", interrupts.runs_to_handler().vector, vector + 0x10);
    static_cast<void>(interrupts.apic().eoi());
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("the lower one waits for the window", interrupts.runs_until(exit_code::vintr));
    check_equal("and arrives, too", interrupts.runs_to_handler().vector, vector - 0x10);
    static_cast<void>(interrupts.apic().eoi());
    machine.end_handler();
    check("then there is nothing any more",
          interrupts.runs_until(exit_code::hlt) && !interrupts.decided().event.present);
}

/// The request is a virtual interrupt: whoever does not take it back gets one of vector 0.
void taken_back(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(false);
    interrupts.raise(vector);
    check("the window is asked for", interrupts.decide().interrupt_window);
    static_cast<void>(interrupts.apic().acknowledge());
    static_cast<void>(interrupts.apic().eoi());
    machine.set_interrupt_flag(true);
    check("without an interrupt it is not", !interrupts.decide().interrupt_window);
    check("and none comes", interrupts.runs_until(exit_code::hlt));
}

// ------------------------------------------------------------------------------------ NMI windows

/// After raise_nmi(), while another one's handler runs, which IRET ends: the guest exits at it, and
/// behind it; there the NMI arrives.
void nmi_by_nmi(guest& machine, virtual_interrupts& interrupts) {
    machine.execute({nop, hlt});
    interrupts.raise_nmi();
    check_equal("an NMI arrives at once", interrupts.runs_to_handler().vector, 2);
    check("and masks others", interrupts.nmis_are_masked());
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
          interrupts.nmis_are_masked() && !interrupts.decide().event.present);
    check("and one step later", interrupts.enter() &&
                                    machine.reason() == virtual_interrupts::step &&
                                    machine.rip() == guest::code.raw);
    check("where they are not", !interrupts.nmis_are_masked());
    const handled_event found = interrupts.runs_to_handler();
    check("then the NMI arrives",
          found.any && found.vector == 2 && found.return_address == guest::code.raw);
    check("with the flags as they were", (found.rflags & 0x100) == 0);
    check("no window is asked for any more", !interrupts.decided().nmi_window);
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exit_code::hlt) && !interrupts.decided().event.present);
    check("and nothing is masked in the end", !interrupts.nmis_are_masked());
}

/// An NMI that comes in a shadow: behind one instruction. No handler runs, so it is no IRET that
/// the VMM waits for.
void nmi_in_shadow(guest& machine, virtual_interrupts& interrupts) {
    machine.general.rax = machine.words().ss.selector;
    machine.execute({0x8E, 0xD0}); // mov %eax, %ss
    enter_shadow(machine, interrupts, guest::code + 2);
    interrupts.raise_nmi();
    machine.put({nop, nop, hlt}, guest::code + 2);
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present && decided.nmi_window);
    const handled_event found = interrupts.runs_to_handler();
    check("the NMI arrives behind the next instruction",
          found.any && found.vector == 2 && found.return_address == guest::code.raw + 3);
    machine.end_handler();
    check("once", interrupts.runs_until(exit_code::hlt) && !interrupts.nmis_are_masked() &&
                      machine.rip() == guest::code.raw + 4);
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
    // The step over IRET has opened both windows.
    const handled_event second = interrupts.runs_to_handler();
    check("it arrives behind IRET",
          second.any && second.vector == vector && second.return_address == guest::code.raw);
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
                              {"in the shadow of STI", by_sti},
                              {"in the shadow of MOV SS", by_mov_ss},
                              {"nothing holds it back", no_window},
                              {"it is gone again", taken_back}};
    in_every_mode(tests);
}

void nmi_windows() {
    constexpr test tests[] = {{"in an NMI's handler", nmi_by_nmi},
                              {"in a shadow", nmi_in_shadow},
                              {"with an interrupt", nmi_and_interrupt}};
    in_every_mode(tests);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_interrupt_window",
                                                                         interrupt_windows};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_nmi_window",
                                                                          nmi_windows};

} // namespace
