// SPDX-License-Identifier: BSL-1.0
// expect-gcc: use of deleted function
// expect-clang: call to deleted constructor
// A function is in one domain at a time; a copy of its attachment would be in it once more.
#include "pt/core/archetype.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

using policies = pt::vtd::policies<pt::archetype::mmio_io, pt::archetype::clock,
                                   pt::archetype::table_memory, pt::archetype::publication>;
using machine = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers>;

#include <utility>

using attachment = pt::vtd::attachment<machine>;

#ifdef PT_FAIL
attachment again(attachment& node) { return attachment{std::move(node)}; }
#else
attachment& again(attachment& node) { return node; }
#endif
