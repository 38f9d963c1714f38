// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/audit_pages.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"

#include "../paging_model/audit_model.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

// A second opinion on what tables let a guest reach: the walkers of tests/paging_model say what
// hardware does at an address, and rules written down once more say what that means, one address
// after the other. Nothing is joined, and everything is searched from the start each time.
namespace audit_model {

using paging_model::abilities;
using paging_model::bit;
using paging_model::bits;
using paging_model::image;
using paging_model::outcome;
using pt::assign::finding;
using pt::assign::finding_kind;
using pt::assign::memory_reach;
using pt::assign::owned_pages;
using pt::assign::ownership;
using pt::assign::page_rights;
using pt::assign::page_use;

/// What is wrong at one address.
struct verdict {
    finding_kind kind{};
    bool has_host = false; ///< false: a joined finding does not tell
    std::uint64_t host = 0;
    std::uint64_t expected = 0;
    page_rights rights{};
    page_use use{};
};

inline bool agrees(const verdict& said, const verdict& right) {
    return said.kind == right.kind && said.rights == right.rights && said.use == right.use &&
           (!said.has_host || (said.host == right.host && said.expected == right.expected));
}

template <class Subject>
inline constexpr bool is_ept = std::is_same_v<typename Subject::format, pt::ept::format>;
template <class Subject>
inline constexpr bool is_device = std::is_same_v<typename Subject::format::address, pt::iova>;
template <class Subject>
inline constexpr bool is_second_stage =
    std::is_same_v<typename Subject::format, pt::vtd::second_stage::format>;

/// The addresses that one entry decides about.
struct span {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    bool malformed = false;
    outcome leaf{}; ///< of `first`, unless malformed
};

/// Goes through the tables one entry after the other, and asks the walker about each.
template <class Subject>
class spans {
public:
    spans(const image& memory, abilities can, unsigned input_width)
        : memory_{memory}, hardware_{Subject::hardware(can)}, input_width_{input_width} {
        visited_.insert(image::frame(0));
        table(image::frame(0), Subject::levels, 0);
    }
    [[nodiscard]] const std::vector<span>& all() const { return all_; }
    [[nodiscard]] const span* at(std::uint64_t input) const {
        const auto after =
            std::upper_bound(all_.begin(), all_.end(), input,
                             [](std::uint64_t value, const span& s) { return value < s.first; });
        return after == all_.begin() || (after - 1)->last < input ? nullptr : &*(after - 1);
    }

private:
    static bool present(std::uint64_t entry) {
        return is_ept<Subject>            ? bits(entry, 2, 0) != 0
               : is_second_stage<Subject> ? bits(entry, 1, 0) != 0
                                          : bit(entry, 0);
    }

    void table(std::uint64_t frame, unsigned level, std::uint64_t input) {
        const unsigned shift = 12 + 9 * (level - 1);
        for (unsigned i = 0; i < 512; ++i, input += std::uint64_t{1} << shift) {
            const std::uint64_t entry = *memory_.read(frame, i);
            if (!present(entry)) {
                continue;
            }
            span here{input, input + ((std::uint64_t{1} << shift) - 1), true, {}};
            paging_model::path path;
            const outcome there =
                hardware_.walk([this](std::uint64_t f, unsigned n) { return memory_.read(f, n); },
                               image::frame(0), input, &path);
            const bool refused = there.what == outcome::kind::misconfigured;
            if (input >> input_width_ != 0) {
                all_.push_back(here);
            } else if (level == 1 || bit(entry, 7)) {
                here.malformed = refused;
                here.leaf = there;
                all_.push_back(here);
            } else {
                const std::uint64_t child = bits(entry, 51, 12);
                const bool here_refused = refused && path.count == Subject::levels - level;
                const bool type_bits = is_ept<Subject> && bits(entry, 6, 3) != 0;
                if (here_refused || type_bits || memory_.read(child, 0) == nullptr ||
                    !visited_.insert(child).second) {
                    all_.push_back(here);
                } else {
                    table(child, level - 1, input);
                }
            }
        }
    }

