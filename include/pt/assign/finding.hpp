// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/ownership.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/interrupt_entry.hpp"

#include <cstdint>

namespace pt::assign {

/// What the isolation audit finds. `explain` says each in one line.
enum class finding_kind : std::uint8_t {
    // of what was to be audited against
    disordered_list, ///< a list of the ownership is not ascending: nothing of it was audited

    // of pages: EPT, nested tables, a device's tables
    malformed_tables,       ///< the tables are no tree, or hardware refuses an entry; see `tables`
    page_not_owned,         ///< reachable, and nothing there is the guest's
    page_elsewhere,         ///< the guest's, and mapped to another place than its own
    page_missing,           ///< the guest's, and not mapped
    page_trapped,           ///< mapped, where every access must exit; see `use`
    page_excess_rights,     ///< more may be done than the guest may do; see `rights`
    page_lacking_rights,    ///< less may be done; see `rights`
    page_processors_only,   ///< devices reach what is for the guest's processors alone
    registers_cached,       ///< a function's registers are mapped as memory that caches keep
    interrupt_range_mapped, ///< a device's tables map 0xFEE00000..0xFEEFFFFF, or lead there
    table_frame_reachable,  ///< a frame that holds tables (or whatever else must not be reached)

    // of ports
    port_not_owned,     ///< open, and not the guest's
    port_not_forwarded, ///< open, and the guest's is to be forwarded to another port
    port_closed,        ///< the guest's, to be open, and closed
    config_port_open,   ///< 0xCF8..0xCFF: the configuration space of every function
    port_wrap_open,     ///< an access that runs past port 0xFFFF is not intercepted

    // of functions, by root table, context tables and PASID tables
    function_unreadable,   ///< a table that decides about these functions cannot be read; `tables`
    function_malformed,    ///< an entry whose translation type is reserved
    function_missing,      ///< the guest's, and blocked: it has no entry that is present
    function_pass_through, ///< the guest's, and it reaches all of host memory
    function_elsewhere,    ///< the guest's, and put through tables that are not
    function_wrong_levels, ///< the guest's tables, walked with another number of levels
    function_wrong_domain, ///< the guest's tables under another domain id
    function_device_tlb,   ///< may send translated requests, which are not checked
    function_not_owned,    ///< not the guest's, and put through its tables
    domain_id_shared,      ///< not the guest's; other tables under the guest's domain id

    // of interrupt remapping entries
    vector_missing,      ///< the guest's, and not present
    vector_malformed,    ///< the guest's, and hardware refuses it
    vector_elsewhere,    ///< the guest's, and leads elsewhere
    vector_wrong_source, ///< the guest's, and serves somebody else than its function
    vector_any_source,   ///< any device can use it, whoever owns it
    vector_posted,       ///< posts into a descriptor that is not the guest's
    vector_not_owned,    ///< serves a function of the guest, and is not the guest's

    // of what no table can show
    dma_not_isolated,        ///< no unit translates what the guest's functions read and write
    interrupts_not_isolated, ///< the guest's functions can raise any vector of the host

