// SPDX-License-Identifier: BSL-1.0
// The auditor at compile time: an EPT is built, audited and translated before the program exists.
// Also the models and near misses of its policies.
#include "pt/core/archetype.hpp"
#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include "../paging_model/walker.hpp"

#include <cstdint>

namespace {

using namespace pt::paging;
using pt::GiB;
using pt::gpa;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::range;

// The least models: they do nothing, and have nothing to spare.
struct least_reader {
    constexpr const std::uint64_t* entries(hpa) { return nullptr; }
};
struct least_set {
    constexpr insertion insert(hpa) { return insertion::outside; }
    constexpr bool overlaps(range<hpa>) { return false; }
};
static_assert(table_reader<least_reader> && frame_set<least_set>);
static_assert(frame_set<frame_bitmap> && table_reader<image_reader>);
static_assert(table_reader<direct_map_reader<pt::identity_map>>);
static_assert(table_reader<direct_map_reader<pt::offset_map>>);

// A table_memory answers for its own frames only; what comes out of a table may be any number.
static_assert(!table_reader<pt::archetype::table_memory> && !table_reader<pt::arena_memory<4>>);
struct reads_guest_frames {
    const std::uint64_t* entries(gpa) { return nullptr; }
};
struct says_yes_or_no {
    bool insert(hpa) { return false; }
    bool overlaps(range<hpa>) { return false; }
};
static_assert(!table_reader<reads_guest_frames> && !frame_set<says_yes_or_no>);
static_assert(!frame_set<least_reader> && !table_reader<least_set>);

struct silent {
    constexpr void operator()(const finding&) {}
};
struct of_ept {
    constexpr void operator()(const mapping<pt::ept::format>&) {}
};
static_assert(audit_report<silent> && audit_report<silent&> && !audit_report<of_ept>);
static_assert(leaf_visitor<of_ept, pt::ept::format> &&
              !leaf_visitor<of_ept, pt::vtd::second_stage::format> &&
              !leaf_visitor<silent, pt::ept::format>);

// All three compile with the least models, for every format.
template <class Format>
constexpr bool needs_no_more(Format format) {
    auto visit = [](const mapping<Format>&) {};
    const audit_summary outside{.findings = 1};
    return audit(format, least_reader{}, hpa{0}, least_set{}, silent{}) == outside &&
           audit_leaves(format, least_reader{}, hpa{0}, least_set{}, silent{}, visit) == outside &&
           audit_reach(format, least_reader{}, hpa{0}, least_set{}, least_set{}, silent{}) ==
               outside;
}
constexpr pt::ept::capabilities processor{0xF01'0673'4141};
static_assert(needs_no_more(pt::ept::format{processor, 46}));
static_assert(needs_no_more(pt::vtd::second_stage::format{{.levels = 3}}));
static_assert(needs_no_more(pt::x86_64::nested_paging{48}));
static_assert(needs_no_more(pt::x86_64::first_stage{48}));

// The set. A frame that lies only partly in the range is outside.
constexpr range<hpa> ragged{hpa{0x1800}, 66 * 4 * KiB};
static_assert(frame_bitmap::words_for(ragged) == 2); // 65 whole frames
static_assert(frame_bitmap::words_for({hpa{0x1000}, 64 * 4 * KiB}) == 1);
static_assert(frame_bitmap::words_for({hpa{0x1800}, 0x7FF}) == 0);
static_assert(frame_bitmap::words_for({hpa{0x1800}, 0x17FF}) == 0);
static_assert(frame_bitmap::words_for({}) == 0);
static_assert(frame_bitmap::words_for({hpa{~std::uint64_t{0} - 0x7FE}, 0x7FF}) == 0); // at the end
static_assert(frame_bitmap::words_for({hpa{0}, ~std::uint64_t{0}}) == (std::uint64_t{1} << 46));

constexpr bool a_set_holds_what_was_put_in() {
    std::uint64_t words[2]{};
    frame_bitmap set{ragged, words};
    const frame_bitmap copy = set; // a handle to the same set
    using enum insertion;
    return set.insert(hpa{0x1000}) == outside && set.insert(hpa{0x2000}) == inserted &&
           set.insert(hpa{0x2000}) == present && set.insert(hpa{0x2800}) == outside &&
           set.insert(hpa{0x42000}) == inserted && set.insert(hpa{0x43000}) == outside &&
           set.insert(hpa{0}) == outside && set.insert(hpa{~std::uint64_t{0xFFF}}) == outside &&
           words[0] == 1 && words[1] == 1 && copy.overlaps({hpa{0}, 0x2001}) &&
           !copy.overlaps({hpa{0}, 0x2000}) && copy.overlaps({hpa{0x2FFF}, 1}) &&
           !copy.overlaps({hpa{0x3000}, 0x3F000}) && copy.overlaps({hpa{0x3000}, 0x3F001}) &&
           !copy.overlaps({hpa{0x43000}, 0x1000}) && !copy.overlaps({}) &&
           copy.overlaps({hpa{0}, ~std::uint64_t{0}});
}
static_assert(a_set_holds_what_was_put_in());

// The readers.
constexpr bool an_image_ends_where_it_ends() {
    constexpr std::uint64_t words[1024]{};
    const image_reader aligned{{hpa{0x1000}, 0x2000}, words};
    const image_reader longer{{hpa{0xF00}, 0x1200}, words}; // begins 0x100 before a frame
    const image_reader crooked{{hpa{0xFFC}, 0x1100}, words};
    return aligned.entries(hpa{0}) == nullptr && aligned.entries(hpa{0x1000}) == words &&
           aligned.entries(hpa{0x2000}) == words + 512 && aligned.entries(hpa{0x3000}) == nullptr &&
           aligned.entries(hpa{0x1800}) == nullptr &&
           aligned.entries(hpa{~std::uint64_t{0xFFF}}) == nullptr &&
           longer.entries(hpa{0x1000}) == words + 0x20 && longer.entries(hpa{0x2000}) == nullptr &&
           crooked.entries(hpa{0x1000}) == nullptr;
}
static_assert(an_image_ends_where_it_ends());

/// How an arena's tables are read.
template <std::size_t Frames>
struct arena_reader {
    pt::arena_memory<Frames> memory;
    range<hpa> frames;

