// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/registers.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// How many domain ids the unit has: 0 up to this, exclusive.
[[nodiscard]] constexpr std::uint32_t domain_id_count(capability cap) {
    const unsigned nd = cap[capability::number_of_domains];
    return std::uint32_t{1} << (4 + 2 * (nd < 6 ? nd : 6)); // ND 7 is reserved
}

/// The domain ids that all units of a machine have in common, up to `Capacity`: each is given out
/// once. With caching mode on one of the units 0 is never given out, since what is absent is cached
/// under it [vt-d, "Caching Mode"].
template <std::size_t Capacity = 256>
class domain_id_set {
    static_assert(Capacity > 0 && Capacity <= 65536);

public:
    /// Leaves out what a unit with these capabilities does not have. Before the first allocate().
    constexpr void restrict_to(capability cap) {
        const std::uint32_t has = domain_id_count(cap);
        end_ = has < end_ ? has : end_;
        if (cap[capability::caching_mode]) {
            words_[0] |= 1;
        }
    }

    /// The lowest id that is free; errc::busy with their number when none is.
    constexpr result<std::uint16_t> allocate() {
        for (std::uint32_t id = 0; id < end_; ++id) {
            std::uint64_t& word = words_[id / 64];
            if (word == ~std::uint64_t{0}) {
                id |= 63;
                continue;
            }
            const std::uint64_t bit = std::uint64_t{1} << (id % 64);
            if ((word & bit) == 0) {
                word |= bit;
                ++given_;
                return static_cast<std::uint16_t>(id);
            }
        }
        return error{errc::busy, end_};
    }
    /// Of an id that was given out, when no unit has anything cached under it.
    constexpr void release(std::uint16_t id) {
        expects(id < end_ && (words_[id / 64] >> (id % 64) & 1) != 0,
                "a domain id was released that was not given out");
        words_[id / 64] &= ~(std::uint64_t{1} << (id % 64));
        --given_;
    }
    /// Whether one is given out.
    [[nodiscard]] constexpr bool any_given() const { return given_ != 0; }

private:
    std::uint64_t words_[(Capacity + 63) / 64]{};
    std::uint32_t end_ = Capacity;
    std::uint32_t given_ = 0;
};

} // namespace pt::vtd
