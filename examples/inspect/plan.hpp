// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "machine.hpp"
#include "output.hpp"

#include "pt/pci/function_address.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace inspect {

/// How much a finding matters.
enum class severity : std::uint8_t {
    condition, ///< safe only if the VMM sees to it
    unknown,   ///< the source does not tell
    no,        ///< cannot be done safely
};

struct finding {
    severity how = severity::condition;
    std::string id; ///< one word for programs
    std::string text;
};

/// A part of a BAR in the guest's memory.
struct memory_piece {
    bool trapped = false;
    std::uint8_t bar = 0;
    std::uint64_t offset = 0;
    std::uint64_t address = 0; ///< host-physical
    std::uint64_t size = 0;
    std::string why; ///< it is trapped
};

struct port_piece {
    std::uint8_t bar = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
};

/// How the function forgets its last owner.
enum class reset_method : std::uint8_t {
    function_level,    ///< by PCI Express
    advanced_features, ///< function level reset of conventional PCI
    power_management,  ///< D3hot and back to D0
    secondary_bus,     ///< by the bridge above, with all that is behind it
    none,
    unknown,
};

/// What passing one function through needs.
struct plan {
    const function_facts* function = nullptr;
    bool is_device = false; ///< else the findings say why not, and there is nothing else
    /// Those of the function, and the ranges of Enhanced Allocation that stand for one.
    std::vector<pt::pci::bar> bars;
    std::vector<pt::pci::function_address> requesters; ///< by which ids its DMA may arrive
    std::vector<memory_piece> memory;
    std::vector<port_piece> ports;
    reset_method reset = reset_method::unknown;
    std::vector<finding> findings;

    /// The worst of the findings: "yes" without any, "conditions", "unknown" or "no".
    [[nodiscard]] const char* verdict() const;
};

/// Throws a failure if there is no such function.
plan make_plan(const machine& all, const std::string& address);

std::string plan_text(const plan& made, const painter& paint);
std::string plan_json(const plan& made);

} // namespace inspect
