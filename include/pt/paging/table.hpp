// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/flush_ticket.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace pt::paging {

/// Where an input address leads.
template <entry_format Format>
struct translation {
    hpa output;
    page_size size; ///< of the page that maps it
    typename Format::attributes attributes;

    friend constexpr bool operator==(const translation&, const translation&) = default;
};

/// The translation tables of one guest or one domain, in the given format.
///
/// Every operation does all of what it is asked or, with an error, nothing; and at each moment in
/// between, hardware that walks the tables finds for each address the old or the new translation.
/// Frames come from `memory` as they are needed, the root with the first mapping; retire() gives
/// them all up again, and must be called (and its ticket redeemed) before the table goes away.
///
/// One writer at a time, which the mutex policy may ensure; hardware walks at any time.
template <entry_format Format, table_memory Memory,
          publication Publication = typename Format::default_publication, mutex Mutex = no_mutex>
class table {
public:
    using address = typename Format::address;
    using attributes = typename Format::attributes;
    using ticket = flush_ticket<Format, Memory>;

    explicit constexpr table(Memory memory, Format format, Publication publisher = {},
                             Mutex guard = {})
        : memory_{memory}, format_{format}, publisher_{publisher}, mutex_{guard} {}
    table(const table&) = delete; // the frames have one owner
    table& operator=(const table&) = delete;
    constexpr ~table() { expects(!has_root_, "a table went away before retire()"); }

    [[nodiscard]] constexpr const Format& format() const { return format_; }

    /// A ticket that owes nothing, to merge others into.
    [[nodiscard]] constexpr ticket empty_ticket() const { return ticket{memory_}; }

    /// The root table, for EPTP or a context entry; allocated now if nothing was mapped yet.
    /// errc::out_of_frames.
    constexpr result<hpa> root() {
        const scoped_lock held{mutex_};
        return ensure_root();
    }

    /// Maps `input` to the host memory that starts at `output`, with the largest pages that both
    /// addresses, the hardware and `largest` allow. Nothing may be mapped in `input` yet.
    ///
    /// errc::misaligned unless both addresses and the size are multiples of 4 KiB;
    /// errc::out_of_range beyond the input or output width; errc::reserved_address or
    /// errc::not_supported where the format forbids the address or the attributes;
    /// errc::already_mapped with the first such input address; errc::out_of_frames.
    /// The ticket is empty unless the hardware caches that nothing is mapped, or holds new entries
    /// back in a write buffer (stale_when_mapped).
    constexpr result<ticket> map(range<address> input, hpa output, attributes a,
                                 page_size largest = page_size::size_1g) {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (const result<void> valid = check(input, output, a); !valid) {
            return valid.error();
        }
        if (input.empty()) {
            return owed;
        }
        const bool had_root = has_root_;
        if (const result<hpa> top = ensure_root(); !top) {
            return top.error();
        }
        const unsigned limit = static_cast<unsigned>(
            largest < format_.largest_page() ? largest : format_.largest_page());
        const job work{a, limit};

        // Down to the one table in which the range falls into more than one entry, or into one
        // that must be written: nothing above it changes but the counts of live entries.
        std::uint64_t* parent = nullptr; // the entry that points to `entries`
        std::uint64_t* entries = memory_.entries(root_);
        unsigned level = format_.levels();
        const span part{input.first().raw, input.last().raw, output.raw};
        while (level > 1 && level_index(part.first, level) == level_index(part.last, level)) {
            std::uint64_t* const slot = &entries[level_index(part.first, level)];
            const std::uint64_t entry = load(slot);
            if (!is_present<Format>(entry) || is_leaf<Format>(entry, level)) {
                break;
            }
            parent = slot;
            entries = memory_.entries(frame_of<Format>(entry, level));
            --level;
        }

        if (const result<void> prepared = prepare(entries, level, part, work); !prepared) {
            abandon(entries, level, part);
            if (!had_root) {
                memory_.release(root_);
                has_root_ = false;
            }
            return prepared.error();
        }
        const unsigned added = commit(entries, level, part, work);
        count(parent, added);
        if (format_.stale_when_mapped()) {
            owed.stale_.add(input);
            owed.stale_.add_tables(); // that there was no table may be cached as well
        }
        return owed;
    }

