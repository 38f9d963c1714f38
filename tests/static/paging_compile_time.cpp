// SPDX-License-Identifier: BSL-1.0
// Tables in constant expressions, of each format: built, taken out of the arena as a plain value,
// and then walked there by hardware that knows only the manual. examples/constexpr_ept goes on from
// here.
#include "pt/memory/arena.hpp"
#include "pt/memory/table_image.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/translate.hpp"

#include "../paging_model/kit.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using namespace paging_model;
using pt::errc;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::range;

// An image is its frames and nothing else.
static_assert(sizeof(pt::table_image<3>) == 3 * 4096 && alignof(pt::table_image<3>) == 4096);
static_assert(pt::table_image<3>::size == 3 * 4096);
static_assert(std::is_trivially_copyable_v<pt::table_image<3>>);
static_assert(std::is_standard_layout_v<pt::table_image<3>>);

constexpr bool an_image_has_the_frames_in_order() {
    pt::arena<3> frames{hpa{0x7000}};
    auto memory = frames.memory();
    for (std::uint64_t i = 0; i < 3; ++i) {
        std::uint64_t* const entries = memory.entries(*memory.allocate(pt::frame_contents::zeroed));
        entries[0] = 10 * i + 1;
        entries[511] = 10 * i + 2;
    }
    const pt::table_image<3> image = frames.image();
    memory.entries(hpa{0x8000})[0] = 0; // a copy: what becomes of the arena does not matter
    std::uint64_t sum = 0;
    for (const std::uint64_t entry : image.entries) {
        sum += entry;
    }
    return image.entries[0] == 1 && image.entries[511] == 2 && image.entries[512] == 11 &&
           image.entries[1023] == 12 && image.entries[1024] == 21 && image.entries[1535] == 22 &&
           sum == 1 + 2 + 11 + 12 + 21 + 22;
}
static_assert(an_image_has_the_frames_in_order());

constexpr hpa base{0x12'3000};

template <std::size_t Frames>
struct tree {
    pt::table_image<Frames> image;
    hpa root;
};

/// 4 MiB and a page from 1 GiB on, and a page read-only before them that was cut out of more.
template <class Kit, std::size_t Frames>
constexpr tree<Frames> built(const Kit& kit) {
    using address = typename Kit::address;
    pt::arena<Frames> frames{base};
    pt::paging::table tables{frames.memory(), kit.make()};
    const auto whole = Kit::choices[0];
    const auto write_protected = Kit::write_protected(whole);
    const auto done = [](auto operation) {
        pt::expects(operation.has_value(), "all of it has room");
        operation->leak(); // no hardware has seen these tables
    };
    done(
        tables.map({address{GiB - 12 * KiB}, 4 * MiB + 16 * KiB}, hpa{64 * GiB - 12 * KiB}, whole));
    done(tables.unmap({address{GiB - 12 * KiB}, 8 * KiB}));
    done(tables.protect({address{GiB - 4 * KiB}, 4 * KiB}, write_protected));
    const hpa root = *tables.detach();
    return {frames.image(), root};
}

/// Both readings of a tree agree with what was asked for, at all seams.
template <class Kit, std::size_t Frames>
constexpr bool leads_where_it_should(const Kit& kit, const tree<Frames>& made) {
    using address = typename Kit::address;
    constexpr range<hpa> own{base, pt::table_image<Frames>::size};
    const pt::paging::image_reader reader{own, made.image.entries};
    const auto walks = [&](std::uint64_t input) {
        return kit.hardware().walk(
            [&](std::uint64_t frame, unsigned i) {
                const std::uint64_t* const entries = reader.entries(hpa{frame});
                return entries == nullptr ? nullptr : entries + i;
            },
            made.root.raw, input);
    };
    const auto nothing = [&](std::uint64_t input) {
        return walks(input) == outcome{} &&
               translate(kit.make(), reader, made.root, address{input}).error() ==
                   pt::error{errc::not_mapped, input};
    };
    const auto leads = [&](std::uint64_t input, typename Kit::attributes a, std::uint64_t page) {
        const outcome found = walks(input);
        const auto said = translate(kit.make(), reader, made.root, address{input});
        return found == Kit::expected(a, input + 63 * GiB) && found.page == page && said &&
               said->output.raw == found.output && said->attributes == a &&
               pt::paging::bytes(said->size) == page;
    };
    const auto whole = Kit::choices[0];
    const auto write_protected = Kit::write_protected(whole);
    return nothing(0) && nothing(GiB - 4 * KiB - 1) &&
           leads(GiB - 4 * KiB, write_protected, 4 * KiB) &&
           leads(GiB - 1, write_protected, 4 * KiB) && leads(GiB, whole, 2 * MiB) &&
           leads(GiB + 4 * MiB - 1, whole, 2 * MiB) && leads(GiB + 4 * MiB, whole, 4 * KiB) &&
           leads(GiB + 4 * MiB + 0xFFF, whole, 4 * KiB) && nothing(GiB + 4 * MiB + 0x1000);
}

template <class Kit, std::size_t Frames>
constexpr tree<Frames> of = built<Kit, Frames>(Kit{});

static_assert(leads_where_it_should(ept_kit{}, of<ept_kit, 6>));
static_assert(leads_where_it_should(ept5_kit{}, of<ept5_kit, 7>));
static_assert(leads_where_it_should(second_stage_kit<3>{}, of<second_stage_kit<3>, 5>));
static_assert(leads_where_it_should(second_stage_kit<4>{}, of<second_stage_kit<4>, 6>));
static_assert(leads_where_it_should(nested_kit{}, of<nested_kit, 6>));
static_assert(leads_where_it_should(first_stage_kit{}, of<first_stage_kit, 7>));

// Nothing that tables hold is trusted, and neither is the root.
constexpr pt::ept::format processor = ept_kit{}.make();
constexpr std::uint64_t bad_tables[1024]{0x2000 | 7, 0x3000 | 7, 0x1000 | 6, 0x8000'0000'0000 | 7};
constexpr pt::paging::image_reader bad{{hpa{0x1000}, 0x2000}, bad_tables};

constexpr pt::error wrong(std::uint64_t root, std::uint64_t input) {
    return translate(processor, bad, hpa{root}, pt::gpa{input}).error();
}
constexpr std::uint64_t top = std::uint64_t{1} << 39;
static_assert(wrong(0x1000, 0) == pt::error{errc::not_mapped, 0});
static_assert(wrong(0x1000, 1 * top) == pt::error{errc::absent, 0x3000});
static_assert(wrong(0x1000, 2 * top) == pt::error{errc::malformed, 0x1006});
static_assert(wrong(0x1000, 3 * top) == pt::error{errc::malformed, 0x8000'0000'0007});
static_assert(wrong(0x1000, 512 * top) == pt::error{errc::out_of_range, 512 * top});
static_assert(wrong(0x1008, 0) == pt::error{errc::misaligned, 0x1008});
static_assert(wrong(0, 0) == pt::error{errc::absent, 0});

// A table that points to itself: the walk ends with the levels.
constexpr std::uint64_t itself[512]{0x1000 | 7};
static_assert(translate(processor, pt::paging::image_reader{{hpa{0x1000}, 0x1000}, itself},
                        hpa{0x1000}, pt::gpa{0x123})
                  ->output == hpa{0x1123});

} // namespace
