// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"

#include "guest_ram.hpp"

#include <cstdint>

namespace vmm::pc {

/// Where a guest has its memory, in pieces. Between the first two lies what a PC has for its display and its
/// option ROMs.
struct memory_layout {
    static constexpr std::uint32_t count = 3;
    /// What the guest finds in place of firmware: the VMM writes its tables there.
    static constexpr pt::range<pt::gpa> firmware{pt::gpa{0xE'0000}, 128 * pt::KiB};

    /// `end`: of the memory, above 1 MiB. `bytes` of each piece are still to be set.
    explicit constexpr memory_layout(std::uint64_t end)
        : pieces{{.at = {pt::gpa{0}, 640 * pt::KiB}},
                 {.at = firmware, .kind = memory_kind::reserved},
                 {.at = {pt::gpa{pt::MiB}, end - pt::MiB}}} {}

    [[nodiscard]] constexpr guest_ram ram() const { return {pieces, count}; }

    ram_piece pieces[count];
};

} // namespace vmm::pc
