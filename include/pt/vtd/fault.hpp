// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd {

/// Why a request was blocked, for legacy mode [vt-d, "Fault Conditions"]. Other values of the
/// 8-bit field belong to scalable mode and interrupt remapping.
enum class fault_reason : std::uint8_t {
    root_entry_not_present = 0x1,
    context_entry_not_present = 0x2,
    context_entry_invalid = 0x3,
    address_beyond_width = 0x4,
    write_not_permitted = 0x5,
    read_not_permitted = 0x6,
    next_table_access_error = 0x7,
    root_table_access_error = 0x8,
    context_table_access_error = 0x9,
    root_entry_reserved_bits = 0xA,
    context_entry_reserved_bits = 0xB,
    table_entry_reserved_bits = 0xC,
    translation_type_blocked = 0xD,
    output_in_interrupt_range = 0xE,
};

/// What the reason means, in a few words.
[[nodiscard]] constexpr const char* name(fault_reason reason) {
    switch (reason) {
    case fault_reason::root_entry_not_present: return "root entry not present";
    case fault_reason::context_entry_not_present: return "context entry not present";
    case fault_reason::context_entry_invalid: return "context entry invalid";
    case fault_reason::address_beyond_width: return "address beyond the width";
    case fault_reason::write_not_permitted: return "write not permitted";
    case fault_reason::read_not_permitted: return "read not permitted";
    case fault_reason::next_table_access_error: return "cannot access the next table";
    case fault_reason::root_table_access_error: return "cannot access the root table";
    case fault_reason::context_table_access_error: return "cannot access the context table";
    case fault_reason::root_entry_reserved_bits: return "reserved bits in the root entry";
    case fault_reason::context_entry_reserved_bits: return "reserved bits in the context entry";
    case fault_reason::table_entry_reserved_bits: return "reserved bits in a table entry";
    case fault_reason::translation_type_blocked: return "translation type blocked";
    case fault_reason::output_in_interrupt_range: return "output in the interrupt range";
    }
    return "not a fault of legacy DMA remapping";
}

/// A request that was blocked: whose, where it aimed (the page), what it wanted, and why.
struct fault_record {
    enum class request : std::uint8_t { write, read, page, atomic };

    pci::function_address source;
    iova page;
    request type = request::write;
    fault_reason reason{};

    friend constexpr bool operator==(const fault_record&, const fault_record&) = default;

    /// From both halves of a fault recording register; `segment` is that of the unit.
    static constexpr fault_record decode(fault_record_low low, fault_record_high high,
                                         std::uint16_t segment = 0) {
        using record = fault_record_high;
        const bool t1 = high[record::type_1];
        const bool t2 = high[record::type_2];
        return {.source = pci::function_address::from_source_id(high[record::source_id], segment),
                .page = low[fault_record_low::address],
                .type = t2 ? (t1 ? request::atomic : request::page)
                           : (t1 ? request::read : request::write),
                .reason = static_cast<fault_reason>(high[record::reason])};
    }
};

} // namespace pt::vtd
