// SPDX-License-Identifier: BSL-1.0
//
// A VMM that passes a NIC through, as its kernel is compiled: with the real policies of such a kernel,
// and no library to link with (docs/write_your_own_vmm.md). The object is looked into;
// tests/unit/assign/own_vmm_example.cpp runs the same steps, and examples/vmm is the same in full.

#include "pt/pt.hpp"

#include "own_machine.hpp"
#include "own_vmm.hpp"

namespace kernel {

// ------------------------------------------------------------------------------------ the machine

using vtd_policies =
    pt::vtd::policies<mapped_registers, tsc_clock, frames, pt::paging::clflush_publication,
                      pt::cmpxchg16b_store, spin_lock>;
using remapping_unit = pt::vtd::unit<vtd_policies>;
using host_config = pt::pci::port_config_access<cpu_ports, pt::pci::config_address, spin_lock>;
using remapping = pt::vtd::remapping<vtd_policies, pt::pci::config_bus_numbers<host_config>>;

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

/// One unit of the DMAR table, in the memory that the kernel has for it.
pt::result<remapping_unit> take_unit(const vtd_policies& given, mapped_registers registers,
                                     const pt::vtd::drhd& place) {
    return remapping_unit::take(given, registers, place, {.apics = pt::vtd::apic_mode::x2apic});
}

// ------------------------------------------------------------------------ a guest's processors

/// All of them, as far as their translations and the I/O bitmap go. The kernel's part is to make the
/// others leave the guest.
struct all_processors {
    std::uint64_t eptp;
    void (*interrupt_others)(); ///< and wait until they are out
    void (*let_others_go)();

    pt::result<void> invalidate(const pt::paging::stale_set<pt::gpa>&) {
        interrupt_others();
        const std::uint64_t descriptor[2]{eptp, 0};
        bool failed = false;
        asm volatile("invept %1, %2"
                     : "=@ccbe"(failed)
                     : "m"(descriptor), "r"(std::uint64_t{1})
                     : "memory");
        let_others_go(); // and each of them does an INVEPT before it enters
        return failed ? pt::error{pt::errc::hardware_fault, eptp} : pt::result<void>{};
    }
    void pause() { interrupt_others(); }
    void resume() { let_others_go(); }
};

struct guest_vcpus {
    pt::lapic::inbox* inboxes;
    std::uint32_t size;
    void (*kick)(std::uint32_t); ///< makes one leave the guest, or wake
    std::uint32_t count() { return size; }
    pt::lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
    void notify(std::uint32_t n, pt::lapic::notification) { kick(n); }
};

/// The guest's TSC is the host's, and its APIC timer counts at a third of it.
struct guest_time {
    std::uint64_t ticks() { return __builtin_ia32_rdtsc() / 3; }
    std::uint64_t tsc() { return __builtin_ia32_rdtsc(); }
};

/// What the guest can take just now.
struct vcpu_of {
    const own_vmm::guest_state* state;
    bool can_take_interrupt() {
        return pt::vmx::can_take_external_interrupt(state->rflags, state->blocking,
                                                    state->activity);
    }
    bool can_take_nmi() { return pt::vmx::can_take_nmi(state->blocking, state->activity); }
};

/// A guest that uses no paging. (Another needs its own tables walked: examples/vmm/pc does that.)
struct flat_memory {
    unsigned char* ram;
    std::uint64_t size;

    pt::vcpu::guest_place locate(pt::vcpu::logical_address at, std::uint32_t,
                                 pt::vcpu::memory_access) {
        const std::uint64_t page = pt::gpa{at.offset}.offset_in(4 * pt::KiB);
        return {.address = pt::gpa{at.offset},
                .size = static_cast<std::uint32_t>(4 * pt::KiB - page)};
    }
    void read(pt::gpa at, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = at.raw < size && i < size - at.raw ? ram[at.raw + i] : std::uint8_t{0xFF};
        }
    }
    void write(pt::gpa at, const std::uint8_t* from, std::size_t count) {
        for (std::size_t i = 0; i != count && at.raw < size && i < size - at.raw; ++i) {
            ram[at.raw + i] = from[i];
        }
    }
};

/// What a guest did not get, for the kernel's log.
struct kernel_log {
    void (*print)(const pt::assign::rejection&);
    void rejected(const pt::assign::rejection& what) { print(what); }
    void changed() {}
};

// ------------------------------------------------------------------------------------ this VMM

struct my_vmm {
    using host_config = kernel::host_config;
    using host_ports = cpu_ports;
    using registers = mapped_bars;
    using pages =
        pt::paging::table<pt::ept::format, frames, pt::paging::coherent_publication, spin_lock>;
    using processors = all_processors;
    using dma = pt::assign::remapped_dma<pt::vtd::domain<remapping, spin_lock>>;
    using interrupts =
        pt::assign::remapped_interrupts<remapping, pt::assign::vector_pool<spin_lock>>;
    using wire = pt::assign::no_wire;
    using vcpus = guest_vcpus;
    using reset = pt::assign::standard_reset<host_config, tsc_clock>;
    using platform = pt::assign::no_platform;
    using reports = kernel_log;
    using mutex = spin_lock;
};
static_assert(pt::assign::vmm<my_vmm>);

