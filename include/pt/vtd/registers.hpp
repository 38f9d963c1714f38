// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

/// The registers of a remapping unit that legacy mode needs [vt-d, "Register Descriptions"]. The
/// type names are the manual's; its abbreviation stands in the comment.
namespace pt::vtd {

/// VER
struct version : reg<version, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00;
    static constexpr bits<7, 4, std::uint8_t, access::read_only> major{};
    static constexpr bits<3, 0, std::uint8_t, access::read_only> minor{};
    static constexpr field_list fields{major, minor};
};

/// CAP
struct capability : reg<capability, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x08;
    /// ESRTPS: setting the root table pointer invalidates the caches by itself.
    static constexpr bits<63, 63, bool, access::read_only> enhanced_set_root_table_pointer{};
    static constexpr bits<62, 62, bool, access::read_only> enhanced_set_interrupt_remap_pointer{};
    static constexpr bits<55, 55, bool, access::read_only> drain_reads{};
    static constexpr bits<54, 54, bool, access::read_only> drain_writes{};
    /// MAMV: the largest address mask of a page-selective invalidation.
    static constexpr bits<53, 48, std::uint8_t, access::read_only> maximum_address_mask{};
    /// NFR: fault recording registers, minus one.
    static constexpr bits<47, 40, std::uint8_t, access::read_only> fault_recording_registers{};
    static constexpr bits<39, 39, bool, access::read_only> page_selective_invalidation{};
    static constexpr bits<35, 35, bool, access::read_only> second_stage_1g{};
    static constexpr bits<34, 34, bool, access::read_only> second_stage_2m{};
    /// FRO: where the fault recording registers are, in units of 16 bytes.
    static constexpr bits<33, 24, std::uint16_t, access::read_only> fault_recording_offset{};
    static constexpr bits<22, 22, bool, access::read_only> zero_length_read{};
    /// MGAW: bits of the widest address a device may use, minus one.
    static constexpr bits<21, 16, std::uint8_t, access::read_only> maximum_guest_address_width{};
    /// SAGAW: bit 1 for 3 levels (39 bits), bit 2 for 4 (48), bit 3 for 5 (57).
    static constexpr bits<12, 8, std::uint8_t, access::read_only> supported_address_widths{};
    static constexpr bits<7, 7, bool, access::read_only> caching_mode{};
    static constexpr bits<6, 6, bool, access::read_only> protected_high_memory{};
    static constexpr bits<5, 5, bool, access::read_only> protected_low_memory{};
    static constexpr bits<4, 4, bool, access::read_only> required_write_buffer_flushing{};
    /// ND: domain ids have 4 + 2 * ND bits.
    static constexpr bits<2, 0, std::uint8_t, access::read_only> number_of_domains{};
    static constexpr field_list fields{enhanced_set_root_table_pointer,
                                       enhanced_set_interrupt_remap_pointer,
                                       drain_reads,
                                       drain_writes,
                                       maximum_address_mask,
                                       fault_recording_registers,
                                       page_selective_invalidation,
                                       second_stage_1g,
                                       second_stage_2m,
                                       fault_recording_offset,
                                       zero_length_read,
                                       maximum_guest_address_width,
                                       supported_address_widths,
                                       caching_mode,
                                       protected_high_memory,
                                       protected_low_memory,
                                       required_write_buffer_flushing,
                                       number_of_domains};
};

/// ECAP
struct extended_capability : reg<extended_capability, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x10;
    static constexpr bits<43, 43, bool, access::read_only> scalable_mode{};
    /// IRO: where IVA and the IOTLB register are, in units of 16 bytes.
    static constexpr bits<17, 8, std::uint16_t, access::read_only> iotlb_offset{};
    static constexpr bits<7, 7, bool, access::read_only> snoop_control{};
    static constexpr bits<6, 6, bool, access::read_only> pass_through{};
    static constexpr bits<4, 4, bool, access::read_only> extended_interrupt_mode{};
    static constexpr bits<3, 3, bool, access::read_only> interrupt_remapping{};
    static constexpr bits<2, 2, bool, access::read_only> device_tlb{};
    static constexpr bits<1, 1, bool, access::read_only> queued_invalidation{};
    /// C: the unit snoops the caches when it walks root, context and second-stage tables.
    static constexpr bits<0, 0, bool, access::read_only> page_walk_coherency{};
    static constexpr field_list fields{
        scalable_mode,           iotlb_offset,        snoop_control, pass_through,
        extended_interrupt_mode, interrupt_remapping, device_tlb,    queued_invalidation,
        page_walk_coherency};
};

