// SPDX-License-Identifier: BSL-1.0
#include "pt/hosted/mappings.hpp"

#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/walker.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <range/v3/algorithm/equal.hpp>
#include <range/v3/iterator/operations.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/filter.hpp>
#include <range/v3/view/take.hpp>
#include <range/v3/view/transform.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <ranges>
#include <vector>

using paging_model::outcome;
using pt::GiB;
using pt::gpa;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;
using namespace pt::hosted;

namespace {

using run = mapping_run<pt::ept::format>;
constexpr pt::ept::format format{pt::ept::capabilities{0xF01'0673'4141}, 46};

/// An EPT over `Frames` frames that tests fill and throw away.
template <std::size_t Frames>
struct guest {
    pt::arena<Frames> frames;
    pt::paging::table<pt::ept::format, pt::arena_memory<Frames>> tables{frames.memory(), format};

    ~guest() { tables.retire().leak(); }

    void map(std::uint64_t input, std::uint64_t size, std::uint64_t output,
             pt::ept::attributes a = pt::ept::ram) {
        REQUIRE(tables.map({gpa{input}, size}, hpa{output}, a).has_value());
    }
    [[nodiscard]] std::vector<run> all_runs() const {
        return leaves(tables) | runs | ranges::to<std::vector>();
    }
};

/// Counts how often the engine reaches for a table. It can be neither assigned nor made out of
/// nothing.
struct counting_memory {
    pt::arena_memory<16> memory;
    std::size_t& reached;

    pt::result<hpa> allocate(pt::frame_contents contents) { return memory.allocate(contents); }
    void release(hpa frame) { memory.release(frame); }
    std::uint64_t* entries(hpa frame) { return ++reached, memory.entries(frame); }
};
static_assert(pt::table_memory<counting_memory> && !std::movable<counting_memory>);

// The leaves themselves need no hosted code to be a range.
using plain_leaves = pt::paging::leaf_range<pt::ept::format, pt::arena_memory<4>>;
using the_leaves = decltype(leaves(std::declval<guest<4>&>().tables));
using the_runs = decltype(std::declval<the_leaves>() | runs);
static_assert(ranges::input_range<plain_leaves> && !ranges::forward_range<plain_leaves>);
static_assert(ranges::view_<the_leaves> && ranges::input_range<the_leaves>);
static_assert(ranges::view_<the_runs> && ranges::input_range<the_runs>);
static_assert(!ranges::forward_range<the_leaves> && !ranges::forward_range<the_runs>);
static_assert(std::is_same_v<ranges::range_value_t<the_runs>, run>);
static_assert(ranges::view_<leaf_view<pt::ept::format, counting_memory>>);
static_assert(!mapping_view<the_runs> && !mapping_view<std::vector<the_leaves>>);
static_assert(std::ranges::input_range<plain_leaves> && !std::ranges::forward_range<plain_leaves>);
static_assert(std::ranges::input_range<the_leaves> && std::ranges::input_range<the_runs>);

/// The runs between two addresses, found by walking to every page of 4 KiB as hardware does.
template <class Kit, class Read>
std::vector<mapping_run<typename Kit::format>> walked(const Kit& kit, Read read, std::uint64_t root,
                                                      std::uint64_t first, std::uint64_t end) {
    std::vector<mapping_run<typename Kit::format>> found;
    outcome before;
    for (std::uint64_t at = first; at < end; at += 4 * KiB) {
        outcome now = kit.hardware().walk(read, root, at);
        if (now.what == outcome::kind::translated) {
            const auto size = now.page == GiB       ? page_size::size_1g
                              : now.page == 2 * MiB ? page_size::size_2m
                                                    : page_size::size_4k;
            before.output += 4 * KiB;
            if (!(now == before)) {
                found.push_back(
                    {{typename Kit::address{at}, 0}, hpa{now.output}, {}, size, size, 0});
                for (const auto& choice : Kit::choices) {
                    if (Kit::expected(choice, now.output) == now) {
                        found.back().attributes = choice;
                    }
                }
            }
            auto& last = found.back();
            last.input = {last.input.first(), last.input.size() + 4 * KiB};
            last.pages += at % now.page == 0 ? 1 : 0;
            last.smallest = size < last.smallest ? size : last.smallest;
            last.largest = size > last.largest ? size : last.largest;
        }
        before = now;
    }
    return found;
}

} // namespace

TEST_CASE("an empty table has no runs", "[hosted][paging]") {
    const guest<1> none;
    CHECK(none.all_runs().empty());
    guest<8> only_a_root;
    CHECK(only_a_root.tables.root().has_value());
    CHECK(only_a_root.all_runs().empty());
}

