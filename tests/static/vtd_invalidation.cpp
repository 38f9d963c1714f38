// SPDX-License-Identifier: BSL-1.0 Descriptors bit by bit: where each field is comes from the
// manual as Linux and QEMU have written it down (QI_* and VTD_INV_DESC_*), as plain numbers here.
#include "pt/vtd/invalidation.hpp"

#include "pt/core/archetype.hpp"
#include "pt/vtd/invalidation_queue.hpp"
#include "pt/vtd/register_invalidation.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using pt::iova;
using pt::range;
using pt::result;
using namespace pt::vtd;
using pt::paging::stale_set;
using u64 = std::uint64_t;

constexpr bool is(const invalidation_descriptor& made, u64 low, u64 high = 0) {
    return made.word[0] == low && made.word[1] == high && made.word[2] == 0 && made.word[3] == 0;
}

// Context cache: type 1, G 5:4, DID 31:16, SID 47:32, FM 49:48.
static_assert(is(invalidate::context_cache(), 0x11));
static_assert(is(invalidate::context_cache(0xABCD), 0xABCD'0021));
static_assert(is(invalidate::context_cache(0xABCD, 0x1234), 0x0000'1234'ABCD'0031));
static_assert(is(invalidate::context_cache(0xFFFF, 0xFFFF, 3), 0x0003'FFFF'FFFF'0031));

// PASID cache: type 7, G 5:4 (0 domain, 1 PASID, 3 all), DID 31:16, PASID 51:32.
static_assert(is(invalidate::pasid_cache(), 0x37));
static_assert(is(invalidate::pasid_cache(0xABCD), 0xABCD'0007));
static_assert(is(invalidate::pasid_cache(0xABCD, 0x12345), 0x0001'2345'ABCD'0017));
static_assert(is(invalidate::pasid_cache(0xFFFF, 0xFFFFF), 0x000F'FFFF'FFFF'0017));

// IOTLB: type 2, G 5:4, DW 6, DR 7, DID 31:16; AM 5:0, IH 6, address 63:12.
constexpr capability no_drain{0};
constexpr capability drains_writes{u64{1} << 54};
constexpr capability drains_reads{u64{1} << 55};
constexpr capability drains{u64{3} << 54};
constexpr auto tables_changed = invalidation_hint::tables_changed;
constexpr auto leaves_only = invalidation_hint::leaves_only;
static_assert(is(invalidate::iotlb(no_drain), 0x12));
static_assert(is(invalidate::iotlb(drains_writes), 0x52));
static_assert(is(invalidate::iotlb(drains_reads), 0x92));
static_assert(is(invalidate::iotlb(drains, 0xABCD), 0xABCD'00E2));
static_assert(is(invalidate::iotlb(drains, 7, {iova{0xFFFF'FFFF'FFFF'F000}, 0}, tables_changed),
                 0x0007'00F2, 0xFFFF'FFFF'FFFF'F000));
static_assert(is(invalidate::iotlb(no_drain, 7, {iova{0x1234'5000}, 4}, leaves_only), 0x0007'0032,
                 0x1234'0044));
static_assert(is(invalidate::iotlb(no_drain, 0, {iova{~u64{0}}, 52}, tables_changed), 0x32, 52));

// PASID-based IOTLB: type 6, G 5:4 (2 all of a PASID, 3 pages), DID 31:16, PASID 51:32.
static_assert(is(invalidate::pasid_based_iotlb(0xABCD, 0x12345), 0x0001'2345'ABCD'0026));
static_assert(is(invalidate::pasid_based_iotlb(0xABCD, 0xFFFFF, {iova{0x7FFF}, 2}, leaves_only),
                 0x000F'FFFF'ABCD'0036, 0x4042));

// Device TLB: type 3, PFSID 3:0 in 15:12 and 15:4 in 63:52, MIP 20:16, SID 47:32; S 0, address
// 63:12.
constexpr device_tlb nic{0x0428, 0x1ABC, 5};
static_assert(is(invalidate::device_tlb(nic, {iova{0x8000'1000}, 0}), 0x1AB0'0428'0005'C003,
                 0x8000'1000));
static_assert(is(invalidate::device_tlb({0xFFFF, 0xFFFF, 31}, {iova{0}, 1}), 0xFFF0'FFFF'001F'F003,
                 0x1));
// 0 stands for 32.
static_assert(is(invalidate::device_tlb({1, 0, 32}, {iova{0}, 0}), 0x0000'0001'0000'0003));
static_assert(is(invalidate::device_tlb({1, 0, 255}, {iova{0}, 0}), 0x0000'0001'001F'0003));
// Everything: all ones but the highest [pcie, "Address Translation Services"].
static_assert(is(invalidate::device_tlb(nic), 0x1AB0'0428'0005'C003, 0x7FFF'FFFF'FFFF'F001));

// PASID-based: type 8, MIP 8:4, PFSID as above, SID 31:16, PASID 51:32; G 0, S 11.
static_assert(is(invalidate::pasid_based_device_tlb(nic, 0x54321, {iova{0x8000'1000}, 0}),
                 0x1AB5'4321'0428'C058, 0x8000'1000));
static_assert(is(invalidate::pasid_based_device_tlb({0xFFFF, 0xFFFF, 31}, 0xFFFFF,
                                                    {iova{0x20'0000}, 9}),
                 0xFFFF'FFFF'FFFF'F1F8, 0x2F'F800));
static_assert(is(invalidate::pasid_based_device_tlb(nic, 1), 0x1AB0'0001'0428'C058,
                 0x7FFF'FFFF'FFFF'F800));

// Interrupt entry cache: type 4, G 4, IM 31:27, IIDX 47:32.
static_assert(is(invalidate::interrupt_entries(), 0x4));
static_assert(is(invalidate::interrupt_entries(0xABCD), 0xABCD'0000'0014));
static_assert(is(invalidate::interrupt_entries(0xFFF0, 4), 0xFFF0'2000'0014));
static_assert(is(invalidate::interrupt_entries(0, 31), 0xF800'0014));

// Wait: type 5, IF 4, SW 5, FN 6, PD 7, data 63:32; address 63:2. QEMU 7.2 stops at SW with IF.
static_assert(is(invalidate::wait(pt::hpa{0x1234'5678'9ABC'DEFC}, 0x8765'4321),
                 0x8765'4321'0000'0065, 0x1234'5678'9ABC'DEFC));
static_assert(is(invalidate::wait_with_interrupt(), 0x15));

// The words' fields lie where the manual has them, also those that no function sets.
static_assert(descriptor::wait_low{descriptor::wait_low::page_request_drain(true)}.raw == 0x80);
static_assert(descriptor::pasid_based_device_tlb_high{
                  descriptor::pasid_based_device_tlb_high::global(true)}
                  .raw == 1);
static_assert(descriptor::any{descriptor::any::type_6_4(7)}.raw == 0xE00);

// The type is seven bits in two places, in every first word.
template <class... Words>
constexpr bool have_type = ((Words::type_3_0.mask == 0xF && Words::type_6_4.mask == 0xE00) && ...);
static_assert(have_type<descriptor::any, descriptor::context_cache, descriptor::pasid_cache,
                        descriptor::iotlb_low, descriptor::pasid_based_iotlb_low,
                        descriptor::device_tlb_low, descriptor::pasid_based_device_tlb_low,
                        descriptor::interrupt_entry_cache, descriptor::wait_low>);
static_assert(type_of(invalidate::pasid_cache()) == descriptor::type::pasid_cache);
static_assert(type_of({{0x205}}) != descriptor::type::wait);
static_assert(static_cast<unsigned>(type_of({{0xE0F}})) == 0x7F);
static_assert(static_cast<unsigned>(type_of({{0xF1F0}})) == 0);

/// A second model of the block: try sizes, smallest first.
constexpr bool covers_least(u64 first, u64 last) {
    const page_block made = covering_block({iova{first}, last - first + 1});
    for (unsigned mask = 0; mask < 52; ++mask) {
        const u64 size = u64{4096} << mask;
        if (first / size == last / size) {
            return made.address_mask == mask && made.first.raw == first / size * size;
        }
    }
    return made == page_block{iova{0}, 52};
}
constexpr bool covers_everywhere() {
    constexpr u64 edges[] = {0,
                             0x1000,
                             0x2000,
                             0x3000,
                             0x1F'F000,
                             0x20'0000,
                             0x20'1000,
                             0x3FFF'F000,
                             u64{1} << 30,
                             0x4000'1000,
                             0xFFFF'F000,
                             0x1'0000'0000,
                             u64{1} << 47,
                             u64{1} << 56,
                             u64{1} << 63,
                             ~u64{0} << 12};
    for (const u64 first : edges) {
        for (const u64 other : edges) {
            if (other >= first && !(first == 0 && other == ~u64{0} << 12) &&
                !covers_least(first, other + 0xFFF)) {
                return false;
            }
        }
    }
    return true;
}
static_assert(covers_everywhere());
static_assert(covering_block({iova{0}, ~u64{0}}) ==
              page_block{iova{0}, 52}); // as large as ranges are

/// ATS [pcie]: with S clear it is one page; with S set, the size is twice that of the page whose
/// bit is the lowest clear one.
constexpr bool device_reads_back(u64 address, unsigned mask) {
    const auto made = invalidate::device_tlb(nic, {iova{address}, static_cast<std::uint8_t>(mask)});
    if ((made.word[1] & 0xFFE) != 0) {
        return false; // reserved
    }
    unsigned read = 0;
    if ((made.word[1] & 1) != 0) {
        unsigned bit = 12;
        while ((made.word[1] >> bit & 1) != 0) {
            ++bit;
        }
        read = bit - 12 + 1;
    }
    const auto above = [&](u64 x) { return 12 + read >= 64 ? 0 : x >> (12 + read); };
    return read == mask && above(made.word[1]) == above(address);
}
constexpr bool all_sizes_read_back() {
    for (unsigned mask = 0; mask <= 52; ++mask) {
        for (const u64 address : {u64{0}, u64{0x1234'5678'9ABC'D000}, ~u64{0}, ~u64{0} << 20}) {
            if (!device_reads_back(address, mask)) {
                return false;
            }
        }
    }
    return true;
}
static_assert(all_sizes_read_back());

/// What was asked for, in order.
struct port {
    capability cap{};
    extended_capability ecap{};
    std::size_t room = 8;
    invalidation_descriptor asked[8]{};
    std::size_t count = 0;

    constexpr result<void> submit(const invalidation_descriptor& request) {
        if (count == room) {
            return pt::error{pt::errc::busy, 77};
        }
        asked[count++] = request;
        return {};
    }
    constexpr result<void> complete() { return {}; }
    constexpr capability capabilities() const { return cap; }
    constexpr extended_capability extended_capabilities() const { return ecap; }
};
static_assert(invalidation_port<port>);

struct silent : port {
    constexpr void submit(const invalidation_descriptor&) {}
};
static_assert(!invalidation_port<silent>);
struct endless : port {
    void complete() = delete;
};
static_assert(!invalidation_port<endless>);
struct unknowing : port {
    void capabilities() = delete;
};
static_assert(!invalidation_port<unknowing>);
struct unknowing_more : port {
    void extended_capabilities() = delete;
};
static_assert(!invalidation_port<unknowing_more>);

// Page-selective with masks up to 9, draining.
constexpr capability by_page{u64{1} << 39 | u64{9} << 48 | u64{3} << 54};
constexpr range<iova> page_and_table[] = {{iova{0x5000}, 0x1000}, {}, {iova{0x20'0000}, 0x20'0000}};

constexpr bool pages_are_asked_for_one_by_one() {
    port p{by_page, {}};
    bool ok = submit_stale(p, 7, {page_and_table, 3, false}).has_value();
    ok = ok && p.count == 2 && is(p.asked[0], 0x0007'00F2, 0x5040) &&
         is(p.asked[1], 0x0007'00F2, 0x20'0049);
    port q{by_page, {}};
    ok = ok && submit_stale(q, 7, {page_and_table, 3, true}).has_value();
    return ok && q.count == 2 && is(q.asked[0], 0x0007'00F2, 0x5000) &&
           is(q.asked[1], 0x0007'00F2, 0x20'0009);
}
static_assert(pages_are_asked_for_one_by_one());

constexpr bool what_pages_cannot_say_is_the_domain() {
    bool ok = true;
    // No page-selective invalidation; a mask that is one too large; everything.
    port plain{drains, {}};
    ok = ok && submit_stale(plain, 7, {page_and_table, 3, false}).has_value();
    port small{capability{u64{1} << 39 | u64{8} << 48}, {}};
    ok = ok && submit_stale(small, 7, {page_and_table, 3, false}).has_value();
    port all{by_page, {}};
    ok = ok && submit_stale(all, 7, stale_set<iova>::all()).has_value();
    port none{by_page, {}};
    ok = ok && submit_stale(none, 7, {}).has_value();
    return ok && plain.count == 1 && is(plain.asked[0], 0x0007'00E2) && small.count == 2 &&
           is(small.asked[1], 0x0007'0022) && all.count == 1 && is(all.asked[0], 0x0007'00E2) &&
           none.count == 0;
}
static_assert(what_pages_cannot_say_is_the_domain());

constexpr bool device_tlbs_are_asked_by_size() {
    port p{by_page, extended_capability{u64{1} << 41}};
    bool ok = submit_device_tlb(p, nic, {page_and_table, 3, true}).has_value();
    ok = ok && p.count == 2 && is(p.asked[0], 0x1AB0'0428'0005'C003, 0x5000) &&
         is(p.asked[1], 0x1AB0'0428'0005'C003, 0x2F'F001);
    // PFSID is reserved where the unit does not throttle.
    port old{by_page, {}};
    ok = ok && submit_device_tlb(old, nic, stale_set<iova>::all()).has_value();
    return ok && old.count == 1 && is(old.asked[0], 0x0000'0428'0005'0003, 0x7FFF'FFFF'FFFF'F001);
}
static_assert(device_tlbs_are_asked_by_size());

constexpr bool the_port_s_error_is_told() {
    port full{by_page, {}, 1};
    const pt::error why{pt::errc::busy, 77};
    const bool ok =
        submit_stale(full, 7, {page_and_table, 3, false}) == result<void>{why} && full.count == 1;
    port none{by_page, {}, 0};
    return ok && submit_stale(none, 7, stale_set<iova>::all()) == result<void>{why} &&
           submit_device_tlb(none, nic, {page_and_table, 3, true}) == result<void>{why} &&
           submit_device_tlb(none, nic, stale_set<iova>::all()) == result<void>{why};
}
static_assert(the_port_s_error_is_told());

// Both ports are ports, and use nothing of their policies beyond the concepts.
using by_register = register_invalidation<pt::archetype::mmio_io, pt::archetype::clock>;
using by_queue =
    invalidation_queue<pt::archetype::mmio_io, pt::archetype::clock, pt::archetype::table_memory>;
static_assert(invalidation_port<by_register> && invalidation_port<by_queue>);
static_assert(!std::is_copy_constructible_v<by_queue> && !std::is_copy_assignable_v<by_queue> &&
              std::is_nothrow_move_constructible_v<by_queue> &&
              !std::is_move_assignable_v<by_queue>);

static_assert(device_in_time_out({pt::errc::time_out, names_device | 0x0428}).value() == 0x0428);
static_assert(device_in_time_out({pt::errc::time_out, names_device | 0xFFFF}).value() == 0xFFFF);
static_assert(!device_in_time_out({pt::errc::time_out, 0x80}));
static_assert(!device_in_time_out({pt::errc::hardware_fault, names_device | 0x0428}));
static_assert(!device_in_time_out({pt::errc::time_out, names_device << 1}));

} // namespace

// With linkage, since nobody calls it.
template <class Queue>
void uses_only_the_concepts(Queue& queue,
                            register_window<pt::archetype::mmio_io, pt::archetype::clock> window) {
    (void)Queue::create(window, {});
    (void)Queue::take_over(window);
    (void)queue.start();
    (void)queue.submit(invalidate::context_cache());
    (void)queue.start_pending();
    (void)queue.post_with_interrupt();
    (void)queue.post();
    (void)queue.done({});
    (void)queue.take_completion_event();
    (void)queue.complete();
    (void)queue.stop();
    (void)queue.retire();
    queue.leak();
}
template void
uses_only_the_concepts<by_queue>(by_queue&,
                                 register_window<pt::archetype::mmio_io, pt::archetype::clock>);
