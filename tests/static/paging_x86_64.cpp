// SPDX-License-Identifier: BSL-1.0
// Long-mode tables in numbers, as AMD's nested paging and as VT-d's first stage: by hand from the
// manuals' figures, and checked against the walker.
#include "pt/paging/x86_64.hpp"

#include "../paging_model/walker.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::x86_64;
using paging_model::outcome;
using pt::errc;
using pt::gpa;
using pt::hpa;
using pt::iova;
using pt::paging::entry_defect;
using enum pt::paging::page_size;

constexpr nested_paging nested{48, {.pages_1g = true}};
constexpr nested_paging nested_5{52, {.levels = 5, .pages_1g = true}};
constexpr nested_paging plain{40, {.no_execute = false}};
constexpr first_stage first{46, {.pages_1g = true}};
constexpr first_stage first_5{46, {.levels = 5, .no_execute = false}};

// A guest has no more physical address bits than the processor; of a device's canonical addresses,
// the lower half can be mapped.
static_assert(nested.levels() == 4 && nested.input_width() == 48 && nested.output_width() == 48);
static_assert(nested_5.levels() == 5 && nested_5.input_width() == 52);
static_assert(plain.input_width() == 40 && nested_paging{52}.input_width() == 48);
static_assert(first.levels() == 4 && first.input_width() == 47 && first.output_width() == 46);
static_assert(first_5.levels() == 5 && first_5.input_width() == 56);
static_assert(nested_paging{255}.output_width() == 52 && nested_paging{0}.output_width() == 0);
static_assert(nested.largest_page(ram) == size_1g && plain.largest_page(ram) == size_2m);
static_assert(std::same_as<nested_paging::address, gpa> &&
              std::same_as<first_stage::address, iova>);
static_assert(!first.stale_when_mapped() &&
              first_stage{46, {.stale_when_mapped = true}}.stale_when_mapped());
static_assert(!nested.stale_when_mapped() && nested.sets_flags() && first.sets_flags());

