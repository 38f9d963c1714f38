// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/claims.hpp"
#include "pt/assign/dma_path.hpp"
#include "pt/assign/guest_room.hpp"
#include "pt/assign/list_of.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstdint>
#include <utility>

namespace pt::assign {

/// What a guest is made of. References are to what the VMM keeps for this guest alone, unless it
/// says otherwise, and outlive the guest.
template <vmm V>
struct guest_parts {
    typename V::pages& pages;
    /// How the guest's memory and the registers of its functions are mapped there: pt::ept::ram and
    /// pt::ept::device_memory, for example.
    typename V::pages::attributes memory;
    typename V::pages::attributes device_memory;
    typename V::processors processors;
    guest_room room;
    /// Where the registers of devices lie in the host, and nothing else: no memory, no local APIC,
    /// nothing of the VMM's own. A function whose BARs are elsewhere is not assigned. One that lies
    /// about its BARs can have whatever is in here: the narrower, the better, as what the bridge
    /// above it forwards.
    list_of<range<hpa>> windows{};
    list_of<range<io_port>> port_windows{}; ///< likewise of ports
    typename V::host_ports host_ports;
    typename V::dma dma;
    lapic::bus<typename V::vcpus>& bus;
    typename V::platform platform;
    typename V::reports reports;
    typename V::mutex mutex{};        ///< of all that follows from the guest's space
    typename V::mutex config_mutex{}; ///< of its CONFIG_ADDRESS; another one
};

/// An I/O BAR of an assigned function, as the guest has it. It belongs to the function, and stays
/// where it is while it is in a guest_space.
struct port_bar {
    range<io_port> at{}; ///< the guest's ports; empty: nowhere
    io_port host{};      ///< the device's first one
    vmx::port_owner owner{};
    bool is_open = false; ///< in the bitmap
    port_bar* next = nullptr;
};

/// What became of a change of a BAR: where it is now, and if that is not where it was to be, why.
struct bar_outcome {
    pci::bar_place place{};
    error why{};
};

/// What a guest can reach: its memory in the tables of processors and devices, the registers of its
/// functions, and its ports, with the claims that say whose each part is. (It is the lower half of
/// `guest`, which a VMM uses.)
///
/// Each operation is done, or an error, and everything as before. Hardware that does not forget
/// what it was told to makes a difference: what was taken away is in no table any more, but its
/// place stays taken (space_use::owed), and nobody else may be given what was there, until settle()
/// succeeds.
template <vmm V>
class guest_space {
public:
    explicit constexpr guest_space(const guest_parts<V>& parts)
        : parts_{parts}, owed_(parts.pages.batch()) {}
    guest_space(const guest_space&) = delete; // what is owed has one owner
    guest_space& operator=(const guest_space&) = delete;

    /// Host memory for the guest: its processors reach it, and if they shall, its functions. errc::
    /// misaligned, errc::out_of_range, errc::out_of_frames and others as of the tables;
    /// errc::refused with the first address that is taken; errc::busy: no claim is free; errors of
    /// dma_path. When is_owed(error.code), functions may reach it until settle() succeeds, so that
    /// nobody else may be given it until then.
    constexpr result<void> give_memory(range<gpa> at, hpa host,
                                       memory_reach reach = memory_reach::processors_and_devices) {
        const scoped_lock held{parts_.mutex};
        pay_before(at);
        if (const result<void> taken = parts_.room.space.add(
                {.place = at, .use = space_use::memory, .host = host, .reach = reach});
            !taken) {
            return taken;
        }
        const bool for_devices = reach == memory_reach::processors_and_devices;
        if (for_devices) {
            if (const result<void> mapped = parts_.dma.map(at, host); !mapped) {
                forget(at, is_owed(mapped.error().code));
                return mapped;
            }
        }
        auto mapped = parts_.pages.map(at, host, parts_.memory);
        if (!mapped) {
            const result<void> undone = for_devices ? parts_.dma.unmap(at) : result<void>{};
            forget(at, !undone);
            return undone ? mapped.error() : undone.error();
        }
        owed_.absorb(*mapped);
        changed();
        // Processors that cache what is absent may not see the memory until settle().
        static_cast<void>(pay());
        return {};
    }

