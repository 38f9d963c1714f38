// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !__STDC_HOSTED__
#error "pt/hosted/ needs a hosted standard library; a freestanding VMM has paging::table::leaves()"
#endif

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/leaf_range.hpp"

#include <range/v3/iterator/default_sentinel.hpp>
#include <range/v3/range/access.hpp>
#include <range/v3/range/concepts.hpp>
#include <range/v3/range/traits.hpp>
#include <range/v3/utility/semiregular_box.hpp>
#include <range/v3/view/all.hpp>
#include <range/v3/view/facade.hpp>
#include <range/v3/view/view.hpp>

#include <algorithm>
#include <cstdint>
#include <utility>

/// What is mapped, as views of range-v3: the leaves of a table, and the runs that they make.
///
///     for (const auto& run : leaves(tables) | runs) ...
///
/// Both are lazy and go through the tables once; these must not change on the way.
namespace pt::hosted {

/// paging::leaf_range as a view. What the VMM's policies are made of need not be assignable.
template <paging::entry_format Format, table_memory Memory>
class leaf_view : public ranges::view_facade<leaf_view<Format, Memory>, ranges::unknown> {
    using leaf_range = paging::leaf_range<Format, Memory>;

public:
    leaf_view() = default;
    explicit leaf_view(leaf_range leaves) : leaves_{std::move(leaves)} {}

private:
    friend ranges::range_access;

    struct cursor {
        ranges::semiregular_box_t<typename leaf_range::iterator> at;

        [[nodiscard]] paging::mapping<Format> read() const { return *iterator(); }
        void next() { ++static_cast<typename leaf_range::iterator&>(at); }
        [[nodiscard]] bool equal(ranges::default_sentinel_t) const {
            return iterator() == typename leaf_range::sentinel{};
        }
        [[nodiscard]] const typename leaf_range::iterator& iterator() const { return at; }
    };
    [[nodiscard]] cursor begin_cursor() const {
        return {static_cast<const leaf_range&>(leaves_).begin()};
    }

    ranges::semiregular_box_t<leaf_range> leaves_;
};

/// The leaves of `tables` as a view; see paging::table::leaves(). Tables that have no root yet stay
/// empty in it.
template <class Table>
[[nodiscard]] auto leaves(const Table& tables) {
    return leaf_view{tables.leaves()};
}
/// The leaves that touch `input`.
template <class Table>
[[nodiscard]] auto leaves(const Table& tables, range<typename Table::address> input) {
    return leaf_view{tables.leaves(input)};
}

/// Pages one after the other that lead to memory one after the other, with the same attributes.
template <paging::entry_format Format>
struct mapping_run {
    range<typename Format::address> input;
    hpa output; ///< where the first address leads
    typename Format::attributes attributes;
    paging::page_size smallest; ///< of its pages
    paging::page_size largest;
    std::uint64_t pages; ///< of whatever size

    friend bool operator==(const mapping_run&, const mapping_run&) = default;
};

template <class T>
inline constexpr bool is_mapping = false;
template <class Format>
inline constexpr bool is_mapping<paging::mapping<Format>> = true;

/// A view of mappings: what leaves() gives, filtered or not, or what an audit has collected.
template <class V>
concept mapping_view =
    ranges::view_<V> && ranges::input_range<V> && is_mapping<ranges::range_value_t<V>>;

template <class>
struct format_of;
template <class Format>
struct format_of<paging::mapping<Format>> {
    using type = Format;
};

/// Neighbours joined: as few runs as say the same as all the leaves, in the order of the leaves.
template <mapping_view Leaves>
class run_view : public ranges::view_facade<run_view<Leaves>, ranges::unknown> {
    using format = typename format_of<ranges::range_value_t<Leaves>>::type;

public:
    run_view() = default;
    explicit run_view(Leaves leaves) : leaves_{std::move(leaves)} {}

private:
    friend ranges::range_access;

    class cursor {
    public:
        cursor() = default;
        explicit cursor(Leaves& leaves) : next_{ranges::begin(leaves)}, end_{ranges::end(leaves)} {
            next();
        }

        [[nodiscard]] mapping_run<format> read() const { return run_; }
        [[nodiscard]] bool equal(ranges::default_sentinel_t) const { return done_; }
        /// Reads one leaf too many to know that the run has ended.
        void next() {
            done_ = next_ == end_;
            if (done_) {
                return;
            }
            run_ = of(*next_);
            for (++next_; next_ != end_; ++next_) {
                const paging::mapping<format> leaf = *next_;
                if (!continues(leaf)) {
                    return;
                }
                run_.input = {run_.input.first(), run_.input.size() + leaf.input.size()};
                run_.smallest = std::min(run_.smallest, leaf.to.size);
                run_.largest = std::max(run_.largest, leaf.to.size);
                ++run_.pages;
            }
        }

    private:
        static mapping_run<format> of(const paging::mapping<format>& leaf) {
            return {leaf.input, leaf.to.output, leaf.to.attributes, leaf.to.size, leaf.to.size, 1};
        }
        [[nodiscard]] bool continues(const paging::mapping<format>& leaf) const {
            return leaf.input.first() > run_.input.last() &&
                   leaf.input.first() - run_.input.first() == run_.input.size() &&
                   leaf.to.output == run_.output + run_.input.size() &&
                   leaf.to.attributes == run_.attributes;
        }

        ranges::iterator_t<Leaves> next_;
        ranges::sentinel_t<Leaves> end_;
        mapping_run<format> run_{};
        bool done_ = true;
    };
    [[nodiscard]] cursor begin_cursor() { return cursor{leaves_}; }

    Leaves leaves_;
};

struct make_runs {
    template <ranges::viewable_range Leaves>
        requires mapping_view<ranges::views::all_t<Leaves>>
    [[nodiscard]] auto operator()(Leaves&& leaves) const {
        return run_view<ranges::views::all_t<Leaves>>{
            ranges::views::all(std::forward<Leaves>(leaves))};
    }
};

/// `leaves(tables) | runs`, and of any other view of mappings.
inline constexpr auto runs = ranges::make_view_closure(make_runs{});

} // namespace pt::hosted
