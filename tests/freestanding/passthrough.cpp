// SPDX-License-Identifier: BSL-1.0
//
// What a VMM writes to pass a NIC through (docs/path.md), as its kernel is compiled: with the real
// policies of such a kernel, and no library to link with. It is compiled
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

/// The fields of the VMCS that decide what the guest can take.
struct guest_state {
    const std::uint64_t* rflags;
    const pt::vmx::interruptibility_state* blocking;
    const pt::vmx::activity_state* activity;
    bool can_take_interrupt() {
        return pt::vmx::can_take_external_interrupt(*rflags, *blocking, *activity);
    }
    bool can_take_nmi() { return pt::vmx::can_take_nmi(*blocking, *activity); }
};

/// The guest's TSC is the host's, and its APIC timer counts at a third of it.
struct guest_time {
    std::uint64_t ticks() { return __builtin_ia32_rdtsc() / 3; }
    std::uint64_t tsc() { return __builtin_ia32_rdtsc(); }
};
using guest_apic = pt::lapic::local_apic<guest_time>;
using guest_injector = pt::lapic::injector<guest_state, guest_apic>;

/// The guest's virtual processors; the kernel's part is to make one leave the guest, or wake.
struct guest_vcpus {
    pt::lapic::inbox* inboxes;
    std::uint32_t size;
    void (*kick)(std::uint32_t);
    std::uint32_t count() { return size; }
    pt::lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
    void notify(std::uint32_t n, pt::lapic::notification) { kick(n); }
};
using guest_bus = pt::lapic::bus<guest_vcpus>;

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
using host_config = pt::pci::port_config_access<cpu_ports>;
using vtd_policies =
    pt::vtd::policies<mapped_registers, tsc_clock, frames, pt::paging::clflush_publication,
                      pt::cmpxchg16b_store, spin_lock>;
using remapping_unit = pt::vtd::unit<vtd_policies>;
using remapping = pt::vtd::remapping<vtd_policies, pt::pci::config_bus_numbers<host_config>>;
using dma_domain = pt::vtd::domain<remapping, spin_lock>;
using attachment = remapping::attachment_type;
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
    pt::paging::flush_batch<pt::ept::format, frames> ept_owed;
    invept processors;
    dma_domain& dma;
    pt::vmx::shared_io_bitmap& ports;
    guest_apic& apic;         // of its first virtual processor
    guest_injector& injector; // likewise
    guest_bus& bus;
    pt::lapic::host_vector_routes& routes;
    bool nic_must_be_reset = false;
};

pt::result<void> settle(guest& of) {
    const auto seen_by_guest = of.ept_owed.redeem(of.processors);
    const auto seen_by_device = of.dma.flush();
    return seen_by_guest ? seen_by_device : seen_by_guest;
}

/// Takes over what an operation owes to the guest's processors; when there is no room, the hardware is
/// asked first. An error of the hardware leaves the ticket with the caller, who must not lose it.
template <class Batch, class Ticket, class Hardware>
pt::result<void> owe(Batch& batch, Ticket&& ticket, Hardware& hardware) {
    if (batch.add(ticket)) {
        return {};
    }
    if (const auto done = batch.redeem(hardware); !done) {
        ticket.leak(); // the hardware is gone, and what it may still walk stays where it is
        return done;
    }
    return batch.add(ticket);
}

pt::result<void> map_memory(guest& to) {
    auto seen_by_guest = to.ept.map(to.memory, to.memory_at, pt::ept::ram);
    if (!seen_by_guest) {
        return seen_by_guest.error();
    }
    if (const auto kept = owe(to.ept_owed, *std::move(seen_by_guest), to.processors); !kept) {
        return kept;
    }
    if (const auto seen_by_device = to.dma.map({pt::iova{to.memory.first().raw}, to.memory.size()},
                                               to.memory_at, pt::vtd::second_stage::read_write);
        !seen_by_device) {
        return seen_by_device;
    }
    return settle(to);
}

