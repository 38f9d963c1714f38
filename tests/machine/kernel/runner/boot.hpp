// SPDX-License-Identifier: BSL-1.0
//
// Boots the kernel on a QEMU machine of its own, and reads what it reports.
#pragma once

#include "report.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace runner {

/// Starts QEMU with a machine of 256 MiB, two e1000e (00:03.0 and 00:04.0 on one hub) and an edu
/// (00:05.0), and the `devices` besides, and waits until it ends. `limit` is real time.
///
/// The machine's time is bound to the instructions that it executes (-icount), and jumps on when
/// the processor waits. So a busy host makes a run longer and changes nothing in it, and 100 ms of
/// the machine's time, which a DMA of edu takes, cost nothing.
run boot(const std::string& kernel, const std::string& command_line,
         const std::vector<std::string>& devices, std::chrono::seconds limit);

} // namespace runner
