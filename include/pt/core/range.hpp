// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"

#include <cstdint>

namespace pt {

/// `size` bytes (or ports) from `first` on, all of them inside the address space: the last one is
/// first + size - 1 and never wraps. The size may reach the end of the space, where a one-past-the-
/// end address does not exist; that is why the second member is a size and not an end.
template <class Address>
class range {
public:
    constexpr range() = default;

    /// The caller vouches that the range does not wrap; use checked() for numbers from outside.
    constexpr range(Address first, std::uint64_t size) : first_{first}, size_{size} {
        expects(fits(first, size), "a range must not wrap past the end of its address space");
    }

    /// errc::out_of_range with `first` when the range would wrap.
    static constexpr result<range> checked(Address first, std::uint64_t size) {
        if (!fits(first, size)) {
            return error{errc::out_of_range, first.raw};
        }
        return range{first, size};
    }

    [[nodiscard]] constexpr Address first() const { return first_; }
    [[nodiscard]] constexpr std::uint64_t size() const { return size_; }
    [[nodiscard]] constexpr bool empty() const { return size_ == 0; }
    /// The last address inside. The range must not be empty.
    [[nodiscard]] constexpr Address last() const {
        expects(!empty(), "an empty range has no last address");
        return first_ + (size_ - 1);
    }

    [[nodiscard]] constexpr bool contains(Address point) const {
        return point >= first_ && point - first_ < size_;
    }
    /// Whether every address of `other` is inside; an empty range is inside any other.
    [[nodiscard]] constexpr bool contains(range other) const {
        return other.empty() || (contains(other.first()) && contains(other.last()));
    }
    [[nodiscard]] constexpr bool overlaps(range other) const {
        return !intersection(other).empty();
    }
    [[nodiscard]] constexpr range intersection(range other) const {
        if (empty() || other.empty()) {
            return {};
        }
        const Address low = first_ > other.first_ ? first_ : other.first_;
        const Address high = last() < other.last() ? last() : other.last();
        return low > high ? range{} : range{low, high - low + 1};
    }

    friend constexpr bool operator==(const range&, const range&) = default;

private:
    static constexpr bool fits(Address first, std::uint64_t size) {
        constexpr std::uint64_t top =
            static_cast<typename Address::word>(~typename Address::word{0});
        return size == 0 || size - 1 <= top - first.raw;
    }

    Address first_{};
    std::uint64_t size_ = 0;
};

} // namespace pt