// Present 0, write 1, user 2, PWT 3, PCD 4, accessed 5, dirty 6, PAT 7 or 12, page 7, global 8,
// frame in 51:12, no-execute 63.
static_assert(nested.leaf(hpa{0x1234'5000}, ram, 1) == 0x1234'5007);
static_assert(nested.leaf(hpa{0x1220'0000}, ram, 2) == 0x1220'0087);
static_assert(nested.leaf(hpa{0x4000'0000}, ram, 3) == 0x4000'0087);
static_assert(nested.leaf(hpa{0xFEC0'0000}, device_memory, 1) == 0x8000'0000'FEC0'001F);
static_assert(nested.leaf(hpa{0xFEC0'0000}, device_memory, 2) == 0x8000'0000'FEC0'009F);
static_assert(nested.leaf(hpa{0x1000}, {.execute = true, .user = false}, 1) == 0x1001);
static_assert(nested.leaf(hpa{0x1000}, {.execute = true, .pat_entry = 1}, 1) == 0x100D);
static_assert(nested.leaf(hpa{0x1000}, {.execute = true, .pat_entry = 2}, 1) == 0x1015);
static_assert(nested.leaf(hpa{0x1000}, {.execute = true, .pat_entry = 4}, 1) == 0x1085);
static_assert(nested.leaf(hpa{0x20'0000}, {.execute = true, .pat_entry = 4}, 2) == 0x20'1085);
static_assert(nested.leaf(hpa{0x4000'0000}, {.execute = true, .pat_entry = 5}, 3) == 0x4000'108D);
static_assert(nested.leaf(hpa{0x1000}, {.execute = true, .global = true}, 1) == 0x1105);
static_assert(nested.leaf(hpa{0x1000}, {}, 1) == 0x8000'0000'0000'1005);
static_assert(leaf_entry{leaf_entry::accessed(true)}.raw == 0x20 &&
              leaf_entry{leaf_entry::dirty(true)}.raw == 0x40);
static_assert(large_leaf_entry::frame.get(0x4000'109F) == hpa{0x4000'0000});
static_assert(nested_paging::empty == 0 && nested_paging::present_mask == 1 &&
              nested_paging::page_bit == 0x80 && nested_paging::accessed_mask == 0x20 &&
              nested_paging::dirty_mask == 0x40 && nested_paging::write_needs_read);
static_assert(nested.is_present(1) && !nested.is_present(~std::uint64_t{1}));

// Entries that point to tables grant everything, and are accessed from the start.
static_assert(nested.table(hpa{0x1234'5000}) == 0x1234'5027);
static_assert(first.table(hpa{0x1234'5000}) == 0x1234'5027);
static_assert(table_entry{table_entry::live_entries(512)}.raw == 0x2000'0000'0000'0000);
static_assert(table_entry{nested.table(hpa{0x1000})}[table_entry::accessed]);

// PAT moves on the way between 2 MiB and 4 KiB, and stays between 1 GiB and 2 MiB. Accessed, dirty,
// global and no-execute go along.
static_assert(nested.split(0x8000'0000'4000'11FF, 3) == 0x8000'0000'4000'11FF);
static_assert(nested.split(0x8000'0000'4000'11FF, 2) == 0x8000'0000'4000'01FF);
static_assert(nested.split(0x8000'0000'4000'01FF, 2) == 0x8000'0000'4000'017F);
static_assert(nested.join(0x8000'0000'4000'01FF, 2) == 0x8000'0000'4000'11FF);
static_assert(nested.join(0x8000'0000'4000'017F, 2) == 0x8000'0000'4000'01FF);
static_assert(nested.join(0x8000'0000'4000'11FF, 3) == 0x8000'0000'4000'11FF);
static_assert(nested.write_protected(0x8000'0000'4000'11FF) == 0x8000'0000'4000'11FD);

// Every combination of attributes: accepted is what the walker translates, the walker finds what was
// asked for, and everything comes back at every level.
constexpr bool as_the_walker_sees_it(unsigned level, bool no_execute) {
    const nested_paging by{40, {.pages_1g = true, .no_execute = no_execute}};
    for (unsigned code = 0; code < 128; ++code) {
        const attributes a{.write = (code & 1) != 0,
                           .execute = (code & 2) != 0,
                           .user = (code & 4) != 0,
                           .pat_entry = static_cast<std::uint8_t>((code >> 3) & 7),
                           .global = (code & 64) != 0};
        const std::uint64_t leaf = by.leaf(hpa{0xAB'C000'0000}, a, level);
        const std::uint64_t tables[] = {by.table(hpa{0x1000}), leaf};
        const outcome found =
            paging_model::x86_64_walker{
                .physical_width = 40, .pages_1g = true, .no_execute = no_execute}
                .walk([&tables](std::uint64_t, unsigned i) { return &tables[i == 511 ? 1 : 0]; }, 0,
                      std::uint64_t{0x1FF} << (12 + 9 * (level - 1)) | 0x123);
        const bool taken = found.what == outcome::kind::translated;
        if (by.check(a).has_value() != taken || !(by.attributes_of(leaf, level) == a)) {
            return false;
        }
        if (taken && (found.output != 0xAB'C000'0123 || found.write != a.write ||
                      found.execute != a.execute || found.type != a.pat_entry ||
                      found.extra != std::uint64_t{a.global} << 8 ||
                      found.page != std::uint64_t{1} << (12 + 9 * (level - 1)))) {
            return false;
        }
        if (level > 1 && (by.split(leaf, level) != by.leaf(hpa{0xAB'C000'0000}, a, level - 1) ||
                          by.join(by.split(leaf, level), level) != leaf)) {
            return false;
        }
    }
    return true;
}
static_assert(as_the_walker_sees_it(1, true) && as_the_walker_sees_it(1, false));
static_assert(as_the_walker_sees_it(2, true) && as_the_walker_sees_it(2, false));
static_assert(as_the_walker_sees_it(3, true) && as_the_walker_sees_it(3, false));

static_assert(nested.check(ram) && nested.check(device_memory) && nested.check(attributes{}));
static_assert(first.check(ram) && first.check(device_memory));
static_assert(nested.check(attributes{.pat_entry = 8}).error().code == errc::not_supported);
static_assert(plain.check(ram) && plain.check(device_memory).error().code == errc::not_supported);
static_assert(first_5.check(device_memory).error().code == errc::not_supported);
// Nested walks are accesses of user mode; requests of devices need not be.
static_assert(nested.check(attributes{.user = false}).error().code == errc::not_supported);
static_assert(first.check(attributes{.user = false}));

// Rule 19 is about devices.
constexpr pt::range<iova> on_the_bus{iova{0xFEDF'F000}, 0x2000};
static_assert(first.check(on_the_bus, hpa{0x1000}).error() ==
              pt::error{errc::reserved_address, 0xFEE0'0000});
static_assert(first.check(pt::range{iova{0}, 0x2000}, hpa{0xFEDF'F000}).error() ==
              pt::error{errc::reserved_address, 0xFEE0'0000});
static_assert(first.check(pt::range{iova{0xFEDF'F000}, 0x1000}, hpa{0xFEF0'0000}));
static_assert(nested.check(pt::range{gpa{0xFEDF'F000}, 0x2000}, hpa{0xFEE0'0000}));

// Reserved bits.

/// Bits that, set one at a time in an entry without defect, make it defective.
struct masks {
    std::uint64_t page_size = 0;
    std::uint64_t misaligned_page = 0;
    std::uint64_t reserved_bits = 0;
};
/// Sets each bit of an entry in turn; bits 51:40 are beyond the address width.
template <class Format>
constexpr bool one_bit_more(const Format& by, std::uint64_t entry, unsigned level, masks bad) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t changed = std::uint64_t{1} << bit;
        const entry_defect expected =
            (entry & changed) != 0                   ? entry_defect::none
            : (0x000F'FF00'0000'0000 & changed) != 0 ? entry_defect::address_width
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
constexpr std::uint64_t nx = 0x8000'0000'0000'0000;
constexpr std::uint64_t global = 0x100;
constexpr nested_paging amd{40, {.levels = 5, .pages_1g = true}};
constexpr nested_paging amd_nothing{40, {.levels = 5, .no_execute = false}};
constexpr first_stage unit{40, {.levels = 5, .pages_1g = true}};
constexpr first_stage unit_nothing{40, {.levels = 5, .no_execute = false}};

static_assert(one_bit_more(amd, 0x1007, 5, {.page_size = 0x80, .reserved_bits = global}));
static_assert(one_bit_more(amd, 0x1007, 4, {.page_size = 0x80, .reserved_bits = global}));
static_assert(one_bit_more(amd, 0x4000'0007, 3, {})); // bit 7 makes it a page
static_assert(one_bit_more(amd, 0x4000'0007, 2, {}));
static_assert(one_bit_more(amd, 0x87, 3, {.misaligned_page = 0x3FFF'E000})); // bit 12 is PAT
static_assert(one_bit_more(amd, 0x87, 2, {.misaligned_page = 0x001F'E000}));
static_assert(one_bit_more(amd, 0x1007, 1, {}));

static_assert(one_bit_more(amd_nothing, 0x1007, 4,
                           {.page_size = 0x80, .reserved_bits = global | nx}));
static_assert(one_bit_more(amd_nothing, 0x1007, 3, {.page_size = 0x80, .reserved_bits = nx}));
static_assert(one_bit_more(amd_nothing, 0x87, 2,
                           {.misaligned_page = 0x001F'E000, .reserved_bits = nx}));
static_assert(one_bit_more(amd_nothing, 0x1007, 1, {.reserved_bits = nx}));

static_assert(one_bit_more(unit, 0x1007, 5, {.page_size = 0x80}));
static_assert(one_bit_more(unit, 0x1007, 4, {.page_size = 0x80}));
static_assert(one_bit_more(unit, 0x87, 3, {.misaligned_page = 0x3FFF'E000}));
static_assert(one_bit_more(unit_nothing, 0x1007, 3, {.page_size = 0x80}));
static_assert(one_bit_more(unit_nothing, 0x87, 2, {.misaligned_page = 0x001F'E000}));
static_assert(one_bit_more(unit_nothing, 0x1007, 1, {}));

static_assert(nested_5.defect(0xF'FFFF'FFFF'F007, 1) == entry_defect::none);
// Of several defects, the one that is named first.
static_assert(amd_nothing.defect(nx | 0x100'0000'2087, 3) == entry_defect::address_width);
static_assert(amd_nothing.defect(nx | 0x2087, 3) == entry_defect::page_size);
static_assert(amd_nothing.defect(nx | 0x2087, 2) == entry_defect::misaligned_page);

// nCR3, which only nested paging has.
static_assert(nested.nested_cr3(hpa{0xFFFF'FFFF'F000})->raw == 0xFFFF'FFFF'F000);
static_assert(nested.nested_cr3(hpa{0x1800}).error() == pt::error{errc::misaligned, 0x1800});
static_assert(nested.nested_cr3(hpa{0x1'0000'0000'0000}).error() ==
              pt::error{errc::out_of_range, 0x1'0000'0000'0000});
static_assert(cr3{cr3::write_through(true)}.raw == 0x08 &&
              cr3{cr3::cache_disable(true)}.raw == 0x10);
template <class Format>
concept has_nested_cr3 = requires(const Format format) {
    format.nested_cr3(hpa{});
};
static_assert(has_nested_cr3<nested_paging> && !has_nested_cr3<first_stage>);

// Input addresses are a guest's or a device's.
template <class Address>
concept can_be_input = requires {
    typename format<Address>;
};
static_assert(can_be_input<gpa> && can_be_input<iova> && !can_be_input<hpa> &&
              !can_be_input<pt::io_port>);

} // namespace
