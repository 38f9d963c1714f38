// SPDX-License-Identifier: BSL-1.0
//
// The end of a run.
#pragma once

#include <cstdint>

namespace kernel {

/// Sends what is still to be sent, and ends the machine: QEMU with the exit status 2 * code + 1, by
/// its debug exit at port 0xF4; Bochs with a status that says nothing.
[[noreturn]] void end(std::uint32_t code);

inline constexpr std::uint32_t run_passed = 0;
inline constexpr std::uint32_t run_failed = 1;

/// Ends the run as a failed one: for what makes all that would follow senseless.
[[noreturn]] void give_up(const char* why);

} // namespace kernel
