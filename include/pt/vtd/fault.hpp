// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd {

/// Why a request was blocked [vt-d, "Fault Conditions", "Interrupt Remapping Fault Conditions"].
/// The code in front of a group is the manual's for its conditions, numbered in order. Other values
/// may come from newer units.
enum class fault_reason : std::uint8_t {
    // Legacy mode: LRT, LCT, LSS, LGN
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

    // Interrupt requests
    interrupt_request_reserved_bits = 0x20,
    interrupt_index_beyond_table = 0x21,
    interrupt_entry_not_present = 0x22,
    interrupt_table_access_error = 0x23,
    interrupt_entry_reserved_bits = 0x24,
    compatibility_format_blocked = 0x25,
    interrupt_source_id_mismatch = 0x26,
    posted_descriptor_access_error = 0x27,
    posted_descriptor_reserved_bits = 0x28,
    interrupt_request_malformed = 0x29,
    extended_interrupt_mode_required = 0x2A,
    interrupt_remapping_required = 0x2B,

    // RTA: any mode
    root_table_mode_invalid = 0x30,
    pasid_in_legacy_mode = 0x31,
    page_request_in_legacy_mode = 0x32,
    abort_dma_mode = 0x33,
    execute_requested = 0x34,

    // SRT, SCT: scalable mode
    scalable_root_table_access_error = 0x38,
    scalable_root_entry_not_present = 0x39,
    scalable_root_entry_reserved_bits = 0x3A,
    scalable_context_table_access_error = 0x40,
    scalable_context_entry_not_present = 0x41,
    scalable_context_entry_reserved_bits = 0x42,
    scalable_context_entry_invalid = 0x43,
    device_tlb_not_enabled = 0x44,
    pasid_not_enabled = 0x45,
    pasid_beyond_directory = 0x46,
    page_request_not_enabled = 0x47,
    pasid_is_rid_pasid = 0x48,
    pasid_in_translated_request_not_enabled = 0x49,

    // SPD, SPT
    pasid_directory_access_error = 0x50,
    pasid_directory_entry_not_present = 0x51,
    pasid_directory_entry_reserved_bits = 0x52,
    pasid_table_access_error = 0x58,
    pasid_entry_not_present = 0x59,
    pasid_entry_reserved_bits = 0x5A,
    pasid_entry_invalid = 0x5B,
    execute_request_not_enabled = 0x5C,
    supervisor_request_not_enabled = 0x5D,
    address_beyond_host_permission_table = 0x60,

    // SFS
    first_stage_next_table_access_error = 0x70,
    first_stage_entry_not_present = 0x71,
    first_stage_entry_reserved_bits = 0x72,
    first_stage_top_table_access_error = 0x73,
    first_stage_table_beyond_width = 0x74,
    first_stage_top_table_read_not_permitted = 0x75,
    first_stage_table_read_not_permitted = 0x76,
    first_stage_table_write_not_permitted = 0x77,
    first_stage_update_without_snooping = 0x90,
    first_stage_update_failed = 0x91,

    // SSS
    second_stage_next_table_access_error = 0x78,
    second_stage_entry_not_present = 0x79,
    second_stage_entry_reserved_bits = 0x7A,
    second_stage_top_table_access_error = 0x7B,
    second_stage_update_without_snooping = 0x7C,
    second_stage_update_failed = 0x7D,

    // SGN
    address_not_canonical = 0x80,
    user_access_not_permitted = 0x81,
    execute_not_permitted = 0x82, ///< not in newer revisions
    address_beyond_host_width = 0x83,
    scalable_address_beyond_width = 0x84,
    scalable_write_not_permitted = 0x85,
    scalable_read_not_permitted = 0x86,
    scalable_output_in_interrupt_range = 0x87,
    pasid_beyond_supported_size = 0x89,

    // HPT: what a device already translated, checked against host permissions
    host_permission_next_table_access_error = 0xA0,
    host_permission_entry_reserved_bits = 0xA1,
    host_permission_top_table_access_error = 0xA2,
    host_permission_not_present = 0xA3,
    host_write_not_permitted = 0xA4,
    host_read_not_permitted = 0xA5,
};

