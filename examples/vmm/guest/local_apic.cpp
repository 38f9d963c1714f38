// SPDX-License-Identifier: BSL-1.0
#include "local_apic.hpp"

namespace guest {

using pt::lapic::interrupt_command;
using pt::lapic::local_vector_entry;

std::uint32_t local_apic::id() {
    const auto held = read<pt::lapic::local_apic_id>();
    return is_x2apic() ? held.raw : held[pt::lapic::local_apic_id::apic_id];
}

void local_apic::send(interrupt_command command) {
    if (is_x2apic()) {
        write_msr(msr_of(interrupt_command::offset), command.raw);
        return;
    }
    kernel::mmio registers = page();
    for (unsigned left = 100'000; left != 0; --left) {
        const interrupt_command last{registers.read32(interrupt_command::offset)};
        if (!last[interrupt_command::delivery_status]) {
            break;
        }
    }
    registers.write32(interrupt_command::offset_high, static_cast<std::uint32_t>(command.raw >> 32)
                                                          << 24);
    registers.write32(interrupt_command::offset, static_cast<std::uint32_t>(command.raw));
}

bool local_apic::has_no_vector(std::uint32_t offset) {
    for (std::uint32_t part = 0; part != 8; ++part) {
        if (read(offset + 16 * part) != 0) {
            return false;
        }
    }
    return true;
}

void local_apic::enable(std::uint8_t spurious_vector) {
    using svr = pt::lapic::spurious_interrupt_vector;
    using dcr = pt::lapic::divide_configuration;
    write(svr{svr::software_enabled(true), svr::vector(spurious_vector)});
    const std::uint32_t masked = local_vector_entry{local_vector_entry::masked(true)}.raw;
    for (const std::uint32_t entry :
         {lvt_timer_offset, lvt_lint0_offset, lvt_lint1_offset, lvt_error_offset}) {
        write(entry, masked);
    }
    write(pt::lapic::task_priority{});
    write(dcr{dcr::divide_value_high(1), dcr::divide_value_low(3)}); // by 1
    write(initial_count_offset, 0);
}

namespace {

bool has_feature(unsigned bit) { return (kernel::cpuid(1).c >> bit & 1) != 0; }

} // namespace

bool has_x2apic() { return has_feature(21); }
bool has_tsc_deadline() { return has_feature(24); }
bool has_hypervisor() { return has_feature(31); }

} // namespace guest