/// GCMD: write-only. Bits that switch something stay as they are in GSTS; the others are orders
/// that the unit carries out once.
struct global_command : reg<global_command, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x18;
    static constexpr bits<31, 31, bool> translation_enable{};                // TE
    static constexpr bits<30, 30, bool> set_root_table_pointer{};            // SRTP, once
    static constexpr bits<29, 29, bool> set_fault_log{};                     // SFL, once
    static constexpr bits<28, 28, bool> enable_advanced_fault_logging{};     // EAFL
    static constexpr bits<27, 27, bool> write_buffer_flush{};                // WBF, once
    static constexpr bits<26, 26, bool> queued_invalidation_enable{};        // QIE
    static constexpr bits<25, 25, bool> interrupt_remapping_enable{};        // IRE
    static constexpr bits<24, 24, bool> set_interrupt_remap_table_pointer{}; // SIRTP, once
    static constexpr bits<23, 23, bool> compatibility_format_interrupt{};    // CFI
    static constexpr field_list fields{translation_enable,
                                       set_root_table_pointer,
                                       set_fault_log,
                                       enable_advanced_fault_logging,
                                       write_buffer_flush,
                                       queued_invalidation_enable,
                                       interrupt_remapping_enable,
                                       set_interrupt_remap_table_pointer,
                                       compatibility_format_interrupt};
};

/// GSTS: bit n tells how far the order in bit n of GCMD has come.
struct global_status : reg<global_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x1C;
    static constexpr bits<31, 31, bool, access::read_only> translation_enabled{};
    static constexpr bits<30, 30, bool, access::read_only> root_table_pointer{};
    static constexpr bits<29, 29, bool, access::read_only> fault_log{};
    static constexpr bits<28, 28, bool, access::read_only> advanced_fault_logging{};
    static constexpr bits<27, 27, bool, access::read_only> write_buffer_flush{};
    static constexpr bits<26, 26, bool, access::read_only> queued_invalidation_enabled{};
    static constexpr bits<25, 25, bool, access::read_only> interrupt_remapping_enabled{};
    static constexpr bits<24, 24, bool, access::read_only> interrupt_remap_table_pointer{};
    static constexpr bits<23, 23, bool, access::read_only> compatibility_format_interrupt{};
    static constexpr field_list fields{translation_enabled,
                                       root_table_pointer,
                                       fault_log,
                                       advanced_fault_logging,
                                       write_buffer_flush,
                                       queued_invalidation_enabled,
                                       interrupt_remapping_enabled,
                                       interrupt_remap_table_pointer,
                                       compatibility_format_interrupt};

    /// The bits that a write to GCMD must repeat for their state to stay; the orders that are
    /// carried out once are not among them (0x96FFFFFF in the manual).
    static constexpr std::uint32_t carried_over =
        ~(root_table_pointer.mask | fault_log.mask | write_buffer_flush.mask |
          interrupt_remap_table_pointer.mask);
    static_assert(carried_over == 0x96FF'FFFF);
};

/// RTADDR
struct root_table_address : reg<root_table_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x20;
    enum class mode : std::uint8_t { legacy = 0, scalable = 1, abort_dma = 3 };
    static constexpr bits<63, 12, hpa> table{};
    static constexpr bits<11, 10, mode> translation_table_mode{};
    static constexpr field_list fields{table, translation_table_mode};
};

/// How much an invalidation of the context cache covers, as it is asked for and as it was done.
enum class context_granularity : std::uint8_t { none = 0, global = 1, domain = 2, device = 3 };

/// CCMD
struct context_command : reg<context_command, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x28;
    static constexpr bits<63, 63, bool> invalidate{};                             // ICC
    static constexpr bits<62, 61, context_granularity> requested{};               // CIRG
    static constexpr bits<60, 59, context_granularity, access::read_only> done{}; // CAIG
    static constexpr bits<33, 32, std::uint8_t> function_mask{};                  // FM
    static constexpr bits<31, 16, std::uint16_t> source_id{};                     // SID
    static constexpr bits<15, 0, std::uint16_t> domain_id{};                      // DID
    static constexpr field_list fields{invalidate,    requested, done,
                                       function_mask, source_id, domain_id};
};

