// SPDX-License-Identifier: BSL-1.0
//
// The log as a story: what the VMM finds, builds and gives, and what comes of it. Nothing here changes
// anything; and where no story is told, it costs nothing.
#pragma once

#include "../world.hpp"
#include "guest_nic.hpp"
#include "guest_pc.hpp"
#include "host.hpp"
#include "log.hpp"

#include "pt/assign/finding.hpp"
#include "pt/assign/leaf_rights.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::story {

/// The machine as the VMM finds it. `own`: memory that it keeps; `free`: for guests.
void tell_machine(pt::range<pt::hpa> own, pt::range<pt::hpa> free, const host_function* nics,
                  std::size_t nic_count);

/// What is behind pages of a guest.
const char* words_for(const pt::assign::owned_pages& pages);

/// One line of a table of translations: neighbours that lead one behind the other.
struct translation_line {
    std::uint64_t first = 0;
    std::uint64_t size = 0; ///< 0: there is none yet
    std::uint64_t host = 0;
    pt::assign::page_rights rights{};
    bool cached = false;
    const pt::assign::owned_pages* behind = nullptr; ///< what the guest owns there, or null
};
void tell(const translation_line& line);

/// The leaves of tables, coalesced. `owned`: for what is there.
template <class Format, class Leaves>
void tell_leaves(const Format& format, const Leaves& leaves, const pt::assign::ownership& owned) {
    translation_line line{};
    for (const auto& leaf : leaves) {
        const std::uint64_t first = leaf.input.first().raw;
        translation_line next{.first = first,
                              .size = leaf.input.size(),
                              .host = leaf.to.output.raw,
                              .rights = pt::assign::rights_of(format, leaf.to.attributes).most,
                              .cached = pt::assign::is_cached(format, leaf.to.attributes,
                                                              owned.page_attribute_table)};
        for (const pt::assign::owned_pages& each : owned.pages) {
            if (each.at.contains(pt::gpa{first})) {
                next.behind = &each;
            }
        }
        if (line.size != 0 && line.first + line.size == first &&
            line.host + line.size == next.host && line.rights == next.rights &&
            line.behind == next.behind) {
            line.size += next.size;
            continue;
        }
        tell(line);
        line = next;
    }
    tell(line);
}

/// Where a BAR is for the guest, and how it gets there.
struct bar_state {
    bool is_there = false;
    std::uint64_t at = 0;
    std::uint64_t mapped = 0;  ///< bytes that it reaches without an exit
    std::uint64_t trapped = 0; ///< and those whose accesses exit
    friend constexpr bool operator==(const bar_state&, const bar_state&) = default;
};
/// By what the guest owns now.
bar_state state_of(const pt::pci::bar& device, const pt::assign::ownership& owned);
/// Of a BAR that is somewhere.
void tell(pt::pci::function_address function, const pt::pci::bar& device, const bar_state& is);

/// Follows one guest with its NIC, from exit to exit.
template <class V>
class watch {
public:
    watch(guest_pc<V>& guest, guest_nic<V>& nic) : guest_{&guest}, nic_{&nic} {}

    /// What the guest is given, before it runs.
    void tell_guest() {
        if (!is_story_told()) {
            return;
        }
        chapter("The guest");
        narrate("guest ", decimal{guest_->number()}, " has ",
                bytes_of{guest_->storage().memory.size()}, " of memory from 0 on, at ",
                guest_->storage().memory.first().raw, " of the host");
        narrate("it gets ", nic_->host().at, ", and finds it at ", nic_in_guest, ":");
        for (const pt::result<pt::pci::bar>& each : nic_->device().bars()) {
            if (each && each->kind != pt::pci::bar_kind::rom) {
                const char* const kind =
                    each->kind == pt::pci::bar_kind::io ? "ports at " : "memory at ";
                narrate("  BAR ", decimal{each->index}, ", ", bytes_of{each->size}, " of ", kind,
                        each->address, " of the host");
            }
        }
        const auto owned = guest_->owned([](pt::pci::function_address) { return std::uint16_t{}; });
        if (owned) {
            narrate("what its processor reaches by itself:");
            tell_leaves(guest_->pages().format(), guest_->pages().leaves(), *owned);
        }
    }