    /// Removes whatever is mapped in `input`; pages that it cuts through are split first, and tables
    /// that become empty are retired. That nothing is mapped somewhere is no error. Where something
    /// was, `input` is stale, together with the rest of the pages that were split.
    ///
    /// errc::misaligned, errc::out_of_range as for map(); errc::out_of_frames when a page had to be
    /// split and the at most four tables for that could not be had.
    constexpr result<ticket> unmap(range<address> input) {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (!is_page_range(input)) {
            return error{errc::misaligned, input.first().raw};
        }
        if (!fits_input(input)) {
            return error{errc::out_of_range, input.first().raw};
        }
        if (input.empty() || !has_root_) {
            return owed;
        }
        reserve spare;
        if (const result<void> enough = reserve_splits(spare, input); !enough) {
            return enough.error();
        }
        const span part{input.first().raw, input.last().raw, 0};
        if (remove(memory_.entries(root_), format_.levels(), part, spare, owed).touched) {
            owed.stale_.add(input);
        }
        expects(spare.count == 0, "unmap reserved more tables than it used");
        return owed;
    }

    /// Where `input` leads. errc::not_mapped, errc::out_of_range.
    [[nodiscard]] constexpr result<translation<Format>> translate(address input) const {
        const scoped_lock held{mutex_};
        if (!fits_input({input, 1})) {
            return error{errc::out_of_range, input.raw};
        }
        if (!has_root_) {
            return error{errc::not_mapped, input.raw};
        }
        Memory memory = memory_;
        hpa frame = root_;
        for (unsigned level = format_.levels();; --level) {
            const std::uint64_t entry = load(&memory.entries(frame)[level_index(input.raw, level)]);
            if (!is_present<Format>(entry)) {
                return error{errc::not_mapped, input.raw};
            }
            frame = frame_of<Format>(entry, level);
            if (is_leaf<Format>(entry, level)) {
                return translation<Format>{frame + input.offset_in(level_size(level)),
                                           static_cast<page_size>(level),
                                           format_.attributes_of(entry)};
            }
        }
    }

    /// Calls f(range of input addresses, translation) for every leaf, in ascending order, with the
    /// mutex held: f must not use the table.
    template <class F>
    constexpr void visit(F&& f) const {
        const scoped_lock held{mutex_};
        if (has_root_) {
            Memory memory = memory_;
            visit(memory, root_, format_.levels(), 0, f);
        }
    }

    /// Gives up all tables, the root included. The hardware must not use the root any more; what
    /// it still has cached is the ticket's affair.
    constexpr ticket retire() {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (has_root_) {
            const retired_tree all{root_, format_.levels()};
            owed.append(all, all);
            owed.stale_.add_everything();
            owed.stale_.add_tables();
            has_root_ = false;
        }
        return owed;
    }

private:
    /// The part of an operation that falls into one table: first and last input address, and where
    /// the first one leads.
    struct span {
        std::uint64_t first;
        std::uint64_t last;
        std::uint64_t output;
    };
    /// What map() writes: the attributes, and the highest level at which a leaf is allowed.
    struct job {
        attributes a;
        unsigned largest_level;
    };
    /// Tables kept ready for splits, of which one unmap needs at most two at either end.
    struct reserve {
        hpa frames[4];
        unsigned count = 0;
    };

    static constexpr std::uint64_t load(const std::uint64_t* slot) {
        if (std::is_constant_evaluated()) {
            return *slot;
        }
        return __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    }
    /// One store that hardware sees whole and after all that was published before.
    constexpr void store(std::uint64_t* slot, std::uint64_t entry) {
        if (std::is_constant_evaluated()) {
            *slot = entry;
        } else {
            __atomic_store_n(slot, entry, __ATOMIC_RELEASE);
        }
    }
    constexpr void store_and_publish(std::uint64_t* slot, std::uint64_t entry) {
        store(slot, entry);
        publisher_.publish(slot, 1);
    }

