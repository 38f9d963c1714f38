// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include "frames.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace paging_model {

/// What a walker sees that reads memory behind the processor's caches: a cache line reaches this
/// image when it is published, or whenever the cache happens to evict it.
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
    void write_back(const std::uint64_t* entry) {
        const std::size_t first = offset(entry) / entries_per_line * entries_per_line;
        for (std::size_t i = first; i < first + entries_per_line; ++i) {
            image_[i] = memory_.region()[i];
        }
    }
    void publish(const std::uint64_t* first, std::size_t count) {
        ++publications_;
        const std::size_t last = (offset(first) + count - 1) / entries_per_line;
        for (std::size_t line = offset(first) / entries_per_line; line <= last; ++line) {
            write_back(memory_.region() + line * entries_per_line);
            ++published_[line];
        }
    }
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
    [[nodiscard]] std::size_t offset(const std::uint64_t* entry) const {
        return static_cast<std::size_t>(entry - memory_.region());
    }

    const frames& memory_;
    std::vector<std::uint64_t> image_;
    std::vector<unsigned> published_; ///< by line
    unsigned publications_ = 0;       ///< calls of publish
};

/// The publication policy over a shadow.
struct shadow_publication {
    shadow* image;
    void publish(const std::uint64_t* first, std::size_t count) { image->publish(first, count); }
};
static_assert(pt::publication<shadow_publication>);

} // namespace paging_model
