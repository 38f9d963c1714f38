// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/claims.hpp"
#include "pt/assign/guest_function.hpp"
#include "pt/assign/guest_space.hpp"
#include "pt/assign/list_of.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/assign/ownership_room.hpp"
#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/message.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/function_config.hpp"
#include "pt/vcpu/guest_ports.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::assign {

template <vmm V>
class assigned_device;

/// A guest: what it can reach, whose it is, and what answers it where it reaches nothing by itself.
///
///     pt::assign::guest<my_vmm> guest{{.pages = ept, .processors = cpus, ...}};
///     guest.give_memory({gpa{0}, 256 * MiB}, host_memory);
///     guest.reserve({gpa{0xFEE0'0000}, 4 * KiB}, assign::space_use::local_apic);
///     guest.reserve_ports({io_port{0x3F8}, 8});
///
/// Three groups of calls. The VMM's own (give_memory ... retire) are done, or an error and
/// everything as before. Handlers of exits call the second group on any processor at any time. And
/// settle(), before each entry, does what could not be done earlier; mostly that is nothing, which
/// is one load.
///
/// With several guests on one machine, each has its own host_vector_routes; the vectors are the
/// host's, and of one guest at a time (vector_source), so that deliver() of one guest at most knows
/// a vector.
///
/// Locks are taken in this order: config_mutex, that of a function's view, mutex, and those of the
/// tables. No policy that is called from here may call back.
template <vmm V>
class guest : private guest_space<V> {
    using space = guest_space<V>;

public:
    using parts = guest_parts<V>;

    /// How many functions it can have, assigned and played ones.
    static constexpr std::size_t most_functions = 32;

    explicit constexpr guest(const parts& given) : space{given} {}
    constexpr ~guest() { expects(count_ == 0, "a guest went away before its functions"); }

    // -------------------------------------------------------------------------------- the VMM

    using space::give_memory;
    using space::reserve;
    using space::reserve_ports;
    using space::take_memory;
    using space::unreserve;
    using space::unreserve_ports;

    /// From now on `function`, which the VMM plays, is what the guest finds at that address, such
    /// as a host bridge. (An assigned_device does it by itself.) It outlives the route. Errors of
    /// pci::config_routes::add().
    template <pci::function_config F>
    constexpr result<void> plug_in(pci::function_address at, F& function) {
        const scoped_lock held{space::parts().config_mutex};
        return routes_.add(at, function);
    }
    /// Errors of pci::config_routes::remove().
    constexpr result<void> unplug(pci::function_address at) {
        const scoped_lock held{space::parts().config_mutex};
        return routes_.remove(at);
    }

    /// The guest is gone: its memory is taken from it, and the tables of its processors are given
    /// back; none of them runs it any more. errc::busy with the number of functions that are still
    /// assigned; an error of the hardware: again. What remains is the VMM's to give back, as the
    /// domain of V::dma.
    constexpr result<void> retire() {
        {
            const scoped_lock held{space::parts().mutex};
            if (count_ != 0) {
                return error{errc::busy, count_};
            }
        }
        return space::retire_memory();
    }

    /// What the guest owns, from its claims and functions and not from any table: what an audit
    /// compares tables with. `number` is the guest's, for the explanations; `unit_of(function)` the
    /// number of the remapping unit that serves it (always 0, where there is one). `domains` is the
    /// VMM's to add. What is owed is in no list. errc::busy with the size of a list for which there
    /// is no room.
    ///
    /// It is right as long as neither guest nor VMM changes anything.
    template <class UnitOf>
    [[nodiscard]] constexpr result<ownership> owned(const ownership_room& room,
                                                    std::uint16_t number, UnitOf unit_of) {
        const scoped_lock held{space::parts().mutex};
        const auto pages = list_pages(room);
        const auto ports = list_ports(room);
        const auto functions = list_functions(room, unit_of);
        const auto vectors = list_vectors(room, unit_of);
        if (!pages || !ports || !functions || !vectors) {
            return !pages       ? pages.error()
                   : !ports     ? ports.error()
                   : !functions ? functions.error()
                                : vectors.error();
        }
        ownership all{};
        all.guest = number;
        all.pages = *pages;
        all.ports = *ports;
        all.functions = *functions;
        all.vectors = *vectors;
        all.dma_isolated = V::dma::isolates;
        all.interrupts_isolated = V::interrupts::isolates;
        return all;
    }
    [[nodiscard]] constexpr result<ownership> owned(const ownership_room& room,
                                                    std::uint16_t number) {
        return owned(room, number, [](pci::function_address) { return std::uint16_t{0}; });
    }

