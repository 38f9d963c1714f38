// SPDX-License-Identifier: BSL-1.0
// The policies of a guest: models, and near misses.
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include <cstdint>

using namespace pt;
using namespace pt::assign;

// guest_processors
struct never_pauses {
    result<void> invalidate(const paging::stale_set<gpa>&) { return {}; }
    void resume() {}
};
static_assert(!guest_processors<never_pauses>);
struct pause_may_fail : assign::archetype::guest_processors {
    constexpr result<void> pause() { return {}; }
};
static_assert(!guest_processors<pause_may_fail>);
struct forgets_for_devices {
    result<void> invalidate(const paging::stale_set<iova>&) { return {}; }
    void pause() {}
    void resume() {}
};
static_assert(!guest_processors<forgets_for_devices>);

// platform
struct floats : no_platform { // who answers is not to be seen
    constexpr std::uint32_t read_port(io_port, width) { return ~std::uint32_t{0}; }
};
static_assert(!platform<floats>);
struct deaf_to_ends {
    result<std::uint32_t> read_port(io_port, width) { return 0U; }
    result<void> write_port(io_port, width, std::uint32_t) { return {}; }
    result<std::uint64_t> read_memory(gpa, mmio_width) { return std::uint64_t{0}; }
    result<void> write_memory(gpa, mmio_width, std::uint64_t) { return {}; }
};
static_assert(!platform<deaf_to_ends>);

// reports
struct wants_a_bar_alone : no_reports {
    constexpr void rejected(std::uint8_t) {}
};
static_assert(!reports<wants_a_bar_alone>);
struct votes : no_reports {
    constexpr bool rejected(const rejection&) { return false; }
};
static_assert(!reports<votes>);

// vmm
struct least {
    using host_config = pci::archetype::config_access;
    using host_ports = pt::archetype::port_io;
    using registers = pci::archetype::bar_memory;
    using pages = paging::table<ept::format, arena_memory<1>>;
    using processors = assign::archetype::guest_processors;
    using dma = assign::archetype::dma_path;
    using interrupts = assign::archetype::interrupt_path;
    using wire = no_wire;
    using vcpus = lapic::archetype::vcpu_set;
    using reset = assign::archetype::function_reset;
    using platform = no_platform;
    using reports = no_reports;
    using mutex = no_mutex;
};
static_assert(vmm<least>);
struct on_amd : least {
    using pages = paging::table<x86_64::nested_paging, arena_memory<1>>;
};
static_assert(vmm<on_amd>);
struct gives_processors_the_tables_of_devices : least { // their input is iova
    using pages = paging::table<vtd::second_stage::format, arena_memory<1>>;
};
static_assert(!vmm<gives_processors_the_tables_of_devices>);
struct has_no_lock : least {
    using mutex = int;
};
static_assert(!vmm<has_no_lock>);
struct incomplete {
    using host_config = pci::archetype::config_access;
};
static_assert(!vmm<incomplete>);
