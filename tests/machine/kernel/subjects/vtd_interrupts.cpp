// SPDX-License-Identifier: BSL-1.0
//
// Interrupts through the remapping table: only what has an entry arrives, from whom the entry names,
// where the entry says.
//
// Where QEMU 7.2 is not the hardware: what is blocked leaves no fault record; a request in
// compatibility format passes; a DMA write into the interrupt range and a message of the I/O APIC
// are not asked for their source id (an MSI is). So nothing is said here of these.
#include "../../../../examples/kernel/io_apic.hpp"
#include "../edu.hpp"
#include "../nic.hpp"
#include "../vtd.hpp"

#include "pt/pci/header.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_remapping_table.hpp"
#include "pt/vtd/remappable_message.hpp"
#include "pt/vtd/unit_lookup.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::edu;
using kernel::io_apic;
using kernel::nic;
using kernel::remapping;
using kernel::remapping_unit;
using pt::vtd::interrupt_block;
using pt::vtd::interrupt_index;
using pt::vtd::interrupt_requester;
using pt::vtd::interrupt_target;
using pt::vtd::remappable_message;

const interrupt_requester from_edu = interrupt_requester::exactly(edu::place.source_id());
const interrupt_requester from_nic = interrupt_requester::exactly(nic::first.source_id());

interrupt_target to(std::uint8_t vector) {
    return {.vector = vector, .destination_id = kernel::apic_id()};
}

pt::pci::msi_message msi(pt::vtd::interrupt_message message) {
    return {message.address, static_cast<std::uint16_t>(message.data)};
}

/// Whether these vectors arrive when the device requests, once each, and no others.
template <class Request>
bool arrives_alone(Request request, std::uint8_t vector) {
    kernel::forget_interrupts();
    request();
    const bool came = kernel::arrives(vector);
    kernel::pause_for(kernel::long_enough);
    return came && kernel::taken_in_all() == 1;
}
template <class Request>
bool is_blocked(Request request) {
    kernel::forget_interrupts();
    request();
    return kernel::nothing_arrives();
}

/// MSI with one vector: the whole life of an entry.
void of_edu(remapping_unit& unit, edu& device) {
    auto& table = unit.interrupts();
    const auto request = [&] {
        device.request_interrupt();
        device.acknowledge_interrupts();
    };
    const auto block = table.allocate();
    if (!check("edu gets an entry", block)) {
        return;
    }
    const interrupt_index index = (*block)[0];
    check("edu has its message",
          pt::pci::enable_msi(kernel::config(), edu::place, msi(remappable_message(index))));
    check("an entry without content blocks", is_blocked(request));
    check("the entry is set", table.set(index, to(0x41), from_edu, unit));
    check("edu's vector arrives", arrives_alone(request, 0x41));
    check("and again", arrives_alone(request, 0x41));
    check("a live entry changes its vector", table.change(index, to(0x42), from_edu, unit));
    check("the new vector arrives", arrives_alone(request, 0x42));
    // Both halves at once, by LOCK CMPXCHG16B.
    check("a live entry changes vector and source", table.change(index, to(0x43), from_nic, unit));
    check("a wrong source id is blocked", is_blocked(request));
    check("and back", table.change(index, to(0x44), from_edu, unit));
    check("the right one is not", arrives_alone(request, 0x44));
    check("an entry may name the whole device",
          table.change(
              index, to(0x45),
              interrupt_requester::ignoring(pt::vtd::source_id_qualifier::ignore_bits_2_0,
                                            static_cast<std::uint16_t>(edu::place.source_id() | 7)),
              unit));
    check("edu is a function of it", arrives_alone(request, 0x45));
    check("an entry may name a bus",
          table.change(index, to(0x46), interrupt_requester::buses(0, 0), unit));
    check("edu is on it", arrives_alone(request, 0x46));
    check("the entry is cleared", table.clear(index, unit));
    check("what is cleared blocks", is_blocked(request));
    check("it is set anew", table.set(index, to(0x47), from_edu, unit));
    check("and edu arrives anew", arrives_alone(request, 0x47));
    check("the entry is given back", table.release(*block, unit));
    check("what was given back blocks", is_blocked(request));
    check_error("and takes nothing", table.set(index, to(0x48), from_edu, unit), pt::errc::absent);
    check("edu's MSI is off", pt::pci::disable_msi(kernel::config(), edu::place));
}