    // --------------------------------------------------------------------- before each entry

    using space::is_settled;

    /// Does what could not be done before: makes the hardware forget what it is owed to, gives BARs
    /// the places that they were refused or for which something was short, hides functions whose
    /// reset failed. The error of the hardware; then its part is still owed, and what the guest has
    /// lost it may still reach, but nobody else has it.
    constexpr result<void> settle() {
        if (space::is_settled()) [[likely]] {
            return {};
        }
        return settle_now();
    }

    // --------------------------------------------------------------------------- the handlers

    /// The guest's IN, whoever answers: CONFIG_ADDRESS and CONFIG_DATA; what the VMM has reserved
    /// for itself; I/O BARs, by way of the host's ports; the platform. An access that is partly one
    /// of them is made byte by byte, and bytes for which nobody answers read all ones. errc::absent
    /// with the port: nobody answers at all. Other errors are the platform's.
    [[nodiscard]] constexpr result<std::uint32_t> read_port(io_port port, width size) {
        switch (answerer_of(port, size)) {
        case answerer::config: {
            const scoped_lock held{space::parts().config_mutex};
            return config_.read(port, size).value;
        }
        case answerer::function: {
            // Under the lock, so that the ports are not somebody else's meanwhile.
            const scoped_lock held{space::parts().mutex};
            if (const result<io_port> host = forwarded(port, size)) {
                vcpu::forwarded_ports<typename V::host_ports> ports{space::parts().host_ports};
                return ports.read(*host, size);
            }
            break;
        }
        case answerer::several: return read_bytes(port, size);
        case answerer::platform: break;
        }
        return space::parts().platform.read_port(port, size);
    }
    /// The guest's OUT, likewise. Bits of `value` above the width are of no effect.
    constexpr result<void> write_port(io_port port, width size, std::uint32_t value) {
        value &= all_ones(size);
        switch (answerer_of(port, size)) {
        case answerer::config: {
            const scoped_lock held{space::parts().config_mutex};
            config_.write(port, size, value);
            return {};
        }
        case answerer::function: {
            const scoped_lock held{space::parts().mutex};
            if (const result<io_port> host = forwarded(port, size)) {
                vcpu::forwarded_ports<typename V::host_ports> ports{space::parts().host_ports};
                return ports.write(*host, size, value);
            }
            break;
        }
        case answerer::several: return write_bytes(port, size, value);
        case answerer::platform: break;
        }
        return space::parts().platform.write_port(port, size, value);
    }

    /// The same as vcpu::guest_ports, for vcpu::string_io().
    class port_access {
    public:
        explicit constexpr port_access(guest& of) : guest_{&of} {}
        [[nodiscard]] constexpr result<std::uint32_t> read(io_port port, width size) {
            return guest_->read_port(port, size);
        }
        constexpr result<void> write(io_port port, width size, std::uint32_t value) {
            return guest_->write_port(port, size, value);
        }

    private:
        guest* guest_;
    };
    [[nodiscard]] constexpr port_access ports() { return port_access{*this}; }