    /// Takes memory away that was given as exactly this range. After a success nobody of the guest
    /// reaches it any more, and it may be given to somebody else. errc::absent with the address: no
    /// memory was given so. When is_owed(error.code), it is the guest's no more either, but may
    /// still be reached until settle() succeeds.
    constexpr result<void> take_memory(range<gpa> at) {
        const scoped_lock held{parts_.mutex};
        const claim<gpa>* const found = at.empty() ? nullptr : parts_.room.space.find(at.first());
        if (found == nullptr || found->place != at || found->use != space_use::memory) {
            return error{errc::absent, at.first().raw};
        }
        const claim<gpa> before = *found;
        if (before.reach == memory_reach::processors_and_devices) {
            if (const result<void> gone = parts_.dma.unmap(at);
                !gone && !is_owed(gone.error().code)) {
                return gone;
            }
        }
        auto unmapped = parts_.pages.unmap(at);
        if (!unmapped) {
            // The tables have a page here that reaches farther, which pt did not make.
            if (before.reach == memory_reach::processors_and_devices &&
                !parts_.dma.map(at, before.host)) {
                static_cast<void>(parts_.room.space.set_reach(at, memory_reach::processors_only));
            }
            return unmapped.error();
        }
        owed_.absorb(*unmapped);
        static_cast<void>(parts_.room.space.owe(at));
        changed();
        return pay();
    }

    /// Keeps a range free of everything else: for the page of the local APIC, for a device that the
    /// VMM plays, for what must stay empty. What it is used for is not memory, and not a BAR.
    /// Errors of claims::add(); errc::not_supported with the use for those two.
    constexpr result<void> reserve(range<gpa> at, space_use use) {
        if (use != space_use::local_apic && use != space_use::device) {
            return error{errc::not_supported, static_cast<std::uint64_t>(use)};
        }
        const scoped_lock held{parts_.mutex};
        pay_before(at);
        const result<void> taken = parts_.room.space.add({.place = at, .use = use});
        if (taken) {
            changed();
        }
        return taken;
    }
    /// What reserve() has kept is free again. errc::absent with the address: nothing was reserved
    /// so.
    constexpr result<void> unreserve(range<gpa> at) {
        const scoped_lock held{parts_.mutex};
        const claim<gpa>* const found = at.empty() ? nullptr : parts_.room.space.find(at.first());
        if (found == nullptr || found->place != at ||
            (found->use != space_use::local_apic && found->use != space_use::device)) {
            return error{errc::absent, at.first().raw};
        }
        static_cast<void>(parts_.room.space.remove(at));
        changed();
        return {};
    }

    /// Ports that the VMM plays: they never open, wherever a guest puts its BARs. Errors of
    /// claims::add().
    constexpr result<void> reserve_ports(range<io_port> at) {
        const scoped_lock held{parts_.mutex};
        const result<void> taken = parts_.room.port_space.add({.place = at});
        if (taken) {
            open_what_may_be();
            changed();
        }
        return taken;
    }
    /// Errors of claims::remove().
    constexpr result<void> unreserve_ports(range<io_port> at) {
        const scoped_lock held{parts_.mutex};
        const result<void> freed = parts_.room.port_space.remove(at);
        if (freed) {
            open_what_may_be();
            changed();
        }
        return freed;
    }

    /// Whether there is anything for settle() to do: one load, for each entry of the guest.
    [[nodiscard]] constexpr bool is_settled() const { return atomic::load(&unsettled_) == 0; }

    /// Makes the hardware forget what it is owed to. Its errors; then it is still owed. What waits
    /// for settle() waits still.
    constexpr result<void> flush_owed() {
        const scoped_lock held{parts_.mutex};
        return pay();
    }
    /// The same for the next entry: after it, nothing waits but what begins to from now on.
    constexpr result<void> settle() {
        const scoped_lock held{parts_.mutex};
        atomic::store(&unsettled_, std::uint32_t{0});
        return pay();
    }

