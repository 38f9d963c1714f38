// SPDX-License-Identifier: BSL-1.0
// The auditor against tables that were spoilt on purpose, one bit at a time as the manuals list
// them, and against the walkers on tables that mean nothing at all.
#include "pt/paging/audit.hpp"
#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/table_reader.hpp"

#include "../../paging_model/audit_model.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace {

using namespace paging_model;
using pt::hpa;
using pt::paging::audit;
using pt::paging::audit_reach;
using pt::paging::audit_summary;
using pt::paging::entry_defect;
using pt::paging::finding;
using pt::paging::finding_kind;
using pt::paging::frame_bitmap;
using pt::paging::image_reader;

using ept_4 = ept_subject<4>;
using ept_5 = ept_subject<5>;
using second_stage_3 = second_stage_subject<3>;
using second_stage_4 = second_stage_subject<4>;
using second_stage_5 = second_stage_subject<5>;
using nested_4 = x86_64_subject<pt::gpa, 4>;
using nested_5 = x86_64_subject<pt::gpa, 5>;
using first_stage_4 = x86_64_subject<pt::iova, 4>;
using first_stage_5 = x86_64_subject<pt::iova, 5>;

constexpr unsigned shift(unsigned level) { return 12 + 9 * (level - 1); }

/// A healthy tree with one table at each level: table i is at level `levels` - i, and entry(level)
/// of it leads on, at level 1 to a page.
template <class Subject>
struct chain {
    static constexpr unsigned levels = Subject::levels;
    image memory{levels + 2};

    chain() {
        for (unsigned level = levels; level > 1; --level) {
            slot(level) = image::frame(table(level) + 1) | Subject::to_table;
        }
        slot(1) = 0x1234'5000 | Subject::to_page(1);
    }

    static constexpr std::size_t table(unsigned level) { return levels - level; }
    /// Within an input width of 50 bits with 5 levels, and of 47 with 4.
    static constexpr unsigned entry(unsigned level) { return level == 5 ? 2 : 37 * level - 30; }
    /// The first address that passes through all of entry(levels) to entry(level).
    static constexpr std::uint64_t input(unsigned level) {
        std::uint64_t sum = 0;
        for (unsigned n = levels; n >= level; --n) {
            sum += std::uint64_t{entry(n)} << shift(n);
        }
        return sum;
    }
    std::uint64_t& slot(unsigned level) { return memory.at(table(level), entry(level)); }

    /// What is expected of entry(level) of the table at that level.
    finding at(unsigned level, finding_kind kind, entry_defect defect = entry_defect::none) {
        return {.kind = kind,
                .defect = defect,
                .level = level,
                .index = entry(level),
                .table = hpa{image::frame(table(level))},
                .input = input(level),
                .entry = slot(level)};
    }
    [[nodiscard]] auto audit(abilities can = {}) const {
        return audited(Subject::make(can), memory, image::frame(0));
    }
};

/// Bits of an entry, each of which alone makes it one that the hardware refuses.
struct refused_bits {
    std::uint64_t bits;
    entry_defect defect;
};

constexpr std::uint64_t bit_at(unsigned n) { return std::uint64_t{1} << n; }
/// Bits high:low.
constexpr std::uint64_t ones(unsigned high, unsigned low) {
    return high < low ? 0 : (~std::uint64_t{0} >> (63 - high)) & (~std::uint64_t{0} << low);
}

// [sdm, "EPT Misconfigurations"]: addresses at or above MAXPHYADDR (50 here); bits 6:3 of an entry
// that points to a table; bit 7 in PML5E and PML4E; in a leaf the address bits below the page, and
// memory types 2, 3 and 7. to_page() is of type 6, so that bit 3 alone makes it 7.
template <unsigned Levels>
std::vector<refused_bits> refused(ept_subject<Levels>, unsigned level, bool leaf) {
    if (!leaf) {
        return {{ones(51, 50), entry_defect::address_width},
                {ones(6, 3), entry_defect::reserved_bits},
                {level >= 4 ? bit_at(7) : 0, entry_defect::page_size}};
    }
    return {{ones(51, 50), entry_defect::address_width},
            {ones(shift(level) - 1, 12), entry_defect::misaligned_page},
            {bit_at(3), entry_defect::memory_type}};
}

// [vt-d, "Second-Stage Paging Entries"]: addresses at or above the host address width; bits 11 and
// 62, here without snoop control and transient mapping; bit 7 in SS-PML5E and SS-PML4E; the
// address bits below a large page.
template <unsigned Levels>
std::vector<refused_bits> refused(second_stage_subject<Levels>, unsigned level, bool leaf) {
    return {{ones(51, 50), entry_defect::address_width},
            {bit_at(11) | bit_at(62), entry_defect::reserved_bits},
            {!leaf && level >= 4 ? bit_at(7) : 0, entry_defect::page_size},
            {leaf ? ones(shift(level) - 1, 12) : 0, entry_defect::misaligned_page}};
}