    /// The guest's load from an address where it exited: pages of BARs that are trapped, then the
    /// platform. An access to several of these is made byte by byte, and bytes for which nobody
    /// answers read all ones.
    ///
    /// errc::already_mapped with the address: the guest reaches it by itself, perhaps since a
    /// moment ago, so that it is to try again. errc::not_supported with it: a part of the access
    /// only is to memory, and nothing was done. errc::absent with it: nobody answers. Other errors
    /// are the platform's.
    [[nodiscard]] constexpr result<std::uint64_t> read_memory(gpa at, mmio_width size) {
        const memory_target target = target_of(at, size);
        switch (target.who) {
        case reached::mapped: return error{errc::already_mapped, at.raw};
        case reached::registers:
            return target.function->view().read_memory(target.bar, target.offset, size);
        case reached::several: {
            if (const result<void> possible = can_be_split(at, size); !possible) {
                return possible.error();
            }
            std::uint64_t gathered = 0;
            bool any = false;
            for (unsigned i = 0; i < size_of(size); ++i) {
                const result<std::uint64_t> byte = read_memory(at + i, mmio_width::byte);
                if (!byte && byte.error().code != errc::absent) {
                    return byte;
                }
                any = any || byte;
                gathered |= (byte ? *byte & 0xFF : 0xFF) << 8 * i;
            }
            return any ? result<std::uint64_t>{gathered} : error{errc::absent, at.raw};
        }
        case reached::platform: break;
        }
        return space::parts().platform.read_memory(at, size);
    }
    /// The guest's store there, likewise. Bits of `value` above the width are of no effect.
    constexpr result<void> write_memory(gpa at, mmio_width size, std::uint64_t value) {
        value &= all_ones(size);
        const memory_target target = target_of(at, size);
        switch (target.who) {
        case reached::mapped: return error{errc::already_mapped, at.raw};
        case reached::registers:
            target.function->view().write_memory(target.bar, target.offset, size, value);
            return {};
        case reached::several: {
            if (const result<void> possible = can_be_split(at, size); !possible) {
                return possible;
            }
            bool any = false;
            for (unsigned i = 0; i < size_of(size); ++i) {
                const result<void> byte =
                    write_memory(at + i, mmio_width::byte, value >> 8 * i & 0xFF);
                if (!byte && byte.error().code != errc::absent) {
                    return byte;
                }
                any = any || byte;
            }
            return any ? result<void>{} : error{errc::absent, at.raw};
        }
        case reached::platform: break;
        }
        return space::parts().platform.write_memory(at, size, value);
    }

    /// What the guest has at that address. errc::absent with it: nothing.
    [[nodiscard]] constexpr result<space_use> use_of(gpa at) {
        const scoped_lock held{space::parts().mutex};
        const claim<gpa>* const found = space::find(at);
        return found != nullptr ? result<space_use>{found->use} : error{errc::absent, at.raw};
    }

    /// The host took the interrupt `host_vector`. If a function of this guest raised it, the guest
    /// gets what it asked for instead, now or when it unmasks it. errc::absent with the vector: it
    /// is none of this guest's. It may take locks: not from a handler that has interrupted another
    /// call on the same CPU.
    constexpr result<void> deliver(std::uint8_t host_vector) {
        return deliver(host_vector, [](const lapic::message&) { return false; });
    }
    /// The same on a CPU that runs one of the guest's processors: `accept(message)` takes those that are
    /// for its local APIC alone (lapic::local_apic::accept), and says whether it has.
    template <class Accept>
    constexpr result<void> deliver(std::uint8_t host_vector, Accept accept) {
        const result<lapic::message> to = space::parts().room.routes.find(host_vector);
        if (to) [[likely]] {
            if (!accept(*to)) {
                space::parts().bus.deliver(*to);
            }
            return {};
        }
        return remember(host_vector);
    }

    /// What connects the guest's local APICs, for the IPIs of its processors.
    [[nodiscard]] constexpr lapic::bus<typename V::vcpus>& bus() { return space::parts().bus; }
    /// What the VMM plays, for the ends of level-triggered interrupts.
    [[nodiscard]] constexpr typename V::platform& platform() { return space::parts().platform; }

private:
    friend class assigned_device<V>;
    using config_type = pci::config_ports<pci::config_router>;

    // ---------------------------------------------------------------------- for assigned_device

    /// Takes a function in, with slots for all that its BARs can claim. errc::busy: there are no
    /// more functions, or slots.
    constexpr result<void> add(guest_function<V>& function, const pci::bar_list& sized,
                               reset_need need) {
        const result<std::uint16_t> number = take_in(function, slots_for(sized));
        if (!number) {
            return number.error();
        }
        function.join(*number, sized, need); // it is not open yet: whoever meets it finds nothing
        return {};
    }
    constexpr result<std::uint16_t> take_in(guest_function<V>& function, std::size_t slots) {
        const scoped_lock held{space::parts().mutex};
        for (std::uint16_t n = 0; n < most_functions; ++n) {
            if (functions_[n] == nullptr) {
                if (const result<void> kept = space::parts().room.space.keep_back(slots); !kept) {
                    return kept.error();
                }
                functions_[n] = &function;
                ++count_;
                if (n >= end_) {
                    atomic::store(&end_, n + 1U);
                }
                return n;
            }
        }
        return error{errc::busy, most_functions};
    }
    /// All its BARs are nowhere, and nothing of it is owed.
    constexpr void remove(guest_function<V>& function) {
        const std::size_t slots = slots_for(function.bars());
        function.leave();
        const scoped_lock held{space::parts().mutex};
        for (guest_function<V>*& each : functions_) {
            if (each == &function) {
                each = nullptr;
                --count_;
                space::parts().room.space.give_back(slots);
            }
        }
    }
    /// A BAR has a claim where it is, one where it goes, or one where it was and is still owed.
    static constexpr std::size_t slots_for(const pci::bar_list& sized) {
        std::size_t count = 0;
        for (const result<pci::bar>& each : sized) {
            count += each && each->kind != pci::bar_kind::io ? 2U : 0U;
        }
        return count;
    }

