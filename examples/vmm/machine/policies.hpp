// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/output.hpp"
#include "../../kernel/pci.hpp"
#include "../../kernel/ports.hpp"
#include "../loop/board.hpp"
#include "../loop/console.hpp"
#include "../world.hpp"
#include "log.hpp"
#include "mapped_bars.hpp"
#include "nic_reset.hpp"

#include "pt/assign/dma_path.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/mutex.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/x86_64.hpp"

#include <concepts>
#include <cstdint>

namespace vmm {

/// Takes the bytes of guests' COM1.
struct to_com1 {
    void operator()(std::uint8_t byte) const {
        kernel::put(kernel::serial_port::com1, static_cast<char>(byte));
    }
};

using pc_board = board<kernel::clock, to_console<to_com1>>;

/// What was refused to a guest, and whether something has changed since the last audit.
struct guest_events {
    unsigned guest = 0;
    bool has_changed = false;
    std::uint64_t changes = 0;
    std::uint64_t rejections = 0;
};

/// assign::reports: a line of the log for each rejection.
struct guest_reports {
    guest_events* of;
    void rejected(const pt::assign::rejection& what);
    void changed() {
        of->has_changed = true;
        ++of->changes;
    }
};

/// The names of a freestanding VMM's policies (assign::vmm).
template <passthrough_world World, pt::assign::dma_path Dma, pt::assign::interrupt_path Interrupts,
          pt::assign::wire_path Wire>
struct policies {
    using world = World;

    using host_config = kernel::port_config;
    using host_ports = kernel::ports;
    using registers = mapped_bars;
    using pages = pt::paging::table<typename World::format, kernel::memory_policy>;
    using processors = typename World::processors_type;
    using dma = Dma;
    using interrupts = Interrupts;
    using wire = Wire;
    using vcpus = pc_board::vcpus_type;
    using reset = nic_reset;
    using platform = pc_board::platform_type;
    using reports = guest_reports;
    using mutex = pt::no_mutex;
};

/// How memory of a guest, and registers of its devices, are mapped in tables of that format.
[[nodiscard]] constexpr auto memory_attributes(const pt::ept::format&) { return pt::ept::ram; }
[[nodiscard]] constexpr auto memory_attributes(const pt::x86_64::nested_paging&) {
    return pt::x86_64::ram;
}
[[nodiscard]] constexpr auto register_attributes(const pt::ept::format&) {
    return pt::ept::device_memory;
}
[[nodiscard]] constexpr auto register_attributes(const pt::x86_64::nested_paging&) {
    return pt::x86_64::device_memory;
}

} // namespace vmm
