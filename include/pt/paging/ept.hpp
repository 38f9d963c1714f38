// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/publication.hpp"

#include <cstdint>

/// Extended page tables: guest-physical to host-physical [sdm, "The Extended Page Table Mechanism"].
namespace pt::ept {

/// Memory types with their encodings in EPT entries and EPTP; 2, 3 and 7 are reserved.
enum class memory_type : std::uint8_t {
    uncacheable = 0,
    write_combining = 1,
    write_through = 4,
    write_protected = 5,
    write_back = 6,
};

/// IA32_VMX_EPT_VPID_CAP, MSR 0x48C.
struct capabilities : reg<capabilities, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool, access::read_only> execute_only{};
    static constexpr bits<6, 6, bool, access::read_only> walk_length_4{};
    static constexpr bits<7, 7, bool, access::read_only> walk_length_5{};
    static constexpr bits<8, 8, bool, access::read_only> structures_uncacheable{};
    static constexpr bits<14, 14, bool, access::read_only> structures_write_back{};
    static constexpr bits<16, 16, bool, access::read_only> pages_2m{};
    static constexpr bits<17, 17, bool, access::read_only> pages_1g{};
    static constexpr bits<20, 20, bool, access::read_only> invept{};
    static constexpr bits<21, 21, bool, access::read_only> accessed_dirty{};
    static constexpr bits<22, 22, bool, access::read_only> advanced_violation_information{};
    static constexpr bits<23, 23, bool, access::read_only> supervisor_shadow_stack{};
    static constexpr bits<25, 25, bool, access::read_only> invept_single_context{};
    static constexpr bits<26, 26, bool, access::read_only> invept_all_contexts{};
    static constexpr field_list fields{execute_only,
                                       walk_length_4,
                                       walk_length_5,
                                       structures_uncacheable,
                                       structures_write_back,
                                       pages_2m,
                                       pages_1g,
                                       invept,
                                       accessed_dirty,
                                       advanced_violation_information,
                                       supervisor_shadow_stack,
                                       invept_single_context,
                                       invept_all_contexts};
};

/// An entry that maps a page of 4 KiB, 2 MiB or 1 GiB.
struct leaf_entry : reg<leaf_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<2, 2, bool> execute{};
    static constexpr bits<5, 3, memory_type> type{};
    static constexpr bits<6, 6, bool> ignore_pat{};
    static constexpr bits<7, 7, bool> page{}; ///< must be 1 at levels 2 and 3, ignored at level 1
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<9, 9, bool> dirty{};
    static constexpr bits<10, 10, bool> user_execute{};
    static constexpr bits<51, 12, hpa> frame{};
    static constexpr bits<63, 63, bool> suppress_ve{};
    static constexpr field_list fields{read,     write, execute,      type,  ignore_pat, page,
                                       accessed, dirty, user_execute, frame, suppress_ve};
};

/// An entry that points to a table.
struct table_entry : reg<table_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<2, 2, bool> execute{};
    static constexpr bits<7, 7, bool> page{}; ///< 0: this is what tells it from a leaf
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<10, 10, bool> user_execute{};
    static constexpr bits<51, 12, hpa> table{};
    /// Minus one. Hardware ignores these bits; the engine counts in them.
    static constexpr bits<60, 52, std::uint16_t> live_entries{};
    static constexpr field_list fields{read,     write,        execute, page,
                                       accessed, user_execute, table,   live_entries};
};

/// EPTP, the EPT pointer of the VMCS.
struct pointer : reg<pointer, std::uint64_t> {
    using reg::reg;
    static constexpr bits<2, 0, memory_type> type{};         ///< of the tables: 0 or 6
    static constexpr bits<5, 3, std::uint8_t> walk_length{}; ///< levels minus one
    /// Not yet for tables of this engine: it changes entries without regard to flags that hardware
    /// sets in them meanwhile.
    static constexpr bits<6, 6, bool> accessed_dirty{};
    static constexpr bits<7, 7, bool> supervisor_shadow_stack{};
    static constexpr bits<51, 12, hpa> root{};
    static constexpr field_list fields{type, walk_length, accessed_dirty, supervisor_shadow_stack,
                                       root};
};

/// What the guest may do with a page, and how it is cached.
struct attributes {
    bool read = false;
    bool write = false;
    bool execute = false;
    memory_type type = memory_type::uncacheable;
    bool ignore_pat = false; ///< the guest's PAT does not take part in the memory type

    friend constexpr bool operator==(attributes, attributes) = default;
};

/// The guest's ordinary memory.
inline constexpr attributes ram{
    .read = true, .write = true, .execute = true, .type = memory_type::write_back};