    // ------------------------------------------------------------------------------- settle

    /// In each of them one BAR at least that waits for another's place has it.
    static constexpr std::size_t most_passes = most_functions;

    [[nodiscard]] constexpr guest_function<V>* function_at(std::size_t n) {
        const scoped_lock held{space::parts().mutex};
        return functions_[n];
    }
    [[gnu::noinline]] constexpr result<void> settle_now() {
        result<void> done{};
        for (std::size_t pass = 0; pass != most_passes; ++pass) {
            const std::uint32_t before = space::changes();
            done = space::settle();
            for (std::size_t n = 0; n < atomic::load(&end_); ++n) {
                if (guest_function<V>* const function = function_at(n)) {
                    function->retry();
                }
            }
            // What has moved may have been in the way of something that was asked before it.
            if (space::changes() == before) {
                return done;
            }
        }
        // Another processor of the guest may change things forever. The next entry goes on.
        space::wait_for_settle();
        return done;
    }

    // -------------------------------------------------------------------------------- ports

    enum class answerer : std::uint8_t { config, function, platform, several };

    [[nodiscard]] constexpr answerer answerer_of(io_port port, width size) {
        switch (config_type::claim(port, size)) {
        case pci::port_claim::whole: return answerer::config;
        case pci::port_claim::part: return answerer::several;
        case pci::port_claim::none: break;
        }
        const result<range<io_port>> at = range<io_port>::checked(port, size_of(size));
        if (!at) {
            return answerer::several; // it runs past port 0xFFFF
        }
        const scoped_lock held{space::parts().mutex};
        if (const auto* const reserved = space::parts().room.port_space.find_in(*at)) {
            return reserved->place.contains(*at) ? answerer::platform : answerer::several;
        }
        if (const port_bar* const bar = space::find_ports(*at)) {
            return bar->at.contains(*at) ? answerer::function : answerer::several;
        }
        return answerer::platform;
    }
    /// The host's port. errc::absent: the BAR has moved since.
    [[nodiscard]] constexpr result<io_port> forwarded(io_port port, width size) {
        const range<io_port> at{port, size_of(size)};
        const port_bar* const bar = space::find_ports(at);
        if (bar == nullptr || !bar->at.contains(at)) {
            return error{errc::absent, port.raw};
        }
        return bar->host + (port - bar->at.first());
    }
    /// How many bytes of the access are at ports that exist.
    static constexpr unsigned bytes_of(io_port port, width size) {
        const unsigned room = 0x1'0000U - port.raw;
        return size_of(size) < room ? size_of(size) : room;
    }
    constexpr result<std::uint32_t> read_bytes(io_port port, width size) {
        std::uint32_t gathered = all_ones(size);
        bool any = false;
        for (unsigned i = 0; i < bytes_of(port, size); ++i) {
            const result<std::uint32_t> byte = read_port(port + i, width::byte);
            if (byte) {
                any = true;
                gathered &= ~(std::uint32_t{0xFF} << 8 * i) | (*byte & 0xFF) << 8 * i;
            } else if (byte.error().code != errc::absent) {
                return byte;
            }
        }
        return any ? result<std::uint32_t>{gathered} : error{errc::absent, port.raw};
    }
    constexpr result<void> write_bytes(io_port port, width size, std::uint32_t value) {
        bool any = false;
        for (unsigned i = 0; i < bytes_of(port, size); ++i) {
            const result<void> byte = write_port(port + i, width::byte, value >> 8 * i & 0xFF);
            if (!byte && byte.error().code != errc::absent) {
                return byte;
            }
            any = any || byte;
        }
        return any ? result<void>{} : error{errc::absent, port.raw};
    }

    // ------------------------------------------------------------------------------- memory

