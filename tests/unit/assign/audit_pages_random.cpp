// SPDX-License-Identifier: BSL-1.0
// The isolation audit of pages against a second model, on thousands of tables that were made for
// what a guest owns and then spoilt at random.
#include "../../assign_model/pages.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

namespace {

using namespace audit_model;
using paging_model::ept_subject;
using paging_model::second_stage_subject;
using paging_model::x86_64_subject;

/// Tables that are made entry by entry, out of the frames of an image.
template <class Subject>
class builder {
public:
    explicit builder(image& memory) : memory_{memory} {}

    /// One leaf; nothing when there is no frame left for a table, or a leaf is in the way.
    void put(std::uint64_t input, unsigned leaf_level, std::uint64_t leaf) {
        std::size_t table = 0;
        for (unsigned level = Subject::levels; level > leaf_level; --level) {
            std::uint64_t& slot = memory_.at(table, index(input, level));
            if (slot == 0) {
                if (next_ == memory_.frames()) {
                    return;
                }
                slot = image::frame(next_++) | Subject::to_table;
            } else if (bit(slot, 7)) {
                return;
            }
            table = static_cast<std::size_t>((bits(slot, 51, 12) - image::base) / 4096);
        }
        memory_.at(table, index(input, leaf_level)) = leaf;
    }
    [[nodiscard]] std::size_t used() const { return next_; }

private:
    static unsigned index(std::uint64_t input, unsigned level) {
        return static_cast<unsigned>(input >> (12 + 9 * (level - 1))) & 511;
    }
    image& memory_;
    std::size_t next_ = 1;
};

/// An entry for what is owned: what a right VMM writes.
template <class Subject>
std::uint64_t leaf_for(const owned_pages& owned, std::uint64_t host, unsigned level) {
    const std::uint64_t large = level > 1 ? 0x80 : 0;
    if constexpr (is_ept<Subject>) {
        const std::uint64_t type = owned.use == page_use::registers ? 0 : 6;
        return host | large | type << 3 | (owned.rights.read ? 1U : 0U) |
               (owned.rights.write ? 2U : 0U) | (owned.rights.execute ? 4U : 0U);
    } else if constexpr (is_second_stage<Subject>) {
        return host | large | (owned.rights.read ? 1U : 0U) | (owned.rights.write ? 2U : 0U);
    } else {
        const std::uint64_t type = owned.use == page_use::registers ? 0x18 : 0; // PCD, PWT
        return host | large | type | 5 | (owned.rights.write ? 2U : 0U) |
               (owned.rights.execute ? 0 : std::uint64_t{1} << 63);
    }
}

template <class Subject>
class case_maker {
public:
    explicit case_maker(std::mt19937_64& random) : random_{random} {}

    std::vector<owned_pages> pages;