// [amd, "Page-Translation-Table Entry Fields"]: addresses at or above the physical-address width;
// bit 63 without EFER.NXE; bits 7 and 8 in PML5E and PML4E; the address bits below a large page,
// of which the lowest is PAT. Remapping units ignore bits 63 and 8 [vt-d, "First-Stage Paging
// Entries"].
template <class Address, unsigned Levels>
std::vector<refused_bits> refused(x86_64_subject<Address, Levels> subject, unsigned level,
                                  bool leaf) {
    return {{ones(51, 50), entry_defect::address_width},
            {subject.nested ? bit_at(63) | (level >= 4 ? bit_at(8) : 0) : 0,
             entry_defect::reserved_bits},
            {!leaf && level >= 4 ? bit_at(7) : 0, entry_defect::page_size},
            {leaf ? ones(shift(level) - 1, 13) : 0, entry_defect::misaligned_page}};
}

/// Whether exactly that is found, and the hardware refuses the entry too.
template <class Subject>
void require_only(chain<Subject>& tree, const finding& expected, abilities can = {}) {
    const auto said = tree.audit(can);
    REQUIRE(said.findings.size() == 1);
    REQUIRE(said.findings[0] == expected);
    REQUIRE(said.leaves.empty());
    REQUIRE(said.summary.tables == Subject::levels - expected.level + 1);
    const auto there = Subject::hardware(can).walk(
        [&tree](std::uint64_t frame, unsigned i) { return tree.memory.read(frame, i); },
        image::frame(0), expected.input);
    REQUIRE(there.what == outcome::kind::misconfigured);
}

TEMPLATE_TEST_CASE("each reserved bit of each entry is found, and no other bit is",
                   "[paging][rule 8]", ept_4, ept_5, second_stage_3, second_stage_4, second_stage_5,
                   nested_4, nested_5, first_stage_4, first_stage_5) {
    for (unsigned level = 1; level <= TestType::levels; ++level) {
        for (const bool leaf : {false, true}) {
            if (leaf ? level > 3 : level == 1) {
                continue;
            }
            chain<TestType> healthy;
            if (leaf) {
                healthy.slot(level) = bit_at(40) | TestType::to_page(level);
            }
            REQUIRE(healthy.audit().summary.clean());
            REQUIRE(healthy.audit().leaves.size() == 1);
            REQUIRE(healthy.audit().summary.tables == TestType::levels - (leaf ? level - 1 : 0));

            for (unsigned bit = 0; bit < 64; ++bit) {
                chain<TestType> tree = healthy;
                if ((tree.slot(level) & bit_at(bit)) != 0) {
                    continue;
                }
                tree.slot(level) |= bit_at(bit);
                INFO("level " << level << (leaf ? " leaf" : " table") << ", bit " << bit);
                entry_defect expected = entry_defect::none;
                for (const refused_bits& list : refused(TestType{}, level, leaf)) {
                    expected = (list.bits & bit_at(bit)) != 0 ? list.defect : expected;
                }
                if (expected != entry_defect::none) {
                    require_only(tree, tree.at(level, finding_kind::refused_entry, expected));
                } else if (leaf || bit < 7 || (bit > 7 && bit < 12) || bit > 51) {
                    const auto said = tree.audit(); // ignored, or a right, or software's
                    REQUIRE(said.summary.clean());
                    REQUIRE(said.leaves.size() == 1);
                } // else it points elsewhere, or has become a leaf
            }
        }
    }
}

TEMPLATE_TEST_CASE("rights that EPT does not have are found at every level", "[paging][rule 8]",
                   ept_4, ept_5) {
    for (unsigned level = 1; level <= TestType::levels; ++level) {
        chain<TestType> tree;
        const std::uint64_t healthy = tree.slot(level) & ~std::uint64_t{7};
        for (const std::uint64_t rights : {2U, 6U}) { // W and WX
            tree.slot(level) = healthy | rights;
            require_only(tree, tree.at(level, finding_kind::refused_entry,
                                       entry_defect::write_without_read));
        }
        tree.slot(level) = healthy | 4; // X
        require_only(tree, tree.at(level, finding_kind::refused_entry, entry_defect::execute_only));
        REQUIRE(tree.audit({.extra = true}).summary.clean()); // with the capability
        for (const std::uint64_t rights : {1U, 3U, 5U, 7U}) { // R, RW, RX, RWX
            tree.slot(level) = healthy | rights;
            REQUIRE(tree.audit().summary.clean());
        }
    }
    for (unsigned level = 1; level <= 3; ++level) {
        for (unsigned type = 0; type < 8; ++type) {
            chain<TestType> tree;
            tree.slot(level) = 0x4000'0000 | 7 | type << 3 | (level > 1 ? 0x80 : 0);
            if (type == 2 || type == 3 || type == 7) {
                require_only(
                    tree, tree.at(level, finding_kind::refused_entry, entry_defect::memory_type));
            } else {
                REQUIRE(tree.audit().summary.clean());
            }
        }
    }
}

