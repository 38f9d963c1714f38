// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// The input addresses whose cached translations no longer agree with the tables: a few ranges, or
/// everything once they do not fit any more.
template <class Address>
class stale_set {
public:
    static constexpr std::size_t capacity = 8;

    [[nodiscard]] constexpr bool empty() const { return count_ == 0 && !everything_; }
    /// Whether all addresses are stale; the ranges say nothing then.
    [[nodiscard]] constexpr bool everything() const { return everything_; }
    /// Whether entries that point to tables changed too, so that caches of upper levels are stale
    /// ("invalidation hint" must be 0 [vt-d]).
    [[nodiscard]] constexpr bool tables_changed() const { return tables_changed_; }

    [[nodiscard]] constexpr const range<Address>* begin() const { return ranges_; }
    [[nodiscard]] constexpr const range<Address>* end() const { return ranges_ + count_; }

    constexpr void add(range<Address> stale) {
        if (stale.empty() || everything_) {
            return;
        }
        // Ranges that touch are one invalidation; each that is swallowed may make the next touch.
        for (std::size_t i = 0; i < count_;) {
            if (touches(ranges_[i], stale)) {
                stale = hull(ranges_[i], stale);
                if (stale.empty()) { // 2^64 bytes have no size
                    add_everything();
                    return;
                }
                ranges_[i] = ranges_[--count_];
                i = 0;
            } else {
                ++i;
            }
        }
        if (count_ == capacity) {
            add_everything();
            return;
        }
        ranges_[count_++] = stale;
    }
    constexpr void add_everything() {
        everything_ = true;
        count_ = 0;
    }
    constexpr void add_tables() { tables_changed_ = true; }
    constexpr void add(const stale_set& other) {
        if (other.everything_) {
            add_everything();
        }
        for (const range<Address>& stale : other) {
            add(stale);
        }
        tables_changed_ = tables_changed_ || other.tables_changed_;
    }

private:
    static constexpr bool touches(range<Address> a, range<Address> b) {
        const range<Address>& low = a.first() <= b.first() ? a : b;
        const range<Address>& high = a.first() <= b.first() ? b : a;
        return high.first() - low.first() <= low.size();
    }
    static constexpr range<Address> hull(range<Address> a, range<Address> b) {
        const Address low = a.first() <= b.first() ? a.first() : b.first();
        const Address high = a.last() >= b.last() ? a.last() : b.last();
        return {low, high - low + 1};
    }

    range<Address> ranges_[capacity]{};
    std::size_t count_ = 0;
    bool everything_ = false;
    bool tables_changed_ = false;
};

/// What removes cached translations: INVEPT, or an IOMMU's IOTLB invalidation. After a success no
/// stale translation is used any more; after an error nothing is known, and frames stay retired.
template <class I, class Address>
concept invalidator = requires(I& hardware, const stale_set<Address>& stale) {
    { hardware.invalidate(stale) } -> std::same_as<result<void>>;
};

} // namespace pt::paging