/// MSI, and MSI-X with an entry for each vector.
void of_nic(remapping_unit& unit, nic& device) {
    auto& table = unit.interrupts();
    const auto single = table.allocate();
    const auto both = table.allocate(2);
    if (!check("the NIC gets an entry", single) || !check("and two more", both)) {
        return;
    }
    const auto request = [&] {
        device.request_interrupt();
        device.acknowledge_interrupts();
    };
    check("the NIC's entry is set", table.set((*single)[0], to(0x51), from_nic, unit));
    check("the NIC has its message",
          pt::pci::enable_msi(kernel::config(), nic::first, msi(remappable_message((*single)[0]))));
    check("the NIC's vector arrives", arrives_alone(request, 0x51));
    check("the NIC's MSI is off", pt::pci::disable_msi(kernel::config(), nic::first));

    check("reception is set", table.set((*both)[0], to(0x52), from_nic, unit));
    check("transmission is set", table.set((*both)[1], to(0x53), from_nic, unit));
    check("vector 1 has a message",
          device.set_msi_x_message(1, msi(remappable_message((*both)[0]))));
    check("vector 3 has a message",
          device.set_msi_x_message(3, msi(remappable_message((*both)[1]))));
    check("MSI-X is on", device.enable_msi_x(1, 3));
    check("reception arrives", arrives_alone([&] { device.request_reception_interrupt(); }, 0x52));
    device.acknowledge_interrupts();
    check("MSI-X goes on", device.enable_msi_x(1, 3));
    check("transmission arrives",
          arrives_alone([&] { device.request_transmission_interrupt(); }, 0x53));
    device.acknowledge_interrupts();
    check("transmission is cleared", table.clear((*both)[1], unit));
    check("MSI-X is still on", device.enable_msi_x(1, 3));
    check("transmission is blocked", is_blocked([&] { device.request_transmission_interrupt(); }));
    check("reception is not", arrives_alone([&] { device.request_reception_interrupt(); }, 0x52));
    device.disable_msi_x();
    check("the NIC's entry goes", table.release(*single, unit));
    check("and the two go", table.release(*both, unit));
}

/// No device of QEMU 7.2 that could be used here has MSI with several vectors. But an MSI is a
/// memory write, and edu can write what it likes.
void several_vectors(remapping& vtd, remapping_unit& unit, edu& device) {
    auto& table = unit.interrupts();
    const auto block = table.allocate(4);
    const auto limits = vtd.limits(39);
    if (!check("there are four entries in a row", block) || !check("there are tables", limits)) {
        return;
    }
    check_equal("they begin with a multiple of four", block->first.raw % 4, 0);
    const pt::hpa number = kernel::take_frame();
    kernel::domain own{vtd, *limits};
    kernel::attachment there{edu::place};
    check("edu can read a number",
          own.map({pt::iova{0x1000}, 4 * pt::KiB}, number, {.read = true}));
    if (!check("edu is in a domain", own.attach(there))) {
        return;
    }
    const pt::vtd::interrupt_message message = remappable_message(*block);
    const auto write = [&](std::uint32_t vector) {
        *kernel::pointer_to<volatile std::uint32_t>(number) = message.data | vector;
        check(vector == 0   ? "number 0 is fetched"
              : vector == 1 ? "number 1 is fetched"
              : vector == 3 ? "number 3 is fetched"
                            : "a number beyond is fetched",
              device.load(pt::iova{0x1000}, 4));
        device.store(pt::iova{message.address}, 4);
    };
    check("entry 0 is set", table.set((*block)[0], to(0x60), from_edu, unit));
    check("entry 1 is set", table.set((*block)[1], to(0x69), from_edu, unit));
    check("entry 3 is set", table.set((*block)[3], to(0x63), from_edu, unit));
    check("vector 0 comes through entry 0", arrives_alone([&] { write(0); }, 0x60));
    check("vector 1 comes through entry 1", arrives_alone([&] { write(1); }, 0x69));
    check("vector 3 comes through entry 3", arrives_alone([&] { write(3); }, 0x63));
    check("a number beyond the block reaches nobody", is_blocked([&] { write(4); }));
    check("the block is given back", table.release(*block, unit));
    kernel::check_no_fault("an interrupt request needs no page", vtd);
    check("edu leaves its domain", vtd.release(there));
    check("which goes", own.retire());
}

