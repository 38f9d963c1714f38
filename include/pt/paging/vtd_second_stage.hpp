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

#include <cstdint>

/// Second-stage translation of VT-d: iova to host-physical [vt-d, "Second-Stage Translation"].
namespace pt::vtd::second_stage {

/// An entry that maps a page of 4 KiB, 2 MiB or 1 GiB. There is no present bit: read or write set
/// means present.
struct leaf_entry : reg<leaf_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<7, 7, bool> page{}; ///< must be 1 at levels 2 and 3, ignored at level 1
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<9, 9, bool> dirty{};
    static constexpr bits<11, 11, bool> snoop{}; ///< only where the unit has snoop control
    static constexpr bits<51, 12, hpa> frame{};
    static constexpr bits<62, 62, bool> transient_mapping{}; ///< only where the unit takes it
    static constexpr field_list fields{read,  write, page,  accessed,
                                       dirty, snoop, frame, transient_mapping};
};

/// An entry that points to a table.
struct table_entry : reg<table_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<7, 7, bool> page{}; ///< 0: this is what tells it from a leaf
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<51, 12, hpa> table{};
    /// How many entries of that table are in use. Hardware ignores these bits; the engine counts.
    static constexpr bits<61, 52, std::uint16_t> live_entries{};
    static constexpr field_list fields{read, write, page, accessed, table, live_entries};
};

/// What a device may do with a page.
struct attributes {
    bool read = false;
    bool write = false;
    bool snoop = false; ///< accesses snoop the processor's caches whatever the device asks
    /// For units older than revision 3.2: the mapping is not there to stay in a device's own cache.
    bool transient_mapping = false;

    friend constexpr bool operator==(attributes, attributes) = default;
};

/// Memory that the device may read and write.
inline constexpr attributes read_write{.read = true, .write = true};

/// What a domain's tables may use: the least that all remapping units of the domain have in common.
struct limits {
    unsigned levels = 4;                                         ///< 3 to 5, a bit of CAP.SAGAW
    unsigned input_width = 48;                                   ///< at most CAP.MGAW + 1
    unsigned output_width = 39;                                  ///< the host address width
    paging::page_size largest_page = paging::page_size::size_4k; ///< CAP.SLLPS
    bool snoop_control = false;                                  ///< ECAP.SC
    /// Bit 62 of a leaf means something: up to revision 3.1 of the specification, with ECAP.DT. From
    /// 3.2 on the bit is reserved, and no register tells.
    bool transient_mapping = false;
    bool accessed_dirty = false;    ///< ECAP.SLADS, scalable mode, and on in the PASID entry
    bool stale_when_mapped = false; ///< CAP.CM or CAP.RWBF
};

/// What two units have in common, for a domain with functions behind both. What the VMM chooses, the
/// number of levels and whether flags are set, must be the same for both.
[[nodiscard]] constexpr limits common(const limits& a, const limits& b) {
    expects(a.levels == b.levels && a.accessed_dirty == b.accessed_dirty,
            "the units that share tables walk them in the same way");
    return {.levels = a.levels,
            .input_width = a.input_width < b.input_width ? a.input_width : b.input_width,
            .output_width = a.output_width < b.output_width ? a.output_width : b.output_width,
            .largest_page = a.largest_page < b.largest_page ? a.largest_page : b.largest_page,
            .snoop_control = a.snoop_control && b.snoop_control,
            .transient_mapping = a.transient_mapping && b.transient_mapping,
            .accessed_dirty = a.accessed_dirty,
            .stale_when_mapped = a.stale_when_mapped || b.stale_when_mapped};
}

/// The second-stage format with 3 to 5 levels.
class format {
public:
    using address = iova;
    using attributes = second_stage::attributes;
    /// Right whatever ECAP.C says; coherent_publication, where it is set, saves the flushes.
    using default_publication = paging::clflush_publication;

    static constexpr std::uint64_t empty = 0;
    static constexpr std::uint64_t present_mask = leaf_entry::read.mask | leaf_entry::write.mask;
    static constexpr std::uint64_t page_bit = leaf_entry::page.mask;
    static constexpr std::uint64_t accessed_mask = leaf_entry::accessed.mask;
    static constexpr std::uint64_t dirty_mask = leaf_entry::dirty.mask;
    static constexpr bool write_needs_read = false;

