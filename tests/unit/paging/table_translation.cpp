// SPDX-License-Identifier: BSL-1.0
#include "pt/paging/table_translation.hpp"

#include "pt/memory/arena.hpp"
#include "pt/paging/x86_64.hpp"

#include "../../paging_model/contract.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt;
using pt::paging::permits;
using pt::paging::table_translation;

static_assert(paging::dma_format<ept::format> && paging::dma_format<vtd::second_stage::format>);
static_assert(!paging::dma_format<x86_64::format<iova>>,
              "a processor's own tables translate no device");

constexpr ept::format ept_format{ept::capabilities{0xF01'0673'4141}, 46};
constexpr vtd::second_stage::format second_stage{
    {.levels = 4, .largest_page = paging::page_size::size_2m}};

// What a device may do is what the leaf says, by hand.
static_assert(permits(ept::ram, dma_access::read) && permits(ept::ram, dma_access::write));
static_assert(!permits(ept::device_memory, dma_access::read) &&
              !permits(ept::device_memory, dma_access::write));
constexpr ept::attributes read_only{.read = true, .type = ept::memory_type::write_back};
static_assert(permits(read_only, dma_access::read) && !permits(read_only, dma_access::write));
constexpr ept::attributes execute_only{.execute = true, .type = ept::memory_type::write_back};
static_assert(!permits(execute_only, dma_access::read));
static_assert(!permits(execute_only, dma_access::write));
constexpr ept::attributes frame_buffer{
    .read = true, .write = true, .type = ept::memory_type::write_combining};
static_assert(permits(frame_buffer, dma_access::write));
static_assert(!permits(vtd::second_stage::attributes{.write = true}, dma_access::read) &&
              permits(vtd::second_stage::attributes{.write = true}, dma_access::write));
static_assert(permits(vtd::second_stage::attributes{.read = true}, dma_access::read) &&
              !permits(vtd::second_stage::attributes{.read = true}, dma_access::write));

/// No hardware walks these tables.
struct nobody {
    template <class Stale>
    constexpr result<void> invalidate(const Stale&) {
        return {};
    }
};

template <class Table>
constexpr void give_up(Table& tables) {
    nobody hardware;
    (void)tables.retire().redeem(hardware);
}