/// Takes the pages of a BAR that the guest reached by itself. What the hardware may remember of them
/// is owed.
pt::result<void> unmap_registers(const pt::pci::bar_piece* first, const pt::pci::bar_piece* end,
                                 pt::gpa at, guest& from) {
    for (; first != end; ++first) {
        const auto& [part, how] = *first;
        if (how == pt::pci::reach::mapped) {
            auto unmapped = from.ept.unmap({at + part.offset, part.size});
            if (!unmapped) {
                return unmapped.error();
            }
            if (const auto kept = owe(from.ept_owed, *std::move(unmapped), from.processors);
                !kept) {
                return kept;
            }
        }
    }
    return {};
}

/// Maps a memory BAR where the guest wants it, without the pages of the MSI-X structures: those the
/// VMM emulates, because they decide which interrupt the host gets. All of it or nothing.
pt::result<void> map_registers(const pt::pci::bar& bar, const pt::pci::bar_pieces& pieces,
                               pt::gpa at, guest& to) {
    const auto device = pt::range<pt::hpa>::checked(pt::hpa{bar.address}, bar.size);
    bool allowed = false;
    for (const auto& window : host_windows) {
        allowed = allowed || (device && window.contains(*device));
    }
    const auto wanted = pt::range<pt::gpa>::checked(at, bar.size);
    if (!allowed || !wanted || wanted->overlaps(to.memory)) {
        return pt::error{pt::errc::refused, at.raw};
    }
    for (const pt::pci::bar_piece& piece : pieces) {
        const auto& [part, how] = piece;
        if (how != pt::pci::reach::mapped) {
            continue;
        }
        auto mapped = to.ept.map({at + part.offset, part.size}, pt::hpa{bar.address + part.offset},
                                 pt::ept::device_memory);
        if (!mapped) {
            // What is mapped from here on belongs to somebody else.
            const auto undone = unmap_registers(pieces.begin(), &piece, at, to);
            return undone ? mapped.error() : undone;
        }
        if (const auto kept = owe(to.ept_owed, *std::move(mapped), to.processors); !kept) {
            return kept;
        }
    }
    return {};
}

/// Ports that are the same in guest and host are the guest's own; all others exit, and are forwarded.
/// The guest's processors are out of it while the bitmaps change.
pt::result<void> open_ports(const pt::pci::bar_change& change, pt::vmx::port_owner owner,
                            guest& to) {
    (void)to.ports.close_all(owner);
    if (!change.to || change.to.address() != change.device.address) {
        return {};
    }
    const auto ports = pt::range<pt::io_port>::checked(
        pt::io_port{static_cast<std::uint16_t>(change.device.address)}, change.device.size);
    if (!ports) {
        return ports.error();
    }
    const auto opened = to.ports.open(owner, *ports);
    return opened ? pt::result<void>{} : opened.error();
}

/// What the guest does with its view of the NIC, as it concerns the guest's tables.
struct nic_events {
    guest* of;
    const pt::pci::msi_x_layout* msi_x;
    pt::vmx::port_owner owner;

    pt::result<void> bar_changed(const pt::pci::bar_change& change) {
        if (change.device.kind == pt::pci::bar_kind::io) {
            return open_ports(change, owner, *of);
        }
        if (change.device.kind == pt::pci::bar_kind::rom) {
            return pt::error{pt::errc::refused, change.to.address()}; // this VMM has another one
        }
        const auto pieces = pt::pci::bar_pieces::of(change.device, *msi_x);
        if (change.from) {
            if (const auto unmapped = unmap_registers(pieces.begin(), pieces.end(),
                                                      pt::gpa{change.from.address()}, *of);
                !unmapped) {
                return unmapped;
            }
        }
        if (change.to) {
            if (const auto mapped =
                    map_registers(change.device, pieces, pt::gpa{change.to.address()}, *of);
                !mapped) {
                return mapped;
            }
        }
        const auto settled = settle(*of);
        if (!settled && change.to) { // with an error, nothing of the BAR stays mapped
            const auto undone =
                unmap_registers(pieces.begin(), pieces.end(), pt::gpa{change.to.address()}, *of);
            return undone ? settled : undone;
        }
        return settled;
    }
    void power_state_changed(pt::pci::power_state, pt::pci::power_state) {}
    void reset() { of->nic_must_be_reset = true; } // before the exit loop lets the guest go on
};

/// The guest's messages go to its own local APICs, and to nobody else.
struct nic_route {
    guest_bus* bus;

