// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/capability.hpp"

#include <cstdint>

namespace pt::pci {

/// Which capabilities a guest is shown of an assigned function. The others are taken out of the
/// list, and their registers read 0.
///
/// The usual ones: power management, MSI, MSI-X, PCI Express and Advanced Features, which the view
/// emulates in part or as a whole; vendor-specific ones, SATA's and the serial number, which the
/// guest may read. Not among them is what would give a guest power over the host: vital product data
/// (a write reaches an EEPROM), SR-IOV, ATS, PASID, page requests, access control, error reporting,
/// resizable BARs, enhanced allocation.
class shown_capabilities {
public:
    constexpr shown_capabilities() = default;

    /// The same, and that one too. Of a capability that the view does not know the guest reads the
    /// device's registers, up to where the next one begins, and writes none.
    [[nodiscard]] constexpr shown_capabilities with(capability_id id) const {
        shown_capabilities changed = *this;
        changed.standard_ |= bit(id);
        return changed;
    }
    [[nodiscard]] constexpr shown_capabilities with(extended_capability_id id) const {
        shown_capabilities changed = *this;
        changed.extended_ |= bit(id);
        return changed;
    }
    /// The same without that one.
    [[nodiscard]] constexpr shown_capabilities without(capability_id id) const {
        shown_capabilities changed = *this;
        changed.standard_ &= ~bit(id);
        return changed;
    }
    [[nodiscard]] constexpr shown_capabilities without(extended_capability_id id) const {
        shown_capabilities changed = *this;
        changed.extended_ &= ~bit(id);
        return changed;
    }

    [[nodiscard]] constexpr bool contains(capability_id id) const {
        return (standard_ & bit(id)) != 0;
    }
    [[nodiscard]] constexpr bool contains(extended_capability_id id) const {
        return (extended_ & bit(id)) != 0;
    }

    friend constexpr bool operator==(const shown_capabilities&,
                                     const shown_capabilities&) = default;

private:
    /// Numbers that the manuals have not given yet are never shown.
    static constexpr std::uint64_t bit(unsigned id) { return id < 64 ? std::uint64_t{1} << id : 0; }
    static constexpr std::uint64_t bit(capability_id id) { return bit(static_cast<unsigned>(id)); }
    static constexpr std::uint64_t bit(extended_capability_id id) {
        return bit(static_cast<unsigned>(id));
    }

    std::uint64_t standard_ = bit(capability_id::power_management) | bit(capability_id::msi) |
                              bit(capability_id::vendor_specific) |
                              bit(capability_id::pci_express) | bit(capability_id::msi_x) |
                              bit(capability_id::sata) | bit(capability_id::advanced_features);
    std::uint64_t extended_ = bit(extended_capability_id::device_serial_number) |
                              bit(extended_capability_id::vendor_specific);
};

} // namespace pt::pci
