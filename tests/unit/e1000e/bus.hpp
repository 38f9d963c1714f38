// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

/// Memory as driver and device share it: a ring of descriptors, and buffers. Each lies in an
/// allocation of its own, far from its address on the bus, so that an access beside it is found.
namespace shared_bus {

/// A ring, which the driver stores to in quadwords, and of which the device reads descriptors and
/// writes what it has to.
class ring {
public:
    ring(std::uint32_t descriptors, std::uint64_t base) : words_(2 * descriptors), base_{base} {}

    [[nodiscard]] pt::iova base() const { return pt::iova{base_}; }
    [[nodiscard]] std::uint64_t size() const { return words_.size() * 8; }
    [[nodiscard]] bool contains(std::uint64_t at, std::size_t count) const {
        return at >= base_ && at - base_ <= size() && count <= size() - (at - base_);
    }

    std::uint64_t load(std::uint32_t offset) const {
        return __atomic_load_n(&words_.at(offset / 8), __ATOMIC_ACQUIRE);
    }
    void store(std::uint32_t offset, std::uint64_t value) {
        __atomic_store_n(&words_.at(offset / 8), value, __ATOMIC_RELEASE);
    }
    /// Any bytes, as the device reads and writes them.
    void read(std::uint64_t at, std::uint8_t* to, std::size_t count) const {
        for (std::uint64_t offset = at - base_; count != 0;) {
            const std::uint64_t word = load(static_cast<std::uint32_t>(offset));
            const std::size_t skipped = offset % 8;
            const std::size_t here = count < 8 - skipped ? count : 8 - skipped;
            std::uint8_t bytes[8];
            std::memcpy(bytes, &word, 8);
            std::memcpy(to, bytes + skipped, here);
            to += here;
            offset += here;
            count -= here;
        }
    }
    void write(std::uint64_t at, const std::uint8_t* from, std::size_t count) {
        for (std::uint64_t offset = at - base_; count != 0;) {
            const std::size_t skipped = offset % 8;
            const std::size_t here = count < 8 - skipped ? count : 8 - skipped;
            std::uint64_t& word = words_.at(offset / 8);
            std::uint64_t before = __atomic_load_n(&word, __ATOMIC_RELAXED);
            std::uint64_t after = 0;
            do { // a quadword is what the thread sanitizer follows
                std::uint8_t bytes[8];
                std::memcpy(bytes, &before, 8);
                std::memcpy(bytes + skipped, from, here);
                std::memcpy(&after, bytes, 8);
            } while (!__atomic_compare_exchange_n(&word, &before, after, true, __ATOMIC_RELEASE,
                                                  __ATOMIC_RELAXED));
            from += here;
            offset += here;
            count -= here;
        }
    }

private:
    std::vector<std::uint64_t> words_;
    std::uint64_t base_;
};

/// The driver's view of it.
struct ring_memory {
    ring* of;
    std::uint64_t read64(std::uint32_t offset) const { return of->load(offset); }
    void write64(std::uint32_t offset, std::uint64_t value) const { of->store(offset, value); }
};

/// Buffers that are handed out and come back in order. What came back is overwritten.
class buffers {
public:
    buffers(std::size_t size, std::uint64_t base) : bytes_(size, stale), base_{base} {}

    static constexpr std::uint8_t stale = 0xDB;

    [[nodiscard]] std::uint64_t base() const { return base_; }
    [[nodiscard]] bool contains(std::uint64_t at, std::size_t count) const {
        return at >= base_ && at - base_ <= bytes_.size() && count <= bytes_.size() - (at - base_);
    }
    [[nodiscard]] std::uint8_t* at(std::uint64_t address) {
        return bytes_.data() + (address - base_);
    }

    /// `size` bytes that lie together, or 0: none are free. release(mark()) gives them back, and
    /// all that were taken before.
    [[nodiscard]] std::uint64_t take(std::size_t size) {
        const std::size_t place = last_ % bytes_.size();
        const std::size_t skipped = place + size > bytes_.size() ? bytes_.size() - place : 0;
        if (last_ + skipped + size - first_ > bytes_.size()) {
            return 0;
        }
        last_ += skipped + size;
        return base_ + (last_ - size) % bytes_.size();
    }
    [[nodiscard]] std::uint64_t mark() const { return last_; }
    void release(std::uint64_t mark) {
        while (first_ < mark) {
            const std::size_t place = first_ % bytes_.size();
            const std::size_t left = bytes_.size() - place;
            const std::size_t here = mark - first_ < left ? mark - first_ : left;
            std::memset(bytes_.data() + place, stale, here);
            first_ += here;
        }
    }
    /// Takes back what was taken since mark() had this value.
    void undo(std::uint64_t mark) { last_ = mark; }

private:
    std::vector<std::uint8_t> bytes_;
    std::uint64_t base_;
    std::uint64_t first_ = 0; ///< all that was ever taken: from here on it is still out
    std::uint64_t last_ = 0;
};

/// The accesses to the ring are ordered by themselves; so must be those to the registers.
struct order {
    void release() const {}
    void acquire() const {}
};

} // namespace shared_bus
