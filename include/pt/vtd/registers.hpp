// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstdint>

/// The registers of a remapping unit [vt-d, "Register Descriptions"] but for those of its own
/// interrupts (event.hpp), of memory types, performance monitoring, enhanced and virtual commands.
/// The type names are the manual's; its abbreviation stands in the comment. Bits that no field
/// names are reserved: a register that is changed keeps them, one that is composed has them 0.
namespace pt::vtd {

/// VER
struct version : reg<version, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00;
    static constexpr bits<7, 4, std::uint8_t, access::read_only> major{};
    static constexpr bits<3, 0, std::uint8_t, access::read_only> minor{};
    static constexpr field_list fields{major, minor};
};

/// CAP: what the unit can do.
struct capability : reg<capability, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x08;
    /// ESRTPS: setting the root table pointer invalidates the caches by itself.
    static constexpr bits<63, 63, bool, access::read_only> enhanced_set_root_table_pointer{};
    /// ESIRTPS: so does setting the interrupt remapping table pointer.
    static constexpr bits<62, 62, bool, access::read_only> enhanced_set_interrupt_remap_pointer{};
    static constexpr bits<61, 61, bool, access::read_only> enhanced_command{};           // ECMDS
    static constexpr bits<60, 60, bool, access::read_only> first_stage_5_level_paging{}; // FS5LP
    static constexpr bits<59, 59, bool, access::read_only> posted_interrupts{};          // PI
    static constexpr bits<56, 56, bool, access::read_only> first_stage_1g{};             // FS1GP
    static constexpr bits<55, 55, bool, access::read_only> drain_reads{};                // DRD
    static constexpr bits<54, 54, bool, access::read_only> drain_writes{};               // DWD
    /// MAMV: the largest address mask of a page-selective invalidation.
    static constexpr bits<53, 48, std::uint8_t, access::read_only> maximum_address_mask{};
    /// NFR: fault recording registers, minus one.
    static constexpr bits<47, 40, std::uint8_t, access::read_only> fault_recording_registers{};
    static constexpr bits<39, 39, bool, access::read_only> page_selective_invalidation{}; // PSI
    static constexpr bits<35, 35, bool, access::read_only> second_stage_1g{};             // SSLPS
    static constexpr bits<34, 34, bool, access::read_only> second_stage_2m{};             // SSLPS
    /// FRO: where the fault recording registers are, in units of 16 bytes.
    static constexpr bits<33, 24, std::uint16_t, access::read_only> fault_recording_offset{};
    /// ZLR: a read of no bytes may go to a page that is only for writing.
    static constexpr bits<22, 22, bool, access::read_only> zero_length_read{};
    /// MGAW: bits of the widest address a device may use, minus one.
    static constexpr bits<21, 16, std::uint8_t, access::read_only> maximum_guest_address_width{};
    /// SAGAW: bit 1 for 3 levels (39 bits), bit 2 for 4 (48), bit 3 for 5 (57).
    static constexpr bits<12, 8, std::uint8_t, access::read_only> supported_address_widths{};
    static constexpr bits<7, 7, bool, access::read_only> caching_mode{};                   // CM
    static constexpr bits<6, 6, bool, access::read_only> protected_high_memory{};          // PHMR
    static constexpr bits<5, 5, bool, access::read_only> protected_low_memory{};           // PLMR
    static constexpr bits<4, 4, bool, access::read_only> required_write_buffer_flushing{}; // RWBF
    /// AFL: reserved in newer revisions.
    static constexpr bits<3, 3, bool, access::read_only> advanced_fault_logging{};
    /// ND: domain ids have 4 + 2 * ND bits.
    static constexpr bits<2, 0, std::uint8_t, access::read_only> number_of_domains{};
    static constexpr field_list fields{enhanced_set_root_table_pointer,
                                       enhanced_set_interrupt_remap_pointer,
                                       enhanced_command,
                                       first_stage_5_level_paging,
                                       posted_interrupts,
                                       first_stage_1g,
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
                                       advanced_fault_logging,
                                       number_of_domains};
};

