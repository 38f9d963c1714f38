// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <filesystem>
#include <string>

namespace demo {

struct passthrough_options {
    std::string qemu = "qemu-system-x86_64";
    std::filesystem::path capture = "out.pcap";
};

/// The whole path of docs/path.md once, on a QEMU machine: a NIC is found, given to one guest, sends
/// that guest's packets, is kept from everything else, and interrupts the guest. Prints each step;
/// throws at the first thing that is not as it must be.
void run_passthrough(const passthrough_options& options);

} // namespace demo