    // --------------------------------------------------- for the functions, and whoever has them

    [[nodiscard]] constexpr guest_parts<V>& parts() { return parts_; }
    [[nodiscard]] constexpr const guest_parts<V>& parts() const { return parts_; }

    /// How often what can be reached has changed so far.
    [[nodiscard]] constexpr std::uint32_t changes() const { return atomic::load(&changes_); }

    /// Something waits for the next settle().
    constexpr void wait_for_settle() { atomic::store(&unsettled_, std::uint32_t{1}); }

    /// Whether the VMM says that this place of the host belongs to devices.
    [[nodiscard]] constexpr bool is_device_memory(range<hpa> place) const {
        for (const range<hpa>& window : parts_.windows) {
            if (window.contains(place)) {
                return true;
            }
        }
        return false;
    }
    [[nodiscard]] constexpr bool are_device_ports(range<io_port> place) const {
        for (const range<io_port>& window : parts_.port_windows) {
            if (window.contains(place)) {
                return !place.overlaps(vmx::io_bitmap::protected_ports);
            }
        }
        return false;
    }

    /// A BAR for memory, or a ROM, of function `number` of the guest moves. Nothing of it is mapped
    /// where the guest would reach somebody else's: a place that is taken, or beyond the width of
    /// its physical addresses, is no place (nowhere). When something is short, or does not answer,
    /// it stays where it was.
    constexpr bar_outcome move(std::uint16_t number, const pci::bar_change& change,
                               const pci::bar_pieces& pieces) {
        const scoped_lock held{parts_.mutex};
        error why{};
        if (change.to) {
            if (const result<void> put_there =
                    put(number, change.device, pieces, gpa{change.to.address()});
                !put_there) {
                why = put_there.error();
                if (!forbids(why.code)) {
                    wait_for_settle(); // it may be better then
                    return {change.from, why};
                }
            }
        }
        if (change.from) {
            if (const result<void> gone = drop(change.device, pieces, gpa{change.from.address()});
                !gone) {
                if (change.to && why.code == errc::none) {
                    static_cast<void>(drop(change.device, pieces, gpa{change.to.address()}));
                    static_cast<void>(pay());
                }
                wait_for_settle();
                return {change.from, gone.error()};
            }
        }
        const bool is_there = change.to && why.code == errc::none;
        if (change.from || is_there) {
            changed(); // so that the hardware forgets before the next entry, once for all BARs
        }
        return {is_there ? change.to : pci::bar_place{}, why};
    }

    /// An I/O BAR that is to be nowhere at first.
    constexpr void add_ports(port_bar& ports) {
        const scoped_lock held{parts_.mutex};
        ports.at = {};
        ports.is_open = false;
        ports.next = first_ports_;
        first_ports_ = &ports;
    }
    /// It is nowhere, and the function goes.
    constexpr void remove_ports(port_bar& ports) {
        const scoped_lock held{parts_.mutex};
        for (port_bar** at = &first_ports_; *at != nullptr; at = &(*at)->next) {
            if (*at == &ports) {
                *at = ports.next;
                return;
            }
        }
    }
    /// An I/O BAR moves. Ports of the same number in guest and host open in the bitmap, unless the
    /// VMM plays one of them; all others are forwarded.
    constexpr bar_outcome move(port_bar& ports, const pci::bar_change& change) {
        const scoped_lock held{parts_.mutex};
        error why{};
        range<io_port> to{};
        if (change.to) {
            const auto wanted =
                vmx::io_bitmap::ports_of_bar(change.to.address(), change.device.size);
            if (!wanted) {
                why = wanted.error();
            } else if (const port_bar* const other = find_ports(*wanted, &ports)) {
                why = {errc::refused, other->at.intersection(*wanted).first().raw};
            } else {
                to = *wanted;
            }
        }
        if (to != ports.at) {
            set(ports, to, may_open(ports, to));
            changed();
        }
        return {to.empty() ? pci::bar_place{} : change.to, why};
    }

