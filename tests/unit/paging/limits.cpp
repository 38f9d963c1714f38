// SPDX-License-Identifier: BSL-1.0
// Input that cannot be: an error by result, and nothing changed.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>

namespace {

using namespace paging_model;
using pt::errc;
using pt::error;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

template <class Kit>
struct stage {
    using address = typename Kit::address;
    frames memory{61};
    pt::paging::table<typename Kit::format, frames_memory> tables{frames_memory{&memory},
                                                                  Kit{}.make()};

    ~stage() {
        auto owed = tables.retire();
        nobody hardware;
        CHECK(owed.redeem(hardware));
        CHECK(memory.in_use() == 0);
    }
    error map(std::uint64_t first, std::uint64_t size, std::uint64_t output) {
        const auto done = tables.map({address{first}, size}, hpa{output}, Kit::choices[0]);
        return done ? error{} : done.error();
    }
    error unmap(std::uint64_t first, std::uint64_t size) {
        const auto done = tables.unmap({address{first}, size});
        return done ? error{} : done.error();
    }
    /// What the operations on a range say, each in its turn; the first error that is not `expected`.
    error all_say(std::uint64_t first, std::uint64_t size, error expected) {
        const pt::range<address> input{address{first}, size};
        std::uint64_t words[64] = {};
        const auto of = [](const auto& done) { return done ? error{} : done.error(); };
        error said[] = {
            of(tables.unmap(input)),
            of(tables.remap(input, hpa{0}, Kit::choices[0])),
            of(tables.protect(input, Kit::choices[0])),
            of(tables.split(input)),
            of(tables.join(input)),
            of(tables.harvest(input, pt::paging::page_flag::dirty, {words, 64 * 64})),
            expected,
        };
        if (!Kit::sets_flags && expected == error{}) {
            said[5] = said[5].code == errc::not_supported ? error{} : said[5];
        }
        if constexpr (Kit::format::write_needs_read) {
            said[6] = of(tables.write_protect(input));
        }
        for (const error& one : said) {
            if (one != expected) {
                return one;
            }
        }
        return expected;
    }
    error map_pages(std::uint64_t first, std::uint64_t size, const hpa* pages,
                    page_size each = page_size::size_4k) {
        const auto done = tables.map_pages({address{first}, size}, pages, Kit::choices[0], each);
        return done ? error{} : done.error();
    }
};

template <class Kit>
constexpr std::uint64_t end_of_output = std::uint64_t{1} << Kit::output_width;

} // namespace

