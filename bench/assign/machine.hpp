// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/assigned_device.hpp"
#include "pt/assign/claims.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/processor.hpp"
#include "pt/assign/remapped_dma.hpp"
#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/standard_reset.hpp"
#include "pt/assign/vector_pool.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/unit.hpp"

#include "../paging/pool.hpp"
#include "../paging/tables.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

/// A machine with one guest, one virtual processor and one NIC, in which hardware takes no time: its
/// registers are memory, the remapping unit has done what it is told as soon as it is told, and a
/// reset is over at the first look at the clock. What the rows of bench/assign measure is the
/// processor's own part.
namespace bench {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::mmio_width;
using pt::range;
using pt::result;
using pt::width;
namespace assign = pt::assign;
namespace lapic = pt::lapic;
namespace pci = pt::pci;
namespace vcpu = pt::vcpu;
using enum vcpu::general_register;

/// What the host did to the hardware, in its order, for a floor that does it again.
enum class touched : std::uint8_t {
    config_read,
    config_write,
    bar_read,
    bar_write,
    unit_read32,
    unit_read64,
    unit_write32,
    unit_write64,
};
struct touch {
    touched what{};
    std::uint8_t size = 0; ///< in bytes, of an access to configuration space or a BAR
    std::uint32_t at = 0;
    std::uint64_t value = 0;
};
struct journal {
    static constexpr std::size_t capacity = 2048;
    touch touches[capacity]{};
    std::size_t count = 0;
    bool is_kept = false;

    void add(touch what) {
        if (is_kept && count != capacity) {
            touches[count++] = what;
        }
    }
};

// ------------------------------------------------------------------------------------ the hardware

inline constexpr pci::function_address nic_at{0, 0, 5, 0};
inline constexpr std::uint16_t nic_vectors = 5;
inline constexpr std::uint64_t nic_registers = 0xE000'0000; ///< BAR 0, 128 KiB
inline constexpr std::uint64_t nic_ports = 0xC000;          ///< BAR 2, 32 ports
inline constexpr std::uint64_t nic_msi_x = 0xE002'0000;     ///< BAR 3, 16 KiB

/// The configuration space of an 82574L [82574]: three BARs, power management, MSI, MSI-X with its
/// table in BAR 3, and PCI Express; with FLR, which the real one does not have.
class nic_config {
public:
    static constexpr std::uint32_t express = 0xE0;

