// SPDX-License-Identifier: BSL-1.0
// The unit and its tables use nothing of their policies beyond the concepts, are what other layers'
// concepts ask for, and work in a constant expression.
#include "../vtd_model/rig.hpp"

#include "pt/core/archetype.hpp"
#include "pt/paging/stale_set.hpp"

#include <type_traits>
#include <utility>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::result;

using archetypal = pt::vtd::unit<pt::archetype::mmio_io, pt::archetype::clock>;
using archetypal_root =
    pt::vtd::root_table<pt::archetype::table_memory, pt::archetype::publication>;

// The archetype of MMIO reads all ones, as a unit does that is not there.
static_assert(archetypal::attach({}, 4096, {}).error() == error{errc::absent, 0});
// The archetype of memory has no frame.
static_assert(archetypal_root::create({}, {}).error().code == errc::out_of_frames);

static_assert(pt::vtd::context_invalidator<archetypal>);
static_assert(pt::paging::invalidator<pt::vtd::register_invalidator<archetypal>, iova>);
static_assert(!pt::paging::invalidator<pt::vtd::register_invalidator<archetypal>, pt::gpa>);

static_assert(!std::is_copy_constructible_v<archetypal_root> &&
              !std::is_copy_assignable_v<archetypal_root> &&
              std::is_nothrow_move_constructible_v<archetypal_root>);

// Two drivers of one unit would not know of each other's faults and requests.
static_assert(!std::is_copy_constructible_v<archetypal> && !std::is_copy_assignable_v<archetypal> &&
              std::is_nothrow_move_constructible_v<archetypal> &&
              !std::is_move_assignable_v<archetypal>);

// Without a word, tables are right on units that do not snoop as well.
static_assert(std::is_same_v<
              pt::vtd::root_table<pt::archetype::table_memory>,
              pt::vtd::root_table<pt::archetype::table_memory, pt::paging::clflush_publication>>);
static_assert(
    std::is_same_v<pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory>,
                   pt::paging::table<pt::vtd::second_stage::format, pt::archetype::table_memory,
                                     pt::paging::clflush_publication>>);

// The number of levels is the format's and nobody else's; see also tests/fail.
template <class Levels>
concept gives_levels = requires(Levels levels) {
    pt::vtd::context_entry::translated(pt::hpa{}, levels, std::uint16_t{1});
};
static_assert(gives_levels<pt::vtd::second_stage::format>);
static_assert(!gives_levels<unsigned> && !gives_levels<int> &&
              !gives_levels<pt::vtd::second_stage::limits>);

// The mutex of the invalidator: none by default, and then it costs nothing.
struct some_mutex {
    unsigned* count;
    constexpr void lock() { ++*count; }
    constexpr void unlock() { ++*count; }
};
template <class Unit>
using unguarded = decltype(pt::vtd::register_invalidator{std::declval<Unit&>(), std::uint16_t{1}});
template <class Unit>
using guarded = decltype(pt::vtd::register_invalidator{std::declval<Unit&>(), std::uint16_t{1},
                                                       some_mutex{}});
static_assert(
    std::is_same_v<unguarded<archetypal>, pt::vtd::register_invalidator<archetypal, pt::no_mutex>>);
static_assert(
    std::is_same_v<guarded<archetypal>, pt::vtd::register_invalidator<archetypal, some_mutex>>);
static_assert(sizeof(unguarded<archetypal>) == 2 * sizeof(void*));
static_assert(pt::paging::invalidator<guarded<archetypal>, iova>);

// context_invalidator: its least model, and what falls short of it.
struct least {
    constexpr result<void> accepts(pt::pci::function_address, pt::vtd::context_entry) { return {}; }
    constexpr result<void> invalidate_context() { return {}; }
    constexpr result<void> invalidate_context(std::uint16_t, std::uint16_t) { return {}; }
    constexpr result<void> invalidate_iotlb() { return {}; }
    constexpr result<void> invalidate_iotlb(std::uint16_t) { return {}; }
};
struct without_device_selective {
    constexpr result<void> accepts(pt::pci::function_address, pt::vtd::context_entry) { return {}; }
    constexpr result<void> invalidate_context() { return {}; }
    constexpr result<void> invalidate_iotlb() { return {}; }
    constexpr result<void> invalidate_iotlb(std::uint16_t) { return {}; }
};
struct without_a_say {
    constexpr result<void> invalidate_context() { return {}; }
    constexpr result<void> invalidate_context(std::uint16_t, std::uint16_t) { return {}; }
    constexpr result<void> invalidate_iotlb() { return {}; }
    constexpr result<void> invalidate_iotlb(std::uint16_t) { return {}; }
};
struct that_says_yes_or_no : least {
    constexpr bool accepts(pt::pci::function_address, pt::vtd::context_entry) { return true; }
};
struct that_cannot_fail : least {
    constexpr void invalidate_iotlb(std::uint16_t) {}
    constexpr result<void> invalidate_iotlb() { return {}; }
};
static_assert(pt::vtd::context_invalidator<least>);
static_assert(!pt::vtd::context_invalidator<without_device_selective>);
static_assert(!pt::vtd::context_invalidator<without_a_say>);
static_assert(!pt::vtd::context_invalidator<that_says_yes_or_no>);
static_assert(!pt::vtd::context_invalidator<that_cannot_fail>);

// One device from reset to retirement.
constexpr bool one_device() {
    using hardware = vtd_model::fake_unit<8>;
    hardware machine;
    auto unit = vtd_model::driver(machine);
    auto root = std::move(*vtd_model::root_table_of<hardware>::create({&machine}, {&machine}));
    vtd_model::domain_of<hardware> guest{{&machine}, vtd_model::format_of(machine), {&machine}};
    pt::vtd::register_invalidator invalidator{unit, 1};

    bool ok = true;
    {
        auto ticket = guest.map({iova{0x1000}, 0x2000}, pt::hpa{0x1'0000'0000},
                                pt::vtd::second_stage::read_write);
        ok = ticket && ticket->redeem(invalidator);
    }
    const auto entry = pt::vtd::context_entry::translated(guest.root().value(), guest.format(), 1);
    ok = ok && unit.set_root_table(root.root()) && unit.enable_translation();
    ok = ok && root.attach({0, 0, 5, 0}, entry, unit);
    ok = ok && machine.dma(0x28, 0x2FF0, true).to == 0x1'0000'1FF0;
    ok = ok && machine.dma(0x28, 0x3000, true).reason == 0x5;
    ok = ok && unit.take_fault().value().page == iova{0x3000};
    ok = ok && root.detach({0, 0, 5, 0}, unit) && machine.dma(0x28, 0x2FF0, true).reason == 0x2;
    auto owed = guest.retire();
    ok = ok && owed.redeem(invalidator) && unit.disable_translation() && root.retire(unit);
    return ok && machine.in_use == 0 && machine.violations == 0;
}
static_assert(one_device());

} // namespace
