// SPDX-License-Identifier: BSL-1.0
//
// The guest's interrupts: descriptor table, counters, and waiting. Interrupts are off, except while
// somebody waits for one or lets them in; so what a handler counts needs no lock.
#pragma once

#include "clock.hpp"

#include <concepts>
#include <cstdint>

namespace guest {

/// Vectors by their use. Those of the I/O APIC's inputs: first_input_vector + input.
inline constexpr std::uint8_t first_8259_vector = 0x20; ///< which are masked
inline constexpr std::uint8_t first_input_vector = 0x30;
inline constexpr std::uint8_t nic_vector = 0x61;
inline constexpr std::uint8_t second_nic_vector = 0x62;
inline constexpr std::uint8_t low_vector = 0x28;  ///< for tests of priority
inline constexpr std::uint8_t high_vector = 0xB1; ///< of a higher class than all but the timer's
inline constexpr std::uint8_t forged_vector = 0xA5;
inline constexpr std::uint8_t interval_timer_vector = 0x51;
inline constexpr std::uint8_t timer_vector = 0xE1;
inline constexpr std::uint8_t spurious_vector = 0xFF;
inline constexpr std::uint8_t nmi_vector = 2;

/// Descriptor table, 8259s masked, local APIC enabled.
void start_interrupts();
/// What the 8259s and the local APIC are programmed with, once more: after an attack on them.
void restore_interrupts();

/// How many with that vector arrived since the last forget_interrupts(). NMIs have vector 2.
std::uint32_t taken(std::uint8_t vector);
/// Those of devices and IPIs, without the timer's of idle().
std::uint32_t taken_in_all();
void forget_interrupts();
/// A vector that arrived, without the timer's; 0: none.
std::uint8_t any_taken();

/// What is called when that vector arrives, before the end of the interrupt is signalled; nullptr:
/// nothing.
void on_vector(std::uint8_t vector, void (*handler)());

/// Lets pending interrupts in, in a window of one instruction, as a processor does.
inline void let_in_briefly() { asm volatile("sti; nop; nop; cli" : : : "memory"); }
/// Lets pending interrupts in, two of them. In between it writes to a port that no PC minds: a KVM that is
/// software looks for interrupts at its exits, and sees no window without one.
inline void let_in() {
    asm volatile("sti; nop; outb %%al, $0x80; outb %%al, $0x80; nop; cli" : : "a"(0) : "memory");
}

/// Sleeps until an interrupt, or for about so many nanoseconds: the timer of the local APIC ends
/// it.
void idle(std::uint64_t nanoseconds);
/// Whether idle() may use the timer. Not while it is being tested: it polls then.
void take_timer();
void give_timer();

inline constexpr std::uint64_t patience = 2 * second;
/// For what must not come: how long a check waits until it believes it.
inline constexpr std::uint64_t long_enough = 20 * millisecond;

/// Takes interrupts until done(), or until the time is over; whether it is done.
template <std::predicate Done>
bool wait_until(Done done, std::uint64_t nanoseconds = patience) {
    clock time;
    for (const std::uint64_t start = time.now(); !done();) {
        const std::uint64_t waited = time.now() - start;
        if (waited >= nanoseconds) {
            return done();
        }
        idle(50 * microsecond + waited / 16);
    }
    return true;
}
inline bool arrives(std::uint8_t vector) {
    return wait_until([vector] { return taken(vector) != 0; });
}
/// Lets that time pass, and takes the interrupts that arrive.
inline void pause_for(std::uint64_t nanoseconds) {
    static_cast<void>(wait_until([] { return false; }, nanoseconds));
}

} // namespace guest
