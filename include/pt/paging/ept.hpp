// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
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
    static constexpr bits<32, 32, bool, access::read_only> invvpid{};
    static constexpr bits<40, 40, bool, access::read_only> invvpid_individual_address{};
    static constexpr bits<41, 41, bool, access::read_only> invvpid_single_context{};
    static constexpr bits<42, 42, bool, access::read_only> invvpid_all_contexts{};
    static constexpr bits<43, 43, bool, access::read_only> invvpid_retaining_globals{};
    static constexpr bits<53, 48, std::uint8_t, access::read_only> hlat_prefix_size{};
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
                                       invept_all_contexts,
                                       invvpid,
                                       invvpid_individual_address,
                                       invvpid_single_context,
                                       invvpid_all_contexts,
                                       invvpid_retaining_globals,
                                       hlat_prefix_size};
};

/// An entry that maps a page of 4 KiB, 2 MiB or 1 GiB. What bits 8, 9, 10, 57, 58, 60, 61 and 63 say
/// counts only with the control in EPTP or the VMCS that `options` names; without it they are
/// ignored.
struct leaf_entry : reg<leaf_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<2, 2, bool> execute{}; ///< in supervisor mode, with mode-based execute
    static constexpr bits<5, 3, memory_type> type{};
    static constexpr bits<6, 6, bool> ignore_pat{};
    static constexpr bits<7, 7, bool> page{}; ///< must be 1 at levels 2 and 3, ignored at level 1
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<9, 9, bool> dirty{};
    static constexpr bits<10, 10, bool> user_execute{};
    static constexpr bits<51, 12, hpa> frame{};
    static constexpr bits<57, 57, bool> verify_guest_paging{};
    static constexpr bits<58, 58, bool> paging_write{};
    static constexpr bits<60, 60, bool> supervisor_shadow_stack{};
    static constexpr bits<61, 61, bool> sub_page_write_permissions{}; ///< at level 1 only
    static constexpr bits<63, 63, bool> suppress_ve{};
    static constexpr field_list fields{read,
                                       write,
                                       execute,
                                       type,
                                       ignore_pat,
                                       page,
                                       accessed,
                                       dirty,
                                       user_execute,
                                       frame,
                                       verify_guest_paging,
                                       paging_write,
                                       supervisor_shadow_stack,
                                       sub_page_write_permissions,
                                       suppress_ve};
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
    /// How many entries of that table are in use. Hardware ignores these bits; the engine counts.
    static constexpr bits<61, 52, std::uint16_t> live_entries{};
    static constexpr field_list fields{read,     write,        execute, page,
                                       accessed, user_execute, table,   live_entries};
};

/// EPTP, the EPT pointer of the VMCS.
struct pointer : reg<pointer, std::uint64_t> {
    using reg::reg;
    static constexpr bits<2, 0, memory_type> type{};         ///< of the tables: 0 or 6
    static constexpr bits<5, 3, std::uint8_t> walk_length{}; ///< levels minus one
    static constexpr bits<6, 6, bool> accessed_dirty{};      ///< hardware sets both flags
    static constexpr bits<7, 7, bool> supervisor_shadow_stack{};
    static constexpr bits<51, 12, hpa> root{};
    static constexpr field_list fields{type, walk_length, accessed_dirty, supervisor_shadow_stack,
                                       root};
};

/// What the guest may do with a page, and how it is cached.
struct attributes {
    bool read = false;
    bool write = false;
    /// Instruction fetches in supervisor mode; without mode-based execute control, all of them.
    bool execute = false;
    memory_type type = memory_type::uncacheable;
    bool ignore_pat = false; ///< the guest's PAT does not take part in the memory type
    /// Instruction fetches in user mode. Like `execute` unless it is said, so that what was written
    /// for one right means both where there are two. Without mode-based execute control the
    /// processor cannot tell them apart, and another value than that of `execute` is refused.
    bool user_execute = execute;
    /// The guest's translations that lead here must be made of pages with `paging_write`.
    bool verify_guest_paging = false;
    bool paging_write = false; ///< guest page walks may set flags here whatever `write` says
    bool supervisor_shadow_stack = false; ///< supervisor shadow-stack accesses are allowed
    /// Without `write`: some 128-byte parts may be written, by the sub-page permission table.
    bool sub_page_write_permissions = false;
    bool suppress_ve = true; ///< an EPT violation here exits; it never becomes #VE in the guest

    friend constexpr bool operator==(attributes, attributes) = default;
};

/// The guest's ordinary memory.
inline constexpr attributes ram{
    .read = true, .write = true, .execute = true, .type = memory_type::write_back};
/// The registers of a device that the guest drives itself.
inline constexpr attributes device_memory{
    .read = true, .write = true, .type = memory_type::uncacheable};

