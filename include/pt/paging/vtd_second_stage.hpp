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
    static constexpr field_list fields{read, write, page, accessed, dirty, snoop, frame};
};

/// An entry that points to a table.
struct table_entry : reg<table_entry, std::uint64_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> read{};
    static constexpr bits<1, 1, bool> write{};
    static constexpr bits<7, 7, bool> page{}; ///< 0: this is what tells it from a leaf
    static constexpr bits<8, 8, bool> accessed{};
    static constexpr bits<51, 12, hpa> table{};
    /// Minus one. Hardware ignores these bits; the engine counts in them.
    static constexpr bits<60, 52, std::uint16_t> live_entries{};
    static constexpr field_list fields{read, write, page, accessed, table, live_entries};
};

/// What a device may do with a page.
struct attributes {
    bool read = false;
    bool write = false;
    bool snoop = false; ///< accesses snoop the processor's caches whatever the device asks

    friend constexpr bool operator==(attributes, attributes) = default;
};

/// Memory that the device may read and write.
inline constexpr attributes read_write{.read = true, .write = true};

/// Writes to this range are interrupt requests and are never translated; nothing is mapped there
/// [vt-d, "Interrupt Address Range"].
inline constexpr range<iova> interrupt_range{iova{0xFEE0'0000}, 0x10'0000};

/// What a domain's tables may use: the least that all remapping units of the domain have in common.
struct limits {
    unsigned levels = 4;                                         ///< 3 or 4, a bit of CAP.SAGAW
    unsigned input_width = 48;                                   ///< at most CAP.MGAW + 1
    unsigned output_width = 39;                                  ///< the host address width
    paging::page_size largest_page = paging::page_size::size_4k; ///< CAP.SLLPS
    bool snoop_control = false;                                  ///< ECAP.SC
    bool stale_when_mapped = false;                              ///< CAP.CM or CAP.RWBF
};

/// The second-stage format with 3 or 4 levels.
class format {
public:
    using address = iova;
    using attributes = second_stage::attributes;
    /// Right whatever ECAP.C says; coherent_publication, where it is set, saves the flushes.
    using default_publication = paging::flush_line_publication;

    static constexpr std::uint64_t empty = 0;
    static constexpr std::uint64_t present_mask = leaf_entry::read.mask | leaf_entry::write.mask;
    static constexpr std::uint64_t page_bit = leaf_entry::page.mask;

    explicit constexpr format(limits usable) : limits_{usable} {
        expects(usable.levels == 3 || usable.levels == 4, "second-stage tables have 3 or 4 levels");
        // Both widths come from registers and firmware: what exceeds the format is cut off.
        const unsigned reach = 12 + 9 * usable.levels;
        limits_.input_width = usable.input_width < reach ? usable.input_width : reach;
        limits_.output_width = usable.output_width < 52 ? usable.output_width : 52;
    }

    [[nodiscard]] constexpr unsigned levels() const { return limits_.levels; }
    [[nodiscard]] constexpr unsigned input_width() const { return limits_.input_width; }
    [[nodiscard]] constexpr unsigned output_width() const { return limits_.output_width; }
    [[nodiscard]] constexpr paging::page_size largest_page() const { return limits_.largest_page; }

    /// errc::not_supported for no rights at all, and for snoop on a unit without snoop control,
    /// where the bit is reserved.
    [[nodiscard]] constexpr result<void> check(attributes a) const {
        if ((!a.read && !a.write) || (a.snoop && !limits_.snoop_control)) {
            return error{errc::not_supported, leaf(hpa{0}, a, 1)};
        }
        return {};
    }
    /// errc::reserved_address where input or output touches the interrupt range: the unit blocks
    /// what would leave it there.
    [[nodiscard]] constexpr result<void> check(range<iova> input, hpa output) const {
        if (input.overlaps(interrupt_range)) {
            return error{errc::reserved_address, input.intersection(interrupt_range).first().raw};
        }
        const range<hpa> interrupts{hpa{interrupt_range.first().raw}, interrupt_range.size()};
        const range<hpa> reached{output, input.size()};
        if (reached.overlaps(interrupts)) {
            return error{errc::reserved_address, reached.intersection(interrupts).first().raw};
        }
        return {};
    }

    [[nodiscard]] constexpr std::uint64_t leaf(hpa frame, attributes a, unsigned level) const {
        return frame.raw | std::uint64_t{a.read} | std::uint64_t{a.write} << 1 |
               std::uint64_t{a.snoop} << 11 | (level > 1 ? page_bit : 0);
    }
    [[nodiscard]] constexpr std::uint64_t table(hpa frame) const {
        return frame.raw | present_mask;
    }
    [[nodiscard]] constexpr attributes attributes_of(std::uint64_t entry) const {
        const leaf_entry e{entry};
        return {.read = e[leaf_entry::read],
                .write = e[leaf_entry::write],
                .snoop = e[leaf_entry::snoop]};
    }
    [[nodiscard]] constexpr std::uint64_t split(std::uint64_t entry, unsigned level) const {
        return level == 2 ? entry & ~page_bit : entry;
    }
    [[nodiscard]] constexpr bool stale_when_mapped() const { return limits_.stale_when_mapped; }

private:
    limits limits_;
};

static_assert(paging::entry_format<format>);

} // namespace pt::vtd::second_stage
