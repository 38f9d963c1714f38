// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/flush_ticket.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/protection_domain.hpp"
#include "pt/vtd/reserved_regions.hpp"
#include "pt/vtd/translation.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// What attach() does about memory that firmware reserved for the function.
enum class reserved_memory : std::uint8_t {
    must_be_mapped, ///< refuse the function unless map_reserved_regions() was called for it
    /// The VMM knows that firmware does not use the function any more: its reserved regions are not
    /// mapped, and requests for them are blocked like all others.
    ignored,
};

/// The memory of one guest as its devices see it: second-stage tables, and the functions whose
/// requests go through them. Nothing of it is shared with any other domain: the id is its own, the
/// tables are its own, and a function is in one domain at a time.
///
///     pt::vtd::domain guest{vtd, *vtd.limits(40)};
///     guest.map({pt::iova{0}, guest_memory}, host, pt::vtd::second_stage::read_write);
///     guest.attach(nic);
///
/// What a change makes stale is collected inside, so that it is redeemed in order whoever is first.
/// Operations on the tables exclude each other by the domain's mutex, which must be another one
/// than that of the remapping; it is taken first.
template <class Remapping, mutex Mutex = no_mutex>
class domain : public protection_domain<Remapping> {
    using base = protection_domain<Remapping>;

public:
    using typename base::attachment_type;
    using policies_type = typename Remapping::policies_type;
    using table_type = paging::table<second_stage::format, typename policies_type::memory_type,
                                     typename policies_type::publication_type>;
    using attributes = second_stage::attributes;

    /// An empty domain. `usable` comes from limits() of the same remapping; with fewer abilities
    /// than it says a domain works too.
    constexpr domain(Remapping& machine, const second_stage::limits& usable, Mutex guard = {})
        : base{machine},
          table_{machine.policies().memory, second_stage::format{usable},
                 machine.policies().publication},
          mutex_{guard} {}

    /// Maps `input` to the host memory from `output` on; errors as of paging::table::map(), and
    /// nothing is mapped then. On an error of a unit it is mapped, but units that cache what is
    /// absent may not know: flush().
    constexpr result<void> map(range<iova> input, hpa output, const attributes& a) {
        return change([&](table_type& t) { return t.map(input, output, a); });
    }
    /// Removes what is mapped in `input`. After a success no device of the domain reaches it any
    /// more, and it may be given to somebody else. On an error of a unit it is not mapped any more,
    /// but may be reached until flush() succeeds. Other errors as of paging::table::unmap().
    constexpr result<void> unmap(range<iova> input) {
        return change([&](table_type& t) { return t.unmap(input); });
    }
    /// Any operation of paging::table that returns a ticket: change([&](auto& table) { return
    /// table.protect(...); }). After a success it is in force on every unit.
    template <class Operation>
    constexpr result<void> change(Operation operation) {
        const scoped_lock held{mutex_};
        const result<void> done = collect(operation);
        return done ? flush_owed() : done;
    }

    /// Several changes that cost one invalidation: what they made stale is in force when flush() of
    /// this object has succeeded, which it must before it goes away.
    class [[nodiscard]] batch {
    public:
        explicit constexpr batch(domain& of) : domain_{of} {}
        batch(const batch&) = delete;
        batch& operator=(const batch&) = delete;
        constexpr ~batch() { expects(flushed_, "a batch of a domain went away before flush()"); }

        constexpr result<void> map(range<iova> input, hpa output, const attributes& a) {
            return change([&](table_type& t) { return t.map(input, output, a); });
        }
        constexpr result<void> unmap(range<iova> input) {
            return change([&](table_type& t) { return t.unmap(input); });
        }
        template <class Operation>
        constexpr result<void> change(Operation operation) {
            const scoped_lock held{domain_.mutex_};
            const result<void> done = domain_.collect(operation);
            flushed_ = flushed_ && !done;
            return done;
        }
        constexpr result<void> flush() {
            const result<void> done = domain_.flush();
            flushed_ = flushed_ || done;
            return done;
        }
        /// Leaves what is owed to the domain's own flush(), for units that do not answer now.
        constexpr void leave() { flushed_ = true; }

    private:
        domain& domain_;
        bool flushed_ = true;
    };

    /// Makes all units forget what is stale since the last success. Only after an error is there
    /// anything to do; the frames of tables that went stay taken until then.
    constexpr result<void> flush() {
        const scoped_lock held{mutex_};
        return flush_owed();
    }