/// The guest's memory: 2 MiB + 8 KiB at 0 in one run, a hole, then pages that lie apart.
constexpr bool guest_memory() {
    arena<12> frames;
    paging::table tables{frames.memory(), ept_format};
    (void)tables.map({gpa{0}, 2 * MiB + 8 * KiB}, hpa{2 * GiB}, ept::ram);
    (void)tables.map({gpa{4 * MiB}, 4 * KiB}, hpa{5 * GiB}, ept::ram);
    (void)tables.map({gpa{4 * MiB + 4 * KiB}, 4 * KiB}, hpa{3 * GiB}, read_only);
    (void)tables.map({gpa{4 * MiB + 8 * KiB}, 4 * KiB}, hpa{0xFEB0'0000}, ept::device_memory);
    table_translation device{tables};

    using enum dma_access;
    const auto gives = [&device](std::uint64_t at, std::uint64_t size, dma_access how,
                                 std::uint64_t address, std::uint64_t count) {
        return device.translate(iova{at}, size, how) == result{dma_piece{hpa{address}, count}};
    };
    const auto fails = [&device](std::uint64_t at, dma_access how, errc code) {
        const auto found = device.translate(iova{at}, 1, how);
        return !found && found.error() == error{code, at};
    };
    bool right = gives(0, 1, read, 2 * GiB, 1) && gives(100, 64, write, 2 * GiB + 100, 64);
    // To the end of the leaf, whether the next one goes on there or not.
    right = right && gives(2 * MiB - 10, 64, read, 2 * GiB + 2 * MiB - 10, 10) &&
            gives(0, ~std::uint64_t{0}, write, 2 * GiB, 2 * MiB) &&
            gives(2 * MiB + 1, 8 * KiB, read, 2 * GiB + 2 * MiB + 1, 4 * KiB - 1) &&
            gives(4 * MiB + 4 * KiB - 1, 5, write, 5 * GiB + 4 * KiB - 1, 1);
    right = right && gives(4 * MiB + 4 * KiB, 5, read, 3 * GiB, 5) &&
            fails(4 * MiB + 4 * KiB, write, errc::refused);
    right = right && fails(4 * MiB + 8 * KiB, read, errc::refused) &&
            fails(4 * MiB + 8 * KiB, write, errc::refused);
    right = right && fails(2 * MiB + 8 * KiB, read, errc::not_mapped) &&
            fails(4 * MiB + 12 * KiB, write, errc::not_mapped) &&
            fails(std::uint64_t{1} << 48, read, errc::out_of_range) &&
            fails(~std::uint64_t{0}, write, errc::out_of_range);
    give_up(tables);
    return right;
}
static_assert(guest_memory());

/// Leaves of each size that cover the interrupt range, or lead to it: what is there is no memory.
constexpr bool interrupts() {
    arena<16> frames;
    paging::table tables{frames.memory(), ept_format};
    constexpr std::uint64_t range = 0xFEE0'0000;
    (void)tables.map({gpa{3 * GiB}, GiB}, hpa{3 * GiB}, ept::ram);    // as it is: one leaf
    (void)tables.map({gpa{8 * GiB}, GiB}, hpa{3 * GiB}, ept::ram);    // leads to it
    (void)tables.map({gpa{16 * GiB}, 4 * KiB}, hpa{range}, ept::ram); // so does a page
    table_translation device{tables};

    bool right = true;
    for (const dma_access how : {dma_access::read, dma_access::write}) {
        const auto gives = [&](std::uint64_t at, std::uint64_t size, std::uint64_t address,
                               std::uint64_t count) {
            return device.translate(iova{at}, size, how) == result{dma_piece{hpa{address}, count}};
        };
        const auto fails = [&](std::uint64_t at) {
            const auto found = device.translate(iova{at}, 1, how);
            return !found && found.error() == error{errc::reserved_address, at};
        };
        for (const std::uint64_t base : {3 * GiB, 8 * GiB}) {
            const std::uint64_t first = base - 3 * GiB + range;
            right = right && gives(base, ~std::uint64_t{0}, 3 * GiB, 0x3EE0'0000) &&
                    gives(first - 1, 2, range - 1, 1) && gives(first - 8, 8, range - 8, 8) &&
                    fails(first) && fails(first + 0xF'FFFF) &&
                    gives(first + 0x10'0000, ~std::uint64_t{0}, range + 0x10'0000, 0x0110'0000);
        }
        right = right && fails(16 * GiB) && fails(16 * GiB + 4095);
    }
    give_up(tables);

    // The APIC's page, as guests see it: any memory, which is no device's.
    paging::table guest{frames.memory(), ept_format};
    (void)guest.map({gpa{range}, 4 * KiB}, hpa{5 * GiB}, ept::ram);
    const auto apic = table_translation{guest}.translate(iova{range + 0x300}, 4, dma_access::write);
    give_up(guest);
    return right && !apic && apic.error() == error{errc::reserved_address, range + 0x300};
}
static_assert(interrupts());

/// A domain: here the address on the bus is an iova, and rights are a device's.
constexpr bool domain() {
    arena<8> frames;
    paging::table tables{frames.memory(), second_stage, paging::coherent_publication{}};
    (void)tables.map({iova{4 * GiB}, 8 * KiB}, hpa{6 * GiB}, {.read = true});
    (void)tables.map({iova{4 * GiB + 8 * KiB}, 4 * KiB}, hpa{7 * GiB}, {.write = true});
    table_translation device{tables};
    using enum dma_access;
    const auto was_read = device.translate(iova{4 * GiB + 5}, 10'000, read);
    const auto not_written = device.translate(iova{4 * GiB + 5}, 1, write);
    const auto not_read = device.translate(iova{4 * GiB + 8 * KiB}, 1, read);
    const auto written = device.translate(iova{4 * GiB + 12 * KiB - 1}, 9, write);
    give_up(tables);
    return was_read == result{dma_piece{hpa{6 * GiB + 5}, 4 * KiB - 5}} && !not_written &&
           not_written.error() == error{errc::refused, 4 * GiB + 5} && !not_read &&
           not_read.error().code == errc::refused &&
           written == result{dma_piece{hpa{7 * GiB + 4 * KiB - 1}, 1}};
}
static_assert(domain());

TEST_CASE("a device reaches what the guest's EPT maps as memory, with its rights",
          "[paging][dma]") {
    CHECK(guest_memory());
}

TEST_CASE("no piece touches the interrupt range, whatever the tables map",
          "[paging][dma][rule 19]") {
    CHECK(interrupts());
}

TEST_CASE("a device reaches what its domain maps, with its rights", "[paging][dma]") {
    CHECK(domain());
}

TEST_CASE("a translation sees the tables as they are, and asks for some byte", "[paging][dma]") {
    arena<8> frames;
    paging::table tables{frames.memory(), ept_format};
    table_translation device{tables};
    static_assert(dma_translation<decltype(device)>);
    CHECK(device.translate(iova{0}, 1, dma_access::read).error() == error{errc::not_mapped, 0});
    REQUIRE(tables.map({gpa{0}, 4 * KiB}, hpa{GiB}, ept::ram));
    CHECK(device.translate(iova{0}, 1, dma_access::read));
    {
        nobody hardware;
        auto owed = tables.unmap({gpa{0}, 4 * KiB});
        REQUIRE(owed);
        REQUIRE(owed->redeem(hardware));
    }
    CHECK_FALSE(device.translate(iova{0}, 1, dma_access::read));
    CHECK(paging_model::breaks_contract(
        [&] { (void)device.translate(iova{0}, 0, dma_access::read); }));
    give_up(tables);
}

} // namespace