    enum class reached : std::uint8_t { mapped, registers, platform, several };
    struct memory_target {
        reached who = reached::platform;
        guest_function<V>* function = nullptr; ///< of registers
        std::uint8_t bar = 0;
        std::uint64_t offset = 0;
    };

    [[nodiscard]] constexpr memory_target target_of(gpa at, mmio_width size) {
        const memory_target first = look_up(at, size);
        if (first.who != reached::platform || use_of(at)) {
            return first;
        }
        // Perhaps it has written half of a BAR, and this is where it believes it to be.
        for (std::size_t n = 0; n < most_functions; ++n) {
            if (guest_function<V>* const function = function_at(n)) {
                function->view().settle();
            }
        }
        return look_up(at, size);
    }
    [[nodiscard]] constexpr memory_target look_up(gpa at, mmio_width size) {
        const result<range<gpa>> access = range<gpa>::checked(at, size_of(size));
        if (!access) {
            return {}; // there is no such memory
        }
        const scoped_lock held{space::parts().mutex};
        const claim<gpa>* const found = space::parts().room.space.find_in(*access);
        if (found == nullptr) {
            return {};
        }
        if (!found->place.contains(*access)) {
            return {.who = reached::several};
        }
        if (found->use == space_use::memory) {
            return {.who = reached::mapped};
        }
        if (found->use != space_use::bar) {
            return {};
        }
        guest_function<V>* const function = functions_[found->function];
        const std::uint64_t offset = at - found->place.first();
        if (const auto device = function->bars().find(found->bar)) {
            for (const pci::bar_piece& piece : function->pieces(*device)) {
                if (piece.how == pci::reach::mapped && offset >= piece.part.offset &&
                    offset + size_of(size) <= piece.part.offset + piece.part.size) {
                    return {.who = reached::mapped};
                }
            }
        }
        return {reached::registers, function, found->bar, offset};
    }
    /// errc::not_supported with the first byte that is memory of the guest, or a register that it
    /// reaches by itself.
    [[nodiscard]] constexpr result<void> can_be_split(gpa at, mmio_width size) {
        for (unsigned i = 0; i < size_of(size); ++i) {
            if (look_up(at + i, mmio_width::byte).who == reached::mapped) {
                return error{errc::not_supported, at.raw + i};
            }
        }
        return {};
    }

    // --------------------------------------------------------------------------- interrupts

    [[gnu::noinline]] constexpr result<void> remember(std::uint8_t host_vector) {
        const sender from = sender_of(host_vector);
        if (from.function == nullptr) {
            return error{errc::absent, host_vector};
        }
        from.function->request(from.vector);
        return {};
    }
    struct sender {
        guest_function<V>* function = nullptr;
        std::uint16_t vector = 0; ///< of the function's own
    };
    [[nodiscard]] constexpr sender sender_of(std::uint8_t host_vector) {
        // Under the lock, because a function that is not in the list any more loses its vectors.
        const scoped_lock held{space::parts().mutex};
        for (guest_function<V>* const each : functions_) {
            if (each != nullptr && each->interrupts().vectors().contains(host_vector)) {
                return {each, static_cast<std::uint16_t>(host_vector -
                                                         each->interrupts().vectors().first)};
            }
        }
        return {};
    }

    // -------------------------------------------------------------------------------- owned

    /// Into a list that is ascending, as far as it goes.
    template <class T, class Before>
    static constexpr bool insert(T* list, std::size_t& count, std::size_t most, const T& what,
                                 Before before) {
        if (count == most) {
            return false;
        }
        std::size_t at = count++;
        for (; at > 0 && before(what, list[at - 1]); --at) {
            list[at] = list[at - 1];
        }
        list[at] = what;
        return true;
    }

