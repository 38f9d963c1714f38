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
        asm volatile("invept %0, %1" : : "m"(descriptor), "r"(std::uint64_t{1}) : "memory", "cc");
        return {};
    }
};

using frames = pt::offset_memory<pt::pool_frames<pt::offset_map>>;
using ept_table =
    pt::paging::table<pt::ept::format, frames, pt::paging::coherent_publication, spin_lock>;
using dma_table =
    pt::paging::table<pt::vtd::second_stage::format, frames, pt::paging::flush_line_publication>;
using remapping_unit = pt::vtd::unit<mapped_registers, tsc_clock>;
using context_tables = pt::vtd::root_table<frames, pt::paging::flush_line_publication>;
using host_config = pt::pci::port_config_access<cpu_ports>;
using nic_ring = pt::e1000e::tx_ring<mapped_registers, ring_memory, strongly_ordered>;

alignas(4096) std::uint64_t bitmap_a[512];
alignas(4096) std::uint64_t bitmap_b[512];

/// Everything of one guest, where the kernel keeps it.
struct guest {
    pt::range<pt::gpa> memory;
    pt::hpa memory_at;
    ept_table& ept;
    dma_table& dma;
    std::uint16_t domain_id;
    pt::vmx::shared_io_bitmap& ports;
    pt::lapic::local_apic& apic;
    guest_state vcpu;
};

pt::result<void> map_memory(guest& to) {
    invept processor{0};
    auto seen_by_guest = to.ept.map(to.memory, to.memory_at, pt::ept::ram);
    if (!seen_by_guest) {
        return seen_by_guest.error();
    }
    if (const auto done = seen_by_guest->redeem(processor); !done) {
        return done;
    }
    auto seen_by_device = to.dma.map({pt::iova{to.memory.first().raw}, to.memory.size()},
                                     to.memory_at, pt::vtd::second_stage::read_write);
    if (!seen_by_device) {
        return seen_by_device.error();
    }
    return {}; // the caller has a unit without caching mode: nothing is owed
}

pt::result<void> give(pt::pci::function_address nic, guest& to, remapping_unit& unit,
                      context_tables& roots) {
    for (const auto& bar : pt::pci::size_bars(host_config{cpu_ports{}}, nic)) {
        if (!bar) {
            return bar.error();
        }
        if (bar->kind == pt::pci::bar_kind::io) {
            const auto ports = pt::range<pt::io_port>::checked(
                pt::io_port{static_cast<std::uint16_t>(bar->address)}, bar->size);
            if (!ports) {
                return ports.error();
            }
            if (const auto opened = to.ports.open(pt::vmx::port_owner{nic.source_id()}, *ports);
                !opened) {
                return opened;
            }
        } else if (bar->size >= 4 * pt::KiB) {
            auto mapped = to.ept.map({pt::gpa{bar->address}, bar->size}, pt::hpa{bar->address},
                                     pt::ept::device_memory);
            if (!mapped) {
                return mapped.error();
            }
            invept processor{0};
            if (const auto done = mapped->redeem(processor); !done) {
                return done;
            }
        }
    }
    const auto root = to.dma.root();
    if (!root) {
        return root.error();
    }
    return roots.attach(nic, pt::vtd::context_entry::translated(*root, 4, to.domain_id), unit);
}

pt::result<void> take_away(pt::pci::function_address nic, guest& from, remapping_unit& unit,
                           context_tables& roots) {
    if (const auto blocked = roots.detach(nic, unit); !blocked) {
        return blocked;
    }
    from.ports.close_all(pt::vmx::port_owner{nic.source_id()});
    pt::vtd::register_invalidator iotlb{unit, from.domain_id};
    auto owed = from.dma.unmap({pt::iova{from.memory.first().raw}, from.memory.size()});
    if (!owed) {
        return owed.error();
    }
    owed->merge(from.dma.retire());
    return owed->redeem(iotlb);
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

bool on_io_instruction(pt::pci::config_ports<host_config>& config, std::uint64_t qualification,
                       std::uint32_t& accumulator) {
    using io = pt::vmx::io_instruction_qualification;
    const io exit{qualification};
    const auto bytes = exit.width();
    if (!bytes || exit[io::string]) {
        return false;
    }
    const auto size = static_cast<pt::pci::width>(*bytes);
    if (exit[io::direction] == pt::vmx::io_direction::out) {
        return config.write(exit.port(), size, accumulator) == pt::pci::port_claim::whole;
    }
    const auto [claim, value] = config.read(exit.port(), size);
    accumulator = value;
    return claim == pt::pci::port_claim::whole;
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
