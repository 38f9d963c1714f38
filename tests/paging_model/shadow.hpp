// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include "frames.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

namespace paging_model {

/// What a walker sees that reads memory behind the processor's caches. A cache line reaches this
/// image whenever the cache happens to evict it; or after it was published: as it was then, and when
/// complete() returns at the latest.
class shadow {
public:
    explicit shadow(const frames& memory)
        : memory_{memory},
          image_(memory.region(), memory.region() + memory.region_bytes() / 8),
          published_(image_.size() / entries_per_line, 0) {}

    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        const std::uint64_t* const live = memory_.read(frame, i);
        return live == nullptr ? nullptr : &image_[offset(live)];
    }
    /// An eviction: the line of `entry` as it is now.
    void write_back(const std::uint64_t* entry) {
        const std::size_t line = offset(entry) / entries_per_line;
        arrive(line, as_it_is(line));
        under_way_.erase(line);
    }
    void publish(const std::uint64_t* first, std::size_t count) {
        ++publications_;
        const std::size_t last = (offset(first) + count - 1) / entries_per_line;
        for (std::size_t line = offset(first) / entries_per_line; line <= last; ++line) {
            under_way_[line] = as_it_is(line);
            ++published_[line];
        }
    }
    void complete() {
        for (const auto& [line, words] : under_way_) {
            arrive(line, words);
        }
        under_way_.clear();
    }
    /// One of the lines that are under way arrives early.
    void hurry(std::uint64_t chance) {
        if (!under_way_.empty()) {
            auto at = under_way_.begin();
            std::advance(at, chance % under_way_.size());
            arrive(at->first, at->second);
            under_way_.erase(at);
        }
    }
    [[nodiscard]] bool is_complete() const { return under_way_.empty(); }
    /// How often the line of `entry` was published.
    [[nodiscard]] unsigned published(const std::uint64_t* entry) const {
        return published_[offset(entry) / entries_per_line];
    }
    [[nodiscard]] unsigned publications() const { return publications_; }
    void forget_publications() {
        published_.assign(published_.size(), 0);
        publications_ = 0;
    }

    static constexpr std::size_t entries_per_line = 8;

private:
    using line_words = std::array<std::uint64_t, entries_per_line>;

    [[nodiscard]] std::size_t offset(const std::uint64_t* entry) const {
        return static_cast<std::size_t>(entry - memory_.region());
    }
    [[nodiscard]] line_words as_it_is(std::size_t line) const {
        line_words words{};
        for (std::size_t i = 0; i < entries_per_line; ++i) {
            words[i] = memory_.region()[line * entries_per_line + i];
        }
        return words;
    }
    void arrive(std::size_t line, const line_words& words) {
        for (std::size_t i = 0; i < entries_per_line; ++i) {
            image_[line * entries_per_line + i] = words[i];
        }
    }

    const frames& memory_;
    std::vector<std::uint64_t> image_;
    std::map<std::size_t, line_words> under_way_; ///< lines that were published, as they were then
    std::vector<unsigned> published_;             ///< by line
    unsigned publications_ = 0;                   ///< calls of publish
};

/// The publication policy over a shadow.
struct shadow_publication {
    shadow* image;
    void publish(const std::uint64_t* first, std::size_t count) { image->publish(first, count); }
    void complete() { image->complete(); }
};
static_assert(pt::publication<shadow_publication>);

} // namespace paging_model