    constexpr const std::uint64_t* entries(hpa frame) {
        return frames.contains(frame) ? memory.entries(frame) : nullptr;
    }
};

/// A guest of 8 MiB and 12 KiB with a device's page, in six tables.
constexpr bool an_ept_is_built_audited_and_translated() {
    constexpr hpa base{0x10'0000};
    const pt::ept::format format{processor, 46};
    pt::arena<8> frames{base};
    table tables{frames.memory(), format};
    const auto mapped = [&tables](range<gpa> input, hpa output, pt::ept::attributes a) {
        auto owed = tables.map(input, output, a);
        return owed && owed->empty();
    };
    bool good = mapped({gpa{0}, 8 * MiB + 12 * KiB}, hpa{16 * GiB}, pt::ept::ram) &&
                mapped({gpa{0xFEB0'0000}, 4 * KiB}, hpa{0xDF20'0000}, pt::ept::device_memory);

    const range<hpa> all{base, 8 * 4 * KiB};
    arena_reader<8> reader{frames.memory(), all};
    std::uint64_t words[1]{};
    const hpa root = *tables.root();
    const audit_summary found =
        audit(format, reader, root, frame_bitmap{all, words}, [](const finding&) {});
    good = good && found == audit_summary{.tables = 6, .pages_4k = 4, .pages_2m = 4};
    std::uint64_t again[1]{};
    good = good && audit_reach(format, reader, root, frame_bitmap{all, again},
                               frame_bitmap{all, words}, [](const finding&) {})
                       .clean();

    paging_model::ept_walker processor_46{};
    processor_46.physical_width = 46;
    processor_46.pages_2m = true;
    const auto read = [&reader](std::uint64_t frame, unsigned i) {
        return reader.entries(hpa{frame}) + i;
    };
    good =
        good &&
        processor_46.walk(read, root.raw, 8 * MiB + 0x2345).output == 16 * GiB + 8 * MiB + 0x2345 &&
        processor_46.walk(read, root.raw, 0xFEB0'0FFF).output == 0xDF20'0FFF;

    // One more page, and it leads to the root.
    good = good && mapped({gpa{1 * GiB}, 4 * KiB}, root, pt::ept::ram);
    std::uint64_t words_2[1]{};
    std::uint64_t again_2[1]{};
    finding last{};
    const auto keep = [&last](const finding& one) { last = one; };
    good = good && audit(format, reader, root, frame_bitmap{all, words_2}, keep).clean() &&
           audit_reach(format, reader, root, frame_bitmap{all, again_2}, frame_bitmap{all, words_2},
                       keep)
                   .findings == 1 &&
           last.kind == finding_kind::forbidden && last.input == 1 * GiB && last.level == 1;

    auto owed = tables.retire();
    owed.leak();
    return good;
}
static_assert(an_ept_is_built_audited_and_translated());

} // namespace
