// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vtd/registers.hpp"

#include <bit>
#include <concepts>
#include <cstdint>

namespace pt::vtd {

/// One request to a unit to forget something, as the invalidation queue holds it [vt-d, "Queued
/// Invalidation Interface"]: 128 bits, or 256 with zeros above. What the registers can do as well
/// is asked of them in the same words. pt::vtd::invalidate makes them.
struct invalidation_descriptor {
    std::uint64_t word[4]{}; ///< bits 63:0, 127:64, 191:128, 255:192

    friend constexpr bool operator==(const invalidation_descriptor&,
                                     const invalidation_descriptor&) = default;
};

/// The way to a unit's caches: its registers, its queue, or either. submit() asks for one
/// invalidation, in order; after complete() has succeeded, all that was submitted has been done,
/// and requests that were translated before have reached memory where the unit can drain them. An
/// error of either: nothing is known of what was submitted since the last success; ask for all of
/// it again.
template <class P>
concept invalidation_port = requires(P& port, const invalidation_descriptor& request) {
    { port.submit(request) } -> std::same_as<result<void>>;
    { port.complete() } -> std::same_as<result<void>>;
    { port.capabilities() } -> std::same_as<capability>;
    { port.extended_capabilities() } -> std::same_as<extended_capability>;
};

/// The words of the descriptors, by the manual's names [vt-d, "Queued Invalidation Interface"].
/// Where there are two, high is bits 127:64, numbered from 0. Bits without a name are reserved and
/// zero.
namespace descriptor {

/// What a descriptor asks for: bits 3:0, and bits 6:4 of the number in bits 11:9, which are zero in
/// all types that there are.
enum class type : std::uint8_t {
    context_cache = 1,
    iotlb = 2,
    device_tlb = 3,
    interrupt_entry_cache = 4,
    wait = 5,
    pasid_based_iotlb = 6,
    pasid_cache = 7,
    pasid_based_device_tlb = 8,
};

/// What the first words of all descriptors have in common.
struct any : reg<any, std::uint64_t> {
    using reg::reg;
    static constexpr bits<11, 9, std::uint8_t> type_6_4{};
    static constexpr bits<3, 0, std::uint8_t> type_3_0{};
    static constexpr field_list fields{type_6_4, type_3_0};
};

/// Context-cache Invalidate Descriptor (cc_inv_dsc).
struct context_cache : reg<context_cache, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<49, 48, std::uint8_t>        function_mask{}; // FM
    static constexpr bits<47, 32, std::uint16_t>       source_id{};     // SID
    static constexpr bits<31, 16, std::uint16_t>       domain_id{};     // DID
    static constexpr bits<11,  9, std::uint8_t>        type_6_4{};
    static constexpr bits< 5,  4, context_granularity> granularity{};   // G
    static constexpr bits< 3,  0, type>                type_3_0{};
    // clang-format on
    static constexpr field_list fields{function_mask, source_id,   domain_id,
                                       type_6_4,      granularity, type_3_0};
};

/// PASID-cache Invalidate Descriptor (pc_inv_dsc).
struct pasid_cache : reg<pasid_cache, std::uint64_t> {
    using reg::reg;
    enum class scope : std::uint8_t { domain = 0, pasid = 1, global = 3 };
    // clang-format off
    static constexpr bits<51, 32, std::uint32_t> pasid{};
    static constexpr bits<31, 16, std::uint16_t> domain_id{};   // DID
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 5,  4, scope>         granularity{}; // G
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{pasid, domain_id, type_6_4, granularity, type_3_0};
};

/// IOTLB Invalidate Descriptor (iotlb_inv_dsc), bits 63:0.
struct iotlb_low : reg<iotlb_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 16, std::uint16_t>     domain_id{};    // DID
    static constexpr bits<11,  9, std::uint8_t>      type_6_4{};
    static constexpr bits< 7,  7, bool>              drain_reads{};  // DR
    static constexpr bits< 6,  6, bool>              drain_writes{}; // DW
    static constexpr bits< 5,  4, iotlb_granularity> granularity{};  // G
    static constexpr bits< 3,  0, type>              type_3_0{};
    // clang-format on
    static constexpr field_list fields{domain_id,    type_6_4,    drain_reads,
                                       drain_writes, granularity, type_3_0};
};

/// The second word of both IOTLB invalidate descriptors; it is laid out as IVA is.
struct iotlb_high : reg<iotlb_high, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 12, iova>         address{};
    static constexpr bits< 6,  6, bool>         invalidation_hint{}; // IH
    static constexpr bits< 5,  0, std::uint8_t> address_mask{};      // AM
    // clang-format on
    static constexpr field_list fields{address, invalidation_hint, address_mask};
};