    /// What the guest's NIC is put through: tables of a remapping unit, under that id there.
    template <class Tables>
    void tell_domain(const Tables& tables, std::uint16_t id) {
        if (!is_story_told()) {
            return;
        }
        const auto owned = guest_->owned([](pt::pci::function_address) { return std::uint16_t{}; });
        if (!owned) {
            return;
        }
        narrate("what ", nic_->host().at, " reaches, by the same addresses (VT-d, domain ",
                decimal{id}, "):");
        tell_leaves(tables.format(), tables.leaves(), *owned);
        const auto& block = nic_->device().interrupts();
        narrate("interrupts: entries ", decimal{block.entries[0].raw}, "..",
                decimal{block.entries[block.host.count - 1U].raw}, ", which serve ",
                nic_->host().at, " alone, raise vectors ", std::uint64_t{block.host.first}, "..",
                std::uint64_t{block.host[block.host.count - 1U]}, " here");
    }
    /// How its wire comes to the guest: by an input of the host's I/O APIC, a vector, and the guest's line.
    void tell_wire(std::uint8_t input, std::uint8_t vector, unsigned line) {
        narrate("its wire, input ", decimal{input}, " of the I/O APIC, raises vector ",
                std::uint64_t{vector}, " here, and then line ", decimal{line}, " of the guest's");
    }

    /// Its wire has raised a vector of the host's.
    void on_wire(std::uint8_t vector) {
        if (++wires_ <= enough) {
            narrate("interrupt: the wire of ", nic_->host().at, " raises vector ",
                    std::uint64_t{vector}, " here; its input is masked until the guest has ended ",
                    "the interrupt of its own line", wires_ == enough ? " (and so on)" : "");
        }
    }
    /// After an exit, before the audit.
    void after_exit() {
        if (!is_story_told()) {
            return;
        }
        const auto& exit = guest_->pc().last_exit();
        if (exit.kind == exit_kind::external_interrupt) {
            on_interrupt(exit.vector);
        }
        if (guest_->events().has_changed) {
            look_at_bars();
        }
        look_at_routes();
    }

    /// Of messages and wires that reached the guest's virtual processor.
    [[nodiscard]] std::uint64_t interrupts() const { return interrupts_; }

private:
    static constexpr unsigned enough = 4; ///< of the same, until it is boring

    void on_interrupt(std::uint8_t vector) {
        const auto& block = nic_->device().interrupts();
        if (!block.vectors().contains(vector)) {
            return;
        }
        if (++interrupts_ > enough) {
            return;
        }
        const unsigned number = vector - block.vectors().first;
        if constexpr (requires { block.entries[number]; }) {
            narrate("interrupt: ", nic_->host().at, " writes its message ", decimal{number},
                    "; remapping entry ", decimal{block.entries[number].raw}, " makes vector ",
                    std::uint64_t{vector}, " of it, here");
        } else {
            narrate("interrupt: ", nic_->host().at, " raises vector ", std::uint64_t{vector},
                    " here");
        }
        if (const auto to = guest_->room().routes.find(vector)) {
            narrate("  the guest's local APIC gets vector ", std::uint64_t{to->vector},
                    ", and the next entry takes it there");
        } else {
            narrate("  the guest masks it: it is pending");
        }
        if (interrupts_ == enough) {
            narrate("  (and so on)");
        }
    }

    void look_at_bars() {
        const auto owned = guest_->owned([](pt::pci::function_address) { return std::uint16_t{}; });
        if (!owned) {
            return;
        }
        unsigned there = 0;
        unsigned gone = 0;
        for (const pt::result<pt::pci::bar>& each : nic_->device().bars()) {
            if (!each || each->kind == pt::pci::bar_kind::rom) {
                continue;
            }
            const bar_state now = state_of(*each, *owned);
            there += now.is_there ? 1 : 0;
            gone += !now.is_there && bars_[each->index].is_there ? 1 : 0;
            if (now.is_there && now != bars_[each->index]) {
                tell(nic_->host().at, *each, now);
            }
            bars_[each->index] = now;
        }
        if (gone != 0) {
            narrate(nic_->host().at, ": ", decimal{gone}, gone == 1 ? " BAR is" : " BARs are",
                    there == 0 ? " nowhere, and it has no other" : " nowhere");
        }
    }

    void look_at_routes() {
        const auto vectors = nic_->device().interrupts().vectors();
        for (unsigned i = 0; i != vectors.count && i != most_routes; ++i) {
            const auto to = guest_->room().routes.find(vectors[i]);
            const unsigned now = to ? to->vector : 0;
            if (now == routes_[i]) {
                continue;
            }
            routes_[i] = static_cast<std::uint8_t>(now);
            if (now != 0 && routes_told_ != enough) {
                ++routes_told_;
                narrate("interrupts: vector ", std::uint64_t{vectors[i]},
                        " of the host stands for the guest's vector ", std::uint64_t{now});
            }
        }
    }

    static constexpr unsigned most_routes = 8;

    guest_pc<V>* guest_;
    guest_nic<V>* nic_;
    bar_state bars_[6]{};
    std::uint8_t routes_[most_routes]{};
    unsigned routes_told_ = 0;
    std::uint64_t interrupts_ = 0;
    std::uint64_t wires_ = 0; ///< interrupts by its wire
};

} // namespace vmm::story
