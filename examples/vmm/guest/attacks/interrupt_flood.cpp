// SPDX-License-Identifier: BSL-1.0
#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../io_apics.hpp"
#include "../local_apic.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "../../../kernel/ports.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"

namespace guest {
namespace {

using namespace pt::lapic;
using icr = interrupt_command;

std::uint32_t storm_left = 0;

void flood_by_device(nic& device, interrupt_kind kind) {
    if (!check(device.bring_up(), "the NIC is reset")) {
        return;
    }
    const auto vector = device.use(kind, nic_vector);
    if (!check(vector, "interrupts by ", name(kind))) {
        return;
    }
    kernel::mmio registers = device.registers();
    pt::write(registers, pt::e1000e::itr{});
    forget_interrupts();
    for (unsigned i = 0; i != 5000; ++i) {
        registers.write32(pt::e1000e::ics::offset, 0xFFFF'FFFF);
        if (i % 7 == 0) {
            device.mask();
        }
        if (i % 3 == 0) {
            let_in_briefly();
        }
        if (i % 7 == 3) {
            device.unmask();
        }
        if (kind == interrupt_kind::msi_x && i % 11 == 0) {
            device.mask_message(i % 22 == 0);
        }
    }
    if (kind == interrupt_kind::msi_x) {
        device.mask_message(false);
    }
    device.unmask();
    pause_for(millisecond);
    tell("5000 requests with masks coming and going: ", decimal{taken(*vector)}, " interrupts");
    check(taken(*vector) != 0, "some arrived");
    device.mask();
    pause_for(millisecond);
    registers.write32(pt::e1000e::icr::offset, 0xFFFF'FFFF);
    forget_interrupts();
    device.unmask();
    device.request_interrupt();
    check(arrives(*vector), "and one more arrives");
    device.use_none();
}

void storm() {
    if (storm_left != 0 && --storm_left == 0) {
        local_apic::write(initial_count_offset, 0);
    }
}

void flood_by_timer() {
    take_timer();
    on_vector(timer_vector, storm);
    using lvt = local_vector_entry;
    for (const std::uint32_t count : {10'000U, 1000U, 100U, 1U}) {
        if (is_bare() && count < 1000) {
            tell("bare: not with a count of ", decimal{count},
                 ", since QEMU does nothing else then");
            continue;
        }
        forget_interrupts();
        storm_left = 2000;
        local_apic::write(lvt_timer_offset,
                          lvt{lvt::mode(timer_mode::periodic), lvt::vector(timer_vector)}.raw);
        clock time;
        const std::uint64_t begun = time.now();
        local_apic::write(initial_count_offset, count);
        while (storm_left != 0 && time.now() - begun < second) {
            let_in_briefly();
        }
        local_apic::write(initial_count_offset, 0);
        storm_left = 0;
        let_in_briefly();
        tell("periodic with a count of ", decimal{count}, ": ", decimal{taken(timer_vector)},
             " interrupts in ", microseconds_of{time.now() - begun});
        check(taken(timer_vector) != 0, "they arrived, and the program goes on");
    }
    on_vector(timer_vector, nullptr);
    if (has_tsc_deadline()) {
        forget_interrupts();
        local_apic::write(lvt_timer_offset,
                          lvt{lvt::mode(timer_mode::tsc_deadline), lvt::vector(timer_vector)}.raw);
        asm volatile("mfence" : : : "memory");
        for (unsigned i = 0; i != 2000; ++i) {
            write_msr(tsc_deadline_msr, 1);
            let_in_briefly();
        }
        check(taken(timer_vector) != 0, "deadlines that are long over");
        write_msr(tsc_deadline_msr, 0);
    }
    give_timer();
}

void flood_by_interrupt_commands() {
    forget_interrupts();
    unsigned sent = 0;
    for (unsigned i = 0; i != 3000; ++i) {
        const auto vector = static_cast<std::uint8_t>(0x70 + i % 0x30);
        local_apic::send(icr{icr::destination_shorthand(i % 2 == 0 ? shorthand::self
                                                                   : shorthand::all_including_self),
                             icr::level_assert(true), icr::vector(vector)});
        ++sent;
        if (i % 5 == 0) {
            let_in_briefly();
        }
    }
    let_in_briefly();
    tell(decimal{sent}, " IPIs to itself: ", decimal{taken_in_all()}, " interrupts");
    check(taken_in_all() != 0, "they arrived");

    // To nobody, in every way; none of them is for this processor.
    forget_interrupts();
    const std::uint32_t nobody = local_apic::is_x2apic() ? 0x1234 : 0x7E;
    for (const delivery_mode how :
         {delivery_mode::fixed, delivery_mode::lowest_priority, delivery_mode::smi,
          delivery_mode::nmi, delivery_mode::init, delivery_mode::start_up, delivery_mode{3}}) {
        local_apic::send(icr{icr::destination(nobody), icr::delivery(how), icr::level_assert(true),
                             icr::vector(forged_vector)});
    }
    local_apic::send(icr{icr::destination_shorthand(shorthand::all_excluding_self),
                         icr::delivery(delivery_mode::init), icr::level_assert(true)});
    local_apic::send(icr{icr::destination_shorthand(shorthand::all_excluding_self),
                         icr::delivery(delivery_mode::start_up), icr::vector(0x10)});
    let_in_briefly();
    check_equal(taken_in_all(), 0, "those for absent processors arrive nowhere");

    for (unsigned i = 0; i != 1000; ++i) {
        local_apic::send(icr{icr::destination(local_apic::id()), icr::delivery(delivery_mode::nmi),
                             icr::level_assert(true)});
    }
    let_in_briefly();
    tell("1000 NMIs: ", decimal{taken(nmi_vector)}, " taken");
    check(taken(nmi_vector) != 0, "NMIs to itself arrive");

    // Illegal vectors set bits of ESR, and deliver nothing; with an illegal vector in the entry for
    // errors there is nothing that could be delivered about that either.
    if (is_bare()) {
        tell("bare: no IPIs with illegal vectors, since QEMU delivers them");
        return;
    }
    forget_interrupts();
    local_apic::write(lvt_error_offset, 0);
    for (unsigned vector = 0; vector != 16; ++vector) {
        local_apic::send(icr{icr::destination_shorthand(shorthand::self), icr::level_assert(true),
                             icr::vector(static_cast<std::uint8_t>(vector))});
    }
    local_apic::write(error_status{});
    tell("IPIs with vectors 0 to 15: ESR ", local_apic::read<error_status>().raw);
    let_in_briefly();
    check_equal(taken_in_all(), 0, "none of them arrives");
    local_apic::write(error_status{});
}

/// A line that always asserts leaves no instruction between two interrupts: each time that it is opened
/// it has a few, and its handler masks it then.
unsigned wire_left = 0;
void storm_of_wire() {
    if (wire_left == 0 || --wire_left == 0) {
        io_apics().mask(io_apics().input_of_line(0));
    }
}

void flood_by_wires() {
    // The interval timer at its fastest, through an input that is programmed anew all the time.
    kernel::ports io;
    io_apic_inputs& inputs = io_apics();
    const unsigned input = inputs.input_of_line(0);
    const std::uint8_t count = is_bare() ? 200 : 2; // ticks of 838 ns
    io.out8(pt::io_port{0x43}, 0x34);
    io.out8(pt::io_port{0x40}, count);
    io.out8(pt::io_port{0x40}, 0);
    forget_interrupts();
    on_vector(interval_timer_vector, storm_of_wire);
    on_vector(inputs.vector_of(input), storm_of_wire);
    clock time;
    const std::uint64_t begun = time.now();
    for (unsigned i = 0; i != 500 && time.now() - begun < 2 * second; ++i) {
        wire_left = 16;
        i % 2 == 0 ? inputs.open_edge(input, interval_timer_vector) : inputs.open_level(input);
        let_in_briefly();
        if (i % 16 == 0) {
            inputs.mask(input);
        }
    }
    inputs.mask(input);
    io.out8(pt::io_port{0x43}, 0x30);
    let_in_briefly();
    on_vector(interval_timer_vector, nullptr);
    on_vector(inputs.vector_of(input), nullptr);
    tell("the interval timer with a count of ", decimal{count}, ": ",
         decimal{taken(interval_timer_vector) + taken(inputs.vector_of(input))}, " interrupts in ",
         microseconds_of{time.now() - begun});
    check(true, "the program goes on");
}

} // namespace

void attack_interrupt_flood(nic& device) {
    for (const interrupt_kind kind :
         {interrupt_kind::msi_x, interrupt_kind::msi, interrupt_kind::wire}) {
        if (kind == interrupt_kind::wire ? device.best_kind() == kind : device.has(kind)) {
            flood_by_device(device, kind);
        }
    }
    flood_by_timer();
    flood_by_interrupt_commands();
    flood_by_wires();
    restore_interrupts();
    pause_for(millisecond);
    check(local_apic::has_no_vector(in_service_offset), "at the end nothing is in service");
}

} // namespace guest
