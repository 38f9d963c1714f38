// SPDX-License-Identifier: BSL-1.0
//
// Boots the kernel on a Bochs machine of its own, and reads what it reports.
#pragma once

#include "../../kernel/runner/report.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace runner {

/// What the machine's network controller (an 82540EM, 52:54:00:12:34:56) is connected to.
struct network {
    enum class module {
        null, ///< takes all frames, logs them, and sends none
        vnet, ///< a host, 192.168.10.1, that answers ARP, ICMP echo and TFTP
    };
    module kind = module::null;
    std::string served{};            ///< vnet: what the file "served" of its TFTP server holds
    std::vector<std::string> sent{}; ///< null: the frames that the kernel has sent, in order
};

/// Makes a disk with the boot sector, the kernel (both flat files) and its command line, starts
/// Bochs with a machine of 256 MiB and a processor that has VMX, and waits until it ends. `limit`
/// is real time. The machine's time is counted in instructions, so that a busy host makes a run
/// longer and changes nothing in it. Without a network there is no network controller either.
run boot_bochs(const std::string& boot_sector, const std::string& kernel,
               const std::string& command_line, std::chrono::seconds limit,
               network* connected_to = nullptr);

} // namespace runner
