// SPDX-License-Identifier: BSL-1.0
// expect: vmm
// expect-gcc: required type 'typename V::reset' is invalid
// expect-clang: no type named 'reset' in 'my_vmm'
// A VMM author who has forgotten one name of thirteen is told which.
#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/lapic/vcpu_set.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"

struct my_vmm {
    using host_config = pt::pci::archetype::config_access;
    using host_ports = pt::archetype::port_io;
    using registers = pt::pci::archetype::bar_memory;
    using pages = pt::paging::table<pt::ept::format, pt::archetype::table_memory>;
    using processors = pt::assign::archetype::guest_processors;
    using dma = pt::assign::archetype::dma_path;
    using interrupts = pt::assign::archetype::interrupt_path;
    using wire = pt::assign::no_wire;
    using vcpus = pt::lapic::archetype::vcpu_set;
#ifdef PT_FAIL
    // reset is forgotten
#else
    using reset = pt::assign::archetype::function_reset;
#endif
    using platform = pt::assign::no_platform;
    using reports = pt::assign::no_reports;
    using mutex = pt::no_mutex;
};

static_assert(sizeof(pt::assign::guest<my_vmm>) != 0);
