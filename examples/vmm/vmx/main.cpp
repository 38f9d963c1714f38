// SPDX-License-Identifier: BSL-1.0
//
// vmm-vmx: the VMM on Bochs. run.py puts it on a disk, with the guest's kernel and modules.
//
// There is no IOMMU. So the NIC's DMA reaches what the guest means only if guest-physical addresses
// are host-physical ones: the guest has the memory from 0 on, and the VMM lies above it.
#include "../../kernel/clock.hpp"
#include "../../kernel/interrupts.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/pci.hpp"
#include "../../kernel/ports.hpp"
#include "../../kernel/start.hpp"
#include "../machine/auditor.hpp"
#include "../machine/boot_files.hpp"
#include "../machine/guest_nic.hpp"
#include "../machine/guest_pc.hpp"
#include "../machine/host.hpp"
#include "../machine/log.hpp"
#include "../machine/policies.hpp"
#include "../machine/run.hpp"
#include "../machine/static_vector.hpp"
#include "../machine/story.hpp"
#include "disk.hpp"
#include "disk_files.hpp"
#include "interrupt_wire.hpp"
#include "world.hpp"

#include "pt/assign/compatibility_interrupts.hpp"
#include "pt/assign/unprotected_dma.hpp"
#include "pt/assign/vector_pool.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::vmx {
namespace {

using wire_type = interrupt_wire<pc_board>;
using my_vmm =
    policies<world, pt::assign::unprotected_dma,
             pt::assign::compatibility_interrupts<pt::assign::vector_pool<>>, wire_type::path>;

// -------------------------------------------------------------------------------- what lies where

/// Where the VMM is linked.
constexpr pt::hpa base{0xC00'0000};
/// Below it, the guest's memory from 0 on to here at most, and what it finds in place of firmware.
constexpr pt::hpa firmware = base - 2 * pt::MiB;
/// Behind the VMM itself (kernel.ld) frames of tables, ...
constexpr pt::range<pt::hpa> frames{base + 4 * pt::MiB, 12 * pt::MiB};
/// ... and the files, up to the end of RAM.
constexpr pt::hpa files_at = base + 16 * pt::MiB;

/// Behind the last byte of RAM below 4 GiB, without what firmware has put there for ACPI: by the
/// configuration memory of a PC, which has the size above 16 MiB in units of 64 KiB.
pt::hpa end_of_memory() {
    constexpr std::uint64_t tables_of_firmware = 64 * pt::KiB;
    kernel::ports io;
    const auto byte = [&](std::uint8_t place) {
        io.out8(pt::io_port{0x70}, place);
        return std::uint64_t{io.in8(pt::io_port{0x71})};
    };
    const std::uint64_t units = byte(0x34) | byte(0x35) << 8;
    return pt::hpa{16 * pt::MiB + units * 64 * pt::KiB - tables_of_firmware};
}

// -------------------------------------------------------------------------------------- its parts

pt::assign::host_vectors device_vectors{kernel::first_free_vector, kernel::last_free_vector - 1};
constexpr std::uint8_t wire_vector = kernel::last_free_vector;

disk_files directory;
boot_files files;
static_vector<guest_pc<my_vmm>, 1> guests;
static_vector<wire_type, 1> wires;
static_vector<guest_nic<my_vmm>, 1> nics;
static_vector<story::watch<my_vmm>, 1> watches;
static_vector<auditor<my_vmm, no_units, 1>, 1> auditors;

void load_files() {
    disk first_disk{kernel::ports{}, kernel::clock{}};
    demand(directory.open(first_disk), "the disk has no files");
    const pt::hpa end = end_of_memory();
    pt::hpa next = files_at;
    for (std::uint32_t i = 0; i != directory.count(); ++i) {
        if (next > end || directory.room(i) > end - next) {
            give_up("there is no memory for the files");
        }
        demand(directory.load(first_disk, i, kernel::pointer_to<std::byte>(next)),
               "a file cannot be read");
        files.add({{kernel::pointer_to<const std::uint8_t>(next), directory.size(i)},
                   directory.words(i)});
        next += directory.room(i);
    }
}

/// Gives a NIC to the guest.
void give_nic(guest_pc<my_vmm>& guest, const host_function& nic) {
    kernel::port_config config = kernel::config();
    const auto line = pt::pci::read<pt::pci::interrupt_line>(config, nic.at);
    const std::uint8_t input = line[pt::pci::interrupt_line::input];
    wire_type& wire = wires.make(guest.hardware(), input, wire_vector);
    const pt::assign::vector_pool<> pool{device_vectors, kernel::apic_id()};
    guest_nic<my_vmm>& given = nics.make(guest, nic, my_vmm::interrupts{pool}, wire.way());
    demand(given.assign(pc::intx_line), "the NIC cannot be given to the guest");
    story::watch<my_vmm>& watch = watches.make(guest, given);
    watch.tell_guest();
    watch.tell_wire(input, wire_vector, pc::intx_line);
}

/// Events of the host's.
struct host_events {
    void on_interrupt(std::uint8_t vector) {
        if (wires.count() == 0 || !wires[0].take(vector)) {
            say_interrupt_for_nobody(vector);
            return;
        }
        watches[0].on_wire(vector);
    }
    void after_exit(std::size_t) {
        if (watches.count() != 0) {
            watches[0].after_exit();
        }
    }
};

/// Everything is given back. Null, or what was not.
const char* tear_down(std::uint64_t frames_before) {
    if ((nics.count() != 0 && !nics[0].remove()) || !guests[0].retire()) {
        return "not all could be taken down";
    }
    if (kernel::frames_in_use() != frames_before) {
        return "frames were lost";
    }
    narrate("the NIC is reset and nobody's, and every frame of every table is back");
    return nullptr;
}

[[noreturn]] void run() {
    start_log();
    const run_options asked = options_told(1);
    if (asked.memory > firmware.raw) {
        give_up("the guest's memory would reach into the VMM");
    }
    kernel::clock::start();
    kernel::start_interrupts();
    kernel::measure_timer();
    kernel::start_memory(frames, {});
    world::turn_on();
    load_files();

    const pt::range<pt::hpa> own{base, end_of_memory() - base};
    host_function found[1];
    const std::size_t nic_count = find_network_controllers(found, 1);
    story::tell_machine(own, {pt::hpa{0}, asked.memory}, found, nic_count);
    const std::uint64_t frames_before = kernel::frames_in_use();
    guest_pc<my_vmm>& guest = guests.make(
        guest_number{}, guest_storage{{pt::hpa{0}, asked.memory}, firmware}, my_vmm::dma{});
    files.boot(guest, 0, 1);
    if (nic_count != 0) {
        give_nic(guest, found[0]);
    }

    chapter("The run");
    auto& audit = auditors.make(asked.audits, guests, frames, own, no_units{});
    host_events events;
    bool isolated = audit.run();
    if (isolated) {
        run_guests(guests, asked.seconds, audit, events);
        isolated = audit.run();
    }
    isolated = tell_audits(audit) && isolated;
    chapter("The end");
    const char* const left = tear_down(frames_before);
    end_run(guests, isolated ? left : "the audit has found what should not be");
}

} // namespace
} // namespace vmm::vmx

void kernel::run(const multiboot_information&) { vmm::vmx::run(); }