/// edu's wire, which is level-triggered, through the entry of `block`.
void wires(remapping_unit& unit, io_apic& device, interrupt_block block, interrupt_requester from) {
    const auto request = [] { edu::open()->request_interrupt(); };
    const auto connect = [&](std::uint8_t vector) {
        const auto wire = pt::vtd::io_apic_remappable_entry::of(
            block[0], vector, pt::vtd::interrupt_trigger::level,
            pt::vtd::interrupt_polarity::active_low);
        for (unsigned i = io_apic::first_pci_input; i <= io_apic::last_pci_input; ++i) {
            device.set_entry(i, wire->with(pt::vtd::io_apic_remappable_entry::mask(false)).raw);
        }
    };
    const auto disconnect = [&] {
        for (unsigned i = io_apic::first_pci_input; i <= io_apic::last_pci_input; ++i) {
            device.mask(i);
        }
    };
    interrupt_target level = to(0x91);
    level.trigger_mode = pt::vtd::interrupt_trigger::level;
    check("the entry becomes level-triggered",
          unit.interrupts().change(block[0], level, from, unit));
    kernel::call_at(0x91, [] { edu::open()->acknowledge_interrupts(); });
    connect(0x91);
    check("edu's wire arrives", arrives_alone(request, 0x91));
    check("and again, for its end was understood", arrives_alone(request, 0x91));
    // The I/O APIC looks for its own vector when the processor signals the end of one. With another
    // one in the entry it waits for ever.
    disconnect();
    connect(0x92);
    check("edu's wire arrives by the entry's vector", arrives_alone(request, 0x91));
    check("and never again", is_blocked(request));
    edu::open()->acknowledge_interrupts();
    disconnect();
    kernel::call_at(0x91, nullptr);
}

/// The interval timer, through the I/O APIC, whose source id the DMAR table tells.
void of_io_apic(remapping& vtd, remapping_unit& unit) {
    io_apic device;
    const auto named = pt::vtd::unit_for(vtd.table(), pt::vtd::device_scope_type::io_apic,
                                         device.id(), vtd.bridges());
    if (!check("the DMAR table names the I/O APIC", named)) {
        return;
    }
    check_equal("it is behind this unit", named->unit.definition.register_base.raw,
                unit.register_base().raw);
    check_equal("its source id is QEMU's", named->source.source_id(), 0xFF00);

    auto& table = unit.interrupts();
    const auto block = table.allocate();
    if (!check("the I/O APIC gets an entry", block)) {
        return;
    }
    const interrupt_index index = (*block)[0];
    const auto from = interrupt_requester::exactly(named->source.source_id());
    const auto redirection = pt::vtd::io_apic_remappable_entry::of(
        index, 0x81, pt::vtd::interrupt_trigger::edge, pt::vtd::interrupt_polarity::active_high);
    using entry = pt::vtd::io_apic_remappable_entry;
    if (!check("there is an entry for the I/O APIC", redirection)) {
        return;
    }
    device.set_entry(io_apic::timer_input, redirection->raw);
    check("the I/O APIC keeps it", entry{device.entry(io_apic::timer_input)} == *redirection);
    check("its entry is set", table.set(index, to(0x81), from, unit));
    check("a masked input is silent", is_blocked(kernel::start_timer_once));
    device.set_entry(io_apic::timer_input, redirection->with(entry::mask(false)).raw);
    // An edge that came while the input was masked may count now.
    kernel::pause_for(kernel::long_enough);
    check("the timer arrives", arrives_alone(kernel::start_timer_once, 0x81));
    check("the timer's entry is cleared", table.clear(index, unit));
    check("the timer is blocked", is_blocked(kernel::start_timer_once));
    check("the timer's entry is set anew", table.set(index, to(0x82), from, unit));
    check("the entry's vector counts for an edge", arrives_alone(kernel::start_timer_once, 0x82));
    device.mask(io_apic::timer_input);
    wires(unit, device, *block, from);
    check("the I/O APIC's entry goes", table.release(*block, unit));
}

void interrupts(remapping& vtd, remapping_unit& unit) {
    auto education = edu::open();
    auto network = nic::open(nic::first);
    if (!check("edu answers", education) || !check("the NIC answers", network)) {
        return;
    }
    if (kernel::told("registers") || !kernel::told("intremap=on")) {
        check("all units start", vtd.start());
        check_error("there is no interrupt remapping", vtd.start_interrupt_remapping(),
                    pt::errc::not_supported);
        check_error("nor are there entries", unit.interrupts().allocate(), pt::errc::out_of_range);
        return;
    }
    check_error("interrupts are not remapped before DMA is", vtd.start_interrupt_remapping(),
                pt::errc::refused);
    if (!check("all units start", vtd.start()) ||
        !check("interrupt remapping starts", vtd.start_interrupt_remapping())) {
        return;
    }
    using status = pt::vtd::global_status;
    check("interrupt remapping is on", unit.status()[status::interrupt_remapping_enabled]);
    check("compatibility format is off", !unit.status()[status::compatibility_format_interrupt]);
    of_edu(unit, *education);
    of_nic(unit, *network);
    several_vectors(vtd, unit, *education);
    of_io_apic(vtd, unit);
}

void run() { kernel::with_remapping(interrupts); }

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_interrupts", run};

} // namespace
