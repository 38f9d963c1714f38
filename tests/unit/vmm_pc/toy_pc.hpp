// SPDX-License-Identifier: BSL-1.0
//
// A whole PC around a toy_world: guest, board and loop as a VMM makes them, without a device.
#pragma once

#include "../../../examples/vmm/loop/board.hpp"
#include "../../../examples/vmm/loop/console.hpp"
#include "../../../examples/vmm/loop/scheduler.hpp"
#include "../../../examples/vmm/loop/virtual_pc.hpp"
#include "toy_world.hpp"

#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/guest_room.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace toy {

struct to_text {
    std::string* text;
    void operator()(std::uint8_t byte) const { *text += static_cast<char>(byte); }
};
using output = vmm::to_console<to_text>;
using board = vmm::board<host_clock, output>;

struct toy_vmm {
    using host_config = pt::pci::archetype::config_access;
    using host_ports = pt::archetype::port_io;
    using registers = pt::pci::archetype::bar_memory;
    using pages = pt::paging::table<pt::ept::format, pt::arena_memory<32>>;
    using processors = pt::assign::archetype::guest_processors;
    using dma = pt::assign::archetype::dma_path;
    using interrupts = pt::assign::archetype::interrupt_path;
    using wire = pt::assign::no_wire;
    using vcpus = board::vcpus_type;
    using reset = pt::assign::archetype::function_reset;
    using platform = board::platform_type;
    using reports = pt::assign::no_reports;
    using mutex = pt::no_mutex;
};
static_assert(pt::assign::vmm<toy_vmm>);

/// A host of the vendor "GenuineIntel" that has everything.
struct host_cpuid {
    vmm::pc::cpuid_registers operator()(std::uint32_t leaf, std::uint32_t) const {
        if (leaf == 0) {
            return {0x1F, 0x756E'6547, 0x6C65'746E, 0x4965'6E69};
        }
        if (leaf == 0x8000'0000) {
            return {0x8000'0028, 0, 0, 0};
        }
        return {0xFFFF'FFFF, 0xFFFF'FFFF, 0xFFFF'FFFF, 0xFFFF'FFFF};
    }
};

template <class World = world>
struct basic_pc {
    static constexpr std::uint64_t memory_size = 0x2'0000;
    static constexpr std::uint8_t width = 40;
    using virtual_pc = vmm::virtual_pc<toy_vmm, World, board, host_cpuid>;

    World cpu;
    vmm::console<to_text> com1;
    board parts;
    std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(memory_size);
    vmm::pc::ram_piece piece{{pt::gpa{0}, memory_size}, bytes.data()};
    std::unique_ptr<pt::arena<32>> frames = std::make_unique<pt::arena<32>>();
    toy_vmm::pages pages{frames->memory(),
                         pt::ept::format{pt::ept::capabilities{~std::uint64_t{0}}, width}};
    std::unique_ptr<std::uint64_t[]> bitmaps = std::make_unique<std::uint64_t[]>(1024);
    pt::assign::guest_lists<8, 16, 4> lists{pt::vmx::io_bitmap{bitmaps.get(), bitmaps.get() + 512}};
    pt::assign::guest<toy_vmm> guest{{.pages = pages,
                                      .memory = pt::ept::ram,
                                      .device_memory = pt::ept::device_memory,
                                      .processors = {},
                                      .room = lists.room(),
                                      .windows = {},
                                      .port_windows = {},
                                      .host_ports = {},
                                      .dma = {},
                                      .bus = parts.bus(),
                                      .platform = parts.platform(),
                                      .reports = {}}};
    virtual_pc pc{cpu, guest, parts, vmm::pc::guest_ram{&piece, 1}, host_cpuid{}, width};
    bool ready = false;

    basic_pc(host_time& time, std::string& text)
        : cpu{time},
          com1{to_text{&text}},
          parts{host_clock{&time}, output{&com1}, 0, memory_size, width} {
        begin();
    }
    basic_pc(host_time& time, std::string& text, unsigned number)
        : cpu{time},
          com1{to_text{&text}, number},
          parts{host_clock{&time}, output{&com1}, 0, memory_size, width} {
        begin();
    }
    ~basic_pc() { static_cast<void>(guest.retire()); }
    basic_pc(const basic_pc&) = delete;
    basic_pc& operator=(const basic_pc&) = delete;

    void begin() {
        ready = guest
                    .give_memory({pt::gpa{0}, memory_size}, pt::hpa{0x100'0000},
                                 pt::assign::memory_reach::processors_only)
                    .has_value() &&
                pc.reserve_devices().has_value();
        pc.start({.entry = 0x1'0000, .information = 0x5000});
    }

    /// Runs it alone.
    void run(std::uint64_t nanoseconds, host_time& time) {
        virtual_pc* only[] = {&pc};
        vmm::scheduler<virtual_pc, host_clock>{only, 1, host_clock{&time}}.run(nanoseconds);
    }
};
using pc = basic_pc<>;

} // namespace toy
