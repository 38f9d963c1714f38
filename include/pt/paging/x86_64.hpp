// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/interrupt_range.hpp"
#include "pt/paging/publication.hpp"

#include <concepts>
#include <cstdint>

/// The page tables of long mode, where they translate for a guest or for a device: nested paging,
/// guest-physical to host-physical [amd, "Nested Paging"], and the first stage of VT-d, iova to
/// host-physical [vt-d, "First-Stage Translation"].
namespace pt::x86_64 {

/// An entry that maps a page of 4 KiB.
struct leaf_entry : reg<leaf_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> present{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<2, 2, bool> user{};
    static constexpr bits<3, 3, bool> write_through{}; // PWT
    static constexpr bits<4, 4, bool> cache_disable{}; // PCD
    static constexpr bits<5, 5, bool> accessed{};
    static constexpr bits<6, 6, bool> dirty{};
    static constexpr bits<7, 7, bool> pat{};
    static constexpr bits<8, 8, bool> global{};
    static constexpr bits<51, 12, hpa> frame{};
    static constexpr bits<63, 63, bool> no_execute{};
    static constexpr field_list fields{present,       write,    user,      write_through,
                                       cache_disable, accessed, dirty,     pat,
                                       global,        frame,    no_execute};
};

/// An entry that maps a page of 2 MiB or 1 GiB: PAT has moved up, for the page bit to be 1.
struct large_leaf_entry : reg<large_leaf_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<7, 7, bool> page{};
    static constexpr bits<12, 12, bool> pat{};
    static constexpr bits<51, 21, hpa> frame{};
    static constexpr field_list fields{page, pat, frame};
};

/// An entry that points to a table.
struct table_entry : reg<table_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> present{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<2, 2, bool> user{};
    static constexpr bits<5, 5, bool> accessed{};
    static constexpr bits<7, 7, bool> page{}; ///< 0: this is what tells it from a leaf
    static constexpr bits<51, 12, hpa> table{};
    /// How many entries of that table are in use. Hardware ignores these bits; the engine counts.
    static constexpr bits<61, 52, std::uint16_t> live_entries{};
    static constexpr bits<63, 63, bool> no_execute{};
    static constexpr field_list fields{present, write, user,         accessed,
                                       page,    table, live_entries, no_execute};
};

/// CR3, and nCR3 in the VMCB, which has its form.
struct cr3 : reg<cr3, std::uint64_t> {
    using reg::reg;
    static constexpr bits<3, 3, bool> write_through{}; ///< for reading the root table
    static constexpr bits<4, 4, bool> cache_disable{}; ///< for reading the root table
    static constexpr bits<51, 12, hpa> root{};
    static constexpr field_list fields{write_through, cache_disable, root};
};

/// What may be done with a page, and how it is cached. What is present may be read.
struct attributes {
    bool write = false;
    bool execute = false;
    bool user = true; ///< user mode may do it too; nested walks and most devices are user mode
    /// Which of the 8 memory types in the PAT of whoever walks: PWT, PCD and PAT, from bit 0 up. As
    /// processors are reset, 0 is write-back and 3 uncacheable.
    std::uint8_t pat_entry = 0;
    bool global = false; ///< stays cached when the root changes, where that is turned on

    friend constexpr bool operator==(attributes, attributes) = default;
};

/// The guest's ordinary memory.
inline constexpr attributes ram{.write = true, .execute = true};
/// The registers of a device that the guest drives itself.
inline constexpr attributes device_memory{.write = true, .pat_entry = 3};

/// What the hardware has, and what the VMM turned on in it.
struct options {
    unsigned levels = 4;            ///< 4 or 5: CR4.LA57 of the host, or what the PASID entry says
    bool pages_1g = false;          ///< CPUID 80000001H, EDX bit 26; or CAP.FS1GP
    bool no_execute = true;         ///< EFER.NXE of the host, or NXE in the PASID entry
    bool stale_when_mapped = false; ///< CAP.RWBF: a unit's write buffer holds new entries back
};

