// SPDX-License-Identifier: BSL-1.0
// VT-d second stage in numbers: by hand from the manual's tables.
#include "pt/paging/vtd_second_stage.hpp"

namespace {

using namespace pt::vtd::second_stage;
using pt::hpa;
using pt::iova;
using enum pt::paging::page_size;

constexpr format four{{.levels = 4, .input_width = 48, .output_width = 39}};
constexpr format three{{.levels = 3,
                        .input_width = 48,
                        .output_width = 39,
                        .largest_page = size_2m,
                        .snoop_control = true,
                        .stale_when_mapped = true}};

static_assert(four.levels() == 4 && four.input_width() == 48 && four.output_width() == 39);
static_assert(three.levels() == 3 && three.input_width() == 39); // what three levels reach
static_assert(four.largest_page() == size_4k && three.largest_page() == size_2m);
static_assert(!four.stale_when_mapped() && three.stale_when_mapped());
// A guest address width below the tables' reach limits what is mapped.
static_assert(format{{.levels = 4, .input_width = 39}}.input_width() == 39);
// Firmware may claim any width; the entries have 52 bits.
static_assert(format{{.output_width = 256}}.output_width() == 52);
static_assert(format{{.output_width = 0}}.output_width() == 0);

// Read in 0, write in 1, page in 7, snoop in 11, frame in 51:12; no present bit (rule 18).
static_assert(four.leaf(hpa{0x1234'5000}, read_write, 1) == 0x1234'5003);
static_assert(four.leaf(hpa{0x1234'5000}, {.read = true}, 1) == 0x1234'5001);
static_assert(four.leaf(hpa{0x1234'5000}, {.write = true}, 1) == 0x1234'5002);
static_assert(four.leaf(hpa{0x1220'0000}, read_write, 2) == 0x1220'0083);
static_assert(four.leaf(hpa{0x4000'0000}, read_write, 3) == 0x4000'0083);
static_assert(three.leaf(hpa{0x1000}, {.read = true, .snoop = true}, 1) == 0x1801);
static_assert(four.table(hpa{0x1234'5000}) == 0x1234'5003);
static_assert(format::empty == 0 && format::present_mask == 3 && format::page_bit == 0x80);
static_assert(three.attributes_of(0x1801) == attributes{.read = true, .snoop = true});
static_assert(three.attributes_of(0x1002) == attributes{.write = true});

static_assert(four.split(0x4000'0B83, 3) == 0x4000'0B83);
static_assert(four.split(0x4000'0B83, 2) == 0x4000'0B03);

static_assert(four.check(read_write) && four.check(attributes{.read = true}) &&
              four.check(attributes{.write = true}));
static_assert(four.check(attributes{}).error().code == pt::errc::not_supported);
static_assert(four.check(attributes{.snoop = true}).error().code == pt::errc::not_supported);
static_assert(four.check(attributes{.read = true, .snoop = true}).error().code ==
              pt::errc::not_supported); // reserved without snoop control
static_assert(three.check(attributes{.read = true, .snoop = true}));

// Rule 19: neither as input nor as output.
static_assert(interrupt_range.first() == iova{0xFEE0'0000} &&
              interrupt_range.last() == iova{0xFEEF'FFFF});
constexpr std::uint64_t refused(std::uint64_t input, std::uint64_t size, std::uint64_t output) {
    const auto allowed = four.check(pt::range{iova{input}, size}, hpa{output});
    return allowed                                              ? 0
           : allowed.error().code == pt::errc::reserved_address ? allowed.error().where
                                                                : 1;
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

// The live count, minus one, lies in bits 60:52 (61 and 62 stay 0).
static_assert(table_entry{table_entry::live_entries(511)}.raw == 0x1FF0'0000'0000'0000);
static_assert(pt::paging::live_count_mask == 0x1FF0'0000'0000'0000);

} // namespace