/// ECAP: what else it can do.
struct extended_capability : reg<extended_capability, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x10;
    /// IRREQ: MSIs are blocked, not passed, while interrupt remapping is off.
    static constexpr bits<62, 62, bool, access::read_only> interrupt_remapping_required{};
    /// EIMER: extended interrupt mode is the only one.
    static constexpr bits<61, 61, bool, access::read_only> extended_interrupt_mode_required{};
    static constexpr bits<60, 60, bool, access::read_only> rdt_configuration{};           // RDTS
    static constexpr bits<59, 59, bool, access::read_only> host_permission_1g{};          // HPT1GPS
    static constexpr bits<58, 58, bool, access::read_only> stop_marker{};                 // SMS
    static constexpr bits<57, 57, bool, access::read_only> second_stage_io_read_write{};  // SSIRWS
    static constexpr bits<56, 56, bool, access::read_only> pasid_in_translated_request{}; // PTRS
    static constexpr bits<55, 55, bool, access::read_only> host_permission_table{};       // HPTS
    static constexpr bits<53, 53, bool, access::read_only> rid_priv{};                    // RPRIVS
    static constexpr bits<52, 52, bool, access::read_only> abort_dma_mode{};              // ADMS
    static constexpr bits<51, 51, bool, access::read_only> performance_monitoring{};      // PMS
    static constexpr bits<50, 50, bool, access::read_only> tdx_connect{};                 // TDXCS
    static constexpr bits<49, 49, bool, access::read_only> rid_pasid{};                   // RPS
    /// SMPWCS: the unit can snoop the caches when it walks tables that a PASID entry points to.
    static constexpr bits<48, 48, bool, access::read_only> scalable_mode_page_walk_coherency{};
    static constexpr bits<47, 47, bool, access::read_only> first_stage_translation{};     // FSTS
    static constexpr bits<46, 46, bool, access::read_only> second_stage_translation{};    // SSTS
    static constexpr bits<45, 45, bool, access::read_only> second_stage_accessed_dirty{}; // SSADS
    static constexpr bits<44, 44, bool, access::read_only> virtual_command{};             // VCS
    static constexpr bits<43, 43, bool, access::read_only> scalable_mode{};               // SMTS
    static constexpr bits<42, 42, bool, access::read_only> page_request_drain{};          // PDS
    /// DIT
    static constexpr bits<41, 41, bool, access::read_only> device_tlb_invalidation_throttle{};
    static constexpr bits<40, 40, bool, access::read_only> pasid{}; // PASID
    /// PSS: bits of a PASID, minus one.
    static constexpr bits<39, 35, std::uint8_t, access::read_only> pasid_size{};
    static constexpr bits<34, 34, bool, access::read_only> extended_accessed_flag{}; // EAFS
    static constexpr bits<33, 33, bool, access::read_only> no_write_flag{};          // NWFS
    static constexpr bits<31, 31, bool, access::read_only> supervisor_request{};     // SRS
    static constexpr bits<30, 30, bool, access::read_only> execute_request{};        // ERS
    static constexpr bits<29, 29, bool, access::read_only> page_request{};           // PRS
    static constexpr bits<26, 26, bool, access::read_only> nested_translation{};     // NEST
    static constexpr bits<25, 25, bool, access::read_only> memory_type{};            // MTS
    /// MHMV: the largest index mask of an invalidation of interrupt entries.
    static constexpr bits<23, 20, std::uint8_t, access::read_only> maximum_handle_mask{};
    /// IRO: where IVA and the IOTLB register are, in units of 16 bytes.
    static constexpr bits<17, 8, std::uint16_t, access::read_only> iotlb_offset{};
    static constexpr bits<7, 7, bool, access::read_only> snoop_control{}; // SC
    static constexpr bits<6, 6, bool, access::read_only> pass_through{};  // PT
    /// EIM: x2APIC ids, of 32 bits.
    static constexpr bits<4, 4, bool, access::read_only> extended_interrupt_mode{};
    static constexpr bits<3, 3, bool, access::read_only> interrupt_remapping{}; // IR
    static constexpr bits<2, 2, bool, access::read_only> device_tlb{};          // DT
    static constexpr bits<1, 1, bool, access::read_only> queued_invalidation{}; // QI
    /// C: the unit snoops the caches when it walks root, context and second-stage tables.
    static constexpr bits<0, 0, bool, access::read_only> page_walk_coherency{};
    static constexpr field_list fields{interrupt_remapping_required,
                                       extended_interrupt_mode_required,
                                       rdt_configuration,
                                       host_permission_1g,
                                       stop_marker,
                                       second_stage_io_read_write,
                                       pasid_in_translated_request,
                                       host_permission_table,
                                       rid_priv,
                                       abort_dma_mode,
                                       performance_monitoring,
                                       tdx_connect,
                                       rid_pasid,
                                       scalable_mode_page_walk_coherency,
                                       first_stage_translation,
                                       second_stage_translation,
                                       second_stage_accessed_dirty,
                                       virtual_command,
                                       scalable_mode,
                                       page_request_drain,
                                       device_tlb_invalidation_throttle,
                                       pasid,
                                       pasid_size,
                                       extended_accessed_flag,
                                       no_write_flag,
                                       supervisor_request,
                                       execute_request,
                                       page_request,
                                       nested_translation,
                                       memory_type,
                                       maximum_handle_mask,
                                       iotlb_offset,
                                       snoop_control,
                                       pass_through,
                                       extended_interrupt_mode,
                                       interrupt_remapping,
                                       device_tlb,
                                       queued_invalidation,
                                       page_walk_coherency};
};

