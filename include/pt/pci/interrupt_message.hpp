// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::pci {

/// The memory write by which a function requests an interrupt, by MSI or MSI-X [pci]. One that a
/// guest wants is as it is: the address need not be that of a local APIC.
struct interrupt_message {
    std::uint64_t address = 0;
    std::uint32_t data = 0;

    friend constexpr bool operator==(const interrupt_message&, const interrupt_message&) = default;
};

} // namespace pt::pci