/// PASID-based IOTLB Invalidate Descriptor (p_iotlb_inv_dsc), bits 63:0. It always drains.
struct pasid_based_iotlb_low : reg<pasid_based_iotlb_low, std::uint64_t> {
    using reg::reg;
    enum class scope : std::uint8_t { pasid = 2, page = 3 };
    // clang-format off
    static constexpr bits<51, 32, std::uint32_t> pasid{};
    static constexpr bits<31, 16, std::uint16_t> domain_id{};   // DID
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 5,  4, scope>         granularity{}; // G
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{pasid, domain_id, type_6_4, granularity, type_3_0};
};

/// Device-TLB Invalidate Descriptor (dev_tlb_inv_dsc), bits 63:0.
struct device_tlb_low : reg<device_tlb_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 52, std::uint16_t> physical_function_source_id_15_4{}; // PFSID
    static constexpr bits<47, 32, std::uint16_t> source_id{};                        // SID
    static constexpr bits<20, 16, std::uint8_t>  maximum_invalidations_pending{};    // MIP, 0: 32
    static constexpr bits<15, 12, std::uint8_t>  physical_function_source_id_3_0{};
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{
        physical_function_source_id_15_4, source_id, maximum_invalidations_pending,
        physical_function_source_id_3_0,  type_6_4,  type_3_0};
};

/// Bits 127:64 of it. With S, the lowest clear bit of the address tells the size, as ATS has it.
struct device_tlb_high : reg<device_tlb_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, iova> address{};
    static constexpr bits<0, 0, bool> size{}; // S
    static constexpr field_list fields{address, size};
};

/// PASID-based Device-TLB Invalidate Descriptor (p_dev_tlb_inv_dsc), bits 63:0.
struct pasid_based_device_tlb_low : reg<pasid_based_device_tlb_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 52, std::uint16_t> physical_function_source_id_15_4{}; // PFSID
    static constexpr bits<51, 32, std::uint32_t> pasid{};
    static constexpr bits<31, 16, std::uint16_t> source_id{};                        // SID
    static constexpr bits<15, 12, std::uint8_t>  physical_function_source_id_3_0{};
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 8,  4, std::uint8_t>  maximum_invalidations_pending{};    // MIP, 0: 32
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{physical_function_source_id_15_4,
                                       pasid,
                                       source_id,
                                       physical_function_source_id_3_0,
                                       type_6_4,
                                       maximum_invalidations_pending,
                                       type_3_0};
};

/// Bits 127:64 of it.
struct pasid_based_device_tlb_high : reg<pasid_based_device_tlb_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 12, iova> address{};
    static constexpr bits<11, 11, bool> size{}; // S
    static constexpr bits<0, 0, bool> global{}; // G: all PASIDs, where the device can
    static constexpr field_list fields{address, size, global};
};

/// Interrupt Entry Cache Invalidate Descriptor (iec_inv_dsc).
struct interrupt_entry_cache : reg<interrupt_entry_cache, std::uint64_t> {
    using reg::reg;
    enum class scope : std::uint8_t { global = 0, index = 1 };
    // clang-format off
    static constexpr bits<47, 32, std::uint16_t> interrupt_index{}; // IIDX
    static constexpr bits<31, 27, std::uint8_t>  index_mask{};      // IM
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 4,  4, scope>         granularity{};     // G
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{interrupt_index, index_mask, type_6_4, granularity,
                                       type_3_0};
};

/// Invalidation Wait Descriptor (inv_wait_dsc), bits 63:0.
struct wait_low : reg<wait_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t> status_data{};
    static constexpr bits<11,  9, std::uint8_t>  type_6_4{};
    static constexpr bits< 7,  7, bool>          page_request_drain{}; // PD
    static constexpr bits< 6,  6, bool>          fence{};              // FN
    static constexpr bits< 5,  5, bool>          status_write{};       // SW
    static constexpr bits< 4,  4, bool>          interrupt{};          // IF
    static constexpr bits< 3,  0, type>          type_3_0{};
    // clang-format on
    static constexpr field_list fields{
        status_data, type_6_4, page_request_drain, fence, status_write, interrupt, type_3_0};
};

/// Bits 127:64 of it.
struct wait_high : reg<wait_high, std::uint64_t> {
    using reg::reg;
    static constexpr bits<63, 2, hpa> status_address{};
    static constexpr field_list fields{status_address};
};

} // namespace descriptor

