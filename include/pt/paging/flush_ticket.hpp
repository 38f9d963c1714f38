// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/stale_set.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace pt::paging {

/// A table that was taken out of a tree together with all tables below it. Hardware may still walk
/// it, so it stays as it is; `level` 0 means none.
struct retired_tree {
    hpa frame{};
    unsigned level = 0;

    friend constexpr bool operator==(retired_tree, retired_tree) = default;
};

/// Retired trees are chained without memory of their own and without a change that hardware could
/// notice: the next one's address and level stand, five bits an entry, in bits 56:52 of the first
/// entries of the retired root. Every format here ignores those bits in leaves and in table entries.
struct retired_link {
    static constexpr unsigned shift = 52;
    static constexpr unsigned bits = 5;
    static constexpr std::size_t pieces = 9; // 40 bits of frame number, then the level

    static constexpr void write(std::uint64_t* entries, retired_tree next) {
        for (std::size_t i = 0; i < pieces; ++i) {
            constexpr std::uint64_t mask = std::uint64_t{0x1F} << shift;
            const std::uint64_t piece =
                i + 1 < pieces ? (next.frame.raw >> (12 + bits * i)) & 0x1F : next.level;
            // A processor may still be reading here.
            store_entry(&entries[i], (load_entry(&entries[i]) & ~mask) | (piece << shift));
        }
    }
    static constexpr retired_tree read(const std::uint64_t* entries) {
        retired_tree next;
        for (std::size_t i = 0; i < pieces; ++i) {
            const std::uint64_t piece = (entries[i] >> shift) & 0x1F;
            if (i + 1 < pieces) {
                next.frame += piece << (12 + bits * i);
            } else {
                next.level = static_cast<unsigned>(piece);
            }
        }
        return next;
    }
};

/// A chain of retired trees.
template <entry_format Format, table_memory Memory>
class retired_chain {
public:
    [[nodiscard]] constexpr bool empty() const { return first_.level == 0; }

    constexpr void append(retired_tree tree, Memory& memory) {
        append(retired_chain{tree, tree}, memory);
    }
    constexpr void append(const retired_chain& more, Memory& memory) {
        if (more.empty()) {
            return;
        }
        if (empty()) {
            first_ = more.first_;
        } else {
            retired_link::write(memory.entries(last_.frame), more.first_);
        }
        last_ = more.last_;
    }
    /// Gives every frame back.
    constexpr void release(Memory& memory) {
        if (!empty()) {
            release(first_, last_, memory);
        }
        *this = {};
    }

    constexpr retired_chain() = default;

private:
    constexpr retired_chain(retired_tree first, retired_tree last) : first_{first}, last_{last} {}

    // By value, and not inlined: a ticket that is never passed by address stays in registers.
    [[gnu::noinline]] static constexpr void release(retired_tree first, retired_tree last,
                                                    Memory memory) {
        for (;;) {
            const retired_tree next =
                first == last ? first : retired_link::read(memory.entries(first.frame));
            release_below(first, memory);
            memory.release(first.frame);
            if (first == last) {
                return;
            }
            first = next;
        }
    }
    static constexpr void release_below(retired_tree tree, Memory& memory) {
        if (tree.level == 1) {
            return;
        }
        const std::uint64_t* const entries = memory.entries(tree.frame);
        for (std::size_t i = 0; i < entries_per_table; ++i) {
            const std::uint64_t entry = entries[i];
            if (is_table<Format>(entry, tree.level)) {
                const hpa child{entry & frame_mask};
                if (tree.level > 2) { // below level 2 there is nothing to look for
                    release_below({child, tree.level - 1}, memory);
                }
                memory.release(child);
            }
        }
    }

    retired_tree first_{};
    retired_tree last_{};
};

template <entry_format Format, table_memory Memory, publication Publication, mutex Mutex>
class table;
template <entry_format Format, table_memory Memory, std::size_t Capacity>
class flush_batch;

/// What one operation on tables still owes to the hardware: the input addresses whose cached
/// translations are stale, from the first page that changed to the last, and the table frames that
/// hardware may still be walking. (A table that went as a whole counts as all that it covered, for
/// nobody looked into it.) The tickets of one table are redeemed in the order in which they
/// were given out, or together: hardware may still hold pages and tables of before an older one, of
/// which a younger one knows nothing. The frames go back to the memory when the ticket is redeemed with
/// an invalidator, and in no other way. A ticket that owes something must be redeemed, or added to a
/// flush_batch, before it goes away.
template <entry_format Format, table_memory Memory>
class [[nodiscard]] flush_ticket {
public:
    using address = typename Format::address;

    constexpr flush_ticket(flush_ticket&& other) noexcept
        : first_{other.first_},
          last_{other.last_},
          tables_changed_{other.tables_changed_},
          retired_{other.retired_},
          memory_{other.memory_} {
        other.leak();
    }
    flush_ticket& operator=(flush_ticket&&) = delete; // what would become of what this one owes?
    constexpr ~flush_ticket() {
        expects(empty(), "a flush ticket was dropped before it was redeemed");
    }

    /// Whether nothing is owed; redeeming is then free.
    [[nodiscard]] constexpr bool empty() const { return first_ > last_; }
    /// Whether all addresses are stale: after table::retire().
    [[nodiscard]] constexpr bool everything() const { return last_ == ~std::uint64_t{0}; }
    /// The stale addresses; empty after everything().
    [[nodiscard]] constexpr range<address> stale() const {
        return empty() || everything() ? range<address>{}
                                       : range<address>{address{first_}, last_ - first_ + 1};
    }
    /// Whether entries that point to tables changed too; see stale_set.
    [[nodiscard]] constexpr bool tables_changed() const { return tables_changed_; }

