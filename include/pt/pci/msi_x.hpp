// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

namespace pt::pci {

/// Message Control of the MSI-X capability, 2 bytes into it [pci].
struct msi_x_message_control : reg<msi_x_message_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    // clang-format off
    static constexpr bits<15, 15, bool>                             enable{};
    static constexpr bits<14, 14, bool>                             function_mask{};
    static constexpr bits<10,  0, std::uint16_t, access::read_only> table_size{}; ///< minus one
    // clang-format on
    static constexpr field_list fields{enable, function_mask, table_size};
};

/// Where a structure of MSI-X lies: the dword 4 (table) or 8 (PBA) bytes into the capability.
struct msi_x_location : reg<msi_x_location, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t table_in_capability = 4;
    static constexpr std::uint16_t pba_in_capability = 8;

    /// In units of 8 bytes: the dword without its three low bits is the offset in bytes.
    static constexpr bits<31, 3, std::uint32_t, access::read_only> offset_in_qwords{};
    static constexpr bits<2, 0, std::uint8_t, access::read_only> bar_indicator{}; ///< BIR
    static constexpr field_list fields{offset_in_qwords, bar_indicator};
};

/// A part of a BAR, in bytes.
struct bar_part {
    std::uint8_t bar = 0; ///< index of its (first) Base Address register
    std::uint64_t offset = 0;
    std::uint64_t size = 0;

    friend constexpr bool operator==(const bar_part&, const bar_part&) = default;
};

/// Where the function keeps its MSI-X table and pending bits. A guest must not reach these pages by
/// itself: the table decides which interrupt is requested of the host. Nothing says that the parts
/// lie inside their BARs, or that the BARs exist: ask bar_of.
struct msi_x_layout {
    std::uint16_t vectors = 0; ///< 1..2048
    bar_part table;            ///< 16 bytes a vector
    bar_part pending_bits;     ///< PBA: one bit a vector, in whole qwords

    friend constexpr bool operator==(const msi_x_layout&, const msi_x_layout&) = default;
};

/// errc::absent when the function has no MSI-X; errc::malformed with the offset of the location whose
/// BAR indicator is reserved (6 and 7), or of a capability that runs past the end of the first 256
/// bytes.
template <config_access Config>
[[nodiscard]] constexpr result<msi_x_layout> read_msi_x(Config config, function_address function) {
    const auto found = capabilities(config, function).find(capability_id::msi_x, 12);
    if (!found) {
        return found.error();
    }
    const auto at = [&](unsigned bytes) {
        return static_cast<std::uint16_t>(found->offset + bytes);
    };
    const auto control = read<msi_x_message_control>(config, function, *found);
    msi_x_layout layout;
    layout.vectors = static_cast<std::uint16_t>(control[msi_x_message_control::table_size] + 1);

    const auto locate = [&](std::uint16_t where, std::uint64_t size) -> result<bar_part> {
        const msi_x_location location{config.read(function, at(where), width::dword)};
        const std::uint8_t bar = location[msi_x_location::bar_indicator];
        if (bar > 5) {
            return error{errc::malformed, at(where)};
        }
        return bar_part{bar, std::uint64_t{location[msi_x_location::offset_in_qwords]} * 8, size};
    };
    const auto table =
        locate(msi_x_location::table_in_capability, std::uint64_t{layout.vectors} * 16);
    if (!table) {
        return table.error();
    }
    const auto pending = locate(msi_x_location::pba_in_capability, (layout.vectors + 63U) / 64 * 8);
    if (!pending) {
        return pending.error();
    }
    layout.table = *table;
    layout.pending_bits = *pending;
    return layout;
}

/// The BAR that the part lies in, of those that were sized. errc::absent with the index when no BAR
/// for memory begins in that register; errc::out_of_range with the part's offset when it runs past
/// the end of the BAR.
[[nodiscard]] constexpr result<bar> bar_of(const bar_part& part, const bar_list& sized) {
    const auto found = sized.find(part.bar);
    if (!found || found->kind == bar_kind::io || found->kind == bar_kind::rom) {
        return error{errc::absent, part.bar};
    }
    if (part.size > found->size || part.offset > found->size - part.size) {
        return error{errc::out_of_range, part.offset};
    }
    return found;
}

} // namespace pt::pci
