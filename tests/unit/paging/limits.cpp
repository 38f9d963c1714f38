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
};

constexpr std::uint64_t end_of_output = std::uint64_t{1} << 46; // of the kits

} // namespace

TEMPLATE_TEST_CASE("what is refused is refused with the right error and takes no frame", "[paging]",
                   ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;

    for (const std::uint64_t off : {std::uint64_t{1}, std::uint64_t{0x800}, std::uint64_t{0xFFF}}) {
        CHECK(s.map(0x10'0000 + off, 0x1000, 0) == error{errc::misaligned, 0x10'0000 + off});
        CHECK(s.map(0x10'0000, 0x1000 + off, 0) == error{errc::misaligned, 0x10'0000});
        CHECK(s.map(0x10'0000, 0x1000, off) == error{errc::misaligned, off});
        CHECK(s.unmap(0x10'0000 + off, 0x1000).code == errc::misaligned);
        CHECK(s.unmap(0x10'0000, 0x1000 + off).code == errc::misaligned);
    }
    CHECK(s.map(end, 0x1000, 0) == error{errc::out_of_range, end});
    CHECK(s.map(end - 0x1000, 0x2000, 0) == error{errc::out_of_range, end - 0x1000});
    CHECK(s.map(~std::uint64_t{0} << 12, 0x1000, 0).code == errc::out_of_range);
    CHECK(s.map(0, ~std::uint64_t{0} << 12, 0).code == errc::out_of_range);
    CHECK(s.unmap(end, 0x1000).code == errc::out_of_range);
    CHECK(s.unmap(0, ~std::uint64_t{0} << 12).code == errc::out_of_range);
    CHECK(s.map(0, 0x1000, end_of_output) == error{errc::out_of_range, end_of_output});
    CHECK(s.map(0, 0x2000, end_of_output - 0x1000) ==
          error{errc::out_of_range, end_of_output - 0x1000});
    CHECK(s.map(0, 0x2000, ~std::uint64_t{0} << 12).code == errc::out_of_range);
    // Nothing asked, nothing done; but it is still checked.
    CHECK(s.map(0x1000, 0, 0x1000) == error{});
    CHECK(s.map(0x1001, 0, 0x1000).code == errc::misaligned);
    CHECK(s.unmap(0x1000, 0) == error{});
    CHECK(s.unmap(0, end) == error{});
    CHECK(s.memory.in_use() == 0);

    CHECK(s.tables.translate(typename TestType::address{end}) == error{errc::out_of_range, end});
    CHECK(s.tables.translate(typename TestType::address{~std::uint64_t{0}}).error().code ==
          errc::out_of_range);
    CHECK(s.tables.translate(typename TestType::address{0x1234}) ==
          error{errc::not_mapped, 0x1234});
}

TEMPLATE_TEST_CASE("the last page of the input and of the output can be mapped", "[paging]",
                   ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;
    const auto output = [&](std::uint64_t input) {
        return s.tables.translate(typename TestType::address{input})->output.raw;
    };
    CHECK(s.map(end - 4 * KiB, 4 * KiB, end_of_output - 4 * KiB) == error{});
    CHECK(output(end - 1) == end_of_output - 1);
    CHECK(s.map(end - 8 * KiB, 8 * KiB, 0) == error{errc::already_mapped, end - 4 * KiB});
    CHECK(s.map(end - 2 * GiB, 1 * GiB, end_of_output - 1 * GiB) == error{});
    CHECK(output(end - 1 * GiB - 1) == end_of_output - 1);
    auto all = s.tables.unmap({typename TestType::address{0}, end});
    REQUIRE(all);
    CHECK(all->stale().begin()->size() == end);
    nobody hardware;
    REQUIRE(all->redeem(hardware));
    CHECK(s.memory.in_use() == 1);
}

TEMPLATE_TEST_CASE("nothing is mapped at the interrupt range of a device's address space",
                   "[paging][rule 19]", second_stage_kit<4>, second_stage_kit<3>) {
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
                   "[paging][rule 19]", second_stage_kit<4>, second_stage_kit<3>) {
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