/// GCMD. Bits that switch something stay as they are in GSTS; the others are orders
/// that the unit carries out once.
struct global_command : reg<global_command, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x18;
    // clang-format off
    static constexpr bits<31, 31, bool, access::write_only> translation_enable{};                // TE
    static constexpr bits<30, 30, bool, access::write_only> set_root_table_pointer{};            // SRTP, once
    static constexpr bits<29, 29, bool, access::write_only> set_fault_log{};                     // SFL, once
    static constexpr bits<28, 28, bool, access::write_only> enable_advanced_fault_logging{};     // EAFL
    static constexpr bits<27, 27, bool, access::write_only> write_buffer_flush{};                // WBF, once
    static constexpr bits<26, 26, bool, access::write_only> queued_invalidation_enable{};        // QIE
    static constexpr bits<25, 25, bool, access::write_only> interrupt_remapping_enable{};        // IRE
    static constexpr bits<24, 24, bool, access::write_only> set_interrupt_remap_table_pointer{}; // SIRTP, once
    static constexpr bits<23, 23, bool, access::write_only> compatibility_format_interrupt{};    // CFI
    // clang-format on
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
    static constexpr bits<11, 10, mode> translation_table_mode{};          // TTM
    static constexpr bits<7, 7, bool> second_stage_io_read_write_enable{}; // SSIRWE
    static constexpr field_list fields{table, translation_table_mode,
                                       second_stage_io_read_write_enable};
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

/// FSTS. The bits that tell of an error are the log's (PFO) and the invalidation queue's (IQE, ICE,
/// ITE): whoever clears one writes that one alone.
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

/// The same half where an interrupt request was blocked.
struct interrupt_fault_record_low : reg<interrupt_fault_record_low, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 48, std::uint16_t, access::read_only> interrupt_index{}; // FI
    static constexpr field_list fields{interrupt_index};
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

/// AFLOG: where the fault log of advanced fault logging lies in memory. Gone from newer revisions.
struct advanced_fault_log : reg<advanced_fault_log, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x58;
    static constexpr bits<63, 12, hpa> log{};          // FLA
    static constexpr bits<11, 9, std::uint8_t> size{}; // FLS: log2 of 4-KiB pages
    static constexpr field_list fields{log, size};
};

/// PMEN: memory that devices may not touch, whatever the tables say. The four registers that follow
/// must not change while it is on.
struct protected_memory_enable : reg<protected_memory_enable, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x64;
    static constexpr bits<31, 31, bool> enable{};                   // EPM
    static constexpr bits<0, 0, bool, access::read_only> enabled{}; // PRS
    static constexpr field_list fields{enable, enabled};
};

/// PLMBASE: the first byte of the protected region below 4 GiB. How many of the low bits are there
/// at all is the unit's choice; the others read 0 and count as 0.
struct protected_low_memory_base : reg<protected_low_memory_base, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x68;
    static constexpr bits<31, 0, hpa> base{};
    static constexpr field_list fields{base};
};

/// PLMLIMIT: its last byte. Bits that are not there read 0 and count as 1. Below the base: no
/// region.
struct protected_low_memory_limit : reg<protected_low_memory_limit, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x6C;
    static constexpr bits<31, 0, hpa> limit{};
    static constexpr field_list fields{limit};
};

/// PHMBASE: the first byte of the other protected region, anywhere in memory; see PLMBASE.
struct protected_high_memory_base : reg<protected_high_memory_base, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x70;
    static constexpr bits<63, 0, hpa> base{};
    static constexpr field_list fields{base};
};

/// PHMLIMIT: its last byte; see PLMLIMIT.
struct protected_high_memory_limit : reg<protected_high_memory_limit, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x78;
    static constexpr bits<63, 0, hpa> limit{};
    static constexpr field_list fields{limit};
};

