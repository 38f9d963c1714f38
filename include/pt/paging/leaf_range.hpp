// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// Where an input address leads.
template <entry_format Format>
struct translation {
    hpa output;
    page_size size; ///< of the page that maps it
    typename Format::attributes attributes;

    friend constexpr bool operator==(const translation&, const translation&) = default;
};

/// One leaf: the input addresses of the page, and where the first of them leads.
template <entry_format Format>
struct mapping {
    range<typename Format::address> input;
    translation<Format> to;

    friend constexpr bool operator==(const mapping&, const mapping&) = default;
};

/// The leaves of a tree that touch a range of input addresses, in ascending order; each is looked for
/// when it is asked for. An input range: one pass, and the tables must not change on the way.
template <entry_format Format, table_memory Memory>
class leaf_range {
public:
    struct sentinel {};

    class iterator {
    public:
        using value_type = mapping<Format>;
        using difference_type = std::ptrdiff_t;

        [[nodiscard]] constexpr const value_type& operator*() const { return current_; }
        [[nodiscard]] constexpr const value_type* operator->() const { return &current_; }
        constexpr iterator& operator++() {
            step();
            find();
            return *this;
        }
        constexpr void operator++(int) { ++*this; }
        friend constexpr bool operator==(const iterator& at, sentinel) { return at.done_; }

    private:
        friend class leaf_range;

        constexpr explicit iterator(const leaf_range& from)
            : memory_{from.memory_},
              format_{from.format_},
              at_{from.first_},
              last_{from.last_},
              level_{from.format_.levels()},
              done_{from.empty_} {
            if (!done_) {
                tables_[level_] = memory_.entries(from.root_);
                find();
            }
        }

        /// Goes on behind the entry at the present level, and up where that leaves its table.
        constexpr void step() {
            const std::uint64_t inside = level_size(level_) - 1;
            if ((at_ | inside) >= last_) {
                done_ = true;
                return;
            }
            at_ = (at_ | inside) + 1;
            while (level_index(at_, level_) == 0 && level_ < format_.levels()) {
                ++level_;
            }
        }
        /// Goes to the first leaf at or behind the present address.
        constexpr void find() {
            while (!done_) {
                const std::uint64_t entry = load_entry(&tables_[level_][level_index(at_, level_)]);
                if (!is_present<Format>(entry)) {
                    step();
                } else if (is_leaf<Format>(entry, level_)) {
                    const std::uint64_t size = level_size(level_);
                    current_ = {{typename Format::address{at_ & ~(size - 1)}, size},
                                {frame_of<Format>(entry, level_), static_cast<page_size>(level_),
                                 format_.attributes_of(entry, level_)}};
                    return;
                } else {
                    const hpa child = frame_of<Format>(entry, level_);
                    tables_[--level_] = memory_.entries(child);
                }
            }
        }

        [[no_unique_address]] Memory memory_;
        [[no_unique_address]] Format format_;
        std::uint64_t at_;
        std::uint64_t last_;
        unsigned level_;
        bool done_;
        const std::uint64_t* tables_[6]{}; // by level, from the present one up to the root
        value_type current_{};
    };

    /// The leaves under `root` that touch the addresses `first` to `last`; see table::leaves().
    constexpr leaf_range(Memory memory, Format format, hpa root, std::uint64_t first,
                         std::uint64_t last)
        : memory_{memory},
          format_{format},
          root_{root},
          first_{first},
          last_{last},
          empty_{false} {}
    /// No leaves.
    constexpr leaf_range(Memory memory, Format format) : memory_{memory}, format_{format} {}

    [[nodiscard]] constexpr iterator begin() const { return iterator{*this}; }
    [[nodiscard]] constexpr sentinel end() const { return {}; }

private:
    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Format format_;
    hpa root_{};
    std::uint64_t first_ = 0;
    std::uint64_t last_ = 0;
    bool empty_ = true;
};

} // namespace pt::paging
