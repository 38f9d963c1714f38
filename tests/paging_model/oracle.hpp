// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace paging_model {

/// The bytes that one entry at `level` covers; level 1 has pages of 4 KiB.
constexpr std::uint64_t size_at(unsigned level) {
    return std::uint64_t{1} << (12 + 9 * (level - 1));
}

/// What an operation did to pages: from the first to the last byte of those that it changed.
struct change {
    std::uint64_t first = ~std::uint64_t{0};
    std::uint64_t last = 0;
    std::size_t splits = 0; ///< tables that took the place of a large page
    std::vector<std::pair<std::uint64_t, std::uint64_t>> joined{}; ///< large pages, and their size

    [[nodiscard]] bool empty() const { return first > last; }
    void add(std::uint64_t from, std::uint64_t to) {
        first = from < first ? from : first;
        last = to > last ? to : last;
    }
};

/// What is mapped, as a plain map of runs of pages: the whole truth about a set of tables, without
/// any table. All pages of a run have one size, and the run begins and ends with one.
template <class Attributes>
class oracle {
public:
    struct run {
        std::uint64_t size;
        std::uint64_t output;
        Attributes attributes;
        std::uint64_t page; ///< size of each page
    };
    using runs = std::map<std::uint64_t, run>;

    static constexpr std::uint64_t none = ~std::uint64_t{0};

    /// The first mapped address in [first, first + size), or `none`.
    [[nodiscard]] std::uint64_t first_mapped(std::uint64_t first, std::uint64_t size) const {
        if (holding(first) != runs_.end()) {
            return first;
        }
        const auto next = runs_.lower_bound(first);
        return next != runs_.end() && next->first - first < size ? next->first : none;
    }
    [[nodiscard]] const run* find(std::uint64_t input, std::uint64_t& output) const {
        const auto at = holding(input);
        if (at == runs_.end()) {
            return nullptr;
        }
        output = at->second.output + (input - at->first);
        return &at->second;
    }
    /// The page that holds `input`, as its first byte; `input` is mapped.
    [[nodiscard]] std::uint64_t page_at(std::uint64_t input, std::uint64_t& size) const {
        size = holding(input)->second.page;
        return input & ~(size - 1);
    }
    [[nodiscard]] const runs& all() const { return runs_; }
    /// The first run that ends above `input`.
    [[nodiscard]] typename runs::const_iterator from(std::uint64_t input) const {
        const auto at = holding(input);
        return at != runs_.end() ? at : runs_.lower_bound(input);
    }

