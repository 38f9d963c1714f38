// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstdint>

namespace pt::paging {

/// A 4-level tree has levels 4 (root) to 1; an entry at level n covers 4 KiB * 512^(n-1). Level 1
/// entries map 4-KiB pages, level 2 leaves 2 MiB, level 3 leaves 1 GiB.
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

/// Bits 60:52 of an entry that points to a table: ignored by the hardware in every format here, and
/// used by the engine to count the entries of that table that are in use, 1 to 512, minus one.
inline constexpr unsigned live_count_shift = 52;
inline constexpr std::uint64_t live_count_mask = std::uint64_t{0x1FF} << live_count_shift;

/// One page-table format: what the engine needs to know, and nothing about how tables are handled.
///
/// levels()          levels of the tree, 3 to 5
/// input_width()     bits of an input address
/// output_width()    bits of an output address (MAXPHYADDR, host address width)
/// largest_page()    the largest leaf the hardware takes
/// check(a)          whether the hardware takes a leaf with these attributes
/// check(range, f)   whether these input addresses may be mapped to what begins at frame f
/// leaf(f, a, n)     a leaf at level n; adding k * level_size(n) to it moves it k pages on
/// table(f)          an entry that points to a table
/// attributes_of(e)  the attributes of a leaf
/// split(e, n)       the first of 512 leaves at level n - 1 that say the same as leaf e at level n
/// stale_when_mapped()  whether the hardware caches that nothing is mapped (VT-d caching mode)
/// empty             an entry that maps nothing
/// present_mask      an entry is present if any of these bits is set
/// page_bit          set in a leaf above level 1
/// default_publication  what is right on all hardware that walks the format
template <class F>
concept entry_format = policy<F> &&
    requires(const F format, typename F::attributes attributes, range<typename F::address> input,
             std::uint64_t entry, unsigned level, hpa frame) {
    { format.levels() } -> std::same_as<unsigned>;
    { format.input_width() } -> std::same_as<unsigned>;
    { format.output_width() } -> std::same_as<unsigned>;
    { format.largest_page() } -> std::same_as<page_size>;
    { format.check(attributes) } -> std::same_as<result<void>>;
    { format.check(input, frame) } -> std::same_as<result<void>>;
    { format.leaf(frame, attributes, level) } -> std::same_as<std::uint64_t>;
    { format.table(frame) } -> std::same_as<std::uint64_t>;
    { format.attributes_of(entry) } -> std::same_as<typename F::attributes>;
    { format.split(entry, level) } -> std::same_as<std::uint64_t>;
    { format.stale_when_mapped() } -> std::same_as<bool>;
    { F::empty } -> std::convertible_to<std::uint64_t>;
    { F::present_mask } -> std::convertible_to<std::uint64_t>;
    { F::page_bit } -> std::convertible_to<std::uint64_t>;
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
/// The frame that a present entry at `level` maps or points to.
template <entry_format F>
[[nodiscard]] constexpr hpa frame_of(std::uint64_t entry, unsigned level) {
    const std::uint64_t size = is_leaf<F>(entry, level) ? level_size(level) : 4 * KiB;
    return hpa{entry & frame_mask & ~(size - 1)};
}

} // namespace pt::paging
