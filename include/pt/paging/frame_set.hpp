// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::paging {

/// What became of a frame that was to be put into a set.
enum class insertion : std::uint8_t {
    inserted, ///< it was not there before
    present,  ///< it was there already
    outside,  ///< the set does not take this frame, now or ever
};

/// A set of 4-KiB frames. insert(frame) puts one in, whatever number it is given; overlaps(bytes)
/// tells whether any byte of a range lies in a frame of the set.
template <class S>
concept frame_set = policy<S> && requires(S& set, hpa frame, range<hpa> bytes) {
    { set.insert(frame) } -> std::same_as<insertion>;
    { set.overlaps(bytes) } -> std::same_as<bool>;
};

/// A set over one bit for each frame that lies wholly in a range; other frames are outside. The
/// words are the caller's: zero for an empty set, and 1/32768 of the range in size. Copies are
/// handles to the same set.
class frame_bitmap {
public:
    /// How many words the set over `frames` needs.
    [[nodiscard]] static constexpr std::uint64_t words_for(range<hpa> frames) {
        return (frames_in(frames) + 63) / 64;
    }

    /// `count` words at `words`; more than words_for(frames) do no harm.
    constexpr frame_bitmap(range<hpa> frames, std::uint64_t* words, std::uint64_t count)
        : first_{frames.first() + ragged(frames)}, frames_{frames_in(frames)}, words_{words} {
        expects(count >= words_for(frames), "the words do not suffice for a bit of each frame");
    }
    template <std::size_t Count>
    constexpr frame_bitmap(range<hpa> frames, std::uint64_t (&words)[Count])
        : frame_bitmap{frames, words, Count} {}

    constexpr insertion insert(hpa frame) {
        const std::uint64_t offset = frame - first_;
        if (frame < first_ || !frame.is_aligned(4 * KiB) || offset / (4 * KiB) >= frames_) {
            return insertion::outside;
        }
        const std::uint64_t bit = offset / (4 * KiB);
        std::uint64_t& word = words_[static_cast<std::size_t>(bit / 64)];
        const std::uint64_t mask = std::uint64_t{1} << bit % 64;
        if ((word & mask) != 0) {
            return insertion::present;
        }
        word |= mask;
        return insertion::inserted;
    }

    /// Reads at most one word for each 256 KiB of `bytes`.
    [[nodiscard]] constexpr bool overlaps(range<hpa> bytes) const {
        const range<hpa> part = bytes.intersection({first_, frames_ * 4 * KiB});
        if (part.empty()) {
            return false;
        }
        const std::uint64_t low = (part.first() - first_) / (4 * KiB);
        const std::uint64_t high = (part.last() - first_) / (4 * KiB);
        for (std::uint64_t i = low / 64; i <= high / 64; ++i) {
            std::uint64_t word = words_[static_cast<std::size_t>(i)];
            word &= i == low / 64 ? ~std::uint64_t{0} << low % 64 : ~std::uint64_t{0};
            word &= i == high / 64 ? ~std::uint64_t{0} >> (63 - high % 64) : ~std::uint64_t{0};
            if (word != 0) {
                return true;
            }
        }
        return false;
    }

private:
    /// Bytes before the first frame that begins in the range.
    static constexpr std::uint64_t ragged(range<hpa> frames) {
        const std::uint64_t before = (4 * KiB - frames.first().offset_in(4 * KiB)) % (4 * KiB);
        return before < frames.size() ? before : 0;
    }
    static constexpr std::uint64_t frames_in(range<hpa> frames) {
        const std::uint64_t before = (4 * KiB - frames.first().offset_in(4 * KiB)) % (4 * KiB);
        return before < frames.size() ? (frames.size() - before) / (4 * KiB) : 0;
    }

    hpa first_;
    std::uint64_t frames_;
    std::uint64_t* words_;
};
static_assert(frame_set<frame_bitmap>);

} // namespace pt::paging
