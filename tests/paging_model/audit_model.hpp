// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/audit.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include "walker.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

// For tests of the auditor: memory full of anything, each format with the hardware that walks it
// and with entries written down from the manual, and a comparison of what an audit says with what
// that hardware does.
namespace paging_model {

/// What a subject's hardware can do, in numbers that a fuzzer may choose.
struct abilities {
    unsigned output_width = 50;
    unsigned largest = 3; ///< the level of the largest page, 1 to 3
    bool extra = false;   ///< EPT: execute-only; VT-d: snoop control; x86-64: no-execute
};

template <unsigned Levels>
struct ept_subject {
    using format = pt::ept::format;
    static constexpr unsigned levels = Levels;
    static constexpr bool combines_rights = false; ///< no right left: the walker says not mapped
    static constexpr bool chooses_2m = true;       ///< whether there may be no pages of 2 MiB
    static constexpr std::uint64_t to_table = 0x7;

    static constexpr std::uint64_t to_page(unsigned level) { return level > 1 ? 0xB7 : 0x37; }
    static constexpr format make(abilities can) {
        const std::uint64_t reported = std::uint64_t{can.extra} | 0xC0 | 1 << 14 |
                                       std::uint64_t{can.largest >= 2} << 16 |
                                       std::uint64_t{can.largest >= 3} << 17;
        return format{pt::ept::capabilities{reported}, can.output_width, {.levels = Levels}};
    }
    static constexpr ept_walker hardware(abilities can) {
        ept_walker walker;
        walker.levels = Levels;
        walker.physical_width = can.output_width;
        walker.execute_only = can.extra;
        walker.pages_2m = can.largest >= 2;
        walker.pages_1g = can.largest >= 3;
        return walker;
    }
};

template <unsigned Levels>
struct second_stage_subject {
    using format = pt::vtd::second_stage::format;
    static constexpr unsigned levels = Levels;
    static constexpr bool combines_rights = true;
    static constexpr bool chooses_2m = true;
    static constexpr std::uint64_t to_table = 0x3;

    static constexpr std::uint64_t to_page(unsigned level) { return level > 1 ? 0x83 : 0x3; }
    static constexpr format make(abilities can) {
        return format{{.levels = Levels,
                       .input_width = 12 + 9 * Levels,
                       .output_width = can.output_width,
                       .largest_page = static_cast<pt::paging::page_size>(can.largest),
                       .snoop_control = can.extra}};
    }
    static constexpr second_stage_walker hardware(abilities can) {
        second_stage_walker walker;
        walker.levels = Levels;
        walker.host_width = can.output_width;
        walker.pages_2m = can.largest >= 2;
        walker.pages_1g = can.largest >= 3;
        walker.snoop_control = can.extra;
        return walker;
    }
};

/// `Address`: gpa for nested paging, iova for VT-d's first stage.
template <class Address, unsigned Levels>
struct x86_64_subject {
    using format = pt::x86_64::format<Address>;
    static constexpr unsigned levels = Levels;
    static constexpr bool combines_rights = true;
    static constexpr bool chooses_2m = false; // they are there in long mode
    static constexpr bool nested = std::is_same_v<Address, pt::gpa>;
    static constexpr std::uint64_t to_table = 0x7;

    static constexpr std::uint64_t to_page(unsigned level) { return level > 1 ? 0x87 : 0x7; }
    static constexpr format make(abilities can) {
        return format{can.output_width,
                      {.levels = Levels, .pages_1g = can.largest >= 3, .no_execute = can.extra}};
    }
    static constexpr x86_64_walker hardware(abilities can) {
        x86_64_walker walker;
        walker.nested = nested;
        walker.levels = Levels;
        walker.physical_width = can.output_width;
        walker.pages_1g = can.largest >= 3;       // 2 MiB are no choice in long mode
        walker.no_execute = can.extra || !nested; // remapping units ignore bit 63
        return walker;
    }
};

/// Some frames of memory, and nothing around them.
class image {
public:
    static constexpr std::uint64_t base = 0x2A'5000'0000;

    explicit image(std::size_t frames) : words_(frames * 512) {}

    [[nodiscard]] std::size_t frames() const { return words_.size() / 512; }
    [[nodiscard]] pt::range<pt::hpa> whole() const {
        return {pt::hpa{base}, words_.size() * sizeof(std::uint64_t)};
    }
    [[nodiscard]] static std::uint64_t frame(std::size_t i) { return base + i * 4096; }
    [[nodiscard]] std::uint64_t& at(std::size_t i, unsigned index) {
        return words_[i * 512 + index];
    }
    [[nodiscard]] const std::uint64_t* words() const { return words_.data(); }
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned index) const {
        if (frame % 4096 != 0 || frame < base || (frame - base) / 4096 >= frames()) {
            return nullptr;
        }
        return words_.data() + (frame - base) / 8 + index;
    }

private:
    std::vector<std::uint64_t> words_;
};

/// Reads an image and remembers how often each frame was asked for.
struct counting_reader {
    pt::paging::image_reader memory;
    std::vector<std::uint64_t>* asked;

    const std::uint64_t* entries(pt::hpa frame) {
        asked->push_back(frame.raw);
        return memory.entries(frame);
    }
};

/// All that one audit said.
template <class Format>
struct audit_record {
    pt::paging::audit_summary summary;
    std::vector<pt::paging::finding> findings;
    std::vector<pt::paging::mapping<Format>> leaves;
    std::vector<std::uint64_t> asked;
};

