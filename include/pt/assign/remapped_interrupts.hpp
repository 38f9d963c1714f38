// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/vector_source.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/interrupt_message.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_index.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/remappable_message.hpp"
#include "pt/vtd/requester.hpp"

#include <bit>
#include <cstdint>

namespace pt::assign {

/// Interrupt remapping entries, and the host vector behind each. There may be more entries than
/// vectors, up to a power of two: those let nothing through.
struct remapped_interrupt_block {
    host_vector_block host{};
    vtd::interrupt_block entries{};    ///< means something unless host is empty
    std::uint32_t destination = 0;     ///< local APIC id
    vtd::interrupt_requester sender{}; ///< whose requests they serve

    [[nodiscard]] constexpr host_vector_block vectors() const { return host; }
    /// Where entry i leads; there must be a vector i.
    [[nodiscard]] constexpr vtd::interrupt_target target(unsigned i) const {
        return {.vector = host[i], .destination_id = destination};
    }

    friend constexpr bool operator==(const remapped_interrupt_block&,
                                     const remapped_interrupt_block&) = default;
};

/// Messages that go through entries of VT-d's interrupt remapping table, which serve that function
/// and nobody else. A handle: the remapping outlives it.
///
/// A function behind a bridge to conventional PCI sends its messages under the bridge's source id, or
/// that of device 0 on its secondary bus [vt-d]. Then the VMM says whose requests the entries are
/// to serve, which is everything behind the bridge:
///
///     pt::assign::remapped_interrupts path{remapping, vectors,
///                                          pt::vtd::interrupt_requester::buses(2, 2)};
template <class Remapping, vector_source Vectors>
class remapped_interrupts {
public:
    using block_type = remapped_interrupt_block;

    static constexpr bool isolates = true;

    /// For messages that carry the source id of the requester's function().
    constexpr remapped_interrupts(Remapping& machine, Vectors vectors)
        : machine_{&machine}, vectors_{vectors} {}
    /// For messages that come as `sender` says, whatever the requester.
    constexpr remapped_interrupts(Remapping& machine, Vectors vectors,
                                  vtd::interrupt_requester sender)
        : machine_{&machine}, vectors_{vectors}, sender_{sender}, has_sender_{true} {}

    /// As interrupt_path says. Errors:
    ///   errc::not_supported  the function's unit does not remap interrupts (ECAP)
    ///   errc::refused        with the offset of GSTS: it could, but interrupt remapping is off, so
    ///                        that the function could raise any vector
    ///   errc::busy           there are not so many vectors, or entries, now
    /// and those of the vector source, of vtd::remapping::with_unit_of() and of
    /// vtd::interrupt_remapping_table::set().
    constexpr result<void> open(const vtd::requester& who, std::uint16_t count, block_type& block) {
        if (const result<void> closed = close(who, block); !closed || count == 0) {
            return closed;
        }
        const result<host_vector_block> host = vectors_.allocate(count);
        if (!host) {
            return host.error();
        }
        expects(host->count == count, "a vector_source gives as many vectors as it was asked for");
        block.host = *host;
        block.destination = vectors_.destination();
        block.sender =
            has_sender_ ? sender_ : vtd::interrupt_requester::exactly(who.function().source_id());
        bool has_entries = false;
        const result<void> opened = machine_->with_unit_of(who, [&](auto& unit) -> result<void> {
            if (const result<void> remaps = check_remapping(unit); !remaps) {
                return remaps;
            }
            const result<vtd::interrupt_block> entries =
                unit.interrupts().allocate(std::bit_ceil(std::uint32_t{count}));
            if (!entries) {
                return entries.error();
            }
            block.entries = *entries;
            has_entries = true;
            for (unsigned i = 0; i < count; ++i) {
                const result<void> set =
                    unit.interrupts().set(block.entries[i], block.target(i), block.sender, unit);
                if (!set) {
                    // A unit that does not answer may use them still, and so the vectors.
                    has_entries = !unit.interrupts().release(block.entries, unit);
                    return set;
                }
            }
            return {};
        });
        if (!opened && !has_entries) {
            vectors_.release(block.host);
            block = {};
        }
        return opened;
    }

    /// As interrupt_path says. Errors as of vtd::remapping::with_unit_of() and of
    /// vtd::interrupt_remapping_table::release(): nothing goes through the entries any more but what
    /// the unit has in its cache.
    constexpr result<void> close(const vtd::requester& who, block_type& block) {
        if (block.host.count == 0) {
            return {};
        }
        const result<void> closed = machine_->with_unit_of(who, [&](auto& unit) -> result<void> {
            return unit.interrupts().release(block.entries, unit);
        });
        if (closed) {
            vectors_.release(block.host);
            block = {};
        }
        return closed;
    }

    [[nodiscard]] constexpr pci::interrupt_message msi(const block_type& block,
                                                       unsigned vectors_log2) const {
        expects(vectors_log2 <= block.entries.size_log2 && block.host.count != 0,
                "the block has not so many vectors");
        return vtd::remappable_message(
            vtd::interrupt_block{block.entries.first, static_cast<std::uint8_t>(vectors_log2)});
    }
    [[nodiscard]] constexpr pci::interrupt_message msi_x(const block_type& block,
                                                         unsigned vector) const {
        expects(vector < block.host.count, "the block has no such vector");
        return vtd::remappable_message(block.entries[vector]);
    }

private:
    template <class Unit>
    static constexpr result<void> check_remapping(Unit& unit) {
        if (unit.interrupts().size() == 0) {
            return error{errc::not_supported, vtd::extended_capability::offset};
        }
        if (!unit.status()[vtd::global_status::interrupt_remapping_enabled]) {
            return error{errc::refused, vtd::global_status::offset};
        }
        return {};
    }

    Remapping* machine_;
    [[no_unique_address]] Vectors vectors_;
    vtd::interrupt_requester sender_{};
    bool has_sender_ = false;
};

} // namespace pt::assign