    void open(pt::pci::interrupt_source, pt::pci::interrupt_message) {}
    void close(pt::pci::interrupt_source) {}
    void send(pt::pci::interrupt_source source, pt::pci::interrupt_message message) {
        if (source.kind == pt::pci::interrupt_kind::intx) {
            return; // the wire needs a virtual I/O APIC
        }
        if (const auto sent = pt::lapic::message_of_msi(message.address, message.data)) {
            bus->deliver(*sent);
        } // elsewhere is no local APIC [sdm]
    }
    void use(pt::pci::interrupt_kind, std::uint16_t) {}
    bool pending(pt::pci::interrupt_source) { return false; }
};

/// The NIC's BARs where the kernel has mapped them, for the registers beside the MSI-X table.
struct nic_memory {
    volatile unsigned char* bars[6];

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size) {
        volatile unsigned char* const at = bars[bar] + offset;
        switch (size) {
        case pt::mmio_width::byte: return *at;
        case pt::mmio_width::word: return *reinterpret_cast<volatile std::uint16_t*>(at);
        case pt::mmio_width::dword: return *reinterpret_cast<volatile std::uint32_t*>(at);
        case pt::mmio_width::qword: return *reinterpret_cast<volatile std::uint64_t*>(at);
        }
        return pt::all_ones(size);
    }
    void write(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size, std::uint64_t value) {
        volatile unsigned char* const at = bars[bar] + offset;
        switch (size) {
        case pt::mmio_width::byte: *at = static_cast<std::uint8_t>(value); break;
        case pt::mmio_width::word:
            *reinterpret_cast<volatile std::uint16_t*>(at) = static_cast<std::uint16_t>(value);
            break;
        case pt::mmio_width::dword:
            *reinterpret_cast<volatile std::uint32_t*>(at) = static_cast<std::uint32_t>(value);
            break;
        case pt::mmio_width::qword: *reinterpret_cast<volatile std::uint64_t*>(at) = value; break;
        }
    }
};

using nic_view =
    pt::pci::virtual_function_view<host_config, nic_events, nic_route, nic_memory, spin_lock>;

/// Blocks the function, and takes its ports, registers and interrupts from the guest.
pt::result<void> take_away(attachment& nic, nic_view& view, guest& from, remapping& vtd) {
    if (const auto blocked = vtd.quarantine(nic);
        !blocked && blocked.error().code != pt::errc::already_mapped) {
        return blocked;
    }
    view.close();
    return settle(from);
}

/// All of the function, or an error and nothing.
pt::result<void> give(attachment& nic, nic_view& view, pt::pci::msi_x_vector (&vectors)[5],
                      guest& to, remapping& vtd) {
    if (const auto shown = view.open(
            pt::pci::size_bars(host_config{cpu_ports{}}, nic.who().function()), vectors, 5);
        !shown) {
        return shown;
    }
    const auto attached = to.dma.attach(nic);
    if (!attached) {
        const auto undone = take_away(nic, view, to, vtd);
        return undone ? attached : undone;
    }
    return {};
}

/// The function's one interrupt, to the host's processor 0, through an entry that only its requests may
/// use: what to write into its MSI capability.
pt::result<pt::vtd::interrupt_message> open_interrupt(const attachment& nic, remapping& vtd,
                                                      std::uint8_t host_vector) {
    return vtd.with_unit_of(
        nic.who(), [&](remapping_unit& unit) -> pt::result<pt::vtd::interrupt_message> {
            const auto entry = unit.interrupts().allocate();
            if (!entry) {
                return entry.error();
            }
            const auto set = unit.interrupts().set(
                entry->first, pt::vtd::interrupt_target{.vector = host_vector, .destination_id = 0},
                pt::vtd::interrupt_requester::exactly(nic.who().function().source_id()), unit);
            if (!set) {
                const auto released = unit.interrupts().release(*entry, unit);
                return released ? set.error() : released.error();
            }
            return pt::vtd::remappable_message(entry->first);
        });
}

/// An EPT violation in a page that is trapped; false: not a load or store of the NIC's.
bool on_ept_violation(nic_view& view, pt::gpa at, bool store, pt::mmio_width size,
                      std::uint64_t& value) {
    constexpr std::uint8_t msi_x_bar = 3; // of the 82574
    view.settle();
    const pt::pci::bar_place place = view.place(msi_x_bar);
    if (!place || at.raw < place.address() || at.raw - place.address() >= 16 * pt::KiB) {
        return false;
    }
    const std::uint64_t offset = at.raw - place.address();
    if (store) {
        view.write_memory(msi_x_bar, offset, size, value);
    } else {
        value = view.read_memory(msi_x_bar, offset, size);
    }
    return true;
}

