// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/vector_source.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/interrupt_message.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/requester.hpp"

#include <cstdint>

namespace pt::assign {

/// Host vectors, and the processor that they are of.
struct compatibility_interrupt_block {
    host_vector_block host{};
    std::uint8_t destination = 0; ///< xAPIC id

    [[nodiscard]] constexpr host_vector_block vectors() const { return host; }

    friend constexpr bool operator==(const compatibility_interrupt_block&,
                                     const compatibility_interrupt_block&) = default;
};

/// Messages that name processor and vector themselves, for a machine that does not remap interrupts
/// [sdm, "Message Signalled Interrupts"].
///
/// It isolates nothing. A function that can write to memory can raise any vector of the host: by its
/// own message, which the VMM programs, and by DMA to the same address, which nobody checks.
template <vector_source Vectors>
class compatibility_interrupts {
public:
    using block_type = compatibility_interrupt_block;

    static constexpr bool isolates = false;

    explicit constexpr compatibility_interrupts(Vectors vectors) : vectors_{vectors} {}

    /// As interrupt_path says. Errors of the vector source; errc::out_of_range with the local APIC id
    /// where it is none that the message has room for (255 are all processors), and with the first
    /// vector where it is below 16.
    constexpr result<void> open(const vtd::requester& who, std::uint16_t count, block_type& block) {
        if (const result<void> closed = close(who, block); !closed || count == 0) {
            return closed;
        }
        const std::uint32_t destination = vectors_.destination();
        if (destination >= all_processors) {
            return error{errc::out_of_range, destination};
        }
        const result<host_vector_block> host = vectors_.allocate(count);
        if (!host) {
            return host.error();
        }
        expects(host->count == count, "a vector_source gives as many vectors as it was asked for");
        if (host->first < first_legal_vector) {
            vectors_.release(*host);
            return error{errc::out_of_range, host->first};
        }
        block = {*host, static_cast<std::uint8_t>(destination)};
        return {};
    }
    constexpr result<void> close(const vtd::requester&, block_type& block) {
        if (block.host.count != 0) {
            vectors_.release(block.host);
            block = {};
        }
        return {};
    }

    [[nodiscard]] constexpr pci::interrupt_message msi(const block_type& block,
                                                       unsigned vectors_log2) const {
        expects(vectors_log2 <= 5 && 1U << vectors_log2 <= block.host.count,
                "the block has not so many vectors");
        return message(block, block.host.first);
    }
    [[nodiscard]] constexpr pci::interrupt_message msi_x(const block_type& block,
                                                         unsigned vector) const {
        return message(block, block.host[vector]);
    }

private:
    static constexpr std::uint32_t all_processors = 0xFF;
    static constexpr std::uint8_t first_legal_vector = 16;

    static constexpr pci::interrupt_message message(const block_type& block, std::uint8_t vector) {
        return vtd::interrupt_message::compatibility(vector, block.destination);
    }

    [[no_unique_address]] Vectors vectors_;
};

} // namespace pt::assign
