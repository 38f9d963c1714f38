// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/memory_reach.hpp"
#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::assign {

/// What a guest has at some of its addresses or ports.
enum class space_use : std::uint8_t {
    memory,     ///< host memory
    local_apic, ///< the page of the guest's local APIC
    device,     ///< a device that the VMM plays
    bar,        ///< a BAR of an assigned function
    owed, ///< nothing any more; but until the hardware has been made to forget it, it is taken
};

/// A part of a guest's space that is taken.
template <class Address>
struct claim {
    /// `function` of what is no function's.
    static constexpr std::uint16_t no_function = 0xFFFF;

    range<Address> place{};
    space_use use = space_use::device;
    /// Of a BAR, and of what is owed for one: which of the guest's functions, by its number there,
    std::uint16_t function = no_function;
    std::uint8_t bar = 0; ///< and the index of its (first) register
    hpa host{};           ///< of memory, and of a BAR for memory: where the first byte lies
    memory_reach reach = memory_reach::processors_and_devices; ///< of memory

    friend constexpr bool operator==(const claim&, const claim&) = default;
};

/// Who has what of a guest's space: claims that do not overlap, in ascending order, in slots of the
/// VMM. (assign::claims<gpa> of its memory, assign::claims<io_port> of its ports.)
///
/// Slots can be kept back for the BARs of functions, so that a guest which moves one later always
/// finds one, whatever else the VMM has put here meanwhile.
template <class Address>
class claims {
public:
    /// `slots` are the VMM's, and outlive this.
    constexpr claims(claim<Address>* slots, std::size_t count) : slots_{slots}, capacity_{count} {}
    template <std::size_t Count>
    explicit constexpr claims(claim<Address> (&slots)[Count]) : claims{slots, Count} {}
    claims(const claims&) = delete; // the slots have one owner
    claims& operator=(const claims&) = delete;

    [[nodiscard]] constexpr const claim<Address>* begin() const { return slots_; }
    [[nodiscard]] constexpr const claim<Address>* end() const { return slots_ + size_; }
    [[nodiscard]] constexpr std::size_t size() const { return size_; }
    [[nodiscard]] constexpr std::size_t capacity() const { return capacity_; }

    /// The claim in which the address lies; null if it is free.
    [[nodiscard]] constexpr const claim<Address>* find(Address at) const {
        const std::size_t i = first_not_below(at);
        return i < size_ && slots_[i].place.contains(at) ? &slots_[i] : nullptr;
    }

    /// The first claim that has a part of the range; null if all of it is free.
    [[nodiscard]] constexpr const claim<Address>* find_in(range<Address> place) const {
        if (place.empty()) {
            return nullptr;
        }
        const std::size_t i = first_not_below(place.first());
        return i < size_ && slots_[i].place.overlaps(place) ? &slots_[i] : nullptr;
    }

    /// Takes a part of the space. errc::refused with the first address that is taken already;
    /// errc::busy with the first address: no slot is free; errc::out_of_range with it: an empty
    /// range.
    constexpr result<void> add(const claim<Address>& wanted) {
        if (wanted.place.empty()) {
            return error{errc::out_of_range, wanted.place.first().raw};
        }
        if (const claim<Address>* const other = find_in(wanted.place); other != nullptr) {
            return error{errc::refused, other->place.intersection(wanted.place).first().raw};
        }
        if (!has_room(wanted.function)) {
            return error{errc::busy, wanted.place.first().raw};
        }
        const std::size_t at = first_not_below(wanted.place.first());
        for (std::size_t i = size_; i > at; --i) {
            slots_[i] = slots_[i - 1];
        }
        slots_[at] = wanted;
        ++size_;
        return {};
    }

    /// The claim of exactly that range is no more. errc::absent with its first address if there is
    /// none.
    constexpr result<void> remove(range<Address> place) {
        claim<Address>* const found = exactly(place);
        if (found == nullptr) {
            return error{errc::absent, place.first().raw};
        }
        --size_;
        for (auto i = static_cast<std::size_t>(found - slots_); i < size_; ++i) {
            slots_[i] = slots_[i + 1];
        }
        return {};
    }

    /// From now on the claim of exactly that range is space_use::owed. errc::absent with its first
    /// address if there is none.
    constexpr result<void> owe(range<Address> place) {
        claim<Address>* const found = exactly(place);
        if (found == nullptr) {
            return error{errc::absent, place.first().raw};
        }
        found->use = space_use::owed;
        return {};
    }

    /// Devices reach the memory of exactly that range from now on, or not. errc::absent with its
    /// first address if there is none.
    constexpr result<void> set_reach(range<Address> place, memory_reach reach) {
        claim<Address>* const found = exactly(place);
        if (found == nullptr) {
            return error{errc::absent, place.first().raw};
        }
        found->reach = reach;
        return {};
    }

    /// What was owed is paid: those claims are no more. Whether there were any.
    constexpr bool remove_owed() {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < size_; ++i) {
            if (slots_[i].use != space_use::owed) {
                slots_[kept++] = slots_[i];
            }
        }
        const bool any = kept != size_;
        size_ = kept;
        return any;
    }

    /// Keeps `count` more slots for claims of functions. errc::busy with the count when there are
    /// not so many.
    constexpr result<void> keep_back(std::size_t count) {
        if (count > capacity_ - kept_back_ || others() > capacity_ - kept_back_ - count) {
            return error{errc::busy, count};
        }
        kept_back_ += count;
        return {};
    }
    /// Gives back what keep_back() has kept.
    constexpr void give_back(std::size_t count) {
        expects(count <= kept_back_, "claims::give_back: so many slots were not kept back");
        kept_back_ -= count;
    }

private:
    /// The first claim that ends at `at` or above.
    [[nodiscard]] constexpr std::size_t first_not_below(Address at) const {
        std::size_t low = 0;
        std::size_t high = size_;
        while (low < high) {
            const std::size_t middle = low + (high - low) / 2;
            if (slots_[middle].place.last() < at) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        return low;
    }
    [[nodiscard]] constexpr claim<Address>* exactly(range<Address> place) const {
        if (place.empty()) {
            return nullptr;
        }
        const std::size_t i = first_not_below(place.first());
        return i < size_ && slots_[i].place == place ? &slots_[i] : nullptr;
    }
    /// Claims that are no function's.
    [[nodiscard]] constexpr std::size_t others() const {
        std::size_t count = 0;
        for (const claim<Address>& each : *this) {
            count += each.function == claim<Address>::no_function ? 1U : 0U;
        }
        return count;
    }
    [[nodiscard]] constexpr bool has_room(std::uint16_t function) const {
        return size_ < capacity_ &&
               (function != claim<Address>::no_function || others() < capacity_ - kept_back_);
    }

    claim<Address>* slots_;
    std::size_t capacity_;
    std::size_t size_ = 0;
    std::size_t kept_back_ = 0;
};

} // namespace pt::assign