TEMPLATE_TEST_CASE("what is refused is refused with the right error and takes no frame", "[paging]",
                   ept_kit, ept5_kit, second_stage_kit<5>, second_stage_kit<4>, second_stage_kit<3>,
                   nested_kit, first_stage_kit) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;

    for (const std::uint64_t off : {std::uint64_t{1}, std::uint64_t{0x800}, std::uint64_t{0xFFF}}) {
        CHECK(s.map(0x10'0000 + off, 0x1000, 0) == error{errc::misaligned, 0x10'0000 + off});
        CHECK(s.map(0x10'0000, 0x1000 + off, 0) == error{errc::misaligned, 0x10'0000});
        CHECK(s.map(0x10'0000, 0x1000, off) == error{errc::misaligned, off});
        CHECK(s.unmap(0x10'0000 + off, 0x1000).code == errc::misaligned);
        CHECK(s.unmap(0x10'0000, 0x1000 + off).code == errc::misaligned);
        const error here{errc::misaligned, 0x10'0000 + off};
        const error there{errc::misaligned, 0x10'0000};
        CHECK(s.all_say(0x10'0000 + off, 0x1000, here) == here);
        CHECK(s.all_say(0x10'0000, 0x1000 + off, there) == there);
    }
    for (const std::uint64_t first : {end, end - 0x1000, ~std::uint64_t{0} << 13}) {
        const error beyond{errc::out_of_range, first};
        CHECK(s.all_say(first, 0x2000, beyond) == beyond);
    }
    CHECK(s.map(end, 0x1000, 0) == error{errc::out_of_range, end});
    CHECK(s.map(end - 0x1000, 0x2000, 0) == error{errc::out_of_range, end - 0x1000});
    CHECK(s.map(~std::uint64_t{0} << 12, 0x1000, 0).code == errc::out_of_range);
    CHECK(s.map(0, ~std::uint64_t{0} << 12, 0).code == errc::out_of_range);
    CHECK(s.unmap(end, 0x1000).code == errc::out_of_range);
    CHECK(s.unmap(0, ~std::uint64_t{0} << 12).code == errc::out_of_range);
    CHECK(s.map(0, 0x1000, end_of_output<TestType>) ==
          error{errc::out_of_range, end_of_output<TestType>});
    CHECK(s.map(0, 0x2000, end_of_output<TestType> - 0x1000) ==
          error{errc::out_of_range, end_of_output<TestType> - 0x1000});
    CHECK(s.map(0, 0x2000, ~std::uint64_t{0} << 12).code == errc::out_of_range);
    // Nothing asked, nothing done; but it is still checked.
    CHECK(s.map(0x1000, 0, 0x1000) == error{});
    CHECK(s.map(0x1001, 0, 0x1000).code == errc::misaligned);
    CHECK(s.unmap(0x1000, 0) == error{});
    CHECK(s.unmap(0, end) == error{});
    CHECK(s.all_say(0x1000, 0, error{}) == error{});
    CHECK(s.all_say(end, 0, error{}) == error{});
    CHECK(s.tables.detach() == error{errc::absent});
    CHECK(!(s.tables.leaves().begin() != s.tables.leaves().end()));
    CHECK(s.memory.in_use() == 0);

    CHECK(s.tables.translate(typename TestType::address{end}) == error{errc::out_of_range, end});
    CHECK(s.tables.translate(typename TestType::address{~std::uint64_t{0}}).error().code ==
          errc::out_of_range);
    CHECK(s.tables.translate(typename TestType::address{0x1234}) ==
          error{errc::not_mapped, 0x1234});
}

TEMPLATE_TEST_CASE("scattered pages are refused with the address that cannot be", "[paging]",
                   ept_kit, second_stage_kit<4>, nested_kit) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;
    constexpr std::uint64_t top = end_of_output<TestType>;
    hpa pages[] = {hpa{0x20'0000}, hpa{top - 0x20'0000}, hpa{0x40'0000}};
    const std::uint64_t size = 3 * 2 * MiB;
    CHECK(s.map_pages(0x1000, 0x3000, pages, page_size::size_2m) ==
          error{errc::misaligned, 0x1000});
    CHECK(s.map_pages(4 * MiB, size + 0x1000, pages, page_size::size_2m) ==
          error{errc::misaligned, 4 * MiB});
    CHECK(s.map_pages(end - 4 * MiB, size, pages, page_size::size_2m) ==
          error{errc::out_of_range, end - 4 * MiB});
    CHECK(s.map_pages(0x1001, 0x3000, pages) == error{errc::misaligned, 0x1001});
    CHECK(s.map_pages(0, 0, nullptr) == error{});
    pages[2] = hpa{0x40'1000};
    CHECK(s.map_pages(4 * MiB, size, pages, page_size::size_2m) ==
          error{errc::misaligned, 0x40'1000});
    CHECK(s.map_pages(4 * MiB, 0x3000, pages) == error{});
    pages[1] = hpa{top - 0x1000};
    pages[2] = hpa{top};
    CHECK(s.map_pages(0, 0x3000, pages) == error{errc::out_of_range, top});
    pages[2] = hpa{~std::uint64_t{0}};
    CHECK(s.map_pages(0, 0x3000, pages) == error{errc::misaligned, ~std::uint64_t{0}});
    CHECK(s.map_pages(0, 0x2000, pages) == error{});
    CHECK(s.map_pages(0x1000, 0x2000, pages) == error{errc::already_mapped, 0x1000});
}

TEMPLATE_TEST_CASE("scattered pages of a size that the hardware has not are refused", "[paging]",
                   ept_kit, second_stage_kit<4>) {
    frames memory{13};
    pt::paging::table<typename TestType::format, frames_memory> tables{
        frames_memory{&memory}, TestType{page_size::size_4k}.make()};
    const hpa pages[] = {hpa{0}};
    CHECK(tables
              .map_pages({typename TestType::address{2 * MiB}, 2 * MiB}, pages,
                         TestType::choices[0], page_size::size_2m)
              .error() == error{errc::not_supported, 2 * MiB});
    CHECK(memory.in_use() == 0);
}

TEMPLATE_TEST_CASE("neither a scattered page nor a remap leads to where interrupts come from",
                   "[paging][rule 19]", second_stage_kit<4>, first_stage_kit) {
    stage<TestType> s;
    const hpa pages[] = {hpa{0x1000}, hpa{0xFEE5'6000}};
    CHECK(s.map_pages(0, 0x2000, pages) == error{errc::reserved_address, 0xFEE5'6000});
    CHECK(s.map_pages(0xFEDF'F000, 0x2000, pages) == error{errc::reserved_address, 0xFEE0'0000});
    using address = typename TestType::address;
    CHECK(s.tables.remap({address{0}, 4 * GiB}, hpa{8 * GiB}, TestType::choices[0]).error() ==
          error{errc::reserved_address, 0xFEE0'0000});
    CHECK(s.tables.remap({address{0}, 0x1000}, hpa{0xFEE0'0000}, TestType::choices[0]).error() ==
          error{errc::reserved_address, 0xFEE0'0000});
    auto at = s.tables.cursor();
    CHECK(at.map(address{0xFEE0'1000}, hpa{0}, TestType::choices[0]).error() ==
          error{errc::reserved_address, 0xFEE0'1000});
    CHECK(at.map(address{0x1000}, hpa{0xFEE0'1000}, TestType::choices[0]).error() ==
          error{errc::reserved_address, 0xFEE0'1000});
    CHECK(s.memory.in_use() == 0);
}

TEMPLATE_TEST_CASE("a cursor refuses what a map refuses, also in a table that it knows", "[paging]",
                   ept_kit, ept5_kit, second_stage_kit<3>, first_stage_kit) {
    using address = typename TestType::address;
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;
    auto at = s.tables.cursor();
    const auto map = [&](std::uint64_t input, std::uint64_t output,
                         typename TestType::attributes a = TestType::choices[0]) {
        const auto done = at.map(address{input}, hpa{output}, a);
        return done ? error{} : done.error();
    };
    for (unsigned round = 0; round < 2; ++round) {
        CHECK(map(0x1001, 0x1000) == error{errc::misaligned, 0x1001});
        CHECK(map(0x1000, 0x1800) == error{errc::misaligned, 0x1800});
        CHECK(map(~std::uint64_t{0}, 0x1000) == error{errc::misaligned, ~std::uint64_t{0}});
        CHECK(map(end, 0x1000) == error{errc::out_of_range, end});
        CHECK(map(~std::uint64_t{0xFFF}, 0x1000) ==
              error{errc::out_of_range, ~std::uint64_t{0xFFF}});
        CHECK(map(0x2000, end_of_output<TestType>) ==
              error{errc::out_of_range, end_of_output<TestType>});
        CHECK(map(round * 0x1000, 0x5000) == error{});
    }
    CHECK(map(0x1000, 0x9000) == error{errc::already_mapped, 0x1000});
    CHECK(map(end - 0x1000, 0x9000) == error{});
    CHECK(map(0x1000, 0x9000) == error{errc::already_mapped, 0x1000});
    CHECK(s.tables.translate(address{end - 1})->output == hpa{0x9FFF});
}

TEST_CASE("a bitmap that is too small for a harvest is refused", "[paging]") {
    stage<ept_flags_kit> s;
    std::uint64_t word = 0;
    const auto harvest = [&](std::uint64_t size, std::uint64_t bits) {
        const auto done =
            s.tables.harvest({pt::gpa{0}, size}, pt::paging::page_flag::dirty, {&word, bits});
        return done ? error{} : done.error();
    };
    CHECK(harvest(64 * 0x1000, 63) == error{errc::out_of_range, 64 * 0x1000});
    CHECK(harvest(64 * 0x1000, 64) == error{});
    CHECK(harvest(0, 0) == error{});
    CHECK(harvest(std::uint64_t{1} << 48, 64).code == errc::out_of_range);
    CHECK(harvest(0x1800, 64).code == errc::misaligned);
}

TEST_CASE("flags that hardware does not set are not harvested", "[paging]") {
    stage<ept_kit> s;
    std::uint64_t word = 0;
    CHECK(s.tables.harvest({pt::gpa{0x5000}, 0x1000}, pt::paging::page_flag::accessed, {&word, 64})
              .error() == error{errc::not_supported, 0x5000});
}

TEST_CASE("protect refuses attributes for which the pages are too large", "[paging][rule 8]") {
    stage<ept5_kit> s;
    constexpr pt::ept::attributes sub_pages{.read = true, .sub_page_write_permissions = true};
    CHECK(s.map(0, 6 * MiB, 0) == error{});
    const auto protect = [&](std::uint64_t first, std::uint64_t size) {
        auto done = s.tables.protect({pt::gpa{first}, size}, sub_pages);
        if (!done) {
            return done.error();
        }
        nobody hardware;
        CHECK(done->redeem(hardware));
        return error{};
    };
    CHECK(protect(0, 0x1000) == error{errc::not_supported, 0});
    CHECK(protect(1 * MiB, 2 * MiB) == error{errc::not_supported, 1 * MiB});
    auto split = s.tables.split({pt::gpa{2 * MiB}, 2 * MiB});
    nobody hardware;
    CHECK(split->redeem(hardware));
    CHECK(protect(1 * MiB, 2 * MiB) == error{errc::not_supported, 1 * MiB});
    CHECK(protect(3 * MiB, 2 * MiB) == error{errc::not_supported, 4 * MiB});
    CHECK(!s.tables.translate(pt::gpa{3 * MiB})->attributes.sub_page_write_permissions);
    CHECK(protect(2 * MiB, 2 * MiB) == error{});
    CHECK(s.tables.translate(pt::gpa{3 * MiB})->attributes.sub_page_write_permissions);
}

TEMPLATE_TEST_CASE("the last page of the input and of the output can be mapped", "[paging]",
                   ept_kit, ept5_kit, second_stage_kit<5>, second_stage_kit<4>,
                   second_stage_kit<3>) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;
    const auto output = [&](std::uint64_t input) {
        return s.tables.translate(typename TestType::address{input})->output.raw;
    };
    CHECK(s.map(end - 4 * KiB, 4 * KiB, end_of_output<TestType> - 4 * KiB) == error{});
    CHECK(output(end - 1) == end_of_output<TestType> - 1);
    CHECK(s.map(end - 8 * KiB, 8 * KiB, 0) == error{errc::already_mapped, end - 4 * KiB});
    CHECK(s.map(end - 2 * GiB, 1 * GiB, end_of_output<TestType> - 1 * GiB) == error{});
    CHECK(output(end - 1 * GiB - 1) == end_of_output<TestType> - 1);
    auto all = s.tables.unmap({typename TestType::address{0}, end});
    REQUIRE(all);
    // Tables under entries of the root go unread, and so all of those addresses are stale.
    CHECK(all->stale().first().raw == ((end - 2 * GiB) & ~((end >> 9) - 1)));
    CHECK(all->stale().last().raw == end - 1);
    nobody hardware;
    REQUIRE(all->redeem(hardware));
    CHECK(s.memory.in_use() == 1);
}

TEMPLATE_TEST_CASE("nothing is mapped at the interrupt range of a device's address space",
                   "[paging][rule 19]", second_stage_kit<4>, second_stage_kit<3>, first_stage_kit) {
    stage<TestType> s;
    const error last{errc::reserved_address, 0xFEE0'0000};
    CHECK(s.map(0xFEE0'0000, 0x1000, 0) == last);
    CHECK(s.map(0xFEDF'F000, 0x2000, 0) == last);
    CHECK(s.map(0, 4 * GiB, 0) == last);
    CHECK(s.map(0xFEEF'F000, 0x1000, 0) == error{errc::reserved_address, 0xFEEF'F000});
    CHECK(s.map(0xFEEF'F000, 0x2000, 0) == error{errc::reserved_address, 0xFEEF'F000});
    CHECK(s.memory.in_use() == 0);
    CHECK(s.map(0xFEDF'F000, 0x1000, 0) == error{});
    CHECK(s.map(0xFEF0'0000, 0x1000, 0) == error{});
}

TEMPLATE_TEST_CASE("a device is not led to the interrupt range of the host either",
                   "[paging][rule 19]", second_stage_kit<4>, second_stage_kit<3>, first_stage_kit) {
    stage<TestType> s;
    const error start{errc::reserved_address, 0xFEE0'0000};
    CHECK(s.map(0, 0x1000, 0xFEE0'0000) == start);
    CHECK(s.map(0, 0x2000, 0xFEDF'F000) == start);
    CHECK(s.map(16 * GiB, 4 * GiB, 0) == start);
    CHECK(s.map(16 * GiB, 64 * GiB, 1 * GiB) == start);
    CHECK(s.map(0, 0x1000, 0xFEE5'6000) == error{errc::reserved_address, 0xFEE5'6000});
    CHECK(s.map(0, 0x2000, 0xFEEF'F000) == error{errc::reserved_address, 0xFEEF'F000});
    CHECK(s.map(0xFEE0'0000, 0x1000, 0xFEEF'F000) == start); // the input is looked at first
    CHECK(s.memory.in_use() == 0);
    CHECK(s.map(0, 0x1000, 0xFEDF'F000) == error{});
    CHECK(s.map(0x1000, 0x1000, 0xFEF0'0000) == error{});
    CHECK(s.map(0x2000, 0, 0xFEE0'0000) == error{}); // nothing is mapped there
    CHECK(s.map(16 * GiB, 4 * GiB - 0x120'0000, 0) == error{});
}

TEST_CASE("a guest's processor may be led there, as a VMM sees fit", "[paging]") {
    stage<ept_kit> s;
    CHECK(s.map(0xFEE0'0000, 0x1000, 0xFEE0'0000) == error{});
}

TEST_CASE("a guest may have memory where devices have their interrupt range", "[paging]") {
    stage<ept_kit> s;
    CHECK(s.map(0xFEE0'0000, 0x1000, 0x1000) == error{});
}

TEST_CASE("attributes that the processor lacks are refused", "[paging][rule 8]") {
    stage<ept_kit> s;
    const auto map = [&](pt::ept::attributes a) {
        const auto done = s.tables.map({pt::gpa{0}, 0x1000}, hpa{0}, a);
        return done ? errc::none : done.error().code;
    };
    CHECK(map({}) == errc::not_supported);
    CHECK(map({.write = true}) == errc::not_supported);
    CHECK(map({.write = true, .execute = true}) == errc::not_supported);
    CHECK(map({.read = true, .type = static_cast<pt::ept::memory_type>(2)}) == errc::not_supported);
    CHECK(map({.read = true, .type = static_cast<pt::ept::memory_type>(255)}) ==
          errc::not_supported);
    CHECK(s.memory.in_use() == 0);
}