    /// The tables, to read: translate(), leaves(), format(). Any processor at any time, but the
    /// tables that are being read must not be flushed away meanwhile.
    [[nodiscard]] constexpr const table_type& tables() const { return table_; }

    /// Maps what firmware reserved for the function one to one, for reading and writing, and
    /// reports each region to `report` (a callable on reserved_region). A region that is mapped so
    /// already, for another function, stays. errc::already_mapped with the address of a region of
    /// which a part is mapped to something else, or only a part; the error of a region that makes
    /// no sense (reserved_regions()); errc::out_of_range with the number of regions, from 65 on; as
    /// map(). Nothing has changed then, unless it was the unit's error. The guest must not use
    /// these addresses for memory of its own.
    template <class Report>
    constexpr result<void> map_reserved_regions(const requester& who, Report report) {
        const scoped_lock held{mutex_};
        const auto regions =
            reserved_regions(base::machine().table(), who, base::machine().bridges());
        reserved_region made[most_reserved_regions]; // that were not mapped before
        std::size_t mapped = 0;
        std::size_t count = 0;
        result<void> done{};
        for (const result<reserved_region>& region : regions) {
            if (!region) {
                done = region.error();
            } else if (++count > most_reserved_regions) {
                done = error{errc::out_of_range, count};
            } else {
                const result<bool> fresh = map_one_to_one(region->memory);
                if (!fresh) {
                    done = fresh.error();
                } else if (*fresh) {
                    made[mapped++] = *region;
                }
            }
            if (!done) {
                while (mapped != 0) {
                    const range<iova> input = one_to_one(made[--mapped].memory);
                    static_cast<void>(collect([&](table_type& t) { return t.unmap(input); }));
                }
                static_cast<void>(flush_owed()); // what it owes stays owed
                return done;
            }
        }
        for (const result<reserved_region>& region : regions) {
            if (region) {
                report(*region);
            }
        }
        return flush_owed();
    }
    constexpr result<void> map_reserved_regions(const requester& who) {
        return map_reserved_regions(who, [](const reserved_region&) {});
    }

    /// Puts the function's requests through this domain's tables, wherever it was before: nowhere,
    /// in the quarantine, or in another domain, from which it moves with no moment in which it
    /// reaches anything else. Nothing has changed on:
    ///   errc::already_mapped   it is here already
    ///   errc::refused          the address of a region that firmware reserved for it, and that is
    ///                          not mapped one to one; or the error of a region that makes no sense
    ///   errc::absent           the DMAR table names no unit for it, or one that was not added
    ///   errc::busy             no domain id is free
    ///   errc::out_of_frames, and what accepts() says of a unit that cannot walk these tables
    /// When the unit did not do its part (errc::time_out, errc::hardware_fault, errc::absent with
    /// the offset of a register) the function's entry is as root_table says, never open, and the
    /// attachment holds on to where it was and where it goes: attach it again, anywhere, or release
    /// it.
    constexpr result<void> attach(attachment_type& node,
                                  reserved_memory reserved = reserved_memory::must_be_mapped) {
        const scoped_lock changing{mutex_};
        if (reserved == reserved_memory::must_be_mapped) {
            if (const result<void> mapped = check_reserved_regions(node.who()); !mapped) {
                return mapped;
            }
        }
        const result<hpa> root = table_.root();
        if (!root) {
            return root.error();
        }
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        const result<translation> through = through_tables(*root);
        if (!through) {
            return through.error();
        }
        return base::take(node, [&](const auto&) -> result<translation> {
            return base::completed(node, *through);
        });
    }

    /// What the entries of its functions say, whether there are any or not: for an audit, as what
    /// the VMM has promised. The domain has a root and an id from then on. errc::out_of_frames;
    /// errc::busy: no domain id is free.
    constexpr result<translation> through() {
        const scoped_lock changing{mutex_};
        const result<hpa> root = table_.root();
        if (!root) {
            return root.error();
        }
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        return through_tables(*root);
    }

    /// Gives everything back, tables and id: errc::busy with the source id of a function that is
    /// attached. The domain is empty then, and may be used again.
    constexpr result<void> retire() {
        const scoped_lock changing{mutex_};
        {
            auto hardware = base::machine().policies().mutex;
            const scoped_lock held{hardware};
            if (const result<void> given = base::give_id_back(); !given) {
                return given;
            }
        }
        // No unit has anything of it: each forgot the domain when its last function went.
        static_cast<void>(owed_.add(table_.retire()));
        return flush_owed();
    }
    /// Gives frames, id and attachments up for good, for units that never answer again: hardware
    /// may use them still. Functions behind units that do answer are blocked first.
    constexpr void leak() {
        const scoped_lock changing{mutex_};
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        base::abandon();
        table_.retire().leak();
        owed_.leak();
    }

private:
    /// Of one function, which has one or two.
    static constexpr std::size_t most_reserved_regions = 64;

