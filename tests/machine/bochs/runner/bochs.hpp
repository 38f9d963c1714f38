// SPDX-License-Identifier: BSL-1.0
//
// Boots the kernel on a Bochs machine of its own, and reads what it reports.
#pragma once

#include "../../kernel/runner/report.hpp"

#include <chrono>
#include <string>

namespace runner {

/// Makes a disk with the boot sector, the kernel (both flat files) and its command line, starts
/// Bochs with a machine of 256 MiB and a processor that has VMX, and waits until it ends. `limit`
/// is real time. The machine's time is counted in instructions, so that a busy host makes a run
/// longer and changes nothing in it.
run boot_bochs(const std::string& boot_sector, const std::string& kernel,
               const std::string& command_line, std::chrono::seconds limit);

} // namespace runner