/// Where the host has the registers of devices: no RAM, no local APIC, nothing of the kernel's own.
constexpr pt::range<pt::hpa> device_memory[]{{pt::hpa{0xC000'0000}, 0x3000'0000}};
constexpr pt::range<pt::io_port> device_ports[]{{pt::io_port{0xC000}, 0x1000}};

/// What the kernel has for a guest.
struct guest_resources {
    my_vmm::pages& ept;
    pt::vtd::domain<remapping, spin_lock>& domain;
    remapping& vtd;
    all_processors processors;
    guest_vcpus vcpus;
    kernel_log log;
};

/// One guest, in the memory that the kernel has for it.
struct my_guest {
    alignas(4096) std::uint64_t bitmap_a[512]{};
    alignas(4096) std::uint64_t bitmap_b[512]{};
    unsigned char locks[2]{};
    pt::assign::guest_lists<32, 8, 16> lists{pt::vmx::io_bitmap{bitmap_a, bitmap_b}};
    pt::lapic::bus<guest_vcpus> bus;
    pt::assign::guest<my_vmm> guest;

    explicit my_guest(const guest_resources& has)
        : bus{has.vcpus},
          guest{{.pages = has.ept,
                 .memory = pt::ept::ram,
                 .device_memory = pt::ept::device_memory,
                 .processors = has.processors,
                 .room = lists.room(),
                 .windows = device_memory,
                 .port_windows = device_ports,
                 .host_ports = {},
                 .dma = {has.domain, has.vtd},
                 .bus = bus,
                 .platform = {},
                 .reports = has.log,
                 .mutex = {&locks[0]},
                 .config_mutex = {&locks[1]}}} {}
};

/// One of its virtual processors.
struct my_processor {
    using apic_type = pt::lapic::local_apic<guest_time>;
    using injector_type = pt::lapic::injector<vcpu_of, apic_type>;

    own_vmm::guest_state state{};
    pt::lapic::register_page page{};
    apic_type apic;
    injector_type injector{apic, vcpu_of{&state}};
    pt::assign::processor<my_vmm, apic_type, injector_type, flat_memory> cpu;

    my_processor(my_guest& of, std::uint32_t n, pt::lapic::inbox& inbox, flat_memory memory)
        : apic{page, inbox, {.apic_id = n}, guest_time{}},
          cpu{of.guest, n, apic, injector, memory} {}
};

/// A NIC that can be given to the guest: its BARs are mapped, and host vectors set aside.
struct my_nic {
    pt::pci::msi_x_vector vectors[5]{};
    unsigned char lock = 0;
    pt::assign::assigned_device<my_vmm> device;

    my_nic(my_guest& of, remapping& vtd, const pt::vtd::requester& who, mapped_bars bars,
           host_config config, pt::assign::vector_pool<spin_lock> host_vectors)
        : device{of.guest,
                 who,
                 {.config = config,
                  .registers = bars,
                  .interrupts = {vtd, host_vectors},
                  .wire = {},
                  .reset = {config, tsc_clock{}},
                  .vectors = vectors,
                  .vector_count = 5,
                  .mutex = {&lock}}} {}
};

/// The guest has its memory and the NIC, at 00:03.0; or an error, and it has nothing of the NIC.
pt::result<void> start(my_guest& of, my_nic& nic, pt::range<pt::hpa> memory) {
    return own_vmm::furnish(of.guest, memory).and_then([&] {
        return nic.device.assign({.at = {0, 0, 3, 0}});
    });
}

/// What the VMCS is given before the next entry.
struct entry {
    pt::vmx::entry_words words;
    bool interrupt_window;
    bool nmi_window;
};

/// After each exit.
pt::result<entry> next_entry(my_processor& of, const own_vmm::vmx_exit& exit,
                             std::uint64_t guest_cr0) {
    const auto nobody = [](const own_vmm::vmx_exit&, own_vmm::guest_state&) {
        return pt::assign::resume_again(); // here a VMM does its CPUID, its HLT, its own interrupts
    };
    const auto decision = own_vmm::turn(of.cpu, exit, of.state, nobody);
    if (!decision) {
        return decision.error();
    }
    return entry{pt::vmx::entry_of(decision->event, pt::vcpu::mode_of(guest_cr0)),
                 decision->interrupt_window, decision->nmi_window};
}

/// What the unit of the NIC puts it through. The kernel keeps it when it has assigned the NIC.
pt::result<pt::vtd::translation> way_of(my_nic& nic, remapping& vtd) {
    const pt::vtd::requester& who = nic.device.requester();
    return vtd.with_unit_of(
        who, [&](remapping_unit& unit) { return unit.functions().translation_of(who.function()); });
}

/// Between two entries. All tables lie in `frames_at`; `words` are zero, and as many as
/// frame_bitmap::words_for() says.
bool check(my_guest& of, my_nic& nic, const guest_resources& has,
           const pt::vtd::translation& through, pt::range<pt::hpa> frames_at, std::uint64_t* words,
           void (*print)(const char*)) {
    const pt::paging::direct_map_reader reader{frames_at, pt::offset_map{0xFFFF'8000'0000'0000}};
    const pt::paging::frame_bitmap seen{frames_at, words,
                                        pt::paging::frame_bitmap::words_for(frames_at)};
    const auto ept_root = has.ept.root();
    if (!ept_root ||
        !own_vmm::is_isolated(of.guest,
                              own_vmm::audited_tables{has.ept.format(), reader, *ept_root, seen},
                              own_vmm::audited_tables{has.domain.tables().format(), reader,
                                                      through.second_stage_root(), seen},
                              of.bitmap_a, of.bitmap_b, print)) {
        return false;
    }
    const pt::result<bool> confined =
        has.vtd.with_unit_of(nic.device.requester(), [&](remapping_unit& unit) -> pt::result<bool> {
            return own_vmm::is_confined(of.guest, unit, through, reader, seen, print);
        });
    return confined && *confined;
}

/// Nothing of the guest is left in any table; the domain is the kernel's to give back.
pt::result<void> stop(my_guest& of, my_nic& nic, pt::vtd::domain<remapping, spin_lock>& domain) {
    return own_vmm::tear_down(nic.device, of.guest).and_then([&] { return domain.retire(); });
}

} // namespace kernel