/// The type of a descriptor; it may be none that pt knows.
[[nodiscard]] constexpr descriptor::type type_of(const invalidation_descriptor& request) {
    const descriptor::any first{request.word[0]};
    return static_cast<descriptor::type>(first[descriptor::any::type_6_4] << 4 |
                                         first[descriptor::any::type_3_0]);
}

/// 2^address_mask pages of 4 KiB, aligned to as much: what one page-selective invalidation covers.
struct page_block {
    iova first;
    std::uint8_t address_mask = 0; ///< 0..52; 52 is all of the address space

    friend constexpr bool operator==(const page_block&, const page_block&) = default;
};

/// The smallest block that holds all pages of `stale`, which is not empty.
[[nodiscard]] constexpr page_block covering_block(range<iova> stale) {
    const std::uint64_t differing = (stale.first().raw ^ stale.last().raw) >> 12;
    const auto mask = static_cast<std::uint8_t>(64 - std::countl_zero(differing));
    return {stale.first().align_down(4 * KiB << mask), mask};
}

/// Where the block begins, whatever the lower bits of `first` are.
[[nodiscard]] constexpr iova start_of(page_block pages) {
    return pages.first.align_down(4 * KiB << (pages.address_mask & 63U)).align_down(4 * KiB);
}

/// What an invalidation by page says of the entries above the leaves ("invalidation hint").
enum class invalidation_hint : std::uint8_t {
    tables_changed = 0, ///< entries that point to tables changed too
    leaves_only = 1,    ///< caches of upper levels may stay
};

/// A function that keeps translations by itself (ATS), as the unit has to know it.
struct device_tlb {
    std::uint16_t source_id = 0;
    /// Of the physical function behind a virtual one, or its own, so that the unit counts what is
    /// pending for the whole device. 0 where the unit does not (ECAP.DIT): the field is reserved.
    std::uint16_t physical_function_source_id = 0;
    /// How many invalidations it takes before it pushes back: 1 to 32, or 0 for 32, as its ATS
    /// capability has it. Only the lower five bits count.
    std::uint8_t invalidate_queue_depth = 0;
};

