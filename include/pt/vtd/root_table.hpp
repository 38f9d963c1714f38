// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/tables.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::vtd {

/// The unit behind a context entry: it says which entries it can take, and forgets what it cached
/// when one changes.
template <class I>
concept context_invalidator = requires(I& hardware, std::uint16_t source_id,
                                       std::uint16_t domain_id, pci::function_address function,
                                       context_entry entry) {
    { hardware.accepts(function, entry) } -> std::same_as<result<void>>;
    { hardware.invalidate_context() } -> std::same_as<result<void>>;
    { hardware.invalidate_context(source_id, domain_id) } -> std::same_as<result<void>>;
    { hardware.invalidate_iotlb() } -> std::same_as<result<void>>;
    { hardware.invalidate_iotlb(domain_id) } -> std::same_as<result<void>>;
};

/// The root table of legacy mode with its context tables: which function's requests go through
/// which second-stage table. A function without an entry is blocked.
///
/// Each entry has two halves and hardware may look between any two stores: the half with the
/// present bit is written last when an entry appears and first when it goes. Tables stay until
/// retire().
template <table_memory Memory, publication Publication = paging::clflush_publication>
class root_table {
public:
    /// Allocates the root. errc::out_of_frames.
    static constexpr result<root_table> create(Memory memory, Publication publisher = {}) {
        const result<hpa> root = memory.allocate(frame_contents::zeroed);
        if (!root) {
            return root.error();
        }
        publisher.publish(memory.entries(*root), entries_per_table);
        publisher.complete();
        return root_table{memory, publisher, *root};
    }

    constexpr root_table(root_table&& other) noexcept
        : memory_{other.memory_},
          publisher_{other.publisher_},
          root_{other.root_},
          owns_{other.owns_} {
        other.owns_ = false;
    }
    root_table& operator=(root_table&&) = delete;
    constexpr ~root_table() { expects(!owns_, "a root table went away before retire()"); }

    /// What set_root_table() of a unit wants.
    [[nodiscard]] constexpr hpa root() const {
        expects(owns_, "a root table is used after retire()");
        return root_;
    }

    /// Puts the function's requests through `entry`. Nothing is cached of an absent entry, unless the
    /// unit has caching mode; then (and harmlessly otherwise) `hardware` is told.
    /// errc::already_mapped when the function has an entry; errc::out_of_frames;
    /// errc::out_of_range for an address that no bus can carry; errc::not_supported for an entry
    /// that is not present; or why `hardware` does not accept it. When its invalidation fails, the
    /// entry is not present any more, but may have been cached meanwhile, and detach() has to finish
    /// before the domain's tables may go.
    template <context_invalidator Hardware>
    constexpr result<void> attach(pci::function_address function, context_entry entry,
                                  Hardware& hardware) {
        expects(owns_, "a root table is used after retire()");
        if (!function.valid()) {
            return error{errc::out_of_range,
                         std::uint64_t{function.device} << 8 | function.function};
        }
        const std::uint16_t source_id = function.source_id();
        if (!entry.low[context_entry_low::present]) {
            return error{errc::not_supported, entry.low.raw};
        }
        if (const result<void> takes = hardware.accepts(function, entry); !takes) {
            return takes;
        }
        const result<hpa> table = ensure_context_table(function.bus);
        if (!table) {
            return table.error();
        }
        std::uint64_t* const slot = entry_of(*table, source_id);
        if (*slot != 0 || slot[1] != 0) {
            return error{errc::already_mapped, source_id};
        }
        store(&slot[1], entry.high.raw);
        store(&slot[0], entry.low.raw);
        // With caching mode, what was cached of the absent entry is tagged with domain id 0.
        const std::uint16_t absent_id = 0;
        const std::uint16_t domain_id = entry.high[context_entry_high::domain_id];
        if (const result<void> done = forget(source_id, absent_id, domain_id, hardware); !done) {
            store(&slot[0], entry.low.raw & ~context_entry_low::present.mask);
            return done;
        }
        return {};
    }

