// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::paging {

/// One bit for each 4-KiB page of a range of addresses, the lowest first: bit i is bit i % 64 of
/// words[i / 64]. The memory is the caller's.
struct page_bitmap {
    std::uint64_t* words;
    std::uint64_t pages; ///< how many bits there are

    /// Sets `count` bits from bit `first` on; they must exist.
    constexpr void set(std::uint64_t first, std::uint64_t count) {
        while (count != 0) {
            const unsigned bit = first % 64;
            const std::uint64_t here = count < 64 - bit ? count : 64 - bit;
            words[first / 64] |= ~std::uint64_t{0} >> (64 - here) << bit;
            first += here;
            count -= here;
        }
    }
    [[nodiscard]] constexpr bool test(std::uint64_t page) const {
        return (words[page / 64] >> (page % 64) & 1) != 0;
    }
};

} // namespace pt::paging
