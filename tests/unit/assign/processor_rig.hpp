// SPDX-License-Identifier: BSL-1.0
//
// A guest with RAM, two virtual processors with their local APICs, and a device that the VMM plays, at
// an address and at ports. What the device sees is written down.
#pragma once

#include "pt/assign/claims.hpp"
#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/processor.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_bytes.hpp"
#include "pt/vcpu/memory_violation.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace processor_rig {

using namespace pt;
using vcpu::general_register;
using vcpu::general_registers;

/// 4 KiB of memory at `base`, and ports 0x60..0x6F. Each byte of either answers with its own number.
struct device_state {
    static constexpr std::uint64_t base = 0xA'0000;
    std::vector<std::string> log;
    std::vector<std::uint8_t> ended; ///< EOIs that were broadcast
    bool takes_writes = true;
    unsigned port_accesses = ~0U; ///< that it answers
    std::uint64_t end = base + 0x1000;
};

inline std::string told(char what, std::uint64_t at, unsigned size, std::uint64_t value) {
    char text[64];
    std::snprintf(text, sizeof text, "%c%u %llx=%llx", what, size,
                  static_cast<unsigned long long>(at), static_cast<unsigned long long>(value));
    return text;
}

struct platform {
    device_state* state;

    static std::uint64_t pattern(std::uint64_t at, unsigned size) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i != size; ++i) {
            value |= ((at + i) & 0xFF) << 8 * i;
        }
        return value;
    }
    bool is_port(io_port port) {
        return port.raw >= 0x60 && port.raw < 0x70 && state->port_accesses != 0 &&
               state->port_accesses-- != 0;
    }
    result<std::uint32_t> read_port(io_port port, width size) {
        if (!is_port(port)) {
            return error{errc::absent, port.raw};
        }
        const auto value = static_cast<std::uint32_t>(pattern(port.raw, size_of(size)));
        state->log.push_back(told('i', port.raw, size_of(size), value));
        return value;
    }
    result<void> write_port(io_port port, width size, std::uint32_t value) {
        if (!is_port(port)) {
            return error{errc::absent, port.raw};
        }
        state->log.push_back(told('o', port.raw, size_of(size), value));
        return {};
    }
    bool is_here(gpa at) const { return at.raw >= state->base && at.raw < state->end; }
    result<std::uint64_t> read_memory(gpa at, mmio_width size) {
        if (!is_here(at)) {
            return error{errc::absent, at.raw};
        }
        const std::uint64_t value = pattern(at.raw, size_of(size));
        state->log.push_back(told('r', at.raw, size_of(size), value));
        return value;
    }
    result<void> write_memory(gpa at, mmio_width size, std::uint64_t value) {
        if (!is_here(at) || !state->takes_writes) {
            return error{errc::absent, at.raw};
        }
        state->log.push_back(told('w', at.raw, size_of(size), value));
        return {};
    }
    void end_of_interrupt(std::uint8_t vector) { state->ended.push_back(vector); }
};

struct time_state {
    std::uint64_t now = 0;
};
struct guest_time {
    time_state* state;
    std::uint64_t ticks() { return state->now; }
    std::uint64_t tsc() { return state->now; }
};

struct vcpus {
    lapic::inbox* inboxes;
    std::vector<std::uint32_t>* notified;
    std::uint32_t count() { return 2; }
    lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
    void notify(std::uint32_t n, lapic::notification) { notified->push_back(n); }
};

struct vmm {
    using host_config = pci::archetype::config_access;
    using host_ports = archetype::port_io;
    using registers = pci::archetype::bar_memory;
    using pages = paging::table<ept::format, arena_memory<32>>;
    using processors = assign::archetype::guest_processors;
    using dma = assign::archetype::dma_path;
    using interrupts = assign::archetype::interrupt_path;
    using wire = assign::no_wire;
    using vcpus = processor_rig::vcpus;
    using reset = assign::archetype::function_reset;
    using platform = processor_rig::platform;
    using reports = assign::no_reports;
    using mutex = no_mutex;
};
static_assert(assign::vmm<vmm>);

/// The guest's linear addresses: pages that are mapped to another number, or to nothing, and for all
/// others the physical ones. CS has a limit.
struct linear_state {
    std::map<std::uint64_t, std::uint8_t> bytes; ///< by gpa
    std::map<std::uint64_t, std::uint64_t> pages;
    std::set<std::uint64_t> absent;
    std::set<std::uint64_t> read_only;
    std::set<std::uint64_t> not_executable;
    std::uint64_t code_limit = ~std::uint64_t{0};
    unsigned located = 0;
};
struct memory {
    linear_state* state;

