// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "caches.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// Watches how software changes entries that the unit may be reading [vt-d, "Modifying Root/Context
/// and PASID entries"; rule 14]. An entry appears with the word that holds its present bit, last. A
/// present entry changes in one 64-bit store, or in one 128-bit store, and not in a second one
/// before it was invalidated. It disappears by its present bit alone, is invalidated, and only then
/// loses the rest or is used again.
struct unit_live_entries : unit_caches {
    using unit_caches::unit_caches;

    constexpr void arriving(std::uint64_t address, std::size_t words) final {
        const table_kind* kind = find(address);
        if (kind == nullptr) {
            return; // nothing leads there: it may look as it likes
        }
        const known_table table{*kind, address & ~std::uint64_t{0xFFF}, tag_of(address)};
        const std::uint64_t size = entry_size(table.kind);
        const std::uint64_t first = address & ~(size - 1);
        for (std::uint64_t at = first; at < address + words * 8; at += size) {
            check(table, at, address, words);
        }
    }

protected:
    enum class table_kind : std::uint8_t {
        legacy_root,
        legacy_context,
        scalable_root,
        scalable_context,
        pasid_directory,
        pasid_table,
        interrupt_table,
    };
    struct known_table {
        table_kind kind = table_kind::legacy_root;
        std::uint64_t address = 0;
        /// Which entries it holds: the first source id; with the first PASID above bit 16; the
        /// first index.
        std::uint64_t tag = 0;
    };
    known_table known[64]{};
    std::size_t known_count = 0;

    /// An entry that changed and was not invalidated yet.
    struct open_change {
        bool open = false;
        table_kind kind = table_kind::legacy_root;
        std::uint64_t address = 0;
        std::uint16_t source_id = 0;
        std::uint16_t domain_id = 0;
        std::uint32_t pasid = 0;
        unsigned words = 0; ///< a bit for each that changed
        bool vanished = false;
    };
    open_change changes[32]{};

    /// The root table, or the interrupt table of `frames` frames, that the unit was given.
    constexpr void learn_root() {
        forget_tables(false);
        if (table_mode == 0 || table_mode == 1) {
            learn(table_mode == 1 ? table_kind::scalable_root : table_kind::legacy_root, root, 0);
        }
    }
    constexpr void learn_interrupts(std::uint64_t table, std::uint64_t entries) {
        forget_tables(true);
        for (std::uint64_t at = 0; at < entries * 16; at += 4096) {
            learn(table_kind::interrupt_table, table + at, at / 16);
        }
    }
    constexpr void forget_table(std::uint64_t frame) {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < known_count; ++i) {
            if (known[i].address != frame) {
                known[kept++] = known[i];
            }
        }
        known_count = kept;
        for (open_change& change : changes) {
            change.open = change.open && (change.address & ~std::uint64_t{0xFFF}) != frame;
        }
    }
    constexpr void reset_live_entries() {
        known_count = 0;
        for (open_change& change : changes) {
            change.open = false;
        }
    }

    constexpr void settle_contexts(std::uint16_t source_id, std::uint16_t domain_id,
                                   unsigned granularity, unsigned function_mask) {
        for (open_change& change : changes) {
            switch (change.kind) {
            case table_kind::legacy_root:
            case table_kind::scalable_root: change.open = change.open && granularity != 1; break;
            case table_kind::legacy_context:
            case table_kind::scalable_context:
                change.open =
                    change.open && !forgets_context(change.source_id, change.domain_id, source_id,
                                                    domain_id, granularity, function_mask);
                break;
            default: break;
            }
        }
    }
    constexpr void settle_pasids(std::uint32_t pasid, std::uint16_t domain_id,
                                 unsigned granularity) {
        for (open_change& change : changes) {
            if ((change.kind == table_kind::pasid_directory && granularity != 1) ||
                (change.kind == table_kind::pasid_table &&
                 forgets_pasid(change.pasid, change.domain_id, pasid, domain_id, granularity))) {
                change.open = false;
            }
        }
    }
    constexpr void settle_interrupts(bool all, unsigned index, unsigned mask) {
        for (open_change& change : changes) {
            if (change.kind == table_kind::interrupt_table &&
                forgets_interrupt(change.pasid, all, index, mask)) {
                change.open = false;
            }
        }
    }

