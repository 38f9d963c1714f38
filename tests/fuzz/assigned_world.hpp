// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../unit/assign/simulated_vmm.hpp"
#include "reader.hpp"

#include "pt/assign/assigned_device.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/remapped_dma.hpp"
#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/vector_pool.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

/// The machine of the fuzz target `assigned_device`: functions of several kinds, a remapping unit
/// that is written from the manual, processors that keep every translation for as long as they may,
/// and policies that each fail when they are told to.
namespace assigned {

// What only looks is marked [[clang::no_sanitize("coverage")]]: the fuzzer learns nothing from it,
// and it would take most of the time.

using fuzz::demand;
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
using pt::pci::function_address;
using vtd_domains::rig;

inline constexpr unsigned guest_count = 2;
inline constexpr unsigned function_count = 5;

// ------------------------------------------------------------------------------ what goes wrong

/// The calls into policies that can fail.
enum class call : std::uint8_t {
    allocate,
    invalidate,
    map,
    unmap,
    attach,
    block,
    release,
    settle,
    open,
    close,
    vectors,
    wire,
    reset,
    platform,
    any, ///< whichever comes
};

struct fault_plans {
    simulated::fault_plan plans[static_cast<unsigned>(call::any) + 1];
    bool suspended = false; ///< the VMM looks on, and nothing happens
    unsigned fired = 0;
    unsigned flavour = 0; ///< a policy can fail in two ways: before its work, or after it

    bool fails(call what) {
        if (suspended) {
            return false;
        }
        const bool one = plans[static_cast<unsigned>(what)].fails();
        const bool other = plans[static_cast<unsigned>(call::any)].fails();
        fired += one || other ? 1 : 0;
        return one || other;
    }
    void stop() {
        for (simulated::fault_plan& each : plans) {
            each.stop();
        }
    }
};

// -------------------------------------------------------------------------------- the functions

enum class bar_type : std::uint8_t { none, memory_32, memory_64, memory_1m, ports };

struct bar_shape {
    bar_type type = bar_type::none;
    std::uint64_t size = 0;
    std::uint64_t host = 0;
};
enum class reset_shape : std::uint8_t { express, advanced_features, none };

struct shape {
    bar_shape bars[6];
    std::uint64_t rom = 0;
    unsigned msi = 0; ///< vectors; more than one: with 64 bits and masks
    unsigned msi_x = 0;
    unsigned table_bar = 0;
    std::uint64_t table = 0;
    std::uint64_t pending = 0; ///< in the same BAR
    reset_shape reset = reset_shape::none;
    bool has_wire = false;

