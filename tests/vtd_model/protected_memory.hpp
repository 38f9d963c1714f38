// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "invalidation.hpp"

#include <cstdint>

namespace vtd_model {

/// Protected memory regions [vt-d, "Protected Memory Enable Register"]: while translation is off
/// they keep every device out. While it is on they keep out what passes through untranslated, and
/// may or may not keep out the rest.
struct unit_protected_memory : unit_invalidation {
    using unit_invalidation::unit_invalidation;

    std::uint32_t pmen = 0;
    std::uint32_t plmbase = 0;
    std::uint32_t plmlimit = 0;
    std::uint64_t phmbase = 0;
    std::uint64_t phmlimit = 0;

    /// What the manual leaves open: whether translated requests are kept out as well.
    bool protects_from_translated = true;
    /// The address bits that the region registers have.
    std::uint64_t region_alignment = 0x20'0000;

    [[nodiscard]] constexpr bool is_protected(std::uint64_t address) const {
        if ((pmen & EPM) == 0 || (pmen & PROTECTED) == 0) {
            return false;
        }
        const std::uint64_t low = region_alignment - 1;
        return ((cap & cap_plmr) != 0 && address >= plmbase && address <= (plmlimit | low)) ||
               ((cap & cap_phmr) != 0 && address >= phmbase && address <= (phmlimit | low));
    }

protected:
    order protection;

    constexpr void write_protection(std::uint32_t value) {
        if ((cap & (cap_plmr | cap_phmr)) == 0) {
            memory->blame("PMEN written on a unit without protected memory regions");
        }
        if ((value & 0x7FFF'FFFE) != 0) {
            memory->blame("reserved bits of PMEN");
        }
        if (protection.active && !protection.stalled) {
            memory->blame("PMEN written before PRS followed the last change");
        }
        const bool differs = ((value ^ pmen) & EPM) != 0;
        pmen = (pmen & ~EPM) | (value & EPM);
        if (differs) {
            begin(protection, value);
            if (latency == 0) {
                poll_protection();
            }
        }
    }
    constexpr void poll_protection() {
        if (ripe(protection)) {
            settle_protection();
        }
    }
    constexpr void settle_protection() {
        pmen = (pmen & EPM) | ((pmen & EPM) != 0 ? PROTECTED : 0);
    }
    constexpr std::uint64_t region(std::uint64_t value) {
        if ((pmen & (EPM | PROTECTED)) != 0) {
            memory->blame("a protected memory region changed while it is in force");
        }
        return value & ~(region_alignment - 1);
    }
    constexpr void reset_protection() {
        pmen = plmbase = plmlimit = 0;
        phmbase = phmlimit = 0;
        protection = {};
    }
};

} // namespace vtd_model