/// Long-mode tables whose input addresses are gpa (nested paging) or iova (first stage). Hardware sets
/// accessed flags, bit 5, of its own accord; "extended accessed" (EAFE of a PASID entry), by which a
/// unit would also write to entries that point to tables, stays off.
template <class Address>
    requires std::same_as<Address, gpa> || std::same_as<Address, iova>
class format {
public:
    using address = Address;
    using attributes = x86_64::attributes;
    /// Processors snoop their caches, and so do units with ECAP.SMPWCS set; for other units take a
    /// line_publication.
    using default_publication = paging::coherent_publication;

    static constexpr std::uint64_t empty = 0;
    static constexpr std::uint64_t present_mask = leaf_entry::present.mask;
    static constexpr std::uint64_t page_bit = large_leaf_entry::page.mask;
    static constexpr std::uint64_t accessed_mask = leaf_entry::accessed.mask;
    static constexpr std::uint64_t dirty_mask = leaf_entry::dirty.mask;
    static constexpr bool write_needs_read = true;

    /// `physical_width` is the width of the processor's physical addresses (CPUID 80000008H, EAX bits
    /// 7:0) or the host address width of the remapping units; above 52 it counts as 52.
    explicit constexpr format(unsigned physical_width, options enabled = {})
        : physical_width_{physical_width < 52 ? physical_width : 52}, options_{enabled} {
        expects(enabled.levels == 4 || enabled.levels == 5, "long mode has 4 or 5 levels");
    }

    [[nodiscard]] constexpr unsigned levels() const { return options_.levels; }
    /// A guest has no more physical address bits than the processor. A device's addresses must be
    /// canonical, and of those the lower half is offered.
    [[nodiscard]] constexpr unsigned input_width() const {
        const unsigned reach = 12 + 9 * options_.levels;
        if constexpr (nested) {
            return physical_width_ < reach ? physical_width_ : reach;
        } else {
            return reach - 1;
        }
    }
    [[nodiscard]] constexpr unsigned output_width() const { return physical_width_; }
    [[nodiscard]] constexpr paging::page_size largest_page(attributes) const {
        using enum paging::page_size;
        return options_.pages_1g ? size_1g : size_2m;
    }

    /// errc::not_supported for an entry that the PAT does not have, for a page without execute where
    /// no-execute is off, and in nested paging, whose accesses are all made in user mode, for a page
    /// that is not for user mode. `where` is the leaf for frame 0.
    [[gnu::always_inline]] [[nodiscard]] constexpr result<void> check(attributes a) const {
        if (a.pat_entry > 7 || (!a.execute && !options_.no_execute) || (nested && !a.user)) {
            return error{errc::not_supported, leaf(hpa{0}, a, 1)};
        }
        return {};
    }
    /// First stage: errc::reserved_address where input or output touches the interrupt range.
    [[nodiscard]] constexpr result<void> check(range<Address> input, hpa output) const {
        if constexpr (nested) {
            return {};
        } else {
            return vtd::check_interrupt_range(input, output);
        }
    }