template <class Format>
audit_record<Format> audited(const Format& format, const image& memory, std::uint64_t root) {
    using namespace pt::paging;
    audit_record<Format> record;
    std::vector<std::uint64_t> words(
        static_cast<std::size_t>(frame_bitmap::words_for(memory.whole())));
    record.summary = audit_leaves(
        format, counting_reader{{memory.whole(), memory.words()}, &record.asked}, pt::hpa{root},
        frame_bitmap{memory.whole(), words.data(), words.size()},
        [&record](const finding& found) { record.findings.push_back(found); },
        [&record](const mapping<Format>& leaf) { record.leaves.push_back(leaf); });
    return record;
}

/// Whether `input` is among the addresses that the entry of the finding translates.
inline bool covers(const pt::paging::finding& found, std::uint64_t input) {
    return found.level > 5 || // the root of five levels
           input >> (12 + 9 * (found.level - 1)) == found.input >> (12 + 9 * (found.level - 1));
}

/// What the audit said against what the hardware does at each of `inputs`, and at all that the
/// audit named. Null, or what does not fit.
template <class Subject>
const char* disagreement(const image& memory, std::uint64_t root, abilities can,
                         const std::vector<std::uint64_t>& inputs) {
    using enum pt::paging::finding_kind;
    using what = outcome::kind;
    const auto format = Subject::make(can);
    const auto walker = Subject::hardware(can);
    const auto said = audited(format, memory, root);
    const auto read = [&memory](std::uint64_t frame, unsigned i) { return memory.read(frame, i); };
    const auto walk = [&](std::uint64_t input) { return walker.walk(read, root, input); };

    if (said.summary.findings != said.findings.size() || said.asked.size() > memory.frames() ||
        said.summary.tables > said.asked.size()) {
        return "the summary, or more reads than there are frames";
    }
    for (std::size_t i = 0; i < said.asked.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (said.asked[i] == said.asked[j]) {
                return "a frame was read twice";
            }
        }
    }

    for (const auto& found : said.findings) {
        if (found.level > Subject::levels) {
            if (found.level != Subject::levels + 1 || found.entry != root || found.input != 0 ||
                found.index != 0 || found.table != pt::hpa{0} || said.findings.size() != 1) {
                return "a finding about the root";
            }
            continue;
        }
        const std::uint64_t* const slot = memory.read(found.table.raw, found.index);
        if (slot == nullptr || *slot != found.entry || found.level == 0 ||
            ((found.input >> (12 + 9 * (found.level - 1))) & 511) != found.index) {
            return "a finding does not say where it was made";
        }
        if ((found.defect != pt::paging::entry_defect::none) != (found.kind == refused_entry)) {
            return "a defect, and no refused entry, or the other way round";
        }
        const what there = walk(found.input).what;
        switch (found.kind) {
        case refused_entry:
            if (there != what::misconfigured) {
                return "what the audit calls refused is not";
            }
            break;
        case outside:
        case unreadable:
            if (there != what::lost) {
                return "what the audit calls unreachable is not";
            }
            break;
        case beyond_input_width:
            if (found.input >> format.input_width() == 0) {
                return "what the audit calls beyond the input width is not";
            }
            break;
        case loop:
        case used_twice:
        case reserved_address: break;
        default: return "a finding that cannot be";
        }
    }

    for (const auto& leaf : said.leaves) {
        for (const std::uint64_t offset : {std::uint64_t{0}, leaf.input.size() - 1}) {
            const outcome there = walk(leaf.input.first().raw + offset);
            if (there.what == what::not_mapped && Subject::combines_rights) {
                continue;
            }
            if (there.what != what::translated || there.output != leaf.to.output.raw + offset ||
                there.page != leaf.input.size() ||
                leaf.input.size() != pt::paging::bytes(leaf.to.size)) {
                return "a leaf of the audit is none to the hardware";
            }
        }
    }

    for (const std::uint64_t input : inputs) {
        if (input >> format.input_width() != 0) {
            continue; // the walkers do not ask
        }
        const auto any = [&](auto... kinds) {
            for (const auto& found : said.findings) {
                if (((found.kind == kinds) || ...) && covers(found, input)) {
                    return true;
                }
            }
            return false;
        };
        if (any(loop, used_twice, misaligned_root) ||
            (!said.findings.empty() && said.findings[0].level > Subject::levels)) {
            continue; // not followed: nothing is said about what lies below
        }
        const pt::paging::mapping<typename Subject::format>* leaf = nullptr;
        for (const auto& l : said.leaves) {
            if (input - l.input.first().raw < l.input.size()) {
                leaf = &l;
            }
        }
        const outcome there = walk(input);
        switch (there.what) {
        case what::translated:
            if (leaf == nullptr ||
                there.output != leaf->to.output.raw + (input - leaf->input.first().raw)) {
                return "the audit did not see what is mapped";
            }
            break;
        case what::not_mapped:
            if (leaf != nullptr && !Subject::combines_rights) {
                return "the audit saw a leaf where nothing is mapped";
            }
            break;
        case what::misconfigured:
            if (!any(refused_entry)) {
                return "the audit overlooked a misconfiguration";
            }
            break;
        case what::lost:
            if (!any(outside, unreadable)) {
                return "the audit overlooked that a table is not there";
            }
            break;
        }
    }
    return nullptr;
}

} // namespace paging_model
