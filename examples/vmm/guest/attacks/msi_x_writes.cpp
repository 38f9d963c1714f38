// SPDX-License-Identifier: BSL-1.0
#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../local_apic.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "pt/pci/msi_x.hpp"

namespace guest {
namespace {

alignas(64) volatile std::uint32_t not_a_message[16];

enum class leave_out : std::uint8_t { never, bare, always };

struct message {
    const char* what;
    std::uint64_t address;
    std::uint32_t data;
    leave_out when = leave_out::never;
};

void write_entry(kernel::mmio table, unsigned vector, std::uint64_t address, std::uint32_t data) {
    table.write32(16 * vector + 12, 1);
    table.write32(16 * vector, static_cast<std::uint32_t>(address));
    table.write32(16 * vector + 4, static_cast<std::uint32_t>(address >> 32));
    table.write32(16 * vector + 8, data);
    table.write32(16 * vector + 12, 0);
}

/// All sizes at all places, and over the ends of dwords and qwords.
void write_everywhere(kernel::mmio place, std::uint32_t size) {
    for (std::uint32_t at = 0; at < size; ++at) {
        place.write8(at, static_cast<std::uint8_t>(0xA0 + at));
        static_cast<void>(place.read8(at));
        if (at + 2 <= size) {
            place.write16(at, 0x5AA5);
            static_cast<void>(place.read16(at));
        }
        if (at + 4 <= size) {
            place.write32(at, 0xFFFF'FFFF);
            static_cast<void>(place.read32(at));
            place.write32(at, 0);
        }
        if (at + 8 <= size) {
            place.write64(at, ~std::uint64_t{0});
            static_cast<void>(place.read64(at));
            place.write64(at, 0);
        }
    }
}

} // namespace

void attack_msi_x_writes(nic& device) {
    const auto layout = device.msi_x();
    const auto table = device.msi_x_table();
    const auto pending = device.msi_x_pending_bits();
    if (!layout || !table || !pending) {
        tell("the NIC has no MSI-X");
        check(device.bring_up(), "it is reset");
        return;
    }
    const std::uint32_t table_size = layout->vectors * 16U;
    tell(decimal{layout->vectors}, " vectors, table at ", layout->table.offset, " of BAR ",
         decimal{layout->table.bar}, ", pending bits at ", layout->pending_bits.offset);
    check(device.bring_up(), "it is reset");
    check(device.use(interrupt_kind::msi_x, nic_vector), "MSI-X is on");
    const auto works = [&](const char* when) {
        const auto vector = device.use(interrupt_kind::msi_x, nic_vector);
        forget_interrupts();
        device.request_interrupt();
        check(vector && arrives(nic_vector), when);
        device.mask();
    };

    tell("all sizes at all places of the table, aligned or not");
    device.mask();
    write_everywhere(*table, table_size);
    works("with a proper entry its interrupt arrives");
    tell("and behind its end, up to the end of the page");
    kernel::mmio behind{pt::hpa{device.bars().find(layout->table.bar)->address +
                                layout->table.offset + table_size}};
    write_everywhere(behind,
                     static_cast<std::uint32_t>(4096 - (layout->table.offset + table_size) % 4096));
    works("with a proper entry its interrupt arrives");
    tell("and of the pending bits, which are read-only");
    write_everywhere(*pending, 64);
    works("with a proper entry its interrupt arrives");

    const std::uint64_t apic = 0xFEE0'0000;
    const message messages[] = {
        {"to memory of the guest's", address_of(not_a_message), 0x1234'5678},
        {"to address 0", 0, 0},
        {"to the NIC itself", device.memory().address + 0x38, 0x8100},
        {"to the end of 64 bits", ~std::uint64_t{3}, 0xFFFF'FFFF},
        {"to 4 GiB behind the local APIC", apic + 4 * pt::GiB, forged_vector},
        {"to another processor", apic | 0x7FU << 12, forged_vector},
        {"to all of them", apic | 0xFFU << 12, forged_vector},
        {"to a logical destination", apic | 0x01U << 12 | 1U << 2, forged_vector},
        {"in remappable format", apic | 1U << 4, 0},
        {"with vector 0", apic, 0, leave_out::bare},
        {"with vector 15", apic, 15, leave_out::bare},
        {"with a reserved delivery mode", apic, 0x300 | forged_vector},
        {"as an NMI", apic, 0x400},
        {"as an ExtINT", apic, 0x700},
        {"as an SMI", apic, 0x200, leave_out::always},
        {"as an INIT", apic, 0x500, leave_out::always},
        {"as a start-up", apic, 0x600 | 0x10, leave_out::always},
        {"level-triggered, asserted", apic, 0xC000 | forged_vector},
        {"level-triggered, not asserted", apic, 0x8000 | forged_vector},
        {"with all bits of data set but the mode", apic, 0xFFFF'F8A5},
    };
    for (const message& each : messages) {
        if (each.when == leave_out::always) {
            tell(each.what, ": left out, since it may end this processor's work");
            continue;
        }
        if (each.when == leave_out::bare && is_bare()) {
            tell(each.what, ": bare: left out, since QEMU delivers illegal vectors");
            continue;
        }
        if (!device.use(interrupt_kind::msi_x, nic_vector)) {
            break;
        }
        forget_interrupts();
        write_entry(*table, 0, each.address, each.data);
        device.request_interrupt();
        pause_for(millisecond);
        tell(each.what, ": ", decimal{taken_in_all()}, " interrupts here, vector ",
             std::uint64_t{any_taken()});
        device.mask();
        write_entry(*table, 0, apic, nic_vector);
    }
    tell("the word of memory that was written to is ", not_a_message[0]);
    works("with a proper entry its interrupt arrives");
    local_apic::enable(spurious_vector);
    check(local_apic::has_no_vector(in_service_offset), "nothing is in service");

    tell("mask bits, a thousand times while it requests");
    static_cast<void>(device.use(interrupt_kind::msi_x, nic_vector));
    forget_interrupts();
    for (unsigned i = 0; i != 1000; ++i) {
        device.mask_message(i % 3 == 0);
        device.request_interrupt();
        let_in();
        device.mask_message(i % 2 == 0);
        let_in();
    }
    device.mask_message(false);
    pause_for(millisecond);
    tell("  ", decimal{taken(nic_vector)}, " arrived");
    works("and then its interrupt arrives");
}

} // namespace guest