TEST_CASE("pages of all sizes make one run where input and output go on together",
          "[hosted][paging]") {
    guest<16> small;
    small.map(2 * MiB - 8 * KiB, GiB + 8 * KiB, 10 * GiB + 2 * MiB - 8 * KiB);
    small.map(GiB + 2 * MiB, 2 * GiB - 2 * MiB + 4 * KiB, 11 * GiB + 2 * MiB);
    // 2 of 4 KiB and 511 of 2 MiB; 1 and 511 of 2 MiB, 1 of 1 GiB, 1 of 4 KiB
    const run expected{{gpa{2 * MiB - 8 * KiB}, 3 * GiB - 2 * MiB + 12 * KiB},
                       hpa{10 * GiB + 2 * MiB - 8 * KiB},
                       pt::ept::ram,
                       page_size::size_4k,
                       page_size::size_1g,
                       2 + 511 + 1 + 511 + 1 + 1};
    CHECK(small.all_runs() == std::vector{expected});
}

TEST_CASE("a run ends at a hole, at a jump of the output and where attributes change",
          "[hosted][paging]") {
    guest<16> small;
    pt::ept::attributes read_only = pt::ept::ram;
    read_only.write = false;
    small.map(0x10'0000, 8 * KiB, 0x50'0000);
    small.map(0x10'2000, 4 * KiB, 0x50'2000, read_only); // other rights
    small.map(0x10'3000, 4 * KiB, 0x50'4000, read_only); // elsewhere
    small.map(0x10'5000, 4 * KiB, 0x50'5000,
              read_only); // behind a hole, and not where the next was
    small.map(0x10'6000, 4 * KiB, 0x50'5000, read_only); // the same again
    small.map(0x10'7000, 4 * KiB, 0x50'4000, read_only); // backwards
    small.map(512 * GiB - 4 * KiB, 4 * KiB, 0x7000);     // the last page of one PML4E
    small.map(512 * GiB, 4 * KiB, 0x8000);               // and the first of the next
    const auto of = [](std::uint64_t input, std::uint64_t pages, std::uint64_t output,
                       pt::ept::attributes a) {
        return run{{gpa{input}, pages * 4 * KiB},
                   hpa{output},
                   a,
                   page_size::size_4k,
                   page_size::size_4k,
                   pages};
    };
    CHECK(small.all_runs() ==
          std::vector{
              of(0x10'0000, 2, 0x50'0000, pt::ept::ram), of(0x10'2000, 1, 0x50'2000, read_only),
              of(0x10'3000, 1, 0x50'4000, read_only), of(0x10'5000, 1, 0x50'5000, read_only),
              of(0x10'6000, 1, 0x50'5000, read_only), of(0x10'7000, 1, 0x50'4000, read_only),
              of(512 * GiB - 4 * KiB, 2, 0x7000, pt::ept::ram)});
}