    [[nodiscard]] constexpr result<list_of<owned_pages>> list_pages(const ownership_room& room) {
        std::size_t count = 0;
        gpa next{}; // behind the last one
        bool fits = true;
        const auto add = [&](range<gpa> at, hpa host, page_rights rights, memory_reach reach,
                             page_use use) {
            // Two BARs that are smaller than a page may be in the same one.
            gpa first = at.first().align_down(4 * KiB);
            const gpa last = at.last() + (4 * KiB - 1 - at.last().offset_in(4 * KiB));
            if (count != 0 && first < next) {
                first = next;
            }
            if (first > last || (count != 0 && next == gpa{})) {
                return;
            }
            fits = fits && count < room.page_count;
            if (fits) {
                room.pages[count++] = {{first, last - first + 1}, host, rights, reach, use};
                next = last + 1;
            }
        };
        for (const claim<gpa>& each : space::parts().room.space) {
            switch (each.use) {
            case space_use::memory:
                add(each.place, each.host, {true, true, true}, each.reach, page_use::memory);
                break;
            case space_use::local_apic:
                add(each.place, {}, {}, memory_reach::processors_only, page_use::local_apic);
                break;
            case space_use::device:
                add(each.place, {}, {}, memory_reach::processors_only, page_use::emulated);
                break;
            case space_use::bar: {
                const guest_function<V>& function = *functions_[each.function];
                const auto device = function.bars().find(each.bar);
                if (!device) {
                    break;
                }
                // No page of the host belongs to a ROM, whose host address means nothing, nor to a
                // BAR that is smaller than a page.
                const bool has_pages =
                    device->kind != pci::bar_kind::rom && device->size >= 4 * KiB;
                const page_use trapped =
                    has_pages ? page_use::trapped_registers : page_use::emulated;
                for (const pci::bar_piece& piece : function.pieces(*device)) {
                    const bool is_mapped = piece.how == pci::reach::mapped;
                    add({each.place.first() + piece.part.offset, piece.part.size},
                        each.host + piece.part.offset, {true, true, false},
                        memory_reach::processors_only, is_mapped ? page_use::registers : trapped);
                }
                break;
            }
            case space_use::owed: break;
            }
        }
        return fits ? result<list_of<owned_pages>>{{room.pages, count}}
                    : error{errc::busy, room.page_count};
    }
    [[nodiscard]] constexpr result<list_of<owned_ports>> list_ports(const ownership_room& room) {
        std::size_t count = 0;
        for (const port_bar* each = space::first_ports(); each != nullptr; each = each->next) {
            const owned_ports mine{each->at, each->host,
                                   each->is_open ? port_way::open : port_way::forwarded};
            if (!each->at.empty() && !insert(room.ports, count, room.port_count, mine,
                                             [](const owned_ports& a, const owned_ports& b) {
                                                 return a.at.first() < b.at.first();
                                             })) {
                return error{errc::busy, room.port_count};
            }
        }
        return list_of<owned_ports>{room.ports, count};
    }
    template <class UnitOf>
    [[nodiscard]] constexpr result<list_of<owned_function>>
    list_functions(const ownership_room& room, UnitOf& unit_of) {
        std::size_t count = 0;
        for (const guest_function<V>* const each : functions_) {
            if (each != nullptr && !insert(room.functions, count, room.function_count,
                                           owned_function{each->host(), unit_of(each->host())},
                                           [](const owned_function& a, const owned_function& b) {
                                               return a.address < b.address;
                                           })) {
                return error{errc::busy, room.function_count};
            }
        }
        return list_of<owned_function>{room.functions, count};
    }
    /// Of interrupt paths whose blocks say what they are made of, as remapped_interrupts' do.
    template <class UnitOf>
    [[nodiscard]] constexpr result<list_of<owned_vector>> list_vectors(const ownership_room& room,
                                                                       UnitOf& unit_of) {
        std::size_t count = 0;
        using block_type = typename V::interrupts::block_type;
        if constexpr (std::same_as<block_type, remapped_interrupt_block>) {
            for (const guest_function<V>* const each : functions_) {
                if (each == nullptr) {
                    continue;
                }
                const block_type& block = each->interrupts();
                for (unsigned i = 0; i < block.host.count; ++i) {
                    const owned_vector mine{.entry = block.entries[i],
                                            .unit = unit_of(each->host()),
                                            .from = block.sender,
                                            .to = block.target(i)};
                    if (!insert(room.vectors, count, room.vector_count, mine,
                                [](const owned_vector& a, const owned_vector& b) {
                                    return a.unit != b.unit ? a.unit < b.unit
                                                            : a.entry.raw < b.entry.raw;
                                })) {
                        return error{errc::busy, room.vector_count};
                    }
                }
            }
        }
        return list_of<owned_vector>{room.vectors, count};
    }

    pci::config_routes<most_functions> routes_{};
    config_type config_{pci::config_router{routes_}};
    guest_function<V>* functions_[most_functions]{};
    std::size_t count_ = 0;
    std::uint32_t end_ = 0; ///< there never was a function from here on
};

} // namespace pt::assign
