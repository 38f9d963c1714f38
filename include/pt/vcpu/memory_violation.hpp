// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"

#include <cstdint>

namespace pt::vcpu {

/// An access of the guest that its second-stage tables (EPT, nested page tables) do not allow.
struct memory_violation {
    gpa address{};
    /// The guest read data, or a walk of the guest's own page tables read an entry.
    bool read = false;
    /// The guest wrote data, or a walk sets accessed and dirty flags. VMX may say `read` and `write`
    /// for a read-modify-write; SVM then says `write` alone.
    bool write = false;
    /// The guest fetched an instruction.
    bool execute = false;
    /// Something is mapped at `address`, and does not allow this. Otherwise nothing is: a hole, a
    /// device that the VMM plays, or memory that it has not given yet.
    bool mapped = false;
    /// The access was to the memory that a linear address stands for. Otherwise it was to one of the
    /// guest's own page-table entries on the way there, and no emulation of the guest's instruction
    /// performs it.
    bool final_translation = true;
    /// No instruction of the guest did this (trace output, user-interrupt delivery): there is nothing
    /// to emulate. Never with SVM.
    bool asynchronous = false;
    bool has_linear_address = false; ///< never with SVM, and with VMX not for every access
    std::uint64_t linear_address = 0;

    friend constexpr bool operator==(const memory_violation&, const memory_violation&) = default;
};

} // namespace pt::vcpu
