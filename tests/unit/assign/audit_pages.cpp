// SPDX-License-Identifier: BSL-1.0
// The isolation audit of pages, one rule at a time: at compile time and at run time, on tables that
// are written down bit by bit from the manual.
#include "../../assign_model/pages.hpp"

#include "pt/assign/audit_pages.hpp"
#include "pt/assign/audit_table_frames.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace pt::assign;
using pt::gpa;
using pt::hpa;
using pt::MiB;
using pt::range;

// Execute-only, walk length 4, UC and WB structures, pages of 2 MiB and 1 GiB.
constexpr pt::ept::format ept{pt::ept::capabilities{0x3'4141}, 46};
constexpr pt::vtd::second_stage::format second_stage{
    {.levels = 4, .output_width = 46, .largest_page = pt::paging::page_size::size_2m}};
constexpr pt::x86_64::nested_paging nested{46};

constexpr std::uint64_t rwx_wb = 0x37;         // EPT: read, write, execute, write-back
constexpr std::uint64_t rw_uc = 0x03;          // EPT: read, write, uncacheable
constexpr std::uint64_t large = 0x80;          // a page of 2 MiB or 1 GiB
constexpr std::uint64_t to_table = 0x07;       // in all three formats
constexpr std::uint64_t base = 0x10'0000'0000; // where the tables lie

/// Four tables, one for each level; the last is for gpa 0..2 MiB, the one before for 0..1 GiB.
struct tables {
    std::uint64_t words[4 * 512]{};

    constexpr tables() {
        for (unsigned i = 0; i < 3; ++i) {
            words[i * 512] = (base + (i + 1) * 4096) | to_table;
        }
    }
    constexpr std::uint64_t& page_4k(unsigned i) { return words[3 * 512 + i]; }
    constexpr std::uint64_t& page_2m(unsigned i) { return words[2 * 512 + i]; }
    constexpr std::uint64_t& page_1g(unsigned i) { return words[512 + i]; }
};

/// At most eight findings of one audit.
struct record {
    finding found[8]{};
    std::size_t count = 0;
    audit_summary summary{};

    constexpr void operator()(const finding& f) { found[count++] = f; }
};

constexpr range<hpa> frames{hpa{base}, 4 * 4096};

template <class Format>
constexpr record audited(const Format& format, const tables& of, const ownership& owner) {
    std::uint64_t words[1]{};
    const pt::paging::frame_bitmap seen{frames, words};
    const pt::paging::image_reader reader{frames, of.words};
    record said;
    if constexpr (std::is_same_v<typename Format::address, gpa>) {
        said.summary = audit_pages(format, reader, hpa{base}, seen, owner, said);
    } else {
        said.summary = audit_dma(format, reader, hpa{base}, seen, owner, said);
    }
    return said;
}

constexpr bool only(const record& said, const finding& expected) {
    return said.count == 1 && said.found[0] == expected && said.summary.findings == 1;
}

/// Two pages of memory at gpa 0x1000, and registers at gpa 0x4000.
constexpr owned_pages guest_pages[]{{.at = {gpa{0x1000}, 0x2000}, .host = hpa{0x80'1000}},
                                    {.at = {gpa{0x4000}, 0x1000},
                                     .host = hpa{0xFEB0'0000},
                                     .rights = {true, true, false},
                                     .reach = memory_reach::processors_only,
                                     .use = page_use::registers}};
constexpr ownership guest{.guest = 1, .pages = guest_pages};

constexpr tables right_ept() {
    tables t;
    t.page_4k(1) = 0x80'1000 | rwx_wb;
    t.page_4k(2) = 0x80'2000 | rwx_wb;
    t.page_4k(4) = 0xFEB0'0000 | rw_uc;
    return t;
}
constexpr tables right_second_stage() {
    tables t;
    t.page_4k(1) = 0x80'1000 | 3;
    t.page_4k(2) = 0x80'2000 | 3;
    return t;
}

constexpr bool nothing_is_found_where_all_is_right() {
    tables npt;
    npt.page_4k(1) = 0x80'1000 | 7;
    npt.page_4k(2) = 0x80'2000 | 7;
    npt.page_4k(4) = 0xFEB0'0000 | 0x1F | std::uint64_t{1} << 63; // UC, no execute
    return audited(ept, right_ept(), guest).summary ==
               audit_summary{.findings = 0, .tables = 4, .leaves = 3} &&
           audited(second_stage, right_second_stage(), guest).summary ==
               audit_summary{.findings = 0, .tables = 4, .leaves = 2} &&
           audited(nested, npt, guest).summary.clean();
}
static_assert(nothing_is_found_where_all_is_right());

TEST_CASE("tables that map what the guest owns, and nothing else, are clean", "[assign][audit]") {
    REQUIRE(nothing_is_found_where_all_is_right());
}

constexpr bool a_page_too_many() {
    tables t = right_ept();
    t.page_4k(3) = 0x90'0000 | rwx_wb;
    return only(audited(ept, t, guest), {.kind = finding_kind::page_not_owned,
                                         .guest = 1,
                                         .first = 0x3000,
                                         .last = 0x3FFF,
                                         .host = 0x90'0000});
}
constexpr bool a_page_elsewhere() {
    tables t = right_ept();
    t.page_4k(2) = 0x80'1000 | rwx_wb; // the guest's too, but not there
    return only(audited(ept, t, guest), {.kind = finding_kind::page_elsewhere,
                                         .guest = 1,
                                         .first = 0x2000,
                                         .last = 0x2FFF,
                                         .host = 0x80'1000,
                                         .expected = 0x80'2000});
}
constexpr bool a_page_missing() {
    tables t = right_ept();
    t.page_4k(1) = 0;
    t.page_4k(2) = 0; // one finding for both
    return only(audited(ept, t, guest), {.kind = finding_kind::page_missing,
                                         .guest = 1,
                                         .first = 0x1000,
                                         .last = 0x2FFF,
                                         .expected = 0x80'1000});
}
constexpr bool too_many_rights() {
    tables t = right_ept();
    t.page_4k(4) = 0xFEB0'0000 | rw_uc | 4;
    return only(audited(ept, t, guest), {.kind = finding_kind::page_excess_rights,
                                         .guest = 1,
                                         .first = 0x4000,
                                         .last = 0x4FFF,
                                         .host = 0xFEB0'0000,
                                         .rights = {false, false, true}});
}
constexpr bool too_few_rights_by_an_entry_above() {
    tables t = right_ept();
    t.words[0] = (base + 4096) | 5; // no write for 512 GiB
    const record said = audited(ept, t, guest);
    const page_rights write{false, true, false};
    return said.count == 2 &&
           said.found[0] == finding{.kind = finding_kind::page_lacking_rights,
                                    .guest = 1,
                                    .first = 0x1000,
                                    .last = 0x2FFF,
                                    .host = 0x80'1000,
                                    .rights = write} &&
           said.found[1].first == 0x4000 && said.found[1].rights == write;
}
constexpr bool registers_as_memory() {
    tables t = right_ept();
    t.page_4k(4) = 0xFEB0'0000 | rw_uc | 6 << 3;
    tables npt = right_ept();
    npt.page_4k(1) = 0x80'1000 | 7;
    npt.page_4k(2) = 0x80'2000 | 7;
    npt.page_4k(4) = 0xFEB0'0000 | 0x0F | std::uint64_t{1} << 63; // PWT: entry 1, write-through
    const record by_npt = audited(nested, npt, guest);
    ownership other_pat = guest;
    other_pat.page_attribute_table = 0x0007'0406'0007'0006; // entry 1 is UC
    return only(audited(ept, t, guest), {.kind = finding_kind::registers_cached,
                                         .guest = 1,
                                         .first = 0x4000,
                                         .last = 0x4FFF,
                                         .host = 0xFEB0'0000}) &&
           by_npt.count == 1 && by_npt.found[0].kind == finding_kind::registers_cached &&
           by_npt.found[0].stage == table_kind::nested_paging &&
           audited(nested, npt, other_pat).summary.clean();
}
/// What the entries above take away, they take from one table and not from the next one.
constexpr bool rights_are_those_of_each_table() {
    constexpr owned_pages pages[]{{.at = {gpa{0x1F'F000}, 0x3000}, .host = hpa{0x80'0000}}};
    std::uint64_t words[5 * 512]{};
    const tables t;
    for (std::size_t i = 0; i != 4 * 512; ++i) {
        words[i] = t.words[i];
    }
    words[2 * 512 + 1] = (base + 4 * 4096) | 5; // no write in 2..4 MiB
    words[3 * 512 + 511] = 0x80'0000 | rwx_wb;
    words[4 * 512] = 0x80'1000 | rwx_wb;
    words[4 * 512 + 1] = 0x80'2000 | rwx_wb;
    const range<hpa> all{hpa{base}, 5 * 4096};
    std::uint64_t bits[1]{};
    record said;
    said.summary =
        audit_pages(ept, pt::paging::image_reader{all, words}, hpa{base},
                    pt::paging::frame_bitmap{all, bits}, {.guest = 1, .pages = pages}, said);
    return only(said, {.kind = finding_kind::page_lacking_rights,
                       .guest = 1,
                       .first = 0x20'0000,
                       .last = 0x20'1FFF,
                       .host = 0x80'1000,
                       .rights = {false, true, false}});
}
/// Writes by page walks are the leaf's affair, if the VMM turned them on at all.
constexpr bool writes_that_a_leaf_allows_by_itself() {
    constexpr owned_pages pages[]{
        {.at = {gpa{0x1000}, 0x1000}, .host = hpa{0x80'1000}, .rights = {true, false, false}}};
    for (const unsigned bit : {58U, 60U, 61U}) {
        tables t;
        t.words[0] = (base + 4096) | 1;
        t.page_4k(1) = 0x80'1000 | 0x31 | std::uint64_t{1} << bit;
        const record said = audited(ept, t, {.guest = 1, .pages = pages});
        if (said.count != 1 || said.found[0].kind != finding_kind::page_excess_rights ||
            said.found[0].rights != page_rights{false, true, false}) {
            return false;
        }
    }
    return true;
}
static_assert(rights_are_those_of_each_table() && writes_that_a_leaf_allows_by_itself());
static_assert(a_page_too_many() && a_page_elsewhere() && a_page_missing());
static_assert(too_many_rights() && too_few_rights_by_an_entry_above() && registers_as_memory());

TEST_CASE("a page that is mapped, and not the guest's, is found", "[assign][audit]") {
    REQUIRE(a_page_too_many());
}
TEST_CASE("a page that leads to another place than its own is found", "[assign][audit]") {
    REQUIRE(a_page_elsewhere());
}
TEST_CASE("neighbours that are not mapped are one finding", "[assign][audit]") {
    REQUIRE(a_page_missing());
}
TEST_CASE("rights beyond the guest's, and less than it has, are found", "[assign][audit]") {
    REQUIRE(too_many_rights());
    REQUIRE(too_few_rights_by_an_entry_above());
    REQUIRE(rights_are_those_of_each_table());
    REQUIRE(writes_that_a_leaf_allows_by_itself());
}
TEST_CASE("registers mapped as memory that is cached are found", "[assign][audit]") {
    REQUIRE(registers_as_memory());
}

/// A local APIC at gpa 0x6000, an MSI-X table behind it.
constexpr owned_pages trapped_pages[]{
    {.at = {gpa{0x6000}, 0x1000}, .use = page_use::local_apic},
    {.at = {gpa{0x7000}, 0x1000}, .host = hpa{0xFEB0'3000}, .use = page_use::trapped_registers},
    {.at = {gpa{0x8000}, 0x80}, .host = hpa{0xFEB0'4000}, .use = page_use::trapped_registers}};

constexpr bool trapped() {
    const ownership owner{.guest = 2, .pages = trapped_pages};
    tables t;
    if (!audited(ept, t, owner).summary.clean()) { // nothing of it is missed
        return false;
    }
    t.page_4k(6) = 0xFEE0'0000 | rw_uc;
    t.page_4k(7) = 0xFEB0'3000 | rw_uc;
    t.page_4k(8) = 0xFEB0'4000 | rw_uc; // 128 bytes are trapped, and the rest is nobody's
    const record said = audited(ept, t, owner);
    return said.count == 3 &&
           said.found[0] == finding{.kind = finding_kind::page_trapped,
                                    .guest = 2,
                                    .first = 0x6000,
                                    .last = 0x6FFF,
                                    .host = 0xFEE0'0000,
                                    .use = page_use::local_apic} &&
           said.found[1] == finding{.kind = finding_kind::page_trapped,
                                    .guest = 2,
                                    .first = 0x7000,
                                    .last = 0x807F,
                                    .host = 0xFEB0'3000,
                                    .use = page_use::trapped_registers} &&
           said.found[2] == finding{.kind = finding_kind::page_not_owned,
                                    .guest = 2,
                                    .first = 0x8080,
                                    .last = 0x8FFF,
                                    .host = 0xFEB0'4080};
}
static_assert(trapped());

TEST_CASE("local APIC and MSI-X pages may not be mapped, and need not be", "[assign][audit]") {
    REQUIRE(trapped());
}

constexpr bool devices_reach_less_than_processors() {
    tables t = right_second_stage();
    t.page_4k(4) = 0xFEB0'0000 | 3; // registers of a function, by another one
    if (!only(audited(second_stage, t, guest), {.kind = finding_kind::page_processors_only,
                                                .stage = table_kind::second_stage,
                                                .guest = 1,
                                                .first = 0x4000,
                                                .last = 0x4FFF,
                                                .host = 0xFEB0'0000})) {
        return false;
    }
    tables read_only = right_second_stage();
    read_only.page_4k(2) = 0x80'2000 | 1;
    return only(audited(second_stage, read_only, guest), {.kind = finding_kind::page_lacking_rights,
                                                          .stage = table_kind::second_stage,
                                                          .guest = 1,
                                                          .first = 0x2000,
                                                          .last = 0x2FFF,
                                                          .host = 0x80'2000,
                                                          .rights = {false, true, false}});
}
constexpr bool the_interrupt_range_is_no_memory() {
    // Memory at the interrupt range, which no unit takes, and a page that leads there.
    constexpr owned_pages pages[]{{.at = {gpa{0x3000}, 0x4000}, .host = hpa{0xFEDF'E000}}};
    const ownership owner{.guest = 1, .pages = pages};
    tables t;
    for (unsigned i = 3; i != 7; ++i) { // the third and the fourth lead there
        t.page_4k(i) = (0xFEDF'E000 + (i - 3) * 4096) | 3;
    }
    return only(audited(second_stage, t, owner), {.kind = finding_kind::interrupt_range_mapped,
                                                  .stage = table_kind::second_stage,
                                                  .guest = 1,
                                                  .first = 0x5000,
                                                  .last = 0x6FFF,
                                                  .host = 0xFEE0'0000});
}
static_assert(devices_reach_less_than_processors() && the_interrupt_range_is_no_memory());

TEST_CASE("devices reach what is for them, and not what is for processors", "[assign][audit]") {
    REQUIRE(devices_reach_less_than_processors());
}
TEST_CASE("a second stage maps nothing from or to the interrupt range",
          "[assign][audit][rule 19]") {
    REQUIRE(the_interrupt_range_is_no_memory());
}

/// A page of 2 MiB over memory of which the guest owns two pages: what is around them is not its.
constexpr bool a_large_page_is_cut_where_ownership_is() {
    constexpr owned_pages pages[]{{.at = {gpa{0x20'1000}, 0x2000}, .host = hpa{0x4020'1000}}};
    const ownership owner{.guest = 1, .pages = pages};
    tables t;
    t.page_2m(1) = 0x4020'0000 | rwx_wb | large;
    const record said = audited(ept, t, owner);
    return said.count == 2 && said.summary.leaves == 1 &&
           said.found[0] == finding{.kind = finding_kind::page_not_owned,
                                    .guest = 1,
                                    .first = 0x20'0000,
                                    .last = 0x20'0FFF,
                                    .host = 0x4020'0000} &&
           said.found[1] == finding{.kind = finding_kind::page_not_owned,
                                    .guest = 1,
                                    .first = 0x20'3000,
                                    .last = 0x3F'FFFF,
                                    .host = 0x4020'3000};
}
static_assert(a_large_page_is_cut_where_ownership_is());

TEST_CASE("of a large page that is the guest's in part, the rest is found", "[assign][audit]") {
    REQUIRE(a_large_page_is_cut_where_ownership_is());
}

/// Nothing is said of addresses below an entry that cannot be followed, but that.
constexpr bool an_entry_that_cannot_be_followed() {
    tables t = right_ept();
    t.page_2m(0) = 0x7FFF'F000 | to_table; // no such frame
    if (!only(audited(ept, t, guest), {.kind = finding_kind::malformed_tables,
                                       .guest = 1,
                                       .first = 0,
                                       .last = 0x1F'FFFF,
                                       .host = base + 2 * 4096,
                                       .tables = pt::paging::finding_kind::outside})) {
        return false;
    }
    tables misconfigured = right_ept();
    misconfigured.page_4k(2) = 0x80'2000 | 2; // write without read
    return only(audited(ept, misconfigured, guest),
                {.kind = finding_kind::malformed_tables,
                 .guest = 1,
                 .first = 0x2000,
                 .last = 0x2FFF,
                 .host = base + 3 * 4096,
                 .tables = pt::paging::finding_kind::refused_entry,
                 .defect = pt::paging::entry_defect::write_without_read});
}
constexpr bool a_root_that_is_none() {
    std::uint64_t words[1]{};
    const tables t;
    record said;
    said.summary = audit_pages(ept, pt::paging::image_reader{frames, t.words}, hpa{base | 0x5E},
                               pt::paging::frame_bitmap{frames, words}, guest, said);
    return only(said, {.kind = finding_kind::malformed_tables,
                       .guest = 1,
                       .first = 0,
                       .last = 0xFFFF'FFFF'FFFF,
                       .host = base | 0x5E,
                       .tables = pt::paging::finding_kind::misaligned_root});
}
constexpr bool a_list_that_is_not_sorted() {
    constexpr owned_pages backwards[]{{.at = {gpa{0x4000}, 0x1000}}, {.at = {gpa{0x1000}, 0x1000}}};
    constexpr owned_pages overlapping[]{{.at = {gpa{0x1000}, 0x1001}},
                                        {.at = {gpa{0x2000}, 0x1000}}};
    constexpr owned_pages empty[]{{.at = {gpa{0x1000}, 0}}, {.at = {gpa{0x2000}, 0x1000}}};
    const finding expected{.kind = finding_kind::disordered_list,
                           .what = owned_resource::pages,
                           .guest = 9,
                           .first = 1,
                           .last = 1};
    const tables t = right_ept();
    return only(audited(ept, t, {.guest = 9, .pages = backwards}), expected) &&
           only(audited(ept, t, {.guest = 9, .pages = overlapping}), expected) &&
           audited(second_stage, t, {.guest = 9, .pages = empty}).found[0].first == 0 &&
           audited(second_stage, t, {.guest = 9, .pages = {empty, 1}}).found[0].kind ==
               finding_kind::disordered_list;
}
static_assert(an_entry_that_cannot_be_followed() && a_root_that_is_none() &&
              a_list_that_is_not_sorted());

TEST_CASE("below an entry that cannot be followed nothing else is found", "[assign][audit]") {
    REQUIRE(an_entry_that_cannot_be_followed());
    REQUIRE(a_root_that_is_none());
}
TEST_CASE("a list of owned pages that is not ascending is not audited against", "[assign][audit]") {
    REQUIRE(a_list_that_is_not_sorted());
}

/// The tables themselves, mapped as the guest's own memory: by a small page, and by a large one.
constexpr bool tables_in_reach() {
    tables t = right_ept();
    t.page_4k(2) = (base + 4096) | 1; // read-only is enough to be found
    t.page_2m(3) = base | rwx_wb | large;
    std::uint64_t of_tables[1]{};
    const pt::paging::frame_bitmap private_frames{frames, of_tables};
    const pt::paging::image_reader reader{frames, t.words};
    audit_pages(ept, reader, hpa{base}, private_frames, guest, [](const finding&) {});
    std::uint64_t words[1]{};
    record said;
    said.summary = audit_table_frames(
        ept, reader, hpa{base}, pt::paging::frame_bitmap{frames, words}, private_frames, 7, said);
    return said.count == 2 && said.summary == audit_summary{2, 4, 4} &&
           said.found[0] == finding{.kind = finding_kind::table_frame_reachable,
                                    .guest = 7,
                                    .first = 0x2000,
                                    .last = 0x2FFF,
                                    .host = base + 4096} &&
           said.found[1] == finding{.kind = finding_kind::table_frame_reachable,
                                    .guest = 7,
                                    .first = 0x60'0000,
                                    .last = 0x60'3FFF,
                                    .host = base};
}
static_assert(tables_in_reach());

TEST_CASE("a mapping of table frames is found, and cut down to them", "[assign][audit]") {
    REQUIRE(tables_in_reach());
}

TEST_CASE("a table that two guests share is found where both get the same set", "[assign][audit]") {
    // Two roots, frames 0 and 4, over the same tables below.
    std::vector<std::uint64_t> words(5 * 512);
    const tables t = right_ept();
    std::copy(t.words, t.words + 4 * 512, words.begin());
    words[4 * 512] = words[0];
    const range<hpa> all{hpa{base}, 5 * 4096};
    const pt::paging::image_reader reader{all, words.data()};
    std::uint64_t bits[1]{};
    const pt::paging::frame_bitmap seen{all, bits};
    record first;
    record second;
    audit_pages(ept, reader, hpa{base}, seen, guest, first);
    ownership other = guest;
    other.guest = 2;
    audit_pages(ept, reader, hpa{base + 4 * 4096}, seen, other, second);
    REQUIRE(first.count == 0);
    REQUIRE(second.count == 1);
    REQUIRE(second.found[0] == finding{.kind = finding_kind::malformed_tables,
                                       .guest = 2,
                                       .first = 0,
                                       .last = 0x7F'FFFF'FFFF,
                                       .host = base + 4 * 4096,
                                       .tables = pt::paging::finding_kind::used_twice});
}

/// A tree over `count` pages of 4 KiB from gpa 0 on, each of which leads to `host(page)`.
template <class Host>
std::vector<std::uint64_t> many_pages(std::size_t count, Host host) {
    const std::size_t leaf_tables = (count + 511) / 512;
    const std::size_t upper = (leaf_tables + 511) / 512;
    std::vector<std::uint64_t> words((2 + upper + leaf_tables) * 512);
    words[0] = (base + 4096) | to_table;
    for (std::size_t i = 0; i != upper; ++i) {
        words[512 + i] = (base + (2 + i) * 4096) | to_table;
    }
    for (std::size_t i = 0; i != leaf_tables; ++i) {
        words[2 * 512 + i] = (base + (2 + upper + i) * 4096) | to_table;
    }
    for (std::size_t i = 0; i != count; ++i) {
        words[(2 + upper) * 512 + i] = host(i) | rwx_wb;
    }
    return words;
}

struct cost {
    audit_summary summary;
    std::size_t frames_asked = 0;
    std::vector<finding> findings;
};
cost cost_of(const std::vector<std::uint64_t>& words, const ownership& owner) {
    const range<hpa> all{hpa{base}, words.size() * 8};
    std::vector<std::uint64_t> bits(
        static_cast<std::size_t>(pt::paging::frame_bitmap::words_for(all)));
    std::vector<std::uint64_t> asked;
    cost of;
    of.summary = audit_pages(ept, paging_model::counting_reader{{all, words.data()}, &asked},
                             hpa{base}, pt::paging::frame_bitmap{all, bits.data(), bits.size()},
                             owner, [&](const finding& found) { of.findings.push_back(found); });
    of.frames_asked = asked.size();
    return of;
}

TEST_CASE("a million wrong pages are one finding", "[assign][audit]") {
    constexpr std::size_t pages = 1 << 20;
    const auto words = many_pages(pages, [](std::size_t i) { return 0x8000'0000 + i * 4096; });
    const cost stray = cost_of(words, {.guest = 1});
    REQUIRE(stray.findings.size() == 1);
    REQUIRE(stray.findings[0] == finding{.kind = finding_kind::page_not_owned,
                                         .guest = 1,
                                         .first = 0,
                                         .last = pages * 4096 - 1,
                                         .host = 0x8000'0000});
    const owned_pages mine[]{{.at = {gpa{0}, pages * 4096}, .host = hpa{0x8000'1000}}};
    const cost shifted = cost_of(words, {.guest = 1, .pages = mine});
    REQUIRE(shifted.findings.size() == 1);
    REQUIRE(shifted.findings[0].kind == finding_kind::page_elsewhere);
    REQUIRE(shifted.summary.leaves == pages);
    // Scattered all over the host, they are still one.
    const auto wild = many_pages(pages, [](std::size_t i) { return (i * 0x9E37 % pages) * 4096; });
    const cost scattered = cost_of(wild, {.guest = 1});
    REQUIRE(scattered.findings.size() == 1);
    REQUIRE(scattered.findings[0].scattered);
}

TEST_CASE("the audit reads each entry once, whatever is owned", "[assign][audit]") {
    // The reader is asked for a whole table (512 entries, once), or for one entry above a table of
    // leaves: at most three more for each table with 4 levels. So twice the pages are twice the
    // reads, and none depends on how many ranges the guest owns.
    std::size_t before = 0;
    for (const std::size_t pages :
         {std::size_t{1} << 15, std::size_t{1} << 16, std::size_t{1} << 17}) {
        const auto words = many_pages(pages, [](std::size_t i) { return i * 8192; });
        std::vector<owned_pages> each(pages);
        for (std::size_t i = 0; i != pages; ++i) {
            each[i].at = {gpa{i * 4096}, 4096};
            each[i].host = hpa{i * 8192};
        }
        const cost one_by_one = cost_of(words, {.guest = 1, .pages = {each.data(), each.size()}});
        REQUIRE(one_by_one.summary.clean());
        REQUIRE(one_by_one.summary.tables == words.size() / 512);
        REQUIRE(one_by_one.frames_asked <= 4 * one_by_one.summary.tables);
        const cost nothing_owned = cost_of(words, {.guest = 1});
        REQUIRE(nothing_owned.frames_asked == one_by_one.frames_asked);
        // Every second one is somebody else's: as many findings, and no read more.
        for (std::size_t i = 0; i != pages; i += 2) {
            each[i].host += 4096;
        }
        const cost half = cost_of(words, {.guest = 1, .pages = {each.data(), each.size()}});
        REQUIRE(half.findings.size() == pages / 2);
        REQUIRE(half.frames_asked == one_by_one.frames_asked);
        REQUIRE((before == 0 || one_by_one.frames_asked <= 2 * before));
        before = one_by_one.frames_asked;
    }
}

TEST_CASE("a page of 1 GiB costs no more than one of 4 KiB", "[assign][audit]") {
    const owned_pages mine[]{{.at = {gpa{0}, 512 * 1024 * MiB}, .host = hpa{0}}};
    tables t;
    for (unsigned i = 0; i != 512; ++i) {
        t.page_1g(i) = std::uint64_t{i} << 30 | rwx_wb | large;
    }
    std::vector<std::uint64_t> words(t.words, t.words + 4 * 512);
    const cost of = cost_of(words, {.guest = 1, .pages = mine});
    REQUIRE(of.summary == audit_summary{.findings = 0, .tables = 2, .leaves = 512});
    REQUIRE(of.frames_asked == 3); // both tables, and once more the entry that leads to the second
}

} // namespace