    const image& memory_;
    decltype(Subject::hardware({})) hardware_;
    unsigned input_width_;
    std::set<std::uint64_t> visited_;
    std::vector<span> all_;
};

/// All that is wrong at `input`, which `there` decides about (null: no entry does).
template <class Subject>
std::vector<verdict> judge(const ownership& owner, const span* there, std::uint64_t input) {
    const owned_pages* owned = nullptr;
    for (const owned_pages& pages : owner.pages) {
        if (input >= pages.at.first().raw && input - pages.at.first().raw < pages.at.size()) {
            owned = &pages;
        }
    }
    if (there != nullptr && there->malformed) {
        return {{.kind = finding_kind::malformed_tables}};
    }
    const bool reserved = owned != nullptr && owned->use == page_use::reserved_region;
    const bool trapped = owned != nullptr && owned->use != page_use::memory &&
                         owned->use != page_use::registers && !(reserved && is_device<Subject>);
    const bool wanted =
        owned != nullptr && !trapped &&
        (!is_device<Subject> || reserved || owned->reach == memory_reach::processors_and_devices);
    const std::uint64_t expected =
        owned == nullptr ? 0 : owned->host.raw + (input - owned->at.first().raw);

    page_rights most{};
    page_rights least{};
    bool cached = false;
    std::uint64_t host = 0;
    if (there != nullptr && there->leaf.what == outcome::kind::translated) {
        const outcome& leaf = there->leaf;
        host = leaf.output + (input - there->first);
        least = {leaf.read, leaf.write, leaf.execute && !is_device<Subject>};
        most = least;
        if (is_ept<Subject>) {
            // Paging-write, supervisor shadow stack, sub-page write permissions.
            most.write =
                most.write || bit(leaf.extra, 58) || bit(leaf.extra, 60) || bit(leaf.extra, 61);
            cached = leaf.type == 4 || leaf.type == 5 || leaf.type == 6;
        } else if (!is_device<Subject>) {
            constexpr bool caches[] = {true, true, false, false, true, true, false, false};
            cached = caches[leaf.type]; // WB WT UC- UC, twice, as after reset
        } else if (!is_second_stage<Subject>) {
            if (!leaf.user) { // requests may be those of supervisor mode, or not
                least = {};
            }
        }
    }
    const bool executable =
        there != nullptr && is_device<Subject> && !is_second_stage<Subject> && there->leaf.execute;
    if (!most.read && !most.write && !most.execute && !executable) {
        if (wanted) {
            return {{.kind = finding_kind::page_missing, .has_host = true, .expected = expected}};
        }
        return {};
    }
    std::vector<verdict> all;
    const auto in_interrupt_range = [](std::uint64_t a) { return a >> 20 == 0xFEE; };
    if (is_device<Subject> && (in_interrupt_range(input) || in_interrupt_range(host))) {
        all.push_back(
            {.kind = finding_kind::interrupt_range_mapped, .has_host = true, .host = host});
    }
    const auto add = [&](finding_kind kind, page_rights rights = {}, std::uint64_t should = 0,
                         page_use use = page_use::memory) {
        all.push_back({kind, true, host, should, rights, use});
    };
    if (owned == nullptr) {
        add(finding_kind::page_not_owned);
    } else if (trapped) {
        add(finding_kind::page_trapped, {}, 0, owned->use);
    } else if (!wanted) {
        add(finding_kind::page_processors_only);
    } else if (host != expected) {
        add(finding_kind::page_elsewhere, {}, expected);
    } else {
        const bool fetches = !is_device<Subject>;
        const page_rights excess{most.read && !owned->rights.read,
                                 most.write && !owned->rights.write,
                                 fetches && most.execute && !owned->rights.execute};
        const page_rights lacking{owned->rights.read && !least.read,
                                  owned->rights.write && !least.write,
                                  fetches && owned->rights.execute && !least.execute};
        if (excess != page_rights{}) {
            add(finding_kind::page_excess_rights, excess);
        }
        if (lacking != page_rights{}) {
            add(finding_kind::page_lacking_rights, lacking);
        }
        if (cached && owned->use == page_use::registers) {
            add(finding_kind::registers_cached);
        }
    }
    return all;
}

/// What a finding says of one of its addresses.
inline verdict said_of(const finding& found, std::uint64_t input) {
    using enum finding_kind;
    const std::uint64_t distance = input - found.first;
    if (found.kind == malformed_tables) {
        return {.kind = malformed_tables};
    }
    const bool missing = found.kind == page_missing;
    return {.kind = found.kind,
            .has_host = !found.scattered,
            .host = missing ? 0 : found.host + distance,
            .expected = missing || found.kind == page_elsewhere ? found.expected + distance : 0,
            .rights = found.rights,
            .use = found.use};
}

struct audit_record {
    pt::assign::audit_summary summary;
    std::vector<finding> findings;
    std::size_t frames_asked = 0;
};

template <class Subject>
audit_record audited(const image& memory, abilities can, const ownership& owner) {
    audit_record record;
    std::vector<std::uint64_t> words(
        static_cast<std::size_t>(pt::paging::frame_bitmap::words_for(memory.whole())));
    std::vector<std::uint64_t> asked;
    const pt::paging::frame_bitmap seen{memory.whole(), words.data(), words.size()};
    const paging_model::counting_reader reader{{memory.whole(), memory.words()}, &asked};
    const auto report = [&record](const finding& found) { record.findings.push_back(found); };
    const auto format = Subject::make(can);
    if constexpr (is_device<Subject>) {
        record.summary =
            pt::assign::audit_dma(format, reader, pt::hpa{image::frame(0)}, seen, owner, report);
    } else {
        record.summary =
            pt::assign::audit_pages(format, reader, pt::hpa{image::frame(0)}, seen, owner, report);
    }
    record.frames_asked = asked.size();
    return record;
}

/// Compares the audit with judge() at every address: between the ends of entries, owned pages and
/// findings nothing changes. Empty, or what does not fit.
template <class Subject>
std::string disagreement(const image& memory, abilities can, const ownership& owner) {
    const audit_record said = audited<Subject>(memory, can, owner);
    const spans<Subject> tables{memory, can, Subject::make(can).input_width()};
    std::set<std::uint64_t> cuts{0};
    const auto cut = [&cuts](std::uint64_t first, std::uint64_t last) {
        cuts.insert(first);
        cuts.insert(last + 1);
    };
    for (const span& s : tables.all()) {
        cut(s.first, s.last);
        // Inside a page that leads to the interrupt range, or lies around it.
        const std::uint64_t size = s.last - s.first + 1;
        const std::uint64_t inside = 0xFEE0'0000 & (size - 1);
        if (inside != 0) {
            cuts.insert(s.first + inside);
        }
        if (size > 0x10'0000) {
            cuts.insert(s.first + inside + 0x10'0000);
        }
    }
    for (const owned_pages& pages : owner.pages) {
        cut(pages.at.first().raw, pages.at.last().raw);
    }
    for (const finding& found : said.findings) {
        cut(found.first, found.last);
    }
    if (said.summary.findings != said.findings.size()) {
        return "the summary counts otherwise";
    }
    for (const std::uint64_t input : cuts) {
        std::vector<verdict> right = judge<Subject>(owner, tables.at(input), input);
        for (const finding& found : said.findings) {
            if (input < found.first || input > found.last) {
                continue;
            }
            const verdict told = said_of(found, input);
            const auto match = std::find_if(right.begin(), right.end(),
                                            [&](const verdict& v) { return agrees(told, v); });
            if (match == right.end()) {
                return "at " + std::to_string(input) + " the audit says " + name(found.kind) +
                       ", and it is not so";
            }
            right.erase(match);
        }
        if (!right.empty()) {
            return "at " + std::to_string(input) + " the audit overlooks " + name(right[0].kind);
        }
    }
    return {};
}

} // namespace audit_model