    // between guests
    shared, ///< two guests own the same; see `what`
};

/// The name of the kind as it is written in `finding_kind`.
[[nodiscard]] constexpr const char* name(finding_kind kind) {
    using enum finding_kind;
    switch (kind) {
    case disordered_list: return "disordered_list";
    case malformed_tables: return "malformed_tables";
    case page_not_owned: return "page_not_owned";
    case page_elsewhere: return "page_elsewhere";
    case page_missing: return "page_missing";
    case page_trapped: return "page_trapped";
    case page_excess_rights: return "page_excess_rights";
    case page_lacking_rights: return "page_lacking_rights";
    case page_processors_only: return "page_processors_only";
    case registers_cached: return "registers_cached";
    case interrupt_range_mapped: return "interrupt_range_mapped";
    case table_frame_reachable: return "table_frame_reachable";
    case port_not_owned: return "port_not_owned";
    case port_not_forwarded: return "port_not_forwarded";
    case port_closed: return "port_closed";
    case config_port_open: return "config_port_open";
    case port_wrap_open: return "port_wrap_open";
    case function_unreadable: return "function_unreadable";
    case function_malformed: return "function_malformed";
    case function_missing: return "function_missing";
    case function_pass_through: return "function_pass_through";
    case function_elsewhere: return "function_elsewhere";
    case function_wrong_levels: return "function_wrong_levels";
    case function_wrong_domain: return "function_wrong_domain";
    case function_device_tlb: return "function_device_tlb";
    case function_not_owned: return "function_not_owned";
    case domain_id_shared: return "domain_id_shared";
    case vector_missing: return "vector_missing";
    case vector_malformed: return "vector_malformed";
    case vector_elsewhere: return "vector_elsewhere";
    case vector_wrong_source: return "vector_wrong_source";
    case vector_any_source: return "vector_any_source";
    case vector_posted: return "vector_posted";
    case vector_not_owned: return "vector_not_owned";
    case dma_not_isolated: return "dma_not_isolated";
    case interrupts_not_isolated: return "interrupts_not_isolated";
    case shared: return "shared";
    }
    return "unknown";
}

/// Whose tables a finding about pages is from.
enum class table_kind : std::uint8_t { ept, nested_paging, second_stage, first_stage };

/// What a list of an ownership holds, and what two guests may not share.
enum class owned_resource : std::uint8_t {
    pages,           ///< host pages
    ports,           ///< host ports
    functions,       ///< functions, as segment and source id
    domain_ids,      ///< domain ids of a unit
    table_roots,     ///< frames of root tables
    interrupt_entry, ///< entries of a unit's interrupt remapping table
    host_vector,     ///< a vector at one destination: bits 39:8 destination id, 7:0 vector
    descriptors,     ///< posted-interrupt descriptors
};

/// Where a remapped interrupt goes, as far as a finding tells.
struct vector_target {
    std::uint8_t vector = 0;
    std::uint32_t destination_id = 0;
    vtd::interrupt_delivery delivery_mode = vtd::interrupt_delivery::fixed;

    friend constexpr bool operator==(const vector_target&, const vector_target&) = default;
};

/// One thing that is wrong, or a row of neighbours of which all is wrong in the same way. Which
/// members say something depends on the kind.
struct finding {
    /// `pasid` of requests without one.
    static constexpr std::uint32_t no_pasid = ~std::uint32_t{0};

    finding_kind kind = finding_kind::disordered_list;
    table_kind stage = table_kind::ept;          ///< of pages: whose tables
    owned_resource what = owned_resource::pages; ///< of disordered_list and shared
    std::uint16_t guest = 0;                     ///< whose isolation is meant
    std::uint16_t other = 0;                     ///< of shared: the other guest
    /// What is wrong, both ends inclusive: input addresses (gpa or iova) in bytes, ports, source ids,
    /// indices of interrupt remapping entries; what is shared, as `what` says; of disordered_list
    /// the index in the list.
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    /// hpa: where `first` leads; of functions the root of their tables; of malformed_tables and
    /// function_unreadable the table; of vectors the posted-interrupt descriptor.
    std::uint64_t host = 0;
    /// Where `first` should lead: hpa, or host port. Of wrong levels and domain ids the right one.
    std::uint64_t expected = 0;
    std::uint64_t found = 0; ///< the wrong number of levels, or the wrong or shared domain id
    /// Whether the neighbours lead to places that do not lie one behind the other.
    bool scattered = false;
    page_rights rights{};             ///< of excess and lacking rights: which
    page_use use = page_use::memory;  ///< of page_trapped: what is there
    paging::finding_kind tables{};    ///< of malformed_tables and function_unreadable
    paging::entry_defect defect{};    ///< of a refused entry in malformed_tables
    pci::function_address function{}; ///< of functions: the first; of vectors: whom it serves
    std::uint32_t pasid = no_pasid;   ///< of functions: the lowest with that finding
    std::uint16_t unit = 0;           ///< of functions and vectors: the remapping unit
    vector_target to{};               ///< of vectors: where it leads
    vector_target expected_to{};      ///< of vector_elsewhere: where it should

    friend constexpr bool operator==(const finding&, const finding&) = default;
};

/// A function object that is called with each finding.
template <class R>
concept finding_report = requires(R&& report, const finding& found) {
    report(found);
};

/// What an audit went through, and how much it found. Sums of them say the same of several audits.
struct audit_summary {
    std::uint64_t findings = 0; ///< how often the report was called
    std::uint64_t tables = 0;   ///< frames that were read as tables
    std::uint64_t leaves = 0;   ///< pages of any size, or entries of functions or interrupts

    [[nodiscard]] constexpr bool clean() const { return findings == 0; }
    constexpr audit_summary& operator+=(const audit_summary& other) {
        findings += other.findings;
        tables += other.tables;
        leaves += other.leaves;
        return *this;
    }

    friend constexpr bool operator==(const audit_summary&, const audit_summary&) = default;
};

} // namespace pt::assign