    /// At each address the largest page, up to `largest` bytes, that begins there and fits.
    void map(std::uint64_t first, std::uint64_t size, std::uint64_t output, Attributes attributes,
             std::uint64_t largest) {
        const std::uint64_t end = first + size; // 0 at the very top
        while (first != end) {
            std::uint64_t page = largest;
            while (((first | output) & (page - 1)) != 0 || page > end - first) {
                page >>= 9;
            }
            // As many of them as fit before a larger one could begin, or the range ends.
            std::uint64_t bytes = (end - first) & ~(page - 1);
            if (page < largest && ((first ^ output) & ((page << 9) - 1)) == 0) {
                const std::uint64_t next = ((first | ((page << 9) - 1)) + 1) - first;
                bytes = next < bytes && end - first - next >= page << 9 ? next : bytes;
            }
            runs_[first] = {bytes, output, attributes, page};
            first += bytes;
            output += bytes;
        }
    }
    change unmap(std::uint64_t first, std::uint64_t size) {
        change done;
        cut(first, done);
        cut(first + size, done);
        const auto from = runs_.lower_bound(first);
        const auto to = runs_.lower_bound(first + size);
        note(from, to, done);
        runs_.erase(from, to);
        return done;
    }
    /// `change_to(attributes)` for all that is mapped there; pages are cut where the range ends.
    template <class F>
    change protect(std::uint64_t first, std::uint64_t size, F&& change_to) {
        change done;
        cut(first, done);
        cut(first + size, done);
        for (auto at = runs_.lower_bound(first); at != runs_.end() && at->first - first < size;
             ++at) {
            const Attributes changed = change_to(at->second.attributes);
            if (!(changed == at->second.attributes)) {
                done.add(at->first, at->first + (at->second.size - 1));
                at->second.attributes = changed;
            }
        }
        return done;
    }
    /// Every page, or part of a page, in the range becomes pages of at most `to` bytes.
    change split(std::uint64_t first, std::uint64_t size, std::uint64_t to) {
        change done;
        for (;;) { // runs of large pages are cut down one size after the other
            auto at = from(first);
            while (at != runs_.end() && (at->first <= first || at->first - first < size) &&
                   at->second.page <= to) {
                ++at;
            }
            if (at == runs_.end() || !(at->first <= first || at->first - first < size)) {
                return done;
            }
            const std::uint64_t page = at->second.page;
            const std::uint64_t low = first > at->first ? first & ~(page - 1) : at->first;
            const std::uint64_t end_of_run = at->first + at->second.size;
            const std::uint64_t end = (first + size - 1) < end_of_run - 1
                                          ? ((first + size - 1) | (page - 1)) + 1
                                          : end_of_run;
            part(at, low);
            part(holding(low), end);
            run& pieces = runs_[low];
            done.splits += static_cast<std::size_t>(pieces.size / page);
            done.add(low, low + (pieces.size - 1));
            pieces.page = page >> 9;
        }
    }
    /// Tables wholly in the range whose pages are one large page become that page. `allowed(run)` is
    /// the largest page that the hardware takes for it.
    template <class F>
    change join(std::uint64_t first, std::uint64_t size, std::uint64_t largest, F&& allowed) {
        change done;
        for (std::uint64_t page = 4096; page < largest; page <<= 9) {
            const std::uint64_t whole = page << 9;
            auto at = from(first);
            while (at != runs_.end() && at->first <= first + (size - 1)) {
                const std::uint64_t low = at->first;
                const run one = at->second;
                std::uint64_t bytes = one.size; // of this run and those that continue it
                auto next = std::next(at);
                while (next != runs_.end() && next->first == low + bytes &&
                       next->second.output == one.output + bytes && next->second.page == one.page &&
                       next->second.attributes == one.attributes) {
                    bytes += next->second.size;
                    ++next;
                }
                at = next;
                if (one.page != page || ((low ^ one.output) & (whole - 1)) != 0 ||
                    allowed(one) < whole) {
                    continue;
                }
                const std::uint64_t from_here = low > first ? low : first;
                const std::uint64_t begin = (from_here + (whole - 1)) & ~(whole - 1);
                const std::uint64_t last =
                    low + (bytes - 1) < first + (size - 1) ? low + (bytes - 1) : first + (size - 1);
                const std::uint64_t end = (last + 1) & ~(whole - 1);
                if (begin < from_here || begin >= end) {
                    continue;
                }
                part(holding(begin), begin);
                if (const auto held = holding(end); held != runs_.end()) {
                    part(held, end);
                }
                runs_.erase(runs_.lower_bound(begin), runs_.lower_bound(end));
                runs_[begin] = {end - begin, one.output + (begin - low), one.attributes, whole};
                for (std::uint64_t made = begin; made != end; made += whole) {
                    done.joined.emplace_back(made, whole);
                }
                done.add(begin, end - 1);
            }
        }
        return done;
    }
    void clear() { runs_.clear(); }