    /// Blocks the function's requests: the entry stops being present, `hardware` forgets it and the
    /// domain's translations, then the rest is cleared. errc::not_mapped when there is no entry. On
    /// an error of `hardware` the entry is not present, but may still be cached: detach again.
    template <context_invalidator Hardware>
    constexpr result<void> detach(pci::function_address function, Hardware& hardware) {
        expects(owns_, "a root table is used after retire()");
        if (!function.valid()) {
            return error{errc::out_of_range,
                         std::uint64_t{function.device} << 8 | function.function};
        }
        const std::uint16_t source_id = function.source_id();
        std::uint64_t* const slot = find(function);
        if (slot == nullptr || (slot[0] == 0 && slot[1] == 0)) {
            return error{errc::not_mapped, source_id};
        }
        const std::uint16_t domain_id = context_entry_high{slot[1]}[context_entry_high::domain_id];
        store(&slot[0], slot[0] & ~context_entry_low::present.mask);
        if (const result<void> done = forget(source_id, domain_id, domain_id, hardware); !done) {
            return done;
        }
        store(&slot[0], 0);
        store(&slot[1], 0);
        return {};
    }

    /// The function's entry; one that is not present when it has none.
    [[nodiscard]] constexpr context_entry entry(pci::function_address function) {
        expects(owns_, "a root table is used after retire()");
        const std::uint64_t* const slot = function.valid() ? find(function) : nullptr;
        if (slot == nullptr) {
            return {};
        }
        return {context_entry_low{slot[0]}, context_entry_high{slot[1]}};
    }

    /// Gives all frames back after `hardware` has forgotten every entry. The hardware must not use
    /// this root any more: translation is off, or another root is set. On an error of `hardware`
    /// nothing was given back.
    template <context_invalidator Hardware>
    constexpr result<void> retire(Hardware& hardware) {
        if (!owns_) {
            return {};
        }
        if (const result<void> done = hardware.invalidate_context(); !done) {
            return done;
        }
        if (const result<void> done = hardware.invalidate_iotlb(); !done) {
            return done;
        }
        const std::uint64_t* const entries = memory_.entries(root_);
        for (std::size_t bus = 0; bus < buses; ++bus) {
            const root_entry entry{entries[2 * bus]};
            if (entry[root_entry::present]) {
                memory_.release(entry[root_entry::context_table]);
            }
        }
        memory_.release(root_);
        owns_ = false;
        return {};
    }

    /// Gives the frames up for good, for hardware that will never answer retire(): they are lost, and
    /// must not be used for anything else, since hardware may still walk them.
    constexpr void leak() { owns_ = false; }

private:
    static constexpr std::size_t buses = 256;

    constexpr root_table(Memory memory, Publication publisher, hpa root)
        : memory_{memory}, publisher_{publisher}, root_{root}, owns_{true} {}

    constexpr void store(std::uint64_t* half, std::uint64_t value) {
        if (std::is_constant_evaluated()) {
            *half = value;
        } else {
            __atomic_store_n(half, value, __ATOMIC_RELEASE);
        }
        publisher_.publish(half, 1);
        publisher_.complete();
    }

    constexpr std::uint64_t* entry_of(hpa context_table, std::uint16_t source_id) {
        return memory_.entries(context_table) + std::size_t{2} * (source_id & 0xFF);
    }
    constexpr std::uint64_t* find(pci::function_address function) {
        const root_entry entry{memory_.entries(root_)[std::size_t{2} * function.bus]};
        return entry[root_entry::present]
                   ? entry_of(entry[root_entry::context_table], function.source_id())
                   : nullptr;
    }
    constexpr result<hpa> ensure_context_table(std::uint8_t bus) {
        std::uint64_t* const slot = memory_.entries(root_) + std::size_t{2} * bus;
        if (const root_entry entry{*slot}; entry[root_entry::present]) {
            return entry[root_entry::context_table];
        }
        const result<hpa> table = memory_.allocate(frame_contents::zeroed);
        if (table) {
            publisher_.publish(memory_.entries(*table), entries_per_table);
            publisher_.complete();
            store(slot,
                  root_entry{root_entry::present(true), root_entry::context_table(*table)}.raw);
        }
        return table;
    }

    /// Removes the cached context entry, tagged with `context_id`, and then the translations of the
    /// domain, in the order of the manual.
    template <context_invalidator Hardware>
    static constexpr result<void> forget(std::uint16_t source_id, std::uint16_t context_id,
                                         std::uint16_t domain_id, Hardware& hardware) {
        if (const result<void> done = hardware.invalidate_context(source_id, context_id); !done) {
            return done;
        }
        return hardware.invalidate_iotlb(domain_id);
    }

    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Publication publisher_;
    hpa root_;
    bool owns_;
};

} // namespace pt::vtd
