// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/attached_function.hpp"
#include "pt/vtd/entry_store.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/pasid_table.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/scalable_tables.hpp"
#include "pt/vtd/tables.hpp"
#include "pt/vtd/translation.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// The root table of a unit with all that hangs from it but the tables of the domains: which
/// function's requests go through which translation. In legacy mode these are context tables; in
/// scalable mode also, for each function, a PASID directory with its tables. A function without an
/// entry is blocked.
///
/// Hardware may look between any two stores, and sees the old translation, the new one, or nothing.
/// What an operation changes is forgotten through the unit's `port` before the operation returns,
/// and nothing that may still be cached is given back [vt-d, "Guidance to Software for
/// Invalidations"]. An operation that the port fails can be called again, with the same arguments
/// or others.
template <table_memory Memory, publication Publication = paging::clflush_publication,
          wide_store WideStore = no_wide_store>
class root_table {
public:
    /// PASIDs below this can be attached.
    static constexpr std::uint32_t pasids = pasid_directory<Memory>::pasids;
    /// What requests without a PASID go by in scalable mode.
    static constexpr std::uint32_t rid_pasid = 0;

    /// Allocates the root, for functions of that segment. errc::out_of_frames.
    static constexpr result<root_table> create(Memory memory, table_mode mode,
                                               Publication publisher = {}, WideStore wide = {},
                                               std::uint16_t segment = 0) {
        expects(mode == table_mode::legacy || mode == table_mode::scalable,
                "a root table is one of legacy or of scalable mode");
        const result<hpa> root = memory.allocate(frame_contents::zeroed);
        if (!root) {
            return root.error();
        }
        publisher.publish(memory.entries(*root), entries_per_table);
        publisher.complete();
        return root_table{memory, publisher, wide, *root, mode, segment};
    }

    constexpr root_table(root_table&& other) noexcept
        : memory_{other.memory_},
          store_{other.store_},
          root_{other.root_},
          mode_{other.mode_},
          segment_{other.segment_},
          owns_{other.owns_},
          owes_everything_{other.owes_everything_} {
        other.owns_ = false;
    }
    root_table& operator=(root_table&&) = delete;
    constexpr ~root_table() { expects(!owns_, "a root table went away before retire()"); }

    /// What the unit's root table register wants.
    [[nodiscard]] constexpr hpa root() const {
        in_use();
        return root_;
    }
    [[nodiscard]] constexpr table_mode mode() const { return mode_; }

    /// Puts the function's requests through `through`; in scalable mode those without a PASID.
    ///   errc::already_mapped        it has an entry, or one that detach() has not finished with
    ///   errc::out_of_range          no bus carries such an address, or as of accepts()
    ///   errc::absent                with the segment, when it is not this one
    ///   errc::out_of_frames, and what accepts() says of the unit behind `port`
    /// Nothing was changed then. When the port fails, the function is blocked, but the entry may
    /// have been cached meanwhile: detach() has to finish before the domain's tables may go.
    template <invalidation_port Port>
    constexpr result<void> attach(const attached_function& function, const translation& through,
                                  Port& port) {
        if (const result<void> usable = check(function.address); !usable) {
            return usable;
        }
        return mode_ == table_mode::legacy ? attach_legacy(function, through, port)
                                           : attach_scalable(function, through, port);
    }

    /// Puts the requests of a function that is attached through something else: another domain, the
    /// same without fault records, ... In scalable mode those without a PASID, and what is said of
    /// the function as a whole.
    ///
    /// In one step, where the entries differ in one word or in their lower 128 bits and the wide
    /// store is atomic, so that every request goes through the old or the new translation; else the
    /// function is blocked in between. Taking the device TLB or PASIDs away always blocks in
    /// between. PASIDs are detached when the domain id changes, and when `through` has none.
    ///
    /// errc::not_mapped when there is nothing to replace (in scalable mode also when detach() has
    /// to finish); otherwise errors as of attach(), with nothing changed. When the port fails,
    /// requests are blocked or, where it was one step, go through the old or the new translation,
    /// which may both be cached: the tables of both must stay until replace() or detach() of this
    /// function succeeds.
    template <invalidation_port Port>
    constexpr result<void> replace(const attached_function& function, const translation& through,
                                   Port& port) {
        if (const result<void> usable = check(function.address); !usable) {
            return usable;
        }
        return mode_ == table_mode::legacy ? replace_legacy(function, through, port)
                                           : replace_scalable(function, through, port);
    }