/// The descriptors. A domain id is 16 bits, a PASID 20; `source_id` is bus, device and function.
namespace invalidate {

/// All context entries. The IOTLB has to be invalidated after it, at least for the domains
/// concerned.
[[nodiscard]] constexpr invalidation_descriptor context_cache() {
    using d = descriptor::context_cache;
    return {{d{d::type_3_0(descriptor::type::context_cache),
               d::granularity(context_granularity::global)}
                 .raw}};
}
/// All context entries of a domain.
[[nodiscard]] constexpr invalidation_descriptor context_cache(std::uint16_t domain_id) {
    using d = descriptor::context_cache;
    return {{d{d::type_3_0(descriptor::type::context_cache),
               d::granularity(context_granularity::domain), d::domain_id(domain_id)}
                 .raw}};
}
/// The entry of one function, which was in `domain_id` (0 if it was cached as not present: caching
/// mode). `function_mask` 1, 2 or 3: the function numbers' upper 1, 2 or 3 bits are not compared.
[[nodiscard]] constexpr invalidation_descriptor
context_cache(std::uint16_t domain_id, std::uint16_t source_id, std::uint8_t function_mask = 0) {
    using d = descriptor::context_cache;
    return {{d{d::type_3_0(descriptor::type::context_cache),
               d::granularity(context_granularity::device), d::domain_id(domain_id),
               d::source_id(source_id), d::function_mask(function_mask)}
                 .raw}};
}

/// All PASID-table entries.
[[nodiscard]] constexpr invalidation_descriptor pasid_cache() {
    using d = descriptor::pasid_cache;
    return {{d{d::type_3_0(descriptor::type::pasid_cache), d::granularity(d::scope::global)}.raw}};
}
/// All PASID-table entries of a domain.
[[nodiscard]] constexpr invalidation_descriptor pasid_cache(std::uint16_t domain_id) {
    using d = descriptor::pasid_cache;
    return {{d{d::type_3_0(descriptor::type::pasid_cache), d::granularity(d::scope::domain),
               d::domain_id(domain_id)}
                 .raw}};
}
/// The entries of one PASID in a domain.
[[nodiscard]] constexpr invalidation_descriptor pasid_cache(std::uint16_t domain_id,
                                                            std::uint32_t pasid) {
    using d = descriptor::pasid_cache;
    return {{d{d::type_3_0(descriptor::type::pasid_cache), d::granularity(d::scope::pasid),
               d::domain_id(domain_id), d::pasid(pasid)}
                 .raw}};
}

/// All translations. The unit with these capabilities drains what it can: requests that were
/// translated before have then reached memory.
[[nodiscard]] constexpr invalidation_descriptor iotlb(capability cap) {
    using d = descriptor::iotlb_low;
    return {{d{d::type_3_0(descriptor::type::iotlb), d::granularity(iotlb_granularity::global),
               d::drain_reads(cap[capability::drain_reads]),
               d::drain_writes(cap[capability::drain_writes])}
                 .raw}};
}
/// All translations of a domain.
[[nodiscard]] constexpr invalidation_descriptor iotlb(capability cap, std::uint16_t domain_id) {
    using d = descriptor::iotlb_low;
    return {{d{iotlb(cap).word[0]}
                 .with(d::granularity(iotlb_granularity::domain), d::domain_id(domain_id))
                 .raw}};
}
/// The second-stage translations of some pages of a domain; CAP.PSI, and no mask beyond CAP.MAMV.
[[nodiscard]] constexpr invalidation_descriptor iotlb(capability cap, std::uint16_t domain_id,
                                                      page_block pages, invalidation_hint hint) {
    using d = descriptor::iotlb_low;
    using h = descriptor::iotlb_high;
    return {{d{iotlb(cap).word[0]}
                 .with(d::granularity(iotlb_granularity::page), d::domain_id(domain_id))
                 .raw,
             h{h::address(start_of(pages)), h::address_mask(pages.address_mask & 63U),
               h::invalidation_hint(hint == invalidation_hint::leaves_only)}
                 .raw}};
}

/// The first-stage and nested translations of a PASID in a domain.
[[nodiscard]] constexpr invalidation_descriptor pasid_based_iotlb(std::uint16_t domain_id,
                                                                  std::uint32_t pasid) {
    using d = descriptor::pasid_based_iotlb_low;
    return {{d{d::type_3_0(descriptor::type::pasid_based_iotlb), d::granularity(d::scope::pasid),
               d::domain_id(domain_id), d::pasid(pasid)}
                 .raw}};
}
/// Those of some pages.
[[nodiscard]] constexpr invalidation_descriptor pasid_based_iotlb(std::uint16_t domain_id,
                                                                  std::uint32_t pasid,
                                                                  page_block pages,
                                                                  invalidation_hint hint) {
    using d = descriptor::pasid_based_iotlb_low;
    using h = descriptor::iotlb_high;
    return {{d{d::type_3_0(descriptor::type::pasid_based_iotlb), d::granularity(d::scope::page),
               d::domain_id(domain_id), d::pasid(pasid)}
                 .raw,
             h{h::address(start_of(pages)), h::address_mask(pages.address_mask & 63U),
               h::invalidation_hint(hint == invalidation_hint::leaves_only)}
                 .raw}};
}

/// The address with the block's size in its lower bits: all below the size's highest are ones.
[[nodiscard]] constexpr iova address_with_size(page_block pages) {
    const iova first = start_of(pages);
    return pages.address_mask == 0 ? first
                                   : first + ((2 * KiB << (pages.address_mask & 63U)) - 4 * KiB);
}
/// What a function with a device TLB has kept of some pages. After the IOTLB, from which it would
/// fetch the stale translation again.
[[nodiscard]] constexpr invalidation_descriptor device_tlb(const vtd::device_tlb& function,
                                                           page_block pages) {
    using d = descriptor::device_tlb_low;
    using h = descriptor::device_tlb_high;
    const auto physical = function.physical_function_source_id;
    return {{d{d::type_3_0(descriptor::type::device_tlb), d::source_id(function.source_id),
               d::maximum_invalidations_pending(function.invalidate_queue_depth & 31U),
               d::physical_function_source_id_3_0(physical & 15U),
               d::physical_function_source_id_15_4(static_cast<std::uint16_t>(physical >> 4))}
                 .raw,
             h{h::address(address_with_size(pages)), h::size(pages.address_mask != 0)}.raw}};
}
/// All that it has kept.
[[nodiscard]] constexpr invalidation_descriptor device_tlb(const vtd::device_tlb& function) {
    return device_tlb(function, {iova{0}, 52});
}
/// What it has kept of some pages of a PASID.
[[nodiscard]] constexpr invalidation_descriptor
pasid_based_device_tlb(const vtd::device_tlb& function, std::uint32_t pasid, page_block pages) {
    using d = descriptor::pasid_based_device_tlb_low;
    using h = descriptor::pasid_based_device_tlb_high;
    const auto physical = function.physical_function_source_id;
    return {
        {d{d::type_3_0(descriptor::type::pasid_based_device_tlb), d::source_id(function.source_id),
           d::pasid(pasid), d::maximum_invalidations_pending(function.invalidate_queue_depth & 31U),
           d::physical_function_source_id_3_0(physical & 15U),
           d::physical_function_source_id_15_4(static_cast<std::uint16_t>(physical >> 4))}
             .raw,
         h{h::address(address_with_size(pages)), h::size(pages.address_mask != 0)}.raw}};
}
/// All that it has kept of a PASID.
[[nodiscard]] constexpr invalidation_descriptor
pasid_based_device_tlb(const vtd::device_tlb& function, std::uint32_t pasid) {
    return pasid_based_device_tlb(function, pasid, {iova{0}, 52});
}

/// All interrupt-remapping entries.
[[nodiscard]] constexpr invalidation_descriptor interrupt_entries() {
    using d = descriptor::interrupt_entry_cache;
    return {{d{d::type_3_0(descriptor::type::interrupt_entry_cache)}.raw}};
}
/// 2^mask entries from `index` on, aligned to as much; no mask beyond ECAP.MHMV, which has four
/// bits.
[[nodiscard]] constexpr invalidation_descriptor interrupt_entries(std::uint16_t index,
                                                                  std::uint8_t mask = 0) {
    using d = descriptor::interrupt_entry_cache;
    return {{d{d::type_3_0(descriptor::type::interrupt_entry_cache),
               d::granularity(d::scope::index), d::interrupt_index(index), d::index_mask(mask)}
                 .raw}};
}

/// When all before it is done, the unit writes `data` to the dword at `status`, and only then
/// begins what comes after.
[[nodiscard]] constexpr invalidation_descriptor wait(hpa status, std::uint32_t data) {
    using d = descriptor::wait_low;
    using h = descriptor::wait_high;
    return {{d{d::type_3_0(descriptor::type::wait), d::status_data(data), d::status_write(true),
               d::fence(true)}
                 .raw,
             h{h::status_address(status)}.raw}};
}
/// When all before it is done, the unit sends its invalidation completion event.
[[nodiscard]] constexpr invalidation_descriptor wait_with_interrupt() {
    using d = descriptor::wait_low;
    return {{d{d::type_3_0(descriptor::type::wait), d::interrupt(true)}.raw}};
}

} // namespace invalidate

