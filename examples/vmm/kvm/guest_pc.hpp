// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../loop/board.hpp"
#include "../loop/console.hpp"
#include "../loop/virtual_pc.hpp"
#include "../pc/acpi.hpp"
#include "../pc/cpuid.hpp"
#include "../pc/memory_layout.hpp"
#include "slot_pages.hpp"
#include "virtual_machine.hpp"
#include "world.hpp"

#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/guest_room.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace vmm::kvm {

/// host_clock: the time of this machine.
struct host_time {
    std::uint32_t kilohertz = 0; ///< of the time-stamp counter

    [[nodiscard]] std::uint64_t now() const;
    [[nodiscard]] std::uint64_t tsc() const { return __builtin_ia32_rdtsc(); }
    [[nodiscard]] std::uint32_t tsc_kilohertz() const { return kilohertz; }
};
static_assert(host_clock<host_time>);

/// Takes the bytes of a guest's COM1: a handle.
struct to_descriptor {
    int descriptor;
    void operator()(std::uint8_t byte) const;
};

using table =
    pt::paging::table<pt::ept::format, pt::identity_memory<pt::pool_frames<pt::identity_map>>>;
using pc_board = board<host_time, to_console<to_descriptor>>;

/// What this VMM is made of (assign::vmm). A process has no functions to give to a guest, so of all
/// that concerns them the least models do.
struct policies {
    using host_config = pt::pci::archetype::config_access;
    using host_ports = pt::archetype::port_io;
    using registers = pt::pci::archetype::bar_memory;
    using pages = slot_pages<table>;
    using processors = still_processors;
    using dma = pt::assign::archetype::dma_path;
    using interrupts = pt::assign::archetype::interrupt_path;
    using wire = pt::assign::no_wire;
    using vcpus = pc_board::vcpus_type;
    using reset = pt::assign::archetype::function_reset;
    using platform = pc_board::platform_type;
    using reports = pt::assign::no_reports;
    using mutex = pt::no_mutex;
};

/// A callable that gives what KVM could show for a leaf of CPUID.
struct shown_cpuid {
    const std::vector<cpuid_leaf>* leaves;
    pc::cpuid_registers operator()(std::uint32_t leaf, std::uint32_t subleaf) const;
};

/// A file and the words that go with it.
struct guest_file {
    std::string contents;
    std::string words; ///< its name comes first
};

/// A guest with all that it is made of.
class guest_pc {
public:
    using pc_type = virtual_pc<policies, world, pc_board, shown_cpuid>;

    /// `memory`: in bytes, a multiple of 4 KiB, more than 1 MiB. `com1`: where its COM1 goes;
    /// `label`: what console has for a number, -1: none. Throws std::runtime_error.
    guest_pc(std::uint64_t memory, int com1, int label);
    guest_pc(const guest_pc&) = delete;
    guest_pc& operator=(const guest_pc&) = delete;
    ~guest_pc();

    /// Loads a kernel, and starts it with the first entry. Throws std::runtime_error with why it is
    /// none.
    void boot(const guest_file& kernel, const std::vector<guest_file>& modules);

    [[nodiscard]] pc_type& pc() { return pc_; }
    /// What has begun on COM1 goes out, too.
    void flush() { console_.flush(); }

private:
    /// Memory, devices and tables of the guest.
    void furnish();
    void show_cpuid();

    shared_pages ram_;
    virtual_machine machine_{};
    world world_{machine_};
    std::vector<cpuid_leaf> host_cpuid_;
    std::uint8_t physical_address_width_;
    pc::memory_layout memory_;

    shared_pages frames_memory_;
    pt::frame_pool<pt::identity_map> frames_;
    table table_;
    slot_pages<table> pages_{table_, machine_};
    std::uint64_t bitmaps_[2][512]{};
    pt::assign::guest_lists<16, 32, 1> lists_{pt::vmx::io_bitmap{bitmaps_[0], bitmaps_[1]}};

    console<to_descriptor> console_;
    pc_board board_;
    pt::assign::guest<policies> guest_;
    pc_type pc_;
};

} // namespace vmm::kvm