    [[nodiscard]] std::uint64_t bytes() const {
        std::uint64_t sum = 0;
        for (const auto& [first, what] : runs_) {
            sum += what.size;
        }
        return sum;
    }
    /// The tables that such pages need in a tree of `levels`, without the root.
    [[nodiscard]] std::size_t tables(unsigned levels) const {
        std::size_t sum = 0;
        each_table(levels, [&sum](std::uint64_t low, std::uint64_t high, unsigned) {
            sum += static_cast<std::size_t>(high - low + 1);
        });
        return sum;
    }
    /// How many of these tables `other` does not need; at least so many, where that is more than
    /// anybody has.
    [[nodiscard]] std::size_t tables_beside(const oracle& other, unsigned levels) const {
        const std::size_t here = tables(levels);
        const std::size_t there = other.tables(levels);
        if (here > there + 100'000) {
            return here - there;
        }
        std::set<std::pair<unsigned, std::uint64_t>> more;
        each_table(levels, [&more](std::uint64_t low, std::uint64_t high, unsigned level) {
            for (; low <= high; ++low) {
                more.emplace(level, low);
            }
        });
        other.each_table(levels, [&more](std::uint64_t low, std::uint64_t high, unsigned level) {
            for (; low <= high; ++low) {
                more.erase({level, low});
            }
        });
        return more.size();
    }

private:
    [[nodiscard]] typename runs::const_iterator holding(std::uint64_t input) const {
        auto at = runs_.upper_bound(input);
        if (at == runs_.begin()) {
            return runs_.end();
        }
        --at;
        return input - at->first < at->second.size ? at : runs_.end();
    }
    /// f(low, high, level): the entries `low` to `high` at `level`, counted from address 0, each
    /// point to a table.
    template <class F>
    void each_table(unsigned levels, F&& f) const {
        for (unsigned level = 2; level <= levels; ++level) {
            std::uint64_t counted = none; // the last entry that was counted
            for (const auto& [first, what] : runs_) {
                if (what.page < size_at(level)) {
                    const std::uint64_t low = first / size_at(level);
                    const std::uint64_t high = (first + (what.size - 1)) / size_at(level);
                    if (low != counted || high != counted) {
                        f(low == counted ? low + 1 : low, high, level);
                    }
                    counted = high;
                }
            }
        }
    }
    /// A run becomes two where a page ends.
    void part(typename runs::const_iterator held, std::uint64_t at) {
        if (held == runs_.end() || at - held->first >= held->second.size || at == held->first ||
            at % held->second.page != 0) {
            return;
        }
        const std::uint64_t before = at - held->first;
        run rest = held->second;
        rest.size -= before;
        rest.output += before;
        runs_[held->first].size = before;
        runs_[at] = rest;
    }
    /// A page ends at `at`: one that lies across becomes 512 smaller ones, as often as it takes.
    void cut(std::uint64_t at, change& done) {
        for (auto held = holding(at); held != runs_.end(); held = holding(at)) {
            const std::uint64_t page = held->second.page;
            if (at % page == 0) {
                part(held, at);
                return;
            }
            const std::uint64_t low = at & ~(page - 1);
            part(held, low);
            part(holding(low), low + page);
            runs_[low].page = page >> 9;
            ++done.splits;
            done.add(low, low + (page - 1));
        }
    }
    static void note(typename runs::const_iterator from, typename runs::const_iterator to,
                     change& done) {
        for (; from != to; ++from) {
            done.add(from->first, from->first + (from->second.size - 1));
        }
    }

    runs runs_;
};

/// A set of addresses, as ranges.
class interval_set {
public:
    void add(std::uint64_t first, std::uint64_t size) {
        std::uint64_t end = first + size;
        auto at = ranges_.upper_bound(first);
        if (at != ranges_.begin() && std::prev(at)->second >= first) {
            --at;
            first = at->first;
            end = at->second > end ? at->second : end;
            at = ranges_.erase(at);
        }
        while (at != ranges_.end() && at->first <= end) {
            end = at->second > end ? at->second : end;
            at = ranges_.erase(at);
        }
        ranges_[first] = end;
    }
    void remove(std::uint64_t first, std::uint64_t size) {
        const std::uint64_t end = first + size;
        auto at = ranges_.upper_bound(first);
        if (at != ranges_.begin()) {
            --at;
        }
        while (at != ranges_.end() && at->first < end) {
            const std::uint64_t low = at->first;
            const std::uint64_t high = at->second;
            if (high <= first) {
                ++at;
                continue;
            }
            at = ranges_.erase(at);
            if (low < first) {
                ranges_[low] = first;
            }
            if (high > end) {
                ranges_[end] = high;
            }
        }
    }
    [[nodiscard]] bool contains(std::uint64_t point) const {
        const auto at = ranges_.upper_bound(point);
        return at != ranges_.begin() && std::prev(at)->second > point;
    }
    [[nodiscard]] bool touches(std::uint64_t first, std::uint64_t size) const {
        const auto at = ranges_.upper_bound(first);
        return (at != ranges_.begin() && std::prev(at)->second > first) ||
               (at != ranges_.end() && at->first < first + size);
    }
    /// f(first, end) for each range's part in [first, first + size).
    template <class F>
    void each(std::uint64_t first, std::uint64_t size, F&& f) const {
        const std::uint64_t end = first + size;
        auto at = ranges_.upper_bound(first);
        if (at != ranges_.begin()) {
            --at;
        }
        for (; at != ranges_.end() && at->first < end; ++at) {
            const std::uint64_t low = at->first > first ? at->first : first;
            const std::uint64_t high = at->second < end ? at->second : end;
            if (low < high) {
                f(low, high);
            }
        }
    }
    void clear() { ranges_.clear(); }

private:
    std::map<std::uint64_t, std::uint64_t> ranges_; ///< first, end
};

/// One flag of all pages: which must be found set, and which may be.
struct flags {
    interval_set must; ///< hardware set it, for this very address
    interval_set may;  ///< the flag is one of a page that is, or was, larger

    void clear(std::uint64_t first, std::uint64_t size) {
        must.remove(first, size);
        may.remove(first, size);
    }
};

} // namespace paging_model
