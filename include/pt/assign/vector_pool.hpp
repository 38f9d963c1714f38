// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/vector_source.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/vector_set.hpp"

#include <bit>
#include <cstdint>

namespace pt::assign {

template <mutex Mutex = no_mutex>
class vector_pool;

/// The vectors first..last of a processor, set aside for devices of guests: which of them are taken.
/// Vectors 0..31 are the processor's own [sdm].
class host_vectors {
public:
    constexpr host_vectors(std::uint8_t first, std::uint8_t last) : first_{first}, last_{last} {
        expects(first >= 32 && first <= last, "vectors for devices lie in 32..255, in order");
    }
    host_vectors(const host_vectors&) = delete; // pools hold its address
    host_vectors& operator=(const host_vectors&) = delete;

    [[nodiscard]] constexpr bool is_taken(std::uint8_t vector) const {
        return taken_.contains(vector);
    }

private:
    template <mutex>
    friend class vector_pool;

    std::uint8_t first_;
    std::uint8_t last_;
    lapic::vector_set taken_{};
};

/// A vector_source over host_vectors, which outlive it: a handle, and any number of them share what
/// they stand on. The mutex is for those that several processors use.
template <mutex Mutex>
class vector_pool {
public:
    /// Of the processor with that local APIC id.
    constexpr vector_pool(host_vectors& vectors, std::uint32_t destination, Mutex guard = {})
        : vectors_{&vectors}, destination_{destination}, guard_{guard} {}

    /// As vector_source says; errc::out_of_range also with a count of 0.
    [[nodiscard]] constexpr result<host_vector_block> allocate(std::uint16_t count) {
        const scoped_lock held{guard_};
        const unsigned end = vectors_->last_ + 1U;
        if (count == 0 || count > end) {
            return error{errc::out_of_range, count};
        }
        const unsigned step = std::bit_ceil(static_cast<unsigned>(count));
        unsigned first = (vectors_->first_ + step - 1) & ~(step - 1);
        if (first + count > end) {
            return error{errc::out_of_range, count};
        }
        for (; first + count <= end; first += step) {
            const host_vector_block block{static_cast<std::uint8_t>(first), count};
            if (is_free(block)) {
                for (unsigned i = 0; i < count; ++i) {
                    vectors_->taken_.insert(block[i]);
                }
                return block;
            }
        }
        return error{errc::busy, count};
    }
    /// The block must be one that was allocated, of all the pools over these vectors.
    constexpr void release(const host_vector_block& block) {
        const scoped_lock held{guard_};
        for (unsigned i = 0; i < block.count; ++i) {
            expects(vectors_->taken_.contains(block[i]), "a vector is released that is not taken");
            vectors_->taken_.erase(block[i]);
        }
    }
    [[nodiscard]] constexpr std::uint32_t destination() const { return destination_; }

private:
    [[nodiscard]] constexpr bool is_free(const host_vector_block& block) const {
        for (unsigned i = 0; i < block.count; ++i) {
            if (vectors_->taken_.contains(block[i])) {
                return false;
            }
        }
        return true;
    }

    host_vectors* vectors_;
    std::uint32_t destination_;
    [[no_unique_address]] Mutex guard_;
};
static_assert(vector_source<vector_pool<>>);

vector_pool(host_vectors&, std::uint32_t)->vector_pool<no_mutex>;

} // namespace pt::assign
