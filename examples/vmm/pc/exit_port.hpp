// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace vmm::pc {

/// The port by which a guest ends its run, with a code; QEMU has such a device too (isa-debug-exit),
/// whose exit status is twice the code plus one.
struct exit_port {
    static constexpr std::uint16_t port = 0xF4;

    bool written = false;
    std::uint32_t code = 0;

    constexpr void write(std::uint32_t value) {
        written = true;
        code = value;
    }
    [[nodiscard]] constexpr std::uint32_t status() const { return code * 2 + 1; }
};

} // namespace vmm::pc