/// What the VMM turns on in EPTP and in the VM-execution controls. The format must know, because
/// each of these gives a meaning to bits that are otherwise ignored.
struct options {
    unsigned levels = 4;                     ///< 4 or 5
    bool accessed_dirty = false;             ///< EPTP bit 6
    bool mode_based_execute = false;         ///< "mode-based execute control for EPT"
    bool supervisor_shadow_stack = false;    ///< EPTP bit 7
    bool sub_page_write_permissions = false; ///< "sub-page write permissions for EPT"
    bool guest_paging_verification = false;  ///< "guest-paging verification"
    bool paging_write = false;               ///< "EPT paging-write control"
};

/// EPT with 4 or 5 levels, limited to what the processor reports.
class format {
public:
    using address = gpa;
    using attributes = ept::attributes;
    using default_publication = paging::coherent_publication; // EPT walks are coherent

    /// An entry that maps nothing still has suppress #VE set, so that an access to it stays a VM exit
    /// when a VMM turns #VE on.
    static constexpr std::uint64_t empty = leaf_entry::suppress_ve.mask;
    /// Bit 10 counts only with mode-based execute control; without, no leaf of ours has it alone.
    static constexpr std::uint64_t present_mask = leaf_entry::read.mask | leaf_entry::write.mask |
                                                  leaf_entry::execute.mask |
                                                  leaf_entry::user_execute.mask;
    static constexpr std::uint64_t page_bit = leaf_entry::page.mask;
    static constexpr std::uint64_t accessed_mask = leaf_entry::accessed.mask;
    static constexpr std::uint64_t dirty_mask = leaf_entry::dirty.mask;
    static constexpr bool write_needs_read = true;

    /// `physical_width` is MAXPHYADDR: CPUID 80000008H, EAX bits 7:0. Above 52, which no processor
    /// reports, it counts as 52.
    constexpr format(capabilities reported, unsigned physical_width, options enabled = {})
        : capabilities_{reported},
          physical_width_{physical_width < 52 ? physical_width : 52},
          options_{enabled} {
        expects(enabled.levels == 4 || enabled.levels == 5, "EPT has 4 or 5 levels");
    }

    [[nodiscard]] constexpr unsigned levels() const { return options_.levels; }
    [[nodiscard]] constexpr unsigned input_width() const { return 12 + 9 * options_.levels; }
    [[nodiscard]] constexpr unsigned output_width() const { return physical_width_; }
    /// Sub-page write permissions exist for 4-KiB pages only.
    [[nodiscard]] constexpr paging::page_size largest_page(attributes a) const {
        using enum paging::page_size;
        if (a.sub_page_write_permissions || !capabilities_[capabilities::pages_2m]) {
            return size_4k;
        }
        return capabilities_[capabilities::pages_1g] ? size_1g : size_2m;
    }

    /// errc::not_supported for what the processor would answer with an EPT misconfiguration, for no
    /// rights at all, which maps nothing, and for attributes whose control is off. `where` is the
    /// leaf for frame 0.
    [[gnu::always_inline]] [[nodiscard]] constexpr result<void> check(attributes a) const {
        const std::uint64_t entry = leaf(hpa{0}, a, 1);
        const options on = options_;
        if (!is_present(entry) || defect(entry, 1) != paging::entry_defect::none ||
            static_cast<unsigned>(a.type) > 7 ||
            (a.user_execute != a.execute && !on.mode_based_execute) ||
            (a.supervisor_shadow_stack && !on.supervisor_shadow_stack) ||
            (a.sub_page_write_permissions && !on.sub_page_write_permissions) ||
            (a.verify_guest_paging && !on.guest_paging_verification) ||
            (a.paging_write && !on.paging_write)) {
            return error{errc::not_supported, entry};
        }
        return {};
    }
    [[nodiscard]] constexpr result<void> check(range<gpa>, hpa) const { return {}; }

