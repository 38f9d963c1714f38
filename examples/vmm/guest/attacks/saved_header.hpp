// SPDX-License-Identifier: BSL-1.0
//
// What an attack on a function's configuration space puts back.
#pragma once

#include "../../../kernel/pci.hpp"

#include "pt/core/width.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace guest {

/// The header of a function as it was when this was made: Command, cache line, latency, BARs,
/// expansion ROM and interrupt line.
class saved_header {
public:
    explicit saved_header(pt::pci::function_address function) : function_{function} {
        kernel::port_config config = kernel::config();
        for (std::uint16_t i = 0; i != 16; ++i) {
            dwords_[i] = config.read(function, static_cast<std::uint16_t>(4 * i), pt::width::dword);
        }
    }

    /// Puts it back, in D0, with decoding off meanwhile.
    void restore() const {
        kernel::port_config config = kernel::config();
        config.write(function_, 0x04, pt::width::word, 0);
        if (const auto power = pt::pci::capabilities(config, function_)
                                   .find(pt::pci::capability_id::power_management, 8)) {
            config.write(function_, static_cast<std::uint16_t>(power->offset + 4), pt::width::word,
                         0);
        }
        config.write(function_, 0x0C, pt::width::word, dwords_[3] & 0xFFFF);
        for (std::uint16_t i = 4; i != 10; ++i) {
            config.write(function_, static_cast<std::uint16_t>(4 * i), pt::width::dword,
                         dwords_[i]);
        }
        config.write(function_, 0x30, pt::width::dword, dwords_[12]);
        config.write(function_, 0x3C, pt::width::byte, dwords_[15] & 0xFF);
        config.write(function_, 0x04, pt::width::word, dwords_[1] & 0xFFFF);
    }

private:
    pt::pci::function_address function_;
    std::uint32_t dwords_[16]{};
};

} // namespace guest
