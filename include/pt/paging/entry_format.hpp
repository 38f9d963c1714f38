// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstdint>

namespace pt::paging {

/// A tree has at most 5 levels; the root is at the highest, and an entry at level n covers
/// 4 KiB * 512^(n-1). Level 1 entries map 4-KiB pages, level 2 leaves 2 MiB, level 3 leaves 1 GiB.
[[nodiscard]] constexpr unsigned level_shift(unsigned level) { return 12 + 9 * (level - 1); }
/// Bytes that one entry at `level` covers.
[[nodiscard]] constexpr std::uint64_t level_size(unsigned level) {
    return std::uint64_t{1} << level_shift(level);
}
/// Which entry of its table at `level` translates `input`.
[[nodiscard]] constexpr unsigned level_index(std::uint64_t input, unsigned level) {
    return static_cast<unsigned>(input >> level_shift(level)) & 511U;
}

/// The size of a leaf page.
enum class page_size : std::uint8_t { size_4k = 1, size_2m = 2, size_1g = 3 };

[[nodiscard]] constexpr std::uint64_t bytes(page_size size) {
    return level_size(static_cast<unsigned>(size));
}

/// Bits 51:12, where every format of the family keeps the address of a frame.
inline constexpr std::uint64_t frame_mask = 0x000F'FFFF'FFFF'F000;

/// Bits 61:52 of an entry that points to a table: ignored by the hardware in every format here, and
/// used by the engine to count the entries of that table that are in use, 1 to 512. (Processors that
/// map at the same time may hold some more for a moment.)
inline constexpr unsigned live_count_shift = 52;
inline constexpr std::uint64_t live_count_one = std::uint64_t{1} << live_count_shift;
inline constexpr std::uint64_t live_count_mask = std::uint64_t{0x3FF} << live_count_shift;

/// What is wrong with an entry, in the order in which it is looked for.
enum class entry_defect : std::uint8_t {
    none,
    address_width,      ///< address bits at or above the output width
    write_without_read, ///< EPT misconfiguration
    execute_only,       ///< EPT: execute without read, and the processor lacks the capability
    page_size,          ///< a leaf at a level where the hardware has no pages
    misaligned_page,    ///< low address bits of a large page are set
    memory_type,        ///< EPT: a reserved memory type
    reserved_bits,      ///< any other bit that must be 0 (or 1) is not
};

/// The name of the defect as it is written in `entry_defect`.
[[nodiscard]] constexpr const char* name(entry_defect defect) {
    switch (defect) {
    case entry_defect::none: return "none";
    case entry_defect::address_width: return "address_width";
    case entry_defect::write_without_read: return "write_without_read";
    case entry_defect::execute_only: return "execute_only";
    case entry_defect::page_size: return "page_size";
    case entry_defect::misaligned_page: return "misaligned_page";
    case entry_defect::memory_type: return "memory_type";
    case entry_defect::reserved_bits: return "reserved_bits";
    }
    return "unknown";
}

/// One page-table format: what the engine needs to know, and nothing about how tables are handled.
///
/// levels()          levels of the tree, 3 to 5
/// input_width()     bits of an input address
/// output_width()    bits of an output address (MAXPHYADDR, host address width)
/// largest_page(a)   the largest leaf the hardware takes with these attributes
/// check(a)          whether the hardware takes a leaf with these attributes
/// check(range, f)   whether these input addresses may be mapped to what begins at frame f
/// leaf(f, a, n)     a leaf at level n; adding k * level_size(n) to it moves it k pages on
/// table(f)          an entry that points to a table, and that grants everything; bits 63:62 are 0
/// attributes_of(e, n)  the attributes of a leaf at level n
/// split(e, n)       the first of 512 leaves at level n - 1 that say the same as leaf e at level n
/// join(e, n)        the other way: the leaf at level n of which e is the first piece
/// write_protected(e)  the leaf without the right to write
/// stale_when_mapped() whether the hardware caches that nothing is mapped (VT-d caching mode)
/// sets_flags()      whether the hardware sets accessed and dirty flags in these tables
/// is_present(e)     whether the hardware, in the mode that the format describes, uses the entry
/// defect(e, n)      what the hardware would refuse in a present entry at level n
///
/// empty             an entry that maps nothing
/// present_mask      an entry that the engine made is present if any of these bits is set
/// page_bit          set in a leaf above level 1
/// accessed_mask, dirty_mask  the flags; table(f) has accessed set where the hardware sets flags, so
///                   that it never writes to an entry in which the engine counts
/// write_needs_read  whether every leaf stays present without the right to write
/// default_publication  what is right on all hardware that walks the format
template <class F>
concept entry_format = policy<F> &&
    requires(const F format, typename F::attributes attributes, range<typename F::address> input,
             std::uint64_t entry, unsigned level, hpa frame) {
    { format.levels() } -> std::same_as<unsigned>;
    { format.input_width() } -> std::same_as<unsigned>;
    { format.output_width() } -> std::same_as<unsigned>;
    { format.largest_page(attributes) } -> std::same_as<page_size>;
    { format.check(attributes) } -> std::same_as<result<void>>;
    { format.check(input, frame) } -> std::same_as<result<void>>;
    { format.leaf(frame, attributes, level) } -> std::same_as<std::uint64_t>;
    { format.table(frame) } -> std::same_as<std::uint64_t>;
    { format.attributes_of(entry, level) } -> std::same_as<typename F::attributes>;
    { format.split(entry, level) } -> std::same_as<std::uint64_t>;
    { format.join(entry, level) } -> std::same_as<std::uint64_t>;
    { format.write_protected(entry) } -> std::same_as<std::uint64_t>;
    { format.stale_when_mapped() } -> std::same_as<bool>;
    { format.sets_flags() } -> std::same_as<bool>;
    { format.is_present(entry) } -> std::same_as<bool>;
    { format.defect(entry, level) } -> std::same_as<entry_defect>;
    { F::empty } -> std::convertible_to<std::uint64_t>;
    { F::present_mask } -> std::convertible_to<std::uint64_t>;
    { F::page_bit } -> std::convertible_to<std::uint64_t>;
    { F::accessed_mask } -> std::convertible_to<std::uint64_t>;
    { F::dirty_mask } -> std::convertible_to<std::uint64_t>;
    { F::write_needs_read } -> std::convertible_to<bool>;
    requires publication<typename F::default_publication>;
};

template <entry_format F>
[[nodiscard]] constexpr bool is_present(std::uint64_t entry) {
    return (entry & F::present_mask) != 0;
}
/// Whether a present entry at `level` is a leaf.
template <entry_format F>
[[nodiscard]] constexpr bool is_leaf(std::uint64_t entry, unsigned level) {
    return level == 1 || (entry & F::page_bit) != 0;
}
/// Whether an entry at `level` is present and points to a table.
template <entry_format F>
[[nodiscard]] constexpr bool is_table(std::uint64_t entry, unsigned level) {
    return is_present<F>(entry) && !is_leaf<F>(entry, level);
}
/// The frame that a present entry at `level` maps or points to.
template <entry_format F>
[[nodiscard]] constexpr hpa frame_of(std::uint64_t entry, unsigned level) {
    const std::uint64_t size = is_leaf<F>(entry, level) ? level_size(level) : 4 * KiB;
    return hpa{entry & frame_mask & ~(size - 1)};
}

} // namespace pt::paging
