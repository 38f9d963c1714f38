// SPDX-License-Identifier: BSL-1.0
//
// Configuration space of the machine, and the registers of its functions.
#pragma once

#include "mmio.hpp"
#include "ports.hpp"

#include "pt/core/result.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/port_config_access.hpp"

namespace kernel {

/// config_access through 0xCF8 and 0xCFC, by value.
using port_config = pt::pci::port_config_access<ports>;
inline port_config config() { return port_config{ports{}, pt::pci::config_latch::ours}; }

/// config_access through memory, by value. Firmware has turned it on.
using ecam_config = pt::pci::ecam_config_access<mmio>;
ecam_config ecam();

/// Turns memory decoding and bus mastering of a function on, and gives its registers: those of BAR
/// 0, which firmware has placed. errc::absent with the source id: no such function, or no such BAR.
pt::result<mmio> open_function(pt::pci::function_address function);

} // namespace kernel
