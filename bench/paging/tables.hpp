// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/ept.hpp"
#include "pt/paging/publication.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include "pool.hpp"

#include <utility>

/// The engine as it is measured: over a pool, and on hardware that caches nothing.
namespace bench {

using pt::GiB;
using pt::gpa;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::MiB;
using pt::TiB;
using pt::paging::page_size;

struct no_caches {
    template <class Stale>
    pt::result<void> invalidate(const Stale&) {
        return {};
    }
};

/// 4 levels, pages of all sizes, 52 bits.
inline constexpr pt::ept::format ept_format{pt::ept::capabilities{0xF01'0673'4141}, 52};
inline constexpr pt::vtd::second_stage::format vtd_format{
    {.levels = 4, .input_width = 48, .output_width = 52, .largest_page = page_size::size_1g}};

using ept_table = pt::paging::table<pt::ept::format, pool_memory>;
template <pt::publication Publication>
using vtd_table = pt::paging::table<pt::vtd::second_stage::format, pool_memory, Publication>;

/// Redeems the ticket of an operation; whether it succeeded.
template <class Ticket>
[[gnu::always_inline]] inline bool redeemed(pt::result<Ticket>&& done) {
    no_caches hardware;
    return done && done->redeem(hardware);
}

/// A table that has its root, and the pool that it takes its frames from.
template <class Table = ept_table>
class tree {
public:
    template <class Format>
    tree(const region& all, const Format& format)
        : frames{all}, tables{pool_memory{&frames}, format} {
        good_ = tables.root().has_value();
        mark_ = frames.mark();
    }
    ~tree() {
        no_caches hardware;
        auto owed = tables.retire();
        (void)owed.redeem(hardware);
    }

    /// Whether all that the constructor did succeeded.
    [[nodiscard]] bool ready() const { return good_; }
    void require(bool good) { good_ = good_ && good; }

    bool map(std::uint64_t input, std::uint64_t size, std::uint64_t output,
             typename Table::attributes attributes, page_size largest = page_size::size_1g) {
        return redeemed(tables.map({address{unknown(input)}, unknown(size)}, hpa{unknown(output)},
                                   attributes, largest));
    }
    bool unmap(std::uint64_t input, std::uint64_t size) {
        return redeemed(tables.unmap({address{unknown(input)}, unknown(size)}));
    }

    /// The tables of now are those to which rewind() goes back.
    void set_mark() { mark_ = frames.mark(); }
    /// False if a frame that was taken since set_mark() did not come back.
    bool rewind() { return frames.rewind(mark_); }

    pool frames;
    Table tables;

private:
    using address = typename Table::address;

    std::uint64_t mark_ = 0;
    bool good_ = false;
};

} // namespace bench
