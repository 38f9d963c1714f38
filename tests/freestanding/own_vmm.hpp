// SPDX-License-Identifier: BSL-1.0
//
// The part of a VMM that knows the words of VMX and nothing of a machine (docs/write_your_own_vmm.md).
// passthrough.cpp compiles it as a kernel is compiled; tests/unit/assign/own_vmm_example.cpp runs it.
#pragma once

#include "pt/assign/answer.hpp"
#include "pt/assign/assigned_device.hpp"
#include "pt/assign/audit.hpp"
#include "pt/assign/claims.hpp"
#include "pt/assign/explain.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/ownership_room.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/rflags_register.hpp"
#include "pt/vmx/ept_exit.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_exit.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>

namespace own_vmm {

/// What a VM exit left in the VMCS.
struct vmx_exit {
    pt::vmx::exit_reason reason{};
    std::uint64_t qualification = 0;
    std::uint64_t physical_address = 0;
    std::uint64_t linear_address = 0;
    std::uint32_t interruption = 0;   ///< VM-exit interruption information
    std::uint32_t vectoring = 0;      ///< IDT-vectoring information,
    std::uint32_t vectoring_code = 0; ///< and its error code
    std::uint32_t instruction_length = 0;
    std::uint32_t instruction_information = 0;
};

/// What the guest's virtual processor holds, as far as pt asks for it.
struct guest_state {
    pt::vcpu::general_registers general{};
    std::uint64_t rip = 0;
    std::uint64_t rflags = 2;
    std::uint64_t cr2 = 0;
    pt::vcpu::code_size code = pt::vcpu::code_size::bits_64;
    pt::vmx::interruptibility_state blocking{};
    pt::vmx::activity_state activity = pt::vmx::activity_state::active;
};

/// The guest's memory, and the places at which the VMM plays something itself.
template <pt::assign::vmm V>
pt::result<void> furnish(pt::assign::guest<V>& guest, pt::range<pt::hpa> memory) {
    using pt::assign::space_use;
    return guest.give_memory({pt::gpa{0}, memory.size()}, memory.first())
        .and_then([&] {
            return guest.reserve({pt::gpa{0xFEE0'0000}, 4096}, space_use::local_apic);
        })
        .and_then([&] {
            return guest.reserve_ports({pt::io_port{0x3F8}, 8});
        });
}

/// What an exit means to the guest's functions, its local APIC, and the VMM's own devices.
template <class Processor>
pt::assign::answer on_exit(Processor& cpu, const vmx_exit& exit, guest_state& guest) {
    using namespace pt::vmx;
    const auto length = static_cast<std::uint8_t>(exit.instruction_length);
    switch (exit.reason) {
    case exit_reason::external_interrupt:
        if (const auto vector =
                acknowledged_vector(exit_interruption_information{exit.interruption})) {
            return cpu.on_external_interrupt(*vector);
        }
        break;
    case exit_reason::io_instruction:
        if (const auto instruction =
                io_instruction_of(io_instruction_qualification{exit.qualification},
                                  io_instruction_information{exit.instruction_information},
                                  exit.instruction_length)) {
            return cpu.on_io(*instruction, guest.general, guest.rflags);
        }
        break;
    case exit_reason::ept_violation:
        return cpu.on_memory_violation(
            violation_of(ept_violation_qualification{exit.qualification},
                         pt::gpa{exit.physical_address}, exit.linear_address),
            {.rip = guest.rip, .code = guest.code}, guest.general, guest.rflags);
    case exit_reason::rdmsr: return cpu.on_read_msr(guest.general, length);
    case exit_reason::wrmsr: return cpu.on_write_msr(guest.general, length);
    case exit_reason::preemption_timer_expired: return cpu.on_timer();
    case exit_reason::interrupt_window:
    case exit_reason::nmi_window: return pt::assign::resume_again();
    default: break;
    }
    return pt::assign::not_mine();
}

/// From an exit to what the next entry delivers. `others` answers the exits that are the VMM's own:
/// CPUID, HLT, an interrupt of the host's, a port for which nobody answers. An error: the guest has
/// caused a triple fault, and there is no next entry.
template <class Processor, class Others>
pt::result<pt::lapic::entry_decision> turn(Processor& cpu, const vmx_exit& exit, guest_state& guest,
                                           Others&& others) {
    using pt::assign::action;
    using pt::vcpu::rflags_register;
    constexpr auto page_fault = static_cast<std::uint8_t>(pt::vcpu::exception_vector::page_fault);
    cpu.interrupted(pt::vmx::interrupted_event(pt::vmx::idt_vectoring_information{exit.vectoring},
                                               exit.vectoring_code, exit.instruction_length));
    pt::assign::answer answer = on_exit(cpu, exit, guest);
    if (answer.action == action::not_mine) {
        answer = others(exit, guest);
    }
    if (answer.action == action::inject) {
        if (answer.event.vector == page_fault) {
            guest.cr2 = answer.cr2;
        }
        if (const auto raised = cpu.raise(answer.event); !raised) {
            return raised.error();
        }
    } else if (answer.advance != 0) {
        guest.rip = pt::vcpu::rip_after(guest.rip, answer.advance, guest.code);
        guest.rflags &= ~rflags_register::resume.mask;
        guest.blocking = guest.blocking.after_instruction();
    }
    return cpu.before_entry();
}

/// Tables as the audit reads them, and the frames that it has seen: none at first.
template <class Format, class Reader, class Seen>
struct audited_tables {
    Format format;
    Reader reader;
    pt::hpa root;
    Seen seen;
};
template <class Format, class Reader, class Seen> // for clang 14
audited_tables(Format, Reader, pt::hpa, Seen)->audited_tables<Format, Reader, Seen>;

/// Whether the guest and its functions reach what the guest owns, and nothing else; each thing that is
/// wrong is printed as a line. The guest does not run, and nobody changes anything meanwhile.
template <pt::assign::vmm V, class Processors, class Devices, class Print>
bool is_isolated(pt::assign::guest<V>& guest, const Processors& ept, const Devices& second_stage,
                 const std::uint64_t* bitmap_a, const std::uint64_t* bitmap_b, Print print) {
    const auto tell = [&](const pt::assign::finding& found) {
        print(pt::assign::explain(found).c_str());
    };
    pt::assign::ownership_lists<64, 16, 8, 64> lists; // some KiB: static in a small kernel
    const auto owned = guest.owned(lists.room(), 1);
    if (!owned) {
        return false; // there is no room in the lists
    }
    auto found = pt::assign::audit_pages(ept.format, ept.reader, ept.root, ept.seen, *owned, tell);
    found += pt::assign::audit_dma(second_stage.format, second_stage.reader, second_stage.root,
                                   second_stage.seen, *owned, tell);
    found += pt::assign::audit_ports(bitmap_a, bitmap_b, *owned, tell);
    return found.clean();
}

/// Whether the remapping unit puts the guest's functions, and nobody else's, through the guest's
/// tables, and lets them raise the guest's interrupts and no others. `through` is what it said of them
/// when they were assigned.
template <pt::assign::vmm V, class Unit, class Reader, class Seen, class Print>
bool is_confined(pt::assign::guest<V>& guest, Unit& unit, const pt::vtd::translation& through,
                 Reader reader, Seen seen, Print print) {
    using irta = pt::vtd::interrupt_remapping_table_address;
    const auto tell = [&](const pt::assign::finding& found) {
        print(pt::assign::explain(found).c_str());
    };
    pt::assign::ownership_lists<64, 16, 8, 64> lists;
    auto owned = guest.owned(lists.room(), 1);
    if (!owned) {
        return false;
    }
    const pt::assign::owned_domain domains[]{{.through = through}};
    owned->domains = domains;
    const auto root = unit.registers().template read<pt::vtd::root_table_address>();
    const auto entries = unit.registers().template read<irta>();
    auto found = pt::assign::audit_functions({.address = root}, reader, seen, *owned, tell);
    found += pt::assign::audit_vectors(
        pt::assign::interrupt_entries::of(entries, reader.entries(entries[irta::table])), *owned,
        tell);
    found += pt::assign::audit_confinement(*owned, tell);
    return found.clean();
}

/// The guest is gone, and its NIC is nobody's.
template <pt::assign::vmm V>
pt::result<void> tear_down(pt::assign::assigned_device<V>& nic, pt::assign::guest<V>& guest) {
    return nic.remove().and_then([&] { return guest.retire(); });
}

} // namespace own_vmm
