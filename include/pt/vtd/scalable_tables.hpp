// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"

#include <cstddef>
#include <cstdint>

/// The entries of scalable mode: root table by bus, two context tables for a bus, and for each
/// function a directory of tables by process address space id (PASID) [vt-d, "Scalable-Mode Root
/// Entry" to "Scalable-Mode PASID Table Entry"]. Their 64-bit words are registers of their own.
namespace pt::vtd {

/// Bits 63:0 of a scalable-mode root entry: devices 0 to 15 of the bus.
struct scalable_root_entry_low : reg<scalable_root_entry_low, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> lower_context_table{}; // LCTP
    static constexpr bits<0, 0, bool> lower_present{};        // LP
    static constexpr field_list fields{lower_context_table, lower_present};
};

/// Bits 127:64 of a scalable-mode root entry, numbered from 0: devices 16 to 31 of the bus.
struct scalable_root_entry_high : reg<scalable_root_entry_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> upper_context_table{}; // UCTP
    static constexpr bits<0, 0, bool> upper_present{};        // UP
    static constexpr field_list fields{upper_context_table, upper_present};
};

/// Bits 63:0 of a scalable-mode context entry.
struct scalable_context_entry_low : reg<scalable_context_entry_low, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> pasid_directory{}; // PASIDDIRPTR
    /// PDTS: the directory has 2^(n + 7) entries.
    static constexpr bits<11, 9, std::uint8_t> pasid_directory_size{};
    static constexpr bits<4, 4, bool> page_request_enable{}; // PRE
    static constexpr bits<3, 3, bool> pasid_enable{};        ///< PASIDE: requests may bring a PASID
    static constexpr bits<2, 2, bool> device_tlb_enable{};   // DTE
    /// FPD: of all PASIDs. It counts in an entry that is not present as well.
    static constexpr bits<1, 1, bool> fault_processing_disable{};
    static constexpr bits<0, 0, bool> present{}; // P
    static constexpr field_list fields{
        pasid_directory, pasid_directory_size, page_request_enable,
        pasid_enable,    device_tlb_enable,    fault_processing_disable,
        present};
};

/// Bits 127:64 of a scalable-mode context entry, numbered from 0. Bits 255:128 are reserved and
/// zero.
struct scalable_context_entry_high : reg<scalable_context_entry_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<20, 20, bool> rid_priv{}; ///< requests without PASID are privileged
    static constexpr bits<19, 0, std::uint32_t> rid_pasid{}; ///< the PASID of requests without one
    static constexpr field_list fields{rid_priv, rid_pasid};
};

/// What is said of a function in scalable mode; the rest is in its PASID tables.
struct scalable_context_entry {
    scalable_context_entry_low low;
    scalable_context_entry_high high;

    friend constexpr bool operator==(const scalable_context_entry&,
                                     const scalable_context_entry&) = default;
};

/// An entry of a PASID directory: the table of 64 PASIDs.
struct pasid_directory_entry : reg<pasid_directory_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> pasid_table{};             // SMPTBLPTR
    static constexpr bits<1, 1, bool> fault_processing_disable{}; // FPD
    static constexpr bits<0, 0, bool> present{};                  // P
    static constexpr field_list fields{pasid_table, fault_processing_disable, present};
};

/// What a PASID's requests are put through: PGTT, the PASID granular translation type.
enum class pasid_translation_type : std::uint8_t {
    first_stage = 1,
    second_stage = 2,
    nested = 3, ///< first stage, whose every address goes through the second stage
    pass_through = 4,
};

/// Bits 63:0 of a PASID table entry.
struct pasid_entry_63_0 : reg<pasid_entry_63_0, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, hpa> second_stage_table{};                // SSPTPTR
    static constexpr bits<9, 9, bool> second_stage_access_dirty_enable{};   // SSADE
    static constexpr bits<8, 6, pasid_translation_type> translation_type{}; // PGTT
    static constexpr bits<4, 2, std::uint8_t>
        address_width{}; ///< AW: second-stage levels minus two
    static constexpr bits<1, 1, bool> fault_processing_disable{}; // FPD
    static constexpr bits<0, 0, bool> present{};                  // P
    static constexpr field_list fields{second_stage_table,       second_stage_access_dirty_enable,
                                       translation_type,         address_width,
                                       fault_processing_disable, present};
};

/// Bits 127:64 of a PASID table entry, numbered from 0. Memory types are for units with ECAP.MTS;
/// the later revisions reserve EMT, PWT and PCD.
struct pasid_entry_127_64 : reg<pasid_entry_127_64, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 32, std::uint32_t> page_attribute_table{}; // PAT
    static constexpr bits<31, 31, bool> page_level_cache_disable{};      // PCD
    static constexpr bits<30, 30, bool> page_level_write_through{};      // PWT
    static constexpr bits<29, 27, std::uint8_t> extended_memory_type{};  // EMT
    static constexpr bits<26, 26, bool> extended_memory_type_enable{};   // EMTE
    static constexpr bits<25, 25, bool> cache_disable{};                 // CD
    static constexpr bits<24, 24, bool> page_snoop{};                    // PGSNP
    static constexpr bits<23, 23, bool> page_walk_snoop{};               // PWSNP
    static constexpr bits<15, 0, std::uint16_t> domain_id{};             // DID
    static constexpr field_list fields{page_attribute_table,
                                       page_level_cache_disable,
                                       page_level_write_through,
                                       extended_memory_type,
                                       extended_memory_type_enable,
                                       cache_disable,
                                       page_snoop,
                                       page_walk_snoop,
                                       domain_id};
};

/// Bits 191:128 of a PASID table entry, numbered from 0. Bits 511:192 are reserved and zero.
struct pasid_entry_191_128 : reg<pasid_entry_191_128, std::uint64_t> {
    using reg::reg;
    enum class paging_mode : std::uint8_t { levels_4 = 0, levels_5 = 1 };
    /// FSPTPTR: of a nested entry a guest-physical address.
    static constexpr bits<63, 12, std::uint64_t> first_stage_table_frame{};
    static constexpr bits<7, 7, bool> extended_accessed_flag_enable{};      // EAFE
    static constexpr bits<6, 6, bool> supervisor_mode_execute_prevention{}; // SMEP
    static constexpr bits<5, 5, bool> no_execute_enable{};                  // NXE
    static constexpr bits<4, 4, bool> write_protect_enable{};               // WPE
    static constexpr bits<3, 2, paging_mode> first_stage_paging_mode{};     // FSPM
    static constexpr bits<1, 1, bool> execute_request_enable{};             // ERE
    static constexpr bits<0, 0, bool> supervisor_request_enable{};          // SRE
    static constexpr field_list fields{
        first_stage_table_frame, extended_accessed_flag_enable, supervisor_mode_execute_prevention,
        no_execute_enable,       write_protect_enable,          first_stage_paging_mode,
        execute_request_enable,  supervisor_request_enable};
};

/// A PASID table entry: 512 bits, of which these say something.
struct pasid_entry {
    pasid_entry_63_0 bits_63_0;
    pasid_entry_127_64 bits_127_64;
    pasid_entry_191_128 bits_191_128;

    friend constexpr bool operator==(const pasid_entry&, const pasid_entry&) = default;
};

/// In 64-bit words.
inline constexpr std::size_t words_per_context_entry = 2;
inline constexpr std::size_t words_per_scalable_context_entry = 4;
inline constexpr std::size_t words_per_pasid_entry = 8;
inline constexpr std::size_t entries_per_pasid_table = 64;

} // namespace pt::vtd
