// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/function_config.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::pci {

template <std::size_t Capacity>
class config_routes;

/// The functions that a guest has, as one config_access: each access goes to the function that a
/// config_routes binds to that address. A function without a route reads all ones, and writes to it
/// vanish. What a guest asks for arrives at that one object and nowhere else, in one call of the
/// same size.
///
/// A handle: the table must outlive it.
class config_router {
public:
    template <std::size_t Capacity>
    explicit constexpr config_router(config_routes<Capacity>& routes)
        : slots_{routes.slots_}, shift_{routes.shift} {}

    [[nodiscard]] constexpr std::uint32_t read(function_address guest, std::uint16_t offset,
                                               width size) const {
        const slot& route = slots_[find(slots_, shift_, key_of(guest))];
        return route.read(route.function, offset, size);
    }
    constexpr void write(function_address guest, std::uint16_t offset, width size,
                         std::uint32_t value) const {
        const slot& route = slots_[find(slots_, shift_, key_of(guest))];
        route.write(route.function, offset, size, value);
    }

private:
    template <std::size_t Capacity>
    friend class config_routes;

    // A hash table with open addressing, a power of two of slots of which at least half are empty:
    // a search ends. An empty slot answers as a function that is not there, so that whoever has
    // searched need not look at what he found.
    struct slot {
        std::uint64_t key = 0;
        void* function = nullptr;
        std::uint32_t (*read)(void*, std::uint16_t, width) = [](void*, std::uint16_t, width size) {
            return all_ones(size);
        };
        void (*write)(void*, std::uint16_t, width, std::uint32_t) = [](void*, std::uint16_t, width,
                                                                       std::uint32_t) {};
    };

    /// Segment and source id, and a bit that says so. An empty slot has 0, and so has an address
    /// that no bus carries: searching for it finds an empty slot.
    static constexpr std::uint64_t key_of(function_address guest) {
        return guest.valid()
                   ? std::uint64_t{1} << 32 | std::uint64_t{guest.segment} << 16 | guest.source_id()
                   : 0;
    }

    /// The slot where the search begins: the top bits of a product. VMMs number their functions by
    /// function, by device or by bus, in steps of 1, 8 or 256; the factor was searched for so that
    /// up to 128 of such addresses, and mixtures of them, hardly ever meet (the usual one, from the
    /// golden ratio, is good for steps of 1 only).
    static constexpr std::size_t home(std::uint64_t key, unsigned shift) {
        return static_cast<std::uint32_t>(key) * std::uint32_t{0x73D8'15F1} >> shift;
    }
    static constexpr std::size_t last_slot(unsigned shift) { return ~std::uint32_t{0} >> shift; }

    /// The slot with that key, or the empty one where the search for it ends.
    static constexpr std::size_t find(const slot* slots, unsigned shift, std::uint64_t key) {
        std::size_t at = home(key, shift);
        while (slots[at].key != key && slots[at].key != 0) {
            at = (at + 1) & last_slot(shift);
        }
        return at;
    }

    const slot* slots_;
    unsigned shift_; ///< 32 minus the logarithm of the number of slots
};
static_assert(config_access<config_router>);

/// Which functions a guest has: up to Capacity routes, each from an address in the guest to an
/// object that plays the function there. The address is the guest's; a host_function or a
/// virtual_function_view knows the host's, and neither needs to know the other. The VMM owns the
/// table, which allocates nothing and stays where it is, because routers refer to it.
///
///     pci::config_routes<8> routes;
///     routes.add({0, 0, 3, 0}, nic_view);     // what the guest sees as 00:03.0
///     pci::config_ports guest{pci::config_router{routes}};
///
/// A guest looks for functions 1 to 7 of a device only if function 0 is there and its Header Type
/// says multi-function [pci]: routes to them alone are not found by any guest.
///
/// Nothing here is atomic: add and remove only while no processor of the guest accesses its
/// configuration space, or under the lock that the VMM takes around each access.
template <std::size_t Capacity>
class config_routes {
    static_assert(Capacity > 0 && Capacity <= 0x1'0000, "a segment has 65536 functions");

public:
    constexpr config_routes() = default;
    config_routes(const config_routes&) = delete;
    config_routes& operator=(const config_routes&) = delete;

    /// How many routes there can be.
    static constexpr std::size_t capacity = Capacity;

    /// How many routes there are.
    [[nodiscard]] constexpr std::size_t size() const { return size_; }

    /// Whether the guest has a function at that address.
    [[nodiscard]] constexpr bool contains(function_address guest) const {
        return slots_[find(guest)].key != 0;
    }

    /// From now on `function` is what the guest finds at that address. It must outlive the route;
    /// one object may play several functions. errc::out_of_range with the number that no bus can
    /// carry, of the device or else of the function; errc::already_mapped with the address as
    /// segment 31:16 and source id 15:0, if there is a route already; errc::busy with the capacity
    /// if the table is full. After an error nothing has changed.
    template <function_config F>
    constexpr result<void> add(function_address guest, F& function) {
        if (!guest.valid()) {
            return error{errc::out_of_range, guest.device > 31 ? guest.device : guest.function};
        }
        slot& place = slots_[find(guest)];
        if (place.key != 0) {
            return error{errc::already_mapped, where(guest)};
        }
        if (size_ == Capacity) {
            return error{errc::busy, Capacity};
        }
        place.key = config_router::key_of(guest);
        place.function = const_cast<std::remove_const_t<F>*>(&function);
        place.read = [](void* to, std::uint16_t offset, width size) {
            return static_cast<F*>(to)->read(offset, size);
        };
        place.write = [](void* to, std::uint16_t offset, width size, std::uint32_t value) {
            static_cast<F*>(to)->write(offset, size, value);
        };
        ++size_;
        return {};
    }

    /// From now on the guest finds nothing at that address. errc::absent with the address, as
    /// segment 31:16 and source id 15:0, if there is no route; errc::out_of_range as for add.
    constexpr result<void> remove(function_address guest) {
        if (!guest.valid()) {
            return error{errc::out_of_range, guest.device > 31 ? guest.device : guest.function};
        }
        std::size_t hole = find(guest);
        if (slots_[hole].key == 0) {
            return error{errc::absent, where(guest)};
        }
        // Whatever a search would now miss, because it begins at the hole or before it and ends
        // there, moves into it, and leaves a hole behind.
        const auto distance = [](std::size_t from, std::size_t to) { return (to - from) & last; };
        for (std::size_t at = (hole + 1) & last; slots_[at].key != 0; at = (at + 1) & last) {
            if (distance(config_router::home(slots_[at].key, shift), at) >= distance(hole, at)) {
                slots_[hole] = slots_[at];
                hole = at;
            }
        }
        slots_[hole] = {};
        --size_;
        return {};
    }

private:
    friend class config_router;
    using slot = config_router::slot;

    static constexpr std::size_t slot_count = 2 * std::bit_ceil(Capacity);
    static constexpr unsigned shift = 32U - static_cast<unsigned>(std::countr_zero(slot_count));
    static constexpr std::size_t last = slot_count - 1;

    [[nodiscard]] constexpr std::size_t find(function_address guest) const {
        return config_router::find(slots_, shift, config_router::key_of(guest));
    }
    static constexpr std::uint64_t where(function_address guest) {
        return std::uint64_t{guest.segment} << 16 | guest.source_id();
    }

    slot slots_[slot_count]{};
    std::size_t size_ = 0;
};

} // namespace pt::pci