    /// Random ranges, ascending, close to each other and to what is special.
    void choose_pages() {
        constexpr std::uint64_t places[] = {0,           0x20'0000,   0x4000'0000,
                                            0xFEC0'0000, 0xFEE0'0000, std::uint64_t{1} << 40};
        constexpr page_rights rights[] = {
            {true, true, true}, {true, true, false}, {true, false, true}, {true, false, false}};
        for (const std::uint64_t place : places) {
            std::uint64_t at = place + 0x1000 * below(4) * below(2);
            for (std::uint64_t n = below(6); n != 0; --n) {
                owned_pages next;
                std::uint64_t size = 0x1000 * (1 + below(6));
                const bool large = below(4) == 0 && at < place + 0x80'0000;
                if (large) {
                    at = (at + 0x1F'FFFF) & ~std::uint64_t{0x1F'FFFF};
                    size = 0x20'0000 * (1 + below(2));
                }
                next.use = below(3) != 0 ? page_use::memory : static_cast<page_use>(below(6));
                if (pt::assign::is_trapped(next.use) && next.use != page_use::reserved_region &&
                    below(3) == 0) {
                    size = 0x100; // a BAR below 4 KiB
                }
                next.at = {pt::gpa{at}, size};
                next.host = pt::hpa{0x1'0000'0000 + (large ? 0x20'0000 : 0x1000) * below(64)};
                next.rights = rights[below(4)];
                next.reach = static_cast<memory_reach>(below(4) == 0);
                if (!pages.empty() && pages.back().at.last().raw >= at) {
                    break;
                }
                pages.push_back(next);
                at = (at + size + 0xFFF) & ~std::uint64_t{0xFFF};
                at += 0x1000 * below(3);
            }
        }
    }

    /// Maps what has to be, in pages of random sizes.
    std::size_t map_pages(image& memory) {
        builder<Subject> tables{memory};
        for (const owned_pages& owned : pages) {
            const bool reserved = owned.use == page_use::reserved_region && is_device<Subject>;
            if ((pt::assign::is_trapped(owned.use) && !reserved) ||
                (is_device<Subject> && owned.reach == memory_reach::processors_only)) {
                continue;
            }
            for (std::uint64_t done = 0; done < owned.at.size();) {
                const std::uint64_t input = owned.at.first().raw + done;
                const std::uint64_t host = owned.host.raw + done;
                const bool fits = ((input | host) & 0x1F'FFFF) == 0 &&
                                  owned.at.size() - done >= 0x20'0000 && below(4) != 0;
                tables.put(input, fits ? 2 : 1, leaf_for<Subject>(owned, host, fits ? 2 : 1));
                done += fits ? 0x20'0000 : 0x1000;
            }
        }
        return tables.used();
    }

    /// One thing goes wrong.
    void damage(image& memory, std::size_t used) {
        const std::size_t table = below(used);
        unsigned index = static_cast<unsigned>(below(512));
        const bool anywhere = below(8) == 0;
        for (unsigned tries = 0; tries != 512 && memory.at(table, index) == 0 && !anywhere;
             ++tries) {
            index = (index + 1) % 512;
        }
        std::uint64_t& entry = memory.at(table, index);
        constexpr unsigned meaningful[] = {0, 1, 2, 3, 4, 5, 7, 10, 11, 12, 58, 60, 61, 62, 63};
        switch (below(9)) {
        case 0: entry = 0; break;
        case 7: entry ^= std::uint64_t{1} << meaningful[below(15)]; break;
        case 1: entry ^= std::uint64_t{1} << below(64); break;
        case 2: entry ^= std::uint64_t{1} << below(12); break;
        case 3: entry = memory.at(below(used), static_cast<unsigned>(below(512))); break;
        case 4: entry = image::frame(below(memory.frames())) | Subject::to_table; break;
        case 5: entry ^= std::uint64_t{1} << (12 + below(10)); break;
        case 6: entry = image::frame(below(used)) | Subject::to_page(1); break;
        default:
            entry = (below(2) << 30 | below(2) * 0xC000'0000) | Subject::to_page(2); // large
            break;
        }
    }
    /// The tables are right, and the guest owns something else.
    void change_pages() {
        if (pages.empty()) {
            return;
        }
        const std::size_t i = below(pages.size());
        owned_pages& changed = pages[i];
        switch (below(6)) {
        case 0: pages.erase(pages.begin() + static_cast<std::ptrdiff_t>(i)); break;
        case 1: changed.host += 0x1000 * (1 + below(3)); break;
        case 2: changed.rights.write = !changed.rights.write; break;
        case 3: changed.rights.execute = !changed.rights.execute; break;
        case 4: changed.use = static_cast<page_use>(below(6)); break;
        default: changed.reach = memory_reach::processors_only; break;
        }
    }
    std::uint64_t below(std::uint64_t end) { return random_() % end; }

private:
    std::mt19937_64& random_;
};

TEMPLATE_TEST_CASE("what the audit finds is what a page-by-page model finds, on damaged tables",
                   "[assign][audit]", ept_subject<4>, ept_subject<5>, second_stage_subject<3>,
                   second_stage_subject<4>, (x86_64_subject<pt::gpa, 4>),
                   (x86_64_subject<pt::iova, 4>)) {
    std::mt19937_64 random{0xA0D1'7000 + TestType::levels};
    unsigned clean = 0;
    std::size_t findings = 0;
    for (unsigned round = 0; round != 1500; ++round) {
        image memory{24};
        case_maker<TestType> maker{random};
        maker.choose_pages();
        const std::size_t used = maker.map_pages(memory);
        for (std::uint64_t n = maker.below(3); n != 0; --n) {
            maker.damage(memory, used);
        }
        for (std::uint64_t n = maker.below(3); n != 0; --n) {
            maker.change_pages();
        }
        const abilities can{.extra = maker.below(4) != 0};
        const ownership owner{.guest = 1, .pages = {maker.pages.data(), maker.pages.size()}};
        INFO("round " << round);
        REQUIRE(disagreement<TestType>(memory, can, owner) == "");
        const audit_record said = audited<TestType>(memory, can, owner);
        clean += said.summary.clean() ? 1 : 0;
        findings += said.findings.size();
        for (std::size_t i = 0; i != said.findings.size(); ++i) { // ascending within each kind
            for (std::size_t k = 0; k != i; ++k) {
                const bool same = said.findings[k].kind == said.findings[i].kind;
                REQUIRE((!same || said.findings[k].last < said.findings[i].first));
            }
        }
    }
    REQUIRE(clean > 30); // both outcomes are met
    REQUIRE(findings > 1000);
}

} // namespace
