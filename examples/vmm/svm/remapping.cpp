// SPDX-License-Identifier: BSL-1.0
#include "remapping.hpp"

#include "../../kernel/acpi.hpp"
#include "../../kernel/interrupts.hpp"
#include "../machine/log.hpp"

#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"
#include "pt/vtd/event.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/registers.hpp"

namespace vmm::svm {
namespace {

remapping_policies policies() { return {kernel::clock{}, kernel::memory()}; }

/// The table, whose bytes stay where firmware has put them.
const pt::vtd::dmar& firmware_table() {
    static pt::result<pt::vtd::dmar> table = [] {
        const kernel::bytes found = kernel::acpi_table("DMAR");
        return pt::vtd::dmar::read(reinterpret_cast<const std::uint8_t*>(found.data), found.size);
    }();
    demand(table, "firmware has no DMAR table that makes sense");
    return *table;
}

const char* words_for(pt::vtd::fault_record::request request) {
    using enum pt::vtd::fault_record::request;
    switch (request) {
    case write: return "write to";
    case read: return "read";
    case page: return "ask for the page";
    case atomic: return "change";
    }
    return "access";
}

} // namespace

// ----------------------------------------------------------------------------------------- units

remapping_units::remapping_units(std::uint8_t fault_vector)
    : all_{policies(), firmware_table(), pt::pci::config_bus_numbers{kernel::config()}} {
    for (const pt::vtd::drhd& place : all_.table().each<pt::vtd::drhd>()) {
        auto& unit = units_.make_by([&] {
            return remapping::unit_type::take(policies(), kernel::mmio{place.register_base}, place);
        });
        demand(unit, "a remapping unit cannot be taken");
        demand(all_.add(*unit), "a remapping unit is there twice");
        // Its own messages are not remapped [vt-d].
        demand(unit->send_events(
                   pt::vtd::unit_event::fault,
                   pt::vtd::interrupt_message::compatibility(fault_vector, kernel::apic_id())),
               "a remapping unit has no fault events");
    }
    demand(all_.start(), "DMA remapping does not start");
    demand(all_.start_interrupt_remapping(), "interrupt remapping does not start");
}

std::uint16_t remapping_units::unit_of(pt::pci::function_address function) {
    std::uint16_t number = 0;
    static_cast<void>(
        all_.with_unit_of(function, [&](remapping::unit_type& serving) -> pt::result<void> {
            for (std::uint16_t i = 0; i != units_.count(); ++i) {
                number = &*units_[i] == &serving ? i : number;
            }
            return {};
        }));
    return number;
}

void remapping_units::on_fault_event() {
    constexpr unsigned at_once = 32;
    const pt::vtd::fault_pass pass = all_.handle_faults(
        at_once, [this](const pt::vtd::fault_record& fault, pt::vtd::fault_verdict verdict) {
            tell(fault, verdict);
        });
    faults_ += pass.faults;
    more_ = pass.more;
}

void remapping_units::tell(const pt::vtd::fault_record& fault, pt::vtd::fault_verdict verdict) {
    using pt::vtd::fault_verdict;
    switch (verdict) {
    case fault_verdict::drop: return;
    case fault_verdict::report:
        if (pt::vtd::kind_of(fault.reason) == pt::vtd::fault_kind::interrupt) {
            say("blocked: ", fault.source, " may not raise interrupt ",
                std::uint64_t{fault.interrupt_index}, ": ", pt::vtd::name(fault.reason));
        } else {
            say("blocked: ", fault.source, " may not ", words_for(fault.type), " ", fault.page.raw,
                ": ", pt::vtd::name(fault.reason));
        }
        return;
    case fault_verdict::silence:
        say("blocked: ", fault.source, " goes on and on, and is heard no more");
        return;
    case fault_verdict::stop: {
        say("blocked: ", fault.source, " goes on, and is no bus master any more");
        kernel::port_config config = kernel::config();
        pt::pci::write(config, fault.source,
                       pt::pci::read<pt::pci::command>(config, fault.source)
                           .with(pt::pci::command::bus_master(false)));
        return;
    }
    }
}

pt::result<void> remapping_units::retire() {
    if (const auto stopped = all_.stop(); !stopped) {
        return stopped;
    }
    if (const auto retired = all_.retire(); !retired) {
        return retired;
    }
    for (std::size_t i = 0; i != units_.count(); ++i) {
        if (const auto retired = units_[i]->retire(); !retired) {
            return retired;
        }
    }
    return {};
}

// --------------------------------------------------------------------------------------- domains

namespace {

/// What all units can walk, with addresses as large as any guest here has memory at.
pt::vtd::second_stage::limits limits_of(remapping& all) {
    constexpr unsigned width = 39;
    const auto usable = all.limits(width);
    demand(usable, "the remapping units have no tables in common");
    return *usable;
}

} // namespace

guest_domain::guest_domain(remapping_units& units)
    : units_{&units}, domain_{units.all(), limits_of(units.all())} {
    const auto through = domain_.through();
    demand(through, "a domain gets no tables");
    while (owned_.count() != units_->count()) {
        owned_.make(static_cast<std::uint16_t>(owned_.count()), *through);
    }
}

// ----------------------------------------------------------------------------------------- audit

void unit_audit::complete(unsigned guest, pt::assign::ownership& owned) {
    using pt::vtd::global_status;
    owned.domains = domains_[guest]->owned();
    for (std::size_t i = 0; i != units_->count(); ++i) {
        const global_status status = (*units_)[i].status();
        owned.dma_isolated = owned.dma_isolated && status[global_status::translation_enabled];
        owned.interrupts_isolated = owned.interrupts_isolated &&
                                    status[global_status::interrupt_remapping_enabled] &&
                                    !status[global_status::compatibility_format_interrupt];
    }
}

pt::assign::function_tables unit_audit::function_tables_of(std::size_t unit) {
    auto& of = (*units_)[unit];
    return {.address = of.registers().template read<pt::vtd::root_table_address>(),
            .unit = static_cast<std::uint16_t>(unit),
            .segment = of.segment()};
}

pt::assign::interrupt_entries unit_audit::interrupt_entries_of(std::size_t unit) {
    using address = pt::vtd::interrupt_remapping_table_address;
    const auto table = (*units_)[unit].registers().template read<address>();
    return {.words = kernel::pointer_to<const std::uint64_t>(table[address::table]),
            .count = std::uint32_t{2} << table[address::size],
            .mode = table[address::extended_interrupt_mode_enable] ? pt::vtd::apic_mode::x2apic
                                                                   : pt::vtd::apic_mode::xapic,
            .unit = static_cast<std::uint16_t>(unit)};
}

} // namespace vmm::svm
