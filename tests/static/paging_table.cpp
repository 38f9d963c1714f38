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
    tables.visit([&](pt::range<pt::gpa> input, const auto&) { mapped += input.size(), ++leaves; });
    good = good && mapped == 3 * GiB + 514 * MiB + 28 * KiB && leaves == 3 + 257 + 3 + 4;

    // A hole of one page in 1 GiB: two splits; and the device goes away with its tables.
    auto owed = *tables.unmap({pt::gpa{1 * GiB + 20 * KiB}, 4 * KiB});
    owed.merge(*tables.unmap({pt::gpa{0xFEB0'0000}, 16 * KiB}));
    good = good && at(1 * GiB + 20 * KiB) == outcome{};
    good = good && at(1 * GiB + 16 * KiB).output == 9 * GiB + 16 * KiB;
    good = good && at(2 * GiB - 4 * KiB).page == 2 * MiB && at(2 * GiB).page == 1 * GiB;
    good = good && frames.free_frames() == 12 - 8;
    good = good && owed.redeem(hardware) && frames.free_frames() == 12 - 6;

    owed.merge(tables.retire());
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

    auto owed = *tables.unmap({pt::iova{0}, 1 * GiB});
    good = good && at(0x1F'F000) == outcome{} && frames.free_frames() == 1;
    good = good && owed.redeem(hardware) && frames.free_frames() == 4;
    owed.merge(tables.retire());
    return good && owed.redeem(hardware) && frames.free_frames() == 5;
}
static_assert(a_small_domain());

} // namespace
