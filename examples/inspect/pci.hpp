// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "machine.hpp"
#include "output.hpp"

#include <string>

namespace inspect {

/// `pt-inspect pci`: all functions, for people and for programs.
std::string pci_text(const machine& all, const painter& paint);
std::string pci_json(const machine& all);

} // namespace inspect