    nic_config() {
        put(0x00, 0x10D3'8086, 0);
        put(0x04, 0x0010'0007, 0x0547);
        put(0x08, 0x0200'0000, 0);
        put(0x0C, 0, 0x00FF);
        put(0x10, static_cast<std::uint32_t>(nic_registers), 0xFFFE'0000);
        put(0x18, static_cast<std::uint32_t>(nic_ports) | 1, 0xFFFF'FFE0);
        put(0x1C, static_cast<std::uint32_t>(nic_msi_x), 0xFFFF'C000);
        put(0x34, 0xC8, 0);
        put(0x3C, 0x0000'010B, 0xFF);
        put(0xC8, 0xC822'D001, 0);
        put(0xCC, 0x0000'2000, 0x0003);
        put(0xD0, 0x0080'E005, 0x0071'0000);
        put(0xD4, 0, 0xFFFF'FFFC);
        put(0xD8, 0, 0xFFFF'FFFF);
        put(0xDC, 0, 0xFFFF);
        put(0xA0, 0x0000'0011 | (nic_vectors - 1) << 16, 0xC000'0000);
        put(0xA4, 0x0000'0003, 0);
        put(0xA8, 0x0000'2003, 0);
        put(express, 0x0002'A010, 0);
        put(express + 4, 0x1000'8CC1, 0);
        put(express + 8, 0x0000'2810, 0x0000'FFFF);
        put(express + 12, 0x0003'1C11, 0);
        std::memcpy(power_on_, dwords_, sizeof dwords_);
    }

    std::uint32_t read(std::uint16_t offset, width size) const {
        if (offset >= sizeof dwords_) {
            return pt::all_ones(size);
        }
        return dwords_[offset / 4] >> 8 * (offset & 3) & pt::all_ones(size);
    }
    void write(std::uint16_t offset, width size, std::uint32_t value) {
        if (offset >= sizeof dwords_) {
            return;
        }
        const unsigned shift = 8 * (offset & 3U);
        const std::uint32_t lanes = writable_[offset / 4] & pt::all_ones(size) << shift;
        std::uint32_t& dword = dwords_[offset / 4];
        dword = (dword & ~lanes) | (value << shift & lanes);
        if (offset == express + 8 && (value & 0x8000) != 0) {
            std::memcpy(dwords_, power_on_, sizeof dwords_);
            dwords_[1] &= 0xFFFF'0000;
            dwords_[4] = 0;
            dwords_[6] = 1;
            dwords_[7] = 0;
        }
    }

private:
    void put(std::uint32_t offset, std::uint32_t value, std::uint32_t writable) {
        dwords_[offset / 4] = value;
        writable_[offset / 4] = writable;
    }

    std::uint32_t dwords_[64]{};
    std::uint32_t writable_[64]{};
    std::uint32_t power_on_[64]{};
};

struct alignas(4096) hardware {
    std::uint64_t unit[512]{}; ///< registers
    nic_config config;
    std::uint32_t bar_dwords[0x4000 / 4]{}; ///< BAR 3
    std::uint32_t port_dwords[8]{};         ///< BAR 2
    std::uint64_t now = 0;                  ///< ns
    journal log;

    hardware() {
        unit[0x00 / 8] = 0x10; // version 1.0
        unit[0x08 / 8] = 0x00D2'008C'222F'0606;
        unit[0x10 / 8] = 0x0000'0000'00F0'0F4A;
    }

    [[nodiscard]] std::uint64_t& queue_tail() { return unit[0x88 / 8]; }

    // Each access, with the journal's entry.
    std::uint32_t read_config(std::uint16_t offset, width size) {
        log.add({touched::config_read, static_cast<std::uint8_t>(size), offset, 0});
        return config.read(offset, size);
    }
    void write_config(std::uint16_t offset, width size, std::uint32_t value) {
        log.add({touched::config_write, static_cast<std::uint8_t>(size), offset, value});
        config.write(offset, size, value);
    }
    std::uint64_t read_bar(std::uint64_t offset) {
        log.add({touched::bar_read, 4, static_cast<std::uint32_t>(offset), 0});
        return bar_dwords[offset / 4 % 0x1000];
    }
    void write_bar(std::uint64_t offset, std::uint64_t value) {
        log.add({touched::bar_write, 4, static_cast<std::uint32_t>(offset), value});
        bar_dwords[offset / 4 % 0x1000] = static_cast<std::uint32_t>(value);
    }
    std::uint32_t read_unit32(std::uint32_t offset) {
        log.add({touched::unit_read32, 4, offset, 0});
        const std::uint32_t at = offset == 0x1C ? 0x18 : offset; // GSTS is GCMD
        return static_cast<std::uint32_t>(unit[at / 8] >> (at % 8 * 8));
    }
    std::uint64_t read_unit64(std::uint32_t offset) {
        log.add({touched::unit_read64, 8, offset, 0});
        return unit[(offset == 0x80 ? 0x88 : offset) / 8]; // the head is the tail
    }
    void write_unit32(std::uint32_t offset, std::uint32_t value) {
        log.add({touched::unit_write32, 4, offset, value});
        unit[offset / 8] = value;
    }
    void write_unit64(std::uint32_t offset, std::uint64_t value) {
        log.add({touched::unit_write64, 8, offset, value});
        if (offset == 0x88) {
            take_waits(value);
        }
        unit[offset / 8] = value;
    }

private:
    /// The status of each wait between the old tail and the new one.
    void take_waits(std::uint64_t tail) {
        const std::uint64_t* const queue = entries_of(unit[0x90 / 8] & ~std::uint64_t{0xFFF});
        for (std::uint64_t at = unit[0x88 / 8]; at != tail; at = (at + 16) % 4096) {
            const std::uint64_t low = queue[at / 8];
            if ((low & 0x2F) == 0x25) {
                const auto status = static_cast<std::uint32_t>(low >> 32);
                std::memcpy(entries_of(queue[at / 8 + 1]), &status, sizeof status);
            }
        }
    }
};

// -------------------------------------------------------------------------------------- the policies

struct host_config {
    hardware* on;
    std::uint32_t read(pci::function_address, std::uint16_t offset, width size) {
        return on->read_config(offset, size);
    }
    void write(pci::function_address, std::uint16_t offset, width size, std::uint32_t value) {
        on->write_config(offset, size, value);
    }
};
struct host_bars {
    hardware* on;
    std::uint64_t read(std::uint8_t, std::uint64_t offset, mmio_width) {
        return on->read_bar(offset);
    }
    void write(std::uint8_t, std::uint64_t offset, mmio_width, std::uint64_t value) {
        on->write_bar(offset, value);
    }
};
struct host_ports {
    hardware* on;
    [[nodiscard]] std::uint32_t& dword(io_port port) const {
        return on->port_dwords[(port.raw - nic_ports) / 4 % 8];
    }
    std::uint8_t in8(io_port p) { return static_cast<std::uint8_t>(dword(p)); }
    std::uint16_t in16(io_port p) { return static_cast<std::uint16_t>(dword(p)); }
    std::uint32_t in32(io_port p) { return dword(p); }
    void out8(io_port p, std::uint8_t v) { dword(p) = v; }
    void out16(io_port p, std::uint16_t v) { dword(p) = v; }
    void out32(io_port p, std::uint32_t v) { dword(p) = v; }
};
struct unit_registers {
    hardware* on;
    std::uint32_t read32(std::uint32_t offset) { return on->read_unit32(offset); }
    std::uint64_t read64(std::uint32_t offset) { return on->read_unit64(offset); }
    void write32(std::uint32_t offset, std::uint32_t value) { on->write_unit32(offset, value); }
    void write64(std::uint32_t offset, std::uint64_t value) { on->write_unit64(offset, value); }
};
struct quick_clock {
    hardware* on;
    std::uint64_t now() { return on->now += 200'000'000; }
};
struct spin_lock {
    unsigned char* taken;
    void lock() {
        while (__atomic_test_and_set(taken, __ATOMIC_ACQUIRE)) {
            __builtin_ia32_pause();
        }
    }
    void unlock() { __atomic_clear(taken, __ATOMIC_RELEASE); }
};
/// What hardware would have to forget is counted.
struct counting_processors {
    std::uint64_t* invalidations;
    result<void> invalidate(const pt::paging::stale_set<gpa>& stale) {
        *invalidations += stale.empty() ? 0U : 1U;
        return {};
    }
    void pause() {}
    void resume() {}
};
struct one_vcpu {
    lapic::inbox* only;
    std::uint64_t* notified;
    std::uint32_t count() { return 1; }
    lapic::inbox& inbox(std::uint32_t) { return *only; }
    void notify(std::uint32_t, lapic::notification) { ++*notified; }
};

using vtd_policies =
    pt::vtd::policies<unit_registers, quick_clock, pool_memory, pt::paging::coherent_publication>;
using remapping_unit = pt::vtd::unit<vtd_policies>;
using remapping = pt::vtd::remapping<vtd_policies, pci::archetype::bridge_bus_numbers>;
using dma_domain = pt::vtd::domain<remapping>;

/// As a VMM with several virtual processors would have it: with locks.
struct bench_vmm {
    using host_config = bench::host_config;
    using host_ports = bench::host_ports;
    using registers = host_bars;
    using pages = ept_table;
    using processors = counting_processors;
    using dma = assign::remapped_dma<dma_domain>;
    using interrupts = assign::remapped_interrupts<remapping, assign::vector_pool<>>;
    using wire = assign::no_wire;
    using vcpus = one_vcpu;
    using reset = assign::standard_reset<bench::host_config, quick_clock>;
    using platform = assign::no_platform;
    using reports = assign::no_reports;
    using mutex = spin_lock;
};
static_assert(assign::vmm<bench_vmm>);

// -------------------------------------------------------------------------------------- the guest

inline constexpr std::uint64_t guest_ram = 2 * MiB;
inline constexpr std::uint64_t guest_code = 0x1000;
inline constexpr range<hpa> device_memory[]{{hpa{0xE000'0000}, 1 * MiB}};
inline constexpr range<io_port> device_ports[]{{io_port{0xC000}, 0x1000}};

/// Where the guest has the NIC: it moves BAR 0 from here to there and back. All of it is below one
/// table of leaves, and a page of RAM keeps that table.
inline constexpr std::uint64_t registers_here = 0x8000'0000;
inline constexpr std::uint64_t registers_there = 0x8010'0000;
inline constexpr std::uint64_t msi_x_here = 0x8018'0000;
inline constexpr std::uint64_t keeper = 0x801F'F000;
inline constexpr std::uint16_t ports_here = 0xD000; ///< not the device's own

/// A page of code, at guest_code; linear addresses are physical ones.
struct flat_memory {
    const std::uint8_t* code;

    vcpu::guest_place locate(vcpu::logical_address at, std::uint32_t, vcpu::memory_access) {
        return {.address = gpa{at.offset},
                .size = static_cast<std::uint32_t>(0x1000 - (at.offset & 0xFFF))};
    }
    void read(gpa place, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = code[(place.raw + i) & 0xFFF];
        }
    }
    void write(gpa, const std::uint8_t*, std::size_t) {}
};
struct stopped_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct interruptible {
    bool can_take_interrupt() { return true; }
    bool can_take_nmi() { return true; }
};
using apic_type = lapic::local_apic<stopped_clock>;
using injector_type = lapic::injector<interruptible, apic_type>;

/// A DMAR table with one unit that includes all, and addresses of 52 bits.
struct dmar_table {
    std::uint8_t bytes[64]{'D', 'M', 'A', 'R', 64, 0, 0, 0, 1};

    constexpr dmar_table() {
        bytes[36] = 51;
        bytes[37] = 1; // interrupt remapping
        bytes[50] = 16;
        bytes[52] = 1;
        bytes[58] = 0xD9;
        bytes[59] = 0xFE;
        unsigned sum = 0;
        for (const std::uint8_t byte : bytes) {
            sum += byte;
        }
        bytes[9] = static_cast<std::uint8_t>(0U - sum);
    }
};

/// All of it, with remapping on; the guest has its memory, and not the NIC.
class machine {
public:
    explicit machine(const region& all)
        : frames{all, 0, all.frames / 2}, frames_of_ept_{all, all.frames / 2, all.frames / 2} {
        require(vtd_.start_interrupt_remapping());
        require(guest.give_memory({gpa{0}, guest_ram}, hpa{0x1'0000'0000}));
        require(guest.give_memory({gpa{keeper}, 4 * KiB}, hpa{0x2'0000'0000}));
        require(guest.reserve({gpa{0xFEE0'0000}, 4 * KiB}, assign::space_use::local_apic));
        require(guest.reserve_ports({io_port{0x3F8}, 8}));
        require(guest.settle());
        (void)apic.write(0xF0, mmio_width::dword, 0x1FF);
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    ~machine() {
        (void)nic.remove();
        (void)guest.retire();
        (void)domain_.retire();
        (void)vtd_.stop();
        (void)vtd_.retire();
        (void)unit_.retire();
    }
    [[nodiscard]] bool ready() const { return good_; }
    void require(const result<void>& done) { good_ = good_ && done.has_value(); }

    bool assign() { return nic.assign({.at = {0, 0, 3, 0}}).has_value(); }
    bool remove() { return nic.remove().has_value(); }

    // ---- the guest's instructions, each of which exits

    bool out(std::uint16_t port, width size, std::uint32_t value) {
        registers[rax] = value;
        return cpu.on_io({.port = io_port{port}, .size = size, .length = 1}, registers, rflags)
                   .advance == 1;
    }
    bool in(std::uint16_t port, width size) {
        return cpu.on_io({.port = io_port{port},
                          .size = size,
                          .direction = vcpu::io_direction::in,
                          .length = 1},
                         registers, rflags)
                   .advance == 1;
    }
    /// mov [rdi], eax
    bool store(std::uint64_t at, std::uint32_t value) {
        registers[rdi] = at;
        registers[rax] = value;
        return cpu.on_memory_violation({.address = gpa{at}, .write = true}, {.rip = guest_code},
                                       registers, rflags)
                   .advance == 2;
    }
    /// What its next entry delivers: nothing.
    bool enter() { return !cpu.before_entry().event.present; }
    bool write_config(std::uint32_t offset, width size, std::uint32_t value) {
        return out(0xCF8, width::dword, 0x8000'1800 | (offset & 0xFC)) && enter() &&
               out(static_cast<std::uint16_t>(0xCFC + (offset & 3)), size, value) && enter();
    }

    static constexpr std::uint8_t guest_vector(unsigned n) {
        return static_cast<std::uint8_t>(0x31 + 0x20 * n);
    }
    [[nodiscard]] std::uint8_t host_vector(unsigned n) { return nic.interrupts().vectors()[n]; }
    /// As a driver begins: BARs placed, MSI-X on, all vectors but the last unmasked.
    bool drive() {
        bool good = write_config(0x10, width::dword, registers_here) &&
                    write_config(0x18, width::dword, ports_here) &&
                    write_config(0x1C, width::dword, msi_x_here) &&
                    write_config(0x04, width::word, 7);
        for (unsigned n = 0; n + 1 != nic_vectors; ++n) {
            const std::uint64_t entry = msi_x_here + std::uint64_t{16} * n;
            good = good && store(entry, 0xFEE0'0000) && store(entry + 8, guest_vector(n)) &&
                   store(entry + 12, 0);
        }
        return good && write_config(0xA2, width::word, 0x8000);
    }

    hardware host;
    pool frames; ///< of the remapping unit
    vcpu::general_registers registers{};
    std::uint64_t rflags = 2;
    std::uint64_t invalidations = 0;
    std::uint64_t notified = 0;

private:
    [[nodiscard]] static remapping_unit take(const vtd_policies& given, hardware& host,
                                             const pt::vtd::dmar& table) {
        for (const pt::vtd::drhd& place : table.each<pt::vtd::drhd>()) {
            return std::move(*remapping_unit::take(given, {&host}, place));
        }
        __builtin_trap(); // there is one in the table
    }
    /// A domain wants to know what all units can do.
    [[nodiscard]] static remapping& started(remapping& vtd, remapping_unit& unit) {
        (void)vtd.add(unit);
        (void)vtd.start();
        return vtd;
    }

    pool frames_of_ept_;
    dmar_table bytes_{};
    pt::vtd::dmar dmar_ = pt::vtd::dmar::read(bytes_.bytes, sizeof bytes_.bytes).value();
    vtd_policies policies_{{&host}, {&frames}};
    remapping vtd_{policies_, dmar_, {}};
    remapping_unit unit_ = take(policies_, host, dmar_);
    dma_domain domain_{vtd_, started(vtd_, unit_).limits(40).value()};
    ept_table ept_{pool_memory{&frames_of_ept_}, ept_format};
    alignas(4096) std::uint64_t bitmaps_[1024]{};
    pt::vmx::kept_ports kept_[8]{};
    pt::vmx::shared_io_bitmap ports_{pt::vmx::io_bitmap{bitmaps_, bitmaps_ + 512}, kept_, 8};
    assign::claim<gpa> slots_[16]{};
    assign::claims<gpa> space_{slots_};
    assign::claim<io_port> port_slots_[8]{};
    assign::claims<io_port> port_space_{port_slots_};
    lapic::inbox inbox_{};
    lapic::bus<one_vcpu> bus_{one_vcpu{&inbox_, &notified}};
    lapic::host_vector_routes routes_{};
    assign::host_vectors vectors_{0x40, 0x5F};
    pci::msi_x_vector msi_x_[nic_vectors]{};
    unsigned char locks_[3]{};
    std::uint8_t code_[0x1000]{0x89, 0x07};
    lapic::register_page page_{};
    bool good_ = true;

public:
    assign::guest<bench_vmm> guest{{.pages = ept_,
                                    .memory = pt::ept::ram,
                                    .device_memory = pt::ept::device_memory,
                                    .processors = {&invalidations},
                                    .room = {space_, port_space_, ports_, routes_},
                                    .windows = device_memory,
                                    .port_windows = device_ports,
                                    .host_ports = {&host},
                                    .dma = {domain_, vtd_},
                                    .bus = bus_,
                                    .platform = {},
                                    .reports = {},
                                    .mutex = {&locks_[0]},
                                    .config_mutex = {&locks_[1]}}};
    assign::assigned_device<bench_vmm> nic{guest,
                                           pt::vtd::requester{nic_at},
                                           {.config = {&host},
                                            .registers = {&host},
                                            .interrupts = {vtd_, assign::vector_pool{vectors_, 0}},
                                            .wire = {},
                                            .reset = {host_config{&host}, quick_clock{&host}},
                                            .vectors = msi_x_,
                                            .vector_count = nic_vectors,
                                            .mutex = {&locks_[2]}}};
    apic_type apic{page_, inbox_, {.physical_address_width = 40}, {}};
    injector_type injector{apic, interruptible{}};
    assign::processor<bench_vmm, apic_type, injector_type, flat_memory> cpu{
        guest, 0, apic, injector, flat_memory{code_}};
};

} // namespace bench