    /// Publishes the `count` entries right before `end`, and takes note of it.
    constexpr void publish_before(const std::uint64_t* end, unsigned& count) {
        if (count != 0) {
            publisher_.publish(end - count, count);
            count = 0;
        }
    }

    static constexpr unsigned live_count(std::uint64_t entry) {
        return static_cast<unsigned>((entry & live_count_mask) >> live_count_shift) + 1;
    }
    static constexpr std::uint64_t with_live_count(std::uint64_t entry, unsigned live) {
        return (entry & ~live_count_mask) | std::uint64_t{live - 1} << live_count_shift;
    }
    /// Adds to the count of live entries in the entry that points to their table. Hardware ignores
    /// the count, so it needs no publication; the root has no such entry.
    constexpr void count(std::uint64_t* parent, unsigned added) {
        if (parent != nullptr && added != 0) {
            store(parent, with_live_count(*parent, live_count(*parent) + added));
        }
    }

    static constexpr bool is_page_range(range<address> input) {
        return input.first().is_aligned(4 * KiB) && input.size() % (4 * KiB) == 0;
    }
    constexpr bool fits_input(range<address> input) const {
        return input.empty() || (input.last().raw >> format_.input_width()) == 0;
    }
    constexpr result<void> check(range<address> input, hpa output, attributes a) const {
        if (!is_page_range(input) || !output.is_aligned(4 * KiB)) {
            return error{errc::misaligned, is_page_range(input) ? output.raw : input.first().raw};
        }
        if (!fits_input(input)) {
            return error{errc::out_of_range, input.first().raw};
        }
        const std::uint64_t reach = input.empty() ? 0 : input.size() - 1;
        const std::uint64_t top = (std::uint64_t{1} << format_.output_width()) - 1;
        if (output.raw > top || reach > top - output.raw) {
            return error{errc::out_of_range, output.raw};
        }
        if (const result<void> allowed = format_.check(input, output); !allowed) {
            return allowed;
        }
        return format_.check(a);
    }

    constexpr result<hpa> ensure_root() {
        if (!has_root_) {
            const result<hpa> frame = memory_.allocate(frame_contents::any);
            if (!frame) {
                return frame;
            }
            fill_empty(memory_.entries(*frame), 0, entries_per_table);
            publisher_.publish(memory_.entries(*frame), entries_per_table);
            root_ = *frame;
            has_root_ = true;
        }
        return root_;
    }

    static constexpr void fill_empty(std::uint64_t* entries, std::size_t from, std::size_t to) {
        for (std::size_t i = from; i < to; ++i) {
            entries[i] = Format::empty;
        }
    }

    /// The part of `whole` that falls under entry `index` of a table at `level`.
    static constexpr span clip(const span& whole, unsigned index, unsigned level) {
        const std::uint64_t size = level_size(level);
        const std::uint64_t table_base = whole.first & ~(512 * size - 1);
        const std::uint64_t base = table_base + index * size;
        const std::uint64_t first = whole.first > base ? whole.first : base;
        const std::uint64_t last = whole.last < base + (size - 1) ? whole.last : base + (size - 1);
        return {first, last, whole.output + (first - whole.first)};
    }
    static constexpr bool covers(const span& part, unsigned level) {
        return part.last - part.first == level_size(level) - 1;
    }
    static constexpr bool leaf_fits(const span& part, unsigned level, const job& work) {
        return level <= work.largest_level && covers(part, level) &&
               (part.output & (level_size(level) - 1)) == 0;
    }

    /// Writes the `n` leaves at `level` that begin at slot, in a table that nobody sees yet: plain
    /// stores, which the compiler may join.
    constexpr void fill_leaves(std::uint64_t* slot, std::size_t n, std::uint64_t output,
                               unsigned level, const job& work) {
        const std::uint64_t step = level_size(level);
        std::uint64_t entry = format_.leaf(hpa{output}, work.a, level);
        for (std::size_t i = 0; i < n; ++i, entry += step) {
            slot[i] = entry;
        }
    }