/// The guest is gone, and its devices are taken away: its tables go as well.
pt::result<void> tear_down(guest& of) {
    // There is always room for everything.
    const auto processors = of.ept_owed.add(of.ept.retire());
    const auto devices = of.dma.retire();
    return processors && devices ? settle(of) : devices;
}

/// One unit of the DMAR table, in the memory that the kernel has for it.
pt::result<remapping_unit> take_unit(const vtd_policies& given, mapped_registers registers,
                                     const pt::vtd::drhd& place) {
    return remapping_unit::take(given, registers, place, {.apics = pt::vtd::apic_mode::x2apic});
}

/// Everything that a device does by itself goes through tables of pt after this.
pt::result<void> protect(remapping& vtd, remapping_unit& only) {
    return vtd.add(only)
        .and_then([&] { return vtd.start(); })
        .and_then([&] { return vtd.start_interrupt_remapping(); })
        .and_then([&] {
            return only.send_events(pt::vtd::unit_event::fault,
                                    pt::vtd::interrupt_message::extended(0x40, 0));
        });
}

/// Whether to look again later.
bool report_faults(remapping& vtd, unsigned& seen) {
    return vtd
        .handle_faults(16, [&](const pt::vtd::fault_record&, pt::vtd::fault_verdict) { ++seen; })
        .more;
}

/// What the guest finds behind 0xCF8 and 0xCFC: its functions where it believes them to be.
using guest_config = pt::pci::config_ports<pt::pci::config_router>;

pt::result<void> plug_in(pt::pci::config_routes<8>& slots, nic_view& view) {
    return slots.add({0, 0, 3, 0}, view);
}

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

/// What the VMCS says of an I/O-instruction exit. False: not an instruction that this VMM completes.
struct io_exit {
    std::uint64_t qualification;
    std::uint32_t information;
    std::uint32_t length;
};
bool on_io_instruction(guest_config& config, const io_exit& exit, std::uint64_t& rax) {
    const auto instruction = pt::vmx::io_instruction_of(
        pt::vmx::io_instruction_qualification{exit.qualification},
        pt::vmx::io_instruction_information{exit.information}, exit.length);
    if (!instruction || instruction->string) {
        return false;
    }
    const pt::width size = instruction->size;
    if (instruction->direction == pt::vcpu::io_direction::out) {
        out(config, instruction->port, size, pt::vcpu::out_value(rax, size));
    } else {
        rax = pt::vcpu::accumulator_after_in(rax, size, in(config, instruction->port, size));
    }
    return true;
}

/// The host took `vector`: if it is the device's, the guest gets what it asked for instead.
bool on_external_interrupt(guest& of, std::uint32_t exit_interruption_information) {
    const auto vector = pt::vmx::acknowledged_vector(
        pt::vmx::exit_interruption_information{exit_interruption_information});
    if (!vector) {
        return false;
    }
    const auto sent = of.routes.find(*vector);
    if (!sent) {
        return false;
    }
    of.bus.deliver(*sent);
    return true;
}

/// The guest's MOV to its xAPIC page, decoded.
void on_apic_write(guest& of, std::uint32_t vcpu, std::uint32_t offset, std::uint32_t value) {
    const auto effect = of.apic.write(offset, pt::mmio_width::dword, value);
    if (effect.kind == pt::lapic::effect_kind::send) {
        of.bus.deliver(vcpu, effect.command);
    }
}

/// After an exit and before the next entry: what entry is to deliver, and what else to request.
struct event_fields {
    pt::vmx::entry_words words;
    pt::lapic::entry_decision decision;
};
event_fields before_entry(guest& of, std::uint32_t idt_vectoring, std::uint32_t error_code,
                          std::uint32_t instruction_length) {
    of.injector.interrupted(pt::vmx::interrupted_event(
        pt::vmx::idt_vectoring_information{idt_vectoring}, error_code, instruction_length));
    const auto decision = of.injector.before_entry();
    return {pt::vmx::entry_of(decision.event), decision};
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
