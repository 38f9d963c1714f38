// SPDX-License-Identifier: BSL-1.0
// The table entries of both modes against the figures of the VT-d specification, written down here
// a second time as plain masks; translations as entries and back.
#include "pt/core/archetype.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/vtd/root_table.hpp"
#include "pt/vtd/scalable_tables.hpp"
#include "pt/vtd/tables.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::vtd;
using pt::errc;
using pt::error;
using pt::gpa;
using pt::hpa;
using pt::result;

template <class R, class Field>
constexpr std::uint64_t mask(Field) {
    static_assert(std::is_same_v<typename Field::owner, R>);
    return Field::mask;
}
template <class R>
constexpr std::uint64_t all = R::fields.mask_of(pt::access::read_write);

constexpr std::uint64_t address = 0xFFFF'FFFF'FFFF'F000;

// Legacy mode
static_assert(mask<root_entry>(root_entry::context_table) == address);
static_assert(mask<root_entry>(root_entry::present) == 0x1);
static_assert(all<root_entry> == (address | 0x1));
using low = context_entry_low;
static_assert(mask<low>(low::second_stage_table) == address);
static_assert(mask<low>(low::translation_type) == 0xC);
static_assert(mask<low>(low::fault_processing_disable) == 0x2);
static_assert(mask<low>(low::present) == 0x1);
static_assert(all<low> == (address | 0xF));
using high = context_entry_high;
static_assert(mask<high>(high::domain_id) == 0xFF'FF00);
static_assert(mask<high>(high::ignored) == 0x78);
static_assert(mask<high>(high::address_width) == 0x7);
static_assert(all<high> == 0xFF'FF7F);

// Scalable mode: root and context entry
static_assert(mask<scalable_root_entry_low>(scalable_root_entry_low::lower_context_table) ==
              address);
static_assert(mask<scalable_root_entry_low>(scalable_root_entry_low::lower_present) == 0x1);
static_assert(mask<scalable_root_entry_high>(scalable_root_entry_high::upper_context_table) ==
              address);
static_assert(mask<scalable_root_entry_high>(scalable_root_entry_high::upper_present) == 0x1);
using slow = scalable_context_entry_low;
static_assert(mask<slow>(slow::pasid_directory) == address);
static_assert(mask<slow>(slow::pasid_directory_size) == 0xE00);
static_assert(mask<slow>(slow::page_request_enable) == 0x10);
static_assert(mask<slow>(slow::pasid_enable) == 0x08);
static_assert(mask<slow>(slow::device_tlb_enable) == 0x04);
static_assert(mask<slow>(slow::fault_processing_disable) == 0x02);
static_assert(mask<slow>(slow::present) == 0x01);
static_assert(all<slow> == (address | 0xE1F));
using shigh = scalable_context_entry_high;
static_assert(mask<shigh>(shigh::rid_priv) == 0x10'0000);
static_assert(mask<shigh>(shigh::rid_pasid) == 0x0F'FFFF);
static_assert(all<shigh> == 0x1F'FFFF);

// PASID directory and table
using dir = pasid_directory_entry;
static_assert(mask<dir>(dir::pasid_table) == address);
static_assert(mask<dir>(dir::fault_processing_disable) == 0x2);
static_assert(mask<dir>(dir::present) == 0x1);
static_assert(all<dir> == (address | 0x3));
using p0 = pasid_entry_63_0;
static_assert(mask<p0>(p0::second_stage_table) == address);
static_assert(mask<p0>(p0::second_stage_access_dirty_enable) == 0x200);
static_assert(mask<p0>(p0::translation_type) == 0x1C0);
static_assert(mask<p0>(p0::address_width) == 0x1C);
static_assert(mask<p0>(p0::fault_processing_disable) == 0x2);
static_assert(mask<p0>(p0::present) == 0x1);
static_assert(all<p0> == (address | 0x3DF));
using p1 = pasid_entry_127_64;
static_assert(mask<p1>(p1::page_attribute_table) == 0xFFFF'FFFF'0000'0000);
static_assert(mask<p1>(p1::page_level_cache_disable) == 0x8000'0000);
static_assert(mask<p1>(p1::page_level_write_through) == 0x4000'0000);
static_assert(mask<p1>(p1::extended_memory_type) == 0x3800'0000);
static_assert(mask<p1>(p1::extended_memory_type_enable) == 0x0400'0000);
static_assert(mask<p1>(p1::cache_disable) == 0x0200'0000);
static_assert(mask<p1>(p1::page_snoop) == 0x0100'0000);
static_assert(mask<p1>(p1::page_walk_snoop) == 0x0080'0000);
static_assert(mask<p1>(p1::domain_id) == 0xFFFF);
static_assert(all<p1> == 0xFFFF'FFFF'FF80'FFFF);
using p2 = pasid_entry_191_128;
static_assert(mask<p2>(p2::first_stage_table_frame) == address);
static_assert(mask<p2>(p2::extended_accessed_flag_enable) == 0x80);
static_assert(mask<p2>(p2::supervisor_mode_execute_prevention) == 0x40);
static_assert(mask<p2>(p2::no_execute_enable) == 0x20);
static_assert(mask<p2>(p2::write_protect_enable) == 0x10);
static_assert(mask<p2>(p2::first_stage_paging_mode) == 0x0C);
static_assert(mask<p2>(p2::execute_request_enable) == 0x02);
static_assert(mask<p2>(p2::supervisor_request_enable) == 0x01);
static_assert(all<p2> == (address | 0xFF));
static_assert(sizeof(context_entry) == 16 && sizeof(scalable_context_entry) == 16 &&
              sizeof(pasid_entry) == 24);
static_assert(std::is_trivially_copyable_v<context_entry> &&
              std::is_trivially_copyable_v<pasid_entry> &&
              std::is_trivially_copyable_v<translation>);
static_assert(static_cast<unsigned>(pasid_translation_type::first_stage) == 1 &&
              static_cast<unsigned>(pasid_translation_type::second_stage) == 2 &&
              static_cast<unsigned>(pasid_translation_type::nested) == 3 &&
              static_cast<unsigned>(pasid_translation_type::pass_through) == 4);

// What translations become, in numbers, on QEMU's unit (3 and 4 levels) and on one that can do all.
constexpr capability cap{0x00d2'008c'222f'0606};
constexpr extended_capability ecap{0x00f0'0f4a};
constexpr extended_capability can_all{~std::uint64_t{0}};
constexpr capability five{cap.raw | 0x0800 | std::uint64_t{1} << 60}; // SAGAW bit 3, FS5LP
constexpr second_stage::format walked(unsigned levels, bool flags = false) {
    return second_stage::format{{.levels = levels, .accessed_dirty = flags}};
}
constexpr bool is(const result<context_entry>& made, std::uint64_t low_half,
                  std::uint64_t high_half) {
    return made && made->low.raw == low_half && made->high.raw == high_half;
}
constexpr bool is(const result<pasid_entry>& made, std::uint64_t a, std::uint64_t b,
                  std::uint64_t c) {
    return made && made->bits_63_0.raw == a && made->bits_127_64.raw == b &&
           made->bits_191_128.raw == c;
}

constexpr auto plain = translation::second_stage(hpa{0x12'3000}, walked(4), 0xABCD);
constexpr auto guest = translation::first_stage(hpa{0x45'6000}, 5, 2);
constexpr auto nested = translation::nested(gpa{0x78'9000}, 4, hpa{0x12'3000}, walked(3, true), 3);
constexpr auto none = translation::pass_through(4);

static_assert(is(context_entry_for(cap, ecap, plain), 0x12'3001, 0xAB'CD02));
static_assert(is(context_entry_for(cap, can_all, plain.with_device_tlb()), 0x12'3005, 0xAB'CD02));
static_assert(is(context_entry_for(cap, ecap, plain.with_faults_disabled()), 0x12'3003, 0xAB'CD02));
// Pass-through entries take the unit's largest width (rule 17).
static_assert(is(context_entry_for(cap, ecap, none), 0x9, 0x402));
static_assert(is(context_entry_for(five, ecap, none), 0x9, 0x403));
static_assert(is(context_entry_for(capability{cap.raw & ~0x0400ULL}, ecap, none), 0x9, 0x401));
// In legacy mode there is no first stage, no PASID, no page snoop, no accessed and dirty flag.
static_assert(context_entry_for(five, can_all, guest).error().code == errc::not_supported);
static_assert(context_entry_for(five, can_all, nested).error().code == errc::not_supported);
static_assert(context_entry_for(five, can_all, plain.with_pasids()).error().code ==
              errc::not_supported);
static_assert(context_entry_for(five, can_all, plain.with_page_snoop()).error().code ==
              errc::not_supported);
static_assert(context_entry_for(five, can_all,
                                translation::second_stage(hpa{0x1000}, walked(4, true), 1))
                  .error()
                  .code == errc::not_supported);

static_assert(is(pasid_entry_for(cap, can_all, plain), 0x12'3089, 0x80'ABCD, 0));
static_assert(is(pasid_entry_for(cap, can_all, plain.with_page_snoop()), 0x12'3089, 0x180'ABCD, 0));
static_assert(is(pasid_entry_for(cap, can_all, plain.with_faults_disabled()), 0x12'308B, 0x80'ABCD,
                 0));
static_assert(is(pasid_entry_for(five, can_all, guest), 0x4D, 0x80'0002, 0x45'6004));
static_assert(is(pasid_entry_for(cap, can_all, nested), 0x12'32C5, 0x80'0003, 0x78'9000));
static_assert(is(pasid_entry_for(cap, can_all, none), 0x109, 0x80'0004, 0));
// Without page-walk coherency nothing is snooped.
constexpr extended_capability incoherent{~(std::uint64_t{1} << 48)};
static_assert(is(pasid_entry_for(cap, incoherent, plain), 0x12'3089, 0xABCD, 0));
static_assert(pasid_entry_for(cap, ecap, plain).error() == error{errc::not_supported, 0x10});

// A root that is no frame, whoever named it.
static_assert(context_entry_for(cap, ecap, translation::second_stage(hpa{0x800}, walked(4), 1))
                  .error() == error{errc::misaligned, 0x800});

// And back: an entry says what it was made of.
constexpr bool round_trips(const translation& t) {
    const auto entry = pasid_entry_for(five, can_all, t);
    return entry && translation::of(*entry) == t;
}
static_assert(round_trips(plain) && round_trips(guest) && round_trips(nested) &&
              round_trips(none) && round_trips(plain.with_page_snoop()) &&
              round_trips(nested.with_faults_disabled()));
static_assert(translation::of(*context_entry_for(five, can_all, plain.with_device_tlb())) ==
              plain.with_device_tlb());
static_assert(translation::of(*context_entry_for(five, can_all, none)) == none);
static_assert(translation::of(scalable_context_entry{slow{0xC}, {}},
                              *pasid_entry_for(five, can_all, guest)) ==
              guest.with_device_tlb().with_pasids());

// The number of levels is the format's and nobody else's; see also tests/fail.
template <class Levels>
concept gives_levels = requires(Levels levels) {
    translation::second_stage(hpa{}, levels, std::uint16_t{1});
};
static_assert(gives_levels<second_stage::format>);
static_assert(!gives_levels<unsigned> && !gives_levels<int> && !gives_levels<second_stage::limits>);
// A guest's own tables are in the guest's memory, and the host's are not.
template <class Root>
concept nests = requires(Root root) {
    translation::nested(root, 4, hpa{}, walked(4), 1);
};
static_assert(nests<gpa> && !nests<hpa>);

// The root table uses nothing of its policies beyond the concepts, and costs nothing for empty
// ones.
using archetypal =
    root_table<pt::archetype::table_memory, pt::archetype::publication, pt::archetype::wide_store>;
static_assert(archetypal::create({}, table_mode::legacy).error().code == errc::out_of_frames);
static_assert(archetypal::create({}, table_mode::scalable).error().code == errc::out_of_frames);
static_assert(!std::is_copy_constructible_v<archetypal> && !std::is_copy_assignable_v<archetypal> &&
              std::is_nothrow_move_constructible_v<archetypal>);
static_assert(sizeof(archetypal) == 2 * sizeof(hpa));
// Without a word, tables are right on units that do not snoop, and on processors without
// CMPXCHG16B.
static_assert(std::is_same_v<root_table<pt::archetype::table_memory>,
                             root_table<pt::archetype::table_memory,
                                        pt::paging::clflush_publication, pt::no_wide_store>>);
static_assert(!pt::no_wide_store::atomic && pt::cmpxchg16b_store::atomic);

} // namespace
