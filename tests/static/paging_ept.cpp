// SPDX-License-Identifier: BSL-1.0
// EPT in numbers: written down by hand from the manual's tables, and checked against the walker.
#include "pt/paging/ept.hpp"

#include "../paging_model/walker.hpp"

#include <cstdint>

namespace {

using namespace pt::ept;
using paging_model::outcome;
using pt::errc;
using pt::hpa;
using enum pt::paging::page_size;

constexpr capabilities skylake{0xF01'0673'4141};
static_assert(skylake[capabilities::execute_only] && skylake[capabilities::walk_length_4] &&
              !skylake[capabilities::walk_length_5] &&
              skylake[capabilities::structures_uncacheable] &&
              skylake[capabilities::structures_write_back] && skylake[capabilities::pages_2m] &&
              skylake[capabilities::pages_1g] && skylake[capabilities::invept] &&
              skylake[capabilities::accessed_dirty] &&
              skylake[capabilities::advanced_violation_information] &&
              !skylake[capabilities::supervisor_shadow_stack] &&
              skylake[capabilities::invept_single_context] &&
              skylake[capabilities::invept_all_contexts] && skylake[capabilities::invvpid] &&
              skylake[capabilities::invvpid_individual_address] &&
              skylake[capabilities::invvpid_single_context] &&
              skylake[capabilities::invvpid_all_contexts] &&
              skylake[capabilities::invvpid_retaining_globals] &&
              skylake[capabilities::hlat_prefix_size] == 0);

// Every bit of IA32_VMX_EPT_VPID_CAP alone.
template <class Field>
constexpr bool is(Field field, unsigned bit) {
    return field.get(std::uint64_t{1} << bit) && !field.get(~(std::uint64_t{1} << bit));
}
static_assert(is(capabilities::execute_only, 0) && is(capabilities::walk_length_4, 6) &&
              is(capabilities::walk_length_5, 7) && is(capabilities::structures_uncacheable, 8) &&
              is(capabilities::structures_write_back, 14) && is(capabilities::pages_2m, 16) &&
              is(capabilities::pages_1g, 17) && is(capabilities::invept, 20) &&
              is(capabilities::accessed_dirty, 21) &&
              is(capabilities::advanced_violation_information, 22) &&
              is(capabilities::supervisor_shadow_stack, 23) &&
              is(capabilities::invept_single_context, 25) &&
              is(capabilities::invept_all_contexts, 26) && is(capabilities::invvpid, 32) &&
              is(capabilities::invvpid_individual_address, 40) &&
              is(capabilities::invvpid_single_context, 41) &&
              is(capabilities::invvpid_all_contexts, 42) &&
              is(capabilities::invvpid_retaining_globals, 43));
static_assert(capabilities::hlat_prefix_size.mask == 0x003F'0000'0000'0000);

/// Everything that the capability MSR can report, and everything that a VMM can turn on.
constexpr capabilities all{~std::uint64_t{0}};
constexpr options every{.levels = 5,
                        .accessed_dirty = true,
                        .mode_based_execute = true,
                        .supervisor_shadow_stack = true,
                        .sub_page_write_permissions = true,
                        .guest_paging_verification = true,
                        .paging_write = true};

constexpr format ept{skylake, 46};
constexpr format full{all, 40, every};
static_assert(ept.levels() == 4 && ept.input_width() == 48 && ept.output_width() == 46);
static_assert(full.levels() == 5 && full.input_width() == 57 && full.output_width() == 40);
static_assert(ept.largest_page(ram) == size_1g);
static_assert(format{capabilities{1 << 16}, 36}.largest_page(ram) == size_2m);
static_assert(format{capabilities{1 << 17}, 36}.largest_page(ram) ==
              size_4k); // 1 GiB alone: not used
static_assert(format{capabilities{0}, 36}.largest_page(ram) == size_4k);
static_assert(full.largest_page({.read = true, .sub_page_write_permissions = true}) == size_4k);
static_assert(!ept.stale_when_mapped()); // EPT caches no "not present" [sdm]
static_assert(!ept.sets_flags() && full.sets_flags());
static_assert(!format{all, 40, {.mode_based_execute = true}}.sets_flags());

// MAXPHYADDR is what CPUID says; what exceeds the entries is cut off, and nothing is too small.
static_assert(format{skylake, 52}.output_width() == 52 && format{skylake, 53}.output_width() == 52);
static_assert(format{skylake, 255}.output_width() == 52 && format{skylake, 0}.output_width() == 0);
static_assert(format{skylake, 255}.eptp(hpa{0xF'FFFF'FFFF'F000})->raw == 0xF'FFFF'FFFF'F01E);
static_assert(format{skylake, 255}.eptp(hpa{0x10'0000'0000'0000}).error().code ==
              errc::out_of_range);

// EPTP: 6 = write-back in 2:0, levels minus one in 5:3, accessed/dirty in 6, shadow stacks in 7.
static_assert(ept.eptp(hpa{0x1234'5000})->raw == 0x1234'501E);
static_assert(ept.eptp(hpa{0x3FFF'FFFF'F000})->raw == 0x3FFF'FFFF'F01E);
static_assert(format{all, 46, {.levels = 5}}.eptp(hpa{0x1000})->raw == 0x1026);
static_assert(format{all, 46, {.accessed_dirty = true}}.eptp(hpa{0x1000})->raw == 0x105E);
static_assert(format{all, 46, {.supervisor_shadow_stack = true}}.eptp(hpa{0x1000})->raw == 0x109E);
static_assert(full.eptp(hpa{0x1000})->raw == 0x10E6);
static_assert(format{capabilities{1 << 6 | 1 << 8}, 46}.eptp(hpa{0x1000})->raw == 0x1018); // UC
static_assert(ept.eptp(hpa{0x1234'5800}).error() == pt::error{errc::misaligned, 0x1234'5800});
static_assert(ept.eptp(hpa{0x4000'0000'0000}).error().code == errc::out_of_range);

/// Whether a processor with these capabilities gives an EPTP for these options, or refuses.
constexpr bool gives_eptp(std::uint64_t reported, options enabled) {
    return format{capabilities{reported}, 46, enabled}.eptp(hpa{0x1000}).has_value();
}
constexpr bool has_no_eptp(std::uint64_t reported, options enabled) {
    const auto given = format{capabilities{reported}, 46, enabled}.eptp(hpa{0x1000});
    return !given && given.error() == pt::error{errc::not_supported, reported};
}
static_assert(gives_eptp(1 << 14 | 1 << 6, {}));
static_assert(has_no_eptp(1 << 14 | 1 << 7, {})); // no 4-level walk
static_assert(has_no_eptp(1 << 6 | 1 << 7, {}));  // no memory type
static_assert(gives_eptp(1 << 14 | 1 << 7, {.levels = 5}));
static_assert(has_no_eptp(1 << 14 | 1 << 6, {.levels = 5}));
static_assert(gives_eptp(1 << 14 | 1 << 6 | 1 << 21, {.accessed_dirty = true}));
static_assert(has_no_eptp(1 << 14 | 1 << 6, {.accessed_dirty = true}));
static_assert(gives_eptp(1 << 14 | 1 << 6 | 1 << 23, {.supervisor_shadow_stack = true}));
static_assert(has_no_eptp(1 << 14 | 1 << 6, {.supervisor_shadow_stack = true}));
// What is turned on in the VMCS has its capabilities elsewhere.
static_assert(gives_eptp(1 << 14 | 1 << 6, {.mode_based_execute = true,
                                            .sub_page_write_permissions = true,
                                            .guest_paging_verification = true,
                                            .paging_write = true}));

// Leaves: rights in 2:0, type in 5:3, ignore-PAT in 6, page in 7, frame in 51:12, suppress #VE in 63; bit 10
// says for user mode what bit 2 says, and is ignored without mode-based execute control.
static_assert(ept.leaf(hpa{0x1234'5000}, ram, 1) == 0x8000'0000'1234'5437);
static_assert(ept.leaf(hpa{0x1220'0000}, ram, 2) == 0x8000'0000'1220'04B7);
static_assert(ept.leaf(hpa{0x4000'0000}, ram, 3) == 0x8000'0000'4000'04B7);
static_assert(ept.leaf(hpa{0xFEC0'0000}, device_memory, 1) == 0x8000'0000'FEC0'0003);
static_assert(ept.leaf(hpa{0x1000}, {.read = true, .type = memory_type::write_combining}, 1) ==
              0x8000'0000'0000'1009);
static_assert(ept.leaf(hpa{0x1000},
                       {.execute = true, .type = memory_type::write_through, .ignore_pat = true},
                       1) == 0x8000'0000'0000'1464);
static_assert(ept.leaf(hpa{0x1000},
                       {.read = true, .execute = true, .type = memory_type::write_protected},
                       1) == 0x8000'0000'0000'142D);
static_assert(ept.leaf(hpa{0x1000}, {.read = true, .suppress_ve = false}, 1) == 0x1001);
// With mode-based execute control, user mode executes by bit 10; and what was written for one right
// to execute means both.
static_assert(full.leaf(hpa{0x1234'5000}, ram, 1) == 0x8000'0000'1234'5437);
static_assert(full.leaf(hpa{0xFEC0'0000}, device_memory, 1) == 0x8000'0000'FEC0'0003);
static_assert(full.leaf(hpa{0x1000}, {.execute = true, .user_execute = false}, 1) ==
              0x8000'0000'0000'1004);
static_assert(full.leaf(hpa{0x1000}, {.user_execute = true}, 1) == 0x8000'0000'0000'1400);
static_assert(full.leaf(hpa{0x1000}, {.read = true, .verify_guest_paging = true}, 1) ==
              0x8200'0000'0000'1001);
static_assert(full.leaf(hpa{0x1000}, {.read = true, .paging_write = true}, 1) ==
              0x8400'0000'0000'1001);
static_assert(full.leaf(hpa{0x1000}, {.read = true, .supervisor_shadow_stack = true}, 1) ==
              0x9000'0000'0000'1001);
static_assert(full.leaf(hpa{0x1000}, {.read = true, .sub_page_write_permissions = true}, 1) ==
              0xA000'0000'0000'1001);
static_assert(leaf_entry{leaf_entry::accessed(true)}.raw == 0x100 &&
              leaf_entry{leaf_entry::dirty(true)}.raw == 0x200);
static_assert(format::accessed_mask == 0x100 && format::dirty_mask == 0x200 &&
              format::page_bit == 0x80 && format::present_mask == 0x407 &&
              format::empty == 0x8000'0000'0000'0000);

// Entries that point to tables grant everything that the controls distinguish, and where hardware
// sets flags, they are accessed from the start.
static_assert(ept.table(hpa{0x1234'5000}) == 0x1234'5007);
static_assert(format{all, 46, {.mode_based_execute = true}}.table(hpa{0x1000}) == 0x1407);
static_assert(format{all, 46, {.accessed_dirty = true}}.table(hpa{0x1000}) == 0x1107);
static_assert(full.table(hpa{0x1000}) == 0x1507);
// The live count lies in bits 61:52 and reaches 512.
static_assert(table_entry{table_entry::live_entries(512)}.raw == 0x2000'0000'0000'0000 &&
              table_entry{table_entry::live_entries(1)}.raw == 0x0010'0000'0000'0000 &&
              pt::paging::live_count_mask == 0x3FF0'0000'0000'0000);
static_assert(ept.check(pt::range{pt::gpa{0}, ~std::uint64_t{0}}, hpa{0xFEE0'0000})); // all of it

// Present is what has a right; a right of user mode counts where there is one.
static_assert(ept.is_present(1) && ept.is_present(2) && ept.is_present(4) &&
              !ept.is_present(~std::uint64_t{7}));
static_assert(full.is_present(1) && full.is_present(2) && full.is_present(4) &&
              full.is_present(0x400) && !full.is_present(~std::uint64_t{0x407}));

// A split keeps everything but the page bit, which stays at level 2 and goes at level 1 (rule 9).
// Accessed (8), dirty (9) and what software left in ignored bits go along, but for bit 61: it is
// ignored in a large page and would ask for sub-page permissions in a small one.
static_assert(ept.split(0x8000'0000'4000'03F7, 3) == 0x8000'0000'4000'03F7);
static_assert(ept.split(0x8000'0000'4000'03F7, 2) == 0x8000'0000'4000'0377);
static_assert(full.split(0xFFF0'0000'4000'0FF7, 3) == 0xFFF0'0000'4000'0FF7);
static_assert(full.split(0xFFF0'0000'4000'0FF7, 2) == 0xDFF0'0000'4000'0F77);
static_assert(full.join(0x9600'0000'4000'0777, 2) == 0x9600'0000'4000'07F7);
static_assert(full.join(0x9600'0000'4000'07F7, 3) == 0x9600'0000'4000'07F7);
// Write, paging write, shadow stacks and sub-page permissions each allow some write.
static_assert(full.write_protected(0xFFFF'FFFF'FFFF'FFFF) == 0xCBFF'FFFF'FFFF'FFFD);
static_assert(ept.write_protected(0x8000'0000'1234'5037) == 0x8000'0000'1234'5035);
static_assert(format::write_needs_read);

// Attributes whose control is off are refused, and no others.
constexpr bool accepted(const format& by, attributes a) { return by.check(a).has_value(); }
constexpr bool refused(const format& by, attributes a) {
    const auto allowed = by.check(a);
    return !allowed && allowed.error().code == errc::not_supported;
}
static_assert(accepted(ept, ram) && accepted(ept, device_memory) && accepted(full, ram) &&
              accepted(full, device_memory));
static_assert(refused(ept, {}) && refused(full, {}));
static_assert(refused(ept, {.read = true, .type = static_cast<memory_type>(14)})); // 6 + 8
constexpr attributes supervisor_only{.read = true, .execute = true, .user_execute = false};
constexpr attributes user_only{.read = true, .user_execute = true};
constexpr attributes verified{.read = true, .verify_guest_paging = true};
constexpr attributes walked{.read = true, .paging_write = true};
constexpr attributes shadow{.read = true, .supervisor_shadow_stack = true};
constexpr attributes parts{.read = true, .sub_page_write_permissions = true};
/// Accepted with this control alone, refused with all the others.
constexpr bool needs(bool options::*control, attributes a) {
    options alone;
    alone.*control = true;
    options others = every;
    others.*control = false;
    return accepted(format{all, 40, alone}, a) && refused(format{all, 40, others}, a);
}
static_assert(needs(&options::mode_based_execute, supervisor_only));
static_assert(needs(&options::mode_based_execute, user_only));
static_assert(needs(&options::guest_paging_verification, verified));
static_assert(needs(&options::paging_write, walked));
static_assert(needs(&options::supervisor_shadow_stack, shadow));
static_assert(needs(&options::sub_page_write_permissions, parts));
static_assert(accepted(ept, {.read = true, .suppress_ve = false})); // ignored without the control

// Every attribute comes back, at every level at which it can be had.
constexpr bool comes_back(const format& by, attributes a) {
    for (unsigned level = 1; level <= static_cast<unsigned>(by.largest_page(a)); ++level) {
        const std::uint64_t leaf = by.leaf(hpa{0xFF'C000'0000}, a, level);
        if (!(by.attributes_of(leaf, level) == a) || !by.is_present(leaf) ||
            by.defect(leaf, level) != pt::paging::entry_defect::none) {
            return false;
        }
        if (level > 1 && (by.split(leaf, level) != by.leaf(hpa{0xFF'C000'0000}, a, level - 1) ||
                          by.join(by.split(leaf, level), level) != leaf)) {
            return false;
        }
    }
    return true;
}
static_assert(comes_back(ept, ram) && comes_back(ept, device_memory));
static_assert(comes_back(full, ram) && comes_back(full, device_memory) &&
              comes_back(full, supervisor_only) && comes_back(full, user_only) &&
              comes_back(full, verified) && comes_back(full, walked) && comes_back(full, shadow) &&
              comes_back(full, parts) && comes_back(full, {.read = true, .suppress_ve = false}));
// In a large page, bit 61 is ignored.
static_assert(full.attributes_of(0xA000'0000'0000'1031, 1).sub_page_write_permissions &&
              !full.attributes_of(0xA000'0000'0000'00B1, 2).sub_page_write_permissions);

/// Every combination of rights and types, on processors with and without execute-only: the format
/// accepts exactly what the processor translates, and reads its own entries back. Without mode-based
/// execute control, one right to execute cannot be two.
constexpr bool accepts_what_the_processor_takes(bool mode_based_execute) {
    for (unsigned code = 0; code < 0x200; ++code) {
        const bool execute_only = (code & 0x80) != 0;
        const attributes a{.read = (code & 1) != 0,
                           .write = (code & 2) != 0,
                           .execute = (code & 4) != 0,
                           .type = static_cast<memory_type>((code >> 3) & 7),
                           .ignore_pat = (code & 0x40) != 0,
                           .user_execute = (code & 0x100) != 0};
        const format here{
            capabilities{execute_only ? 1U : 0U}, 40, {.mode_based_execute = mode_based_execute}};
        const std::uint64_t tables[] = {here.table(hpa{0x1000}),
                                        here.leaf(hpa{0xAB'CDEF'0000}, a, 1)};
        const outcome found =
            paging_model::ept_walker{.physical_width = 40,
                                     .execute_only = execute_only,
                                     .mode_based_execute = mode_based_execute}
                .walk(
                    [&tables](std::uint64_t, unsigned i) {
                        return &tables[i == 511 ? 1 : 0]; // the last level's index
                    },
                    0, 0x1FF'123);
        const bool expressible = mode_based_execute || a.user_execute == a.execute;
        const bool taken = found.what == outcome::kind::translated && expressible;
        if (here.check(a).has_value() != taken ||
            (expressible && !(here.attributes_of(tables[1], 1) == a))) {
            return false;
        }
        if (taken &&
            (found.output != 0xAB'CDEF'0123 || found.read != a.read || found.write != a.write ||
             found.execute != a.execute || found.user_execute != a.user_execute ||
             found.ignore_pat != a.ignore_pat || found.type != static_cast<unsigned>(a.type))) {
            return false;
        }
    }
    return true;
}
static_assert(accepts_what_the_processor_takes(false));
static_assert(accepts_what_the_processor_takes(true));

// Misconfigurations (rule 8).

using pt::paging::entry_defect;

/// Bits that, set one at a time in an entry without defect, make it defective.
struct masks {
    std::uint64_t page_size = 0;
    std::uint64_t misaligned_page = 0;
    std::uint64_t memory_type = 0;
    std::uint64_t reserved_bits = 0;
};
/// Sets each bit of an entry in turn; bits 51:40 are beyond the address width of `full`.
constexpr bool one_bit_more(const format& by, std::uint64_t entry, unsigned level, masks bad) {
    for (unsigned bit = 0; bit < 64; ++bit) {
        const std::uint64_t changed = std::uint64_t{1} << bit;
        const entry_defect expected =
            (entry & changed) != 0                   ? entry_defect::none
            : (0x000F'FF00'0000'0000 & changed) != 0 ? entry_defect::address_width
            : (bad.page_size & changed) != 0         ? entry_defect::page_size
            : (bad.misaligned_page & changed) != 0   ? entry_defect::misaligned_page
            : (bad.memory_type & changed) != 0       ? entry_defect::memory_type
            : (bad.reserved_bits & changed) != 0     ? entry_defect::reserved_bits
                                                     : entry_defect::none;
        if (by.defect(entry | changed, level) != expected) {
            return false;
        }
    }
    return true;
}
constexpr format plain{all, 40};
constexpr format small_pages{capabilities{1}, 40};
constexpr bool known_bits(const format& by) {
    return one_bit_more(by, 0x1007, 5, {.page_size = 0x80, .reserved_bits = 0x78}) &&
           one_bit_more(by, 0x1007, 4, {.page_size = 0x80, .reserved_bits = 0x78}) &&
           one_bit_more(by, 0xB7, 3, {.misaligned_page = 0x3FFF'F000, .memory_type = 0x08}) &&
           one_bit_more(by, 0xB7, 2, {.misaligned_page = 0x001F'F000, .memory_type = 0x08}) &&
           one_bit_more(by, 0x1037, 1, {.memory_type = 0x08}) &&
           one_bit_more(by, 0x1003, 1, {.memory_type = 0x10}); // 2 is reserved, 1 and 4 are not
}
static_assert(known_bits(plain) && known_bits(full));
// A table at level 3 or 2 becomes a page by its bit 7, or has a page that the processor lacks.
static_assert(one_bit_more(plain, 0x4000'0007, 3, {.reserved_bits = 0x78}));
static_assert(one_bit_more(plain, 0x4000'0007, 2, {.reserved_bits = 0x78}));
static_assert(one_bit_more(small_pages, 0x1007, 3, {.page_size = 0x80, .reserved_bits = 0x78}));
static_assert(one_bit_more(small_pages, 0x1007, 2, {.page_size = 0x80, .reserved_bits = 0x78}));
static_assert(one_bit_more(small_pages, 0x1037, 1, {.memory_type = 0x08}));
// Each size by its own capability.
static_assert(format{capabilities{1 << 16}, 40}.defect(0xB7, 2) == entry_defect::none &&
              format{capabilities{1 << 16}, 40}.defect(0xB7, 3) == entry_defect::page_size &&
              format{capabilities{1 << 17}, 40}.defect(0xB7, 2) == entry_defect::page_size &&
              format{capabilities{1 << 17}, 40}.defect(0xB7, 3) == entry_defect::none);
static_assert(format{all, 52}.defect(0xF'FFFF'FFFF'F037, 1) == entry_defect::none);
static_assert(format{all, 51}.defect(0x8'0000'0000'0037, 1) == entry_defect::address_width);

// Rights, in leaves and in tables.
constexpr format no_execute_only{capabilities{0b11 << 16}, 40};
constexpr format no_execute_only_but_modes{
    capabilities{0b11 << 16}, 40, {.mode_based_execute = true}};
static_assert(plain.defect(0x1002, 4) == entry_defect::write_without_read &&
              plain.defect(0x1006, 4) == entry_defect::write_without_read &&
              plain.defect(0x1032, 1) == entry_defect::write_without_read &&
              full.defect(0x1432, 1) == entry_defect::write_without_read);
static_assert(plain.defect(0x1004, 4) == entry_defect::none &&
              plain.defect(0x1034, 1) == entry_defect::none &&
              full.defect(0x1430, 1) == entry_defect::none);
static_assert(no_execute_only.defect(0x1004, 4) == entry_defect::execute_only &&
              no_execute_only.defect(0x1034, 1) == entry_defect::execute_only &&
              no_execute_only_but_modes.defect(0x1400, 4) == entry_defect::execute_only &&
              no_execute_only_but_modes.defect(0x1434, 1) == entry_defect::execute_only);
static_assert(no_execute_only.defect(0x1005, 4) == entry_defect::none &&
              no_execute_only_but_modes.defect(0x1401, 4) == entry_defect::none);
// Paging-write access is a right to write: in a page, and where its control is on.
static_assert(full.defect(0x0400'0000'0000'1034, 1) == entry_defect::write_without_read &&
              full.defect(0x0400'0000'0000'00B4, 2) == entry_defect::write_without_read &&
              full.defect(0x0400'0000'0000'1035, 1) == entry_defect::none &&
              full.defect(0x0400'0000'0000'1004, 2) == entry_defect::none &&
              plain.defect(0x0400'0000'0000'1034, 1) == entry_defect::none);
static_assert(refused(full, {.execute = true, .paging_write = true}) &&
              accepted(full, {.read = true, .execute = true, .paging_write = true}));

// Memory types 2, 3 and 7, in pages of all sizes.
constexpr bool reserved_types() {
    for (std::uint64_t type = 0; type < 8; ++type) {
        const entry_defect expected =
            type == 2 || type == 3 || type == 7 ? entry_defect::memory_type : entry_defect::none;
        if (plain.defect(0x1007 | type << 3, 1) != expected ||
            plain.defect(0x87 | type << 3, 2) != expected ||
            plain.defect(0x87 | type << 3, 3) != expected) {
            return false;
        }
    }
    return true;
}
static_assert(reserved_types());

// Of several defects, the one that is named first.
static_assert(plain.defect(0x0000'0100'0000'1092, 2) == entry_defect::address_width);
static_assert(small_pages.defect(0x1092, 2) == entry_defect::write_without_read);
static_assert(no_execute_only.defect(0x1094, 2) == entry_defect::execute_only);
static_assert(small_pages.defect(0x1097, 2) == entry_defect::page_size);
static_assert(plain.defect(0x1097, 2) == entry_defect::misaligned_page);
static_assert(plain.defect(0x97, 2) == entry_defect::memory_type);

} // namespace