    /// Whose an address is; no BAR of a function where somebody else's would be meant. Null:
    /// nobody's. Under lock().
    [[nodiscard]] constexpr const claim<gpa>* find(gpa at) const {
        return parts_.room.space.find(at);
    }
    /// The I/O BAR that has one of those ports, but for `but`; null if none has. Under lock().
    [[nodiscard]] constexpr const port_bar* find_ports(range<io_port> at,
                                                       const port_bar* but = nullptr) const {
        for (const port_bar* each = first_ports_; each != nullptr; each = each->next) {
            if (each != but && each->at.overlaps(at)) {
                return each;
            }
        }
        return nullptr;
    }
    [[nodiscard]] constexpr const port_bar* first_ports() const { return first_ports_; }

    /// All that the guest has as memory is taken from it, and the tables of its processors are
    /// given back. Its functions are gone.
    constexpr result<void> retire_memory() {
        const scoped_lock held{parts_.mutex};
        for (const claim<gpa>& each : parts_.room.space) {
            if (each.use == space_use::memory &&
                each.reach == memory_reach::processors_and_devices) {
                const result<void> gone = parts_.dma.unmap(each.place);
                if (!gone && !is_owed(gone.error().code)) {
                    return gone; // what was unmapped so far is unmapped twice the next time
                }
            }
        }
        auto retired = parts_.pages.retire();
        owed_.absorb(retired);
        for (const claim<gpa>& each : parts_.room.space) {
            if (each.use == space_use::memory) {
                static_cast<void>(parts_.room.space.owe(each.place));
            }
        }
        changed();
        return pay();
    }

private:
    using batch_type = decltype(std::declval<typename V::pages&>().batch());

    /// Whether it is the guest's choice of a place that is wrong, and no shortage: as it is on
    /// hardware, the BAR answers nowhere.
    static constexpr bool forbids(errc code) {
        switch (code) {
        case errc::refused:
        case errc::out_of_range:
        case errc::misaligned:
        case errc::reserved_address:
        case errc::already_mapped:
        case errc::not_supported: return true;
        default: return false;
        }
    }

    constexpr void changed() {
        atomic::store(&changes_, changes_ + 1); // by the holder of the lock alone
        wait_for_settle();
        parts_.reports.changed();
    }

    /// Makes the hardware forget.
    constexpr result<void> flush() {
        const result<void> by_processors = owed_.redeem(parts_.processors);
        const result<void> by_devices = parts_.dma.settle();
        const result<void> all = by_processors ? by_devices : by_processors;
        if (!all) {
            wait_for_settle();
            if (!is_failing_) {
                parts_.reports.rejected(
                    {.what = rejection::subject::invalidation, .why = all.error()});
            }
        }
        is_failing_ = !all;
        return all;
    }
    /// And when it has, what was owed is free.
    constexpr result<void> pay() {
        const result<void> all = flush();
        if (all && parts_.room.space.remove_owed()) {
            changed(); // and a BAR may want to be there
        }
        return all;
    }
    /// Before a place is claimed: it may be that it is only owed.
    constexpr void pay_before(range<gpa> place) {
        if (const claim<gpa>* const there = parts_.room.space.find_in(place);
            there != nullptr && there->use == space_use::owed) {
            static_cast<void>(pay());
        }
    }

    /// The claim of what could not be given goes, or stays for as long as hardware may reach it.
    constexpr void forget(range<gpa> at, bool may_be_reached) {
        if (may_be_reached) {
            static_cast<void>(parts_.room.space.owe(at));
            wait_for_settle();
        } else {
            static_cast<void>(parts_.room.space.remove(at));
        }
    }

