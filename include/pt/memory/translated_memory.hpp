// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/memory/direct_map.hpp"

#include <cstddef>
#include <cstdint>

namespace pt {

/// A bus_memory for whoever plays a device: a dma_translation says where each byte lies, and a
/// frame_map how the VMM reaches it.
///
///     pt::translated_memory guest{pt::paging::table_translation{ept}, pt::offset_map{direct_map}};
///
/// The map is asked for any frame that the translation gives, and for nothing else.
template <dma_translation Translation, frame_map Map>
class translated_memory {
public:
    constexpr translated_memory(Translation translation, Map map)
        : translation_{translation}, map_{map} {}

    /// The error of the translation, with the first address that it refuses. out_of_range (0) where
    /// the bytes would go on behind the last address; nothing is copied then.
    [[nodiscard]] result<> read(iova at, std::uint8_t* to, std::size_t count) {
        return each_part(at, count, dma_access::read, [&to](std::uint8_t* place, std::size_t size) {
            __builtin_memcpy(to, place, size);
            // The guest may write there at any time. The compiler must not read again what it has
            // read: what was checked is what is used.
            asm volatile("" : : : "memory");
            to += size;
        });
    }
    /// As read().
    [[nodiscard]] result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        return each_part(at, count, dma_access::write,
                         [&from](std::uint8_t* place, std::size_t size) {
                             __builtin_memcpy(place, from, size);
                             from += size;
                         });
    }

private:
    template <class Copy>
    [[gnu::always_inline]] result<> each_part(iova at, std::size_t count, dma_access how,
                                              Copy copy) {
        if (count != 0 && at.raw > ~std::uint64_t{0} - (count - 1)) {
            return error{errc::out_of_range, 0};
        }
        while (count != 0) {
            const result<dma_piece> piece = translation_.translate(at, count, how);
            if (!piece) {
                return error{piece.error().code, at.raw};
            }
            expects(piece->size != 0 && piece->size <= count,
                    "a translation gives at least one byte, and no more than were asked for");
            // Frame by frame, because pointers to neighbouring frames need not be neighbours.
            auto left = static_cast<std::size_t>(piece->size);
            for (hpa place = piece->address; left != 0;) {
                const auto offset = static_cast<std::size_t>(place.offset_in(4 * KiB));
                const std::size_t size = left < 4 * KiB - offset ? left : 4 * KiB - offset;
                copy(reinterpret_cast<std::uint8_t*>(map_.pointer(place.align_down(4 * KiB))) +
                         offset,
                     size);
                place += size;
                at += size;
                left -= size;
                count -= size;
            }
        }
        return {};
    }

    [[no_unique_address]] Translation translation_;
    [[no_unique_address]] Map map_;
};

} // namespace pt