    enum class presence : std::uint8_t { none, one_to_one, other };

    /// What makes the units forget, for the tickets.
    struct units_of {
        domain* of;
        constexpr result<void> invalidate(const paging::stale_set<iova>& stale) {
            return of->base::invalidate(stale);
        }
    };

    /// With the units' mutex held.
    constexpr result<translation> through_tables(hpa root) {
        const result<std::uint16_t> id = base::id();
        if (!id) {
            return id.error();
        }
        return translation::second_stage(root, table_.format(), *id);
    }

    template <class Operation>
    constexpr result<void> collect(Operation&& operation) {
        auto ticket = operation(table_);
        if (!ticket) {
            return ticket.error();
        }
        owed_.absorb(*ticket);
        return {};
    }
    constexpr result<void> flush_owed() {
        if (owed_.empty()) {
            return {};
        }
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        units_of units{this};
        return owed_.redeem(units);
    }

    static constexpr range<iova> one_to_one(range<hpa> memory) {
        return {iova{memory.first().raw}, memory.size()};
    }
    /// How a region is mapped now. Only what is mapped is looked at, however large the region is.
    [[nodiscard]] constexpr presence presence_of(range<hpa> memory) const {
        const range<iova> input = one_to_one(memory);
        std::uint64_t covered = 0;
        for (const auto& leaf : table_.leaves(input)) {
            const bool same = leaf.input.first().raw == leaf.to.output.raw;
            const bool both = leaf.to.attributes.read && leaf.to.attributes.write;
            if (!same || !both) {
                return presence::other;
            }
            covered += leaf.input.intersection(input).size();
        }
        return covered == 0               ? presence::none
               : covered == memory.size() ? presence::one_to_one
                                          : presence::other;
    }
    /// Whether it was not mapped before.
    constexpr result<bool> map_one_to_one(range<hpa> memory) {
        switch (presence_of(memory)) {
        case presence::one_to_one: return false;
        case presence::other: return error{errc::already_mapped, memory.first().raw};
        case presence::none: break;
        }
        const result<void> done = collect([&](table_type& t) {
            return t.map(one_to_one(memory), memory.first(), second_stage::read_write);
        });
        return done ? result<bool>{true} : done.error();
    }
    [[nodiscard]] constexpr result<void> check_reserved_regions(const requester& who) const {
        for (const result<reserved_region>& region :
             reserved_regions(base::machine().table(), who, base::machine().bridges())) {
            if (!region) {
                return error{errc::refused, region.error().where};
            }
            if (presence_of(region->memory) != presence::one_to_one) {
                return error{errc::refused, region->memory.first().raw};
            }
        }
        return {};
    }

    table_type table_;
    paging::flush_batch<second_stage::format, typename policies_type::memory_type> owed_{
        base::machine().policies().memory};
    [[no_unique_address]] Mutex mutex_;
};

/// Functions that reach all of host memory: for the host's own devices, once everything else is
/// blocked.
template <class Remapping>
class pass_through_domain : public protection_domain<Remapping> {
    using base = protection_domain<Remapping>;

public:
    using typename base::attachment_type;

    explicit constexpr pass_through_domain(Remapping& machine) : base{machine} {}

    /// As domain::attach(), without reserved regions: all memory is mapped to itself anyway.
    /// errc::not_supported where the unit does not have pass-through, and in legacy mode for a
    /// function that may use its device TLB.
    constexpr result<void> attach(attachment_type& node) {
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        const result<std::uint16_t> id = base::id();
        if (!id) {
            return id.error();
        }
        return base::take(node, [&](const auto&) -> result<translation> {
            return base::completed(node, translation::pass_through(*id));
        });
    }
    /// Gives the id back: errc::busy with the source id of a function that is attached.
    constexpr result<void> retire() {
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        return base::give_id_back();
    }
    /// As domain::leak().
    constexpr void leak() {
        auto hardware = base::machine().policies().mutex;
        const scoped_lock held{hardware};
        base::abandon();
    }
};

} // namespace pt::vtd