    // A map works in two passes over the tables that exist. prepare() checks that every entry is
    // free and hangs complete new subtrees under the entries that need one, but with the present
    // bits clear, so that hardware sees nothing. commit() then cannot fail: it sets the present bits
    // and writes the leaves that go into existing tables. When prepare() fails, abandon() takes the
    // hidden subtrees away again, and nothing has happened.

    /// The entry of a hidden subtree: neither present nor empty, of which the page bit makes sure. It
    /// keeps the bits of an empty entry that mean something there (EPT: suppress #VE).
    constexpr std::uint64_t hidden(hpa frame, unsigned live) const {
        return with_live_count(format_.table(frame) & ~Format::present_mask, live) |
               Format::page_bit | Format::empty;
    }
    static constexpr bool is_hidden(std::uint64_t entry) {
        return entry != Format::empty && !is_present<Format>(entry);
    }

    constexpr result<void> prepare(std::uint64_t* entries, unsigned level, const span& part,
                                   const job& work) {
        const unsigned from = level_index(part.first, level);
        const unsigned to = level_index(part.last, level);
        for (unsigned i = from; i <= to; ++i) {
            const span below = clip(part, i, level);
            const std::uint64_t entry = load(&entries[i]);
            if (is_present<Format>(entry)) {
                if (is_leaf<Format>(entry, level)) {
                    return error{errc::already_mapped, below.first};
                }
                std::uint64_t* const child = memory_.entries(frame_of<Format>(entry, level));
                if (const result<void> done = prepare(child, level - 1, below, work); !done) {
                    return done;
                }
            } else if (level > 1 && !leaf_fits(below, level, work)) {
                const result<hpa> child = build(level - 1, below, work);
                if (!child) {
                    return child.error();
                }
                const unsigned live =
                    level_index(below.last, level - 1) - level_index(below.first, level - 1) + 1;
                store(&entries[i], hidden(*child, live));
            }
        }
        return {};
    }

    /// Takes away what prepare() hung into `entries` and below.
    constexpr void abandon(std::uint64_t* entries, unsigned level, const span& part) {
        if (level == 1) {
            return;
        }
        for (unsigned i = level_index(part.first, level); i <= level_index(part.last, level); ++i) {
            const std::uint64_t entry = load(&entries[i]);
            if (is_hidden(entry)) {
                store(&entries[i], Format::empty);
                discard(hpa{entry & frame_mask}, level - 1, 0, entries_per_table);
            } else if (is_present<Format>(entry) && !is_leaf<Format>(entry, level)) {
                abandon(memory_.entries(frame_of<Format>(entry, level)), level - 1,
                        clip(part, i, level));
            }
        }
    }

    /// Makes the prepared part real; returns how many entries of this table came into use.
    constexpr unsigned commit(std::uint64_t* entries, unsigned level, const span& part,
                              const job& work) {
        const unsigned from = level_index(part.first, level);
        const unsigned to = level_index(part.last, level);
        if (level == 1) {
            std::uint64_t leaf = format_.leaf(hpa{part.output}, work.a, 1);
            for (unsigned i = from; i <= to; ++i, leaf += level_size(1)) {
                store(&entries[i], leaf);
            }
            publisher_.publish(&entries[from], to - from + 1);
            return to - from + 1;
        }
        unsigned added = 0;
        unsigned unpublished = 0; // entries right before i that were stored
        for (unsigned i = from; i <= to; ++i) {
            const span below = clip(part, i, level);
            const std::uint64_t entry = load(&entries[i]);
            if (is_present<Format>(entry)) {
                publish_before(&entries[i], unpublished);
                std::uint64_t* const child = memory_.entries(frame_of<Format>(entry, level));
                count(&entries[i], commit(child, level - 1, below, work));
                continue;
            }
            ++added;
            ++unpublished;
            store(&entries[i],
                  is_hidden(entry)
                      ? with_live_count(format_.table(hpa{entry & frame_mask}), live_count(entry))
                      : format_.leaf(hpa{below.output}, work.a, level));
        }
        publish_before(&entries[to] + 1, unpublished);
        return added;
    }

