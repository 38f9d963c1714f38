// SPDX-License-Identifier: BSL-1.0
//
// An interrupt or an NMI that the guest cannot take yet: pt's injector asks for the window, the
// guest exits when it opens and not before, and the event arrives once.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"
#include "instructions.hpp"

#include "pt/core/address.hpp"
#include "pt/vcpu/event.hpp"

#include <cstddef>
#include <cstdint>

namespace guest_tests {

/// A test of a guest and its interrupts, which begins anew in each mode.
template <class Interrupts>
struct interrupt_test {
    const char* name;
    void (*run)(Interrupts&);
};

template <class Interrupts, std::size_t N>
void in_every_mode(const interrupt_test<Interrupts> (&tests)[N]) {
    typename Interrupts::guest_type machine;
    for (const kernel::guest_mode mode : kernel::every_mode) {
        for (const interrupt_test<Interrupts>& each : tests) {
            kernel::begin_part(name(mode), each.name);
            Interrupts interrupts{machine};
            machine.start(mode);
            each.run(interrupts);
        }
    }
    kernel::begin_part(nullptr);
}

/// The vector of the interrupt that waits.
inline constexpr std::uint8_t waiting_vector = 0x61;

/// After raise(): the guest runs up to `place`, where the window opens; then the handler runs,
/// once, and returns there.
template <class Interrupts>
void check_window(Interrupts& interrupts, pt::gpa place) {
    using kernel::check;
    using kernel::check_equal;
    using exits = typename Interrupts::exits;
    auto& machine = interrupts.machine();
    const auto& decided = interrupts.decide();
    check("nothing is injected", !decided.event.present);
    check("the window is asked for", decided.interrupt_window && !decided.nmi_window);
    check("the window opens", interrupts.enter() && machine.reason() == exits::interrupt_window);
    check_equal("where it should", machine.rip(), place.raw);

    const kernel::handled_event found = interrupts.runs_to_handler();
    check_equal("then the interrupt arrives", found.vector, waiting_vector);
    check_equal("where the window opened", found.return_address, place.raw);
    check("no window is asked for any more", !interrupts.decided().interrupt_window);
    interrupts.end();
    machine.end_handler();
    check("it arrives once",
          interrupts.runs_until(exits::hlt) && !interrupts.decided().event.present);
    check_equal("and the guest goes on", machine.rsp(), machine.stack.raw);
}

template <class Interrupts>
void window_by_flag(Interrupts& interrupts) {
    auto& machine = interrupts.machine();
    machine.execute({nop, sti, nop, nop, hlt});
    machine.set_interrupt_flag(false);
    interrupts.raise(waiting_vector);
    // One instruction after STI, which blocks that long.
    check_window(interrupts, machine.code + 3);
}

template <class Interrupts>
void no_window(Interrupts& interrupts) {
    using kernel::check;
    using kernel::check_equal;
    using exits = typename Interrupts::exits;
    auto& machine = interrupts.machine();
    constexpr std::uint8_t lower = waiting_vector - 0x10;
    constexpr std::uint8_t higher = waiting_vector + 0x10;
    machine.execute({nop, hlt});
    machine.set_interrupt_flag(true);
    interrupts.raise(waiting_vector);
    const kernel::handled_event found = interrupts.runs_to_handler();
    check("the interrupt arrives at once", found.any && found.vector == waiting_vector &&
                                               found.return_address == machine.code.raw &&
                                               !interrupts.decided().interrupt_window);
    // In its handler a lower one waits for nothing but the end of it, a higher one for the window.
    interrupts.raise(lower);
    check("a lower one asks for no window", !interrupts.decide().interrupt_window);
    interrupts.raise(higher);
    check("a higher one does", interrupts.decide().interrupt_window);
    machine.end_handler();
    check("which opens when the handler returns",
          interrupts.runs_until(exits::interrupt_window) && machine.rip() == machine.code.raw);
    check_equal("the higher one arrives", interrupts.runs_to_handler().vector, higher);
    interrupts.end();
    interrupts.end();
    machine.end_handler();
    check("the lower one waits for the window", interrupts.runs_until(exits::interrupt_window));
    check_equal("and arrives, too", interrupts.runs_to_handler().vector, lower);
    interrupts.end();
    machine.end_handler();
    check("then there is nothing any more",
          interrupts.runs_until(exits::hlt) && !interrupts.decided().event.present);
}

/// An NMI and an interrupt at once: up to the end of the NMI's handler.
template <class Interrupts>
void nmi_goes_first(Interrupts& interrupts) {
    auto& machine = interrupts.machine();
    machine.execute({nop, hlt});
    machine.set_interrupt_flag(true);
    interrupts.raise(waiting_vector);
    interrupts.raise_nmi();
    kernel::check_equal("the NMI goes first", interrupts.runs_to_handler().vector, 2);
    kernel::check("the interrupt waits for its window",
                  interrupts.decided().interrupt_window && !interrupts.decided().nmi_window);
    machine.end_handler();
}

/// In the interrupt's handler.
template <class Interrupts>
void nmi_breaks_in(Interrupts& interrupts) {
    interrupts.raise_nmi();
    kernel::check("an NMI breaks into its handler", interrupts.decide().event == pt::vcpu::nmi());
    interrupts.injector().interrupted(interrupts.decided().event); // no entry took place
    const kernel::handled_event found = interrupts.runs_to_handler();
    kernel::check("and is not lost when the VMM turns back before the entry",
                  found.any && found.vector == 2 &&
                      found.return_address ==
                          kernel::guest_memory::handlers.raw + 8 * waiting_vector);
}

} // namespace guest_tests