/// FSTS
struct fault_status : reg<fault_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x34;
    static constexpr bits<15, 8, std::uint8_t, access::read_only> fault_record_index{};    // FRI
    static constexpr bits<7, 7, bool, access::write_1_to_clear> page_request_overflow{};   // PRO
    static constexpr bits<6, 6, bool, access::write_1_to_clear> invalidation_time_out{};   // ITE
    static constexpr bits<5, 5, bool, access::write_1_to_clear> invalidation_completion{}; // ICE
    static constexpr bits<4, 4, bool, access::write_1_to_clear> invalidation_queue{};      // IQE
    static constexpr bits<3, 3, bool, access::write_1_to_clear> advanced_pending_fault{};  // APF
    static constexpr bits<2, 2, bool, access::write_1_to_clear> advanced_fault_overflow{}; // AFO
    static constexpr bits<1, 1, bool, access::read_only> primary_pending_fault{};          // PPF
    static constexpr bits<0, 0, bool, access::write_1_to_clear> primary_fault_overflow{};  // PFO
    static constexpr field_list fields{
        fault_record_index,      page_request_overflow, invalidation_time_out,
        invalidation_completion, invalidation_queue,    advanced_pending_fault,
        advanced_fault_overflow, primary_pending_fault, primary_fault_overflow};
};

/// How much an invalidation of the IOTLB covers, as it is asked for and as it was done.
enum class iotlb_granularity : std::uint8_t { none = 0, global = 1, domain = 2, page = 3 };

/// IVA, the address of a page-selective invalidation: at 16 * ECAP.IRO.
struct invalidate_address : reg<invalidate_address, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, iova> address{};
    /// IH: only leaves changed, caches of upper levels may stay.
    static constexpr bits<6, 6, bool> invalidation_hint{};
    /// AM: the invalidation covers 2^AM pages, aligned to as much.
    static constexpr bits<5, 0, std::uint8_t> address_mask{};
    static constexpr field_list fields{address, invalidation_hint, address_mask};
};

/// The IOTLB invalidate register: at 16 * ECAP.IRO + 8.
struct iotlb_invalidate : reg<iotlb_invalidate, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 63, bool> invalidate{};                           // IVT
    static constexpr bits<61, 60, iotlb_granularity> requested{};               // IIRG
    static constexpr bits<58, 57, iotlb_granularity, access::read_only> done{}; // IAIG
    static constexpr bits<49, 49, bool> drain_reads{};                          // DR
    static constexpr bits<48, 48, bool> drain_writes{};                         // DW
    static constexpr bits<47, 32, std::uint16_t> domain_id{};                   // DID
    static constexpr field_list fields{invalidate,  requested,    done,
                                       drain_reads, drain_writes, domain_id};
};

/// The lower half of a fault recording register (FRCD): at 16 * (CAP.FRO + index).
struct fault_record_low : reg<fault_record_low, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, iova, access::read_only> address{}; // FI
    static constexpr field_list fields{address};
};

/// The upper half of a fault recording register; its bits are 127:64 of the whole.
struct fault_record_high : reg<fault_record_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 63, bool, access::write_1_to_clear> fault{}; // F
    /// T1: 0 a write, 1 a read (or an AtomicOp, by T2)
    static constexpr bits<62, 62, bool, access::read_only> type_1{};
    static constexpr bits<61, 60, std::uint8_t, access::read_only> address_type{}; // AT
    static constexpr bits<59, 40, std::uint32_t, access::read_only> pasid{};       // PV
    static constexpr bits<39, 32, std::uint8_t, access::read_only> reason{};       // FR
    static constexpr bits<31, 31, bool, access::read_only> pasid_present{};        // PP
    static constexpr bits<30, 30, bool, access::read_only> execute{};              // EXE
    static constexpr bits<29, 29, bool, access::read_only> privileged{};           // PRIV
    static constexpr bits<28, 28, bool, access::read_only> type_2{};               // T2
    static constexpr bits<15, 0, std::uint16_t, access::read_only> source_id{};    // SID
    static constexpr field_list fields{fault,         type_1,  address_type, pasid,  reason,
                                       pasid_present, execute, privileged,   type_2, source_id};
};

} // namespace pt::vtd
