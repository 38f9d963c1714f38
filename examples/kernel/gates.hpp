// SPDX-License-Identifier: BSL-1.0
//
// The way from an interrupt or an exception to the program's own
//
//     extern "C" void interrupt_taken(kernel::interrupt_frame& frame);
#pragma once

#include <cstdint>

namespace kernel {

/// What boot.S leaves on the stack when an interrupt or an exception arrives; and what the program
/// goes on with.
struct interrupt_frame {
    std::uint64_t registers[15]; ///< r15 r14 r13 r12 r11 r10 r9 r8 rbp rdi rsi rdx rcx rbx rax
    std::uint64_t vector;
    std::uint64_t error_code; ///< 0 where the exception has none
    std::uint64_t rip;
    std::uint64_t cs;
    std::uint64_t rflags;
    std::uint64_t rsp;
    std::uint64_t ss;
};

/// Loads an interrupt descriptor table that leads all vectors there, with interrupts off.
void load_gates();

} // namespace kernel