/// The registers of a device that the guest drives itself.
inline constexpr attributes device_memory{
    .read = true, .write = true, .type = memory_type::uncacheable};

/// EPT with 4 levels, limited to what the processor reports.
class format {
public:
    using address = gpa;
    using attributes = ept::attributes;
    using default_publication = paging::coherent_publication; // EPT walks are coherent

    /// An entry that maps nothing still has suppress #VE set, so that an access to it stays a VM exit
    /// when a VMM turns #VE on.
    static constexpr std::uint64_t empty = leaf_entry::suppress_ve.mask;
    static constexpr std::uint64_t present_mask =
        leaf_entry::read.mask | leaf_entry::write.mask | leaf_entry::execute.mask;
    static constexpr std::uint64_t page_bit = leaf_entry::page.mask;

    /// `physical_width` is MAXPHYADDR: CPUID 80000008H, EAX bits 7:0. Above 52, which no processor
    /// reports, it counts as 52.
    constexpr format(capabilities reported, unsigned physical_width)
        : capabilities_{reported}, physical_width_{physical_width < 52 ? physical_width : 52} {}

    [[nodiscard]] constexpr unsigned levels() const { return 4; }
    [[nodiscard]] constexpr unsigned input_width() const { return 48; }
    [[nodiscard]] constexpr unsigned output_width() const { return physical_width_; }
    [[nodiscard]] constexpr paging::page_size largest_page() const {
        using enum paging::page_size;
        if (!capabilities_[capabilities::pages_2m]) {
            return size_4k;
        }
        return capabilities_[capabilities::pages_1g] ? size_1g : size_2m;
    }

    /// errc::not_supported for what the processor would answer with an EPT misconfiguration, and for
    /// no rights at all, which maps nothing.
    [[nodiscard]] constexpr result<void> check(attributes a) const {
        const bool execute_only = a.execute && !a.read;
        const auto type = static_cast<unsigned>(a.type);
        if ((!a.read && !a.execute) || (a.write && !a.read) ||
            (execute_only && !capabilities_[capabilities::execute_only]) || type == 2 ||
            type == 3 || type >= 7) {
            return error{errc::not_supported, leaf(hpa{0}, a, 1)};
        }
        return {};
    }
    [[nodiscard]] constexpr result<void> check(range<gpa>, hpa) const { return {}; }

    [[nodiscard]] constexpr std::uint64_t leaf(hpa frame, attributes a, unsigned level) const {
        return frame.raw | std::uint64_t{a.read} | std::uint64_t{a.write} << 1 |
               std::uint64_t{a.execute} << 2 | (std::uint64_t(a.type) & 7) << 3 |
               std::uint64_t{a.ignore_pat} << 6 | (level > 1 ? page_bit : 0) |
               leaf_entry::suppress_ve.mask;
    }
    [[nodiscard]] constexpr std::uint64_t table(hpa frame) const {
        return frame.raw | present_mask;
    }
    [[nodiscard]] constexpr attributes attributes_of(std::uint64_t entry) const {
        const leaf_entry e{entry};
        return {.read = e[leaf_entry::read],
                .write = e[leaf_entry::write],
                .execute = e[leaf_entry::execute],
                .type = e[leaf_entry::type],
                .ignore_pat = e[leaf_entry::ignore_pat]};
    }
    [[nodiscard]] constexpr std::uint64_t split(std::uint64_t entry, unsigned level) const {
        return level == 2 ? entry & ~page_bit : entry;
    }
    [[nodiscard]] constexpr bool stale_when_mapped() const { return false; }

    /// The EPTP for tables of this format: walked as write-back memory where the processor can.
    /// errc::not_supported when the processor has no 4-level walk or no usable memory type;
    /// errc::misaligned or errc::out_of_range for a root that is no frame.
    [[nodiscard]] constexpr result<pointer> eptp(hpa root) const {
        if (!root.is_aligned(4 * KiB)) {
            return error{errc::misaligned, root.raw};
        }
        if ((root.raw >> physical_width_) != 0) {
            return error{errc::out_of_range, root.raw};
        }
        const bool write_back = capabilities_[capabilities::structures_write_back];
        if (!capabilities_[capabilities::walk_length_4] ||
            !(write_back || capabilities_[capabilities::structures_uncacheable])) {
            return error{errc::not_supported, capabilities_.raw};
        }
        return pointer{
            pointer::type(write_back ? memory_type::write_back : memory_type::uncacheable),
            pointer::walk_length(static_cast<std::uint8_t>(levels() - 1)), pointer::root(root)};
    }

private:
    capabilities capabilities_;
    unsigned physical_width_;
};

static_assert(paging::entry_format<format>);

} // namespace pt::ept
