// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/stale_set.hpp"

#include "walker.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace paging_model {

/// The invalidator of hardware that caches nothing.
struct nobody {
    template <class Stale>
    pt::result<void> invalidate(const Stale&) {
        return {};
    }
};

/// A cache of translations, and of pointers to tables, that keeps whatever it may. A translation goes
/// only when an invalidation covers the whole page that it was made from, as VT-d asks of software
/// for large pages ([vt-d], address mask of the invalidate address register). A pointer to a table
/// goes when it leads to an address in the range, and not with the invalidation hint, which says that
/// no tables changed. It is an invalidator for the engine.
template <class Address>
class cache {
public:
    struct entry {
        std::uint64_t page; ///< where the cached page begins
        std::uint64_t size;
        outcome translation; ///< of the first byte
    };
    struct pointer {
        std::uint64_t first; ///< of the addresses that go through the table
        std::uint64_t size;
        std::uint64_t table;
    };

    explicit cache(std::size_t capacity) : capacity_{capacity} {}

    void insert(std::uint64_t input, outcome found) {
        const std::uint64_t size = found.what == outcome::kind::translated ? found.page : 4096;
        const std::uint64_t page = input & ~(size - 1);
        if (found.what == outcome::kind::translated) {
            found.output -= input - page;
        }
        put(entries_, next_, {page, size, found});
    }
    /// What a walk that used these entries saw of tables.
    void insert(std::uint64_t input, const path& used, unsigned levels) {
        for (unsigned i = 0; i + 1 < used.count; ++i) {
            const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (levels - i - 1));
            put(pointers_, next_pointer_,
                {input & ~(size - 1), size, used.entry[i] & 0x000F'FFFF'FFFF'F000});
        }
    }
    [[nodiscard]] const std::vector<entry>& entries() const { return entries_; }
    [[nodiscard]] const std::vector<pointer>& pointers() const { return pointers_; }
    /// A cached translation for `input`; any of them, if there are several.
    [[nodiscard]] const entry* find(std::uint64_t input) const {
        for (const entry& cached : entries_) {
            if (input - cached.page < cached.size) {
                return &cached;
            }
        }
        return nullptr;
    }

    pt::result<void> invalidate(const pt::paging::stale_set<Address>& stale) {
        if (failures != 0) {
            --failures;
            return pt::error{pt::errc::time_out};
        }
        ++invalidations;
        if (stale.everything()) {
            entries_.clear();
            pointers_.clear();
            return {};
        }
        for (const pt::range<Address>& part : stale) {
            const std::uint64_t first = part.first().raw;
            const std::uint64_t last = part.last().raw;
            std::erase_if(entries_, [=](const entry& cached) {
                return first <= cached.page && cached.page + (cached.size - 1) <= last;
            });
            std::erase_if(pointers_, [=, changed = stale.tables_changed()](const pointer& cached) {
                return changed && first <= cached.first + (cached.size - 1) && cached.first <= last;
            });
        }
        return {};
    }

    unsigned failures = 0; ///< how many of the next invalidations fail
    unsigned invalidations = 0;

private:
    template <class T>
    void put(std::vector<T>& all, std::size_t& next, const T& one) {
        if (all.size() < capacity_) {
            all.push_back(one);
        } else {
            all[next++ % capacity_] = one;
        }
    }

    std::size_t capacity_;
    std::size_t next_ = 0;
    std::size_t next_pointer_ = 0;
    std::vector<entry> entries_;
    std::vector<pointer> pointers_;
};

} // namespace paging_model