struct queue_space;
/// A place in one of the unit's queues, in bytes from its start: a multiple of the descriptor's
/// size, which is 16 or 32 bytes.
using queue_offset = address<queue_space, std::uint32_t>;

/// IQH: the descriptor that the unit takes next.
struct invalidation_queue_head : reg<invalidation_queue_head, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x80;
    static constexpr bits<18, 4, queue_offset, access::read_only> head{}; // QH
    static constexpr field_list fields{head};
};

/// IQT: where software puts the next descriptor. With 32-byte descriptors, bit 4 must be 0.
struct invalidation_queue_tail : reg<invalidation_queue_tail, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x88;
    static constexpr bits<18, 4, queue_offset> tail{}; // QT
    static constexpr field_list fields{tail};
};

/// IQA: where the invalidation queue is. It has 2^size pages of 4 KiB.
struct invalidation_queue_address : reg<invalidation_queue_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x90;
    enum class width : std::uint8_t { descriptor_128 = 0, descriptor_256 = 1 };
    static constexpr bits<63, 12, hpa> queue{};              // IQA
    static constexpr bits<11, 11, width> descriptor_width{}; // DW
    static constexpr bits<2, 0, std::uint8_t> size{};        // QS
    static constexpr field_list fields{queue, descriptor_width, size};
};

/// ICS
struct invalidation_completion_status : reg<invalidation_completion_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x9C;
    /// IWC: a wait descriptor that asked for an interrupt is done.
    static constexpr bits<0, 0, bool, access::write_1_to_clear> wait_completed{};
    static constexpr field_list fields{wait_completed};
};

/// What the unit did not like about its invalidation queue. Other values are undefined.
enum class invalidation_queue_error : std::uint8_t {
    not_available = 0, ///< an older unit does not say
    tail_invalid = 1,
    fetch_failed = 2,
    descriptor_type_invalid = 3,
    descriptor_reserved_bits = 4,
    descriptor_width_invalid = 5,
    tail_misaligned = 6,
    table_mode_invalid = 7, ///< RTADDR names a translation table mode that does not exist
};

/// IQERCD: more about the errors in FSTS. Each field means something while its bit there is set; an
/// older unit leaves all of them 0.
struct invalidation_queue_error_record : reg<invalidation_queue_error_record, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xB0;
    /// ICESID: whose completion it was (ICE).
    static constexpr bits<63, 48, std::uint16_t, access::read_only> completion_source_id{};
    /// ITESID: who did not answer (ITE).
    static constexpr bits<47, 32, std::uint16_t, access::read_only> time_out_source_id{};
    /// IQEI: why the queue stopped (IQE).
    static constexpr bits<3, 0, invalidation_queue_error, access::read_only> queue_error{};
    static constexpr field_list fields{completion_source_id, time_out_source_id, queue_error};
};

/// IRTA: where the interrupt remapping table is; takes effect with SIRTP. It has 2^(size + 1)
/// entries.
struct interrupt_remapping_table_address : reg<interrupt_remapping_table_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xB8;
    static constexpr bits<63, 12, hpa> table{};                           // IRTA
    static constexpr bits<11, 11, bool> extended_interrupt_mode_enable{}; // EIME
    static constexpr bits<3, 0, std::uint8_t> size{};                     // S
    static constexpr field_list fields{table, extended_interrupt_mode_enable, size};
};

/// PQH: the page request that software takes next.
struct page_request_queue_head : reg<page_request_queue_head, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xC0;
    static constexpr bits<18, 5, queue_offset> head{};
    static constexpr field_list fields{head};
};

/// PQT: where the unit puts the next one. Software writes it before page requests are enabled.
struct page_request_queue_tail : reg<page_request_queue_tail, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xC8;
    static constexpr bits<18, 5, queue_offset> tail{};
    static constexpr field_list fields{tail};
};

/// PQA: where the page request queue is. It has 2^size pages of 4 KiB.
struct page_request_queue_address : reg<page_request_queue_address, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xD0;
    static constexpr bits<63, 12, hpa> queue{};       // PQA
    static constexpr bits<2, 0, std::uint8_t> size{}; // PQS
    static constexpr field_list fields{queue, size};
};

/// PRS
struct page_request_status : reg<page_request_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0xDC;
    static constexpr bits<1, 1, bool, access::write_1_to_clear> overflow{}; // PRO
    static constexpr bits<0, 0, bool, access::write_1_to_clear> pending{};  // PPR
    static constexpr field_list fields{overflow, pending};
};

} // namespace pt::vtd