    [[gnu::always_inline]] [[nodiscard]] constexpr std::uint64_t leaf(hpa frame, attributes a,
                                                                      unsigned level) const {
        using e = leaf_entry;
        return frame.raw | (level > 1 ? page_bit : 0) |
               e{e::read(a.read),
                 e::write(a.write),
                 e::execute(a.execute),
                 e::type(static_cast<memory_type>(static_cast<unsigned>(a.type) & 7)),
                 e::ignore_pat(a.ignore_pat),
                 e::user_execute(a.user_execute),
                 e::verify_guest_paging(a.verify_guest_paging),
                 e::paging_write(a.paging_write),
                 e::supervisor_shadow_stack(a.supervisor_shadow_stack),
                 e::sub_page_write_permissions(a.sub_page_write_permissions),
                 e::suppress_ve(a.suppress_ve)}
                   .raw;
    }
    [[nodiscard]] constexpr std::uint64_t table(hpa frame) const {
        using e = table_entry;
        return frame.raw | e{e::read(true), e::write(true), e::execute(true),
                             e::accessed(options_.accessed_dirty),
                             e::user_execute(options_.mode_based_execute)}
                               .raw;
    }
    [[nodiscard]] constexpr attributes attributes_of(std::uint64_t entry, unsigned level) const {
        using e = leaf_entry;
        const e of{entry};
        const auto right_to_execute =
            options_.mode_based_execute ? of[e::user_execute] : of[e::execute];
        return {.read = of[e::read],
                .write = of[e::write],
                .execute = of[e::execute],
                .type = of[e::type],
                .ignore_pat = of[e::ignore_pat],
                .user_execute = right_to_execute,
                .verify_guest_paging = of[e::verify_guest_paging],
                .paging_write = of[e::paging_write],
                .supervisor_shadow_stack = of[e::supervisor_shadow_stack],
                .sub_page_write_permissions = level == 1 && of[e::sub_page_write_permissions],
                .suppress_ve = of[e::suppress_ve]};
    }
    [[nodiscard]] constexpr std::uint64_t split(std::uint64_t entry, unsigned level) const {
        // What only a 4-KiB page can ask for has been ignored until now.
        constexpr std::uint64_t dropped = page_bit | leaf_entry::sub_page_write_permissions.mask;
        return level == 2 ? entry & ~dropped : entry;
    }
    [[nodiscard]] constexpr std::uint64_t join(std::uint64_t entry, unsigned) const {
        return entry | page_bit;
    }
    /// Without anything that allows a write: of software, of a page walk, of a shadow stack, or of
    /// some part of the page.
    [[nodiscard]] constexpr std::uint64_t write_protected(std::uint64_t entry) const {
        using e = leaf_entry;
        return entry & ~(e::write.mask | e::paging_write.mask | e::supervisor_shadow_stack.mask |
                         e::sub_page_write_permissions.mask);
    }
    [[nodiscard]] constexpr bool stale_when_mapped() const { return false; }
    [[nodiscard]] constexpr bool sets_flags() const { return options_.accessed_dirty; }

    [[nodiscard]] constexpr bool is_present(std::uint64_t entry) const {
        const std::uint64_t ignored =
            options_.mode_based_execute ? 0 : leaf_entry::user_execute.mask;
        return (entry & present_mask & ~ignored) != 0;
    }
    /// What makes a present entry an EPT misconfiguration [sdm, "EPT Misconfigurations"].
    [[nodiscard]] constexpr paging::entry_defect defect(std::uint64_t entry, unsigned level) const {
        using enum paging::entry_defect;
        const leaf_entry e{entry};
        if ((entry & paging::frame_mask) >> physical_width_ != 0) {
            return address_width;
        }
        const bool leaf = level == 1 || e[leaf_entry::page];
        if (!e[leaf_entry::read]) {
            if (e[leaf_entry::write] ||
                (leaf && options_.paging_write && e[leaf_entry::paging_write])) {
                return write_without_read;
            }
            if (!capabilities_[capabilities::execute_only]) {
                return execute_only; // present, and neither read nor write
            }
        }
        if (!leaf) {
            constexpr std::uint64_t type_and_ignore_pat = 0x78;
            return (entry & type_and_ignore_pat) != 0 ? reserved_bits : none;
        }
        if (level > 3 || (level == 3 && !capabilities_[capabilities::pages_1g]) ||
            (level == 2 && !capabilities_[capabilities::pages_2m])) {
            return page_size;
        }
        if ((entry & paging::frame_mask & (paging::level_size(level) - 1)) != 0) {
            return misaligned_page;
        }
        const auto type = static_cast<unsigned>(e[leaf_entry::type]);
        return type == 2 || type == 3 || type == 7 ? paging::entry_defect::memory_type : none;
    }

    /// The EPTP for tables of this format: walked as write-back memory where the processor can.
    /// errc::not_supported when the processor does not walk that many levels, lacks what an option
    /// asks for, or has no usable memory type; errc::misaligned or errc::out_of_range for a root that
    /// is no frame.
    [[nodiscard]] constexpr result<pointer> eptp(hpa root) const {
        if (!root.is_aligned(4 * KiB)) {
            return error{errc::misaligned, root.raw};
        }
        if ((root.raw >> physical_width_) != 0) {
            return error{errc::out_of_range, root.raw};
        }
        const capabilities has = capabilities_;
        const bool write_back = has[capabilities::structures_write_back];
        const bool walks = options_.levels == 5 ? has[capabilities::walk_length_5]
                                                : has[capabilities::walk_length_4];
        if (!walks || !(write_back || has[capabilities::structures_uncacheable]) ||
            (options_.accessed_dirty && !has[capabilities::accessed_dirty]) ||
            (options_.supervisor_shadow_stack && !has[capabilities::supervisor_shadow_stack])) {
            return error{errc::not_supported, has.raw};
        }
        return pointer{
            pointer::type(write_back ? memory_type::write_back : memory_type::uncacheable),
            pointer::walk_length(static_cast<std::uint8_t>(levels() - 1)),
            pointer::accessed_dirty(options_.accessed_dirty),
            pointer::supervisor_shadow_stack(options_.supervisor_shadow_stack),
            pointer::root(root)};
    }

private:
    capabilities capabilities_;
    unsigned physical_width_;
    options options_;
};

static_assert(paging::entry_format<format>);

} // namespace pt::ept