TEMPLATE_TEST_CASE("a page of a size that the hardware lacks is found", "[paging][rule 8]", ept_4,
                   ept_5, second_stage_3, second_stage_4, second_stage_5, nested_4, nested_5,
                   first_stage_4, first_stage_5) {
    for (unsigned level = 1; level <= 3; ++level) {
        chain<TestType> tree;
        tree.slot(level) = 0x4000'0000 | TestType::to_page(level);
        for (unsigned largest = 1; largest <= 3; ++largest) {
            const abilities can{.largest = largest};
            if (level > largest && (level == 3 || TestType::chooses_2m)) {
                require_only(tree,
                             tree.at(level, finding_kind::refused_entry, entry_defect::page_size),
                             can);
            } else {
                const auto said = tree.audit(can);
                REQUIRE(said.summary.clean());
                REQUIRE(said.summary == audit_summary{.tables = TestType::levels - level + 1,
                                                      .pages_4k = level == 1 ? 1U : 0U,
                                                      .pages_2m = level == 2 ? 1U : 0U,
                                                      .pages_1g = level == 3 ? 1U : 0U});
                REQUIRE(said.summary.mapped() == std::uint64_t{1} << shift(level));
                REQUIRE(said.leaves[0].input.first().raw == chain<TestType>::input(level));
                REQUIRE(said.leaves[0].to.output == hpa{0x4000'0000});
                REQUIRE(static_cast<unsigned>(said.leaves[0].to.size) == level);
            }
        }
    }
}

TEMPLATE_TEST_CASE("an entry that points to its own table or to one above it is a loop", "[paging]",
                   ept_4, ept_5, second_stage_3, second_stage_4, second_stage_5, nested_4, nested_5,
                   first_stage_4, first_stage_5) {
    for (unsigned level = 2; level <= TestType::levels; ++level) {
        for (unsigned target = level; target <= TestType::levels; ++target) {
            chain<TestType> tree;
            tree.slot(level) = image::frame(chain<TestType>::table(target)) | TestType::to_table;
            const auto said = tree.audit();
            REQUIRE(said.findings.size() == 1);
            REQUIRE(said.findings[0] == tree.at(level, finding_kind::loop));
            REQUIRE(said.summary.tables == TestType::levels - level + 1);
        }
    }
}

TEMPLATE_TEST_CASE("a table that two entries point to is found, whatever its level is there",
                   "[paging]", ept_4, ept_5, second_stage_3, second_stage_4, second_stage_5,
                   nested_4, nested_5, first_stage_4, first_stage_5) {
    // A second entry, behind the first one, at any level, to any table that is not above it.
    for (unsigned level = 2; level <= TestType::levels; ++level) {
        for (unsigned target = 1; target < level; ++target) {
            chain<TestType> tree;
            const unsigned index = chain<TestType>::entry(level) + 1;
            tree.memory.at(chain<TestType>::table(level), index) =
                image::frame(chain<TestType>::table(target)) | TestType::to_table;
            finding expected = tree.at(level, finding_kind::used_twice);
            expected.index = index;
            expected.input += std::uint64_t{1} << shift(level);
            expected.entry = tree.memory.at(chain<TestType>::table(level), index);
            const auto said = tree.audit();
            REQUIRE(said.findings.size() == 1);
            REQUIRE(said.findings[0] == expected);
            REQUIRE(said.leaves.size() == 1); // the first way still counts
            REQUIRE(said.asked.size() == TestType::levels);
        }
    }
}

TEMPLATE_TEST_CASE("two pages may lead to the same memory", "[paging]", ept_4, second_stage_3) {
    chain<TestType> tree;
    tree.memory.at(chain<TestType>::table(1), 3) = tree.slot(1);
    const auto said = tree.audit();
    REQUIRE(said.summary.clean());
    REQUIRE(said.summary.pages_4k == 2);
}

TEMPLATE_TEST_CASE("tables that are outside of the set, or cannot be read, are found", "[paging]",
                   ept_4, ept_5, second_stage_3, second_stage_4, second_stage_5, nested_4, nested_5,
                   first_stage_4, first_stage_5) {
    for (unsigned level = 2; level <= TestType::levels; ++level) {
        chain<TestType> tree;
        const image& memory = tree.memory;
        for (const std::uint64_t elsewhere : {std::uint64_t{0}, image::base - 4096,
                                              image::base + memory.whole().size(), ones(49, 12)}) {
            tree.slot(level) = elsewhere | TestType::to_table;
            const auto said = tree.audit();
            REQUIRE(said.findings.size() == 1);
            REQUIRE(said.findings[0] == tree.at(level, finding_kind::outside));
        }
        // The set takes one frame more than the dump has.
        const std::uint64_t missing = image::base + memory.whole().size();
        tree.slot(level) = missing | TestType::to_table;
        std::uint64_t words[1]{};
        std::vector<finding> found;
        const audit_summary said = audit(
            TestType::make({}), image_reader{memory.whole(), memory.words()}, hpa{image::frame(0)},
            frame_bitmap{{memory.whole().first(), memory.whole().size() + 4096}, words},
            [&found](const finding& one) { found.push_back(one); });
        REQUIRE(said.findings == 1);
        REQUIRE(found.size() == 1);
        REQUIRE(found[0] == tree.at(level, finding_kind::unreadable));
        REQUIRE(said.tables == TestType::levels - level + 1);
    }
}

TEMPLATE_TEST_CASE("a root that is no table is found", "[paging]", ept_4, ept_5, second_stage_3,
                   second_stage_4, second_stage_5, nested_4, nested_5, first_stage_4,
                   first_stage_5) {
    chain<TestType> tree;
    struct {
        std::uint64_t root;
        finding_kind kind;
        entry_defect defect;
    } const cases[] = {
        {image::frame(0) | 0x1E, finding_kind::misaligned_root, entry_defect::none}, // an EPTP
        {image::frame(0) + 1, finding_kind::misaligned_root, entry_defect::none},
        {image::frame(0) | 0x800, finding_kind::misaligned_root, entry_defect::none},
        {bit_at(50), finding_kind::refused_entry, entry_defect::address_width},
        {ones(63, 12), finding_kind::refused_entry, entry_defect::address_width},
        {0, finding_kind::outside, entry_defect::none},
        {image::base - 4096, finding_kind::outside, entry_defect::none},
    };
    for (const auto& one : cases) {
        const auto said = audited(TestType::make({}), tree.memory, one.root);
        REQUIRE(said.summary == audit_summary{.findings = 1});
        REQUIRE(said.findings.size() == 1);
        REQUIRE(said.findings[0] == finding{.kind = one.kind,
                                            .defect = one.defect,
                                            .level = TestType::levels + 1,
                                            .entry = one.root});
        REQUIRE(said.asked.empty());
    }
    const std::uint64_t beyond = image::base + tree.memory.whole().size();
    std::uint64_t words[1]{};
    std::vector<finding> found;
    const audit_summary said =
        audit(TestType::make({}), image_reader{tree.memory.whole(), tree.memory.words()},
              hpa{beyond}, frame_bitmap{{hpa{beyond}, 4096}, words},
              [&found](const finding& one) { found.push_back(one); });
    REQUIRE(said == audit_summary{.findings = 1});
    REQUIRE(found[0] == finding{.kind = finding_kind::unreadable,
                                .level = TestType::levels + 1,
                                .entry = beyond});
}

TEST_CASE("what lies beyond the input width is found and not followed", "[paging][rule 17]") {
    // A unit whose MGAW is 42 bits, with tables of 4 levels: root entries from 8 on (8 << 39 =
    // 2^42).
    const pt::vtd::second_stage::format format{
        {.levels = 4, .input_width = 42, .output_width = 46}};
    for (const unsigned index : {0U, 7U, 8U, 511U}) {
        image memory{4};
        memory.at(0, index) = image::frame(1) | 3;
        memory.at(1, 511) = image::frame(2) | 3;
        memory.at(2, 511) = image::frame(3) | 3;
        memory.at(3, 511) = 0x1003;
        const auto said = audited(format, memory, image::frame(0));
        if (index < 8) {
            REQUIRE(said.summary.clean());
            REQUIRE(said.summary.tables == 4);
        } else {
            REQUIRE(said.findings.size() == 1);
            REQUIRE(said.findings[0] == finding{.kind = finding_kind::beyond_input_width,
                                                .level = 4,
                                                .index = index,
                                                .table = hpa{image::frame(0)},
                                                .input = std::uint64_t{index} << 39,
                                                .entry = image::frame(1) | 3});
            REQUIRE(said.summary.tables == 1);
        }
    }
}

TEMPLATE_TEST_CASE("a page to or from a device's interrupt range is found", "[paging][rule 19]",
                   second_stage_3, second_stage_4, second_stage_5) {
    constexpr unsigned levels = TestType::levels;
    // 0xFEE00000 is 3 GiB + 503 * 2 MiB.
    const auto with = [](std::uint64_t entry, unsigned index) {
        image memory{levels};
        for (unsigned level = levels; level > 2; --level) {
            memory.at(levels - level, level == 3 ? 3 : 0) =
                image::frame(levels - level + 1) | TestType::to_table;
        }
        memory.at(levels - 2, index) = entry;
        return audited(TestType::make({}), memory, image::frame(0));
    };
    const std::uint64_t to_page = TestType::to_page(2);
    const auto from = with(0x4000'0000 | to_page, 503);
    REQUIRE(from.findings.size() == 1);
    REQUIRE(from.findings[0] == finding{.kind = finding_kind::reserved_address,
                                        .level = 2,
                                        .index = 503,
                                        .table = hpa{image::frame(levels - 2)},
                                        .input = 0xFEE0'0000,
                                        .entry = 0x4000'0000 | to_page});
    REQUIRE(with(0xFEE0'0000 | to_page, 5).findings.size() == 1);
    REQUIRE(with(0xFEE0'0000 | to_page, 5).findings[0].kind == finding_kind::reserved_address);
    // The neighbours: 0xFEC00000, 0xFF000000.
    for (const unsigned index : {502U, 504U}) {
        REQUIRE(with(0x4000'0000 | to_page, index).summary.clean());
    }
    REQUIRE(with(0xFEC0'0000 | to_page, 5).summary.clean());
    REQUIRE(with(0xFF00'0000 | to_page, 5).summary.clean());
}

TEST_CASE("a processor's page may be anywhere", "[paging]") {
    image memory{4};
    memory.at(0, 0) = image::frame(1) | 7;
    memory.at(1, 3) = 0xC000'0000 | 0xB7; // 1 GiB with 0xFEE00000 in it
    REQUIRE(audited(ept_4::make({}), memory, image::frame(0)).summary.clean());
}

TEMPLATE_TEST_CASE("a guest that can reach its own tables is found", "[paging]", ept_4,
                   second_stage_4) {
    for (unsigned level = 1; level <= 3; ++level) {
        const std::uint64_t page = std::uint64_t{1} << shift(level);
        struct {
            std::uint64_t frame;
            bool found;
        } const cases[] = {
            {image::base & ~(page - 1), true},
            {(image::base & ~(page - 1)) - page, false},
            {((image::base + 3 * 4096) & ~(page - 1)), true}, // the last table
            {((image::base + 7 * 4096) & ~(page - 1)) + page, false},
        };
        for (const auto& one : cases) {
            chain<TestType> tree;
            tree.slot(level) = one.frame | TestType::to_page(level);
            const image& memory = tree.memory;
            const image_reader reader{memory.whole(), memory.words()};
            const auto format = TestType::make({});
            std::uint64_t tables[1]{};
            std::uint64_t seen[1]{};
            std::vector<finding> found;
            const auto collect = [&found](const finding& what) { found.push_back(what); };
            audit(format, reader, hpa{image::frame(0)}, frame_bitmap{memory.whole(), tables},
                  collect);
            REQUIRE(found.empty());
            const audit_summary said = audit_reach(format, reader, hpa{image::frame(0)},
                                                   frame_bitmap{memory.whole(), seen},
                                                   frame_bitmap{memory.whole(), tables}, collect);
            // Tables that large pages replaced are no tables: the page that holds them may be
            // mapped.
            const bool expected = one.found && (level > 1 || one.frame <= image::frame(3));
            REQUIRE(said.findings == (expected ? 1 : 0));
            REQUIRE(found.size() == said.findings);
            if (expected) {
                REQUIRE(found[0] == tree.at(level, finding_kind::forbidden));
            }
            REQUIRE(seen[0] == tables[0]);
        }
    }
}

TEST_CASE("a frame that two trees share is found", "[paging]") {
    chain<ept_4> tree;
    std::uint64_t words[1]{};
    const frame_bitmap seen{tree.memory.whole(), words};
    const image_reader reader{tree.memory.whole(), tree.memory.words()};
    std::vector<finding> found;
    const auto collect = [&found](const finding& one) { found.push_back(one); };
    REQUIRE(audit(ept_4::make({}), reader, hpa{image::frame(0)}, seen, collect).clean());
    // Another tree, which shares the table at level 1.
    tree.memory.at(4, 0) = image::frame(5) | 7;
    tree.memory.at(5, 0) = image::frame(2) | 7;
    REQUIRE_FALSE(audit(ept_4::make({}), reader, hpa{image::frame(4)}, seen, collect).clean());
    REQUIRE(found.size() == 1);
    REQUIRE(found[0] == finding{.kind = finding_kind::used_twice,
                                .level = 3,
                                .index = 0,
                                .table = hpa{image::frame(5)},
                                .input = 0,
                                .entry = image::frame(2) | 7});
    // And the same tree once more.
    REQUIRE(audit(ept_4::make({}), reader, hpa{image::frame(0)}, seen, collect) ==
            audit_summary{.findings = 1});
    REQUIRE(found[1] ==
            finding{.kind = finding_kind::used_twice, .level = 5, .entry = image::frame(0)});
}

TEST_CASE("what an EPT entry means depends on the controls that are on", "[paging][rule 8]") {
    const pt::ept::capabilities without_execute_only{0x3'00C0};
    const auto audit_leaf = [&](std::uint64_t leaf, pt::ept::options on) {
        chain<ept_4> tree;
        tree.slot(1) = leaf;
        return audited(pt::ept::format{without_execute_only, 50, on}, tree.memory, image::frame(0));
    };
    // Bit 10, execute for user mode: ignored, or a right like the others.
    REQUIRE(audit_leaf(0x1400, {}).summary == audit_summary{.tables = 4});
    const auto user = audit_leaf(0x1400, {.mode_based_execute = true});
    REQUIRE(user.findings.size() == 1);
    REQUIRE(user.findings[0].defect == entry_defect::execute_only);
    // Bit 58, paging-write: a write right, which needs read.
    const std::uint64_t paging_write = bit_at(58) | 0x1000;
    REQUIRE(audit_leaf(paging_write | 1, {.paging_write = true}).summary.clean());
    const auto unread = audit_leaf(paging_write | 4, {.paging_write = true});
    REQUIRE(unread.findings.size() == 1);
    REQUIRE(unread.findings[0].defect == entry_defect::write_without_read);
    REQUIRE(audit_leaf(paging_write | 4, {}).findings[0].defect == entry_defect::execute_only);
}

TEST_CASE("live tables are read through the direct map, and only where memory is", "[paging]") {
    alignas(4096) static std::uint64_t tables[5][512];
    const auto address = [](unsigned i) { return reinterpret_cast<std::uintptr_t>(tables[i]); };
    for (unsigned i = 0; i < 4; ++i) {
        tables[i][511 - i] = address(i + 1) | 7;
    }
    tables[4][9] = 0x3037;
    const pt::range<hpa> memory{hpa{address(0)}, sizeof tables};
    const auto look = [&](pt::range<hpa> readable) {
        std::uint64_t words[1]{};
        std::vector<finding> found;
        const auto said =
            audit(ept_5::make({}), pt::paging::direct_map_reader{readable, pt::identity_map{}},
                  hpa{address(0)}, frame_bitmap{memory, words},
                  [&found](const finding& one) { found.push_back(one); });
        REQUIRE(said.findings == found.size());
        return found;
    };
    REQUIRE(look(memory).empty());
    const auto found = look({hpa{address(0)}, sizeof tables - 1}); // all but the last byte
    REQUIRE(found.size() == 1);
    REQUIRE(found[0].kind == finding_kind::unreadable);
    REQUIRE(found[0].table == hpa{address(3)});
    REQUIRE(look({hpa{address(1)}, 4096}).at(0).level == 6);
}

TEST_CASE("of an image only whole frames are read", "[paging]") {
    const std::vector<std::uint64_t> words(1024);
    const std::uint64_t* const first = words.data();
    const image_reader all{{hpa{0x1000}, 0x2000}, first};
    REQUIRE(all.entries(hpa{0x1000}) == first);
    REQUIRE(all.entries(hpa{0x2000}) == first + 512);
    for (const std::uint64_t frame : {0x0U, 0x3000U, 0x1800U, 0x1001U}) {
        REQUIRE(all.entries(hpa{frame}) == nullptr);
    }
    REQUIRE(image_reader{{hpa{0x1000}, 0x1FFF}, first}.entries(hpa{0x2000}) == nullptr);
    REQUIRE(image_reader{{hpa{0xF00}, 0x1200}, first}.entries(hpa{0x1000}) == first + 0x20);
    REQUIRE(image_reader{{hpa{0xFFC}, 0x1100}, first}.entries(hpa{0x1000}) == nullptr);
    REQUIRE(image_reader{{}, nullptr}.entries(hpa{0}) == nullptr);
}

TEST_CASE("a set of frames holds what was put in, and overlaps what touches it", "[paging]") {
    std::mt19937_64 random{99};
    for (unsigned round = 0; round < 200; ++round) {
        const std::uint64_t first = 0x7'0000'0000 + random() % 0x4000;
        const pt::range<hpa> region{hpa{first}, random() % (300 * 4096)};
        std::vector<std::uint64_t> words(
            static_cast<std::size_t>(frame_bitmap::words_for(region))); // not one more
        frame_bitmap set{region, words.data(), words.size()};
        std::set<std::uint64_t> model;
        for (unsigned i = 0; i < 60; ++i) {
            const std::uint64_t frame = ((first >> 12) + random() % 302) << 12;
            const bool takes = frame >= first && frame + 4096 <= first + region.size();
            const auto expected = !takes                       ? pt::paging::insertion::outside
                                  : model.insert(frame).second ? pt::paging::insertion::inserted
                                                               : pt::paging::insertion::present;
            REQUIRE(set.insert(hpa{frame}) == expected);
            const std::uint64_t begin = first - 8192 + random() % (304 * 4096);
            const std::uint64_t size = random() % (random() % 2 == 0 ? 3 * 4096 : 200 * 4096);
            bool touched = false;
            for (const std::uint64_t in : model) {
                touched = touched || (size != 0 && in < begin + size && begin < in + 4096);
            }
            REQUIRE(set.overlaps({hpa{begin}, size}) == touched);
        }
    }
}

TEST_CASE("what the engine builds is clean", "[paging]") {
    static pt::arena<64> frames{hpa{0x8000'0000}};
    const pt::range<hpa> all{hpa{0x8000'0000}, 64 * 4096};
    const auto format = ept_4::make({});
    pt::paging::table tables{frames.memory(), format};
    std::mt19937_64 random{5};
    std::uint64_t expected = 0;
    for (unsigned i = 0; i < 12; ++i) {
        const std::uint64_t size = (1 + random() % 1000) << 12;
        auto owed = tables.map({pt::gpa{std::uint64_t{i} << 33 | (random() % 512) << 12}, size},
                               hpa{(random() % 4096) << 21}, pt::ept::ram);
        REQUIRE(owed.has_value());
        expected += size;
    }
    struct reader_of_arena {
        pt::arena_memory<64> memory;
        pt::range<hpa> frames;
        const std::uint64_t* entries(hpa frame) {
            return frames.contains(frame) ? memory.entries(frame) : nullptr;
        }
    };
    std::uint64_t words[1]{};
    std::uint64_t visited = 0;
    const auto said = audit_leaves(
        format, reader_of_arena{frames.memory(), all}, *tables.root(), frame_bitmap{all, words},
        [](const finding&) {},
        [&visited](const pt::paging::mapping<pt::ept::format>& leaf) {
            visited += leaf.input.size();
            REQUIRE(leaf.to.attributes == pt::ept::ram);
        });
    REQUIRE(said.clean());
    REQUIRE(said.tables == 64 - frames.free_frames());
    REQUIRE(said.mapped() == expected);
    REQUIRE(visited == expected);
    auto owed = tables.retire();
    owed.leak();
}

TEST_CASE("every kind of finding has its name", "[paging]") {
    const char* const names[] = {"misaligned_root", "refused_entry",    "beyond_input_width",
                                 "outside",         "unreadable",       "loop",
                                 "used_twice",      "reserved_address", "forbidden"};
    for (unsigned i = 0; i < 9; ++i) {
        REQUIRE(std::string{name(static_cast<finding_kind>(i))} == names[i]);
    }
    REQUIRE(std::string{name(static_cast<finding_kind>(9))} == "unknown");
}

constexpr unsigned indices[] = {0, 3, 1, 511};

/// All addresses that a tree can map whose entries are at those indices.
std::vector<std::uint64_t> addresses(unsigned levels) {
    std::vector<std::uint64_t> all{0};
    for (unsigned level = levels; level >= 1; --level) {
        std::vector<std::uint64_t> longer;
        for (const std::uint64_t begin : all) {
            for (const unsigned index : indices) {
                longer.push_back(begin + (std::uint64_t{index} << shift(level)));
            }
        }
        all = longer;
    }
    return all;
}

template <class Subject>
std::uint64_t random_entry(std::mt19937_64& random, std::size_t frames) {
    const auto pick = [&random](std::uint64_t below) { return random() % below; };
    std::uint64_t entry = 0;
    switch (pick(8)) {
    case 0:
    case 1:
    case 2:
    case 3: entry = image::frame(pick(frames)) | Subject::to_table; break;
    case 4: entry = (pick(16) << 30) | Subject::to_page(3); break;
    case 5: entry = (pick(4096) << 21) | Subject::to_page(2); break;
    case 6: entry = (pick(4096) << 12) | Subject::to_page(1); break;
    default: return pick(4) == 0 ? random() : 0;
    }
    if (pick(8) == 0) {
        entry ^= bit_at(static_cast<unsigned>(pick(64)));
    }
    return entry;
}

/// A proper tree, which uses all frames.
template <class Subject>
void grow(std::mt19937_64& random, image& memory, unsigned largest) {
    std::vector<unsigned> level(memory.frames(), 1);
    level[0] = Subject::levels;
    for (std::size_t child = 1; child < memory.frames(); ++child) {
        for (unsigned attempt = 0; attempt < 100; ++attempt) {
            const std::size_t parent = random() % child;
            std::uint64_t& slot = memory.at(parent, indices[random() % 3]);
            if (level[parent] > 1 && slot == 0) {
                slot = image::frame(child) | Subject::to_table;
                level[child] = level[parent] - 1;
                break;
            }
        }
    }
    for (std::size_t frame = 0; frame < memory.frames(); ++frame) {
        std::uint64_t& slot = memory.at(frame, indices[random() % 3]);
        if (level[frame] <= largest && slot == 0) {
            slot = (random() % 0x1000 << 30) | Subject::to_page(level[frame]);
        }
    }
}

TEMPLATE_TEST_CASE("on random tables the audit says what the hardware does", "[paging][rule 8]",
                   ept_4, ept_5, second_stage_3, second_stage_4, second_stage_5, nested_4, nested_5,
                   first_stage_4, first_stage_5) {
    std::mt19937_64 random{20240611 + TestType::levels};
    const auto inputs = addresses(TestType::levels);
    std::size_t clean = 0;
    std::size_t mapped = 0;
    for (unsigned round = 0; round < 250; ++round) {
        image memory{1 + random() % 24};
        const abilities can{.output_width = 48 + static_cast<unsigned>(random() % 5),
                            .largest = 1 + static_cast<unsigned>(random() % 3),
                            .extra = random() % 2 == 0};
        grow<TestType>(random, memory, can.largest);
        if (round % 4 != 0) { // and then entries that do not belong there: few, or too many
            for (std::uint64_t left = random() % (round % 4 == 1 ? 4 : 60); left != 0; --left) {
                memory.at(random() % memory.frames(), indices[random() % 4]) =
                    random_entry<TestType>(random, memory.frames());
            }
        }
        INFO("round " << round);
        const char* const complaint = disagreement<TestType>(memory, image::frame(0), can, inputs);
        REQUIRE(std::string{complaint == nullptr ? "" : complaint}.empty());
        const auto said = audited(TestType::make(can), memory, image::frame(0));
        clean += said.summary.clean() ? 1 : 0;
        mapped += said.leaves.empty() ? 0 : 1;
        REQUIRE(said.summary.pages_4k + said.summary.pages_2m + said.summary.pages_1g ==
                said.leaves.size());
    }
    REQUIRE(clean > 60); // the test would say nothing if all were alike
    REQUIRE(clean < 150);
    REQUIRE(mapped > 150);
}

TEMPLATE_TEST_CASE("the work on garbage is bounded by its frames", "[paging]", ept_4, ept_5,
                   second_stage_3, second_stage_4, second_stage_5, nested_4, nested_5,
                   first_stage_4, first_stage_5) {
    std::mt19937_64 random{7};
    for (unsigned round = 0; round < 8; ++round) {
        image memory{32};
        for (std::size_t frame = 0; frame < 32; ++frame) {
            for (unsigned i = 0; i < 512; ++i) {
                switch (round % 4) {
                case 0: memory.at(frame, i) = random(); break;
                case 1: memory.at(frame, i) = ~std::uint64_t{0}; break;
                case 2: // every entry a way on: 512^5 of them if they were followed
                    memory.at(frame, i) = image::frame(random() % 32) | TestType::to_table;
                    break;
                default: memory.at(frame, i) = image::frame(frame) | TestType::to_table; break;
                }
            }
        }
        std::vector<std::uint64_t> inputs;
        for (unsigned i = 0; i < 200; ++i) {
            inputs.push_back(random() & ones(shift(TestType::levels) + 8, 0));
        }
        const char* const complaint =
            disagreement<TestType>(memory, image::frame(random() % 32), {}, inputs);
        REQUIRE(std::string{complaint == nullptr ? "" : complaint}.empty());
        const auto said = audited(TestType::make({}), memory, image::frame(0));
        REQUIRE(said.findings.size() + said.leaves.size() <= 32 * 512);
        REQUIRE(said.asked.size() <= 32);
        REQUIRE_FALSE(said.summary.clean());
    }
}

} // namespace