    explicit constexpr format(limits usable) : limits_{usable} {
        expects(usable.levels >= 3 && usable.levels <= 5, "second-stage tables have 3 to 5 levels");
        // Both widths come from registers and firmware: what exceeds the format is cut off.
        const unsigned reach = 12 + 9 * usable.levels;
        limits_.input_width = usable.input_width < reach ? usable.input_width : reach;
        limits_.output_width = usable.output_width < 52 ? usable.output_width : 52;
    }

    [[nodiscard]] constexpr unsigned levels() const { return limits_.levels; }
    [[nodiscard]] constexpr unsigned input_width() const { return limits_.input_width; }
    [[nodiscard]] constexpr unsigned output_width() const { return limits_.output_width; }
    [[nodiscard]] constexpr paging::page_size largest_page(attributes) const {
        return limits_.largest_page;
    }

    /// errc::not_supported for no rights at all, and for snoop or transient mapping on a unit without
    /// them, where the bit is reserved.
    [[gnu::always_inline]] [[nodiscard]] constexpr result<void> check(attributes a) const {
        if ((!a.read && !a.write) || (a.snoop && !limits_.snoop_control) ||
            (a.transient_mapping && !limits_.transient_mapping)) {
            return error{errc::not_supported, leaf(hpa{0}, a, 1)};
        }
        return {};
    }
    /// errc::reserved_address where input or output touches the interrupt range: the unit blocks
    /// what would leave it there.
    [[gnu::always_inline]] [[nodiscard]] constexpr result<void> check(range<iova> input,
                                                                      hpa output) const {
        return check_interrupt_range(input, output);
    }

    [[gnu::always_inline]] [[nodiscard]] constexpr std::uint64_t leaf(hpa frame, attributes a,
                                                                      unsigned level) const {
        return frame.raw | std::uint64_t{a.read} | std::uint64_t{a.write} << 1 |
               std::uint64_t{a.snoop} << 11 | (level > 1 ? page_bit : 0) |
               std::uint64_t{a.transient_mapping} << 62;
    }
    [[nodiscard]] constexpr std::uint64_t table(hpa frame) const {
        return frame.raw | present_mask | (limits_.accessed_dirty ? accessed_mask : 0);
    }
    [[nodiscard]] constexpr attributes attributes_of(std::uint64_t entry, unsigned) const {
        const leaf_entry e{entry};
        return {.read = e[leaf_entry::read],
                .write = e[leaf_entry::write],
                .snoop = e[leaf_entry::snoop],
                .transient_mapping = e[leaf_entry::transient_mapping]};
    }
    [[nodiscard]] constexpr std::uint64_t split(std::uint64_t entry, unsigned level) const {
        return level == 2 ? entry & ~page_bit : entry;
    }
    [[nodiscard]] constexpr std::uint64_t join(std::uint64_t entry, unsigned) const {
        return entry | page_bit;
    }
    /// Of a leaf that may only be written, nothing is left that is present.
    [[nodiscard]] constexpr std::uint64_t write_protected(std::uint64_t entry) const {
        return entry & ~leaf_entry::write.mask;
    }
    [[nodiscard]] constexpr bool stale_when_mapped() const { return limits_.stale_when_mapped; }
    [[nodiscard]] constexpr bool sets_flags() const { return limits_.accessed_dirty; }

    [[nodiscard]] constexpr bool is_present(std::uint64_t entry) const {
        return (entry & present_mask) != 0;
    }
    /// What makes a unit answer with a fault for a non-zero reserved field. Of the page sizes, those
    /// that the limits leave out count as absent.
    [[nodiscard]] constexpr paging::entry_defect defect(std::uint64_t entry, unsigned level) const {
        using enum paging::entry_defect;
        if ((entry & paging::frame_mask) >> limits_.output_width != 0) {
            return address_width;
        }
        std::uint64_t reserved = leaf_entry::snoop.mask | leaf_entry::transient_mapping.mask;
        if (level == 1 || (entry & page_bit) != 0) {
            if (level > static_cast<unsigned>(limits_.largest_page)) {
                return paging::entry_defect::page_size;
            }
            if ((entry & paging::frame_mask & (paging::level_size(level) - 1)) != 0) {
                return misaligned_page;
            }
            reserved &= ~((limits_.snoop_control ? leaf_entry::snoop.mask : 0) |
                          (limits_.transient_mapping ? leaf_entry::transient_mapping.mask : 0));
        }
        return (entry & reserved) != 0 ? reserved_bits : none;
    }

private:
    limits limits_;
};

static_assert(paging::entry_format<format>);

} // namespace pt::vtd::second_stage
