// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

/// The entries of legacy mode: root table by bus, context table by device and function
/// [vt-d, "Root Entry", "Context Entry"]. Each has 128 bits; the halves are registers of their own.
namespace pt::vtd {

/// Bits 63:0 of a root entry. Bits 127:64 are reserved and zero.
struct root_entry : reg<root_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> context_table{}; // CTP
    static constexpr bits<0, 0, bool> present{};        // P
    static constexpr field_list fields{context_table, present};
};

/// Bits 63:0 of a context entry.
struct context_entry_low : reg<context_entry_low, std::uint64_t> {
    using reg::reg;
    enum class type : std::uint8_t {
        untranslated_only = 0, ///< translate; what the device translated itself is blocked
        with_device_tlb = 1,   ///< translate, and serve the device's own translation cache
        pass_through = 2,      ///< do not translate
    };
    static constexpr bits<63, 12, hpa> second_stage_table{}; // SSPTPTR
    static constexpr bits<3, 2, type> translation_type{};    // TT
    /// FPD: what is blocked is not recorded. It counts in an entry that is not present as well.
    static constexpr bits<1, 1, bool> fault_processing_disable{};
    static constexpr bits<0, 0, bool> present{}; // P
    static constexpr field_list fields{second_stage_table, translation_type,
                                       fault_processing_disable, present};
};

/// Bits 127:64 of a context entry, numbered from 0.
struct context_entry_high : reg<context_entry_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<23, 8, std::uint16_t> domain_id{};   // DID
    static constexpr bits<6, 3, std::uint8_t> ignored{};       ///< hardware does not look at them
    static constexpr bits<2, 0, std::uint8_t> address_width{}; ///< AW: levels minus two
    static constexpr field_list fields{domain_id, ignored, address_width};
};

/// What a function's requests are put through in legacy mode.
struct context_entry {
    context_entry_low low;
    context_entry_high high;

    friend constexpr bool operator==(const context_entry&, const context_entry&) = default;
};

} // namespace pt::vtd