    /// Owes nothing any more, without an invalidation: for hardware that will never answer. The
    /// retired frames are lost; nothing else may be put there, since hardware may still walk them.
    constexpr void leak() {
        first_ = ~std::uint64_t{0};
        last_ = 0;
        tables_changed_ = false;
        retired_ = {};
    }

    /// Invalidates what is stale and gives the retired frames back. On an error of the invalidator
    /// the ticket owes what it owed before, and may be redeemed again.
    template <invalidator<address> Invalidator>
    [[gnu::always_inline]] constexpr result<void> redeem(Invalidator& hardware) {
        if (empty()) { // inline: the ticket of a single page is never seen in memory
            return {};
        }
        const range<address> part = stale();
        const auto told = everything() ? stale_set<address>::all()
                                       : stale_set<address>{&part, 1, tables_changed_};
        if (const result<void> done = hardware.invalidate(told); !done) {
            return done;
        }
        retired_.release(memory_);
        leak(); // nothing is left
        return {};
    }

private:
    template <entry_format, table_memory, publication, mutex>
    friend class table;
    template <entry_format, table_memory, std::size_t>
    friend class flush_batch;

    explicit constexpr flush_ticket(Memory memory) : memory_{memory} {}

    /// Widens what is stale to `first` .. `last`, both inclusive.
    constexpr void add(std::uint64_t first, std::uint64_t last) {
        first_ = first < first_ ? first : first_;
        last_ = last > last_ ? last : last_;
    }
    constexpr void retire(retired_tree tree) {
        retired_.append(tree, memory_);
        tables_changed_ = true;
    }

    std::uint64_t first_ = ~std::uint64_t{0}; // above last_: nothing
    std::uint64_t last_ = 0;
    bool tables_changed_ = false;
    retired_chain<Format, Memory> retired_{};
    [[no_unique_address]] Memory memory_;
};

/// What many operations owe together, so that they cost one invalidation: up to `Capacity` ranges
/// that do not touch, exactly those of the tickets. Only tickets whose tables share the memory and
/// the hardware's cache (the same EPTP or domain) may meet in a batch. It must be empty when it goes
/// away, as a ticket must.
template <entry_format Format, table_memory Memory, std::size_t Capacity = 8>
class [[nodiscard]] flush_batch {
    static_assert(Capacity > 0);

public:
    using address = typename Format::address;
    using ticket = flush_ticket<Format, Memory>;

    explicit constexpr flush_batch(Memory memory) : memory_{memory} {}
    flush_batch(const flush_batch&) = delete;
    flush_batch& operator=(const flush_batch&) = delete;
    constexpr ~flush_batch() {
        expects(empty(), "a flush batch was dropped before it was redeemed");
    }

    [[nodiscard]] constexpr bool empty() const { return count_ == 0 && !everything_; }
    /// What is stale; valid until the batch changes.
    [[nodiscard]] constexpr stale_set<address> stale() const {
        return everything_ ? stale_set<address>::all()
                           : stale_set<address>{ranges_, count_, tables_changed_};
    }

    /// Takes over what `owed` owes. errc::busy, and both stay as they were, when its range touches
    /// none of the batch's and there is no room for another: redeem the batch first, then add again.
    constexpr result<void> add(ticket& owed) {
        if (owed.empty()) {
            return {};
        }
        if (owed.everything()) {
            everything_ = true;
            count_ = 0;
        } else if (!everything_ && !insert(owed.stale())) {
            return error{errc::busy, owed.first_};
        }
        tables_changed_ = tables_changed_ || owed.tables_changed_;
        retired_.append(owed.retired_, memory_);
        owed.leak(); // this batch owes it now
        return {};
    }

    /// Takes over what `owed` owes in any case: where there is no room for another range, all addresses
    /// count as stale from then on.
    constexpr void absorb(ticket& owed) {
        if (!add(owed)) {
            everything_ = true;
            count_ = 0;
            static_cast<void>(add(owed)); // one more range costs nothing now
        }
    }

    /// For a ticket that nobody holds, such as that of table::retire(), for which there is always room.
    constexpr result<void> add(ticket&& owed) { return add(owed); }

    /// As flush_ticket::leak().
    constexpr void leak() {
        count_ = 0;
        everything_ = false;
        tables_changed_ = false;
        retired_ = {};
    }

    /// As flush_ticket::redeem().
    template <invalidator<address> Invalidator>
    constexpr result<void> redeem(Invalidator& hardware) {
        if (empty()) {
            return {};
        }
        if (const result<void> done = hardware.invalidate(stale()); !done) {
            return done;
        }
        retired_.release(memory_);
        leak(); // nothing is left
        return {};
    }

private:
    /// Ranges that touch are one; one that is swallowed may make the next one touch.
    constexpr bool insert(range<address> stale) {
        std::uint64_t first = stale.first().raw;
        std::uint64_t last = stale.last().raw;
        bool joined = false;
        for (std::size_t i = 0; i < count_;) {
            const std::uint64_t low = ranges_[i].first().raw;
            const std::uint64_t high = ranges_[i].last().raw;
            if (first <= high + 1 && low <= last + 1) {
                first = low < first ? low : first;
                last = high > last ? high : last;
                ranges_[i] = ranges_[--count_];
                joined = true;
                i = 0;
            } else {
                ++i;
            }
        }
        if (!joined && count_ == Capacity) {
            return false;
        }
        ranges_[count_++] = {address{first}, last - first + 1};
        return true;
    }

    range<address> ranges_[Capacity]{};
    std::size_t count_ = 0;
    bool everything_ = false;
    bool tables_changed_ = false;
    retired_chain<Format, Memory> retired_{};
    [[no_unique_address]] Memory memory_;
};

} // namespace pt::paging