    [[nodiscard]] unsigned vectors() const { return msi > msi_x ? msi : msi_x; }
    /// Whether a page of a BAR holds a part of MSI-X.
    [[clang::no_sanitize("coverage")]] [[nodiscard]] bool
    is_msi_x_page(unsigned bar, std::uint64_t offset) const {
        const auto touches = [&](std::uint64_t first, std::uint64_t size) {
            return first / 4096 <= offset / 4096 && offset / 4096 <= (first + size - 1) / 4096;
        };
        return msi_x != 0 && bar == table_bar &&
               (touches(table, std::uint64_t{16} * msi_x) ||
                touches(pending, (msi_x + 63) / 64 * 8));
    }
    /// Whether the guest gets at it without the VMM.
    [[clang::no_sanitize("coverage")]] [[nodiscard]] bool is_mapped(unsigned bar,
                                                                    std::uint64_t offset) const {
        return bars[bar].type != bar_type::ports && bars[bar].size >= 4096 &&
               !is_msi_x_page(bar, offset);
    }
};

inline constexpr shape shapes[function_count]{
    // A NIC; another one; a simple one with MSI; one with large BARs and MSI-X beside its
    // registers; one with ports and a BAR below 1 MiB.
    {.bars = {{bar_type::memory_64, 0x4000, 0x20'0000'0000},
              {},
              {bar_type::ports, 32, 0xC000},
              {bar_type::memory_32, 0x4000, 0xE000'0000},
              {bar_type::memory_32, 0x100, 0xE001'0000},
              {bar_type::memory_32, 0x200, 0xE001'1000}},
     .rom = 0x1'0000,
     .msi = 4,
     .msi_x = 5,
     .table_bar = 3,
     .table = 0,
     .pending = 0x2000,
     .reset = reset_shape::express,
     .has_wire = true},
    {.bars = {{bar_type::memory_64, 0x4000, 0x20'0010'0000},
              {},
              {bar_type::ports, 32, 0xC100},
              {bar_type::memory_32, 0x4000, 0xE010'0000},
              {bar_type::memory_32, 0x100, 0xE011'0000},
              {bar_type::memory_32, 0x200, 0xE011'1000}},
     .rom = 0x1'0000,
     .msi = 4,
     .msi_x = 5,
     .table_bar = 3,
     .table = 0,
     .pending = 0x2000,
     .reset = reset_shape::express,
     .has_wire = true},
    {.bars = {{bar_type::memory_32, 0x1000, 0xE020'0000}, {bar_type::ports, 8, 0xC200}},
     .msi = 1,
     .reset = reset_shape::none},
    {.bars = {{bar_type::memory_64, 0x2000, 0x20'0020'0000},
              {},
              {bar_type::memory_64, 0x20'0000, 0x20'0040'0000}},
     .msi_x = 3,
     .table_bar = 0,
     .table = 0xE00,
     .pending = 0xF00,
     .reset = reset_shape::advanced_features,
     .has_wire = true},
    {.bars = {{bar_type::ports, 256, 0xC400},
              {bar_type::ports, 4, 0xC500},
              {bar_type::memory_1m, 0x1000, 0xD'0000},
              {bar_type::memory_32, 0x10, 0xE030'0010}},
     .has_wire = true},
};

inline constexpr function_address host_address_of(unsigned f) {
    return {0, 0, static_cast<std::uint8_t>(5 + f), 0};
}

inline constexpr unsigned power_at = 0x40, msi_at = 0x50, msi_x_at = 0x80, reset_at = 0xA0;

struct hardware {
    pci_fake::function config;
    const shape& what;
    std::uint8_t fresh[256]{}; ///< configuration space as the host has set it up
    std::uint8_t table[16 * 8]{};
    bool gone = false;
    unsigned accesses_left = 0; ///< until it goes, if not 0
    bool wire_is_open = false;
    bool was_away = false; ///< what it was told may be lost, and what it has said be wrong
    bool wire_failed = false;
    bool dead = false; ///< a reset that its guest wanted has failed

    explicit hardware(unsigned f)
        : config{host_address_of(f), 0x1000'8086U + (f << 16)}, what{shapes[f]} {
        config.put(0x04, 4, 0x0010'0003);
        config.put(0x08, 4, 0x0200'0001);
        config.allow(0x0C, 2, 0xFFFF);
        config.put(0x34, 1, power_at);
        config.put(0x3C, 4, what.has_wire ? 0x0000'010B : 0);
        for (unsigned n = 0; n < 6; ++n) {
            const bar_shape& bar = what.bars[n];
            const unsigned flags = bar.type == bar_type::ports       ? 1
                                   : bar.type == bar_type::memory_1m ? 2
                                   : bar.type == bar_type::memory_64 ? 0xC
                                                                     : 0;
            if (bar.type != bar_type::none && bar.size != 0) {
                const std::uint64_t mask = bar.type == bar_type::memory_1m ? 0xF'FFFF : ~0ULL;
                config.bar(0x10 + 4 * n, static_cast<std::uint32_t>(~(bar.size - 1) & mask),
                           static_cast<std::uint32_t>(bar.host) | flags);
            }
            if (bar.type == bar_type::memory_64) {
                config.bar(0x14 + 4 * n, 0xFFFF'FFFF, static_cast<std::uint32_t>(bar.host >> 32));
            }
        }
        if (what.rom != 0) {
            config.bar(0x30, static_cast<std::uint32_t>(~(what.rom - 1)) | 1, 0);
        }
        config.put(power_at, 8, 0x0000'0000'0003'0001 | msi_at << 8);
        config.allow(power_at + 4, 2, 0x0003);
        // What a function does not have, stands there with an id that nobody knows.
        config.put(msi_at, 4,
                   (what.msi > 1    ? 0x0184'0005U
                    : what.msi == 1 ? 0x0000'0005U
                                    : 0x0000'00F1U) |
                       msi_x_at << 8);
        if (what.msi != 0) {
            config.allow(msi_at + 2, 2, what.msi > 1 ? 0x0071 : 0x0001);
            config.allow(msi_at + 4, 4, 0xFFFF'FFFC);
            config.allow(msi_at + 8, 8, what.msi > 1 ? 0xFFFF'FFFF'FFFF : 0xFFFF);
            config.allow(msi_at + 16, 4, what.msi > 1 ? 0xF : 0);
        }
        config.put(msi_x_at, 4,
                   (what.msi_x != 0 ? 0x0000'0011U | (what.msi_x - 1) << 16 : 0x0000'00F2U) |
                       reset_at << 8);
        if (what.msi_x != 0) {
            config.allow(msi_x_at + 2, 2, 0xC000);
            config.put(msi_x_at + 4, 4, what.table | what.table_bar);
            config.put(msi_x_at + 8, 4, what.pending | what.table_bar);
        }
        if (what.reset == reset_shape::express) {
            config.put(reset_at, 4, 0x0002'0010);
            config.put(reset_at + 4, 4, 0x1000'8FC1);
            config.put(reset_at + 8, 4, 0x0010'2810);
        } else if (what.reset == reset_shape::advanced_features) {
            config.put(reset_at, 8, 0x0000'0000'0306'0013);
        } else {
            config.put(reset_at, 4, 0x0000'00F3);
        }
        std::memcpy(fresh, config.bytes, sizeof fresh);
        power_on();
    }

    /// What a reset leaves; the header is the host's.
    void power_on() {
        std::memcpy(config.bytes + 0x40, fresh + 0x40, sizeof fresh - 0x40);
        std::memset(table, 0, sizeof table);
        for (unsigned n = 0; n < 8; ++n) {
            table[16 * n + 12] = 1;
        }
    }
    /// It was pulled out, and comes back as the host sets such a function up.
    void come_back() {
        if (gone) {
            std::memcpy(config.bytes, fresh, sizeof fresh);
            power_on();
        }
        gone = false;
        accesses_left = 0;
    }
    /// One access to its registers; whether it answers.
    bool answers() {
        if (accesses_left != 0 && --accesses_left == 0) {
            gone = was_away = true;
        }
        return !gone;
    }

    [[nodiscard]] std::uint64_t table_word(unsigned at, unsigned size) const {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            value |= std::uint64_t{table[at + i]} << 8 * i;
        }
        return value;
    }
    [[nodiscard]] bool msi_is_on() const {
        return what.msi != 0 && (config.get(msi_at + 2, 2) & 1) != 0;
    }
    [[nodiscard]] bool msi_x_is_on() const {
        return what.msi_x != 0 && (config.get(msi_x_at + 2, 2) >> 14) == 2;
    }
};

/// A write of a function to 0xFEEx'xxxx.
struct message {
    bool any = false;
    std::uint64_t address = 0;
    std::uint32_t data = 0;
};

// -------------------------------------------------------------------------------------- the host

/// An access that reached a function.
struct device_access {
    unsigned function = 0;
    unsigned bar = 0; ///< of memory
    std::uint64_t at = 0;
    unsigned size = 0;
    bool is_write = false;
};

struct world {
    rig vtd;
    hardware functions[function_count]{hardware{0}, hardware{1}, hardware{2}, hardware{3},
                                       hardware{4}};
    fault_plans faults;
    pt::assign::host_vectors vectors{0x40, 0x57};
    simulated::lock_order locks;
    /// Which functions may be touched by what goes on now.
    unsigned allowed = 0;
    bool guest_acts = false; ///< it is an access of a guest, or what follows from one
    std::vector<device_access> memory_accesses;
    std::vector<device_access> port_accesses;
    std::size_t frames_of_host = 0; ///< of the unit, without those of domains
    pt::pci::msi_x_vector view_vectors[guest_count][function_count][8];

    world() {
        vtd.start();
        vtd.vtd->start_interrupt_remapping().value();
        rig::attachment first{host_address_of(0)}; // the table of bus 0 stays from now on
        vtd.vtd->quarantine(first).value();
        vtd.vtd->release(first).value();
        frames_of_host = vtd.memory.in_use;
    }
    world(const world&) = delete;
    world& operator=(const world&) = delete;

    /// Nobody else's function is ever touched; who reads its ids does it no harm.
    hardware* find(function_address at, bool only_reads = false) {
        for (unsigned f = 0; f < function_count; ++f) {
            if (functions[f].config.address == at) {
                demand((allowed >> f & 1) != 0 || (only_reads && !guest_acts));
                return &functions[f];
            }
        }
        return nullptr;
    }
    /// What the function sends for its vector, as it was told.
    [[nodiscard]] message message_of(unsigned f, unsigned vector) const {
        const hardware& from = functions[f];
        if (from.gone) {
            return {};
        }
        if (from.msi_x_is_on() && vector < from.what.msi_x &&
            (from.table_word(16 * vector + 12, 4) & 1) == 0) {
            return {true, from.table_word(16 * vector, 8),
                    static_cast<std::uint32_t>(from.table_word(16 * vector + 8, 4))};
        }
        if (from.msi_is_on()) {
            const bool wide = from.what.msi > 1;
            const unsigned used = 1U << (from.config.get(msi_at + 2, 2) >> 4 & 7);
            const auto data =
                static_cast<std::uint32_t>(from.config.get(msi_at + (wide ? 12 : 8), 2));
            const bool masked = wide && (from.config.get(msi_at + 16, 4) >> vector & 1) != 0;
            if (vector < used && !masked) {
                return {true, from.config.get(msi_at + 4, wide ? 8 : 4),
                        (data & ~(used - 1)) | vector};
            }
        }
        return {};
    }
};

struct host_config {
    world* at;

    std::uint32_t read(function_address address, std::uint16_t offset, width size) {
        hardware* const found = at->find(address, offset == 0);
        return found != nullptr && found->answers()
                   ? static_cast<std::uint32_t>(found->config.get(offset, size_of(size)))
                   : all_ones(size);
    }
    void write(function_address address, std::uint16_t offset, width size, std::uint32_t value) {
        hardware* const found = at->find(address);
        if (found == nullptr || !found->answers()) {
            return;
        }
        // The places of its BARs are the host's.
        demand(!at->guest_acts || offset < 0x10 || (offset >= 0x28 && offset < 0x30) ||
               offset >= 0x34);
        pci_fake::function& config = found->config;
        for (unsigned i = 0; i < size_of(size); ++i) {
            const unsigned arriving = value >> 8 * i & 0xFF;
            const unsigned cleared = arriving & config.write_1_to_clear[offset + i];
            const unsigned mask = config.writable[offset + i];
            const unsigned before = config.bytes[offset + i] & ~cleared;
            config.bytes[offset + i] =
                static_cast<std::uint8_t>((before & ~mask) | (arriving & mask));
        }
    }
};

struct host_ports {
    world* at;

    std::uint32_t in(io_port port, unsigned size) {
        at->port_accesses.push_back({0, 0, port.raw, size, false});
        return 0x5A5A'5A5AU & (0xFFFF'FFFFU >> (32 - 8 * size));
    }
    void out(io_port port, unsigned size) {
        at->port_accesses.push_back({0, 0, port.raw, size, true});
    }
    std::uint8_t in8(io_port p) { return static_cast<std::uint8_t>(in(p, 1)); }
    std::uint16_t in16(io_port p) { return static_cast<std::uint16_t>(in(p, 2)); }
    std::uint32_t in32(io_port p) { return in(p, 4); }
    void out8(io_port p, std::uint8_t) { out(p, 1); }
    void out16(io_port p, std::uint16_t) { out(p, 2); }
    void out32(io_port p, std::uint32_t) { out(p, 4); }
};

struct registers {
    world* at;
    unsigned function;

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, mmio_width size) {
        hardware& of = arrived(bar, offset, size, false);
        if (!of.answers()) {
            return all_ones(size);
        }
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size_of(size); ++i) {
            value |= std::uint64_t{byte(of, bar, offset + i) ? *byte(of, bar, offset + i) : 0xA5U}
                     << 8 * i;
        }
        return value;
    }
    void write(std::uint8_t bar, std::uint64_t offset, mmio_width size, std::uint64_t value) {
        hardware& of = arrived(bar, offset, size, true);
        if (!of.answers()) {
            return;
        }
        for (unsigned i = 0; i < size_of(size); ++i) {
            if (std::uint8_t* const there = byte(of, bar, offset + i)) {
                *there = static_cast<std::uint8_t>(value >> 8 * i);
            }
        }
    }

private:
    hardware& arrived(unsigned bar, std::uint64_t offset, mmio_width size, bool is_write) {
        demand((at->allowed >> function & 1) != 0);
        hardware& of = at->functions[function];
        const std::uint64_t end = bar == 6 ? of.what.rom : of.what.bars[bar].size;
        demand(bar <= 6 && offset + size_of(size) <= end && !(bar == 6 && is_write));
        at->memory_accesses.push_back({function, bar, offset, size_of(size), is_write});
        return of;
    }
    static std::uint8_t* byte(hardware& of, unsigned bar, std::uint64_t offset) {
        const shape& s = of.what;
        return s.msi_x != 0 && bar == s.table_bar && offset >= s.table &&
                       offset < s.table + std::uint64_t{16} * s.msi_x
                   ? of.table + (offset - s.table)
                   : nullptr;
    }
};

struct function_reset {
    world* at;

    result<void> reset(function_address function) {
        hardware& of = *at->find(function);
        if (of.what.reset == reset_shape::none) {
            return error{errc::not_supported, function.source_id()};
        }
        if (at->faults.fails(call::reset) || !of.answers()) {
            of.dead = of.dead || at->guest_acts;
            return error{errc::time_out, function.source_id()};
        }
        of.power_on();
        return {};
    }
};

struct wire {
    static constexpr bool exists = true;
    world* at;
    unsigned function;

    result<void> open() {
        demand((at->allowed >> function & 1) != 0);
        if (at->faults.fails(call::wire)) {
            at->functions[function].wire_failed = true;
            return error{errc::hardware_fault};
        }
        at->functions[function].wire_is_open = true;
        return {};
    }
    void close() {
        demand((at->allowed >> function & 1) != 0);
        at->functions[function].wire_is_open = false;
    }
};

struct vector_source {
    world* at;
    pt::assign::vector_pool<> inner;

    result<pt::assign::host_vector_block> allocate(std::uint16_t count) {
        return at->faults.fails(call::vectors) ? error{errc::busy, count} : inner.allocate(count);
    }
    void release(const pt::assign::host_vector_block& block) { inner.release(block); }
    std::uint32_t destination() { return inner.destination(); }
};

/// The real thing, behind calls that fail as dma_path says they may.
struct dma {
    using inner_type = pt::assign::remapped_dma<rig::domain>;
    using attachment_type = inner_type::attachment_type;
    static constexpr bool isolates = true;

    world* at;
    inner_type inner;

    result<void> map(range<gpa> memory, hpa to) {
        if (at->faults.fails(call::map)) {
            return error{late() ? errc::time_out : errc::out_of_frames, memory.first().raw};
        }
        return inner.map(memory, to);
    }
    result<void> unmap(range<gpa> memory) {
        const bool fails = at->faults.fails(call::unmap);
        const result<void> done = inner.unmap(memory);
        return fails ? error{errc::time_out, memory.first().raw} : done;
    }
    result<void> attach(attachment_type& function) {
        return at->faults.fails(call::attach) ? error{late() ? errc::time_out : errc::out_of_frames}
                                              : inner.attach(function);
    }
    result<void> block(attachment_type& function) {
        return failing(call::block, [&] { return inner.block(function); });
    }
    result<void> release(attachment_type& function) {
        return failing(call::release, [&] { return inner.release(function); });
    }
    result<void> settle() {
        return at->faults.fails(call::settle) ? error{errc::time_out} : inner.settle();
    }

private:
    [[nodiscard]] bool late() const { return at->faults.flavour % 2 != 0; }
    template <class Work>
    result<void> failing(call what, Work work) {
        if (!at->faults.fails(what)) {
            return work();
        }
        if (late()) {
            static_cast<void>(work());
        }
        return error{errc::time_out};
    }
};

struct interrupts {
    using inner_type = pt::assign::remapped_interrupts<rig::remapping, vector_source>;
    using block_type = inner_type::block_type;
    static constexpr bool isolates = true;

    world* at;
    inner_type inner;

    result<void> open(const pt::vtd::requester& who, std::uint16_t count, block_type& block) {
        return at->faults.fails(call::open) ? error{errc::busy, count}
                                            : inner.open(who, count, block);
    }
    result<void> close(const pt::vtd::requester& who, block_type& block) {
        return at->faults.fails(call::close) ? error{errc::time_out} : inner.close(who, block);
    }
    pt::pci::interrupt_message msi(const block_type& block, unsigned log2) {
        return inner.msi(block, log2);
    }
    pt::pci::interrupt_message msi_x(const block_type& block, unsigned vector) {
        return inner.msi_x(block, vector);
    }
};

// --------------------------------------------------------------------------------------- tables

/// A page as a walker finds it.
struct leaf {
    std::uint64_t at = 0;
    std::uint64_t size = 0;
    std::uint64_t to = 0;
    unsigned bits = 0; ///< read, write, and of EPT execute
    unsigned type = 0; ///< of EPT the memory type

    [[clang::no_sanitize("coverage")]] friend bool operator==(const leaf& a, const leaf& b) {
        return a.at == b.at && a.to == b.to && a.size == b.size && a.bits == b.bits &&
               a.type == b.type;
    }
};
struct walked {
    std::vector<leaf> leaves; ///< ascending
    std::vector<std::uint64_t> tables;
};

/// All that the tables say, entry by entry, as the manuals have them: EPT and VT-d's second stage
/// have rights in the low bits, bit 7 for a large page, and the address in bits 45:12.
template <class Table>
[[clang::no_sanitize("coverage")]] void walk(walked& found, Table entries_of, std::uint64_t table,
                                             unsigned level, unsigned rights,
                                             std::uint64_t at = 0) {
    found.tables.push_back(table);
    const std::uint64_t* const entries = entries_of(table);
    const std::uint64_t size = std::uint64_t{1} << (12 + 9 * (level - 1));
    for (unsigned i = 0; i < 512; ++i) {
        const std::uint64_t entry = entries[i];
        const auto bits = static_cast<unsigned>(entry & rights);
        if (bits == 0) {
            continue;
        }
        const std::uint64_t to = entry & 0x3FFF'FFFF'F000;
        if (level == 1 || (entry >> 7 & 1) != 0) {
            demand(level <= 3 && to % size == 0);
            found.leaves.push_back(
                {at + i * size, size, to, bits, static_cast<unsigned>(entry >> 3 & 7)});
        } else {
            demand(bits == rights); // rights are in the leaves alone
            walk(found, entries_of, to, level - 1, rights, at + i * size);
        }
    }
}

inline constexpr std::size_t table_frames = 40;
inline constexpr std::uint64_t arena_base(unsigned g) { return 0x7000'0000 + g * 0x100'0000U; }

/// A guest's processors and the tables that they walk. They look at the tables whenever they can,
/// and keep what they saw for as long as nobody tells them to forget it.
struct processors_of_guest {
    world& host;
    pt::arena<table_frames> arena;
    std::uint64_t root = 0;
    std::vector<leaf> kept;
    std::vector<std::uint64_t> kept_tables;
    walked last; ///< what was kept last
    simulated::processor_state bitmaps;

    processors_of_guest(world& on, unsigned g) : host{on}, arena{hpa{arena_base(g)}} {}

    [[clang::no_sanitize("coverage")]] [[nodiscard]] walked tables() {
        walked now;
        if (root != 0) {
            walk(
                now,
                [&](std::uint64_t table) {
                    return arena.memory().entries(hpa{table}); // a contract: it is in use
                },
                root, 4, 7);
        }
        return now;
    }
    void look() { keep(tables()); }
    void keep(const walked& now) {
        if (now.leaves != last.leaves || now.tables != last.tables) {
            merge(kept, now.leaves);
            merge(kept_tables, now.tables);
            last = now;
        }
    }
    void forget(const pt::paging::stale_set<gpa>& stale) {
        look();
        const walked now = tables();
        std::erase_if(kept, [&](const leaf& l) {
            bool told = stale.everything();
            for (const auto& part : stale) {
                told = told || part.overlaps({gpa{l.at}, l.size});
            }
            return told;
        });
        if (stale.everything() || stale.tables_changed()) {
            kept_tables = now.tables;
        }
        last = {};
        keep(now);
    }
    /// The frame is nobody's any more: whoever has it in a cache walks what comes next.
    [[clang::no_sanitize("coverage")]] void check_unused(std::uint64_t frame) {
        look();
        for (const std::uint64_t each : kept_tables) {
            demand(each != frame);
        }
    }

private:
    template <class T>
    [[clang::no_sanitize("coverage")]] static void merge(std::vector<T>& all,
                                                         const std::vector<T>& now) {
        for (const T& each : now) {
            bool known = false;
            for (const T& old : all) {
                known = known || old == each;
            }
            if (!known) {
                all.push_back(each);
            }
        }
    }
};

struct frames {
    processors_of_guest* of;

    result<hpa> allocate(pt::frame_contents contents) {
        of->look();
        if (of->host.faults.fails(call::allocate)) {
            return error{errc::out_of_frames};
        }
        return of->arena.memory().allocate(contents);
    }
    void release(hpa frame) {
        of->check_unused(frame.raw);
        of->arena.memory().release(frame);
    }
    std::uint64_t* entries(hpa frame) { return of->arena.memory().entries(frame); }
};
using ept_table = pt::paging::table<pt::ept::format, frames>;

struct processors {
    processors_of_guest* of;

    result<void> invalidate(const pt::paging::stale_set<gpa>& stale) {
        if (of->host.faults.fails(call::invalidate)) {
            of->look();
            return error{errc::hardware_fault, 0xE9};
        }
        of->forget(stale);
        return {};
    }
    void pause() {
        of->look();
        demand(of->bitmaps.paused++ == 0 && of->bitmaps.is_seen());
    }
    void resume() {
        --of->bitmaps.paused;
        of->bitmaps.look();
    }
};

// ---------------------------------------------------------------------------------------- guests

inline constexpr range<gpa> apic_page{gpa{0xFEE0'0000}, 4 * KiB};
inline constexpr range<gpa> played_page{gpa{0xFED0'0000}, 4 * KiB};
inline constexpr range<io_port> played_ports{io_port{0x3F8}, 8};
inline constexpr range<hpa> windows[]{
    {hpa{0xD'0000}, 0x1'0000}, {hpa{0xE000'0000}, 0x100'0000}, {hpa{0x20'0000'0000}, 0x1000'0000}};
inline constexpr range<io_port> port_windows[]{{io_port{0xC000}, 0x1000}};

struct platform {
    world* at;

    result<std::uint32_t> read_port(io_port port, width size) {
        if (at->faults.fails(call::platform)) {
            return error{errc::hardware_fault, port.raw};
        }
        return played_ports.contains(port) ? result<std::uint32_t>{0x77U & all_ones(size)}
                                           : error{errc::absent, port.raw};
    }
    result<void> write_port(io_port port, width size, std::uint32_t value) {
        demand(value <= all_ones(size));
        if (at->faults.fails(call::platform)) {
            return error{errc::hardware_fault, port.raw};
        }
        return played_ports.contains(port) ? result<void>{} : error{errc::absent, port.raw};
    }
    result<std::uint64_t> read_memory(gpa address, mmio_width size) {
        if (at->faults.fails(call::platform)) {
            return error{errc::hardware_fault, address.raw};
        }
        return played_page.contains(address) ? result<std::uint64_t>{0x66U & all_ones(size)}
                                             : error{errc::absent, address.raw};
    }
    result<void> write_memory(gpa address, mmio_width size, std::uint64_t value) {
        demand(value <= all_ones(size));
        if (at->faults.fails(call::platform)) {
            return error{errc::hardware_fault, address.raw};
        }
        return played_page.contains(address) ? result<void>{} : error{errc::absent, address.raw};
    }
    void end_of_interrupt(std::uint8_t) {}
};
struct report_count {
    unsigned rejections = 0;
    unsigned changes = 0;
};
struct reports {
    report_count* at;
    void rejected(const pt::assign::rejection& what) {
        ++at->rejections;
        demand(what.why.code != errc::none);
    }
    void changed() { ++at->changes; }
};

struct vmm {
    using host_config = assigned::host_config;
    using host_ports = assigned::host_ports;
    using registers = assigned::registers;
    using pages = ept_table;
    using processors = assigned::processors;
    using dma = assigned::dma;
    using interrupts = assigned::interrupts;
    using wire = assigned::wire;
    using vcpus = simulated::vcpus;
    using reset = assigned::function_reset;
    using platform = assigned::platform;
    using reports = assigned::reports;
    using mutex = simulated::ranked_mutex;
};
static_assert(pt::assign::vmm<vmm>);

struct guest_machine {
    world& host;
    processors_of_guest cpus;
    ept_table ept{frames{&cpus}, pt::ept::format{pt::ept::capabilities{0x0F01'0673'4141}, 46}};
    pt::vmx::kept_ports kept[16];
    pt::vmx::shared_io_bitmap ports{
        pt::vmx::io_bitmap{cpus.bitmaps.bitmap_a, cpus.bitmaps.bitmap_b}, kept, 16};
    pt::assign::claim<gpa> space_slots[36];
    pt::assign::claims<gpa> space{space_slots};
    pt::assign::claim<io_port> port_slots[4];
    pt::assign::claims<io_port> port_space{port_slots};
    rig::domain domain{*host.vtd.vtd, host.vtd.vtd->limits(40).value()};
    std::uint64_t domain_root = 0;
    pt::lapic::inbox inbox;
    pt::lapic::bus<simulated::vcpus> bus{simulated::vcpus{&inbox}};
    pt::lapic::host_vector_routes routes;
    report_count book;
    pt::assign::guest<vmm> guest;

    guest_machine(world& on, unsigned g)
        : host{on},
          cpus{on, g},
          guest{{.pages = ept,
                 .memory = pt::ept::ram,
                 .device_memory = pt::ept::device_memory,
                 .processors = {&cpus},
                 .room = {space, port_space, ports, routes},
                 .windows = windows,
                 .port_windows = port_windows,
                 .host_ports = {&on},
                 .dma = {&on, dma::inner_type{domain, *on.vtd.vtd}},
                 .bus = bus,
                 .platform = {&on},
                 .reports = {&book},
                 .mutex = {&on.locks, simulated::space_rank},
                 .config_mutex = {&on.locks, simulated::config_rank}}} {
        cpus.bitmaps.look();
        cpus.root = ept.root().value().raw;
        domain_root = const_cast<rig::domain::table_type&>(domain.tables()).root().value().raw;
        using addressing = pt::lapic::inbox_addressing;
        inbox.publish(addressing{addressing::software_enabled(true),
                                 addressing::mode(pt::lapic::apic_mode::xapic)});
        guest.reserve(apic_page, pt::assign::space_use::local_apic).value();
        guest.reserve(played_page, pt::assign::space_use::device).value();
        guest.reserve_ports(played_ports).value();
    }
    guest_machine(const guest_machine&) = delete;
    guest_machine& operator=(const guest_machine&) = delete;
};

} // namespace assigned
