// SPDX-License-Identifier: BSL-1.0
// The ready table memories, each under real tables.
#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include "../../paging_model/caches.hpp"
#include "../../paging_model/contract.hpp"
#include "../../paging_model/walker.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <type_traits>

namespace {

using paging_model::breaks_contract;
using paging_model::nobody;
using paging_model::outcome;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;

constexpr std::size_t region_frames = 64;

/// Anonymous pages, for memories that work on bare addresses.
struct region {
    std::uint64_t* start = static_cast<std::uint64_t*>(mmap(
        nullptr, region_frames * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    region() { REQUIRE(start != MAP_FAILED); }
    ~region() { munmap(start, region_frames * 4096); }
    region(const region&) = delete;
    region& operator=(const region&) = delete;
    [[nodiscard]] std::uint64_t number() const { return reinterpret_cast<std::uintptr_t>(start); }
};

constexpr pt::ept::capabilities all_of_it{0xF01'0673'4141}; // as a Skylake server reports it
constexpr pt::ept::format ept{all_of_it, 52};
constexpr paging_model::ept_walker processor{
    .physical_width = 52, .execute_only = true, .pages_2m = true, .pages_1g = true};

/// Maps, walks as hardware would, unmaps and retires. `read(frame, index)` is the hardware's view.
template <class Memory, class Read>
void serves_tables(Memory memory, Read read) {
    pt::paging::table<pt::ept::format, Memory> tables{memory, ept};
    nobody hardware;
    REQUIRE(tables.map({pt::gpa{0}, 5 * MiB + 4 * KiB}, hpa{2 * GiB}, pt::ept::ram));
    REQUIRE(tables.map({pt::gpa{0xFEC0'0000}, 4 * KiB}, hpa{0xFEC0'0000}, pt::ept::device_memory));
    const std::uint64_t root = tables.root()->raw;
    unsigned wrong = 0;
    for (std::uint64_t at = 0; at < 6 * MiB; at += 4 * KiB) {
        const outcome found = processor.walk(read, root, at + 8);
        wrong += at < 5 * MiB + 4 * KiB ? found.what != outcome::kind::translated ||
                                              found.output != 2 * GiB + at + 8 || found.type != 6
                                        : found.what != outcome::kind::not_mapped;
    }
    CHECK(wrong == 0);
    CHECK(processor.walk(read, root, 0xFEC0'0010).output == 0xFEC0'0010);
    auto owed = tables.unmap({pt::gpa{4 * KiB}, 4 * MiB});
    REQUIRE(owed);
    CHECK(processor.walk(read, root, 4 * KiB).what == outcome::kind::not_mapped);
    CHECK(processor.walk(read, root, 0).output == 2 * GiB);
    auto all = tables.batch();
    REQUIRE(all.add(*owed));
    REQUIRE(all.add(tables.retire()));
    REQUIRE(all.redeem(hardware));
}

} // namespace

TEST_CASE("tables in an arena: frame i is at base plus i pages", "[memory]") {
    const auto arena = std::make_unique<pt::arena<16>>(hpa{0x123'4567'8000});
    CHECK(arena->memory().allocate(pt::frame_contents::any) == hpa{0x123'4567'8000});
    arena->memory().release(hpa{0x123'4567'8000});
    serves_tables(arena->memory(), [&](std::uint64_t frame, unsigned i) -> const std::uint64_t* {
        if (frame < 0x123'4567'8000 || frame >= 0x123'4567'8000 + 16 * 4096) {
            return nullptr;
        }
        return arena->memory().entries(hpa{frame}) + i;
    });
    CHECK(arena->free_frames() == 16);
}

constinit pt::arena<3> unused{};

TEST_CASE("an arena at base 0 begins as zeros, so that it takes no room in an image", "[memory]") {
    const auto* const bytes = reinterpret_cast<const unsigned char*>(&unused);
    std::size_t other = 0;
    for (std::size_t i = 0; i < sizeof unused; ++i) {
        other += bytes[i] != 0 ? 1 : 0;
    }
    CHECK(other == 0);
    CHECK(unused.free_frames() == 3);
}

TEST_CASE("tables of a device, flushed for a unit that does not snoop, as they are by default",
          "[memory]") {
    const region pages;
    pt::frame_pool pool{pt::range{hpa{pages.number()}, region_frames * 4 * KiB},
                        pt::identity_map{}};
    pt::paging::table domain{pt::identity_memory{pool.source()},
                             pt::vtd::second_stage::format{{.levels = 3, .output_width = 52}}};
    static_assert(std::is_same_v<decltype(domain),
                                 pt::paging::table<pt::vtd::second_stage::format,
                                                   decltype(pt::identity_memory{pool.source()}),
                                                   pt::paging::clflush_publication>>);
    nobody hardware;
    REQUIRE(domain.map({pt::iova{0}, 64 * KiB}, hpa{0x10'0000}, pt::vtd::second_stage::read_write));
    const outcome found = paging_model::second_stage_walker{.levels = 3}.walk(
        [](std::uint64_t frame, unsigned i) {
            return reinterpret_cast<const std::uint64_t*>(frame) + i;
        },
        domain.root()->raw, 0x4321);
    CHECK(found.output == 0x10'4321);
    auto owed = domain.unmap({pt::iova{0}, 4 * KiB});
    REQUIRE(owed);
    auto all = domain.batch();
    REQUIRE(all.add(*owed));
    REQUIRE(all.add(domain.retire()));
    REQUIRE(all.redeem(hardware));
    CHECK(pool.free_frames() == region_frames);
}

TEST_CASE("tables in memory that is mapped one to one", "[memory]") {
    const region pages;
    pt::frame_pool pool{pt::range{hpa{pages.number()}, region_frames * 4 * KiB},
                        pt::identity_map{}};
    serves_tables(pt::identity_memory{pool.source()}, [](std::uint64_t frame, unsigned i) {
        return reinterpret_cast<const std::uint64_t*>(frame) + i;
    });
    CHECK(pool.free_frames() == region_frames);
}

TEST_CASE("tables in memory that is mapped at an offset", "[memory]") {
    const region pages;
    // Host-physical 4 GiB is where the region begins; the distance wraps, as in any lower-half kernel.
    const std::uint64_t offset = pages.number() - 4 * GiB;
    pt::frame_pool pool{pt::range{hpa{4 * GiB}, region_frames * 4 * KiB}, pt::offset_map{offset}};
    serves_tables(pt::offset_memory{pool.source(), offset},
                  [&](std::uint64_t frame, unsigned i) -> const std::uint64_t* {
                      if (frame < 4 * GiB || frame >= 4 * GiB + region_frames * 4 * KiB) {
                          return nullptr;
                      }
                      return pages.start + (frame - 4 * GiB) / 8 + i;
                  });
    CHECK(pool.free_frames() == region_frames);
}

TEST_CASE("a direct map zeroes a frame when it is asked to, and only that frame", "[memory]") {
    const region pages;
    for (std::size_t i = 0; i < 4 * 512; ++i) {
        pages.start[i] = 0xA5A5;
    }
    pt::frame_pool pool{pt::range{hpa{pages.number()}, 4 * 4 * KiB}, pt::identity_map{}};
    pt::identity_memory memory{pool.source()};
    const hpa untouched = *memory.allocate(pt::frame_contents::any);
    const hpa zeroed = *memory.allocate(pt::frame_contents::zeroed);
    for (std::size_t i = 0; i < 512; ++i) {
        REQUIRE(memory.entries(untouched)[i] == 0xA5A5);
        REQUIRE(memory.entries(zeroed)[i] == 0);
    }
    CHECK(pages.start[2 * 512] == 0xA5A5);
}

TEST_CASE("a pool gives out the whole frames of its region, each once", "[memory]") {
    const region pages;
    const std::uint64_t base = pages.number();
    struct shape {
        std::uint64_t first, size, frames;
    };
    for (const auto& [first, size, count] :
         {shape{base, 8 * 4096, 8}, shape{base + 1, 8 * 4096, 7}, shape{base, 8 * 4096 - 1, 7},
          shape{base + 4095, 2, 0}, shape{base + 1, 4095, 0}, shape{base + 1, 4096, 0},
          shape{base + 1, 8191, 1}, shape{base, 4095, 0}, shape{base, 0, 0}}) {
        pt::frame_pool pool{pt::range{hpa{first}, size}, pt::identity_map{}};
        CHECK(pool.free_frames() == count);
        auto source = pool.source();
        std::set<std::uint64_t> given;
        for (std::uint64_t i = 0; i < count; ++i) {
            const auto frame = source.allocate();
            REQUIRE(frame);
            CHECK(frame->is_aligned(4096));
            CHECK((frame->raw >= first && frame->raw + 4095 <= first + size - 1));
            CHECK(given.insert(frame->raw).second);
        }
        CHECK(source.allocate().error().code == pt::errc::out_of_frames);
        for (const std::uint64_t frame : given) {
            source.release(hpa{frame});
        }
        CHECK(pool.free_frames() == count);
        std::set<std::uint64_t> again;
        for (std::uint64_t i = 0; i < count; ++i) {
            again.insert(source.allocate()->raw);
        }
        CHECK(again == given);
        CHECK(!source.allocate());
    }
}

TEST_CASE("an arena notices frames that are not its own or not in use", "[memory][contract]") {
    using arena = pt::arena<2>;
    const auto use = [](auto misuse) {
        return breaks_contract([&] {
            const auto owner = std::make_unique<arena>(hpa{0x1000'0000});
            auto memory = owner->memory();
            (void)memory.allocate(pt::frame_contents::any);
            misuse(memory);
        });
    };
    CHECK(!use([](auto& memory) { memory.release(hpa{0x1000'0000}); }));
    CHECK(use(
        [](auto& memory) { memory.release(hpa{0x1000'0000}), memory.release(hpa{0x1000'0000}); }));
    CHECK(use([](auto& memory) { memory.release(hpa{0x1000'1000}); }));
    CHECK(use([](auto& memory) { memory.release(hpa{0x1000'2000}); }));
    CHECK(use([](auto& memory) { memory.release(hpa{0x0FFF'F000}); }));
    CHECK(use([](auto& memory) { memory.release(hpa{0x1000'0008}); }));
    CHECK(use([](auto& memory) { (void)memory.entries(hpa{0x1000'1000}); }));
    CHECK(breaks_contract([] { (void)std::make_unique<arena>(hpa{0x800}); }));
}
