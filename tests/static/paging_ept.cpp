// SPDX-License-Identifier: BSL-1.0
// EPT in numbers: written down by hand from the manual's tables, and checked against the walker.
#include "pt/paging/ept.hpp"

#include "../paging_model/walker.hpp"

#include <cstdint>

namespace {

using namespace pt::ept;
using paging_model::outcome;
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
              skylake[capabilities::invept_all_contexts]);

constexpr format ept{skylake, 46};
static_assert(ept.levels() == 4 && ept.input_width() == 48 && ept.output_width() == 46);
static_assert(ept.largest_page() == size_1g);
static_assert(format{capabilities{1 << 16}, 36}.largest_page() == size_2m);
static_assert(format{capabilities{1 << 17}, 36}.largest_page() == size_4k); // 1 GiB alone: not used
static_assert(format{capabilities{0}, 36}.largest_page() == size_4k);
static_assert(!ept.stale_when_mapped()); // EPT caches no "not present" [sdm]

// MAXPHYADDR is what CPUID says; what exceeds the entries is cut off, and nothing is too small.
static_assert(format{skylake, 52}.output_width() == 52 && format{skylake, 53}.output_width() == 52);
static_assert(format{skylake, 255}.output_width() == 52 && format{skylake, 0}.output_width() == 0);
static_assert(format{skylake, 255}.eptp(hpa{0xF'FFFF'FFFF'F000})->raw == 0xF'FFFF'FFFF'F01E);
static_assert(format{skylake, 255}.eptp(hpa{0x10'0000'0000'0000}).error().code ==
              pt::errc::out_of_range);

// EPTP: 6 = write-back in 2:0, 3 = four levels minus one in 5:3, accessed/dirty off in 6.
static_assert(ept.eptp(hpa{0x1234'5000})->raw == 0x1234'501E);
static_assert(ept.eptp(hpa{0x3FFF'FFFF'F000})->raw == 0x3FFF'FFFF'F01E);
static_assert(format{capabilities{1 << 6 | 1 << 8}, 46}.eptp(hpa{0x1000})->raw == 0x1018); // UC
static_assert(ept.eptp(hpa{0x1234'5800}).error() == pt::error{pt::errc::misaligned, 0x1234'5800});
static_assert(ept.eptp(hpa{0x4000'0000'0000}).error().code == pt::errc::out_of_range);
static_assert(format{capabilities{1 << 14}, 46}.eptp(hpa{0x1000}).error().code ==
              pt::errc::not_supported); // no 4-level walk
static_assert(format{capabilities{1 << 6}, 46}.eptp(hpa{0x1000}).error().code ==
              pt::errc::not_supported); // no memory type

// Leaves: rights in 2:0, type in 5:3, ignore-PAT in 6, page in 7, frame in 51:12, suppress #VE in 63.
static_assert(ept.leaf(hpa{0x1234'5000}, ram, 1) == 0x8000'0000'1234'5037);
static_assert(ept.leaf(hpa{0x1220'0000}, ram, 2) == 0x8000'0000'1220'00B7);
static_assert(ept.leaf(hpa{0x4000'0000}, ram, 3) == 0x8000'0000'4000'00B7);
static_assert(ept.leaf(hpa{0xFEC0'0000}, device_memory, 1) == 0x8000'0000'FEC0'0003);
static_assert(ept.leaf(hpa{0x1000}, {.read = true, .type = memory_type::write_combining}, 1) ==
              0x8000'0000'0000'1009);
static_assert(ept.leaf(hpa{0x1000},
                       {.execute = true, .type = memory_type::write_through, .ignore_pat = true},
                       1) == 0x8000'0000'0000'1064);
static_assert(ept.leaf(hpa{0x1000},
                       {.read = true, .execute = true, .type = memory_type::write_protected},
                       1) == 0x8000'0000'0000'102D);
static_assert(ept.table(hpa{0x1234'5000}) == 0x1234'5007);
static_assert(format::empty == 0x8000'0000'0000'0000);
// The live count, minus one, lies in bits 60:52.
static_assert(table_entry{table_entry::live_entries(511)}.raw == 0x1FF0'0000'0000'0000);
static_assert(ept.check(pt::range{pt::gpa{0}, ~std::uint64_t{0}}, hpa{0xFEE0'0000})); // all of it

// A split keeps everything but the page bit, which stays at level 2 and goes at level 1 (rule 9).
// Accessed (8), dirty (9) and what software left in ignored bits go along.
static_assert(ept.split(0x8000'0000'4000'03F7, 3) == 0x8000'0000'4000'03F7);
static_assert(ept.split(0x8000'0000'4000'03F7, 2) == 0x8000'0000'4000'0377);

/// Every combination of attributes, on processors with and without execute-only: the format accepts
/// exactly what the processor translates, and reads its own entries back.
constexpr bool accepts_what_the_processor_takes() {
    for (unsigned code = 0; code < 0x100; ++code) {
        const bool execute_only = (code & 0x80) != 0;
        const attributes a{.read = (code & 1) != 0,
                           .write = (code & 2) != 0,
                           .execute = (code & 4) != 0,
                           .type = static_cast<memory_type>((code >> 3) & 7),
                           .ignore_pat = (code & 0x40) != 0};
        const format here{capabilities{execute_only ? 1U : 0U}, 40};
        const std::uint64_t tables[] = {here.table(hpa{0x1000}),
                                        here.leaf(hpa{0xAB'CDEF'0000}, a, 1)};
        const outcome found =
            paging_model::ept_walker{.physical_width = 40, .execute_only = execute_only}.walk(
                [&tables](std::uint64_t, unsigned i) {
                    return &tables[i == 511 ? 1 : 0]; // the last level's index
                },
                0, 0x1FF'123);
        const bool taken = found.what == outcome::kind::translated;
        if (here.check(a).has_value() != taken || !(here.attributes_of(tables[1]) == a)) {
            return false;
        }
        if (taken &&
            (found.output != 0xAB'CDEF'0123 || found.read != a.read || found.write != a.write ||
             found.execute != a.execute || found.ignore_pat != a.ignore_pat ||
             found.type != static_cast<unsigned>(a.type))) {
            return false;
        }
    }
    return true;
}
static_assert(accepts_what_the_processor_takes());
static_assert(!ept.check(attributes{.read = true, .type = static_cast<memory_type>(14)})); // 6 + 8

} // namespace