    /// A new table at `level`, complete and published, that hardware cannot reach yet: leaves and
    /// further tables for `part`, empty entries around them. Each entry is written once.
    constexpr result<hpa> build(unsigned level, const span& part, const job& work) {
        const result<hpa> frame = memory_.allocate(frame_contents::any);
        if (!frame) {
            return frame;
        }
        std::uint64_t* const entries = memory_.entries(*frame);
        const unsigned from = level_index(part.first, level);
        const unsigned to = level_index(part.last, level);
        if (level == 1) {
            fill_leaves(&entries[from], to - from + 1, part.output, 1, work);
        } else {
            for (unsigned i = from; i <= to; ++i) {
                const span below = clip(part, i, level);
                if (leaf_fits(below, level, work)) {
                    // And so does a leaf in all further entries that `part` covers wholly.
                    const auto n =
                        static_cast<unsigned>((part.last - below.first + 1) >> level_shift(level));
                    fill_leaves(&entries[i], n, below.output, level, work);
                    i += n - 1;
                    continue;
                }
                const result<hpa> child = build(level - 1, below, work);
                if (!child) {
                    discard(*frame, level, from, i);
                    return child;
                }
                const unsigned live =
                    level_index(below.last, level - 1) - level_index(below.first, level - 1) + 1;
                entries[i] = with_live_count(format_.table(*child), live);
            }
        }
        fill_empty(entries, 0, from);
        fill_empty(entries, to + 1, entries_per_table);
        publisher_.publish(entries, entries_per_table);
        return frame;
    }

    /// Gives back a table that hardware never saw and the tables under its entries [from, to).
    constexpr void discard(hpa frame, unsigned level, std::size_t from, std::size_t to) {
        if (level > 1) {
            const std::uint64_t* const entries = memory_.entries(frame);
            for (std::size_t i = from; i < to; ++i) {
                if (is_present<Format>(entries[i]) && !is_leaf<Format>(entries[i], level)) {
                    discard(frame_of<Format>(entries[i], level), level - 1, 0, entries_per_table);
                }
            }
        }
        memory_.release(frame);
    }

    /// The leaf that maps `input`: its level and entry; level 0 where nothing is mapped.
    struct found_leaf {
        unsigned level = 0;
        std::uint64_t entry = 0;
    };
    constexpr found_leaf find(std::uint64_t input) {
        hpa frame = root_;
        for (unsigned level = format_.levels();; --level) {
            const std::uint64_t entry = load(&memory_.entries(frame)[level_index(input, level)]);
            if (!is_present<Format>(entry)) {
                return {};
            }
            if (is_leaf<Format>(entry, level)) {
                return {level, entry};
            }
            frame = frame_of<Format>(entry, level);
        }
    }

    /// Allocates the tables that unmapping `input` needs to split the pages at its two ends.
    constexpr result<void> reserve_splits(reserve& spare, range<address> input) {
        const std::uint64_t first = input.first().raw;
        const std::uint64_t end = input.last().raw + 1;
        const unsigned at_first = find(first).level;
        const unsigned at_end = find(end - 1).level; // the page that holds the last byte
        for (unsigned level = 2; level <= 3; ++level) {
            const std::uint64_t inside = level_size(level) - 1;
            const bool cut_first = level <= at_first && (first & inside) != 0;
            const bool cut_end = level <= at_end && (end & inside) != 0;
            const bool same = (first & ~inside) == ((end - 1) & ~inside);
            const unsigned needed =
                same ? unsigned{cut_first || cut_end} : unsigned{cut_first} + unsigned{cut_end};
            for (unsigned i = 0; i < needed; ++i) {
                const result<hpa> frame = memory_.allocate(frame_contents::any);
                if (!frame) {
                    while (spare.count != 0) {
                        memory_.release(spare.frames[--spare.count]);
                    }
                    return frame.error();
                }
                spare.frames[spare.count++] = *frame;
            }
        }
        return {};
    }

