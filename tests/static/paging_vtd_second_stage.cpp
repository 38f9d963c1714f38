// SPDX-License-Identifier: BSL-1.0
// VT-d second stage in numbers: by hand from the manual's tables.
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/tables.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>

namespace {

using namespace pt::vtd::second_stage;
using pt::errc;
using pt::hpa;
using pt::iova;
using pt::paging::entry_defect;
using pt::vtd::interrupt_range;
using enum pt::paging::page_size;

constexpr format four{{.levels = 4, .input_width = 48, .output_width = 39}};
constexpr format three{{.levels = 3,
                        .input_width = 48,
                        .output_width = 39,
                        .largest_page = size_2m,
                        .snoop_control = true,
                        .stale_when_mapped = true}};
constexpr format five{{.levels = 5,
                       .input_width = 64,
                       .output_width = 39,
                       .largest_page = size_1g,
                       .snoop_control = true,
                       .transient_mapping = true,
                       .accessed_dirty = true}};

static_assert(four.levels() == 4 && four.input_width() == 48 && four.output_width() == 39);
static_assert(three.levels() == 3 && three.input_width() == 39); // what three levels reach
static_assert(five.levels() == 5 && five.input_width() == 57);
static_assert(four.largest_page({}) == size_4k && three.largest_page({}) == size_2m &&
              five.largest_page({}) == size_1g);
static_assert(!four.stale_when_mapped() && three.stale_when_mapped());
static_assert(!four.sets_flags() && five.sets_flags());
// A guest address width below the tables' reach limits what is mapped.
static_assert(format{{.levels = 4, .input_width = 39}}.input_width() == 39);
// Firmware may claim any width; the entries have 52 bits.
static_assert(format{{.output_width = 256}}.output_width() == 52);
static_assert(format{{.output_width = 0}}.output_width() == 0);

// Read in 0, write in 1, page in 7, snoop in 11, frame in 51:12, transient mapping in 62; no present
// bit (rule 18).
static_assert(four.leaf(hpa{0x1234'5000}, read_write, 1) == 0x1234'5003);
static_assert(four.leaf(hpa{0x1234'5000}, {.read = true}, 1) == 0x1234'5001);
static_assert(four.leaf(hpa{0x1234'5000}, {.write = true}, 1) == 0x1234'5002);
static_assert(four.leaf(hpa{0x1220'0000}, read_write, 2) == 0x1220'0083);
static_assert(four.leaf(hpa{0x4000'0000}, read_write, 3) == 0x4000'0083);
static_assert(three.leaf(hpa{0x1000}, {.read = true, .snoop = true}, 1) == 0x1801);
static_assert(five.leaf(hpa{0x1000}, {.read = true, .transient_mapping = true}, 1) ==
              0x4000'0000'0000'1001);
static_assert(leaf_entry{leaf_entry::accessed(true)}.raw == 0x100 &&
              leaf_entry{leaf_entry::dirty(true)}.raw == 0x200);
static_assert(four.table(hpa{0x1234'5000}) == 0x1234'5003);
static_assert(five.table(hpa{0x1234'5000}) == 0x1234'5103); // accessed from the start
static_assert(format::empty == 0 && format::present_mask == 3 && format::page_bit == 0x80 &&
              format::accessed_mask == 0x100 && format::dirty_mask == 0x200);
static_assert(four.is_present(1) && four.is_present(2) && !four.is_present(~std::uint64_t{3}));
static_assert(three.attributes_of(0x1801, 1) == attributes{.read = true, .snoop = true});
static_assert(three.attributes_of(0x1002, 1) == attributes{.write = true});
static_assert(five.attributes_of(0x4000'0000'0000'0083, 2) ==
              attributes{.read = true, .write = true, .transient_mapping = true});

static_assert(four.split(0x4000'0B83, 3) == 0x4000'0B83);
static_assert(four.split(0x4000'0B83, 2) == 0x4000'0B03);
static_assert(four.join(0x4000'0B83, 3) == 0x4000'0B83);
static_assert(four.join(0x4000'0B03, 2) == 0x4000'0B83);
static_assert(four.write_protected(0x4000'0000'4000'0B83) == 0x4000'0000'4000'0B81);
static_assert(!format::write_needs_read && !four.is_present(four.write_protected(0x1002)));

static_assert(four.check(read_write) && four.check(attributes{.read = true}) &&
              four.check(attributes{.write = true}));
static_assert(four.check(attributes{}).error().code == errc::not_supported);
static_assert(four.check(attributes{.snoop = true}).error().code == errc::not_supported);
static_assert(four.check(attributes{.read = true, .snoop = true}).error().code ==
              errc::not_supported); // reserved without snoop control
static_assert(three.check(attributes{.read = true, .snoop = true}));
static_assert(three.check(attributes{.read = true, .transient_mapping = true}).error().code ==
              errc::not_supported);
static_assert(five.check(attributes{.read = true, .transient_mapping = true}));
static_assert(five.check(attributes{.snoop = true, .transient_mapping = true}).error().code ==
              errc::not_supported);

// Rule 19: neither as input nor as output.
static_assert(interrupt_range.first() == iova{0xFEE0'0000} &&
              interrupt_range.last() == iova{0xFEEF'FFFF});
constexpr std::uint64_t refused(std::uint64_t input, std::uint64_t size, std::uint64_t output) {
    const auto allowed = four.check(pt::range{iova{input}, size}, hpa{output});
    return allowed ? 0 : allowed.error().code == errc::reserved_address ? allowed.error().where : 1;
}
static_assert(refused(0xFED0'0000, 0x10'0000, 0) == 0);
static_assert(refused(0xFEF0'0000, 0x10'0000, 0) == 0);
static_assert(refused(0xFEE0'0000, 0, 0) == 0);
static_assert(refused(0xFEEF'F000, 0x1000, 0) == 0xFEEF'F000);
static_assert(refused(0, ~std::uint64_t{0}, 0) == 0xFEE0'0000);
static_assert(refused(0, 0x10'0000, 0xFED0'0000) == 0);
static_assert(refused(0, 0x10'0000, 0xFEF0'0000) == 0);
static_assert(refused(0, 0, 0xFEE0'0000) == 0);
static_assert(refused(0, 0x10'1000, 0xFED0'0000) == 0xFEE0'0000);
static_assert(refused(0, 0x1000, 0xFEEF'F000) == 0xFEEF'F000);
static_assert(refused(0, 0x10'0000'0000, 0) == 0xFEE0'0000);
static_assert(refused(0xFEEF'F000, 0x1000, 0xFEE0'0000) == 0xFEEF'F000); // the input comes first

// The live count lies in bits 61:52, which are ignored, and reaches 512; bit 62 stays 0.
static_assert(table_entry{table_entry::live_entries(512)}.raw == 0x2000'0000'0000'0000);
static_assert(table_entry{table_entry::live_entries(1)}.raw == 0x0010'0000'0000'0000);
static_assert(pt::paging::live_count_mask == 0x3FF0'0000'0000'0000);

// Reserved bits.

/// Bits that, set one at a time in an entry without defect, make it defective.
struct masks {
    std::uint64_t page_size = 0;
    std::uint64_t misaligned_page = 0;
    std::uint64_t reserved_bits = 0;
};
/// Sets each bit of an entry in turn; bits 51:39 are beyond the host address width.
constexpr bool one_bit_more(const format& by, std::uint64_t entry, unsigned level, masks bad) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t changed = std::uint64_t{1} << bit;
        const entry_defect expected =
            (entry & changed) != 0                   ? entry_defect::none
            : (0x000F'FF80'0000'0000 & changed) != 0 ? entry_defect::address_width
            : (bad.page_size & changed) != 0         ? entry_defect::page_size
            : (bad.misaligned_page & changed) != 0   ? entry_defect::misaligned_page
            : (bad.reserved_bits & changed) != 0     ? entry_defect::reserved_bits
                                                     : entry_defect::none;
        if (by.defect(entry | changed, level) != expected) {
            return false;
        }
    }
    return true;
}
constexpr std::uint64_t tm = 0x4000'0000'0000'0000;
constexpr std::uint64_t snp = 0x800;
static_assert(one_bit_more(five, 0x1003, 5, {.page_size = 0x80, .reserved_bits = tm | snp}));
static_assert(one_bit_more(five, 0x1003, 4, {.page_size = 0x80, .reserved_bits = tm | snp}));
static_assert(one_bit_more(five, 0x4000'0003, 3, {.reserved_bits = tm | snp})); // page by bit 7
static_assert(one_bit_more(five, 0x83, 3, {.misaligned_page = 0x3FFF'F000}));
static_assert(one_bit_more(five, 0x83, 2, {.misaligned_page = 0x001F'F000}));
static_assert(one_bit_more(five, 0x1001, 1, {}));
static_assert(one_bit_more(five, 0x1002, 1, {}));
static_assert(one_bit_more(four, 0x1003, 3, {.page_size = 0x80, .reserved_bits = tm | snp}));
static_assert(one_bit_more(four, 0x1003, 2, {.page_size = 0x80, .reserved_bits = tm | snp}));
static_assert(one_bit_more(four, 0x1003, 1, {.reserved_bits = tm | snp}));
static_assert(one_bit_more(three, 0x1003, 3, {.page_size = 0x80, .reserved_bits = tm | snp}));
static_assert(one_bit_more(three, 0x83, 2, {.misaligned_page = 0x001F'F000, .reserved_bits = tm}));
static_assert(one_bit_more(three, 0x1003, 1, {.reserved_bits = tm}));
static_assert(format{{.output_width = 52}}.defect(0xF'FFFF'FFFF'F003, 1) == entry_defect::none);
// Of several defects, the one that is named first.
static_assert(four.defect(tm | 0x80'0000'1883, 2) == entry_defect::address_width);
static_assert(four.defect(tm | 0x1883, 2) == entry_defect::page_size);
static_assert(three.defect(tm | 0x1883, 2) == entry_defect::misaligned_page);

// Units with different abilities.
constexpr limits some{.levels = 4,
                      .input_width = 39,
                      .output_width = 46,
                      .largest_page = size_1g,
                      .snoop_control = true,
                      .transient_mapping = true};
constexpr limits others{.levels = 4,
                        .input_width = 48,
                        .output_width = 39,
                        .largest_page = size_2m,
                        .stale_when_mapped = true};
constexpr bool least(const limits& of) {
    return of.levels == 4 && of.input_width == 39 && of.output_width == 39 &&
           of.largest_page == size_2m && !of.snoop_control && !of.transient_mapping &&
           !of.accessed_dirty && of.stale_when_mapped;
}
static_assert(least(common(some, others)) && least(common(others, some)));
static_assert(common(some, some).snoop_control && common(some, some).transient_mapping &&
              common(some, some).largest_page == size_1g && !common(some, some).stale_when_mapped);
static_assert(common({.accessed_dirty = true}, {.accessed_dirty = true}).accessed_dirty);

// A context entry says the number of levels in bits 66:64 as 1, 2 or 3 (rule 17).
constexpr pt::vtd::context_entry entry_for(const format& walked) {
    using pt::vtd::capability;
    return pt::vtd::context_entry_for(
               capability::reported(capability::supported_address_widths(0b1110),
                                    capability::number_of_domains(2)),
               pt::vtd::extended_capability{},
               pt::vtd::translation::second_stage(hpa{0x1000}, walked, 7))
        .value();
}
static_assert(entry_for(three).high.raw == 0x701);
static_assert(entry_for(four).high.raw == 0x702);
constexpr format five_in_legacy_mode{{.levels = 5, .input_width = 57, .output_width = 52}};
static_assert(entry_for(five_in_legacy_mode).high.raw == 0x703);
static_assert(entry_for(five_in_legacy_mode).low.raw == 0x1001);

} // namespace
