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

/// A cache of translations that keeps whatever it may: an entry goes only when an invalidation
/// covers the whole page that it was made from, as VT-d asks of software for large pages ([vt-d],
/// address mask of the invalidate address register). It is an invalidator for the engine.
template <class Address>
class cache {
public:
    struct entry {
        std::uint64_t page; ///< where the cached page begins
        std::uint64_t size;
        outcome translation; ///< of the first byte
    };

    explicit cache(std::size_t capacity) : capacity_{capacity} {}

    void insert(std::uint64_t input, outcome found) {
        const std::uint64_t size = found.what == outcome::kind::translated ? found.page : 4096;
        const std::uint64_t page = input & ~(size - 1);
        if (found.what == outcome::kind::translated) {
            found.output -= input - page;
        }
        if (entries_.size() < capacity_) {
            entries_.push_back({page, size, found});
        } else {
            entries_[next_++ % capacity_] = {page, size, found};
        }
    }
    [[nodiscard]] const std::vector<entry>& entries() const { return entries_; }

    pt::result<void> invalidate(const pt::paging::stale_set<Address>& stale) {
        if (failures != 0) {
            --failures;
            return pt::error{pt::errc::time_out};
        }
        ++invalidations;
        const auto gone = [&stale](const entry& cached) {
            if (stale.everything()) {
                return true;
            }
            for (const pt::range<Address>& part : stale) {
                if (part.first().raw <= cached.page &&
                    cached.page + (cached.size - 1) <= part.last().raw) {
                    return true;
                }
            }
            return false;
        };
        std::erase_if(entries_, gone);
        return {};
    }

    unsigned failures = 0; ///< how many of the next invalidations fail
    unsigned invalidations = 0;

private:
    std::size_t capacity_;
    std::size_t next_ = 0;
    std::vector<entry> entries_;
};

} // namespace paging_model
