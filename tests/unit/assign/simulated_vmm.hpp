// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../pci/fake_machine.hpp"
#include "../vtd/domain_rig.hpp"

#include "pt/assign/assigned_device.hpp"
#include "pt/assign/audit_pages.hpp"
#include "pt/assign/audit_ports.hpp"
#include "pt/assign/audit_vectors.hpp"
#include "pt/assign/claims.hpp"
#include "pt/assign/explain.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/ownership_room.hpp"
#include "pt/assign/remapped_dma.hpp"
#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/vector_pool.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

/// A whole machine for pt::assign: two NICs, a remapping unit that is written from the manual, host
/// vectors, and guests with EPT, an I/O bitmap, ports and a local APIC's inbox. Each policy call
/// that can fail is counted, and fails when a test wants it.
namespace simulated {

using pt::errc;
using pt::error;
using pt::gpa;
using pt::hpa;
using pt::io_port;
using pt::KiB;
using pt::mmio_width;
using pt::range;
using pt::result;
using pt::width;
using pt::assign::rejection;
using pt::assign::space_use;
using pt::pci::function_address;
using vtd_domains::rig;

/// Which call fails: number `fail_at`, counted from 1, and the `times - 1` after it.
struct fault_plan {
    unsigned calls = 0;
    unsigned fail_at = 0; ///< 0: none
    unsigned times = 1;

    bool fails() {
        ++calls;
        return fail_at != 0 && calls >= fail_at && calls - fail_at < times;
    }
    /// From now on.
    void fail(unsigned at, unsigned count = 1) {
        calls = 0;
        fail_at = at;
        times = count;
    }
    void stop() { fail_at = 0; }
};

/// Locks are taken in ascending order of their rank, and none twice.
struct lock_order {
    unsigned held = 0; ///< bit n: one of rank n
    const char* wrong = nullptr;
    /// What another processor does whenever no lock is held.
    std::function<void()> meanwhile;
};
struct ranked_mutex {
    lock_order* book;
    unsigned rank;

