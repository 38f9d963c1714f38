// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/header.hpp"
#include "pt/vtd/dmar.hpp"

#include <cstdint>
#include <string>

/// What numbers are called.
namespace inspect {

/// The kind of device that a class code stands for.
std::string class_name(pt::pci::class_code code);
std::string name_of(pt::pci::capability_id id);
std::string name_of(pt::pci::extended_capability_id id);
const char* name_of(pt::pci::bar_kind kind);
std::string name_of(pt::pci::header_layout layout);
std::string name_of(pt::vtd::device_scope_type type);

} // namespace inspect
