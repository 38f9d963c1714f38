// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// The input addresses whose cached translations no longer agree with the tables, as a flush ticket
/// or a batch of them tells an invalidator: ranges of whole pages, or everything.
template <class Address>
class stale_set {
public:
    constexpr stale_set() = default;
    /// `count` ranges that begin at `first`, and that outlive this view. `tables_changed`: see below.
    constexpr stale_set(const range<Address>* first, std::size_t count, bool tables_changed)
        : first_{first}, count_{count}, tables_changed_{tables_changed} {}
    /// All addresses, and all tables.
    static constexpr stale_set all() {
        stale_set made;
        made.everything_ = true;
        made.tables_changed_ = true;
        return made;
    }

    [[nodiscard]] constexpr bool empty() const { return count_ == 0 && !everything_; }
    /// Whether all addresses are stale; there are no ranges then.
    [[nodiscard]] constexpr bool everything() const { return everything_; }
    /// Whether entries that point to tables changed too, so that caches of upper levels are stale
    /// ("invalidation hint" must be 0 [vt-d]).
    [[nodiscard]] constexpr bool tables_changed() const { return tables_changed_; }

    [[nodiscard]] constexpr const range<Address>* begin() const { return first_; }
    [[nodiscard]] constexpr const range<Address>* end() const { return first_ + count_; }

private:
    const range<Address>* first_ = nullptr;
    std::size_t count_ = 0;
    bool everything_ = false;
    bool tables_changed_ = false;
};

/// What removes cached translations: INVEPT, or an IOMMU's IOTLB invalidation. After a success no
/// stale translation is used any more, nor does anybody still walk a table that was taken out; after
/// an error nothing is known, and frames stay retired.
template <class I, class Address>
concept invalidator = requires(I& hardware, const stale_set<Address>& stale) {
    { hardware.invalidate(stale) } -> std::same_as<result<void>>;
};

} // namespace pt::paging
