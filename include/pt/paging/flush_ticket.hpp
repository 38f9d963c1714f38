// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/stale_set.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
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
            entries[i] = (entries[i] & ~mask) | (piece << shift);
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

template <entry_format Format, table_memory Memory, publication Publication, mutex Mutex>
class table;

/// What operations on tables still owe to the hardware: the input addresses whose cached
/// translations are stale, and the table frames that hardware may still be walking. The frames
/// go back to the memory when the ticket is redeemed with an invalidator, and in no other way.
/// A ticket that owes something must be redeemed or merged into another before it goes away.
template <entry_format Format, table_memory Memory>
class [[nodiscard]] flush_ticket {
public:
    using address = typename Format::address;

    constexpr flush_ticket(flush_ticket&& other) noexcept
        : stale_{std::exchange(other.stale_, {})},
          first_{std::exchange(other.first_, {})},
          last_{std::exchange(other.last_, {})},
          memory_{other.memory_} {}
    flush_ticket& operator=(flush_ticket&&) = delete; // merge() says what happens to both
    constexpr ~flush_ticket() {
        expects(empty(), "a flush ticket was dropped before it was redeemed");
    }

    /// Whether nothing is owed; redeeming is then free.
    [[nodiscard]] constexpr bool empty() const { return stale_.empty() && first_.level == 0; }
    [[nodiscard]] constexpr const stale_set<address>& stale() const { return stale_; }

    /// Takes over what `other` owes, so that both cost one invalidation. Only tickets whose tables
    /// share the memory and the hardware's cache (the same EPTP or domain) may be merged.
    constexpr void merge(flush_ticket&& other) {
        expects(this != &other, "a flush ticket cannot be merged into itself");
        stale_.add(std::exchange(other.stale_, {}));
        if (other.first_.level != 0) {
            append(other.first_, other.last_);
            other.first_ = {};
            other.last_ = {};
        }
    }

    /// Owes nothing any more, without an invalidation: for hardware that will never answer. The
    /// retired frames are lost; nothing else may be put there, since hardware may still walk them.
    constexpr void leak() {
        stale_ = {};
        first_ = {};
        last_ = {};
    }

    /// Invalidates what is stale and gives the retired frames back. On an error of the invalidator
    /// the ticket owes what it owed before, and may be redeemed again.
    template <invalidator<address> Invalidator>
    constexpr result<void> redeem(Invalidator& hardware) {
        if (empty()) {
            return {};
        }
        if (const result<void> done = hardware.invalidate(stale_); !done) {
            return done;
        }
        while (first_.level != 0) {
            const retired_tree next = first_ == last_
                                          ? retired_tree{}
                                          : retired_link::read(memory_.entries(first_.frame));
            release(first_);
            first_ = next;
        }
        last_ = {};
        stale_ = {};
        return {};
    }

private:
    template <entry_format, table_memory, publication, mutex>
    friend class table;

    explicit constexpr flush_ticket(Memory memory) : memory_{memory} {}

    constexpr void append(retired_tree first, retired_tree last) {
        if (first_.level == 0) {
            first_ = first;
        } else {
            retired_link::write(memory_.entries(last_.frame), first);
        }
        last_ = last;
    }

    constexpr void release(retired_tree tree) {
        if (tree.level > 1) {
            const std::uint64_t* const entries = memory_.entries(tree.frame);
            for (std::size_t i = 0; i < entries_per_table; ++i) {
                if (is_present<Format>(entries[i]) && !is_leaf<Format>(entries[i], tree.level)) {
                    release({frame_of<Format>(entries[i], tree.level), tree.level - 1});
                }
            }
        }
        memory_.release(tree.frame);
    }

    stale_set<address> stale_{};
    retired_tree first_{};
    retired_tree last_{};
    [[no_unique_address]] Memory memory_;
};

} // namespace pt::paging