/// What the reason means, in a few words.
[[nodiscard]] constexpr const char* name(fault_reason reason) {
    using enum fault_reason;
    // clang-format off
    switch (reason) {
    case root_entry_not_present: return "root entry not present";
    case context_entry_not_present: return "context entry not present";
    case context_entry_invalid: return "context entry invalid";
    case address_beyond_width: return "address beyond the width";
    case write_not_permitted: return "write not permitted";
    case read_not_permitted: return "read not permitted";
    case next_table_access_error: return "cannot access the next table";
    case root_table_access_error: return "cannot access the root table";
    case context_table_access_error: return "cannot access the context table";
    case root_entry_reserved_bits: return "reserved bits in the root entry";
    case context_entry_reserved_bits: return "reserved bits in the context entry";
    case table_entry_reserved_bits: return "reserved bits in a table entry";
    case translation_type_blocked: return "translation type blocked";
    case output_in_interrupt_range: return "output in the interrupt range";

    case interrupt_request_reserved_bits: return "reserved bits in the interrupt request";
    case interrupt_index_beyond_table: return "interrupt index beyond the table";
    case interrupt_entry_not_present: return "interrupt entry not present";
    case interrupt_table_access_error: return "cannot access the interrupt table";
    case interrupt_entry_reserved_bits: return "reserved bits in the interrupt entry";
    case compatibility_format_blocked: return "compatibility-format interrupt blocked";
    case interrupt_source_id_mismatch: return "interrupt entry of another source id";
    case posted_descriptor_access_error: return "cannot access the posted-interrupt descriptor";
    case posted_descriptor_reserved_bits: return "reserved bits in the posted-interrupt descriptor";
    case interrupt_request_malformed: return "no valid interrupt request";
    case extended_interrupt_mode_required: return "extended interrupt mode required, and not on";
    case interrupt_remapping_required: return "interrupt remapping required, and not on";

    case root_table_mode_invalid: return "translation table mode invalid";
    case pasid_in_legacy_mode: return "request with PASID in legacy mode";
    case page_request_in_legacy_mode: return "page request in legacy mode";
    case abort_dma_mode: return "blocked by abort-DMA mode";
    case execute_requested: return "execute requested";

    case scalable_root_table_access_error: return "cannot access the scalable-mode root table";
    case scalable_root_entry_not_present: return "scalable-mode root entry not present";
    case scalable_root_entry_reserved_bits: return "reserved bits in the scalable-mode root entry";
    case scalable_context_table_access_error:
        return "cannot access the scalable-mode context table";
    case scalable_context_entry_not_present: return "scalable-mode context entry not present";
    case scalable_context_entry_reserved_bits:
        return "reserved bits in the scalable-mode context entry";
    case scalable_context_entry_invalid: return "scalable-mode context entry invalid";
    case device_tlb_not_enabled: return "device TLB not enabled";
    case pasid_not_enabled: return "PASID not enabled";
    case pasid_beyond_directory: return "PASID beyond the directory";
    case page_request_not_enabled: return "page requests not enabled";
    case pasid_is_rid_pasid: return "PASID is that of requests without PASID";
    case pasid_in_translated_request_not_enabled:
        return "PASID in a translated request not enabled";

    case pasid_directory_access_error: return "cannot access the PASID directory";
    case pasid_directory_entry_not_present: return "PASID directory entry not present";
    case pasid_directory_entry_reserved_bits: return "reserved bits in the PASID directory entry";
    case pasid_table_access_error: return "cannot access the PASID table";
    case pasid_entry_not_present: return "PASID entry not present";
    case pasid_entry_reserved_bits: return "reserved bits in the PASID entry";
    case pasid_entry_invalid: return "PASID entry invalid";
    case execute_request_not_enabled: return "execute requests not enabled";
    case supervisor_request_not_enabled: return "supervisor requests not enabled";
    case address_beyond_host_permission_table: return "address beyond the host permission table";

    case first_stage_next_table_access_error: return "cannot access the next first-stage table";
    case first_stage_entry_not_present: return "first-stage entry not present";
    case first_stage_entry_reserved_bits: return "reserved bits in a first-stage entry";
    case first_stage_top_table_access_error: return "cannot access the top first-stage table";
    case first_stage_table_beyond_width: return "first-stage table beyond the width";
    case first_stage_top_table_read_not_permitted:
        return "top first-stage table: no read permission in the second stage";
    case first_stage_table_read_not_permitted:
        return "first-stage table: no read permission in the second stage";
    case first_stage_table_write_not_permitted:
        return "first-stage table: no write permission in the second stage";
    case first_stage_update_without_snooping:
        return "accessed or dirty flag due in a first-stage table that is not snooped";
    case first_stage_update_failed: return "cannot update a flag in a first-stage table";

    case second_stage_next_table_access_error: return "cannot access the next second-stage table";
    case second_stage_entry_not_present: return "second-stage entry not present";
    case second_stage_entry_reserved_bits: return "reserved bits in a second-stage entry";
    case second_stage_top_table_access_error: return "cannot access the top second-stage table";
    case second_stage_update_without_snooping:
        return "accessed or dirty flag due in a second-stage table that is not snooped";
    case second_stage_update_failed: return "cannot update a flag in a second-stage table";

    case address_not_canonical: return "address not canonical";
    case user_access_not_permitted: return "user access not permitted";
    case execute_not_permitted: return "execute not permitted";
    case address_beyond_host_width: return "address beyond the host address width";
    case scalable_address_beyond_width: return "address beyond the second-stage width";
    case scalable_write_not_permitted: return "write not permitted (scalable mode)";
    case scalable_read_not_permitted: return "read not permitted (scalable mode)";
    case scalable_output_in_interrupt_range: return "output in the interrupt range (scalable mode)";
    case pasid_beyond_supported_size: return "PASID beyond the supported size";

    case host_permission_next_table_access_error:
        return "cannot access the next host permission table";
    case host_permission_entry_reserved_bits: return "reserved bits in a host permission entry";
    case host_permission_top_table_access_error:
        return "cannot access the top host permission table";
    case host_permission_not_present: return "no host permission";
    case host_write_not_permitted: return "write not permitted by the host permission table";
    case host_read_not_permitted: return "read not permitted by the host permission table";
    }
    // clang-format on
    return "unknown fault reason";
}