TEST_CASE("leaves and runs can be filtered, cut and collected", "[hosted][paging]") {
    guest<16> small;
    small.map(0, 4 * MiB, 16 * MiB);
    small.map(4 * MiB, 8 * KiB, 20 * MiB);
    small.map(0xFEB0'0000, 16 * KiB, 0xDF20'0000, pt::ept::device_memory);
    using mapping = pt::paging::mapping<pt::ept::format>;

    const auto small_pages = [](const mapping& leaf) { return leaf.to.size == page_size::size_4k; };
    const auto found = leaves(small.tables) | ranges::views::filter(small_pages) | runs |
                       ranges::views::transform([](const run& one) { return one.input; }) |
                       ranges::to<std::vector>();
    CHECK(found ==
          std::vector{pt::range{gpa{4 * MiB}, 8 * KiB}, pt::range{gpa{0xFEB0'0000}, 16 * KiB}});

    // Those that touch a range, whole.
    const auto touched = leaves(small.tables, {gpa{3 * MiB}, MiB + 1}) | ranges::to<std::vector>();
    REQUIRE(touched.size() == 2);
    CHECK(touched[0].input == pt::range{gpa{2 * MiB}, 2 * MiB});
    CHECK(touched[1].input == pt::range{gpa{4 * MiB}, 4 * KiB});

    // What was collected, an audit's leaves for example, is a view of mappings too; and a pass can
    // be made again.
    const std::vector<mapping> kept = leaves(small.tables) | ranges::to<std::vector>();
    auto of_kept = kept | runs;
    CHECK(ranges::equal(of_kept, small.all_runs()));
    CHECK(ranges::equal(of_kept, small.all_runs()));
    CHECK(ranges::distance(kept | runs | ranges::views::take(1)) == 1);

    // A run never goes on from the end of the address space to its beginning.
    const std::vector<mapping> around{
        {{gpa{~std::uint64_t{0xFFF}}, 4 * KiB}, {hpa{0}, page_size::size_4k, pt::ept::ram}},
        {{gpa{0}, 4 * KiB}, {hpa{4 * KiB}, page_size::size_4k, pt::ept::ram}}};
    CHECK(ranges::distance(around | runs) == 2);
}

TEST_CASE("runs are lazy: what nobody asks for is not read", "[hosted][paging]") {
    pt::arena<16> frames;
    std::size_t reached = 0;
    pt::paging::table tables{counting_memory{frames.memory(), reached}, format};
    for (std::uint64_t i = 0; i < 10; ++i) { // ten page tables, and nothing goes on
        REQUIRE(
            tables.map({gpa{4 * i * MiB}, 4 * KiB}, hpa{i * 4 * KiB}, pt::ept::ram).has_value());
    }
    reached = 0;
    const auto all = leaves(tables);
    auto view = all | runs;
    CHECK(reached == 0);
    auto first = view.begin();
    CHECK((*first).input.first() == gpa{0});
    CHECK(reached == 3 + 2); // down to the first, and one leaf further
    CHECK((*++first).input.first() == gpa{4 * MiB});
    CHECK(reached == 3 + 3);
    CHECK(ranges::distance(all) == 10);
    CHECK(reached == 3 + 3 + 3 + 10);
    tables.retire().leak();
}

TEST_CASE("1 TiB of pages of 1 GiB is one run, or as many as differ", "[hosted][paging]") {
    pt::arena<16> frames;
    std::size_t reached = 0;
    pt::paging::table tables{counting_memory{frames.memory(), reached}, format};
    constexpr std::uint64_t size = 1024 * GiB;
    REQUIRE(tables.map({gpa{GiB}, size}, hpa{4096 * GiB}, pt::ept::ram).has_value());
    const run expected{{gpa{GiB}, size},   hpa{4096 * GiB},    pt::ept::ram,
                       page_size::size_1g, page_size::size_1g, 1024};
    reached = 0;
    CHECK(ranges::equal(leaves(tables) | runs, std::vector{expected}));
    CHECK(reached == 1 + 3); // the root, and the tables at level 3

    for (std::uint64_t at = GiB; at < size; at += 2 * GiB) {
        tables.write_protect({gpa{at}, GiB})->leak();
    }
    CHECK(ranges::distance(leaves(tables) | runs) == 1024);
    tables.retire().leak();
}

TEMPLATE_TEST_CASE("runs are what hardware finds page by page", "[hosted][paging]",
                   paging_model::ept_kit, paging_model::second_stage_kit<3>,
                   paging_model::nested_kit) {
    using address = typename TestType::address;
    const TestType kit;
    // A page of 1 GiB and some of 2 MiB at either side of it.
    constexpr std::uint64_t first = GiB - 8 * MiB;
    constexpr std::uint64_t end = 2 * GiB + 8 * MiB;

    std::size_t longest = 0;
    std::size_t mixed = 0;
    for (unsigned seed = 0; seed < 12; ++seed) {
        CAPTURE(seed);
        std::mt19937_64 random{seed};
        paging_model::frames frames{64};
        pt::paging::table tables{paging_model::frames_memory{&frames}, kit.make()};
        const auto some = [&random](std::uint64_t count) { return random() % count; };
        const auto attributes = [&] { return TestType::choices[some(2)]; };
        const auto mapped = [&](std::uint64_t at, std::uint64_t size, std::uint64_t output) {
            if (auto owed = tables.remap({address{at}, size}, hpa{output}, attributes())) {
                owed->leak();
            }
        };
        mapped(first, end - first, 64 * GiB + first);
        for (unsigned i = 0; i < 24; ++i) {
            const std::uint64_t unit = some(2) == 0 ? 2 * MiB : 4 * KiB;
            const std::uint64_t from = some(2) == 0 ? first : 2 * GiB - 8 * MiB;
            const std::uint64_t at = from + some(16 * MiB / unit) * unit;
            const std::uint64_t left = (from + 16 * MiB - at) / unit;
            const std::uint64_t size = (1 + some(left < 8 ? left : 8)) * unit;
            const std::uint64_t length = size < end - at ? size : end - at;
            if (some(4) == 0) {
                if (auto owed = tables.unmap({address{at}, length})) {
                    owed->leak();
                }
            } else { // mostly where it would have been
                mapped(at, length, some(4) == 0 ? 80 * GiB : 64 * GiB + at);
            }
        }
        const auto read = [&frames](std::uint64_t frame, unsigned i) {
            return frames.read(frame, i);
        };
        const auto expected = walked(kit, read, tables.root()->raw, first, end);
        const auto found = leaves(tables) | runs | ranges::to<std::vector>();
        CHECK(found == expected);
        longest = found.size() > longest ? found.size() : longest;
        for (const auto& one : found) {
            mixed += one.smallest != one.largest ? 1 : 0;
        }
        tables.retire().leak();
    }
    CHECK(longest > 8); // so that it tells something
    CHECK(mixed > 8);
}
