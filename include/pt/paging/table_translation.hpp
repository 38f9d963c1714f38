// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/interrupt_range.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include <concepts>
#include <cstdint>

namespace pt::paging {

/// Whether a device may do that to a page that an EPT maps so. Uncacheable pages are none of its
/// business: they are the registers of devices (ept::device_memory), to which a guest would
/// otherwise lead the VMM's own reads and writes, or a device behind no IOMMU.
[[nodiscard]] constexpr bool permits(const ept::attributes& page, dma_access how) {
    return page.type != ept::memory_type::uncacheable &&
           (how == dma_access::read ? page.read : page.write);
}
/// Whether a device may do that to a page of its domain.
[[nodiscard]] constexpr bool permits(const vtd::second_stage::attributes& page, dma_access how) {
    return how == dma_access::read ? page.read : page.write;
}

/// A format whose leaves say what a device may do.
template <class F>
concept dma_format = entry_format<F> &&
    requires(const typename F::attributes& page, dma_access how) {
    { permits(page, how) } -> std::same_as<bool>;
};

/// A dma_translation over the tables of a guest, whose EPT makes the address on the bus a
/// guest-physical one, or of a domain, whose second stage translates the iova: what an emulated or
/// a mediated device reaches is what the guest, or the assigned device, reaches.
///
///     pt::paging::table_translation memory_of_guest{ept};
///
/// No piece touches the interrupt range, neither by its address on the bus nor by the host's: a
/// device's write there is an interrupt request. (A second stage maps nothing there, but an EPT may
/// map the APIC's page.)
///
/// The tables stay where they are. It walks without a lock, as hardware does: whoever takes pages
/// away waits until nobody uses what was given before.
template <dma_format Format, table_memory Memory, publication Publication, mutex Mutex>
class table_translation {
public:
    explicit constexpr table_translation(const table<Format, Memory, Publication, Mutex>& tables)
        : tables_{&tables} {}

    /// The bytes from `at` on as far as they are asked for, lie in the same leaf, and before the
    /// interrupt range. `size` is not 0. Errors, all with `at`: not_mapped; out_of_range beyond the
    /// input width; reserved_address in the interrupt range; refused where the leaf does not grant
    /// the access.
    [[nodiscard]] constexpr result<dma_piece> translate(iova at, std::uint64_t size,
                                                        dma_access how) const {
        expects(size != 0, "a translation of no bytes");
        const auto found = tables_->translate(typename Format::address{at.raw});
        if (!found) {
            return error{found.error().code, at.raw};
        }
        const std::uint64_t page = bytes(found->size);
        const std::uint64_t rest = page - at.offset_in(page);
        const std::uint64_t count = before_interrupts(
            at.raw, before_interrupts(found->output.raw, size < rest ? size : rest));
        if (count == 0) {
            return error{errc::reserved_address, at.raw};
        }
        if (!permits(found->attributes, how)) {
            return error{errc::refused, at.raw};
        }
        return dma_piece{found->output, count};
    }

private:
    /// How many of `size` bytes from there on are outside the interrupt range, up to its begin.
    static constexpr std::uint64_t before_interrupts(std::uint64_t address, std::uint64_t size) {
        if (vtd::interrupt_range.contains(iova{address})) {
            return 0;
        }
        const std::uint64_t first = vtd::interrupt_range.first().raw;
        return address < first && size > first - address ? first - address : size;
    }

    const table<Format, Memory, Publication, Mutex>* tables_;
};

} // namespace pt::paging