    /// Blocks the function's requests, with all PASIDs: its entry stops being present, what is
    /// cached of it and of its domains is forgotten, then the rest is cleared. errc::not_mapped
    /// when there is no entry. When the port fails, the entry is not present, but may still be
    /// cached: detach again.
    template <invalidation_port Port>
    constexpr result<void> detach(const attached_function& function, Port& port) {
        if (const result<void> usable = check(function.address); !usable) {
            return usable;
        }
        const std::uint16_t source_id = function.address.source_id();
        std::uint64_t* const slot = find(source_id);
        if (is_empty(slot)) {
            return error{errc::not_mapped, source_id};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        store_.block(slot);
        requests<Port> asked{port};
        if (mode_ == table_mode::legacy) {
            const context_entry entry = context_entry_at(slot);
            forget(asked, function, entry, domain_of(entry));
            if (const result<void> done = asked.complete(); !done) {
                return done;
            }
            store_.template clear<words_per_context_entry>(slot);
            return {};
        }
        const scalable_context_entry entry = scalable_entry_at(slot);
        pasid_directory<Memory> directory = directory_of(entry);
        asked.submit(invalidate::context_cache(0, source_id)); // by the function alone in this mode
        directory.each([&](std::uint32_t pasid, const std::uint64_t* words) {
            forget(asked, function, pasid, pasid_entry_at(words), entry);
        });
        if (const result<void> done = asked.complete(); !done) {
            return done;
        }
        store_.template clear<words_per_context_entry>(slot);
        directory.release();
        return {};
    }

    /// Puts the requests of a function with that PASID through `through`. The function must be
    /// attached with a translation that has PASIDs. First-stage and pass-through entries must not
    /// share a domain id with second-stage or nested ones, and two roots of one PASID must not
    /// share one [vt-d].
    ///   errc::not_supported   in legacy mode; where `through` says what concerns a whole function
    ///   errc::out_of_range    PASID 0, which stands for requests without one, and PASIDs that the
    ///                         unit or the directory has no room for
    ///   errc::not_mapped      the function is not attached
    ///   errc::refused         it is, without PASIDs
    /// and as of attach(), also for what a port that fails leaves: detach_pasid() or detach()
    /// finishes.
    template <invalidation_port Port>
    constexpr result<void> attach_pasid(const attached_function& function, std::uint32_t pasid,
                                        const translation& through, Port& port) {
        if (const result<void> usable = check(function.address, pasid); !usable) {
            return usable;
        }
        const extended_capability ecap = port.extended_capabilities();
        if (std::uint64_t{pasid} >> (ecap[extended_capability::pasid_size] + 1U) != 0) {
            return error{errc::out_of_range, pasid};
        }
        if (through.device_tlb() || through.pasids()) {
            return error{errc::not_supported, pasid};
        }
        const result<pasid_entry> entry = pasid_entry_for(port.capabilities(), ecap, through);
        if (!entry) {
            return entry.error();
        }
        const std::uint16_t source_id = function.address.source_id();
        const std::uint64_t* const slot = find(source_id);
        if (!is_present(slot)) {
            return error{errc::not_mapped, source_id};
        }
        const scalable_context_entry context = scalable_entry_at(slot);
        if (!context.low[scalable_context_entry_low::pasid_enable]) {
            return error{errc::refused, source_id};
        }
        pasid_directory<Memory> directory = directory_of(context);
        if (!is_empty(directory.find(pasid))) {
            return error{errc::already_mapped, pasid};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        const result<std::uint64_t*> words = directory.ensure(pasid, store_);
        if (!words) {
            return words.error();
        }
        return appear(function, pasid, *words, *entry, port);
    }

    /// Blocks the requests of a function with that PASID, as detach() does with all.
    template <invalidation_port Port>
    constexpr result<void> detach_pasid(const attached_function& function, std::uint32_t pasid,
                                        Port& port) {
        if (const result<void> usable = check(function.address, pasid); !usable) {
            return usable;
        }
        const std::uint64_t* const slot = find(function.address.source_id());
        std::uint64_t* const words =
            is_empty(slot) ? nullptr : directory_of(scalable_entry_at(slot)).find(pasid);
        if (is_empty(words)) {
            return error{errc::not_mapped, pasid};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        store_.block(words);
        requests<Port> asked{port};
        forget(asked, function, pasid, pasid_entry_at(words), scalable_entry_at(slot));
        if (const result<void> done = asked.complete(); !done) {
            return done;
        }
        store_.template clear<words_of_pasid_entry>(words);
        return {};
    }

    /// What the function's requests, in scalable mode those without a PASID, are put through.
    /// errc::not_mapped when it has no entry; errc::busy when it has one that is not present,
    /// because the port failed an operation, with the domain id that may still be cached.
    [[nodiscard]] constexpr result<translation> translation_of(pci::function_address function) {
        if (const result<void> usable = check(function); !usable) {
            return usable.error();
        }
        const std::uint64_t* const slot = find(function.source_id());
        if (is_empty(slot)) {
            return error{errc::not_mapped, function.source_id()};
        }
        if (mode_ == table_mode::legacy) {
            const context_entry entry = context_entry_at(slot);
            if (!is_present(slot)) {
                return error{errc::busy, domain_of(entry)};
            }
            return translation::of(entry);
        }
        const scalable_context_entry context = scalable_entry_at(slot);
        const std::uint64_t* const words = directory_of(context).find(rid_pasid);
        const pasid_entry entry = pasid_entry_at(words);
        if (!is_present(slot) || !is_present(words)) {
            return error{errc::busy, domain_of(entry)};
        }
        return translation::of(context, entry);
    }
    /// The same of requests with that PASID.
    [[nodiscard]] constexpr result<translation> translation_of(pci::function_address function,
                                                               std::uint32_t pasid) {
        if (const result<void> usable = check(function, pasid); !usable) {
            return usable.error();
        }
        const std::uint64_t* const slot = find(function.source_id());
        const std::uint64_t* const words =
            is_empty(slot) ? nullptr : directory_of(scalable_entry_at(slot)).find(pasid);
        if (is_empty(words)) {
            return error{errc::not_mapped, pasid};
        }
        const pasid_entry entry = pasid_entry_at(words);
        if (!is_present(slot) || !is_present(words)) {
            return error{errc::busy, domain_of(entry)};
        }
        return translation::of(entry);
    }

    /// Gives all frames back after the unit has forgotten every entry. The hardware must not use
    /// this root any more: translation is off, or another root is set. When the port fails, nothing
    /// was given back.
    template <invalidation_port Port>
    constexpr result<void> retire(Port& port) {
        if (!owns_) {
            return {};
        }
        if (const result<void> done = forget_everything(port); !done) {
            return done;
        }
        const std::uint64_t* const entries = memory_.entries(root_);
        for (std::size_t i = 0; i < entries_per_table; ++i) {
            if (const root_entry entry{entries[i]}; entry[root_entry::present]) {
                release_context_table(entry[root_entry::context_table]);
            }
        }
        memory_.release(root_);
        owns_ = false;
        return {};
    }

    /// Gives the frames up for good, for hardware that will never answer retire(): they are lost,
    /// and must not be used for anything else, since hardware may still walk them.
    constexpr void leak() { owns_ = false; }

private:
    static constexpr std::size_t words_of_pasid_entry = 3; // the others stay zero

    /// Invalidations in order, as long as the port takes them.
    template <invalidation_port Port>
    class requests {
    public:
        explicit constexpr requests(Port& port) : port_{port} {}

        constexpr void submit(const invalidation_descriptor& request) {
            if (so_far_) {
                so_far_ = port_.submit(request);
            }
        }
        constexpr result<void> complete() { return so_far_ ? port_.complete() : so_far_; }

        [[nodiscard]] constexpr capability capabilities() const { return port_.capabilities(); }
        [[nodiscard]] constexpr extended_capability extended_capabilities() const {
            return port_.extended_capabilities();
        }

    private:
        Port& port_;
        result<void> so_far_;
    };

    constexpr root_table(Memory memory, Publication publisher, WideStore wide, hpa root,
                         table_mode mode, std::uint16_t segment)
        : memory_{memory},
          store_{publisher, wide},
          root_{root},
          mode_{mode},
          segment_{segment},
          owns_{true} {}

    constexpr void in_use() const { expects(owns_, "a root table is used after retire()"); }

    constexpr result<void> check(pci::function_address function) const {
        in_use();
        if (!function.valid()) {
            return error{errc::out_of_range,
                         std::uint64_t{function.device} << 8 | function.function};
        }
        if (function.segment != segment_) {
            return error{errc::absent, function.segment};
        }
        return {};
    }
    constexpr result<void> check(pci::function_address function, std::uint32_t pasid) const {
        if (const result<void> usable = check(function); !usable) {
            return usable;
        }
        if (mode_ == table_mode::legacy) {
            return error{errc::not_supported, pasid};
        }
        if (pasid == rid_pasid || pasid >= pasids) {
            return error{errc::out_of_range, pasid};
        }
        return {};
    }

    // ---- where things are ----------------------------------------------------------------------

    static constexpr bool is_empty(const std::uint64_t* slot) {
        return slot == nullptr || (slot[0] == 0 && slot[1] == 0);
    }
    static constexpr bool is_present(const std::uint64_t* slot) {
        return slot != nullptr && (slot[0] & 1) != 0;
    }
    static constexpr context_entry context_entry_at(const std::uint64_t* slot) {
        return {context_entry_low{slot[0]}, context_entry_high{slot[1]}};
    }
    static constexpr scalable_context_entry scalable_entry_at(const std::uint64_t* slot) {
        return {scalable_context_entry_low{slot[0]}, scalable_context_entry_high{slot[1]}};
    }
    static constexpr pasid_entry pasid_entry_at(const std::uint64_t* words) {
        return {pasid_entry_63_0{words[0]}, pasid_entry_127_64{words[1]},
                pasid_entry_191_128{words[2]}};
    }
    static constexpr std::uint16_t domain_of(context_entry entry) {
        return entry.high[context_entry_high::domain_id];
    }
    static constexpr std::uint16_t domain_of(const pasid_entry& entry) {
        return entry.bits_127_64[pasid_entry_127_64::domain_id];
    }
    constexpr pasid_directory<Memory> directory_of(scalable_context_entry entry) {
        return {memory_, entry.low[scalable_context_entry_low::pasid_directory]};
    }

    /// The root entry's word that leads to the function's context table: the entry's lower one or,
    /// in scalable mode for devices 16 to 31, its upper one. All have the form of root_entry.
    constexpr std::uint64_t* root_slot(std::uint16_t source_id) {
        const bool upper = mode_ == table_mode::scalable && (source_id & 0x80) != 0;
        return memory_.entries(root_) + std::size_t{2} * (source_id >> 8) + (upper ? 1 : 0);
    }
    constexpr std::uint64_t* slot_in(hpa context_table, std::uint16_t source_id) {
        return memory_.entries(context_table) +
               (mode_ == table_mode::legacy
                    ? words_per_context_entry * (source_id & 0xFFU)
                    : words_per_scalable_context_entry * (source_id & 0x7FU));
    }
    /// The function's context entry; null where there is no context table.
    constexpr std::uint64_t* find(std::uint16_t source_id) {
        const root_entry entry{*root_slot(source_id)};
        return entry[root_entry::present] ? slot_in(entry[root_entry::context_table], source_id)
                                          : nullptr;
    }
    constexpr result<std::uint64_t*> ensure(std::uint16_t source_id) {
        if (std::uint64_t* const found = find(source_id); found != nullptr) {
            return found;
        }
        const result<hpa> table = memory_.allocate(frame_contents::zeroed);
        if (!table) {
            return table.error();
        }
        store_.publish_table(memory_.entries(*table));
        store_.word(root_slot(source_id),
                    root_entry{root_entry::present(true), root_entry::context_table(*table)}.raw);
        return slot_in(*table, source_id);
    }
    constexpr void release_context_table(hpa table) {
        if (mode_ == table_mode::scalable) {
            const std::uint64_t* const entries = memory_.entries(table);
            for (std::size_t i = 0; i < entries_per_table; i += words_per_scalable_context_entry) {
                if (!is_empty(entries + i)) {
                    directory_of(scalable_entry_at(entries + i)).release();
                }
            }
        }
        memory_.release(table);
    }

    // ---- what is forgotten ---------------------------------------------------------------------

    /// Of a function in legacy mode: its context entry, cached under `context_domain`, and what was
    /// translated for it.
    template <class Port>
    constexpr void forget(requests<Port>& asked, const attached_function& function,
                          context_entry entry, std::uint16_t context_domain) {
        const std::uint16_t source_id = function.address.source_id();
        asked.submit(invalidate::context_cache(context_domain, source_id));
        asked.submit(invalidate::iotlb(asked.capabilities(), domain_of(entry)));
        if (has_device_tlb(entry) && function.device_tlb_is_on) {
            asked.submit(
                invalidate::device_tlb(function.device_tlb(asked.extended_capabilities())));
        }
    }
    /// Of one PASID of a function in scalable mode: its entry, and what was translated by it.
    template <class Port>
    constexpr void forget(requests<Port>& asked, const attached_function& function,
                          std::uint32_t pasid, const pasid_entry& entry,
                          scalable_context_entry context) {
        forget_entry(asked, pasid, entry);
        if (!has_device_tlb(context) || !function.device_tlb_is_on) {
            return;
        }
        const vtd::device_tlb cache = function.device_tlb(asked.extended_capabilities());
        asked.submit(pasid == rid_pasid ? invalidate::device_tlb(cache)
                                        : invalidate::pasid_based_device_tlb(cache, pasid));
    }
    template <class Port>
    constexpr void forget_entry(requests<Port>& asked, std::uint32_t pasid,
                                const pasid_entry& entry) {
        const std::uint16_t domain_id = domain_of(entry);
        const pasid_translation_type type = entry.bits_63_0[pasid_entry_63_0::translation_type];
        asked.submit(invalidate::pasid_cache(domain_id, pasid));
        if (type == pasid_translation_type::second_stage ||
            type == pasid_translation_type::nested) {
            asked.submit(invalidate::iotlb(asked.capabilities(), domain_id));
        }
        if (type != pasid_translation_type::second_stage) {
            asked.submit(invalidate::pasid_based_iotlb(domain_id, pasid));
        }
    }
    static constexpr bool has_device_tlb(context_entry entry) {
        return entry.low[context_entry_low::translation_type] ==
               context_entry_low::type::with_device_tlb;
    }
    static constexpr bool has_device_tlb(scalable_context_entry entry) {
        return entry.low[scalable_context_entry_low::device_tlb_enable];
    }

    template <class Port>
    constexpr result<void> forget_everything(Port& port) {
        requests<Port> asked{port};
        asked.submit(invalidate::context_cache());
        if (mode_ == table_mode::scalable) {
            asked.submit(invalidate::pasid_cache());
        }
        asked.submit(invalidate::iotlb(port.capabilities()));
        return asked.complete();
    }
    /// After a replacement in one step that the port failed, no entry names what may still be
    /// cached of the old one. So the next operation begins with everything.
    template <class Port>
    constexpr result<void> pay(Port& port) {
        if (owes_everything_) {
            if (const result<void> done = forget_everything(port); !done) {
                return done;
            }
            owes_everything_ = false;
        }
        return {};
    }
    /// Ends a replacement in one step.
    template <class Port>
    constexpr result<void> complete_step(requests<Port>& asked) {
        const result<void> done = asked.complete();
        owes_everything_ = !done.has_value();
        return done;
    }

    // ---- legacy mode ---------------------------------------------------------------------------

    template <class Port>
    constexpr result<void> attach_legacy(const attached_function& function,
                                         const translation& through, Port& port) {
        const std::uint16_t source_id = function.address.source_id();
        const result<context_entry> entry =
            context_entry_for(port.capabilities(), port.extended_capabilities(), through);
        if (!entry) {
            return entry.error();
        }
        if (!is_empty(find(source_id))) {
            return error{errc::already_mapped, source_id};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        const result<std::uint64_t*> slot = ensure(source_id);
        if (!slot) {
            return slot.error();
        }
        return appear(function, *slot, *entry, port);
    }
    /// Writes an entry where none is present, and has the absent one forgotten: with caching mode
    /// that was cached under domain id 0, and without it this does no harm.
    template <class Port>
    constexpr result<void> appear(const attached_function& function, std::uint64_t* slot,
                                  context_entry entry, Port& port) {
        store_.appear(slot, {entry.low.raw, entry.high.raw});
        requests<Port> asked{port};
        asked.submit(invalidate::context_cache(0, function.address.source_id()));
        asked.submit(invalidate::iotlb(port.capabilities(), domain_of(entry)));
        const result<void> done = asked.complete();
        if (!done) {
            store_.block(slot);
        }
        return done;
    }
    template <class Port>
    constexpr result<void> replace_legacy(const attached_function& function,
                                          const translation& through, Port& port) {
        const std::uint16_t source_id = function.address.source_id();
        const result<context_entry> entry =
            context_entry_for(port.capabilities(), port.extended_capabilities(), through);
        if (!entry) {
            return entry.error();
        }
        std::uint64_t* const slot = find(source_id);
        if (is_empty(slot)) {
            return error{errc::not_mapped, source_id};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        const context_entry old = context_entry_at(slot);
        const std::uint64_t words[] = {entry->low.raw, entry->high.raw};
        requests<Port> asked{port};
        if (is_present(slot) && store_.in_one_step(slot, words) &&
            !(has_device_tlb(old) && !has_device_tlb(*entry))) {
            store_.change(slot, words);
            forget(asked, function, old, domain_of(old));
            return complete_step(asked);
        }
        store_.block(slot);
        forget(asked, function, old, domain_of(old));
        if (const result<void> done = asked.complete(); !done) {
            return done;
        }
        return appear(function, slot, *entry, port);
    }

    // ---- scalable mode -------------------------------------------------------------------------

    /// The context entry that says of a function what its PASID entries do not.
    static constexpr scalable_context_entry_low with_what_concerns(scalable_context_entry_low entry,
                                                                   const translation& through) {
        using low = scalable_context_entry_low;
        return entry.with(low::device_tlb_enable(through.device_tlb()),
                          low::pasid_enable(through.pasids()),
                          low::fault_processing_disable(through.faults_disabled()));
    }
    /// The entry of requests without a PASID: faults are disabled for the function as a whole.
    template <class Port>
    static constexpr result<pasid_entry> entry_without_pasid(const translation& through,
                                                             Port& port) {
        result<pasid_entry> entry =
            pasid_entry_for(port.capabilities(), port.extended_capabilities(), through);
        if (entry) {
            entry->bits_63_0 =
                entry->bits_63_0.with(pasid_entry_63_0::fault_processing_disable(false));
        }
        return entry;
    }

    template <class Port>
    constexpr result<void> attach_scalable(const attached_function& function,
                                           const translation& through, Port& port) {
        using low = scalable_context_entry_low;
        const std::uint16_t source_id = function.address.source_id();
        const result<pasid_entry> entry = entry_without_pasid(through, port);
        if (!entry) {
            return entry.error();
        }
        if (!is_empty(find(source_id))) {
            return error{errc::already_mapped, source_id};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        const result<hpa> frame = memory_.allocate(frame_contents::zeroed);
        if (!frame) {
            return frame.error();
        }
        store_.publish_table(memory_.entries(*frame));
        pasid_directory<Memory> directory{memory_, *frame};
        const result<std::uint64_t*> words = directory.ensure(rid_pasid, store_);
        const result<std::uint64_t*> slot = words ? ensure(source_id) : words;
        if (!slot) {
            directory.release(); // nothing points to it yet
            return slot.error();
        }
        store_.appear(*words,
                      {entry->bits_63_0.raw, entry->bits_127_64.raw, entry->bits_191_128.raw});
        const low context = with_what_concerns(
            low{low::pasid_directory(*frame),
                low::pasid_directory_size(pasid_directory<Memory>::size_field), low::present(true)},
            through);
        store_.appear(
            *slot,
            {context.raw,
             scalable_context_entry_high{scalable_context_entry_high::rid_pasid(rid_pasid)}.raw});
        requests<Port> asked{port};
        asked.submit(invalidate::context_cache(0, source_id));
        forget_absent(asked, rid_pasid, *entry);
        const result<void> done = asked.complete();
        if (!done) {
            store_.block(*slot);
        }
        return done;
    }
    /// Calls `use(pasid, words)` for each entry of the function but that of requests without a
    /// PASID.
    template <class Use>
    constexpr void each_pasid(scalable_context_entry context, Use use) {
        if (!context.low[scalable_context_entry_low::pasid_enable]) {
            return; // there are none
        }
        directory_of(context).each([&](std::uint32_t pasid, std::uint64_t* words) {
            if (pasid != rid_pasid) {
                use(pasid, words);
            }
        });
    }
    /// Of a PASID that had no entry: with caching mode that may be cached, under domain id 0.
    template <class Port>
    constexpr void forget_absent(requests<Port>& asked, std::uint32_t pasid,
                                 const pasid_entry& entry) {
        if (asked.capabilities()[capability::caching_mode]) {
            asked.submit(invalidate::pasid_cache(0, pasid));
        }
        forget_entry(asked, pasid, entry);
    }
    /// Writes a PASID's entry where none is present, in a directory that hardware walks.
    template <class Port>
    constexpr result<void> appear(const attached_function& function, std::uint32_t pasid,
                                  std::uint64_t* words, const pasid_entry& entry, Port& port) {
        store_.appear(words, {entry.bits_63_0.raw, entry.bits_127_64.raw, entry.bits_191_128.raw});
        requests<Port> asked{port};
        if (pasid == rid_pasid) {
            asked.submit(invalidate::context_cache(0, function.address.source_id()));
        }
        forget_absent(asked, pasid, entry);
        const result<void> done = asked.complete();
        if (!done) {
            store_.block(words);
        }
        return done;
    }
    template <class Port>
    constexpr result<void> replace_scalable(const attached_function& function,
                                            const translation& through, Port& port) {
        const std::uint16_t source_id = function.address.source_id();
        const result<pasid_entry> entry = entry_without_pasid(through, port);
        if (!entry) {
            return entry.error();
        }
        std::uint64_t* const slot = find(source_id);
        if (!is_present(slot)) {
            return error{errc::not_mapped, source_id};
        }
        if (const result<void> paid = pay(port); !paid) {
            return paid;
        }
        const scalable_context_entry old_context = scalable_entry_at(slot);
        const scalable_context_entry context{with_what_concerns(old_context.low, through),
                                             old_context.high};
        std::uint64_t* const words = directory_of(old_context).find(rid_pasid);
        const pasid_entry old = pasid_entry_at(words);
        const std::uint64_t new_words[] = {entry->bits_63_0.raw, entry->bits_127_64.raw,
                                           entry->bits_191_128.raw};
        const bool same_function = context == old_context;
        const bool one_store =
            old == *entry || (same_function && store_.in_one_step(words, new_words));
        const bool loses_device_tlb = has_device_tlb(old_context) && !has_device_tlb(context);
        // PASIDs do not move along, nor do they stay behind.
        const bool loses_pasids =
            !context.low[scalable_context_entry_low::pasid_enable] ||
            entry->bits_127_64[pasid_entry_127_64::domain_id] != domain_of(old);
        bool has_pasids = false;
        each_pasid(old_context, [&](std::uint32_t, const std::uint64_t*) { has_pasids = true; });
        requests<Port> asked{port};
        const auto forget_pasids = [&] {
            each_pasid(old_context, [&](std::uint32_t pasid, const std::uint64_t* of) {
                forget(asked, function, pasid, pasid_entry_at(of), old_context);
            });
        };
        if (is_present(words) && one_store && !loses_device_tlb && !(loses_pasids && has_pasids)) {
            if (same_function) {
                store_.change(words, new_words);
            } else {
                store_.word(slot, context.low.raw);
            }
            asked.submit(invalidate::context_cache(0, source_id));
            forget(asked, function, rid_pasid, old, old_context);
            if (!same_function) {
                forget_pasids();
            }
            return complete_step(asked);
        }
        store_.block(words);
        if (loses_pasids) {
            each_pasid(old_context, [&](std::uint32_t, std::uint64_t* of) { store_.block(of); });
        }
        asked.submit(invalidate::context_cache(0, source_id));
        forget(asked, function, rid_pasid, old, old_context);
        forget_pasids();
        if (const result<void> done = asked.complete(); !done) {
            return done;
        }
        if (loses_pasids) {
            each_pasid(old_context, [&](std::uint32_t, std::uint64_t* of) {
                store_.template clear<words_of_pasid_entry>(of);
            });
        }
        // Only now: as long as the function's device TLB is not empty, its entry must say so. And
        // what is cached of the entry must not fill it again.
        if (!same_function) {
            store_.word(slot, context.low.raw);
        }
        if (loses_device_tlb) {
            requests<Port> again{port};
            again.submit(invalidate::context_cache(0, source_id));
            if (const result<void> done = again.complete(); !done) {
                return done;
            }
        }
        return appear(function, rid_pasid, words, *entry, port);
    }

    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] entry_store<Publication, WideStore> store_;
    hpa root_;
    table_mode mode_;
    std::uint16_t segment_;
    bool owns_;
    bool owes_everything_ = false;
};

} // namespace pt::vtd