/// What was blocked: a request for memory or for an interrupt. Unknown for a number that the manual
/// has not given a meaning.
enum class fault_kind : std::uint8_t { dma, interrupt, unknown };

[[nodiscard]] constexpr fault_kind kind_of(fault_reason reason) {
    struct {
        std::uint8_t first, last;
        fault_kind kind;
    } constexpr groups[]{
        {0x01, 0x0E, fault_kind::dma},       // legacy mode
        {0x20, 0x2B, fault_kind::interrupt}, // interrupt requests
        {0x30, 0x34, fault_kind::dma},       // RTA
        {0x38, 0x3A, fault_kind::dma},       // SRT
        {0x40, 0x49, fault_kind::dma},       // SCT
        {0x50, 0x52, fault_kind::dma},       // SPD
        {0x58, 0x5D, fault_kind::dma},       // SPT
        {0x60, 0x60, fault_kind::dma},       // SPT
        {0x70, 0x77, fault_kind::dma},       // SFS
        {0x78, 0x7D, fault_kind::dma},       // SSS
        {0x80, 0x87, fault_kind::dma},       // SGN
        {0x89, 0x89, fault_kind::dma},       // SGN
        {0x90, 0x91, fault_kind::dma},       // SFS
        {0xA0, 0xA5, fault_kind::dma},       // HPT
    };
    const auto code = static_cast<std::uint8_t>(reason);
    for (const auto& group : groups) {
        if (group.first <= code && code <= group.last) {
            return group.kind;
        }
    }
    return fault_kind::unknown;
}

/// A request that was blocked: whose, where it aimed, what it wanted, and why. What the manual
/// leaves undefined for a request of its kind is 0 here, whatever the unit wrote there.
struct fault_record {
    enum class request : std::uint8_t { write, read, page, atomic };
    /// AT: whether the device had translated the address itself.
    enum class address_type : std::uint8_t {
        untranslated,
        translation_request,
        translated,
        reserved
    };

    pci::function_address source;
    iova page;                     ///< the address, but for its lowest 12 bits; not for interrupts
    request type = request::write; ///< an interrupt request is a write
    fault_reason reason{};
    address_type address = address_type::untranslated;
    bool has_pasid = false; ///< the request had a PASID, and the next three say something
    std::uint32_t pasid = 0;
    bool execute = false;    ///< a read for execution
    bool privileged = false; ///< with supervisor privilege
    bool has_interrupt_index = false;
    std::uint16_t interrupt_index = 0; ///< of the interrupt remapping table's entry

    friend constexpr bool operator==(const fault_record&, const fault_record&) = default;

    /// From both halves of a fault recording register; `segment` is that of the unit.
    static constexpr fault_record decode(fault_record_low low, fault_record_high high,
                                         std::uint16_t segment = 0) {
        using record = fault_record_high;
        const auto reason = static_cast<fault_reason>(high[record::reason]);
        fault_record fault{
            .source = pci::function_address::from_source_id(high[record::source_id], segment),
            .page = {},
            .reason = reason};
        if (kind_of(reason) == fault_kind::interrupt) {
            fault.has_interrupt_index = knows_index(reason);
            if (fault.has_interrupt_index) {
                using of_interrupt = interrupt_fault_record_low;
                fault.interrupt_index = of_interrupt{low.raw}[of_interrupt::interrupt_index];
            }
            return fault;
        }
        const bool t1 = high[record::type_1];
        const bool t2 = high[record::type_2];
        fault.page = low[fault_record_low::address];
        fault.type =
            t2 ? (t1 ? request::atomic : request::page) : (t1 ? request::read : request::write);
        fault.address = static_cast<address_type>(high[record::address_type]);
        // QEMU 7.2 has ones in these fields where there is no PASID.
        fault.has_pasid = high[record::pasid_present];
        if (fault.has_pasid) {
            fault.pasid = high[record::pasid];
            fault.privileged = high[record::privileged];
            fault.execute = fault.type == request::read && high[record::execute];
        }
        return fault;
    }

private:
    /// Whether the unit had come so far as to compute an index.
    static constexpr bool knows_index(fault_reason reason) {
        return reason != fault_reason::interrupt_request_reserved_bits &&
               reason != fault_reason::compatibility_format_blocked &&
               reason != fault_reason::interrupt_request_malformed &&
               reason != fault_reason::extended_interrupt_mode_required &&
               reason != fault_reason::interrupt_remapping_required;
    }
};

} // namespace pt::vtd