    void lock() {
        if (book->held >> rank != 0) {
            book->wrong = "a lock was taken after one of its rank or a higher one";
        }
        book->held |= 1U << rank;
    }
    void unlock() {
        book->held &= ~(1U << rank);
        if (book->held == 0 && book->meanwhile) {
            const auto other = std::exchange(book->meanwhile, nullptr); // it takes locks as well
            other();
            book->meanwhile = other;
        }
    }
};
inline constexpr unsigned config_rank = 0, view_rank = 1, space_rank = 2;

// ------------------------------------------------------------------------------------- the devices

inline constexpr function_address nic_at[2]{{0, 0, 5, 0}, {0, 0, 6, 0}};

/// Where the capabilities are.
inline constexpr unsigned power_at = 0x40, msi_at = 0x50, msi_x_at = 0x80, express_at = 0xA0;

/// How a guest sizes and places these, and where the host has them.
struct bar_plan {
    unsigned index;
    bool io;
    bool is_64bit;
    std::uint64_t size;
    std::uint64_t host; ///< of device 0; device 1 has them 0x10'0000 (ports: 0x100) above
};
inline constexpr bar_plan plans[]{{0, false, true, 0x4000, 0x20'0000'0000},
                                  {2, true, false, 32, 0xC000},
                                  {3, false, false, 0x4000, 0xE000'0000},
                                  {4, false, false, 0x100, 0xE001'0000},
                                  {5, false, false, 0x200, 0xE001'1000}};
inline constexpr std::uint64_t rom_size = 0x1'0000;
constexpr std::uint64_t host_of(const bar_plan& plan, unsigned device) {
    return plan.host + device * (plan.io ? 0x100U : 0x10'0000U);
}
constexpr const bar_plan& plan_of(unsigned index) {
    for (const bar_plan& plan : plans) {
        if (plan.index == index) {
            return plan;
        }
    }
    return plans[0];
}

/// A NIC: MSI with 4 vectors (64 bits, masks), MSI-X with 5 (its table in page 0 of BAR 3, the
/// pending bits in page 2), power management that resets on the way from D3hot, FLR. Decoding and
/// bus mastering are on, as the host has left them.
struct device {
    pci_fake::function config;
    std::map<std::pair<unsigned, std::uint64_t>, std::uint8_t> memory; ///< behind the BARs
    unsigned memory_reads = 0;
    unsigned memory_writes = 0;
    unsigned resets = 0;
    unsigned answers = ~0U; ///< how many configuration accesses are left, until it is gone

    explicit device(unsigned number) : config{nic_at[number], 0x10D3'8086} {
        config.put(0x04, 4, 0x0010'0007);
        config.put(0x08, 4, 0x0200'0001);
        config.allow(0x0C, 2, 0xFFFF);
        config.put(0x34, 1, power_at);
        config.put(0x3C, 4, 0x0000'010B);
        for (const bar_plan& plan : plans) {
            const std::uint64_t at = host_of(plan, number);
            const unsigned offset = 0x10 + 4 * plan.index;
            const unsigned flags = plan.io ? 1 : plan.is_64bit ? 0xC : 0;
            config.bar(offset, static_cast<std::uint32_t>(~(plan.size - 1)),
                       static_cast<std::uint32_t>(at) | flags);
            if (plan.is_64bit) {
                config.bar(offset + 4, 0xFFFF'FFFF, static_cast<std::uint32_t>(at >> 32));
            }
        }
        config.bar(0x30, static_cast<std::uint32_t>(~(rom_size - 1)) | 1, 0);
        config.put(power_at, 8, 0x0000'0000'0003'0001 | msi_at << 8);
        config.allow(power_at + 4, 2, 0x0003);
        config.put(msi_at, 4, 0x0184'0005 | msi_x_at << 8);
        config.allow(msi_at + 2, 2, 0x0071);
        config.allow(msi_at + 4, 4, 0xFFFF'FFFC);
        config.allow(msi_at + 8, 8, 0xFFFF'FFFF'FFFF);
        config.allow(msi_at + 16, 4, 0xF);
        config.put(msi_x_at, 4, 0x0004'0011 | express_at << 8);
        config.allow(msi_x_at + 2, 2, 0xC000);
        config.put(msi_x_at + 4, 4, 0x0000'0003);
        config.put(msi_x_at + 8, 4, 0x0000'2003);
        config.put(express_at, 4, 0x0002'0010);
        config.put(express_at + 4, 4, 0x1000'8FC1); // with FLR
        config.put(express_at + 8, 4, 0x0010'2810);
        power_on();
    }

    /// What a reset leaves; the header is the host's.
    void power_on() {
        config.put(msi_at + 2, 2, 0x0184);
        config.put(msi_at + 4, 8, 0);
        config.put(msi_at + 12, 8, 0);
        config.put(msi_x_at + 2, 2, 0x0004);
        memory.clear();
        for (unsigned n = 0; n < 5; ++n) {
            memory[{3, 16 * n + 12}] = 1;
        }
    }

    [[nodiscard]] std::uint64_t word(unsigned bar, std::uint64_t offset, unsigned size) const {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            const auto found = memory.find({bar, offset + i});
            value |= std::uint64_t{found == memory.end() ? std::uint8_t{0} : found->second}
                     << 8 * i;
        }
        return value;
    }
    // What the device does by its registers: numbers of [pci], not of the code under test.
    [[nodiscard]] bool msi_is_on() const { return (config.get(msi_at + 2, 2) & 1) != 0; }
    [[nodiscard]] bool msi_x_is_on() const { return (config.get(msi_x_at + 2, 2) >> 14) == 2; }
    [[nodiscard]] bool wire_is_on() const {
        return (config.get(4, 2) & 0x400) == 0 && !msi_is_on() && !msi_x_is_on();
    }
};

// -------------------------------------------------------------------------------------- the host

struct host_machine {
    rig vtd;
    device devices[2]{device{0}, device{1}};
    fault_plan faults;
    pt::assign::host_vectors vectors{0x40, 0x5F};
    lock_order locks;
    bool knows_how_to_reset = true;
    unsigned config_reads = 0;
    unsigned surprise_at = 0; ///< at that read, device 0 has more vectors than before; 0: never
    std::vector<std::tuple<bool, unsigned, unsigned, std::uint32_t>> port_accesses;
    std::map<unsigned, std::uint8_t> port_values;

    host_machine() {
        vtd.start();
        vtd.vtd->start_interrupt_remapping().value();
        rig::attachment first{nic_at[0]}; // the table of bus 0 stays from now on
        vtd.vtd->quarantine(first).value();
        vtd.vtd->release(first).value();
    }
    ~host_machine() { static_cast<void>(vtd.end()); }
    host_machine(const host_machine&) = delete;
    host_machine& operator=(const host_machine&) = delete;

    device* find(function_address at) {
        for (device& each : devices) {
            if (each.config.address == at) {
                return &each;
            }
        }
        return nullptr;
    }
    /// The device sends what its MSI or MSI-X says for that vector; the unit judges.
    vtd_model::interrupt_outcome raise(unsigned number, unsigned vector) {
        const device& from = devices[number];
        const std::uint16_t source = nic_at[number].source_id();
        if (from.msi_x_is_on() && (from.word(3, 16 * vector + 12, 4) & 1) == 0) {
            return vtd.unit[1].interrupt(
                source, from.word(3, 16 * vector, 8),
                static_cast<std::uint32_t>(from.word(3, 16 * vector + 8, 4)));
        }
        if (from.msi_is_on() && (from.config.get(msi_at + 16, 4) >> vector & 1) == 0) {
            const unsigned used = 1U << (from.config.get(msi_at + 2, 2) >> 4 & 7);
            const auto data = static_cast<std::uint32_t>(from.config.get(msi_at + 12, 2));
            if (vector < used) {
                return vtd.unit[1].interrupt(source, from.config.get(msi_at + 4, 8),
                                             (data & ~(used - 1)) | vector);
            }
        }
        return {};
    }
};

struct host_config {
    host_machine* at;

    std::uint32_t read(function_address address, std::uint16_t offset, width size) {
        if (++at->config_reads == at->surprise_at) {
            at->devices[0].config.put(msi_at + 2, 2, 0x018A);        // 32 of MSI,
            at->devices[0].config.put(msi_x_at + 2, 2, 0x00FF);      // 256 of MSI-X,
            at->devices[0].config.put(msi_x_at + 4, 4, 0x0000'3003); // in another page
        }
        pci_fake::machine one = machine(address);
        return pci_fake::config{&one}.read(address, offset, size);
    }
    void write(function_address address, std::uint16_t offset, width size, std::uint32_t value) {
        pci_fake::machine one = machine(address);
        pci_fake::config{&one}.write(address, offset, size, value);
    }

private:
    [[nodiscard]] pci_fake::machine machine(function_address address) const {
        device* const found = at->find(address);
        const bool is_there = found != nullptr && found->answers != 0;
        if (is_there) {
            --found->answers;
        }
        return {is_there ? &found->config : nullptr, is_there ? 1U : 0U};
    }
};
struct host_ports {
    host_machine* at;

    std::uint32_t in(io_port port, unsigned size) {
        std::uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            value |= std::uint32_t{at->port_values[port.raw + i]} << 8 * i;
        }
        at->port_accesses.emplace_back(false, port.raw, size, value);
        return value;
    }
    void out(io_port port, unsigned size, std::uint32_t value) {
        for (unsigned i = 0; i < size; ++i) {
            at->port_values[port.raw + i] = static_cast<std::uint8_t>(value >> 8 * i);
        }
        at->port_accesses.emplace_back(true, port.raw, size, value);
    }
    std::uint8_t in8(io_port p) { return static_cast<std::uint8_t>(in(p, 1)); }
    std::uint16_t in16(io_port p) { return static_cast<std::uint16_t>(in(p, 2)); }
    std::uint32_t in32(io_port p) { return in(p, 4); }
    void out8(io_port p, std::uint8_t v) { out(p, 1, v); }
    void out16(io_port p, std::uint16_t v) { out(p, 2, v); }
    void out32(io_port p, std::uint32_t v) { out(p, 4, v); }
};
struct registers {
    device* at;

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, mmio_width size) {
        ++at->memory_reads;
        return at->word(bar, offset, size_of(size));
    }
    void write(std::uint8_t bar, std::uint64_t offset, mmio_width size, std::uint64_t value) {
        ++at->memory_writes;
        for (unsigned i = 0; i < size_of(size); ++i) {
            at->memory[{bar, offset + i}] = static_cast<std::uint8_t>(value >> 8 * i);
        }
    }
};
struct function_reset {
    host_machine* at;

    result<void> reset(function_address function) {
        if (!at->knows_how_to_reset) {
            return error{errc::not_supported, function.source_id()};
        }
        if (at->faults.fails()) {
            return error{errc::time_out, function.source_id()};
        }
        at->find(function)->power_on();
        ++at->find(function)->resets;
        return {};
    }
};

/// The real thing, behind calls that fail as dma_path says they may.
struct dma {
    using inner_type = pt::assign::remapped_dma<rig::domain>;
    using attachment_type = inner_type::attachment_type;
    static constexpr bool isolates = true;

    inner_type inner;
    fault_plan* faults;

    result<void> map(range<gpa> memory, hpa to) {
        return faults->fails() ? error{errc::time_out, memory.first().raw} : inner.map(memory, to);
    }
    result<void> unmap(range<gpa> memory) {
        const bool fails = faults->fails();
        const result<void> done = inner.unmap(memory);
        return fails ? error{errc::time_out, memory.first().raw} : done;
    }
    result<void> attach(attachment_type& function) {
        return faults->fails() ? error{errc::time_out} : inner.attach(function);
    }
    result<void> block(attachment_type& function) {
        return faults->fails() ? error{errc::time_out} : inner.block(function);
    }
    result<void> release(attachment_type& function) {
        return faults->fails() ? error{errc::time_out} : inner.release(function);
    }
    result<void> settle() { return faults->fails() ? error{errc::time_out} : inner.settle(); }
};
struct interrupts {
    using inner_type = pt::assign::remapped_interrupts<rig::remapping, pt::assign::vector_pool<>>;
    using block_type = inner_type::block_type;
    static constexpr bool isolates = true;

    inner_type inner;
    fault_plan* faults;

    result<void> open(const pt::vtd::requester& who, std::uint16_t count, block_type& block) {
        return faults->fails() ? error{errc::busy, count} : inner.open(who, count, block);
    }
    result<void> close(const pt::vtd::requester& who, block_type& block) {
        return faults->fails() ? error{errc::time_out} : inner.close(who, block);
    }
    pt::pci::interrupt_message msi(const block_type& block, unsigned log2) {
        return inner.msi(block, log2);
    }
    pt::pci::interrupt_message msi_x(const block_type& block, unsigned vector) {
        return inner.msi_x(block, vector);
    }
};
struct wire {
    static constexpr bool exists = true;
    bool* is_open;
    fault_plan* faults;

    result<void> open() {
        if (faults->fails()) {
            return error{errc::hardware_fault};
        }
        *is_open = true;
        return {};
    }
    void close() { *is_open = false; }
};

// -------------------------------------------------------------------------------------- a guest

inline constexpr std::size_t table_frames = 48;

struct frames {
    pt::arena_memory<table_frames> inner;
    fault_plan* faults;

    result<hpa> allocate(pt::frame_contents contents) {
        return faults->fails() ? error{errc::out_of_frames} : inner.allocate(contents);
    }
    void release(hpa frame) { inner.release(frame); }
    std::uint64_t* entries(hpa frame) { return inner.entries(frame); }
};
using ept_table = pt::paging::table<pt::ept::format, frames>;

/// The bitmaps, as they were when the processors could see them last.
struct processor_state {
    std::uint64_t bitmap_a[512]{};
    std::uint64_t bitmap_b[512]{};
    std::uint64_t seen_a[512]{};
    std::uint64_t seen_b[512]{};
    unsigned paused = 0;
    unsigned pauses = 0;
    unsigned invalidations = 0;
    const char* wrong = nullptr;

    void look() { std::memcpy(seen_a, bitmap_a, 4096), std::memcpy(seen_b, bitmap_b, 4096); }
    /// Whether nothing has changed while they could see it.
    [[nodiscard]] bool is_seen() const {
        return std::memcmp(seen_a, bitmap_a, 4096) == 0 && std::memcmp(seen_b, bitmap_b, 4096) == 0;
    }
    [[nodiscard]] bool is_open(unsigned port) const {
        const std::uint64_t* const half = port < 0x8000 ? bitmap_a : bitmap_b;
        return (half[port % 0x8000 / 64] >> port % 64 & 1) == 0;
    }
};
struct processors {
    processor_state* at;
    fault_plan* faults;

    result<void> invalidate(const pt::paging::stale_set<gpa>&) {
        if (faults->fails()) {
            return error{errc::hardware_fault, 0xE9};
        }
        ++at->invalidations;
        return {};
    }
    void pause() {
        if (at->paused++ != 0 || !at->is_seen()) {
            at->wrong = "a bitmap changed while processors were in the guest, or pause() twice";
        }
        ++at->pauses;
    }
    void resume() {
        --at->paused;
        at->look();
    }
};
struct vcpus {
    pt::lapic::inbox* only;
    std::uint32_t count() { return 1; }
    pt::lapic::inbox& inbox(std::uint32_t) { return *only; }
    void notify(std::uint32_t, pt::lapic::notification) {}
};
/// A serial port at 0x3F8, which is a latch, and a device at 0xFED0'0000, likewise.
struct platform_state {
    std::map<unsigned, std::uint8_t> ports;
    std::map<std::uint64_t, std::uint64_t> memory;
    unsigned accesses = 0;
};
struct platform {
    platform_state* at;

    static bool plays(io_port port, width size) {
        return port.raw >= 0x3F8 && port.raw + size_of(size) <= 0x400;
    }
    result<std::uint32_t> read_port(io_port port, width size) {
        if (!plays(port, size)) {
            return error{errc::absent, port.raw};
        }
        ++at->accesses;
        std::uint32_t value = 0;
        for (unsigned i = 0; i < size_of(size); ++i) {
            value |= std::uint32_t{at->ports[port.raw + i]} << 8 * i;
        }
        return value;
    }
    result<void> write_port(io_port port, width size, std::uint32_t value) {
        if (!plays(port, size)) {
            return error{errc::absent, port.raw};
        }
        ++at->accesses;
        for (unsigned i = 0; i < size_of(size); ++i) {
            at->ports[port.raw + i] = static_cast<std::uint8_t>(value >> 8 * i);
        }
        return {};
    }
    static bool plays(gpa address) { return address.raw >> 12 == 0xFED0'0; }
    result<std::uint64_t> read_memory(gpa address, mmio_width size) {
        if (!plays(address)) {
            return error{errc::absent, address.raw};
        }
        ++at->accesses;
        return at->memory[address.raw] & all_ones(size);
    }
    result<void> write_memory(gpa address, mmio_width, std::uint64_t value) {
        if (!plays(address)) {
            return error{errc::absent, address.raw};
        }
        ++at->accesses;
        at->memory[address.raw] = value;
        return {};
    }
    void end_of_interrupt(std::uint8_t) {}
};
struct report_book {
    std::vector<rejection> rejections;
    unsigned changes = 0;
};
struct reports {
    report_book* at;
    void rejected(const rejection& what) { at->rejections.push_back(what); }
    void changed() { ++at->changes; }
};

struct vmm {
    using host_config = simulated::host_config;
    using host_ports = simulated::host_ports;
    using registers = simulated::registers;
    using pages = ept_table;
    using processors = simulated::processors;
    using dma = simulated::dma;
    using interrupts = simulated::interrupts;
    using wire = simulated::wire;
    using vcpus = simulated::vcpus;
    using reset = simulated::function_reset;
    using platform = simulated::platform;
    using reports = simulated::reports;
    using mutex = ranked_mutex;
};
static_assert(pt::assign::vmm<vmm>);

inline constexpr range<gpa> apic_page{gpa{0xFEE0'0000}, 4 * KiB};
inline constexpr range<gpa> played_page{gpa{0xFED0'0000}, 4 * KiB};
inline constexpr range<io_port> played_ports{io_port{0x3F8}, 8};
inline constexpr std::uint64_t ram_size = 0x20'0000;
inline constexpr range<hpa> windows[]{{hpa{0xE000'0000}, 0x100'0000},
                                      {hpa{0x20'0000'0000}, 0x1000'0000}};
inline constexpr range<io_port> port_windows[]{{io_port{0xC000}, 0x1000}};

/// One guest, and what the VMM keeps for it.
struct guest_machine {
    host_machine& host;
    unsigned number;
    pt::arena<table_frames> arena{hpa{0x7000'0000}};
    ept_table ept{frames{arena.memory(), &host.faults},
                  pt::ept::format{pt::ept::capabilities{0x0F01'0673'4141}, 46}};
    processor_state cpus;
    pt::vmx::kept_ports kept[16];
    pt::vmx::shared_io_bitmap ports{pt::vmx::io_bitmap{cpus.bitmap_a, cpus.bitmap_b}, kept, 16};
    pt::assign::claim<gpa> space_slots[28];
    pt::assign::claims<gpa> space{space_slots};
    pt::assign::claim<io_port> port_slots[8];
    pt::assign::claims<io_port> port_space{port_slots};
    rig::domain domain{*host.vtd.vtd, host.vtd.vtd->limits(40).value()};
    pt::lapic::inbox inbox;
    pt::lapic::bus<vcpus> bus{vcpus{&inbox}};
    pt::lapic::host_vector_routes routes;
    platform_state played;
    report_book book;
    pt::assign::guest<vmm> guest;

    explicit guest_machine(host_machine& on, unsigned which = 0)
        : host{on},
          number{which},
          guest{{.pages = ept,
                 .memory = pt::ept::ram,
                 .device_memory = pt::ept::device_memory,
                 .processors = {&cpus, &host.faults},
                 .room = {space, port_space, ports, routes},
                 .windows = windows,
                 .port_windows = port_windows,
                 .host_ports = {&host},
                 .dma = {dma::inner_type{domain, *host.vtd.vtd}, &host.faults},
                 .bus = bus,
                 .platform = {&played},
                 .reports = {&book},
                 .mutex = {&host.locks, space_rank},
                 .config_mutex = {&host.locks, config_rank}}} {
        cpus.look();
        using addressing = pt::lapic::inbox_addressing;
        inbox.publish(addressing{addressing::software_enabled(true),
                                 addressing::mode(pt::lapic::apic_mode::xapic)});
        guest.give_memory({gpa{0}, ram_size}, hpa{vtd_domains::memory_of(which)}).value();
        guest.reserve(apic_page, space_use::local_apic).value();
        guest.reserve(played_page, space_use::device).value();
        guest.reserve_ports(played_ports).value();
        guest.settle().value();
    }
    guest_machine(const guest_machine&) = delete;
    guest_machine& operator=(const guest_machine&) = delete;
    ~guest_machine() {
        host.faults.stop();
        static_cast<void>(guest.retire());
        static_cast<void>(domain.retire());
    }

    /// What arrived at its local APIC since it was asked last.
    std::vector<unsigned> arrived() {
        std::vector<unsigned> all;
        const auto found = inbox.harvest();
        for (unsigned v = 0; v < 256; ++v) {
            if (found.edge.contains(static_cast<std::uint8_t>(v)) ||
                found.level.contains(static_cast<std::uint8_t>(v))) {
                all.push_back(v);
            }
        }
        return all;
    }
    std::vector<rejection> take_rejections() { return std::exchange(book.rejections, {}); }

    // ---- the guest's own instructions

    void out32(unsigned port, std::uint32_t value) {
        guest.write_port(io_port{static_cast<std::uint16_t>(port)}, width::dword, value).value();
    }
    void select(unsigned offset, unsigned slot) {
        out32(0xCF8, 0x8000'0000 | slot << 11 | (offset & 0xFC));
    }
    void write(unsigned offset, unsigned size, std::uint32_t value, unsigned slot = 3) {
        select(offset, slot);
        guest
            .write_port(io_port{static_cast<std::uint16_t>(0xCFC + (offset & 3))},
                        static_cast<width>(size), value)
            .value();
    }
    std::uint32_t read(unsigned offset, unsigned size, unsigned slot = 3) {
        select(offset, slot);
        return guest
            .read_port(io_port{static_cast<std::uint16_t>(0xCFC + (offset & 3))},
                       static_cast<width>(size))
            .value();
    }
    /// As a guest does it with decoding off or on: the low half, then the high one.
    void place(unsigned index, std::uint64_t address, unsigned slot = 3) {
        write(0x10 + 4 * index, 4, static_cast<std::uint32_t>(address), slot);
        if (plan_of(index).is_64bit) {
            write(0x14 + 4 * index, 4, static_cast<std::uint32_t>(address >> 32), slot);
        }
    }
    void decode(unsigned command, unsigned slot = 3) { write(4, 2, command, slot); }

    // ---- what the hardware would do

    /// Where the guest's processors get at `address`, or "nowhere".
    [[nodiscard]] std::string reach(std::uint64_t address) const {
        const auto found = ept.translate(gpa{address});
        if (!found) {
            return "nowhere";
        }
        char text[32];
        std::snprintf(text, sizeof text, "%llx",
                      static_cast<unsigned long long>(found->output.raw));
        return text;
    }
    /// All of what is mapped: input, size, output.
    [[nodiscard]] std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>>
    mapped() const {
        std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>> all;
        for (const auto& leaf : ept.leaves()) {
            all.emplace_back(leaf.input.first().raw, leaf.input.size(), leaf.to.output.raw);
        }
        return all;
    }
    [[nodiscard]] std::set<unsigned> open_ports() const {
        std::set<unsigned> all;
        for (unsigned port = 0; port < 0x1'0000; ++port) {
            if (cpus.is_open(port)) {
                all.insert(port);
            }
        }
        return all;
    }
    /// What the isolation audit finds in the live tables, bitmaps and entries, one line each.
    std::vector<std::string> audit() {
        namespace assign = pt::assign;
        std::vector<std::string> all;
        const auto told = [&](const assign::finding& found) {
            all.emplace_back(assign::explain(found).c_str());
        };
        assign::ownership_lists<64, 16, 8, 64> lists;
        const auto result = guest.owned(lists.room(), static_cast<std::uint16_t>(number));
        if (!result) {
            return {"no room for the lists"};
        }
        const assign::ownership& mine = *result;
        struct ept_reader {
            pt::arena<table_frames>* arena;
            const std::uint64_t* entries(hpa frame) const { return arena->memory().entries(frame); }
        };
        std::uint64_t seen[table_frames / 64 + 1]{};
        const range<hpa> table_memory{hpa{0x7000'0000}, table_frames * 4 * KiB};
        assign::audit_pages(ept.format(), ept_reader{&arena}, ept.root().value(),
                            pt::paging::frame_bitmap{table_memory, seen}, mine, told);
        assign::audit_ports(cpus.bitmap_a, cpus.bitmap_b, mine, told);
        struct unit_reader {
            decltype(host.vtd.memory)* memory;
            const std::uint64_t* entries(hpa frame) const {
                return vtd_model::frames<rig::memory_type>{memory}.entries(frame);
            }
        };
        std::uint64_t seen_by_unit[rig::frame_count / 64 + 1]{};
        const range<hpa> unit_memory{hpa{rig::memory_type::base}, rig::frame_count * 4 * KiB};
        auto& tables = const_cast<rig::domain::table_type&>(domain.tables());
        assign::audit_dma(domain.tables().format(), unit_reader{&host.vtd.memory},
                          tables.root().value(),
                          pt::paging::frame_bitmap{unit_memory, seen_by_unit}, mine, told);
        assign::audit_vectors(
            {unit_reader{&host.vtd.memory}.entries(host.vtd.driver[1]->interrupts().base()), 256},
            mine, told);
        return all;
    }
    [[nodiscard]] bool is_right() const {
        return cpus.wrong == nullptr && cpus.is_seen() && cpus.paused == 0 &&
               host.locks.wrong == nullptr && host.locks.held == 0;
    }
};

/// A NIC that can be given to a guest.
struct nic {
    guest_machine& of;
    unsigned number;
    bool wire_is_open = false;
    pt::pci::msi_x_vector vectors[8];
    pt::assign::assigned_device<vmm> device;

    explicit nic(guest_machine& to, unsigned which = 0, std::uint16_t vector_count = 8)
        : of{to},
          number{which},
          device{to.guest,
                 pt::vtd::requester{nic_at[which]},
                 {.config = {&to.host},
                  .registers = {&to.host.devices[which]},
                  .interrupts = {interrupts::inner_type{
                                     *to.host.vtd.vtd, pt::assign::vector_pool{to.host.vectors, 0}},
                                 &to.host.faults},
                  .wire = {&wire_is_open, &to.host.faults},
                  .reset = {&to.host},
                  .vectors = vectors,
                  .vector_count = vector_count,
                  .mutex = {&to.host.locks, view_rank}}} {}
    nic(const nic&) = delete;
    nic& operator=(const nic&) = delete;
    ~nic() {
        of.host.faults.stop();
        static_cast<void>(device.remove());
    }

    result<void> assign(unsigned slot = 3) {
        return device.assign({.at = {0, 0, static_cast<std::uint8_t>(slot), 0}});
    }
    [[nodiscard]] simulated::device& hardware() { return of.host.devices[number]; }
    /// Where a write of the function to `address` goes; "blocked".
    [[nodiscard]] std::string dma_to(std::uint64_t address) {
        const auto o = of.host.vtd.dma(1, nic_at[number], address);
        char text[32];
        std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(o.to));
        return o.reached ? text : "blocked";
    }
};

/// Everything that assign() and remove() may touch, to be compared.
struct snapshot {
    std::vector<std::tuple<std::uint64_t, std::uint64_t, std::uint64_t>> mapped;
    std::set<unsigned> open_ports;
    std::vector<std::pair<std::uint64_t, int>> claims;
    std::size_t ept_frames;
    std::size_t unit_frames;
    std::vector<unsigned> vectors;
    std::vector<unsigned> entries; ///< of the remapping unit, that are present
    std::vector<unsigned> routes;
    std::vector<std::uint8_t> config[2];
    std::uint32_t id[2]; ///< what the guest finds at 00:03.0 and 00:04.0
    bool wire;
    std::string dma;

    friend bool operator==(const snapshot&, const snapshot&) = default;
};
inline snapshot look_at(guest_machine& g, nic& n) {
    host_machine& host = g.host;
    snapshot s{.mapped = g.mapped(),
               .open_ports = g.open_ports(),
               .claims = {},
               .ept_frames = g.arena.free_frames(),
               .unit_frames = host.vtd.memory.in_use,
               .vectors = {},
               .entries = {},
               .routes = {},
               .config = {},
               .id = {g.read(0, 4, 3), g.read(0, 4, 4)},
               .wire = n.wire_is_open,
               .dma = n.dma_to(0x1234)};
    for (const auto& each : g.space) {
        s.claims.emplace_back(each.place.first().raw, static_cast<int>(each.use));
    }
    for (unsigned v = 0; v < 256; ++v) {
        if (host.vectors.is_taken(static_cast<std::uint8_t>(v))) {
            s.vectors.push_back(v);
        }
        if (g.routes.find(static_cast<std::uint8_t>(v))) {
            s.routes.push_back(v);
        }
        if (host.vtd.driver[1]->interrupts().entry({static_cast<std::uint16_t>(v)}).present()) {
            s.entries.push_back(v);
        }
    }
    for (unsigned d = 0; d < 2; ++d) {
        const auto& bytes = host.devices[d].config.bytes;
        s.config[d].assign(bytes, bytes + 0x100);
    }
    return s;
}

} // namespace simulated
