// SPDX-License-Identifier: BSL-1.0
// Models and near misses of the paging policies; and that the engine needs no more than the
// archetypes have.
#include "pt/core/archetype.hpp"
#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/publication.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

// The engine compiles with policies that have nothing to spare.
template class pt::paging::table<pt::ept::format, pt::archetype::table_memory,
                                 pt::archetype::publication, pt::archetype::mutex>;
template class pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory,
                                 pt::archetype::publication, pt::archetype::shared_mutex>;
template class pt::paging::table<pt::x86_64::nested_paging, pt::archetype::table_memory,
                                 pt::archetype::publication, pt::archetype::mutex>;
template class pt::paging::flush_batch<pt::ept::format, pt::archetype::table_memory, 1>;

namespace {

using pt::gpa;
using pt::hpa;
using pt::iova;
using pt::result;
using pt::paging::invalidator;
using pt::paging::stale_set;

// The ready models.
static_assert(pt::table_memory<pt::arena_memory<4>>);
static_assert(pt::table_memory<pt::identity_memory<pt::archetype::frame_source>>);
static_assert(pt::table_memory<pt::offset_memory<pt::archetype::frame_source>>);
static_assert(pt::frame_source<pt::pool_frames<pt::identity_map>>);
static_assert(pt::frame_map<pt::identity_map> && pt::frame_map<pt::offset_map>);
static_assert(pt::publication<pt::paging::coherent_publication>);
static_assert(pt::publication<pt::paging::clflush_publication>);
static_assert(pt::publication<pt::paging::clflushopt_publication>);
static_assert(pt::publication<pt::paging::clwb_publication>);
static_assert(pt::mutex<pt::no_mutex> && !pt::shared_mutex<pt::no_mutex>);
static_assert(pt::shared_mutex<pt::no_shared_mutex>);
// The owners are no policies: a copy would be a second owner.
static_assert(!pt::table_memory<pt::arena<4>> && !std::is_copy_constructible_v<pt::arena<4>>);
static_assert(!pt::frame_source<pt::frame_pool<pt::identity_map>>);

// An empty policy costs nothing.
static_assert(sizeof(pt::identity_memory<pt::archetype::frame_source>) == 1);

/// As docs/policies/invalidator.md shows it.
struct invept {
    std::uint64_t eptp;
    result<void> invalidate(const stale_set<gpa>&) {
        const std::uint64_t descriptor[2] = {eptp, 0};
        const std::uint64_t type = 1; // single context
        bool failed;
        asm volatile("invept %1, %2" : "=@ccbe"(failed) : "m"(descriptor), "r"(type) : "memory");
        return failed ? result<void>{pt::error{pt::errc::hardware_fault, eptp}} : result<void>{};
    }
};
struct iotlb {
    result<void> invalidate(const stale_set<iova>&) { return {}; }
};
struct cannot_fail {
    void invalidate(const stale_set<gpa>&) {}
};
static_assert(invalidator<invept, gpa> && invalidator<iotlb, iova>);
static_assert(!invalidator<invept, iova>); // of another address space
static_assert(!invalidator<iotlb, gpa>);
static_assert(!invalidator<cannot_fail, gpa>); // says nothing about success
static_assert(!invalidator<const invept, gpa>);

struct no_release {
    result<hpa> allocate(pt::frame_contents) { return hpa{0}; }
    std::uint64_t* entries(hpa) { return nullptr; }
};
struct frames_of_the_guest {
    result<gpa> allocate(pt::frame_contents) { return gpa{0}; }
    void release(gpa) {}
    std::uint64_t* entries(gpa) { return nullptr; }
};
static_assert(!pt::table_memory<no_release> && !pt::table_memory<frames_of_the_guest>);

using pt::paging::entry_format;
static_assert(entry_format<pt::ept::format> && entry_format<pt::vtd::second_stage::format>);
static_assert(entry_format<pt::x86_64::nested_paging> && entry_format<pt::x86_64::first_stage>);
struct no_split : pt::ept::format {
    void split(std::uint64_t, unsigned) const {}
};
static_assert(!entry_format<no_split>);
struct no_join : pt::ept::format {
    void join(std::uint64_t, unsigned) const {}
};
struct attributes_of_any_level : pt::ept::format {
    pt::ept::attributes attributes_of(std::uint64_t) const { return {}; }
};
struct flags_without_a_mask : pt::ept::format {
    static constexpr const char* dirty_mask = "";
};
static_assert(!entry_format<no_join> && !entry_format<attributes_of_any_level> &&
              !entry_format<flags_without_a_mask>);
struct publishes_nowhere : pt::ept::format {
    using default_publication = void;
};
static_assert(!entry_format<publishes_nowhere>);
struct checks_input_only : pt::ept::format {
    result<void> check(attributes) const { return {}; }
    result<void> check(pt::range<gpa>) const { return {}; }
};
static_assert(!entry_format<checks_input_only>);

// What is right on all hardware is what one gets who says nothing: a remapping unit need not snoop.
template <class Format>
using plain = pt::paging::table<Format, pt::archetype::table_memory>;
static_assert(std::is_same_v<plain<pt::ept::format>,
                             pt::paging::table<pt::ept::format, pt::archetype::table_memory,
                                               pt::paging::coherent_publication, pt::no_mutex>>);
static_assert(
    std::is_same_v<plain<pt::vtd::second_stage::format>,
                   pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory,
                                     pt::paging::clflush_publication, pt::no_mutex>>);

using least = pt::paging::table<pt::ept::format, pt::archetype::table_memory,
                                pt::archetype::publication, pt::archetype::mutex>;

// Tables and tickets have one owner; a ticket can be handed on.
static_assert(!std::is_copy_constructible_v<least> && !std::is_move_constructible_v<least>);
static_assert(!std::is_copy_constructible_v<least::ticket> &&
              !std::is_copy_assignable_v<least::ticket>);
static_assert(std::is_nothrow_move_constructible_v<least::ticket>);
static_assert(!std::is_default_constructible_v<least::ticket>);
using batch = pt::paging::flush_batch<pt::ept::format, pt::archetype::table_memory>;
static_assert(!std::is_copy_constructible_v<batch> && !std::is_move_constructible_v<batch>);
static_assert(!std::is_copy_assignable_v<least::ticket> && !std::is_move_assignable_v<batch>);
// Who maps through a cursor has the table's mutex: there is one at a time, and it stays where it is.
static_assert(!std::is_copy_constructible_v<least::cursor_type> &&
              !std::is_move_constructible_v<least::cursor_type>);

// Address spaces do not mix.
template <class Table, class Address>
concept maps = requires(Table& t, pt::range<Address> input, typename Table::attributes a) {
    t.map(input, hpa{0}, a);
};
using domain = pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory>;
static_assert(maps<least, gpa> && !maps<least, iova> && !maps<least, hpa>);
static_assert(maps<domain, iova> && !maps<domain, gpa> && !maps<domain, hpa>);

// To take the right to write away must leave something.
template <class Table>
concept protects_writes = requires(Table& t, pt::range<typename Table::address> input) {
    t.write_protect(input);
};
static_assert(protects_writes<least> && !protects_writes<domain>);

// Pages that lie anywhere: a pointer, an array, anything that is indexed and gives an hpa.
struct computed {
    hpa operator[](std::size_t i) const { return hpa{i << 12}; }
};
struct of_the_guest {
    gpa operator[](std::size_t i) const { return gpa{i << 12}; }
};
using pt::paging::page_list;
static_assert(page_list<hpa*> && page_list<const hpa*> && page_list<hpa[4]> && page_list<computed>);
static_assert(!page_list<of_the_guest> && !page_list<gpa*> && !page_list<std::uint64_t*> &&
              !page_list<hpa>);

// A ticket is redeemed with an invalidator of its own address space, and with nothing else.
template <class Ticket, class Hardware>
concept redeems = requires(Ticket& owed, Hardware& hardware) {
    owed.redeem(hardware);
};
static_assert(redeems<least::ticket, invept> && !redeems<least::ticket, iotlb>);
static_assert(redeems<domain::ticket, iotlb> && !redeems<domain::ticket, invept>);
static_assert(!redeems<least::ticket, cannot_fail>);

} // namespace
