// SPDX-License-Identifier: BSL-1.0
// The register page as the manual has it: [sdm] Local APIC Register Address Map, in bytes from its start.

#include "pt/lapic/register_page.hpp"

#include <cstddef>

namespace {

using pt::lapic::register_page;
using pt::lapic::vector_set;

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
