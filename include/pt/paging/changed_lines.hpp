// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// The lines of one table in which entries were stored, in ascending order; each is published
/// once, at the latest when this goes away.
template <publication Publication>
class changed_lines {
public:
    constexpr changed_lines(Publication& publisher, const std::uint64_t* entries)
        : publisher_{publisher}, entries_{entries} {}
    changed_lines(const changed_lines&) = delete;
    changed_lines& operator=(const changed_lines&) = delete;
    constexpr ~changed_lines() { publish(); }

    constexpr void add(unsigned index, std::size_t count = 1) {
        if (end_ != 0 && index / entries_per_line > (end_ - 1) / entries_per_line + 1) {
            publish();
        }
        if (end_ == 0) {
            first_ = index;
        }
        end_ = index + static_cast<unsigned>(count);
    }

private:
    static constexpr unsigned entries_per_line = 8;

    constexpr void publish() {
        if (end_ != 0) {
            publisher_.publish(entries_ + first_, end_ - first_);
            end_ = 0;
        }
    }

    Publication& publisher_;
    const std::uint64_t* entries_;
    unsigned first_ = 0;
    unsigned end_ = 0; // 0: none
};

} // namespace pt::paging