    constexpr result<void> put(std::uint16_t number, const pci::bar& device,
                               const pci::bar_pieces& pieces, gpa to) {
        const result<range<gpa>> place = range<gpa>::checked(to, device.size);
        if (!place) {
            return place.error();
        }
        if (const unsigned width = parts_.pages.format().input_width();
            width < 64 && (place->last().raw >> width) != 0) {
            return error{errc::out_of_range, to.raw};
        }
        pay_before(*place);
        if (const result<void> taken = parts_.room.space.add({.place = *place,
                                                              .use = space_use::bar,
                                                              .function = number,
                                                              .bar = device.index,
                                                              .host = hpa{device.address}});
            !taken) {
            const claim<gpa>* const there = parts_.room.space.find_in(*place);
            const bool is_only_owed = there != nullptr && there->use == space_use::owed;
            return is_only_owed ? error{errc::busy, taken.error().where} : taken.error();
        }
        for (const pci::bar_piece& piece : pieces) {
            if (piece.how != pci::reach::mapped) {
                continue;
            }
            auto mapped =
                parts_.pages.map({to + piece.part.offset, piece.part.size},
                                 hpa{device.address + piece.part.offset}, parts_.device_memory);
            if (!mapped) {
                // Leaves that were just made go as they came.
                static_cast<void>(unmap(pieces.begin(), &piece, to));
                forget(*place, !flush());
                return mapped.error();
            }
            owed_.absorb(*mapped);
        }
        return {};
    }

    /// What is mapped of a BAR at `from` is so no more, and the place is owed. With an error it is
    /// as before.
    constexpr result<void> drop(const pci::bar& device, const pci::bar_pieces& pieces, gpa from) {
        if (const pci::bar_piece* const left = unmap(pieces.begin(), pieces.end(), from);
            left != pieces.end()) {
            // A page here reaches farther, which pt did not make. What went comes back.
            for (const pci::bar_piece* each = pieces.begin(); each != left; ++each) {
                if (each->how == pci::reach::mapped) {
                    auto mapped = parts_.pages.map({from + each->part.offset, each->part.size},
                                                   hpa{device.address + each->part.offset},
                                                   parts_.device_memory);
                    if (mapped) {
                        owed_.absorb(*mapped);
                    }
                }
            }
            return error{errc::out_of_frames, from.raw + left->part.offset};
        }
        return parts_.room.space.owe({from, device.size});
    }

    /// The first piece that could not be unmapped.
    constexpr const pci::bar_piece* unmap(const pci::bar_piece* first, const pci::bar_piece* end,
                                          gpa from) {
        for (; first != end; ++first) {
            if (first->how == pci::reach::mapped) {
                auto unmapped = parts_.pages.unmap({from + first->part.offset, first->part.size});
                if (!unmapped) {
                    return first;
                }
                owed_.absorb(*unmapped);
            }
        }
        return end;
    }

    [[nodiscard]] constexpr bool may_open(const port_bar& ports, range<io_port> at) const {
        return !at.empty() && at.first() == ports.host &&
               parts_.room.port_space.find_in(at) == nullptr;
    }
    /// The bitmap changes while the guest's processors are out of it.
    constexpr void set(port_bar& ports, range<io_port> at, bool open) {
        const bool opens = open && parts_.room.ports.opening(at).has_value();
        if (ports.is_open || opens) {
            parts_.processors.pause();
            if (ports.is_open) {
                static_cast<void>(parts_.room.ports.close(ports.owner, ports.at));
            }
            ports.is_open = opens && parts_.room.ports.open(ports.owner, at).has_value();
            parts_.processors.resume();
        }
        ports.at = at;
    }
    /// After the VMM's own ports have changed.
    constexpr void open_what_may_be() {
        for (port_bar* each = first_ports_; each != nullptr; each = each->next) {
            if (const bool may = may_open(*each, each->at); may != each->is_open) {
                set(*each, each->at, may);
            }
        }
    }

    guest_parts<V> parts_;
    batch_type owed_;
    port_bar* first_ports_ = nullptr;
    std::uint32_t changes_ = 0;
    std::uint32_t unsettled_ = 0; ///< not 0: settle() has something to do
    bool is_failing_ = false; ///< hardware has not forgotten what it was to, and that was reported
};

} // namespace pt::assign