    /// Replaces the leaf in `slot` by a table of 512 leaves that translate the same.
    constexpr void split(std::uint64_t* slot, unsigned level, reserve& spare) {
        expects(spare.count != 0, "unmap reserved too few tables for its splits");
        const hpa frame = spare.frames[--spare.count];
        std::uint64_t* const entries = memory_.entries(frame);
        const std::uint64_t step = level_size(level - 1);
        std::uint64_t entry = format_.split(*slot, level);
        for (std::size_t i = 0; i < entries_per_table; ++i, entry += step) {
            entries[i] = entry;
        }
        publisher_.publish(entries, entries_per_table);
        store_and_publish(slot, with_live_count(format_.table(frame), entries_per_table));
    }

    struct removal {
        unsigned entries = 0; ///< of this table that are empty now
        bool touched = false; ///< whether anything was mapped
    };
    constexpr removal remove(std::uint64_t* entries, unsigned level, const span& part,
                             reserve& spare, ticket& owed) {
        removal done;
        const unsigned from = level_index(part.first, level);
        const unsigned to = level_index(part.last, level);
        if (level == 1) {
            for (unsigned i = from; i <= to; ++i) {
                if (is_present<Format>(load(&entries[i]))) {
                    ++done.entries;
                    store(&entries[i], Format::empty);
                }
            }
            done.touched = done.entries != 0;
            if (done.touched) {
                publisher_.publish(&entries[from], to - from + 1);
            }
            return done;
        }
        unsigned unpublished = 0; // entries right before i that were cleared
        for (unsigned i = from; i <= to; ++i) {
            const span below = clip(part, i, level);
            std::uint64_t* const slot = &entries[i];
            std::uint64_t entry = load(slot);
            if (is_present<Format>(entry) && is_leaf<Format>(entry, level) &&
                covers(below, level)) {
                store(slot, Format::empty);
                ++unpublished;
                ++done.entries;
                done.touched = true;
                continue;
            }
            publish_before(slot, unpublished);
            if (!is_present<Format>(entry)) {
                continue;
            }
            if (is_leaf<Format>(entry, level)) {
                split(slot, level, spare);
                owed.stale_.add_tables();
                // All of the large page: an invalidation has to cover it, or it may stay cached
                // [vt-d, "Invalidate Address Register", address mask].
                const std::uint64_t page = below.first & ~(level_size(level) - 1);
                owed.stale_.add({address{page}, level_size(level)});
                entry = load(slot);
            }
            const retired_tree child{frame_of<Format>(entry, level), level - 1};
            bool vanishes = covers(below, level);
            if (vanishes) {
                done.touched = true;
            } else {
                const removal inner =
                    remove(memory_.entries(child.frame), child.level, below, spare, owed);
                done.touched = done.touched || inner.touched;
                const unsigned live = live_count(*slot) - inner.entries;
                vanishes = live == 0;
                if (!vanishes && inner.entries != 0) {
                    store(slot, with_live_count(*slot, live));
                }
            }
            if (vanishes) {
                store_and_publish(slot, Format::empty);
                owed.append(child, child);
                owed.stale_.add_tables();
                ++done.entries;
            }
        }
        publish_before(&entries[to] + 1, unpublished);
        return done;
    }

    template <class F>
    constexpr void visit(Memory& memory, hpa frame, unsigned level, std::uint64_t base,
                         F& f) const {
        for (unsigned i = 0; i < entries_per_table; ++i) {
            const std::uint64_t entry = load(&memory.entries(frame)[i]);
            const std::uint64_t input = base + i * level_size(level);
            if (!is_present<Format>(entry)) {
                continue;
            }
            if (is_leaf<Format>(entry, level)) {
                f(range<address>{address{input}, level_size(level)},
                  translation<Format>{frame_of<Format>(entry, level), static_cast<page_size>(level),
                                      format_.attributes_of(entry)});
            } else {
                visit(memory, frame_of<Format>(entry, level), level - 1, input, f);
            }
        }
    }

    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Format format_;
    [[no_unique_address]] Publication publisher_;
    [[no_unique_address]] mutable Mutex mutex_;
    hpa root_{};
    bool has_root_ = false;
};

} // namespace pt::paging