private:
    static constexpr std::uint64_t entry_size(table_kind kind) {
        switch (kind) {
        case table_kind::scalable_root:
        case table_kind::pasid_directory: return 8;
        case table_kind::scalable_context: return 32;
        case table_kind::pasid_table: return 64;
        default: return 16;
        }
    }
    constexpr const table_kind* find(std::uint64_t address) const {
        for (std::size_t i = 0; i < known_count; ++i) {
            if (known[i].address == (address & ~std::uint64_t{0xFFF})) {
                return &known[i].kind;
            }
        }
        return nullptr;
    }
    constexpr std::uint64_t tag_of(std::uint64_t address) const {
        for (std::size_t i = 0; i < known_count; ++i) {
            if (known[i].address == (address & ~std::uint64_t{0xFFF})) {
                return known[i].tag;
            }
        }
        return 0;
    }
    constexpr void forget_tables(bool interrupts_only) {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < known_count; ++i) {
            if ((known[i].kind == table_kind::interrupt_table) != interrupts_only) {
                known[kept++] = known[i];
            }
        }
        known_count = kept;
    }
    /// The table at `address`, and all that it leads to.
    constexpr void learn(table_kind kind, std::uint64_t address, std::uint64_t tag) {
        if (!memory->has(address) || find(address) != nullptr || known_count == 64) {
            return;
        }
        known[known_count++] = {kind, address, tag};
        if (kind == table_kind::legacy_context || kind == table_kind::pasid_table ||
            kind == table_kind::interrupt_table) {
            return; // nothing below that is watched
        }
        const std::uint64_t size = entry_size(kind);
        for (std::uint64_t at = address; at < address + 4096; at += size) {
            const std::uint64_t word = memory->published_at(at);
            if ((word & 1) != 0) {
                learn_below({kind, address, tag}, at, word);
            }
        }
    }
    constexpr void learn_below(const known_table& table, std::uint64_t at, std::uint64_t word) {
        const std::uint64_t n = (at - table.address) / entry_size(table.kind);
        const std::uint64_t below = word & 0x000F'FFFF'FFFF'F000;
        switch (table.kind) {
        case table_kind::legacy_root: learn(table_kind::legacy_context, below, n << 8); break;
        case table_kind::scalable_root: learn(table_kind::scalable_context, below, n << 7); break;
        case table_kind::scalable_context:
            learn(table_kind::pasid_directory, below, table.tag + n);
            break;
        case table_kind::pasid_directory:
            learn(table_kind::pasid_table, below, table.tag | n << 22);
            break;
        default: break;
        }
    }

    constexpr open_change about(const known_table& table, std::uint64_t at) const {
        const std::uint64_t n = (at - table.address) / entry_size(table.kind);
        const auto word = [&](unsigned i) { return memory->published_at(at + i * 8); };
        open_change change{.kind = table.kind, .address = at};
        switch (table.kind) {
        case table_kind::legacy_context:
            change.source_id = static_cast<std::uint16_t>(table.tag + n);
            change.domain_id = static_cast<std::uint16_t>(word(1) >> 8);
            break;
        case table_kind::scalable_context:
            change.source_id = static_cast<std::uint16_t>(table.tag + n);
            break;
        case table_kind::pasid_table:
            change.source_id = static_cast<std::uint16_t>(table.tag);
            change.pasid = static_cast<std::uint32_t>((table.tag >> 16) + n);
            change.domain_id = static_cast<std::uint16_t>(word(1));
            break;
        case table_kind::interrupt_table:
            change.pasid = static_cast<std::uint32_t>(table.tag + n);
            break;
        default: break;
        }
        return change;
    }

    constexpr void check(const known_table& table, std::uint64_t at, std::uint64_t run,
                         std::size_t words) {
        const std::uint64_t size = entry_size(table.kind);
        unsigned changed = 0;
        for (unsigned i = 0; i < size / 8; ++i) {
            const std::uint64_t where = at + i * 8;
            if (where >= run && where < run + words * 8 &&
                memory->stored_at(where) != memory->published_at(where)) {
                changed |= 1U << i;
            }
        }
        if (changed == 0) {
            return;
        }
        const bool was_present = (memory->published_at(at) & 1) != 0;
        const bool present =
            ((changed & 1) != 0 ? memory->stored_at(at) & 1 : memory->published_at(at) & 1) != 0;
        const bool single = (changed & (changed - 1)) == 0;
        const bool at_once = single || ((changed & ~3U) == 0 && memory->at_once(at));
        const std::uint32_t on = table.kind == table_kind::interrupt_table ? IRE : TE;
        if ((gsts & on) != 0) {
            judge(about(table, at), changed, was_present, present, at_once);
        }
        if (present && (changed & 1) != 0) {
            learn_below(table, at, memory->stored_at(at));
        }
    }
    constexpr void judge(open_change change, unsigned changed, bool was_present, bool present,
                         bool at_once) {
        open_change* before = nullptr;
        open_change* free = nullptr;
        for (open_change& other : changes) {
            if (other.open && other.address == change.address) {
                before = &other;
            } else if (!other.open) {
                free = &other;
            }
        }
        if (was_present) {
            if (!at_once) {
                memory->blame(present ? "a live entry was changed in more than one store"
                                      : "the rest of an entry went with its present bit");
            }
            if (present && before != nullptr && !before->vanished && before->words != changed) {
                memory->blame("a live entry was changed in parts, and not invalidated between");
            }
            open_change* const kept = before != nullptr ? before : free;
            if (kept != nullptr) {
                change.open = true;
                change.words = changed;
                change.vanished = !present;
                *kept = change;
            }
        } else if (before != nullptr && before->vanished) {
            memory->blame(present ? "an entry was used again before it was invalidated"
                                  : "the rest of an entry changed before it was invalidated");
        } else if (present && !at_once) {
            memory->blame("an entry became present before the rest of it was there");
        }
    }
};

} // namespace vtd_model