    [[gnu::always_inline]] [[nodiscard]] constexpr std::uint64_t leaf(hpa frame, attributes a,
                                                                      unsigned level) const {
        using e = leaf_entry;
        const std::uint64_t small = e{e::present(true),
                                      e::write(a.write),
                                      e::user(a.user),
                                      e::write_through((a.pat_entry & 1) != 0),
                                      e::cache_disable((a.pat_entry & 2) != 0),
                                      e::pat((a.pat_entry & 4) != 0),
                                      e::global(a.global),
                                      e::no_execute(!a.execute)}
                                        .raw;
        return frame.raw | (level > 1 ? join(small, 2) : small);
    }
    [[nodiscard]] constexpr std::uint64_t table(hpa frame) const {
        using e = table_entry;
        return frame.raw |
               e{e::present(true), e::write(true), e::user(true), e::accessed(true)}.raw;
    }
    [[nodiscard]] constexpr attributes attributes_of(std::uint64_t entry, unsigned level) const {
        const leaf_entry e{level > 1 ? split(entry, 2) : entry};
        return {.write = e[leaf_entry::write],
                .execute = !e[leaf_entry::no_execute],
                .user = e[leaf_entry::user],
                .pat_entry = static_cast<std::uint8_t>(e[leaf_entry::write_through] |
                                                       e[leaf_entry::cache_disable] << 1 |
                                                       e[leaf_entry::pat] << 2),
                .global = e[leaf_entry::global]};
    }
    /// PAT moves between bit 12, below the frame of a large page, and bit 7 of a 4-KiB page's entry.
    [[nodiscard]] constexpr std::uint64_t split(std::uint64_t entry, unsigned level) const {
        const large_leaf_entry e{entry};
        return level != 2 ? entry
                          : e.with(large_leaf_entry::page(e[large_leaf_entry::pat]),
                                   large_leaf_entry::pat(false))
                                .raw;
    }
    [[nodiscard]] constexpr std::uint64_t join(std::uint64_t entry, unsigned level) const {
        const large_leaf_entry e{entry};
        return level != 2 ? entry
                          : e.with(large_leaf_entry::pat(e[large_leaf_entry::page]),
                                   large_leaf_entry::page(true))
                                .raw;
    }
    [[nodiscard]] constexpr std::uint64_t write_protected(std::uint64_t entry) const {
        return entry & ~leaf_entry::write.mask;
    }
    [[nodiscard]] constexpr bool stale_when_mapped() const { return options_.stale_when_mapped; }
    [[nodiscard]] constexpr bool sets_flags() const { return true; }

    [[nodiscard]] constexpr bool is_present(std::uint64_t entry) const {
        return (entry & present_mask) != 0;
    }
    /// What is answered with a nested page fault or a remapping fault for a reserved bit. Processors
    /// reserve no-execute where it is off, and AMD's the global bit of PML4 and PML5 entries; remapping
    /// units ignore both.
    [[nodiscard]] constexpr paging::entry_defect defect(std::uint64_t entry, unsigned level) const {
        using enum paging::entry_defect;
        if ((entry & paging::frame_mask) >> physical_width_ != 0) {
            return address_width;
        }
        if (level > 1 && (entry & page_bit) != 0) {
            if (level > 3 || (level == 3 && !options_.pages_1g)) {
                return paging::entry_defect::page_size;
            }
            const std::uint64_t offset = paging::level_size(level) - 1;
            if ((entry & paging::frame_mask & offset & ~large_leaf_entry::pat.mask) != 0) {
                return misaligned_page;
            }
        }
        const std::uint64_t reserved = (level > 3 ? leaf_entry::global.mask : 0) |
                                       (options_.no_execute ? 0 : leaf_entry::no_execute.mask);
        return nested && (entry & reserved) != 0 ? reserved_bits : none;
    }

    /// nCR3 of the VMCB for tables of this format, which are read as write-back memory.
    /// errc::misaligned or errc::out_of_range for a root that is no frame.
    [[nodiscard]] constexpr result<cr3>
    nested_cr3(hpa root) const requires std::same_as<Address, gpa> {
        if (!root.is_aligned(4 * KiB)) {
            return error{errc::misaligned, root.raw};
        }
        if ((root.raw >> physical_width_) != 0) {
            return error{errc::out_of_range, root.raw};
        }
        return cr3{cr3::root(root)};
    }

private:
    static constexpr bool nested = std::same_as<Address, gpa>;

    unsigned physical_width_;
    options options_;
};

/// AMD's nested paging.
using nested_paging = format<gpa>;
/// VT-d's first stage. The pointer to it stands in a PASID-table entry.
using first_stage = format<iova>;

static_assert(paging::entry_format<nested_paging> && paging::entry_format<first_stage>);

} // namespace pt::x86_64
