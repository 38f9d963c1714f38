// SPDX-License-Identifier: BSL-1.0
//
// The kernel's interrupts. The handler only counts and signals the end of the interrupt; an
// exception ends the run as a failed one, unless somebody handles it.
#pragma once

#include "clock.hpp"
#include "gates.hpp"

#include "pt/pci/msi.hpp"

#include <concepts>
#include <cstdint>

namespace kernel {

/// Vectors that are free for whoever wants them, and those that the kernel itself uses.
inline constexpr std::uint8_t first_free_vector = 0x30;
inline constexpr std::uint8_t last_free_vector = 0xEF;
inline constexpr std::uint8_t timer_vector = 0xFE;
inline constexpr std::uint8_t spurious_vector = 0xFF;

/// Interrupt descriptor table, and the local APIC on, with nothing from the 8259s. xAPIC: QEMU
/// 7.2's own processor has no other.
void start_interrupts();

/// This processor's.
std::uint8_t apic_id();

/// How many interrupts with that vector arrived since the last forget_interrupts().
std::uint32_t taken(std::uint8_t vector);
/// How many with one of the free vectors arrived in all.
std::uint32_t taken_in_all();
void forget_interrupts();

/// Has `action` called when that vector arrives, before the end of the interrupt is signalled: by
/// then a level-triggered line must be down. nullptr: nothing is called any more.
void call_at(std::uint8_t vector, void (*action)());

/// Signals the end of the interrupt that has the highest priority of those in service.
void end_interrupt();

/// Lets those interrupts in that wait, the one with the highest priority first, and gives each to
/// `taken` in place of all that would happen otherwise. They stay in service: one end_interrupt()
/// for each is the caller's. A spurious one is left out, since it needs no end.
void take_pending_interrupts(void (*taken)(std::uint8_t vector));
/// The same, and halts until there is one.
void take_next_interrupts(void (*taken)(std::uint8_t vector));

/// Has `handler` called at each exception and at an NMI. True: it is handled, and the program goes
/// on with what the frame holds then. False: it ends the run, as without a handler.
void handle_exceptions(bool (*handler)(interrupt_frame& frame));

/// What a function must write to raise that vector here, in compatibility format [sdm, Message
/// Signalled Interrupts]: fixed delivery, edge, physical destination.
pt::pci::msi_message compatibility_message(std::uint8_t vector);

/// Has timer_vector raised once, after about so many nanoseconds; 0: not at all. Whoever waits
/// below takes the timer for that. It is taken for one that counts nanoseconds, as QEMU's does,
/// until it has been measured by the clock, which must run.
void start_timer(std::uint64_t nanoseconds);
void measure_timer();

/// Waits for the next interrupt, or for about so many nanoseconds: the timer of the local APIC ends
/// it. The one place where interrupts are on.
void wait_for_interrupt(std::uint64_t nanoseconds);

/// Lets that time pass, and takes the interrupts that arrive.
void pause_for(std::uint64_t nanoseconds);

/// For what comes anyway. QEMU's edu needs 100 ms for a DMA.
inline constexpr std::uint64_t patience = 2'000'000'000;
/// For what must not come: how long a test waits until it believes it.
inline constexpr std::uint64_t long_enough = 20'000'000;

/// Waits until done() says so, and takes the interrupts that arrive. False when the time is over.
/// It looks at first every 100 microseconds, and the later the less often.
template <std::predicate Done>
bool wait_until(Done done, std::uint64_t nanoseconds = patience) {
    clock time;
    for (const std::uint64_t start = time.now(); !done();) {
        const std::uint64_t waited = time.now() - start;
        if (waited > nanoseconds) {
            return done();
        }
        wait_for_interrupt(100'000 + waited / 16);
    }
    return true;
}

/// Whether that vector arrives in time.
inline bool arrives(std::uint8_t vector) {
    return wait_until([vector] { return taken(vector) != 0; });
}

/// Whether none of the free vectors arrives as long as a test waits for what must not come.
inline bool nothing_arrives() {
    pause_for(long_enough);
    return taken_in_all() == 0;
}

} // namespace kernel
