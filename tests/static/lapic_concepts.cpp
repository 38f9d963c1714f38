// SPDX-License-Identifier: BSL-1.0
// What may stand where a policy is asked for, and the register page as the manual has it.

#include "pt/core/archetype.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"

#include <cstddef>
#include <type_traits>

// The injector needs no more of a vcpu_state than its concept says.
template class pt::lapic::injector<pt::archetype::vcpu_state>;

namespace {

using namespace pt::lapic;

static_assert(pt::interrupt_sink<edge_sink>);
// The local APIC itself is not a sink: it is not to be copied, and a sink is kept by value.
static_assert(!pt::interrupt_sink<local_apic>);
static_assert(!std::is_copy_constructible_v<local_apic> &&
              !std::is_move_constructible_v<local_apic>);

template <class Vcpu>
concept injectable = requires {
    typename injector<Vcpu>;
};
struct answers_int {
    int can_take_interrupt() { return 1; }
};
static_assert(!injectable<answers_int>);
static_assert(!injectable<int>);

// An empty policy costs nothing.
static_assert(sizeof(injector<pt::archetype::vcpu_state>) == sizeof(void*));

// [sdm] Local APIC Register Address Map, in bytes from the start of the page.
static_assert(alignof(register_page) == 4096);
static_assert(offsetof(register_page, id) == 0x20);
static_assert(offsetof(register_page, version) == 0x30);
static_assert(offsetof(register_page, tpr) == 0x80);
static_assert(offsetof(register_page, apr) == 0x90);
static_assert(offsetof(register_page, ppr) == 0xA0);
static_assert(offsetof(register_page, eoi) == 0xB0);
static_assert(offsetof(register_page, remote_read) == 0xC0);
static_assert(offsetof(register_page, logical_destination) == 0xD0);
static_assert(offsetof(register_page, destination_format) == 0xE0);
static_assert(offsetof(register_page, svr) == 0xF0);
static_assert(offsetof(register_page, isr) == 0x100);
static_assert(offsetof(register_page, tmr) == 0x180);
static_assert(offsetof(register_page, irr) == 0x200);
static_assert(offsetof(register_page, esr) == 0x280);
static_assert(offsetof(register_page, lvt_cmci) == 0x2F0);
static_assert(offsetof(register_page, icr_low) == 0x300);
static_assert(offsetof(register_page, icr_high) == 0x310);
static_assert(offsetof(register_page, lvt_timer) == 0x320);
static_assert(offsetof(register_page, lvt_thermal_sensor) == 0x330);
static_assert(offsetof(register_page, lvt_performance_counters) == 0x340);
static_assert(offsetof(register_page, lvt_lint0) == 0x350);
static_assert(offsetof(register_page, lvt_lint1) == 0x360);
static_assert(offsetof(register_page, lvt_error) == 0x370);
static_assert(offsetof(register_page, initial_count) == 0x380);
static_assert(offsetof(register_page, current_count) == 0x390);
static_assert(offsetof(register_page, divide_configuration) == 0x3E0);
static_assert(offsetof(register_page, self_ipi) == 0x3F0);
// Eight registers, 16 bytes apart.
static_assert(offsetof(vector_set, words[1]) == 16 && offsetof(vector_set, words[7]) == 0x70);

} // namespace
