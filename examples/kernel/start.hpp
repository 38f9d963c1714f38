// SPDX-License-Identifier: BSL-1.0
//
// What a program of this runtime is: one function.
//
// There is one processor and one stack, in 64-bit mode with memory below 4 GiB mapped one to one.
// Interrupts are off, except while somebody waits for one (interrupts.hpp): so what an interrupt
// counts needs no lock.
#pragma once

#include "multiboot.hpp"

namespace kernel {

/// Each program defines it, and it does not return. COM1 is started, the command line is set, and a
/// broken contract ends the run; all else (clock, interrupts, memory) the program starts itself.
[[noreturn]] void run(const multiboot_information& loaded);

} // namespace kernel
