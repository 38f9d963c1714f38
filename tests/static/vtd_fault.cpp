// SPDX-License-Identifier: BSL-1.0
// The numbers of the fault reasons, written down a second time from the manual's tables of fault
// conditions; those of revision 3 are also in two public programs. Each stands beside the manual's
// own code for the condition.
#include "pt/vtd/event.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_limiter.hpp"
#include "pt/vtd/fault_log.hpp"

#include "pt/core/archetype.hpp"

#include <concepts>
#include <cstdint>

namespace {

using namespace pt::vtd;

constexpr bool is(fault_reason reason, unsigned code) {
    return static_cast<std::uint8_t>(reason) == code && kind_of(reason) == fault_kind::dma;
}
constexpr bool is_interrupt(fault_reason reason, unsigned code) {
    return static_cast<std::uint8_t>(reason) == code && kind_of(reason) == fault_kind::interrupt;
}

using enum fault_reason;
static_assert(is(root_table_access_error, 0x8));     // LRT.1
static_assert(is(root_entry_not_present, 0x1));      // LRT.2
static_assert(is(root_entry_reserved_bits, 0xA));    // LRT.3
static_assert(is(context_table_access_error, 0x9));  // LCT.1
static_assert(is(context_entry_not_present, 0x2));   // LCT.2
static_assert(is(context_entry_reserved_bits, 0xB)); // LCT.3
static_assert(is(context_entry_invalid, 0x3));       // LCT.4
static_assert(is(translation_type_blocked, 0xD));    // LCT.5
static_assert(is(next_table_access_error, 0x7));     // LSS.1
static_assert(is(table_entry_reserved_bits, 0xC));   // LSS.2
static_assert(is(address_beyond_width, 0x4));        // LGN.1
static_assert(is(write_not_permitted, 0x5));         // LGN.2
static_assert(is(read_not_permitted, 0x6));          // LGN.3
static_assert(is(output_in_interrupt_range, 0xE));   // LGN.4

static_assert(is_interrupt(interrupt_request_reserved_bits, 0x20));
static_assert(is_interrupt(interrupt_index_beyond_table, 0x21));
static_assert(is_interrupt(interrupt_entry_not_present, 0x22));
static_assert(is_interrupt(interrupt_table_access_error, 0x23));
static_assert(is_interrupt(interrupt_entry_reserved_bits, 0x24));
static_assert(is_interrupt(compatibility_format_blocked, 0x25));
static_assert(is_interrupt(interrupt_source_id_mismatch, 0x26));
static_assert(is_interrupt(posted_descriptor_access_error, 0x27));
static_assert(is_interrupt(posted_descriptor_reserved_bits, 0x28));
static_assert(is_interrupt(interrupt_request_malformed, 0x29));
static_assert(is_interrupt(extended_interrupt_mode_required, 0x2A));
static_assert(is_interrupt(interrupt_remapping_required, 0x2B));

static_assert(is(root_table_mode_invalid, 0x30));     // RTA.1
static_assert(is(pasid_in_legacy_mode, 0x31));        // RTA.2
static_assert(is(page_request_in_legacy_mode, 0x32)); // RTA.3
static_assert(is(abort_dma_mode, 0x33));              // RTA.4
static_assert(is(execute_requested, 0x34));           // RTA.5

static_assert(is(scalable_root_table_access_error, 0x38));        // SRT.1
static_assert(is(scalable_root_entry_not_present, 0x39));         // SRT.2
static_assert(is(scalable_root_entry_reserved_bits, 0x3A));       // SRT.3
static_assert(is(scalable_context_table_access_error, 0x40));     // SCT.1
static_assert(is(scalable_context_entry_not_present, 0x41));      // SCT.2
static_assert(is(scalable_context_entry_reserved_bits, 0x42));    // SCT.3
static_assert(is(scalable_context_entry_invalid, 0x43));          // SCT.4
static_assert(is(device_tlb_not_enabled, 0x44));                  // SCT.5
static_assert(is(pasid_not_enabled, 0x45));                       // SCT.6
static_assert(is(pasid_beyond_directory, 0x46));                  // SCT.7
static_assert(is(page_request_not_enabled, 0x47));                // SCT.8
static_assert(is(pasid_is_rid_pasid, 0x48));                      // SCT.9
static_assert(is(pasid_in_translated_request_not_enabled, 0x49)); // SCT.10
static_assert(is(pasid_directory_access_error, 0x50));            // SPD.1
static_assert(is(pasid_directory_entry_not_present, 0x51));       // SPD.2
static_assert(is(pasid_directory_entry_reserved_bits, 0x52));     // SPD.3
static_assert(is(pasid_table_access_error, 0x58));                // SPT.1
static_assert(is(pasid_entry_not_present, 0x59));                 // SPT.2
static_assert(is(pasid_entry_reserved_bits, 0x5A));               // SPT.3
static_assert(is(pasid_entry_invalid, 0x5B));                     // SPT.4
static_assert(is(execute_request_not_enabled, 0x5C));             // SPT.5
static_assert(is(supervisor_request_not_enabled, 0x5D));          // SPT.6
static_assert(is(address_beyond_host_permission_table, 0x60));    // SPT.9

static_assert(is(first_stage_next_table_access_error, 0x70));      // SFS.1
static_assert(is(first_stage_entry_not_present, 0x71));            // SFS.2
static_assert(is(first_stage_entry_reserved_bits, 0x72));          // SFS.3
static_assert(is(first_stage_top_table_access_error, 0x73));       // SFS.4
static_assert(is(first_stage_table_beyond_width, 0x74));           // SFS.5
static_assert(is(first_stage_top_table_read_not_permitted, 0x75)); // SFS.6
static_assert(is(first_stage_table_read_not_permitted, 0x76));     // SFS.7
static_assert(is(first_stage_table_write_not_permitted, 0x77));    // SFS.8
static_assert(is(first_stage_update_without_snooping, 0x90));      // SFS.9
static_assert(is(first_stage_update_failed, 0x91));                // SFS.10
static_assert(is(second_stage_next_table_access_error, 0x78));     // SSS.1
static_assert(is(second_stage_entry_not_present, 0x79));           // SSS.2
static_assert(is(second_stage_entry_reserved_bits, 0x7A));         // SSS.3
static_assert(is(second_stage_top_table_access_error, 0x7B));      // SSS.4
static_assert(is(second_stage_update_without_snooping, 0x7C));     // SSS.5
static_assert(is(second_stage_update_failed, 0x7D));               // SSS.6

static_assert(is(address_not_canonical, 0x80));              // SGN.1
static_assert(is(user_access_not_permitted, 0x81));          // SGN.2
static_assert(is(execute_not_permitted, 0x82));              // SGN.3, in older revisions
static_assert(is(address_beyond_host_width, 0x83));          // SGN.4
static_assert(is(scalable_address_beyond_width, 0x84));      // SGN.5
static_assert(is(scalable_write_not_permitted, 0x85));       // SGN.6
static_assert(is(scalable_read_not_permitted, 0x86));        // SGN.7
static_assert(is(scalable_output_in_interrupt_range, 0x87)); // SGN.8
static_assert(is(pasid_beyond_supported_size, 0x89));        // SGN.10

static_assert(is(host_permission_next_table_access_error, 0xA0)); // HPT.1
static_assert(is(host_permission_entry_reserved_bits, 0xA1));     // HPT.2
static_assert(is(host_permission_top_table_access_error, 0xA2));  // HPT.3
static_assert(is(host_permission_not_present, 0xA3));             // HPT.4
static_assert(is(host_write_not_permitted, 0xA4));                // HPT.5
static_assert(is(host_read_not_permitted, 0xA5));                 // HPT.6

constexpr bool unknown(unsigned first, unsigned last) {
    for (unsigned code = first; code <= last; ++code) {
        if (kind_of(static_cast<fault_reason>(code)) != fault_kind::unknown) {
            return false;
        }
    }
    return true;
}
static_assert(unknown(0x00, 0x00) && unknown(0x0F, 0x1F) && unknown(0x2C, 0x2F) &&
              unknown(0x35, 0x37) && unknown(0x3B, 0x3F) && unknown(0x4A, 0x4F) &&
              unknown(0x53, 0x57) && unknown(0x5E, 0x5F) && unknown(0x61, 0x6F) &&
              unknown(0x7E, 0x7F) && unknown(0x88, 0x88) && unknown(0x8A, 0x8F) &&
              unknown(0x92, 0x9F) && unknown(0xA6, 0xFF));

// The least policies are enough.
using archetype_window = register_window<pt::archetype::mmio_io, pt::archetype::clock>;
using archetype_log = fault_log<pt::archetype::mmio_io, pt::archetype::clock>;
static_assert(!std::copy_constructible<archetype_log> && std::move_constructible<archetype_log>);
[[maybe_unused]] void use(archetype_window window, fault_record& last) {
    archetype_log log{window};
    fault_limiter<pt::archetype::clock, 4> limiter{{}};
    log.drain(4, [&](const fault_record& fault) {
        if (limiter.admit(fault.source) == fault_verdict::report) {
            last = fault;
        }
    });
    (void)log.take_overflow();
    (void)program_event(window, unit_event::fault, interrupt_message::compatibility(0x40, 0));
    (void)is_event_pending(window, unit_event::fault);
}

} // namespace
