// SPDX-License-Identifier: BSL-1.0
//
// What a VMM writes to pass a NIC through (docs/path.md), as its kernel is compiled: with the real
// policies of such a kernel, every template instantiated, and no library to link with. It is compiled
// and its object looked into; the demo runs the same steps on QEMU.

#include "pt/pt.hpp"

namespace kernel {

struct cpu_ports {
    std::uint8_t in8(pt::io_port p) {
        std::uint8_t v;
        asm volatile("inb %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    std::uint16_t in16(pt::io_port p) {
        std::uint16_t v;
        asm volatile("inw %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    std::uint32_t in32(pt::io_port p) {
        std::uint32_t v;
        asm volatile("inl %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    void out8(pt::io_port p, std::uint8_t v) {
        asm volatile("outb %0, %1" : : "a"(v), "Nd"(p.raw));
    }
    void out16(pt::io_port p, std::uint16_t v) {
        asm volatile("outw %0, %1" : : "a"(v), "Nd"(p.raw));
    }
    void out32(pt::io_port p, std::uint32_t v) {
        asm volatile("outl %0, %1" : : "a"(v), "Nd"(p.raw));
    }
};

/// Registers that the kernel has mapped uncacheable.
struct mapped_registers {
    volatile unsigned char* base;

    std::uint32_t read32(std::uint32_t at) {
        return *reinterpret_cast<volatile std::uint32_t*>(base + at);
    }
    std::uint64_t read64(std::uint32_t at) {
        return *reinterpret_cast<volatile std::uint64_t*>(base + at);
    }
    void write32(std::uint32_t at, std::uint32_t v) {
        *reinterpret_cast<volatile std::uint32_t*>(base + at) = v;
    }
    void write64(std::uint32_t at, std::uint64_t v) {
        *reinterpret_cast<volatile std::uint64_t*>(base + at) = v;
    }
};

struct ring_memory {
    volatile std::uint64_t* base;

    std::uint64_t read64(std::uint32_t at) { return base[at / 8]; }
    void write64(std::uint32_t at, std::uint64_t v) { base[at / 8] = v; }
};

struct strongly_ordered {
    void release() { asm volatile("" ::: "memory"); }
    void acquire() { asm volatile("" ::: "memory"); }
};

struct tsc_clock {
    std::uint64_t now() { return __builtin_ia32_rdtsc() / 3; }
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

struct guest_state {
    const std::uint64_t* rflags;
    bool can_take_interrupt() { return (*rflags & 0x200) != 0; }
};

struct invept {
    std::uint64_t eptp;
    pt::result<void> invalidate(const pt::paging::stale_set<pt::gpa>&) {
        const std::uint64_t descriptor[2]{eptp, 0};
        bool failed = false;
        asm volatile("invept %1, %2"
                     : "=@ccbe"(failed)
                     : "m"(descriptor), "r"(std::uint64_t{1})
                     : "memory");
        if (failed) { // and nothing was invalidated
            return pt::error{pt::errc::hardware_fault, eptp};
        }
        return {};
    }
};

/// All tables of all guests take their frames from one pool, on any processor.
struct locked_frames {
    pt::pool_frames<pt::offset_map> pool;
    spin_lock guard;

    pt::result<pt::hpa> allocate() {
        const pt::scoped_lock held{guard};
        return pool.allocate();
    }
    void release(pt::hpa frame) {
        const pt::scoped_lock held{guard};
        pool.release(frame);
    }
};

using frames = pt::offset_memory<locked_frames>;
using ept_table =
    pt::paging::table<pt::ept::format, frames, pt::paging::coherent_publication, spin_lock>;
using dma_table = pt::paging::table<pt::vtd::second_stage::format, frames,
                                    pt::paging::flush_line_publication, spin_lock>;
using remapping_unit = pt::vtd::unit<mapped_registers, tsc_clock>;
using context_tables = pt::vtd::root_table<frames>;
using host_config = pt::pci::port_config_access<cpu_ports>;
using nic_ring = pt::e1000e::tx_ring<mapped_registers, ring_memory, strongly_ordered>;

alignas(4096) std::uint64_t bitmap_a[512];
alignas(4096) std::uint64_t bitmap_b[512];

/// What the host has for devices' registers: no RAM, no local APIC, nothing of its own.
constexpr pt::range<pt::hpa> host_windows[]{{pt::hpa{0xC000'0000}, 0x3000'0000}};

/// Everything of one guest, where the kernel keeps it. What its tables owe stays here until the
/// hardware has answered, however often that takes.
struct guest {
    pt::range<pt::gpa> memory;
    pt::hpa memory_at;
    ept_table& ept;
    ept_table::ticket ept_owed;
    invept processors;
    dma_table& dma;
    dma_table::ticket dma_owed;
    pt::vtd::register_invalidator<remapping_unit, spin_lock> iotlb;
    std::uint16_t domain_id;
    pt::vmx::shared_io_bitmap& ports;
    pt::lapic::local_apic& apic;
    guest_state vcpu;
};

pt::result<void> settle(guest& of) {
    const auto seen_by_guest = of.ept_owed.redeem(of.processors);
    const auto seen_by_device = of.dma_owed.redeem(of.iotlb);
    return seen_by_guest ? seen_by_device : seen_by_guest;
}

pt::result<void> map_memory(guest& to) {
    auto seen_by_guest = to.ept.map(to.memory, to.memory_at, pt::ept::ram);
    if (!seen_by_guest) {
        return seen_by_guest.error();
    }
    to.ept_owed.merge(*std::move(seen_by_guest));
    auto seen_by_device = to.dma.map({pt::iova{to.memory.first().raw}, to.memory.size()},
                                     to.memory_at, pt::vtd::second_stage::read_write);
    if (!seen_by_device) {
        return seen_by_device.error();
    }
    to.dma_owed.merge(*std::move(seen_by_device));
    return settle(to);
}

bool holds(const pt::pci::bar_part& part, std::uint8_t bar, std::uint64_t page) {
    return part.bar == bar && part.offset < page + 4 * pt::KiB && page < part.offset + part.size;
}

pt::result<void> unmap_registers(pt::range<pt::gpa> registers, guest& from) {
    auto unmapped = from.ept.unmap(registers);
    if (!unmapped) {
        return unmapped.error();
    }
    from.ept_owed.merge(*std::move(unmapped));
    return {};
}

/// Maps a memory BAR where the host has it, without the pages of the MSI-X structures: those the VMM
/// emulates, because they decide which interrupt the host gets. All of it or nothing.
pt::result<void> map_registers(const pt::pci::bar& bar,
                               const pt::result<pt::pci::msi_x_layout>& msi_x, guest& to) {
    const auto where = pt::range<pt::hpa>::checked(pt::hpa{bar.address}, bar.size);
    bool allowed = false;
    for (const auto& window : host_windows) {
        allowed = allowed || (where && window.contains(*where));
    }
    if (!allowed || bar.size < 4 * pt::KiB) {
        return pt::error{pt::errc::refused, bar.address};
    }
    for (std::uint64_t page = 0; page < bar.size; page += 4 * pt::KiB) {
        if (msi_x &&
            (holds(msi_x->table, bar.index, page) || holds(msi_x->pending_bits, bar.index, page))) {
            continue;
        }
        auto mapped = to.ept.map({pt::gpa{bar.address + page}, 4 * pt::KiB},
                                 pt::hpa{bar.address + page}, pt::ept::device_memory);
        if (!mapped) {
            const auto undone = unmap_registers({pt::gpa{bar.address}, page}, to);
            return undone ? mapped.error() : undone;
        }
        to.ept_owed.merge(*std::move(mapped));
    }
    return {};
}

pt::result<void> open_ports(const pt::pci::bar& bar, pt::pci::function_address nic, guest& to) {
    if (bar.address > 0xFFFF) {
        return pt::error{pt::errc::out_of_range, bar.address};
    }
    const auto ports = pt::range<pt::io_port>::checked(
        pt::io_port{static_cast<std::uint16_t>(bar.address)}, bar.size);
    if (!ports) {
        return ports.error();
    }
    return to.ports.open(pt::vmx::port_owner{nic.source_id()}, *ports);
}

/// The BARs of a function that a guest has.
struct given_bars {
    pt::pci::bar_list all;
    std::size_t count = 0; ///< how many of them, from the first on
};

/// Blocks the function and takes its ports and registers from the guest.
pt::result<void> take_away(pt::pci::function_address nic, const given_bars& bars, guest& from,
                           remapping_unit& unit, context_tables& roots) {
    const auto blocked = roots.detach(nic, unit);
    if (!blocked && blocked.error().code != pt::errc::not_mapped) {
        return blocked;
    }
    from.ports.close_all(pt::vmx::port_owner{nic.source_id()});
    for (std::size_t i = 0; i < bars.count; ++i) {
        const auto& bar = bars.all.begin()[i];
        if (bar->kind == pt::pci::bar_kind::io || bar->kind == pt::pci::bar_kind::rom) {
            continue;
        }
        if (const auto unmapped = unmap_registers({pt::gpa{bar->address}, bar->size}, from);
            !unmapped) {
            return unmapped;
        }
    }
    return settle(from);
}

/// All of the function, or an error and nothing.
pt::result<given_bars> give(pt::pci::function_address nic, guest& to, remapping_unit& unit,
                            context_tables& roots) {
    host_config config{cpu_ports{}};
    const auto msi_x = pt::pci::read_msi_x(config, nic);
    const auto root = to.dma.root();
    given_bars bars{pt::pci::size_bars(config, nic)};
    pt::result<void> so_far = root ? pt::result<void>{} : root.error();
    for (const auto& bar : bars.all) {
        if (so_far && !bar) {
            so_far = bar.error();
        } else if (so_far && bar->kind == pt::pci::bar_kind::io) {
            so_far = open_ports(*bar, nic, to);
        } else if (so_far && bar->kind != pt::pci::bar_kind::rom) {
            so_far = map_registers(*bar, msi_x, to);
        }
        bars.count += so_far ? 1 : 0;
    }
    if (so_far) {
        so_far = settle(to);
    }
    if (so_far) {
        so_far = roots.attach(
            nic, pt::vtd::context_entry::translated(*root, to.dma.format(), to.domain_id), unit);
    }
    if (!so_far) {
        const auto undone = take_away(nic, bars, to, unit, roots);
        return undone ? so_far.error() : undone.error();
    }
    return bars;
}

/// The guest is gone, and its devices are taken away: its tables go as well.
pt::result<void> tear_down(guest& of) {
    of.ept_owed.merge(of.ept.retire());
    of.dma_owed.merge(of.dma.retire());
    return settle(of);
}

pt::result<remapping_unit> bring_up(mapped_registers registers, context_tables& roots) {
    auto unit = remapping_unit::attach(registers, 4 * pt::KiB, tsc_clock{});
    if (!unit) {
        return unit.error();
    }
    if (const auto set = unit->set_root_table(roots.root()); !set) {
        return set.error();
    }
    if (const auto on = unit->enable_translation(); !on) {
        return on.error();
    }
    return *std::move(unit);
}

unsigned report_faults(remapping_unit& unit) {
    unsigned seen = 0;
    while (seen < 16 && unit.take_fault()) {
        ++seen;
    }
    return seen;
}

using guest_config = pt::pci::config_ports<host_config>;

/// The guest's IN; ports that nobody claims float.
std::uint32_t in(guest_config& config, pt::io_port port, pt::width size) {
    const auto [claim, value] = config.read(port, size);
    if (claim != pt::pci::port_claim::part) {
        return value;
    }
    std::uint32_t gathered = 0;
    for (unsigned i = 0; i < pt::size_of(size); ++i) {
        gathered |= in(config, port + i, pt::width::byte) << 8 * i;
    }
    return gathered;
}

/// The guest's OUT; what nobody claims vanishes.
void out(guest_config& config, pt::io_port port, pt::width size, std::uint32_t value) {
    if (config.write(port, size, value) == pt::pci::port_claim::part) {
        for (unsigned i = 0; i < pt::size_of(size); ++i) {
            out(config, port + i, pt::width::byte, value >> 8 * i & 0xFF);
        }
    }
}

/// False: not an instruction that this VMM completes.
bool on_io_instruction(guest_config& config, std::uint64_t qualification, std::uint64_t& rax) {
    using io = pt::vmx::io_instruction_qualification;
    const io exit{qualification};
    const auto size = exit.size();
    if (!size || exit[io::string]) {
        return false;
    }
    if (exit[io::direction] == pt::vmx::io_direction::out) {
        out(config, exit.port(), *size, static_cast<std::uint32_t>(rax) & pt::all_ones(*size));
        return true;
    }
    // An IN of four bytes clears the upper half of RAX, a smaller one keeps the rest.
    const std::uint64_t kept =
        *size == pt::width::dword ? 0 : rax & ~std::uint64_t{pt::all_ones(*size)};
    rax = kept | in(config, exit.port(), *size);
    return true;
}

std::uint32_t before_entry(guest& of, std::uint32_t idt_vectoring) {
    pt::lapic::injector injector{of.apic, of.vcpu};
    const auto [event, window] =
        injector.before_entry(pt::vmx::reinject(pt::vmx::idt_vectoring_information{idt_vectoring}));
    return window ? 0 : event.raw;
}

pt::result<void> send(nic_ring& ring, pt::gpa at, std::uint32_t length) {
    ring.reclaim([](std::uint64_t) {});
    return ring.send({{pt::iova{at.raw}, length}}, at.raw);
}

bool has_msi(pt::pci::function_address function) {
    host_config config{cpu_ports{}};
    for (const auto found : pt::pci::scan_bus(config, 0)) {
        if (found.address == function) {
            return pt::pci::enable_msi(config, function, {0xFEE0'0000, 0x41}).has_value() &&
                   pt::pci::read_msi_x(config, function).has_value();
        }
    }
    return false;
}

} // namespace kernel