    vcpu::guest_place locate(vcpu::logical_address at, std::uint32_t size,
                             vcpu::memory_access access) {
        using enum vcpu::memory_access;
        ++state->located;
        if (at.segment == vcpu::segment_register::cs &&
            (at.offset > state->code_limit || size - 1 > state->code_limit - at.offset)) {
            return {.fault = vcpu::exception(vcpu::exception_vector::general_protection, 0)};
        }
        const std::uint64_t page = at.offset >> 12;
        const bool absent = state->absent.count(page) != 0;
        if (absent || (access == write && state->read_only.count(page) != 0) ||
            (access == execute && state->not_executable.count(page) != 0)) {
            const std::uint32_t code = (absent ? 0U : 1U) | (access == write     ? 2U
                                                             : access == execute ? 16U
                                                                                 : 0U);
            return {.fault = vcpu::exception(vcpu::exception_vector::page_fault, code),
                    .cr2 = at.offset};
        }
        const auto moved = state->pages.find(page);
        const std::uint64_t frame = moved == state->pages.end() ? page : moved->second;
        return {.address = gpa{frame << 12 | (at.offset & 0xFFF)},
                .size = static_cast<std::uint32_t>(0x1000 - (at.offset & 0xFFF))};
    }
    void read(gpa place, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            const auto byte = state->bytes.find(place.raw + i);
            to[i] = byte == state->bytes.end() ? std::uint8_t{0xFF} : byte->second;
        }
    }
    void write(gpa place, const std::uint8_t* from, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            if (const auto byte = state->bytes.find(place.raw + i); byte != state->bytes.end()) {
                byte->second = from[i];
            }
        }
    }
};

struct blocking {
    bool interrupts = true;
};
struct vcpu_state {
    const blocking* state;
    bool can_take_interrupt() { return state->interrupts; }
    bool can_take_nmi() { return true; }
};

using apic_type = lapic::local_apic<guest_time>;
using injector_type = lapic::injector<vcpu_state, apic_type>;
using processor_type = assign::processor<vmm, apic_type, injector_type, memory>;
using guest_type = assign::guest<vmm>;

/// Virtual processor n.
struct virtual_processor {
    lapic::register_page page{};
    blocking blocked{};
    apic_type apic;
    injector_type injector;
    general_registers registers{};
    std::uint64_t rflags = 2;

    virtual_processor(std::uint32_t n, lapic::inbox& inbox, time_state& time)
        : apic{page, inbox, {.apic_id = n, .physical_address_width = 40}, guest_time{&time}},
          injector{apic, vcpu_state{&blocked}} {
        (void)apic.write(0xF0, mmio_width::dword, 0x1FF); // the guest enables it
    }
};

struct machine {
    static constexpr std::uint64_t ram_size = 0x2'0000;
    static constexpr gpa apic_page{0xFEE0'0000};

    device_state device;
    linear_state linear;
    time_state time;
    std::vector<std::uint32_t> notified;
    std::unique_ptr<lapic::inbox[]> inboxes = std::make_unique<lapic::inbox[]>(2);
    lapic::bus<vcpus> bus{vcpus{inboxes.get(), &notified}};
    lapic::host_vector_routes routes;
    std::unique_ptr<arena<32>> frames = std::make_unique<arena<32>>();
    vmm::pages pages{frames->memory(), ept::format{ept::capabilities{~std::uint64_t{0}}, 40}};
    assign::claim<gpa> slots[8]{};
    assign::claims<gpa> space{slots};
    assign::claim<io_port> port_slots[4]{};
    assign::claims<io_port> port_space{port_slots};
    std::unique_ptr<std::uint64_t[]> bitmaps = std::make_unique<std::uint64_t[]>(1024);
    vmx::kept_ports kept[4]{};
    vmx::shared_io_bitmap ports{vmx::io_bitmap{bitmaps.get(), bitmaps.get() + 512}, kept, 4};
    guest_type guest{{.pages = pages,
                      .memory = ept::ram,
                      .device_memory = ept::device_memory,
                      .processors = {},
                      .room = {space, port_space, ports, routes},
                      .windows = {},
                      .port_windows = {},
                      .host_ports = {},
                      .dma = {},
                      .bus = bus,
                      .platform = {&device},
                      .reports = {}}};
    virtual_processor first{0, inboxes[0], time};
    virtual_processor second{1, inboxes[1], time};
    processor_type cpu{guest, 0, first.apic, first.injector, memory{&linear}};
    processor_type other_cpu{guest, 1, second.apic, second.injector, memory{&linear}};

    machine() {
        // What every VMM does first, with errors that cannot happen here.
        ready = guest
                    .give_memory({gpa{0}, ram_size}, hpa{0x100'0000},
                                 assign::memory_reach::processors_only)
                    .has_value() &&
                guest.reserve({apic_page, 4 * KiB}, assign::space_use::local_apic).has_value() &&
                guest.settle().has_value();
        for (std::uint64_t at = 0; at != ram_size; ++at) {
            linear.bytes[at] = static_cast<std::uint8_t>(at);
        }
    }
    ~machine() { static_cast<void>(guest.retire()); }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    bool ready = false;

    general_registers& registers() { return first.registers; }

    /// The guest has that program at 0x1000, in 64-bit code, and its first instruction violated `at`.
    assign::answer violate(std::uint64_t at, const std::vector<std::uint8_t>& program,
                           vcpu::code_size code = vcpu::code_size::bits_64) {
        put(0x1000, program);
        return cpu.on_memory_violation(violation(at), {.rip = 0x1000, .code = code},
                                       first.registers, first.rflags);
    }
    void put(std::uint64_t at, const std::vector<std::uint8_t>& bytes) {
        for (const std::uint8_t byte : bytes) {
            linear.bytes[at++] = byte;
        }
    }
    static vcpu::memory_violation violation(std::uint64_t at) {
        return {.address = gpa{at}, .read = true};
    }
    std::uint64_t ram(std::uint64_t at, unsigned size) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i != size; ++i) {
            value |= std::uint64_t{linear.bytes.at(at + i)} << 8 * i;
        }
        return value;
    }
};

} // namespace processor_rig