/// Asks for the second-stage translations of `stale` in one domain to be forgotten: for each range
/// one block of pages, or all of the domain's at once where the unit cannot take such a block
/// (CAP.PSI, CAP.MAMV). Errors are the port's.
template <invalidation_port Port>
constexpr result<void> submit_stale(Port& port, std::uint16_t domain_id,
                                    const paging::stale_set<iova>& stale) {
    const capability cap = port.capabilities();
    if (stale.everything()) {
        return port.submit(invalidate::iotlb(cap, domain_id));
    }
    const auto hint =
        stale.tables_changed() ? invalidation_hint::tables_changed : invalidation_hint::leaves_only;
    for (const range<iova>& part : stale) {
        if (part.empty()) {
            continue;
        }
        const page_block pages = covering_block(part);
        if (!cap[capability::page_selective_invalidation] ||
            pages.address_mask > cap[capability::maximum_address_mask]) {
            return port.submit(invalidate::iotlb(cap, domain_id)); // this is all the others, too
        }
        if (const result<void> asked = port.submit(invalidate::iotlb(cap, domain_id, pages, hint));
            !asked) {
            return asked;
        }
    }
    return {};
}

/// Asks for what a function with a device TLB has kept of `stale` to be forgotten; after
/// submit_stale(), because a device TLB is filled from the IOTLB. Errors are the port's.
template <invalidation_port Port>
constexpr result<void> submit_device_tlb(Port& port, device_tlb function,
                                         const paging::stale_set<iova>& stale) {
    if (!port.extended_capabilities()[extended_capability::device_tlb_invalidation_throttle]) {
        function.physical_function_source_id = 0; // reserved there
    }
    if (stale.everything()) {
        return port.submit(invalidate::device_tlb(function));
    }
    for (const range<iova>& part : stale) {
        if (part.empty()) {
            continue;
        }
        if (const result<void> asked =
                port.submit(invalidate::device_tlb(function, covering_block(part)));
            !asked) {
            return asked;
        }
    }
    return {};
}

} // namespace pt::vtd
