// SPDX-License-Identifier: BSL-1.0
// The unit and its tables use nothing of their policies beyond the concepts, are what other layers'
// concepts ask for, and work in a constant expression.
#include "../vtd_model/rig.hpp"

#include "pt/core/archetype.hpp"
#include "pt/paging/stale_set.hpp"

#include <cstdint>
#include <type_traits>
#include <utility>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::result;
using namespace pt::vtd;

using least_policies =
    policies<pt::archetype::mmio_io, pt::archetype::clock, pt::archetype::table_memory,
             pt::archetype::publication, pt::archetype::wide_store, pt::archetype::mutex>;
using archetypal = unit<least_policies>;

// The archetype of MMIO reads all ones, as a unit does that is not there.
static_assert(archetypal::take(least_policies{}, {}, drhd{}).error() == error{errc::absent, 0});

// What a VMM does not say: tables that are right on units that do not snoop as well, no atomic
// store, no other processor.
using short_policies =
    policies<pt::archetype::mmio_io, pt::archetype::clock, pt::archetype::table_memory>;
static_assert(std::is_same_v<short_policies::publication_type, pt::paging::clflush_publication> &&
              std::is_same_v<short_policies::wide_store_type, pt::no_wide_store> &&
              std::is_same_v<short_policies::mutex_type, pt::no_mutex>);
static_assert(std::is_same_v<pt::paging::table<second_stage::format, pt::archetype::table_memory>,
                             pt::paging::table<second_stage::format, pt::archetype::table_memory,
                                               pt::paging::clflush_publication>>);
// And of a unit: legacy mode by the queue, 8-bit APIC ids, a table of the unit's own.
static_assert(unit_options{}.mode == table_mode::legacy &&
              unit_options{}.invalidation == invalidation_interface::queue_where_possible &&
              unit_options{}.apics == apic_mode::xapic && unit_options{}.interrupts.count == 0);

// By a unit everything forgets: its own tables, a domain's tickets, interrupt entries.
static_assert(invalidation_port<archetypal> && invalidation_port<unit<short_policies>>);
static_assert(pt::paging::invalidator<domain_invalidator<archetypal>, iova>);
static_assert(!pt::paging::invalidator<domain_invalidator<archetypal>, pt::gpa>);
static_assert(!pt::paging::invalidator<archetypal, iova>); // of which domain?
static_assert(sizeof(domain_invalidator<archetypal>) == 2 * sizeof(void*));

// Two drivers of one unit would not know of each other's faults and requests.
static_assert(!std::is_copy_constructible_v<archetypal> && !std::is_copy_assignable_v<archetypal> &&
              std::is_nothrow_move_constructible_v<archetypal> &&
              !std::is_move_assignable_v<archetypal>);

// Whatever can fail says so, and nobody may overlook it.
template <class T>
concept is_result = std::is_same_v<T, result<void>>;
static_assert(is_result<decltype(std::declval<archetypal&>().start())> &&
              is_result<decltype(std::declval<archetypal&>().stop())> &&
              is_result<decltype(std::declval<archetypal&>().resume())> &&
              is_result<decltype(std::declval<archetypal&>().retire())> &&
              is_result<decltype(std::declval<archetypal&>().start_interrupt_remapping())> &&
              is_result<decltype(std::declval<archetypal&>().stop_interrupt_remapping())>);

// The number of levels is the format's and nobody else's; see also tests/fail.
template <class Levels>
concept gives_levels = requires(Levels levels) {
    translation::second_stage(pt::hpa{}, levels, std::uint16_t{1});
};
static_assert(gives_levels<second_stage::format>);
static_assert(!gives_levels<unsigned> && !gives_levels<int> && !gives_levels<second_stage::limits>);

// A function is one of a segment, and no source id.
template <class Function>
concept is_attached = requires(archetypal& hardware, Function function, translation through) {
    hardware.attach(function, through);
};
static_assert(is_attached<pt::pci::function_address> && is_attached<attached_function>);
static_assert(!is_attached<std::uint16_t> && !is_attached<unsigned>);

// One device from reset to retirement, and through a sleep.
constexpr bool one_device(unit_options chosen, std::uint64_t ecap) {
    using hardware = vtd_model::fake_unit<16>;
    hardware machine;
    machine.ecap = ecap;
    auto driver = vtd_model::driver(machine, chosen);
    vtd_model::tables_of<hardware> guest{{&machine}, vtd_model::format_of(machine), {&machine}};
    domain_invalidator forgets{driver, 1};
    const pt::pci::function_address nic{0, 0, 5, 0};
    const bool legacy = chosen.mode == table_mode::legacy;

    bool ok = true;
    {
        auto ticket =
            guest.map({iova{0x1000}, 0x2000}, pt::hpa{0x1'0000'0000}, second_stage::read_write);
        ok = ticket && ticket->redeem(forgets);
    }
    ok = ok && driver.start();
    ok = ok &&
         driver.attach(nic, translation::second_stage(guest.root().value(), guest.format(), 1));
    ok = ok && machine.dma(0x28, 0x2FF0, true).to == 0x1'0000'1FF0;
    ok = ok && machine.dma(0x28, 0x3000, true).reason == (legacy ? 0x5 : 0x79);
    ok = ok && driver.faults().take().value().page == iova{0x3000};
    machine.power_loss();
    ok = ok && driver.resume();
    ok = ok && machine.dma(0x28, 0x2FF0, true).to == 0x1'0000'1FF0;
    ok =
        ok && driver.detach(nic) && machine.dma(0x28, 0x2FF0, true).reason == (legacy ? 0x2 : 0x41);
    auto owed = guest.retire();
    ok = ok && owed.redeem(forgets) && driver.stop() && driver.retire();
    return ok && machine.in_use == 0 && machine.violations == 0;
}
static_assert(one_device({}, vtd_model::qemu_ecap));
static_assert(one_device(vtd_model::by_registers(), vtd_model::qemu_ecap));
static_assert(one_device(vtd_model::in_scalable_mode(), vtd_model::scalable_ecap));

} // namespace
