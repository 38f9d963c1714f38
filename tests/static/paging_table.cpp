// SPDX-License-Identifier: BSL-1.0
// The engine in constant expressions: whatever it does here has no undefined behaviour, leaks
// nothing, and is walked by a reader who knows only the manual.
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include "../paging_model/walker.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace {

using paging_model::outcome;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;

constexpr std::uint64_t base = 0x1'0000'0000;

struct no_caches {
    unsigned calls = 0;
    template <class Stale>
    constexpr pt::result<void> invalidate(const Stale&) {
        ++calls;
        return {};
    }
};

template <std::size_t Frames>
struct reader {
    pt::arena<Frames>& frames;
    constexpr const std::uint64_t* operator()(std::uint64_t frame, unsigned i) const {
        return frames.memory().entries(hpa{frame}) + i;
    }
};

/// RAM with a hole for devices, one device in the hole, and the walk of hardware through all seams.
constexpr bool a_small_guest() {
    pt::arena<12> frames{hpa{base}};
    const pt::ept::format format{pt::ept::capabilities{0xF01'0673'4141}, 39};
    pt::paging::table tables{frames.memory(), format};
    const paging_model::ept_walker processor{
        .physical_width = 39, .execute_only = true, .pages_2m = true, .pages_1g = true};
    no_caches hardware;

    bool good = tables.map({pt::gpa{0}, 3 * GiB}, hpa{8 * GiB}, pt::ept::ram)->empty();
    good =
        good && tables.map({pt::gpa{4 * GiB}, 514 * MiB + 12 * KiB}, hpa{12 * GiB}, pt::ept::ram);
    good = good &&
           tables.map({pt::gpa{0xFEB0'0000}, 16 * KiB}, hpa{0x9000'4000}, pt::ept::device_memory);
    good = good && frames.free_frames() == 12 - 6; // root, PDPT, PD and PT of either end
    const auto at = [&](std::uint64_t input) {
        const outcome found = processor.walk(reader<12>{frames}, tables.root()->raw, input);
        const auto said = tables.translate(pt::gpa{input});
        return (found.what == outcome::kind::translated) == said.has_value() &&
                       (!said || said->output.raw == found.output)
                   ? found
                   : outcome{.what = outcome::kind::lost};
    };
    good = good && at(0).output == 8 * GiB && at(0).page == 1 * GiB && at(0).type == 6;
    good = good && at(3 * GiB - 1).output == 11 * GiB - 1;
    good = good && at(3 * GiB) == outcome{};
    good = good && at(4 * GiB + 2 * MiB).page == 2 * MiB;
    good = good && at(4 * GiB + 514 * MiB + 0x2FFF).output == 12 * GiB + 514 * MiB + 0x2FFF;
    good = good && at(4 * GiB + 514 * MiB + 0x3000) == outcome{};
    good = good && at(0xFEB0'0008).output == 0x9000'4008 && at(0xFEB0'0008).type == 0;
    good = good && !at(0xFEB0'0008).execute;

    const auto taken = tables.map({pt::gpa{2 * GiB}, 2 * GiB}, hpa{0}, pt::ept::ram);
    good = good && taken.error() == pt::error{pt::errc::already_mapped, 2 * GiB};

    std::uint64_t mapped = 0;
    std::size_t leaves = 0;
    for (const auto& leaf : tables.leaves()) {
        mapped += leaf.input.size(), ++leaves;
    }
    good = good && mapped == 3 * GiB + 514 * MiB + 28 * KiB && leaves == 3 + 257 + 3 + 4;

    // A hole of one page in 1 GiB: two splits; and the device goes away with its tables.
    auto owed = tables.batch();
    good = good && owed.add(*tables.unmap({pt::gpa{1 * GiB + 20 * KiB}, 4 * KiB}));
    good = good && owed.add(*tables.unmap({pt::gpa{0xFEB0'0000}, 16 * KiB}));
    good = good && at(1 * GiB + 20 * KiB) == outcome{};
    good = good && at(1 * GiB + 16 * KiB).output == 9 * GiB + 16 * KiB;
    good = good && at(2 * GiB - 4 * KiB).page == 2 * MiB && at(2 * GiB).page == 1 * GiB;
    good = good && frames.free_frames() == 12 - 8;
    good = good && owed.redeem(hardware) && frames.free_frames() == 12 - 6;

    good = good && owed.add(tables.retire());
    good = good && owed.redeem(hardware) && hardware.calls == 2;
    return good && frames.free_frames() == 12;
}
static_assert(a_small_guest());

/// A domain of a unit with 3 levels and nothing but 4-KiB pages, without memory for all of it.
constexpr bool a_small_domain() {
    pt::arena<5> frames{hpa{base}};
    pt::paging::table tables{
        frames.memory(),
        pt::vtd::second_stage::format{{.levels = 3, .input_width = 39, .output_width = 36}}};
    const paging_model::second_stage_walker unit{.levels = 3, .host_width = 36};
    no_caches hardware;

    bool good = tables
                    .map({pt::iova{0x1F'F000}, 8 * KiB}, hpa{0x7'0000'0000},
                         pt::vtd::second_stage::read_write)
                    .has_value();
    good = good && frames.free_frames() == 1;
    const auto at = [&](std::uint64_t input) {
        return unit.walk(reader<5>{frames}, tables.root()->raw, input);
    };
    good = good && at(0x1F'F000).output == 0x7'0000'0000 && at(0x20'0FFF).output == 0x7'0000'1FFF;
    good = good && at(0x1F'EFFF) == outcome{} && at(0x20'1000) == outcome{};
    // Two more tables are needed, one is there: nothing happens.
    const auto failed = tables.map({pt::iova{6 * MiB - 4 * KiB}, 8 * KiB}, hpa{0},
                                   pt::vtd::second_stage::read_write);
    good = good && failed.error().code == pt::errc::out_of_frames && frames.free_frames() == 1;
    good = good && at(6 * MiB - 4 * KiB) == outcome{};

    auto owed = tables.batch();
    good = good && owed.add(*tables.unmap({pt::iova{0}, 1 * GiB}));
    good = good && at(0x1F'F000) == outcome{} && frames.free_frames() == 1;
    good = good && owed.redeem(hardware) && frames.free_frames() == 4;
    good = good && owed.add(tables.retire());
    return good && owed.redeem(hardware) && frames.free_frames() == 5;
}
static_assert(a_small_domain());

/// What a guest's memory goes through when it is logged, moved and put together again.
constexpr bool a_life() {
    pt::arena<10> frames{hpa{base}};
    const pt::ept::format format{
        pt::ept::capabilities{0xF01'0673'4141}, 39, {.accessed_dirty = true}};
    pt::paging::table tables{frames.memory(), format};
    const paging_model::ept_walker processor{.physical_width = 39,
                                             .execute_only = true,
                                             .pages_2m = true,
                                             .pages_1g = true,
                                             .accessed_dirty = true};
    no_caches hardware;
    const auto at = [&](std::uint64_t input) {
        return processor.walk(reader<10>{frames}, tables.root()->raw, input);
    };
    const auto done = [&](auto&& result) { return result && result->redeem(hardware); };
    const pt::range<pt::gpa> memory{pt::gpa{4 * MiB}, 4 * MiB};
    bool good = done(tables.map(memory, hpa{8 * MiB}, pt::ept::ram));
    good = good && at(5 * MiB).page == 2 * MiB && at(5 * MiB).write;

    // In small pages, read-only; one of them is written to, and moves.
    good = good && done(tables.split({pt::gpa{4 * MiB}, 2 * MiB}));
    good = good && at(5 * MiB).page == 4 * KiB && at(7 * MiB).page == 2 * MiB;
    good = good && done(tables.write_protect({pt::gpa{5 * MiB}, 8 * KiB}));
    good = good && !at(5 * MiB).write && at(5 * MiB).execute && at(5 * MiB + 8 * KiB).write;
    good = good && done(tables.remap({pt::gpa{5 * MiB}, 4 * KiB}, hpa{1 * MiB}, pt::ept::ram));
    good = good && at(5 * MiB).output == 1 * MiB && at(5 * MiB).write;
    good = good && done(tables.join(memory)); // which it prevents
    good = good && at(4 * MiB).page == 4 * KiB && frames.free_frames() == 10 - 4;

    // Back again: one page, and dirty for good measure.
    good = good && done(tables.remap({pt::gpa{5 * MiB}, 4 * KiB}, hpa{9 * MiB}, pt::ept::ram));
    good = good && done(tables.protect(memory, pt::ept::ram)) && done(tables.join(memory));
    good = good && at(5 * MiB).page == 2 * MiB && at(5 * MiB).dirty && !at(7 * MiB).dirty;
    good = good && frames.free_frames() == 10 - 3;
    std::uint64_t words[1024 / 64] = {};
    good = good && done(tables.harvest(memory, pt::paging::page_flag::dirty, {words, 1024}));
    good = good && words[0] == ~std::uint64_t{0} && words[7] == ~std::uint64_t{0} && words[8] == 0;
    good = good && !at(5 * MiB).dirty;

    // Pages from anywhere, by a list and by a cursor.
    const hpa pages[] = {hpa{0x5000}, hpa{0x3000}};
    good =
        good && done(tables.map_pages({pt::gpa{2 * MiB - 4 * KiB}, 8 * KiB}, pages, pt::ept::ram));
    good = good && at(2 * MiB - 1).output == 0x5FFF && at(2 * MiB).output == 0x3000;
    {
        auto cursor = tables.cursor();
        good = good && done(cursor.map(pt::gpa{2 * MiB + 8 * KiB}, hpa{0x9000}, pt::ept::ram));
        good = good && done(cursor.map(pt::gpa{2 * MiB + 4 * KiB}, hpa{0x7000}, pt::ept::ram));
        good = good && !cursor.map(pt::gpa{2 * MiB}, hpa{0x7000}, pt::ept::ram);
    }
    good = good && at(2 * MiB + 4 * KiB).output == 0x7000 && at(2 * MiB + 8 * KiB).output == 0x9000;
    std::uint64_t last = 0;
    unsigned leaves = 0;
    for (const auto& leaf : tables.leaves({pt::gpa{2 * MiB}, 3 * MiB})) {
        last = leaf.input.last().raw;
        ++leaves;
    }
    good = good && leaves == 4 && last == 6 * MiB - 1;

    // And away with the tree, to whoever wants it.
    const hpa root = *tables.detach();
    good = good && !tables.translate(pt::gpa{2 * MiB}) && !tables.detach();
    good = good && processor.walk(reader<10>{frames}, root.raw, 2 * MiB).output == 0x3000;
    return good && frames.free_frames() == 10 - 5;
}
static_assert(a_life());

/// Random operations on 64 pages around the seam of two tables, of which one may be a large page, with
/// 5 frames and against an array that says where each page leads. All of it is done by the compiler.
template <class Format, class Walker>
constexpr bool agrees_with_an_array(Format format, Walker hardware, auto attributes, unsigned steps,
                                    std::uint64_t seed) {
    using address = typename Format::address;
    constexpr std::uint64_t first = 2 * MiB - 32 * 4 * KiB;
    constexpr std::uint64_t nothing = ~std::uint64_t{0};
    pt::arena<5> frames{hpa{base}};
    pt::paging::table tables{frames.memory(), format};
    no_caches caches;
    std::uint64_t truth[64] = {};
    for (std::uint64_t& page : truth) {
        page = nothing;
    }
    std::uint64_t random = seed;
    const auto below = [&random](unsigned bound) {
        random = random * 6364136223846793005 + 1442695040888963407;
        return static_cast<unsigned>(random >> 33) % bound;
    };
    bool good = true;
    for (unsigned step = 0; step < steps && good; ++step) {
        const unsigned from = below(64);
        const unsigned count = 1 + below(64 - from < 12 ? 64 - from : 12);
        const pt::range<address> input{address{first + from * 4 * KiB}, count * 4 * KiB};
        const std::uint64_t output = below(1000) * 4 * KiB;
        bool taken = false;
        for (unsigned i = from; i < from + count; ++i) {
            taken = taken || truth[i] != nothing;
        }
        switch (below(4)) {
        case 0:
        case 1: {
            auto done = tables.map(input, hpa{output}, attributes);
            good = done.has_value() == !taken && (!done || done->redeem(caches));
            taken = !done;
            break;
        }
        case 2: {
            auto done = tables.remap(input, hpa{output}, attributes);
            good = done && done->redeem(caches);
            taken = false;
            break;
        }
        default: {
            auto done = tables.unmap(input);
            good = done && done->empty() == !taken && done->redeem(caches);
            for (unsigned i = from; i < from + count; ++i) {
                truth[i] = nothing;
            }
            taken = true;
        }
        }
        for (unsigned i = from; i < from + count && !taken; ++i) {
            truth[i] = output + (i - from) * 4 * KiB;
        }
        bool low = false;
        bool high = false;
        for (unsigned i = 0; i < 64; ++i) {
            if (i + 1 >= from && i <= from + count) { // and its neighbours
                const outcome found =
                    hardware.walk(reader<5>{frames}, tables.root()->raw, first + i * 4 * KiB);
                good =
                    good && (truth[i] == nothing ? found == outcome{} : found.output == truth[i]);
            }
            (i < 32 ? low : high) |= truth[i] != nothing;
        }
        // The root, the way down, and a table on each side of the seam that has a page.
        const unsigned tables_needed =
            low || high ? format.levels() - 1 + unsigned{low} + unsigned{high} : 1;
        good = good && frames.free_frames() == 5 - tables_needed;
    }
    auto owed = tables.retire();
    return owed.redeem(caches) && good && frames.free_frames() == 5;
}
static_assert(agrees_with_an_array(pt::ept::format{pt::ept::capabilities{0x4041}, 39},
                                   paging_model::ept_walker{.physical_width = 39}, pt::ept::ram, 30,
                                   1));
static_assert(agrees_with_an_array(
    pt::vtd::second_stage::format{{.levels = 3, .input_width = 39, .output_width = 36}},
    paging_model::second_stage_walker{.levels = 3, .host_width = 36},
    pt::vtd::second_stage::read_write, 30, 2));

} // namespace
